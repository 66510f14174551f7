"""What methods share that look for clusters of records: columns, where they start, and how far they go.

Columns are brought to -1..1 by their public ranges, z = (x - middle) / half range, so that what a record adds to a sum
is bounded and no digits are lost to a column's units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import numpy as np

from secagg.errors import ParameterError
from secagg.statistics.asks import Terms
from secagg.statistics.chunk import Chunk, Floats
from secagg.statistics.columns import bounds_of
from secagg.statistics.method import Method, check_columns


@final
@dataclass(frozen=True, eq=False)
class Ranges:
    """The public ranges of p columns.

    Attributes:
        low, high: the smallest and the largest values, shape (p,).
    """

    names: tuple[str, ...]
    low: Floats
    high: Floats

    @classmethod
    def of(cls, terms: Terms, names: Sequence[str]) -> Self:
        """Raises ParameterError for a category, which has none."""
        low, high = np.array([bounds_of(terms.columns[name]) for name in names], np.float64).T
        return cls(tuple(names), low, high)

    @property
    def middle(self) -> Floats:
        """Shape (p,)."""
        return (self.low + self.high) / 2

    @property
    def half(self) -> Floats:
        """Half the width, shape (p,)."""
        return (self.high - self.low) / 2

    def values(self, chunk: Chunk) -> Floats:
        """x, shape (chunk.size, p).  The records must have a value in each column."""
        return np.column_stack([chunk.numbers(name) for name in self.names])

    def scaled(self, values: Floats) -> Floats:
        """z of x, shape (..., p) both."""
        return (values - self.middle) / self.half


class Clustering(Method, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A method that moves centres of clusters, a round for each step.

    Attributes:
        of: numbers, flags or dates (in days); a record that lacks one of them is left out.
        clusters: how many, 2 or more.
        start: a first centre for each cluster, with a number for each column; empty: centres at equal distances on the
            diagonal from the smallest to the largest values of the columns' ranges.
        max_rounds: the most rounds.
    """

    of: tuple[str, ...]
    clusters: int
    start: tuple[tuple[float, ...], ...] = ()
    max_rounds: int = 20

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of

    def check(self, terms: Terms) -> None:
        check_columns(self.of, terms)
        ranges = self._ranges(terms)
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
            at = np.array(centre, np.float64)
            if not ((ranges.low <= at) & (at <= ranges.high)).all():
                raise ParameterError(f"start has {list(centre)}, which is outside of the columns' ranges")
        if len(set(self.start)) < self.clusters:
            raise ParameterError("start has a centre twice: two alike never part, so leave one of them out")

    def _ranges(self, terms: Terms) -> Ranges:
        return Ranges.of(terms, self.of)

    def _first(self, terms: Terms) -> Floats:
        """The centres of the first round, shape (clusters, columns)."""
        if self.start:
            return np.array(self.start, np.float64)
        ranges = self._ranges(terms)
        shares = (np.arange(self.clusters) + 0.5) / self.clusters
        return ranges.low + (ranges.high - ranges.low) * shares[:, None]
