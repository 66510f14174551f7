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
    values: npt.NDArray[np.float64], factor: float, levels: int, random: npt.NDArray[np.uint32], out: Lanes
) -> None:
    """``out[i] = (rint(values[i] * factor) + levels 2^32 + random[i]) >> 32``.

    All three arrays are 1-D, contiguous, aligned and of one length; |values| * factor is at most levels * 2^32, and
    ``out`` holds 2 * levels.
    """
    if not len(values) == len(random) == len(out):
        raise ValueError(f"blocks of {len(values)} values, {len(random)} random numbers and {len(out)} results")
    _rounder(out.dtype.itemsize)(values, factor, levels << FRACTION_BITS, random, out)


@cache
def _rounder(lane_bytes: int) -> Callable[..., None]:
    lane, shift = np.dtype(f"u{lane_bytes}").type, np.uint64(FRACTION_BITS)

    def round_values(values: Any, factor: Any, offset: Any, random: Any, out: Any) -> None:
        for index in range(values.shape[0]):
            fixed = np.uint64(np.int64(np.rint(values[index] * factor)))
            out[index] = lane((fixed + offset + np.uint64(random[index])) >> shift)

    return _jit.specialised(
        round_values,
        f"round_values_{8 * lane_bytes}",
        _jit.array_of(np.float64),
        _jit.scalar_of(np.float64),
        _jit.scalar_of(np.uint64),
        _jit.array_of(np.uint32, writable=False),
        _jit.array_of(lane),
    )
