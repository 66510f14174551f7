"""Tests and intervals from sums, by SciPy's distributions; what is not defined is None, never NaN."""

from __future__ import annotations

import math
from typing import Any

from scipy import stats

from secagg.errors import ParameterError


def finite(value: Any) -> float | None:
    """A number for a result; None where it is not finite."""
    number = float(value)
    return number if math.isfinite(number) else None


def two_sided(t: float, freedom: float) -> float | None:
    """The probability of a value at least as far from 0 under Student's t distribution."""
    return finite(2 * stats.t.sf(abs(t), freedom))


def beyond_f(f: float, between: float, within: float) -> float | None:
    """The probability of a larger value under the F distribution."""
    return finite(stats.f.sf(f, between, within))


def margin(error: float, freedom: float, confidence: float) -> float | None:
    """Half the width of a confidence interval under Student's t distribution."""
    return finite(error * stats.t.isf((1 - confidence) / 2, freedom))


def check_confidence(confidence: float) -> None:
    """Raises ParameterError unless it is a probability between 0 and 1."""
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence is {confidence!r}: must be above 0 and below 1, such as 0.95")
