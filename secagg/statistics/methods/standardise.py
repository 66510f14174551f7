"""Means and standard deviations of features, returned to everybody, for training on standardised columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells
from secagg.statistics.chunk import Chunk
from secagg.statistics.method import ByColumn, check_columns
from secagg.statistics.methods.describe import shown_moments
from secagg.statistics.moments import (
    cells_of_moments,
    moments_of,
    next_moments,
    rounds_of_moments,
    sums_of_moments,
)
from secagg.statistics.results import MethodResult, Table


class Standardise(ByColumn, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="standardise"):
    """What ``sklearn.preprocessing.StandardScaler`` learns: x becomes (x - mean) / scale.

    What is summed: counts, values and squares about public centres, in two rounds; see ``secagg.statistics.moments``.
    As there, the variance is the population's (its divisor is the count), missing values are left out by column, and
    the scale of a column that does not vary is 1.  A column with fewer than ``min_cell`` values has neither mean nor
    scale.

    Attributes:
        of: the columns.
    """

    def noisy_rounds(self, terms: Terms) -> tuple[Ask, ...]:
        return rounds_of_moments(terms, self.of, 1)

    def check(self, terms: Terms) -> None:
        check_columns(self.of, terms)

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        return next_moments(terms, self.of, released)

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return cells_of_moments(terms, self.of, 1, ask)

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        return sums_of_moments(terms, self.of, 1, ask, chunk)

    def result(self, terms: Terms, released: Sequence[Released]) -> MethodResult:
        means: list[float | None] = []
        scales: list[float | None] = []
        for name in self.of:
            (one,) = moments_of(terms, released, name)
            if one.mean is None or shown_moments(terms, name, [one])[0]["count"] is None:
                means.append(None)
                scales.append(None)
            else:
                means.append(float(one.mean))
                scales.append(math.sqrt(one.squares / one.count) or 1.0)
        empty = [name for name, mean in zip(self.of, means, strict=True) if mean is None]
        notes = (f"The columns {', '.join(empty)} have too few values to be shown.",) if empty else ()
        values = {"columns": list(self.of), "mean": means, "scale": scales}
        rows = tuple(zip(self.of, means, scales, strict=True))
        return MethodResult(
            values, (Table(self.label or "Standardisation", ("column", "mean", "scale"), rows),), (), notes
        )

    def in_words(self, terms: Terms) -> str:
        return f"The mean and the standard deviation of {', '.join(self.of)}, for everybody to train with."
