"""Two attacks by script: differencing, and a small cell that margins give away.  Both succeed with the defence out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from secagg.statistics import (
    Entry,
    Ledger,
    Site,
    SitePolicy,
    Study,
    StudyResult,
    simulate_study,
    suppression,
    tables,
)
from tests.support.cheating_site import cheat
from tests.support.hospitals import Frame, add_up, split

TOML = """
name = "NAME"
[columns.ill]
type = "flag"
[columns.sex]
type = "category"
values = ["female", "male", "other"]
[methods.ill]
method = "describe"
of = ["ill"]
[methods.table]
method = "crosstab"
of = ["sex", "ill"]
[release]
min_cell = 5
min_difference = DIFFERENCE
complementary = COMPLEMENTARY
"""
HOSPITALS = [f"hospital {number}" for number in range(6)]
VICTIM = HOSPITALS[-1]


def study(name: str, difference: int = 2, complementary: bool = True) -> Study:
    text = TOML.replace("NAME", name).replace("DIFFERENCE", str(difference))
    return Study.from_toml(text.replace("COMPLEMENTARY", str(complementary).lower()))


def patients(hospital: str) -> pd.DataFrame:
    rng = np.random.default_rng(HOSPITALS.index(hospital))
    return pd.DataFrame({"ill": (rng.random(80) < 0.3).astype(float), "sex": rng.choice(["female", "male"], 80)})


def asked(study_: Study, names: list[str], ledgers: dict[str, Ledger]) -> StudyResult:
    sites = {name: Site(study_, Frame(study_, patients(name))) for name in names}
    return simulate_study(sites, ledgers=ledgers)


def sum_of(result: StudyResult) -> Any:
    return result.methods["ill"].result.values["ill"]["sum"]


@pytest.mark.parametrize("difference", [2, 1])
def test_differencing(difference: int) -> None:
    """All hospitals are asked, and then, by a study of another name, all but one."""
    ledgers = {name: Ledger() for name in HOSPITALS}
    everybody = asked(study("Before", difference), HOSPITALS, ledgers)
    others = asked(study("After", difference), HOSPITALS[:-1], ledgers)
    secret = int(patients(VICTIM)["ill"].sum())
    if difference == 1:
        assert sum_of(everybody) - sum_of(others) == secret
        return
    assert sum_of(everybody) is not None
    for reported in others.methods.values():
        assert f"tell of {VICTIM} alone" in reported.result.withheld
        assert not reported.result.values
    assert others.rounds == ()


def test_differencing_between_studies_succeeds_where_no_hospital_keeps_a_ledger() -> None:
    """Each study by itself holds to ``min_difference``; what was released by the first one, only a ledger knows."""
    everybody, others = asked(study("Before"), HOSPITALS, {}), asked(study("After"), HOSPITALS[:-1], {})
    assert sum_of(everybody) - sum_of(others) == int(patients(VICTIM)["ill"].sum())


def test_a_hospital_that_vanishes_alone_is_not_laid_bare_by_the_next_round() -> None:
    sites = {name: Site(study("Lost"), Frame(study("Lost"), patients(name))) for name in HOSPITALS}
    alone = simulate_study(sites, lost={VICTIM: 2})
    assert "not finished after 1 round: sums over this set of 5 organisations" in alone.methods["ill"].result.withheld
    assert alone.methods["table"].result.values, "it was finished before"
    together = simulate_study(sites, lost={VICTIM: 2, HOSPITALS[0]: 2})
    assert together.methods["ill"].sites == tuple(HOSPITALS[1:-1])


def test_a_site_whose_policy_is_stricter_than_the_study_ends_the_session() -> None:
    lax = study("Lax", 1)
    own = SitePolicy(columns=("*",), methods=("*",), min_difference=1)
    ledgers = {HOSPITALS[0]: Ledger()}
    ledgers[HOSPITALS[0]].record(Entry("s", "s", 1, "q", tuple(HOSPITALS)), 1)
    sites = {name: Site(lax, Frame(lax, patients(name)), policy=own) for name in HOSPITALS[:-1]}
    sites[HOSPITALS[0]].policy = SitePolicy(columns=("*",), methods=("*",), min_difference=2)
    assert sites[HOSPITALS[0]].min_difference == 2
    result = simulate_study(sites, ledgers=ledgers)
    assert "the ledger of 'data': sums over this set" in result.methods["ill"].result.withheld


SMALL = 2
CELLS = [("female", 0.0, SMALL), ("female", 1.0, 30), ("male", 0.0, 40), ("male", 1.0, 50), ("other", 0.0, 60)]
CELLS += [("other", 1.0, 70)]
RECORDS = pd.DataFrame([(sex, ill) for sex, ill, count in CELLS for _ in range(count)], columns=["sex", "ill"])


def solved(values: Any) -> int:
    """The hidden cell of the first row, from its margin and from what is shown beside it."""
    row = values["counts"][0]
    return int(values["margins"]["sex"][0] - row[1])


def test_a_small_cell() -> None:
    values = add_up(study("Cells"), split(RECORDS, 5))["table"].result.values
    with pytest.raises(TypeError):
        solved(values)
    assert values["margins"]["sex"] == [32, 90, 130]


def test_a_small_cell_is_solved_for_without_complementary_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is taken out of the code, as a study that leaves it out is shown no margins either."""
    monkeypatch.setattr(
        tables, "hidden_cells", lambda counts, least, _: suppression.hidden_cells(counts, least, complementary=False)
    )
    values = add_up(study("Cells"), split(RECORDS, 5))["table"].result.values
    assert values["counts"][0] == [None, 30]
    assert solved(values) == SMALL


@pytest.mark.parametrize("last", [1, 9])
def test_a_hospital_that_sends_what_no_site_makes_costs_a_round_and_at_last_the_study(
    monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    cheat(monkeypatch, last)
    found = asked(study("Cheated"), HOSPITALS, {})
    assert found.failed_rounds == (1 if last == 1 else 3)
    if last == 1:
        assert sum_of(found) == sum(int(patients(name)["ill"].sum()) for name in HOSPITALS)
    else:
        assert "a site sent what no site makes" in found.methods["ill"].result.withheld


def test_too_few_hospitals_that_are_left_end_the_study_with_what_it_has() -> None:
    study_ = study("Left")
    sites = {name: Site(study_, Frame(study_, patients(name))) for name in HOSPITALS}
    found = simulate_study(sites, lost=dict.fromkeys(HOSPITALS[2:], 2))
    assert [len(one.sites) for one in found.rounds] == [6]
    assert found.methods["table"].result.values, "it was finished before"
    assert "it was not finished after 1 round" in found.methods["ill"].result.withheld
