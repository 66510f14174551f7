"""Counts, means and variances against pandas, with sites lost between the rounds."""

from __future__ import annotations

from fractions import Fraction

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.columns import Number
from tests.support.hospitals import add_up, run, split

STUDY = Study.from_toml(
    """
    name = "Diabetes"
    [columns.age]
    type = "number"
    min = 0
    max = 120
    decimals = 1
    [columns.bmi]
    type = "number"
    min = 10
    max = 70
    [methods.basic]
    method = "describe"
    of = ["age", "bmi"]
    """
)


def records() -> pd.DataFrame:
    frame: pd.DataFrame = load_diabetes(as_frame=True, scaled=False).data[["age", "bmi"]].copy()
    frame.loc[frame.index[::7], "bmi"] = float("nan")
    return frame


def test_moments_are_the_pooled_ones_although_two_sites_vanish_in_between() -> None:
    found = run(STUDY, records(), lost_in=2)
    values = found.values("basic")
    for column in ("age", "bmi"):
        pooled = found.pooled[column]
        assert values[column]["count"] == pooled.count()
        assert values[column]["sum"] == pytest.approx(pooled.sum(), rel=1e-12)
        assert values[column]["mean"] == pytest.approx(pooled.mean(), rel=1e-12)
        assert values[column]["variance"] == pytest.approx(pooled.var(), rel=1e-9)
        assert values[column]["sd"] == pytest.approx(pooled.std(), rel=1e-9)


CENTS = Study.from_toml(
    """
    name = "Accounts"
    [columns.balance]
    type = "number"
    min = -20000000000000
    max = 20000000000000
    decimals = 2
    [columns.blocked]
    type = "flag"
    [methods.sums]
    method = "describe"
    of = ["balance", "blocked"]
    """
)


@given(
    st.lists(st.integers(-2 * 10**15, 2 * 10**15).map(lambda cents: cents / 100), min_size=5, max_size=40),
    st.integers(3, 6),
    st.integers(0, 2**16),
)
def test_decimals_of_any_size_are_summed_without_an_error(values: list[float], sites: int, seed: int) -> None:
    frame = pd.DataFrame({"balance": values, "blocked": 0.0})
    found = add_up(CENTS, split(frame, sites, seed))["sums"].result.values["balance"]
    exact = [Fraction(round(value * 100), 100) for value in values]
    mean = sum(exact) / len(exact)
    assert found["sum"] == float(sum(exact))
    assert found["mean"] == float(mean)
    assert found["variance"] == float(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))


def test_sums_beyond_64_bits_are_exact() -> None:
    frame = pd.DataFrame({"balance": [2e13 - cents / 100 for cents in range(5000)], "blocked": 0.0})
    frames = {f"hospital {number}": frame for number in range(4)}
    values = run(CENTS, frames, rows=5000).values("sums")["balance"]
    exact = [Fraction(2 * 10**13) - Fraction(cents, 100) for cents in range(5000)] * 4
    mean = sum(exact) / len(exact)
    assert values["sum"] == float(sum(exact))
    assert values["variance"] == float(sum((value - mean) ** 2 for value in exact) / (len(exact) - 1))


def test_a_flag_that_few_records_have_is_withheld() -> None:
    frame = pd.DataFrame({"balance": 1.0, "blocked": [1.0] * 4 + [0.0] * 50})
    values = add_up(CENTS, split(frame, 4))["sums"].result.values
    assert values["balance"]["count"] == 54
    assert set(values["blocked"].values()) == {None}


def test_a_column_cannot_be_described_twice_nor_none() -> None:
    for columns, message in (('["age", "age"]', "names 'age' twice"), ("[]", "names no columns")):
        with pytest.raises(ParameterError, match=message):
            Study.from_toml(
                'name = "x"\n[columns.age]\ntype = "whole"\nmin = 0\nmax = 9\n'
                f'[methods.m]\nmethod = "describe"\nof = {columns}\n'
            )


def test_more_digits_than_a_float_times_its_scale_keeps_are_refused() -> None:
    with pytest.raises(ParameterError, match="more digits than a float64 holds"):
        Number(min=0, max=4e13, decimals=2)
    assert round(39999999999999.95 * 100) != 3999999999999995, "such a number would be off by a cent"
