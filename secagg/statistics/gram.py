"""X'X of standardised columns in two rounds: what covariances and linear models are made of.

The first round has sums and squares of the columns in their public ranges.  The second has X'X of the columns about the
means and in the standard deviations of the first one, so that no digits cancel and its condition is that of their
correlations; a column of ones among them makes the result right although a site may have vanished in between.

Moments keep nine digits while the standard deviation of a column is above some 1e-5 of its range: a range that is wider
than that by far is no range of the column.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms, public
from secagg.statistics.cells import Cells, Real
from secagg.statistics.chunk import Chunk, Floats
from secagg.statistics.columns import Flag
from secagg.statistics.design import Design, Entry, symmetric, upper
from secagg.statistics.method import Method

_NARROWEST: Final = 1e-3
"""The smallest standard deviation by which a column is divided, in half ranges: beyond it the bound of a record's
contribution, which sets the step of the sum, grows faster than the digits that are won."""
ALIASED: Final = 1e-10
"""A column of which no more than this share is left after the others is taken for a combination of them."""


@final
@dataclass(frozen=True, eq=False)
class Gram:
    """The sums of the second round.

    Attributes:
        design: of p columns, standardised.
        matrix: Z'Z, shape (p, p).
        records: how many they are.
    """

    design: Design
    matrix: Floats
    records: int


class OfGram(Method, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A method that is made of X'X of the columns of its design."""

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        """The first round, the second one about the means of the first, and then nothing."""
        if not released:
            return Ask("moments")
        if len(released) > 1:
            return None
        design = self._design(terms)
        count = max(1, released[0].records)
        first = np.clip(released[0].sums["first"] / count, -1.0, 1.0)
        second = np.clip(released[0].sums["second"] / count, 0.0, 1.0)
        if not design.has_intercept:
            first = np.zeros_like(first)
        width = np.sqrt(np.maximum(second - first**2, _NARROWEST**2))
        parameters = {"centre": design.centre + design.scale * first, "scale": design.scale * width}
        return Ask("products", {name: public(found) for name, found in parameters.items()})

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        """Arrays of shape (p,), and then the upper triangle of a (p, p) matrix."""
        design = self._design(terms)
        size = len(design.names)
        if ask.stage == "moments":
            return {"first": Real((size,), 1.0), "second": Real((size,), 1.0)}
        largest = _standardised(design, ask).largest.max()
        return {"gram": Real((size * (size + 1) // 2,), float(largest) ** 2)}

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        design = self._design(terms)
        if ask.stage == "moments":
            matrix = design.matrix(chunk)
            return {"first": matrix.sum(axis=0), "second": np.einsum("ij,ij->j", matrix, matrix)}
        matrix = _standardised(design, ask).matrix(chunk)
        return {"gram": upper(matrix.T @ matrix)}

    @abstractmethod
    def _design(self, terms: Terms) -> Design:
        """The p columns."""


def gram_of(design: Design, released: Sequence[Released]) -> Gram:
    """From the last round."""
    last = released[-1]
    return Gram(_standardised(design, last.ask), symmetric(last.sums["gram"], len(design.names)), last.records)


def few_in(terms: Terms, gram: Gram) -> list[str]:
    """The indicators and flags of which fewer than ``min_cell`` records, and not none, have a yes or a no.

    A coefficient or a mean of such a column is about these records.
    """
    design, matrix = gram.design, gram.matrix
    to_first = matrix[0] if design.has_intercept else np.zeros(len(design.names))
    squares = design.scale**2 * matrix.diagonal() + 2 * design.centre * design.scale * to_first
    counts = np.rint(squares + gram.records * design.centre**2).astype(np.int64)  # x is 0 or 1, as is its square
    return few_among(terms, design, counts.tolist(), gram.records)


def few_among(terms: Terms, design: Design, counts: Sequence[int], records: int) -> list[str]:
    """As ``few_in``, when a yes was counted by column: p counts, of which those of numbers do not matter."""
    by_level: dict[str, int] = {}
    others: dict[str, int] = {}
    for entry, name, count in zip(design.entries, design.names, counts, strict=True):
        if not is_yes_or_no(terms, entry):
            continue
        by_level[name] = count
        others[entry.column] = others.get(entry.column, records) - count
    rest = {f"{column} at its first value": count for column, count in others.items()}
    return [name for name, count in (by_level | rest).items() if 0 < count < terms.release.min_cell]


def is_yes_or_no(terms: Terms, entry: Entry) -> bool:
    """Whether it is an indicator or a flag."""
    return entry.code is not None or (bool(entry.column) and isinstance(terms.columns[entry.column], Flag))


def independent(matrix: Floats, least: Floats) -> list[int]:
    """The columns that are no combination of those before them.

    Of X'X, shape (p, p): more than ``least``, shape (p,), of a column's squares is left after those that are kept.
    """
    kept: list[int] = []
    for at in range(len(matrix)):
        left, before = matrix[at, at], matrix[kept, at]
        if kept:
            left = left - before @ np.linalg.solve(matrix[np.ix_(kept, kept)], before)
        if left > least[at]:
            kept.append(at)
    return kept


def _standardised(design: Design, ask: Ask) -> Design:
    return design.about(ask.parameter("centre"), ask.parameter("scale"))
