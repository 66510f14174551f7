"""Counts of a column's values in public bins, by group where asked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.chunk import Chunk, Codes
from secagg.statistics.columns import Date, axis_of, bounds_of, levels_of
from secagg.statistics.grids import MOST_BINS, bin_of, check_bins, check_edges, equal_bins, said
from secagg.statistics.results import Bars, MethodResult, Table, Value
from secagg.statistics.tables import Counting, hidden_in


class Histogram(Counting, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="histogram"):
    """How many values are in each bin, as ``numpy.histogram`` counts them.

    What is summed: a count for each bin, and for what is below the first and above the last, in one round, exact.
    Bins are given by ``edges``, or by ``start``, ``stop`` and ``step``, or as a number of ``bins`` over the column's
    range.  Small counts are withheld, and others with them so that the total of a bin or of a group does not give them
    away.

    Attributes:
        of: a number, a flag or a date (in days since 1970-01-01).
        by: a category or a flag; empty: all records together.
        edges: of the bins, ascending.
        start, stop, step: equal bins of this width.
        bins: how many over the column's range, where nothing else is given.
    """

    of: str
    by: str = ""
    edges: tuple[float, ...] = ()
    start: float | None = None
    stop: float | None = None
    step: float | None = None
    bins: int = 20

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.of, self.by) if self.by else (self.of,)

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return (Ask("counts"),)

    def check(self, terms: Terms) -> None:
        bounds_of(terms.columns[self.of])
        check_bins(self.bins)
        steps = (self.start, self.stop, self.step)
        if any(value is not None for value in steps):
            if self.edges or any(value is None for value in steps):
                raise ParameterError("give edges, or start, stop and step, or bins: one of the three")
            start, stop, step = (float(value or 0) for value in steps)
            if not (step > 0 and start < stop and (stop - start) / step <= MOST_BINS):
                raise ParameterError(
                    f"bins from {start:g} to {stop:g} by {step:g}: stop must be above start, step above 0, and there "
                    f"may be {MOST_BINS} bins"
                )
        check_edges(self._edges(terms))
        self._levels(terms)

    def _cell_of(self, terms: Terms, chunk: Chunk) -> Codes:
        where = bin_of(chunk.numbers(self.of), self._edges(terms)) + 1
        return where + chunk.codes(self.by) * self._shape(terms)[1] if self.by else where

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        counts = released[-1].sums["counts"].astype(np.int64)
        hidden = hidden_in(terms, counts)
        edges, levels = self._edges(terms), self._levels(terms)
        groups: dict[str, Any] = {}
        for level, row, covered in zip(levels, counts, hidden, strict=True):
            shown = [None if withheld else int(count) for count, withheld in zip(row, covered, strict=True)]
            below, *heights, above = shown
            groups[level] = {"counts": heights, "below": below, "above": above}
        column, title = terms.columns[self.of], self.label or f"Histogram of {self.of}"
        named = {level: f"{title}, {self.by} = {level}" if self.by else title for level in levels}
        axis, dates = axis_of(self.of, column), isinstance(column, Date)
        figures = [
            Bars(named[level], axis, tuple(edges), tuple(groups[level]["counts"]), dates=dates) for level in levels
        ]
        rows: list[tuple[Value, ...]] = [
            (said(column, low), said(column, high), *(groups[level]["counts"][at] for level in levels))
            for at, (low, high) in enumerate(itertools.pairwise(edges))
        ]
        if counts[:, [0, -1]].any():
            rows.insert(0, ("", said(column, edges[0]), *(groups[level]["below"] for level in levels)))
            rows.append((said(column, edges[-1]), "", *(groups[level]["above"] for level in levels)))
        heads = [f"{self.by}: {level}" for level in levels] if self.by else ["count"]
        notes = (f"{int(hidden.sum())} counts are withheld.",) if hidden.any() else ()
        values = {"edges": edges, **({"groups": groups} if self.by else groups[""])}
        return MethodResult(values, (Table(title, ("from", "to", *heads), tuple(rows)),), tuple(figures), notes)

    def in_words(self, terms: Terms) -> str:
        edges, column = self._edges(terms), terms.columns[self.of]
        groups = f", for each value of {self.by}" if self.by else ""
        ends = f"from {said(column, edges[0])} to {said(column, edges[-1])}"
        return f"How many values of {self.of} are in each of {len(edges) - 1} bins {ends}{groups}."

    def _edges(self, terms: Terms) -> list[float]:
        if self.edges:
            return list(self.edges)
        if self.start is None or self.stop is None or self.step is None:
            return equal_bins(terms.columns[self.of], self.bins)
        count = max(1, math.ceil((self.stop - self.start) / self.step - 1e-9))
        return [float(f"{self.start + at * self.step:.12g}") for at in range(count)] + [self.stop]

    def _levels(self, terms: Terms) -> tuple[str, ...]:
        return levels_of(terms.columns[self.by]) if self.by else ("",)

    def _shape(self, terms: Terms) -> tuple[int, int]:
        """By group: below the first bin, the bins, above the last."""
        return len(self._levels(terms)), len(self._edges(terms)) + 1
