"""A clip that follows a quantile of the clients' norms, learnt in the same secure sum and under the same noise.

Andrew, Thakkar, McMahan and Ramaswamy 2021, "Differentially Private Learning with Adaptive Clipping".  Each client says
with one bit whether its update's norm is within the clip C.  From the noisy share b of those that are, the next clip is

    C exp(-eta (b - gamma)),

which settles where a share gamma of the norms is within it (section 2.1 of the paper).

The bit is one more coordinate of the update, behind the others: +t if the norm is within the clip, -t if not.  It is
rotated, rounded and noised with them, so its noise is distributed as theirs is, and the server sees no bit in the
clear.  The vector with the bit has a norm of at most sqrt(C^2 + t^2): to the encoder that is the clip, and what the
encoder promises holds whatever a client puts into the coordinate.

How the privacy is split (section 3.1, theorem 1).  Let z be the noise multiplier of the whole, for which the promise
was calibrated, and sigma_b the standard deviation of the noise in the count of the bits.  A bit counted from its middle
changes the count by 1/2, and so does t here: 2 t stands for one bit.  Then

    t / C = 1 / sqrt((2 sigma_b / z)^2 - 1),

and the update alone has the multiplier (z^-2 - (2 sigma_b)^-2)^(-1/2), which is a little above z: so much more noise
is the price of the bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, final

import numpy as np

from secagg.encoding.limits import LARGEST_CLIP, SMALLEST_CLIP, integer, real
from secagg.encoding.template import Template
from secagg.errors import ParameterError
from secagg.privacy.parameters import Mechanism
from secagg.privacy.scale import coarse_scale

_SHARE_OF_CLIENTS: Final = 20
"""By default, the noise in the count has the standard deviation of a 20th part of the clients (the paper's choice)."""
_LEAST_INDICATOR_NOISE: Final = 2.0
"""In noise multipliers, by default: with it, the bit costs the update 3.3% more noise."""


@final
@dataclass(frozen=True, kw_only=True)
class ClipState:
    """The clip of the next round; all of it is public.

    Attributes:
        clip: C, the norm that updates are shortened to, in their own unit.
        rounds: how many sums it was learnt from.
        within: the noisy share of the clients whose norm was within the clip, of the last sum; None before the first.
    """

    clip: float
    rounds: int = 0
    within: float | None = None

    def __post_init__(self) -> None:
        """Raises ParameterError for a clip out of range."""
        object.__setattr__(self, "clip", real("clip", self.clip, SMALLEST_CLIP, LARGEST_CLIP))
        object.__setattr__(self, "rounds", integer("rounds", self.rounds, 0, 2**62))


@final
@dataclass(frozen=True, kw_only=True)
class ClipRule:
    """How the clip follows the norms.  Everybody in a round uses the same rule; ``for_noise`` makes one.

    Attributes:
        ratio: t / C, what the bit's coordinate is to the clip.
        quantile: gamma, the share of the norms that are to be within the clip.
        learning_rate: eta.  Large values follow faster and shake more.
        lowest, highest: the clip stays within them.
    """

    ratio: float
    quantile: float = 0.5
    learning_rate: float = 0.2
    lowest: float = SMALLEST_CLIP
    highest: float = LARGEST_CLIP

    def __post_init__(self) -> None:
        """Raises ParameterError, which names the value met and the value allowed."""
        for name, low, high in (
            ("ratio", 1e-6, 1e6),
            ("quantile", 0.0, 1.0),
            ("learning_rate", 1e-6, 10.0),
            ("lowest", SMALLEST_CLIP, LARGEST_CLIP),
            ("highest", self.lowest, LARGEST_CLIP),
        ):
            object.__setattr__(self, name, real(name, getattr(self, name), low, high))

    @classmethod
    def for_noise(
        cls,
        noise_multiplier: float,
        clients: int,
        *,
        indicator_noise: float | None = None,
        quantile: float = 0.5,
        learning_rate: float = 0.2,
        lowest: float = SMALLEST_CLIP,
        highest: float = LARGEST_CLIP,
    ) -> ClipRule:
        """The rule for a mechanism that was calibrated for one coordinate more than the update has.

        Args:
            noise_multiplier: z of the whole (``Promise.noise_multiplier``).
            clients: how many clients a sum has, as a rule.
            indicator_noise: sigma_b, in clients; above z / 2.  When not given, a 20th part of the clients, or 2 z if
                that is more.
            quantile, learning_rate, lowest, highest: see the class.

        Raises ParameterError for a value out of range.
        """
        z = real("noise_multiplier", noise_multiplier, 1e-6, 1e12)
        clients = integer("clients", clients, 1, 2**32)
        if indicator_noise is None:
            indicator_noise = max(clients / _SHARE_OF_CLIENTS, _LEAST_INDICATOR_NOISE * z)
        sigma = real("indicator_noise", indicator_noise, 0.0, 1e15)
        if not 2 * sigma > z:
            raise ParameterError(
                f"indicator_noise is {sigma!r}: with a noise multiplier of {z:g} it must be above {z / 2:g}, for the "
                "bit alone would use up the privacy; allow it more noise, or leave it out"
            )
        ratio = 1 / math.sqrt((2 * sigma / z) ** 2 - 1)
        return cls(ratio=ratio, quantile=quantile, learning_rate=learning_rate, lowest=lowest, highest=highest)

    def indicator(self, norm: float, clip: float) -> float:
        """What a client puts into the last coordinate: t if its update's norm is within the clip, else -t.

        ``norm`` is that of the update before it is shortened.  One that is not a number counts as above the clip.
        """
        return self.ratio * clip if norm <= clip else -self.ratio * clip

    def with_bit(self, update: object, clip: float) -> dict[str, Any]:
        """What a client encodes: ``{"update": shortened to the clip, "within_clip": the coordinate of its bit}``.

        The encoder's template is made from the same: ``PrivateEncoder(rule.with_bit(update, clip), mechanism)``.  Its
        sum has ``count * mean["within_clip"]`` for ``next_state``.  Arrays come back in float64.  An update whose norm
        is no finite float64 is left as it is, for the encoder to shorten or to refuse.

        Raises InputError for an update that holds what cannot be encoded.
        """
        template = Template.of(update)
        arrays = [np.asarray(array, np.float64) for array in template.flatten(update)]
        with np.errstate(over="ignore"):
            norm = math.hypot(*(float(np.linalg.norm(array)) for array in arrays))
        factor = clip / norm if clip < norm < math.inf else 1.0
        shortened = [(array * factor).reshape(leaf.shape) for leaf, array in zip(template.leaves, arrays, strict=True)]
        return {"update": template.restore(shortened), "within_clip": np.float64(self.indicator(norm, clip))}

    def whole_clip(self, clip: float) -> float:
        """The norm bound of a shortened update with its last coordinate: the encoder's clip."""
        return clip * math.hypot(1.0, self.ratio)

    def mechanism_at(self, mechanism: Mechanism, clip: float) -> Mechanism:
        """The same mechanism at another clip: the same noise in steps, and steps of another size.

        In steps an update has no larger norm than before, so that each round's sum is at most what ``mechanism`` was
        accounted for (``NoisySum.of_clients``), whatever the clip: a budget is charged for ``mechanism``.
        """
        whole = self.whole_clip(clip)
        scale = Fraction(mechanism.clip) * mechanism.scale / Fraction(whole)
        return replace(mechanism, clip=whole, scale=coarse_scale(scale))

    def next_state(self, state: ClipState, indicator_sum: float, contributors: int) -> ClipState:
        """The state after a round.

        Args:
            state: of the round.
            indicator_sum: the last coordinate of the decoded sum, in the update's own unit.
            contributors: the clients in the sum.

        What noise brings outside of 0 to 1 counts as 0 or 1, so that no single round moves the clip far.  Raises
        ParameterError for a sum that is no finite number.
        """
        contributors = integer("contributors", contributors, 1, 2**32)
        if not math.isfinite(indicator_sum):
            raise ParameterError(f"indicator_sum is {indicator_sum!r}: must be a finite number")
        within = min(1.0, max(0.0, 0.5 + indicator_sum / (2 * self.ratio * state.clip * contributors)))
        clip = state.clip * math.exp(-self.learning_rate * (within - self.quantile))
        return ClipState(clip=min(self.highest, max(self.lowest, clip)), rounds=state.rounds + 1, within=within)
