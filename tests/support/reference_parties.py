"""The library's parties and the reference's behind one interface, so that rounds can mix them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from unittest.mock import patch

from reference import client as reference_client
from reference import primitives
from reference import server as reference_server
from reference.rules import read_config
from reference.wire import Refused

from secagg import Client, InputNeeded, PeerError, Policy, Server, UsedTokens
from secagg.events import Accepted, AlreadyMasked, ClientAborted, Duplicate, Late, Misbehaved
from secagg.primitives import kem
from secagg.simulation import SeededRandomness
from secagg.testing.strategies import Scenario, cohort

SPECS: Final = Path(__file__).parents[2] / "specs"
LOOSE = Policy(
    min_sigma=1, min_grinding_bits=0, max_attachment_bytes=1024, max_groups=None, max_complaints=None, carrier="any"
)
EVENTS = {
    Accepted: "accepted",
    Duplicate: "duplicate",
    AlreadyMasked: "already-masked",
    Late: "late",
    ClientAborted: "client-aborted",
}

Answer = tuple[str, object]
"""("message", bytes), ("nothing", state), or ("refused", code, culprits, reply)."""


class Computed(NamedTuple):
    """What a round came to."""

    total: list[int]
    included: list[int]
    attachments: dict[int, bytes]
    groups: dict[int, tuple[list[int], list[int]]]
    """By number, the sum of each group that was opened, and the members in it."""


class AnyClient(Protocol):
    def take(self, message: bytes) -> Answer: ...


class AnyServer(Protocol):
    def invitation(self) -> bytes: ...
    def receive(self, sender: int, data: bytes) -> str: ...
    def close(self) -> dict[int, bytes]: ...
    def phase(self) -> str: ...
    def compute(self) -> Computed: ...


class LibraryClient:
    def __init__(self, scenario: Scenario, index: int) -> None:
        self.scenario, self.index = scenario, index
        self.client: Client | None = None

    def take(self, message: bytes) -> Answer:
        try:
            if self.client is None:
                return "message", self._join(message).start()
            step = self.client.receive(message)
            if isinstance(step.event, InputNeeded):
                step = self.client.submit(self.scenario.vector(self.index), self.scenario.attachment(self.index))
        except PeerError as refused:
            return "refused", (refused.code.value, refused.culprit, refused.reply)
        return ("message", step.outgoing[0]) if step.outgoing else ("nothing", self.client.state.value)

    def _join(self, message: bytes) -> Client:
        identities, directory, _ = cohort(self.scenario.config.clients)
        active = self.scenario.config.is_active
        self.client = Client.join(
            message,
            self.index,
            policy=LOOSE,
            identity=identities[self.index] if active else None,
            directory=directory if active else None,
            consume=UsedTokens(),
            randomness=SeededRandomness(self.scenario.seed, f"client {self.index}"),
        )
        return self.client


class ReferenceClient:
    def __init__(
        self,
        scenario: Scenario,
        index: int,
        encapsulate: Callable[[bytes], tuple[bytes, bytes]] = primitives.encapsulate,
    ) -> None:
        self.scenario, self.index, self.encapsulate = scenario, index, encapsulate
        self.client: reference_client.Client | None = None

    def take(self, message: bytes) -> Answer:
        try:
            if self.client is None:
                return "message", self._join(message).start()
            answer = self.client.receive(message)
            if self.client.state == "INPUT":
                attachment = self.scenario.attachment(self.index) or ()
                answer = self.client.submit(self.scenario.inputs[self.index], attachment)
        except Refused as refused:
            return "refused", (refused.code, refused.culprits, refused.reply)
        return ("message", answer) if answer is not None else ("nothing", self.client.state)

    def _join(self, message: bytes) -> reference_client.Client:
        identities, _, _ = cohort(self.scenario.config.clients)
        self.client = reference_client.Client(
            message,
            self.index,
            SeededRandomness(self.scenario.seed, f"client {self.index}"),
            identity=identities[self.index].seed(),
            directory=lambda digest: [identity.public_key for identity in identities],
            encapsulate=self.encapsulate,
        )
        return self.client


class TwoClients:
    """Both, side by side: what they answer must be equal.

    Nobody can make an encapsulation again: those of the library's client are handed to the reference's, by key.
    """

    def __init__(self, scenario: Scenario, index: int) -> None:
        self.encapsulated: dict[bytes, tuple[bytes, bytes]] = {}
        self.parties = LibraryClient(scenario, index), ReferenceClient(scenario, index, self.encapsulated.pop)

    def take(self, message: bytes) -> Answer:
        encapsulate = kem.encapsulate

        def recorded(key: bytes) -> tuple[bytes, bytes]:
            assert key not in self.encapsulated
            self.encapsulated[key] = encapsulate(key)
            return self.encapsulated[key]

        with patch.object(kem, "encapsulate", recorded):
            ours = self.parties[0].take(message)
        theirs = self.parties[1].take(message)
        assert ours == theirs
        assert self.encapsulated == {}
        library, reference = self.parties
        assert library.client is not None
        assert reference.client is not None
        assert library.client.state.value == reference.client.state
        return ours


class LibraryServer:
    def __init__(self, scenario: Scenario) -> None:
        config = scenario.config
        directory = cohort(config.clients)[1] if config.is_active else None
        self.server = Server(config, directory=directory, randomness=SeededRandomness(scenario.seed, "server"))

    def invitation(self) -> bytes:
        return self.server.invitation()

    def receive(self, sender: int, data: bytes) -> str:
        event = self.server.receive(sender, data).event
        return event.code.value if isinstance(event, Misbehaved) else EVENTS[type(event)]

    def close(self) -> dict[int, bytes]:
        return dict(self.server.close_phase())

    def phase(self) -> str:
        return self.server.phase.value

    def compute(self) -> Computed:
        result = self.server.compute()
        groups = {group.number: (group.sum.tolist(), list(group.included)) for group in result.groups}
        return Computed(result.sum.tolist(), list(result.included), dict(result.attachments), groups)


class ReferenceServer:
    def __init__(self, scenario: Scenario) -> None:
        identities, _, _ = cohort(scenario.config.clients)
        self.server = reference_server.Server(
            read_config(scenario.config.to_bytes()),
            SeededRandomness(scenario.seed, "server"),
            [identity.public_key for identity in identities],
        )

    def invitation(self) -> bytes:
        return self.server.invitation()

    def receive(self, sender: int, data: bytes) -> str:
        return self.server.receive(sender, data)

    def close(self) -> dict[int, bytes]:
        return self.server.close_phase()

    def phase(self) -> str:
        return self.server.phase

    def compute(self) -> Computed:
        attached = {i: value for i, value in sorted(self.server.attachments.items()) if value}
        total = self.server.compute()
        groups = {number: (found, self.server.included(number)) for number, found in self.server.sums.items()}
        return Computed(total, self.server.included(), attached, groups)


class TwoServers:
    """Both, side by side: what they say and send must be equal."""

    def __init__(self, scenario: Scenario) -> None:
        self.parties = LibraryServer(scenario), ReferenceServer(scenario)

    def invitation(self) -> bytes:
        ours, theirs = (party.invitation() for party in self.parties)
        assert ours == theirs
        return ours

    def receive(self, sender: int, data: bytes) -> str:
        ours, theirs = (party.receive(sender, data) for party in self.parties)
        assert ours == theirs
        return ours

    def close(self) -> dict[int, bytes]:
        ours, theirs = (party.close() for party in self.parties)
        assert ours == theirs
        return ours

    def phase(self) -> str:
        ours, theirs = (party.phase() for party in self.parties)
        assert ours == theirs
        return ours

    def compute(self) -> Computed:
        ours, theirs = (party.compute() for party in self.parties)
        assert ours == theirs
        return ours
