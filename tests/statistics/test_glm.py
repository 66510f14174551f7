"""Logistic and Poisson regression against statsmodels, over ten hospitals of which two vanish."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.errors import ParameterError
from secagg.statistics import Chunk, Study
from secagg.statistics.asks import Ask, Released
from secagg.statistics.cells import Real
from secagg.statistics.design import upper
from secagg.statistics.results import Forest
from tests.support.hospitals import LOST, Frame, add_up, as_json, run, split

TOML = """
name = "Infections"
[columns.age]
type = "whole"
min = 0
max = 120
[columns.bmi]
type = "number"
min = 10
max = 60
[columns.ward]
type = "category"
values = ["a", "b", "c", "never"]
[columns.smoker]
type = "flag"
[columns.died]
type = "flag"
[columns.visits]
type = "whole"
min = 0
max = 60
[methods.logistic]
method = "glm"
outcome = "died"
predictors = ["age", "bmi", "ward", "smoker"]
[methods.poisson]
method = "glm"
family = "poisson"
outcome = "visits"
predictors = ["age", "bmi", "ward", "smoker"]
confidence = 0.9
"""
STUDY = Study.from_toml(TOML)
NAMES = {
    "intercept": "Intercept",
    "age": "age",
    "bmi": "bmi",
    "ward[b]": "C(ward)[T.b]",
    "ward[c]": "C(ward)[T.c]",
    "smoker": "smoker",
}
FAMILIES = {"logistic": ("died", sm.families.Binomial(), 0.05), "poisson": ("visits", sm.families.Poisson(), 0.1)}


def records(size: int = 900, seed: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 15, size).clip(18, 100).round(),
            "bmi": rng.normal(27, 4, size).clip(15, 55).round(1),
            "ward": rng.choice(["a", "b", "c"], size),
            "smoker": (rng.random(size) < 0.3).astype(float),
        }
    )
    eta = 0.06 * (frame["age"] - 60) + 0.8 * frame["smoker"] - 0.5 * (frame["ward"] == "c")
    frame["died"] = (rng.random(size) < 1 / (1 + np.exp(1.5 - eta))).astype(float)
    frame["visits"] = rng.poisson(np.exp(1.2 + 0.4 * eta)).clip(0, 60).astype(float)
    return frame


def check(values: Any, pooled: pd.DataFrame, method: str) -> None:
    outcome, family, alpha = FAMILIES[method]
    formula = f"{outcome} ~ age + bmi + C(ward) + smoker"
    wanted = smf.glm(formula, pooled, family=family).fit(tol=1e-15, maxiter=100)
    for name, theirs in NAMES.items():
        one = values["coefficients"][name]
        interval = tuple(wanted.conf_int(alpha).loc[theirs])
        assert one["estimate"] == pytest.approx(wanted.params[theirs], rel=1e-8)
        assert one["error"] == pytest.approx(wanted.bse[theirs], rel=1e-8)
        assert one["z"] == pytest.approx(wanted.tvalues[theirs], rel=1e-8)
        assert one["p"] == pytest.approx(wanted.pvalues[theirs], rel=1e-6)
        assert (one["low"], one["high"]) == pytest.approx(interval, rel=1e-8)
        ratios = (one["ratio"], one["ratio_low"], one["ratio_high"])
        assert ratios == pytest.approx(np.exp((wanted.params[theirs], *interval)), rel=1e-8)
    order = list(NAMES.values())
    kept = [values["covariance"]["names"].index(name) for name in NAMES]
    matrix = np.array(values["covariance"]["matrix"])[np.ix_(kept, kept)]
    assert matrix == pytest.approx(wanted.cov_params().loc[order, order].to_numpy(), rel=1e-8)
    assert values["deviance"] == pytest.approx(wanted.deviance, rel=1e-10)
    assert values["records"] == wanted.nobs
    assert values["df_residual"] == wanted.df_resid
    assert values["converged"]


@pytest.mark.parametrize("lost_in", [1, 3, 5])
def test_the_fit_is_that_of_statsmodels_although_sites_vanish(lost_in: int) -> None:
    frame = records()
    frame.loc[frame.index[::23], "bmi"] = float("nan")
    found = run(STUDY, frame, lost_in=lost_in, rows=100)
    for method in FAMILIES:
        check(found.values(method), found.pooled.dropna(), method)
        assert found.methods[method].sites == tuple(name for name in sorted(split(frame)) if name not in LOST)
        assert found.methods[method].rounds <= 8
        assert found.methods[method].result.notes == ("ward[never]: left out, a combination of the columns before.",)
    as_json(found.methods)


def test_the_figure_is_of_ratios() -> None:
    methods = add_up(STUDY, split(records()))
    for method, label, confidence in (("logistic", "odds ratio", 0.95), ("poisson", "rate ratio", 0.9)):
        (forest,) = methods[method].result.figures
        assert isinstance(forest, Forest)
        assert (forest.label, forest.reference, forest.confidence) == (label, 1.0, confidence)
        assert forest.names == ("age", "bmi", "ward[b]", "ward[c]", "smoker")
        assert all(
            low < ratio < high for low, ratio, high in zip(forest.low, forest.estimates, forest.high, strict=True)
        )
        assert methods[method].result.tables[0].columns[-1] == f"{label} high"


def test_a_value_that_only_lost_hospitals_have_is_left_out() -> None:
    frames = split(records())
    for name, frame in frames.items():
        frames[name] = frame.assign(ward="c" if name in LOST else frame["ward"].replace("c", "b"))
    assert run(STUDY, frames).values("poisson")["coefficients"]["ward[c]"]["estimate"] is not None
    found = run(STUDY, frames, lost_in=3)
    for method, (outcome, family, _) in FAMILIES.items():
        coefficients = found.values(method)["coefficients"]
        assert coefficients["ward[c]"]["estimate"] is None
        wanted = smf.glm(f"{outcome} ~ age + bmi + C(ward) + smoker", found.pooled, family=family).fit(tol=1e-15)
        assert coefficients["ward[b]"]["estimate"] == pytest.approx(wanted.params["C(ward)[T.b]"], rel=1e-8)
        assert coefficients["ward[b]"]["error"] == pytest.approx(wanted.bse["C(ward)[T.b]"], rel=1e-8)


def scored(ask: Ask, deviance: float, sites: tuple[str, ...] = ("one", "two", "three")) -> Released:
    """A round with a gradient of 1 and the identity as its Hessian: each step of Newton's is 1."""
    sums: dict[str, Any] = {
        "gradient": np.ones(7),
        "hessian": upper(np.eye(7)),
        "deviance": np.array(deviance),
        "beyond": np.array(False),
    }
    return Released(ask, sums, 100, 0, sites)


def test_a_step_after_which_the_deviance_is_larger_is_halved() -> None:
    method, terms = STUDY.methods["logistic"], STUDY.terms
    released = [scored(Ask("start"), 0.0)]
    wanted = [1.0, 2.0, 1.5, 1.25, 2.25]
    for beta, deviance in zip(wanted, (50.0, 60.0, 55.0, 40.0, 30.0), strict=True):
        ask = method.next_ask(terms, released)
        assert ask is not None
        assert ask.parameters == {"beta": [beta] * 7}
        released.append(scored(ask, deviance))


def test_deviances_of_other_sites_are_not_compared() -> None:
    method, terms = STUDY.methods["logistic"], STUDY.terms
    released = [scored(Ask("start"), 0.0)]
    for deviance, sites in ((50.0, ("one", "two", "three", "four")), (60.0, ("one", "two", "three"))):
        ask = method.next_ask(terms, released)
        assert ask is not None
        released.append(scored(ask, deviance, sites))
    ask = method.next_ask(terms, released)
    assert ask is not None
    assert ask.parameters == {"beta": [3.0] * 7}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ward": ["a"] * 3 + ["b"] * 897}, "few records have, or lack, ward at its first value"),
        ({"smoker": [1.0] * 2 + [0.0] * 898}, "few records have, or lack, smoker"),
        ({"died": [1.0] * 2 + [0.0] * 898}, "few records have, or lack, died"),
        ({"died": [0.0] * 2 + [1.0] * 898}, "few records have, or lack, died"),
        ({"died": 1.0}, "died is the same for all records"),
        ({"died": 0.0}, "died is the same for all records"),
    ],
)
def test_coefficients_about_few_records_are_withheld(changes: dict[str, Any], said: str) -> None:
    result = add_up(STUDY, split(records().assign(**changes)))["logistic"].result
    assert said in result.withheld
    assert (result.values, result.tables, result.figures) == ({}, (), ())


def test_few_counts_above_0_are_withheld() -> None:
    result = add_up(STUDY, split(records().assign(visits=[4.0] * 2 + [0.0] * 898)))["poisson"].result
    assert "few records have, or lack, visits" in result.withheld
    assert "visits is the same" in add_up(STUDY, split(records().assign(visits=0.0)))["poisson"].result.withheld


def test_nearly_as_many_coefficients_as_records_are_withheld() -> None:
    study = Study.from_toml(TOML + "[release]\nmin_cell = 1\n")
    assert "7 records for 7 coefficients" in add_up(study, split(records(7), 3))["poisson"].result.withheld


@pytest.mark.parametrize("rounds", [3, 8, 14])
@pytest.mark.parametrize("case", ["age separates", "a ward separates", "the reference separates"])
def test_outcomes_that_are_separated_have_no_fit_and_say_so(case: str, rounds: int) -> None:
    frame = records()
    if case == "age separates":
        frame["died"] = (frame["age"] > 60).astype(float)
    else:
        ward = "b" if case == "a ward separates" else "a"
        frame.loc[frame["ward"] == ward, "died"] = 1.0
    text = TOML.replace("[methods.poisson]", f"max_rounds = {rounds}\n[methods.poisson]")
    methods = add_up(Study.from_toml(text), split(frame, 3))
    as_json(methods)
    result = methods["logistic"].result
    assert "separate the values of died" in result.withheld
    assert result.values == {}


@pytest.mark.parametrize("case", ["constant x", "twice", "all missing", "no records"])
def test_what_has_no_single_fit_says_so_and_is_json(case: str) -> None:
    frame = records()
    if case == "constant x":
        frame["bmi"] = 25.3
    elif case == "twice":
        frame["bmi"] = frame["age"] * 0.37 + 10
    elif case == "all missing":
        frame["bmi"] = float("nan")
    else:
        frame = frame.iloc[:0]
    for method in as_json(add_up(STUDY, split(frame))).values():
        result = method["result"]
        if case in ("all missing", "no records"):
            assert result["withheld"]
        else:
            assert result["values"]["coefficients"]["bmi"]["estimate"] is None
            assert "bmi" in result["notes"][0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('predictors = ["age", "bmi", "ward", "smoker"]', "predictors = []", "names no columns"),
        ('outcome = "died"', 'outcome = "visits"', "must be a flag"),
        ('outcome = "died"', 'outcome = "smoker"', "is the outcome and a predictor"),
        ("min = 0\nmax = 60", "min = -1\nmax = 60", "a number from 0 up"),
        ("confidence = 0.9", "max_rounds = 1", "from 2 to 100"),
        ("confidence = 0.9", "confidence = 1.0", "confidence"),
        ('"ward", "smoker"]', '"ward", "age"]', "named twice"),
    ],
)
def test_models_that_are_none_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Study.from_toml(TOML.replace(old, new))


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(st.integers(0, 120), st.floats(10, 60), st.sampled_from("abc"), st.booleans(), st.integers(0, 60)),
        min_size=1,
        max_size=40,
    ),
    st.lists(st.floats(-1e4, 1e4), min_size=7, max_size=7),
)
def test_no_record_adds_more_than_its_bound(rows: list[tuple[Any, ...]], beta: list[float]) -> None:
    """And any records give JSON, whatever becomes of the fit."""
    frame = pd.DataFrame(rows, columns=["age", "bmi", "ward", "smoker", "visits"])
    frame["smoker"] = frame["smoker"].astype(float)
    frame["died"] = (frame["visits"] > 30).astype(float)
    study = Study.from_toml(TOML + "[release]\nmin_cell = 1\n")
    as_json(add_up(study, split(frame, 3)))
    for method in (study.methods["logistic"], study.methods["poisson"]):
        start = method.next_ask(study.terms, [])
        assert start is not None
        for ask in (start, type(start)("score", {"beta": beta})):
            for chunk in Frame(study, frame, 1).chunks():
                check_bounds(study, method, ask, chunk)


def check_bounds(study: Study, method: Any, ask: Any, chunk: Chunk) -> None:
    sums, cells = method.sums(study.terms, ask, chunk), method.cells(study.terms, ask)
    assert sums.keys() == cells.keys()
    for name, cell in cells.items():
        assert np.shape(sums[name]) == cell.shape
        if isinstance(cell, Real):
            assert np.abs(sums[name]).max() <= cell.per_record * (1 + 1e-12), name
