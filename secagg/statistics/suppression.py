"""Which counts of a table are withheld, so that the margins that are shown give none of them away.

A table of n dimensions is shown with its margins: the sum of each line, along each axis, and with them all coarser
sums.  Whoever sees them solves for the cells that are withheld.  One that has the same value in every table of whole
numbers from 0 up that fits is not withheld at all, even where no line has it alone: lines can be combined.

So each withheld cell belongs to a *box*: 2^n cells, two values of each axis, all of them withheld.  Taking 1 from the
cells at an even number of steps from a corner and adding it to the others changes no line's sum, so that the box
cannot be told from another one, when one of the two halves has no 0 that would become negative.  It changes each cell
of the box.  This is more than cell suppression by linear programming asks for (M. Fischetti and J. J. Salazar, Models
and Algorithms for Optimizing Cell Suppression in Tabular Data, JASA 95, 2000), costs no solver, and holds for whole
numbers, of which a linear program knows nothing.  A published count of a neighbouring table, or what somebody knows of
one record, is outside of it.
"""

from __future__ import annotations

from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_Counts = npt.NDArray[np.int64]
_Mask = npt.NDArray[np.bool_]
_FEW_BOXES: Final = 1024
"""Boxes at a cell that are compared first; all are, when none of these will do."""


def hidden_cells(counts: npt.ArrayLike, min_cell: int, complementary: bool = True) -> _Mask:
    """Which cells are withheld, the shape of ``counts``, when the sums of all its lines are shown.

    Cells from 1 to min_cell - 1; with ``complementary``, further ones until each is in a box, chosen so that few cells
    go, few of them 0, and small ones: the same ones for the same counts.  All cells are withheld when the margins would
    still tell one: see ``margins_tell``.
    """
    table, small = _table(counts, min_cell)
    if not complementary:
        return small
    boxes = _in_boxes(table, small)
    return np.ones_like(small) if boxes is None else boxes


def margins_tell(counts: npt.ArrayLike, min_cell: int) -> bool:
    """Whether the margins are the small cells themselves, whatever else is withheld: show no margins then.

    So it is in a table of which a single line has records, since the margins across are that line.  From three
    dimensions on, a table with few records can be called so although it needs more than a box to see that it is not.
    """
    return _in_boxes(*_table(counts, min_cell)) is None


def _table(counts: npt.ArrayLike, min_cell: int) -> tuple[_Counts, _Mask]:
    table: _Counts = np.asarray(counts, np.int64)
    return table, np.asarray((table > 0) & (table < min_cell), np.bool_)


def _in_boxes(table: _Counts, small: _Mask) -> _Mask | None:
    """Boxes around all small cells; None when one is in no box."""
    boxed = np.zeros_like(small)
    for cell in np.argwhere(small).tolist():
        if boxed[tuple(cell)]:
            continue
        opposite = _opposite(table, small | boxed, cell)
        if opposite is None:
            return None
        boxed[np.ix_(*([at, other] for at, other in zip(cell, opposite, strict=True)))] = True
    return boxed


def _opposite(table: _Counts, hidden: _Mask, cell: list[int]) -> list[int] | None:
    """The cell across the cheapest box at this one; None when there is no box."""
    others = [
        np.array([at for at in _by_cost(table, hidden, cell, axis) if at != cell[axis]], np.intp)
        for axis in range(table.ndim)
    ]
    few = max(1, int(_FEW_BOXES ** (1 / table.ndim)))
    for chosen in ([axis[:few] for axis in others], others):
        if (found := _cheapest(table, hidden, cell, chosen)) is not None:
            return found
    return None


def _by_cost(table: _Counts, hidden: _Mask, cell: list[int], axis: int) -> list[int]:
    """The places of the line through a cell along an axis: withheld already, then not 0, then small."""
    line: tuple[Any, ...] = (*cell[:axis], slice(None), *cell[axis + 1 :])
    order = np.lexsort((table[line], table[line] == 0, ~hidden[line]))
    return [int(at) for at in order]


def _cheapest(table: _Counts, hidden: _Mask, cell: list[int], others: list[npt.NDArray[np.intp]]) -> list[int] | None:
    """Among the boxes of a cell and one of ``others`` on each axis; all of them are compared at once."""
    shape = tuple(axis.size for axis in others)
    if not all(shape):
        return None
    fresh, zeros, records = (np.zeros(shape, np.int64) for _ in range(3))
    movable = [np.ones(shape, np.bool_), np.ones(shape, np.bool_)]
    for corner in product((False, True), repeat=table.ndim):
        at = np.ix_(*(axis if far else np.array([near]) for far, near, axis in zip(corner, cell, others, strict=True)))
        counts, shown = table[at], ~hidden[at]
        fresh += shown
        zeros += shown & (counts == 0)
        records += np.where(shown, counts, 0)
        movable[sum(corner) % 2] &= counts > 0
    boxes: npt.NDArray[Any] = np.flatnonzero(movable[0] | movable[1])
    if not boxes.size:
        return None
    order = np.lexsort((records.reshape(-1)[boxes], zeros.reshape(-1)[boxes], fresh.reshape(-1)[boxes]))
    best = np.unravel_index(int(boxes[order[0]]), shape)
    return [int(axis[int(place)]) for axis, place in zip(others, best, strict=True)]
