"""A round as a Hypothesis state machine, to run over a transport of your own.  Needs the extra ``testing``.

    class OverMyTransport(RoundMachine):
        def carry(self, client, data, *, up):
            return my_transport.roundtrip(data)

    TestOverMyTransport = OverMyTransport.TestCase

Messages are delivered in any order, twice, or not at all; phases are closed at any time; the server is restored from a
snapshot, or from an older one and a journal; clients are suspended, resumed, started late, and leave.  Whatever
happens, the round ends in the exact sum of the vectors that the protocol includes, or in an abort that it asks for.
"""

from __future__ import annotations

import sys
from enum import Enum
from typing import Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from secagg.errors import AbortCode, ErrorCode, PeerError
from secagg.events import (
    Accepted,
    AlreadyMasked,
    ClientAborted,
    ClientStep,
    Duplicate,
    Late,
    Misbehaved,
    RoundAborted,
    ServerStep,
)
from secagg.identity import MemoryDirectory, UsedTokens
from secagg.outcome import Result
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy
from secagg.pairwise.phases import STATE_AFTER, ClientState, Phase, ServerState, collected_in
from secagg.pairwise.server import Server
from secagg.pairwise.transcript import VERSIONS
from secagg.simulation.cohort import SeededRandomness
from secagg.simulation.faults import Faults, expected_sum
from secagg.testing.strategies import Scenario, cohort, configs, scenarios

_INVITATION, _ABORT = "INVITATION", "ABORT"
_FIRST_BIT, _LAST_BIT = 8 * 2, 8 * 37 - 1  # version and session, of a message's first bytes
_ANSWERED: Final = {state: phase for phase, state in STATE_AFTER.items()}
_POSITIONS: Final = st.integers(0, 63)
"""Which of the messages under way, or of the clients: counted around."""
_CANCELS_ONE_IN: Final = 40
"""How seldom a host that could cancel the round does."""


class Letter(NamedTuple):
    """A message under way between a client and the server."""

    client: int
    data: bytes
    kind: str
    """The phase that it answers or closes, INVITATION, or ABORT from a client."""


class Patience(Enum):
    """What a server's host waits for before it closes a phase."""

    ALL = "everything that is under way"
    SOME = "the same, unless few enough are late"
    NONE = "nothing"


class RoundMachine(RuleBasedStateMachine):
    """One round.  Override ``carry`` to test a transport, ``rounds`` to choose the rounds."""

    def rounds(self) -> st.SearchStrategy[Scenario]:
        """The rounds to run; their faults are not looked at."""
        return scenarios(configs(max_clients=6, lengths=(1, 3, 9), versions=VERSIONS), max_lost=0, max_troubles=0)

    def carry(self, client: int, data: bytes, *, up: bool) -> bytes:
        """Take ``data`` from a client to the server (``up``) or the other way; return what comes out."""
        return data

    # The round.

    @initialize(data=st.data())
    def open_round(self, data: st.DataObject) -> None:
        """A server, and an invitation for everybody."""
        self.scenario = data.draw(self.rounds())
        self.config = self.scenario.config
        identities, directory, _ = cohort(self.config.clients)
        self.identities = identities if self.config.threat_model.signs else None
        self.directory: MemoryDirectory | None = directory if self.config.threat_model.signs else None
        self.server = Server(self.config, directory=self.directory, randomness=self._randomness("server"))
        self.clients: dict[int, Client] = {}
        self.used = {index: UsedTokens() for index in range(self.config.clients)}
        self.up: list[Letter] = []
        self.down: list[Letter] = []
        self.taken: dict[Phase, set[int]] = {phase: set() for phase in Phase}
        self.departed: dict[Phase, set[int]] = {phase: set() for phase in Phase}
        self.result: Result | None = None
        self.resumed = 0
        self.unlucky: set[int] = set()
        self._checkpoint()
        self._send_down()

    @precondition(lambda self: self.up)
    @rule(position=_POSITIONS, again=st.booleans())
    def deliver_to_server(self, position: int, again: bool) -> None:
        """A message arrives, perhaps not for the last time."""
        self._to_server(self._letter(self.up, position, keep=again))

    @precondition(lambda self: self.down)
    @rule(position=_POSITIONS, again=st.booleans())
    def deliver_to_client(self, position: int, again: bool) -> None:
        """A message arrives, perhaps not for the last time."""
        self._to_client(self._letter(self.down, position, keep=again))

    @precondition(lambda self: self._losable(self.up))
    @rule(position=_POSITIONS)
    def lose_on_the_way_up(self, position: int) -> None:
        """A message never arrives."""
        self._lose(self.up, position)

    @precondition(lambda self: self._losable(self.down))
    @rule(position=_POSITIONS)
    def lose_on_the_way_down(self, position: int) -> None:
        """A message never arrives."""
        self._lose(self.down, position)

    @precondition(lambda self: any(letter.kind != _ABORT for letter in self.up))
    @rule(position=_POSITIONS, bit=st.integers(_FIRST_BIT, _LAST_BIT))
    def damage(self, position: int, bit: int) -> None:
        """A copy of another version or session arrives: the server says so, and nothing else happens."""
        letter = self._letter([letter for letter in self.up if letter.kind != _ABORT], position, keep=True)
        damaged = bytearray(letter.data)
        damaged[bit // 8] ^= 1 << bit % 8
        event = self._receive(letter.client, bytes(damaged)).event
        _demand(isinstance(event, Misbehaved) and event.sender == letter.client, f"a damaged message met with {event}")

    @precondition(lambda self: collected_in(self.server.phase) is not None)
    @rule(patience=st.sampled_from((Patience.ALL, *[Patience.SOME] * 6, Patience.NONE)))
    def close_phase(self, patience: Patience) -> None:
        """The server's host waits no longer."""
        late = self.unlucky | set(self.server.missing)
        if patience is Patience.ALL or (patience is Patience.SOME and len(late) > self.config.dropouts + 1):
            self._deliver_all()
        self.unlucky |= set(self.server.missing)
        self.server.close_phase()
        self._checkpoint()
        self._send_down()

    @precondition(lambda self: not self.server.done)
    @rule(dice=st.integers(0, 1 << 16))
    def cancel(self, dice: int) -> None:
        """The server's host ends the round: seldom, so that most rounds get to their end."""
        if dice % _CANCELS_ONE_IN == 1:
            self.server.abort()
            self._checkpoint()
            self._send_down()

    @rule(position=_POSITIONS)
    def send_again(self, position: int) -> None:
        """The server's host sends what it sent last once more, to one client."""
        outgoing = self.server.outgoing()
        if outgoing.recipients:
            client = outgoing.recipients[position % len(outgoing)]
            self.down.append(Letter(client, outgoing.to(client) or b"", self._down_kind()))

    @precondition(lambda self: self._in_state(ClientState.JOINED))
    @rule(position=_POSITIONS)
    def start(self, position: int) -> None:
        """A client that joined sends its first message."""
        client = self._pick(self._in_state(ClientState.JOINED), position)
        self.up.append(Letter(client, self.clients[client].start(), Phase.ADVERTISE))

    @precondition(lambda self: self._in_state(ClientState.INPUT))
    @rule(position=_POSITIONS)
    def submit(self, position: int) -> None:
        """A client's host is done with training."""
        client = self._pick(self._in_state(ClientState.INPUT), position)
        self._answer(client, self._submit(client))

    @precondition(lambda self: self._live())
    @rule(position=_POSITIONS, key=st.none() | st.just(bytes(range(32))))
    def suspend_and_resume(self, position: int, key: bytes | None) -> None:
        """A client's process ends, and another one goes on with its state."""
        index = self._pick(self._live(), position)
        before = self.clients[index].state
        state = self.clients[index].suspend(key)
        self.resumed += 1
        self.clients[index] = Client.resume(
            state,
            self.used[index],
            key=key,
            identity=self.identities[index] if self.identities else None,
            directory=self.directory,
            randomness=self._randomness(f"client {index}, resumed {self.resumed} times"),
        )
        _demand(self.clients[index].state is before, f"suspended in {before}, resumed in {self.clients[index].state}")

    @precondition(lambda self: self._may_fail(self._live()))
    @rule(position=_POSITIONS)
    def leave(self, position: int) -> None:
        """A client's host gives up."""
        index = self._pick(self._may_fail(self._live()), position)
        self.unlucky.add(index)
        self.up.append(Letter(index, self.clients[index].abort(), _ABORT))

    @rule(replay=st.booleans())
    def restart_server(self, replay: bool) -> None:
        """The server comes back from a fresh snapshot, or from the last close's and the journal since."""
        before = self.server
        self.server = Server.restore(
            self.checkpoint if replay else before.snapshot(),
            directory=self.directory,
        )
        for client, data in self.journal if replay else ():
            self.server.receive(client, data)
        if self.result is not None:
            self.compute()
        same_state = (self.server.phase, list(self.server.missing)) == (before.phase, list(before.missing))
        _demand(same_state, f"{before} was restored as {self.server}")
        _demand(list(self.server.outgoing()) == list(before.outgoing()), "a restored server sends other bytes")

    @precondition(lambda self: self.server.ready_to_compute or self.result is not None)
    @rule()
    def compute(self) -> None:
        """Once or more often, the result is the same."""
        result = self.server.compute()
        if self.result is not None:
            same_transcript = result.transcript_digest == self.result.transcript_digest
            same_sum = result.sum.tolist() == self.result.sum.tolist()
            _demand(same_transcript and same_sum, "a second result that differs from the first")
        self.result = result

    @invariant()
    def server_is_consistent(self) -> None:
        """It failed or it did not; it waits only for those that it told to answer."""
        server = self.server
        _demand(
            (server.failure is not None) == (server.phase is ServerState.ABORTED), f"{server}, failure {server.failure}"
        )
        _demand(set(server.missing) <= set(server.outgoing().recipients), f"{server} awaits whom it told nothing")
        _demand(not (server.done and server.missing), f"{server} is done, and awaits clients")

    def teardown(self) -> None:
        """Let the round come to its end, and compare that with what the protocol says."""
        if sys.exc_info()[0] is not None or not hasattr(self, "server"):
            return
        while collected_in(self.server.phase) is not None:
            self.close_phase(Patience.ALL)
        self._deliver_all()
        if self.server.ready_to_compute:
            self.compute()
        self._check_end()
        for client in self.clients.values():
            client.close()

    def _check_end(self) -> None:
        failure = self.server.failure
        if failure is not None and failure.code is AbortCode.CANCELLED:  # by the host, who may do so at any time
            _demand(self.result is None, "a round that was cancelled has a result")
            return
        expected = expected_sum(self.config, Faults(self._fates()), self.server.graph)
        if self.result is None:
            _demand(expected is None, f"aborted ({self.server.failure}), but {expected} can be summed")
            return
        included = self.result.included
        _demand(expected == frozenset(included), f"the sum is of {included}; it should be of {expected}")
        _demand(self.result.sum.tolist() == self.scenario.plain_sum(included), "the sum is not that of the included")
        for group in self.result.groups:
            plain = self.scenario.plain_sum(group.included)
            _demand(group.sum.tolist() == plain, f"the sum of group {group.number} is not that of its members")
        attached = {client: self.scenario.attached(client, included) for client in self.result.attachments}
        _demand(self.result.attachments == attached, "what is attached is not what so many losses ask for")

    def _fates(self) -> dict[int, str]:
        """The last of a client's messages that counted; leaving takes keys and shares back, but no vector."""
        counted = {
            phase: members if phase.place >= Phase.MASK.place else members - self.departed[phase]
            for phase, members in self.taken.items()
        }
        return {
            client: next((phase for phase in reversed(Phase) if client in counted[phase]), "NONE")
            for client in range(self.config.clients)
        }

    # The server's side.

    def _to_server(self, letter: Letter) -> None:
        expected, phase = self._expected_event(letter), self.server.phase
        step = self._receive(letter.client, letter.data)
        met = f"{letter.kind} in {phase} met with {step.event}, not {expected.__name__}"
        _demand(isinstance(step.event, expected), met)
        open_phase = collected_in(phase)
        if isinstance(step.event, ClientAborted) and open_phase is not None:
            self.departed[open_phase].add(letter.client)
        elif isinstance(step.event, Accepted) and open_phase is not None:
            self.taken[open_phase].add(letter.client)

    def _receive(self, client: int, data: bytes) -> ServerStep:
        """What comes out of the transport goes to the server; what the server took, into the journal."""
        data = self.carry(client, data, up=True)
        step = self.server.receive(client, data)
        if isinstance(step.event, Accepted | ClientAborted):
            self.journal.append((client, data))
        return step

    def _expected_event(self, letter: Letter) -> type:
        client, phase = letter.client, self.server.phase
        gone = any(client in members for members in self.departed.values())
        if letter.kind == _ABORT:
            return Late if gone or collected_in(phase) is None else ClientAborted
        if client in self.taken[Phase(letter.kind)]:
            return AlreadyMasked if letter.kind == Phase.MASK else Duplicate
        in_time = letter.kind == phase and client in self.server.outgoing().recipients and not gone
        return Accepted if in_time else Late

    def _checkpoint(self) -> None:
        self.checkpoint = self.server.snapshot()
        self.journal: list[tuple[int, bytes]] = []

    def _send_down(self) -> None:
        self.down += [Letter(index, data, self._down_kind()) for index, data in self.server.outgoing()]

    def _down_kind(self) -> str:
        return _INVITATION if self.server.phase is ServerState.ADVERTISE else self.server.phase

    # The clients' side.

    def _to_client(self, letter: Letter) -> None:
        data = self.carry(letter.client, letter.data, up=False)
        if letter.kind == _INVITATION:
            self._invited(letter.client, data)
            return
        client = self.clients.get(letter.client)
        if client is None or client.state is ClientState.JOINED:
            return
        step = client.receive(data)
        if isinstance(step.event, RoundAborted):
            _demand(letter.client not in self.server.missing, f"client {letter.client} was dismissed, and is awaited")
        self._answer(letter.client, step)

    def _submit(self, index: int) -> ClientStep:
        return self.clients[index].submit(self.scenario.vector(index), self.scenario.attachment(index))

    def _invited(self, index: int, invitation: bytes) -> None:
        if index not in self.clients:
            self.clients[index] = self._join(index, invitation)
            return
        try:
            self._join(index, invitation)
        except PeerError as refused:
            _demand(refused.code is ErrorCode.ALREADY_JOINED, f"joining twice met with {refused}")
        else:
            raise AssertionError(f"client {index} joined the same round twice")

    def _join(self, index: int, invitation: bytes) -> Client:
        config = self.config
        return Client.join(
            invitation,
            index,
            approve=config.digest,
            policy=Policy(
                min_sigma=config.sigma,
                min_grinding_bits=config.grinding_bits,
                max_attachment_bytes=config.attachment_bytes,
                max_groups=config.groups,
                carrier=config.carrier,
            ),
            identity=self.identities[index] if self.identities else None,
            directory=self.directory,
            consume=self.used[index],
            randomness=self._randomness(f"client {index}"),
        )

    def _answer(self, index: int, step: ClientStep) -> None:
        phase = _ANSWERED.get(self.clients[index].state, "")
        self.up += [Letter(index, data, phase) for data in step.outgoing]

    # Small things.

    def _deliver_all(self) -> None:
        while self.up or self.down or self._in_state(ClientState.JOINED) or self._in_state(ClientState.INPUT):
            for letter in self._emptied(self.down):
                self._to_client(letter)
            for index in self._in_state(ClientState.JOINED):
                self.up.append(Letter(index, self.clients[index].start(), Phase.ADVERTISE))
            for index in self._in_state(ClientState.INPUT):
                self._answer(index, self._submit(index))
            for letter in self._emptied(self.up):
                self._to_server(letter)

    def _emptied(self, letters: list[Letter]) -> list[Letter]:
        taken = letters[:]
        letters.clear()
        return taken

    def _letter(self, letters: list[Letter], position: int, *, keep: bool = False) -> Letter:
        position %= len(letters)
        return letters[position] if keep else letters.pop(position)

    def _may_fail(self, clients: list[int]) -> list[int]:
        """Failures strike one client more than the round is made to bear: so that most rounds get far."""
        spare = len(self.unlucky) <= self.config.dropouts
        return [client for client in clients if spare or client in self.unlucky]

    def _losable(self, letters: list[Letter]) -> list[Letter]:
        unlucky = self._may_fail([letter.client for letter in letters])
        return [letter for letter in letters if letter.client in unlucky]

    def _lose(self, letters: list[Letter], position: int) -> None:
        lost = self._letter(self._losable(letters), position)
        self.unlucky.add(lost.client)
        letters.remove(lost)

    def _pick(self, members: list[int], position: int) -> int:
        return members[position % len(members)]

    def _in_state(self, state: ClientState) -> list[int]:
        return [index for index, client in self.clients.items() if client.state is state]

    def _live(self) -> list[int]:
        return [index for index, client in self.clients.items() if not client.done]

    def _randomness(self, label: str) -> SeededRandomness:
        return SeededRandomness(self.scenario.seed, label)


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
