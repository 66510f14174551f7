"""Smallest and largest values, any and all of flags, and which values occur: answers of yes or no.

The sum of a yes-or-no cell says whether any site has a yes, and not how many sites or records have one; see
``secagg.statistics.layout``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Presence
from secagg.statistics.chunk import Chunk
from secagg.statistics.columns import Flag, levels_of
from secagg.statistics.grids import bin_of, check_bins, equal_bins, said, unit_of
from secagg.statistics.method import ByColumn, check_columns
from secagg.statistics.results import MethodResult, Table, Value


class _OneRound(ByColumn, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Some columns, each with its own missing values, in one round."""

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        return None if released else Ask("presence")


class Range(_OneRound, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="range"):
    """The bins of a public grid that hold the smallest and the largest value.

    What is summed, in one round: for each bin whether any value is in it or above it, and whether any is in it or below
    it (unary bins), so that nothing between the two ends is told.  Each end may be a single person's value, to within a
    bin: the width of the bins is what hides it.

    Attributes:
        bins: how many over each column's range; fewer where they would be narrower than its unit.
    """

    bins: int = 64

    def check(self, terms: Terms) -> None:
        check_columns(self.of, terms)
        check_bins(self.bins)

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        found: dict[str, Cells] = {}
        for name in self.of:
            bins = len(equal_bins(terms.columns[name], self.bins)) - 1
            found |= {f"reached_{name}": Presence((bins,)), f"begun_{name}": Presence((bins,))}
        return found

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        found: dict[str, npt.NDArray[Any]] = {}
        for name in self.of:
            edges = equal_bins(terms.columns[name], self.bins)
            values, bins = chunk.numbers(name), np.arange(len(edges) - 1)
            held = bin_of(values[~np.isnan(values)], edges).clip(0, bins.size - 1)
            found[f"reached_{name}"] = bins <= held.max(initial=-1)
            found[f"begun_{name}"] = bins >= held.min(initial=bins.size)
        return found

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        values: dict[str, Any] = {}
        rows: list[tuple[Value, ...]] = []
        empty: list[str] = []
        for name in self.of:
            column, edges = terms.columns[name], equal_bins(terms.columns[name], self.bins)
            highest = int(released[-1].sums[f"reached_{name}"].sum()) - 1
            lowest = len(edges) - 1 - int(released[-1].sums[f"begun_{name}"].sum())
            if highest < 0:
                empty.append(name)
                values[name] = {"min": None, "max": None}
                continue
            unit = unit_of(column) or 0.0
            ends = {"min": lowest, "max": highest}
            values[name] = {end: {"low": edges[at], "high": _last(edges[at + 1], unit)} for end, at in ends.items()}
            bounds = [said(column, values[name][end][part]) for end in ("min", "max") for part in ("low", "high")]
            rows.append((name, *bounds))
        notes = (f"The columns {', '.join(empty)} have no values.",) if empty else ()
        heads = ("column", "min from", "min to", "max from", "max to")
        return MethodResult(values, (Table(self.label or "Range", heads, tuple(rows)),), (), notes)

    def in_words(self, terms: Terms) -> str:
        widths = []
        for name in self.of:
            edges = equal_bins(terms.columns[name], self.bins)
            widths.append(f"{name} (to within {edges[1] - edges[0]:g})")
        return f"The smallest and the largest value, which may be one person's, of {', '.join(widths)}."


class _OfFlags(_OneRound, frozen=True, forbid_unknown_fields=True, kw_only=True):
    def check(self, terms: Terms) -> None:
        check_columns(self.of, terms)
        for name in self.of:
            if not isinstance(terms.columns[name], Flag):
                raise ParameterError(f"{name} is no flag: give columns of yes and no")

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return {name: Presence(()) for name in self.of}

    def _reported(self, title: str, values: Mapping[str, bool]) -> MethodResult:
        return MethodResult(dict(values), (Table(self.label or title, ("column", "answer"), tuple(values.items())),))


class AnyOf(_OfFlags, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="any"):
    """Whether any record has a yes, for each flag: one yes-or-no cell each, in one round."""

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        return {name: np.array((chunk.numbers(name) == 1).any()) for name in self.of}

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        return self._reported("Any", {name: bool(released[-1].sums[name]) for name in self.of})

    def in_words(self, terms: Terms) -> str:
        return f"Whether any record has a yes in {', '.join(self.of)}, and not how many."


class All(_OfFlags, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="all"):
    """Whether no record has a no, for each flag: one yes-or-no cell each, in one round.  It is yes without records."""

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        return {name: np.array((chunk.numbers(name) == 0).any()) for name in self.of}

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        return self._reported("All", {name: not bool(released[-1].sums[name]) for name in self.of})

    def in_words(self, terms: Terms) -> str:
        return f"Whether all records have a yes in {', '.join(self.of)}, and not how many lack it."


class Distinct(_OneRound, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="distinct"):
    """Which of the listed values occur, for each category or flag: a yes-or-no cell for each value, in one round."""

    def check(self, terms: Terms) -> None:
        if not self.of:
            raise ParameterError("of names no columns: give at least one")
        for name in self.of:
            levels_of(terms.columns[name])

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return {name: Presence((len(levels_of(terms.columns[name])),)) for name in self.of}

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        levels = {name: np.arange(len(levels_of(terms.columns[name]))) for name in self.of}
        return {name: np.isin(codes, chunk.codes(name)) for name, codes in levels.items()}

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        values = {}
        for name in self.of:
            there = released[-1].sums[name].tolist()
            values[name] = [level for level, met in zip(levels_of(terms.columns[name]), there, strict=True) if met]
        rows = tuple((name, level) for name, levels in values.items() for level in levels)
        return MethodResult(values, (Table(self.label or "Values that occur", ("column", "value"), rows),))

    def in_words(self, terms: Terms) -> str:
        return f"Which of the listed values of {', '.join(self.of)} occur at all, and not how often."


def _last(edge: float, unit: float) -> float:
    """The largest value below an edge in a column of this unit; the edge itself where there is none."""
    return edge if unit == 0 else (round(edge / unit) - 1) / round(1 / unit)
