"""Quantiles against NumPy's inverted_cdf, within the width that is stated, and exactly where numbers are decimals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.results import Bars
from tests.support.hospitals import Found, add_up, as_json, run, split

TOML = """
name = "Health"
[columns.visits]
type = "whole"
min = 0
max = 100
[columns.cost]
type = "number"
min = 0
max = 100000
[columns.cents]
type = "number"
min = -5000
max = 100000
decimals = 2
[columns.sick]
type = "flag"
[methods.visits]
method = "quantiles"
of = "visits"
at = [0.1, 0.5, 0.9, 0.99]
bins = 10
[methods.cost]
method = "quantiles"
of = "cost"
by = "sick"
[methods.cents]
method = "quantiles"
of = "cents"
at = [0.25, 0.5, 0.75, 0.95]
bins = 64
[methods.fine]
method = "quantiles"
of = "cents"
rounds = 1
bins = 5000
"""
STUDY = Study.from_toml(TOML)


def records() -> pd.DataFrame:
    health = sm.datasets.randhie.load_pandas().data.iloc[:4000]
    rng = np.random.default_rng(5)
    cost = np.exp(rng.normal(5, 1.5, len(health))).clip(0, 99_999)
    return pd.DataFrame(
        {
            "visits": health["mdvis"].to_numpy(float),
            "cost": cost,
            "cents": (cost - 100).round(2),
            "sick": (health["disea"] > 10).to_numpy(float),
        }
    )


def wanted(values: pd.Series, at: str) -> float:
    return float(np.quantile(values, float(at), method="inverted_cdf"))


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::10], "cost"] = float("nan")
    return run(STUDY, frame, lost_in=2, rows=500)


def test_whole_numbers_and_decimals_are_exact_although_sites_vanish(found: Found) -> None:
    for method in ("visits", "cents"):
        quantiles = found.values(method)["quantiles"]
        for at, one in quantiles.items():
            assert one["value"] == wanted(found.pooled[method], at)
            assert one["width"] == 0
    assert found.methods["visits"].rounds == 3, "bins of one visit each need no more"


def test_other_numbers_are_within_the_width(found: Found) -> None:
    for level, flag in (("no", 0), ("yes", 1)):
        values = found.pooled.loc[found.pooled["sick"] == flag, "cost"].dropna()
        group = found.values("cost")["groups"][level]
        assert group["count"] == len(values)
        for at, one in group["quantiles"].items():
            assert one["low"] <= wanted(values, at) <= one["high"]
            assert one["width"] == pytest.approx(1e5 / 100**4)
            assert one["value"] == pytest.approx((one["low"] + one["high"]) / 2, abs=one["width"] / 100)


def test_one_round_is_one_fine_histogram() -> None:
    frame = records()
    fine = add_up(STUDY, split(frame))["fine"]
    assert fine.rounds == 1
    for at, one in fine.result.values["quantiles"].items():
        assert one["low"] <= wanted(frame["cents"], at) <= one["high"]
        assert 0 < one["width"] <= 21.01


def test_the_histogram_of_the_first_round_is_drawn_with_the_quantiles(found: Found) -> None:
    (bars,) = found.methods["visits"].result.figures
    assert isinstance(bars, Bars)
    assert dict(bars.marks) == {at: one["value"] for at, one in found.values("visits")["quantiles"].items()}
    counts = np.histogram(found.pooled["visits"], bars.edges)[0]
    assert [
        (height, count) for height, count in zip(bars.heights, counts, strict=True) if height not in (None, count)
    ] == []
    assert any(height is None for height in bars.heights), "few records have many visits"


def test_a_quantile_that_few_records_are_beyond_is_withheld() -> None:
    data = load_diabetes(as_frame=True, scaled=False).data
    study = Study.from_toml(
        'name = "Ages"\n[columns.age]\ntype = "whole"\nmin = 0\nmax = 120\n'
        '[methods.age]\nmethod = "quantiles"\nof = "age"\nat = [0, 0.005, 0.5, 0.995, 1]\n'
    )
    methods = add_up(study, split(data[["age"]]))
    quantiles = methods["age"].result.values["quantiles"]
    assert [at for at, one in quantiles.items() if one["value"] is None] == ["0.0", "0.005", "0.995", "1.0"]
    assert quantiles["0.5"]["value"] == np.median(data["age"])
    assert "few records are beyond it" in methods["age"].result.notes[0]


def test_a_rank_is_that_of_the_decimal_that_is_written() -> None:
    """0.07 * 100 is above 7 in float64, and would make the eighth value of it."""
    study = Study.from_toml(
        'name = "Ranks"\n[columns.rank]\ntype = "whole"\nmin = 1\nmax = 100\n'
        '[methods.rank]\nmethod = "quantiles"\nof = "rank"\nat = [0.07]\n'
    )
    values = add_up(study, split(pd.DataFrame({"rank": np.arange(1.0, 101.0)}), 4))["rank"].result.values
    assert values["quantiles"]["0.07"]["value"] == 7


SMALL = Study.from_toml(
    """
    name = "Small"
    [columns.cents]
    type = "number"
    min = -1
    max = 1
    decimals = 2
    [columns.cost]
    type = "number"
    min = -1
    max = 1
    [columns.sick]
    type = "flag"
    [methods.cents]
    method = "quantiles"
    of = "cents"
    bins = 6
    at = [0, 0.1, 0.3, 1]
    [methods.cost]
    method = "quantiles"
    of = "cost"
    by = "sick"
    bins = 4
    [release]
    min_cell = 1
    """
)


@given(
    st.lists(st.tuples(st.integers(-100, 100), st.booleans()), max_size=30),
    st.integers(3, 6),
    st.integers(0, 2**16),
)
@example([(cents, True) for cents in range(91, 101)], 3, 0)
def test_any_values_and_any_split_give_the_pooled_quantiles(
    rows: list[tuple[int, bool]], sites: int, seed: int
) -> None:
    cents = [cent / 100 for cent, _ in rows]
    frame = pd.DataFrame({"cents": cents, "cost": cents, "sick": [float(sick) for _, sick in rows]})
    methods = add_up(SMALL, split(frame, sites, seed))
    as_json(methods)
    if not rows:
        assert methods["cents"].result.withheld
        return
    for at, one in methods["cents"].result.values["quantiles"].items():
        assert one["value"] == wanted(frame["cents"], at)
    for level, group in methods["cost"].result.values["groups"].items():
        values = frame.loc[frame["sick"] == (level == "yes"), "cost"]
        assert group["count"] == len(values)
        for at, one in group["quantiles"].items():
            if len(values):
                assert one["low"] <= wanted(values, at) <= one["high"]
                assert one["width"] == pytest.approx(2 / 4**4)
            else:
                assert one["value"] is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rounds = 5", "rounds is 5: must be from 1 to 4"),
        ("at = [50]", "numbers from 0 to 1"),
        ("at = []", "one or more numbers"),
        ("at = [0.5, 0.5]", "each quantile once"),
        ("bins = 100000", "bins is 100000"),
    ],
)
def test_what_asks_for_no_quantile_is_refused(line: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Study.from_toml(TOML.replace('by = "sick"', line))
