"""Cox regression: proportional hazards, from sums of risk sets in public bins of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Real, Whole
from secagg.statistics.chunk import Chunk, Floats
from secagg.statistics.coefficients import Coefficient, by_name, forest, left_out, tested
from secagg.statistics.columns import Flag, bounds_of
from secagg.statistics.design import Design, symmetric
from secagg.statistics.distributions import check_confidence
from secagg.statistics.gram import ALIASED, few_among, independent, is_yes_or_no
from secagg.statistics.grids import bin_of, check_bins, check_edges, equal_bins
from secagg.statistics.method import Method
from secagg.statistics.results import MethodResult, Table
from secagg.wording import counted

_HEADS: Final = ("estimate", "error", "z", "p", "low", "high", "hazard_ratio", "ratio_low", "ratio_high")
_LARGEST: Final = 12.0
"""The bound of a record's logarithm of relative hazard, about that of a record with average predictors: e^12 is
160,000.  With it the sums are bounded, and their steps fine enough."""
_CONVERGED: Final = 1e-14
"""Of the squared length of a Newton step, in standard errors: it is below 1e-7 of them."""
_SLACK: Final = 1e-11
"""The share of a log likelihood by which rounding may lower it."""
_MOST_EXPONENT: Final = 700.0
_DIGITS: Final = 12


class Cox(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="cox"):
    """Proportional hazards (D. R. Cox, 1972), ties by Breslow's formula, with tests and intervals by the normal law.

    Times are rounded down to bins that everybody knows, so that events of one bin are ties, and a record is at risk in
    its own bin and in all before it.  The fit is that of ``statsmodels.PHReg(..., ties="breslow")`` on pooled records
    with binned times.

    What is summed, for the records that leave in each bin, at public coefficients b: exp(b z), and exp(b z) times z and
    z z'; added up from the last bin, they are the sums S0, S1 and S2 of the risk sets.  With them go the number of
    events in each bin, and the sum of z over all events (N. E. Breslow, 1974).  z has each predictor in its public
    range.  Newton's method with halved steps goes from round to round; where sites vanish, it goes on from the
    coefficients that it has, with the sums of those that are left.

    So that every record's part is bounded, b z is cut off at 12 above and below that of a record with average
    predictors; how many records that meets is summed as well, and no fit with such a record is reported.

    All is withheld when a value of a category or a flag has fewer than ``min_cell`` records or events, when there are
    fewer than ``min_cell`` events beyond one for each coefficient, and when the fit did not converge.

    Attributes:
        time: a number: how long a record was followed.
        event: a flag: whether the event ended it.
        predictors: numbers, flags, dates (in days) and categories; a category becomes an indicator for each of
            its values but the first, the reference.
        edges: of the bins of time, ascending; a time beyond them is in the first or the last bin.
        bins: how many over the time's range, where no edges are given.
        max_rounds: the most rounds with the same sites.
        confidence: of the intervals.
    """

    time: str
    event: str
    predictors: tuple[str, ...]
    edges: tuple[float, ...] = ()
    bins: int = 100
    max_rounds: int = 8
    confidence: float = 0.95

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.time, self.event, *self.predictors)

    def check(self, terms: Terms) -> None:
        if not self.predictors:
            raise ParameterError("predictors names no columns: give at least one")
        if len(set(self.columns)) < len(self.columns):
            raise ParameterError(f"time, event and predictors are {', '.join(self.columns)}: name each column once")
        if not isinstance(terms.columns[self.event], Flag):
            raise ParameterError(f"event is {self.event!r}, which is no flag: it must say yes or no")
        bounds_of(terms.columns[self.time])
        check_bins(self.bins)
        check_edges(self._edges(terms))
        check_confidence(self.confidence)
        if self.max_rounds < 2:
            raise ParameterError(f"max_rounds is {self.max_rounds}: must be 2 or more")
        self._design(terms)

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return _ask(np.zeros(self._size(terms)), 0.0)
        search = self._search(terms, released)
        if search.converged or search.stuck or search.tried >= self.max_rounds:
            return None
        return _ask(search.proposed, float(search.proposed @ _average(released[0])))

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        size, bins, most = self._size(terms), len(self._edges(terms)) - 1, math.exp(_LARGEST)
        pairs = size * (size + 1) // 2
        return {
            "events": Whole((bins,), touched=1),
            "levels": Whole((2, size + 1)),
            "cut": Whole(()),
            "event_sum": Real((size,), 1.0),
            "s0": Real((bins,), most, touched=1),
            "s1": Real((bins, size), most, touched=size),
            "s2": Real((bins, pairs), most, touched=pairs),
        }

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        design, edges = self._design(terms), self._edges(terms)
        last = len(edges) - 2
        bins = bin_of(chunk.numbers(self.time), edges).clip(0, last)
        event = chunk.numbers(self.event) == 1.0
        full = design.matrix(chunk)
        z = full[:, 1:]
        exponent = z @ ask.parameter("coefficients") - ask.parameter("offset")[0]
        hazard = np.exp(exponent.clip(-_LARGEST, _LARGEST))

        def by_bin(values: Floats) -> Floats:
            return np.asarray(np.bincount(bins, values, last + 1), np.float64)

        first, second = np.triu_indices(z.shape[1])
        yes = np.column_stack(
            [_yes(terms, design, at) * entry.values(chunk) for at, entry in enumerate(design.entries)]
        )
        return {
            "events": np.bincount(bins[event], minlength=last + 1),
            "levels": np.rint([yes.sum(axis=0), yes[event].sum(axis=0)]).astype(np.int64),
            "cut": np.array(np.count_nonzero(np.abs(exponent) > _LARGEST)),
            "event_sum": z[event].sum(axis=0),
            "s0": by_bin(hazard),
            "s1": np.column_stack([by_bin(hazard * column) for column in z.T]),
            "s2": np.column_stack(
                [by_bin(hazard * z[:, one] * z[:, other]) for one, other in zip(first, second, strict=True)]
            ),
        }

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        if why := self._withheld(terms, released):
            return MethodResult(withheld=why)
        search, design, last = self._search(terms, released), self._design(terms), released[-1]
        best = search.best
        step, inverse = best.step(search.kept)
        scaled, spread = np.zeros(len(design.names)), np.zeros((len(design.names),) * 2)
        scaled[1:], spread[1:, 1:] = best.coefficients + step, inverse
        estimates, covariance = (found[1:] for found in design.unscaled(scaled, spread))
        covariance = covariance[:, 1:]
        names, kept = design.names[1:], np.flatnonzero(search.kept).tolist()
        coefficients = by_name(names, kept, estimates, covariance, _HEADS, self._coefficient)
        events = int(last.sums["levels"][1, 0])
        values: dict[str, Any] = {
            "coefficients": coefficients,
            "covariance": {"names": list(names), "matrix": covariance.tolist()},
            "log_likelihood": best.likelihood + float(best.score @ step) / 2,
            "events": None if 0 < last.records - events < terms.release.min_cell else events,
        }
        title = self.label or f"Cox regression of {self.time}"
        rows = tuple((name, *(one[head] for head in _HEADS)) for name, one in coefficients.items())
        fit = (("log likelihood", values["log_likelihood"]), ("events", values["events"]))
        heads = ("column", *(head.replace("_", " ") for head in _HEADS))
        tables = (Table(title, heads, rows), Table("Fit", ("what", "value"), fit))
        figures = forest(title, "hazard ratio", coefficients, _HEADS[-3:], 1.0, self.confidence)
        return MethodResult(values, tables, figures, tuple(left_out(names, kept)))

    def in_words(self, terms: Terms) -> str:
        return (
            f"A Cox regression of {self.time} until {self.event} on {', '.join(self.predictors)}: hazard ratios, their "
            f"intervals and tests, and how well it fits, from sums in {len(self._edges(terms)) - 1} bins of time."
        )

    def _edges(self, terms: Terms) -> list[float]:
        return list(self.edges) or equal_bins(terms.columns[self.time], self.bins)

    def _design(self, terms: Terms) -> Design:
        """With an intercept, which nothing but the counts uses: the hazard of the reference takes its place."""
        return Design.of(terms.columns, self.predictors)

    def _size(self, terms: Terms) -> int:
        return len(self._design(terms).names) - 1

    def _search(self, terms: Terms, released: Sequence[Released]) -> _Search:
        return _Search.over([_Point.of(one) for one in released])

    def _withheld(self, terms: Terms, released: Sequence[Released]) -> str:
        """Why nothing is reported; empty where something is."""
        last, least, design = released[-1], terms.release.min_cell, self._design(terms)
        levels = last.sums["levels"].astype(np.int64)
        events = int(levels[1, 0])
        for counts, what, total in ((levels[0], "records", last.records), (levels[1], "events", events)):
            if few := few_among(terms, design, counts.tolist(), total):
                return f"few {what} have, or lack, {', '.join(few)}: leave it out, or join values"
        if events - self._size(terms) < least:
            needed = self._size(terms) + least
            return f"too few events for {self._size(terms)} coefficients: {needed} are needed to hide a single one"
        search = self._search(terms, released)
        if not search.kept.any():
            return "no predictor varies among the records at risk, so there is nothing to fit"
        if not search.converged:
            return (
                f"it did not converge in {counted(search.tried, 'round')}: a coefficient may have no bound, as where "
                "a value has no events; leave it out, or join values"
            )
        if int(last.sums["cut"]):
            return (
                f"some hazards are beyond e^{_LARGEST:g} times, or below e^-{_LARGEST:g} times, that of an average "
                "record, and are cut off there: transform the predictors with extreme values, or leave them out"
            )
        return ""

    def _coefficient(self, estimate: float, error: float) -> Coefficient:
        found = tested(estimate, error, "z", math.inf, self.confidence)
        ratios = [_exponential(found[head]) for head in ("estimate", "low", "high")]
        return found | dict(zip(_HEADS[-3:], ratios, strict=True))


@final
@dataclass(frozen=True, eq=False)
class _Point:
    """The partial likelihood at some coefficients.

    Attributes:
        coefficients: of z, shape (p,).
        likelihood: its logarithm, by Breslow's formula.
        score, information: its first and its negative second derivative, shapes (p,) and (p, p).
        sites: whose records they are.
    """

    coefficients: Floats
    likelihood: float
    score: Floats
    information: Floats
    sites: tuple[str, ...]

    @classmethod
    def of(cls, released: Released) -> Self:
        coefficients, sums = released.ask.parameter("coefficients"), released.sums
        size = len(coefficients)
        s0, s1, s2 = (np.cumsum(sums[name][::-1], axis=0)[::-1] for name in ("s0", "s1", "s2"))
        events = sums["events"].astype(np.float64)
        there = (events > 0) & (s0 > 0)
        events, s0, mean, second = events[there], s0[there], s1[there] / s0[there, None], s2[there] / s0[there, None]
        return cls(
            coefficients,
            float(
                coefficients @ sums["event_sum"]
                - events @ np.log(s0)
                - events.sum() * released.ask.parameter("offset")[0]
            ),
            sums["event_sum"] - events @ mean,
            symmetric(events @ second, size) - (mean * events[:, None]).T @ mean,
            released.sites,
        )

    def independent(self) -> npt.NDArray[np.bool_]:
        """The columns that are no combination of those before them, shape (p,); all else has no information."""
        least = ALIASED * max(1.0, float(self.information.diagonal().max(initial=0.0)))
        size = len(self.score)
        return np.isin(np.arange(size), independent(self.information, np.full(size, least)))

    def step(self, kept: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Newton's step, shape (p,), and the inverse of the information, shape (p, p): 0 for columns left out."""
        which = np.ix_(kept, kept)
        inverse = np.zeros_like(self.information)
        inverse[which] = np.linalg.pinv(self.information[which], hermitian=True)
        return inverse @ self.score, inverse


@final
@dataclass(frozen=True, eq=False)
class _Search:
    """Where Newton's method is, with the sites of the last round.

    Attributes:
        best: the point with the largest likelihood so far.
        kept: the columns in the fit, shape (p,).
        proposed: coefficients to try next, shape (p,).
        tried: rounds with these sites.
        converged: whether ``best`` is the largest; ``stuck``: whether no predictor has any information.
    """

    best: _Point
    kept: npt.NDArray[np.bool_]
    proposed: Floats
    tried: int
    converged: bool

    @property
    def stuck(self) -> bool:
        return not self.kept.any()

    @classmethod
    def over(cls, points: Sequence[_Point]) -> Self:
        """Replays the rounds: likelihoods are compared among those with the same sites only."""
        same = [point for point in points if point.sites == points[-1].sites]
        best, halved = same[0], 0
        kept = best.independent()
        for point in same[1:]:
            left_out_before = bool(best.coefficients[~kept].any())  # a column lost its meaning with a site
            if left_out_before or point.likelihood >= best.likelihood - _SLACK * abs(best.likelihood):
                best, halved = point, 0
            else:
                halved += 1
        step, _ = best.step(kept)
        at = np.where(kept, best.coefficients, 0.0)
        whole = bool((at == best.coefficients).all())
        converged = whole and halved == 0 and bool(best.score @ step <= _CONVERGED)
        proposed = at + step / 2**halved if whole else at
        return cls(best, kept, np.array([_rounded(value) for value in proposed]), len(same), converged)


def _ask(coefficients: Floats, offset: float) -> Ask:
    return Ask("risk_sets", {"coefficients": coefficients.tolist(), "offset": [_rounded(offset)]})


def _rounded(value: float) -> float:
    """To twelve digits, and to twelve decimals so that no noise about 0 is left: all sites have the very same."""
    return float(f"{round(float(value), _DIGITS):.{_DIGITS}g}")


def _average(first: Released) -> Floats:
    """The means of z, shape (p,): at coefficients of 0 every record has the weight 1."""
    return np.asarray(first.sums["s1"].sum(axis=0) / max(1.0, float(first.sums["s0"].sum())), np.float64)


def _yes(terms: Terms, design: Design, at: int) -> float:
    """1 for the columns of the matrix that count records: the intercept, indicators and flags."""
    entry = design.entries[at]
    return float(not entry.column or is_yes_or_no(terms, entry))


def _exponential(value: float) -> float | None:
    return math.exp(value) if value < _MOST_EXPONENT else None
