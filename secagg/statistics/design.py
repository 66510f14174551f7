"""The columns of a regression: numbers, flags and categories as one matrix of scaled numbers, and the way back.

What is summed is bounded, and badly scaled columns lose digits, so every column is brought to about [-1, 1] by its
public range: z = (x - centre) / scale.  A model that is linear in z is linear in x:

    b_0 + sum_j b_j z_j = (b_0 - sum_j b_j centre_j / scale_j) + sum_j (b_j / scale_j) x_j

so that coefficients and their covariance are carried back by one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.statistics.chunk import Chunk, Floats
from secagg.statistics.columns import Category, Column, bounds_of

INTERCEPT: Final = "intercept"
_MOST_COLUMNS: Final = 1000
"""The products of each two of them are summed: 500,000."""


@final
@dataclass(frozen=True)
class Entry:
    """One column of the matrix.

    Attributes:
        column: the study's column that it is made of; empty: the intercept.
        code: of the category's value whose indicator it is, 0 or 1; None: the number itself.
        low, high: the range of x.
    """

    column: str
    code: int | None
    low: float
    high: float

    def values(self, chunk: Chunk) -> Floats:
        """x, shape (chunk.size,)."""
        if not self.column:
            return np.ones(chunk.size)
        if self.code is None:
            return chunk.numbers(self.column)
        return np.asarray(chunk.codes(self.column) == self.code, np.float64)


@final
@dataclass(frozen=True, eq=False)
class Design:
    """What the matrix of some columns is made of: p columns, the intercept first where there is one.

    Attributes:
        names: p of them: ``intercept``, the number's or the flag's name, or ``column[value]``.
        entries: p of them.
        centre, scale: shape (p,); z = (x - centre) / scale.
    """

    names: tuple[str, ...]
    entries: tuple[Entry, ...]
    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, columns: Mapping[str, Column], terms: Sequence[str], *, intercept: bool = True) -> Self:
        """The matrix of these of the study's columns, scaled to their public ranges.

        A category becomes an indicator for each of its values but the first, the reference.  Without an intercept
        nothing can stand for a centre, so columns are scaled alone, and a category keeps its first value.

        Raises ParameterError for a column that is named twice, for a category with a single value, and for more than
        1,000 columns of the matrix.
        """
        for term in terms:
            if terms.count(term) > 1:
                raise ParameterError(f"the column {term!r} is named twice: leave one of them out")
        entries = [Entry("", None, 1.0, 1.0)] if intercept else []
        names = [INTERCEPT] if intercept else []
        for term in terms:
            column = columns[term]
            if isinstance(column, Category):
                if len(column.values) < 2:
                    raise ParameterError(f"the category {term!r} has a single value, so nothing can depend on it")
                first = 1 if intercept else 0
                entries += [Entry(term, code, 0.0, 1.0) for code in range(first, len(column.values))]
                names += [f"{term}[{value}]" for value in column.values[first:]]
            else:
                entries.append(Entry(term, None, *bounds_of(column)))
                names.append(term)
        if len(names) > _MOST_COLUMNS:
            raise ParameterError(
                f"a category becomes a column for each of its values, {len(names):,} in all, and at most "
                f"{_MOST_COLUMNS:,} are allowed: join values, or leave a column out"
            )
        low, high = (np.array([getattr(entry, end) for entry in entries], np.float64) for end in ("low", "high"))
        centred = np.array([intercept and bool(entry.column) and entry.code is None for entry in entries], np.bool_)
        centre = np.where(centred, (low + high) / 2, 0.0)
        return cls(tuple(names), tuple(entries), centre, np.maximum(np.abs(low - centre), np.abs(high - centre)))

    @property
    def has_intercept(self) -> bool:
        return self.names[:1] == (INTERCEPT,)

    @property
    def largest(self) -> Floats:
        """The largest absolute value of z by column, shape (p,)."""
        low, high = (np.array([getattr(entry, end) for entry in self.entries], np.float64) for end in ("low", "high"))
        return np.maximum(np.abs(low - self.centre), np.abs(high - self.centre)) / self.scale

    def about(self, centre: npt.ArrayLike, scale: npt.ArrayLike) -> Design:
        """The same columns about other centres and in other scales, shape (p,): those of x, not of z.

        The intercept stays as it is; a scale of 0, of a column that is constant, is left at the range's.
        """
        middle, width = np.array(centre, np.float64), np.array(scale, np.float64)
        width = np.where(width > 0, width, self.scale)
        if self.has_intercept:
            middle[0], width[0] = 0.0, 1.0
        return replace(self, centre=middle, scale=width)

    def matrix(self, chunk: Chunk) -> Floats:
        """z, shape (chunk.size, p).  The records must have a value in each column."""
        found = np.empty((chunk.size, len(self.entries)), order="F")  # a column at a time is written and summed
        for at, entry in enumerate(self.entries):
            found[:, at] = (entry.values(chunk) - self.centre[at]) / self.scale[at]
        return found

    def back(self) -> Floats:
        """The matrix that carries coefficients of z to those of x, shape (p, p)."""
        found = np.diag(1.0 / self.scale)
        if self.has_intercept:
            found[0, 1:] = -self.centre[1:] / self.scale[1:]
        return found

    def unscaled(self, coefficients: npt.ArrayLike, covariance: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Coefficients of x, shape (p,), and their covariance, shape (p, p), from those of z."""
        back = self.back()
        return back @ np.asarray(coefficients, np.float64), back @ np.asarray(covariance, np.float64) @ back.T


def upper(matrix: Floats) -> Floats:
    """The upper triangle of a symmetric matrix, its diagonal included, row by row: shape (p (p + 1) / 2,)."""
    return matrix[np.triu_indices(matrix.shape[0])]


def symmetric(triangle: npt.ArrayLike, size: int) -> Floats:
    """The symmetric matrix, shape (size, size), of which ``upper`` made this."""
    found = np.zeros((size, size))
    found[np.triu_indices(size)] = np.asarray(triangle, np.float64)
    return found + np.triu(found, 1).T
