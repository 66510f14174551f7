"""What all methods of tables and moments have in common: any data give a result or a reason, and words to approve."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secagg.statistics import Analyst, Study
from secagg.statistics.methods import AnyMethod
from tests.support.hospitals import add_up, as_json, split

TOML = """
name = "Everything"
[columns.whole]
type = "whole"
min = -3
max = 3
[columns.number]
type = "number"
min = -1
max = 1
[columns.decimal]
type = "number"
min = 0
max = 1
decimals = 1
[columns.flag]
type = "flag"
[columns.group]
type = "category"
values = ["a", "b", "c"]
[columns.day]
type = "date"
min = 2024-01-01
max = 2024-01-31
[methods.describe]
method = "describe"
of = ["whole", "number", "decimal", "flag", "day"]
[methods.describe_groups]
method = "describe"
of = ["number", "flag"]
by = "group"
[methods.compare]
method = "compare"
of = "number"
by = "group"
[methods.compare_two]
method = "compare"
of = "whole"
by = "flag"
[methods.crosstab]
method = "crosstab"
of = ["group", "flag"]
[methods.histogram]
method = "histogram"
of = "decimal"
by = "group"
[methods.quantiles]
method = "quantiles"
of = "number"
by = "flag"
bins = 4
[methods.days]
method = "quantiles"
of = "day"
bins = 8
[methods.range]
method = "range"
of = ["whole", "number", "day"]
[methods.any]
method = "any"
of = ["flag"]
[methods.all]
method = "all"
of = ["flag"]
[methods.distinct]
method = "distinct"
of = ["group", "flag"]
[methods.covariance]
method = "covariance"
of = ["whole", "number", "flag"]
[methods.pca]
method = "pca"
of = ["whole", "number", "decimal"]
[methods.linear]
method = "linear"
y = "number"
x = ["whole", "group", "flag", "day"]
[methods.ridge]
method = "ridge"
y = "number"
x = ["whole", "group", "flag"]
alpha = 0.5
[methods.standardise]
method = "standardise"
of = ["whole", "number", "flag"]
[release]
min_cell = MIN_CELL
"""
STUDIES = {least: Study.from_toml(TOML.replace("MIN_CELL", str(least))) for least in (1, 4)}

RECORD = st.tuples(
    st.none() | st.integers(-3, 3),
    st.none() | st.floats(-1, 1),
    st.none() | st.integers(0, 10).map(lambda tenth: tenth / 10),
    st.none() | st.booleans().map(float),
    st.none() | st.sampled_from("abc"),
    st.none() | st.dates(pd.Timestamp("2024-01-01").date(), pd.Timestamp("2024-01-31").date()),
)
SAME = RECORD.flatmap(lambda record: st.integers(0, 20).map(lambda count: [record] * count))
"""Constant columns, single groups, and columns that are missing altogether."""


def frame_of(records: list[tuple[Any, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(records, columns=["whole", "number", "decimal", "flag", "group", "day"])
    return frame.astype(dict.fromkeys(["whole", "number", "decimal", "flag"], float))


@given(st.lists(RECORD, max_size=25) | SAME, st.sampled_from(sorted(STUDIES)), st.integers(3, 5), st.integers(0, 2**16))
def test_any_records_give_results_that_are_json(
    records: list[tuple[Any, ...]], least: int, sites: int, seed: int
) -> None:
    frame = frame_of(records)
    methods = add_up(STUDIES[least], split(frame, sites, seed))
    reported = as_json(methods)
    assert all(one["result"]["withheld"] or one["result"]["values"] for one in reported.values())
    for name, method in STUDIES[least].methods.items():
        complete = len(frame.dropna(subset=list(method.needs)))
        if complete >= least:
            assert reported[name]["records"] == complete
            assert reported[name]["incomplete"] == len(frame) - complete
        else:
            assert reported[name]["result"]["withheld"]
    if len(frame) >= least:
        described = methods["describe"].result.values
        for column in ("whole", "number", "decimal"):
            count, one = frame[column].count(), described[column]
            assert one["count"] == (count if count == 0 or count >= least else None)
            if one["variance"] is not None:
                assert one["variance"] == pytest.approx(frame[column].var(), rel=1e-9, abs=1e-15)


@given(st.lists(RECORD, min_size=1, max_size=25), st.integers(3, 5), st.integers(0, 2**16))
def test_any_groups_are_compared_and_standardised_as_pooled(
    records: list[tuple[Any, ...]], sites: int, seed: int
) -> None:
    frame = frame_of(records)
    methods = add_up(STUDIES[1], split(frame, sites, seed))
    scaler = methods["standardise"].result.values
    for column, mean, scale in zip(scaler["columns"], scaler["mean"], scaler["scale"], strict=True):
        values = frame[column].dropna()
        assert mean == (pytest.approx(values.mean(), rel=1e-9, abs=1e-15) if len(values) else None)
        if len(values) and scale != 1.0:
            assert scale == pytest.approx(values.std(ddof=0), rel=1e-9, abs=1e-12)
    both = frame.dropna(subset=["number", "group"])
    if both.empty:
        return
    compared = methods["compare"].result.values
    for level, one in compared["groups"].items():
        values = both.loc[both["group"] == level, "number"]
        assert one["count"] == len(values)
        assert one["mean"] == (pytest.approx(values.mean(), rel=1e-9, abs=1e-15) if len(values) else None)
    groups = [values for _, values in both.groupby("group")["number"] if len(values) > 1]
    if len(groups) > 1 and min(values.std() for values in groups) > 1e-6:
        wanted = stats.f_oneway(*groups)
        assert compared["tests"]["anova"]["statistic"] == pytest.approx(wanted.statistic, rel=1e-7, abs=1e-12)
        assert compared["tests"]["anova"]["p"] == pytest.approx(wanted.pvalue, rel=1e-6)


def test_every_method_is_asked_here_and_says_what_it_releases() -> None:
    study = STUDIES[1]
    asked = {type(method) for method in study.methods.values()}
    assert {kind for kind in get_args(AnyMethod) if kind.__module__.split(".")[-1] in OWN} == asked
    for name, method in study.methods.items():
        words = method.in_words(study.terms)
        assert words[0].isupper(), name
        assert words.endswith("."), name
        assert all(column in words for column in method.columns), name


OWN = {"compare", "covariance", "crosstab", "describe", "histogram", "linear", "presence", "quantiles", "standardise"}


def test_noise_that_makes_counts_negative_ends_in_a_result() -> None:
    """Sums far from what any records add up to, as noise may make them."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        analyst = Analyst(STUDIES[1])
        while (question := analyst.question()) is not None:
            layout = analyst.layout(question)
            largest = dict(layout.largest)
            sums = {
                name: rng.integers(-min(50, largest[name]), min(50, largest[name]) + 1, shape)
                if name in largest
                else rng.integers(0, 2, shape).astype(bool)
                for name, shape in layout.arrays
            }
            analyst.release(question, sums, ["a", "b", "c"])
        as_json(dict(analyst.result().methods))
