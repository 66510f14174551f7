"""Count, sum, mean, variance and standard deviation of each of some columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells
from secagg.statistics.chunk import Chunk
from secagg.statistics.columns import Flag, levels_of
from secagg.statistics.method import Method, check_columns
from secagg.statistics.moments import (
    Moments,
    cells_of_moments,
    moments_of,
    next_moments,
    rounds_of_moments,
    sums_of_moments,
)
from secagg.statistics.results import MethodResult, Table
from secagg.statistics.tables import hidden_in

_SHOWN: Final = ("count", "sum", "mean", "variance", "sd")


class Describe(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="describe"):
    """Counts, sums, means, variances and standard deviations, by group where asked.

    Two rounds: counts and sums, then squares about the means of the first; see ``secagg.statistics.moments``.
    Counts below ``min_cell`` are withheld with all that rests on them.

    Attributes:
        of: the columns, each with its own missing values.
        by: a category or a flag whose values are the groups; empty: all records together.
    """

    of: tuple[str, ...]
    by: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        return (*self.of, self.by) if self.by else self.of

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.by,) if self.by else ()

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return rounds_of_moments(terms, self.of, len(self._levels(terms)))

    def check(self, terms: Terms) -> None:
        check_columns(self.of, terms)
        self._levels(terms)

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        return next_moments(terms, self.of, released)

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return cells_of_moments(terms, self.of, len(self._levels(terms)), ask)

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        codes = chunk.codes(self.by) if self.by else None
        return sums_of_moments(terms, self.of, len(self._levels(terms)), ask, chunk, codes)

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        values: dict[str, Any] = {}
        rows: list[tuple[Any, ...]] = []
        for name in self.of:
            by_group = shown_moments(terms, name, moments_of(terms, released, name))
            if not self.by:
                values[name] = by_group[0]
                rows.append((name, *by_group[0].values()))
                continue
            values[name] = dict(zip(self._levels(terms), by_group, strict=True))
            rows += [(name, level, *found.values()) for level, found in values[name].items()]
        heads = ("column", self.by) if self.by else ("column",)
        return MethodResult(values, (Table(self.label or "Description", (*heads, *_SHOWN), tuple(rows)),))

    def in_words(self, terms: Terms) -> str:
        groups = f" for each value of {self.by}" if self.by else ""
        return f"Counts, sums, means and variances of {', '.join(self.of)}{groups}."

    def _levels(self, terms: Terms) -> tuple[str, ...]:
        return levels_of(terms.columns[self.by]) if self.by else ("",)


def shown_moments(terms: Terms, name: str, moments: Sequence[Moments]) -> list[dict[str, Any]]:
    """What is shown of a column in each group: nothing of a group whose count is withheld.

    The sum of a flag is the count of its yes, so that of each group both the yes and the no are counts.
    """
    counts = np.array([[one.count] for one in moments], np.int64)
    if isinstance(terms.columns[name], Flag):
        yes = np.array([[round(one.sum)] for one in moments], np.int64)
        counts = np.hstack([counts - yes, yes])
    hidden = hidden_in(terms, counts)
    found: list[dict[str, Any]] = []
    for one, withheld in zip(moments, hidden, strict=True):
        if withheld.any():
            found.append(dict.fromkeys(_SHOWN))
        else:
            mean = None if one.mean is None else float(one.mean)
            found.append({"count": one.count, "sum": one.sum, "mean": mean, "variance": one.variance, "sd": one.sd})
    return found
