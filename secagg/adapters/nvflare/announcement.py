"""What an NVFlare server announces with the invitation: the model's arrays, and how updates of it become vectors.

All of it is public, and the round's context is its digest.  A site decides whether to join from the announcement alone,
before it has sent anything; what comes with the model later must be what was announced.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias, final

import msgspec
import numpy as np
import numpy.typing as npt
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.app_common.app_constant import AppConstants

from secagg.encoding.arrays import to_array
from secagg.encoding.layout import Layout
from secagg.encoding.libraries import origin_of
from secagg.errors import InputError, ParameterError

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""A model's arrays by name, in the model's order."""

_CONTEXT_LABEL: Final = b"secagg nvflare context 1\n"
_INPUT_LABEL: Final = b"secagg nvflare input 1\n"
_HEADERS: Final = (AppConstants.START_ROUND, AppConstants.CURRENT_ROUND, AppConstants.NUM_ROUNDS)
"""What a training script is told of the job's progress."""
_TRANSPORT: Final = frozenset(value for name, value in vars(ReservedHeaderKey).items() if not name.startswith("_"))
"""The headers by which NVFlare carries a task."""
_MODEL: Final = "DXO"
"""Of a Shareable: what ``dxo_of`` reads."""


@final
class UpdateTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an update becomes a vector, as the server says it.

    Attributes:
        clip, bits, max_weight: of the Encoder.
        clips, array_bits: another clip than ``clip``, and other bits than ``bits``, by array.
        metrics: the clip of each metric of training that is summed beside the arrays, by the metric's name.
        difference: whether the change of the model is summed, and not the model.
        weighted_by: the number beside the arrays that is the site's weight.
    """

    clip: float
    bits: int
    max_weight: int | None
    clips: dict[str, float]
    array_bits: dict[str, int]
    metrics: dict[str, float]
    difference: bool
    weighted_by: str


@final
class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all sites of a round are told before they join; see ``digest_of_model`` and ``digest_of_told``.

    Attributes:
        arrays: name, dtype and shape of every array of the model, in its order.
        model: SHA-256 of the model.
        told: SHA-256 of what the training script is told beside the model.
        terms: how an update becomes a vector.
    """

    arrays: tuple[tuple[str, str, tuple[int, ...]], ...]
    model: bytes
    told: bytes
    terms: UpdateTerms

    @classmethod
    def of(cls, model: Arrays, terms: UpdateTerms, told: bytes) -> Announcement:
        """The announcement of this model."""
        arrays = tuple((name, values.dtype.name, values.shape) for name, values in model.items())
        return cls(arrays, digest_of_model(model), told, terms)

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

    @property
    def layout(self) -> Layout:
        """What is summed: the model's arrays in its order, then the metrics.

        Raises ParameterError for names that are there twice or unknown, which are named.
        """
        terms, arrays = self.terms, {name for name, *_ in self.arrays}
        clips = dict(terms.clips)
        for metric, clip in terms.metrics.items():
            if (name := array_of_metric(metric)) in arrays or metric == terms.weighted_by:
                raise ParameterError(f"metrics: {metric!r} is the weight, or {name!r} an array of the model: rename it")
            clips[name] = clip
        return Layout(
            arrays=(
                *((name, shape) for name, _, shape in self.arrays),
                *((array_of_metric(metric), ()) for metric in sorted(terms.metrics)),
            ),
            clip=terms.clip,
            bits=terms.bits,
            max_weight=terms.max_weight,
            clips=tuple(sorted(clips.items())),
            array_bits=tuple(sorted(terms.array_bits.items())),
            exact=(),
        )

    @property
    def input_digest(self) -> bytes:
        """32 bytes that name what a site would train from: the key of its memory of released inputs.

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


def arrays_of(params: object) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an FLModel's params, in their order; numbers become arrays without any axis.

    PyTorch tensors are read as ``Encoder`` reads them: those on the CPU, without a copy where their type is NumPy's.
    Raises InputError for what holds something else, which it names.
    """
    if not isinstance(params, Mapping) or not params:
        raise InputError(f"the model's params are {_said(params)}: they must be arrays by name")
    arrays: dict[str, npt.NDArray[Any]] = {}
    for name, value in params.items():
        is_array = isinstance(value, np.ndarray | np.generic | float | int) or origin_of(value) is not None
        if not isinstance(name, str) or not is_array:
            raise InputError(
                f"the model's param {name!r} is {_said(value)}: only NumPy arrays and PyTorch tensors can be summed; "
                "in a recipe, give server_expected_format=ExchangeFormat.NUMPY, which is its default"
            )
        arrays[name] = np.asarray(value) if origin_of(value) is None else to_array(value, f"the model's param {name!r}")
    return arrays


def digest_of_model(model: Arrays) -> bytes:
    """SHA-256 over every array's name, type, shape and values, in C order."""
    total = hashlib.sha256()
    for name, values in model.items():
        header = json.dumps([name, values.dtype.str, list(values.shape)], ensure_ascii=True)
        total.update(len(header).to_bytes(4, "little") + header.encode("ascii") + values.tobytes())
    return total.digest()


def digest_of_told(task: Shareable, name: str) -> bytes:
    """SHA-256 over all that a training script is told in a task beside the arrays themselves.

    A number trains another model when the configs beside it are others, so that the round's context must hold them.
    Raises InputError for what is neither a number nor a text, nor a list or a mapping of such.
    """
    dxo = dxo_of(task)
    told = [name, [task.get_header(key) for key in _HEADERS], dxo.data_kind, dxo.meta]
    try:
        return hashlib.sha256(msgspec.msgpack.encode(told, order="sorted", enc_hook=_plain)).digest()
    except (TypeError, ValueError, OverflowError, RecursionError) as wrong:
        raise InputError(f"what the server tells beside the model has no digest: {wrong}") from None


def drop_what_has_no_digest(task: Shareable) -> None:
    """Take out of a task whatever ``digest_of_told`` does not hold, but for what NVFlare carries it by.

    Were it to reach the training script, a server could tell one site something else than all others: a script that
    trains at one site alone leaves that site's update for the sum.
    """
    for key in task.keys() - {ReservedHeaderKey.HEADERS, _MODEL}:
        del task[key]
    headers = task.get(ReservedHeaderKey.HEADERS, {})
    for key in headers.keys() - _TRANSPORT - set(_HEADERS):
        del headers[key]


def dxo_of(shareable: Shareable) -> DXO:
    """The data of a Shareable.  Raises InputError for one that holds no weights and no change of weights."""
    try:
        dxo = from_shareable(shareable)
    except (ValueError, TypeError, KeyError, AssertionError) as wrong:
        raise InputError(f"a message that holds no model: {wrong}") from None
    if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
        raise InputError(f"a message with data of the kind {dxo.data_kind!r}: it must be weights, or their change")
    return dxo


def _plain(value: object) -> object:
    """A number of NumPy's as Python's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is neither a number nor a text")


def _said(value: object) -> str:
    return "none" if value is None else f"a {type(value).__name__}"
