"""Cross tables and their tests against pandas and SciPy, and what small cells take with them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secagg.errors import ParameterError
from secagg.statistics import Study
from tests.support.hospitals import Found, add_up, as_json, run, split

TOML = """
name = "Votes"
[columns.vote]
type = "flag"
[columns.education]
type = "category"
values = ["1", "2", "3", "4", "5", "6", "7", "8"]
[columns.party]
type = "category"
values = ["left", "middle", "right"]
[methods.wide]
method = "crosstab"
of = ["education", "vote"]
[methods.deep]
method = "crosstab"
of = ["party", "vote", "education"]
[methods.uncorrected]
method = "crosstab"
of = ["old", "vote"]
correction = false
[methods.small]
method = "crosstab"
of = ["old", "vote"]
[columns.old]
type = "flag"
[release]
min_cell = 1
"""
STUDY = Study.from_toml(TOML)


def records() -> pd.DataFrame:
    votes = sm.datasets.anes96.load_pandas().data
    return pd.DataFrame(
        {
            "vote": votes["vote"],
            "education": votes["educ"].astype(int).astype(str),
            "party": pd.cut(votes["PID"], [-1, 2, 3, 6], labels=["left", "middle", "right"]).astype(str),
            "old": (votes["age"] >= 60).astype(float),
        }
    )


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::17], "party"] = None
    return run(STUDY, frame, lost_in=1, rows=100)


def test_counts_are_those_of_pandas(found: Found) -> None:
    wanted = pd.crosstab(found.pooled["education"], found.pooled["vote"])
    values = found.values("wide")
    assert values["levels"]["vote"] == ["no", "yes"]
    by_level = dict(zip(values["levels"]["education"], values["counts"], strict=True))
    assert by_level.pop("8") == [0, 0]
    assert by_level == {level: row.tolist() for level, row in wanted.iterrows()}
    assert values["margins"]["education"] == [*wanted.sum(axis=1).tolist(), 0]
    assert values["margins"]["vote"] == wanted.sum(axis=0).tolist()
    assert values["total"] == len(found.pooled)
    table = found.methods["wide"].result.tables[0]
    assert table.columns == ("education", "vote: no", "vote: yes", "all")
    assert table.rows[-1] == ("all", *values["margins"]["vote"], values["total"])


def test_tests_leave_out_what_does_not_occur(found: Found) -> None:
    wanted = pd.crosstab(found.pooled["education"], found.pooled["vote"])
    tests = found.values("wide")["tests"]
    chi = stats.chi2_contingency(wanted)
    assert (tests["chi_squared"], tests["p"]) == pytest.approx((chi.statistic, chi.pvalue), rel=1e-12)
    assert tests["df"] == chi.dof
    assert tests["cramers_v"] == pytest.approx(np.sqrt(chi.statistic / len(found.pooled)), rel=1e-12)


def test_three_columns_make_a_table_of_three_dimensions(found: Found) -> None:
    pooled = found.pooled.dropna()
    counts = np.array(found.values("deep")["counts"])
    assert counts.shape == (3, 2, 8)
    assert counts.sum() == len(pooled)
    picked = pooled[(pooled["party"] == "right") & (pooled["vote"] == 1) & (pooled["education"] == "4")]
    assert counts[2, 1, 3] == len(picked)
    assert found.values("deep")["tests"]["df"] == stats.chi2_contingency(counts[:, :, :7]).dof


def test_two_by_two_cells_have_fishers_test_and_yates_correction_as_asked(found: Found) -> None:
    wanted = pd.crosstab(found.pooled["old"], found.pooled["vote"])
    exact = stats.fisher_exact(wanted)
    tests = found.values("small")["tests"]
    assert (tests["odds_ratio"], tests["fisher_p"]) == pytest.approx((exact.statistic, exact.pvalue), rel=1e-12)
    for method, correction in (("small", True), ("uncorrected", False)):
        chi = stats.chi2_contingency(wanted, correction=correction)
        assert found.values(method)["tests"]["p"] == pytest.approx(chi.pvalue, rel=1e-12)


def small_cell(**release: object) -> Study:
    lines = "\n".join(f"{name} = {str(value).lower()}" for name, value in release.items())
    return Study.from_toml(TOML.replace("min_cell = 1", lines))


def frame_of(counts: list[list[int]]) -> pd.DataFrame:
    """Records of ``education`` and ``vote`` with these counts."""
    pairs = [
        (str(row + 1), float(at)) for row, line in enumerate(counts) for at, n in enumerate(line) for _ in range(n)
    ]
    frame = pd.DataFrame(pairs, columns=["education", "vote"])
    return frame.assign(party="left", old=1.0)


def test_a_small_cell_takes_others_and_the_tests_with_it() -> None:
    frame = frame_of([[2, 30], [40, 50], [60, 70]])
    result = add_up(small_cell(min_cell=5), split(frame, 5))["wide"].result
    counts = result.values["counts"]
    hidden = np.array([[count is None for count in row] for row in counts])
    assert hidden[0, 0]
    assert counts[2] == [60, 70]
    for axis in (0, 1):
        assert 1 not in hidden.sum(axis=axis), "the margin gives a single hidden cell away"
    assert result.values["margins"]["education"][:3] == [32, 90, 130]
    assert result.values["tests"] == {}
    assert any("cells are withheld" in note for note in result.notes)


def test_without_complementary_cells_the_margins_are_withheld() -> None:
    study = small_cell(min_cell=5, complementary=False)
    values = add_up(study, split(frame_of([[2, 30], [40, 50]]), 5))["wide"].result.values
    assert values["counts"][:2] == [[None, 30], [40, 50]]
    assert set(values["margins"]["education"]) == {None}


def test_a_small_margin_is_not_given_away_by_the_others() -> None:
    values = add_up(small_cell(min_cell=5), split(frame_of([[3, 0], [40, 50], [60, 70]]), 5))["wide"].result.values
    assert set(values["margins"]["education"]) == {None}
    assert values["margins"]["vote"] == [103, 120]


def test_no_margin_is_shown_that_is_the_cells() -> None:
    """All records have one vote: the margin of education repeats them."""
    values = add_up(small_cell(min_cell=5), split(frame_of([[3, 0], [40, 0], [60, 0]]), 5))["wide"].result.values
    assert values["margins"] == {"education": [None] * 8, "vote": [None] * 2}
    assert values["total"] == 103


@given(
    st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2), min_size=8, max_size=8),
    st.integers(3, 6),
    st.integers(0, 2**16),
)
def test_any_table_and_any_split_give_the_pooled_counts(counts: list[list[int]], sites: int, seed: int) -> None:
    methods = add_up(STUDY, split(frame_of(counts), sites, seed))
    result = methods["wide"].result
    if sum(map(sum, counts)) == 0:
        assert result.withheld
    else:
        assert result.values["counts"] == counts
    as_json(methods)


def test_a_table_of_one_column_or_of_too_many_cells_is_refused() -> None:
    with pytest.raises(ParameterError, match="two or more different columns"):
        Study.from_toml(TOML.replace('["education", "vote"]', '["vote", "vote"]'))
