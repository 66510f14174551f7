"""The two discrete Gaussians of an envelope: of the secret and of the errors (section 11.3 of specs/secagg-v2.md).

The discrete Gaussian of variance v, cut at B, gives an integer x with |x| <= B with a probability proportional to
exp(-x^2 / 2v).  It is exact up to the 128 bits of the table: no probability is off by more than 2^-127.

``secagg.privacy.noise`` also draws discrete Gaussians, with any variance and exactly, but by rejection: how many random
bytes it takes depends on what it draws.  That is no harm to noise, and it would be to a secret key.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLE_BYTES: Final = 16
"""Random bytes that one sample takes: a sign and 127 bits of probability."""

MAGNITUDE_BITS: Final = 127

_LOW_BITS: Final = 63
_DIGITS: Final = 80
"""Decimal digits of the table's arithmetic: about twice what 127 bits need."""


class Gaussian(NamedTuple):
    """A discrete Gaussian around zero.

    Attributes:
        variance: of the Gaussian before it is cut.
        bound: the largest magnitude that is drawn.
    """

    variance: Fraction
    bound: int


SECRET: Final = Gaussian(Fraction(81, 4), 36)
"""Standard deviation 4.5, cut at 8 standard deviations."""

ERROR: Final = Gaussian(Fraction(81, 2), 50)
"""Standard deviation 4.5 sqrt(2), cut at 8 standard deviations."""


@cache
def magnitude_bounds(distribution: Gaussian) -> tuple[int, ...]:
    """The table: for k from 1 to the bound, 2^127 times the probability of a magnitude below k, to the nearest integer.

    The magnitude of a sample is the number of entries that are at most a uniform number of 127 bits.
    """
    with localcontext() as context:
        context.prec = _DIGITS
        doubled = Decimal(2 * distribution.variance.numerator) / Decimal(distribution.variance.denominator)
        weights = [(Decimal(-k * k) / doubled).exp() * (1 if k == 0 else 2) for k in range(distribution.bound + 1)]
        total, below, bounds = sum(weights), Decimal(0), []
        for weight in weights[:-1]:
            below += weight
            bounds.append(int((below / total * 2**MAGNITUDE_BITS).to_integral_value()))
    return tuple(bounds)


def sample(distribution: Gaussian, random: NDArray[np.uint8], out: NDArray[np.int32]) -> None:
    """Turn random bytes into signed samples, in time and with addresses that do not depend on them.

    Args:
        distribution: SECRET or ERROR.
        random: ``SAMPLE_BYTES`` a sample, contiguous, of a cryptographic source.
        out: int32, one a sample, written.

    Raises:
        ValueError: ``random`` has another number of bytes than ``out`` takes.
    """
    if random.size != SAMPLE_BYTES * out.size:
        raise ValueError(
            f"{random.size} random bytes for {out.size} samples: each sample takes {SAMPLE_BYTES}, so hand in "
            f"{SAMPLE_BYTES * out.size}"
        )
    from secagg.arithmetic.kernels.gaussian import gaussian_samples

    high, low = _kernel_bounds(distribution)
    gaussian_samples(random.view(np.uint64), high, low, out)


@cache
def _kernel_bounds(distribution: Gaussian) -> tuple[NDArray[Any], NDArray[Any]]:
    bounds = magnitude_bounds(distribution)
    high = np.array([(bound >> _LOW_BITS) - (1 << 63) for bound in bounds], dtype=np.int64)
    low = np.array([bound & ((1 << _LOW_BITS) - 1) for bound in bounds], dtype=np.int64)
    return high, low
