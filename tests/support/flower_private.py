"""Private trainings for tests: a model, nodes whose training is known, and what a lying server announces."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from secagg.adapters.flower import SecAggMod, SecAggStrategy, secagg_mod
from secagg.adapters.flower.announcement import Announcement, UpdateTerms
from secagg.privacy import Privacy, PrivacyTerms
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, record_of
from tests.support.flower_setup import averaging, members, one_round

NODES = 8
LOOSE = Privacy(epsilon=3000.0, delta=1e-6, clip=0.5, bits=22)
"""So little noise that a mean is nearly exact."""
STRICT = Privacy(epsilon=6.0, delta=1e-6, clip=0.5, rounds=2, bits=18)
FLOATS = ("layer.weight", "norm.scale", "layer.bias")


def model() -> Arrays:
    random = np.random.default_rng(0)
    return {
        "layer.weight": random.normal(size=(7, 5)).astype(np.float32),
        "norm.batches": np.array(1000, dtype=np.int64),
        "norm.scale": random.normal(size=3).astype(np.float16),
        "layer.bias": random.normal(size=5),
        "used": np.array([True, False]),
    }


def varied(server_round: int) -> Arrays:
    """A model for each round: no node sums an update of one model twice."""
    return {**model(), "layer.bias": np.full(5, float(server_round))}


def norm_of(arrays: Arrays) -> float:
    return math.hypot(*(float(np.linalg.norm(arrays[name].astype(np.float64))) for name in FLOATS))


def change_of(node: int) -> Arrays:
    """What a node's training adds: of norms from 0.1 to 1.5, so that the clip of 0.5 shortens most of them."""
    random = np.random.default_rng(node)
    raw = {
        "layer.weight": random.normal(size=(7, 5)),
        "norm.scale": random.normal(size=3),
        "layer.bias": random.normal(size=5),
    }
    return {name: values * (0.1 + 0.2 * (node - 101)) / norm_of(raw) for name, values in raw.items()}


def clipped(node: int, clip: float = 0.5) -> Arrays:
    change = change_of(node)
    return {name: values * min(1.0, clip / norm_of(change)) for name, values in change.items()}


def train(message: Message, context: Any) -> Message:
    before = arrays_of(message.content.array_records["arrays"])
    change = change_of(context.node_id)
    after = {
        name: np.asarray(values + change[name]).astype(values.dtype) if name in change else values
        for name, values in before.items()
    }
    if "norm.batches" in after:
        after["norm.batches"] = np.asarray(before["norm.batches"] + 20, np.int64)
    metrics = MetricRecord({"num-examples": 10 + context.node_id % 7, "loss": 0.5})
    return Message(RecordDict({"arrays": record_of(after), "metrics": metrics}), reply_to=message)


def private(
    privacy: Privacy = LOOSE, *, mod: SecAggMod = secagg_mod, directory: Path | None = None, **options: Any
) -> tuple[SecAggStrategy, MemoryGrid]:
    """A strategy and its nodes; with a directory, in ``active``."""
    if directory is not None:
        options |= {"directory": members(directory, NODES), "run_config": {}, "threat_model": "active"}
        mod = SecAggMod(
            identity=lambda context: directory / f"{context.node_id}.json",
            directory=directory / "cohort.json",
            tokens=lambda context: directory / f"{context.node_id}.sqlite",
        )
    strategy = SecAggStrategy(averaging(), privacy=privacy, **{"gamma": 0.2, "delta": 0.25} | options)
    return strategy, MemoryGrid(App(mod, train=train).app, NODES)


def check_mean(strategy: SecAggStrategy, mean: Arrays | None, nodes: list[int]) -> None:
    assert mean is not None, strategy.reports[1].failure
    report = strategy.reports[1]
    assert sorted(report.nodes[index] for index in report.included) == nodes
    for name in FLOATS:
        expected = model()[name] + np.mean([clipped(node)[name] for node in nodes], axis=0)
        cast = np.finfo(mean[name].dtype).eps * 4
        assert mean[name].dtype == model()[name].dtype
        assert np.abs(mean[name] - expected).max() < 6 * report.noise + cast, name
    for name in ("norm.batches", "used"):
        assert mean[name].dtype == model()[name].dtype
        assert np.array_equal(mean[name], model()[name]), "what is not summed stays as the server has it"


def trained(strategy: SecAggStrategy, grid: MemoryGrid, server_round: int) -> list[int]:
    """The nodes that a round of training has in its mean."""
    messages = strategy.configure_train(server_round, record_of(varied(server_round)), ConfigRecord(), grid)
    strategy.aggregate_train(server_round, grid.send_and_receive(messages))
    report = strategy.reports[server_round]
    return sorted(report.nodes[index] for index in report.included)


def terms_said(grid: MemoryGrid) -> PrivacyTerms:
    """The terms that the last invitations announced."""
    said = [message for phase, message in grid.sent if phase == "ADVERTISE"][-1]
    data = said.content.config_records["secagg.round"]["announcement"]
    announced = Announcement.from_bytes(data)  # type: ignore[arg-type]
    assert announced.terms.privacy is not None
    return announced.terms.privacy


def refuses(strategy: SecAggStrategy, grid: MemoryGrid, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody joins, and nothing but refusals has left."""
    assert one_round(strategy, grid, model()) is None
    assert {phase for phase, _ in grid.replies} == {"ADVERTISE"}
    assert says in caplog.text


def announce(monkeypatch: pytest.MonkeyPatch, lie: Callable[[UpdateTerms], UpdateTerms]) -> None:
    """The announcement says something else than the server works with, and the round's context holds it."""
    honest = Announcement.to_bytes

    def lied(said: Announcement) -> bytes:
        return honest(msgspec.structs.replace(said, terms=lie(said.terms)))

    monkeypatch.setattr(Announcement, "to_bytes", lied)


def with_terms(**changes: Any) -> Callable[[UpdateTerms], UpdateTerms]:
    def lie(terms: UpdateTerms) -> UpdateTerms:
        assert terms.privacy is not None
        privacy = PrivacyTerms.from_data(terms.privacy.to_data() | changes)
        return msgspec.structs.replace(terms, bits=privacy.bits, privacy=privacy)

    return lie
