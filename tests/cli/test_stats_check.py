"""``secagg stats check``: what a study asks for, and whether a file fits it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from secagg._install import how_to_install

STUDY = """
name = "Age and sex"
purpose = "To see how the command shows it."
filters = ["age >= 18"]
[columns.age]
type = "number"
source = "AGE"
min = 0
max = 120
decimals = 0
[columns.sex]
type = "category"
values = ["female", "male", "other"]
[columns.woman]
type = "flag"
expression = "sex == 'female'"
[methods.ages]
method = "describe"
of = ["age"]
[methods.women]
method = "crosstab"
of = ["sex", "woman"]
where = "age < 90"
"""
TEXT = "AGE,sex,name\n" + "".join(f"{age},{sex},x\n" for age in range(10, 100) for sex in ("female", "male", ""))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "patients.csv").write_text(TEXT)
    return tmp_path / "patients.csv"


def test_a_study_alone(invoke: Any, invoke_json: Any, study: Path) -> None:
    shown = invoke("stats", "check", study)
    assert shown.exit_code == 0
    assert "Counts, sums, means and variances of age." in " ".join(shown.stdout.split())
    assert "No data were read." in shown.stdout
    code, found = invoke_json("stats", "check", study)
    assert (code, found["fits"], found["records"], found["columns"]) == (0, None, None, {})
    assert len(found["rounds"]) == 1


def test_everything_is_said(invoke: Any, invoke_json: Any, study: Path, data: Path) -> None:
    code, found = invoke_json("stats", "check", study, "--data", data)
    assert (code, found["fits"], found["read"], found["records"]) == (0, True, 270, 246)
    assert found["methods"]["ages"]["complete"] == 246
    assert found["methods"]["women"]["complete"] == 144
    assert found["methods"]["women"]["incomplete"] == 72
    assert found["columns"]["sex"] == {"missing": 82, "outside": 0, "rounded": 0, "never_met": ["other"]}
    assert len(found["rounds"]) == 2
    for one in found["rounds"]:
        assert one["bytes"] == 8 * one["values"]
    assert found["rounds"][0]["arrays"]["columns/missing"] == [3]
    shown = " ".join(invoke("stats", "check", study, "--data", data).stdout.split())
    assert found["methods"]["women"]["releases"].endswith(" Only of records with age < 90.")
    for part in ("246 of the 270", "other", "The data fit the study. Nothing was sent.", "took 2 rounds"):
        assert part in shown


def test_other_files_give_the_same(invoke_json: Any, study: Path, data: Path, tmp_path: Path) -> None:
    _, expected = invoke_json("stats", "check", study, "--data", data)
    other = tmp_path / "other.csv"
    other.write_bytes(TEXT.replace(",", "\t").replace("\tx\n", "\tä\n").replace("\t\t", "\t-\t").encode("latin-1"))
    how = ("--separator", "tab", "--encoding", "latin-1", "--missing", "-", "--decimal", ",", "--thousands", ".")
    assert invoke_json("stats", "check", study, "--data", other, *how) == (0, expected)
    pd.read_csv(data).to_parquet(tmp_path / "other.parquet")
    assert invoke_json("stats", "check", study, "--data", tmp_path / "other.parquet") == (0, expected)


def test_data_that_do_not_fit(invoke: Any, invoke_json: Any, study: Path, data: Path) -> None:
    data.write_text(TEXT + "130,x,x\n131,x,x\n")
    code, found = invoke_json("stats", "check", study, "--data", data)
    assert (code, found["fits"]) == (1, False)
    assert found["misfits"] == [
        "columns.age: 2 values outside of the range from 0 to 120, the first in record 271",
        "columns.sex: 2 values that the study does not list, the first in record 271",
    ]
    refused = invoke("stats", "check", study, "--data", data)
    assert refused.exit_code == 1
    assert refused.stderr.splitlines()[1:] == [f"  {one}" for one in found["misfits"]]
    assert "13" not in refused.stderr.replace("record", "")


def test_nothing_of_a_study_is_hidden_as_markup(invoke: Any, study: Path) -> None:
    """People approve what they see."""
    hidden = STUDY.replace("how the command", "[black on black]everything[/]").replace("age < 90", "sex in [('male')]")
    study.write_text(hidden)
    shown = " ".join(invoke("stats", "check", study).stdout.split())
    assert "[black on black]everything[/]" in shown
    assert "[('male')]" in shown


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--data", "nowhere.csv"), "nowhere.csv: No such file or directory"),
        (("--separator", ";"), "no column 'AGE'"),
        (("--encoding", "klingon"), "encoding 'klingon' is unknown"),
        (("--decimal", "x"), "decimal 'x'"),
    ],
)
def test_what_cannot_be_read(invoke: Any, study: Path, data: Path, arguments: tuple[str, str], part: str) -> None:
    given = arguments if "--data" in arguments else ("--data", data, *arguments)
    refused = invoke("stats", "check", study, *given)
    assert refused.exit_code == 2
    assert part in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_study_that_is_none(invoke: Any, study: Path) -> None:
    study.write_text(STUDY.replace("age >= 18", "age >= eighteen"))
    refused = invoke("stats", "check", study)
    assert refused.exit_code == 2
    assert refused.stderr == (
        f"secagg stats check: {study}: filters, entry 1: 'age >= eighteen': the study has no column 'eighteen'\n"
    )


@pytest.mark.parametrize("module", ["pandas", "pyarrow", "simpleeval"])
def test_without_the_extra_it_says_what_to_install(run_process: Any, study: Path, data: Path, module: str) -> None:
    done = run_process("stats", "check", study, "--data", data, without=module)
    assert done.returncode == 2
    assert done.stdout == ""
    assert how_to_install("stats") in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_policy_is_asked_as_well(invoke: Any, invoke_json: Any, study: Path, data: Path, tmp_path: Path) -> None:
    own = tmp_path / "site.toml"
    own.write_text('columns = ["AGE", "sex"]\nmethods = ["describe", "crosstab"]\n')
    shown = invoke("stats", "check", study, "--data", data, "--policy", own)
    assert shown.exit_code == 0
    assert "The policy allows the study." in shown.stdout
    own.write_text('columns = ["AGE"]\nmethods = ["describe"]\n')
    code, found = invoke_json("stats", "check", study, "--policy", own)
    assert (code, found["fits"]) == (1, False)
    assert [one.split(":")[0] for one in found["misfits"]] == ["columns", "methods"]
    shown = invoke("stats", "check", study, "--policy", own)
    assert f"The policy {own} refuses the study 'Age and sex':" in shown.stderr
    own.write_text('columns = ["*"]\nmethods = ["*"]\nmin_records = 1000\n')
    assert "min_records" in invoke("stats", "check", study, "--data", data, "--policy", own).stderr


NOISE = "[release]\nmin_organisations = 5\n[noise]\nepsilon = 0.5\ndelta = 1e-7\ncolluders = 2\n"


def test_noise_is_said_in_words_and_by_sum(invoke: Any, invoke_json: Any, study: Path, data: Path) -> None:
    pytest.importorskip("dp_accounting")
    study.write_text(STUDY + NOISE)
    shown = invoke("stats", "check", study, "--data", data)
    assert shown.exit_code == 0
    said = " ".join(shown.stdout.split())
    assert "epsilon 0.5 at delta 1e-07, for all that is released in up to 2 rounds" in said
    assert "against the server with up to 2 organisations, since each sum has the noise of 3 or more others" in said
    assert "With 5 organisations in a sum" in said
    _, found = invoke_json("stats", "check", study, "--data", data)
    assert found["noise"] == {"epsilon": 0.5, "delta": 1e-7, "colluders": 2, "spare_rounds": 0, "rounds": 2}
    for one in found["rounds"]:
        assert one["noise"].keys() == one["arrays"].keys()
    first = found["rounds"][0]["noise"]
    # Sums of ages are 0 to 120 a record, and counts 1; both have the same part of the budget.
    assert first["ages/sum_age"] / first["ages/count_age"] == pytest.approx(120, rel=0.01)


def test_noise_that_a_method_cannot_have_is_refused(invoke: Any, study: Path) -> None:
    study.write_text(STUDY + '[methods.ends]\nmethod = "range"\nof = ["age"]\n' + NOISE)
    refused = invoke("stats", "check", study)
    assert refused.exit_code == 2
    assert "methods.ends: 'range' has no results that make sense with noise in its sums" in refused.stderr


def test_noise_needs_its_extra(invoke: Any, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from secagg.statistics import noise

    monkeypatch.setitem(sys.modules, "secagg.privacy.accounting", None)
    monkeypatch.delattr("secagg.privacy.accounting", raising=False)
    noise.multiplier.cache_clear()
    study.write_text(STUDY + NOISE)
    refused = invoke("stats", "check", study)
    assert refused.exit_code == 2
    assert "stats check: noise: " in refused.stderr
