"""What is withheld of a table cannot be solved for, as linear programs and whole numbers see it."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import linprog

from secagg.statistics.suppression import hidden_cells, margins_tell

SMALL_TABLES = arrays(
    np.int64, array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=4), elements=st.integers(0, 9)
)
SPARSE_TABLES = arrays(
    np.int64,
    array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=4),
    elements=st.sampled_from([0, 0, 0, 0, 2, 30]),
)


def lines_of(shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Which cells each line has, along every axis: shape (lines, cells)."""
    places = np.arange(int(np.prod(shape))).reshape(shape)
    lines = [line for axis in range(len(shape)) for line in np.moveaxis(places, axis, -1).reshape(-1, shape[axis])]
    return np.array([np.isin(places.reshape(-1), line) for line in lines], float)


def ranges(counts: npt.NDArray[Any], hidden: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Of each hidden cell, the least and the most that a table with these margins and shown cells can have."""
    mask, flat = hidden.reshape(-1), counts.reshape(-1)
    lines = lines_of(counts.shape)
    sums = lines @ np.where(mask, flat, 0)
    found = []
    for position in range(int(mask.sum())):
        aim = np.eye(int(mask.sum()))[position]
        ends = [linprog(sign * aim, A_eq=lines[:, mask], b_eq=sums, bounds=(0, None)) for sign in (1, -1)]
        assert all(end.status == 0 for end in ends)
        found.append((ends[0].fun, -ends[1].fun))
    return found


@given(SMALL_TABLES | SPARSE_TABLES, st.integers(1, 6))
def test_no_hidden_cell_can_be_solved_for(counts: npt.NDArray[Any], min_cell: int) -> None:
    hidden = hidden_cells(counts, min_cell)
    assert hidden.shape == counts.shape
    assert hidden[(counts > 0) & (counts < min_cell)].all()
    assert (hidden == hidden_cells(counts, min_cell)).all()
    if margins_tell(counts, min_cell):
        assert hidden.all()
        return
    assert all(most - least > 0.5 for least, most in ranges(counts, hidden))


@given(arrays(np.int64, st.tuples(st.integers(2, 4), st.integers(2, 4)), elements=st.sampled_from([0, 0, 0, 2, 30])))
def test_a_table_of_two_dimensions_is_given_up_only_when_its_margins_tell(counts: npt.NDArray[Any]) -> None:
    if margins_tell(counts, 5):
        small = (counts > 0) & (counts < 5)
        told = [most - least < 0.5 for least, most in ranges(counts, np.ones_like(small))]
        assert (np.array(told).reshape(counts.shape) & small).any()


@given(arrays(np.int64, (2, 2, 2), elements=st.integers(0, 3)), st.integers(2, 4))
def test_another_table_of_whole_numbers_fits_for_each_hidden_cell(counts: npt.NDArray[Any], min_cell: int) -> None:
    """All tables are tried that have the same margins; a linear program would also take halves."""
    if margins_tell(counts, min_cell):
        return
    hidden = hidden_cells(counts, min_cell)
    signs = np.array([(-1) ** sum(at) for at in product((0, 1), repeat=3)]).reshape(2, 2, 2)
    fits = [counts + step * signs for step in range(-12, 13) if (counts + step * signs).min() >= 0]
    for at in np.argwhere(hidden):
        assert len({int(table[tuple(at)]) for table in fits}) > 1


def test_lines_that_are_combined_give_nothing_away() -> None:
    """No line has a single small cell, and yet rows and columns together tell the one that joins the two blocks."""
    counts = np.full((4, 4), 30)
    counts[:2, :2] = counts[2:, 2:] = counts[1, 2] = 3
    small, joins = counts < 5, 4
    assert 1 not in {int(count) for axis in (0, 1) for count in small.sum(axis=axis)}
    least, most = ranges(counts, small)[joins]
    assert most - least < 1e-9
    assert all(most - least > 0.5 for least, most in ranges(counts, hidden_cells(counts, 5)))


@pytest.mark.parametrize("counts", [[[3, 50], [0, 0]], [[0, 3], [0, 40]], [3]])
def test_margins_that_are_the_cells_are_said_to_be(counts: list[Any]) -> None:
    assert margins_tell(counts, 5)
    assert hidden_cells(counts, 5).all()


def test_without_complementary_cells_the_small_ones_alone_are_hidden() -> None:
    assert hidden_cells([[2, 30], [40, 50]], 5, complementary=False).tolist() == [[True, False], [False, False]]
    assert not hidden_cells([[0, 30], [40, 50]], 5).any()


def test_a_large_table_with_many_small_cells_is_done_in_one_go() -> None:
    counts = np.random.default_rng(1).poisson(6, (300, 40))
    hidden = hidden_cells(counts, 3)
    assert hidden[(counts > 0) & (counts < 3)].all()
    assert not hidden.all()
