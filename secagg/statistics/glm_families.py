"""The two families of generalised linear models: what one record adds to the sums, and how far it can.

Notation of P. McCullagh and J. A. Nelder, Generalized Linear Models, chapter 2: eta is the linear predictor, mu the
mean, w the weight of a record in the Hessian.  Both links are canonical, so that Newton's method is iteratively
reweighted least squares.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias, final

import numpy as np

from secagg.statistics.chunk import Floats
from secagg.statistics.distributions import scipy_module

Family: TypeAlias = Literal["binomial", "poisson"]

_FARTHEST: Final = 30.0
"""A probability, or a mean, of 1e-13: nothing in data tells it from a smaller one."""
_BEYOND: Final = 5.0
"""How far the predicted mean of a count may be above the largest count that the study allows, as a logarithm."""
_NONE_SEEN: Final = 0.1
"""Added to a count before its logarithm starts the iteration, as R's ``poisson()`` does."""


@final
@dataclass(frozen=True, eq=False)
class Parts:
    """What records add: residuals y - mu (or, to start, w times the working response), weights and deviances, each of
    shape (records,)."""

    residual: Floats
    weight: Floats
    deviance: Floats


@final
@dataclass(frozen=True)
class Limits:
    """The largest absolute values that one record has of each of ``Parts``."""

    residual: float
    weight: float
    deviance: float


@final
@dataclass(frozen=True)
class Predicted:
    """The public range to which eta is clipped.

    Attributes:
        low, high: no record is beyond ``reach``, the bound that coefficients and ranges of columns give, and none is
            let beyond what the family allows.
    """

    low: float
    high: float

    @classmethod
    def of(cls, family: Family, most: float, reach: float) -> Self:
        """``most`` is the largest outcome; ``reach`` the largest |eta| at these coefficients, up to its rounding."""
        reach = reach * (1 + 1e-9) + 1e-9
        ceiling = _FARTHEST if family == "binomial" else math.log(most + 1.0) + _BEYOND
        return cls(-min(reach, _FARTHEST), min(reach, ceiling))


def start_parts(family: Family, y: Floats) -> Parts:
    """The first step, from the outcomes alone, as R's ``glm.fit`` has it; the deviances are 0."""
    if family == "binomial":
        mu = (y + 0.5) / 2
        eta, weight = np.log(mu / (1 - mu)), mu * (1 - mu)
    else:
        mu = y + _NONE_SEEN
        eta, weight = np.log(mu), mu
    return Parts(weight * eta + (y - mu), weight, np.zeros_like(y))


def start_limits(family: Family, most: float) -> Limits:
    """Those of ``start_parts``; rounded up."""
    if family == "binomial":
        return Limits(0.5, 0.2, 1.0)
    mu = most + _NONE_SEEN
    return Limits(mu * max(abs(math.log(mu)), abs(math.log(_NONE_SEEN))) + _NONE_SEEN, mu, 1.0)


def parts_at(family: Family, y: Floats, eta: Floats) -> Parts:
    """At a linear predictor that was clipped already."""
    if family == "binomial":
        mu = np.asarray(scipy_module("special").expit(eta), np.float64)
        return Parts(y - mu, mu * (1 - mu), 2 * np.logaddexp(0.0, np.where(y > 0, -eta, eta)))
    mu = np.exp(eta)
    return Parts(y - mu, mu, np.asarray(2 * (scipy_module("special").xlogy(y, y) - y * eta - (y - mu)), np.float64))


def limits_at(family: Family, most: float, predicted: Predicted) -> Limits:
    """Those of ``parts_at``; rounded up."""
    farthest = max(predicted.high, -predicted.low)
    if family == "binomial":
        return Limits(1.0, 0.25, 2 * math.log(2) + 2 * farthest)
    mu = math.exp(predicted.high)
    deviance = 2 * (most * (math.log(most + 1) + farthest + 1) + mu + 1)
    return Limits(max(most, mu), mu, deviance)
