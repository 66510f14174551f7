"""Counts of combinations of categories and flags, and tests of whether they are independent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.chunk import Chunk, Codes
from secagg.statistics.columns import levels_of
from secagg.statistics.distributions import finite, scipy_module
from secagg.statistics.results import MethodResult, Table, Value
from secagg.statistics.tables import Counting, hidden_in, told_by_margins

_MOST_CELLS: Final = 2**20
_MOST_FOR_FISHER: Final = 100_000
"""Fisher's exact test adds up as many terms as the smaller margin has records."""


class Crosstab(Counting, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="crosstab"):
    """A table of counts by two or more columns, with margins, Pearson's chi-squared and Cramer's V.

    What is summed: a count for each cell, in one round, exact.  Tests are SciPy's ``chi2_contingency``,
    ``contingency.association`` (H. Cramer, Mathematical Methods of Statistics, 1946) and, for two by two cells,
    ``fisher_exact``, over the rows and columns that occur.  When cells are withheld, so are the tests, which could be
    solved for them; margins are shown where complementary cells are withheld as well, and keep the others hidden.

    Attributes:
        of: two or more categories or flags.
        correction: whether chi-squared of two by two cells has Yates's correction for continuity.
    """

    of: tuple[str, ...]
    correction: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return (Ask("counts"),)

    def check(self, terms: Terms) -> None:
        if len(self.of) < 2 or len(set(self.of)) < len(self.of):
            raise ParameterError(f"of names {', '.join(self.of) or 'no column'}: give two or more different columns")
        if (cells := math.prod(self._shape(terms))) > _MOST_CELLS:
            raise ParameterError(f"the table has {cells} cells: at most {_MOST_CELLS} are allowed")

    def _cell_of(self, terms: Terms, chunk: Chunk) -> Codes:
        return np.ravel_multi_index(tuple(chunk.codes(name) for name in self.of), self._shape(terms))

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        counts = released[-1].sums["counts"].astype(np.int64)
        least, complementary = terms.release.min_cell, terms.release.complementary
        hidden = hidden_in(terms, counts)
        told = not complementary or told_by_margins(terms, counts)
        notes = []
        margins: dict[str, list[int | None]] = {}
        for axis, name in enumerate(self.of):
            margin = counts.sum(axis=tuple(other for other in range(counts.ndim) if other != axis))
            small = bool(((margin > 0) & (margin < least)).any())
            margins[name] = _shown(margin, np.full(margin.shape, small or (hidden.any() and told)))
            if None in margins[name]:
                notes.append(f"The margin of {name} is withheld, because it would give away cells.")
        if hidden.any():
            notes.append(
                f"{int(hidden.sum())} cells are withheld: those from 1 to {least - 1}"
                + (", and others so that margins do not give them away." if complementary else ".")
                + " The tests could give them away, and are withheld as well."
            )
            tests: dict[str, Any] = {}
        elif terms.noisy:
            tests = {}
            notes.append("There are no tests: they would take the noise for a difference.")
        else:
            tests = _tests(counts, self.correction)
            if not tests:
                notes.append("There is no test: a column has a single value in these records.")
        levels = {name: list(levels_of(terms.columns[name])) for name in self.of}
        shown, total = _nested(counts, hidden), int(counts.sum())
        values = {"levels": levels, "counts": shown, "margins": margins, "total": total, "tests": tests}
        return MethodResult(values, self._tables(values), (), tuple(notes))

    def in_words(self, terms: Terms) -> str:
        return f"Counts of records by {' and '.join(self.of)}, and tests of whether these depend on each other."

    def _shape(self, terms: Terms) -> tuple[int, ...]:
        return tuple(len(levels_of(terms.columns[name])) for name in self.of)

    def _tables(self, values: Mapping[str, Any]) -> tuple[Table, ...]:
        """Rows are combinations of all columns but the last, whose values are the heads."""
        levels, title = values["levels"], self.label or " by ".join(self.of)
        *rows_of, last = self.of
        counts = np.array(values["counts"], object)
        rows: list[tuple[Value, ...]] = []
        for index in np.ndindex(counts.shape[:-1]):
            named = tuple(levels[name][at] for name, at in zip(rows_of, index, strict=True))
            margin = (values["margins"][self.of[0]][index[0]],) if len(self.of) == 2 else ()
            rows.append((*named, *counts[index].tolist(), *margin))
        total = (values["total"],) if len(self.of) == 2 else ()
        rows.append(("all", *[""] * (len(rows_of) - 1), *values["margins"][last], *total))
        heads = (*rows_of, *(f"{last}: {level}" for level in levels[last]), *["all"] * (len(self.of) == 2))
        tests = tuple((name, value) for name, value in values["tests"].items())
        return (
            Table(title, heads, tuple(rows)),
            *([Table("Tests of independence", ("test", "value"), tests)] * bool(tests)),
        )


def _shown(counts: npt.NDArray[Any], hidden: npt.NDArray[np.bool_]) -> list[int | None]:
    return [None if withheld else int(count) for count, withheld in zip(counts, hidden, strict=True)]


def _nested(counts: npt.NDArray[Any], hidden: npt.NDArray[np.bool_]) -> list[Any]:
    """Lists in lists; None where a cell is withheld."""
    if counts.ndim == 1:
        return _shown(counts, hidden)
    return [_nested(part, covered) for part, covered in zip(counts, hidden, strict=True)]


def _tests(counts: npt.NDArray[np.int64], correction: bool) -> dict[str, Any]:
    """Over the values that occur; nothing when a column has a single one.  A negative count is noise around 0."""
    counts = counts.clip(0)
    for axis in range(counts.ndim):
        others = tuple(other for other in range(counts.ndim) if other != axis)
        counts = np.compress(counts.sum(axis=others) > 0, counts, axis=axis)
    if min(counts.shape) < 2:
        return {}
    test = scipy_module("stats").chi2_contingency(counts, correction=correction)
    found = {"chi_squared": finite(test.statistic), "df": int(test.dof), "p": finite(test.pvalue)}
    if counts.ndim == 2:
        found["cramers_v"] = finite(scipy_module("stats").contingency.association(counts, method="cramer"))
    if counts.shape == (2, 2) and counts.sum() <= _MOST_FOR_FISHER:
        exact = scipy_module("stats").fisher_exact(counts)
        found |= {"odds_ratio": finite(exact.statistic), "fisher_p": finite(exact.pvalue)}
    return found
