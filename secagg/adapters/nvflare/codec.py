"""The params of an FLModel to a vector of the protocol and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from secagg.adapters.model_arrays import REAL, change_of, check_announced, restored
from secagg.adapters.nvflare.announcement import Announcement, Arrays, array_of_metric
from secagg.adapters.nvflare.payload import log
from secagg.adapters.own_log import warn_of_clipped, warn_of_coarse
from secagg.encoding import Encoder
from secagg.encoding.sums import AttachedResult
from secagg.pairwise.config import RoundConfig


@final
@dataclass(frozen=True, slots=True, eq=False)
class MeanUpdate:
    """What a sum says.

    Attributes:
        arrays: the mean arrays.  Floats have the model's own type, all else is float64: so is an average of whole
            numbers in NVFlare.
        metrics: the weighted mean of each metric that is summed.
        weight: the total weight.
        contributors: how many sites have a weight above 0.
        clipped: how many values were clipped, over all sites; a weight that was reduced to ``max_weight`` adds one.
    """

    arrays: dict[str, npt.NDArray[Any]]
    metrics: dict[str, float]
    weight: float
    contributors: int
    clipped: int


@final
class Codec:
    """Turns a site's arrays into the vector that it submits, and the sum of such vectors into the mean arrays.

    Both sides make one from the announcement and the model.
    """

    def __init__(self, model: Arrays, announced: Announcement) -> None:
        """Raises ParameterError or InputError for a model or a layout that cannot be encoded; they name the array.

        The model must be the announced one: its digest is for the caller to compare.
        """
        self.announced, self.terms, self.layout = announced, announced.terms, announced.layout
        self.encoder: Encoder = self.layout.encoder()
        self._model = dict(model)
        for name, _, shape in announced.arrays:
            check_announced(self._model, name, shape, difference=self.terms.difference)

    def bind(self, config: RoundConfig) -> None:
        """Encode for this round from now on.  Raises ParameterError when the layout does not suit it."""
        self.layout.check_round(config)
        self.encoder = self.encoder.for_round(config)

    def encode(
        self, arrays: Arrays, weight: int, metrics: Mapping[str, float], *, changes: bool
    ) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The vector to submit; the site's own log says what was cut off.

        Every finite update fits.  With ``changes`` the arrays are what is added to the model's, and not what became of
        them.  Raises InputError for arrays that are not those of the model, or hold what is not finite; the message may
        tell of the site's data.
        """
        update: dict[str, Any] = {name: self._summed(name, values, changes) for name, values in arrays.items()}
        update |= {array_of_metric(metric): np.asarray(value) for metric, value in metrics.items()}
        vector = self.encoder.encode(update, weight)
        self._tell(update, weight, {name for name, values in arrays.items() if values.dtype.kind in "biu"})
        return vector

    def decode(self, result: AttachedResult) -> MeanUpdate:
        """The mean.

        Raises InputError when too few sites contribute to it, or the sum is none that sites can have.
        """
        mean = self.encoder.decode_sum(
            result.sum, len(result.included), "float64", min_contributors=result.min_survivors
        )
        found = self.layout.by_name(mean.mean)
        difference = self.terms.difference
        return MeanUpdate(
            {name: restored(found[name], base, difference=difference) for name, base in self._model.items()},
            {metric: float(found[array_of_metric(metric)]) for metric in self.terms.metrics},
            mean.weight,
            mean.contributors,
            mean.clipped,
        )

    def _summed(self, name: str, value: npt.NDArray[Any], changes: bool) -> npt.NDArray[Any]:
        """What is summed of a site's array."""
        base = self._model.get(name)
        fits = base is not None and value.shape == base.shape and value.dtype.kind in REAL
        if base is None or not fits or changes == self.terms.difference:
            return value  # where it does not fit, the encoder says what is wrong with it
        # Where the whole arrays are summed and a script returns changes, the array is its change and the model's own.
        return change_of(value, -base.astype(np.float64) if changes else base)

    def _tell(self, update: Mapping[str, Any], weight: int, whole: Collection[str]) -> None:
        """Say in the site's own log what was cut off or lost, and what the job's author would change."""
        clips = self.layout.clip_by_name()
        for name, count in self.layout.by_name(self.encoder.clipped).items():
            remedy = f"; these are whole numbers: ask for clips={{{name!r}: ...}} above {clips[name]!r}"
            warn_of_clipped(log, name, count, clips[name], remedy if name in whole else "")
        if self.encoder.weight_clamped:
            log.warning(
                "secagg: the weight %d was reduced to %d, the job's max_weight: ask for a larger one, or report less",
                weight,
                self.terms.max_weight,
            )
        warn_of_coarse(log, self.layout.by_name(self.encoder.coarse(update, weight)))
