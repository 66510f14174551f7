"""Strategies and grids with ordinary clients, in both threat models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp.strategy import FedAvg

import secagg
from secagg.adapters.flower import SecAggMod, SecAggStrategy, secagg_mod
from tests.support.flower_grid import (
    CLIPS,
    App,
    Arrays,
    MemoryGrid,
    arrays_of,
    context_bytes,
    context_of,
    plain_mean,
    record_of,
)

NODES = 8
ODD = 103
"""The node that something happens to."""

PHASES = {"semi_honest": ["ADVERTISE", "SHARE", "MASK", "UNMASK"]}
PHASES["active"] = [*PHASES["semi_honest"][:3], "CONFIRM", "UNMASK"]


def averaging(**options: Any) -> FedAvg:
    return FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3, **options)


def make(threat_model: str, directory: Path, nodes: int = NODES, **options: Any) -> tuple[SecAggStrategy, MemoryGrid]:
    """A strategy around FedAvg and a grid of ordinary clients, with identities in ``active``."""
    mod = secagg_mod
    if threat_model == "active":
        options |= {"directory": members(directory, nodes), "run_config": {}}
        mod = SecAggMod(
            identity=lambda context: directory / f"{context.node_id}.json",
            directory=directory / "cohort.json",
            tokens=lambda context: directory / f"{context.node_id}.sqlite",
        )
    options = {"clip": 1.0, "clips": CLIPS, "max_weight": 500, "gamma": 0.2, "delta": 0.25} | options
    return SecAggStrategy(averaging(), threat_model=threat_model, **options), MemoryGrid(App(mod).app, nodes)


def members(directory: Path, nodes: int) -> Path:
    """Identity files of nodes 101 .., and the directory of all, in another order than the nodes'."""
    identities = {101 + number: secagg.Identity.generate() for number in range(nodes)}
    for node, identity in identities.items():
        secagg_file = directory / f"{node}.json"
        secagg_file.write_text(
            f'{{"private_key": "{identity.seed().hex()}", "key": "{identity.public_key.hex()}"}}', encoding="utf-8"
        )
    listed = [(str(node), identity.public_key) for node, identity in reversed(identities.items())]
    secagg.save_directory(directory / "cohort.json", listed)
    return directory / "cohort.json"


def one_round(strategy: SecAggStrategy, grid: MemoryGrid, arrays: Arrays) -> Arrays | None:
    messages = strategy.configure_train(1, record_of(arrays), ConfigRecord(), grid)
    mean, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    return None if mean is None else arrays_of(mean)


def secure(**options: Any) -> SecAggStrategy:
    return SecAggStrategy(averaging(), **({"clip": 1.0, "clips": CLIPS, "max_weight": 500} | options))


def others(grid: MemoryGrid) -> list[int]:
    return [node for node in grid.nodes if node != ODD]


def with_node_config(grid: MemoryGrid, node: int, **config: Any) -> None:
    context = context_of(grid.contexts[node])
    context.node_config = {
        **context.node_config,
        **{f"secagg-{key.replace('_', '-')}": value for key, value in config.items()},
    }
    grid.contexts[node] = context_bytes(context)


def assert_mean(strategy: SecAggStrategy, mean: Arrays | None, arrays: Arrays, nodes: list[int]) -> None:
    """The plain mean over these nodes: up to quantisation, and up to the cast to the model's own type."""
    assert mean is not None
    report = strategy.reports[1]
    assert sorted(report.nodes[index] for index in report.included) == nodes
    assert mean.keys() == arrays.keys()
    for name, expected in plain_mean(arrays, nodes).items():
        bound = report.error_bound * (CLIPS["*.batches"] if name.endswith("batches") else 1.0)
        cast = np.finfo(mean[name].dtype).eps * np.abs(expected).max(initial=1.0)
        assert mean[name].shape == expected.shape
        assert np.abs(mean[name] - expected).max(initial=0.0) <= bound + cast, name
