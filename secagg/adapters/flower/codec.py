"""A Flower model to a vector of the protocol and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from tokenize import TokenError
from typing import Any, Final, final
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from secagg.adapters.flower.announcement import Announcement, array_of_metric
from secagg.adapters.flower.model_records import flat_name
from secagg.encoding import Encoder
from secagg.encoding.settings import Coarse
from secagg.encoding.sums import AttachedResult
from secagg.errors import InputError
from secagg.pairwise.config import RoundConfig
from secagg.privacy.encoder import PrivateEncoder
from secagg.privacy.hosting import Submitted, decoded, opened, submitted
from secagg.privacy.layout import PrivateLayout, PrivateSum, with_its_layout
from secagg.privacy.private_mean import PrivateMean

_REAL: Final = "biuf"
_LARGEST: Final = float(np.finfo(np.float64).max)
_UNREADABLE: Final = (
    *(TypeError, ValueError, EOFError, OSError, BadZipFile),
    *(MemoryError, OverflowError, RecursionError, TokenError),
)
"""What reading an array raises for bytes that are none."""


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
        arrays: the mean arrays.  Floats have the model's own type, all else is float64: so is an average of whole
            numbers in Flower.  Arrays that are not summed are the model's own.
        metrics: the weighted mean of each metric that is summed.
        weight: the total weight; in a private round, an estimate of it.
        contributors: how many clients have a weight above 0; in a private round, all in the sum.
        clipped: how many values were clipped, over all clients; a weight that was reduced to
            ``max_weight`` adds one.  In a private round nobody counts them.
        private: what was decoded of a private round; None without noise.
        indicator: the noisy sum by which an adaptive clip moves; None without one.
    """

    arrays: ArrayRecord
    metrics: dict[str, float]
    weight: float
    contributors: int
    clipped: int
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
        self._model = {name: _numbers(name, array) for name, array in model.items() if name not in self._unsummed}
        for name, _, shape in announced.arrays:
            if name in self._unsummed:
                continue
            if name not in self._model or self._model[name].shape != shape:
                raise InputError(f"{name} was announced with shape {shape}, and the model has another")
            if self._model[name].dtype.kind not in _REAL:
                raise InputError(f"{name} is of type {self._model[name].dtype}: only real numbers can be summed")
            if self.terms.difference and not np.isfinite(self._model[name]).all():
                raise InputError(f"{name} holds a NaN or an infinity in the model: no change of it can be summed")
        self._leaf_of = self.layout.leaf_names()
        """The encoder may call an array by another name than the model does."""

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

    def with_unsummed(self, arrays: ArrayRecord, record: str) -> ArrayRecord:
        """The arrays that a strategy has made of the mean, with those that are not summed as the model has them.

        Strategies average all arrays as floats.  A counter that came back as one would be summed in the next round, and
        be nearly all of an update's norm.  ``record`` is the one that the strategy's arrays go out in.
        """
        of_model = {name: flat_name(record, name) if self.announced.records else name for name in arrays}
        kept = {name: self._unsummed[flat] for name, flat in of_model.items() if flat in self._unsummed}
        return ArrayRecord({**arrays, **kept}) if kept else arrays

    def error_bound(self, count: int, total_weight: float, array: str) -> float:
        """The most by which a value of the array's mean can differ from that of what was clipped, before it is cast.

        Infinity in a private round, whose noise has no bound.
        """
        if isinstance(self.encoder, PrivateEncoder):
            return math.inf
        if array in self._model and self._model[array].size == 0:
            return 0.0
        weight = int(total_weight) if self.terms.max_weight is not None else None
        return self.encoder.error_bound(count, weight, self._leaf_of[array])

    def encode(self, arrays: ArrayRecord, weight: int, metrics: Mapping[str, float]) -> tuple[Submitted, Encoded]:
        """The vector with its keys, and what a client's operator is told about it.

        Every finite update fits.  Raises InputError for arrays that are not those of the model, or hold what is not
        finite.
        """
        summed = {name: array for name, array in arrays.items() if name not in self._unsummed}
        if self.terms.left_out is not None:  # the rest of the app's model is its own affair
            summed = {name: array for name, array in summed.items() if name in self._model}
        update: dict[str, Any] = {name: self._change(name, array) for name, array in summed.items()}
        update |= {array_of_metric(metric): np.asarray(value) for metric, value in metrics.items()}
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
        return self.update_of(mean.mean, mean.weight, mean.contributors, mean.clipped)

    def update_of(self, means: Mapping[str, Any], weight: float, contributors: int, clipped: int) -> MeanUpdate:
        """The mean update from the means of what is summed, by name, and what else a sum says."""
        arrays = self._with_means(means)
        names = {metric: array_of_metric(metric) for metric in self.terms.metrics}
        metrics = {metric: float(means[name]) for metric, name in names.items()}
        return MeanUpdate(arrays, metrics, weight, contributors, clipped)

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
        value, base = _numbers(name, array), self._model.get(name)
        if base is None or value.shape != base.shape or value.dtype.kind not in _REAL or not self.terms.difference:
            return value  # the encoder says what is wrong with it
        with np.errstate(over="ignore", invalid="ignore"):
            # In float64, where the difference of two float32 or of two counters is exact.
            change = np.asarray(np.subtract(value, base, dtype=np.float64))
        if np.isfinite(change).all() or not np.isfinite(value).all():
            return change  # what was not finite before is refused by the encoder
        # Two finite numbers whose difference overflows: it is clipped as any other large number is.
        return np.asarray(np.clip(change, -_LARGEST, _LARGEST))

    def _restored(self, name: str, mean: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
        base = self._model[name]
        if self.terms.difference:
            mean = mean + base.astype(np.float64)
        if base.dtype.kind != "f":
            return np.asarray(mean, np.float64)
        limit = float(min(np.finfo(base.dtype).max, np.finfo(np.float64).max))
        return np.asarray(np.clip(mean, -limit, limit), base.dtype)


def whole_numbers(model: Mapping[str, Array]) -> dict[str, str]:
    """The types of the arrays that hold whole numbers or bools, by name."""
    kinds: dict[str, str] = {}
    for name, array in model.items():
        try:
            kind = np.dtype(array.dtype).kind
        except TypeError:  # no type of NumPy's: the codec refuses it by name
            continue
        if kind in "biu":
            kinds[name] = array.dtype
    return kinds


def _numbers(name: str, array: Array) -> npt.NDArray[Any]:
    try:
        values = array.numpy()
    except _UNREADABLE as wrong:
        raise InputError(f"{name} does not read as a NumPy array: {wrong}") from None
    if not isinstance(values, np.ndarray):  # numpy.load opens archives too
        raise InputError(f"{name} does not read as a NumPy array")
    return values
