"""Clipping and stochastic rounding of floats in one pass; what it computes is said in ``secagg.encoding.rounding``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.kernels import jit
from secagg.arithmetic.modular import Lanes
from secagg.wording import counted

FRACTION_BITS: Final = 32
"""Of the random number that is added before the fraction is cut off: 32, so that a value of up to 32 bits and its
fraction fit into 64."""


def round_block(
    values: npt.NDArray[np.float64],
    factor: float,
    bound: float,
    levels: int,
    random: npt.NDArray[np.uint32],
    out: Lanes,
) -> int | None:
    """``out[i] = (rint(clipped[i] * factor) + levels 2^32 + random[i]) >> 32``, clipped to -bound .. bound.

    All three arrays are 1-D, contiguous, aligned and of one length; bound * factor is at most levels * 2^32, and
    ``out`` holds 2 * levels.  The same is done whatever the values are: a second pass over what is clipped would tell
    by its time that something is.

    Returns:
        How many values were beyond the bound; None when one is not finite, and ``out`` is then of no use.
    """
    if not len(values) == len(random) == len(out):
        raise ValueError(
            f"blocks of {counted(len(values), 'value')}, {len(random)} random numbers and {len(out)} results"
        )
    beyond, wrong = _rounder(out.dtype.itemsize)(values, factor, bound, levels << FRACTION_BITS, random, out)
    return None if wrong else int(beyond)


@cache
def _rounder(lane_bytes: int) -> Callable[..., tuple[int, int]]:
    lane, shift = np.dtype(f"u{lane_bytes}").type, np.uint64(FRACTION_BITS)
    largest = np.finfo(np.float64).max

    def round_values(values: Any, factor: Any, bound: Any, offset: Any, random: Any, out: Any) -> Any:
        beyond, wrong = np.int64(0), np.int64(0)
        for index in range(values.shape[0]):
            size = abs(values[index])
            finite = size <= largest  # not so for NaN
            wrong += np.int64(not finite)
            beyond += np.int64(size > bound)
            value = min(size, bound) if finite else 0.0  # what an int64 does not hold is not converted to one
            fixed = np.uint64(np.int64(np.rint(np.copysign(value, values[index]) * factor)))
            out[index] = lane((fixed + offset + np.uint64(random[index])) >> shift)
        return beyond, wrong

    return jit.specialised(
        round_values,
        f"clip_and_round_{8 * lane_bytes}",
        jit.array_of(np.float64),
        jit.scalar_of(np.float64),
        jit.scalar_of(np.float64),
        jit.scalar_of(np.uint64),
        jit.array_of(np.uint32, writable=False),
        jit.array_of(lane),
    )
