"""Apps that go wrong and clients that answer anything: the sum of the others is right, or there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from secagg.adapters.flower import secagg_mod
from secagg.adapters.flower.records import RECORD
from tests.support.flower_grid import CLIPS, App, MemoryGrid, arrays_of, model, record_of, trained, weight_of
from tests.support.flower_setup import ODD, PHASES, assert_mean, make, one_round, others, secure


def reply_with(message: Message, update: Any, weight: Any = 10, **more: Any) -> Message:
    records = {"arrays": record_of(update), "metrics": MetricRecord({"num-examples": weight}), **more}
    return Message(RecordDict({key: value for key, value in records.items() if value is not None}), reply_to=message)


def received(message: Message) -> dict[str, Any]:
    return arrays_of(message.content.array_records["arrays"])


def fails(message: Message) -> Message:
    return Message(Error(2, "out of memory"), reply_to=message)


def raises(message: Message) -> Message:
    raise RuntimeError("no data")


def with_header(message: Message, header: bytes) -> Message:
    """An answer with an array whose bytes do not read."""
    size = len(header).to_bytes(2, "little")
    broken = Array("float64", (5,), "numpy.ndarray", b"\x93NUMPY\x01\x00" + size + header)
    reply = reply_with(message, received(message))
    reply.content["arrays"] = ArrayRecord({**reply.content.array_records["arrays"], "layer.bias": broken})
    return reply


LEAVES: dict[str, Callable[[Message], Message]] = {
    "an error": fails,
    "no message": lambda m: None,  # type: ignore[dict-item,return-value]
    "an array of rubbish": lambda m: with_header(m, b"rubbish"),
    "an array of thousands of signs": lambda m: with_header(m, b"{'descr': " + b"-" * 9000 + b"1}"),
    "an exception": raises,
    "two models": lambda m: reply_with(m, received(m), more=record_of(model())),
    "two metric records": lambda m: reply_with(m, received(m), more=MetricRecord({"num-examples": 7})),
    "no metrics": lambda m: reply_with(m, received(m), metrics=None),
    "a list of weights": lambda m: reply_with(m, received(m), [1, 2]),
    "no weight": lambda m: reply_with(m, received(m), metrics=MetricRecord({"loss": 1.0})),
    "NaN": lambda m: reply_with(m, received(m) | {"layer.bias": np.array([0, np.nan, 0, 0, 0])}),
    "an infinity": lambda m: reply_with(m, received(m) | {"layer.bias": np.array([0, 0, -np.inf, 0, 0])}),
    "a weight that is NaN": lambda m: reply_with(m, received(m), float("nan")),
    "a weight that is infinite": lambda m: reply_with(m, received(m), float("inf")),
    "an array missing": lambda m: reply_with(m, {"layer.bias": np.zeros(5)}),
    "an array more": lambda m: reply_with(m, received(m) | {"other": np.zeros(5)}),
    "another shape": lambda m: reply_with(m, received(m) | {"layer.bias": np.zeros(1)}),
    "text": lambda m: reply_with(m, received(m) | {"layer.bias": np.array(["a"] * 5)}),
    "complex": lambda m: reply_with(m, received(m) | {"layer.bias": np.zeros(5, complex)}),
}
NAMED = {
    "two models": "2 array records ('arrays', 'more')",
    "two metric records": "2 metric records ('metrics', 'more')",
    "no metrics": "0 metric records (none)",
    "no weight": "lacks the number 'num-examples'; it has 'loss'",
    "an array missing": "lacks layer.weight, norm.scale",
    "an array more": "holds unknown other",
    "another shape": "layer.bias has shape (1,)",
    "an exception": "no data",
}


def with_odd(train: Callable[[Message], Message]) -> App:
    """Ordinary clients, and one that does something else."""
    ordinary = App()
    return App(
        secagg_mod,
        train=lambda message, context: (
            train(message) if context.node_id == ODD else ordinary.ordinary(message, context)
        ),
    )


@pytest.mark.parametrize("max_weight", [500, None])
@pytest.mark.parametrize("what", LEAVES)
def test_a_client_that_has_nothing_to_sum_leaves(
    what: str, max_weight: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as lost, and the others' sum is right.  Whatever the reason, the server is told the same."""
    strategy, grid = secure(max_weight=max_weight), MemoryGrid(with_odd(LEAVES[what]).app, 8)
    mean = one_round(strategy, grid, model())
    if max_weight is None and ("metric" in what or "weight" in what):
        assert strategy.reports[1].dropped == {}, "without weights nobody looks at metrics"
        return
    assert strategy.reports[1].dropped == {"MASK": (2,)}
    assert mean is not None
    if max_weight is not None:
        assert_mean(strategy, mean, model(), others(grid))
    reply = next(reply for phase, reply in grid.replies if phase == "MASK" and reply.metadata.src_node_id == ODD)
    assert list(reply.content) == [RECORD]
    assert len(reply.content.config_records[RECORD]["message"]) < 60, "an ABORT"
    assert "left (CANCELLED)" in caplog.text
    assert "this client leaves the round" in caplog.text
    assert NAMED.get(what, "") in caplog.text


FITTED: dict[str, tuple[float, int]] = {
    "a weight too large": (501, 500),
    "a weight far too large": (1e300, 500),
    "a negative weight": (-7, 0),
    "a negative infinite number of examples, nearly": (-1e300, 0),
    "half a weight": (20.6, 21),
}


@pytest.mark.parametrize("what", FITTED)
def test_a_weight_that_does_not_fit_is_rounded_and_clamped(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """Were its client to leave, or to send zeros, a server could ask for weights by its max_weight."""
    reported, counts = FITTED[what]
    strategy, grid = (
        secure(),
        MemoryGrid(with_odd(lambda m: reply_with(m, trained(received(m), ODD), reported)).app, 8),
    )
    mean = one_round(strategy, grid, model())
    report = strategy.reports[1]
    assert report.dropped == {}
    assert report.total_weight == sum(weight_of(node) for node in others(grid)) + counts
    assert report.contributors == 7 + (counts > 0)
    assert report.clipped == (reported > 500)
    assert mean is not None
    weights = [counts if node == ODD else weight_of(node) for node in grid.nodes]
    expected = np.average([trained(model(), node)["layer.bias"] for node in grid.nodes], axis=0, weights=weights)
    assert np.abs(mean["layer.bias"] - expected).max() <= report.error_bound
    assert ("ask for a larger one" if reported > 500 else "a weight is a whole number from 0 up") in caplog.text


def test_values_that_overflow_on_the_way_are_clipped() -> None:
    """They are finite, so that their client must not leave."""
    huge = np.array([1.7e308, 0, 0, 0, -1.7e308])
    arrays = model() | {"layer.bias": -huge / 10}
    app = with_odd(lambda m: reply_with(m, received(m) | {"layer.bias": huge}))
    strategy, grid = secure(clips={**CLIPS, "layer.bias": 1e-20}), MemoryGrid(app.app, 8)
    assert one_round(strategy, grid, arrays) is not None
    assert strategy.reports[1].dropped == {}
    assert strategy.reports[1].clipped >= 2


@pytest.mark.parametrize("start", [1000, 1000.5])
def test_a_counter_beyond_its_clip_is_clipped(start: float, caplog: pytest.LogCaptureFixture) -> None:
    """Also in a model whose counters have been averaged, which makes them floats.  The log says what to change."""
    arrays = model() | {"norm.batches": np.array(start)}

    def train(message: Message, context: Any) -> Message:
        far = 5000 if context.node_id == ODD else 1100
        return reply_with(message, received(message) | {"norm.batches": np.array(far)})

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    mean = one_round(strategy, grid, arrays)
    assert mean is not None
    report = strategy.reports[1]
    assert report.dropped == {}
    assert report.clipped == 1
    expected = (7 * 1100 + min(5000.0, start + CLIPS["*.batches"])) / 8
    assert abs(mean["norm.batches"] - expected) <= report.error_bounds["norm.batches"] + 1e-9
    assert "norm.batches: 1 value was clipped to 500.0; these are whole numbers: ask for clips=" in caplog.text


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
    failure = strategy.reports[1].failure
    assert "0 of the 8 clients in the sum have a weight above 0" in failure
    assert "usual causes" in failure
    assert "'num-examples'" in failure


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
    for number in range(8):
        arrays = model(seed=number)  # none is summed twice
        mean = one_round(strategy, grid, arrays)
        report = strategy.reports[1]
        outcomes.append(bool(report.blame) or len(report.dropped) > 0)
        if mean is not None:
            assert_mean(strategy, mean, arrays, sorted(report.nodes[index] for index in report.included))
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
    assert "give the ClientApp mods=[secagg_mod]" in strategy.reports[1].failure


def test_array_records_of_torch_like_order_do_not_matter() -> None:
    """A reply may list the arrays in another order than the model."""

    def train(message: Message, context: Any) -> Message:
        ordinary = App().ordinary(message, context)
        arrays = ordinary.content.array_records["arrays"]
        ordinary.content["arrays"] = ArrayRecord(dict(reversed(list(arrays.items()))))
        return ordinary

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)
