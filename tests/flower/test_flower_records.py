"""Several array records a round, and a strategy that is no FedAvg: SCAFFOLD, beside the same in plain NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from secagg import LayoutPolicy
from secagg.adapters.flower import SecAggMod, SecAggStrategy, Sum, secagg_mod
from secagg.adapters.flower.announcement import Announcement, UpdateTerms
from secagg.adapters.flower.model_records import by_record, flat_model, record_sizes
from secagg.errors import InputError, ParameterError
from secagg.robust import Ballot
from tests.support.flower_grid import App, MemoryGrid, arrays_of, record_of
from tests.support.flower_scaffold import Scaffold, plain, start, train, zeros
from tests.support.flower_setup import members

NODES = 8
LOST = 104


def scaffold(mod: Any = secagg_mod, *, fit: Any = train, **options: Any) -> tuple[SecAggStrategy, Scaffold, MemoryGrid]:
    wrapped = Scaffold(NODES)
    strategy = SecAggStrategy(wrapped, **({"clip": 4.0, "max_weight": None, "bits": 28} | options))
    return strategy, wrapped, MemoryGrid(App(mod, train=fit).app, NODES)


def test_scaffold_is_scaffold() -> None:
    """Model and control variates come out of one sum, each under its record's name, as plain means have them."""
    strategy, wrapped, grid = scaffold()
    grid.mute = {("MASK", LOST)}
    result = strategy.start(grid, record_of(start()), num_rounds=3)
    model, control = plain([node for node in grid.nodes if node != LOST], NODES, 3)
    for name, values in model.items():
        assert np.abs(arrays_of(result.arrays)[name] - values).max() < 1e-5
        assert np.abs(arrays_of(wrapped.control)[name] - control[name]).max() < 1e-5
        assert np.abs(control[name]).max() > 0.1, "or the test says nothing"
    assert [sorted(replies[0].content) for replies in wrapped.replies] == [["arrays", "control", "metrics"]] * 3
    left = {name for _, reply in grid.replies for name in reply.content}
    assert left == {"secagg.round"}, "nothing but the protocol's record has left a node"


def test_a_whole_app_against_a_server_that_lies(tmp_path: Path) -> None:
    """In ``active``, with identities: several records, a part of them, sums of metrics, and a client lost."""
    mod = SecAggMod(
        identity=lambda context: tmp_path / f"{context.node_id}.json",
        directory=tmp_path / "cohort.json",
        tokens=lambda context: tmp_path / f"{context.node_id}.sqlite",
    )
    strategy, wrapped, grid = scaffold(
        mod,
        threat_model="active",
        run_config={},
        directory=members(tmp_path, NODES),
        gamma=0.2,
        delta=0.25,
        exclude=["control/bias"],
        metrics={"num-batches": Sum(10, decimals=0)},
        fit=with_batches,
    )
    grid.mute = {("MASK", LOST)}
    result = strategy.start(grid, record_of(start()), num_rounds=1)
    assert strategy.reports[1].failure == ""
    assert strategy.reports[1].metrics == {"num-batches": 3 * (NODES - 1)}
    model, control = plain([node for node in grid.nodes if node != LOST], NODES, 1)
    assert np.abs(arrays_of(result.arrays)["weight"] - model["weight"]).max() < 1e-5
    assert np.abs(arrays_of(wrapped.control)["weight"] - control["weight"]).max() < 1e-5
    assert np.array_equal(arrays_of(wrapped.control)["bias"], np.zeros(3)), "it was not summed"


def with_batches(message: Message, context: Any) -> Message:
    reply = train(message, context)
    reply.content["metrics"] = MetricRecord({"num-examples": 7, "num-batches": 3})
    return reply


def test_settings_of_one_record_go_by_its_name() -> None:
    strategy, _, grid = scaffold(clips={"control/*": 9.0})
    strategy.start(grid, record_of(start()), num_rounds=1)
    assert sorted(strategy.reports[1].error_bounds) == ["control/bias", "control/weight"]


def test_a_failed_round_gives_a_strategy_of_ones_own_no_reply() -> None:
    strategy, wrapped, grid = scaffold()
    grid.mute = {("MASK", node) for node in grid.nodes[:6]}
    result = strategy.start(grid, record_of(start()), num_rounds=1)
    assert wrapped.replies == [[]]
    assert strategy.reports[1].failure
    assert len(result.arrays) == 0, "Flower hands out what aggregate_train returned"


def without_control(message: Message, context: Any) -> Message:
    reply = train(message, context)
    del reply.content["control"]
    return reply


def test_a_reply_that_lacks_a_record_is_named_in_the_clients_log(caplog: pytest.LogCaptureFixture) -> None:
    strategy, _, grid = scaffold(fit=without_control)
    strategy.start(grid, record_of(start()), num_rounds=1)
    assert (
        "the app's reply has the array records 'arrays'; it must have those that it was sent: 'arrays', 'control'"
        in (caplog.text)
    )


def test_a_node_bounds_the_records(caplog: pytest.LogCaptureFixture) -> None:
    """In its policy or its config; and nothing but a refusal leaves it."""
    mod = SecAggMod(layout_policy=LayoutPolicy(records=frozenset({"arrays"})))
    strategy, _, grid = scaffold(mod)
    strategy.start(grid, record_of(start()), num_rounds=1)
    assert "sums the record 'control'; this client's policy allows 'arrays'" in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}


def test_a_ballot_is_about_one_record() -> None:
    strategy, _, grid = scaffold(ballot=Ballot())
    with pytest.raises(ParameterError, match="a ballot is about one model"):
        strategy.start(grid, record_of(start()), num_rounds=1)


NAMES = st.text(alphabet="ab/", max_size=3)


@given(st.dictionaries(NAMES, st.lists(NAMES, unique=True, max_size=3), min_size=1, max_size=3))
def test_records_come_back_as_they_were(named: dict[str, list[str]]) -> None:
    records = {
        record: record_of({name: np.array([place, index]) for index, name in enumerate(names)})
        for place, (record, names) in enumerate(named.items())
    }
    called = [f"{record}/{name}" for record, names in named.items() for name in names]
    if len(named) > 1 and len(set(called)) < len(called):
        with pytest.raises(InputError, match="would both be called"):
            flat_model(records)
        return
    assert by_record(flat_model(records), record_sizes(records), alone=next(iter(named))) == records


def announced(records: tuple[tuple[str, int], ...]) -> bytes:
    terms = UpdateTerms(1.0, 16, None, {}, {}, {}, True, "num-examples", False)
    model = flat_model({"arrays": record_of(start()), "control": record_of(zeros())})
    return Announcement.of(model, terms, b"", records).to_bytes()


@pytest.mark.parametrize(
    "records", [(("arrays", 2),), (("arrays", 5), ("control", -1)), (("arrays", 3), ("control", 1)), (("x", 4),)]
)
def test_announced_records_hold_the_announced_arrays(records: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(ParameterError, match=r"in the records|its name says otherwise"):
        Announcement.from_bytes(announced(records))
    assert Announcement.from_bytes(announced((("arrays", 2), ("control", 2)))).records


def test_a_server_cannot_hide_a_record_from_a_nodes_policy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Announced as one record, the arrays would have names that the owner's patterns do not match."""
    honest = Announcement.to_bytes
    monkeypatch.setattr(Announcement, "to_bytes", lambda said: honest(msgspec.structs.replace(said, records=())))
    mod = SecAggMod(layout_policy=LayoutPolicy(local_arrays=frozenset({"bias"})))
    strategy, _, grid = scaffold(mod)
    strategy.start(grid, record_of(start()), num_rounds=1)
    assert strategy.reports[1].included == ()
    assert caplog.text.count("are not those that this round was announced for") == NODES
    assert len(strategy.reports[1].dropped["MASK"]) == NODES


def test_one_record_is_announced_as_it_always_was() -> None:
    """Without records and parts the bytes have no field of theirs, so that other versions read them."""
    fields = msgspec.msgpack.decode(announced(()))
    assert sorted(fields) == ["arrays", "layout", "model", "told"]
    assert "left_out" not in fields["layout"]


def test_the_metrics_record_keeps_its_name() -> None:
    class Clash(Scaffold):
        def configure_train(self, *args: Any) -> list[Message]:
            content = RecordDict({"arrays": record_of(start()), "metrics": record_of(zeros())})
            return [Message(content, dst_node_id=node, message_type="train") for node in range(101, 109)]

    strategy = SecAggStrategy(Clash(NODES), clip=1.0, max_weight=None)
    with pytest.raises(ParameterError, match="an array record is called 'metrics'"):
        strategy.start(MemoryGrid(App(secagg_mod).app, NODES), record_of(start()), num_rounds=1)
