"""From a promise to the numbers that keep it: bits, scale and noise, found together.

How the numbers hang together
=============================

n clients at most are in the sum, h of them at least are honest and have their noise in it, d is the padded length, c
the clip, v the variance of one client's noise in steps squared, S the steps in a unit, 2^b the modulus.

- Wrap-around.  After the rotation, a coordinate of the sum has a variance of at most S^2 c^2 n^2 / d (all clients have
  the same update), n v (everybody's noise) and n / 4 (everybody's rounding), in steps squared.  A share p of the
  coordinates may wrap, so that K standard deviations must fit into half the modulus, with K the two-sided quantile of a
  normal variable: 2^(2b) / (4 K^2) = S^2 c^2 n^2 / d + n v + n / 4.  That gives S for each v: the more noise, the fewer
  steps.
- Privacy.  One client changes the sum by at most D2 in L2 norm (``Mechanism.scaled_norm_bound``), and the noise that
  hides it has variance h v.  As v grows, S and with it D2 fall, so that epsilon falls: one bisection over the whole
  numbers v finds the least noise that keeps the promise.
- Bits.  With fewer bits the steps are coarser and D2 / S is larger than c, so that the promise takes more noise than
  the central Gaussian mechanism's.  That excess falls as b grows: another bisection.

The scale is S = sqrt(2^(2b) - n K^2) / (2 K sqrt(c^2 n^2 / d + n sigma_loc^2)) of Kairouz, Liu and Steinke 2021, solved
for S at a given v = (S sigma_loc)^2.  h is not n: dropouts and colluders take their noise with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from statistics import NormalDist
from typing import Final, final

from secagg.encoding.limits import LARGEST_CLIP, SMALLEST_CLIP, integer, real
from secagg.errors import ParameterError
from secagg.privacy import accounting
from secagg.privacy.cohort import SMALLEST_RATE, check_delta, check_rounds
from secagg.privacy.cohort import honest_contributors as honest_contributors  # where it was first
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import (
    CANONICAL_ROUNDING_FAILURE,
    FEWEST_BITS,
    LARGEST_STEPS,
    LARGEST_VARIANCE,
    LONGEST,
    MOST_BITS,
    Mechanism,
    NoiseKind,
    as_noise,
)
from secagg.privacy.scale import coarse_scale
from secagg.wording import counted

MOST_CLIENTS: Final = 2**20
SMALLEST_EPSILON: Final = 0.01
LARGEST_EPSILON: Final = 1e4
_SHOWN_DIGITS: Final = 3


class InfeasibleError(ParameterError):
    """No noise keeps the promise with these numbers; the message names what would.

    Attributes:
        smallest_bits: the fewest bits that would do, all else as it is; None when no number of bits does.
        smallest_epsilon: the smallest epsilon that would do, rounded up; None when none does.
        largest_cohort: the most clients that would do, with the same share of them honest; None when none does.
    """

    def __init__(
        self,
        message: str,
        *,
        smallest_bits: int | None = None,
        smallest_epsilon: float | None = None,
        largest_cohort: int | None = None,
    ) -> None:
        super().__init__(message)
        self.smallest_bits = smallest_bits
        self.smallest_epsilon = smallest_epsilon
        self.largest_cohort = largest_cohort


@final
@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a mechanism promises to each client over a number of rounds.

    Attributes:
        mechanism: what each client does in each round.
        honest: the fewest honest clients in each sum (``honest_contributors``).
        delta: the probability with which the promise may fail, over all rounds.
        rounds: how many sums one client may be in.
        sampling_rate: see ``NoisySum``; it counts against those who see the results alone.
    """

    mechanism: Mechanism
    honest: int
    delta: float
    rounds: int = 1
    sampling_rate: float = 1.0

    def __post_init__(self) -> None:
        """Raises ParameterError for what is out of range."""
        object.__setattr__(self, "delta", check_delta(self.delta))
        object.__setattr__(self, "rounds", check_rounds(self.rounds))
        _ = self.sum  # checks the others

    @property
    def sum(self) -> NoisySum:
        """One round's sum, for a ledger such as ``Budget``."""
        return NoisySum.of_clients(self.mechanism, self.honest, sampling_rate=self.sampling_rate)

    @cached_property
    def epsilon(self) -> float:
        """The epsilon at the client level, to those who see the results and not who took part."""
        return accounting.epsilon([(self.sum, self.rounds)], self.delta)

    @cached_property
    def epsilon_to_server(self) -> float:
        """The epsilon to the server, which sees who takes part: sampling hides nobody from it."""
        return replace(self, sampling_rate=1.0).epsilon if self.sampling_rate < 1 else self.epsilon

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise that nobody can take off a coordinate of the sum, in the update's unit."""
        return math.sqrt(self.honest * self.mechanism.variance) / float(self.mechanism.scale)

    @property
    def noise_multiplier(self) -> float:
        """z: ``sigma`` over the clip."""
        return self.sigma / self.mechanism.clip


@final
@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The numbers that keep a promise, and what they cost.

    Attributes:
        promise: the mechanism with what it promises; its epsilon is at most the one that was asked for.
        clients: the most clients in a sum.
        wrapped_share: the largest share of the coordinates that wraps around, if all clients have the same update.
        central_multiplier: the noise multiplier of the central Gaussian mechanism with the promise that was asked for.
    """

    promise: Promise
    clients: int
    wrapped_share: float
    central_multiplier: float

    @property
    def mechanism(self) -> Mechanism:
        """What each client does."""
        return self.promise.mechanism

    @property
    def excess(self) -> float:
        """By what share the variance of noise and rounding is above the central Gaussian mechanism's.

        It compares the shares of ``honest`` clients.  Whatever the others add comes on top: (n / h) of the variance in
        all when nobody is lost.
        """
        return _excess(self.mechanism, self.promise.honest, self.central_multiplier)


def calibrate(
    *,
    epsilon: float,
    delta: float,
    length: int,
    clip: float,
    clients: int,
    honest: int,
    rounds: int = 1,
    sampling_rate: float = 1.0,
    noise: NoiseKind | str = NoiseKind.SKELLAM,
    bits: int | None = None,
    rounding_failure: float = CANONICAL_ROUNDING_FAILURE,
    wrapped_share: float = 1e-4,
    most_excess: float = 0.01,
) -> Calibration:
    """The mechanism with the least noise that keeps a promise.

    Args:
        epsilon: to keep below, over all rounds, at the client level (``NoisySum.of_clients``).
        delta: the probability with which that may fail, over all rounds.  Below one over the number of all clients.
        length: coordinates of an update.
        clip: the L2 norm that an update is shortened to, in its own unit.
        clients: the most clients in a sum; too low a number makes sums wrap around.
        honest: the fewest honest clients in a sum (``honest_contributors``); too high a number breaks the promise.
        rounds: how many sums one client may be in.
        sampling_rate: the probability with which each client is drawn into a round, independently.  Below 1 the promise
            is to those who see the results and neither who took part nor how many did; ``Promise.epsilon_to_server``
            has the other.
        noise: the distribution.
        bits: of the modulus; None for the fewest whose excess over the central Gaussian mechanism is ``most_excess``.
        rounding_failure: beta of the conditional rounding; 0 sets no condition, and takes more noise.
        wrapped_share: p, the tolerated share of coordinates that wrap around.
        most_excess: the share by which noise and rounding may have more variance than the central Gaussian mechanism's
            noise, where ``bits`` are to be chosen.  With 32 bits the excess is what it is.

    Returns the calibration.

    Raises:
        InfeasibleError: no noise keeps the promise; it names the bits, the epsilon or the cohort that would do.
        ParameterError: a value out of range.
    """
    clients = integer("clients", clients, 1, MOST_CLIENTS)
    ask = _Ask(
        epsilon=real("epsilon", epsilon, SMALLEST_EPSILON, LARGEST_EPSILON),
        delta=check_delta(delta),
        rounds=check_rounds(rounds),
        sampling_rate=real("sampling_rate", sampling_rate, SMALLEST_RATE, 1.0),
        noise=as_noise(noise),
        length=integer("length", length, 1, LONGEST),
        clip=real("clip", clip, SMALLEST_CLIP, LARGEST_CLIP),
        clients=clients,
        honest=integer("honest", honest, 1, clients),
        rounding_failure=real("rounding_failure", rounding_failure, 0.0, math.nextafter(1.0, 0.0)),
        wrapped_share=real("wrapped_share", wrapped_share, 1e-300, 0.5),
    )
    if math.isinf(ask.central_multiplier):
        raise ParameterError(
            f"epsilon is {epsilon!r}: at delta {delta!r}, sampled rounds show no epsilon that small; allow a larger "
            "one, allow more delta, or count without sampling (sampling_rate=1)"
        )
    if bits is None:
        most_excess = real("most_excess", most_excess, 1e-6, 1e6)
        found = ask.with_fewest_bits(lambda mechanism: ask.excess(mechanism) <= most_excess) or ask.best(MOST_BITS)
    else:
        found = ask.best(integer("bits", bits, FEWEST_BITS, MOST_BITS))
    if found is None:
        raise _infeasible(ask, bits)
    return Calibration(
        promise=ask.promise(found),
        clients=ask.clients,
        wrapped_share=_wrapped_share(found, ask.clients),
        central_multiplier=ask.central_multiplier,
    )


def finest_scale(
    bits: int, clients: int, dimension: int, clip: float, variance: float, wrapped_share: float = 1e-4
) -> float:
    """S, the most steps in a unit with which no more than a share of the sum's coordinates wraps around.

    Args:
        bits: b, of the modulus.
        clients: n, the most in a sum.
        dimension: d, the padded length.
        clip: c, in the update's own unit.
        variance: of the noise that one client adds to one coordinate, in steps squared.
        wrapped_share: p.

    Raises ParameterError when the noise alone leaves no room.
    """
    room = _room(bits, wrapped_share) - clients * (variance + 0.25)
    if not room > 0:
        raise ParameterError(
            f"variance is {variance!r}: with {bits} bits and {counted(clients, 'client')} it must be below "
            f"{_room(bits, wrapped_share) / clients - 0.25:g}, or more than a share of {wrapped_share:g} wraps around"
        )
    return math.sqrt(room * dimension) / (clients * clip)


def _room(bits: int, wrapped_share: float) -> float:
    """The most variance of a coordinate of the sum, in steps squared: (2^bits / 2 K)^2."""
    return float((2.0**bits / (2 * NormalDist().inv_cdf(wrapped_share / 2))) ** 2)


@dataclass(frozen=True, kw_only=True)
class _Ask:
    """What ``calibrate`` is asked for."""

    epsilon: float
    delta: float
    rounds: int
    sampling_rate: float
    noise: NoiseKind
    length: int
    clip: float
    clients: int
    honest: int
    rounding_failure: float
    wrapped_share: float

    @cached_property
    def central_multiplier(self) -> float:
        return accounting.gaussian_multiplier(self.epsilon, self.delta, self.rounds, self.sampling_rate)

    def promise(self, mechanism: Mechanism) -> Promise:
        return Promise(
            mechanism=mechanism,
            honest=self.honest,
            delta=self.delta,
            rounds=self.rounds,
            sampling_rate=self.sampling_rate,
        )

    def excess(self, mechanism: Mechanism) -> float:
        return _excess(mechanism, self.honest, self.central_multiplier)

    def most_noise(self, bits: int) -> int:
        """The largest variance of one client's noise that leaves room for anything else."""
        room = (_room(bits, self.wrapped_share) / self.clients - 0.25) * (
            1 - 2**-40
        )  # above 0 for floats, too, without it
        return min(LARGEST_VARIANCE, math.floor(room))

    def mechanism(self, bits: int, variance: int) -> Mechanism:
        """The mechanism with as fine a scale as leaves room for this noise."""
        dimension = 1 << (self.length - 1).bit_length()
        finest = finest_scale(bits, self.clients, dimension, self.clip, variance, self.wrapped_share)
        scale = min(Fraction(finest), LARGEST_STEPS / Fraction(self.clip))
        return Mechanism(
            noise=self.noise,
            clip=self.clip,
            scale=coarse_scale(scale),
            bits=bits,
            rounding_failure=self.rounding_failure,
            variance=variance,
            length=self.length,
        )

    def is_kept(self, mechanism: Mechanism) -> bool:
        promise = self.promise(mechanism)
        if self.sampling_rate < 1 and accounting.equivalent_multiplier(promise.sum) >= self.central_multiplier:
            return True  # without asking for the epsilon of sampled rounds, which takes long to compute
        return promise.epsilon_to_server <= self.epsilon

    def best(self, bits: int) -> Mechanism | None:
        """The mechanism with the least noise that keeps the promise; None when no noise does."""
        most = self.most_noise(bits)
        if most < 1:
            return None
        variance = _first(1, most, lambda value: self.is_kept(self.mechanism(bits, value)))
        return None if variance is None else self.mechanism(bits, variance)

    def with_fewest_bits(self, suits: Callable[[Mechanism], bool]) -> Mechanism | None:
        """The best mechanism of the fewest bits that has one that suits; what suits does so with more bits, too."""

        def suitable(bits: int) -> bool:
            found = self.best(bits)
            return found is not None and suits(found)

        bits = _first(FEWEST_BITS, MOST_BITS, suitable)
        return None if bits is None else self.best(bits)

    def smallest_epsilon(self, bits: int) -> float | None:
        """The smallest epsilon that these bits can keep, rounded up; None when it is out of range."""
        most = self.most_noise(bits)
        if most < 1:
            return None
        least = self.promise(self.mechanism(bits, most)).epsilon
        if not 0 < least < math.inf:
            return None
        unit = 10.0 ** (math.floor(math.log10(least)) + 1 - _SHOWN_DIGITS)
        return float(f"{math.ceil(least / unit) * unit:.{_SHOWN_DIGITS}g}")

    def largest_cohort(self, bits: int) -> int | None:
        """The most clients that these bits can serve, with the same share of them honest; None when none are."""

        def fails(clients: int) -> bool:
            honest = max(1, self.honest * clients // self.clients)
            return replace(self, clients=clients, honest=honest).best(bits) is None

        first = _first(1, self.clients, fails)
        return None if first in (None, 1) else first - 1


def _first(low: int, high: int, is_true: Callable[[int], bool]) -> int | None:
    """The smallest number from low to high for which a condition holds that holds for all larger ones; or None."""
    if not is_true(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if is_true(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _excess(mechanism: Mechanism, honest: int, central_multiplier: float) -> float:
    squared = honest * (mechanism.variance + 0.25) / float(mechanism.scale * Fraction(mechanism.clip)) ** 2
    return squared / central_multiplier**2 - 1


def _wrapped_share(mechanism: Mechanism, clients: int) -> float:
    signal = float(mechanism.scale * Fraction(mechanism.clip)) * clients
    spread = math.sqrt(signal**2 / mechanism.dimension + clients * (mechanism.variance + 0.25))
    return math.erfc(2.0 ** (mechanism.bits - 1) / spread / math.sqrt(2))


def _infeasible(ask: _Ask, bits: int | None) -> InfeasibleError:
    tried = MOST_BITS if bits is None else bits
    fewest = None if bits is None else ask.with_fewest_bits(lambda _: True)
    smallest_bits = None if fewest is None else fewest.bits
    smallest_epsilon, largest_cohort = ask.smallest_epsilon(tried), ask.largest_cohort(tried)
    remedies = [
        *([] if smallest_bits is None else [f"use {smallest_bits} bits or more"]),
        *([] if smallest_epsilon is None else [f"allow an epsilon of {smallest_epsilon} or more"]),
        *(
            []
            if largest_cohort is None
            else [f"invite {counted(largest_cohort, 'client')} or fewer, as large a share honest"]
        ),
    ]
    advice = "; or ".join(remedies) or "allow more delta, or fewer rounds"
    return InfeasibleError(
        f"no noise keeps epsilon {ask.epsilon:g} at delta {ask.delta:g} over {counted(ask.rounds, 'round')} with "
        f"{tried} bits, {counted(ask.clients, 'client')} of whom {ask.honest} are honest, and "
        f"{counted(ask.length, 'coordinate')}: {advice}",
        smallest_bits=smallest_bits,
        smallest_epsilon=smallest_epsilon,
        largest_cohort=largest_cohort,
    )
