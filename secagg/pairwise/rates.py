"""From a share of a cohort to a number of clients, the same for everybody who is given the same share."""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real
from typing import Final

from secagg.errors import ParameterError

_LARGEST_COHORT: Final = 2**20


def exact_rate(name: str, rate: float | Fraction) -> Fraction:
    """R-CONFIG-15: the rational number that a rate stands for, so that floor(rate n) is the same for everybody.

    A float stands for the fraction that it is nearest to, if there is one whose denominator is at most 2^20, the
    largest cohort: 0.29 of 100 clients are 29 and 1 / 3 of 3 is 1, although both floats lie below the fraction.  Any
    other float stands for the shortest decimal that reads back as it.

    Raises:
        ParameterError: the rate is no number, or not in 0 <= rate < 1.
    """
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate < 1:
        raise ParameterError(f"{name} = {rate!r}: a rate must be a number with 0 <= {name} < 1")
    if isinstance(rate, Fraction):
        return rate
    rate = float(rate)  # NumPy's as well
    simple = Fraction(rate).limit_denominator(_LARGEST_COHORT)
    return simple if float(simple) == rate else Fraction(repr(float(rate)))


def count_of(clients: int, name: str, rate: float | Fraction) -> int:
    """floor(rate x clients), of the exact rate.  Raises ParameterError."""
    return math.floor(exact_rate(name, rate) * clients)
