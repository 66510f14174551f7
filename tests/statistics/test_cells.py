"""The bound of a record's contribution: the same step and layout on machines that differ in its last digits."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secagg import ParameterError
from secagg.statistics.cells import Real, largest_limb, limbs_of, most_units

RECORDS = st.sampled_from([1, 1000, 2**20 - 1, 10_000_000])


@given(st.floats(1e-9, 1e15), st.integers(-4, 4), RECORDS)
@example(1.0, -1, 1000)
@example(4.0, 1, 1000)
@example(0.25, -2, 1000)
@example(2 * math.log(2) + 60.0, 1, 2**20 - 1)
@example(148.0, 1, 1)
def test_machines_that_differ_in_the_last_digits_agree(bound: float, digits: int, records: int) -> None:
    other = bound
    for _ in range(abs(digits)):
        other = math.nextafter(other, math.copysign(math.inf, digits))
    here, there = Real((), bound), Real((), other)
    assert here.step == there.step
    limbs = range(limbs_of(here, records))
    assert [largest_limb(here, records, limb) for limb in limbs] == [
        largest_limb(there, records, limb) for limb in limbs
    ]


@given(st.floats(1e-9, 1e15), RECORDS)
def test_so_many_records_fit_and_not_many_more(bound: float, records: int) -> None:
    cells = Real((), bound)
    assert Fraction(cells.step) <= Fraction(bound) / 2**58
    largest = Fraction(most_units(cells, records)) * Fraction(cells.step)
    assert Fraction(bound) * records <= largest <= Fraction(bound) * records * Fraction(1004, 1000)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_bound_that_is_none_is_refused(bound: float) -> None:
    with pytest.raises(ParameterError, match="must be a finite number above 0"):
        most_units(Real((), bound), 1)
