"""LoRA adapters of ranks that differ by node: padded to the agreed rank, and cut out of the mean again."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from secagg.adapters.flower import LoraRank, SecAggMod, SecAggStrategy, Sum
from secagg.errors import ParameterError
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, record_of, weight_of
from tests.support.flower_setup import averaging, one_round, with_node_config

NODES = [101 + number for number in range(8)]
AGREED = 6
LOST = 102
A, B = "layer.lora_A.default.weight", "layer.lora_B.default.weight"


def rank_of(node: int) -> int:
    return (1, 2, 4, 6)[node % 4]


def model() -> Arrays:
    random = np.random.default_rng(4)
    return {
        A: random.normal(size=(AGREED, 5)).astype(np.float32),
        B: random.normal(size=(3, AGREED)),
        "head": random.normal(size=3),
    }


def change_of(node: int, server_round: int) -> Arrays:
    """At the node's own rank."""
    random = np.random.default_rng([node, server_round])
    shapes = {A: (rank_of(node), 5), B: (3, rank_of(node)), "head": (3,)}
    return {name: random.uniform(-0.9, 0.9, shape) for name, shape in shapes.items()}


def cut(arrays: Arrays, rank: int) -> Arrays:
    return {**arrays, A: arrays[A][:rank], B: arrays[B][:, :rank]}


def plain(before: Arrays, nodes: list[int], server_round: int) -> Arrays:
    """The weighted mean, where a node leaves what is beyond its rank as it came."""
    weights = [weight_of(node) for node in nodes]
    updates = []
    for node in nodes:
        change, rank = change_of(node, server_round), rank_of(node)
        update = {name: values.astype(float) for name, values in before.items()}
        update[A][:rank] += change[A]
        update[B][:, :rank] += change[B]
        update["head"] += change["head"]
        updates.append(update)
    return {name: np.average([update[name] for update in updates], axis=0, weights=weights) for name in before}


class Trainer:
    """An app that notes what each node was sent."""

    def __init__(self) -> None:
        self.seen: dict[tuple[int, int], Arrays] = {}
        self.evaluated: dict[int, tuple[int, ...]] = {}

    def fit(self, message: Message, context: Any) -> Message:
        server_round = int(message.content.config_records["config"]["server-round"])  # type: ignore[arg-type]
        arrays = arrays_of(message.content.array_records["arrays"])
        self.seen[context.node_id, server_round] = arrays
        change = change_of(context.node_id, server_round)
        update = record_of({name: np.asarray(arrays[name] + change[name], arrays[name].dtype) for name in arrays})
        metrics = MetricRecord({"num-examples": weight_of(context.node_id)})
        return Message(RecordDict({"arrays": update, "metrics": metrics}), reply_to=message)

    def evaluate(self, message: Message, context: Any) -> Message:
        self.evaluated[context.node_id] = tuple(message.content.array_records["arrays"][A].shape)
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "n": 2.0})}), reply_to=message)


def grid_of(trainer: Trainer, mod: SecAggMod | None = None) -> MemoryGrid:
    """Each node has its rank in its own config, unless a mod says one for all."""
    app = ClientApp(mods=[mod or SecAggMod(evaluation=trainer.evaluate)])
    app.train()(trainer.fit)
    app.evaluate()(trainer.evaluate)
    grid = MemoryGrid(app, len(NODES))
    for node in grid.nodes:
        if mod is None:
            with_node_config(grid, node, lora_rank=rank_of(node))
    return grid


def strategy_of(**options: Any) -> SecAggStrategy:
    return SecAggStrategy(averaging(), **({"clip": 1.0, "max_weight": 500, "bits": 26} | options))


def test_ranks_that_differ_are_averaged_and_cut_out_again(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer()
    grid, strategy = grid_of(trainer), strategy_of()
    caplog.set_level("INFO", logger="flwr.secagg")
    grid.mute = {("MASK", LOST)}
    result = strategy.start(grid, record_of(model()), num_rounds=2)
    nodes = [node for node in NODES if node != LOST]
    first = plain(model(), nodes, 1)
    for node in NODES:
        for name, values in cut(model(), rank_of(node)).items():
            assert np.array_equal(trainer.seen[node, 1][name], values)
        for name, values in cut(first, rank_of(node)).items():
            assert trainer.seen[node, 2][name].shape == values.shape
            assert np.abs(trainer.seen[node, 2][name] - values).max() < 1e-5, "of the first round's mean"
        assert trainer.evaluated[node] == (rank_of(node), 5), "evaluation is of the node's own rank, too"
    for name, values in plain(first, nodes, 2).items():
        assert np.abs(arrays_of(result.arrays)[name] - values).max() < 1e-5
    assert "2 arrays of adapters are cut to this node's rank 4, and padded to the agreed rank again" in caplog.text
    assert strategy.reports[1].clipped == 0


def test_nobody_sees_a_nodes_rank() -> None:
    """Vectors and all other messages are of one length, whatever the rank."""
    trainer = Trainer()
    grid = grid_of(trainer)
    assert one_round(strategy_of(), grid, model()) is not None
    for wanted in ("SHARE", "MASK"):
        sizes = {
            len(reply.content.config_records["secagg.round"]["message"])  # type: ignore[arg-type]
            for phase, reply in grid.replies
            if phase == wanted
        }
        assert len(sizes) == 1


def test_adapters_of_bfloat16_beside_a_secure_evaluation() -> None:
    trainer = Trainer()

    def fit(message: Message, context: Any) -> Message:
        sent = message.content.array_records["arrays"]
        assert sent[A].dtype == "bfloat16"
        assert sent[A].shape == (rank_of(context.node_id), 5)
        values = sent[A].numpy().view(ml_dtypes.bfloat16).astype(float) + 0.5
        content = RecordDict({"arrays": ArrayRecord({A: Array(values.astype(ml_dtypes.bfloat16))})})
        content["metrics"] = MetricRecord({"num-examples": 3})
        return Message(content, reply_to=message)

    trainer.fit = fit  # type: ignore[method-assign]
    ones = ArrayRecord({A: Array(np.ones((AGREED, 5), ml_dtypes.bfloat16))})
    strategy = SecAggStrategy(
        averaging(fraction_evaluate=0.0), clip=1.0, max_weight=None, bits=26, metrics={"evaluate.n": Sum(9, decimals=0)}
    )
    result = strategy.start(grid_of(trainer), ones, num_rounds=1)
    assert strategy.reports[1].metrics == {"evaluate.n": 16}
    assert trainer.evaluated == {node: (rank_of(node), 5) for node in NODES}
    rows = result.arrays[A].numpy().view(ml_dtypes.bfloat16).astype(float)[:, 0]
    share = [np.mean([rank_of(node) > row for node in NODES]) for row in range(AGREED)]
    assert np.allclose(rows, 1 + 0.5 * np.array(share), atol=2.0**-8)


@pytest.mark.parametrize(
    ("lora", "arrays", "says"),
    [
        (
            LoraRank(AGREED + 1),
            model(),
            "whose axis 0 is the agreed rank 6: this node takes ranks from its own, 7, to 1024",
        ),
        (LoraRank(2, max_rank=4), model(), "the agreed rank 6: this node takes ranks from its own, 2, to 4"),
        (LoraRank(2), {"head": np.zeros(3)}, "no array of the model is called '*lora_A*' or"),
        (LoraRank(2, axes={"head": 1}), {"head": np.zeros(3)}, "whose axis 1 is the agreed rank 0"),
    ],
)
def test_a_model_that_a_node_has_no_adapters_for_is_refused(
    lora: LoraRank, arrays: Arrays, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before it joins, from what is announced."""
    grid = grid_of(Trainer(), SecAggMod(lora=lora))
    assert one_round(strategy_of(), grid, arrays) is None
    assert says in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}


def test_an_answer_of_another_rank_makes_its_client_leave(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Trainer()
    right = trainer.fit

    def wrong(message: Message, context: Any) -> Message:
        reply = right(message, context)
        if context.node_id == LOST:
            reply.content["arrays"] = record_of(model())
        return reply

    trainer.fit = wrong  # type: ignore[method-assign]
    strategy = strategy_of()
    assert one_round(strategy, grid_of(trainer), model()) is not None
    assert [strategy.reports[1].nodes[index] for index in strategy.reports[1].dropped["MASK"]] == [LOST]
    assert f"{A} has shape (6, 5) in the app's reply; at this node's rank 4 it is (4, 5)" in caplog.text


def test_axes_of_ones_own() -> None:
    """By name, for adapters that PEFT has not named."""
    start = {"down": np.zeros((2, 4)), "up": np.zeros((4, 2))}

    def fit(message: Message, context: Any) -> Message:
        arrays = arrays_of(message.content.array_records["arrays"])
        assert {name: values.shape for name, values in arrays.items()} == {"down": (2, 1), "up": (1, 2)}
        content = RecordDict({"arrays": record_of({name: values + 0.5 for name, values in arrays.items()})})
        content["metrics"] = MetricRecord({"num-examples": 3})
        return Message(content, reply_to=message)

    mod = SecAggMod(lora=LoraRank(1, axes={"down": 1, "up": 0}))
    mean = one_round(strategy_of(), MemoryGrid(App(mod, train=fit).app, 8), start)
    assert mean is not None
    assert np.allclose(mean["down"], [[0.5, 0, 0, 0]] * 2, atol=1e-5)
    assert np.allclose(mean["up"], [[0.5] * 2, [0, 0], [0, 0], [0, 0]], atol=1e-5)


@pytest.mark.parametrize("config", [{"lora_rank": 0}, {"lora_rank": "4"}, {"lora_rank": 8, "max_lora_rank": 4}])
def test_a_config_that_is_no_rank_is_refused(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    grid = grid_of(Trainer(), SecAggMod())
    for node in grid.nodes:
        with_node_config(grid, node, **config)
    assert one_round(strategy_of(), grid, model()) is None
    assert all("rank" in (reply.error.reason or "") for _, reply in grid.replies)
    with pytest.raises(ParameterError, match="the LoRA rank is 0"):
        LoraRank(0)
