"""Sums modulo 2^b: the signed numbers they stand for, and whether some of them have probably wrapped around."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.encoding.rounding import BLOCK
from secagg.errors import ParameterError

_ROUNDING: Final = 2.0**-40
"""A mean that is no longer than this has no direction but what the rounding of floats gives it."""


def centred_values(vector: npt.NDArray[Any], bits: int) -> npt.NDArray[np.float64]:
    """Each element as the number from -2^(b-1) to 2^(b-1) - 1 that it is equal to modulo 2^b, as float64."""
    out = np.empty(len(vector), np.float64)
    shift = 64 - bits
    for start in range(0, len(vector), BLOCK):
        block = vector[start : start + BLOCK].astype(np.uint64)
        np.left_shift(block, np.uint64(shift), out=block)
        out[start : start + BLOCK] = block.view(np.int64) >> np.int64(shift)
    return out


def spread_of(values: npt.NDArray[np.float64], width: float) -> float:
    """The standard deviation that normally distributed values had before they wrapped into an interval of this width.

    With wrapped values v it is (width / 2 pi) sqrt(-2 ln |mean exp(2 pi i v / width)|), the circular standard deviation
    (Mardia and Jupp, "Directional Statistics", section 3.4), which holds after an overflow too.  Of m values that are
    spread over the whole interval it cannot tell more than about (width / 2 pi) sqrt(ln m).
    """
    cosines = sines = 0.0
    for start in range(0, len(values), BLOCK):
        angles = values[start : start + BLOCK] * (2 * math.pi / width)
        cosines += float(np.cos(angles).sum())
        sines += float(np.sin(angles).sum())
    length = min(math.hypot(cosines, sines) / len(values), 1.0)
    if length < _ROUNDING:
        return math.inf
    return width / (2 * math.pi) * math.sqrt(-2 * math.log(length))


def wrapping_share(spread: float, width: float) -> float:
    """The share of normally distributed coordinates that wrap around.

    Args:
        spread: their standard deviation, as if nothing wrapped; see ``spread_of``.
        width: of the interval that holds them, in the same unit: 2^bits steps.

    Raises ParameterError for a width that is not above 0, or a spread below 0.
    """
    if not (width > 0 and spread >= 0):
        raise ParameterError(f"spread is {spread!r} and width {width!r}: they must be at least 0, and above 0")
    return math.erfc(width / 2 / spread / math.sqrt(2)) if spread > 0 else 0.0
