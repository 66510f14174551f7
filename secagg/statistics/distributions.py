"""Tests and intervals from sums, by SciPy's distributions; what is not defined is None, never NaN.

SciPy is imported with the first of them: it comes with the extra ``stats``, and a command or a host that runs no study
needs none.
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

from secagg._install import how_to_install
from secagg.errors import ParameterError


def scipy_module(name: str) -> Any:
    """A module of SciPy, such as ``"stats"``.

    Raises ParameterError where it is not installed.
    """
    try:
        return import_module(f"scipy.{name}")
    except ModuleNotFoundError as missed:
        if missed.name != "scipy":
            raise
        raise ParameterError(f"scipy is not installed, and statistics need it: {how_to_install('stats')}") from None


def finite(value: Any) -> float | None:
    """A number for a result; None where it is not finite."""
    number = float(value)
    return number if math.isfinite(number) else None


def two_sided(t: float, freedom: float) -> float | None:
    """The probability of a value at least as far from 0 under Student's t distribution."""
    return finite(2 * scipy_module("stats").t.sf(abs(t), freedom))


def beyond_f(f: float, between: float, within: float) -> float | None:
    """The probability of a larger value under the F distribution."""
    return finite(scipy_module("stats").f.sf(f, between, within))


def beyond_chi_squared(value: float, freedom: int) -> float | None:
    """The probability of a larger value under the chi-squared distribution."""
    return finite(scipy_module("stats").chi2.sf(value, freedom))


def margin(error: float, freedom: float, confidence: float) -> float | None:
    """Half the width of a confidence interval under Student's t distribution."""
    return finite(error * scipy_module("stats").t.isf((1 - confidence) / 2, freedom))


def check_confidence(confidence: float) -> None:
    """Raises ParameterError unless it is a probability between 0 and 1."""
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence is {confidence!r}: must be above 0 and below 1, such as 0.95")
