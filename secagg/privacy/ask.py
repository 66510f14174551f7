"""What a server's operator asks for, and the terms that keep it.  Only calibration imports an accountant."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, final

from secagg.encoding.limits import LARGEST_CLIP, SMALLEST_CLIP, integer, real
from secagg.privacy.adaptive_clipping import ClipRule, ClipState
from secagg.privacy.cohort import Cohort, check_delta, check_rounds, honest_contributors
from secagg.privacy.parameters import FEWEST_BITS, MOST_BITS, NoiseKind, as_noise
from secagg.privacy.removal import check_levels
from secagg.privacy.terms import PrivacyTerms

if TYPE_CHECKING:
    from secagg.privacy.calibration import Calibration


@final
@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """How the clip of a training is to follow the norms of the updates; see ``ClipRule.for_noise``.

    Attributes:
        quantile: the share of the norms that are to be within the clip.
        learning_rate: how fast the clip moves.  Large values follow faster and shake more.
        indicator_noise: standard deviation of the noise in the count of those within the clip, in clients.  More of it
            costs the update less, and makes the clip shake more.  None for a 20th part of the clients, and more where
            that would cost the update more than 3%.
        lowest, highest: the clip stays within them.
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    indicator_noise: float | None = None
    lowest: float = SMALLEST_CLIP
    highest: float = LARGEST_CLIP

    def __post_init__(self) -> None:
        """Raises ParameterError, which names the value met and the value allowed."""
        if self.indicator_noise is not None:
            object.__setattr__(self, "indicator_noise", real("indicator_noise", self.indicator_noise, 1e-6, 1e15))
        ClipRule(
            ratio=1.0,  # the only value that depends on the round
            quantile=self.quantile,
            learning_rate=self.learning_rate,
            lowest=self.lowest,
            highest=self.highest,
        )

    def rule(self, noise_multiplier: float, clients: int) -> ClipRule:
        """The rule of rounds with this noise and so many clients.  Raises ParameterError."""
        return ClipRule.for_noise(
            noise_multiplier,
            clients,
            indicator_noise=self.indicator_noise,
            quantile=self.quantile,
            learning_rate=self.learning_rate,
            lowest=self.lowest,
            highest=self.highest,
        )


@final
@dataclass(frozen=True, kw_only=True)
class Privacy:
    """A promise to ask for: each client's update is hidden at (epsilon, delta), at the client level.

    Attributes:
        epsilon: to keep below over all rounds.
        delta: the probability with which that may fail, over all rounds.  Take it well below one over the number of all
            clients there are.
        clip: the L2 norm that a whole update is shortened to, in its own unit.  Too low a clip loses signal, too high a
            one adds noise for nothing: take a norm that half of the updates stay below.  With ``adaptive``, the clip
            of the first round.
        rounds: how many sums one client may be in.
        noise: "skellam" or "discrete-gaussian"; see ``NoiseKind``.
        bits: of the modulus; None for the fewest that bring the noise within 1% of what a trusted server would add.
        adaptive: None for a clip that stays.
        levels: how finely the noise is fitted to the clients that are lost, 0 to 64, with Skellam noise alone.  0
            leaves in every sum the noise that the most losses ask for.  With levels, survivors reveal the keys of what
            was not needed, and the server takes it off: no sum has less noise than promised, as long as no more clients
            collude than the round counts on.  In ``semi_honest`` that rests on a server that says truly who survived;
            in ``active`` a quorum confirms it.  Rounds need version 2 of the wire.  Each level costs a client as much
            as its whole noise, and the server as much for each survivor.
        budget: file of the server's own ``Budget``, of this epsilon and delta over everything that is charged to it;
            made when it is not there.  None for a server that does not keep one.

    Raises ParameterError, which names the value met and the value allowed.
    """

    epsilon: float
    delta: float
    clip: float
    rounds: int = 1
    noise: NoiseKind | str = NoiseKind.SKELLAM
    bits: int | None = None
    adaptive: AdaptiveClip | None = None
    levels: int = 0
    budget: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        """Take every value in its own type."""
        taken: dict[str, object] = {
            "epsilon": real("epsilon", self.epsilon, math.nextafter(0.0, 1.0), 1e6),
            "delta": check_delta(self.delta),
            "clip": real("clip", self.clip, SMALLEST_CLIP, LARGEST_CLIP),
            "rounds": check_rounds(self.rounds),
            "noise": as_noise(self.noise),
            "bits": None if self.bits is None else integer("bits", self.bits, FEWEST_BITS, MOST_BITS),
            "levels": check_levels(self.levels, self.noise),
        }
        for name, value in taken.items():
            object.__setattr__(self, name, value)

    def first_clip(self) -> ClipState | None:
        """Where an adaptive clip begins; None for a clip that stays."""
        if self.adaptive is None:
            return None
        return ClipState(clip=min(max(self.clip, self.adaptive.lowest), self.adaptive.highest))

    def calibrated(self, coordinates: int, cohort: Cohort) -> Calibration:
        """What keeps the promise in rounds of this cohort, and what that costs.  Arguments and errors as ``terms``."""
        bit = 1 if self.adaptive is not None else 0
        return _calibrated(self, coordinates + bit, cohort.clients, honest_contributors(cohort))

    def terms(self, coordinates: int, cohort: Cohort, *, state: ClipState | None = None) -> PrivacyTerms:
        """Calibrate: the terms of a round of this cohort.  The same arguments are calibrated once.

        Args:
            coordinates: numbers in an update, and one more where there are weights
                (``PrivateEncoder.coordinates``).  The bit of an adaptive clip is added here.
            cohort: the round's config, or one of the same cohort with another length or modulus.
            state: where an adaptive clip stands; None for the first round.

        Raises:
            InfeasibleError: no noise keeps the promise; it names what would do.
            ParameterError: a value out of range.
            ModuleNotFoundError: the extra ``privacy`` is missing.
        """
        found = self.calibrated(coordinates, cohort)
        adaptive, state = None, state or self.first_clip()
        if self.adaptive is not None and state is not None:
            adaptive = self.adaptive.rule(found.promise.noise_multiplier, cohort.clients), state
        return PrivacyTerms.of(
            found.mechanism,
            honest=found.promise.honest,
            delta=self.delta,
            rounds=self.rounds,
            adaptive=adaptive,
            levels=self.levels,
        )


@lru_cache(maxsize=64)
def _calibrated(asked: Privacy, coordinates: int, clients: int, honest: int) -> Calibration:
    """It takes about a second, and a training asks for the same in every round."""
    from secagg.privacy.calibration import calibrate

    return calibrate(
        epsilon=asked.epsilon,
        delta=asked.delta,
        rounds=asked.rounds,
        length=coordinates,
        clip=asked.clip,
        clients=clients,
        honest=honest,
        noise=asked.noise,
        bits=asked.bits,
    )
