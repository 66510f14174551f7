"""Counts in bins against NumPy and pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_wine

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.columns import Date
from secagg.statistics.grids import said
from secagg.statistics.results import Bars
from tests.support.hospitals import Found, add_up, as_json, run, split

TOML = """
name = "Tumours"
[columns.radius]
type = "number"
min = 0
max = 40
decimals = 3
[columns.area]
type = "number"
min = 0
max = 3000
[columns.benign]
type = "flag"
[columns.day]
type = "date"
min = 2024-01-01
max = 2024-12-31
[methods.edges]
method = "histogram"
of = "radius"
edges = [10, 12.5, 15, 20]
[methods.steps]
method = "histogram"
of = "radius"
start = 0.3
stop = 28.1
step = 0.1
[methods.grouped]
method = "histogram"
of = "area"
by = "benign"
bins = 30
[methods.days]
method = "histogram"
of = "day"
bins = 12
[release]
min_cell = 1
"""
STUDY = Study.from_toml(TOML)


def records() -> pd.DataFrame:
    cancer = load_breast_cancer(as_frame=True)
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(len(cancer.data)) % 366, unit="D")
    return pd.DataFrame(
        {
            "radius": cancer.data["mean radius"].round(3),
            "area": cancer.data["mean area"],
            "benign": cancer.target.astype(float),
            "day": days,
        }
    )


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::10], "area"] = float("nan")
    return run(STUDY, frame, lost_in=1, rows=64)


def test_bins_hold_what_numpy_counts(found: Found) -> None:
    radius = found.pooled["radius"]
    values = found.values("edges")
    assert values["counts"] == np.histogram(radius, [10, 12.5, 15, 20])[0].tolist()
    assert (values["below"], values["above"]) == ((radius < 10).sum(), (radius > 20).sum())
    assert sum(row[-1] for row in found.methods["edges"].result.tables[0].rows) == len(radius)
    steps = found.values("steps")
    assert steps["edges"][:3] == [0.3, 0.4, 0.5]
    assert steps["edges"][-1] == 28.1
    assert steps["counts"] == np.histogram(radius, steps["edges"])[0].tolist()


def test_groups_have_their_own_counts_and_figures(found: Found) -> None:
    pooled = found.pooled.dropna()
    values = found.values("grouped")
    assert len(values["edges"]) == 31
    for level, flag in (("no", 0), ("yes", 1)):
        area = pooled.loc[pooled["benign"] == flag, "area"]
        assert values["groups"][level]["counts"] == np.histogram(area, 30, (0, 3000))[0].tolist()
    figures = found.methods["grouped"].result.figures
    assert [figure.title for figure in figures] == [
        "Histogram of area, benign = no",
        "Histogram of area, benign = yes",
    ]
    assert isinstance(figures[0], Bars)
    assert figures[0].heights == tuple(values["groups"]["no"]["counts"])


def test_bins_of_a_date_are_whole_days_and_are_said_as_days(found: Found) -> None:
    values = found.values("days")
    assert {edge % 1 for edge in values["edges"]} == {0.0}
    rows = found.methods["days"].result.tables[0].rows
    assert (rows[0][0], rows[0][1]) == ("2024-01-01", "2024-02-01")
    january = found.pooled["day"] < pd.Timestamp("2024-02-01")
    assert rows[0][2] == january.sum()
    assert said(Date(min=pd.Timestamp("2024-01-01").date(), max=pd.Timestamp("2025-01-01").date()), 0.0) == "1970-01-01"


def test_small_counts_are_withheld_and_not_given_away_by_the_total() -> None:
    study = Study.from_toml(TOML.replace("min_cell = 1", "min_cell = 10"))
    frame = records()
    methods = add_up(study, split(frame))
    (counts,) = [methods["edges"].result.values[name] for name in ("counts",)]
    exact = np.histogram(frame["radius"], [10, 12.5, 15, 20])[0].tolist()
    assert counts == exact
    for group in methods["grouped"].result.values["groups"].values():
        assert [count for count in group["counts"] if count is not None and 0 < count < 10] == []
        assert group["counts"].count(None) != 1
    as_json(methods)


@given(st.lists(st.integers(0, 400), max_size=60), st.integers(3, 6), st.integers(0, 2**16))
@example([100, 200, 281], 3, 0)
def test_any_values_and_any_split_give_the_pooled_counts(tenths: list[int], sites: int, seed: int) -> None:
    study = Study.from_toml(TOML.replace("step = 0.1", "step = 0.7"))
    values = [tenth / 10 for tenth in tenths]
    frame = pd.DataFrame({"radius": values, "area": values, "benign": 0.0, "day": pd.Timestamp("2024-02-29")})
    methods = add_up(study, split(frame, sites, seed))
    as_json(methods)
    if not values:
        assert methods["steps"].result.withheld
        return
    for name in ("edges", "steps"):
        result = methods[name].result.values
        assert result["counts"] == np.histogram(values, result["edges"])[0].tolist()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("edges = [3, 2]", "each above the one before it"),
        ("edges = [1]", "two or more numbers"),
        ("edges = [1, inf]", "not finite"),
        ("start = 1", "one of the three"),
        ("start = 1\nstop = 0\nstep = 1", "stop must be above start"),
        ("start = 0\nstop = 1\nstep = 1e-9", "there may be 65536 bins"),
        ("bins = 1", "from 2 to 65536"),
        ('by = "area"', "no levels"),
    ],
)
def test_bins_that_are_none_are_refused(lines: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Study.from_toml(TOML.replace("edges = [10, 12.5, 15, 20]", lines))


def test_wine_has_the_counts_of_pandas() -> None:
    wine = load_wine(as_frame=True)
    study = Study.from_toml(
        'name = "Wine"\n[columns.ash]\ntype = "number"\nmin = 1\nmax = 4\n'
        '[methods.ash]\nmethod = "histogram"\nof = "ash"\nbins = 6\n[release]\nmin_cell = 1\n'
    )
    counts = add_up(study, split(wine.data[["ash"]]))["ash"].result.values["counts"]
    cut = pd.cut(wine.data["ash"], [1, 1.5, 2, 2.5, 3, 3.5, 4], right=False)
    assert counts == cut.value_counts(sort=False).tolist()


def test_a_single_group_has_no_margins_of_its_own() -> None:
    """The total of a bin over one group is the bin's count itself, and withholds nothing further."""
    text = TOML.replace("min_cell = 1", "min_cell = 5").replace("edges = [10, 12.5, 15, 20]", "edges = [0, 1, 2, 3, 4]")
    frame = pd.DataFrame({"radius": [0.5] * 3 + [1.5] * 8 + [2.5] * 9 + [3.5] * 30})
    frame = frame.assign(area=1.0, benign=1.0, day=pd.Timestamp("2024-05-05"))
    values = add_up(Study.from_toml(text), split(frame, 4))["edges"].result.values
    assert values["counts"] == [None, None, 9, 30]
