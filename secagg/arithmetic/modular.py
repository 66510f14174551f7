"""Sums of lane arrays modulo 2^b, by NumPy, or modulo a prime, by a kernel compiled for that prime.

A *lane* is an unsigned integer of ``modulus.dtype``; a *canonical* lane is below the modulus.  Rings need no reduction
between additions, since 2^b divides 2^lane: lanes carry garbage above bit b until ``reduce``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.kernels import jit
from secagg.arithmetic.modulus import Modulus

Lanes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Accumulate: TypeAlias = Callable[[Lanes, Lanes, bool], int]
AddRows: TypeAlias = Callable[[Lanes, Lanes, int, int, int, bool], None]


def add(accumulator: Lanes, other: Lanes, modulus: Modulus) -> None:
    """accumulator += other, in place.

    Args:
        accumulator: lanes, shape (m,), contiguous; canonical for a prime, and then stays so.
        other: any lanes, shape (m,); each counts modulo the modulus.

    Raises:
        ValueError: an array has another dtype or shape, or the accumulator is read-only or not contiguous.
    """
    _accumulate(accumulator, other, modulus, False)


def subtract(accumulator: Lanes, other: Lanes, modulus: Modulus) -> None:
    """accumulator -= other, in place; else as ``add``."""
    _accumulate(accumulator, other, modulus, True)


def reduce(vector: Lanes, modulus: Modulus) -> None:
    """Make every lane canonical, in place.  Raises ValueError as ``add``."""
    check_lanes(vector, modulus)
    if not modulus.is_ring:
        np.remainder(vector, vector.dtype.type(modulus.value), out=vector)
    elif modulus.bits < modulus.lane_bits:
        np.bitwise_and(vector, vector.dtype.type(modulus.value - 1), out=vector)


def accumulator_of(modulus: Modulus) -> Accumulate:
    """The function behind ``add`` and ``subtract``, for inner loops: it checks nothing, and needs aligned arrays.

    It takes (accumulator, other, negate), works in place, releases the GIL, and returns the largest lane of ``other``,
    or zero for a ring: by that a sampler modulo a prime knows whether there is anything to reject.
    """
    return _accumulate_ring if modulus.is_ring else _prime_accumulator(modulus.value)


def row_adder_of(modulus: Modulus) -> AddRows | None:
    """The kernel that adds several arrays in a single pass; None for a prime, and while nothing has loaded Numba.

    Its arguments are (accumulator, lanes, rows, stride, start, negate), see ``kernels.row_sums``.  It checks nothing.
    """
    if not (modulus.is_ring and jit.is_loaded()):
        return None
    from secagg.arithmetic.kernels import row_sums

    adder: AddRows = row_sums.row_adder(modulus.lane_bits)
    return adder


def check_lanes(vector: Lanes, modulus: Modulus) -> None:
    """Raises ValueError unless ``vector`` is one-dimensional, contiguous, writable and of ``modulus.dtype``."""
    if vector.dtype != modulus.dtype or vector.ndim != 1:
        raise ValueError(
            f"an array of {vector.dtype} and shape {vector.shape}: modulo {modulus} it must be one-dimensional and of "
            f"{modulus.dtype}"
        )
    if not vector.flags.carray:
        raise ValueError("an array that is changed in place must be contiguous, aligned and writable")


def _accumulate(accumulator: Lanes, other: Lanes, modulus: Modulus, negate: bool) -> None:
    check_lanes(accumulator, modulus)
    if other.dtype != accumulator.dtype or other.shape != accumulator.shape:
        raise ValueError(
            f"an array of {other.dtype} and shape {other.shape} does not fit one of {accumulator.dtype} and shape "
            f"{accumulator.shape}"
        )
    if not modulus.is_ring:
        other = np.require(other, requirements=["C", "A"])
    accumulator_of(modulus)(accumulator, other, negate)


def _accumulate_ring(accumulator: Lanes, other: Lanes, negate: bool) -> int:
    (np.subtract if negate else np.add)(accumulator, other, out=accumulator)
    return 0


@cache
def _prime_accumulator(prime: int) -> Accumulate:
    """(accumulator, other, negate) -> largest lane of other, compiled for a prime of b bits in L-bit lanes.

    A lane is reduced in one of three ways, all of them without a branch, the last one by a subtraction or two, written
    as a minimum because that is one vector instruction:

    - p = 2^b - 1 with 2^(L-b) <= p: 2^b = 1 (mod p), so the high bits are added to the low ones, which stays below 2p;
    - L = 64: Barrett's quotient.  h = floor(c / 2^(b-1)) and m = floor(2^64 / p) have at most 65 - b <= 32 bits, and
      floor(h m / 2^(65-b)) is at most two below floor(c / p): one is lost to each of the three floors, strictly less
      than one each;
    - else the compiler's own remainder by a constant, which it can vectorise up to 32 bits.
    """
    modulus = Modulus(prime)
    bits, lane_bits, lane = modulus.bits, modulus.lane_bits, modulus.dtype.type
    p, zero, ones = lane(prime), lane(0), lane(bits)
    is_mersenne = prime == 2**bits - 1 and 2 ** (lane_bits - bits) <= prime
    is_wide = lane_bits == 64
    head, reciprocal, tail = np.uint64(bits - 1), np.uint64(2**64 // prime), np.uint64(65 - bits if is_wide else 0)

    def accumulate(accumulator: Any, other: Any, negate: Any) -> Any:
        largest = zero
        for i in range(accumulator.shape[0]):
            candidate = other[i]
            largest = max(largest, candidate)
            if is_mersenne:
                residue = lane((candidate & p) + (candidate >> ones))
                residue = min(residue, lane(residue - p))
            elif is_wide:
                quotient = ((candidate >> head) * reciprocal) >> tail
                residue = lane(candidate - quotient * p)
                residue = min(residue, lane(residue - p))
                residue = min(residue, lane(residue - p))
            else:
                residue = lane(candidate % p)
            # Both ways something in 0 .. p is subtracted: that cannot wrap where p fills the lane, as a sum could.
            away = residue if negate else lane(p - residue)
            before = accumulator[i]
            accumulator[i] = lane(lane(before - away) + (p if before < away else zero))
        return largest

    lanes = jit.array_of(modulus.dtype)
    return jit.specialised(accumulate, f"accumulate_{prime}", lanes, lanes, jit.scalar_of(np.bool_))
