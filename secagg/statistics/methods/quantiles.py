"""Quantiles of a column, from counts in bins that get finer where a quantile lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Whole
from secagg.statistics.chunk import Chunk
from secagg.statistics.columns import Date, axis_of, bounds_of, levels_of
from secagg.statistics.grids import bin_of, check_bins, divided, equal_bins, said, unit_of
from secagg.statistics.method import Method
from secagg.statistics.results import Bars, MethodResult, Table, Value
from secagg.statistics.tables import hidden_in

_MOST_ROUNDS: Final = 4


class Quantiles(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="quantiles"):
    """The bin that holds each quantile: the value of rank ceil(q n), which ``numpy.quantile`` calls ``inverted_cdf``.

    What is summed: counts in bins.  The first round has bins over the column's range; each later one divides the bins
    that hold a quantile, and keeps the others, so that a quantile is found although a site may have vanished in between
    (bisection by ranks, as in R. Hyndman and Y. Fan, "Sample quantiles in statistical packages", 1996, definition 1,
    asked of counts).  One round is one fine histogram.  The error is at most half of the last bin's width; in a column
    with a fixed number of decimals, and no more than bins^rounds values in its range, a bin gets to hold a single
    value, and the quantile is exact.

    A quantile with fewer than ``min_cell`` records on one side of it, itself included, is withheld.

    Attributes:
        of: a number or a date.
        by: a category or a flag; empty: all records together.
        at: the quantiles, from 0 to 1.
        bins: into how many parts a range is divided in each round.
        rounds: the most rounds, 1 to 4.
    """

    of: str
    by: str = ""
    at: tuple[float, ...] = (0.25, 0.5, 0.75)
    bins: int = 100
    rounds: int = _MOST_ROUNDS

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.of, self.by) if self.by else (self.of,)

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return (self._first(terms),) * self.rounds

    def check(self, terms: Terms) -> None:
        bounds_of(terms.columns[self.of])
        self._levels(terms)
        check_bins(self.bins)
        if not 1 <= self.rounds <= _MOST_ROUNDS:
            raise ParameterError(f"rounds is {self.rounds}: must be from 1 to {_MOST_ROUNDS}")
        if not self.at or not all(0 <= quantile <= 1 for quantile in self.at):
            raise ParameterError(f"at is {list(self.at)}: give one or more numbers from 0 to 1, such as 0.5")
        if len(set(self.at)) < len(self.at):
            raise ParameterError(f"at is {list(self.at)}: each quantile once")

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return self._first(terms)
        if len(released) >= self.rounds:
            return None
        parameters = {
            _edges(group): self._refined(terms, released[-1], group) for group in range(len(self._levels(terms)))
        }
        return None if parameters == released[-1].ask.parameters else Ask("counts", parameters)

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        groups = range(len(self._levels(terms)))
        sizes = {group: len(ask.parameters[_edges(group)]) - 1 for group in groups}
        return {f"counts_{group}": Whole((size,), touched=1, group="counts") for group, size in sizes.items()}

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        values = chunk.numbers(self.of)
        found: dict[str, npt.NDArray[Any]] = {}
        for group in range(len(self._levels(terms))):
            edges = ask.parameters[_edges(group)]
            own = values[chunk.codes(self.by) == group] if self.by else values
            found[f"counts_{group}"] = np.bincount(bin_of(own, edges).clip(0, len(edges) - 2), minlength=len(edges) - 1)
        return found

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        levels, last = self._levels(terms), released[-1]
        column, title = terms.columns[self.of], self.label or f"Quantiles of {self.of}"
        totals = np.array([int(last.sums[f"counts_{group}"].sum()) for group in range(len(levels))])
        hidden = hidden_in(terms, totals)
        found: dict[str, Any] = {}
        figures, notes = [], []
        rows: list[tuple[Value, ...]] = []
        for group, level in enumerate(levels):
            shown = 0 if hidden[group] else int(totals[group])
            one = {str(at): self._quantile(terms, last, group, at, shown) for at in self.at}
            found[level] = {"count": None if hidden[group] else shown, "quantiles": one}
            named = f"{self.by} = {level}" if self.by else self.of
            if missing := [at for at, quantile in one.items() if quantile["value"] is None]:
                notes.append(f"{named}: {', '.join(missing)} is withheld, because few records are beyond it.")
            for at, quantile in one.items():
                said_of = [None if value is None else said(column, value) for value in quantile.values()]
                rows.append((*((level,) if self.by else ()), at, *said_of[:3], quantile["width"]))
            figures.append(self._bars(terms, last, group, f"{title}, {named}" if self.by else title, one))
        heads = (*((self.by,) if self.by else ()), "quantile", "value", "low", "high", "width")
        values = {"groups": found} if self.by else found[""]
        return MethodResult(values, (Table(title, heads, tuple(rows)),), tuple(figures), tuple(notes))

    def in_words(self, terms: Terms) -> str:
        groups = f" for each value of {self.by}" if self.by else ""
        return f"The quantiles {', '.join(map(str, self.at))} of {self.of}{groups}, from counts in bins that get finer."

    def _levels(self, terms: Terms) -> tuple[str, ...]:
        return levels_of(terms.columns[self.by]) if self.by else ("",)

    def _first(self, terms: Terms) -> Ask:
        edges = equal_bins(terms.columns[self.of], self.bins)
        return Ask("counts", {_edges(group): edges for group in range(len(self._levels(terms)))})

    def _refined(self, terms: Terms, released: Released, group: int) -> list[float]:
        """The edges of a group, and between those of each bin that holds a quantile, further ones."""
        edges, counts = released.ask.parameters[_edges(group)], released.sums[f"counts_{group}"]
        unit = unit_of(terms.columns[self.of])
        found = set(edges)
        if (total := int(counts.sum())) > 0:
            for quantile in self.at:
                at = _holder(counts, _rank(quantile, total))
                found.update(divided(edges[at], edges[at + 1], self.bins, unit))
        return sorted(found)

    def _quantile(self, terms: Terms, released: Released, group: int, quantile: float, total: int) -> dict[str, Any]:
        """The bin that holds it; ``value`` is its middle, or the single value that it can hold."""
        rank = _rank(quantile, total)
        if total == 0 or min(rank, total - rank + 1) < terms.release.min_cell:
            return dict.fromkeys(("value", "low", "high", "width"))
        edges, unit = released.ask.parameters[_edges(group)], unit_of(terms.columns[self.of])
        at = _holder(released.sums[f"counts_{group}"], rank)
        low, high = edges[at], edges[at + 1]
        if unit is not None:
            per_unit = round(1 / unit)
            high = (round(high * per_unit) - 1) / per_unit  # the largest value that the bin can hold
        return {"value": low if low == high else (low + high) / 2, "low": low, "high": high, "width": high - low}

    def _bars(self, terms: Terms, released: Released, group: int, title: str, found: Mapping[str, Any]) -> Bars:
        """The counts of the last round in the bins of the first one, and where the quantiles are."""
        edges = equal_bins(terms.columns[self.of], self.bins)
        fine = np.array(released.ask.parameters[_edges(group)])
        counts = released.sums[f"counts_{group}"].astype(np.int64)
        coarse = np.add.reduceat(counts, np.searchsorted(fine, edges[:-1]))
        hidden = hidden_in(terms, coarse)
        heights = tuple(None if covered else int(count) for count, covered in zip(coarse, hidden, strict=True))
        marks = {at: one["value"] for at, one in found.items() if one["value"] is not None}
        column = terms.columns[self.of]
        return Bars(title, axis_of(self.of, column), tuple(edges), heights, marks, dates=isinstance(column, Date))


def _edges(group: int) -> str:
    return f"edges_{group}"


def _rank(quantile: float, total: int) -> int:
    """From 1 to total: the first rank at which so large a share is reached."""
    return min(total, max(1, math.ceil(Fraction(str(quantile)) * total)))


def _holder(counts: npt.NDArray[Any], rank: int) -> int:
    """The bin that holds the value of a rank; with noise, counts may be negative, and the last bin holds the rest."""
    reached = np.maximum.accumulate(np.cumsum(counts.astype(np.int64)))
    return min(int(np.searchsorted(reached, rank)), reached.size - 1)
