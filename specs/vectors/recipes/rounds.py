"""Whole rounds, as operations of all parties in an order in which they can happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from reference import primitives, wire
from reference.arithmetic import mask
from reference.client import Client
from reference.policy import accepted
from reference.rules import Config
from reference.server import COLLECTS, Server, phases_of
from reference.transcript import cohort_digest

from .. import ml_kem
from .common import File, Test, entry, file, labelled, numbers, source
from .configs import base_config
from .intermediate import intermediate_of
from .round_edges import round_edges

Policy = Mapping[str, int | str]


def acceptor(policy: Policy, approve: str | None = None) -> Callable[[Config], str]:
    """What a client's host and its policy make of a config."""
    return lambda config: accepted(config, policy, approve)


class Recorder:
    """Runs the reference's parties of one round, and writes down what they do."""

    def __init__(
        self,
        name: str,
        config: Config,
        policy: Policy,
        kinds: Mapping[int, type[Client]] | None = None,
        *,
        largest: bool = False,
    ) -> None:
        """``kinds``: clients that are not what they should be; ``largest``: every element is input_max."""
        self.largest = largest
        self.name, self.policy, self.kinds = name, policy, kinds or {}
        self.seeds = [labelled(f"{name} identity {i}", 32) for i in range(config.clients)] if config.active else []
        self.identities = [primitives.identity_key(seed) for seed in self.seeds]
        if config.active:
            config = Config(**{**asdict(config), "cohort": cohort_digest(self.identities)})
        self.config = config
        self.messages: dict[str, str] = {}
        self.operations: list[dict[str, Any]] = []
        self.clients: dict[int, Client] = {}
        self.out: dict[int, bytes] = {}

    def named(self, data: bytes, name: str) -> str:
        """The name of a message, a new one when these bytes were not met before."""
        for known, met in self.messages.items():
            if met == data.hex():
                return known
        if name in self.messages:
            raise ValueError(f"two messages named {name}")
        self.messages[name] = data.hex()
        return name

    def note(self, operation: str, **rest: Any) -> None:
        """Write down an operation that went well."""
        self.operations.append({"op": operation, "ok": True, **rest})

    def vector(self, index: int) -> list[int]:
        """A client's input."""
        config = self.config
        if self.largest:
            return [config.input_max] * config.length
        return [value % (config.input_max + 1) for value in mask(self._input_key(index), 0, config.length, 1 << 64)]

    def attachment(self, index: int) -> list[tuple[int, bytes]]:
        """What a client's host attaches: a value for no loss, one for a single loss, one for all that may be."""
        size, most = self.config.attachment_bytes, self.config.clients - self.config.min_survivors
        losses = sorted({0, 1, most}) if size else []
        return [(lost, labelled(f"{self.name} attachment {index} {lost}", size)) for lost in losses]

    def _input_key(self, index: int) -> bytes:
        return labelled(f"{self.name} input {index}", 16)

    def of(self, party: str, client: int = 0) -> list[dict[str, Any]]:
        """The operations of one party; a server's without what it sends."""
        if party == "client":
            mine = (operation for operation in self.operations if operation.get("client") == client)
            return [operation for operation in mine if operation["op"].startswith("client.")]
        return [
            {key: value for key, value in operation.items() if key != "out" or operation["op"] == "server.open"}
            for operation in self.operations
            if operation["op"].startswith("server.")
        ]

    def setup(self, operations: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """What the parties start from, with all operations or some, and the messages that these name."""
        everybody = range(self.config.clients)
        operations = self.operations if operations is None else operations
        attachments = {str(i): [[lost, value.hex()] for lost, value in self.attachment(i)] for i in everybody}
        named = {name for operation in operations for name in _names(operation)}
        drawn = 4 if self.config.carrier else 3
        encapsulations = [self._drawn(f"client {i} encapsulation", self._encapsulations) for i in everybody]
        return {
            "config": self.config.to_bytes().hex(),
            "policy": self.policy,
            "cohort": [
                {"identity_seed": seed.hex(), "identity_key": key.hex()}
                for seed, key in zip(self.seeds, self.identities, strict=True)
            ],
            "draws": {
                "server": self._drawn("server", 1),
                "clients": [self._drawn(f"client {i}", drawn) for i in everybody],
                **({"encapsulations": encapsulations} if self.config.suite == 3 else {}),
            },
            "inputs": [numbers(self.vector(i)) for i in everybody],
            **({"attachments": attachments} if any(attachments.values()) else {}),
            "messages": {name: data for name, data in self.messages.items() if name in named},
            "operations": operations,
        }

    def _drawn(self, who: str, count: int) -> list[str]:
        return [labelled(f"{self.name} {who} {place}", 32).hex() for place in range(count)]

    @property
    def _encapsulations(self) -> int:
        """The most that one client makes: to all channel keys, and to half of the masking keys or one more."""
        return self.config.neighbours + self.config.neighbours // 2 + 1

    def new_client(self, member: int, invitation: bytes, **changes: Any) -> Client:
        """A client that has joined."""
        given: dict[str, Any] = {
            "accept": acceptor(self.policy),
            "index": member,
            "draw": source(f"{self.name} client {member}"),
            "identity": self.seeds[member] if self.config.active else b"",
            "directory": lambda digest: self.identities if digest == self.config.cohort else None,
            "encapsulate": ml_kem.encapsulator(source(f"{self.name} client {member} encapsulation")),
        }
        return self.kinds.get(member, Client)(invitation, **{**given, **changes})

    def new_server(self) -> Server:
        """The round's server, at its beginning."""
        return Server(self.config, source(f"{self.name} server"), self.identities)

    def run(self, fates: Mapping[int, str], leavers: Mapping[int, str] | None = None, *, compute: bool = True) -> None:
        """A round.  ``fates`` says which message of a client's is the last that arrives; who leaves says so."""
        self.server = self.new_server()
        invitation = self.server.invitation()
        self.note("server.open", out=self.named(invitation, "invitation"))
        self.out = dict.fromkeys(range(self.config.clients), invitation)
        for phase in phases_of(self.config)[:-2]:
            if phase == "ANSWER" != self.server.phase:
                continue  # nobody is accused
            self._answers(phase, [i for i in self.out if self._arrives(fates.get(i), phase)])
            for index in (index for index, when in (leavers or {}).items() if when == phase):
                self.leave(index)
            self.close()
            if self.server.phase == "ABORTED":
                return
        if not compute:
            return
        total = self.server.compute()
        included = self.server.included()
        if total != self.plain_sum(included):
            raise ValueError(f"{self.name}: the sum is wrong")
        attached = {str(i): value.hex() for i, value in sorted(self.server.attachments.items()) if value}
        shown: dict[str, Any] = {"attachments": attached} if attached else {}
        shown |= {"groups": self._groups()} if self.config.groups > 1 else {}
        self.note("server.compute", sum=numbers(total), included=included, **shown, state="DONE")

    def _groups(self) -> dict[str, Any]:
        """The sums of the groups that were opened, held against plain ones."""
        found = {}
        for number, total in sorted(self.server.sums.items()):
            included = self.server.included(number)
            if total != self.plain_sum(included):
                raise ValueError(f"{self.name}: the sum of group {number} is wrong")
            found[str(number)] = {"sum": numbers(total), "included": included}
        return found

    @staticmethod
    def _arrives(fate: str | None, phase: str) -> bool:
        order = ["NONE", *COLLECTS]
        return fate is None or order.index(fate) >= order.index(phase)

    def plain_sum(self, included: Iterable[int]) -> list[int]:
        """The sum of some inputs."""
        columns = zip(*(self.vector(index) for index in included), strict=True)
        return [sum(column) % self.config.modulus for column in columns]

    def _answers(self, phase: str, answering: Sequence[int]) -> None:
        name = {
            "ADVERTISE": "advertise",
            "SHARE": "share",
            "COMPLAIN": "complaint",
            "ANSWER": "answer",
            "MASK": "masked-input",
            "CONFIRM": "confirm",
            "UNMASK": "unmask",
        }[phase]
        for index in answering:
            answer = self._answer(phase, index, f"{name}-{index}")
            self.deliver(index, answer)

    def _answer(self, phase: str, index: int, name: str) -> bytes:
        data = self.out[index]
        if phase == "ADVERTISE":
            client = self.clients[index] = self.new_client(index, data)
            self.note("client.join", client=index, message=self.named(data, ""), state=client.state)
            answer = client.start()
            self.note("client.start", client=index, out=self.named(answer, name), state=client.state)
            return answer
        client = self.clients[index]
        taken = client.receive(data)
        shown = {} if taken is None else {"out": self.named(taken, name)}
        self.note("client.receive", client=index, message=self.named(data, ""), **shown, state=client.state)
        if client.state == "INPUT":
            taken = client.submit(self.vector(index), self.attachment(index))
            self.note("client.submit", client=index, out=self.named(taken, name), state=client.state)
        if taken is None:
            raise ValueError(f"{self.name}: client {index} has no answer in {phase}")
        return taken

    def deliver(self, sender: int, data: bytes) -> None:
        """A message reaches the server."""
        event = self.server.receive(sender, data)
        good = event in ("accepted", "duplicate", "already-masked", "late", "client-aborted")
        outcome = {"event": event} if good else {"ok": False, "error": event}
        self.operations.append(
            {"op": "server.receive", "ok": True, "client": sender, "message": self.named(data, ""), **outcome}
        )

    def leave(self, index: int) -> None:
        """A client cancels."""
        self.clients[index].state = "ABORTED"
        data = wire.abort(self.server.round_id, "cancelled", self.config.version)
        self.note("client.abort", client=index, out=self.named(data, "abort-by-client"), state="ABORTED")
        self.deliver(index, data)

    def close(self) -> None:
        """The server's host closes the phase."""
        phase = self.server.phase
        name = {
            "ADVERTISE": "roster-{}",
            "SHARE": "shares-{}",
            "COMPLAIN": "settled-{}",
            "ANSWER": "settled-{}",
            "MASK": "survivors",
            "CONFIRM": "confirmations",
            "UNMASK": "",
        }[phase]
        out = self.server.close_phase()
        if self.server.phase == "ANSWER":
            name = "accusations-{}"
        going_on = self.server.recipients if self.server.phase != "ABORTED" else []
        told = "abort-excluded" if going_on else "abort-round"
        if self.config.groups > 1 and phase == "CONFIRM":
            name = "confirmations-first-of-{}"  # each group's have the name of its first member
        self.note(
            "server.close",
            phase=phase,
            out={
                str(index): self.named(data, name.format(index) if index in going_on else told)
                for index, data in sorted(out.items())
            },
            state=self.server.phase,
        )
        going_on = [index for index in going_on if index in out]  # those that are sent something
        self.out = {index: out[index] for index in going_on}
        for index in sorted(set(out) - set(going_on)):
            if index in self.clients and self.clients[index].state != "ABORTED":
                self.clients[index].receive(out[index])
                message = self.named(out[index], "")
                self.note("client.receive", client=index, message=message, state=self.clients[index].state)


def _names(operation: Mapping[str, Any]) -> Iterable[str]:
    """The messages of an operation."""
    out = operation.get("out", {})
    return [operation.get("message", ""), *([out] if isinstance(out, str) else out.values())]


LOOSE = {"min_sigma": 1, "min_grinding_bits": 0}


def small(**changes: Any) -> Config:
    """Five clients on the complete graph."""
    given = {"clients": 5, "length": 6, "colluders": 1, "dropouts": 2, "neighbours": 4, "threshold": 2}
    return base_config(**{**given, "min_survivors": 3, "ring_bits": 19, "input_max": 65535, **changes})


def small_active(**changes: Any) -> Config:
    """Six, in `active`."""
    given = {"threat_model": "active", "clients": 6, "neighbours": 5, "threshold": 3, "quorum": 4, "colluders": 0}
    given |= {"min_survivors": 4, "grinding_bits": 64, "cohort": bytes(32), "length": 3}
    return small(**{**given, **changes})


def large_active(**changes: Any) -> Config:
    """Ten, in `active`, whose sets take two bytes."""
    given = {"clients": 10, "neighbours": 9, "dropouts": 3, "threshold": 5, "quorum": 6, "min_survivors": 6}
    return small_active(**{**given, "length": 2, "ring_bits": 20, **changes})


def ring(**changes: Any) -> Config:
    """Seven on a ring in `semi_honest`, with hardly any security asked for."""
    return small(**{"clients": 7, "neighbours": 4, "sigma": 1, "eta": 1, "length": 1, **changes})


def sparse_active() -> Config:
    """Six clients of four neighbours each, with hardly any security asked for."""
    return small_active(neighbours=4, dropouts=1, sigma=1, eta=1, grinding_bits=0)


def rounds() -> File:
    """Whole rounds."""
    tests: list[Test] = []

    def add(
        name: str,
        config: Config,
        requirements: str,
        flags: str,
        comment: str,
        fates: Mapping[int, str] | None = None,
        leavers: Mapping[int, str] | None = None,
        policy: Policy | None = None,
        ends: str = "DONE",
        largest: bool = False,
    ) -> None:
        recorder = Recorder(name, config, policy or {}, largest=largest)
        recorder.run(fates or {}, leavers)
        if recorder.server.phase != ends:
            raise ValueError(f"{name} ends {recorder.server.phase}")
        between = intermediate_of(recorder.server, recorder.clients)
        tests.append(entry(requirements, comment, flags, **recorder.setup(), intermediate=between))

    everything = "SHARE-7 SHARES-6 MASK-1 MASK-3 MASK-9 UNMASK-1 UNMASK-8 STATE-1 STATE-2"
    add(
        "three",
        small(clients=3, colluders=0, dropouts=0, neighbours=2, min_survivors=3, length=4, ring_bits=18),
        everything,
        "",
        "three clients who all stay",
    )
    add(
        "drops",
        small(),
        f"{everything} UNMASK-5",
        "DROPOUTS",
        "one client is lost before it shares, another before its masked input arrives",
        {0: "ADVERTISE", 3: "SHARE"},
    )
    add(
        "prime",
        small(
            ring_bits=0,
            prime=32771,
            input_max=32770,
            suite=2,
            length=9,
            context=b"model 7",
        ),
        f"{everything} STREAM-2",
        "DROPOUTS PRIME_REJECTS",
        "a prime that rejects half of the candidates, AES-256; one lost in MASK, one only in UNMASK",
        {1: "SHARE", 4: "MASK"},
    )
    add(
        "wide",
        small(clients=3, neighbours=2, colluders=0, dropouts=0, ring_bits=64, input_max=2**64 - 1, length=2),
        everything,
        "",
        "a ring of 64 bits where every element is allowed and the sum wraps",
    )
    add(
        "active",
        small_active(),
        f"{everything} CONFIRM-1 CONFIRM-4 ROSTER-4",
        "DROPOUTS",
        "six clients in `active`: one never advertises, one is lost in MASK",
        {2: "NONE", 5: "SHARE"},
    )
    add(
        "active-late",
        small_active(suite=2, ring_bits=0, prime=2**61 - 1),
        f"{everything} CONFIRM-4",
        "DROPOUTS",
        "losses in MASK and after CONFIRM, a prime of 61 bits, AES-256",
        {0: "CONFIRM", 5: "SHARE"},
    )
    add(
        "sparse-active",
        sparse_active(),
        f"{everything} GRAPH-1 GRAPH-3 ROSTER-4 ROSTER-5 ADVERTISE-7",
        "SPARSE DROPOUTS",
        "a sparse graph in `active`, with absent neighbours and a proof that is not empty",
        {5: "NONE"},
        policy=LOOSE,
    )
    add(
        "leaving",
        small(),
        "ABORT-1 ABORT-4 MASK-9",
        "LEAVES",
        "one client says that it leaves after its shares are in, another after its masked input is",
        {},
        {0: "SHARE", 4: "MASK"},
    )
    add(
        "too-few",
        small(clients=4, neighbours=3, dropouts=1),
        "MASK-8 ABORT-2",
        "ABORTS",
        "too few masked inputs: the server tells everybody that the round is over",
        {0: "SHARE", 1: "SHARE"},
        ends="ABORTED",
    )
    add(
        "too-few-confirm",
        small_active(clients=4, neighbours=3, threshold=2, dropouts=1, quorum=3, min_survivors=3, length=1),
        "CONFIRM-3 ABORT-2",
        "ABORTS",
        "fewer confirmations than the quorum",
        {0: "MASK", 1: "MASK"},
        ends="ABORTED",
    )
    shape = {"clients": 7, "neighbours": 4, "sigma": 1, "eta": 1, "length": 1}
    add(
        "pruned",
        small(**shape),
        f"{everything} GRAPH-1 SHARE-9 ABORT-2",
        "PRUNED SPARSE",
        "a client that shared is pruned, since three of its four neighbours did not",
        {0: "ADVERTISE", 1: "ADVERTISE", 2: "ADVERTISE"},
        policy=LOOSE,
    )
    add(
        "stranded",
        small(**shape),
        "ADVERTISE-8 ABORT-2",
        "PRUNED",
        "a client stands in the roster with one neighbour: it is told to go, and the roster stays as it is",
        {0: "NONE", 1: "NONE", 3: "NONE"},
        policy=LOOSE,
    )
    add(
        "stuck",
        small(**{**shape, "clients": 6}),
        "MASK-8 ABORT-2",
        "ABORTS",
        "enough masked inputs, but one survivor has too few neighbours among them: nobody is shown the survivors",
        {3: "SHARE", 4: "SHARE", 5: "SHARE"},
        policy=LOOSE,
        ends="ABORTED",
    )
    add(
        "too-few-unmask",
        small(clients=5, neighbours=4, dropouts=1),
        "UNMASK-5 ABORT-2",
        "ABORTS",
        "too few answers in UNMASK: everybody who was sent the survivors and did not leave is told, who is done too",
        {1: "MASK", 2: "MASK", 3: "MASK"},
        {4: "UNMASK"},
        ends="ABORTED",
    )
    for edge in round_edges(small, small_active, ring):
        add(
            edge.name,
            edge.config,
            edge.requirements,
            edge.flags,
            edge.comment,
            edge.fates,
            edge.leavers,
            LOOSE if edge.config.sigma == 1 else None,
            edge.ends,
            edge.largest,
        )
    flags = {
        "EDGE": "a server that asks for one more than it needs, or a value at the edge of its range",
        "BITMAP": "sets of several bytes, whose bits are counted otherwise",
        "PRUNED": "a client left among too few neighbours, whose secrets nobody could reconstruct",
        "DROPOUTS": "masks of lost clients that stay in the sum, or survivors taken for lost",
        "PRIME_REJECTS": "masks modulo a prime that follow another rule of rejection",
        "SPARSE": "neighbours that two sides draw differently",
        "LEAVES": "a vector that is taken out of the sum, or awaited shares that never come",
        "ABORTS": "a server that goes on with too few, or clients that wait for ever",
    }
    return file("rounds", "Whole rounds; replay the operations of one party or of all.", flags, tests)
