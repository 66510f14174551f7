"""What a server announces with the invitation: the model's arrays, and how updates of it become vectors.

All of it is public, and the round's context is its digest.  A client decides whether to join from the announcement
alone, before it has sent anything; what comes with the model later must be what was announced.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Final

import msgspec
from flwr.app import ArrayRecord, RecordDict

from secagg.adapters.flower.array_values import is_float
from secagg.adapters.flower.class_weights import ClassTerms, check_class_terms, class_arrays
from secagg.adapters.flower.extra_arrays import ExtraArray, array_of_metric
from secagg.adapters.flower.metric_sums import EVALUATED, MeanBy, Sum, check_weights, metric_arrays
from secagg.adapters.flower.model_records import RecordSizes, bare_names, flat_name
from secagg.adapters.flower.records import RECORD
from secagg.adapters.model_arrays import WHOLE_BITS
from secagg.encoding.layout import MixedLayout
from secagg.encoding.layout_policy import LayoutPolicy
from secagg.errors import ParameterError
from secagg.privacy.layout import AnyLayout, PrivateLayout
from secagg.privacy.terms import PrivacyTerms
from secagg.wording import counted

_CONTEXT_LABEL: Final = b"secagg flower context 2\n"
_INPUT_LABEL: Final = b"secagg flower input 1\n"

Described = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, dtype and shape of every array of a model, in the model's order."""


class UpdateTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How an update becomes a vector, as the server says it.

    Attributes:
        clip, bits, max_weight: of the Encoder; a weight counts in steps.
        clips, array_bits: another clip than ``clip``, and other bits than ``bits``, by array.
        metrics: the clip of each metric that is summed beside the arrays, weighted as they are, by the metric's name.
        difference: whether the change of the model is summed, and not the model.
        weighted_by: the metric that is the client's weight.
        run_config: whether the round's context holds the run's config too.
        left_out: the arrays of the model that are not summed and stay as each side has them, where the server asks for
            parts of a model; whatever else an app answers with is then dropped.  None where all arrays are summed.
        weight_scale: how many steps a weight of 1 has.
        sums, means_by: the metrics that are summed whatever the weight, and those with a weight of their own, by name.
        class_weights: the arrays whose rows are weighed by class, by the metric that weighs.
        privacy: what a private round promises; None without noise.  ``clip`` is then the norm that a whole update is
            shortened to, ``bits`` are those of the modulus, and nothing is said of single arrays or of metrics.  (It is
            left out of the bytes where it is None, so that those are what they were before there was any.)
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
    privacy: PrivacyTerms | None = None
    left_out: tuple[str, ...] | None = None
    weight_scale: int = 1
    sums: dict[str, Sum] = {}
    means_by: dict[str, MeanBy] = {}
    class_weights: dict[str, ClassTerms] = {}

    @property
    def largest_weight(self) -> float | None:
        """The largest weight, as an app reports it; None where there are no weights."""
        return None if self.max_weight is None else self.max_weight / self.weight_scale

    @property
    def metric_names(self) -> set[str]:
        """Every metric that is looked up in what an app reports, but for the weight."""
        weights = {one.by for one in self.means_by.values()}
        return {*self.metrics, *self.sums, *self.means_by, *weights, *self.class_weights}


class Announcement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all nodes of a round are told before they join.

    Attributes:
        arrays: the model's arrays; of several records, with their records' names before them (``model_records``).
        model: SHA-256 of the model, bit for bit; see ``digest_of_model``.
        told: SHA-256 of what the app is told beside the model; see ``digest_of_told``.
        terms: how an update becomes a vector.
        records: the message's array records, where there are several.  (It is left out of the bytes where it is empty,
            so that those are what they were before there were any.)
    """

    arrays: Described
    model: bytes
    told: bytes
    terms: UpdateTerms = msgspec.field(name="layout")
    records: RecordSizes = ()

    @classmethod
    def of(cls, model: ArrayRecord, terms: UpdateTerms, told: bytes, records: RecordSizes = ()) -> Announcement:
        """The announcement of this model, of several records where ``records`` says so."""
        return cls(described(model), digest_of_model(model), told, terms, records)

    def to_bytes(self) -> bytes:
        """The same bytes for the same announcement."""
        return msgspec.msgpack.encode(self, order="sorted")

    @classmethod
    def from_bytes(cls, data: bytes) -> Announcement:
        """Raises ParameterError for bytes that are none."""
        try:
            announced = msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise ParameterError(f"the server's announcement does not decode: {wrong}") from None
        announced.check_records()
        if strangers := set(announced.terms.left_out or ()).difference(name for name, *_ in announced.arrays):
            raise ParameterError(f"the announcement leaves out {min(strangers)!r}, and the model has no such array")
        return announced

    def check_records(self) -> None:
        """Raises ParameterError unless the records hold the announced arrays, each of them once."""
        total = sum(count for _, count in self.records)
        if self.records and (total != len(self.arrays) or min(count for _, count in self.records) < 0):
            raise ParameterError(f"{counted(len(self.arrays), 'array')} announced, and {total} in the records")
        owners = (record for record, count in self.records for _ in range(count))
        for (name, *_), record in zip(self.arrays, owners, strict=False):
            if not name.startswith(flat_name(record, "")):
                raise ParameterError(f"{name!r} is announced as of the record {record!r}, and its name says otherwise")

    @property
    def layout(self) -> AnyLayout:
        """What is summed: the model's arrays in its order, then the metrics; in a private round, its arrays of floats.

        Raises ParameterError for names that are there twice or unknown, which are named, and for a private round that
        says something of single arrays or of metrics.
        """
        terms = self.terms
        if terms.privacy is not None:
            names = set(self.summed)
            return _private_layout(tuple(one for one in self.arrays if one[0] in names), terms, terms.privacy)
        times_by_name = Counter(name for name, *_ in self.arrays)
        if twice := [name for name, times in times_by_name.items() if times > 1]:
            raise ParameterError(f"the model is announced with the array {twice[0]!r} twice")
        unsummed = set(self.unsummed())
        shapes = [(name, shape) for name, _, shape in self.arrays if name not in unsummed]
        check_weights(terms.means_by)
        check_class_terms(terms.class_weights, dict(shapes))
        extra = [*metric_arrays(terms.sums, terms.means_by), *class_arrays(terms.class_weights)]
        self._check_names(extra)
        # Bytes come in the order of names, whatever a dict's was.
        weighed_metrics = {array_of_metric(metric): clip for metric, clip in sorted(terms.metrics.items())}
        rounded = {one.name: one.clip for one in extra if one.clip is not None}
        exact = {one.name: one.exact for one in extra if one.exact is not None}
        by_class = {name for one in terms.class_weights.values() for name in one.arrays}
        return MixedLayout(
            arrays=(
                *shapes,
                *((name, ()) for name in weighed_metrics),
                *((one.name, one.shape) for one in extra),
            ),
            clip=terms.clip,
            bits=terms.bits,
            max_weight=terms.max_weight,
            clips=tuple(sorted((terms.clips | weighed_metrics | rounded).items())),
            array_bits=tuple(sorted((terms.array_bits | dict.fromkeys(rounded, WHOLE_BITS)).items())),
            exact=tuple((name, one.low, one.high, one.decimals) for name, one in sorted(exact.items())),
            unweighted=tuple(sorted({one.name for one in extra} | by_class)),
        )

    def _check_names(self, extra: list[ExtraArray]) -> None:
        """Raises ParameterError for a metric that is asked for twice or is the weight, and a name that an array has."""
        terms = self.terms
        asked = [*terms.metrics, *terms.sums, *terms.means_by]
        arrays = [array_of_metric(metric) for metric in terms.metrics] + [one.name for one in extra]
        known = {name for name, *_ in self.arrays}
        for metric in asked:
            if metric == terms.weighted_by or array_of_metric(metric) in known or asked.count(metric) > 1:
                raise ParameterError(
                    f"metrics: {metric!r} is the weight, or asked for twice, or {array_of_metric(metric)!r} an array "
                    "of the model: rename it"
                )
        if clash := [name for name in arrays if name in known or arrays.count(name) > 1]:
            raise ParameterError(f"metrics: {clash[0]!r} is there twice, or an array of the model: rename it")

    def clip_of(self, array: str) -> float:
        """The largest value of an array that counts; metrics go by ``array_of_metric``."""
        terms = self.terms
        metrics = {array_of_metric(name): clip for name, clip in terms.metrics.items()}
        extra = [*metric_arrays(terms.sums, terms.means_by), *class_arrays(terms.class_weights)]
        metrics |= {one.name: one.reach for one in extra}
        return {**self.terms.clips, **metrics}.get(array, self.terms.clip)

    def unsummed(self) -> tuple[str, ...]:
        """The arrays that stay as the server has them: those that it leaves out, and in a private round whole numbers.

        A counter that rises by a thousand would be nearly all of an update's norm, and leave little of the weights.
        """
        left_out, private = set(self.terms.left_out or ()), self.terms.privacy is not None
        return tuple(name for name, dtype, _ in self.arrays if name in left_out or (private and not is_float(dtype)))

    @property
    def summed(self) -> tuple[str, ...]:
        """The arrays that are summed, in the model's order."""
        unsummed = set(self.unsummed())
        return tuple(name for name, *_ in self.arrays if name not in unsummed)

    def check_policy(self, policy: LayoutPolicy) -> None:
        """Raises PeerError(CONFIG_BELOW_POLICY) when a client with this policy refuses what is announced.

        Raises ParameterError for a layout that is none.
        """
        terms, layout = self.terms, self.layout
        weighted_by, difference, scale = terms.weighted_by, terms.difference, terms.weight_scale
        if isinstance(layout, PrivateLayout):
            layout.check_policy(policy, weighted_by=weighted_by, difference=difference)
        else:
            layout.check_policy(policy, weighted_by=weighted_by, difference=difference, weight_scale=scale)
        for one in terms.means_by.values():
            policy.check_weight(one.at_most, one.by.removeprefix(EVALUATED))
        for metric, weights in terms.class_weights.items():
            policy.check_weight(weights.largest, metric)
        self._check_parts(policy)

    def _check_parts(self, policy: LayoutPolicy) -> None:
        bare = dict(zip([name for name, *_ in self.arrays], self._bare_names(), strict=True))
        policy.check_parts({name: bare[name] for name in self.summed}, [record for record, _ in self.records])

    def shapes_in_records(self) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of each array, by its name in its own record."""
        return [(name, shape) for name, (_, _, shape) in zip(self._bare_names(), self.arrays, strict=True)]

    def _bare_names(self) -> list[str]:
        return bare_names((name for name, *_ in self.arrays), self.records)

    @property
    def input_digest(self) -> bytes:
        """32 bytes that name what a client would train from: the key of its memory of released inputs.

        The model alone decides.  Were clips or configs to enter, a server could have the same training summed again by
        moving one of them a hair.
        """
        return hashlib.sha256(_INPUT_LABEL + self.model).digest()


def _private_layout(arrays: Described, terms: UpdateTerms, privacy: PrivacyTerms) -> PrivateLayout:
    if terms.clips or terms.array_bits or terms.metric_names or terms.weight_scale != 1:
        raise ParameterError(
            "a private round has whole weights, one clip for all arrays, one number of bits, and no metrics"
        )
    if (terms.clip, terms.bits) != (privacy.update_clip, privacy.bits):
        raise ParameterError(
            f"clip and bits are {terms.clip!r} and {terms.bits!r}, and those of the private round's terms "
            f"{privacy.update_clip!r} and {privacy.bits!r}"
        )
    summed = tuple((name, shape) for name, _, shape in arrays)
    return PrivateLayout(arrays=summed, max_weight=terms.max_weight, terms=privacy)


def context_of(announcement: bytes) -> bytes:
    """32 bytes that name all that is announced: the round's public context."""
    return hashlib.sha256(_CONTEXT_LABEL + announcement).digest()


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
