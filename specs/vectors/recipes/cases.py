"""A client, or a server, in the middle of a recorded round, and the wrong messages that it then gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from reference import rules, wire
from reference.client import Client
from reference.server import Server
from reference.wire import Refused

from .common import Test, entry, labelled, source
from .rounds import LOOSE, Recorder, large_active, ring, small, small_active, sparse_active

KINDS = {number: name for name, (number, _) in wire.EVERY.items()}
INDEX = 2
"""The client that gets the wrong messages, or whose messages are wrong."""
GOOD_EVENTS = ("accepted", "duplicate", "already-masked", "late", "client-aborted")

# `check` in the files: the numbers that a client's rules had before the specification's requirements named them.  They
# are written all the same, for the files of version 1 stay what they are.  20, every message's, is the one not listed.
FORMER_NUMBERS = {
    "config-not-approved": 1,
    **dict.fromkeys(("config-unsound", "config-below-policy"), 2),
    "cohort-not-vouched": 3,
    "already-joined": 4,
    "roster-own-leaf": 5,
    **dict.fromkeys(("roster-neighbours", "roster-path", "roster-signature"), 6),
    **dict.fromkeys(("roster-ids", "roster-keys"), 7),
    "roster-too-few": 8,
    **dict.fromkeys(("shares-dealers", "shares-unsealable"), 9),
    **dict.fromkeys(("shares-range", "shares-commitment"), 10),
    "shares-too-few": 11,
    **dict.fromkeys(("state", "input"), 12),
    "index": 3,
    **dict.fromkeys(("survivors-self", "survivors-too-few"), 13),
    "survivors-not-shared": 14,
    "survivors-neighbours": 15,
    "survivors-changed": 16,
    **dict.fromkeys(("confirm-signers", "confirm-signature"), 17),
    "state-reused": 21,
}
# Of tests in which nothing is refused: what is to be done all the same.
FORMER_NUMBERS_OF_REQUIREMENTS = {"UNMASK-2": 18, "UNMASK-3": 19, "STATE-4": 21}

Change = Callable[[bytes, Client], bytes]


def setups() -> dict[str, Recorder]:
    """Honest rounds, by what is special about them."""
    prime = small(clients=4, neighbours=3, dropouts=1, ring_bits=0, prime=32771, input_max=8192, length=3)
    active = small_active(clients=5, neighbours=4, colluders=1, dropouts=1, min_survivors=4)
    recorders = {
        "semi_honest": Recorder("refusals", small(length=3), {}),
        "active": Recorder("refusals-active", active, {}),
        "sparse": Recorder("refusals-sparse", sparse_active(), LOOSE),
        "prime": Recorder("refusals-prime", prime, {}),
        "large": Recorder("refusals-large", large_active(), {}),
        "ring": Recorder("refusals-ring", ring(), LOOSE),
    }
    fates = {"large": {3: "NONE", 6: "NONE", 9: "SHARE"}}
    for name, recorder in recorders.items():
        recorder.run(fates.get(name, {}))
    return recorders


# Changes of messages.


def fields(data: bytes) -> dict[str, Any]:
    """The fields of a message, by name."""
    number, version, session, *values = wire.unpack(data)
    kind = KINDS[number]
    suite = 3 if len(values) > len(wire.fields_of(kind, version)) else 1  # that one has a field more, or the same names
    names = [field.partition(":")[0] for field in wire.fields_of(kind, version, suite)]
    return {"type": number, "version": version, "session": session, **dict(zip(names, values, strict=True))}


def changed(data: bytes, **changes: Any) -> bytes:
    """A message with other fields; a change may be a function of the old value."""
    values = fields(data)
    for name, value in changes.items():
        values[name] = value(values[name]) if callable(value) else value
    return wire.pack([*values.values()])


def flipped(data: bytes, place: int = -1) -> bytes:
    """One bit of one byte changed."""
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def put(data: bytes, size: int, place: int, record: bytes) -> bytes:
    """One record replaced."""
    return data[: size * place] + record + data[size * (place + 1) :]


def swapped(data: bytes, size: int, one: int = 0, other: int = 1) -> bytes:
    """Two records exchanged."""
    first, second = (data[size * place : size * (place + 1)] for place in (one, other))
    return put(put(data, size, one, second), size, other, first)


def without_first(data: bytes, **sizes: int) -> bytes:
    """A message without the first record of some fields."""
    return changed(data, **{name: fields(data)[name][size:] for name, size in sizes.items()})


def set_without(bits: bytes, clients: int, *gone: int) -> bytes:
    """A bitmap without some members."""
    return wire.bitmap([member for member in wire.read_bitmap(bits, clients) if member not in gone], clients)


def invitation(encoded: bytes, version: int = 1) -> bytes:
    """An invitation whose round id fits its config."""
    nonce, labels = labelled("another nonce", 32), rules.LABELS[version]
    round_id = labels.round_id(labels.config_digest(encoded), nonce)
    return wire.encode("Invitation", round_id, encoded, nonce, version=version)


# Tests.


class Case:
    """One party after the beginning of a round, and what it does then."""

    def __init__(self, setup: str, recorder: Recorder, party: str, after: int) -> None:
        self.setup, self.party, self.after = setup, party, after
        self.known = recorder.setup(recorder.of(party, INDEX))["messages"]
        self.messages: dict[str, str] = {}
        self.operations: list[dict[str, Any]] = []

    def name(self, data: bytes, name: str) -> str:
        """The name of a message, which is new unless it was met before."""
        for known, met in {**self.known, **self.messages}.items():
            if met == data.hex():
                return known
        if name in self.known or name in self.messages:
            name = f"{name}-{len(self.messages) + 1}"
        self.messages[name] = data.hex()
        return name

    def note(self, operation: str, **rest: Any) -> None:
        """Write down an operation; one with an error is one that is refused."""
        client = {"client": INDEX} if self.party == "client" else {}
        self.operations.append({"op": operation, **client, "ok": "error" not in rest, **rest})

    def refused(self, operation: str, refusal: Refused, **rest: Any) -> None:
        """Write down an operation that was refused, and the ABORT that follows."""
        culprits = {"culprits": list(refusal.culprits)} if refusal.culprits else {}
        self.note(operation, **rest, error=refusal.code, **culprits, out=self.name(refusal.reply, "abort"))

    def test(self, requirements: str, comment: str, flags: str) -> Test:
        """The test; its verdict is that of the first operation that is refused."""
        errors = [operation["error"] for operation in self.operations if not operation["ok"]]
        made = entry(requirements, comment, flags, error=errors[0] if errors else "")
        where = {"setup": self.setup, "party": self.party, "after": self.after}
        return {**made, **where, "messages": self.messages, "operations": self.operations}


class ClientCases:
    """Collects the tests of clients."""

    def __init__(self, recorders: dict[str, Recorder] | None = None) -> None:
        """Of the rounds of ``setups``, or of others."""
        self.setups = setups() if recorders is None else recorders
        self.tests: list[Test] = []

    def at(self, setup: str, stage: str) -> tuple[Case, Client, bytes]:
        """A client just before it gets a message, submits or, "done", at the end; and that message."""
        recorder = self.setups[setup]
        operations = recorder.of("client", INDEX)
        invited = bytes.fromhex(recorder.messages["invitation"])
        client = recorder.new_client(INDEX, invited)
        for place, operation in enumerate(operations):
            data = bytes.fromhex(recorder.messages[operation["message"]]) if "message" in operation else b""
            if stage in (operation["op"], KINDS[wire.unpack(data)[0]] if data else ""):
                return Case(setup, recorder, "client", place), client, data
            if operation["op"] == "client.start":
                client.start()
            elif operation["op"] == "client.submit":
                client.submit(recorder.vector(INDEX), recorder.attachment(INDEX))
            elif operation["op"] == "client.receive":
                client.receive(data)
        return Case(setup, recorder, "client", len(operations)), client, b""

    def get(self, case: Case, client: Client, data: bytes, name: str) -> None:
        """The client gets a message."""
        message = case.name(data, name)
        try:
            answer = client.receive(data)
        except Refused as refusal:
            case.refused("client.receive", refusal, message=message, state=client.state)
        else:
            out = {} if answer is None else {"out": case.name(answer, "answer")}
            case.note("client.receive", message=message, **out, state=client.state)

    def rule(self, setup: str, stage: str, error: str, requirement: str, flag: str) -> Callable[[str, Change], None]:
        """Makes tests in which the message of a stage is changed, and must be refused."""

        def wrong(comment: str, change: Change) -> None:
            case, client, honest = self.at(setup, stage)
            self.get(case, client, change(honest, client), "wrong")
            self.add(case, requirement, comment, flag, error)

        return wrong

    def sequence(
        self,
        setup: str,
        stage: str,
        requirement: str,
        flag: str,
        comment: str,
        messages: Callable[[bytes, Client], Iterable[bytes]],
        error: str = "",
    ) -> None:
        """A test in which a client gets several messages."""
        case, client, honest = self.at(setup, stage)
        for data in messages(honest, client):
            self.get(case, client, data, "message")
        self.add(case, requirement, comment, flag, error)

    def add(self, case: Case, requirement: str, comment: str, flag: str, error: str) -> None:
        """A test, whose outcome is checked here."""
        made = case.test(requirement, comment, flag)
        if made.get("error", "") != error:
            raise ValueError(f"{comment}: {made.get('error')}, not {error}")
        if self.setups[case.setup].config.version > 1:
            self.tests.append(made)
            return
        known = FORMER_NUMBERS_OF_REQUIREMENTS
        numbers = [known[name] for name in requirement.split() if name in known]
        number = FORMER_NUMBERS.get(error, 20) if error or not numbers else numbers[0]
        self.tests.append({"check": number, **made})


class ServerCases:
    """Collects the tests of servers."""

    def __init__(self, recorders: dict[str, Recorder] | None = None) -> None:
        """Of the rounds of ``setups``, or of others."""
        self.setups = setups() if recorders is None else recorders
        self.tests: list[Test] = []

    def message(self, setup: str, name: str) -> bytes:
        """A recorded message."""
        return bytes.fromhex(self.setups[setup].messages[name])

    def at(self, setup: str, phase: str) -> tuple[Case, Server]:
        """A server at the beginning of a phase; or, "DONE", at the end."""
        recorder = self.setups[setup]
        server = Server(recorder.config, source(f"{recorder.name} server"), recorder.identities)
        for place, operation in enumerate(recorder.of("server")):
            if server.phase == phase and operation["op"] == "server.receive":
                return Case(setup, recorder, "server", place), server
            if operation["op"] == "server.receive":
                server.receive(operation["client"], self.message(setup, operation["message"]))
            elif operation["op"] == "server.close":
                server.close_phase()
            elif operation["op"] == "server.compute":
                server.compute()
                return Case(setup, recorder, "server", place + 1), server
        raise ValueError(phase)

    def close(self, case: Case, server: Server) -> None:
        """The server's host closes the phase."""
        phase, sent = server.phase, server.close_phase()
        out = {str(member): case.name(data, "told") for member, data in sorted(sent.items())}
        case.note("server.close", phase=phase, out=out, state=server.phase)

    def get(self, case: Case, server: Server, sender: int, data: bytes) -> str:
        """The server gets a message."""
        event = server.receive(sender, data)
        outcome = {"event": event} if event in GOOD_EVENTS else {"error": event}
        case.note("server.receive", client=sender, message=case.name(data, "wrong"), **outcome)
        return event

    def rule(
        self, setup: str, name: str, error: str, requirement: str, flag: str, *, then: str = "accepted"
    ) -> Callable[[str, Callable[[bytes], bytes]], None]:
        """Makes tests in which a message is changed, and comes as it should afterwards: a refusal has no effect."""
        phase = {
            "advertise": "ADVERTISE",
            "share": "SHARE",
            "complaint": "COMPLAIN",
            "answer": "ANSWER",
            "masked-input": "MASK",
            "confirm": "CONFIRM",
            "unmask": "UNMASK",
        }[name]

        def wrong(comment: str, change: Callable[[bytes], bytes]) -> None:
            case, server = self.at(setup, phase)
            honest = self.message(setup, f"{name}-{INDEX}")
            met = [self.get(case, server, INDEX, data) for data in (change(honest), honest)]
            if met != [error, then]:
                raise ValueError(f"{comment}: {met}, not {error}")
            self.tests.append(case.test(requirement, comment, flag))

        return wrong

    def sequence(
        self,
        setup: str,
        phase: str,
        requirement: str,
        flag: str,
        comment: str,
        messages: Callable[[Server], Iterable[tuple[int, bytes]]],
    ) -> None:
        """A test in which a server gets several messages."""
        case, server = self.at(setup, phase)
        for sender, data in messages(server):
            self.get(case, server, sender, data)
        self.tests.append(case.test(requirement, comment, flag))
