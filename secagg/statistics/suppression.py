"""Which counts of a table are withheld, so that a reader of the others and of all margins learns no small one.

Primary cells are those from 1 to ``min_cell`` - 1.  A reader who has every other cell and the margins solves for a cell
that is withheld alone, so *complementary* cells are withheld with it.

They are chosen by hypercubes (D. Repsilber, "Preservation of confidentiality in aggregated data", 1994; S. Giessing,
"Survey on methods for tabular data protection in ARGUS", 2004).  Take a cell, and a second one that differs from it in
every dimension.  They span a box of 2^d corners, and a line of the table has two of them or none.  Adding 1 to the
corners that differ from the cell in an even number of dimensions, and taking 1 from the others, changes no margin of
any kind.  With all corners withheld, tables that move by the least count of the even corners, or of the odd ones, look
the same to the reader, so that each corner may have any of the values in between.  That interval is wide enough when
it spans ``min_cell``, which is a proof for all corners at once; further withheld cells only make it wider.

A reader may know that zeros are shown, and so that no withheld cell is 0: a corner therefore moves down to 1 only.
What a reader learns who goes through all tables and asks which of them this rule would have withheld in the same way
is beyond it, as it is beyond every rule of suppression.
"""

from __future__ import annotations

from itertools import product
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

_MOST_STEPS: Final = 2**30
"""A table with more to search is withheld as a whole: it has many thousands of small cells."""

_Counts: TypeAlias = npt.NDArray[np.int64]
_Marks: TypeAlias = npt.NDArray[np.bool_]


def hidden_cells(counts: npt.ArrayLike, min_cell: int, complementary: bool = True) -> _Marks:
    """Which cells are withheld, the shape of ``counts``, when all the others and all margins are shown.

    Args:
        counts: a table of any number of dimensions; its margins are the sums over any of them, and the total.
        min_cell: counts from 1 to min_cell - 1 are withheld.
        complementary: withhold further cells as well, so that no margin gives a small one away.

    With ``complementary``, the least and the largest value that a small cell may have, by all that is shown, differ by
    ``min_cell`` or more, or by the smallest margin of its lines: a margin below min_cell bounds the cells in it
    whatever else is withheld, and should not be shown.  Where no choice of nonzero cells is enough, zeros are withheld,
    too, and at last the whole table; ``margins_tell`` says so.  The same counts always give the same cells.

    A dimension of one value has no margin but the cells themselves, and is passed over.
    """
    table, small = _table(counts, min_cell)
    if not complementary:
        return small
    covered = _covered(table, small, min_cell)
    return np.ones_like(small) if covered is None else covered


def margins_tell(counts: npt.ArrayLike, min_cell: int) -> bool:
    """Whether the margins bound a small cell too closely whatever is withheld of the table: show no margins then.

    So it is in a table of which a single line has records, since the margins across are that line.
    """
    table, small = _table(counts, min_cell)
    return _covered(table, small, min_cell) is None


def _table(counts: npt.ArrayLike, min_cell: int) -> tuple[_Counts, _Marks]:
    table: _Counts = np.asarray(counts, np.int64)
    return table, np.asarray((table > 0) & (table < min_cell), np.bool_)


def _covered(table: _Counts, small: _Marks, min_cell: int) -> _Marks | None:
    """The small cells and those that cover them; None when no choice of cells is enough."""
    if not small.any():
        return small
    counts, marks = table.squeeze(), small.squeeze()
    cover = _covered_line if counts.ndim < 2 else _covered_table
    covered = cover(counts, marks, min_cell)
    return None if covered is None else covered.reshape(table.shape)


def _covered_line(counts: _Counts, hidden: _Marks, min_cell: int) -> _Marks | None:
    """With one dimension, a withheld cell may have all that the withheld ones have together."""
    line, marks = counts.reshape(-1), hidden.reshape(-1).copy()
    while True:
        lacking = min_cell - int((line[marks] - 1).sum())
        if lacking <= 0 and np.count_nonzero(marks) > 1:
            return marks
        others = np.flatnonzero(~marks & (line > 0))
        if not others.size:
            return None
        enough = others[line[others] > lacking]
        marks[enough[line[enough].argmin()] if enough.size else others[line[others].argmax()]] = True


def _covered_table(counts: _Counts, hidden: _Marks, min_cell: int) -> _Marks | None:
    small = sorted(map(tuple, np.argwhere(hidden).tolist()), key=lambda cell: (int(counts[cell]), cell))
    marks: _Marks = hidden.copy()
    if len(small) * counts.size * 2**counts.ndim > _MOST_STEPS:
        return None
    margins = [counts.sum(axis=axis, keepdims=True) for axis in range(counts.ndim)]
    for cell in small:
        lines = (
            margin[tuple(at if size > 1 else 0 for at, size in zip(cell, margin.shape, strict=True))]
            for margin in margins
        )
        corners = _box(counts, marks, cell, min_cell, min(map(int, lines)))
        if corners is None:
            return None
        for corner in corners:
            marks[corner] = True
    return marks


def _box(
    counts: _Counts, marks: _Marks, cell: tuple[int, ...], min_cell: int, smallest_margin: int
) -> list[tuple[int, ...]] | None:
    """The corners of the box to withhold for a cell: fewest that are shown so far, then fewest records; None: no box.

    First those whose corners move down to 1; else those that move down to 0, when a corner is 0, so that a reader who
    knows the rule cannot exclude zeros.
    """
    others = [np.delete(np.arange(size), at) for at, size in zip(cell, counts.shape, strict=True)]
    shape = tuple(other.size for other in others)
    even, odd = (np.full(shape, np.iinfo(np.int64).max) for _ in range(2))
    shown, records = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for away in product((False, True), repeat=counts.ndim):
        corners = np.ix_(*(other if far else [at] for other, far, at in zip(others, away, cell, strict=True)))
        least = odd if sum(away) % 2 else even
        np.minimum(least, counts[corners].clip(0), out=least)
        shown += ~marks[corners]
        records += np.where(marks[corners], 0, counts[corners])
    positive = (even > 0) & (odd > 0) & (even - 1 + odd - 1 >= min_cell)
    zeros = np.minimum(even, odd) == 0
    enough = positive if positive.any() else zeros & (even + odd >= min(min_cell, smallest_margin))
    if not enough.any():
        return None
    enough &= shown == shown[enough].min()
    best = np.unravel_index(int(np.where(enough, records, np.iinfo(np.int64).max).argmin()), shape)
    spans = [(at, int(other[place])) for at, other, place in zip(cell, others, best, strict=True)]
    return list(product(*spans))
