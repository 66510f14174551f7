"""Every method over any split of any records: the results are those of all records at one place."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.methods import AnyMethod
from tests.support.hospitals import add_up, as_json, split

STUDY = Study.from_toml(
    """
    name = "Every method"
    columns.age = { type = "whole", min = 0, max = 120 }
    columns.pressure = { type = "number", min = 40, max = 260, decimals = 1 }
    columns.weight = { type = "number", min = 20, max = 250 }
    columns.smoker = { type = "flag" }
    columns.died = { type = "flag" }
    columns.stage = { type = "category", values = ["I", "II", "III"] }
    columns.seen = { type = "date", min = 2020-01-01, max = 2024-12-31 }
    columns.visits = { type = "whole", min = 0, max = 60 }
    methods.all = { method = "all", of = ["smoker", "died"] }
    methods.any = { method = "any", of = ["smoker", "died"] }
    methods.compare = { method = "compare", of = "pressure", by = "stage" }
    methods.covariance = { method = "covariance", of = ["age", "pressure", "weight"] }
    methods.cox = { method = "cox", time = "age", event = "died", predictors = ["smoker", "weight"] }
    methods.crosstab = { method = "crosstab", of = ["stage", "smoker"] }
    methods.describe = { method = "describe", of = ["age", "weight", "seen"], by = "stage" }
    methods.distinct = { method = "distinct", of = ["stage", "died"] }
    methods.glm = { method = "glm", outcome = "died", predictors = ["age", "stage"] }
    methods.poisson = { method = "glm", family = "poisson", outcome = "visits", predictors = ["age", "seen"] }
    methods.histogram = { method = "histogram", of = "seen", by = "smoker" }
    methods.kaplan_meier = { method = "kaplan_meier", time = "age", event = "died", by = "stage" }
    methods.kmeans = { method = "kmeans", of = ["age", "weight"], clusters = 2, max_rounds = 4 }
    methods.linear = { method = "linear", y = "pressure", x = ["age", "weight", "smoker", "stage"] }
    methods.mixture = { method = "gaussian_mixture", of = ["age", "weight"], clusters = 2, max_rounds = 4 }
    methods.pca = { method = "pca", of = ["age", "pressure", "weight"] }
    methods.quantiles = { method = "quantiles", of = "weight", by = "smoker" }
    methods.range = { method = "range", of = ["age", "seen"] }
    methods.ridge = { method = "ridge", y = "pressure", x = ["age", "weight"], alpha = 0.5 }
    methods.roc = { method = "roc", outcome = "died", score = "age" }
    methods.standardise = { method = "standardise", of = ["age", "weight"] }
    [release]
    min_cell = 1
    """
)
CLOSE = 1e-7
"""Relative: a search by Newton's method that ends a step apart is as far apart as this, and all else nearer."""


def test_the_study_has_every_method() -> None:
    tags = {kind.__struct_config__.tag for kind in get_args(AnyMethod)}
    assert {type(method).__struct_config__.tag for method in STUDY.methods.values()} == tags


@pytest.mark.parametrize(
    "method",
    [
        'method = "crosstab"\nof = ["place", "area"]',
        'method = "histogram"\nof = "age"\nby = "place"\nbins = 60000',
        'method = "kaplan_meier"\ntime = "age"\nevent = "died"\nby = "place"',
        'method = "cox"\ntime = "age"\nevent = "died"\npredictors = ["place"]',
        'method = "linear"\ny = "age"\nx = ["place"]',
        'method = "glm"\noutcome = "died"\npredictors = ["place"]',
        'method = "quantiles"\nof = "age"\nby = "place"\nbins = 60000',
    ],
)
def test_what_no_machine_could_hold_is_refused_before_it_is_tried(method: str) -> None:
    places = [f"place {number}" for number in range(5000)]
    with pytest.raises(ParameterError, match=r"methods\.large: .* are allowed"):
        Study.from_toml(
            f"""
            name = "Large"
            columns.place = {{ type = "category", values = {places} }}
            columns.area = {{ type = "category", values = {places} }}
            columns.age = {{ type = "number", min = 0, max = 120 }}
            columns.died = {{ type = "flag" }}
            [methods.large]\n{method}
            """
        )


def records(size: int, missing: float, seed: int) -> pd.DataFrame:
    """Some values are missing in each column, and the last stage is rare."""
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 100, size)
    smoker = rng.random(size) < 0.4
    weight = rng.normal(75 + 5 * smoker, 12, size).clip(30, 200)
    frame = pd.DataFrame(
        {
            "age": age.astype(float),
            "pressure": (90 + age / 2 + rng.normal(0, 12, size)).clip(40, 260).round(1),
            "weight": weight,
            "smoker": smoker.astype(float),
            "died": (rng.random(size) < 0.2 + age / 200).astype(float),
            "stage": rng.choice(["I", "II", "III"], size, p=[0.55, 0.4, 0.05]),
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 1800, size), unit="D"),
            "visits": rng.poisson(1 + age / 40, size).astype(float),
        }
    )
    return frame.mask(rng.random(frame.shape) < missing)


def assert_close(one: Any, other: Any, where: str) -> None:
    """The same keys, texts and whole numbers, and real numbers that are close to the largest of their list."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_close(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for at, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            assert_close(mine, theirs, f"{where}[{at}]")
    elif isinstance(one, float) and isinstance(other, float):
        assert math.isclose(one, other, rel_tol=CLOSE, abs_tol=CLOSE), f"{where}: {one} is not {other}"
    else:
        assert one == other, where


@settings(max_examples=max(5, settings().max_examples // 8))
@given(st.integers(0, 150), st.sampled_from([0.0, 0.1, 0.6]), st.integers(3, 10), st.integers(0, 2**16))
def test_any_split_gives_the_results_of_one_place(size: int, missing: float, sites: int, seed: int) -> None:
    frame = records(size, missing, seed)
    places = {"everything": frame, "nothing": frame.iloc[:0], "nothing either": frame.iloc[:0]}
    pooled, apart = (as_json(add_up(STUDY, frames)) for frames in (places, split(frame, sites, seed)))
    for name, reported in pooled.items():
        mine = apart[name]
        assert_close(mine["result"]["values"], reported["result"]["values"], name)
        assert mine["result"]["withheld"] == reported["result"]["withheld"], name
        assert (mine["records"], mine["incomplete"]) == (reported["records"], reported["incomplete"]), name
