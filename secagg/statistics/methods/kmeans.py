"""Clusters by the nearest centre: Lloyd's algorithm, a round for each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms, public
from secagg.statistics.cells import Cells, Real, Whole
from secagg.statistics.chunk import Chunk, Codes, Floats
from secagg.statistics.columns import bounds_of
from secagg.statistics.method import Method
from secagg.statistics.results import MethodResult, Table
from secagg.statistics.tables import hidden_in

_STILL: Final = 1e-10
"""A share of the range: a centre that moves less has moved by rounding."""


class Kmeans(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="kmeans"):
    """Centres of clusters, such that each is the mean of the records nearest to it.

    What is summed in each round, at public centres: by centre, how many records are nearest to it, and their sums; and
    the squared distances.  A record as near to two centres belongs to the one that is listed first.  The next centres
    are the means, and the search ends when they no longer move: S. P. Lloyd, "Least squares quantization in PCM", 1982;
    as ``sklearn.cluster.KMeans(init=start, n_init=1, algorithm="lloyd", tol=0)``, but that a centre without records
    stays where it is.  Where sites vanish, the search goes on from the centres that it has.

    A cluster of fewer than ``min_cell`` records is withheld, and another with it, so that the total does not give its
    size away.

    Attributes:
        of: numbers, flags or dates (in days).
        clusters: how many, 2 or more.
        start: a first centre for each cluster, with a number for each column; empty: centres at equal distances on the
            diagonal from the smallest to the largest values of the columns' ranges.
        scaled: whether distances are in half ranges of the columns, rather than in their units.
        max_rounds: the most rounds.
    """

    of: tuple[str, ...]
    clusters: int
    start: tuple[tuple[float, ...], ...] = ()
    scaled: bool = True
    max_rounds: int = 20

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of

    def check(self, terms: Terms) -> None:
        if not self.of or len(set(self.of)) < len(self.of):
            raise ParameterError(f"of is {list(self.of)}: name one or more columns, each once")
        low, high = _ranges(terms, self.of)
        if self.clusters < 2:
            raise ParameterError(f"clusters is {self.clusters}: must be 2 or more")
        if self.max_rounds < 1:
            raise ParameterError(f"max_rounds is {self.max_rounds}: must be 1 or more")
        if not self.start:
            return
        if len(self.start) != self.clusters or any(len(centre) != len(self.of) for centre in self.start):
            raise ParameterError(
                f"start must have {self.clusters} centres of {len(self.of)} numbers: one for each cluster and column"
            )
        for centre in self.start:
            if not all(least <= value <= most for least, value, most in zip(low, centre, high, strict=True)):
                raise ParameterError(f"start has {list(centre)}, which is outside of the columns' ranges")
        if len(set(self.start)) < self.clusters:
            raise ParameterError("start has a centre twice: of two alike, the second one gets no records")

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return _ask(self._first(terms))
        if len(released) >= self.max_rounds or self._settled(terms, released[-1]):
            return None
        return _ask(self._means(terms, released[-1]))

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        size, scale = len(self.of), self._scale(terms)
        low, high = _ranges(terms, self.of)
        return {
            "counts": Whole((self.clusters,), touched=1),
            "sums": Real((self.clusters, size), 1.0, touched=size),
            "squares": Real((self.clusters,), float((((high - low) / scale) ** 2).sum()), touched=1),
        }

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        low, high = _ranges(terms, self.of)
        values = np.column_stack([chunk.numbers(name) for name in self.of])
        nearest, squares = self._nearest(terms, values, self._asked(ask))
        z = (values - (low + high) / 2) / ((high - low) / 2)
        by_column = [np.bincount(nearest, column, self.clusters) for column in z.T]
        return {
            "counts": np.bincount(nearest, minlength=self.clusters),
            "sums": np.column_stack(by_column),
            "squares": np.bincount(nearest, squares, self.clusters),
        }

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        last = released[-1]
        counts, centres = last.sums["counts"].astype(np.int64), self._means(terms, last)
        hidden = hidden_in(terms, counts)
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
            notes.append(f"Clusters withheld, because few records are in one of them: {named}.")
        if not self._settled(terms, last):
            notes.append(f"The centres still moved in round {len(released)}; raise max_rounds, or start nearer.")
        values = {"clusters": found, "inertia": None if hidden.any() else float(last.sums["squares"].sum())}
        rows = tuple((number, one["count"], *one["centre"].values()) for number, one in enumerate(found, start=1))
        table = Table(self.label or f"Clusters of {', '.join(self.of)}", ("cluster", "count", *self.of), rows)
        return MethodResult(values, (table,), notes=tuple(notes))

    def in_words(self, terms: Terms) -> str:
        return (
            f"{self.clusters} clusters of {', '.join(self.of)}: the mean and the number of the records in each, and "
            "how near they are to it."
        )

    def _scale(self, terms: Terms) -> Floats:
        """What distances are measured in, shape (columns,)."""
        low, high = _ranges(terms, self.of)
        return (high - low) / 2 if self.scaled else np.ones(len(self.of))

    def _first(self, terms: Terms) -> Floats:
        """The centres of the first round, shape (clusters, columns)."""
        if self.start:
            return np.array(self.start, np.float64)
        low, high = _ranges(terms, self.of)
        return low + (high - low) * ((np.arange(self.clusters) + 0.5) / self.clusters)[:, None]

    def _asked(self, ask: Ask) -> Floats:
        return ask.parameter("centres").reshape(self.clusters, len(self.of))

    def _means(self, terms: Terms, released: Released) -> Floats:
        """Of the records of each cluster, shape (clusters, columns); where there are none, the centre stays."""
        low, high = _ranges(terms, self.of)
        counts = np.maximum(released.sums["counts"].astype(np.int64), 0)[:, None]
        means = (low + high) / 2 + (high - low) / 2 * released.sums["sums"] / np.maximum(counts, 1)
        return np.where(counts > 0, means.clip(low, high), self._asked(released.ask))

    def _settled(self, terms: Terms, released: Released) -> bool:
        """Whether the means are the centres, but for the digits that are rounded."""
        low, high = _ranges(terms, self.of)
        moved = np.abs(self._means(terms, released) - self._asked(released.ask)) / (high - low)
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


def _ranges(terms: Terms, names: Sequence[str]) -> tuple[Floats, Floats]:
    """The smallest and the largest values, shapes (columns,)."""
    low, high = np.array([bounds_of(terms.columns[name]) for name in names], np.float64).T
    return low, high


def _ask(centres: Floats) -> Ask:
    return Ask("nearest", {"centres": public(centres.reshape(-1))})
