"""A Flower model to a vector of the protocol and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from secagg.adapters.flower.announcement import Announcement
from secagg.adapters.flower.array_values import as_bfloat16, is_bfloat16, numbers
from secagg.adapters.flower.class_weights import ClassMeans, array_of_steps, class_means, weighed
from secagg.adapters.flower.extra_arrays import Opened, array_of_metric
from secagg.adapters.flower.metric_sums import metric_results
from secagg.adapters.flower.model_records import flat_name
from secagg.adapters.model_arrays import REAL, change_of, check_announced, restored
from secagg.encoding import Encoder
from secagg.encoding.settings import Coarse
from secagg.encoding.sums import AttachedResult, Mean
from secagg.pairwise.config import RoundConfig
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.hosting import Submitted, decoded, opened, submitted
from secagg.privacy.layout import PrivateLayout, PrivateSum, with_its_layout
from secagg.privacy.private_mean import PrivateMean


@final
@dataclass(frozen=True, slots=True)
class Encoded:
    """What ``Codec.encode`` did to an update.  It tells of the client's data, and stays at the client.

    Attributes:
        clipped: by array, how many values were clipped.
        weight_clamped: whether the weight was clamped to max_weight.
        coarse: the arrays whose values are small beside what rounding may add to them.
        shortened: what the whole update was multiplied by in a private round; 1.0 where it fits the clip.
    """

    clipped: Mapping[str, int]
    weight_clamped: bool
    coarse: Mapping[str, Coarse]
    shortened: float = 1.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class MeanUpdate:
    """What a sum says.

    Attributes:
        arrays: the mean arrays.  Floats have the model's own type, but for bfloat16, whose means are float32; all else
            is float64: so is an average of whole numbers in Flower.  Arrays that are not summed are the model's own.
        metrics: of each metric that is summed, its mean or its sum.
        weight: the total weight; in a private round, an estimate of it.
        contributors: how many clients have a weight above 0; in a private round, all in the sum.
        clipped: how many values were clipped, over all clients; a weight that was reduced to
            ``max_weight`` adds one.  In a private round nobody counts them.
        bounds: by metric or array, the most by which a sum, a mean with a weight of its own, or a value of an array
            with class weights can be off.
        thin_classes: by metric of class weights, the classes to which too few clients contribute: their rows stay.
        private: what was decoded of a private round; None without noise.
        indicator: the noisy sum by which an adaptive clip moves; None without one.
    """

    arrays: ArrayRecord
    metrics: dict[str, float]
    weight: float
    contributors: int
    clipped: int
    bounds: Mapping[str, float] = field(default_factory=dict)
    thin_classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    private: PrivateMean | None = None
    indicator: float | None = None


@final
class Codec:
    """Turns a client's arrays into the vector that it submits, and the sum of such vectors into the mean arrays.

    Both sides make one from the announcement and the model.
    """

    def __init__(self, model: ArrayRecord, announced: Announcement) -> None:
        """Raises ParameterError or InputError for a model or a layout that cannot be encoded; they name the array.

        The model must be the announced one: its digest is for the caller to compare.
        """
        self.announced, self.terms, self.layout = announced, announced.terms, announced.layout
        self.encoder: Encoder | PrivateEncoder = self.layout.encoder()
        self._unsummed = {name: model[name] for name in announced.unsummed() if name in model}
        self._halves = frozenset(name for name, array in model.items() if is_bfloat16(array))
        self._model = {name: numbers(name, array) for name, array in model.items() if name not in self._unsummed}
        for name, _, shape in announced.arrays:
            if name not in self._unsummed:
                check_announced(self._model, name, shape, difference=self.terms.difference)
        self._leaf_of = self.layout.leaf_names()
        """The encoder may call an array by another name than the model does."""
        self._has_extra = bool(self.terms.sums or self.terms.means_by or self.terms.class_weights)

    def bind(self, config: RoundConfig) -> None:
        """Encode and decode for this round from now on.  Raises ParameterError when the layout does not suit it."""
        self.layout.check_round(config)
        self.encoder = self.encoder.for_round(config)

    def check_precision(self) -> None:
        """Raises ParameterError where a client of weight 1 would be lost in the rounding, if there is any to speak of.

        The rounding of a private round is finer than its noise.
        """
        if isinstance(self.encoder, Encoder):
            self.encoder.check_precision()

    def stored(self, arrays: ArrayRecord, record: str) -> ArrayRecord:
        """The arrays that a strategy made of the mean, with what is not summed, and bfloat16s, as the model has them.

        Strategies average all arrays as floats.  A counter that came back as one would be summed in the next round, and
        be nearly all of an update's norm.  ``record`` is the one that the strategy's arrays go out in.
        """
        of_model = {name: flat_name(record, name) if self.announced.records else name for name in arrays}
        kept = {name: self._unsummed[flat] for name, flat in of_model.items() if flat in self._unsummed}
        halves = {
            name: as_bfloat16(numbers(name, arrays[name]))
            for name, flat in of_model.items()
            if flat in self._halves and flat not in self._unsummed
        }
        return ArrayRecord({**arrays, **halves, **kept}) if kept or halves else arrays

    def error_bound(self, count: int, total_weight: float, array: str) -> float:
        """The most by which a value of the array's mean can differ from that of what was clipped, before it is cast.

        Infinity in a private round, whose noise has no bound.
        """
        if isinstance(self.encoder, PrivateEncoder):
            return math.inf
        if array in self._model and self._model[array].size == 0:
            return 0.0
        if self.terms.max_weight is None:
            return self.encoder.error_bound(count, None, self._leaf_of[array])
        steps = round(total_weight * self.terms.weight_scale)
        bound = self.encoder.error_bound(count, steps, self._leaf_of[array])
        if self.terms.weight_scale == 1:
            return bound
        # Each weight is off by a step at most, and moves the mean towards a value that is 2 clips away at most.
        return bound + 2 * self.announced.clip_of(array) * count / steps

    def encode(self, arrays: ArrayRecord, weight: int, extra: Mapping[str, Any]) -> tuple[Submitted, Encoded]:
        """The vector with its keys, and what a client's operator is told about it.

        ``weight`` is in steps, and ``extra`` are the values of the metrics and of class weights, by array.  Every
        finite update fits.  Raises InputError for arrays that are not those of the model, or hold what is not finite.
        """
        summed = {name: array for name, array in arrays.items() if name not in self._unsummed}
        if self.terms.left_out is not None:  # the rest of the app's model is its own affair
            summed = {name: array for name, array in summed.items() if name in self._model}
        update: dict[str, Any] = {name: self._change(name, array) for name, array in summed.items()}
        for metric, one in self.terms.class_weights.items():
            steps = extra[array_of_steps(metric)]
            update |= {name: weighed(update[name], one, steps) for name in one.arrays if self._has_shape(update, name)}
        update |= extra
        if isinstance(self.layout, PrivateLayout):
            return self._encode_privately(self.layout, update, weight)
        given = submitted(self.encoder, update, weight)
        clipped = self.layout.by_name(self.encoder.clipped)
        coarse = self.layout.by_name(self.encoder.coarse(update, weight)) if isinstance(self.encoder, Encoder) else {}
        return given, Encoded(clipped, self.encoder.weight_clamped, coarse)

    def _encode_privately(
        self, layout: PrivateLayout, update: dict[str, Any], weight: int
    ) -> tuple[Submitted, Encoded]:
        layout.check_arrays(update)
        given = submitted(self.encoder, layout.prepared(update), weight)
        return given, Encoded({}, self.encoder.weight_clamped, {}, layout.shortening(update))

    def decode(self, result: AttachedResult) -> MeanUpdate:
        """The mean, without the noise in levels that the losses did not ask for.

        Raises InputError when too few clients contribute to it, or the sum is none that clients can have.
        """
        total, count = opened(self.encoder, result), len(result.included)
        mean_of_all = decoded(self.encoder, total, count, min_contributors=result.min_survivors)
        found = with_its_layout(self.layout, mean_of_all)
        if isinstance(found, PrivateSum):
            return self._private_mean(found)
        mean = found.mean
        update = self.update_of(mean.mean, mean.weight, mean.contributors, mean.clipped)
        return update if not self._has_extra else self._with_extra(update, mean, result.min_survivors)

    def update_of(self, means: Mapping[str, Any], weight: float, contributors: int, clipped: int) -> MeanUpdate:
        """The mean update from the means of what is summed, by name, and what else a sum says."""
        arrays = self._with_means(means)
        names = {metric: array_of_metric(metric) for metric in self.terms.metrics}
        metrics = {metric: float(means[name]) for metric, name in names.items()}
        return MeanUpdate(arrays, metrics, weight / self.terms.weight_scale, contributors, clipped)

    def _with_extra(self, update: MeanUpdate, mean: Mean, least: int) -> MeanUpdate:
        """The update with what was summed whatever the weights: plain sums of metrics, and rows weighed by class."""
        totals = {name: mean.totals[leaf] for name, leaf in self._leaf_of.items() if leaf in mean.totals}
        bounds = self.plain_encoder.error_bounds(mean.count, mean.weight)
        opened = Opened(mean.count, least, mean.mean, totals, lambda name: bounds.get(self._leaf_of[name], 0.0))
        terms = self.terms
        metrics, of_metrics = metric_results(terms.sums, terms.means_by, opened)
        clips = {name: self.announced.clip_of(name) for one in terms.class_weights.values() for name in one.arrays}
        by_class = class_means(terms.class_weights, opened, clips)
        arrays = {name: Array(self._restored_rows(name, by_class)) for name in by_class.means}
        return replace(
            update,
            arrays=ArrayRecord({**update.arrays, **arrays}),
            metrics=update.metrics | metrics,
            bounds=of_metrics | by_class.bounds,
            thin_classes=by_class.thin,
        )

    @property
    def plain_encoder(self) -> Encoder:
        """The encoder of a round without noise.  Raises TypeError in a private round, which has nothing to ask it."""
        if not isinstance(self.encoder, Encoder):
            raise TypeError("a round with noise")
        return self.encoder

    def _restored_rows(self, name: str, by_class: ClassMeans) -> npt.NDArray[Any]:
        """The new array: rows to which too few contribute are the model's own."""
        base, mean = self._model[name], by_class.means[name]
        if not self.terms.difference:
            kept = by_class.kept[name].reshape(-1, *(1,) * (base.ndim - 1))
            mean = np.where(kept, mean, base.astype(np.float64))
        return self._restored(name, mean)

    def _has_shape(self, update: Mapping[str, Any], name: str) -> bool:
        """Whether the app's array can be weighed; the encoder says what is wrong with one that cannot."""
        given = update.get(name)
        return given is not None and given.shape == self._model[name].shape and given.dtype.kind in REAL

    def _private_mean(self, found: PrivateSum) -> MeanUpdate:
        layout, mean = found.layout, found.mean
        means = layout.mean_of(mean)
        return MeanUpdate(
            self._with_means(means),
            metrics={},
            weight=mean.weight,
            contributors=mean.count,
            clipped=0,
            private=mean,
            indicator=layout.bits_of(mean),
        )

    def _with_means(self, means: Mapping[str, Any]) -> ArrayRecord:
        """The whole model, with these means in the place of what is summed."""
        return ArrayRecord(
            {
                name: self._unsummed[name] if name in self._unsummed else Array(self._restored(name, means[name]))
                for name, *_ in self.announced.arrays
            }
        )

    def _change(self, name: str, array: Array) -> npt.NDArray[Any]:
        """What is summed of a client's array."""
        value, base = numbers(name, array, bfloat16=name in self._halves), self._model.get(name)
        if base is None or value.shape != base.shape or value.dtype.kind not in REAL or not self.terms.difference:
            return value  # the encoder says what is wrong with it
        return change_of(value, base)

    def _restored(self, name: str, mean: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        return restored(mean, self._model[name], difference=self.terms.difference)
