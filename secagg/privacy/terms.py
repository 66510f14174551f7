"""What a private round promises, as plain numbers: the one form of it that all hosts send, store and hash.

A server calibrates once and announces the terms before anybody joins.  Everything that a client needs in order to judge
them is in there: what each client does to its update, for how many honest clients the noise was sized, and for how many
rounds.  None of it is an epsilon: each side works that out by its own library.

The terms are part of the layout that a host announces, and the layout's digest is the round's context, so that all
members of a round have the same terms or none of the round's keys fit.

This module imports no accountant.  ``promise`` does, and needs the extra ``privacy``.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Final, Literal, final

import msgspec

from secagg.encoding.limits import integer, real
from secagg.encoding.sums import CohortShape
from secagg.errors import ParameterError
from secagg.privacy.adaptive_clipping import ClipRule, ClipState
from secagg.privacy.cohort import (
    MOST_HONEST,
    SMALLEST_RATE,
    Cohort,
    check_delta,
    check_rounds,
    honest_contributors,
)
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import Mechanism, as_noise
from secagg.privacy.removal import ATTACHMENT_BYTES, check_levels, noise_left

if TYPE_CHECKING:
    from secagg.privacy.calibration import Promise
    from secagg.privacy.report import PrivacyReport

_MOST_SCALE_BITS: Final = 53
_LARGEST_EXPONENT: Final = 2000
"""Far beyond what the ranges of clip and steps allow, and so small that the number itself is cheap to write out."""
_FEWEST_STEPS: Final = 2.0**-20
"""In a clip.  Whatever is rounded to coarser steps is zero, and some float would end in a division by zero."""


@final
class ClipTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An adaptive clip: where it stands in this round, and the rule by which it moves; see ``ClipRule``.

    Attributes:
        clip: C, the norm that an update is shortened to in this round.
        ratio, quantile, learning_rate, lowest, highest: of the rule.

    Raises ParameterError for what is out of range.
    """

    clip: float
    ratio: float
    quantile: float
    learning_rate: float
    lowest: float
    highest: float

    def __post_init__(self) -> None:
        _ = self.rule
        state = ClipState(clip=self.clip)
        if not self.lowest <= state.clip <= self.highest:
            raise ParameterError(
                f"the adaptive clip is {self.clip!r}: its rule keeps it from {self.lowest!r} to {self.highest!r}"
            )

    @classmethod
    def of(cls, rule: ClipRule, state: ClipState) -> ClipTerms:
        """The terms of the round whose clip is the state's."""
        return cls(
            clip=state.clip,
            ratio=rule.ratio,
            quantile=rule.quantile,
            learning_rate=rule.learning_rate,
            lowest=rule.lowest,
            highest=rule.highest,
        )

    @property
    def rule(self) -> ClipRule:
        """How the clip follows the norms."""
        return ClipRule(
            ratio=self.ratio,
            quantile=self.quantile,
            learning_rate=self.learning_rate,
            lowest=self.lowest,
            highest=self.highest,
        )


@final
class PrivacyTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The terms of a private round; ``of`` makes them, and ``to_data`` and ``msgspec`` take them apart.

    Attributes:
        noise, clip, bits, rounding_failure, variance, length: of the calibrated ``Mechanism``.
        scale: of the mechanism as (n, e), which stands for n 2^e, with n odd.
        honest: the fewest honest clients in each sum, as the server says.  A client compares it with what it works out
            itself of the round's config (``check_cohort``).
        delta: the probability with which the promise may fail, over all rounds.
        rounds: how many sums one client may be in.
        sampling_rate: see ``NoisySum``; it hides nobody from the server.
        adaptive: the adaptive clip; None for the mechanism's own in every round.
        levels: how finely the noise is fitted to the clients that are lost, see ``secagg.privacy.removal``; 0 for not
            at all.  (It is left out of the bytes where it is 0, so that those are what they were before there was any.)

    Raises ParameterError, which names the value met and the value allowed.
    """

    noise: Literal["skellam", "discrete-gaussian"]
    clip: float
    scale: tuple[int, int]
    bits: int
    rounding_failure: float
    variance: int
    length: int
    honest: int
    delta: float
    rounds: int
    sampling_rate: float
    adaptive: ClipTerms | None
    levels: int = 0

    def __post_init__(self) -> None:
        odd, exponent = self.scale
        if not (0 < odd < 2**_MOST_SCALE_BITS and odd % 2) or abs(exponent) > _LARGEST_EXPONENT:
            raise ParameterError(
                f"scale is {self.scale!r}: must be an odd number below 2^{_MOST_SCALE_BITS} and an exponent of 2 from "
                f"-{_LARGEST_EXPONENT} to {_LARGEST_EXPONENT}"
            )
        check_delta(self.delta)
        check_rounds(self.rounds)
        real("sampling_rate", self.sampling_rate, SMALLEST_RATE, 1.0)
        check_levels(self.levels, self.noise)
        mechanism = self.mechanism
        if Fraction(mechanism.clip) * mechanism.scale < _FEWEST_STEPS:
            raise ParameterError(f"scale is {self.scale!r}: a clip of {self.clip!r} must have at least 2^-20 steps")
        _ = self.sum, self.round_mechanism  # check the others

    @classmethod
    def of(
        cls,
        mechanism: Mechanism,
        *,
        honest: int,
        delta: float,
        rounds: int = 1,
        sampling_rate: float = 1.0,
        adaptive: tuple[ClipRule, ClipState] | None = None,
        levels: int = 0,
    ) -> PrivacyTerms:
        """The terms of a round with a calibrated mechanism.

        Raises ParameterError for a value out of range, and for a scale of more than 53 significant bits.
        """
        odd, exponent = _odd_and_exponent(Fraction(mechanism.scale))
        return cls(
            noise=mechanism.noise.value,
            clip=mechanism.clip,
            scale=(odd, exponent),
            bits=mechanism.bits,
            rounding_failure=mechanism.rounding_failure,
            variance=mechanism.variance,
            length=mechanism.length,
            honest=integer("honest", honest, 1, MOST_HONEST),
            delta=check_delta(delta),
            rounds=check_rounds(rounds),
            sampling_rate=real("sampling_rate", sampling_rate, SMALLEST_RATE, 1.0),
            adaptive=None if adaptive is None else ClipTerms.of(*adaptive),
            levels=check_levels(levels, mechanism.noise),
        )

    # As plain data.

    def to_data(self) -> dict[str, object]:
        """Dicts, tuples, strings, numbers and None, for JSON: the same for the same terms."""
        data: dict[str, object] = msgspec.to_builtins(self)
        return data

    @classmethod
    def from_data(cls, data: object) -> PrivacyTerms:
        """The terms that ``to_data`` gave.  Raises ParameterError for anything else."""
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError as wrong:
            raise ParameterError(f"these are no terms of a private round: {wrong}") from None

    def to_bytes(self) -> bytes:
        """Canonical MessagePack: the same bytes for the same terms, and no others for them."""
        return msgspec.msgpack.encode(self)

    # What they say.

    @property
    def mechanism(self) -> Mechanism:
        """The calibrated mechanism, which a budget is charged for in every round, whatever the clip of the round."""
        return Mechanism(
            noise=as_noise(self.noise),
            clip=self.clip,
            scale=self.scale[0] * Fraction(2) ** self.scale[1],
            bits=self.bits,
            rounding_failure=self.rounding_failure,
            variance=self.variance,
            length=self.length,
        )

    @property
    def round_mechanism(self) -> Mechanism:
        """What each client does in this round: with an adaptive clip, the same noise in steps of another size."""
        if self.adaptive is None:
            return self.mechanism
        return self.adaptive.rule.mechanism_at(self.mechanism, self.adaptive.clip)

    @property
    def update_clip(self) -> float:
        """The norm that an update is shortened to in this round, before a weight takes its part of it."""
        return self.clip if self.adaptive is None else self.adaptive.clip

    @property
    def attachment_bytes(self) -> int:
        """What a round's config must have as ``attachment_bytes``: room for the key of removable noise."""
        return ATTACHMENT_BYTES if self.levels else 0

    @property
    def sum(self) -> NoisySum:
        """One round's sum as those see it who do not know who took part: what a server's budget is charged.

        With levels, this is the noise that is left at the least, however many clients are lost (DP-LEVEL-2).
        """
        return NoisySum.of_clients(self.mechanism, self.honest, sampling_rate=self.sampling_rate)

    @property
    def sum_to_server(self) -> NoisySum:
        """One round's sum as the server sees it, from whom sampling hides nobody: what a client's budget is charged."""
        return NoisySum.of_clients(self.mechanism, self.honest)

    @property
    def noise_multiplier(self) -> float:
        """z: the noise that nobody can take off the sum over the clip, both as norms; needs no accountant."""
        return math.sqrt(self.honest * self.variance) / float(self.mechanism.scale * Fraction(self.clip))

    @property
    def least_noise_multiplier(self) -> float:
        """The same noise over the largest norm of a rounded update: what a client judges by; needs no accountant.

        The rounding adds to the norm of an update: by less than 1% in terms that were calibrated.  Where the steps are
        coarse it adds most of the norm, and the noise has to hide that too.
        """
        shown = self.sum_to_server
        return math.sqrt(shown.honest * shown.variance / shown.squared_l2)

    def promise(self) -> Promise:
        """The promise of the calibrated mechanism.  Raises ModuleNotFoundError without the extra ``privacy``."""
        return self._promise(self.mechanism)

    def round_promise(self) -> Promise:
        """The same with this round's mechanism, whose ``sigma`` is in this round's unit."""
        return self._promise(self.round_mechanism)

    def epsilon_at(self, delta: float) -> float:
        """The epsilon to the server over all ``rounds``, at a delta of the caller's own: what a client judges by.

        Raises ModuleNotFoundError without the extra ``privacy``.
        """
        from secagg.privacy import accounting

        return accounting.epsilon([(self.sum_to_server, self.rounds)], delta)

    def report(self, config: Cohort, included: int, wrapped_share: float | None = None) -> PrivacyReport:
        """What a round promised and reached, with so many clients in the sum; see ``report_of``.

        Raises ModuleNotFoundError without the extra ``privacy``.
        """
        from secagg.privacy.report import report_of

        return report_of(
            self.round_promise(),
            contributors=included,
            colluders=config.colluders,
            remaining=noise_left(self.round_mechanism, config, self.levels, included),
            wrapped_share=wrapped_share,
        )

    def check_cohort(self, config: CohortShape) -> None:
        """Raises ParameterError when a sum of this round may have fewer honest clients than the terms count on."""
        honest = honest_contributors(config)
        if self.honest > honest:
            raise ParameterError(
                f"the noise is sized for {self.honest} honest clients, and a sum of this round may have as few as "
                f"{honest}: max(min_survivors = {config.min_survivors}, quorum = {config.quorum}) - colluders = "
                f"{config.colluders}; calibrate for {honest} or fewer"
            )

    def _promise(self, mechanism: Mechanism) -> Promise:
        from secagg.privacy.calibration import Promise

        return Promise(
            mechanism=mechanism,
            honest=self.honest,
            delta=self.delta,
            rounds=self.rounds,
            sampling_rate=self.sampling_rate,
        )


def _odd_and_exponent(scale: Fraction) -> tuple[int, int]:
    """The one pair (n, e) with n odd and n 2^e = scale.  Raises ParameterError for an n that is too long."""
    twos = (scale.numerator & -scale.numerator).bit_length() - 1
    odd = scale.numerator >> twos
    if odd >= 2**_MOST_SCALE_BITS:
        raise ParameterError(
            f"scale has {odd.bit_length()} significant bits: must have at most {_MOST_SCALE_BITS}; take one that "
            "calibrate found"
        )
    return odd, twos - (scale.denominator.bit_length() - 1)
