"""Apps that go wrong and clients that answer anything: the sum of the others is right, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flower_grid import CLIPS, App, MemoryGrid, arrays_of, model, plain_mean, record_of
from flower_setup import ODD, make, one_round, others, secure
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from test_flower_rounds import PHASES, assert_mean

from secagg.adapters.flower import secagg_mod
from secagg.adapters.flower.records import RECORD


def reply_with(message: Message, update: Any, weight: Any = 10, **more: Any) -> Message:
    records = {"arrays": record_of(update), "metrics": MetricRecord({"num-examples": weight}), **more}
    return Message(RecordDict({key: value for key, value in records.items() if value is not None}), reply_to=message)


def received(message: Message) -> dict[str, Any]:
    return arrays_of(message.content.array_records["arrays"])


def fails(message: Message) -> Message:
    return Message(Error(2, "out of memory"), reply_to=message)


def raises(message: Message) -> Message:
    raise RuntimeError("no data")


WRONG: dict[str, Callable[[Message], Message]] = {
    "an error": fails,
    "an exception": raises,
    "two models": lambda m: reply_with(m, received(m), more=record_of(model())),
    "no metrics": lambda m: reply_with(m, received(m), metrics=None),
    "negative weight": lambda m: reply_with(m, received(m), -1),
    "half a weight": lambda m: reply_with(m, received(m), 1.5),
    "a list of weights": lambda m: reply_with(m, received(m), [1, 2]),
    "no weight": lambda m: reply_with(m, received(m), metrics=MetricRecord({"loss": 1.0})),
    "NaN": lambda m: reply_with(m, received(m) | {"layer.bias": np.array([0, np.nan, 0, 0, 0])}),
    "an array missing": lambda m: reply_with(m, {"layer.bias": np.zeros(5)}),
    "an array more": lambda m: reply_with(m, received(m) | {"other": np.zeros(5)}),
    "another shape": lambda m: reply_with(m, received(m) | {"layer.bias": np.zeros(1)}),
    "text": lambda m: reply_with(m, received(m) | {"layer.bias": np.array(["a"] * 5)}),
    "complex": lambda m: reply_with(m, received(m) | {"layer.bias": np.zeros(5, complex)}),
    "a counter beyond its clip": lambda m: reply_with(m, received(m) | {"norm.batches": np.array(5000)}),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_client_whose_app_goes_wrong_adds_nothing(what: str, caplog: pytest.LogCaptureFixture) -> None:
    ordinary = App()

    def train(message: Message, context: Any) -> Message:
        return WRONG[what](message) if context.node_id == ODD else ordinary.ordinary(message, context)

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    mean = one_round(strategy, grid, model())
    reply = next(reply for phase, reply in grid.replies if phase == "MASK" and reply.metadata.src_node_id == ODD)
    if what in ("an error", "an exception"):
        assert_mean(strategy, mean, model(), others(grid))
        assert strategy.reports[1].dropped == {"MASK": (2,)}
        return
    assert mean is not None
    assert strategy.reports[1].dropped == {}, "leaving would tell something of the update"
    for name, expected in plain_mean(model(), others(grid)).items():
        bound = strategy.reports[1].error_bound * (CLIPS["*.batches"] if name.endswith("batches") else 1.0)
        cast = np.finfo(mean[name].dtype).eps * np.abs(expected).max(initial=1.0)
        assert np.abs(mean[name] - expected).max(initial=0.0) <= bound + cast, name
    assert list(reply.content) == [RECORD], "the reason stays at the client"
    assert "takes part with weight 0" in caplog.text


def test_without_weights_a_client_whose_update_cannot_be_summed_leaves(caplog: pytest.LogCaptureFixture) -> None:
    ordinary = App()

    def train(message: Message, context: Any) -> Message:
        return WRONG["NaN"](message) if context.node_id == ODD else ordinary.ordinary(message, context)

    strategy, grid = secure(max_weight=None), MemoryGrid(App(secagg_mod, train=train).app, 8)
    assert one_round(strategy, grid, model()) is not None
    assert strategy.reports[1].dropped == {"MASK": (2,)}
    assert "this client leaves the round" in caplog.text


def test_a_counter_is_still_one_when_it_has_been_averaged() -> None:
    """The mean of counters is a float; a client that counts on from there, in whole numbers, is not cut off."""
    arrays = model() | {"norm.batches": np.array(1000.5)}

    def train(message: Message, context: Any) -> Message:
        far = 5000 if context.node_id == ODD else 1100
        return reply_with(message, received(message) | {"norm.batches": np.array(far)})

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    mean = one_round(strategy, grid, arrays)
    assert mean is not None
    assert strategy.reports[1].dropped == {}
    assert abs(mean["norm.batches"] - 1100) <= CLIPS["*.batches"] * strategy.reports[1].error_bound + 1e-9


def test_floats_are_clipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    def train(message: Message, context: Any) -> Message:
        arrays = received(message)
        arrays["layer.bias"] = arrays["layer.bias"] + np.array([0, 9.0, 0, -9.0, 0])
        return reply_with(message, arrays)

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    mean = one_round(strategy, grid, model())
    assert mean is not None
    moved = mean["layer.bias"] - model()["layer.bias"]
    assert np.abs(moved - [0, 1, 0, -1, 0]).max() <= strategy.reports[1].error_bound + 1e-12
    assert caplog.text.count("layer.bias: 2 values were clipped") == 8


def test_weights_may_be_whole_floats() -> None:
    strategy = secure()
    grid = MemoryGrid(App(secagg_mod, train=lambda m, c: reply_with(m, received(m), 20.0)).app, 8)
    assert one_round(strategy, grid, model()) is not None
    assert strategy.reports[1].total_weight == 160


def test_weights_that_are_all_zero_give_no_model() -> None:
    strategy = secure()
    grid = MemoryGrid(App(secagg_mod, train=lambda m, c: reply_with(m, received(m), 0)).app, 8)
    assert one_round(strategy, grid, model()) is None
    assert "have a weight above 0" in strategy.reports[1].failure


def answer(fields: dict[str, Any]) -> Callable[[Message], RecordDict]:
    return lambda reply: RecordDict({RECORD: ConfigRecord(fields)})


ANSWERS: dict[str, Callable[[Message], RecordDict]] = {
    "nothing": lambda reply: RecordDict(),
    "a plain update": lambda reply: RecordDict({"arrays": record_of(model()), "metrics": MetricRecord({"n": 1})}),
    "a metric record of our name": lambda reply: RecordDict({RECORD: MetricRecord({"message": 1})}),
    "no bytes": answer({"message": "text"}),
    "a list": answer({"message": [b"a", b"b"]}),
    "rubbish": answer({"message": b"rubbish"}),
    "nothing at all": answer({"message": b""}),
    "cut short": lambda reply: RecordDict({RECORD: ConfigRecord({"message": reply.content[RECORD]["message"][:-3]})}),
    "a bit flipped": lambda reply: RecordDict(
        {RECORD: ConfigRecord({"message": flipped(reply.content[RECORD]["message"])})}
    ),
}


def flipped(message: bytes) -> bytes:
    return bytes([message[0] ^ 1]) + message[1:]


@pytest.mark.parametrize("what", ANSWERS)
@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK", "UNMASK"])
def test_a_client_that_answers_anything(what: str, phase: str) -> None:
    """It is left out, and the sum of the others is right; in UNMASK its update is in already."""

    def tamper(at: str, reply: Message) -> Message:
        if at == phase and reply.metadata.src_node_id == ODD:
            reply.content = ANSWERS[what](reply)
        return reply

    strategy, grid = secure(), MemoryGrid(App(secagg_mod).app, 8)
    grid.tamper_out = tamper
    assert_mean(
        strategy, one_round(strategy, grid, model()), model(), grid.nodes if phase == "UNMASK" else others(grid)
    )


@pytest.mark.parametrize(
    ("threat_model", "phase"),
    [(name, phase) for name, phases in PHASES.items() for phase in phases if phase != "MASK"],
)
def test_a_flipped_bit_never_gives_a_wrong_sum(threat_model: str, phase: str, tmp_path: Path) -> None:
    """Anywhere in an answer; in MASK it would be the client's own valid input, which a channel must protect."""
    random = np.random.default_rng(7)
    strategy, grid = make(threat_model, tmp_path, delta=0.25)

    def tamper(at: str, reply: Message) -> Message:
        if at == phase and reply.metadata.src_node_id == ODD:
            message = bytearray(reply.content.config_records[RECORD]["message"])
            place = random.integers(8 * len(message))
            message[place // 8] ^= 1 << place % 8
            reply.content.config_records[RECORD]["message"] = bytes(message)
        return reply

    grid.tamper_out = tamper
    outcomes = []
    for _ in range(8):
        mean = one_round(strategy, grid, model())
        report = strategy.reports[1]
        outcomes.append(bool(report.blame) or len(report.dropped) > 0)
        if mean is not None:
            assert_mean(strategy, mean, model(), sorted(report.nodes[index] for index in report.included))
        else:
            assert report.failure
    assert any(outcomes)


def test_replies_of_nodes_that_were_not_asked_do_nothing() -> None:
    strategy, grid = secure(), MemoryGrid(App(secagg_mod).app, 8)
    ordinary = grid.send_and_receive

    def more(messages: Any, *, timeout: float | None = None) -> list[Message]:
        replies = ordinary(messages, timeout=timeout)
        stranger = Message(RecordDict(), dst_node_id=999, message_type="train")
        return [*replies, Message(replies[0].content, reply_to=stranger), replies[0]]

    grid.send_and_receive = more  # type: ignore[method-assign]
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)


def test_clients_without_the_mod_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = secure(), MemoryGrid(App().app, 8)
    assert one_round(strategy, grid, model()) is None
    assert "0 clients advertised" in strategy.reports[1].failure


def test_array_records_of_torch_like_order_do_not_matter() -> None:
    """A reply may list the arrays in another order than the model."""

    def train(message: Message, context: Any) -> Message:
        ordinary = App().ordinary(message, context)
        arrays = ordinary.content.array_records["arrays"]
        ordinary.content["arrays"] = ArrayRecord(dict(reversed(list(arrays.items()))))
        return ordinary

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)
