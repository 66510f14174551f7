"""Design matrices against those of patsy's treatment coding, and the way back from scaled coefficients."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from secagg.errors import ParameterError
from secagg.statistics import Chunk, Study
from secagg.statistics.columns import Category, Date, Flag, Number
from secagg.statistics.design import Design, symmetric, upper
from tests.support.hospitals import Frame

COLUMNS = {
    "age": Number(min=20, max=100),
    "smokes": Flag(),
    "ward": Category(values=("a", "b", "c")),
    "day": Date(min=datetime.date(2024, 1, 1), max=datetime.date(2024, 12, 31)),
    "alone": Category(values=("only",)),
}
RECORDS = pd.DataFrame(
    {
        "age": [20.0, 60.0, 100.0, 33.0, 71.0, 52.0, 47.5, 88.0],
        "smokes": [0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        "ward": ["a", "b", "c", "c", "b", "a", "a", "b"],
        "day": pd.to_datetime(["2024-01-01", "2024-07-01", "2024-12-31"] + ["2024-03-09"] * 5),
    }
)
TERMS = ("age", "smokes", "ward")


def chunk() -> Chunk:
    study = Study.from_toml(
        """
        name = "Design"
        [columns.age]
        type = "number"
        min = 20
        max = 100
        [columns.smokes]
        type = "flag"
        [columns.ward]
        type = "category"
        values = ["a", "b", "c"]
        [columns.day]
        type = "date"
        min = 2024-01-01
        max = 2024-12-31
        [methods.counts]
        method = "describe"
        of = ["age"]
        """
    )
    return next(Frame(study, RECORDS).chunks())


def plain(intercept: bool) -> np.ndarray:
    dummies = pd.get_dummies(RECORDS["ward"], drop_first=intercept, dtype=float)
    parts = [np.ones((8, 1))] if intercept else []
    return np.hstack([*parts, RECORDS[["age", "smokes"]].to_numpy(), dummies.to_numpy()])


@pytest.mark.parametrize("intercept", [True, False])
def test_scaled_columns_are_within_one_and_come_back(intercept: bool) -> None:
    design = Design.of(COLUMNS, TERMS, intercept=intercept)
    scaled = design.matrix(chunk())
    assert np.abs(scaled).max() <= 1.0
    assert design.largest.tolist() == [1.0] * len(design.names)
    wanted = plain(intercept)
    response = np.arange(8.0) ** 2
    fit = sm.OLS(response, wanted).fit()
    scaled_fit = sm.OLS(response, scaled).fit()
    coefficients, covariance = design.unscaled(scaled_fit.params, scaled_fit.cov_params())
    assert coefficients == pytest.approx(fit.params, rel=1e-9)
    assert covariance == pytest.approx(fit.cov_params(), rel=1e-9, abs=1e-9)


def test_names_say_the_column_and_the_value() -> None:
    assert Design.of(COLUMNS, TERMS).names == ("intercept", "age", "smokes", "ward[b]", "ward[c]")
    assert Design.of(COLUMNS, ("ward",), intercept=False).names == ("ward[a]", "ward[b]", "ward[c]")


def test_a_date_is_counted_in_days_of_its_range() -> None:
    assert Design.of(COLUMNS, ("day",)).matrix(chunk())[:3, 1] == pytest.approx([-1.0, -1 / 365, 1.0])


def test_other_centres_and_scales_leave_the_intercept_and_bound_what_they_make() -> None:
    design = Design.of(COLUMNS, TERMS).about([5.0, 50.0, 0.4, 0.3, 0.3], [5.0, 10.0, 0.0, 0.5, 0.5])
    matrix = design.matrix(chunk())
    assert matrix[:, 0].tolist() == [1.0] * 8
    assert matrix[:, 1] == pytest.approx((RECORDS["age"] - 50) / 10)
    assert design.largest.tolist() == pytest.approx([1.0, 5.0, 1.2, 1.4, 1.4])
    assert (np.abs(matrix).max(axis=0) <= design.largest + 1e-12).all()


def test_a_triangle_is_half_of_a_symmetric_matrix() -> None:
    whole = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    assert upper(whole).tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert symmetric(upper(whole), 3).tolist() == whole.tolist()


def test_what_no_model_can_use_is_refused() -> None:
    with pytest.raises(ParameterError, match="'age' is named twice"):
        Design.of(COLUMNS, ("age", "ward", "age"))
    with pytest.raises(ParameterError, match="'alone' has a single value"):
        Design.of(COLUMNS, ("alone",))
