"""What a client sends, what it refuses, and what a client that does anything can do to a round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from secagg.adapters.flower import SecAggMod, SecAggStrategy, phase_of, secagg_mod
from secagg.adapters.flower.records import RECORD, STATE_RECORD
from tests.support.flower_grid import (
    CLIPS,
    App,
    MemoryGrid,
    context_bytes,
    context_of,
    model,
    record_of,
    trained,
    weight_of,
)
from tests.support.flower_setup import ODD, assert_mean, averaging, make, one_round, others, secure, with_node_config

# What leaves a client.


def test_nothing_of_the_update_leaves_a_client(tmp_path: Path) -> None:
    strategy, grid = make("semi_honest", tmp_path)
    one_round(strategy, grid, model())
    sizes: dict[str, set[int]] = {}
    for phase, reply in grid.replies:
        assert list(reply.content) == [RECORD]
        record = reply.content.config_records[RECORD]
        assert list(record) == ["message"]
        sizes.setdefault(phase, set()).add(len(record["message"]))
        update = trained(model(), reply.metadata.src_node_id)
        assert update["layer.weight"].tobytes()[:8] not in record["message"]
    assert [len(lengths) for lengths in sizes.values()] == [1] * 4, "lengths do not depend on weights"
    packed = 7 * 5 + 5 + 3 + 1 + 1  # and the weight
    assert max(sizes["MASK"]) < packed * 19 / 8 + 60


def test_the_context_holds_no_secret_after_the_round(tmp_path: Path) -> None:
    strategy, grid = make("semi_honest", tmp_path)
    grid.mute = {("MASK", ODD)}
    one_round(strategy, grid, model())
    records = {node: context_of(data).state.config_records[STATE_RECORD] for node, data in grid.contexts.items()}
    assert {node for node, record in records.items() if "state" in record} == {ODD}
    assert {len(record["joined"]) for record in records.values()} == {32}
    grid.mute = set()
    one_round(strategy, grid, model(seed=1))
    assert not [node for node, data in grid.contexts.items() if "state" in context_of(data).state[STATE_RECORD]]


def test_evaluation_and_queries_pass_untouched() -> None:
    grid = MemoryGrid(App(secagg_mod).app, 3)
    for kind in ("evaluate", "query"):
        content = RecordDict({"arrays": record_of(model()), "config": ConfigRecord({"a": 1})})
        reply = grid.deliver(kind, Message(content, dst_node_id=101, message_type=kind))
        assert reply is not None
        assert list(reply.content.config_records["seen"]["names"]) == ["arrays", "config"]
        assert reply.content.metric_records["metrics"]["num-examples"] == weight_of(101)


def test_a_mod_of_one_function() -> None:
    """``@app.train(mods=[secagg_mod])``: the messages of the protocol go to the function that trains."""
    app, ordinary = ClientApp(), App()
    app.train("fit", mods=[secagg_mod])(ordinary.ordinary)

    class Fit(type(averaging())):  # type: ignore[misc]
        def configure_train(self, *args: Any) -> list[Message]:
            made = super().configure_train(*args)
            return [Message(m.content, dst_node_id=m.metadata.dst_node_id, message_type="train.fit") for m in made]

    strategy = SecAggStrategy(Fit(min_train_nodes=3), clip=1.0, clips=CLIPS, max_weight=500)
    grid = MemoryGrid(app, 8)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)


# What a client refuses of the server.


def test_a_plain_training_message_is_refused() -> None:
    """A server that leaves the wrapper out gets no update."""
    ordinary = App(secagg_mod)
    grid = MemoryGrid(ordinary.app, 3)
    result = averaging().start(grid, record_of(model()), num_rounds=1)
    assert not result.arrays
    assert ordinary.trained == []
    reply = grid.replies[0][1]
    assert reply.has_error()
    assert "sends no plain update" in str(reply.error.reason)


def other_model(content: RecordDict) -> None:
    content["arrays"] = record_of(model(seed=9))


def another_model(content: RecordDict) -> None:
    content["more"] = record_of(model())


def no_model(content: RecordDict) -> None:
    del content["arrays"]


def other_config(content: RecordDict) -> None:
    content["config"]["learning-rate"] = 0.0


def another_config(content: RecordDict) -> None:
    content["more"] = ConfigRecord({"learning-rate": 0.0})


def metrics(content: RecordDict) -> None:
    content["more"] = MetricRecord({"learning-rate": 0.0})


@pytest.mark.parametrize(
    "change",
    [other_model, another_model, no_model, other_config, another_config, metrics],
)
def test_a_client_trains_only_the_model_that_the_round_was_announced_for(
    change: Callable[[RecordDict], None], caplog: pytest.LogCaptureFixture
) -> None:
    def tamper(phase: str, message: Message) -> Message:
        if phase == "MASK" and message.metadata.dst_node_id == ODD:
            content = RecordDict({name: record.copy() for name, record in message.content.items()})
            change(content)
            return Message(content, dst_node_id=ODD, message_type="train")
        return message

    ordinary = App(secagg_mod)
    grid = MemoryGrid(ordinary.app, 8)
    grid.tamper_in = tamper
    strategy = secure()
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    assert ODD not in ordinary.trained
    assert "this client leaves the round" in caplog.text


def test_a_client_trains_only_with_the_run_config_of_all(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = make("active", tmp_path)
    context = context_of(grid.contexts[ODD])
    context.run_config = {"learning-rate": 1.0}
    grid.contexts[ODD] = context_bytes(context)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    assert strategy.reports[1].dropped["MASK"]
    assert "the run's config" in caplog.text


def test_in_active_the_run_config_is_bound(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = make("active", tmp_path)
    strategy._asked_terms.terms = msgspec.structs.replace(strategy._asked_terms.terms, run_config=False)
    strategy._run_config = None
    assert one_round(strategy, grid, model()) is None
    assert "has no run_config" in caplog.text


@pytest.mark.parametrize("message_type", ["get_parameters", "get_properties", "reconnect"])
def test_other_types_of_messages_are_refused(message_type: str) -> None:
    app, grid = App(secagg_mod), MemoryGrid(App(secagg_mod).app, 1)
    message = Message(RecordDict({"arrays": record_of(model())}), dst_node_id=101, message_type="train")
    message.metadata.message_type = message_type
    reply = secagg_mod(message, context_of(grid.contexts[101]), app.app)
    assert "could hold this client's arrays" in reply.error.reason
    assert app.trained == []


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK", "UNMASK"])
@pytest.mark.parametrize("field", [b"", b"rubbish", b"\x00" * 300, 7, "text", [b"a"], None])
def test_rubbish_from_the_server_raises_nothing(phase: str, field: Any) -> None:
    def tamper(at: str, message: Message) -> Message:
        if at == phase and message.metadata.dst_node_id == ODD:
            fields = {**message.content.config_records[RECORD], "index": "two"}
            fields["invitation" if phase == "ADVERTISE" else "message"] = field
            content = RecordDict(
                {**message.content, RECORD: ConfigRecord({k: v for k, v in fields.items() if v is not None})}
            )
            return Message(content, dst_node_id=ODD, message_type="train")
        return message

    strategy, grid = secure(), MemoryGrid(App(secagg_mod).app, 8)
    grid.tamper_in = tamper
    mean = one_round(strategy, grid, model())
    assert_mean(strategy, mean, model(), grid.nodes if phase == "UNMASK" else others(grid))
    odd = [reply for at, reply in grid.replies if at == phase and reply.metadata.src_node_id == ODD]
    assert all(
        not reply.has_error() or "secure aggregation" in reply.error.reason or "index" in reply.error.reason
        for reply in odd
    )


def test_a_state_answers_once_and_an_invitation_too(tmp_path: Path) -> None:
    """A context that is put back brings its memory along; the file of used tokens does not forget."""
    mod = SecAggMod(tokens=lambda context: tmp_path / f"{context.node_id}.sqlite")
    grid = MemoryGrid(App(mod).app, 8)
    with_node_config(grid, ODD, again=True)  # this is about invitations, and not about what is in a sum already
    kept: dict[str, tuple[bytes, Message]] = {}
    ordinary = grid.run

    def remembering(message: Message) -> Message:
        if message.metadata.dst_node_id == ODD and (phase := phase_of(message)):
            kept[phase] = grid.contexts[ODD], message
        return ordinary(message)

    grid.run = remembering  # type: ignore[method-assign]
    strategy = secure()
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)
    for phase in ("SHARE", "MASK", "UNMASK"):
        grid.contexts[ODD], message = kept[phase]
        assert "state-reused" in str(ordinary(message).error.reason)
    grid.contexts[ODD], message = kept["ADVERTISE"]
    code = ordinary(message).content.config_records[RECORD]["message"]
    assert len(code) < 60, "an ABORT, and no second set of keys"


def test_the_context_alone_refuses_a_second_invitation() -> None:
    grid = MemoryGrid(App(secagg_mod).app, 8)
    for node in grid.nodes:
        with_node_config(grid, node, again=True)
    strategy = secure()
    one_round(strategy, grid, model())
    invitation = next(message for phase, message in grid.sent if phase == "ADVERTISE")
    first = next(reply for phase, reply in grid.replies if phase == "ADVERTISE")
    again = grid.run(invitation).content.config_records[RECORD]["message"]
    assert len(again) < 60 < len(first.content.config_records[RECORD]["message"])


# The node's own config.


@pytest.mark.parametrize("config", [{"gamma": 0.4}, {"min_survivors": 8}])
def test_a_node_asks_for_more_than_the_server_offers(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = secure(), MemoryGrid(App(secagg_mod).app, 8)
    with_node_config(grid, ODD, **config)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    assert "config-below-policy" in caplog.text


@pytest.mark.parametrize(
    "config", [{"gamma": "much"}, {"gamma": 1.5}, {"min_survivors": 2.5}, {"tokens": 5}, {"directory": "missing"}]
)
def test_a_node_config_that_cannot_be_used(config: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    strategy, grid = secure(), MemoryGrid(App(secagg_mod).app, 8)
    with_node_config(grid, ODD, **config)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    odd = next(reply for phase, reply in grid.replies if reply.metadata.src_node_id == ODD)
    name = next(iter(config))
    assert name.replace("_", "-") in odd.error.reason or "missing" in odd.error.reason or name == "min_bits"
