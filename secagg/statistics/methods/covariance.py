"""Covariances, correlations and principal components of some columns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.asks import Released, Terms
from secagg.statistics.chunk import Floats
from secagg.statistics.design import Design
from secagg.statistics.distributions import finite
from secagg.statistics.gram import ALIASED, OfGram, few_in, gram_of
from secagg.statistics.method import check_columns
from secagg.statistics.results import MethodResult, Table, Value
from secagg.wording import counted

_NO_SHARE: Final = 1e-9
"""Of all variance: a component of scaled columns that has less may be rounding, since moments keep nine digits."""
_NO_SHARE_IN_UNITS: Final = 1e-11
"""The same for columns in their own units, which may be so unlike that a smaller share is some column's own."""


@final
@dataclass(frozen=True, eq=False)
class _Spread:
    """Means, shape (p,), the covariances, shape (p, p), and which columns do not vary, shape (p,)."""

    means: Floats
    covariance: Floats
    constant: npt.NDArray[np.bool_]

    @property
    def correlation(self) -> Floats:
        """NaN where a column does not vary."""
        sd = np.where(self.constant, np.nan, np.sqrt(self.covariance.diagonal()))
        found = (self.covariance / np.outer(sd, sd)).clip(-1.0, 1.0)
        return np.where(np.eye(sd.size, dtype=np.bool_) & ~self.constant, 1.0, found)


class _OfProducts(OfGram, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is made of X'X of some columns.

    Attributes:
        of: numbers, flags or dates, two or more; a record that lacks one of them is left out.
    """

    of: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.of

    def check(self, terms: Terms) -> None:
        check_columns(self.of, terms)
        if len(self.of) < 2:
            raise ParameterError(f"of names {self.of[0]} alone: give two or more columns")

    def _design(self, terms: Terms) -> Design:
        return Design.of(terms.columns, self.of)

    def _spread(self, terms: Terms, released: Sequence[Released]) -> _Spread | str:
        """What is known of the columns, or why it is withheld."""
        gram = gram_of(self._design(terms), released)
        if gram.records < 2:
            return "fewer than two complete records"
        if few := few_in(terms, gram):
            return f"few records have, or lack, {', '.join(few)}: leave it out"
        first = gram.matrix[0, 1:] / gram.records
        products = (gram.matrix[1:, 1:] - gram.records * np.outer(first, first)) / (gram.records - 1)
        centre, scale = gram.design.centre[1:], gram.design.scale[1:]
        constant = products.diagonal() <= ALIASED
        products = np.where(constant[:, None] | constant[None, :], 0.0, products)
        return _Spread(centre + scale * first, products * np.outer(scale, scale), constant)

    def _constant_notes(self, spread: _Spread) -> list[str]:
        names = list(itertools.compress(self.of, spread.constant))
        return [f"The columns {', '.join(names)} do not vary, so they have no correlations."] if names else []


class Covariance(_OfProducts, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="covariance"):
    """Means, covariances (divisor n - 1) and Pearson's correlations.

    What is summed: sums and squares, then X'X of standardised columns, in two rounds; see ``secagg.statistics.gram``.
    All is withheld when a flag among the columns has a yes, or a no, in fewer than ``min_cell`` records.
    """

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        spread = self._spread(terms, released)
        if isinstance(spread, str):
            return MethodResult(withheld=spread)
        correlation = [[finite(value) for value in row] for row in spread.correlation]
        values = {
            "columns": list(self.of),
            "mean": spread.means.tolist(),
            "covariance": spread.covariance.tolist(),
            "correlation": correlation,
        }
        title = self.label or "Covariance"
        tables = [_square(title, self.of, values["covariance"]), _square("Correlation", self.of, correlation)]
        return MethodResult(values, tuple(tables), (), tuple(self._constant_notes(spread)))

    def in_words(self, terms: Terms) -> str:
        return f"The means, covariances and correlations of {', '.join(self.of)}."


class Pca(_OfProducts, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="pca"):
    """Principal components: the eigenvectors of the correlations, or of the covariances.

    What is summed is as for ``covariance``, in two rounds (I. T. Jolliffe, Principal Component Analysis, 2nd edition,
    2002).  Components are ordered by the variance that they explain; of each, the entry of the largest absolute value
    is positive, as in scikit-learn.  Columns that do not vary are left out, and so are components without variance:
    rounding alone would choose their directions.

    Attributes:
        components: how many are reported; 0: all.
        scaled: whether columns are divided by their standard deviations first.
    """

    components: int = 0
    scaled: bool = True

    def check(self, terms: Terms) -> None:
        super().check(terms)
        if not 0 <= self.components <= len(self.of):
            raise ParameterError(f"components is {self.components}: must be from 0 to {len(self.of)}, the columns")

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        spread = self._spread(terms, released)
        if isinstance(spread, str):
            return MethodResult(withheld=spread)
        varies = ~spread.constant
        if not varies.any():
            return MethodResult(withheld="no column varies")
        names = list(itertools.compress(self.of, varies))
        matrix = (spread.correlation if self.scaled else spread.covariance)[np.ix_(varies, varies)]
        eigenvalues, vectors = np.linalg.eigh(matrix)
        eigenvalues, vectors = eigenvalues[::-1].clip(0.0), vectors[:, ::-1].T
        largest = vectors[np.arange(len(names)), np.abs(vectors).argmax(axis=1)]
        vectors = vectors * np.sign(largest)[:, None]
        share = eigenvalues / eigenvalues.sum()
        asked = min(self.components or len(names), len(names))
        count = min(asked, int(np.count_nonzero(share > (_NO_SHARE if self.scaled else _NO_SHARE_IN_UNITS))))
        sd = np.sqrt(spread.covariance.diagonal()[varies])
        values = {
            "columns": names,
            "mean": spread.means[varies].tolist(),
            "scale": sd.tolist() if self.scaled else [1.0] * len(names),
            "explained_variance": eigenvalues[:count].tolist(),
            "explained_ratio": share[:count].tolist(),
            "components": vectors[:count].tolist(),
        }
        heads = ("component", "variance", "share", "cumulative", *names)
        rows = tuple(
            (at + 1, float(eigenvalues[at]), float(share[at]), float(share[: at + 1].sum()), *vectors[at].tolist())
            for at in range(count)
        )
        table = Table(self.label or "Principal components", heads, rows)
        notes = self._constant_notes(spread)
        if count < asked:
            notes.append(f"{counted(asked - count, 'component')} without variance: left out, columns depend on others.")
        return MethodResult(values, (table,), (), tuple(notes))

    def in_words(self, terms: Terms) -> str:
        return (
            f"The principal components of {', '.join(self.of)}, and with them their means, variances and correlations."
        )


def _square(title: str, names: Sequence[str], matrix: list[list[float | None]]) -> Table:
    rows: list[tuple[Value, ...]] = [(name, *row) for name, row in zip(names, matrix, strict=True)]
    return Table(title, ("column", *names), tuple(rows))
