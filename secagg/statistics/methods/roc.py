"""How well a score tells a flag: ROC curve, area under it, calibration and Brier score, from counts in bins."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Released, Terms
from secagg.statistics.chunk import Chunk, Codes, Floats
from secagg.statistics.columns import Flag, bounds_of
from secagg.statistics.grids import bin_of, check_bins, equal_bins, unit_of
from secagg.statistics.results import Curve, Curves, MethodResult, Table
from secagg.statistics.tables import Counting, hidden_in, joined_ends


class Roc(Counting, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="roc"):
    """The ROC curve of a score, the area under it, and its calibration.

    What is summed: for each bin of the score's range, how many records have the outcome and how many do not, in one
    round, exact.  Everything is that of scores that are rounded to the middle of their bin (T. Fawcett, Pattern
    Recognition Letters 27, 2006): records in one bin are ties.  Neighbouring bins are joined until none has a small
    count.  The Brier score is there for scores from 0 to 1.

    Attributes:
        outcome: a flag.
        score: a number or a date; a larger one speaks for the outcome.
        bins: how many over the score's range.
    """

    outcome: str
    score: str
    bins: int = 100

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.outcome, self.score)

    def check(self, terms: Terms) -> None:
        if not isinstance(terms.columns[self.outcome], Flag):
            raise ParameterError(f"the outcome {self.outcome!r} must be a flag")
        bounds_of(terms.columns[self.score])
        check_bins(self.bins)

    def _cell_of(self, terms: Terms, chunk: Chunk) -> Codes:
        _, bins = self._shape(terms)
        where = np.clip(bin_of(chunk.numbers(self.score), self._edges(terms)), 0, bins - 1)
        return np.asarray(where + chunk.codes(self.outcome) * bins, np.int64)

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        counts = released[-1].sums["counts"].astype(np.int64)
        edges, joined = _joined(self._edges(terms), counts, terms.release.min_cell)
        without, having = joined
        if hidden_in(terms, joined).any() or not without.sum() or not having.sum():
            return MethodResult(withheld=f"few records, or none, have or lack {self.outcome}")
        hits, alarms = (np.append(0, np.cumsum(row[::-1])) / row.sum() for row in (having, without))
        area = float(np.trapezoid(hits, alarms))
        middles = self._middles(terms, edges)
        calibration = [
            {
                "from": low,
                "to": high,
                "score": middle,
                "records": int(no + yes),
                "events": int(yes),
                "share": yes / (no + yes),
            }
            for (low, high), middle, no, yes in zip(
                itertools.pairwise(edges), middles.tolist(), without.tolist(), having.tolist(), strict=True
            )
            if no + yes
        ]
        low, high = bounds_of(terms.columns[self.score])
        squares = having @ (1 - middles) ** 2 + without @ middles**2
        brier = float(squares / joined.sum()) if low >= 0 and high <= 1 else None
        title = self.label or f"ROC curve of {self.score} for {self.outcome}"
        values = {
            "auc": area,
            "brier": brier,
            "false_positive_rate": alarms.tolist(),
            "true_positive_rate": hits.tolist(),
            "thresholds": [None, *edges[-2::-1]],
            "calibration": calibration,
        }
        tables = (
            Table(title, ("what", "value"), (("area under the curve", area), ("Brier score", brier))),
            Table("Calibration", tuple(calibration[0]), tuple(tuple(row.values()) for row in calibration)),
        )
        curve = Curve(self.score, tuple(alarms.tolist()), tuple(hits.tolist()))
        figure = Curves(title, "false positive rate", "true positive rate", (curve,), diagonal=True)
        fewer = counts.shape[1] - joined.shape[1]
        notes = (f"Bins were joined, so that none has a small count: {joined.shape[1]} are left.",) if fewer else ()
        return MethodResult(values, tables, (figure,), notes)

    def in_words(self, terms: Terms) -> str:
        return (
            f"How well {self.score} tells {self.outcome}: how many records have it, and how many do not, in each of "
            f"{self._shape(terms)[1]} bins of {self.score}."
        )

    def _edges(self, terms: Terms) -> list[float]:
        return equal_bins(terms.columns[self.score], self.bins)

    def _shape(self, terms: Terms) -> tuple[int, int]:
        return 2, len(self._edges(terms)) - 1

    def _middles(self, terms: Terms, edges: Sequence[float]) -> Floats:
        """The middle of the values that a bin may hold, by bin."""
        found = np.array(edges)
        return np.asarray((found[:-1] + found[1:] - (unit_of(terms.columns[self.score]) or 0.0)) / 2, np.float64)


def _joined(
    edges: Sequence[float], counts: npt.NDArray[np.int64], least: int
) -> tuple[list[float], npt.NDArray[np.int64]]:
    """Neighbouring bins, shape (2, bins), joined until no count is from 1 to least - 1, with their edges."""
    ends = joined_ends(counts, least)
    starts = [0, *(end + 1 for end in ends[:-1])]
    return [edges[0], *(edges[end + 1] for end in ends)], np.add.reduceat(counts, starts, axis=1)
