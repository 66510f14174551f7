"""Clusters by the nearest centre: Lloyd's algorithm, a round for each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms, public
from secagg.statistics.cells import Cells, Real, Whole
from secagg.statistics.chunk import Chunk, Codes, Flags, Floats
from secagg.statistics.clustering import Clustering
from secagg.statistics.columns import Flag
from secagg.statistics.results import MethodResult, Table
from secagg.statistics.tables import hidden_in

_STILL: Final = 1e-10
"""A share of the range: a centre that moves less has moved by rounding."""
_STEPS: Final = 2**20
"""Of a record's largest part of a sum with noise.  Sums of whole steps are exact in float64, up to 2^33 records."""


class Kmeans(Clustering, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="kmeans"):
    """Centres of clusters, such that each is the mean of the records nearest to it.

    What is summed in each round, at public centres: by centre, how many records are nearest to it, and their sums; and
    the squared distances.  A record as near to two centres belongs to the one that is listed first.  The next centres
    are the means, and the search ends when they no longer move: S. P. Lloyd, "Least squares quantization in PCM", 1982;
    as ``sklearn.cluster.KMeans(init=start, n_init=1, algorithm="lloyd", tol=0)``, but that a centre without records
    stays where it is.  Where sites vanish, the search goes on from the centres that it has.

    In a study with noise, each record's values and distances are rounded to a 2^20th of the largest ones, so that sums
    are whole numbers, and the search makes all of its rounds.  Few of them, 5 say, leave each with more of the budget.

    A cluster of fewer than ``min_cell`` records is withheld, and so is one in which fewer than that have, or lack, a
    flag; and another with it, so that the total does not give its size away.

    Attributes:
        of: numbers, flags or dates (in days).
        clusters: how many, 2 or more.
        start: a first centre for each cluster, with a number for each column; empty: centres at equal distances on the
            diagonal from the smallest to the largest values of the columns' ranges.
        scaled: whether distances are in half ranges of the columns, rather than in their units.
        max_rounds: the most rounds.
    """

    scaled: bool = True

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return (_ask(self._first(terms)),) * self.max_rounds

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return _ask(self._first(terms))
        if len(released) >= self.max_rounds or self._settled(terms, released[-1]):
            return None
        return _ask(self._means(terms, released[-1]))

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        size = len(self.of)
        if terms.noisy:
            return {
                "counts": Whole((self.clusters,), touched=1),
                "sums": Whole((self.clusters, size), _STEPS, touched=size),
                "squares": Whole((self.clusters,), _STEPS, touched=1),
            }
        return {
            "counts": Whole((self.clusters,), touched=1),
            "sums": Real((self.clusters, size), 1.0, touched=size),
            "squares": Real((self.clusters,), self._largest_square(terms), touched=1),
        }

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        ranges = self._ranges(terms)
        values = ranges.values(chunk)
        nearest, squares = self._nearest(terms, values, self._asked(ask))
        scaled = ranges.scaled(values)
        if terms.noisy:
            scaled = np.rint(scaled.clip(-1, 1) * _STEPS)
            squares = np.rint((squares / self._largest_square(terms)).clip(0, 1) * _STEPS)
        sums = np.column_stack([np.bincount(nearest, column, self.clusters) for column in scaled.T])
        by_cluster = np.bincount(nearest, squares, self.clusters)
        whole = np.int64 if terms.noisy else np.float64
        return {
            "counts": np.bincount(nearest, minlength=self.clusters),
            "sums": sums.astype(whole),
            "squares": by_cluster.astype(whole),
        }

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        last = released[-1]
        counts, centres = last.sums["counts"].astype(np.int64), self._means(terms, last)
        hidden = self._hidden(terms, counts, centres)
        found: list[dict[str, Any]] = []
        for number, count in enumerate(counts.tolist()):
            shown = count > 0 and not hidden[number]
            centre = {
                name: value if shown else None for name, value in zip(self.of, centres[number].tolist(), strict=True)
            }
            found.append({"count": None if hidden[number] else count, "centre": centre})
        notes = []
        if hidden.any():
            named = ", ".join(str(number + 1) for number in np.flatnonzero(hidden))
            notes.append(
                f"Clusters withheld, because few records are in one of them, or have or lack a flag there: {named}."
            )
        if not terms.noisy and not self._settled(terms, last):
            notes.append(f"The centres still moved in round {len(released)}; raise max_rounds, or start nearer.")
        inertia = float(last.sums["squares"].sum())
        if terms.noisy:
            inertia *= self._largest_square(terms) / _STEPS
        values = {"clusters": found, "inertia": None if hidden.any() else inertia}
        rows = tuple((number, one["count"], *one["centre"].values()) for number, one in enumerate(found, start=1))
        table = Table(self.label or f"Clusters of {', '.join(self.of)}", ("cluster", "count", *self.of), rows)
        return MethodResult(values, (table,), notes=tuple(notes))

    def in_words(self, terms: Terms) -> str:
        return (
            f"{self.clusters} clusters of {', '.join(self.of)}: the mean and the number of the records in each, and "
            "how near they are to it."
        )

    def _hidden(self, terms: Terms, counts: Codes, centres: Floats) -> Flags:
        """Which clusters are withheld, shape (clusters,).  The mean of a flag tells how many have it, and lack it."""
        hidden = hidden_in(terms, counts)
        for name, means in zip(self.of, centres.T, strict=True):
            if isinstance(terms.columns[name], Flag):
                yes = np.rint(means * counts).astype(np.int64)
                hidden |= hidden_in(terms, np.column_stack([counts - yes, yes])).any(axis=1)
        return hidden

    def _scale(self, terms: Terms) -> Floats:
        """What distances are measured in, shape (columns,)."""
        return self._ranges(terms).half if self.scaled else np.ones(len(self.of))

    def _largest_square(self, terms: Terms) -> float:
        """What no squared distance is beyond."""
        return float(((2 * self._ranges(terms).half / self._scale(terms)) ** 2).sum())

    def _asked(self, ask: Ask) -> Floats:
        return ask.parameter("centres").reshape(self.clusters, len(self.of))

    def _means(self, terms: Terms, released: Released) -> Floats:
        """Of the records of each cluster, shape (clusters, columns); where there are none, the centre stays."""
        ranges = self._ranges(terms)
        counts = np.maximum(released.sums["counts"].astype(np.int64), 0)[:, None]
        sums = released.sums["sums"].astype(np.float64) / (_STEPS if terms.noisy else 1)
        means = ranges.middle + ranges.half * sums / np.maximum(counts, 1)
        return np.where(counts > 0, means.clip(ranges.low, ranges.high), self._asked(released.ask))

    def _settled(self, terms: Terms, released: Released) -> bool:
        """Whether the means are the centres, but for the digits that are rounded; never, where they have noise."""
        if terms.noisy:
            return False
        moved = np.abs(self._means(terms, released) - self._asked(released.ask)) / (2 * self._ranges(terms).half)
        return bool(moved.max() < _STILL)

    def _nearest(self, terms: Terms, values: Floats, centres: Floats) -> tuple[Codes, Floats]:
        """The nearest centre of each record, and the squared distance; shapes (records,)."""
        scale = self._scale(terms)
        nearest = np.zeros(len(values), np.int64)
        least = np.full(len(values), np.inf)
        for number, centre in enumerate(centres):
            squares = (((values - centre) / scale) ** 2).sum(axis=1)
            nearer = squares < least
            nearest[nearer], least[nearer] = number, squares[nearer]
        return nearest, least


def _ask(centres: Floats) -> Ask:
    return Ask("nearest", {"centres": public(centres.reshape(-1))})
