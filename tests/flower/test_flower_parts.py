"""Parts of a model: what is not included stays at the node, and on the server as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from secagg import LayoutPolicy, Policy
from secagg.adapters.flower import SecAggMod, SecAggStrategy, secagg_mod
from secagg.errors import ParameterError
from secagg.privacy import Privacy
from tests.support.flower_grid import App, Arrays, MemoryGrid, record_of, trained, weight_of
from tests.support.flower_scaffold import Scaffold, start, train
from tests.support.flower_setup import averaging, one_round, with_node_config

NODES = 8
BACKBONE = ["backbone.conv.weight", "backbone.bn.scale", "backbone.bn.batches"]


def model() -> Arrays:
    random = np.random.default_rng(0)
    return {
        "backbone.conv.weight": random.normal(size=(4, 3)).astype(np.float32),
        "backbone.bn.scale": random.normal(size=4),
        "backbone.bn.batches": np.array(12, np.int64),
        "head.weight": random.normal(size=(2, 4)),
        "head.bias": np.zeros(2, np.float16),
    }


def grid_of(mod: Any = secagg_mod, fit: Any = None) -> MemoryGrid:
    return MemoryGrid(App(mod, train=fit).app, NODES)


def part(**options: Any) -> SecAggStrategy:
    return SecAggStrategy(averaging(), **({"clip": 1.0, "max_weight": 500, "bits": 24} | options))


def assert_mean(mean: Arrays | None, summed: list[str]) -> None:
    """Of what is summed the plain weighted mean; of all else the very model."""
    assert mean is not None
    weights = [weight_of(101 + number) for number in range(NODES)]
    updates = [trained(model(), 101 + number) for number in range(NODES)]
    for name, values in model().items():
        if name in summed:
            expected = np.average([update[name].astype(float) for update in updates], axis=0, weights=weights)
            assert np.abs(mean[name] - expected).max() < (0.1 if name.endswith("batches") else 1e-5), name
        else:
            assert mean[name].dtype == values.dtype
            assert np.array_equal(mean[name], values), name


@pytest.mark.parametrize(
    ("options", "summed"),
    [
        ({"include": ["backbone.*"]}, BACKBONE),  # FedPer
        ({"exclude": ["*.bn.*"]}, ["backbone.conv.weight", "head.weight", "head.bias"]),  # FedBN
        ({"include": ["backbone.*"], "exclude": ["*.batches"]}, BACKBONE[:2]),
        ({"include": ["head.bias"], "clips": {"*.batches": 9.0}}, ["head.bias"]),
    ],
)
def test_the_part_is_averaged_and_the_rest_stays(options: dict[str, Any], summed: list[str]) -> None:
    strategy = part(**options)
    assert_mean(one_round(strategy, grid_of(), model()), summed)
    assert strategy.reports[1].failure == ""


def test_the_vector_is_as_short_as_the_part() -> None:
    """What is left out is in no masked vector: its length says so."""
    lengths = []
    for options in ({}, {"include": ["backbone.conv.*"]}):
        grid = grid_of()
        one_round(part(**options), grid, model())
        masked = [reply for phase, reply in grid.replies if phase == "MASK"]
        lengths.append(len(masked[0].content.config_records["secagg.round"]["message"]))  # type: ignore[arg-type]
    whole = sum(values.size for values in model().values())
    assert lengths[0] - lengths[1] >= (whole - 12) * 3, "at 24 bits a value and more"


def test_an_app_may_answer_with_all_of_its_model_or_the_part_alone() -> None:
    """A server that sends the backbone alone gets it; the heads, which it has not, are dropped at the nodes."""

    def fit(message: Message, context: Any) -> Message:
        node = context.node_id
        update = trained(model(), node)
        if node % 2:
            update = {name: update[name] for name in BACKBONE}
        else:
            update["head.extra"] = np.full(3, np.nan)  # no exit depends on what is not summed
        metrics = MetricRecord({"num-examples": weight_of(node)})
        return Message(RecordDict({"arrays": record_of(update), "metrics": metrics}), reply_to=message)

    sent = {name: values for name, values in model().items() if name in BACKBONE}
    mean = one_round(part(include=["backbone.*"]), grid_of(fit=fit), sent)
    assert mean is not None
    assert sorted(mean) == sorted(BACKBONE)
    assert_mean({**model(), **mean}, BACKBONE)


def test_what_is_left_out_may_be_anything() -> None:
    """Neither read nor checked: not even a NumPy array, or an infinity."""
    odd = {"head.weight": Array("float8_e4m3", (3,), "torch", b"abc"), "head.bias": Array(np.array([np.inf]))}
    arrays = ArrayRecord({**record_of({name: model()[name] for name in BACKBONE}), **odd})

    def fit(message: Message, context: Any) -> Message:
        came = message.content.array_records["arrays"]
        update = trained({name: came[name].numpy() for name in BACKBONE}, context.node_id)
        content = RecordDict({"arrays": ArrayRecord({**came, **record_of(update)})})
        content["metrics"] = MetricRecord({"num-examples": 5})
        return Message(content, reply_to=message)

    class Keeps(Scaffold):
        """FedAvg itself would read what it averages."""

        def configure_train(self, server_round: int, sent: ArrayRecord, *_: Any) -> list[Message]:
            content = RecordDict({"arrays": sent})
            return [Message(content, dst_node_id=node, message_type="train") for node in range(101, 109)]

        def aggregate_train(self, server_round: int, replies: Any) -> tuple[ArrayRecord | None, MetricRecord | None]:
            return next(iter(replies)).content.array_records["arrays"], None

    strategy = SecAggStrategy(Keeps(NODES), clip=1.0, max_weight=5, include=["backbone.*"])
    result = strategy.start(grid_of(fit=fit), arrays, num_rounds=1)
    assert {name: result.arrays[name] for name in odd} == odd
    assert strategy.reports[1].contributors == NODES


def test_the_summary_names_the_part(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="flwr.secagg")
    part(exclude=["*.bn.*"]).summary()
    assert "include ['*'] | exclude ['*.bn.*']" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"include": ["bakbone.*"]}, r"include: 'bakbone\.\*' matches no array; there are backbone\.conv\.weight"),
        ({"include": ["backbone.*", "neck"]}, "include: 'neck' matches no array"),
        ({"exclude": ["neck"]}, "exclude: 'neck' matches no array"),
        ({"include": ["head.*"], "exclude": ["head*"]}, "leave no array"),
        ({"include": "head.*"}, "give a list of patterns"),
        ({"exclude": [3]}, "give a list of patterns"),
        ({"include": []}, "include is empty"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        one_round(part(**options), grid_of(), model())


def test_a_node_keeps_arrays_whatever_the_server_asks(caplog: pytest.LogCaptureFixture) -> None:
    mod = SecAggMod(layout_policy=LayoutPolicy(local_arrays=frozenset({"head.*"})))
    assert one_round(part(), grid := grid_of(mod), model()) is None
    assert "sums 'head.weight'; this client keeps arrays called 'head.*' to itself (local_arrays)" in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}
    assert_mean(one_round(part(include=["backbone.*"]), grid_of(mod), model()), BACKBONE)


def test_what_a_node_keeps_stands_in_its_config_for_every_record(caplog: pytest.LogCaptureFixture) -> None:
    """A server cannot have the array by sending it in a record of another name."""
    grid = grid_of(fit=train)
    for node in grid.nodes:
        with_node_config(grid, node, local_arrays="head.*, bias")
    strategy = SecAggStrategy(Scaffold(NODES), clip=4.0, max_weight=None)
    strategy.start(grid, record_of(start()), num_rounds=1)
    assert "sums 'bias'; this client keeps arrays called 'bias' to itself" in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}


def test_a_part_with_noise() -> None:
    """The clip and the noise are of the part alone."""
    loose = Privacy(epsilon=3000.0, delta=1e-6, clip=50.0, bits=22)
    strategy = SecAggStrategy(averaging(), privacy=loose, gamma=0.2, delta=0.25, include=["backbone.*"])
    mean = one_round(strategy, grid_of(), model())
    assert mean is not None
    updates = [trained(model(), 101 + number) for number in range(NODES)]
    for name in BACKBONE[:2]:
        plain = np.mean([update[name] for update in updates], axis=0)
        assert np.abs(mean[name] - plain).max() < 6 * strategy.reports[1].noise + 1e-6
    for name in ("backbone.bn.batches", "head.weight", "head.bias"):
        assert np.array_equal(mean[name], model()[name])
        assert mean[name].dtype == model()[name].dtype


def test_a_part_in_groups() -> None:
    """A rule over the groups' means sees the part, and no array that it does not know."""
    mod = SecAggMod(policy=Policy(max_groups=2))
    strategy = part(
        include=["backbone.conv.*"], groups=2, robust="trimmed-mean", gamma=0, delta=0, metrics={"loss": 300.0}
    )
    mean = one_round(strategy, grid_of(mod), model())
    assert mean is not None, strategy.reports[1].failure
    assert np.abs(mean["backbone.conv.weight"] - model()["backbone.conv.weight"]).max() > 0
    assert np.array_equal(mean["head.weight"], model()["head.weight"])
    assert 0.25 + 101 < strategy.reports[1].metrics["loss"] < 0.25 + 108
