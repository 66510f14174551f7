"""Federated training through the protocol."""

from __future__ import annotations

import json
from functools import partial

import numba
import numpy as np
import pytest
from rich.console import Console

from secagg import Encoder, ThreatModel
from secagg.cli import demo, demo_progress, federated
from secagg.simulation import Faults

PNG = b"\x89PNG\r\n\x1a\n"


def test_breast_cancer(invoke_json, tmp_path):
    picture = tmp_path / "picture.png"
    code, found = invoke_json("demo", "--data", "breast-cancer", "--rounds", 8, "--output", picture)
    assert code == 0
    assert found["picture"] == str(picture)
    assert picture.read_bytes().startswith(PNG)
    (run,) = found["data"].values()
    assert set(run) == {
        "ok", "abort", "clients", "parameters", "upload_bytes", "client_cpu_s", "start_accuracy", "rounds",
    }  # fmt: skip
    assert run["ok"] is True
    assert (run["clients"], run["parameters"], len(run["rounds"])) == (12, 62, 8)
    for done in run["rounds"]:
        assert 0 < done["max_error"] <= done["error_bound"] < 1e-3
        assert sum(done["lost"].values()) == 3
        assert done["lost"]["MASK"] >= 1
        before_sum = done["lost"]["ADVERTISE"] + done["lost"]["SHARE"] + done["lost"]["MASK"]
        assert done["included"] == 12 - before_sum
    last = run["rounds"][-1]["accuracy"]
    assert last["secure"] > 0.9 > run["start_accuracy"]
    assert last["secure"] == pytest.approx(last["plain"], abs=0.02)
    assert last["central"] > 0.9


def test_digits_in_active(invoke_json, tmp_path):
    code, found = invoke_json(
        "demo", "--data", "digits", "--rounds", 1, "--threat", "active", "--output", tmp_path / "picture.svg"
    )
    assert code == 0
    run = found["data"]["digits"]
    assert run["parameters"] == 650
    assert set(run["rounds"][0]["lost"]) == {"ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK"}
    assert run["rounds"][0]["accuracy"]["secure"] > 0.7


def test_both_data_sets_for_a_person(invoke, tmp_path):
    picture = tmp_path / "picture.png"
    shown = invoke("demo", "--rounds", 2, "--output", picture)
    assert shown.exit_code == 0
    assert "Breast cancer" in shown.stdout
    assert "digits" in shown.stdout
    assert str(picture) in shown.stdout.replace("\n", "")
    assert picture.read_bytes().startswith(PNG)


def test_it_says_what_it_does_from_the_start(invoke, tmp_path):
    """Where there is no terminal, as in a log: lines on standard error, and nothing else on standard output."""
    shown = invoke("demo", "--data", "breast-cancer", "--rounds", 8, "--output", tmp_path / "p.png", "--json")
    said = shown.stderr.splitlines()
    assert said[0] == "loading scikit-learn and its data"
    assert said[-4:] == [f"rounds with hospitals: {number} of 8" for number in (2, 4, 6, 8)]
    assert json.loads(shown.stdout)["data"]


def test_a_terminal_shows_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(demo_progress, "Console", partial(Console, force_terminal=True))
    assert list(demo_progress.shown("abc", "letters")) == ["a", "b", "c"]
    assert "letters" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_few_steps_are_all_counted_at_the_end(steps, capsys):
    assert list(demo_progress.shown(range(steps), "steps")) == list(range(steps))
    assert capsys.readouterr().err.splitlines()[-1] == f"steps: {steps} of {steps}"


def test_it_says_when_a_kernel_is_compiled_and_not_when_it_is_in_the_cache(capsys):
    never_seen = numba.njit(lambda value: value + 1)  # kept in memory alone
    with demo_progress.compiling_said():
        never_seen(1)
        never_seen(1.0)
    assert capsys.readouterr().err.count("compiling kernels") == 1
    with demo_progress.compiling_said():
        never_seen(2)
    assert capsys.readouterr().err == ""


def test_an_aggregate_beyond_its_bound_is_a_failure(invoke_json, tmp_path, monkeypatch):
    monkeypatch.setattr(Encoder, "error_bound", lambda self, count, weight: 1e-9)
    code, found = invoke_json("demo", "--data", "breast-cancer", "--rounds", 1, "--output", tmp_path / "p.png")
    assert code == 1
    assert found["data"]["breast-cancer"]["ok"] is False


def test_an_aborted_round_is_a_failure(invoke_json, tmp_path, monkeypatch):
    everybody = Faults(dict.fromkeys(range(11), "SHARE"))
    monkeypatch.setattr(demo._Training, "faults", lambda self, config, number: everybody)
    code, found = invoke_json("demo", "--data", "breast-cancer", "--rounds", 2, "--output", tmp_path / "p.png")
    assert code == 1
    assert found["data"]["breast-cancer"]["abort"]
    assert found["data"]["breast-cancer"]["rounds"] == []


@pytest.mark.parametrize("name", ["picture", "picture.xyz", "no/where.png"])
def test_a_picture_that_cannot_be_written_is_named(invoke, tmp_path, name):
    shown = invoke("demo", "--rounds", 1, "--output", tmp_path / name)
    assert shown.exit_code == 2
    assert str(tmp_path / name) in shown.stderr
    assert shown.stderr.splitlines()[-1].startswith("secagg demo: ")
    assert not (tmp_path / name).exists()


def test_the_plain_model_is_trained_on_its_own():
    problem = federated.load(federated.DataName.BREAST_CANCER, seed=0)
    training = demo._Training(problem, ThreatModel.SEMI_HONEST, seed=0)
    assert training.run(2).ok
    assert 0 < federated.difference(training.secure, training.plain) < 1e-3
    assert federated.difference(training.central, training.plain) > 1e-2


@pytest.mark.parametrize("name", list(federated.DataName))
def test_the_split_is_uneven_and_complete(name):
    problem = federated.load(name, seed=0)
    sizes = [len(samples) for samples in problem.clients]
    assert sum(sizes) == len(problem.pooled)
    assert min(sizes) >= 1
    assert max(sizes) <= problem.max_weight
    assert max(sizes) >= 5 * min(sizes)
    rows = np.concatenate([np.column_stack((samples.features, samples.labels)) for samples in problem.clients])
    pooled = np.column_stack((problem.pooled.features, problem.pooled.labels))
    assert np.array_equal(rows[np.lexsort(rows.T)], pooled[np.lexsort(pooled.T)])


def test_the_weighted_mean_is_weighted():
    one, two = {"w": np.array([1.0])}, {"w": np.array([4.0])}
    assert federated.weighted_mean([(one, 1), (two, 2)])["w"] == pytest.approx(3.0)
