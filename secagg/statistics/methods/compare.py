"""Means of groups and tests of whether they differ: Student's and Welch's t-test, ANOVA and Welch's ANOVA."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells
from secagg.statistics.chunk import Chunk
from secagg.statistics.columns import axis_of, bounds_of, levels_of
from secagg.statistics.distributions import beyond_f, check_confidence, finite, margin, scipy_module, two_sided
from secagg.statistics.method import Method
from secagg.statistics.methods.describe import shown_moments
from secagg.statistics.moments import Moments, cells_of_moments, moments_of, next_moments, sums_of_moments
from secagg.statistics.results import Forest, MethodResult, Table

_HEADS: Final = ("count", "mean", "sd", "low", "high")


class Compare(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="compare"):
    """The mean of a column in each group, and tests of whether the means differ.

    What is summed: counts, values and squares by group about public centres, in two rounds; see
    ``secagg.statistics.moments``.  Two groups are compared by Student's t-test (equal variances) and Welch's (B. L.
    Welch, Biometrika 34, 1947); two or more by one-way ANOVA and by Welch's ANOVA (Biometrika 38, 1951).  A group
    whose count is withheld is left out of the tests.

    Attributes:
        of: a number, a flag or a date.
        by: a category or a flag whose values are the groups.
        confidence: of the intervals.
    """

    of: str
    by: str
    confidence: float = 0.95

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of, self.by

    def check(self, terms: Terms) -> None:
        bounds_of(terms.columns[self.of])
        if len(levels_of(terms.columns[self.by])) < 2:
            raise ParameterError(f"{self.by} has a single value: there is nothing to compare")
        check_confidence(self.confidence)

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        return next_moments(terms, (self.of,), released)

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return cells_of_moments(terms, (self.of,), len(levels_of(terms.columns[self.by])), ask)

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        levels = levels_of(terms.columns[self.by])
        return sums_of_moments(terms, (self.of,), len(levels), ask, chunk, chunk.codes(self.by))

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        levels = levels_of(terms.columns[self.by])
        moments = moments_of(terms, released, self.of)
        shown = shown_moments(terms, self.of, moments)
        groups = dict(zip(levels, (self._interval(one) for one in shown), strict=True))
        used = {
            level: one
            for level, one, seen in zip(levels, moments, shown, strict=True)
            if seen["count"] and one.variance is not None
        }
        notes = _notes(groups, used)
        tests = _tests(used, self.confidence) if len(used) > 1 else {}
        rows = tuple((level, *(one[head] for head in _HEADS)) for level, one in groups.items())
        tables = [Table(self.label or f"{self.of} by {self.by}", (self.by, *_HEADS), rows)]
        if tests:
            heads = ("statistic", "df", "df_within", "p", "difference", "low", "high")
            found = tuple((name, *(test.get(head) for head in heads)) for name, test in tests.items())
            tables.append(Table("Tests of equal means", ("test", *heads), found))
        return MethodResult({"groups": groups, "tests": tests}, tuple(tables), self._figures(terms, groups), notes)

    def in_words(self, terms: Terms) -> str:
        return f"Count, mean and variance of {self.of} for each value of {self.by}, and tests of whether they differ."

    def _interval(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """A group's description, with the confidence interval of its mean."""
        half = None
        if one["sd"] is not None:
            half = margin(one["sd"] / math.sqrt(one["count"]), one["count"] - 1, self.confidence)
        low, high = (None, None) if half is None else (one["mean"] - half, one["mean"] + half)
        return {**one, "low": low, "high": high}

    def _figures(self, terms: Terms, groups: Mapping[str, Mapping[str, Any]]) -> tuple[Forest, ...]:
        drawn = {level: one for level, one in groups.items() if one["low"] is not None}
        if not drawn:
            return ()
        means, low, high = (tuple(one[part] for one in drawn.values()) for part in ("mean", "low", "high"))
        middle = sum(one["sum"] for one in drawn.values()) / sum(one["count"] for one in drawn.values())
        title = self.label or f"Means of {self.of} by {self.by}"
        axis = axis_of(self.of, terms.columns[self.of])
        return (Forest(title, axis, tuple(drawn), means, low, high, middle, self.confidence),)


def _notes(groups: Mapping[str, Mapping[str, Any]], used: Mapping[str, Moments]) -> tuple[str, ...]:
    notes = []
    if withheld := [level for level, one in groups.items() if one["count"] is None]:
        notes.append(f"The groups {', '.join(withheld)} are withheld, because they or others have few records.")
    if few := [level for level, one in groups.items() if one["count"] is not None and level not in used]:
        notes.append(f"The groups {', '.join(few)} have fewer than two records, and are left out of the tests.")
    if len(used) < 2:
        notes.append("Fewer than two groups are left, so there is no test.")
    elif all(one.squares == 0 for one in used.values()):
        notes.append("No group varies, so the tests are not defined.")
    elif any(one.squares == 0 for one in used.values()):
        notes.append("A group does not vary, so Welch's ANOVA is not defined.")
    return tuple(notes)


def _tests(groups: Mapping[str, Moments], confidence: float) -> dict[str, dict[str, Any]]:
    """By name; a statistic that is not defined, because nothing varies, is None."""
    counts = np.array([one.count for one in groups.values()], np.float64)
    means = np.array([float(one.mean or 0) for one in groups.values()])
    squares = np.array([float(one.squares) for one in groups.values()])
    if not squares.any():
        return {}
    found: dict[str, dict[str, Any]] = {}
    if len(groups) == 2:
        for name, equal in (("student", True), ("welch", False)):
            found[name] = _t_test(counts, means, squares, equal, confidence)
    found["anova"] = _anova(counts, means, squares)
    if squares.all():
        found["welch_anova"] = _welch_anova(counts, means, squares / (counts - 1))
    return found


def _t_test(
    counts: npt.NDArray[np.float64],
    means: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    equal: bool,
    confidence: float,
) -> dict[str, Any]:
    """The first group less the second; shape (2,) each."""
    variances = squares / (counts - 1)
    (one, other), (n, m) = np.sqrt(variances).tolist(), counts.tolist()
    test = scipy_module("stats").ttest_ind_from_stats(means[0], one, n, means[1], other, m, equal_var=equal)
    parts = variances / counts
    if equal:
        freedom = float(n + m - 2)
        error = math.sqrt(squares.sum() / freedom * (1 / n + 1 / m))
    else:
        freedom = float(parts.sum() ** 2 / (parts**2 / (counts - 1)).sum())
        error = math.sqrt(parts.sum())
    difference = float(means[0] - means[1])
    half = margin(error, freedom, confidence)
    return {
        "statistic": finite(test.statistic),
        "df": freedom,
        "p": two_sided(float(test.statistic), freedom),
        "difference": difference,
        "low": None if half is None else difference - half,
        "high": None if half is None else difference + half,
    }


def _anova(
    counts: npt.NDArray[np.float64], means: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """One-way analysis of variance: mean squares between groups over those within."""
    between, within = len(counts) - 1, float(counts.sum() - len(counts))
    grand = (counts * means).sum() / counts.sum()
    explained = float((counts * (means - grand) ** 2).sum())
    f = explained / between / (squares.sum() / within)
    return {
        "statistic": finite(f),
        "df": between,
        "df_within": within,
        "p": beyond_f(f, between, within),
        "eta_squared": finite(explained / (explained + squares.sum())),
    }


def _welch_anova(
    counts: npt.NDArray[np.float64], means: npt.NDArray[np.float64], variances: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Welch 1951: groups weighed by count / variance."""
    weights = counts / variances
    groups, share = len(counts), weights / weights.sum()
    grand = (share * means).sum()
    spread = ((1 - share) ** 2 / (counts - 1)).sum()
    numerator = (weights * (means - grand) ** 2).sum() / (groups - 1)
    f = numerator / (1 + 2 * (groups - 2) / (groups**2 - 1) * spread)
    within = (groups**2 - 1) / (3 * spread)
    return {
        "statistic": finite(f),
        "df": groups - 1,
        "df_within": float(within),
        "p": beyond_f(f, groups - 1, within),
    }
