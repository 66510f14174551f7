"""What a private round kept of its promise, from who really took part; a host attaches it to the round's result."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

from secagg.encoding.limits import integer
from secagg.privacy import accounting
from secagg.privacy.calibration import MOST_CLIENTS, Promise
from secagg.privacy.noisy_sum import NoisySum
from secagg.wording import counted


@final
@dataclass(frozen=True, kw_only=True)
class PrivacyReport:
    """What was promised, and what was reached.

    Attributes:
        promised_epsilon: what the clients were promised over all rounds, whoever drops out.
        reached_epsilon: the same if every round had this round's noise.  Below the promise when fewer clients were lost
            than allowed for, above it when more were: never better than the noise that is left.
        round_epsilon: of this round's sum alone.
        delta: at which the three hold.
        rounds: how many sums one client may be in.
        sampling_rate: against whom the three hold; see ``NoisySum``.
        contributors: whose updates and noise are in the sum.
        colluders: how many of them may have told the server their noise.
        promised_honest: the fewest honest contributors that were promised.
        promised_sigma, reached_sigma: standard deviation of the noise that nobody can take off a coordinate of the sum,
            in the update's own unit.
        wrapped_share: the share of the sum's coordinates that probably wrapped around, or None when nobody looked.
    """

    promised_epsilon: float
    reached_epsilon: float
    round_epsilon: float
    delta: float
    rounds: int
    sampling_rate: float
    contributors: int
    colluders: int
    promised_honest: int
    promised_sigma: float
    reached_sigma: float
    wrapped_share: float | None

    @property
    def is_kept(self) -> bool:
        """Whether the round had at least the noise that was promised."""
        return self.reached_sigma >= self.promised_sigma

    def explain(self) -> str:
        """The same for a person, in several lines."""
        lines = [
            f"Promised: epsilon {self.promised_epsilon:.3g} at delta {self.delta:g} over "
            f"{counted(self.rounds, 'round')}, with {counted(self.promised_honest, 'honest client')} or more in each "
            "sum.",
            f"Reached: epsilon {self.reached_epsilon:.3g} if all rounds are like this one, with "
            f"{counted(self.contributors, 'client')} in the sum, {self.colluders} of whom may collude; "
            f"{self.round_epsilon:.3g} for this round alone.",
            f"Noise on each coordinate of the sum: {self.reached_sigma:.3g}, promised {self.promised_sigma:.3g} "
            "(standard deviation).",
        ]
        if not self.is_kept:
            lines.append(
                "The promise was not kept: too few honest clients took part, so that there is too little noise."
            )
        if self.wrapped_share is not None:
            lines.append(f"Share of the coordinates that probably wrapped around: {self.wrapped_share:.2g}.")
        return "\n".join(lines)


def report_of(
    promise: Promise,
    *,
    contributors: int,
    colluders: int,
    remaining: NoisySum | None = None,
    wrapped_share: float | None = None,
) -> PrivacyReport:
    """The report of a round.

    Args:
        promise: what was promised.
        contributors: the clients in the sum (``len(result.included)``).
        colluders: how many of all clients may collude with the server (``config.colluders``).  All of them may be in
            the sum.
        remaining: the sum with the noise that is left in it, where parts of the noise were taken off again
            (``NoiseLevels.left``).  Its own sampling rate is replaced by the promise's, so that all epsilons of the
            report hold against the same people.  Without it, all contributors but the colluders have the whole of
            their noise in the sum.
        wrapped_share: of the decoded sum (``PrivateMean.wrapped_share``).

    With no honest client in the sum the reached epsilon is infinite.  Raises ParameterError for counts out of range.
    """
    contributors = integer("contributors", contributors, 1, MOST_CLIENTS)
    colluders = min(integer("colluders", colluders, 0, MOST_CLIENTS), contributors)
    if remaining is not None:
        remaining = replace(remaining, sampling_rate=promise.sampling_rate)
    elif contributors > colluders:
        remaining = NoisySum.of_clients(
            promise.mechanism, contributors - colluders, sampling_rate=promise.sampling_rate
        )
    epsilons = [
        math.inf if remaining is None else accounting.epsilon([(remaining, rounds)], promise.delta)
        for rounds in (promise.rounds, 1)
    ]
    variance = 0 if remaining is None else remaining.honest * remaining.variance
    return PrivacyReport(
        promised_epsilon=promise.epsilon,
        reached_epsilon=epsilons[0],
        round_epsilon=epsilons[1],
        delta=promise.delta,
        rounds=promise.rounds,
        sampling_rate=promise.sampling_rate,
        contributors=contributors,
        colluders=colluders,
        promised_honest=promise.honest,
        promised_sigma=promise.sigma,
        reached_sigma=math.sqrt(variance) / float(promise.mechanism.scale),
        wrapped_share=wrapped_share,
    )
