"""Stochastic rounding of a block of floats in one pass; what it computes is said in ``secagg.encoding.rounding``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic import _jit
from secagg.arithmetic.modular import Lanes

FRACTION_BITS: Final = 32


def round_block(
    values: npt.NDArray[np.float64],
    factor: float,
    bound: float,
    levels: int,
    random: npt.NDArray[np.uint32],
    out: Lanes,
) -> bool:
    """``out[i] = (rint(values[i] * factor) + levels 2^32 + random[i]) >> 32``, if all |values| are at most ``bound``.

    All three arrays are 1-D, contiguous, aligned and of one length; bound * factor is at most levels * 2^32, and
    ``out`` holds 2 * levels.

    Returns:
        False when a value is NaN or beyond the bound; then ``out`` is of no use.
    """
    if not len(values) == len(random) == len(out):
        raise ValueError(f"blocks of {len(values)} values, {len(random)} random numbers and {len(out)} results")
    within: bool = _rounder(out.dtype.itemsize)(values, factor, bound, levels << FRACTION_BITS, random, out)
    return bool(within)


@cache
def _rounder(lane_bytes: int) -> Callable[..., bool]:
    lane, shift = np.dtype(f"u{lane_bytes}").type, np.uint64(FRACTION_BITS)

    def round_values(values: Any, factor: Any, bound: Any, offset: Any, random: Any, out: Any) -> Any:
        beyond = False
        for index in range(values.shape[0]):
            within = abs(values[index]) <= bound  # not so for NaN
            beyond |= not within
            value = values[index] if within else 0.0  # what an int64 does not hold is not converted to one
            fixed = np.uint64(np.int64(np.rint(value * factor)))
            out[index] = lane((fixed + offset + np.uint64(random[index])) >> shift)
        return not beyond

    return _jit.specialised(
        round_values,
        f"round_values_{8 * lane_bytes}",
        _jit.array_of(np.float64),
        _jit.scalar_of(np.float64),
        _jit.scalar_of(np.float64),
        _jit.scalar_of(np.uint64),
        _jit.array_of(np.uint32, writable=False),
        _jit.array_of(lane),
    )
