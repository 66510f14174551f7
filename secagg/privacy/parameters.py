"""What a client does to its update before it is summed, in numbers that everybody in the round knows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from fractions import Fraction
from typing import Final, final

from secagg.encoding.limits import LARGEST_CLIP, SMALLEST_CLIP, integer, real
from secagg.errors import ParameterError

FEWEST_BITS: Final = 2
MOST_BITS: Final = 32
"""Of an element's modulus.  A million clients that each have 2^30 coordinates need fewer."""
LONGEST: Final = 2**36
LARGEST_VARIANCE: Final = 2**62
CANONICAL_ROUNDING_FAILURE: Final = math.exp(-0.5)
LARGEST_STEPS: Final = 2**46
"""In a clip: up to here a float64 tells 64 parts of a step apart, and sums of squares are exact block by block."""
_UP: Final = 1 + 2**-40
"""What a bound grows by, so that the rounding of floats never makes it too small."""


class NoiseKind(StrEnum):
    """The distribution of the integer that a client adds to each coordinate."""

    SKELLAM = "skellam"
    """The difference of two Poisson variables; sums of such noise are such noise again."""
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    """Probabilities in proportion to exp(-k^2 / 2 variance)."""


def as_noise(value: NoiseKind | str) -> NoiseKind:
    """A kind of noise, given as such or by name.  Raises ParameterError."""
    try:
        return NoiseKind(value)
    except ValueError:
        raise ParameterError(f"noise is {value!r}: must be one of {', '.join(NoiseKind)}") from None


@final
@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """What a client does to its update before it is summed: all public, and all in the layout's digest.

    The source is Kairouz, Liu and Steinke 2021 ("The Distributed Discrete Gaussian Mechanism for Federated Learning
    with Secure Aggregation", section 4 and algorithm 1).

    Attributes:
        noise: the distribution of the noise.
        clip: c, the largest L2 norm of an update, in the update's own unit.  A longer update is shortened to it.
        scale: S, whole steps in a unit: an exact rational whose denominator is a power of two.
        bits: b; elements are counted modulo 2^b.
        rounding_failure: beta of the conditional rounding, from 0 up to but not including 1.  0 sets no condition;
            exp(-1/2) is the usual choice.
        variance: of the noise that one client adds to one coordinate, in steps squared.
        length: the coordinates of an update, before they are padded.

    Raises ParameterError, which names the value met and the value allowed.
    """

    noise: NoiseKind
    clip: float
    scale: int | Fraction
    bits: int
    rounding_failure: float
    variance: int
    length: int

    def __post_init__(self) -> None:
        """Take every value in its own type."""
        taken: dict[str, object] = {
            "noise": as_noise(self.noise),
            "clip": real("clip", self.clip, SMALLEST_CLIP, LARGEST_CLIP),
            "scale": _dyadic(self.scale),
            "bits": integer("bits", self.bits, FEWEST_BITS, MOST_BITS),
            "rounding_failure": real("rounding_failure", self.rounding_failure, 0.0, math.nextafter(1.0, 0.0)),
            "variance": integer("variance", self.variance, 1, LARGEST_VARIANCE),
            "length": integer("length", self.length, 1, LONGEST),
        }
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        if Fraction(self.clip) * self.scale > LARGEST_STEPS:
            raise ParameterError(
                f"clip times scale is {float(Fraction(self.clip) * self.scale):.6g} steps: must be at most 2^46; "
                "lower the scale, which fewer bits do"
            )

    @property
    def dimension(self) -> int:
        """d, the coordinates after padding: the smallest power of two that is at least ``length``."""
        return 1 << (self.length - 1).bit_length()

    @property
    def scaled_norm_bound(self) -> float:
        """D2, the largest L2 norm of a rounded update in steps, rounded up."""
        norm, root = float(Fraction(self.clip) * self.scale), math.sqrt(self.dimension)
        bound = norm + root
        if self.rounding_failure > 0:
            spread = math.sqrt(-2 * math.log(self.rounding_failure))
            bound = min(bound, math.sqrt(norm**2 + root**2 / 4 + spread * (norm + root / 2)))
        return bound * _UP

    @property
    def norm_bound(self) -> float:
        """D2', the largest L2 norm of a rounded update in the update's own unit, rounded up."""
        return self.scaled_norm_bound / float(self.scale) * _UP

    @property
    def squared_norm_bound(self) -> int:
        """The largest sum of the squares of a rounded update's coordinates, in steps squared.

        D2^2 rounded down, and exact: a rounded update has whole coordinates, so that this very number is compared with.
        """
        norm, squared_root = Fraction(self.clip) * self.scale, self.dimension
        bound = _floor_of_sum(norm**2 + squared_root, 4 * norm**2 * squared_root)
        if self.rounding_failure > 0:
            bound = min(bound, _conditional_bound(norm, squared_root, self.rounding_failure))
        return bound

    @property
    def l1_bound(self) -> int:
        """D1, the largest sum of the absolute values of a rounded update's coordinates, in steps, rounded up.

        Whole numbers are at most their squares, so that D1 is at most D2^2; by Cauchy-Schwarz it is at most
        D2 sqrt(d).
        """
        bound = self.scaled_norm_bound
        return math.ceil(bound * min(math.sqrt(self.dimension), bound) * _UP)


def _floor_of_sum(rational: Fraction, square: Fraction) -> int:
    """The whole part of rational + sqrt(square), both at least 0."""
    whole = math.isqrt(int(square * rational.denominator**2))
    return (rational.numerator + whole) // rational.denominator


def _conditional_bound(norm: Fraction, dimension: int, failure: float) -> int:
    """The whole part of norm^2 + d / 4 + sqrt(2 ln(1 / beta)) (norm + sqrt(d) / 2).

    It is below 2^128, and is no whole number before it is rounded, since the logarithm of a fraction is
    transcendental: a hundred digits are more than enough.
    """
    with localcontext(Context(prec=100)):
        spread = (-2 * Decimal(failure).ln()).sqrt()
        length = Decimal(norm.numerator) / norm.denominator
        root = Decimal(dimension).sqrt()
        return int(length**2 + Decimal(dimension) / 4 + spread * (length + root / 2))


def _dyadic(scale: int | Fraction) -> Fraction:
    """``scale`` as a fraction.  Raises ParameterError unless it is above 0 and its denominator is a power of two."""
    if not isinstance(scale, int | Fraction) or isinstance(scale, bool) or scale <= 0:
        raise ParameterError(f"scale is {scale!r}: must be a whole number or a Fraction above 0")
    fraction = Fraction(scale)
    if fraction.denominator & (fraction.denominator - 1):
        raise ParameterError(f"scale is {scale!r}: its denominator must be a power of two")
    return fraction
