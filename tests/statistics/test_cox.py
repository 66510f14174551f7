"""Cox regression against statsmodels' PHReg, on pooled records with binned times."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.duration.hazard_regression import PHReg

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.results import Forest
from tests.support.hospitals import LOST, Found, add_up, as_json, run, split

TOML = """
name = "Survival"
[columns.days]
type = "whole"
min = 0
max = 400
[columns.died]
type = "flag"
[columns.age]
type = "number"
min = 0
max = 110
[columns.marker]
type = "number"
min = -1000
max = 1000
[columns.smoker]
type = "flag"
[columns.stage]
type = "category"
values = ["I", "II", "III"]
[methods.cox]
method = "cox"
time = "days"
event = "died"
predictors = ["age", "smoker", "stage"]
bins = 20
[methods.wide]
method = "cox"
time = "days"
event = "died"
predictors = ["marker", "age"]
edges = [10, 50, 100, 250, 300]
confidence = 0.9
"""
STUDY = Study.from_toml(TOML)
EDGES = [*range(0, 401, 21), 401]
"""Twenty bins of whole days."""
NAMES = ["age", "smoker", "stage[II]", "stage[III]"]


def records(size: int = 600, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    age = rng.normal(62, 11, size).clip(20, 100)
    smoker = rng.random(size) < 0.4
    stage = rng.choice(["I", "II", "III"], size, p=[0.5, 0.3, 0.2])
    marker = rng.normal(3, 8, size)
    risk = 0.05 * (age - 60) + 0.5 * smoker + 0.9 * (stage == "III") + 0.3 * (stage == "II") - 0.1 * marker
    lived = np.ceil(rng.exponential(200 / np.exp(risk)))
    left = np.minimum(rng.integers(20, 900, size), 400)
    return pd.DataFrame(
        {
            "days": np.minimum(lived, left),
            "died": (lived <= left).astype(float),
            "age": age,
            "marker": marker,
            "smoker": smoker.astype(float),
            "stage": stage,
        }
    )


def fit(pooled: pd.DataFrame, edges: Any, columns: list[str]) -> Any:
    """Of statsmodels: times rounded down to the bins."""
    x = pooled.assign(**{f"stage[{value}]": (pooled["stage"] == value).astype(float) for value in ("II", "III")})
    binned = np.searchsorted(edges, pooled["days"], side="right")
    return PHReg(binned, x[columns], status=pooled["died"], ties="breslow").fit(disp=0)


def check(values: Any, wanted: Any, columns: list[str], alpha: float = 0.05) -> None:
    low, high = wanted.conf_int(alpha).T
    for at, name in enumerate(columns):
        one = values["coefficients"][name]
        assert one["estimate"] == pytest.approx(wanted.params[at], rel=1e-6)
        assert one["error"] == pytest.approx(wanted.bse[at], rel=1e-6)
        assert one["z"] == pytest.approx(wanted.tvalues[at], rel=1e-6)
        assert one["p"] == pytest.approx(wanted.pvalues[at], rel=1e-5)
        assert (one["low"], one["high"]) == pytest.approx((low[at], high[at]), rel=1e-6)
        assert one["hazard_ratio"] == pytest.approx(np.exp(wanted.params[at]), rel=1e-6)
        assert (one["ratio_low"], one["ratio_high"]) == pytest.approx((np.exp(low[at]), np.exp(high[at])), rel=1e-6)
    assert values["log_likelihood"] == pytest.approx(wanted.llf, rel=1e-9)
    matrix = np.array(values["covariance"]["matrix"])
    assert matrix == pytest.approx(wanted.cov_params(), rel=1e-6, abs=1e-12)


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::29], "age"] = float("nan")
    return run(STUDY, frame, lost_in=3, rows=100)


def test_the_fit_is_that_of_statsmodels_although_sites_vanish_on_the_way(found: Found) -> None:
    pooled = found.pooled.dropna()
    check(found.values("cox"), fit(pooled, EDGES, NAMES), NAMES)
    assert found.values("cox")["events"] == int(pooled["died"].sum())
    assert found.methods["cox"].rounds > 3


def test_times_beyond_given_edges_are_in_the_first_and_the_last_bin(found: Found) -> None:
    columns = ["marker", "age"]
    check(found.values("wide"), fit(found.pooled.dropna(), [50, 100, 250], columns), columns, alpha=0.1)


def test_the_figure_has_the_hazard_ratios(found: Found) -> None:
    (forest,) = found.methods["wide"].result.figures
    assert isinstance(forest, Forest)
    assert (forest.names, forest.reference, forest.confidence) == (("marker", "age"), 1.0, 0.9)
    assert forest.estimates == tuple(
        found.values("wide")["coefficients"][name]["hazard_ratio"] for name in forest.names
    )


@pytest.mark.parametrize("lost_in", [2, 5])
def test_the_coefficients_are_those_of_the_sites_that_are_left(lost_in: int) -> None:
    """Sites whose records say otherwise vanish early or late: the search goes on from where it is."""
    frames = split(records(500, seed=8))
    for name in LOST:
        frames[name] = frames[name].assign(smoker=1.0 - frames[name]["smoker"], died=1.0)
    found = run(STUDY, frames, lost_in=lost_in)
    check(found.values("cox"), fit(found.pooled, EDGES, NAMES), NAMES)


def test_a_column_that_a_lost_site_alone_has_is_left_out_from_then_on() -> None:
    frames = split(records(500))
    frames = {name: frame.assign(stage=np.where(frame["stage"] == "III", "II", "I")) for name, frame in frames.items()}
    for name in LOST:
        frames[name]["stage"] = np.where(np.arange(len(frames[name])) % 2, "III", "I")
    found = run(STUDY, frames, lost_in=4)
    columns = ["age", "smoker", "stage[II]"]
    wanted = fit(found.pooled, EDGES, columns)
    coefficients = found.values("cox")["coefficients"]
    assert coefficients["stage[III]"]["estimate"] is None
    assert [coefficients[name]["estimate"] for name in columns] == pytest.approx(wanted.params, rel=1e-6)
    assert found.methods["cox"].result.notes == ("stage[III]: left out, a combination of the columns before.",)


def heavy_tailed(effect: float, positive: bool) -> pd.DataFrame:
    """Records with a marker of which a few values are far from all others."""
    frame, rng = records(300, seed=0), np.random.default_rng(0)
    marker = rng.standard_cauchy(300)
    frame["marker"] = (np.abs(marker) if positive else marker).clip(-1000, 1000)
    lived = rng.exponential(120 / np.exp((effect * frame["marker"]).clip(-30, 30)))
    return frame.assign(days=np.ceil(lived).clip(0, 400), died=(lived <= 400).astype(float))


MARKER = Study.from_toml(TOML.replace('["marker", "age"]', '["marker"]').replace("confidence = 0.9", "max_rounds = 15"))


def test_steps_that_go_too_far_are_halved() -> None:
    """The first step of Newton's method lowers the likelihood here, and without halving each one after it does."""
    frame = heavy_tailed(0.5, positive=False)
    values = Found(add_up(MARKER, split(frame)), frame).values("wide")
    wanted = fit(frame, [50, 100, 250], ["marker"])
    assert values["coefficients"]["marker"]["estimate"] == pytest.approx(wanted.params[0], rel=1e-6)


def test_a_fit_with_hazards_that_were_cut_off_is_withheld() -> None:
    reported = add_up(MARKER, split(heavy_tailed(-0.5, positive=True)))
    assert "beyond e^12 times" in reported["wide"].result.withheld


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stage": ["III"] * 3 + ["I"] * 297 + ["II"] * 300}, r"few records have, or lack, stage\[III\]"),
        ({"smoker": [1.0] * 598 + [0.0] * 2}, "few records have, or lack, smoker at its first value"),
        ({"died": [1.0] * 6 + [0.0] * 594}, "events"),
        ({"died": 0.0}, "too few events for 4 coefficients: 9 are needed"),
        ({"age": float("nan")}, "fewer than 5 complete records"),
    ],
)
def test_what_is_about_few_records_or_events_is_withheld(changes: dict[str, Any], said: str) -> None:
    reported = add_up(STUDY, split(records().assign(**changes)))
    as_json(reported)
    assert reported["cox"].result.values == {}
    with pytest.raises(AssertionError, match=said):
        Found(reported, records()).values("cox")


def test_a_coefficient_without_a_bound_is_withheld() -> None:
    """No smoker dies, so that the likelihood grows without end."""
    frame = records()
    frame["died"] = np.where(frame["smoker"] == 1.0, 0.0, frame["died"])
    reported = add_up(STUDY, split(frame))
    assert "a coefficient may have no bound" in reported["cox"].result.withheld
    as_json(reported)


@pytest.mark.parametrize("case", ["constant", "twice", "nobody", "nothing varies"])
def test_what_has_no_single_fit_says_so_and_is_json(case: str) -> None:
    frame = records()
    if case == "constant":
        frame["marker"] = 7.3
    elif case == "twice":
        frame["age"] = frame["marker"] * 0.7 + 50
    elif case == "nothing varies":
        frame[["marker", "age"]] = 7.3
    else:
        frame = frame.iloc[:0]
    result = as_json(add_up(STUDY, split(frame)))["wide"]["result"]
    if case == "nobody":
        assert result["withheld"]
    elif case == "nothing varies":
        assert "nothing to fit" in result["withheld"]
    else:
        left_out = "marker" if case == "constant" else "age"
        assert result["values"]["coefficients"][left_out]["estimate"] is None
        assert left_out in result["notes"][0]
        kept = "age" if case == "constant" else "marker"
        wanted = fit(frame, [50, 100, 250], [kept])
        assert result["values"]["coefficients"][kept]["estimate"] == pytest.approx(wanted.params[0], rel=1e-6)


def test_few_censored_records_do_not_show_in_the_events() -> None:
    frame = records().assign(died=[0.0] * 2 + [1.0] * 598)
    assert add_up(STUDY, split(frame))["wide"].result.values["events"] is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('predictors = ["age", "smoker", "stage"]', "predictors = []", "give at least one"),
        ('predictors = ["age", "smoker"', 'predictors = ["died", "smoker"', "name each column once"),
        ('event = "died"', 'event = "marker"', "which is no flag"),
        ("confidence = 0.9", "confidence = 1.5", "confidence is 1.5"),
        ("confidence = 0.9", "max_rounds = 1", "max_rounds is 1: must be 2 or more"),
        ("[10, 50, 100", "[10, 50, 40", "each above the one before it"),
        ("edges = [10, 50, 100, 250, 300]", "bins = 1", "bins is 1"),
    ],
)
def test_a_study_that_does_not_suit_it_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Study.from_toml(TOML.replace(old, new))


def test_a_time_that_is_a_category_is_refused() -> None:
    with pytest.raises(ParameterError, match="a category has no range"):
        Study.from_toml(
            TOML.replace(
                'time = "days"\nevent = "died"\npredictors = ["marker"',
                'time = "stage"\nevent = "died"\npredictors = ["marker"',
            )
        )
