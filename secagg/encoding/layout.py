"""What is summed in a round: the arrays' names and shapes, and how their values are encoded.

The adapters share it.  The network service sends a ``Layout`` as it stands; the Flower adapter makes one of what it
announces.  ``layout_file`` writes one as JSON, for people to agree on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg.encoding.encoder import Encoder
from secagg.encoding.exact import Exact
from secagg.encoding.layout_policy import LayoutPolicy
from secagg.encoding.named_arrays import LISTED, NamedArrays, Shapes, check_names_ascend
from secagg.encoding.settings import resolved
from secagg.encoding.sums import Mean, RoundTerms, sums_by_name
from secagg.encoding.template import Template
from secagg.errors import ParameterError


class Layout(NamedArrays, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Public, and the same for every client of a round; its digest is the config's context.

    A server sends it, so that it names every array that has a setting of its own, and no patterns: a client looks names
    up, and is never made to search.

    Attributes:
        arrays: names and shapes, in the order in which the vector has them.
        clip, bits, max_weight: of the Encoder.
        clips, array_bits: the arrays with another clip, or another number of bits, by name.
        exact: the arrays that are summed without rounding, by name: low, high, decimals.

    Raises ParameterError when names are there twice or unknown, when those of the settings do not ascend, or when an
    exact array has a clip or bits as well.
    """

    clip: float
    bits: int
    max_weight: int | None
    clips: tuple[tuple[str, float], ...]
    array_bits: tuple[tuple[str, int], ...]
    exact: tuple[tuple[str, int, int, int], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        known = {name for name, _ in self.arrays}
        exact = {name for name, *_ in self.exact}
        for what, names in (
            ("clips", [name for name, _ in self.clips]),
            ("array_bits", [name for name, _ in self.array_bits]),
            ("exact", [name for name, *_ in self.exact]),
        ):
            check_names_ascend(what, names)
            if strangers := [name for name in names if name not in known]:
                raise ParameterError(f"{what}: the layout has no array {strangers[0]!r}")
            if what != "exact" and (both := exact.intersection(names)):
                raise ParameterError(f"{what}: {min(both)!r} is an exact array, which has neither clip nor bits")

    @classmethod
    def of(
        cls,
        shapes: Shapes,
        *,
        clip: float,
        bits: int = 16,
        max_weight: int | None = None,
        clips: Mapping[str, float] | None = None,
        array_bits: Mapping[str, int] | None = None,
        exact: Mapping[str, Exact] | None = None,
    ) -> Layout:
        """The layout of files with these arrays, by ascending names.

        ``clips``, ``array_bits`` and ``exact`` are by name or by pattern, as ``Encoder`` takes them.  Raises
        ParameterError or InputError for what cannot be encoded.
        """
        names = dict.fromkeys(sorted(shapes))
        ranges = resolved("exact", names, exact or {})
        own_clips = resolved("clips", names, clips or {})
        own_bits = resolved("array_bits", names, array_bits or {})
        for name, given in ranges.items():
            if not isinstance(given, Exact):
                raise ParameterError(f"exact: {name} has {given!r}; give secagg.Exact(low, high)")
        rounded = [name for name in names if name not in ranges]
        layout = cls(
            arrays=tuple(sorted(shapes.items())),
            clip=clip,
            bits=bits,
            max_weight=max_weight,
            clips=tuple((name, own_clips[name]) for name in rounded if own_clips.get(name, clip) != clip),
            array_bits=tuple((name, own_bits[name]) for name in rounded if own_bits.get(name, bits) != bits),
            exact=tuple((name, one.low, one.high, one.decimals) for name, one in sorted(ranges.items())),
        )
        layout.encoder()
        return layout

    def encoder(self) -> Encoder:
        """An encoder of this layout that knows no dtypes: it decodes to float64.

        Raises ParameterError or InputError for a layout in which nothing can be encoded.
        """
        return self._encoder_of(self.template)

    def encoder_for(self, arrays: Mapping[str, Any]) -> Encoder:
        """An encoder for a client's own arrays.  Raises InputError, which names what differs from the round's."""
        self.check_arrays(arrays)
        return self._encoder_of(Template.of({name: arrays[name] for name, _ in self.arrays}))

    def digest(self) -> bytes:
        """32 bytes that all members of a round agree on as its context: the encoder's."""
        return self.encoder().layout_digest()

    def check_round(self, config: RoundTerms) -> None:
        """Raises ParameterError unless every vector of this layout is an input of a round with this config."""
        self.encoder().check_config(config)

    def check_policy(
        self,
        policy: LayoutPolicy,
        *,
        weighted_by: str | None = None,
        difference: bool = True,
        weight_scale: int = 1,
    ) -> None:
        """Raises PeerError(CONFIG_BELOW_POLICY) when a client with this policy refuses the layout.

        Args:
            policy: the client's.
            weighted_by, difference, weight_scale: see ``LayoutPolicy.check``.
        """
        policy.check(
            clip=None,
            bits=self.bits,
            max_weight=self.max_weight,
            clips=set(self.clip_by_name().values()),
            array_bits={bits for _, bits in self.array_bits},
            exact=set(self.exact_by_name().values()),
            weighted_by=weighted_by,
            weight_scale=weight_scale,
            difference=difference,
        )
        policy.check_parts({name: name for name, _ in self.arrays})

    def difference_to(self, other: Layout) -> str:
        """In words, how another layout differs from this one; of many differences, some."""
        if faults := self.differences(dict(other.arrays)):
            return "; ".join(faults[:LISTED])
        parts = [
            f"{what} {mine} was agreed, and it is {theirs}"
            for what, mine, theirs in (
                ("bits", self.bits, other.bits),
                ("max_weight", self.max_weight, other.max_weight),
            )
            if mine != theirs
        ]
        for what, ours, others in (
            ("clip", self.clip_by_name(), other.clip_by_name()),
            ("bits", self.bits_by_name(), other.bits_by_name()),
            ("range", self.exact_by_name(), other.exact_by_name()),
        ):
            parts += [
                f"{what} of {name} {_said(ours.get(name))} was agreed, and it is {_said(others.get(name))}"
                for name, _ in self.arrays
                if ours.get(name) != others.get(name)
            ]
        return "; ".join(parts[:LISTED]) or "their names read the same, and are not the same"

    def exact_by_name(self) -> dict[str, Exact]:
        """The range of each exact array.  Raises ParameterError for one that is none."""
        return {name: Exact(low, high, decimals) for name, low, high, decimals in self.exact}

    def clip_by_name(self) -> dict[str, float]:
        """The clip of each array that is rounded."""
        exact = {name for name, *_ in self.exact}
        return {name: self.clip for name, _ in self.arrays if name not in exact} | dict(self.clips)

    def bits_by_name(self) -> dict[str, int]:
        """The bits of each array that is rounded."""
        exact = {name for name, *_ in self.exact}
        return {name: self.bits for name, _ in self.arrays if name not in exact} | dict(self.array_bits)

    def _encoder_of(self, template: Template, unweighted: tuple[str, ...] = ()) -> Encoder:
        leaf = {name: found.name for (name, _), found in zip(self.arrays, template.leaves, strict=True)}
        return Encoder(
            template,
            clip=self.clip,
            bits=self.bits,
            max_weight=self.max_weight,
            clips={leaf[name]: clip for name, clip in self.clips},
            array_bits={leaf[name]: bits for name, bits in self.array_bits},
            exact={leaf[name]: exact for name, exact in self.exact_by_name().items()},
            unweighted=[leaf[name] for name in unweighted],
        )


class MixedLayout(Layout, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A layout of which some arrays are summed without the clients' weights.

    It is a class of its own because a ``Layout`` is sent as it stands, and its bytes are those of the wire.

    Attributes:
        unweighted: their names, ascending.

    Raises ParameterError as ``Layout`` does, and for names that are unknown or do not ascend.
    """

    unweighted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names_ascend("unweighted", self.unweighted)
        if strangers := set(self.unweighted).difference(name for name, _ in self.arrays):
            raise ParameterError(f"unweighted: the layout has no array {min(strangers)!r}")

    def _encoder_of(self, template: Template, unweighted: tuple[str, ...] = ()) -> Encoder:
        return super()._encoder_of(template, unweighted or self.unweighted)


def totals(mean: Mean, layout: Layout) -> dict[str, npt.NDArray[Any]]:
    """The (weighted) sums by array.

    Exact arrays come without any error: whole numbers in int64, or uint64 where only that holds them, and decimals as
    the float64 that is nearest to them.  All others are in float64.
    """
    leaf = layout.leaf_names()
    decimals = {leaf[name]: exact.decimals for name, exact in layout.exact_by_name().items()}
    sums = sums_by_name(mean, layout.template, decimals)
    return {name: np.asarray(values) for name, values in layout.by_name(sums).items()}


def _said(value: object) -> str:
    match value:
        case None:
            return "none"
        case Exact(low, high, decimals):
            return f"{low}..{high}:{decimals}" if decimals else f"{low}..{high}"
    return str(value)
