"""What is summed in a private round: the arrays' names and shapes, and the terms on which.

It stands where ``secagg.encoding.Layout`` stands.  All arrays share one clip, that of the whole update's norm, and one
number of bits, so there is nothing to say of a single array; and nothing is summed exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from typing import Any, Final, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.layout import Layout, totals
from secagg.encoding.layout_policy import LayoutPolicy
from secagg.encoding.named_arrays import LISTED, NamedArrays, Shapes
from secagg.encoding.sums import Mean, RoundTerms
from secagg.encoding.template import Template
from secagg.errors import ErrorCode, ParameterError, PeerError
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.parameters import CANONICAL_ROUNDING_FAILURE
from secagg.privacy.private_mean import PrivateMean
from secagg.privacy.terms import PrivacyTerms
from secagg.wording import counted

_LABEL: Final = b"secagg private round layout 1\n"
_NEARLY: Final = 1.0005
"""How far above the clip a norm is as good as within it, to three digits."""
_UPDATE: Final = "update"
_WITHIN: Final = "within_clip"
"""The parts of what ``ClipRule.with_bit`` makes of an update."""


@final
class PrivateLayout(NamedArrays, frozen=True, array_like=True, forbid_unknown_fields=True, tag="private"):
    """Public, and the same for every client of a round; its digest is the config's context.

    Attributes:
        arrays: names and shapes, in the order in which the vector has them.
        max_weight: of the PrivateEncoder; None for a plain mean.
        terms: what the round promises.

    Raises ParameterError when a name is there twice, or for weights beside an adaptive clip: a bit that is multiplied
    by a weight is no count of clients.
    """

    max_weight: int | None
    terms: PrivacyTerms

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_weight is not None and self.terms.adaptive is not None:
            raise ParameterError(
                f"max_weight is {self.max_weight!r}, and the clip is adaptive: how many norms are within the clip "
                "cannot be counted in a weighted sum; leave the weights out, or the adaptive clip"
            )

    @classmethod
    def of(cls, shapes: Shapes, terms: PrivacyTerms, *, max_weight: int | None = None) -> PrivateLayout:
        """The layout of files with these arrays, by ascending names.

        Raises ParameterError or InputError for what cannot be encoded, and for terms of another number of coordinates.
        """
        layout = cls(arrays=tuple(sorted(shapes.items())), max_weight=max_weight, terms=terms)
        layout.encoder()
        return layout

    @property
    def template(self) -> Template:
        """What the encoder takes; with an adaptive clip, the update and behind it the coordinate of its bit."""
        plain = super().template
        if self.terms.adaptive is None:
            return plain
        return Template.from_shapes({_UPDATE: dict(self.arrays), _WITHIN: ()})

    def encoder(self) -> PrivateEncoder:
        """An encoder of this layout that knows no dtypes: it decodes to float64.

        Raises ParameterError or InputError for a layout in which nothing can be encoded.
        """
        return self._encoder_of(self.template)

    def encoder_for(self, arrays: Mapping[str, Any]) -> PrivateEncoder:
        """An encoder for a client's own arrays.  Raises InputError, which names what differs from the round's."""
        self.check_arrays(arrays)
        own = {name: arrays[name] for name, _ in self.arrays}
        adaptive = self.terms.adaptive is not None
        return self._encoder_of(Template.of({_UPDATE: own, _WITHIN: np.float64(0)} if adaptive else own))

    def prepared(self, arrays: Mapping[str, Any]) -> object:
        """What the encoder takes of a client's arrays; with an adaptive clip, they are shortened and get their bit."""
        adaptive, own = self.terms.adaptive, dict(arrays)
        return own if adaptive is None else adaptive.rule.with_bit(own, adaptive.clip)

    def shortening(self, arrays: Mapping[str, Any]) -> float:
        """What a client's update is multiplied by to fit the clip, to three digits; 1.0 for one that fits.

        For the client's own operator: it tells of the data.
        """
        clip = self.terms.update_clip if self.terms.adaptive is not None else self.encoder().clip
        with np.errstate(over="ignore"):
            norm = math.hypot(*(float(np.linalg.norm(np.asarray(arrays[name], np.float64))) for name, _ in self.arrays))
        return 1.0 if norm <= clip * _NEARLY else clip / norm

    def mean_of(self, decoded: PrivateMean) -> dict[str, Any]:
        """The mean of each array by name, as the encoder's own template nests it."""
        return dict(decoded.mean if self.terms.adaptive is None else decoded.mean[_UPDATE])

    def bits_of(self, decoded: PrivateMean) -> float | None:
        """The noisy sum of the adaptive clip's coordinates, for ``ClipRule.next_state``; None without one."""
        return None if self.terms.adaptive is None else decoded.count * float(decoded.mean[_WITHIN])

    def digest(self) -> bytes:
        """32 bytes that all members of a round agree on as its context: encoder and terms."""
        return sha256(_LABEL + self.encoder().layout_digest() + self.terms.to_bytes()).digest()

    def check_round(self, config: RoundTerms) -> None:
        """Raises ParameterError unless a round with this config keeps the terms.

        The modulus must be exactly 2^bits, the attachments those that the levels ask for, and every sum that the config
        lets open must have as many honest clients as the noise is sized for.  The numbers are the config's own, which a
        client has compared with its policy.  One colluder or more must be among them: every member sees what becomes of
        the sum, and knows the noise that it put into it.
        """
        if config.groups != 1:
            raise ParameterError(
                f"the config has {counted(config.groups, 'group')}, each with a sum of its own, and the noise is sized "
                "for one sum over everybody: leave groups out of a private round"
            )
        self.encoder().for_round(config)
        self.terms.check_cohort(config)
        if config.colluders < 1:
            raise ParameterError(
                "colluders is 0: a private round must count on 1 or more, since every member sees the result and can "
                "take its own noise off; raise gamma"
            )

    def check_policy(self, policy: LayoutPolicy, *, weighted_by: str | None = None, difference: bool = True) -> None:
        """Raises PeerError(CONFIG_BELOW_POLICY) when a client with this policy refuses the layout.

        Whatever the policy is, ``rounding_failure`` must be 0 to exp(-1/2): with more, how often a rounding has to be
        taken again, and so how long an encoding takes, would depend on the update.

        Args:
            policy: the client's.
            weighted_by, difference: see ``LayoutPolicy.check``.
        """
        terms = self.terms
        if terms.rounding_failure > CANONICAL_ROUNDING_FAILURE:
            raise PeerError(
                ErrorCode.CONFIG_BELOW_POLICY,
                f"the server's layout has rounding_failure {terms.rounding_failure!r}; clients allow 0 to exp(-1/2)",
            )
        policy.check_private(
            clip=terms.update_clip,
            bits=terms.bits,
            max_weight=self.max_weight,
            noise_multiplier=terms.least_noise_multiplier,
            levels=terms.levels,
            epsilon_at=terms.epsilon_at,
            weighted_by=weighted_by,
            difference=difference,
        )
        policy.check_parts({name: name for name, _ in self.arrays})

    def difference_to(self, other: PrivateLayout) -> str:
        """In words, how another layout differs from this one; of many differences, some."""
        if faults := self.differences(dict(other.arrays)):
            return "; ".join(faults[:LISTED])
        ours, theirs = (
            one.terms.to_data() | {"levels": one.terms.levels, "max_weight": one.max_weight} for one in (self, other)
        )
        parts = [
            f"{name} {value} was agreed, and it is {theirs[name]}"
            for name, value in ours.items()
            if value != theirs[name]
        ]
        return "; ".join(parts[:LISTED]) or "their names read the same, and are not the same"

    def _encoder_of(self, template: Template) -> PrivateEncoder:
        terms = self.terms
        return PrivateEncoder(template, terms.round_mechanism, max_weight=self.max_weight, levels=terms.levels)


AnyLayout: TypeAlias = Layout | PrivateLayout
"""What a host announces."""


def check_can_judge(policy: LayoutPolicy) -> None:
    """Raises ModuleNotFoundError for a policy with an epsilon where the extra ``privacy`` is missing.

    A host asks when it starts, so that nothing is missing in the middle of a round.
    """
    if policy.max_epsilon is not None:
        import_module("secagg.privacy.accounting")


def agreed_difference(agreed: AnyLayout, met: AnyLayout) -> str:
    """In words, how the layout of a round differs from the one that was agreed."""
    match agreed, met:
        case Layout(), Layout():
            return agreed.difference_to(met)
        case PrivateLayout(), PrivateLayout():
            return agreed.difference_to(met)
        case PrivateLayout(), Layout():
            return "a private round was agreed, and it has no noise"
    return "a round without noise was agreed, and it is private"


@final
@dataclass(frozen=True, slots=True)
class PlainSum:
    """A layout without noise, and a mean that was decoded by it."""

    layout: Layout
    mean: Mean

    def by_array(self) -> dict[str, npt.NDArray[Any]]:
        """The (weighted) sums; see ``secagg.encoding.layout.totals``."""
        return totals(self.mean, self.layout)


@final
@dataclass(frozen=True, slots=True)
class PrivateSum:
    """A private layout, and a mean that was decoded by it."""

    layout: PrivateLayout
    mean: PrivateMean

    def by_array(self) -> dict[str, npt.NDArray[Any]]:
        """The (weighted) sums in float64, with all the noise: each mean times the weight that it was divided by."""
        means = self.layout.mean_of(self.mean)
        return {name: np.asarray(values, np.float64) * self.mean.weight for name, values in means.items()}


def with_its_layout(layout: AnyLayout, mean: Mean | PrivateMean) -> PlainSum | PrivateSum:
    """What was decoded, with what says how to read it.  Raises TypeError for a mean of another kind of layout."""
    if isinstance(layout, PrivateLayout) and isinstance(mean, PrivateMean):
        return PrivateSum(layout, mean)
    if isinstance(layout, Layout) and isinstance(mean, Mean):
        return PlainSum(layout, mean)
    raise TypeError(f"a {type(mean).__name__} of a {type(layout).__name__}")
