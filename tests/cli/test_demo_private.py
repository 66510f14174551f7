"""Federated training with noise: accuracy against epsilon."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.cli import federated, private_demo
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.privacy import accounting
from secagg.simulation import Faults

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def few(monkeypatch):
    """Two epsilons: one that costs nearly nothing, and one that leaves nothing."""
    monkeypatch.setattr(private_demo, "EPSILONS", (0.05, 300.0))


@pytest.mark.usefixtures("few")
def test_accuracy_falls_with_epsilon_and_both_kinds_of_noise_agree(invoke_json, tmp_path):
    picture = tmp_path / "picture.png"
    options = ("--data", "digits", "--rounds", 4, "--output", picture)
    code, found = invoke_json("demo", "--private", *options)
    assert code == 0
    assert picture.read_bytes().startswith(PNG)
    run = found["data"]["digits"]
    assert set(run) == {
        "ok", "delta", "clients", "honest", "parameters", "clip", "rounds", "no_noise", "levels", "aborted",
    }  # fmt: skip
    assert (run["clients"], run["honest"], run["rounds"], run["aborted"]) == (40, 40 - 10 - 8, 4, None)
    strict, loose = run["levels"]
    for level in (strict, loose):
        assert level["reached_epsilon"] < level["epsilon"]
        assert level["wrapped_share"] < 0.01
        wanted = accounting.gaussian_multiplier(level["epsilon"], private_demo.DELTA, 4)
        assert level["noise_multiplier"] == pytest.approx(wanted, rel=0.01)
    assert strict["distributed"] < 0.5 > strict["central"]
    assert run["no_noise"] > 0.88
    assert loose["distributed"] == pytest.approx(run["no_noise"], abs=0.05)
    assert loose["central"] == pytest.approx(run["no_noise"], abs=0.05)


@pytest.mark.usefixtures("few")
def test_for_a_person_in_active(invoke, tmp_path):
    picture = tmp_path / "picture.svg"
    shown = invoke(
        "demo", "--private", "--data", "breast-cancer", "--threat", "active", "--rounds", 2, "--output", picture
    )
    text = " ".join(shown.stdout.split())
    assert shown.exit_code == 0, shown.stderr
    for said in ("epsilon", "trusted server", "12 hospitals", "7 honest clients", "at delta 1e-05"):
        assert said in text, said


@pytest.mark.usefixtures("few")
def test_an_aborted_round_is_a_failure(invoke, invoke_json, tmp_path, monkeypatch):
    monkeypatch.setattr(private_demo, "all_lost", lambda *_: Faults(dict.fromkeys(range(11), "SHARE")))
    monkeypatch.setattr(private_demo._PrivateTraining, "in_the_clear", lambda self, _: lambda *_: self.problem.start())
    options = ("demo", "--private", "--data", "breast-cancer", "--rounds", 1, "--output", tmp_path / "p.png")
    code, found = invoke_json(*options)
    assert code == 1
    assert found["data"]["breast-cancer"]["aborted"]
    assert found["data"]["breast-cancer"]["levels"] == []
    assert "ABORTED" in invoke(*options).stdout


def test_who_is_lost_is_the_same_for_every_epsilon_and_never_more_than_planned():
    problem = federated.load(federated.DataName.BREAST_CANCER, seed=0)
    training = private_demo._PrivateTraining(problem, ThreatModel.SEMI_HONEST, 20, 3, gamma=0.2, delta=0.25)
    for faults in training.faults:
        included = [client for client in range(12) if faults.delivers(client, Phase.MASK)]
        assert training.config.min_survivors == 9 <= len(included) < 12
    assert len({tuple(faults.fates) for faults in training.faults}) > 1


# Learning.


def test_an_update_is_shortened_as_a_whole():
    update = {"weight": np.full((3, 4), 2.0), "bias": np.full(4, 2.0)}
    assert federated.norm(update) == pytest.approx(8)
    short = federated.shortened(update, 2.0)
    assert federated.norm(short) == pytest.approx(2)
    assert short["bias"] == pytest.approx(np.full(4, 0.5))
    assert federated.shortened(update, 8.1) is update


def test_the_trusted_servers_noise_is_on_the_sum():
    updates = [{"w": np.full(40_000, 0.01)}, {"w": np.zeros(40_000)}]
    plain = federated.noisy_mean(updates, 1.0, 0.0, np.random.default_rng(0))
    assert plain["w"] == pytest.approx(np.full(40_000, 0.5 / 200))  # of norm 2, shortened to 1
    noisy = federated.noisy_mean(updates, 1.0, 6.0, np.random.default_rng(0))
    assert np.std(noisy["w"]) == pytest.approx(3.0, rel=0.02)


def test_training_averages_what_it_is_given():
    problem = federated.load(federated.DataName.BREAST_CANCER, seed=0)
    calls = []

    def mean_of(number, update_of):
        calls.append(number)
        return federated.weighted_mean((update_of(client), 1) for client in range(12))

    reached = federated.train(problem, 3, mean_of, seed=0)
    assert calls == [0, 1, 2]
    assert len(reached) == 4
    assert reached[0] < 0.5 < 0.88 < reached[-1]
    still = federated.train(problem, 2, lambda number, update_of: problem.start(), seed=0)
    assert still[0] == still[-1]
