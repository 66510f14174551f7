"""Tables of counts, and the rule of small cells as their methods apply it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg.statistics.asks import Ask, Released, Terms
from secagg.statistics.cells import Cells, Whole
from secagg.statistics.chunk import Chunk, Codes
from secagg.statistics.method import Method
from secagg.statistics.suppression import hidden_cells, margins_tell


class Counting(Method, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A method that counts records by cell of one table, in one round, exact."""

    def next_ask(self, terms: Terms, released: Sequence[Released]) -> Ask | None:
        return None if released else Ask("counts")

    def cells(self, terms: Terms, ask: Ask) -> dict[str, Cells]:
        return {"counts": Whole(self._shape(terms), touched=1)}

    def sums(self, terms: Terms, ask: Ask, chunk: Chunk) -> Mapping[str, npt.NDArray[Any]]:
        shape = self._shape(terms)
        return {"counts": np.bincount(self._cell_of(terms, chunk), minlength=math.prod(shape)).reshape(shape)}

    @abstractmethod
    def _shape(self, terms: Terms) -> tuple[int, ...]:
        """Of the table."""

    @abstractmethod
    def _cell_of(self, terms: Terms, chunk: Chunk) -> Codes:
        """The cell of each record, in C order, shape (chunk.size,)."""


def hidden_in(terms: Terms, counts: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which counts the study's release withholds, shape as ``counts``.

    A dimension with a single value makes no margin: the margin would be the cells themselves.
    """
    release = terms.release
    hidden = hidden_cells(_lined(counts), release.min_cell, release.complementary)
    return np.asarray(hidden, np.bool_).reshape(counts.shape)


def told_by_margins(terms: Terms, counts: npt.NDArray[Any]) -> bool:
    """Whether the margins of counts are the small cells, whatever is withheld of the table."""
    return margins_tell(_lined(counts), terms.release.min_cell)


def joined_ends(counts: npt.NDArray[Any], least: int) -> list[int]:
    """Where neighbouring bins of counts, shape (kinds, bins), are joined so that no count is from 1 to ``least`` - 1.

    The last bin of each joined one, ascending: they are joined from the left, and what is left over at the end joins
    those before it.  When all of them together still have such a count, they are one.
    """
    ends: list[int] = []
    sums: list[list[int]] = []
    nothing = [0] * len(counts)
    last = nothing
    for at, column in enumerate(counts.T.tolist()):
        last = _added(last, column)
        if not is_small(last, least):
            ends.append(at)
            sums.append(last)
            last = nothing
    while ends and is_small(last, least):
        ends.pop()
        last = _added(last, sums.pop())
    return [*ends, counts.shape[1] - 1] if any(last) else ends


def is_small(counts: Iterable[int], least: int) -> bool:
    """Whether one of them is from 1 to ``least`` - 1."""
    return any(0 < count < least for count in counts)


def _added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [mine + theirs for mine, theirs in zip(one, other, strict=True)]


def _lined(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return counts.reshape(tuple(size for size in counts.shape if size > 1) or (1,))
