"""Kernels over GF(p), p = 2^61 - 1: evaluate polynomials, interpolate at zero.  Public points, secret values.

Values are reduced lazily.  A *canonical* value lies in 0 .. p - 1; a *loose* one stands for its residue and is below
2^62, so that the product of two loose values is below 2^124.  Since 2^61 = 1 (mod p), the low 61 bits of a value and
the rest are simply added to reduce it.  Nothing branches on a secret value, nor is any table indexed by one.

Constants are ``np.uint64``: an untyped Python int would turn the arithmetic signed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, is_jitted

from secagg.arithmetic.kernels.jit import kernel
from secagg.arithmetic.modulus import MERSENNE_61

UintArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]

_P: Final = np.uint64(MERSENNE_61)
_BITS: Final = np.uint64(61)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)

_LIMBS: Final = 5
_ROWS_A_FOLD: Final = 3


def _multiply_fold_python(a: Any, b: Any) -> Any:
    """What ``_multiply_fold`` computes, for a disabled JIT."""
    product = int(a) * int(b)
    return np.uint64((product & MERSENNE_61) + (product >> 61))


@intrinsic
def _multiply_fold_llvm(typing_context: Any, a: Any, b: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        low = builder.and_(builder.trunc(product, word), ir.Constant(word, MERSENNE_61))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 61)), word)
        return builder.add(low, high)

    return types.uint64(types.uint64, types.uint64), generate


@kernel
def _fold(a: Any) -> Any:
    """Any uint64 to below 2^61 + 8."""
    return (a & _P) + (a >> _BITS)


# The product of two uint64, its bits from 61 up added to those below: needs a b < 2^124, gives < 2^61 + a b / 2^61.
_multiply_fold: Final[Any] = _multiply_fold_llvm if is_jitted(_fold) else _multiply_fold_python


@kernel
def _multiply(a: Any, b: Any) -> Any:
    """The product of two loose values, below 2^61 + 8."""
    return _fold(_multiply_fold(a, b))


@kernel
def _canonical(a: Any) -> Any:
    """Any uint64 to its residue in 0 .. p - 1."""
    folded = _fold(a)
    return (folded + ((folded + _ONE) >> _BITS)) & _P


@kernel
def _invert(a: Any) -> Any:
    """a^(p - 2), loose: the inverse (Fermat).  p - 2 is 59 ones, a zero, a one."""
    power = a
    for _ in range(58):
        power = _multiply(_multiply(power, power), a)
    power = _multiply(power, power)
    return _multiply(_multiply(power, power), a)


@kernel
def _divide_all(numerators: UintArray, denominators: UintArray, prefixes: UintArray) -> None:
    """numerators[i] /= denominators[i] for loose values, one inversion for all (Montgomery); canonical results.

    ``prefixes`` is scratch of the same length.
    """
    product = _ONE
    for i in range(len(denominators)):
        prefixes[i] = product
        product = _multiply(product, denominators[i])
    inverse = _invert(product)
    for i in range(len(denominators) - 1, -1, -1):
        numerators[i] = _canonical(_multiply(numerators[i], _multiply(inverse, prefixes[i])))
        inverse = _multiply(inverse, denominators[i])


@kernel
def evaluate(polynomials: UintArray, points: UintArray, values: UintArray) -> None:
    """values[j, c] = polynomials[c](points[j]), by Horner's rule.

    Args:
        polynomials: (chains, terms) canonical, the constant term first.
        points: (m,) at most 2^60.
        values: (m, chains) canonical, written.

    With x <= 2^60 the step a <- low(a x) + high(a x) + c gives less than 2^62 + a / 2, so that a stays below 2^63 with
    no further reduction, and a x below 2^123.  Four points at a time hide the latency of the multiplication.
    """
    chains, terms = polynomials.shape
    count = len(points)
    for chain in range(chains):
        for j in range(0, count - 3, 4):
            x0, x1, x2, x3 = points[j], points[j + 1], points[j + 2], points[j + 3]
            a0, a1, a2, a3 = _ZERO, _ZERO, _ZERO, _ZERO
            for term in range(terms - 1, -1, -1):
                coefficient = polynomials[chain, term]
                a0 = _multiply_fold(a0, x0) + coefficient
                a1 = _multiply_fold(a1, x1) + coefficient
                a2 = _multiply_fold(a2, x2) + coefficient
                a3 = _multiply_fold(a3, x3) + coefficient
            values[j, chain] = _canonical(a0)
            values[j + 1, chain] = _canonical(a1)
            values[j + 2, chain] = _canonical(a2)
            values[j + 3, chain] = _canonical(a3)
        for j in range(count - count % 4, count):
            a0 = _ZERO
            for term in range(terms - 1, -1, -1):
                a0 = _multiply_fold(a0, points[j]) + polynomials[chain, term]
            values[j, chain] = _canonical(a0)


@kernel
def _differences_product(points: UintArray, x: Any) -> Any:
    """The product of all (points[j] - x) that are not zero, loose.  Four partial products hide the latency."""
    a0, a1, a2, a3 = _ONE, _ONE, _ONE, _ONE
    count = len(points)
    lift = _P - x
    for j in range(0, count - 3, 4):
        # points are public: the one that is x itself gives p, which is made p + 1, which is one
        d0, d1, d2, d3 = points[j] + lift, points[j + 1] + lift, points[j + 2] + lift, points[j + 3] + lift
        a0 = _multiply(a0, d0 + np.uint64(d0 == _P))
        a1 = _multiply(a1, d1 + np.uint64(d1 == _P))
        a2 = _multiply(a2, d2 + np.uint64(d2 == _P))
        a3 = _multiply(a3, d3 + np.uint64(d3 == _P))
    for j in range(count - count % 4, count):
        d0 = points[j] + lift
        a0 = _multiply(a0, d0 + np.uint64(d0 == _P))
    return _multiply(_multiply(a0, a1), _multiply(a2, a3))


@kernel
def lagrange_at_zero(points: UintArray, weights: UintArray, denominators: UintArray, prefixes: UintArray) -> None:
    """weights[i] = product over j != i of points[j] / (points[j] - points[i]), canonical.

    ``points`` are distinct, canonical and not zero; the last two are scratch; all four have the same length.
    """
    product = _ONE
    for i in range(len(points)):
        product = _multiply(product, points[i])
    for i in range(len(points)):
        weights[i] = product
        denominators[i] = _multiply(points[i], _differences_product(points, points[i]))
    _divide_all(weights, denominators, prefixes)


@kernel
def combine_rows(weights: UintArray, rows: IntArray, shares: UintArray, limbs: UintArray) -> Any:
    """limbs = sum over i of weights[i] * shares[rows[i]], canonical; shares (m, 5), limbs (5,).

    The weights are below 2^61 + 8, the shares canonical.  A product is then below 2^62 + 8 after its own fold, so that
    three of them fit beside a folded sum: one fold serves three rows.

    Returns the largest element of the rows: whoever did not check them sees there that one was not canonical.
    """
    a0, a1, a2, a3, a4, largest = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    count = len(weights)
    for first in range(0, count, _ROWS_A_FOLD):
        a0, a1, a2, a3, a4 = _fold(a0), _fold(a1), _fold(a2), _fold(a3), _fold(a4)
        for i in range(first, min(first + _ROWS_A_FOLD, count)):
            weight, row = weights[i], rows[i]
            s0, s1, s2, s3, s4 = shares[row, 0], shares[row, 1], shares[row, 2], shares[row, 3], shares[row, 4]
            a0 += _multiply_fold(weight, s0)
            a1 += _multiply_fold(weight, s1)
            a2 += _multiply_fold(weight, s2)
            a3 += _multiply_fold(weight, s3)
            a4 += _multiply_fold(weight, s4)
            largest = max(largest, s0, s1, s2, s3, s4)
    limbs[0] = _canonical(a0)
    limbs[1] = _canonical(a1)
    limbs[2] = _canonical(a2)
    limbs[3] = _canonical(a3)
    limbs[4] = _canonical(a4)
    return largest


@kernel
def reconstruct_batch(
    offsets: IntArray,
    holders: IntArray,
    rows: IntArray,
    shares: UintArray,
    threshold: int,
    base_points: UintArray,
    base_weights: UintArray,
    base_places: IntArray,
    limbs: UintArray,
) -> Any:
    """Reconstruct the five limbs of many secrets, each from t of the shares that are there.

    Args:
        offsets: (d + 1,); secret i has the entries offsets[i] .. offsets[i + 1] - 1 of the next two, at least t.
        holders: (m,) cohort indices, distinct within a secret; a holder's point is its index + 1.
        rows: (m,) where the holder's share stands in ``shares``.
        shares: (r, 5), canonical.
        threshold: t.
        base_points: (t + 1,) the points of holders that most secrets have in common; (t,) where there are no more.
        base_weights: their weights, canonical.
        base_places: (largest holder + 1,) a holder's place in the base, or -1.
        limbs: (d, 5) written, canonical.

    A base weight is a product over all other points y of the base of y / (y - x).  Without the point y its factor goes:
    the weight is multiplied by y - x, and divided by y, which is done once for the sum of all.

    Returns the largest element of the shares that were taken.
    """
    size, largest = len(base_points), _ZERO
    chosen, kept = np.empty(size, np.int64), np.empty(size, np.int64)
    points, weights = np.empty(threshold, np.uint64), np.empty(threshold, np.uint64)
    denominators, prefixes = np.empty(threshold, np.uint64), np.empty(threshold, np.uint64)
    for secret in range(len(offsets) - 1):
        first, taken, divisor = offsets[secret], 0, _ONE
        for entry in range(first, offsets[secret + 1]):
            place = base_places[holders[entry]]
            if place >= 0:
                chosen[taken], kept[taken] = rows[entry], place
                taken += 1
        if taken < threshold:
            for i in range(threshold):
                chosen[i] = rows[first + i]
                points[i] = np.uint64(holders[first + i]) + _ONE
            lagrange_at_zero(points, weights, denominators, prefixes)
        elif size == threshold:
            for i in range(threshold):
                weights[i] = base_weights[kept[i]]
        else:
            gone = size * (size - 1) // 2  # all places together, less those that are kept
            for i in range(threshold):
                gone -= kept[i]
            divisor = base_points[gone]
            for i in range(threshold):
                place = kept[i]
                weights[i] = _multiply(base_weights[place], divisor + (_P - base_points[place]))
        largest = max(largest, combine_rows(weights, chosen[:threshold], shares, limbs[secret]))
        if divisor != _ONE:
            inverse = _invert(divisor)
            for limb in range(_LIMBS):
                limbs[secret, limb] = _canonical(_multiply(limbs[secret, limb], inverse))
    return largest
