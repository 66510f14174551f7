"""``secagg demo --attack``: plain averaging fails where the robust mean of secure groups holds."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from secagg import ParameterError
from secagg.cli import attack_demo, federated
from secagg.cli.poisoning import STRENGTHS, Poisoning
from secagg.pairwise.phases import ThreatModel
from secagg.robust import AttackName, Ballot, RuleName, Verdict, Vote
from secagg.simulation import Faults, simulate

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def same_groups(monkeypatch):
    """The same groups in every run of a test: who shares a group with whom moves an accuracy by a point.

    Groups follow from the round's draws and from its config, whose context has the model.  A last bit of the model
    differs from run to run where a matrix product is cut up among threads.
    """
    seeds, config = itertools.count(), attack_demo._AttackTraining.config
    monkeypatch.setattr(attack_demo, "simulate", lambda *given, **named: simulate(*given, seed=next(seeds), **named))
    monkeypatch.setattr(
        attack_demo._AttackTraining,
        "config",
        lambda self, number: config(self, number).replace(context=number.to_bytes(32, "big")),
    )


@pytest.mark.usefixtures("same_groups")
@pytest.mark.parametrize("share", [0.1, 0.2])
@pytest.mark.parametrize("attack", AttackName)
def test_plain_averaging_fails_where_the_robust_mean_holds(attack, share):
    problem = federated.load(federated.DataName.DIGITS, seed=0)
    poisoning = Poisoning.drawn(attack, share, len(problem.clients), seed=0)
    run = attack_demo.run(problem, ThreatModel.SEMI_HONEST, 15, 0, poisoning, RuleName.MIXED_GEOMETRIC_MEDIAN)
    assert run.ok
    last = run.rounds[-1]
    assert last.plain < 0.6
    assert last.robust > last.unattacked - 0.03
    first = {client for client, _ in run.ranking[: len(poisoning.attackers)]}
    assert len(first & poisoning.attackers) >= 0.75 * len(first)
    assert run.ranking[0][0] in poisoning.attackers
    assert max(done.poisoned for done in run.rounds) >= 3
    assert all(11 <= done.opened <= 13 for done in run.rounds), "two clients are lost, and a group with each at most"


@pytest.mark.usefixtures("same_groups")
@pytest.mark.parametrize(
    ("attack", "strength"),
    [(AttackName.SIGN, 3.0), (AttackName.BOOST, 3.0), (AttackName.LABELS, 5.0), (AttackName.LITTLE, 4.0)],
)
def test_attackers_that_know_the_norm_limit_are_left_out(attack, strength):
    """A fifth of the people stays below the limit, in half of the groups: no rule over one round's groups holds."""
    problem = federated.load(federated.DataName.DIGITS, seed=0)
    poisoning = Poisoning.drawn(attack, 0.2, len(problem.clients), 0, strength)
    run = attack_demo.run(
        problem, ThreatModel.SEMI_HONEST, 16, 0, poisoning, RuleName.MIXED_GEOMETRIC_MEDIAN, leave_out=True
    )
    assert run.ok
    last = run.rounds[-1]
    assert last.plain < 0.6
    assert last.robust > last.unattacked - 0.03
    assert max(done.poisoned for done in run.rounds[:5]) >= 5 > 1 >= last.poisoned
    assert len(set(run.left_out or ()) & poisoning.attackers) >= 7
    assert len(run.left_out or ()) <= 8
    assert (run.rounds[0].invited, run.rounds[0].groups) == (40, 13)
    assert (last.invited, last.groups) == (40 - len(run.left_out), (40 - len(run.left_out)) // 3)


def test_nobody_is_left_out_unless_asked_for(invoke, tmp_path):
    """In active, those who stay make a cohort with a directory of their own."""
    options = ("--attack", "boost", "--strength", 5, "--attackers", 0.2, "--data", "digits", "--rounds", 7)
    shown = invoke("demo", *options, "--leave-out", "--threat", "active", "--output", tmp_path / "p.png", "--json")
    assert shown.exit_code == 0, shown.stderr
    run = json.loads(shown.stdout)["data"]["digits"]
    assert run["strength"] == 5
    assert run["rounds"][-1]["invited"] < run["rounds"][0]["invited"] == 40
    assert set(run["left_out"]) & set(run["attackers"])
    shown = invoke("demo", *options[:-1], 1, "--output", tmp_path / "p.png", "--leave-out")
    assert "Left out because their updates" in shown.stdout
    assert "stood out: nobody" in " ".join(shown.stdout.split())


def test_as_json_in_active(invoke_json, tmp_path):
    picture = tmp_path / "picture.png"
    options = ("--attack", "boost", "--attackers", 0.2, "--rule", "median", "--data", "digits", "--rounds", 2)
    code, found = invoke_json("demo", *options, "--threat", "active", "--output", picture)
    assert code == 0
    assert picture.read_bytes().startswith(PNG)
    run = found["data"]["digits"]
    assert set(run) == {
        "ok", "abort", "clients", "attack", "attackers", "strength", "groups", "rule", "norm_limit", "start_accuracy",
        "rounds", "ranking", "left_out",
    }  # fmt: skip
    assert run["left_out"] is None
    assert (run["clients"], run["groups"], run["rule"], run["attack"]) == (40, 13, "median", "boost")
    assert len(run["attackers"]) == 8
    for done in run["rounds"]:
        assert 0 < done["max_error"] <= done["error_bound"] < 1e-3
        assert done["poisoned"] <= done["groups"] <= 13
    assert 36 <= len(run["ranking"]) <= 40, "those that were in a sum"


def test_ballots_drop_the_models_that_plain_groups_let_through(monkeypatch):
    """A fifth replaces the model: the rule without a norm limit is spoilt, and ballots keep the last good model."""
    monkeypatch.setattr(attack_demo, "NORM_LIMIT", 1e9)
    problem = federated.load(federated.DataName.DIGITS, seed=0)
    poisoning = Poisoning.drawn(AttackName.BOOST, 0.2, len(problem.clients), seed=0)

    def trained(**options):
        seeds = itertools.count()
        monkeypatch.setattr(
            attack_demo, "simulate", lambda *given, **named: simulate(*given, seed=next(seeds), **named)
        )
        return attack_demo.run(
            problem, ThreatModel.SEMI_HONEST, 8, 0, poisoning, RuleName.MIXED_GEOMETRIC_MEDIAN, **options
        )

    without, run = trained(), trained(ballots=True)
    assert run.ok
    counts = [done.ballot for done in run.rounds]
    assert all(count.is_right for count in counts)
    assert {Verdict.ACCEPTED, Verdict.DROPPED} == {count.verdict for count in counts}
    previous = run.start
    for done, count in zip(run.rounds, counts, strict=True):
        assert (done.robust == previous) == (count.verdict is Verdict.DROPPED)
        previous = done.robust
    assert run.rounds[-1].robust > without.rounds[-1].robust + 0.2
    assert all(done.ballot is None for done in without.rounds)


def test_a_count_that_is_wrong_is_a_failure(monkeypatch):
    problem = federated.load(federated.DataName.BREAST_CANCER, seed=0)
    poisoning = Poisoning.drawn(AttackName.SIGN, 0.1, len(problem.clients), seed=0)
    encode = Ballot.encode
    monkeypatch.setattr(Ballot, "encode", lambda ballot, vote: encode(ballot, Vote.OBJECT))
    run = attack_demo.run(problem, ThreatModel.SEMI_HONEST, 1, 0, poisoning, RuleName.MEDIAN, ballots=True)
    assert not run.ok
    assert run.abort is None


def test_an_aborted_ballot_is_a_failure(invoke_json, tmp_path, monkeypatch):
    calls = itertools.count()
    monkeypatch.setattr(
        attack_demo, "all_lost", lambda *_: Faults(dict.fromkeys(range(12), "SHARE") if next(calls) else {})
    )
    options = ("--attack", "sign", "--ballots", "--data", "breast-cancer", "--rounds", 1)
    code, found = invoke_json("demo", *options, "--output", tmp_path / "p.png")
    assert code == 1
    assert found["data"]["breast-cancer"]["abort"].startswith("ballot: ")


def test_ballots_for_a_person_and_as_json(invoke, invoke_json, tmp_path):
    options = ("--attack", "labels", "--ballots", "--data", "breast-cancer", "--rounds", 2)
    shown = invoke("demo", *options, "--output", tmp_path / "p.svg")
    assert shown.exit_code == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    assert "voted in one more secure sum of each group" in text
    code, found = invoke_json("demo", *options, "--output", tmp_path / "p.png")
    assert code == 0
    for done in found["data"]["breast-cancer"]["rounds"]:
        ballot = done["ballot"]
        assert ballot["objections"] <= ballot["voters"] <= ballot["counted_clients"] <= 12
        assert ballot["verdict"] in ("accepted", "dropped", "undecided")


def test_for_a_person(invoke, tmp_path):
    shown = invoke(
        "demo", "--attack", "labels", "--data", "breast-cancer", "--rounds", 2, "--output", tmp_path / "picture.svg"
    )
    text = " ".join(shown.stdout.split())
    assert shown.exit_code == 0, shown.stderr
    for said in ("1 attacker of 12 (labels)", "12 hospitals were drawn into 4 groups", "a hint, and no proof"):
        assert said in text, said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--attack", "boost", "--private"), "--private and --attack are two demos"),
        (("--ballots",), "--ballots: the clients vote on models that others may poison; give --attack too"),
        (("--leave-out",), "--leave-out belongs to --attack"),
        (("--strength", 2), "--strength belongs to --attack"),
        (("--attack", "boost", "--attackers", 0.01), "--attackers 0.01: of 12 clients that is nobody"),
    ],
)
def test_options_that_do_not_fit(invoke, tmp_path, options, said):
    shown = invoke("demo", *options, "--rounds", 1, "--output", tmp_path / "p.png")
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_an_aborted_round_is_a_failure(invoke_json, tmp_path, monkeypatch):
    monkeypatch.setattr(attack_demo, "all_lost", lambda *_: Faults(dict.fromkeys(range(12), "SHARE")))
    code, found = invoke_json(
        "demo", "--attack", "sign", "--data", "breast-cancer", "--rounds", 1, "--output", tmp_path / "p.png"
    )
    assert code == 1
    assert found["data"]["breast-cancer"]["abort"]


def test_attackers_send_what_the_attack_says():
    """Honest rows stay as they are, and every attack has a strength."""
    problem = federated.load(federated.DataName.BREAST_CANCER, seed=0)
    start = problem.start()
    honest = Poisoning(attack=AttackName.SIGN, attackers=frozenset(), strength=1.0).sent(problem, start, 0, 0)
    for attack in AttackName:
        poisoning = Poisoning.drawn(attack, 0.25, 12, seed=3)
        assert (len(poisoning.attackers), poisoning.strength) == (3, STRENGTHS[attack])
        sent = poisoning.sent(problem, start, 0, 0)
        differs = np.flatnonzero((sent != honest).any(axis=1))
        assert set(differs.tolist()) == poisoning.attackers
    with pytest.raises(ParameterError, match="that is nobody"):
        Poisoning.drawn(AttackName.SIGN, 0.0, 12, seed=3)


def test_an_update_is_flat_and_back():
    problem = federated.load(federated.DataName.BREAST_CANCER, seed=0)
    model = federated.trained(problem.start(), problem.clients[0], problem, np.random.default_rng(0))
    back = federated.shaped(federated.flat(model), model)
    assert all(np.array_equal(back[name], model[name]) for name in model)
