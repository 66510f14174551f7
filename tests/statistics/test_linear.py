"""Linear and ridge regression against statsmodels, scikit-learn and the certified values of NIST for Longley's data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.results import Forest
from tests.support.hospitals import LOST, Found, add_up, as_json, run, split

TOML = """
name = "Diabetes"
[columns.progress]
type = "number"
min = 0
max = 500
[columns.age]
type = "whole"
min = 0
max = 120
[columns.bmi]
type = "number"
min = 10
max = 60
[columns.bp]
type = "number"
min = 0
max = 250
[columns.sex]
type = "category"
values = ["first", "second"]
[columns.ward]
type = "category"
values = ["a", "b", "c", "never"]
[columns.old]
type = "flag"
[methods.linear]
method = "linear"
y = "progress"
x = ["age", "sex", "bmi", "bp", "ward"]
[methods.origin]
method = "linear"
y = "progress"
x = ["bmi", "old"]
intercept = false
confidence = 0.9
[methods.ridge]
method = "ridge"
y = "progress"
x = ["age", "sex", "bmi", "bp", "old"]
alpha = 25.0
[methods.scaled]
method = "ridge"
y = "progress"
x = ["age", "sex", "bmi", "bp", "old"]
alpha = 25.0
standardised = true
"""
STUDY = Study.from_toml(TOML)


def records() -> pd.DataFrame:
    diabetes = load_diabetes(as_frame=True, scaled=False)
    frame = diabetes.data[["age", "bmi", "bp"]].copy()
    frame["progress"] = diabetes.target
    frame["sex"] = diabetes.data["sex"].map({1.0: "first", 2.0: "second"})
    frame["ward"] = [("a", "b", "c", "b")[row % 4] for row in range(len(frame))]
    frame["old"] = (frame["age"] > 50).astype(float)
    return frame


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::23], "bp"] = float("nan")
    return run(STUDY, frame, lost_in=2, rows=100)


def check(values: Any, wanted: Any, names: dict[str, str], alpha: float = 0.05) -> None:
    """All that a fit of statsmodels has."""
    for name, theirs in names.items():
        one = values["coefficients"][name]
        assert one["estimate"] == pytest.approx(wanted.params[theirs], rel=1e-9)
        assert one["error"] == pytest.approx(wanted.bse[theirs], rel=1e-9)
        assert one["t"] == pytest.approx(wanted.tvalues[theirs], rel=1e-9)
        assert one["p"] == pytest.approx(wanted.pvalues[theirs], rel=1e-6)
        assert (one["low"], one["high"]) == pytest.approx(tuple(wanted.conf_int(alpha).loc[theirs]), rel=1e-9)
    assert values["r_squared"] == pytest.approx(wanted.rsquared, rel=1e-9)
    assert values["adjusted_r_squared"] == pytest.approx(wanted.rsquared_adj, rel=1e-9)
    assert values["f"]["statistic"] == pytest.approx(wanted.fvalue, rel=1e-9)
    assert values["f"]["p"] == pytest.approx(wanted.f_pvalue, rel=1e-6)
    assert values["df_residual"] == wanted.df_resid
    assert values["sigma"] == pytest.approx(np.sqrt(wanted.mse_resid), rel=1e-9)


def test_the_fit_is_that_of_statsmodels_although_sites_vanish(found: Found) -> None:
    pooled = found.pooled.dropna()
    wanted = smf.ols("progress ~ age + C(sex) + bmi + bp + C(ward)", pooled).fit()
    names = {
        "intercept": "Intercept",
        "age": "age",
        "sex[second]": "C(sex)[T.second]",
        "bmi": "bmi",
        "bp": "bp",
        "ward[b]": "C(ward)[T.b]",
        "ward[c]": "C(ward)[T.c]",
    }
    values = found.values("linear")
    check(values, wanted, names)
    matrix = np.array(values["covariance"]["matrix"])[:7, :7]
    order = ["Intercept", "age", "C(sex)[T.second]", "bmi", "bp", "C(ward)[T.b]", "C(ward)[T.c]"]
    assert matrix == pytest.approx(wanted.cov_params().loc[order, order].to_numpy(), rel=1e-9)


def test_a_value_that_does_not_occur_is_left_out_with_a_note(found: Found) -> None:
    assert found.values("linear")["coefficients"]["ward[never]"]["estimate"] is None
    assert found.methods["linear"].result.notes == ("ward[never]: left out, a combination of the columns before.",)
    (forest,) = found.methods["linear"].result.figures
    assert isinstance(forest, Forest)
    assert forest.names == ("age", "sex[second]", "bmi", "bp", "ward[b]", "ward[c]")


def test_a_fit_through_the_origin_is_that_of_statsmodels(found: Found) -> None:
    wanted = smf.ols("progress ~ bmi + old - 1", found.pooled).fit()
    check(found.values("origin"), wanted, {"bmi": "bmi", "old": "old"}, alpha=0.1)


def test_ridge_is_that_of_scikit_learn(found: Found) -> None:
    pooled = found.pooled.dropna()
    x = pooled[["age", "bmi", "bp", "old"]].copy()
    x.insert(1, "sex[second]", (pooled["sex"] == "second").astype(float))
    coefficients = found.values("ridge")["coefficients"]
    wanted = Ridge(alpha=25.0).fit(x, pooled["progress"])
    assert [coefficients[name]["estimate"] for name in x] == pytest.approx(wanted.coef_, rel=1e-9)
    assert coefficients["intercept"]["estimate"] == pytest.approx(wanted.intercept_, rel=1e-9)
    assert found.values("ridge")["r_squared"] == pytest.approx(wanted.score(x, pooled["progress"]), rel=1e-9)
    scaler = StandardScaler().fit(x)
    scaled = Ridge(alpha=25.0).fit(scaler.transform(x), pooled["progress"])
    coefficients = found.values("scaled")["coefficients"]
    assert [coefficients[name]["estimate"] for name in x] == pytest.approx(scaled.coef_ / scaler.scale_, rel=1e-9)
    assert 1 < found.values("scaled")["effective_df"] < 6


LONGLEY = """
name = "Longley"
[methods.longley]
method = "linear"
y = "TOTEMP"
x = ["GNPDEFL", "GNP", "UNEMP", "ARMED", "POP", "YEAR"]
"""
CERTIFIED = {
    "intercept": (-3482258.63459582, 890420.383607373),
    "GNPDEFL": (15.0618722713733, 84.9149257747669),
    "GNP": (-0.358191792925910e-01, 0.334910077722432e-01),
    "UNEMP": (-2.02022980381683, 0.488399681651699),
    "ARMED": (-1.03322686717359, 0.214274163161675),
    "POP": (-0.511041056535807e-01, 0.226073200069370),
    "YEAR": (1829.15146461355, 455.478499142212),
}
"""Estimates and their standard deviations: https://www.itl.nist.gov/div898/strd/lls/data/LINKS/DATA/Longley.dat"""


def test_longleys_ill_conditioned_data_have_the_certified_coefficients() -> None:
    data = sm.datasets.longley.load_pandas().data
    ranges = {"GNPDEFL": 200, "GNP": 1e6, "UNEMP": 1e4, "ARMED": 1e4, "POP": 1e6, "YEAR": 3000, "TOTEMP": 1e5}
    columns = "".join(f'[columns.{name}]\ntype = "number"\nmin = 0\nmax = {most}\n' for name, most in ranges.items())
    values = add_up(Study.from_toml(LONGLEY + columns), split(data[list(ranges)], 4))["longley"].result.values
    for name, (estimate, error) in CERTIFIED.items():
        assert values["coefficients"][name]["estimate"] == pytest.approx(estimate, rel=1e-9)
        assert values["coefficients"][name]["error"] == pytest.approx(error, rel=1e-9)
    assert values["r_squared"] == pytest.approx(0.995479004577296, rel=1e-10)
    assert values["sigma"] == pytest.approx(304.854073561965, rel=1e-9)
    assert values["f"]["statistic"] == pytest.approx(330.285339234588, rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ward": ["a"] * 3 + ["b"] * 439}, "few records have, or lack, ward at its first value"),
        ({"sex": ["second"] * 2 + ["first"] * 440}, r"few records have, or lack, sex\[second\]"),
    ],
)
def test_a_coefficient_about_few_records_is_withheld(changes: dict[str, Any], said: str) -> None:
    result = add_up(STUDY, split(records().assign(**changes)))["linear"].result
    assert result.values == {}
    with pytest.raises(AssertionError, match=said):
        Found({"linear": add_up(STUDY, split(records().assign(**changes)))["linear"]}, records()).values("linear")


def test_few_records_are_counted_among_the_sites_that_are_left() -> None:
    frames = split(records().assign(old=0.0))
    for name in LOST:
        frames[name] = frames[name].assign(old=1.0)
    frames["hospital 9"].iloc[:3, frames["hospital 9"].columns.get_loc("old")] = 1.0
    reported = run(STUDY, frames, lost_in=2).methods
    assert reported["ridge"].result.withheld.startswith("few records have, or lack, old:")
    assert not run(STUDY, frames).methods["ridge"].result.withheld


def test_nearly_as_many_coefficients_as_records_are_withheld() -> None:
    frame = records().iloc[:12]
    result = add_up(STUDY, split(frame, 3))["origin"].result
    assert not result.withheld
    study = Study.from_toml(TOML + "[release]\nmin_cell = 1\n")
    result = add_up(study, split(records().iloc[:8], 3))["linear"].result
    assert "8 records for 8 coefficients" in result.withheld


@pytest.mark.parametrize("case", ["constant x", "constant y", "twice", "all missing", "no records", "perfect"])
def test_what_has_no_single_fit_says_so_and_is_json(case: str) -> None:
    frame = records()
    if case == "constant x":
        frame["bmi"] = 25.3
    elif case == "constant y":
        frame["progress"] = 100.7
    elif case == "twice":
        frame["bp"] = frame["bmi"] * 1.7 + frame["age"] * 0.37  # of which rounding leaves a little above 0
    elif case == "all missing":
        frame["bp"] = float("nan")
    elif case == "perfect":
        frame["progress"] = frame["age"] * 2.0
    else:
        frame = frame.iloc[:0]
    methods = as_json(add_up(STUDY, split(frame)))
    result = methods["linear"]["result"]
    left_out = {"constant x": "bmi", "twice": "bp"}.get(case)
    if case in ("all missing", "no records"):
        assert result["withheld"]
    elif left_out:
        assert result["values"]["coefficients"][left_out]["estimate"] is None
        assert left_out in result["notes"][0]
        shrunk = [methods[name]["result"]["values"]["coefficients"]["bmi"]["estimate"] for name in ("ridge", "scaled")]
        assert (shrunk == [0.0, 0.0]) == (case == "constant x")
    elif case == "constant y":
        assert result["values"]["r_squared"] is None
        assert result["values"]["coefficients"]["intercept"]["estimate"] == pytest.approx(100.7)
    else:
        assert result["values"]["coefficients"]["age"]["estimate"] == pytest.approx(2.0)
        assert result["values"]["r_squared"] == pytest.approx(1.0)
        assert result["values"]["sigma"] == 0
        assert result["values"]["coefficients"]["age"]["p"] is None
        assert "to the last digit" in result["notes"][-1]


PLAIN = Study.from_toml(TOML + "[release]\nmin_cell = 1\n")


@given(
    st.lists(
        st.tuples(st.integers(20, 90), st.floats(15, 50), st.booleans(), st.sampled_from("abc")),
        min_size=12,
        max_size=30,
    ),
    st.integers(3, 6),
    st.integers(0, 2**16),
)
def test_any_table_and_any_split_give_the_pooled_fit(rows: list[tuple[Any, ...]], sites: int, seed: int) -> None:
    frame = pd.DataFrame(rows, columns=["age", "bmi", "old", "ward"])
    noise = np.random.default_rng(len(rows)).uniform(0, 100, (2, len(rows)))
    frame = frame.assign(old=frame["old"].astype(float), sex="first", progress=noise[0], bp=noise[1])
    methods = add_up(PLAIN, split(frame, sites, seed))
    as_json(methods)
    fit = methods["linear"].result.values
    x = np.column_stack([np.ones(len(frame)), frame[["age", "bmi", "bp"]], frame["ward"] == "b", frame["ward"] == "c"])
    solution, *_ = np.linalg.lstsq(x.astype(float), frame["progress"], rcond=None)
    residual = frame["progress"] - x.astype(float) @ solution
    assert fit["sigma"] ** 2 * fit["df_residual"] == pytest.approx((residual**2).sum(), rel=1e-6)


def test_what_cannot_be_fitted_is_refused() -> None:
    for old, new, message in (
        ('x = ["bmi", "old"]', "x = []", "x names no columns"),
        ('x = ["bmi", "old"]', 'x = ["bmi", "progress"]', "'progress' is named twice"),
        ("alpha = 25.0", "alpha = 0.0", "alpha is 0.0"),
        ('y = "progress"', 'y = "ward"', "a category has no range"),
    ):
        with pytest.raises(ParameterError, match=message):
            Study.from_toml(TOML.replace(old, new, 1))
