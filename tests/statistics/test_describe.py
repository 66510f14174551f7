"""Counts, means and variances against pandas, with sites lost between the rounds."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.datasets import load_diabetes

from secagg.statistics import Study
from tests.support.hospitals import run

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
