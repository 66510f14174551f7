"""Scales that everybody computes alike."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

_BITS: Final = 24
"""Significant bits of a scale: few enough that its product with a float32 is exact in float64."""


def coarse_scale(scale: Fraction) -> Fraction:
    """The next number down from ``scale`` that has at most 24 significant bits: a power of two times a whole number.

    Down, so that neither the norm of an update in steps nor the share of coordinates that wrap around grows.
    """
    exponent = scale.numerator.bit_length() - scale.denominator.bit_length() + 1 - _BITS
    unit = Fraction(2) ** exponent
    return scale // unit * unit
