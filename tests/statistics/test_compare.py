"""Means of groups and their tests against pandas, SciPy and statsmodels."""

from __future__ import annotations

import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.oneway import anova_oneway
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from secagg.errors import ParameterError
from secagg.statistics import Study
from tests.support.hospitals import Found, add_up, as_json, run, split

TOML = """
name = "Marriages"
[columns.affairs]
type = "number"
min = 0
max = 60
[columns.married]
type = "number"
min = 0
max = 30
decimals = 1
[columns.content]
type = "category"
values = ["1", "2", "3", "4", "5"]
[columns.working]
type = "flag"
[methods.by_content]
method = "compare"
of = "affairs"
by = "content"
[methods.by_work]
method = "compare"
of = "married"
by = "working"
confidence = 0.9
[methods.described]
method = "describe"
of = ["married", "affairs"]
by = "content"
"""


def records(rows: int = 3000) -> pd.DataFrame:
    fair = sm.datasets.fair.load_pandas().data.sample(rows, random_state=0)
    return pd.DataFrame(
        {
            "affairs": fair["affairs"],
            "married": fair["yrs_married"],
            "content": fair["rate_marriage"].astype(int).astype(str),
            "working": (fair["occupation"] > 3).astype(float),
        }
    )


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::11], "affairs"] = float("nan")
    frame.loc[frame.index[::13], "content"] = None
    return run(Study.from_toml(TOML), frame, lost_in=2, rows=400)


def test_the_tests_of_many_groups_are_those_of_scipy_and_statsmodels(found: Found) -> None:
    pooled = found.pooled[["affairs", "content"]].dropna()
    tests = found.values("by_content")["tests"]
    classic = stats.f_oneway(*(group for _, group in pooled.groupby("content")["affairs"]))
    assert tests["anova"]["statistic"] == pytest.approx(classic.statistic, rel=1e-9)
    assert tests["anova"]["p"] == pytest.approx(classic.pvalue, rel=1e-8)
    welch = anova_oneway(pooled["affairs"], pooled["content"], use_var="unequal")
    assert tests["welch_anova"]["statistic"] == pytest.approx(welch.statistic, rel=1e-9)
    assert tests["welch_anova"]["df_within"] == pytest.approx(welch.df_denom, rel=1e-9)
    assert tests["welch_anova"]["p"] == pytest.approx(welch.pvalue, rel=1e-8)


def test_groups_are_described_as_pandas_does(found: Found) -> None:
    pooled = found.pooled.dropna(subset=["content"])
    for column in ("married", "affairs"):
        wanted = pooled.groupby("content")[column].agg(["count", "sum", "mean", "var", "std"])
        for level, values in found.values("described")[column].items():
            assert values["count"] == wanted.loc[level, "count"]
            for name, theirs in (("sum", "sum"), ("mean", "mean"), ("variance", "var"), ("sd", "std")):
                assert values[name] == pytest.approx(wanted.loc[level, theirs], rel=1e-9)


def test_two_groups_are_compared_as_scipy_and_statsmodels_do(found: Found) -> None:
    pooled = found.pooled
    no, yes = (pooled.loc[pooled["working"] == flag, "married"] for flag in (0, 1))
    both = CompareMeans(DescrStatsW(no), DescrStatsW(yes))
    tests = found.values("by_work")["tests"]
    for name, equal, usevar in (("student", True, "pooled"), ("welch", False, "unequal")):
        wanted = stats.ttest_ind(no, yes, equal_var=equal)
        assert tests[name]["statistic"] == pytest.approx(wanted.statistic, rel=1e-9)
        assert tests[name]["p"] == pytest.approx(wanted.pvalue, rel=1e-8)
        assert tests[name]["df"] == pytest.approx(wanted.df, rel=1e-9)
        interval = both.tconfint_diff(alpha=0.1, usevar=usevar)
        assert (tests[name]["low"], tests[name]["high"]) == pytest.approx(interval, rel=1e-9)


def test_intervals_of_means_are_those_of_statsmodels(found: Found) -> None:
    groups = found.values("by_work")["groups"]
    for level, flag in (("no", 0), ("yes", 1)):
        values = found.pooled.loc[found.pooled["working"] == flag, "married"]
        wanted = DescrStatsW(values).tconfint_mean(alpha=0.1)
        assert (groups[level]["low"], groups[level]["high"]) == pytest.approx(wanted, rel=1e-9)
    (forest,) = found.methods["by_work"].result.figures
    assert forest.names == ("no", "yes")  # type: ignore[union-attr]


def test_a_small_group_is_withheld_with_another_and_leaves_the_tests() -> None:
    frame = records(200)
    frame["content"] = ["1"] * 3 + ["2"] * 40 + ["3"] * 70 + ["4"] * 87
    methods = add_up(Study.from_toml(TOML), split(frame))
    values = methods["by_content"].result.values
    assert [values["groups"][level]["count"] for level in "12345"] == [None, None, 70, 87, 0]
    assert values["groups"]["1"]["mean"] is None
    third, fourth = (frame.loc[frame["content"] == level, "affairs"] for level in "34")
    assert values["tests"]["anova"]["p"] == pytest.approx(stats.f_oneway(third, fourth).pvalue, rel=1e-8)
    assert any("1, 2 are withheld" in note for note in methods["by_content"].result.notes)
    as_json(methods)


@pytest.mark.parametrize("case", ["constant", "one group", "all missing", "no records"])
def test_what_has_no_test_says_so(case: str) -> None:
    frame = records(100)
    if case == "constant":
        frame["affairs"] = 0.0
    elif case == "one group":
        frame["content"] = "2"
    elif case == "all missing":
        frame["affairs"] = float("nan")
    else:
        frame = frame.iloc[:0]
    methods = as_json(add_up(Study.from_toml(TOML), split(frame, 4)))
    result = methods["by_content"]["result"]
    assert result["withheld"] if case in ("all missing", "no records") else result["notes"]
    assert not result["values"].get("tests")


def test_a_single_value_cannot_be_compared() -> None:
    with pytest.raises(ParameterError, match="content has a single value"):
        Study.from_toml(TOML.replace('["1", "2", "3", "4", "5"]', '["1"]'))
    with pytest.raises(ParameterError, match="confidence is 90"):
        Study.from_toml(TOML.replace("confidence = 0.9", "confidence = 90.0"))
