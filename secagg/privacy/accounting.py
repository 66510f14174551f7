"""Epsilon of the sums that somebody sees.  dp-accounting composes and converts; this module says what it composes.

Every bound on a Renyi divergence that is known for the two kinds of noise is a line in the order a,

    RDP(a) <= rho a + xi,

so that dp-accounting's ``ZCDpEvent(rho, xi)`` has it to the last digit, and no accountant of our own is needed.  Where
several lines hold, each is an event of its own and the one with the smallest epsilon counts.

The orders are whole numbers, for which the bound of Skellam noise is proved.  For whole orders the expansion of a
subsampled mechanism's divergence needs the bounds at whole orders alone as well, see ``_sampled``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np

from secagg._install import how_to_install
from secagg.privacy.cohort import check_delta, check_rounds
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import NoiseKind

try:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"{missing.name} is not installed, and this needs it: {how_to_install('privacy')}", name=missing.name
    ) from None

ORDERS: Final = (*range(2, 129), 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1536, 2048)
"""The orders of the Renyi divergence.  Those above 128 are for an epsilon far below 1."""
_TERMS: Final = 2**16
"""Terms of the distance of a sum of discrete Gaussians that are added one by one; the rest are bounded by the last."""
_LEAST_SAMPLED_LOSS: Final = 1e-8
"""Of the divergence of order 2 of a sampled mechanism: what dp-accounting computes of a smaller one drowns in the
rounding of floats, and less noise than there is bounds it."""

_EXPONENTS: Final = -40.0, 60.0
"""Of 2: between them lie all noise multipliers."""
_NEAR: Final = 8.0
"""Of 2: a search under sampling begins so far below the multiplier without sampling, and goes on from the lowest one
where that is not low enough.  It costs time alone."""

Lines: TypeAlias = tuple[tuple[float, float], ...]
"""Pairs (rho, xi) of which each has RDP(a) <= rho a + xi at every whole order a >= 2."""


def epsilon(sums: Iterable[tuple[NoisySum, int]], delta: float) -> float:
    """The epsilon at which all the sums together are (epsilon, delta)-differentially private.

    Args:
        sums: what was seen, each with the number of times.  What is summed later may depend on earlier sums, as in
            training; the numbers of the noise must not.
        delta: the probability with which the promise may fail, for all of them together: above 0 and below 1.

    Returns:
        The epsilon; 0.0 for no sums, infinity for sums with too little noise for any.

    Raises ParameterError for a delta or a number of times out of range.
    """
    delta = check_delta(delta)
    together: Counter[NoisySum] = Counter()
    for one, times in sums:
        together[one] += check_rounds(times)
    # In an order of their own, so that the same sums have the same epsilon to the last digit.
    ordered = sorted(together.items(), key=lambda item: item[0].to_text())
    best = [(*_best_event(one, times, delta), times) for one, times in ordered]
    if len(best) == 1:
        return best[0][0]
    accountant = RdpAccountant(ORDERS)
    for _, event, times in best:
        accountant.compose(event, times)
    return float(accountant.get_epsilon(delta))


def gaussian_epsilon(noise_multiplier: float, delta: float, rounds: int = 1, sampling_rate: float = 1.0) -> float:
    """The epsilon of the central Gaussian mechanism, at the same orders: what distributed noise is compared with.

    ``noise_multiplier`` is the noise's standard deviation over the norm that a client's update is cut to.
    """
    return _epsilon_of(_gaussian(noise_multiplier, sampling_rate), check_rounds(rounds), check_delta(delta))


def gaussian_multiplier(epsilon: float, delta: float, rounds: int = 1, sampling_rate: float = 1.0) -> float:
    """The smallest noise multiplier at which the central Gaussian mechanism keeps the promise, to nine digits.

    Infinity when none does: at a tiny delta, the orders show no epsilon near 0 for sampled rounds.
    """

    def is_kept(exponent: float) -> bool:
        return gaussian_epsilon(2.0**exponent, delta, rounds, sampling_rate) <= epsilon

    low, high = _EXPONENTS
    if sampling_rate < 1:  # each epsilon takes long to compute, so the search begins near: not above the unsampled one
        high = math.log2(gaussian_multiplier(epsilon, delta, rounds)) + 0.01  # for the rounding of floats
        low = low if is_kept(high - _NEAR) else high - _NEAR
    if not is_kept(high):
        return math.inf
    exponent = dp_accounting.calibrate_dp_mechanism(
        lambda: RdpAccountant(ORDERS),
        lambda exponent: dp_accounting.SelfComposedDpEvent(_gaussian(2.0**exponent, sampling_rate), rounds),
        epsilon,
        check_delta(delta),
        dp_accounting.ExplicitBracketInterval(low, high),
        tol=1e-9,
    )
    return float(2.0**exponent)


def equivalent_multiplier(one: NoisySum) -> float:
    """The noise multiplier of a Gaussian mechanism whose divergences bound the sum's at whole orders; see ``_sampled``.

    As a member sees it that takes part: without sampling.
    """
    return 1 / math.sqrt(min(2 * rho + xi for rho, xi in lines_of(one)))


# Which lines bound the Renyi divergence.


def lines_of(one: NoisySum) -> Lines:
    """The lines that each bound the divergences of a sum without sampling."""
    if one.noise is NoiseKind.SKELLAM:
        return skellam_lines(one.honest * one.variance, one.squared_l2, one.l1)
    return discrete_gaussian_lines(one.honest, one.variance, one.squared_l2, one.l1, one.dimension)


def skellam_lines(variance: float, squared_l2: float, l1: float) -> Lines:
    """The lines of Skellam noise: Agarwal, Kairouz and Liu 2021, "The Skellam Mechanism", section 3.

    With mu the variance of the noise in the sum,

        RDP(a) <= a D2^2 / (2 mu) + min(((2a - 1) D2^2 + 6 D1) / (4 mu^2), 3 D1 / (2 mu)).

    Args:
        variance: mu.
        squared_l2: D2^2, of what one member can change.
        l1: D1, of what one member can change.
    """
    mu, l2 = float(variance), float(squared_l2)
    return (
        (l2 / (2 * mu) + l2 / (2 * mu**2), max(0.0, (6 * l1 - l2) / (4 * mu**2))),
        (l2 / (2 * mu), 3 * l1 / (2 * mu)),
    )


def discrete_gaussian_lines(shares: int, variance: float, squared_l2: float, l1: float, dimension: int) -> Lines:
    """The lines of a sum of discrete Gaussians: Kairouz, Liu and Steinke 2021, section 3.

    With n shares of variance s^2, a2 = D2 / (sqrt(n) s) and a1 = D1 / (sqrt(n) s),

        RDP(a) <= min(a a2^2 / 2 + tau d, (a / 2) (a2^2 + 2 a1 tau + tau^2 d), (a / 2) (a2 + sqrt(d) tau)^2).

    It is proved for s of at least 1/2.

    Args:
        shares: n.
        variance: s^2, of one share.
        squared_l2: D2^2, of what one member can change.
        l1: D1, of what one member can change.
        dimension: d.
    """
    a2, a1 = math.sqrt(squared_l2 / (shares * variance)), l1 / math.sqrt(shares * variance)
    tau, root = _distance_of_a_sum(shares, variance), math.sqrt(dimension)
    return (
        (a2**2 / 2, tau * dimension),
        ((a2**2 + 2 * a1 * tau + tau**2 * dimension) / 2, 0.0),
        ((a2 + root * tau) ** 2 / 2, 0.0),
    )


@lru_cache(maxsize=256)
def _distance_of_a_sum(shares: int, variance: float) -> float:
    """tau: how far a sum of discrete Gaussians is from a discrete Gaussian of the whole variance.

    The terms, 10 exp(-2 pi^2 s^2 k / (k + 1)) for k = 1 to n - 1, fall: all beyond the first 2^16 count as much as the
    last of those.
    """
    if shares == 1:
        return 0.0
    terms = min(shares - 1, _TERMS)
    k = np.arange(1, terms + 1, dtype=np.float64)
    values = np.exp(-2 * math.pi**2 * float(variance) * k / (k + 1))
    return 10 * float(values.sum() + (shares - 1 - terms) * values[-1])


# As events.


def _events(one: NoisySum) -> list[dp_accounting.DpEvent]:
    """The events of which each bounds the sum's divergences.  Sampling is never worse than none."""
    events = [dp_accounting.ZCDpEvent(rho, xi) for rho, xi in lines_of(one)]
    return [*events, _sampled(one)] if one.sampling_rate < 1 else events


def _sampled(one: NoisySum) -> dp_accounting.DpEvent:
    """The event of a sum in which each client takes part with a probability, the rate (Poisson sampling).

    Let P be the distribution with the client's update and Q the one with zeros in its place.  Both kinds of noise are
    symmetric, so that a reflection swaps P and Q.  Then of D_a(M || Q) and D_a(Q || M), with M = (1 - rate) Q + rate P,
    the first is the larger one (Mironov, Talwar and Zhang 2019, "Renyi Differential Privacy of the Sampled Gaussian
    Mechanism", theorem 5).  At a whole order a the binomial theorem gives it exactly:

        exp((a - 1) D_a(M || Q)) = sum over k of C(a, k) (1 - rate)^(a - k) rate^k exp((k - 1) D_k(P || Q)),

    which grows with each D_k(P || Q), k = 2 to a.  These are at most rho k + xi <= k / (2 z^2) with
    1 / z^2 = 2 rho + xi, for k is at least 2; and k / (2 z^2) is the divergence of the Gaussian mechanism with noise
    multiplier z.  So the sampled Gaussian mechanism, which dp-accounting knows, bounds ours at all whole orders.
    """
    return _gaussian(equivalent_multiplier(one), one.sampling_rate)


def _gaussian(noise_multiplier: float, sampling_rate: float) -> dp_accounting.DpEvent:
    if sampling_rate >= 1:
        return dp_accounting.GaussianDpEvent(noise_multiplier)
    # exp(divergence of order 2) = 1 + rate^2 (exp(1 / z^2) - 1)
    most = 1 / math.sqrt(math.log1p(_LEAST_SAMPLED_LOSS / sampling_rate**2))
    noise_multiplier = min(noise_multiplier, most)
    return dp_accounting.PoissonSampledDpEvent(sampling_rate, dp_accounting.GaussianDpEvent(noise_multiplier))


@lru_cache(maxsize=1024)
def _best_event(one: NoisySum, times: int, delta: float) -> tuple[float, dp_accounting.DpEvent]:
    """The smallest epsilon of the sum alone, seen so many times, and the event that has it."""
    found = [(_epsilon_of(event, times, delta), event) for event in _events(one)]
    return min(found, key=lambda pair: pair[0])


def _epsilon_of(event: dp_accounting.DpEvent, times: int, delta: float) -> float:
    return float(RdpAccountant(ORDERS).compose(event, times).get_epsilon(delta))
