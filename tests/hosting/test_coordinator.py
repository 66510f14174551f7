"""Coordinator: phases end in time, nothing leaves before it is stored, and a restart loses nothing."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import (
    Accepted,
    Coordinator,
    Late,
    Misbehaved,
    ParameterError,
    RoundConfig,
    Server,
    ServerState,
    StateError,
)
from secagg.pairwise import messages
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy
from tests.support.staging import MODELS, Stage

N = 5
CONFIG = RoundConfig.for_cohort(N, 3, gamma=0.2, delta=0.2)
SECONDS = {"ADVERTISE": 10.0, "SHARE": 20.0, "MASK": 30.0, "UNMASK": 40.0}


class Disk:
    """Keeps what it is given, and fails when it is told to."""

    def __init__(self) -> None:
        self.snapshot = b""
        self.messages: list[tuple[int, bytes]] = []
        self.is_full = False

    def store(self, snapshot: bytes) -> None:
        self._write()
        self.snapshot, self.messages = snapshot, []

    def record(self, sender: int, data: bytes) -> None:
        self._write()
        self.messages.append((sender, data))

    def _write(self) -> None:
        if self.is_full:
            raise OSError("no space left")

    def coordinator(self, server: Server | None = None) -> Coordinator:
        return Coordinator(server or Server(CONFIG), SECONDS, store=self.store, record=self.record)

    def restored(self) -> Coordinator:
        server = Server.restore(self.snapshot)
        for sender, data in self.messages:
            server.receive(sender, data)
        return self.coordinator(server)


class Cohort:
    """Clients that answer what they are sent."""

    def __init__(self) -> None:
        self.clients: dict[int, Client] = {}

    def answer(self, index: int, data: bytes) -> bytes:
        if index not in self.clients:
            self.clients[index] = Client.join(data, index, policy=Policy(min_sigma=1, max_complaints=None))
            return self.clients[index].start()
        step = self.clients[index].receive(data)
        if self.clients[index].state == "INPUT":
            step = self.clients[index].submit(np.full(3, index + 1))
        return b"".join(step.outgoing)


def play(coordinator: Coordinator, outgoing: Any, cohort: Cohort, lost: dict[str, int], now: float = 0.0) -> None:
    """The round to its end: the deadline comes in a phase in which somebody is lost, and in no other."""
    while not coordinator.over:
        phase = coordinator.server.phase
        for index, data in list(outgoing):
            if index != lost.get(phase):
                coordinator.receive(index, cohort.answer(index, data))
        if phase in lost:
            assert len(coordinator.advance(math.nextafter(coordinator.deadline, 0))) == 0
            assert coordinator.server.phase is phase
            now = coordinator.deadline
        outgoing = coordinator.advance(now)
        assert coordinator.server.phase is not phase


def test_a_phase_ends_when_nobody_is_missing_or_its_deadline_has_come() -> None:
    coordinator, cohort = Disk().coordinator(), Cohort()
    play(coordinator, coordinator.open(0.0), cohort, {"SHARE": 2})
    result = coordinator.server.compute()
    assert result.included == (0, 1, 3, 4)
    assert result.sum.tolist() == [1 + 2 + 4 + 5] * 3


def test_the_deadline_is_that_of_the_open_phase() -> None:
    coordinator, cohort = Disk().coordinator(), Cohort()
    assert coordinator.deadline == math.inf
    outgoing, now, seen = coordinator.open(100.0), 100.0, []
    while not coordinator.over:
        seen.append(coordinator.deadline - now)
        assert coordinator.max_message_bytes == CONFIG.max_message_bytes(coordinator.server.phase)
        for index, data in list(outgoing):
            coordinator.receive(index, cohort.answer(index, data))
        now += 1.5
        outgoing = coordinator.advance(now)
    assert seen == [10.0, 20.0, 30.0, 40.0]
    assert (coordinator.deadline, coordinator.max_message_bytes) == (math.inf, 0)
    assert len(coordinator.advance(1e9)) == 0
    assert coordinator.server.ready_to_compute


def test_a_round_with_too_few_members_ends_at_the_deadline() -> None:
    coordinator = Disk().coordinator()
    coordinator.open(0.0)
    coordinator.advance(10.0)
    assert coordinator.over
    assert coordinator.server.failure is not None
    assert coordinator.deadline == math.inf


def test_clients_fetch_what_the_phase_has_for_them() -> None:
    coordinator, cohort = Disk().coordinator(), Cohort()
    sent = dict(coordinator.open(0.0))
    assert {index: coordinator.message_for(index) for index in range(N)} == sent
    for index in range(N):
        coordinator.receive(index, cohort.answer(index, sent[index]))
    assert coordinator.message_for(0) == sent[0]
    sent = dict(coordinator.advance(0.0))
    assert {index: coordinator.message_for(index) for index in range(N)} == sent
    assert coordinator.message_for(N) is None


@settings(max_examples=settings().max_examples // 5)
@given(stops=st.lists(st.integers(0, 4 * N + 4), max_size=6), lost=st.sampled_from(["SHARE", "MASK", "UNMASK"]))
def test_a_server_that_stops_anywhere_goes_on_with_all_that_it_had(stops: list[int], lost: str) -> None:
    """The sum is that of the round without a stop, wherever the process ends."""
    disk, cohort, steps = Disk(), Cohort(), 0
    coordinator = disk.coordinator()
    outgoing = coordinator.open(0.0)
    answered: set[tuple[str, int]] = set()

    def maybe_stop() -> None:
        nonlocal coordinator, outgoing, steps
        steps += 1
        if steps in stops:
            before = (coordinator.server.phase, list(coordinator.server.missing))
            coordinator = disk.restored()
            outgoing = coordinator.open(0.0)
            assert (coordinator.server.phase, list(coordinator.server.missing)) == before

    while not coordinator.over:
        phase = coordinator.server.phase
        for index, data in list(outgoing):
            if (phase, index) != (lost, 1) and (phase.value, index) not in answered:
                answered.add((phase.value, index))
                coordinator.receive(index, cohort.answer(index, data))
                maybe_stop()
        outgoing = coordinator.advance(coordinator.deadline)
        maybe_stop()
    in_sum = [index for index in range(N) if not (index == 1 and lost != "UNMASK")]
    result = coordinator.server.compute()
    assert result.included == tuple(in_sum)
    assert result.sum.tolist() == [sum(index + 1 for index in in_sum)] * 3


def test_what_changed_nothing_is_not_recorded() -> None:
    disk, cohort = Disk(), Cohort()
    coordinator = disk.coordinator()
    sent = dict(coordinator.open(0.0))
    answer = cohort.answer(0, sent[0])
    events = [coordinator.receive(0, data) for data in (b"rubbish", answer, answer)]
    assert [type(event).__name__ for event in events] == ["Misbehaved", "Accepted", "Duplicate"]
    assert isinstance(coordinator.receive(N + 3, answer), Misbehaved)
    assert disk.messages == [(0, answer)]
    assert isinstance(coordinator.receive(0, cohort.clients[0].abort()), Accepted | Late) is False
    assert [sender for sender, _ in disk.messages] == [0, 0], "a client that leaves changes the server"


def test_a_message_of_which_some_shares_are_bad_is_recorded() -> None:
    """Its good shares count, and its sender has nothing more to send: after a restart nobody may wait for it."""
    disk, cohort = Disk(), Cohort()
    coordinator = disk.coordinator()
    outgoing = coordinator.open(0.0)
    while coordinator.server.phase is not ServerState.UNMASK:
        for index, data in list(outgoing):
            coordinator.receive(index, cohort.answer(index, data))
        outgoing = coordinator.advance(0.0)
    for index, data in list(outgoing):
        answer = cohort.answer(index, data)
        if index == 2:
            opened = messages.to_server.decode(answer, len(answer), CONFIG.version)
            assert isinstance(opened, messages.Unmask)
            turned = bytes((opened.openings[0] ^ 1,)) + opened.openings[1:]
            answer = messages.encode(msgspec.structs.replace(opened, openings=turned))
        event = coordinator.receive(index, answer)
        assert isinstance(event, Misbehaved) == (index == 2)
    assert not coordinator.server.missing
    restored = disk.restored()
    restored.open(0.0)
    assert not restored.server.missing
    assert restored.server.blame == coordinator.server.blame != ()
    restored.advance(0.0)
    assert restored.server.compute().sum.tolist() == [1 + 2 + 3 + 4 + 5] * 3


@pytest.mark.parametrize("moment", ["open", "receive", "advance"])
def test_nothing_goes_on_after_something_could_not_be_stored(moment: str) -> None:
    """The host sends nothing that depends on it, and what the disk has is the round to go on from."""
    disk, cohort = Disk(), Cohort()
    coordinator = disk.coordinator()
    disk.is_full = moment == "open"
    answer = cohort.answer(0, coordinator.server.invitation())
    steps = {
        "open": lambda: coordinator.open(0.0),
        "receive": lambda: coordinator.receive(0, answer),
        "advance": lambda: coordinator.advance(10.0),
    }
    if moment != "open":
        coordinator.open(0.0)
        disk.is_full = True
    with pytest.raises(OSError, match="no space"):
        steps[moment]()
    disk.is_full = False
    for refused in (*steps.values(), lambda: coordinator.message_for(0)):
        with pytest.raises(StateError, match="could not be stored"):
            refused()
    if moment != "open":
        again = disk.restored()
        again.open(0.0)
        assert again.server.phase is ServerState.ADVERTISE
        assert len(again.server.missing) == N


def test_a_coordinator_is_opened_once_and_first() -> None:
    coordinator = Disk().coordinator()
    for early in (
        lambda: coordinator.receive(0, b""),
        lambda: coordinator.advance(0.0),
        lambda: coordinator.message_for(0),
    ):
        with pytest.raises(StateError, match="call open first"):
            early()
    coordinator.open(0.0)
    with pytest.raises(StateError, match="open already"):
        coordinator.open(0.0)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        ({"ADVERTISE": 1.0}, "seconds has no limit for SHARE, only for ADVERTISE"),
        ({}, "seconds has no limit for ADVERTISE, only for nothing"),
        (0.0, "gives ADVERTISE 0.0 seconds"),
        (math.inf, "gives ADVERTISE inf seconds"),
        (math.nan, "gives ADVERTISE nan seconds"),
        ({**SECONDS, "MASK": -1}, "gives MASK -1 seconds"),
    ],
)
def test_limits_that_do_not_end_a_phase_are_refused(seconds: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Coordinator(Server(CONFIG), seconds)


def test_an_active_round_has_a_limit_for_confirm() -> None:
    stage = Stage(MODELS["active"](N))
    with pytest.raises(ParameterError, match="no limit for CONFIRM"):
        Coordinator(stage.server, SECONDS)
    assert Coordinator(stage.server, 5.0).server is stage.server


def test_a_round_with_complaints_has_its_own_phases() -> None:
    """One bit turns in what client 4 sealed for client 0, which complains; client 4 alone is asked to answer."""
    config = RoundConfig.for_cohort(N, 3, gamma=0.2, delta=0.2, version=2, complaints="auto")
    with pytest.raises(ParameterError, match="no limit for COMPLAIN"):
        Coordinator(Server(config), SECONDS)
    coordinator = Coordinator(Server(config), {**SECONDS, "COMPLAIN": 1.0, "ANSWER": 2.0})
    cohort, seen = Cohort(), []
    outgoing = coordinator.open(0.0)
    while not coordinator.over:
        phase = coordinator.server.phase
        seen.append((phase.value, coordinator.deadline, len(outgoing)))
        for index, data in list(outgoing):
            answer = cohort.answer(index, data)
            if (phase, index) == ("SHARE", 4):
                share = messages.to_server.decode(answer, len(answer), 2)
                assert isinstance(share, messages.Share)
                turned = bytes((share.sealed[0] ^ 1,)) + share.sealed[1:]
                answer = messages.encode(msgspec.structs.replace(share, sealed=turned))
            coordinator.receive(index, answer)
        outgoing = coordinator.advance(0.0)
    assert seen == [
        ("ADVERTISE", 10.0, N),
        ("SHARE", 20.0, N),
        ("COMPLAIN", 1.0, N),
        ("ANSWER", 2.0, 1),
        ("MASK", 30.0, N),
        ("UNMASK", 40.0, N),
    ]
    assert coordinator.server.compute().sum.tolist() == [1 + 2 + 3 + 4 + 5] * 3
