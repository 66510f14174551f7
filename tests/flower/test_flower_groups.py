"""Rounds with groups over Flower: robust rules, and strategies that compare replies, get the means of groups alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from secagg import Policy
from secagg.adapters.flower import Batches, SecAggMod, SecAggStrategy
from secagg.errors import ParameterError
from secagg.privacy import Privacy
from secagg.robust import LeaveOut, robust_mean
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, record_of
from tests.support.flower_setup import averaging, members, one_round

NODES, GROUPS = 13, 4
ATTACKER = 107
GROUPED: dict[str, Any] = {
    "clip": 1.0, "max_weight": None, "gamma": 0.0, "delta": 0.05, "groups": GROUPS,
}  # fmt: skip
ALLOWED = SecAggMod(policy=Policy(max_groups=None))


def zeros() -> Arrays:
    return {"weight": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}


def change_of(node: int) -> Arrays:
    """What a node's training changes: about 0.1 everywhere, and the attacker's is the clip, the other way."""
    noise = np.random.default_rng(node)
    return {
        name: np.float32(-5.0 if node == ATTACKER else 0.1) + noise.normal(0, 0.01, part.shape).astype(np.float32)
        for name, part in zeros().items()
    }


def train(message: Message, context: Any) -> Message:
    arrays = arrays_of(message.content.array_records["arrays"])
    update = {name: arrays[name] + change for name, change in change_of(context.node_id).items()}
    metrics = MetricRecord({"num-examples": 10, "loss": float(context.node_id - 100)})
    return Message(RecordDict({"arrays": record_of(update), "metrics": metrics}), reply_to=message)


def grid_of(mod: Any = ALLOWED, nodes: int = NODES) -> MemoryGrid:
    app = ClientApp()
    app.train(mods=[mod])(train)
    app.evaluate()(App().evaluate)
    return MemoryGrid(app, nodes)


def group_means_of(strategy: SecAggStrategy) -> Arrays:
    """The plain mean of each group's clipped changes, by array: shape (groups, ...)."""
    report = strategy.reports[1]
    assert report.groups is not None
    clipped = {node: {name: part.clip(-1, 1) for name, part in change_of(node).items()} for node in grid_of().nodes}
    members = [[report.nodes[index] for index in group.members] for group in report.groups.groups]
    return {
        name: np.array([np.mean([clipped[node][name] for node in group], axis=0) for group in members])
        for name in zeros()
    }


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_a_robust_rule_gets_the_means_of_groups(threat_model: str, tmp_path: Path) -> None:
    mod, options = ALLOWED, dict(GROUPED)
    if threat_model == "active":
        options |= {"directory": members(tmp_path, NODES), "run_config": {}}
        mod = SecAggMod(
            identity=lambda context: tmp_path / f"{context.node_id}.json",
            directory=tmp_path / "cohort.json",
            tokens=lambda context: tmp_path / f"{context.node_id}.sqlite",
            policy=Policy(max_groups=None),
        )
    strategy = SecAggStrategy(averaging(), threat_model=threat_model, robust="median", **options)
    mean = one_round(strategy, grid_of(mod), zeros())
    report = strategy.reports[1]
    assert mean is not None, report.failure
    assert report.groups is not None
    assert [group.number for group in report.groups.groups] == list(range(GROUPS))
    assert report.contributors == len(report.included) == NODES
    for name, means in group_means_of(strategy).items():
        assert np.abs(mean[name] - np.median(means, axis=0)).max() <= report.error_bound + 1e-6
    (worst,) = report.groups.standing_out
    assert ATTACKER in [report.nodes[index] for index in worst.members]


@pytest.mark.parametrize("rule", ["mean", "trimmed-mean", "geometric-median"])
def test_other_rules_and_losses(rule: str) -> None:
    strategy = SecAggStrategy(averaging(), robust=rule, **GROUPED)
    grid = grid_of()
    grid.mute = {("MASK", 102)}
    mean = one_round(strategy, grid, zeros())
    report = strategy.reports[1]
    assert mean is not None
    assert report.groups is not None
    means = group_means_of(strategy)
    counts = [len(group.members) for group in report.groups.groups]
    whole = robust_mean(np.hstack([means[name].reshape(len(counts), -1) for name in zeros()]), counts, rule)
    found = np.concatenate([mean[name].ravel() for name in zeros()])
    assert np.abs(found - whole).max() <= 3 * report.error_bound + 1e-5
    lost = {report.nodes[index] for index in range(NODES)} - {report.nodes[index] for index in report.included}
    assert 102 in lost


STRATEGIES: dict[str, tuple[Callable[[], Strategy], Callable[[Any], Any]]] = {
    "FedMedian": (lambda: flower.FedMedian(min_train_nodes=3), lambda means: np.median(means, axis=0)),
    "FedAvg": (averaging, lambda means: None),
    "FedTrimmedAvg": (lambda: flower.FedTrimmedAvg(min_train_nodes=3, beta=0.3), lambda means: None),
    "Krum": (lambda: flower.Krum(min_train_nodes=3, num_malicious_nodes=1), lambda means: None),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_gets_a_reply_for_each_group(name: str) -> None:
    made, expected = STRATEGIES[name]
    strategy = SecAggStrategy(made(), metrics={"loss": 20.0}, **GROUPED)
    mean = one_round(strategy, grid_of(), zeros())
    assert mean is not None
    report = strategy.reports[1]
    for array, means in group_means_of(strategy).items():
        if (found := expected(means)) is not None:
            assert np.abs(mean[array] - found).max() <= report.error_bound + 1e-6
        if name == "FedTrimmedAvg":
            assert np.abs(mean[array] - np.sort(means, axis=0)[1:-1].mean(axis=0)).max() <= report.error_bound + 1e-6
        assert np.abs(mean[array] - 0.1).max() < (1.0 if name == "FedAvg" else 0.2)
    assert report.metrics["loss"] == pytest.approx(np.mean(range(NODES)) + 1, abs=2)


def test_scores_find_a_constant_attacker() -> None:
    strategy = SecAggStrategy(averaging(), robust="median", **GROUPED)
    grid = grid_of()
    rounds_of(strategy, grid, 12)
    assert strategy.scores.rounds == 12
    assert strategy.scores.ranking()[0].client == str(ATTACKER)


def rounds_of(strategy: SecAggStrategy, grid: MemoryGrid, rounds: int) -> None:
    """Train so many rounds from the same model; nodes forget that they have seen it."""
    for server_round in range(1, rounds + 1):
        messages = list(
            strategy.configure_train(server_round, record_of(zeros()), ConfigRecord({"round": server_round}), grid)
        )
        strategy.aggregate_train(server_round, grid.send_and_receive(messages))
        for context in grid.contexts:
            grid.contexts[context] = grid_of().contexts[context]


def test_a_node_that_stands_out_is_no_longer_invited() -> None:
    strategy = SecAggStrategy(averaging(), robust="median", leave_out=LeaveOut(at_most=2), **GROUPED)
    grid = grid_of()
    rounds_of(strategy, grid, 8)
    assert strategy.exclusions is not None
    assert str(ATTACKER) in strategy.exclusions.names
    reports = strategy.reports
    assert not any(reports[number].left_out for number in (1, 2, 3, 4)), "four rounds have 16 means for 13 nodes"
    last = reports[8]
    assert last.left_out == tuple(sorted(int(name) for name in strategy.exclusions.names))
    assert not last.failure
    assert len(last.nodes) == NODES - len(last.left_out)
    assert ATTACKER not in last.nodes.values()
    assert last.groups is not None
    assert len(last.groups.groups) == 3, "groups stay as large, so that there are fewer"


def test_nobody_is_left_out_unless_asked_for() -> None:
    strategy = SecAggStrategy(averaging(), robust="median", **GROUPED)
    rounds_of(strategy, grid_of(), 8)
    assert strategy.exclusions is None
    assert all(len(report.nodes) == NODES and not report.left_out for report in strategy.reports.values())


@pytest.mark.parametrize("lower_bound", ["strategy", "config"])
def test_a_round_is_never_too_small_for_those_left_out(lower_bound: str, caplog: pytest.LogCaptureFixture) -> None:
    """The fewest survivors of the round's config, and the strategy's own minimum, both bring nodes back."""
    wrapped, options = averaging(), dict(GROUPED)
    if lower_bound == "strategy":
        wrapped.min_train_nodes = NODES
    else:
        options |= {"min_survivors": NODES}
    leave_out = LeaveOut(at_most=1, already=(str(ATTACKER),))
    strategy = SecAggStrategy(wrapped, robust="median", leave_out=leave_out, **options)
    rounds_of(strategy, grid_of(), 1)
    assert not strategy.reports[1].failure
    assert len(strategy.reports[1].nodes) == NODES
    assert strategy.reports[1].left_out == ()
    assert f"too few nodes without them: nodes {ATTACKER}" in caplog.text


def test_an_automatic_number_of_groups_bears_the_attackers_that_are_left() -> None:
    options = GROUPED | {"groups": "auto", "attackers": 2, "robust_bits": 1}
    already = (str(ATTACKER), "103")
    strategy = SecAggStrategy(averaging(), robust="median", leave_out=LeaveOut(at_most=2, already=already), **options)
    rounds_of(strategy, grid_of(), 1)
    assert strategy.reports[1].left_out == (103, ATTACKER)
    assert not strategy.reports[1].failure


def test_a_node_that_was_not_told_of_groups_takes_no_part() -> None:
    strategy = SecAggStrategy(averaging(), robust="median", **GROUPED)
    assert one_round(strategy, grid_of(SecAggMod()), zeros()) is None
    assert "refuse a round whose config" in strategy.reports[1].failure


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"robust": "median"}, "give groups="),
        ({"groups": 4, "robust": "mode"}, "must be one of mean, median"),
        ({"groups": 4, "norm_limit": 2.0}, "belongs to a rule"),
        ({"groups": 4, "privacy": Privacy(epsilon=4, delta=1e-6, rounds=1, clip=1.0)}, "leave one out"),
        ({"groups": 4, "batches": Batches(size=4, per_round=3)}, "leave one out"),
        ({"leave_out": LeaveOut(at_most=1)}, "leave_out is about groups"),
        ({"groups": 4, "leave_out": LeaveOut(at_most=1), "threat_model": "active"}, "leave_out, in active"),
    ],
)
def test_what_does_not_go_with_groups(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        SecAggStrategy(averaging(), **({"clip": 1.0, "max_weight": None} | options))


@pytest.mark.parametrize("strategy", [flower.FedMedian(), flower.FedTrimmedAvg(), flower.Krum(num_malicious_nodes=1)])
def test_strategies_that_compare_replies_need_groups(strategy: Strategy) -> None:
    with pytest.raises(ParameterError, match="give SecAggStrategy groups="):
        SecAggStrategy(strategy, clip=1.0, max_weight=None)
