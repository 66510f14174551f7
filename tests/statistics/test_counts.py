"""The counts by column that every study sums in its first round."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import ParameterError
from secagg.statistics import Analyst, Site, Study, StudyResult, open_data, simulate_study

STUDY = """
name = "Counted"
[columns.age]
type = "whole"
min = 0
max = 100
outside = "clip"
[columns.sex]
type = "category"
values = ["f", "m"]
other = "missing"
[columns.old]
type = "flag"
expression = "age >= 65"
[columns.unused]
type = "flag"
[methods.ages]
method = "describe"
of = ["age", "old"]
[methods.sexes]
method = "crosstab"
of = ["sex", "old"]
[release]
min_cell = {least}
"""


def study(least: int = 1) -> Study:
    return Study.from_toml(STUDY.format(least=least))


def added(own: Study, frames: list[pd.DataFrame], rows: int = 3) -> StudyResult:
    """The vectors added in the open: the same sums as by the protocol."""
    analyst = Analyst(own)
    sites = [Site(own, open_data(frame, own, rows=rows, memory=0)) for frame in frames]
    for site in sites:
        site.check()
    while (question := analyst.question()) is not None:
        layout = analyst.layout(question)
        total = sum(layout.encode(site.answer(question)) for site in sites)
        analyst.release(question, layout.decode(total, len(sites)), [str(number) for number in range(len(sites))])
    return analyst.result()


TABLES = st.lists(
    st.tuples(st.one_of(st.none(), st.integers(-5, 130)), st.sampled_from(["f", "m", "x", None])), max_size=12
).map(lambda rows: pd.DataFrame(rows, columns=["age", "sex"], dtype=object))


@settings(max_examples=40)
@given(st.lists(TABLES, min_size=3, max_size=5), st.integers(1, 5))
def test_any_table_and_any_split_give_the_pooled_counts(frames: list[pd.DataFrame], rows: int) -> None:
    pooled = pd.concat(frames)
    found = added(study(), frames, rows).columns
    assert found is not None
    ages = pd.to_numeric(pooled["age"])
    if found.result.withheld:
        assert pooled.empty
        return
    assert found.result.values == {
        "age": {"missing": ages.isna().sum(), "outside": ((ages < 0) | (ages > 100)).sum()},
        "old": {"missing": ages.isna().sum(), "outside": 0},
        "sex": {"missing": pooled["sex"].isna().sum(), "outside": (pooled["sex"] == "x").sum()},
    }
    assert found.records == len(pooled)


def test_a_round_of_the_protocol_has_them_and_small_ones_are_withheld() -> None:
    frames = {
        f"site {n}": pd.DataFrame({"age": [None, 30, 101, 7 * n], "sex": ["f", None, "m", "x"]}) for n in range(6)
    }
    own = study(least=7)
    frames["site 0"].loc[0, "age"] = 1
    result = simulate_study({name: Site(own, open_data(frame, own)) for name, frame in frames.items()})
    assert result.columns is not None
    assert result.columns.result.values["age"] == {"missing": None, "outside": None}
    assert result.columns.result.values["old"] == {"missing": None, "outside": 0}
    assert result.columns.sites == tuple(sorted(frames))
    assert "columns" not in result.methods
    exact = study()
    seen = simulate_study({name: Site(exact, open_data(frame, exact)) for name, frame in frames.items()}).columns
    assert seen is not None
    assert seen.result.values["age"] == {"missing": 5, "outside": 6}


def test_a_count_that_all_but_a_few_records_have_is_withheld() -> None:
    frames = [pd.DataFrame({"age": [None] * 4 + [5], "sex": ["f"] * 5}) for _ in range(3)]
    found = added(study(least=5), frames).columns
    assert found is not None
    assert found.result.values["age"]["missing"] is None


def test_they_are_asked_once() -> None:
    analyst = Analyst(study())
    question = analyst.question()
    assert question is not None
    assert list(question.asks) == ["ages", "sexes", "columns"]


def test_their_name_is_taken() -> None:
    with pytest.raises(ParameterError, match="take another name"):
        Study.from_toml(STUDY.format(least=1).replace("methods.ages", "methods.columns"))
