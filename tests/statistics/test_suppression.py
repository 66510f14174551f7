"""Suppression, audited: what values a withheld cell may have, by a linear program over all that is shown."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from secagg.statistics.suppression import hidden_cells, margins_tell

SHAPES = st.sampled_from([(2,), (5,), (9,), (2, 2), (3, 3), (2, 6), (5, 4), (2, 2, 2), (3, 2, 4), (2, 3, 2, 2)])


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Full of zeros and small counts, or of large ones with some small ones among them."""
    shape = draw(SHAPES)
    largest = draw(st.sampled_from([2, 7, 12, 60, 1000]))
    return draw(arrays(np.int64, shape, elements=st.integers(0, largest)))


def margins(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Every sum over some of the dimensions, as rows of a matrix over the cells."""
    cells = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    rows = []
    for kept in range(len(shape)):
        for axes in combinations(range(len(shape)), kept):
            where = np.moveaxis(cells, axes, range(kept)).reshape(*(shape[axis] for axis in axes), -1)
            for members in where.reshape(-1, where.shape[-1]):
                row = np.zeros(cells.size)
                row[members] = 1
                rows.append(row)
    return np.array(rows)


def interval(counts: np.ndarray[Any, Any], hidden: np.ndarray[Any, Any], cell: int) -> tuple[float, float]:
    """The least and the largest value of a withheld cell over all tables with what is shown of this one."""
    flat, marks = counts.reshape(-1), hidden.reshape(-1)
    matrix = margins(counts.shape)
    free = np.flatnonzero(marks)
    least = 1 if (flat[free] > 0).all() and not marks.all() else 0  # zeros are shown, and the reader knows it
    sums = matrix @ flat - matrix[:, ~marks] @ flat[~marks]
    goal = (free == cell).astype(float)
    ends = []
    for sign in (1, -1):
        found = linprog(sign * goal, A_eq=matrix[:, free], b_eq=sums, bounds=(least, None), method="highs")
        assert found.status == 0, found.message
        ends.append(sign * found.fun)
    return ends[0], ends[1]


def smallest_line(counts: np.ndarray[Any, Any], cell: int) -> int:
    where = np.unravel_index(cell, counts.shape)
    return min(
        int(counts[tuple(slice(None) if axis == along else at for axis, at in enumerate(where))].sum())
        for along in range(counts.ndim)
    )


@given(tables(), st.sampled_from([2, 3, 5, 10]))
def test_no_small_cell_is_known_to_within_min_cell(counts: np.ndarray[Any, Any], min_cell: int) -> None:
    hidden = hidden_cells(counts, min_cell)
    small = (counts > 0) & (counts < min_cell)
    assert hidden[small].all()
    assert hidden.any() == small.any()
    if margins_tell(counts, min_cell):
        assert hidden.all()
        return
    for cell in np.flatnonzero(hidden):
        low, high = interval(counts, hidden, int(cell))
        if small.reshape(-1)[cell]:
            assert high - low >= min(min_cell, smallest_line(counts, int(cell))) - 1e-6
        else:
            assert high - low >= 1 - 1e-6


@given(tables(), st.sampled_from([1, 5]))
def test_without_complementary_cells_only_small_ones_are_withheld(counts: np.ndarray[Any, Any], min_cell: int) -> None:
    assert (hidden_cells(counts, min_cell, complementary=False) == ((counts > 0) & (counts < min_cell))).all()


@settings(deadline=None)
@given(tables())
def test_the_same_counts_give_the_same_cells(counts: np.ndarray[Any, Any]) -> None:
    first = hidden_cells(counts, 5)
    assert (hidden_cells(counts.copy(order="F"), 5) == first).all()
    assert (hidden_cells(counts[..., None], 5)[..., 0] == first).all()


def test_a_table_by_hand() -> None:
    """The small cell, and the rectangle with the fewest records whose odd corners could hold it five times."""
    counts = [[120, 3, 60], [80, 40, 50], [90, 45, 70]]
    expected = [[False, True, True], [False, True, True], [False, False, False]]
    assert hidden_cells(counts, 5).tolist() == expected


def test_ones_alone_are_not_given_away_by_their_number() -> None:
    """Five withheld cells that make 5 together, none of which is a zero, would all be 1."""
    assert hidden_cells([1, 1, 1, 1, 1, 30, 20], 5).tolist() == [True] * 5 + [False, True]


def test_lines_that_are_combined_give_nothing_away() -> None:
    """No line has a single small cell, and yet rows and columns together tell the one that joins the two blocks."""
    counts = np.full((4, 4), 30)
    counts[:2, :2] = counts[2:, 2:] = counts[1, 2] = 3
    joins = 6
    low, high = interval(counts, counts < 5, joins)
    assert high - low < 1e-9
    low, high = interval(counts, hidden_cells(counts, 5), joins)
    assert high - low >= 5 - 1e-6


@pytest.mark.parametrize("counts", [[3], [[3]], [3, 0, 0], [[0, 0], [2, 0]], [[3, 50], [0, 0]], [[0, 3], [0, 40]]])
def test_where_nothing_else_is_left_all_is_withheld_and_no_margin_is_shown(counts: Any) -> None:
    assert hidden_cells(counts, 5).all()
    assert margins_tell(counts, 5)


def test_large_counts_are_all_shown() -> None:
    assert not hidden_cells(np.full((4, 5), 5), 5).any()
    assert not hidden_cells(np.zeros((0, 3)), 5).any()


def test_a_table_too_large_to_search_is_withheld() -> None:
    counts = np.full((512, 512), 100)
    counts[::2] = 2
    assert hidden_cells(counts, 5).all()
    assert margins_tell(counts, 5)


def test_a_large_table_with_many_small_cells_is_not() -> None:
    counts = np.random.default_rng(1).poisson(6, (300, 40))
    hidden = hidden_cells(counts, 3)
    assert hidden[(counts > 0) & (counts < 3)].all()
    assert hidden.mean() < 0.2


def test_negative_counts_of_noise_are_no_small_cells() -> None:
    assert not hidden_cells([-2, -1, 0, 9], 5).any()
