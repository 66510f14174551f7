"""Generalised linear models: logistic and Poisson regression."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Ask, Released, Terms, public
from secagg.statistics.cells import Cells, Presence, Real, Whole
from secagg.statistics.chunk import Chunk, Floats
from secagg.statistics.coefficients import Coefficient, by_name, forest, left_out, tested
from secagg.statistics.columns import Date, Flag, bounds_of
from secagg.statistics.design import Design, symmetric, upper
from secagg.statistics.distributions import check_confidence, finite
from secagg.statistics.glm_families import Family, Predicted, limits_at, parts_at, start_limits, start_parts
from secagg.statistics.gram import few_among, independent, is_yes_or_no
from secagg.statistics.method import Method
from secagg.statistics.results import MethodResult, Table
from secagg.wording import counted

_HEADS: Final = ("estimate", "error", "z", "p", "low", "high", "ratio", "ratio_low", "ratio_high")
_START: Final = "start"
_SCORE: Final = "score"
_BETA: Final = "beta"
_CONVERGED: Final = 2e-9
"""The largest change of a record's linear predictor in the last step: weights, and with them standard errors, then keep
nine digits."""
_NEARLY: Final = 1e-5
"""The same for coefficients of fewer digits, which are still reported, with a note, when no round is left."""
_UP: Final = 1e-10
"""A deviance that is larger by a smaller share may be so by rounding."""
_ALIASED: Final = 1e-12
"""A column of whose weighted squares no more than this share is left after the others is a combination of them."""
_FARTHEST: Final = 1e6
"""A linear predictor this far from 0 is of no fit."""
_MOST_ROUNDS: Final = 100


@final
@dataclass(frozen=True, eq=False)
class _Point:
    """What a released round has at its coefficients.

    Attributes:
        beta: of standardised columns, shape (p,).
        step: Newton's, to the next coefficients, shape (p,); 0 for columns that are left out.
        kept: the columns that are no combination of those before them.
        inverse: of the Hessian, shape (p, p); 0 for columns that are left out.
        moved: by how much the step changes the linear predictor of a record at most.
    """

    released: Released
    beta: Floats
    step: Floats
    kept: list[int]
    inverse: Floats
    moved: float

    @property
    def deviance(self) -> float:
        return float(self.released.sums["deviance"])

    @classmethod
    def of(cls, design: Design, released: Released) -> _Point:
        sums, size = released.sums, len(design.names)
        start = released.ask.stage == _START
        beta = np.zeros(size) if start else released.ask.parameter(_BETA)
        hessian = symmetric(sums["hessian"], size)
        kept = independent(hessian, _ALIASED * hessian.diagonal())
        inverse = np.zeros_like(hessian)
        if kept:
            inverse[np.ix_(kept, kept)] = np.linalg.inv(hessian[np.ix_(kept, kept)])
        step = inverse @ sums["gradient"]
        return cls(released, beta, step, kept, inverse, float(np.abs(step) @ design.largest))


@final
@dataclass(frozen=True, eq=False)
class _Course:
    """Where the iteration stands.

    Attributes:
        point: the last round whose deviance did not go up; None: no round was released.
        beta: where the next round is taken; None: there is none.
        failed: why nothing can be reported; empty where something may be.
    """

    point: _Point | None
    beta: Floats | None
    failed: str = ""


class Glm(Method, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="glm"):
    """Logistic regression of a flag, or Poisson regression of a count, by iteratively reweighted least squares.

    What is summed: in the first round a weighted least squares fit that starts the iteration, as in R's ``glm.fit``; in
    each further one, at public coefficients of columns scaled to their public ranges, the gradient and the Hessian of
    the log likelihood and the deviance (P. McCullagh and J. A. Nelder, Generalized Linear Models, chapter 2).  A step
    after which the deviance is larger is halved.  When a site vanishes, the others go on from the coefficients so far.
    The linear predictor is clipped to a public range, so that what a record adds is bounded: to -30..30, and for counts
    to at most the logarithm of 148 times the largest count and one more; a note says so when a record is beyond.

    A column that is a combination of those before it is left out.  All is withheld when a value of a category or a flag
    has fewer than ``min_cell`` records, when fewer records than that have an event, when there are fewer than that
    beyond one for each coefficient, and when the iteration does not converge, as when columns separate the outcomes.

    Attributes:
        outcome: a flag (binomial), or a number from 0 up or a flag (poisson).
        predictors: numbers, flags, dates (in days) and categories; a category becomes an indicator for each of its
            values but the first, the reference.
        family: ``binomial`` with the logit link, or ``poisson`` with the logarithm.
        max_rounds: the most rounds, 2 to 100.
        confidence: of the intervals, by the normal distribution.
    """

    outcome: str
    predictors: tuple[str, ...]
    family: Family = "binomial"
    max_rounds: int = 8
    confidence: float = 0.95

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.outcome, *self.predictors)

    def check(self, terms: Terms) -> None:
        if not self.predictors:
            raise ParameterError("predictors names no columns: give at least one")
        if self.outcome in self.predictors:
            raise ParameterError(f"{self.outcome!r} is the outcome and a predictor: leave it out of predictors")
        outcome = terms.columns[self.outcome]
        if self.family == "binomial" and not isinstance(outcome, Flag):
            raise ParameterError(f"the outcome {self.outcome!r} of a logistic regression must be a flag")
        if isinstance(outcome, Date) or bounds_of(outcome)[0] < 0:
            raise ParameterError(f"the outcome {self.outcome!r} of a Poisson regression must be a number from 0 up")
        if not 2 <= self.max_rounds <= _MOST_ROUNDS:
            raise ParameterError(f"max_rounds is {self.max_rounds}: must be from 2 to {_MOST_ROUNDS}")
        check_confidence(self.confidence)
        self._design(terms)

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        if not released:
            return Ask(_START)
        beta = self._course(terms, released).beta
        if beta is None or len(released) >= self.max_rounds:
            return None
        return Ask(_SCORE, {_BETA: beta.tolist()})

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        design, most = self._design(terms), self._most(terms)
        size = len(design.names)
        if ask.stage == _START:
            limits = start_limits(self.family, most)
        else:
            limits = limits_at(self.family, most, self._predicted(terms, design, ask))
        found: dict[str, Cells] = {
            "gradient": Real((size,), limits.residual),  # scaled columns are at most 1
            "hessian": Real((size * (size + 1) // 2,), limits.weight),
            "yes": Whole((size,)),
            "events": Whole(()),
        }
        return found if ask.stage == _START else found | {"deviance": Real((), limits.deviance), "beyond": Presence(())}

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        design = self._design(terms)
        matrix, y = design.matrix(chunk), chunk.numbers(self.outcome)
        found: dict[str, npt.NDArray[Any]] = {
            "yes": self._yes(terms, design, chunk),
            "events": np.array(np.count_nonzero(y > 0)),
        }
        if ask.stage == _START:
            parts = start_parts(self.family, y)
        else:
            predicted = self._predicted(terms, design, ask)
            eta = matrix @ ask.parameter(_BETA)
            clipped = np.clip(eta, predicted.low, predicted.high)
            parts = parts_at(self.family, y, clipped)
            found |= {"deviance": np.array(parts.deviance.sum()), "beyond": np.array(np.any(eta != clipped))}
        found["gradient"] = matrix.T @ parts.residual
        found["hessian"] = upper(matrix.T @ (matrix * parts.weight[:, None]))
        return found

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        design, last = self._design(terms), released[-1]
        if why := self._hidden(terms, design, last):
            return MethodResult(withheld=why)
        course = self._course(terms, released)
        point = course.point
        if course.failed or point is None:
            return MethodResult(withheld=course.failed)
        if point.released is not last or point.released.ask.stage == _START or point.moved > _NEARLY:
            return MethodResult(
                withheld=f"it did not converge in {counted(len(released), 'round')}: raise max_rounds; where that "
                f"does not help, the predictors separate the values of {self.outcome}, so leave one of them out"
            )
        estimates, covariance = design.unscaled(point.beta + point.step, point.inverse)
        coefficients = by_name(design.names, point.kept, estimates, covariance, _HEADS, self._coefficient)
        values = {
            "coefficients": coefficients,
            "covariance": {"names": list(design.names), "matrix": covariance.tolist()},
            "family": self.family,
            "deviance": point.deviance,
            "records": last.records,
            "df_residual": last.records - len(point.kept),
            "rounds": len(released),
            "converged": point.moved <= _CONVERGED,
        }
        title = self.label or f"{'Logistic' if self.family == 'binomial' else 'Poisson'} regression of {self.outcome}"
        figures = forest(title, self._ratio, coefficients, _HEADS[-3:], 1.0, self.confidence)
        return MethodResult(values, self._tables(title, values), figures, self._notes(design, point))

    def in_words(self, terms: Terms) -> str:
        kind = "logistic" if self.family == "binomial" else "Poisson"
        return (
            f"A {kind} regression of {self.outcome} on {', '.join(self.predictors)}: coefficients, their standard "
            f"errors and {self._ratio}s; and with them the gradient, the Hessian and the deviance at the coefficients "
            f"of each round, of which there are up to {self.max_rounds}."
        )

    @property
    def _ratio(self) -> str:
        return "odds ratio" if self.family == "binomial" else "rate ratio"

    def _design(self, terms: Terms) -> Design:
        return Design.of(terms.columns, self.predictors)

    def _most(self, terms: Terms) -> float:
        """The largest outcome."""
        return bounds_of(terms.columns[self.outcome])[1]

    def _predicted(self, terms: Terms, design: Design, ask: Ask) -> Predicted:
        reach = float(np.abs(ask.parameter(_BETA)) @ design.largest)
        return Predicted.of(self.family, self._most(terms), reach)

    def _yes(self, terms: Terms, design: Design, chunk: Chunk) -> npt.NDArray[np.int64]:
        """By column, how many records have a yes; 0 for what is neither an indicator nor a flag."""
        counts = [
            np.count_nonzero(entry.values(chunk) > 0) if is_yes_or_no(terms, entry) else 0 for entry in design.entries
        ]
        return np.array(counts, np.int64)

    def _course(self, terms: Terms, released: Sequence[Released]) -> _Course:
        """The whole iteration so far, from what was released alone."""
        design = self._design(terms)
        base: _Point | None = None
        beta: Floats | None = None
        for one in released:
            point = _Point.of(design, one)
            comparable = base is not None and base.released.sites == one.sites
            if base is not None and comparable and not set(base.kept) <= set(point.kept):
                return _Course(base, None, self._separated)
            if base is not None and comparable and self._is_up(base, point):
                beta = (base.beta + point.beta) / 2
                continue
            if not point.kept or not np.isfinite(point.step).all():
                return _Course(point, None, self._separated)
            base, beta = point, point.beta + point.step
            if np.abs(beta) @ design.largest > _FARTHEST:
                return _Course(point, None, self._separated)
        if base is not None and base.released is released[-1] and self._is_done(base):
            return _Course(base, None)
        return _Course(base, None if beta is None else np.array(public(beta)))

    @staticmethod
    def _is_up(base: _Point, point: _Point) -> bool:
        if base.released.ask.stage == _START:
            return False  # the start has no coefficients of its own
        return point.deviance > base.deviance + _UP * abs(base.deviance)

    @staticmethod
    def _is_done(point: _Point) -> bool:
        return point.released.ask.stage != _START and point.moved <= _CONVERGED

    @property
    def _separated(self) -> str:
        return (
            f"the Hessian became singular: the predictors separate the values of {self.outcome}, or hardly vary; leave "
            "one of them out"
        )

    def _hidden(self, terms: Terms, design: Design, last: Released) -> str:
        """Why nothing of these records is shown."""
        least, size = terms.release.min_cell, len(design.names)
        events = int(last.sums["events"])
        few = few_among(terms, design, last.sums["yes"].tolist(), last.records)
        rest = last.records - events if isinstance(terms.columns[self.outcome], Flag) else 0
        if any(0 < count < least for count in (events, rest)):
            few.append(self.outcome)
        if few:
            return f"few records have, or lack, {', '.join(few)}: leave it out, or join values"
        if not events or (self.family == "binomial" and not rest):
            return f"{self.outcome} is the same for all records, so nothing can explain it"
        if last.records - size < least:
            return f"{last.records} records for {size} coefficients: {size + least} are needed to hide a single one"
        return ""

    def _coefficient(self, estimate: float, error: float) -> Coefficient:
        found = tested(estimate, error, "z", math.inf, self.confidence)
        with np.errstate(over="ignore"):
            ratios = [finite(np.exp(found[head])) for head in ("estimate", "low", "high")]
        return found | dict(zip(_HEADS[-3:], ratios, strict=True))

    def _notes(self, design: Design, point: _Point) -> tuple[str, ...]:
        notes = left_out(design.names, point.kept)
        if point.moved > _CONVERGED:
            notes.append(
                f"The last step still moved predictions by {point.moved:.1e}: raise max_rounds for more digits."
            )
        if point.released.sums["beyond"]:
            notes.append(
                "The linear predictor of a record is beyond the range to which it is clipped: the fit is not that of "
                "the pooled records."
            )
        return tuple(notes)

    def _tables(self, title: str, values: Mapping[str, Any]) -> tuple[Table, ...]:
        heads = [head.replace("ratio", self._ratio).replace("_", " ") for head in _HEADS]
        rows = tuple((name, *(one[head] for head in _HEADS)) for name, one in values["coefficients"].items())
        fit = tuple((name.replace("_", " "), values[name]) for name in ("deviance", "df_residual", "records"))
        return Table(title, ("column", *heads), rows), Table("Fit", ("what", "value"), fit)
