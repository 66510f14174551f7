"""A round that a test plays by hand: a server, its clients, and the messages that lie between them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np

from secagg import Client, ClientState, Result, RoundConfig, Server, ThreatModel
from secagg.events import ServerEvent
from secagg.simulation import RoundDriver, SeededRandomness
from secagg.testing.strategies import cohort, shapes
from tests.support import wire


def semi_honest(clients: int = 4, length: int = 5, **options: Any) -> RoundConfig:
    """On the complete graph; a quarter of the clients may be lost."""
    return RoundConfig.for_cohort(
        clients, length, **{"gamma": 0.0, "delta": 0.25, "neighbours": "complete", "modulus": 2**16, **options}
    )


def active(clients: int = 4, length: int = 5, **options: Any) -> RoundConfig:
    """The same against a server that lies; the cohort is that of ``secagg.testing.strategies.cohort``."""
    options = {"cohort": cohort(clients)[2], **options}
    return semi_honest(clients, length, threat_model=ThreatModel.ACTIVE, **options)


MODELS: dict[ThreatModel, Callable[..., RoundConfig]] = {
    ThreatModel.SEMI_HONEST: semi_honest,
    ThreatModel.ACTIVE: active,
}


def sparse(clients: int, threat_model: ThreatModel, length: int = 3, **options: Any) -> RoundConfig:
    """On the graph below the complete one that bears most dropouts, where next to no security is asked for."""
    shape = max(
        (shape for shape in shapes(clients, threat_model) if shape.neighbours < clients - 1),
        key=lambda shape: (shape.dropouts, -shape.neighbours, -shape.threshold),
    )
    config = MODELS[threat_model](
        clients,
        length,
        neighbours=shape.neighbours,
        threshold=shape.threshold,
        delta=shape.dropouts / clients,
        sigma=1,
        eta=1,
        grinding_bits=0,
        **options,
    )
    assert not config.is_complete
    return config


def message_for(server: Server, index: int) -> bytes:
    """What the server sends to one client now."""
    message = server.outgoing().to(index)
    assert message is not None, f"nothing for client {index} in {server}"
    return message


class Stage(RoundDriver):
    """A round under way.  With the same config and seed everybody draws, and sends, the same bytes."""

    server: Server
    clients: dict[int, Client]

    def __init__(self, config: RoundConfig, seed: int = 1) -> None:
        identities, directory, _ = cohort(config.clients)
        super().__init__(self.vector, config, seed=seed, identities=identities, directory=directory)
        self.sent: dict[str, dict[int, bytes]] = {}
        """By phase: every answer that a client gave, whether it was delivered or not."""

    @property
    def trust(self) -> dict[str, Any]:
        """The directory, where one is needed."""
        return {"directory": self.directory} if self.config.is_active else {}

    def trust_of(self, index: int) -> dict[str, Any]:
        """Directory and identity, where they are needed."""
        return {**self.trust, "identity": self.identities[index]} if self.config.is_active else {}

    def vector(self, index: int) -> np.ndarray:
        """A client's input: random, but always the same."""
        generator = np.random.default_rng([index, self.config.length])
        return generator.integers(0, self.config.input_max, self.config.length, np.uint64, endpoint=True)

    def plain_sum(self, included: Iterable[int]) -> list[int]:
        """In Python integers."""
        columns = zip(*(self.vector(index).tolist() for index in included), strict=True)
        return [sum(column) % self.config.modulus.value for column in columns]

    def join(self, index: int, invitation: bytes | None = None, **changes: Any) -> Client:
        """A new client, which accepts what its policy allows; it replaces the one that was there."""
        invitation = self.server.invitation() if invitation is None else invitation
        self.clients[index] = super().join(index, invitation, **{"approve": None, **changes})
        return self.clients[index]

    def answer(self, index: int) -> bytes:
        """Let a client take the server's present message, and return its answer."""
        if self.server.phase == "ADVERTISE":
            client = self.clients.get(index) or self.join(index)
            answer = client.start()
        else:
            (answer,) = self.step(self.server.phase, index, message_for(self.server, index)).outgoing
        self.sent.setdefault(self.server.phase.value, {})[index] = answer
        return answer

    def answers(self, members: Collection[int] | None = None) -> dict[int, bytes]:
        """The answers of some clients; of all that are awaited when not given."""
        return {index: self.answer(index) for index in sorted(self.server.missing if members is None else members)}

    def deliver(self, answers: Mapping[int, bytes]) -> list[ServerEvent]:
        """Hand answers to the server; returns what it says about them."""
        return [self.server.receive(index, answer).event for index, answer in answers.items()]  # type: ignore[misc]

    def collect(self, silent: Collection[int] = ()) -> dict[int, bytes]:
        """Everybody but the silent ones answers, and the server gets it; the phase stays open."""
        answers = self.answers(sorted(set(self.server.missing) - set(silent)))
        self.deliver(answers)
        return answers

    def play(self, until: str = "COMPUTE", silent: Mapping[str, Collection[int]] | None = None) -> Stage:
        """Phase after phase, until the server is in this state; ``silent`` says who does not answer when."""
        while self.server.phase != until:
            assert not self.server.done, f"the round ended: {self.server.failure}"
            self.collect((silent or {}).get(self.server.phase.value, ()))
            self.close()
        return self

    def finish(self) -> Result:
        """Play to the end."""
        return self.play().server.compute()


class Copies:
    """A client of a finished round in any of its states, as often as it is asked for, and what the server sent it."""

    def __init__(self, config: RoundConfig, index: int = 2) -> None:
        self.stage, self.config, self.index = Stage(config), config, index
        self.inbox: dict[str, bytes] = {}
        """By kind: the server's messages."""
        self.suspended: dict[ClientState, bytes] = {}
        server = self.stage.server
        self.keep(self.stage.join(index))
        while not server.ready_to_compute:
            for member in sorted(server.missing):
                if member == index and server.phase != "ADVERTISE":
                    self.remember(self.stage.clients[index], message_for(server, index))
                self.stage.deliver({member: self.stage.answer(member)})
            server.close_phase()
        self.sum = server.compute().sum.tolist()

    def remember(self, client: Client, message: bytes) -> None:
        """The message, and the client as it meets it; a client stops over in INPUT."""
        parsed = wire.parse(message, wire.TO_CLIENT)
        assert parsed is not None
        self.inbox[parsed.kind] = message
        state = self.keep(client)
        if parsed.kind == "Shares":
            probe = self.resumed(state)
            probe.receive(message)
            self.suspended[ClientState.INPUT] = probe.suspend()

    def keep(self, client: Client) -> ClientState:
        """Suspend it, and let a copy go on in its place."""
        state = client.state
        self.suspended[state] = client.suspend()
        self.stage.clients[self.index] = self.resumed(state)
        return state

    def resumed(self, state: ClientState) -> Client:
        """A copy: one state is resumed as often as it is asked for, which no host may do."""
        return Client.resume(
            self.suspended[state],
            lambda token: True,
            randomness=SeededRandomness(self.stage.seed, f"client {self.index}"),
            **self.stage.trust_of(self.index),
        )

    def client(self, state: ClientState | str) -> Client:
        """A client in this state."""
        state = ClientState(state)
        if state is ClientState.DONE:
            client = self.resumed(self.last_state)
            client.receive(self.inbox[self.last_message])
        elif state is ClientState.ABORTED:
            client = self.resumed(ClientState.SHARED)
            client.abort()
        else:
            client = self.resumed(state)
        assert client.state is state
        return client

    @property
    def states(self) -> list[ClientState]:
        """Every state that a client of this round can be in."""
        return [*self.suspended, ClientState.DONE, ClientState.ABORTED]

    @property
    def last_state(self) -> ClientState:
        """The one that the last message meets."""
        return ClientState.CONFIRMED if self.config.is_active else ClientState.MASKED

    @property
    def last_message(self) -> str:
        """Its kind."""
        return "Confirmations" if self.config.is_active else "Survivors"
