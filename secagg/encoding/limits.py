"""The ranges of an encoder's parameters, and how they are checked."""

from __future__ import annotations

import operator
from typing import Final

import numpy as np

from secagg.errors import ParameterError

SMALLEST_CLIP: Final = 1e-100
LARGEST_CLIP: Final = 1e100
"""Both lie far within float64, so that a clip's inverse, and its products with weights and counts, neither overflow nor
lose digits."""
FEWEST_BITS: Final = 2
"""b bits hold 2^b - 1 levels, and one level alone would say nothing."""
MOST_BITS: Final = 32
"""Steps of 2^-32 of a clip are finer than the float32 that models are made of."""
LARGEST_WEIGHT: Final = 2**53
"""Up to here every whole number is a float64."""


def integer(name: str, value: object, low: int, high: int) -> int:
    """``value`` as an int from low to high, NumPy's too.  Raises ParameterError, which names it."""
    try:
        number = None if isinstance(value, (bool, np.bool)) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        allowed = f"{low}" if low == high else f"a whole number from {low} to {high}"
        raise ParameterError(f"{name} is {value!r}: must be {allowed}")
    return number


def real(name: str, value: object, low: float, high: float) -> float:
    """``value`` as a float from low to high.  Raises ParameterError, which names it."""
    number = float(value) if isinstance(value, np.floating) else value  # a float32 would compare in float32
    is_real = isinstance(number, (int, float, np.integer)) and not isinstance(number, bool)
    if not is_real or not low <= number <= high:  # type: ignore[operator]
        raise ParameterError(f"{name} is {value!r}: must be a number from {low} to {high}")
    return float(number)  # type: ignore[arg-type]
