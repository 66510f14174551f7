"""Linear regression by least squares, and ridge regression."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import numpy as np

from secagg.errors import ParameterError
from secagg.statistics.asks import Released, Terms
from secagg.statistics.chunk import Floats
from secagg.statistics.coefficients import by_name, forest, left_out, tested
from secagg.statistics.columns import bounds_of
from secagg.statistics.design import Design
from secagg.statistics.distributions import beyond_f, check_confidence, finite
from secagg.statistics.gram import ALIASED, OfGram, few_in, gram_of, independent
from secagg.statistics.results import MethodResult, Table

_HEADS: Final = ("estimate", "error", "t", "p", "low", "high")
_EXPLAINED: Final = 1e-13
"""Of the squares of a standardised y: where less is left of a record, it is by rounding."""


@final
@dataclass(frozen=True, eq=False)
class _Products:
    """X'X, X'y and y'y of standardised columns, shapes (p, p), (p,) and (), with what brings coefficients back."""

    design: Design
    xx: Floats
    xy: Floats
    yy: float
    y_centre: float
    y_scale: float
    records: int

    @property
    def total(self) -> float:
        """Of squares of y about its mean; about 0 without an intercept."""
        return self.yy - self.xy[0] ** 2 / self.xx[0, 0] if self.design.has_intercept else self.yy

    def residual(self, coefficients: Floats) -> float:
        """The sum of squares that is left; 0 where it is no more than the rounding of the sums."""
        around = np.append(-coefficients, 1.0)
        products = np.block([[self.xx, self.xy[:, None]], [self.xy[None, :], np.array([[self.yy]])]])
        left = float(around @ products @ around)
        return left if left > _EXPLAINED * self.records else 0.0

    def unscaled(self, coefficients: Floats, covariance: Floats) -> tuple[Floats, Floats]:
        """Of the columns as they are, from those of the standardised ones."""
        found, spread = self.design.unscaled(coefficients * self.y_scale, covariance * self.y_scale**2)
        if self.design.has_intercept:
            found[0] += self.y_centre
        return found, spread


class _OfLeastSquares(OfGram, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A number as a linear function of columns.

    Attributes:
        y: what is explained: a number, a flag or a date.
        x: what explains it: numbers, flags, dates (in days) and categories; a category becomes an indicator for each of
            its values but the first, the reference.
        intercept: whether there is one; without it a category keeps its first value.
    """

    y: str
    x: tuple[str, ...]
    intercept: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.y, *self.x)

    def check(self, terms: Terms) -> None:
        if not self.x:
            raise ParameterError("x names no columns: give at least one")
        bounds_of(terms.columns[self.y])
        self._design(terms)

    def _design(self, terms: Terms) -> Design:
        """The columns of x, and y as the last one."""
        return Design.of(terms.columns, (*self.x, self.y), intercept=self.intercept)

    def _products(self, terms: Terms, released: Sequence[Released]) -> _Products | str:
        """The sums, or why nothing is reported."""
        gram = gram_of(self._design(terms), released)
        least = terms.release.min_cell
        if few := few_in(terms, gram):
            return f"few records have, or lack, {', '.join(few)}: leave it out, or join values"
        size = len(gram.design.names) - 1
        if gram.records - size < least:
            return f"{gram.records} records for {size} coefficients: {size + least} are needed to hide a single one"
        centre, scale, matrix = gram.design.centre, gram.design.scale, gram.matrix
        return _Products(
            Design.of(terms.columns, self.x, intercept=self.intercept).about(centre[:-1], scale[:-1]),
            matrix[:-1, :-1],
            matrix[:-1, -1],
            float(matrix[-1, -1]),
            float(centre[-1]),
            float(scale[-1]),
            gram.records,
        )


class Linear(_OfLeastSquares, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="linear"):
    """Ordinary least squares, with standard errors, tests and intervals by Student's t.

    What is summed: sums and squares, then X'X, X'y and y'y of standardised columns, in two rounds; see
    ``secagg.statistics.gram``, and for the formulas W. H. Greene, Econometric Analysis, chapters 3 to 5.  A column that
    is a combination of those before it is left out, as in R's ``lm``.  R squared is about the mean where there is an
    intercept, and about 0 otherwise.  All is withheld when a value of a category or a flag has fewer than ``min_cell``
    records, or when there are fewer than ``min_cell`` records beyond one for each coefficient.

    Attributes:
        confidence: of the intervals.
    """

    confidence: float = 0.95

    def check(self, terms: Terms) -> None:
        super().check(terms)
        check_confidence(self.confidence)

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        products = self._products(terms, released)
        if isinstance(products, str):
            return MethodResult(withheld=products)
        names = products.design.names
        kept = independent(products.xx, ALIASED * np.maximum(products.xx.diagonal(), products.records))
        freedom = products.records - len(kept)
        inverse = np.zeros_like(products.xx)
        inverse[np.ix_(kept, kept)] = np.linalg.inv(products.xx[np.ix_(kept, kept)])
        scaled = inverse @ products.xy
        residual = products.residual(scaled)
        estimates, covariance = products.unscaled(scaled, inverse * residual / freedom)
        test = partial(tested, statistic="t", freedom=freedom, confidence=self.confidence)
        coefficients = by_name(names, kept, estimates, covariance, _HEADS, test)
        notes = left_out(names, kept)
        if products.total <= ALIASED * products.records:
            notes.append(f"{self.y} does not vary, so there is no R squared.")
        elif not residual:
            notes.append(f"The columns explain {self.y} to the last digit of the sums, so that all errors are 0.")
        values = {
            "coefficients": coefficients,
            "covariance": {"names": list(names), "matrix": covariance.tolist()},
            **_fit(products, residual, len(kept)),
            "df_residual": freedom,
            "sigma": products.y_scale * math.sqrt(residual / freedom),
        }
        title = self.label or f"Linear regression of {self.y}"
        tables = _tables(title, _HEADS, values)
        figures = forest(title, "coefficient", coefficients, ("estimate", "low", "high"), 0.0, self.confidence)
        return MethodResult(values, tables, figures, tuple(notes))

    def in_words(self, terms: Terms) -> str:
        return (
            f"A linear regression of {self.y} on {', '.join(self.x)}: coefficients, their standard errors, and how "
            "well it fits; and with them the means and covariances of these columns."
        )


class Ridge(_OfLeastSquares, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="ridge"):
    """Ridge regression as ``sklearn.linear_model.Ridge`` has it: the least |y - Xw|^2 + alpha |w|^2.

    The penalty is on the coefficients of the columns as they are (indicators of all values of a category but the first
    among them), or with ``standardised`` on those of columns divided by their standard deviations (divisor n; about 0
    where there is no intercept), as after a ``StandardScaler``; the intercept has none.  With an intercept, a column
    that does not vary has the coefficient 0.  Coefficients are reported for the columns as they are in either case.
    What is summed, and what is withheld, is as for ``linear`` (A. E. Hoerl and R. W. Kennard, Technometrics 12, 1970).

    Attributes:
        alpha: the penalty, above 0.
        standardised: whether it is on standardised columns.
    """

    alpha: float
    standardised: bool = False

    def check(self, terms: Terms) -> None:
        super().check(terms)
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ParameterError(
                f"alpha is {self.alpha!r}: must be a finite number above 0; without a penalty use linear"
            )

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        products = self._products(terms, released)
        if isinstance(products, str):
            return MethodResult(withheld=products)
        variances = self._variances(products)
        penalty = self.alpha * (variances if self.standardised else 1 / products.design.scale**2)
        varies = variances > ALIASED
        if self.intercept:
            penalty[0], varies[0] = 0.0, True
        kept = np.ix_(varies, varies)
        penalised = products.xx[kept] + np.diag(penalty[varies])
        scaled = np.zeros(len(penalty))
        scaled[varies] = np.linalg.solve(penalised, products.xy[varies])
        estimates, _ = products.unscaled(scaled, np.zeros_like(products.xx))
        freedom = float(np.trace(np.linalg.solve(penalised, products.xx[kept])))
        coefficients = {
            name: {"estimate": float(value)} for name, value in zip(products.design.names, estimates, strict=True)
        }
        residual = products.residual(scaled)
        values = {
            "coefficients": coefficients,
            "alpha": self.alpha,
            "r_squared": _share(products, residual),
            "effective_df": freedom,
        }
        return MethodResult(values, _tables(self.label or f"Ridge regression of {self.y}", ("estimate",), values))

    def in_words(self, terms: Terms) -> str:
        return (
            f"A ridge regression of {self.y} on {', '.join(self.x)} with the penalty {self.alpha:g}: coefficients; and "
            "with them the means and covariances of these columns."
        )

    def _variances(self, products: _Products) -> Floats:
        """Of the columns (divisor n) in the scale of the products; of one that does not vary, what rounding left."""
        means = products.xx[0] / products.records if self.intercept else np.zeros(len(products.xy))
        return np.asarray(products.xx.diagonal() / products.records - means**2, np.float64)


def _share(products: _Products, residual: float) -> float | None:
    """R squared."""
    return None if products.total <= ALIASED * products.records else 1 - residual / products.total


def _fit(products: _Products, residual: float, rank: int) -> dict[str, Any]:
    """How well it fits, as statsmodels has it."""
    share, first = _share(products, residual), int(products.design.has_intercept)
    freedom, explaining = products.records - rank, rank - first
    found: dict[str, Any] = {"r_squared": share, "adjusted_r_squared": None, "f": None}
    if share is None:
        return found
    found["adjusted_r_squared"] = 1 - (1 - share) * (products.records - first) / freedom
    if explaining and residual > 0:
        f = (products.total - residual) / explaining / (residual / freedom)
        found["f"] = {
            "statistic": finite(f),
            "df": explaining,
            "df_residual": freedom,
            "p": beyond_f(f, explaining, freedom),
        }
    return found


def _tables(title: str, heads: Sequence[str], values: Mapping[str, Any]) -> tuple[Table, ...]:
    rows = tuple((name, *(one[head] for head in heads)) for name, one in values["coefficients"].items())
    fit = [(name, value) for name, value in values.items() if isinstance(value, int | float) or value is None]
    fit += [(f"f {name}", value) for name, value in (values.get("f") or {}).items()]
    fit = [(name.replace("_", " "), value) for name, value in fit if name != "f"]
    return Table(title, ("column", *heads), rows), Table("Fit", ("what", "value"), tuple(fit))
