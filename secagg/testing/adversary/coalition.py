"""An honest server among honest clients and others, which lie, or only pool what they see with what it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secagg.client import Client
from secagg.config import Policy, RoundConfig
from secagg.errors import PeerError
from secagg.events import InputNeeded, ServerEvent
from secagg.identity import UsedTokens
from secagg.server import Server
from secagg.server_state import Blame, Failure, Result
from secagg.simulation.faults import FATES
from secagg.simulation.rounds import SeededRandomness
from secagg.testing.adversary.attack import known_cohort, true_inputs
from secagg.testing.adversary.client import ClientLie, MaliciousClient
from secagg.testing.adversary.ledger import Input, Ledger, Opening, View


@dataclass(frozen=True)
class CoalitionOutcome:
    """What a round with malicious or curious clients came to.

    Attributes:
        result: the server's, or None.
        failure: why it was aborted.
        events: what the server said about each message.
        client_errors: by honest client, what made it leave.
        openings, both_kinds: what the curious coalition of the server and these clients learnt.
        blame: whom the server named, with a result or without.
        inputs: the true vectors.
    """

    result: Result | None
    failure: Failure | None
    events: tuple[ServerEvent, ...]
    client_errors: Mapping[int, PeerError]
    openings: tuple[Opening, ...]
    both_kinds: frozenset[int]
    blame: tuple[Blame, ...]
    inputs: Mapping[Input, list[int]] = field(repr=False)
    ledger: Ledger = field(repr=False)


@dataclass(frozen=True)
class Coalition:
    """An honest server, honest clients, and clients whose secrets are pooled with what the server sees.

    Attributes:
        config: the round's.
        liars: by client, the lies it tells; none for one that is only curious.
        fates: by honest client, the last of its messages that the server gets in time (``secagg.simulation.FATES``).
        late: whether messages of lost clients still arrive, after their phase was closed.
        wire: changes what reaches an honest client (phase, client, message), as a transport that mixes things up.
        seed: of everybody's randomness.
    """

    config: RoundConfig
    liars: Mapping[int, tuple[ClientLie, ...]] = field(default_factory=dict)
    fates: Mapping[int, str] = field(default_factory=dict)
    late: bool = False
    wire: Callable[[str, int, bytes], bytes] | None = None
    seed: int = 0

    def run(self) -> CoalitionOutcome:
        """The whole round."""
        return _CoalitionRound(self).run()


class _CoalitionRound:
    def __init__(self, coalition: Coalition) -> None:
        self.coalition, self.config = coalition, coalition.config
        self.identities, self.directory, _ = known_cohort(self.config.clients)
        self.inputs = true_inputs(self.config, coalition.seed)
        self.server = Server(
            self.config,
            directory=self.directory if self.config.is_active else None,
            randomness=self.random("server"),
        )
        self.nonce = self.random("server")(32)
        self.ledger = Ledger(self.config)
        self.clients: dict[int, Client] = {}
        self.liars: dict[int, MaliciousClient] = {}
        self.views: dict[int, View] = {}
        self.events: list[ServerEvent] = []
        self.errors: dict[int, PeerError] = {}

    def random(self, label: str) -> Callable[[int], bytes]:
        return SeededRandomness(self.coalition.seed, label)

    def run(self) -> CoalitionOutcome:
        while not (self.server.ready_to_compute or self.server.done):
            phase = self.server.phase.value
            late: list[tuple[int, bytes]] = []
            for index, message in self.server.outgoing():
                for answer in self.answers(phase, index, message):
                    if self.in_time(phase, index):
                        self.deliver(index, answer)
                    elif self.coalition.late:
                        late.append((index, answer))
            self.server.close_phase()
            for index, answer in late:
                self.deliver(index, answer)
        result = None
        if self.server.ready_to_compute:
            try:
                result = self.server.compute()
            except PeerError:
                result = None
        return CoalitionOutcome(
            result,
            self.server.failure,
            tuple(self.events),
            self.errors,
            self.ledger.openings(),
            self.ledger.both_kinds(),
            self.server.blame,
            self.inputs,
            self.ledger,
        )

    def in_time(self, phase: str, index: int) -> bool:
        return FATES.index(self.coalition.fates.get(index, "UNMASK")) >= FATES.index(phase)

    def deliver(self, index: int, data: bytes) -> None:
        event = self.server.receive(index, data).event
        if event is not None:
            self.events.append(event)  # type: ignore[arg-type]

    def answers(self, phase: str, index: int, message: bytes) -> list[bytes]:
        if index in self.coalition.liars:
            return list(self.liar_answers(phase, index, message))
        try:
            return self.honest_answers(phase, index, message)
        except PeerError as refused:
            self.errors[index] = refused
            return [refused.reply]

    def liar_answers(self, phase: str, index: int, message: bytes) -> list[bytes]:
        if phase == "ADVERTISE":
            liar = self.liars[index] = MaliciousClient(
                self.config,
                self.nonce,
                index,
                randomness=self.random(f"client {index}"),
                identity=self.identities[index] if self.config.is_active else None,
                lies=self.coalition.liars[index],
                vector=self.inputs[index, 0],
            )
            self.ledger.learn(liar.channel_private, liar.masking_private)
            return list(liar.start())
        return list(self.liars[index].receive(message))

    def honest_answers(self, phase: str, index: int, message: bytes) -> list[bytes]:
        if phase == "ADVERTISE":
            client, advert = self.join(index, message)
            self.clients[index], self.views[index] = client, self.ledger.watch(index)
            self.views[index].sent(advert)
            return [advert]
        if self.coalition.wire is not None:
            message = self.coalition.wire(phase, index, message)
        client = self.clients[index]
        step = client.receive(message)
        if isinstance(step.event, InputNeeded):
            step = client.submit(self.inputs[index, 0])
        for answer in step.outgoing:
            if self.in_time(phase, index) or self.coalition.late:
                self.views[index].answered(self.config, self.nonce, message, answer)
        return list(step.outgoing)

    def join(self, index: int, invitation: bytes) -> tuple[Client, bytes]:
        trust: dict[str, Any] = {}
        if self.config.is_active:
            trust = {"identity": self.identities[index], "directory": self.directory, "consume": UsedTokens()}
        client = Client.join(
            invitation,
            index,
            policy=Policy(min_sigma=self.config.sigma, min_grinding_bits=self.config.grinding_bits),
            randomness=self.random(f"client {index}"),
            **trust,
        )
        return client, client.start()
