"""What a server holds: each fact in the record of the phase that settled it, and nothing longer than it is needed."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from types import NoneType
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import AbortCode, Server, ServerState, ThreatModel
from secagg.pairwise.records import SEALED_BYTES
from secagg.pairwise.server import records
from secagg.pairwise.server.records import STATES, Aborted, Advertised, Masked, Shared, Unmasked
from secagg.pairwise.server.snapshot import load
from secagg.simulation.faults import phases_of
from tests.support.staging import MODELS, Stage, semi_honest

RECORDS = [*(value for value in vars(records).values() if isinstance(value, type) and value in STATES)]
RECORDS += [Advertised, Shared, Masked, records.Confirmed]
EVERY_PHASE = [(threat_model, phase) for threat_model, make in MODELS.items() for phase in phases_of(make(5))]


def held_by(server: Server, directory: Any) -> Any:
    return load(server.snapshot(), directory).held


def within(record: msgspec.Struct) -> Iterator[tuple[msgspec.Struct, str, Any]]:
    """Every field of a record and of the records before it."""
    for name in record.__struct_fields__:
        value = getattr(record, name)
        yield record, name, value
        if isinstance(value, msgspec.Struct):
            yield from within(value)


def arrays_in(record: msgspec.Struct) -> dict[str, np.ndarray]:
    return {name: value for _, name, value in within(record) if isinstance(value, np.ndarray)}


def test_each_state_has_one_type() -> None:
    assert sorted(STATES.values()) == sorted(ServerState)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_has_what_it_says(record: type[msgspec.Struct]) -> None:
    """No field is there in some states and None in others; the one exception is how far an aborted round came."""
    hints = typing.get_type_hints(record)
    optional = {name for name in record.__struct_fields__ if NoneType in typing.get_args(hints[name])}
    assert optional == ({"advertised"} if record is Aborted else set())


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("threat_model", ThreatModel)
def test_what_a_phase_was_closed_with_does_not_change(threat_model: ThreatModel, restored: bool) -> None:
    stage = Stage(MODELS[threat_model](5)).play()
    unmasked = held_by(stage.server, stage.directory) if restored else stage.server._held
    assert isinstance(unmasked, Unmasked)
    assert {"total", "commitments", "pair_secrets", "shares", "good"} == set(arrays_in(unmasked))
    for record, name, value in within(unmasked):
        with pytest.raises(AttributeError):
            setattr(record, name, value)
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match="read-only"):
                value[...] = 0
    assert stage.server.compute().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_sealed_shares_are_held_until_their_holders_have_them(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](5)).play("MASK")
    assert arrays_in(stage.server._held)["sealed"].shape == (5 * 4, SEALED_BYTES)
    stage.play("UNMASK")
    assert "sealed" not in arrays_in(stage.server._held)


@pytest.mark.parametrize(("threat_model", "phase"), EVERY_PHASE)
def test_an_aborted_round_holds_nothing_that_could_be_opened(threat_model: ThreatModel, phase: str) -> None:
    stage = Stage(MODELS[threat_model](5)).play(phase)
    stage.collect(silent=[4])
    graph = stage.server.graph
    stage.server.abort("for a test")
    for held in (stage.server._held, held_by(stage.server, stage.directory)):
        assert isinstance(held, Aborted)
        assert arrays_in(held) == {}
    assert stage.server.graph is graph
    assert (graph is None) == (phase == "ADVERTISE")


def test_a_round_that_ends_with_advertise_has_its_graph() -> None:
    """The roster was made, and shows that too few have neighbours enough; a restored server knows it as well."""
    stage = Stage(semi_honest(5))
    stage.collect(silent=[0, 1, 2])
    stage.server.close_phase()
    assert stage.server.failure is not None
    assert (stage.server.phase, stage.server.failure.code) == ("ABORTED", AbortCode.TOO_FEW_CLIENTS)
    for server in (stage.server, Server.restore(stage.server.snapshot())):
        assert server.graph is not None
        assert server.graph.neighbours_of(0).tolist() == [1, 2, 3, 4]
