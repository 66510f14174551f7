"""Damaged messages by the tens of thousands, against a server and clients in every state.

What each must be met with is worked out here from the wire format, by another decoder than the library's.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from secagg import (
    AbortCode,
    Accepted,
    AlreadyMasked,
    Client,
    ClientAborted,
    ClientState,
    Duplicate,
    ErrorCode,
    Event,
    Late,
    Misbehaved,
    Modulus,
    ParameterError,
    PeerError,
    Policy,
    RoundAborted,
    RoundConfig,
    Server,
    Step,
    ThreatModel,
)
from secagg.pairwise import messages
from secagg.pairwise.server.records import Masking
from secagg.pairwise.server.snapshot import dump, load
from secagg.pairwise.transitions import CLIENT, input_name
from secagg.simulation.faults import PHASES
from tests.support import wire
from tests.support.mutations import mutate, replace_somewhere
from tests.support.staging import MODELS, Copies, Stage

DEPTH = settings().max_examples / 100
SERVER_MESSAGES = int(20_000 * DEPTH)
CLIENT_MESSAGES = int(8_000 * DEPTH)
STORED_BYTES = int(6_000 * DEPTH)

# Twenty bits of which every second pattern is no element, and an odd number of them: padding.
MODULUS = Modulus(2**19 + 21)
OPTIONS = {"clients": 6, "length": 3, "modulus": MODULUS, "delta": 0.34}
SILENT, LEAVING, EARLY, ALSO_EARLY = 5, 4, 0, 1
LOW_ORDER = (bytes(32), b"\x01" + bytes(31))

STATES = [
    (threat_model, phase)
    for threat_model in ThreatModel
    for phase in ("ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK", "COMPUTE")
    if threat_model is ThreatModel.ACTIVE or phase != "CONFIRM"
]


class Theatre:
    """A server in the middle of a phase: some answers are in, one client is silent, one may have left.

    ``everything`` is what the same clients send when nobody interferes, up to the end.
    """

    def __init__(self, threat_model: ThreatModel, phase: str) -> None:
        config = MODELS[threat_model](**OPTIONS)
        rehearsal = Stage(config)
        self.total = rehearsal.finish()
        self.everything = rehearsal.sent
        self.stage, self.phase = Stage(config), phase
        self.config, self.server = config, self.stage.server
        self.accepted: dict[str, dict[int, bytes]] = {name: {} for name in PHASES}
        self.left: set[int] = set()
        for name in PHASES[: PHASES.index(phase)] if phase in PHASES else PHASES:
            if self.server.phase == name:
                self.hand_in(name, set(self.server.missing) - ({SILENT} if name in ("CONFIRM", "UNMASK") else set()))
                self.server.close_phase()
        assert self.server.phase == phase
        if phase in PHASES:
            self.hand_in(phase, {EARLY, ALSO_EARLY})
        if phase in ("MASK", "CONFIRM", "UNMASK"):
            self.leave()
        self.round_id = self.everything["ADVERTISE"][0][5:37]
        self.session = b"" if phase == "ADVERTISE" else self.everything["SHARE"][0][5:37]
        self.awaited = set(self.server.missing)
        self.pool = [message for answers in self.everything.values() for message in answers.values()]

    def hand_in(self, phase: str, members: set[int]) -> None:
        for index in sorted(members):
            event = self.server.receive(index, self.everything[phase][index]).event
            assert event == Accepted(index, phase)
            self.accepted[phase][index] = self.everything[phase][index]

    def leave(self) -> None:
        """One client leaves when its vector is in, so that it stays in the sum."""
        if self.phase == "MASK":
            self.hand_in("MASK", {LEAVING})
        abort = wire.write([0, 1, self.everything["SHARE"][0][5:37], 6])
        assert isinstance(self.server.receive(LEAVING, abort).event, ClientAborted)
        self.left.add(LEAVING)

    @property
    def largest(self) -> int:
        """The longest honest message of this config, and the room for its headers."""
        neighbours, packed = self.config.neighbours, self.config.modulus.packed_bytes(self.config.length)
        return 64 + max(128, 32 + neighbours * (160 + 64), packed, 64, neighbours * 72)

    # What a message must be met with.

    def verdict(self, sender: int, data: bytes) -> type | ErrorCode:
        """The event's type, or the code of a Misbehaved."""
        if len(data) > self.largest:
            return ErrorCode.TOO_LARGE
        message = wire.parse(data, wire.TO_SERVER)
        if message is None:
            return ErrorCode.WRONG_VERSION if wire.shows_other_version(data) else ErrorCode.MALFORMED
        if message.version != 1:
            return ErrorCode.WRONG_VERSION
        if message.session not in self.sessions(message.kind):
            return ErrorCode.WRONG_SESSION
        if message.kind == "ABORT":
            return Late if sender in self.left or self.phase == "COMPUTE" else ClientAborted
        if sender in self.accepted[message.kind]:
            return self.repeated(sender, message.kind, data)
        if self.phase == "COMPUTE" or PHASES.index(message.kind) < PHASES.index(self.phase):
            return Late
        if message.kind != self.phase:
            return ErrorCode.WRONG_PHASE
        return self.contents(sender, message) if sender in self.awaited else Late

    def sessions(self, kind: str) -> set[bytes]:
        return {"ABORT": {self.round_id, self.session}, "ADVERTISE": {self.round_id}}.get(kind, {self.session})

    def repeated(self, sender: int, kind: str, data: bytes) -> type | ErrorCode:
        if kind == "MASK":
            return AlreadyMasked
        return Duplicate if data == self.accepted[kind][sender] else ErrorCode.CONFLICT

    def contents(self, sender: int, message: wire.Parsed) -> type | ErrorCode:
        own = wire.parse(self.everything[self.phase][sender], wire.TO_SERVER)
        assert own is not None
        return getattr(self, f"contents_of_{message.kind.lower()}")(own.fields, *message.fields)

    def contents_of_advertise(self, own: tuple[Any, ...], *fields: bytes) -> type | ErrorCode:
        *keys, signature = fields
        if len(signature) != (64 if self.config.is_active else 0):
            return ErrorCode.MALFORMED
        if any(key[:31] + bytes([key[31] & 0x7F]) in LOW_ORDER for key in keys):
            return ErrorCode.KEY_UNUSABLE
        parsed = (wire.parse(message, wire.TO_SERVER) for message in self.accepted["ADVERTISE"].values())
        known = {key for message in parsed if message is not None for key in message.fields[:2]}
        if keys[0] == keys[1] or known & set(keys):
            return ErrorCode.KEY_REPEATED
        return ErrorCode.BAD_SIGNATURE if self.config.is_active and fields != own else Accepted

    def contents_of_share(self, own: tuple[Any, ...], *fields: bytes) -> type | ErrorCode:
        fits = all(len(field) == len(honest) for field, honest in zip(fields, own, strict=True))
        return Accepted if fits else ErrorCode.WRONG_LENGTH

    def contents_of_mask(self, own: tuple[Any, ...], vector: bytes) -> type | ErrorCode:
        if len(vector) != len(own[0]):
            return ErrorCode.WRONG_LENGTH
        if int.from_bytes(vector, "little") >> (20 * self.config.length):
            return ErrorCode.PADDING
        return Accepted if max(self.elements(vector)) < MODULUS.value else ErrorCode.ELEMENT_RANGE

    def contents_of_confirm(self, own: tuple[Any, ...], signature: bytes) -> type | ErrorCode:
        return Accepted if signature == own[0] else ErrorCode.BAD_SIGNATURE

    def contents_of_unmask(self, own: tuple[Any, ...], openings: bytes) -> type | ErrorCode:
        if len(openings) != len(own[0]):
            return ErrorCode.WRONG_LENGTH
        return Accepted if openings == own[0] else ErrorCode.BAD_SHARE

    def elements(self, vector: bytes) -> list[int]:
        bits = int.from_bytes(vector, "little")
        return [bits >> 20 * position & (2**20 - 1) for position in range(self.config.length)]

    # What a message may change.

    def accumulator(self, server: Server) -> list[int]:
        masking = load(server.snapshot(), self.stage.directory).held
        assert isinstance(masking, Masking)
        return [int(lane) % MODULUS.value for lane in masking.sums.total]

    def finish(self, server: Server) -> list[int]:
        """The sum, when everybody goes on as in the rehearsal."""
        while not server.ready_to_compute:
            for index in sorted(set(server.missing) & set(self.everything[server.phase.value])):
                server.receive(index, self.everything[server.phase.value][index])
            server.close_phase()
        return server.compute().sum.tolist()


def without_blame(theatre: Theatre, snapshot: bytes) -> bytes:
    state = load(snapshot, theatre.stage.directory)
    state.attendance.blame.clear()
    return dump(*state)


def check_event(event: Event | None, expected: type | ErrorCode, sender: int, phase: str) -> None:
    if isinstance(expected, ErrorCode):
        assert isinstance(event, Misbehaved)
        assert (event.code, event.sender) == (expected, sender)
        assert event.phase in (phase, *PHASES)
    else:
        assert type(event) is expected
        assert event.sender == sender


@pytest.mark.parametrize(("threat_model", "phase"), STATES)
def test_server_meets_every_damaged_message_as_it_should(threat_model: ThreatModel, phase: str) -> None:
    theatre = Theatre(threat_model, phase)
    strangers = Stage(theatre.config, seed=2)
    strangers.play()
    pool = theatre.pool + [message for answers in strangers.sent.values() for message in answers.values()]
    rng = random.Random(f"{threat_model} {phase}")
    server, before = theatre.server, theatre.server.snapshot()
    current = [*theatre.everything.get(phase, {}).values()] or pool
    met: Counter[Any] = Counter()
    sums = 0
    for _ in range(SERVER_MESSAGES):
        sender = rng.randrange(theatre.config.clients)
        honest = theatre.everything.get(phase, {}).get(sender) or rng.choice(pool)
        data = mutate(rng, rng.choice((honest, honest, rng.choice(current), rng.choice(pool))), pool)
        expected = theatre.verdict(sender, data)
        blamed = len(server.blame)
        event = server.receive(sender, data).event
        try:
            check_event(event, expected, sender, phase)
        except AssertionError:
            pytest.fail(f"{phase}, client {sender}: {data.hex()} met with {event}, not {expected!r}")
        met[expected] += 1
        after = server.snapshot()
        if expected in (Accepted, ClientAborted, ErrorCode.BAD_SHARE):
            if phase == "MASK" and expected is Accepted:
                sums += check_vector(theatre, server, sender, data, before, finish=sums < 40)
            server = Server.restore(before, **theatre.stage.trust)
        elif after != before:
            assert len(server.blame) == blamed + 1, f"{data.hex()} from {sender} changed the server"
            assert without_blame(theatre, after) == without_blame(theatre, before), (
                f"{data.hex()} from {sender} changed the server"
            )
            before = after
    assert {ErrorCode.MALFORMED, ErrorCode.WRONG_VERSION, ErrorCode.WRONG_SESSION, ErrorCode.TOO_LARGE} <= set(met)
    assert phase not in ("MASK",) or {ErrorCode.PADDING, ErrorCode.ELEMENT_RANGE, ErrorCode.WRONG_LENGTH} <= set(met)
    assert server.blame, "nobody was blamed"
    if phase != "COMPUTE":
        assert theatre.finish(server) == theatre.total.sum.tolist()


def check_vector(theatre: Theatre, server: Server, sender: int, data: bytes, before: bytes, *, finish: bool) -> int:
    """A well-formed vector is its sender's own input: exactly that one is in the sum."""
    message = wire.parse(data, wire.TO_SERVER)
    assert message is not None
    sent = theatre.elements(message.fields[0])
    accumulated = theatre.accumulator(Server.restore(before, **theatre.stage.trust))
    expected = [(one + other) % MODULUS.value for one, other in zip(accumulated, sent, strict=True)]
    assert theatre.accumulator(server) == expected
    if finish:
        honest = theatre.elements(wire.read(theatre.everything["MASK"][sender])[3])
        changed = zip(theatre.total.sum.tolist(), sent, honest, strict=True)
        assert theatre.finish(server) == [(total + new - old) % MODULUS.value for total, new, old in changed]
    return finish


# Clients.

CLIENT_STATES = [
    (threat_model, state)
    for threat_model in ThreatModel
    for state in ("ADVERTISED", "SHARED", "INPUT", "MASKED", "CONFIRMED", "DONE")
    if threat_model is ThreatModel.ACTIVE or state != "CONFIRMED"
]


def check_refusal(client: Client, refused: PeerError, data: bytes) -> None:
    assert client.state is ClientState.ABORTED
    assert client.receive(data) == Step()
    reply = wire.parse(refused.reply, wire.TO_CLIENT)
    assert reply is not None
    assert (reply.kind, reply.fields) == ("ABORT", (AbortCode.PROTOCOL_VIOLATION,))
    assert refused.phase


def check_taken(copies: Copies, state: ClientState, client: Client, step: Step, data: bytes) -> str:
    """A message that was not refused: one that came before, an ABORT, or the one that belongs here."""
    message = wire.parse(data, wire.TO_CLIENT)
    assert message is not None
    assert message.version == 1
    if message.kind == "ABORT":
        ended = state is ClientState.DONE
        assert client.state is (ClientState.DONE if ended else ClientState.ABORTED)
        assert step == Step() if ended else isinstance(step.event, RoundAborted)
        return "ABORT"
    edge = CLIENT[copies.config.threat_model].get((state, getattr(messages, message.kind)))
    if edge is None:
        assert data == copies.inbox[message.kind]
        assert (step, client.state) == (Step(), state)
        return "duplicate"
    assert client.state is edge
    check_contents(copies, message)
    return "taken"


def check_contents(copies: Copies, message: wire.Parsed) -> None:
    """What a client may believe of a server that lies: what others vouch for."""
    honest = wire.parse(copies.inbox[message.kind], wire.TO_CLIENT)
    assert honest is not None
    config = copies.config
    if message.kind == "Survivors":
        survivors = {member for member in range(config.clients) if message.fields[0][0] >> member & 1}
        assert copies.index in survivors
        assert len(survivors) >= config.min_survivors
        assert len(survivors - {copies.index}) >= config.threshold
    elif message.kind == "Roster" and not config.is_active:
        assert message.fields[1] == honest.fields[1], "another key for this client than it advertised"
        assert len(message.fields[2]) // 4 >= config.threshold
    else:
        assert message == honest


@pytest.mark.parametrize(("threat_model", "state"), CLIENT_STATES)
def test_client_refuses_what_is_damaged(threat_model: ThreatModel, state: str) -> None:
    """A PeerError and the end of the round for this client, or no effect at all; no other exception."""
    copies, strangers = (Copies(MODELS[threat_model](**OPTIONS), index) for index in (2, 3))
    own = [*copies.inbox.values(), wire.write([0, 1, copies.inbox["Roster"][5:37], 4])]
    pool = own + list(strangers.inbox.values())
    awaited = [input_name(given) for (met, given) in CLIENT[threat_model] if met == state]
    awaited = [kind for kind in awaited if kind in copies.inbox]
    rng = random.Random(f"{threat_model} {state}")
    outcomes: Counter[str] = Counter()
    for _ in range(CLIENT_MESSAGES):
        source = copies.inbox[awaited[0]] if awaited and rng.random() < 0.7 else rng.choice(own)
        data = mutate(rng, source, pool)
        client = copies.client(state)
        try:
            step = client.receive(data)
        except PeerError as refused:
            check_refusal(client, refused, data)
            outcomes[refused.code] += 1
            continue
        except Exception as bug:
            pytest.fail(f"{state}: {data.hex()} raised {bug!r}")
        outcomes[check_taken(copies, ClientState(state), client, step, data)] += 1
    assert len(outcomes) >= 5
    assert outcomes["ABORT"]
    assert outcomes["taken"] or not awaited


# What is stored, and what comes before a round.


def damaged_bytes(rng: random.Random, data: bytes, count: int) -> Iterator[bytes]:
    for _ in range(count):
        damaged = mutate(rng, data, [data])
        if damaged != data:
            yield damaged


def test_invitations() -> None:
    stage = Stage(MODELS[ThreatModel.SEMI_HONEST](**OPTIONS))
    invitation = stage.server.invitation()
    taken, refusals = 0, []
    for data in damaged_bytes(random.Random(1), invitation, STORED_BYTES):
        try:
            client = Client.join(data, 0, policy=Policy(min_sigma=1))
        except PeerError as refused:
            refusals.append(refused)
            continue
        taken += 1
        assert wire.read(data) == wire.read(invitation), "an invitation to another round under this one's id"
        assert client.config == stage.config
    assert taken
    assert {refused.phase for refused in refusals} == {"ADVERTISE"}
    assert {wire.read(refused.reply)[3] for refused in refusals} == {AbortCode.CONFIG_REFUSED}
    assert {ErrorCode.MALFORMED, ErrorCode.WRONG_SESSION, ErrorCode.CONFIG_UNSOUND} <= {one.code for one in refusals}


def test_configs() -> None:
    """Damaged config bytes are refused, or they are those of another sound config, which then says so itself."""
    config = MODELS[ThreatModel.ACTIVE](**OPTIONS, context=b"context")
    sound = 0
    for data in damaged_bytes(random.Random(2), config.to_bytes(), STORED_BYTES):
        try:
            met = RoundConfig.from_bytes(data)
        except ParameterError:
            continue
        sound += 1
        assert RoundConfig.from_bytes(met.to_bytes()) == met
        assert (met.digest == config.digest) == (met == config)
    assert sound


def flipped_or_cut(rng: random.Random, data: bytes, count: int) -> Iterator[bytes]:
    """Damage to bytes at rest."""
    for _ in range(count):
        damaged = bytearray(data)
        for bit in rng.sample(range(8 * len(data)), rng.choice((1, 2, 5))):  # a bit flipped twice would be no damage
            damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged[: rng.choice((len(damaged), len(damaged), rng.randrange(len(damaged))))])


@pytest.mark.parametrize("state", ["ADVERTISED", "SHARED", "INPUT", "MASKED", "CONFIRMED"])
def test_suspended_clients_that_are_sealed(state: str) -> None:
    """Not one changed bit goes unnoticed, and the token is not used up."""
    copies, key = Copies(MODELS[ThreatModel.ACTIVE](**OPTIONS)), bytes(range(32))
    used: list[bytes] = []
    for data in flipped_or_cut(random.Random(state), copies.client(state).suspend(key), STORED_BYTES // 5):
        with pytest.raises(ParameterError):
            Client.resume(data, lambda token: not used.append(token), key=key, **copies.stage.trust_of(2))
    assert used == []


@pytest.mark.parametrize("state", ["ADVERTISED", "SHARED", "INPUT", "MASKED", "CONFIRMED"])
def test_suspended_clients_in_clear(state: str) -> None:
    """Damaged ones are refused, their token unused; forged ones may be another state that decodes."""
    copies = Copies(MODELS[ThreatModel.ACTIVE](**OPTIONS))
    rng, suspended = random.Random(state), copies.client(state).suspend()
    used: list[bytes] = []
    for data in flipped_or_cut(rng, suspended, STORED_BYTES // 2):
        with pytest.raises(ParameterError):
            Client.resume(data, lambda token: not used.append(token), **copies.stage.trust_of(2))
    assert used == []
    refused = 0
    mark, token, values = suspended[:1], suspended[1:33], suspended[65:]
    for _ in range(STORED_BYTES // 8):
        forged = replace_somewhere(rng, values)
        checksum = hashlib.sha256(token + forged).digest()
        try:
            Client.resume(mark + token + checksum + forged, lambda token: True, **copies.stage.trust_of(2)).close()
        except (ParameterError, PeerError):
            refused += 1
    assert refused


@pytest.mark.parametrize(("threat_model", "phase"), STATES)
def test_snapshots(threat_model: ThreatModel, phase: str) -> None:
    """Damaged ones are refused; forged ones with a right checksum too, or they are another state that decodes."""
    theatre = Theatre(threat_model, phase)
    rng, snapshot = random.Random(phase), theatre.server.snapshot()
    for data in flipped_or_cut(rng, snapshot, STORED_BYTES // 5):
        with pytest.raises(ParameterError, match="checksum"):
            Server.restore(data, **theatre.stage.trust)
    refused = 0
    for _ in range(STORED_BYTES // 15):
        forged = replace_somewhere(rng, snapshot[32:])
        try:
            Server.restore(hashlib.sha256(forged).digest() + forged, **theatre.stage.trust)
        except ParameterError:
            refused += 1
    assert refused
