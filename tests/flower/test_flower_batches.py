"""Batches of nodes: rounds invite whole ones, and no sum is opened that earlier ones could take apart."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

from secagg import ParameterError
from secagg.adapters.flower import Batches, SecAggStrategy
from secagg.differencing import DifferenceLedger
from tests.support.flower_grid import CLIPS, MemoryGrid, model, record_of
from tests.support.flower_setup import make, with_node_config

NODES = 12


def batched(tmp_path: Path, threat_model: str = "semi_honest", **batches: Any) -> tuple[SecAggStrategy, MemoryGrid]:
    given = Batches(**({"size": 4, "per_round": 2, "min_difference": 2} | batches))
    return make(threat_model, tmp_path, NODES, batches=given, delta=0.35)


def rounds(strategy: SecAggStrategy, grid: MemoryGrid, *numbers: int) -> list[list[int]]:
    """The nodes in the sum of each round; none for a round without one."""
    included = []
    for number in numbers:  # a client trains no model twice
        messages = strategy.configure_train(number, record_of(model(number)), ConfigRecord(), grid)
        strategy.aggregate_train(number, grid.send_and_receive(messages))
        report = strategy.reports[number]
        included.append(sorted(report.nodes[index] for index in report.included))
    return included


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_batches_stay_together_over_rounds(threat_model: str, tmp_path: Path) -> None:
    strategy, grid = batched(tmp_path, threat_model, ledger=tmp_path / "nodes.ledger")
    summed = rounds(strategy, grid, *range(1, 6))
    assert all(len(nodes) == 8 for nodes in summed)
    ledger = DifferenceLedger(tmp_path / "nodes.ledger", "flower nodes")
    assert {len(members) % 4 for members in ledger.classes().members()} == {0}
    assert ledger.rounds() == len(set(map(tuple, summed)))


def test_a_lost_node_of_an_earlier_sum_costs_the_round(tmp_path: Path) -> None:
    strategy, grid = batched(tmp_path, per_round=3)
    assert rounds(strategy, grid, 1) == [grid.nodes]
    grid.mute = {("MASK", 104)}
    assert rounds(strategy, grid, 2) == [[]]
    assert "the sum must not be opened" in strategy.reports[2].failure
    assert "to tell of 104 alone: at least 2 must always be in and out together" in strategy.reports[2].failure
    grid.mute = {("MASK", 104), ("MASK", 107)}
    assert rounds(strategy, grid, 3) == [[node for node in grid.nodes if node not in (104, 107)]]


def test_a_node_that_is_lost_at_first_waits_for_others(tmp_path: Path) -> None:
    """Eleven are two whole batches from then on, and the twelfth is too few for a batch."""
    strategy, grid = batched(tmp_path, per_round=3)
    grid.mute = {("MASK", 104)}
    rest = [node for node in grid.nodes if node != 104]
    assert rounds(strategy, grid, 1) == [rest]
    grid.mute = set()
    assert rounds(strategy, grid, 2) == [rest]


def test_the_strategy_waits_for_whole_batches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As it waits for nodes; the warning comes once."""
    strategy, grid = batched(tmp_path)
    everybody, grid.nodes = grid.nodes, grid.nodes[:7]
    timer = threading.Timer(1.2, lambda: setattr(grid, "nodes", everybody))
    timer.start()
    with caplog.at_level("WARNING", logger="flwr"):
        (summed,) = rounds(strategy, grid, 1)
    timer.join()
    assert len(summed) == 8
    warnings = [line for line in caplog.messages if "waiting for more nodes" in line]
    assert len(warnings) == 1
    assert "7 connected nodes, 7 of them in whole batches, and a round invites 2 batches of 4 or more" in warnings[0]


def test_a_strategy_that_splits_batches_is_told(tmp_path: Path) -> None:
    half = FedAvg(fraction_train=0.5, min_train_nodes=3, min_available_nodes=3)
    options: dict[str, Any] = {"clip": 1.0, "clips": CLIPS, "max_weight": 500, "delta": 0.35}
    strategy = SecAggStrategy(half, batches=Batches(size=4, per_round=2), **options)
    _, grid = make("semi_honest", tmp_path, NODES)
    with pytest.raises(ParameterError, match=r"invites 4 nodes of the 8 that are whole batches.*fraction_train=1\.0"):
        strategy.configure_train(1, record_of(model()), ConfigRecord(), grid)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"size": 1}, "size = 1: it must be a whole number from 2 on"),
        ({"per_round": 0}, "per_round = 0: it must be a whole number from 1 on"),
        ({"min_difference": 5}, "min_difference = 5: it must be from 2 to size = 4"),
        ({"min_difference": 1}, "min_difference = 1: it must be from 2 to size = 4"),
    ],
)
def test_numbers_that_keep_nothing_apart(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Batches(**({"size": 4, "per_round": 2} | numbers))


def test_members_withhold_what_opens_a_sum_that_lays_one_bare(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each by its own ledger, whatever the server keeps."""
    strategy, grid = make("active", tmp_path, 8, delta=0.25, gamma=0.125)
    for node in grid.nodes:
        with_node_config(grid, node, sums=str(tmp_path / f"{node}.sums"), min_difference=2, gamma=0.125)
    assert rounds(strategy, grid, 1) == [grid.nodes]
    grid.mute = {("MASK", 104)}
    assert rounds(strategy, grid, 2) == [[]]
    assert "this client leaves the round: the ledger of 'updates'" in caplog.text
    assert "to tell of 104 alone" in caplog.text
    grid.mute = {("MASK", 104), ("MASK", 107)}
    assert len(rounds(strategy, grid, 3)[0]) == 6


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"sums": "s"}, "give secagg-identity and secagg-directory with secagg-sums"),
        ({"min_difference": 1}, "node config secagg-min-difference is 1: a whole number from 2 on"),
    ],
)
def test_a_node_config_that_keeps_nothing_apart(config: dict[str, Any], told: str, tmp_path: Path) -> None:
    strategy, grid = make("semi_honest", tmp_path)
    with_node_config(grid, 101, **config)
    strategy.configure_train(1, record_of(model()), ConfigRecord(), grid)
    assert [told in reply.error.reason for _, reply in grid.replies if reply.has_error()] == [True]
