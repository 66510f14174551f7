"""What the app made, as the numbers that are summed.

A client's data must not show in what it does once it has joined.  So whatever the app's reply says is rounded, clamped
or clipped to what fits.  There is one exit that depends on data: an update, a weight or a metric that is not finite
cannot be summed, and the client leaves.  A server sees who leaves, and counts it as lost.  (Zeros in its place would
count it among the survivors while they hand out the others: a server that makes all but one diverge would have that
one's update.)  A reply that lacks what is summed is a bug of the app; its client leaves, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from flwr.app import ArrayRecord, MetricRecordValues, RecordDict

from secagg.adapters.flower.announcement import Announcement
from secagg.adapters.flower.array_values import is_float
from secagg.adapters.flower.class_weights import class_values
from secagg.adapters.flower.codec import Codec, Encoded
from secagg.adapters.flower.extra_arrays import Values, array_of_metric
from secagg.adapters.flower.metric_sums import EVALUATED, is_evaluated, metric_values
from secagg.adapters.flower.model_records import flat_reply
from secagg.adapters.flower.records import log
from secagg.adapters.own_log import warn_of_clipped, warn_of_coarse
from secagg.adapters.own_numbers import number_in, weight_in_steps
from secagg.errors import InputError
from secagg.privacy.hosting import Submitted

_WHERE: Final = "the app's reply"


@final
@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Update:
    """One client's contribution: its arrays, its weight in steps, and what is summed beside them, by array."""

    arrays: ArrayRecord
    weight: int
    extra: Values


def update_of(content: RecordDict, announced: Announcement, evaluated: RecordDict | None = None) -> Update:
    """The app's reply, and that of its evaluation.

    Raises InputError for one that cannot be summed; the message may tell of the client's data.
    """
    terms = announced.terms
    arrays = flat_reply(dict(content.array_records), announced.records)
    names = terms.metric_names | (set() if terms.max_weight is None else {terms.weighted_by})
    metrics: dict[str, MetricRecordValues] = {}
    if any(not name.startswith(EVALUATED) for name in names):
        metrics |= _only_metrics("training", content)
    if is_evaluated(iter(names)) and evaluated is not None:
        metrics |= {f"{EVALUATED}{name}": value for name, value in _only_metrics("evaluation", evaluated).items()}

    def number(name: str) -> int | float:
        return number_in(metrics, name, _WHERE)

    weight = 1 if terms.max_weight is None else _weight(metrics, terms.weighted_by, terms.weight_scale)
    extra = {array_of_metric(name): np.asarray(number(name)) for name in terms.metrics}
    extra |= metric_values(terms.sums, terms.means_by, number)
    for metric, one in terms.class_weights.items():
        extra |= class_values(metric, one, metrics.get(metric))
    return Update(arrays, weight, extra)


def vector_of(update: Update, codec: Codec) -> Submitted:
    """What to submit; the client's own log says what was cut off.  Raises InputError, as ``Codec.encode``."""
    given, encoded = codec.encode(update.arrays, update.weight, update.extra)
    _tell(update, codec, encoded)
    return given


def _only_metrics(step: str, content: RecordDict) -> dict[str, MetricRecordValues]:
    records = content.metric_records
    if len(records) != 1:
        names = ", ".join(map(repr, records)) or "none"
        raise InputError(f"the app's reply to {step} has {len(records)} metric records ({names}); it must have one")
    return dict(next(iter(records.values())))


def _weight(metrics: Mapping[str, object], name: str, scale: int) -> int:
    value = number_in(metrics, name, _WHERE)
    weight = weight_in_steps(value, scale)
    if weight != value and scale == 1:
        log.warning("secagg: the metric %r is %r; a weight is a whole number from 0 up: %d counts", name, value, weight)
    if weight == 0:
        log.warning("secagg: this client has weight 0, so that its update adds nothing; without data, do not join")
    return weight


def _tell(update: Update, codec: Codec, encoded: Encoded) -> None:
    """Say in the client's own log what was cut off or lost, and what the server's operator would change."""
    for name, count in encoded.clipped.items():
        clip = codec.announced.clip_of(name)
        warn_of_clipped(log, name, count, clip, _remedy(update, name, clip))
    if encoded.shortened < 1:
        log.warning(
            "secagg: the update is longer than the clip %r (L2 norm): %.3g times each of its values counts",
            codec.terms.clip,
            encoded.shortened,
        )
    if encoded.weight_clamped:
        log.warning(
            "secagg: the weight %g was reduced to %g, the strategy's max_weight: ask for a larger one, or report less",
            update.weight / codec.terms.weight_scale,
            codec.terms.largest_weight,
        )
    warn_of_coarse(log, encoded.coarse)


def _remedy(update: Update, name: str, clip: float) -> str:
    """For arrays of whole numbers: a clipped weight is only moderate, and a counter that is cut off is wrong."""
    array = update.arrays.get(name)
    if array is None or is_float(array.dtype):
        return ""
    return f"; these are whole numbers: ask for clips={{{name!r}: ...}} above {clip!r} in the server's SecAggStrategy"
