"""Both machines against their tables: what fits which state, what survives a restart, what is gone at the end."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import (
    AbortCode,
    Accepted,
    Client,
    ClientState,
    ErrorCode,
    Finished,
    InputError,
    InputNeeded,
    ParameterError,
    PeerError,
    Result,
    RoundAborted,
    Server,
    ServerState,
    StateError,
    Step,
    ThreatModel,
    UsedTokens,
)
from secagg.pairwise.phases import CLIENT_ENDED, OF_COMPLAINTS, SERVER_ENDED, HostCall, collected_in
from secagg.pairwise.transitions import CLIENT, CLIENT_WITH_COMPLAINTS, SERVER, SERVER_WITH_COMPLAINTS, input_name
from secagg.primitives.secret import Secret
from secagg.simulation import SeededRandomness
from secagg.simulation.faults import phases_of
from secagg.testing.strategies import cohort
from tests.support import wire
from tests.support.staging import MODELS, Copies, Stage, active, message_for, semi_honest

KEY = bytes(range(100, 132))
PHASES = {threat_model: phases_of(make(5)) for threat_model, make in MODELS.items()}
EVERY_PHASE = [(threat_model, phase) for threat_model, phases in PHASES.items() for phase in phases]
WITH_COMPLAINTS = {*map(ServerState, OF_COMPLAINTS), ClientState.CHECKED, ClientState.ANSWERED}
"""The states of rounds with complaints alone: ``test_complaints`` and the vectors go through them."""
SERVER_STATES = [
    (threat_model, state)
    for threat_model in ThreatModel
    for state in ServerState
    if state not in WITH_COMPLAINTS
    if threat_model is ThreatModel.ACTIVE or state is not ServerState.CONFIRM
]
CLIENT_STATES = [
    (threat_model, state)
    for threat_model in ThreatModel
    for state in ClientState
    if state not in WITH_COMPLAINTS
    if threat_model is ThreatModel.ACTIVE or state is not ClientState.CONFIRMED
]
LIVE = [pair for pair in CLIENT_STATES if pair[1] not in CLIENT_ENDED]


@lru_cache
def copies_of(threat_model: ThreatModel) -> Copies:
    return Copies(MODELS[threat_model](5))


def server_in(threat_model: ThreatModel, state: ServerState) -> Stage:
    stage = Stage(MODELS[threat_model](5))
    if state is ServerState.ABORTED:
        stage.play("MASK").server.abort("for a test")
    elif state is ServerState.DONE:
        stage.finish()
    else:
        stage.play(state)
    assert stage.server.phase is state
    return stage


def same_result(one: Result, other: Result) -> bool:
    return (
        one.sum.tolist() == other.sum.tolist()
        and one.sum.dtype == other.sum.dtype
        and all(
            getattr(one, name) == getattr(other, name)
            for name in ("modulus", "included", "dropped", "blame", "security", "session", "transcript_digest")
        )
    )


# The tables.


@pytest.mark.parametrize(("threat_model", "state"), SERVER_STATES)
def test_the_server_s_calls(threat_model: ThreatModel, state: ServerState) -> None:
    """A pair in the table leads where the table says; any other is a StateError that changes nothing."""
    table = SERVER[threat_model]
    calls: dict[HostCall, Callable[[Server], object]] = {
        HostCall.CLOSE: Server.close_phase,
        HostCall.COMPUTE: Server.compute,
    }
    for made, call in calls.items():
        stage = server_in(threat_model, state)
        if collected_in(state) is not None:
            stage.collect()
        if (state, made) in table:
            call(stage.server)
            assert stage.server.phase is table[state, made]
        elif (state, made) != (ServerState.DONE, HostCall.COMPUTE):  # computing again gives the result again
            before = stage.server.snapshot()
            with pytest.raises(StateError, match=state):
                call(stage.server)
            assert stage.server.snapshot() == before
            assert stage.server.phase is state


@pytest.mark.parametrize(("threat_model", "state"), CLIENT_STATES)
def test_the_client_s_calls(threat_model: ThreatModel, state: ClientState) -> None:
    table, copies = CLIENT[threat_model], copies_of(threat_model)
    vector = copies.stage.vector(copies.index)
    calls: dict[HostCall, Callable[[Client], object]] = {
        HostCall.START: Client.start,
        HostCall.SUBMIT: lambda client: client.submit(vector),
    }
    for made, call in calls.items():
        client = copies.client(state)
        if (state, made) in table:
            call(client)
            assert client.state is table[state, made]
        else:
            with pytest.raises(StateError, match=state):
                call(client)
            assert client.state is state


@pytest.mark.parametrize(("threat_model", "state"), CLIENT_STATES)
@pytest.mark.parametrize("kind", ["Roster", "Shares", "Survivors", "Confirmations"])
def test_the_server_s_messages_to_a_client(threat_model: ThreatModel, state: ClientState, kind: str) -> None:
    """In its place, too early, a second time, before the start, after the end."""
    copies = copies_of(threat_model)
    table = {(at, input_name(met)): to for (at, met), to in CLIENT[threat_model].items()}
    message = copies.inbox.get(kind) or wire.write([9, 1, copies.stage.sent["SHARE"][0][5:37], b"", b""])
    order = list(ClientState)
    came_before = {met for (at, met) in table if order.index(at) < order.index(state)}
    client = copies.client(state)
    if (state, kind) in table:
        client.receive(message)
        assert client.state is table[state, kind]
    elif state is ClientState.ABORTED or kind in came_before:
        assert client.receive(message) == Step()
        assert client.state is state
    else:
        with pytest.raises(PeerError) as caught:
            client.receive(message)
        assert caught.value.code is ErrorCode.WRONG_PHASE
        assert client.state is ClientState.ABORTED


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_the_tables_end_where_they_say(threat_model: ThreatModel) -> None:
    """Nothing leads out of an end, everything that is no end leads on, and each phase has its own state."""
    for table, ended, states, absent in (
        (CLIENT[threat_model], CLIENT_ENDED, ClientState, {ClientState.CONFIRMED}),
        (SERVER[threat_model], SERVER_ENDED, ServerState, {ServerState.CONFIRM}),
    ):
        used = set(states) - WITH_COMPLAINTS - (absent if threat_model is ThreatModel.SEMI_HONEST else set())
        assert {state for state, _ in table} == used - ended
        assert set(table.values()) | {next(iter(states))} == used - {states("ABORTED")}
    for table, ended, states, absent in (
        (CLIENT_WITH_COMPLAINTS[threat_model], CLIENT_ENDED, ClientState, {ClientState.CONFIRMED}),
        (SERVER_WITH_COMPLAINTS[threat_model], SERVER_ENDED, ServerState, {ServerState.CONFIRM}),
    ):
        used = set(states) - (absent if threat_model is ThreatModel.SEMI_HONEST else set())
        assert {state for state, _ in table} == used - ended


# The server comes back.


def moments(stage: Stage, silent: dict[str, list[int]]) -> Iterator[None]:
    """Before and after every message and every close."""
    while not stage.server.ready_to_compute:
        yield
        answers = stage.answers(sorted(set(stage.server.missing) - set(silent.get(stage.server.phase.value, ()))))
        for index, answer in answers.items():
            if (stage.server.phase, index) == ("UNMASK", 0):
                answer = answer[:60] + bytes([answer[60] ^ 1]) + answer[61:]
            stage.server.receive(index, answer)
            yield
            stage.server.receive(index, b"\xc1")
            yield
        stage.server.close_phase()
    yield


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_server_that_is_restored_at_every_moment(threat_model: ThreatModel) -> None:
    """It sends the same bytes, says the same, and comes to the same result as one that never was."""
    silent = {"SHARE": [1], "MASK": [6], "UNMASK": [3]}
    undisturbed = Stage(MODELS[threat_model](12, 3, delta=0.34))
    for _ in moments(undisturbed, silent):
        pass
    stage = Stage(undisturbed.config)
    restored = 0
    for _ in moments(stage, silent):
        old = stage.server
        stage.server = Server.restore(old.snapshot(), **stage.trust)
        restored += 1
        assert stage.server.snapshot() == old.snapshot()
        assert list(stage.server.outgoing()) == list(old.outgoing())
        for name in ("phase", "failure", "dropped", "blame", "ready_to_compute", "done", "config"):
            assert getattr(stage.server, name) == getattr(old, name), name
        assert list(stage.server.missing) == list(old.missing)
        assert stage.server.invitation() == old.invitation()
    assert restored > 80
    result = stage.server.compute()
    assert same_result(result, undisturbed.server.compute())
    assert result.sum.tolist() == stage.plain_sum(result.included)
    assert result.dropped == {"SHARE": (1,), "MASK": (6,), "UNMASK": (3,)}
    assert {entry.code for entry in result.blame} == {ErrorCode.MALFORMED, ErrorCode.BAD_SHARE}
    done = Server.restore(stage.server.snapshot(), **stage.trust)
    assert done.phase == "DONE"
    assert same_result(done.compute(), result)


@pytest.mark.parametrize(("threat_model", "phase"), EVERY_PHASE)
def test_a_journal_makes_up_for_a_snapshot_of_the_last_close(threat_model: ThreatModel, phase: str) -> None:
    stage = Stage(MODELS[threat_model](5)).play(phase)
    snapshot = stage.server.snapshot()
    answers = stage.collect()
    restored = Server.restore(snapshot, **stage.trust)
    for index, answer in answers.items():
        assert restored.receive(index, answer).event == Accepted(index, phase)
    assert restored.snapshot() == stage.server.snapshot()
    assert list(restored.close_phase()) == list(stage.server.close_phase())


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_an_aborted_server_is_restored_as_that(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](5)).play("SHARE")
    stage.collect(silent=[0, 1, 2])
    outgoing = list(stage.server.close_phase())
    restored = Server.restore(stage.server.snapshot(), **stage.trust)
    assert restored.failure == stage.server.failure
    assert restored.failure is not None
    assert list(restored.outgoing()) == outgoing


def test_restoring_takes_the_directory_and_this_version() -> None:
    stage = Stage(active(4)).play("MASK")
    snapshot = stage.server.snapshot()
    with pytest.raises(ParameterError, match="directory"):
        Server.restore(snapshot)
    with pytest.raises(ParameterError, match="directory"):
        Server.restore(snapshot, directory=cohort(5)[1])
    with pytest.raises(ParameterError, match="checksum"):
        Server.restore(snapshot[32:], directory=stage.directory)
    with pytest.raises(ParameterError):
        Server.restore(b"", directory=stage.directory)


@pytest.mark.parametrize(("version", "state"), [(1, {"state": "MASK", "awaited": {0: None}}), (5, [])])
def test_a_snapshot_of_another_version_is_refused(version: int, state: Any) -> None:
    """Whatever its state looks like: that of version 1, of release 0.1, was a map."""
    snapshot = Stage(semi_honest(4)).play("MASK").server.snapshot()
    _, config, nonce, *_ = msgspec.msgpack.decode(snapshot[32:])
    other = msgspec.msgpack.encode([version, config, nonce, state])
    with pytest.raises(ParameterError, match=f"a snapshot of version {version}; this library restores version 4"):
        Server.restore(hashlib.sha256(other).digest() + other)


# Closing.


@pytest.mark.parametrize(("threat_model", "phase"), EVERY_PHASE)
def test_closing_with_too_few_answers(threat_model: ThreatModel, phase: str) -> None:
    """The failure names who was waited for; everybody that may be listening is told, and nobody else."""
    stage = Stage(MODELS[threat_model](5)).play(phase)
    answers = stage.answers()
    leaving = 4
    stage.server.receive(leaving, stage.clients[leaving].abort())
    stage.deliver({0: answers[0]})
    outgoing = stage.server.close_phase()
    failure = stage.server.failure
    assert failure is not None
    assert (failure.phase, failure.missing, failure.culprit) == (phase, (1, 2, 3), ())
    assert stage.server.phase == "ABORTED"
    assert stage.server.done
    assert list(stage.server.missing) == []
    round_id = wire.read(stage.sent["ADVERTISE"][0])[2]
    told = [(index, wire.read(data)) for index, data in outgoing]
    assert told == [(index, [0, 1, round_id, AbortCode.TOO_FEW_CLIENTS]) for index in range(4)]
    waiting = [index for index in range(4) if not stage.clients[index].done]
    assert waiting or phase == "UNMASK"
    for index in waiting:
        assert stage.clients[index].receive(dict(outgoing)[index]).event == RoundAborted(AbortCode.TOO_FEW_CLIENTS)
        assert stage.clients[index].state is ClientState.ABORTED


@pytest.mark.parametrize(("threat_model", "phase"), EVERY_PHASE)
def test_nobody_answers(threat_model: ThreatModel, phase: str) -> None:
    stage = Stage(MODELS[threat_model](4)).play(phase)
    stage.server.close_phase()
    assert stage.server.failure is not None
    assert (stage.server.failure.phase, stage.server.failure.missing) == (phase, (0, 1, 2, 3))


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_what_goes_out_can_be_had_again(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](5))
    while not stage.server.ready_to_compute:
        outgoing = stage.server.outgoing()
        again = stage.server.outgoing()
        assert list(outgoing) == list(outgoing) == list(again)
        assert len(outgoing) == len(list(outgoing)) == len(outgoing.recipients)
        assert [outgoing.to(index) for index in outgoing.recipients] == [data for _, data in again]
        assert outgoing.to(99) is None
        stage.collect(silent=[2] if stage.server.phase == "MASK" else [])
        closed = stage.server.close_phase()
        assert list(closed) == list(stage.server.outgoing())
    assert list(stage.server.outgoing()) == []


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK"])
def test_who_is_lost_is_told_so_once(threat_model: ThreatModel, phase: str) -> None:
    stage = Stage(MODELS[threat_model](5)).play(phase)
    stage.deliver({index: answer for index, answer in stage.answers().items() if index != 3})
    outgoing = stage.server.close_phase()
    assert wire.read(outgoing.to(3) or b"")[:2] + wire.read(outgoing.to(3) or b"")[3:] == [0, 1, AbortCode.EXCLUDED]
    assert stage.clients[3].receive(outgoing.to(3) or b"").event == RoundAborted(AbortCode.EXCLUDED)
    stage.collect()
    assert 3 not in stage.server.close_phase().recipients


def test_who_confirmed_nothing_is_asked_for_nothing() -> None:
    """Only who confirmed the survivors is sent the confirmations: the others could not check them."""
    stage = Stage(active(5)).play("CONFIRM")
    stage.collect(silent=[2])
    outgoing = stage.server.close_phase()
    assert set(stage.server.missing) == {0, 1, 3, 4}
    assert wire.read(outgoing.to(2) or b"")[0] == 0
    result = stage.finish()
    assert result.included == (0, 1, 2, 3, 4)
    assert result.dropped == {"CONFIRM": (2,)}


@pytest.mark.parametrize(("threat_model", "state"), SERVER_STATES)
def test_the_host_ends_the_round(threat_model: ThreatModel, state: ServerState) -> None:
    stage = server_in(threat_model, state)
    failure, recipients = stage.server.failure, stage.server.outgoing().recipients
    outgoing = stage.server.abort("enough")
    if state in SERVER_ENDED:
        assert (stage.server.phase, stage.server.failure) == (state, failure)
        return
    assert stage.server.failure is not None
    assert (stage.server.failure.phase, stage.server.failure.reason) == (state, "enough")
    assert outgoing.recipients == recipients
    assert {wire.read(data)[3] for _, data in outgoing} <= {AbortCode.CANCELLED}
    assert list(stage.server.abort("again")) == list(outgoing)
    assert stage.server.failure.reason == "enough"


def test_missing_is_a_live_view() -> None:
    stage = Stage(semi_honest(4))
    missing = stage.server.missing
    for index in range(4):
        assert set(missing) == set(range(index, 4))
        stage.deliver({index: stage.answer(index)})
    assert not missing
    with pytest.raises(AttributeError):
        missing.add(1)  # type: ignore[attr-defined]


# Computing.


class Breaking(Executor):
    """An executor whose machines are gone."""

    def submit(self, *call: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(OSError("no worker"))
        return future


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_computing(threat_model: ThreatModel) -> None:
    """Again, on threads, after an executor broke down: the same."""
    stage = Stage(MODELS[threat_model](6, 1001)).play(silent={"MASK": [4]})
    snapshot = stage.server.snapshot()
    with pytest.raises(OSError, match="no worker"):
        stage.server.compute(Breaking())
    assert stage.server.ready_to_compute
    assert stage.server.snapshot() == snapshot
    result = stage.server.compute()
    assert stage.server.compute() is result
    assert result.sum.tolist() == stage.plain_sum([0, 1, 2, 3, 5])
    with pytest.raises(ValueError, match="read-only"):
        result.sum[0] = 1
    with ThreadPoolExecutor(3) as executor:
        other = Server.restore(snapshot, **stage.trust)
        assert same_result(other.compute(executor), result)
        elsewhere = executor.submit(Server.restore(snapshot, **stage.trust).compute)
        assert same_result(elsewhere.result(), result)


def test_a_bug_ends_the_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is not foreseen leaves no half-changed machine behind."""
    stage = Stage(semi_honest(4)).play("MASK")
    answers = stage.answers()

    def break_down(*arguments: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("secagg.arithmetic.add_packed", break_down)
        with pytest.raises(ZeroDivisionError):
            stage.server.receive(0, answers[0])
    assert stage.server.phase == "ABORTED"
    assert stage.server.failure is not None
    assert "ZeroDivisionError" in stage.server.failure.reason
    assert {wire.read(data)[3] for _, data in stage.server.outgoing()} == {AbortCode.INTERNAL}
    client = copies_of(ThreatModel.SEMI_HONEST).client("INPUT")
    with monkeypatch.context() as patch:
        patch.setattr("secagg.primitives.masking.apply_masks", break_down)
        with pytest.raises(ZeroDivisionError):
            client.submit(stage.vector(2))
    assert client.state is ClientState.ABORTED


# A client comes back.


@pytest.mark.parametrize("key", [None, KEY], ids=["clear", "sealed"])
@pytest.mark.parametrize("threat_model", ThreatModel)
def test_clients_that_are_suspended_at_every_moment(threat_model: ThreatModel, key: bytes | None) -> None:
    """They send the very bytes that they would have sent."""
    undisturbed, stage = Stage(MODELS[threat_model](5)), Stage(MODELS[threat_model](5))
    expected = undisturbed.finish()
    used = UsedTokens()

    def restart(index: int, label: str) -> None:
        client, source = stage.clients[index], SeededRandomness(stage.seed, label)
        trust = stage.trust_of(index)
        stage.clients[index] = Client.resume(client.suspend(key), used, key=key, randomness=source, **trust)
        assert client.state is ClientState.ABORTED
        assert (stage.clients[index].index, stage.clients[index].config) == (index, stage.config)

    for index in range(5):
        stage.join(index, randomness=SeededRandomness(0, f"token {index}"))
        restart(index, f"client {index}")
    while not stage.server.ready_to_compute:
        for index in sorted(stage.server.missing):
            if stage.server.phase == "ADVERTISE":
                answer = stage.clients[index].start()
            else:
                step = stage.clients[index].receive(message_for(stage.server, index))
                if isinstance(step.event, InputNeeded):
                    restart(index, f"input {index}")
                    step = stage.clients[index].submit(stage.vector(index))
                (answer,) = step.outgoing
            assert answer == undisturbed.sent[stage.server.phase.value][index]
            assert stage.server.receive(index, answer).event == Accepted(index, stage.server.phase.value)
            if not stage.clients[index].done:
                restart(index, f"{stage.server.phase} {index}")
        stage.server.close_phase()
    assert same_result(stage.server.compute(), expected)


@pytest.mark.parametrize(("threat_model", "state"), LIVE)
def test_a_suspended_state_is_opened_by_its_key_alone(threat_model: ThreatModel, state: ClientState) -> None:
    copies = copies_of(threat_model)
    trust = copies.stage.trust_of(copies.index)
    sealed, clear = copies.client(state).suspend(KEY), copies.client(state).suspend()
    refused = [(sealed, None), (sealed, bytes(32)), (sealed, KEY[:31]), (sealed, b""), (clear, KEY), (b"", None)]
    for data, key in [*refused, (sealed[:40], KEY), (b"\x02" + clear[1:], None), (clear[:-1], None)]:
        used: list[bytes] = []
        with pytest.raises(ParameterError):
            Client.resume(data, lambda token, used=used: not used.append(token), key=key, **trust)
        assert used == [], "a token was used up for nothing"
    assert Client.resume(sealed, UsedTokens(), key=KEY, **trust).state is state


@pytest.mark.parametrize(("threat_model", "state"), LIVE)
def test_no_two_states_are_sealed_under_one_keystream(threat_model: ThreatModel, state: ClientState) -> None:
    """The same state, sealed twice under one key: nothing but the lengths is the same."""
    copies = copies_of(threat_model)
    sealed = []
    for label in ("one", "other"):
        trust, source = copies.stage.trust_of(copies.index), SeededRandomness(1, label)
        client = Client.resume(copies.suspended[state], lambda token: True, randomness=source, **trust)
        sealed.append(client.suspend(KEY)[1 + 32 :])
    blocks = [{data[start : start + 16] for start in range(0, len(data) - 15, 16)} for data in sealed]
    assert len(sealed[0]) == len(sealed[1])
    assert not blocks[0] & blocks[1]


@pytest.mark.parametrize(("threat_model", "state"), LIVE)
def test_a_state_is_resumed_once(threat_model: ThreatModel, state: ClientState) -> None:
    copies, used = copies_of(threat_model), UsedTokens()
    trust = copies.stage.trust_of(copies.index)
    suspended = copies.client(state).suspend()
    Client.resume(suspended, used, **trust)
    with pytest.raises(PeerError) as caught:
        Client.resume(suspended, used, **trust)
    assert caught.value.code is ErrorCode.STATE_REUSED
    tokens: list[bytes] = []
    for answer in (False, None, 1, "yes"):
        with pytest.raises(PeerError) as caught:
            Client.resume(suspended, lambda token, answer=answer: tokens.append(token) or answer, **trust)
        assert caught.value.code is ErrorCode.STATE_REUSED
    assert len(set(tokens)) == 1
    assert len(tokens[0]) == 32


@pytest.mark.parametrize(("threat_model", "state"), LIVE)
def test_a_suspended_client_is_spent(threat_model: ThreatModel, state: ClientState) -> None:
    copies = copies_of(threat_model)
    client = copies.client(state)
    client.suspend()
    assert client.done
    for call in (client.start, client.suspend, lambda: client.submit(copies.stage.vector(2))):
        with pytest.raises(StateError):
            call()
    assert all(client.receive(message) == Step() for message in copies.inbox.values())


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("state", sorted(CLIENT_ENDED))
def test_a_client_that_is_done_has_nothing_to_suspend(threat_model: ThreatModel, state: ClientState) -> None:
    with pytest.raises(StateError, match=state):
        copies_of(threat_model).client(state).suspend()


def test_resuming_in_active_takes_identity_and_directory() -> None:
    copies = copies_of(ThreatModel.ACTIVE)
    state = copies.client("MASKED").suspend()
    trust = copies.stage.trust_of(copies.index)
    for changes in ({"identity": None}, {"directory": None}):
        with pytest.raises(ParameterError, match="identity"):
            Client.resume(state, UsedTokens(), **{**trust, **changes})
    for changes in ({"identity": copies.stage.identities[3]}, {"directory": cohort(4)[1]}):
        with pytest.raises(PeerError) as caught:
            Client.resume(state, UsedTokens(), **{**trust, **changes})
        assert caught.value.code is ErrorCode.COHORT_NOT_VOUCHED


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_sharing_again_makes_the_same_bytes(threat_model: ThreatModel) -> None:
    """Who is resumed twice from one state, against the rules, deals the same shares under the same keys again."""
    copies = copies_of(threat_model)
    answers = {copies.client("ADVERTISED").receive(copies.inbox["Roster"]).outgoing for _ in range(3)}
    assert answers == {(copies.stage.sent["SHARE"][copies.index],)}


def test_sharing_in_another_session_reuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same client shown another roster: other keys, other seed, other salts."""
    stages, answers, drawn = [Stage(semi_honest(5)), Stage(semi_honest(5))], [], []
    for stage, silent in zip(stages, ([], [4]), strict=True):
        stage.play("SHARE", silent={"ADVERTISE": silent})
        with monkeypatch.context() as patch:
            held = record_secrets(patch)
            answers.append(wire.read(stage.answer(2)))
            drawn.append({secret.reveal() for secret in held if len(secret)})
    assert answers[0][2] != answers[1][2]
    assert min(map(len, drawn)) >= 2, "at least the seed and the keys to the others' shares"
    assert not drawn[0] & drawn[1]
    first, second = (
        {field[start : start + 16] for field in fields for start in range(0, len(field), 16)}
        for _, _, _, *fields in answers
    )
    assert not first & second


# Repeats and contradictions.


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_client_takes_repeats_in_silence(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](5))
    seen: list[bytes] = []
    while not stage.server.ready_to_compute:
        stage.collect()
        if stage.server.phase != "ADVERTISE":
            seen.append(message_for(stage.server, 3))
        client = stage.clients[3]
        before = client.state
        assert all(client.receive(message) == Step() for message in [*seen, *seen])
        assert client.state is before
        stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(5))


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("kind", ["Roster", "Shares", "Survivors"])
def test_a_client_refuses_a_contradiction(threat_model: ThreatModel, kind: str) -> None:
    copies = copies_of(threat_model)
    values = wire.read(copies.inbox[kind])
    values[-1 if kind == "Survivors" else 3] = bytes(len(values[-1 if kind == "Survivors" else 3]))
    first_after = {"Roster": "SHARED", "Shares": "INPUT", "Survivors": "CONFIRMED"}[kind]
    later = list(ClientState)[list(ClientState).index(ClientState(first_after)) : -1]
    for state in set(later) & set(copies.states):
        client = copies.client(state)
        with pytest.raises(PeerError) as caught:
            client.receive(wire.write(values))
        expected = ErrorCode.SURVIVORS_CHANGED if kind == "Survivors" else ErrorCode.CONFLICT
        assert caught.value.code is expected
        assert client.state is ClientState.ABORTED
        assert wire.read(caught.value.reply)[3] == AbortCode.PROTOCOL_VIOLATION


# Leaving.


@pytest.mark.parametrize(("threat_model", "state"), CLIENT_STATES)
@pytest.mark.parametrize("name", ["round id", "session", "neither"])
def test_the_server_ends_the_round(threat_model: ThreatModel, state: ClientState, name: str) -> None:
    copies = copies_of(threat_model)
    round_id, session = wire.read(copies.inbox["Roster"])[2], wire.read(copies.inbox["Shares"])[2]
    abort = wire.write([0, 1, {"round id": round_id, "session": session, "neither": bytes(32)}[name], 3])
    client = copies.client(state)
    knows_session = state not in (ClientState.JOINED, ClientState.ADVERTISED)
    if state is ClientState.ABORTED:
        assert client.receive(abort) == Step()
    elif name == "neither" or (name == "session" and not knows_session):
        with pytest.raises(PeerError) as caught:
            client.receive(abort)
        assert caught.value.code is ErrorCode.WRONG_SESSION
    elif state is ClientState.DONE:
        assert client.receive(abort) == Step()
        assert client.state is ClientState.DONE
    else:
        assert client.receive(abort).event == RoundAborted(AbortCode.TOO_FEW_CLIENTS)
        assert client.state is ClientState.ABORTED


@pytest.mark.parametrize(("threat_model", "state"), CLIENT_STATES)
def test_a_client_leaves(threat_model: ThreatModel, state: ClientState) -> None:
    """The first reason stays, and the server understands it."""
    copies = copies_of(threat_model)
    client = copies.client(state)
    message = client.abort(AbortCode.INTERNAL)
    code = AbortCode.CANCELLED if state is ClientState.ABORTED else AbortCode.INTERNAL
    assert wire.read(message) == [0, 1, wire.read(copies.inbox["Roster"])[2], code]
    assert client.abort(AbortCode.UNSPECIFIED) == message
    assert client.state is ClientState.ABORTED
    assert client.done


def test_a_with_block_wipes() -> None:
    stage = Stage(semi_honest(4))
    with stage.join(1) as client:
        client.start()
    assert client.state is ClientState.ABORTED
    client.close()
    assert client.done


def record_secrets(monkeypatch: pytest.MonkeyPatch) -> list[Secret]:
    """Every secret that is made from now on."""
    held: list[Secret] = []
    make = Secret.__init__

    def recorded(secret: Secret, data: bytes) -> None:
        make(secret, data)
        held.append(secret)

    monkeypatch.setattr(Secret, "__init__", recorded)
    return held


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_secrets_live_no_longer_than_their_phase(threat_model: ThreatModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a client is done, or leaves at any moment, every secret that it ever held is wiped."""
    copies = copies_of(threat_model)
    held = record_secrets(monkeypatch)
    for state in copies.states:
        held.clear()
        client = copies.client(state)
        assert (state in CLIENT_ENDED or state is ClientState.JOINED) == all("wiped" in repr(secret) for secret in held)
        client.close()
        assert all("wiped" in repr(secret) for secret in held), state
    held.clear()
    stage = Stage(MODELS[threat_model](4))
    stage.finish()
    assert len(held) >= 4 * 6
    assert all("wiped" in repr(secret) for secret in held)


# Inputs, joining, copying.


@pytest.mark.parametrize(
    "vector",
    [
        [1, 2],
        [[1, 2, 3]],
        [1.0, 2.0, 3.0],
        [-1, 2, 3],
        [1, 2, 101],
        [1, 2, 2**64],
        [True, False, True],
        ["1", "2", "3"],
        [],
        None,
        7,
    ],
)
def test_an_input_that_does_not_fit_leaves_the_client_as_it_was(vector: Any) -> None:
    copies = Copies(semi_honest(4, 3, modulus=None, input_max=100))
    client = copies.client("INPUT")
    with pytest.raises(InputError):
        client.submit(vector)
    assert client.state is ClientState.INPUT
    assert client.submit(copies.stage.vector(2)).outgoing == (copies.stage.sent["MASK"][2],)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "<u8", ">u2", "i8"])
def test_an_input_of_any_integers_is_taken_and_left_alone(dtype: str) -> None:
    copies = Copies(semi_honest(4, 3, modulus=None, input_max=100))
    vector = copies.stage.vector(2).astype(dtype)
    kept = vector.copy()
    assert copies.client("INPUT").submit(vector).outgoing == (copies.stage.sent["MASK"][2],)
    assert vector.tolist() == kept.tolist()
    strided = np.repeat(vector, 2)[::2]
    assert copies.client("INPUT").submit(strided).outgoing == (copies.stage.sent["MASK"][2],)


def test_joining_the_same_round_twice() -> None:
    stage, used = Stage(active(4)), UsedTokens()
    stage.join(1, consume=used)
    with pytest.raises(PeerError) as caught:
        stage.join(1, consume=used)
    assert (caught.value.code, caught.value.phase) == (ErrorCode.ALREADY_JOINED, "ADVERTISE")
    assert wire.read(caught.value.reply) == [0, 1, wire.read(stage.server.invitation())[2], AbortCode.CONFIG_REFUSED]
    stage.join(2, consume=used)
    Stage(stage.config, seed=2).join(1, consume=used)


@pytest.mark.parametrize("index", [-1, 4, True, "1", None, 1.0])
def test_joining_at_no_place(index: Any) -> None:
    with pytest.raises(ParameterError, match="index"):
        Stage(semi_honest(4)).join(index)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_nothing_is_pickled_or_copied(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](4)).play("SHARE")
    for thing in (stage.server, stage.clients[0], Secret(bytes(32))):
        for make in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled"):
                make(thing)


def test_the_last_step_says_so() -> None:
    for threat_model in ThreatModel:
        copies = copies_of(threat_model)
        step = copies.client(copies.last_state).receive(copies.inbox[copies.last_message])
        assert step.event == Finished()
        assert step.outgoing == (copies.stage.sent["UNMASK"][2],)
