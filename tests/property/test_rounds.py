"""Whole rounds under drawn schedules, against the protocol's own account and sums of Python integers."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis.stateful import run_state_machine_as_test

from secagg import AlreadyMasked, ClientAborted, Duplicate, ErrorCode, Late, Misbehaved, Modulus, PeerError
from secagg.pairwise.transcript import VERSIONS
from secagg.simulation import Nuisance, Outcome, Trouble, expected_sum
from secagg.simulation.faults import PHASES
from secagg.testing.stateful import RoundMachine
from secagg.testing.strategies import MODULI, Scenario, configs, scenarios

EXAMPLES = settings().max_examples
HEADER_CODES = {ErrorCode.MALFORMED, ErrorCode.WRONG_VERSION, ErrorCode.WRONG_SESSION}
NOISES = {Nuisance.FLIPPED_HEADER, Nuisance.TRUNCATED}


def check_outcome(scenario: Scenario, outcome: Outcome) -> None:
    assert outcome.client_errors == {}, "an honest server was accused"
    assert outcome.graph is not None
    expected = expected_sum(scenario.config, scenario.faults, outcome.graph)
    if expected is None:
        assert outcome.result is None
        assert outcome.failure is not None
    else:
        assert frozenset(outcome.included) == expected
        assert outcome.sum.tolist() == scenario.plain_sum(outcome.included)
        check_attachments(scenario, outcome)


def check_attachments(scenario: Scenario, outcome: Outcome) -> None:
    """Each that answered in UNMASK attached the value for the losses of this sum, and nobody else attached any."""
    assert outcome.result is not None
    attachments, answered = outcome.result.attachments, set(outcome.included) - set(lost_after_the_sum(outcome))
    assert set(attachments) == (answered if scenario.config.attachment_bytes else set())
    assert attachments == {client: scenario.attached(client, outcome.included) for client in attachments}


def lost_after_the_sum(outcome: Outcome) -> list[int]:
    return [client for phase in ("CONFIRM", "UNMASK") for client in outcome.dropped.get(phase, ())]


def delivered_troubles(scenario: Scenario, outcome: Outcome) -> Iterator[Trouble]:
    """The troubles of messages that were sent: their client was still in the round, and the round went on."""
    end = outcome.failure.phase if outcome.failure is not None else PHASES[-1]
    for trouble in scenario.faults.troubles:
        gone = any(trouble.client in outcome.dropped.get(phase, ()) for phase in PHASES[: PHASES.index(trouble.phase)])
        in_time = scenario.faults.delivers(trouble.client, trouble.phase)
        if in_time and not gone and PHASES.index(trouble.phase) <= PHASES.index(end):
            yield trouble


def check_events(scenario: Scenario, outcome: Outcome) -> None:
    """Every noise is reported once, under the name of the client whose message it was made of, and nothing else is."""
    troubles = [trouble for trouble in delivered_troubles(scenario, outcome) if trouble.kind in NOISES]
    noises = Counter((trouble.client, trouble.phase) for trouble in troubles)
    reported = [event for event in outcome.events if isinstance(event, Misbehaved)]
    assert Counter((event.sender, event.phase) for event in reported) == noises
    assert {event.code for event in reported} <= HEADER_CODES
    assert not any(isinstance(event, ClientAborted) for event in outcome.events)
    if outcome.result is not None:
        assert {(entry.sender, entry.phase) for entry in outcome.result.blame} == set(noises)


def check_repeats(scenario: Scenario, outcome: Outcome) -> None:
    """Every message that came again is met with an event that says so."""
    again = {Nuisance.DUPLICATE, Nuisance.LATE_DUPLICATE}
    repeats = Counter(trouble.client for trouble in delivered_troubles(scenario, outcome) if trouble.kind in again)
    met = Counter(event.sender for event in outcome.events if isinstance(event, Duplicate | AlreadyMasked))
    assert met == repeats
    late = {trouble.client for trouble in scenario.faults.troubles if trouble.kind is Nuisance.LATE}
    assert {event.sender for event in outcome.events if isinstance(event, Late)} <= late


@pytest.mark.parametrize("modulus", MODULI, ids=str)
def test_rounds(modulus: Modulus) -> None:
    """3 to 12 clients, both graphs, both threat models, both suites, everything that can happen to a message."""
    sums = Counter[bool]()

    @settings(max_examples=3 * EXAMPLES)
    @given(scenarios(configs(moduli=[modulus], versions=VERSIONS)))
    def check(scenario: Scenario) -> None:
        outcome = scenario.run()
        sums[outcome.result is not None] += 1
        check_outcome(scenario, outcome)
        check_events(scenario, outcome)
        check_repeats(scenario, outcome)

    check()
    assert sums[True] > sums.total() / 3, "the schedules drawn should leave most rounds a sum"


@settings(max_examples=EXAMPLES // 2)
@given(scenarios(configs(min_clients=9, versions=VERSIONS), max_troubles=12))
def test_larger_rounds_with_many_troubles(scenario: Scenario) -> None:
    outcome = scenario.run()
    check_outcome(scenario, outcome)
    check_events(scenario, outcome)


@settings(max_examples=EXAMPLES // 2)
@given(scenarios(configs(max_clients=5)))
def test_a_seed_replays_a_round(scenario: Scenario) -> None:
    first, again = scenario.run(), scenario.run()
    assert first.events == again.events
    if first.result is not None and again.result is not None:
        assert first.result.session == again.result.session
        assert first.result.transcript_digest == again.result.transcript_digest


MACHINE_SETTINGS = settings(max_examples=2 * EXAMPLES, stateful_step_count=40)


class TestInMemory(RoundMachine.TestCase):  # type: ignore[name-defined]
    """Rounds whose messages travel as they are."""

    settings = MACHINE_SETTINGS


class OverASocket(RoundMachine):
    """What a transport's own tests look like."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self.far = socket.socketpair()

    def carry(self, client: int, data: bytes, *, up: bool) -> bytes:
        self.near.sendall(len(data).to_bytes(4, "little") + data)
        size = int.from_bytes(self.far.recv(4, socket.MSG_WAITALL), "little")
        return self.far.recv(size, socket.MSG_WAITALL)

    def teardown(self) -> None:
        super().teardown()
        self.near.close()
        self.far.close()


class TestOverASocket(OverASocket.TestCase):  # type: ignore[name-defined]
    settings = settings(MACHINE_SETTINGS, max_examples=EXAMPLES // 4)


class CancelledAtOnce(RoundMachine):
    """A host that gives up before there is a graph: a round without a sum, and nothing to complain of."""

    def teardown(self) -> None:
        self.server.abort()
        super().teardown()
        assert self.result is None


class TestCancelledAtOnce(CancelledAtOnce.TestCase):  # type: ignore[name-defined]
    settings = settings(MACHINE_SETTINGS, max_examples=5, stateful_step_count=1)


def test_a_round_without_a_graph_has_no_sum() -> None:
    scenario = find(scenarios(configs(max_clients=4), max_lost=0, max_troubles=0), lambda drawn: True)
    assert expected_sum(scenario.config, scenario.faults, None) is None


class CorruptingTransport(RoundMachine):
    """Changes the last byte of whatever goes up: a masked vector's last element, for one."""

    def carry(self, client: int, data: bytes, *, up: bool) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if up and len(data) > 4 else data


class ForgetfulTransport(RoundMachine):
    """Swallows what goes down, though nobody asked it to."""

    def carry(self, client: int, data: bytes, *, up: bool) -> bytes:
        return data if up else b""


class CrossingTransport(RoundMachine):
    """Hands a client the message that it carried before."""

    last = b""

    def carry(self, client: int, data: bytes, *, up: bool) -> bytes:
        if up:
            return data
        data, self.last = self.last or data, data
        return data


@pytest.mark.parametrize("machine", [CorruptingTransport, ForgetfulTransport, CrossingTransport])
def test_the_machine_finds_a_bad_transport(machine: type[RoundMachine]) -> None:
    unshrunk = settings(MACHINE_SETTINGS, max_examples=40, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises((AssertionError, PeerError)):
        run_state_machine_as_test(machine, settings=unshrunk)
