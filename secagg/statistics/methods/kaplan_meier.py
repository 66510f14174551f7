"""Kaplan-Meier curves and the log-rank test, from counts of events and of censored records on public points in time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Released, Terms
from secagg.statistics.chunk import Chunk, Codes, Floats
from secagg.statistics.columns import Flag, Number, Whole, axis_of, bounds_of, levels_of
from secagg.statistics.distributions import beyond_chi_squared, check_confidence, margin
from secagg.statistics.grids import check_bins, check_edges, divided, unit_of
from secagg.statistics.results import Curve, Curves, MethodResult, Table, Value
from secagg.statistics.tables import Counting, hidden_in, is_small, joined_ends

_Counts: TypeAlias = npt.NDArray[np.int64]
_SINGULAR: Final = 1e-10
"""Of the largest eigenvalue of the log-rank test's covariance: smaller ones are rounding, where groups add up to 0."""
_HALF: Final = 0.5 + 1e-12
"""The curve is at one half although its product was rounded up."""
_SMALLEST_P: Final = 1e-4
_SUMMARY: Final = ("events", "censored", "median", "median_low", "median_high")
_CURVE: Final = ("time", "at_risk", "events", "censored", "survival", "low", "high")


class KaplanMeier(Counting, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="kaplan_meier"):
    """Survival curves with bands, numbers at risk and medians, and the log-rank test between groups.

    What is summed: for each group and each point in time, how many records had the event and how many were censored, in
    one round, exact.  A time goes to the first point that is not before it; a record that was followed beyond the last
    point is censored there.  Where each time that occurs has a point of its own, all is that of pooled records.

    The curve is the product of E. L. Kaplan and P. Meier (1958).  Its bands are Greenwood's on the scale of log(-log),
    as in ``lifelines.KaplanMeierFitter``; they are not defined where the curve is 1 or 0.  The median is the first
    point at which the curve is at one half or below, and the ends of its interval are those of the bands (R. Brookmeyer
    and J. Crowley, 1982).  The test is that of ``lifelines.statistics.multivariate_logrank_test`` (R. Peto and
    J. Peto, 1972).

    A group with few records is withheld, and another one with it that would give it away.  In the other groups, points
    are joined from the left into steps, each with no events or ``min_cell`` or more, and no censored records or
    ``min_cell`` or more; what is left over at the end joins the last step.  Curve, bands, counts and numbers at risk
    are those at the ends of steps alone, where the curve is still the exact one.  So no count from 1 to min_cell - 1 is
    shown, and none is the difference of two that are.  A group without such a step has no curve.

    This hides counts, and not all that follows from exact numbers: somebody with the patience to try every order of
    the events and the censored records within a step can rule some out by the digits of the curve, the bands and the
    test, which is that of the points before they are joined, over the groups that have a curve.  And where a step
    ends, at least one record left.

    Attributes:
        time: a number from 0 up: how long a record was followed.
        event: a flag: whether the event ended it.
        by: a category or a flag; empty: all records together.
        edges: the points in time, ascending.
        bins: into about how many parts the time's range is divided by points, where no edges are given; fewer where the
            parts would be narrower than the time's unit.
        confidence: of the bands.
    """

    time: str
    event: str
    by: str = ""
    edges: tuple[float, ...] = ()
    bins: int = 1000
    confidence: float = 0.95

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.time, self.event, self.by) if self.by else (self.time, self.event)

    def check(self, terms: Terms) -> None:
        if len(set(self.columns)) < len(self.columns):
            raise ParameterError(f"time, event and by are {', '.join(self.columns)}: name each column once")
        if not isinstance(terms.columns[self.event], Flag):
            raise ParameterError(f"event is {self.event!r}, which is no flag: it must say yes or no")
        time = terms.columns[self.time]
        if not isinstance(time, Number | Whole) or time.min < 0:
            raise ParameterError(f"time is {self.time!r}: it must be a number with a range that starts at 0 or above")
        check_bins(self.bins)
        check_edges(self._points(terms))
        if self.edges and self.edges[0] < 0:
            raise ParameterError(f"edges starts at {self.edges[0]:g}: points in time are 0 or above")
        check_confidence(self.confidence)
        self._levels(terms)

    def _cell_of(self, terms: Terms, chunk: Chunk) -> Codes:
        _, kinds, points = self._shape(terms)
        at = np.searchsorted(self._points(terms), chunk.numbers(self.time), side="left")
        censored = (chunk.codes(self.event) == 0) | (at == points)
        group = chunk.codes(self.by) if self.by else 0
        return np.asarray((group * kinds + censored) * points + at.clip(max=points - 1), np.int64)

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        counts: _Counts = released[-1].sums["counts"].astype(np.int64)
        points, levels, least = np.array(self._points(terms)), self._levels(terms), terms.release.min_cell
        totals = counts.sum(axis=(1, 2))
        hidden = hidden_in(terms, totals)
        curves: dict[str, _Steps] = {}
        groups: dict[str, Any] = {}
        notes = []
        for level, own, total, covered in zip(levels, counts, totals.tolist(), hidden, strict=True):
            steps = None if covered or not total else _Steps.of(points, own, least, self.confidence)
            groups[level] = {"records": None if covered else total, **(steps.values() if steps else _NOTHING)}
            named = f"{self.by} = {level}" if self.by else self.time
            if steps:
                curves[level] = steps
            elif covered:
                notes.append(f"{named} is withheld: it has few records, or would give away another that has.")
            elif total:
                notes.append(f"The curve of {named} is withheld: few of its records had the event, or few did not.")
        if not curves:
            of_each = "in each group there are few records, or " if self.by else ""
            return MethodResult(withheld=f"{of_each}few records had the event, or few did not")
        if any(steps.joins for steps in curves.values()):
            notes.append(
                f"Points in time were joined into steps, so that none has from 1 to {least - 1} events or censored "
                "records. The curves are exact at the ends of steps, a median is the end of the step that reaches it, "
                "and a number at risk is that at the beginning of a step."
            )
        test = _log_rank(counts[[level in curves for level in levels]]) if self.by else None
        values = {"groups": groups, "log_rank": test} if self.by else groups[""]
        tables = self._tables(groups, curves, test)
        return MethodResult(values, tables, (self._figure(terms, curves, test),), tuple(notes))

    def in_words(self, terms: Terms) -> str:
        groups = f", for each value of {self.by}, and a log-rank test between them" if self.by else ""
        return (
            f"The survival curve of {self.time} until {self.event}{groups}, from how many records had the event, and "
            f"how many were censored, at {len(self._points(terms))} points in time."
        )

    def _points(self, terms: Terms) -> list[float]:
        if self.edges:
            return list(self.edges)
        time = terms.columns[self.time]
        return divided(*bounds_of(time), self.bins, unit_of(time))

    def _levels(self, terms: Terms) -> tuple[str, ...]:
        return levels_of(terms.columns[self.by]) if self.by else ("",)

    def _shape(self, terms: Terms) -> tuple[int, int, int]:
        """By group: events, then censored records, by point."""
        return len(self._levels(terms)), 2, len(self._points(terms))

    def _tables(
        self, groups: Mapping[str, Mapping[str, Any]], curves: Mapping[str, _Steps], test: Mapping[str, Any] | None
    ) -> tuple[Table, ...]:
        """Groups, the test, and the steps of the curves at which records left."""
        by = (self.by,) if self.by else ()
        heads = ("records", *_SUMMARY)
        rows = tuple(((level,) if by else ()) + tuple(one[head] for head in heads) for level, one in groups.items())
        steps: list[tuple[Value, ...]] = [
            ((level,) if by else ()) + row
            for level, curve in curves.items()
            for row in zip(*curve.curve().values(), strict=True)
            if row[2] or row[3]
        ]
        tested = (Table("Log-rank test", ("what", "value"), tuple(test.items())),) if test else ()
        return (
            Table(self._title(), (*by, *(head.replace("_", " ") for head in heads)), rows),
            *tested,
            Table("Survival", (*by, *(head.replace("_", " ") for head in _CURVE)), tuple(steps)),
        )

    def _figure(self, terms: Terms, curves: Mapping[str, _Steps], test: Mapping[str, Any] | None) -> Curves:
        said = ""
        if test:
            p = test["p"]
            said = f" (log-rank p {f'= {p:.2g}' if p >= _SMALLEST_P else f'< {_SMALLEST_P}'})"
        axis = axis_of(self.time, terms.columns[self.time])
        drawn = tuple(curve.drawn(level) for level, curve in curves.items())
        return Curves(self._title() + said, axis, "survival probability", drawn, steps=True)

    def _title(self) -> str:
        return self.label or f"Survival: {self.time} until {self.event}{f' by {self.by}' if self.by else ''}"


@final
@dataclass(frozen=True, eq=False)
class _Steps:
    """The curve of one group at the ends of its steps, while records are at risk; all arrays have the shape (steps,).

    Attributes:
        time: the ends.
        at_risk: how many entered a step.
        events, censored: how many of them left in it.
        survival: the curve; ``low`` and ``high`` are its bands, NaN where the curve is 1 or 0.
        joins: whether a step is more than a point.
    """

    time: Floats
    at_risk: _Counts
    events: _Counts
    censored: _Counts
    survival: Floats
    low: Floats
    high: Floats
    joins: bool

    @classmethod
    def of(cls, points: Floats, counts: _Counts, least: int, confidence: float) -> Self | None:
        """From the counts at each point, shape (2, points); None when no steps hide the small ones among them."""
        at_risk = _at_risk(counts.sum(axis=0))
        survival, low, high = _estimated(counts[0], at_risk, confidence)
        ends = np.array(joined_ends(counts, least))
        starts = np.append(0, ends[:-1] + 1)
        joined = np.add.reduceat(counts, starts, axis=1)
        if is_small(joined.reshape(-1).tolist(), least):
            return None
        there = at_risk[starts] > 0
        starts, ends, joined = starts[there], ends[there], joined[:, there]
        events, censored = joined
        return cls(
            points[ends],
            at_risk[starts],
            events,
            censored,
            survival[ends],
            low[ends],
            high[ends],
            joins=bool((starts < ends).any()),
        )

    def values(self) -> dict[str, Any]:
        """The summary of the curve, and the curve as lists; None for what is not defined."""
        totals = (int(self.events.sum()), int(self.censored.sum()))
        medians = (self._first(at) for at in (self.survival, self.low, self.high))
        return {**dict(zip(_SUMMARY, (*totals, *medians), strict=True)), "curve": self.curve()}

    def curve(self) -> dict[str, list[Value]]:
        """The arrays as lists, by name; None for NaN."""
        arrays = (self.time, self.at_risk, self.events, self.censored, self.survival, self.low, self.high)
        return {
            name: [None if value != value else value for value in array.tolist()]
            for name, array in zip(_CURVE, arrays, strict=True)
        }

    def drawn(self, name: str) -> Curve:
        """From 1 at time 0; the bands are drawn without a width where they are not defined."""
        begins = int(self.time[0] > 0)
        low, high = (np.where(np.isnan(band), self.survival, band) for band in (self.low, self.high))
        beginnings = ((self.time, 0.0), (self.survival, 1.0), (low, 1.0), (high, 1.0))
        x, y, below, above = (tuple([first] * begins + array.tolist()) for array, first in beginnings)
        return Curve(name, x, y, below, above, tuple([int(self.at_risk[0])] * begins + self.at_risk.tolist()))

    def _first(self, levels: Floats) -> float | None:
        """The first time at which a curve is at one half or below; None when it stays above."""
        reached = np.flatnonzero(levels <= _HALF)
        return float(self.time[reached[0]]) if reached.size else None


_NOTHING: Final[Mapping[str, Any]] = {**dict.fromkeys(_SUMMARY), "curve": None}


def _at_risk(left: _Counts) -> _Counts:
    """How many have not left before each point, of how many leave at each, along the last axis."""
    return np.asarray(left[..., ::-1].cumsum(axis=-1)[..., ::-1], np.int64)


def _estimated(events: _Counts, at_risk: _Counts, confidence: float) -> tuple[Floats, Floats, Floats]:
    """The curve after each point and its bands, which are NaN where it is 1 or 0; all shapes (points,)."""
    alive = (at_risk - events).astype(np.float64)
    among = np.maximum(at_risk, 1).astype(np.float64)
    survival = np.asarray(np.cumprod(np.where(at_risk > 0, alive / among, 1.0)), np.float64)
    inner = (survival < 1) & (survival > 0)
    greenwood = np.cumsum(np.where(alive > 0, events / (among * np.maximum(alive, 1.0)), 0.0))
    logarithm = np.log(survival, where=inner, out=np.full(survival.shape, np.nan))
    half = (margin(1.0, math.inf, confidence) or 0.0) * np.sqrt(greenwood) / logarithm
    low, high = (np.exp(logarithm * np.exp(sign * half)) for sign in (-1, 1))
    return survival, low, high


def _log_rank(counts: _Counts) -> dict[str, Any] | None:
    """The test between groups whose counts have the shape (groups, 2, points); None where nothing can be compared."""
    at_risk = _at_risk(counts.sum(axis=1)).astype(np.float64)
    events = counts[:, 0].sum(axis=0)
    there = events > 0
    died, among = events[there], at_risk.sum(axis=0)[there]
    share = at_risk[:, there] / among
    spread = died * (among - died) / np.maximum(among - 1, 1)
    covariance = np.diag(share @ spread) - (share * spread) @ share.T
    surplus = counts[:, 0].sum(axis=1) - share @ died
    sizes, axes = np.linalg.eigh(covariance)
    kept = sizes > _SINGULAR * max(1.0, float(sizes.max(initial=0.0)))
    if not kept.any():
        return None
    freedom = int(kept.sum())
    squared = float((axes.T @ surplus)[kept] ** 2 @ (1 / sizes[kept]))
    return {"chi_squared": squared, "df": freedom, "p": beyond_chi_squared(squared, freedom)}
