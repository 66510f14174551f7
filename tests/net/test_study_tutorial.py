"""The commands of the tutorial on studies, as its page has them: four terminals, and the curves of the pooled files."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import generate_outputs
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test

from secagg.statistics import Study
from tests.support.processes import free_port
from tests.support.rounds_of_processes import Start

PAGE = Path(__file__).parents[2] / "docs" / "statistics-tutorial.md"
HOSPITALS = ("ada", "ben", "cyd")


def commands(text: str) -> list[list[str]]:
    """The ``secagg`` commands of the page's consoles, in order, as lists of words."""
    consoles = [block.text for block in generate_outputs.blocks(text) if block.language == "console"]
    lines = [line for console in consoles for line in console.replace("\\\n", " ").splitlines()]
    return [shlex.split(line[2:], comments=True)[1:] for line in lines if line.startswith("$ secagg ")]


def test_the_page_as_it_stands_gives_the_pooled_curves(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text, port = PAGE.read_text(encoding="utf-8"), free_port()
    files = {block.info: block.text for block in generate_outputs.blocks(text) if "title=" in block.info}
    exec(compile(files[' title="make_files.py"'], "make_files.py", "exec"), {})
    Path("study.toml").write_text(files[' title="study.toml"'], encoding="utf-8")
    *prepare, serve, join = commands(text)
    assert [words[:2] for words in (serve, join)] == [["stats", "serve"], ["stats", "join"]]
    for number, words in enumerate(prepare):
        assert start(f"prepare{number}", *words).wait() == 0
    server = start("server", *serve, "--port", port)
    server.await_log("listening")
    words = [word.replace("8443", str(port)) for word in join]
    sites = [start(name, *(word.replace("ada.", f"{name}.") for word in words), "--yes") for name in HOSPITALS]
    assert [one.wait() for one in (server, *sites)] == [0, 0, 0, 0]
    check_report(tmp_path)


def check_report(folder: Path) -> None:
    found = json.loads((folder / "report" / "results.json").read_text())["methods"]["survival"]
    pooled = pd.concat(pd.read_csv(folder / f"{name}.csv") for name in HOSPITALS)
    assert found["records"] == len(pooled)
    for group, values in found["values"]["groups"].items():
        own = pooled[pooled["group"] == group]
        times = values["curve"]["time"]
        fitted = KaplanMeierFitter().fit(own["days"], own["died"]).survival_function_at_times(times)
        assert values["curve"]["survival"] == pytest.approx(fitted.to_numpy(), rel=1e-12)
    wanted = multivariate_logrank_test(pooled["days"], pooled["group"], pooled["died"])
    assert found["values"]["log_rank"]["p"] == pytest.approx(wanted.p_value, rel=1e-11)
    assert (folder / "report" / "survival.png").read_bytes().startswith(b"\x89PNG")
    study = Study.load(folder / "study.toml")
    page = (folder / "report" / "report.html").read_text(encoding="utf-8")
    assert study.name in page
