"""What a host attaches to its vector: one value by the number of losses, in UNMASK and not before, and once."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import (
    Accepted,
    Client,
    ClientState,
    ErrorCode,
    InputError,
    Misbehaved,
    PeerError,
    Policy,
    RoundConfig,
    Server,
    ThreatModel,
    UsedTokens,
)
from secagg.pairwise.client import attachment
from secagg.primitives.secret import Secret
from tests.support import wire
from tests.support.staging import MODELS, Copies, Stage, message_for, semi_honest

CLIENTS, SIZE = 8, 24
Levels = list[tuple[int, bytes]]


def value(client: int, losses: int) -> bytes:
    return hashlib.shake_256(f"{client} {losses}".encode()).digest(SIZE)


def config_of(threat_model: ThreatModel, **options: Any) -> RoundConfig:
    options = {"version": 2, "attachment_bytes": SIZE, "delta": 0.25, **options}
    return MODELS[threat_model](CLIENTS, 5, **options)


def staged(config: RoundConfig, losses: Collection[int] = (0, 1, CLIENTS)) -> Stage:
    stage = Stage(config)
    stage.attachments = lambda client: [(most, value(client, most)) for most in losses]
    return stage


def with_input(config: RoundConfig) -> tuple[Stage, Client]:
    """A client that waits for its vector."""
    stage = staged(config).play("MASK")
    client = stage.clients[2]
    client.receive(message_for(stage.server, 2))
    return stage, client


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize(
    ("silent", "level"),
    [({}, 0), ({"MASK": [1]}, 1), ({"SHARE": [1]}, 1), ({"ADVERTISE": [0], "MASK": [1]}, CLIENTS)],
)
def test_the_number_of_losses_says_which_value_is_revealed(
    threat_model: ThreatModel, silent: Mapping[str, Collection[int]], level: int
) -> None:
    result = staged(config_of(threat_model)).play(silent=silent).server.compute()
    assert len(result.included) == CLIENTS - sum(map(len, silent.values()))
    assert result.attachments == {client: value(client, level) for client in result.included}
    assert list(result.attachments) == sorted(result.attachments)


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(0, 40))
def test_the_first_value_for_at_least_so_many_losses(losses: set[int], lost: int) -> None:
    config = semi_honest(4, version=2, attachment_bytes=SIZE)
    levels = [(most, value(0, most)) for most in sorted({*losses, 40})]
    held = attachment.taken(levels, config)
    assert attachment.revealed(*held, lost) == next(given for most, given in levels if most >= lost)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_one_value_serves_any_number_of_losses(threat_model: ThreatModel) -> None:
    stage = Stage(config_of(threat_model))
    stage.attachments = [bytes([client]) * SIZE for client in range(CLIENTS)]
    result = stage.play(silent={"MASK": [5], "UNMASK": [3]}).server.compute()
    assert result.attachments == {client: bytes([client]) * SIZE for client in (0, 1, 2, 4, 6, 7)}


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_who_is_silent_in_unmask_attaches_nothing_and_is_in_the_sum(threat_model: ThreatModel) -> None:
    result = staged(config_of(threat_model)).play(silent={"UNMASK": [3]}).server.compute()
    assert 3 in result.included
    assert set(result.attachments) == set(range(CLIENTS)) - {3}


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_nothing_of_it_is_sent_before_unmask_and_one_value_then(threat_model: ThreatModel) -> None:
    stage = staged(config_of(threat_model))
    stage.finish()
    for phase, answers in stage.sent.items():
        for client, data in answers.items():
            sent = [most for most in (0, 1, CLIENTS) if value(client, most) in data]
            assert sent == ([0] if phase == "UNMASK" else [])


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_it_is_a_secret_that_is_wiped_with_the_state(threat_model: ThreatModel) -> None:
    stage, client = with_input(config_of(threat_model))
    client.submit(stage.vector(2), stage.attachments(2))  # type: ignore[operator]
    held = [thing for thing in gc.get_referents(client._record) if isinstance(thing, Secret)]
    (secret,) = [thing for thing in held if value(2, 0) in thing.reveal()]
    assert value(2, 0).hex() not in repr(client._record)
    assert repr(value(2, 0))[2:-1] not in repr(client._record)
    client.abort()
    with pytest.raises(RuntimeError, match="wiped"):
        secret.reveal()


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_it_is_wiped_with_the_answer(threat_model: ThreatModel) -> None:
    stage = staged(config_of(threat_model)).play("UNMASK")
    client = stage.clients[2]
    held = [thing for thing in gc.get_referents(client._record) if isinstance(thing, Secret)]
    assert any(value(2, 0) in thing.reveal() for thing in held)
    stage.answer(2)
    assert client.state is ClientState.DONE
    for secret in held:
        with pytest.raises(RuntimeError, match="wiped"):
            secret.reveal()


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_it_outlasts_a_suspended_client(threat_model: ThreatModel) -> None:
    stage = staged(config_of(threat_model))
    while not stage.server.ready_to_compute:
        for index in sorted(stage.server.missing):
            if index in stage.clients:
                state = stage.clients[index].suspend(bytes(32))
                assert value(index, 1) not in state
                trust = stage.trust_of(index)
                stage.clients[index] = Client.resume(state, UsedTokens(), key=bytes(32), **trust)
            stage.deliver({index: stage.answer(index)})
        stage.server.close_phase()
    attached = stage.server.compute().attachments
    assert attached == {client: value(client, 0) for client in range(CLIENTS)}


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_it_outlasts_a_restored_server(threat_model: ThreatModel) -> None:
    stage = staged(config_of(threat_model)).play("UNMASK")
    answers = stage.answers()
    for index, answer in answers.items():
        stage.server = Server.restore(stage.server.snapshot(), **stage.trust)
        stage.deliver({index: answer})
    stage.close()
    stage.server = Server.restore(stage.server.snapshot(), **stage.trust)
    assert stage.server.compute().attachments == {client: value(client, 0) for client in range(CLIENTS)}


WRONG: Mapping[str, tuple[Any, str]] = {
    "none": (None, "asks for an attachment of 24 bytes"),
    "too short": (bytes(SIZE - 1), "has 23 bytes; this round's have 24"),
    "too long": (bytes(SIZE + 1), "has 25 bytes"),
    "one value too short": ([(0, bytes(SIZE)), (8, bytes(SIZE - 1))], "up to 8 has 23 bytes"),
    "no values": ([], "up to none"),
    "not for all losses": ([(0, bytes(SIZE)), (1, bytes(SIZE))], "at least 2, the most clients that may be missing"),
    "losses that fall": ([(8, bytes(SIZE)), (2, bytes(SIZE))], "must ascend"),
    "losses twice": ([(8, bytes(SIZE)), (8, bytes(SIZE))], "must ascend"),
    "negative losses": ([(-1, bytes(SIZE)), (8, bytes(SIZE))], "pairs"),
    "losses that are no number": ([("8", bytes(SIZE))], "pairs"),
    "no pairs": ([bytes(SIZE)], "pairs"),
    "a text": ("x" * SIZE, "bytes, or a sequence of pairs"),
    "texts": ([(8, "x" * SIZE)], "bytes, or a sequence of pairs"),
    "a number": (7, "bytes, or a sequence of pairs"),
}


@pytest.mark.parametrize(("given", "told"), WRONG.values(), ids=WRONG.keys())
def test_another_attachment_is_refused_and_the_client_waits_for_the_right_one(given: Any, told: str) -> None:
    config = config_of(ThreatModel.SEMI_HONEST, min_survivors=6)
    stage, client = with_input(config)
    with pytest.raises(InputError, match=told):
        client.submit(stage.vector(2), given)
    assert client.state is ClientState.INPUT
    assert client.submit(stage.vector(2), bytearray(SIZE)).outgoing


def test_no_error_shows_a_value() -> None:
    stage, client = with_input(config_of(ThreatModel.SEMI_HONEST))
    shown = value(2, 9)
    for wrong in (shown + b"x", [(0, shown)], [(shown, 8)], [(8, [shown])], [shown]):
        with pytest.raises(InputError) as refused:
            client.submit(stage.vector(2), wrong)  # type: ignore[arg-type]
        assert not any(form in str(refused.value) for form in (repr(shown)[2:-1], shown.hex(), str(list(shown))[1:-1]))


@pytest.mark.parametrize("version", [1, 2])
def test_a_round_without_attachments_takes_none(version: int) -> None:
    stage, client = with_input(config_of(ThreatModel.SEMI_HONEST, version=version, attachment_bytes=0))
    with pytest.raises(InputError, match="takes no attachment"):
        client.submit(stage.vector(2), b"")
    assert client.submit(stage.vector(2)).outgoing
    stage = Stage(config_of(ThreatModel.SEMI_HONEST, version=version, attachment_bytes=0))
    assert stage.finish().attachments == {}


@pytest.mark.parametrize("change", [-1, 1, -SIZE])
def test_a_server_refuses_one_of_another_length(change: int) -> None:
    stage = staged(config_of(ThreatModel.ACTIVE)).play("UNMASK")
    answer = stage.answer(2)
    *rest, attached = wire.read(answer)
    other = attached + bytes(change) if change > 0 else attached[:change]
    event = stage.server.receive(2, wire.write([*rest, other])).event
    assert isinstance(event, Misbehaved)
    assert (event.code, event.sender) == (ErrorCode.WRONG_LENGTH, 2)
    assert f"an attachment of {len(other)} bytes" in event.detail
    assert isinstance(stage.server.receive(2, answer).event, Accepted)


def test_it_counts_although_a_share_beside_it_is_bad() -> None:
    stage = staged(config_of(ThreatModel.SEMI_HONEST)).play("UNMASK")
    answers = stage.answers()
    *rest, opened, attached = wire.read(answers[2])
    answers[2] = wire.write([*rest, bytes([opened[0] ^ 1]) + opened[1:], attached])
    events = stage.deliver(answers)
    assert [type(event) for event in events].count(Misbehaved) == 1
    stage.close()
    assert stage.server.compute().attachments[2] == value(2, 0)


def test_a_second_one_is_a_conflict() -> None:
    stage = staged(config_of(ThreatModel.SEMI_HONEST)).play("UNMASK")
    answer = stage.answer(2)
    stage.server.receive(2, answer)
    *rest, _ = wire.read(answer)
    event = stage.server.receive(2, wire.write([*rest, bytes(SIZE)])).event
    assert isinstance(event, Misbehaved)
    assert event.code is ErrorCode.CONFLICT


def test_a_host_that_knows_of_no_attachment_finds_out_before_it_joins() -> None:
    server = Server(config_of(ThreatModel.SEMI_HONEST))
    used: list[bytes] = []
    with pytest.raises(PeerError, match="attachment_bytes = 24; this client's policy asks for at most 0") as refused:
        Client.join(server.invitation(), 2, consume=lambda token: not used.append(token))
    assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY
    assert used == []
    assert Client.join(server.invitation(), 2, policy=Policy(max_attachment_bytes=24)).start()


def test_a_client_suspended_before_there_were_attachments_is_resumed() -> None:
    """Form 1 of a suspended client had two elements less in the states that now hold an attachment."""
    copies = Copies(MODELS[ThreatModel.ACTIVE](4, 5))
    for state in (ClientState.MASKED, ClientState.CONFIRMED):
        suspended = copies.suspended[state]
        token, plain = suspended[1:33], msgspec.msgpack.decode(suspended[65:])
        form, round_, record, seen = plain
        assert form == 3
        assert record[-2:] == [[], b""]
        former = msgspec.msgpack.encode([1, round_, record[:-2], seen])
        copies.suspended[state] = b"\0" + token + hashlib.sha256(token + former).digest() + former
        client = copies.client(state)
        assert client.state is state
    assert client.receive(copies.inbox["Confirmations"]).outgoing == (copies.stage.sent["UNMASK"][2],)
    unknown = msgspec.msgpack.encode([4, round_, record[:-2], seen])
    copies.suspended[state] = b"\0" + token + hashlib.sha256(token + unknown).digest() + unknown
    with pytest.raises(ValueError, match="form 4; this library resumes 1 to 3"):
        copies.client(state)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_version_2_sums_as_version_1_does(threat_model: ThreatModel) -> None:
    first, second = (staged(config_of(threat_model, version=version, attachment_bytes=0)) for version in (1, 2))
    for stage in (first, second):
        stage.attachments = None
    sums = [stage.finish() for stage in (first, second)]
    assert np.array_equal(sums[0].sum, sums[1].sum)
    assert sums[0].session != sums[1].session
    assert first.sent["ADVERTISE"] != second.sent["ADVERTISE"]
