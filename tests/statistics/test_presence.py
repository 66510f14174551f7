"""Smallest and largest values, any, all, and which values occur, against pandas."""

from __future__ import annotations

import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import ParameterError
from secagg.statistics import Study
from tests.support.hospitals import add_up, as_json, run, split

TOML = """
name = "Spector"
[columns.tuce]
type = "whole"
min = 0
max = 40
[columns.gpa]
type = "number"
min = 0
max = 5
[columns.psi]
type = "flag"
[columns.never]
type = "flag"
[columns.always]
type = "flag"
[columns.ward]
type = "category"
values = ["a", "b", "c", "d"]
[methods.ends]
method = "range"
of = ["tuce", "gpa"]
[methods.some]
method = "any"
of = ["psi", "never", "always"]
[methods.every]
method = "all"
of = ["psi", "never", "always"]
[methods.values]
method = "distinct"
of = ["ward", "never"]
[release]
min_cell = 1
"""
STUDY = Study.from_toml(TOML)


def records() -> pd.DataFrame:
    spector = sm.datasets.spector.load_pandas().data
    frame = pd.DataFrame({"tuce": spector["TUCE"], "gpa": spector["GPA"], "psi": spector["PSI"]})
    frame = frame.assign(never=0.0, always=1.0, ward=["d", "a"] * 16)
    frame.loc[frame.index[::5], ["tuce", "always", "ward"]] = [float("nan"), float("nan"), None]
    return frame


def test_answers_are_the_pooled_ones_although_two_sites_vanish() -> None:
    found = run(STUDY, pd.concat([records()] * 3, ignore_index=True), lost_in=1)
    ends = found.values("ends")
    tuce, gpa = found.pooled["tuce"], found.pooled["gpa"]
    assert ends["tuce"]["min"] == {"low": tuce.min(), "high": tuce.min()}, "a whole number is exact"
    assert ends["tuce"]["max"] == {"low": tuce.max(), "high": tuce.max()}
    assert ends["gpa"]["min"]["low"] <= gpa.min() <= ends["gpa"]["min"]["high"]
    assert ends["gpa"]["max"]["low"] <= gpa.max() <= ends["gpa"]["max"]["high"]
    assert ends["gpa"]["max"]["high"] - ends["gpa"]["max"]["low"] == pytest.approx(5 / 64)
    assert found.values("some") == {"psi": True, "never": False, "always": True}
    assert found.values("every") == {"psi": False, "never": False, "always": True}
    assert found.values("values") == {"ward": ["a", "d"], "never": ["no"]}


def test_columns_without_values_have_no_ends() -> None:
    frame = records().assign(gpa=float("nan"), ward=None)
    methods = as_json(add_up(STUDY, split(frame, 4)))
    assert methods["ends"]["result"]["values"]["gpa"] == {"min": None, "max": None}
    assert methods["ends"]["result"]["notes"] == ["The columns gpa have no values."]
    assert methods["values"]["result"]["values"]["ward"] == []


@given(
    st.lists(st.tuples(st.integers(0, 40), st.floats(0, 5), st.booleans(), st.sampled_from("abcd")), max_size=20),
    st.integers(3, 6),
    st.integers(0, 2**16),
)
def test_any_table_and_any_split_give_the_pooled_answers(
    rows: list[tuple[int, float, bool, str]], sites: int, seed: int
) -> None:
    frame = pd.DataFrame(rows, columns=["tuce", "gpa", "psi", "ward"]).assign(never=0.0, always=1.0)
    methods = add_up(STUDY, split(frame, sites, seed))
    as_json(methods)
    if not rows:
        assert methods["some"].result.withheld
        return
    ends = methods["ends"].result.values
    assert (ends["tuce"]["min"]["low"], ends["tuce"]["max"]["high"]) == (frame["tuce"].min(), frame["tuce"].max())
    assert ends["gpa"]["min"]["low"] <= frame["gpa"].min() <= ends["gpa"]["min"]["high"]
    assert ends["gpa"]["max"]["low"] <= frame["gpa"].max() <= ends["gpa"]["max"]["high"]
    assert methods["some"].result.values["psi"] == frame["psi"].any()
    assert methods["every"].result.values["psi"] == frame["psi"].all()
    assert methods["values"].result.values["ward"] == sorted(frame["ward"].unique())


def test_what_is_no_flag_or_has_no_levels_is_refused() -> None:
    with pytest.raises(ParameterError, match="gpa is no flag"):
        Study.from_toml(TOML.replace('"any"\nof = ["psi"', '"any"\nof = ["gpa"'))
    with pytest.raises(ParameterError, match="no levels"):
        Study.from_toml(TOML.replace('of = ["ward"', 'of = ["gpa"'))
