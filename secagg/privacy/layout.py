"""What is summed in a private round: the arrays' names and shapes, and the terms on which.

It stands where ``secagg.encoding.Layout`` stands.  All arrays share one clip, that of the whole update's norm, and one
number of bits, so there is nothing to say of a single array; and nothing is summed exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, Protocol, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.layout import Layout
from secagg.encoding.layout_policy import LayoutPolicy
from secagg.encoding.named_arrays import LISTED, NamedArrays, Shapes
from secagg.encoding.sums import RoundTerms
from secagg.encoding.template import Template
from secagg.errors import ErrorCode, ParameterError, PeerError
from secagg.privacy.cohort import CohortShape
from secagg.privacy.encoder import PrivateEncoder, PrivateMean
from secagg.privacy.parameters import CANONICAL_ROUNDING_FAILURE
from secagg.privacy.terms import PrivacyTerms

_LABEL: Final = b"secagg private round layout 1\n"
_UPDATE: Final = "update"
_WITHIN: Final = "within_clip"
"""The parts of what ``ClipRule.with_bit`` makes of an update."""


class PrivateRound(RoundTerms, CohortShape, Protocol):
    """What ``check_round`` looks at in a round's config."""


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

    def mean_of(self, decoded: PrivateMean) -> dict[str, Any]:
        """The mean of each array by name, as the encoder's own template nests it."""
        return dict(decoded.mean if self.terms.adaptive is None else decoded.mean[_UPDATE])

    def bits_of(self, decoded: PrivateMean) -> float | None:
        """The noisy sum of the adaptive clip's coordinates, for ``ClipRule.next_state``; None without one."""
        return None if self.terms.adaptive is None else decoded.count * float(decoded.mean[_WITHIN])

    def digest(self) -> bytes:
        """32 bytes that all members of a round agree on as its context: encoder and terms."""
        return sha256(_LABEL + self.encoder().layout_digest() + self.terms.to_bytes()).digest()

    def check_round(self, config: PrivateRound) -> None:
        """Raises ParameterError unless a round with this config keeps the terms.

        The modulus must be exactly 2^bits, and every sum that the config lets open must have as many honest clients as
        the noise is sized for.  The numbers are the config's own, which a client has compared with its policy.
        """
        self.encoder().check_config(config)
        self.terms.check_cohort(config)

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
            epsilon_at=terms.epsilon_at,
            weighted_by=weighted_by,
            difference=difference,
        )

    def difference_to(self, other: PrivateLayout) -> str:
        """In words, how another layout differs from this one; of many differences, some."""
        if faults := self.differences(dict(other.arrays)):
            return "; ".join(faults[:LISTED])
        ours, theirs = self.terms.to_data(), other.terms.to_data()
        ours["max_weight"], theirs["max_weight"] = self.max_weight, other.max_weight
        parts = [
            f"{name} {value} was agreed, and it is {theirs[name]}"
            for name, value in ours.items()
            if value != theirs[name]
        ]
        return "; ".join(parts[:LISTED]) or "their names read the same, and are not the same"

    def _encoder_of(self, template: Template) -> PrivateEncoder:
        return PrivateEncoder(template, self.terms.round_mechanism, max_weight=self.max_weight)


AnyLayout: TypeAlias = Layout | PrivateLayout
"""What a host announces."""


def private_totals(mean: PrivateMean, layout: PrivateLayout) -> dict[str, npt.NDArray[Any]]:
    """The (weighted) sums by array, in float64, with all the noise: each mean times the weight it was divided by."""
    return {name: np.asarray(values, np.float64) * mean.weight for name, values in layout.mean_of(mean).items()}
