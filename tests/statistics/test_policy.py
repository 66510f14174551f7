"""A site's own rules: what a study may not ask, and with how few records a site stays away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import ParameterError, StateError
from secagg.statistics import Analyst, Chunk, DisclosureError, Site, SitePolicy, Study, load_policy
from secagg.statistics.expressions import where_column

TOML = """
name = "Ages"
max_rounds = 10
[columns.age]
type = "whole"
source = "AGE"
min = 0
max = 120
[columns.old]
type = "flag"
expression = "age >= 65"
[columns.sex]
type = "category"
values = ["female", "male"]
[methods.ages]
method = "describe"
of = ["age"]
[methods.table]
method = "crosstab"
of = ["old", "sex"]
where = "age < 90"
"""
STUDY = Study.from_toml(TOML)
ALLOWED: dict[str, Any] = {"columns": ("AGE", "se?"), "methods": ("describe", "cross*")}


class Unread:
    """Data that fail the test when they are read."""

    def chunks(self) -> Any:
        raise AssertionError("the data were read")


def policy(**changed: Any) -> SitePolicy:
    return SitePolicy(**ALLOWED | changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"columns": ("se?",)}, "columns: the study reads 'AGE', and the policy allows se[?]: add it to columns"),
        ({"columns": ("age", "sex")}, "the study reads 'AGE'"),
        ({"methods": ("describe",)}, "the study asks for 'crosstab', and the policy allows describe"),
        ({"min_organisations": 4}, "min_organisations: the study has 3, and the policy asks for 4 or more"),
        ({"min_cell": 6}, "min_cell: the study has 5, and the policy asks for 6 or more"),
        ({"min_difference": 3}, "min_difference: the study has 2, and the policy asks for 3 or more"),
        ({"max_rounds": 9}, "max_rounds: the study has 10, and the policy allows 9"),
        ({"approved": ("0" * 64,)}, f"approved: the study's digest is {STUDY.digest.hex()}"),
    ],
)
def test_a_study_beyond_the_policy_is_refused_before_anything_is_read(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(DisclosureError, match=said):
        Site(STUDY, Unread(), policy=policy(**changed))


@given(
    st.sets(st.sampled_from(["AGE", "sex"])),
    st.sets(st.sampled_from(["describe", "crosstab", "range"])),
    st.integers(2, 4),
    st.integers(4, 6),
    st.integers(8, 12),
)
def test_a_study_is_allowed_when_it_keeps_to_every_entry(
    columns: set[str], methods: set[str], organisations: int, cell: int, rounds: int
) -> None:
    own = SitePolicy(
        columns=tuple(columns),
        methods=tuple(methods),
        min_organisations=organisations,
        min_cell=cell,
        max_rounds=rounds,
    )
    fits = {"AGE", "sex"} <= columns and {"describe", "crosstab"} <= methods
    if fits and organisations <= 3 and cell <= 5 and rounds >= 10:
        own.check(STUDY)
    else:
        with pytest.raises(DisclosureError):
            own.check(STUDY)


class Few:
    """As many records as are asked for; the method ``table`` has those that are not very old."""

    def __init__(self, young: int, old: int) -> None:
        self._ages = [50.0] * young + [95.0] * old

    def chunks(self) -> Any:
        ages = np.array(self._ages)
        yield Chunk(
            {
                "age": ages,
                "old": (ages >= 65).astype(float),
                "sex": np.zeros(len(ages), np.int64),
                where_column("age < 90"): (ages < 90).astype(float),
            },
            len(ages),
        )


@pytest.mark.parametrize(
    ("young", "old", "said"),
    [
        (4, 0, "the study has 4 records of this site, and the policy asks for 5"),
        (4, 9, "methods.table has 4 records of this site"),
        (5, 0, ""),
        (0, 9, ""),
    ],
)
def test_a_site_with_few_records_stays_away(young: int, old: int, said: str) -> None:
    site = Site(STUDY, Few(young, old), policy=policy())
    if not said:
        site.check()
        return
    with pytest.raises(DisclosureError, match=said):
        site.check()
    question = Analyst(STUDY).question()
    assert question is not None
    with pytest.raises(StateError):
        site.answer(question)


def test_a_policy_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(f'columns = ["*"]\nmethods = ["*"]\nmin_records = 9\napproved = ["{STUDY.digest.hex()}"]\n')
    found = load_policy(file)
    found.check(STUDY)
    assert (found.min_records, found.min_cell) == (9, 5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns = [", "no TOML document"),
        ('methods = ["*"]', "columns"),
        ('columns = []\nmethods = ["mean"]', "there is no 'mean'; there are all, any"),
        ("columns = []\nmethods = []\nmin_cell = 0", "min_cell is 0: must be 1 or more"),
        ('columns = []\nmethods = []\napproved = ["12"]', "'12' is no digest"),
        ("columns = []\nmethods = []\nmin_rows = 3", "min_rows"),
    ],
)
def test_a_file_that_is_no_policy_says_why(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "site.toml"
    file.write_text(text)
    with pytest.raises(ParameterError, match=f"site.toml: .*{said}"):
        load_policy(file)
