"""Survival curves, bands, medians and the log-rank test against lifelines, and what joined steps keep back."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.datasets import load_gbsg2, load_larynx, load_waltons
from lifelines.statistics import multivariate_logrank_test
from lifelines.utils import median_survival_times

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.results import Curves
from tests.support.hospitals import LOST, Found, add_up, as_json, run, split

TOML = """
name = "Survival"
[columns.days]
type = "whole"
min = 0
max = 2800
unit = "days"
[columns.died]
type = "flag"
[columns.treated]
type = "flag"
[columns.grade]
type = "category"
values = ["I", "II", "III", "IV"]
[methods.all]
method = "kaplan_meier"
time = "days"
event = "died"
bins = 2800
[methods.grades]
method = "kaplan_meier"
time = "days"
event = "died"
by = "grade"
bins = 2800
[methods.coarse]
method = "kaplan_meier"
time = "days"
event = "died"
by = "treated"
edges = [30.5, 365, 730, 1461]
confidence = 0.9
label = "By treatment"
[release]
min_cell = 1
"""
STUDY = Study.from_toml(TOML)
SMALL = Study.from_toml(TOML.replace("min_cell = 1", "min_cell = 5"))
HOURS = """
name = "Hours"
[columns.hours]
type = "number"
min = 0
max = 12
decimals = 1
[columns.died]
type = "flag"
[columns.group]
type = "category"
values = ["a", "b", "c"]
[methods.survival]
method = "kaplan_meier"
time = "hours"
event = "died"
by = "group"
[release]
min_cell = 1
"""


def records() -> pd.DataFrame:
    """The German breast cancer study group's, of 686 women."""
    women = load_gbsg2()
    return pd.DataFrame(
        {
            "days": women["time"].astype(float),
            "died": women["cens"].astype(float),
            "treated": (women["horTh"] == "yes").astype(float),
            "grade": women["tgrade"],
        }
    )


def check(found: Any, own: pd.DataFrame, alpha: float = 0.05) -> None:
    """A group's values against lifelines' on its records, at each point of the grid."""
    fit = KaplanMeierFitter().fit(own["days"], own["died"], alpha=alpha)
    events = fit.event_table
    curve = pd.DataFrame(found["curve"]).astype(float).set_index("time")
    left = curve[(curve["events"] > 0) | (curve["censored"] > 0)]
    times = events.index[events["removed"] > 0]
    assert left.index.tolist() == times.tolist()
    for name, theirs in (("at_risk", "at_risk"), ("events", "observed"), ("censored", "censored")):
        assert left[name].tolist() == events.loc[times, theirs].tolist()
    survival = fit.survival_function_.loc[times].to_numpy()[:, 0]
    assert left["survival"].to_numpy() == pytest.approx(survival, rel=1e-12)
    bands = fit.confidence_interval_.loc[times]
    defined = (left["survival"] < 1) & (left["survival"] > 0)
    assert left.loc[defined, ["low", "high"]].to_numpy() == pytest.approx(bands[defined].to_numpy(), rel=1e-12)
    assert left.loc[~defined, ["low", "high"]].isna().all(axis=None)
    assert [found[name] for name in ("records", "events", "censored")] == [
        len(own),
        int(own["died"].sum()),
        int((1 - own["died"]).sum()),
    ]
    medians = [fit.median_survival_time_, *median_survival_times(fit.confidence_interval_).to_numpy()[0]]
    mine = [found[name] for name in ("median", "median_low", "median_high")]
    assert [math.inf if median is None else median for median in mine] == medians


def check_test(found: Any, own: pd.DataFrame, by: str) -> None:
    wanted = multivariate_logrank_test(own["days"], own[by], own["died"])
    assert (found["chi_squared"], found["p"]) == pytest.approx((wanted.test_statistic, wanted.p_value), rel=1e-11)
    assert found["df"] == wanted.degrees_of_freedom


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::31], "days"] = float("nan")
    frame.loc[frame.index[1::37], "grade"] = None
    return run(STUDY, frame, lost_in=1, rows=100)


def test_every_point_of_the_curves_is_that_of_lifelines_with_two_hospitals_lost(found: Found) -> None:
    assert len(found.methods["all"].sites) == 8
    timed = found.pooled.dropna(subset=["days"])
    check(found.values("all"), timed)
    complete = timed.dropna()
    for grade in ("I", "II", "III"):
        check(found.values("grades")["groups"][grade], complete[complete["grade"] == grade])
    check_test(found.values("grades")["log_rank"], complete, "grade")
    incomplete = found.methods["grades"].incomplete
    assert incomplete == len(found.pooled) - len(complete)


def test_a_value_that_nobody_has_is_a_group_without_a_curve(found: Found) -> None:
    nobody = found.values("grades")["groups"]["IV"]
    assert (nobody["records"], nobody["curve"], nobody["median"]) == (0, None, None)
    (figure,) = found.methods["grades"].result.figures
    assert isinstance(figure, Curves)
    assert [curve.name for curve in figure.curves] == ["I", "II", "III"]
    assert found.values("grades")["log_rank"]["df"] == 2


def test_a_time_goes_to_the_first_point_that_is_not_before_it(found: Found) -> None:
    """And beyond the last point a record is censored there."""
    timed = found.pooled.dropna(subset=["days"])
    points = np.array([30.5, 365, 730, 1461])
    late = timed["days"] > 1461
    days = points[np.searchsorted(points, timed["days"]).clip(max=3)]
    rounded = timed.assign(days=days, died=np.where(late, 0.0, timed["died"]))
    assert late.sum() > 5
    for level, flag in (("no", 0.0), ("yes", 1.0)):
        check(found.values("coarse")["groups"][level], rounded[rounded["treated"] == flag], alpha=0.1)
    check_test(found.values("coarse")["log_rank"], rounded, "treated")


def test_the_figure_begins_at_one_and_has_bands_and_numbers_at_risk(found: Found) -> None:
    (figure,) = found.methods["coarse"].result.figures
    assert isinstance(figure, Curves)
    assert figure.title.startswith("By treatment (log-rank p = 0.0")
    assert (figure.x_label, figure.steps) == ("days (days)", True)
    for curve, values in zip(figure.curves, found.values("coarse")["groups"].values(), strict=True):
        steps = values["curve"]
        assert curve.x == (0.0, 30.5, 365.0, 730.0, 1461.0)
        assert curve.y == (1.0, *steps["survival"])
        assert curve.low[0] == curve.high[0] == 1.0
        assert curve.low[2:] == tuple(steps["low"][1:])
        assert curve.at_risk == (values["records"], *steps["at_risk"])


def test_times_with_decimals_have_a_point_each() -> None:
    larynx = load_larynx()
    stages = np.select([larynx["Stage_III"] == 1, larynx["Stage_IV"] == 1], ["b", "c"], "a")
    frame = pd.DataFrame({"hours": larynx["time"], "died": larynx["death"], "group": stages})
    values = add_up(Study.from_toml(HOURS), split(frame))["survival"].result.values
    pooled = frame.rename(columns={"hours": "days"})
    for stage in ("a", "b", "c"):
        check(values["groups"][stage], pooled[pooled["group"] == stage])
    check_test(values["log_rank"], pooled, "group")


def test_a_small_p_is_said_as_such() -> None:
    walton = load_waltons()
    frame = pd.DataFrame({"hours": walton["T"] / 10, "died": walton["E"]})
    frame["group"] = np.where(walton["group"] == "control", "a", "b")
    reported = add_up(Study.from_toml(HOURS), split(frame))["survival"].result
    check_test(reported.values["log_rank"], frame.rename(columns={"hours": "days"}), "group")
    assert reported.figures[0].title.endswith("(log-rank p < 0.0001)")


@pytest.mark.parametrize(
    ("changes", "survival"),
    [
        ({"died": 0.0}, [1.0]),
        ({"died": 1.0, "days": 7.0}, [0.0]),
        ({"died": 0.0, "days": 2800.0}, [1.0]),
        ({"died": 1.0, "days": 0.0}, [0.0]),
    ],
)
def test_curves_without_events_or_of_one_time_have_no_bands_and_no_test(
    changes: dict[str, float], survival: list[float]
) -> None:
    methods = add_up(STUDY, split(records().assign(**changes)))
    as_json(methods)
    curve = methods["all"].result.values["curve"]
    assert {point for point, left in zip(curve["survival"], curve["at_risk"], strict=True) if left} >= set(survival)
    assert curve["survival"][-1:] == survival
    assert curve["low"][-1] is curve["high"][-1] is None
    assert methods["grades"].result.values["log_rank"] is None


def test_nobody_has_no_curve() -> None:
    methods = add_up(STUDY, split(records().iloc[:0]))
    assert methods["all"].result.withheld == "fewer than 1 complete records"


Row = tuple[int, bool, int]
ROWS = st.lists(st.tuples(st.integers(0, 120), st.booleans(), st.integers(0, 2)), max_size=60)


def frame_of(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "hours": [tenth / 10 for tenth, _, _ in rows],
            "died": [float(died) for _, died, _ in rows],
            "group": ["abc"[group] for _, _, group in rows],
        }
    )


@given(ROWS, st.integers(3, 6), st.integers(0, 2**16))
def test_any_records_and_any_split_give_the_pooled_curves(rows: list[Row], sites: int, seed: int) -> None:
    frame = frame_of(rows)
    methods = add_up(Study.from_toml(HOURS), split(frame, sites, seed))
    as_json(methods)
    if not rows:
        assert methods["survival"].result.withheld
        return
    pooled = frame.rename(columns={"hours": "days"})
    values = methods["survival"].result.values
    for level, found in values["groups"].items():
        own = pooled[pooled["group"] == level]
        if len(own):
            check_at_times(found, own)
        else:
            assert found["curve"] is None


def check_at_times(found: Any, own: pd.DataFrame) -> None:
    """The curve at each time that occurs, by its definition."""
    survival, curve = 1.0, found["curve"]
    by_time = dict(zip(curve["time"], zip(curve["at_risk"], curve["survival"], strict=True), strict=True))
    for time in sorted(set(own["days"])):
        at_risk = int((own["days"] >= time).sum())
        survival *= 1 - int(own.loc[own["days"] == time, "died"].sum()) / at_risk
        assert by_time[time] == (at_risk, pytest.approx(survival, rel=1e-12, abs=1e-15))


@given(ROWS, st.integers(2, 8))
def test_steps_show_no_small_count_nor_do_their_differences(rows: list[Row], least: int) -> None:
    study = Study.from_toml(HOURS.replace("min_cell = 1", f"min_cell = {least}"))
    frame = frame_of(rows)
    result = add_up(study, split(frame, 4))["survival"].result
    for level, found in (result.values.get("groups") or {}).items():
        own = frame[frame["group"] == level]
        counts = [found["records"], found["events"], found["censored"]]
        if curve := found["curve"]:
            left = [start - end for start, end in pairwise([*curve["at_risk"], 0])]
            assert left == [sum(both) for both in zip(curve["events"], curve["censored"], strict=True)]
            counts += [*curve["at_risk"], *curve["events"], *curve["censored"], *left]
            exact = KaplanMeierFitter().fit(own["hours"], own["died"]).survival_function_at_times(curve["time"])
            assert curve["survival"] == pytest.approx(exact.to_numpy(), rel=1e-12, abs=1e-12)
        assert [count for count in counts if count is not None and 0 < count < least] == []
        for table in result.tables:
            numbers = [value for row in table.rows for value in row if isinstance(value, int)]
            assert table.title == "Log-rank test" or [number for number in numbers if 0 < number < least] == []


def test_steps_are_joined_and_the_report_says_so() -> None:
    frame = records()
    result = add_up(SMALL, split(frame))["all"].result
    curve = result.values["curve"]
    assert 10 < len([events for events in curve["events"] if events]) < len(frame) / 10
    assert (result.values["records"], result.values["events"]) == (len(frame), int(frame["died"].sum()))
    exact = KaplanMeierFitter().fit(frame["days"], frame["died"]).survival_function_at_times(curve["time"])
    assert curve["survival"] == pytest.approx(exact.to_numpy(), rel=1e-12)
    assert any("joined into steps" in note for note in result.notes)


def test_the_test_is_that_of_the_points_before_they_are_joined() -> None:
    frame = records()
    check_test(add_up(SMALL, split(frame))["grades"].result.values["log_rank"], frame, "grade")


def test_a_small_group_takes_another_with_it_and_is_in_no_test() -> None:
    frame = records()
    frame["grade"] = np.where(np.arange(len(frame)) < 3, "IV", frame["grade"])
    result = add_up(SMALL, split(frame))["grades"].result
    hidden = [level for level, found in result.values["groups"].items() if found["records"] is None]
    assert len(hidden) == 2
    assert "IV" in hidden
    shown = frame[~frame["grade"].isin(hidden)]
    check_test(result.values["log_rank"], shown, "grade")
    assert {row[0] for row in result.tables[-1].rows} == set(shown["grade"])
    assert [note for note in result.notes if note.startswith("grade = IV is withheld")]


def test_a_group_with_few_events_has_no_curve_but_keeps_its_size() -> None:
    frame = records()
    own = np.flatnonzero(frame["grade"] == "I")
    frame.loc[own, "died"] = 0.0
    frame.loc[own[:3], "died"] = 1.0
    result = add_up(SMALL, split(frame))["grades"].result
    found = result.values["groups"]["I"]
    assert (found["records"], found["events"], found["censored"], found["curve"]) == (len(own), None, None, None)
    check_test(result.values["log_rank"], frame[frame["grade"] != "I"], "grade")
    assert [note for note in result.notes if note.startswith("The curve of grade = I is withheld")]


def test_a_single_curve_with_few_events_is_withheld() -> None:
    frame = records().assign(died=[1.0] * 4 + [0.0] * 682)
    assert add_up(SMALL, split(frame))["all"].result.withheld == "few records had the event, or few did not"


def test_the_curves_are_those_of_the_sites_that_are_left() -> None:
    """The lost sites' records say otherwise."""
    frames = split(records())
    for name in LOST:
        frames[name] = frames[name].assign(died=1.0, days=1.0)
    found = run(STUDY, frames, lost_in=1)
    check(found.values("all"), found.pooled)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('by = "grade"', 'by = "died"', "name each column once"),
        ('by = "grade"', 'by = "days"', "name each column once"),
        ('event = "died"\nbins', 'event = "grade"\nbins', "which is no flag"),
        (
            'time = "days"\nevent = "died"\nbins',
            'time = "treated"\nevent = "died"\nbins',
            "time is 'treated': it must be",
        ),
        ("min = 0", "min = -1", "a range that starts at 0 or above"),
        ("confidence = 0.9", "confidence = 0", "confidence is 0"),
        ("[30.5, 365", "[30.5, 20", "each above the one before it"),
        ("[30.5", "[-1", "edges starts at -1"),
        ("bins = 2800", "bins = 1", "bins is 1"),
    ],
)
def test_a_study_that_does_not_suit_it_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Study.from_toml(TOML.replace(old, new))
