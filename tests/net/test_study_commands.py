"""``secagg stats serve`` and ``secagg stats join`` as people run them: three files, a report each, exit codes."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from secagg import ErrorCode, Identity, PeerError, save_directory
from secagg.cli.app import app
from secagg.cli.join_run import JoinOutcome, to_the_end
from tests.support.processes import free_port
from tests.support.rounds_of_processes import Start

STUDY = """
name = "Ages"
[columns.age]
type = "number"
min = 0
max = 120
[methods.ages]
method = "describe"
of = ["age"]
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A study, three sites' records and identities, and the directory of them."""
    (tmp_path / "study.toml").write_text(STUDY)
    members = []
    for number, name in enumerate(("ada", "bea", "cem")):
        pd.DataFrame({"age": range(20 + number, 80 + number)}).to_csv(tmp_path / f"{name}.csv", index=False)
        identity = Identity.generate()
        members.append((name, identity.public_key))
        content = {"name": name, "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    save_directory(tmp_path / "cohort.json", members)
    return tmp_path


def test_three_files_a_directory_and_a_report_each(start: Start, files: Path) -> None:
    port = free_port()
    server = start(
        "server",
        *("stats", "serve", "study.toml", "--directory", "cohort.json", "--demo-cert", "tls", "--port", port),
        *("--output", "report", "--json"),
    )
    server.await_log("listening")
    sites = [
        start(
            name,
            *("stats", "join", f"wss://localhost:{port}/default", "--ca", "tls/server.pem", "--study", "study.toml"),
            *("--data", f"{name}.csv", "--identity", f"{name}.json", "--directory", "cohort.json", "--yes"),
            *("--output", f"report-{name}", "--json"),
        )
        for name in ("ada", "bea", "cem")
    ]
    assert [site.wait() for site in sites] == [0, 0, 0]
    assert server.wait() == 0
    pooled = pd.concat([pd.read_csv(files / f"{name}.csv") for name in ("ada", "bea", "cem")])["age"]
    found = server.result()
    assert found["methods"]["ages"]["values"]["age"]["mean"] == pytest.approx(pooled.mean(), rel=1e-12)
    assert found["methods"]["ages"]["sites"] == ["ada", "bea", "cem"]
    assert [site.result() for site in sites] == [found] * 3
    for folder in ("report", "report-ada", "report-bea", "report-cem"):
        assert json.loads((files / folder / "results.json").read_text()) == found


def test_whoever_does_not_say_yes_sends_nothing(start: Start, files: Path) -> None:
    join = ("stats", "join", f"wss://localhost:{free_port()}/default", "--study", "study.toml")
    site = start("ada", *join, "--data", "ada.csv")
    assert site.wait() == 2
    assert "there is no terminal to ask at" in site.log.read_text()
    (files / "site.toml").write_text('columns = ["income"]\nmethods = ["*"]\n')
    unwilling = start("unwilling", *join, "--data", "ada.csv", "--yes", "--policy", "site.toml")
    assert unwilling.wait() == 4
    assert "your rules refuse the study, and nothing was sent: columns:" in unwilling.log.read_text()
    (files / "old.csv").write_text("age\n20\n130\n")
    unfit = start("old", *join, "--data", "old.csv", "--yes")
    assert unfit.wait() == 1
    assert "the data do not fit the study, and nothing was sent" in unfit.log.read_text()


@pytest.mark.parametrize("command", ["serve", "join"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_connected(
    files: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(files)
    (files / "taken").write_text("a file")
    join = ["join", "wss://localhost:1/default", "--study", "study.toml", "--data", "ada.csv", "--yes"]
    given = join if command == "join" else ["serve", "study.toml", "--directory", "cohort.json", "--journal", "j.csv"]
    for output, why in (
        ("taken", "taken is no directory; name another one"),
        ("taken/report", "taken is no directory; name another one"),
        (".", f"the report could replace {'ada.csv' if command == 'join' else 'j.csv'}"),
    ):
        found = CliRunner().invoke(app, ["stats", *given, "--output", output])
        assert found.exit_code == 2
        assert why in " ".join(found.output.split())
    assert not (files / "j.csv").exists()


def test_hints_name_options_of_the_command() -> None:
    """A study's member has fewer options than one that brings a file."""
    for met, refused in (
        ("config has threat_model semi_honest", "--threat-model of secagg stats join sets what it accepts"),
        ("config has min_survivors 2", "no option of secagg stats join changes that"),
    ):
        assert (
            hint_of(met) == f"secagg stats join: refused what the server sent: {met}; {refused} (config-below-policy)"
        )


def hint_of(met: str) -> str:
    def refuses() -> None:
        raise PeerError(ErrorCode.CONFIG_BELOW_POLICY, met)

    with redirect_stderr(StringIO()) as said:
        ended = to_the_end(refuses, Path("state"), "stats join")
    assert isinstance(ended, JoinOutcome)
    assert ended.exit_code == 4
    return said.getvalue().strip()


NOISY = """
name = "Ages"
[columns.age]
type = "whole"
min = 0
max = 120
[methods.ages]
method = "histogram"
of = "age"
bins = 11
[noise]
epsilon = 1.0
delta = 1e-6
"""


def test_noise_is_charged_to_the_budgets_of_both_sides(start: Start, files: Path) -> None:
    pytest.importorskip("dp_accounting")
    (files / "study.toml").write_text(NOISY)
    own = ("--epsilon", "1.5", "--delta", "1e-6")
    port = free_port()
    server = start(
        "server",
        *("stats", "serve", "study.toml", "--directory", "cohort.json", "--demo-cert", "tls", "--port", port, "--json"),
        *("--budget", "server.budget", *own),
    )
    server.await_log("listening")
    join = ("stats", "join", f"wss://localhost:{port}/default", "--ca", "tls/server.pem", "--study", "study.toml")
    sites = [
        start(
            name,
            *(*join, "--data", f"{name}.csv", "--identity", f"{name}.json", "--directory", "cohort.json", "--yes"),
            *(("--budget", "ada.budget", *own) if name == "ada" else ()),
        )
        for name in ("ada", "bea", "cem")
    ]
    assert [one.wait() for one in (*sites, server)] == [0, 0, 0, 0]
    privacy = server.result()["privacy"]
    assert privacy["promised"] == 1.0
    assert 0.9 < privacy["reached"] <= 1.0
    for one, budget in ((server, "server.budget"), (sites[0], "ada.budget")):
        said = one.log.read_text()
        assert f"{budget}: epsilon 1 of 1.5 at delta 1e-06 is spent, over 1 round." in said
    assert "epsilon 1 at delta 1e-06, for all that is released in up to 1 round." in " ".join(
        sites[0].log.read_text().split()
    )
    poor = start(
        "poor", *join, "--data", "bea.csv", "--yes", "--budget", "poor.budget", "--epsilon", "0.5", "--delta", "1e-6"
    )
    assert poor.wait() == 4
    assert "nothing was sent: poor.budget: epsilon 0 of 0.5 at delta 1e-06 is spent; the study may have 1 round" in (
        poor.log.read_text()
    )
