"""Which counts of a table are withheld."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def hidden_cells(counts: npt.ArrayLike, min_cell: int, complementary: bool = True) -> npt.NDArray[np.bool_]:
    """Which cells are withheld, the shape of ``counts``, when all its margins are shown.

    Cells from 1 to min_cell - 1; with ``complementary``, further ones until no line of the table, along any axis, has
    a single hidden cell, which the line's margin would give away.
    """
    table: npt.NDArray[Any] = np.asarray(counts, np.int64)
    hidden: npt.NDArray[np.bool_] = (table > 0) & (table < min_cell)
    changed = complementary
    while changed:
        changed = False
        for axis in range(table.ndim):
            lines, marks = np.moveaxis(table, axis, -1), np.moveaxis(hidden, axis, -1)
            for line in np.ndindex(lines.shape[:-1]):
                if np.count_nonzero(marks[line]) != 1:
                    continue
                others = np.where(marks[line] | (lines[line] == 0), np.iinfo(np.int64).max, lines[line])
                if marks[line].size > 1 and others.min() < np.iinfo(np.int64).max:
                    marks[line][int(others.argmin())] = True
                    changed = True
    return hidden
