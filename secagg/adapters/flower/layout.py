"""What a server announces with the invitation: the model's arrays, and how updates of it become vectors.

All of it is public, and the round's context is its digest.  A client decides whether to join from the announcement
alone, before it has sent anything; what comes with the model later must be what was announced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from glob import escape
from math import prod
from typing import Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, RecordDict

from secagg.adapters.flower.records import RECORD
from secagg.encoding import Encoder, Template
from secagg.errors import ParameterError

_CONTEXT_LABEL: Final = b"secagg flower context 2\n"
_INPUT_LABEL: Final = b"secagg flower input 1\n"
_MOST_AXES: Final = 32
"""As many as NumPy 1 allows; NumPy 2 allows 64."""
_MOST_ELEMENTS: Final = 2**40
"""Of one array, its empty axes counted as 1: below what NumPy's own shapes can say."""

_WHOLE_CLIP: Final = 2.0**24
WHOLE_BITS: Final = 32
"""Bits of an array of whole numbers, and of a metric, unless the strategy says otherwise."""

_Value = TypeVar("_Value", int, float)

Described = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, dtype and shape of every array of a model, in the model's order."""


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an update becomes a vector, as the server says it.

    Attributes:
        clip, bits, max_weight: of the Encoder.
        clips, array_bits: another clip than ``clip``, and other bits than ``bits``, by array.
        metrics: the clip of each metric of training that is summed beside the arrays, by the metric's name.
        difference: whether the change of the model is summed, and not the model.
        weighted_by: the metric that is the client's weight.
        run_config: whether the round's context holds the run's config too.
    """

    clip: float
    bits: int
    max_weight: int | None
    clips: dict[str, float]
    array_bits: dict[str, int]
    metrics: dict[str, float]
    difference: bool
    weighted_by: str
    run_config: bool


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all nodes of a round are told before they join.

    Attributes:
        arrays: the model's arrays.
        model: SHA-256 of the model, bit for bit; see ``digest_of_model``.
        told: SHA-256 of what the app is told beside the model; see ``digest_of_told``.
        layout: how an update becomes a vector.
    """

    arrays: Described
    model: bytes
    told: bytes
    layout: Layout

    @classmethod
    def of(cls, model: ArrayRecord, layout: Layout, told: bytes) -> Announcement:
        """The announcement of this model."""
        return cls(described(model), digest_of_model(model), told, layout)

    def to_bytes(self) -> bytes:
        """The same bytes for the same announcement."""
        return msgspec.msgpack.encode(self, order="sorted")

    @classmethod
    def from_bytes(cls, data: bytes) -> Announcement:
        """Raises ParameterError for bytes that are none."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise ParameterError(f"the server's announcement does not decode: {wrong}") from None

    def encoder(self) -> Encoder:
        """The encoder of every client of the round, made from the announcement alone.

        Raises ParameterError or InputError for arrays, clips or metrics that cannot be encoded; they name it.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for name, _, shape in self.arrays:
            if len(shape) > _MOST_AXES or any(extent < 0 for extent in shape) or _elements(shape) > _MOST_ELEMENTS:
                raise ParameterError(f"{name} has the shape {shape}: no array that can be summed has it")
            shapes[name] = shape
        if len(shapes) != len(self.arrays):
            raise ParameterError("two arrays of the model have the same name")
        for metric in sorted(self.layout.metrics):  # bytes come in that order, whatever the dict's was
            if (name := array_of_metric(metric)) in shapes or metric == self.layout.weighted_by:
                raise ParameterError(f"metrics: {metric!r} is the weight, or {name!r} an array of the model: rename it")
            shapes[name] = ()
        for option, values in (("clips", self.layout.clips), ("array_bits", self.layout.array_bits)):
            if unknown := sorted(values.keys() - shapes.keys()):
                raise ParameterError(f"{option}: {unknown[0]!r} is no array of the model; it has {', '.join(shapes)}")
        template, layout = Template.from_shapes(shapes), self.layout
        # A leaf may be called otherwise than its array, and the encoder takes names for patterns.
        pattern_of = {str(leaf.keys[0]): escape(leaf.name) for leaf in template.leaves}
        return Encoder(
            template,
            layout.clip,
            layout.bits,
            layout.max_weight,
            clips={pattern_of[name]: clip for name, clip in self.all_clips().items()},
            array_bits={pattern_of[name]: bits for name, bits in self.layout.array_bits.items()},
        )

    def clip_of(self, array: str) -> float:
        """The largest value of an array that counts; metrics go by ``array_of_metric``."""
        return self.all_clips().get(array, self.layout.clip)

    def all_clips(self) -> dict[str, float]:
        """The clips other than ``layout.clip``, by array, with those of the metrics."""
        metrics = {array_of_metric(name): clip for name, clip in self.layout.metrics.items()}
        return {**self.layout.clips, **metrics}

    @property
    def input_digest(self) -> bytes:
        """32 bytes that name what a client would train from: the key of its memory of released inputs.

        The model alone decides.  Were clips or configs to enter, a server could have the same training summed again by
        moving one of them a hair.
        """
        return hashlib.sha256(_INPUT_LABEL + self.model).digest()


def context_of(announcement: bytes) -> bytes:
    """32 bytes that name all that is announced: the round's public context."""
    return hashlib.sha256(_CONTEXT_LABEL + announcement).digest()


def array_of_metric(name: str) -> str:
    """The name under which a metric is summed as one more array, without any axis."""
    return f"metric {name}"


def described(model: ArrayRecord) -> Described:
    """Name, dtype and shape of every array, as the record says."""
    return tuple((name, array.dtype, tuple(array.shape)) for name, array in model.items())


def digest_of_model(model: ArrayRecord) -> bytes:
    """SHA-256 over every array's name, type, shape and bytes."""
    total = hashlib.sha256()
    for name, array in model.items():
        header = json.dumps([name, array.dtype, list(array.shape), array.stype, len(array.data)], ensure_ascii=True)
        total.update(len(header).to_bytes(4, "little") + header.encode("ascii") + array.data)
    return total.digest()


def digest_of_told(content: RecordDict, message_type: str, run_config: Mapping[str, object] | None) -> bytes:
    """SHA-256 over all that an app is told in a training message beside the arrays themselves.

    A number trains another model when the learning rate beside it is another one, so that the round's context must
    hold it.  ``run_config``: None when it is not to be held.
    """
    told = [
        message_type,
        sorted(content.array_records),
        {name: dict(record) for name, record in content.config_records.items() if name != RECORD},
        {name: dict(record) for name, record in content.metric_records.items()},
        None if run_config is None else dict(run_config),
    ]
    return hashlib.sha256(msgspec.msgpack.encode(told, order="sorted")).digest()


def resolved(option: str, model: ArrayRecord, patterns: Mapping[str, _Value]) -> dict[str, _Value]:
    """The value of each array that a pattern matches; the first one counts.

    Raises ParameterError for a pattern that matches nothing.
    """
    values: dict[str, _Value] = {}
    for pattern, value in patterns.items():
        matched = [name for name in model if name == pattern or fnmatchcase(name, pattern)]
        if not matched:
            raise ParameterError(f"{option}: {pattern!r} matches no array of the model; it has {', '.join(model)}")
        for name in matched:
            values.setdefault(name, value)
    return values


def clip_of_whole_numbers(dtype: npt.DTypeLike, clip: float, *, difference: bool) -> float:
    """The clip of an array of whole numbers for which nobody chose one: the range of weights would cut off a counter.

    It is 2^24, or ``clip`` when that is larger, and no more than the type holds.  With WHOLE_BITS a step of the
    encoding is then 1/128 or less: rounding adds less than 1 to the value of a client with a weight above
    max_weight / 128.
    """
    kind = np.dtype(dtype)
    low, high = (0, 1) if kind.kind == "b" else (int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    span = float(high - low if difference else max(high, -low))
    return min(span, max(clip, _WHOLE_CLIP))


def _elements(shape: tuple[int, ...]) -> int:
    return prod(max(extent, 1) for extent in shape)
