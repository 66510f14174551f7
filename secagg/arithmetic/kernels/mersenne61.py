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

_FEW_SWAPS: Final = 8  # weights are updated, not computed afresh, when at most 1 in this many holders was swapped


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
def _swap_holders(
    base_points: UintArray,
    base_weights: UintArray,
    gone: IntArray,
    points: UintArray,
    kept_slots: IntArray,
    weights: UintArray,
    denominators: UintArray,
    prefixes: UintArray,
) -> None:
    """The weights of ``points``, from those of a base set that differs in a few points: O(t) for each of those.

    ``points`` are the base points at ``kept_slots``, in that order, and then the new ones; ``gone`` are the base slots
    that are missing.  For a kept x the weight is multiplied by (a - x) / a for every a that went and by b / (b - x) for
    every new b; a new point's is computed afresh.  The last three are scratch or written, of length t.
    """
    kept, total = len(kept_slots), len(points)
    gone_product, new_product, all_product = _ONE, _ONE, _ONE
    for slot in gone:
        gone_product = _multiply(gone_product, base_points[slot])
    for i in range(kept, total):
        new_product = _multiply(new_product, points[i])
    for i in range(total):
        all_product = _multiply(all_product, points[i])
    for i in range(kept):
        lift = _P - points[i]
        numerator = _multiply(base_weights[kept_slots[i]], new_product)
        denominator = gone_product
        for slot in gone:
            numerator = _multiply(numerator, base_points[slot] + lift)
        for j in range(kept, total):
            denominator = _multiply(denominator, points[j] + lift)
        weights[i] = numerator
        denominators[i] = denominator
    for i in range(kept, total):
        weights[i] = all_product
        denominators[i] = _multiply(points[i], _differences_product(points, points[i]))
    _divide_all(weights, denominators, prefixes)


@kernel
def combine_rows(weights: UintArray, rows: IntArray, shares: UintArray, limbs: UintArray) -> None:
    """limbs = sum over i of weights[i] * shares[rows[i]], canonical; shares (m, 5), limbs (5,)."""
    a0, a1, a2, a3, a4 = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
    for i in range(len(weights)):
        weight, row = weights[i], rows[i]
        a0 = _fold(a0 + _multiply_fold(weight, shares[row, 0]))
        a1 = _fold(a1 + _multiply_fold(weight, shares[row, 1]))
        a2 = _fold(a2 + _multiply_fold(weight, shares[row, 2]))
        a3 = _fold(a3 + _multiply_fold(weight, shares[row, 3]))
        a4 = _fold(a4 + _multiply_fold(weight, shares[row, 4]))
    limbs[0] = _canonical(a0)
    limbs[1] = _canonical(a1)
    limbs[2] = _canonical(a2)
    limbs[3] = _canonical(a3)
    limbs[4] = _canonical(a4)


@kernel
def _choose(
    base_slot: IntArray, holders: IntArray, first: int, rows: IntArray, kept_slots: IntArray, present: Any
) -> int:
    """Choose as many rows as ``rows`` is long, holders of the base set before others; how many are of the base set.

    ``present`` (bool, length t) is written: which base slots were met.
    """
    wanted, kept = len(rows), 0
    present[:] = False
    for i in range(len(holders)):
        slot = base_slot[holders[i]]
        if slot >= 0:
            rows[kept] = first + i
            kept_slots[kept] = slot
            present[slot] = True
            kept += 1
    filled = kept
    for i in range(len(holders)):
        if filled == wanted:
            break
        if base_slot[holders[i]] < 0:
            rows[filled] = first + i
            filled += 1
    return kept


@kernel
def reconstruct_batch(
    offsets: IntArray,
    holders: IntArray,
    shares: UintArray,
    base: IntArray,
    base_weights: UintArray,
    base_slot: IntArray,
    limbs: UintArray,
) -> None:
    """Reconstruct the five limbs of many secrets, each from t of the shares that are there.

    Args:
        offsets: (d + 1,); secret i has the rows offsets[i] .. offsets[i + 1] - 1, at least t of them.
        holders: (m,) cohort indices, distinct within a secret; a holder's point is its index + 1.
        shares: (m, 5) canonical.
        base: (t,) the holders that most secrets have in common.
        base_weights: (t,) their weights, canonical.
        base_slot: (largest holder + 1,) a holder's place in ``base``, or -1.
        limbs: (d, 5) written, canonical.
    """
    threshold = len(base)
    base_points = base.astype(np.uint64) + _ONE
    rows, kept_slots = np.empty(threshold, np.int64), np.empty(threshold, np.int64)
    gone = np.empty(threshold, np.int64)
    present = np.empty(threshold, np.bool_)
    points, weights = np.empty(threshold, np.uint64), np.empty(threshold, np.uint64)
    denominators, prefixes = np.empty(threshold, np.uint64), np.empty(threshold, np.uint64)
    for secret in range(len(offsets) - 1):
        first, last = offsets[secret], offsets[secret + 1]
        kept = _choose(base_slot, holders[first:last], first, rows, kept_slots, present)
        swapped = threshold - kept
        for i in range(threshold):
            points[i] = np.uint64(holders[rows[i]]) + _ONE
        if swapped == 0:
            for i in range(threshold):
                weights[i] = base_weights[kept_slots[i]]
        elif swapped * _FEW_SWAPS <= threshold:
            missing = 0
            for slot in range(threshold):
                if not present[slot]:
                    gone[missing] = slot
                    missing += 1
            _swap_holders(
                base_points, base_weights, gone[:missing], points, kept_slots[:kept], weights, denominators, prefixes
            )
        else:
            lagrange_at_zero(points, weights, denominators, prefixes)
        combine_rows(weights, rows, shares, limbs[secret])
