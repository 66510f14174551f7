"""The loop of a round in memory: the server's messages go to the clients and their answers back, phase after phase.

Every round in memory is played by ``RoundDriver``.  ``simulate`` adds faults and measurements to it, and
``simulate_prepared`` has most clients' answers made by a cheaper route; ``secagg.testing.adversary.Coalition`` has some
clients lie.  Each of them overrides the step in which it differs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import numpy.typing as npt

from secagg.errors import InputError, PeerError
from secagg.events import ClientStep, InputNeeded, ServerEvent
from secagg.identity import Directory, Identity, UsedTokens
from secagg.machines import ClientMachine, ServerMachine
from secagg.outcome import Result
from secagg.pairwise.client.attachment import Attachment
from secagg.pairwise.client.machine import Client
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.phases import Phase
from secagg.pairwise.server import Server
from secagg.simulation.cohort import SeededRandomness

Inputs: TypeAlias = Callable[[int], npt.ArrayLike] | Sequence[npt.ArrayLike] | Mapping[int, npt.ArrayLike]
Attachments: TypeAlias = Callable[[int], Attachment | None] | Sequence[Attachment] | Mapping[int, Attachment] | None
Late: TypeAlias = list[tuple[int, bytes]]


class RoundDriver:
    """One round between a server and its clients, all in this process.

        driver = RoundDriver(vectors, config)
        driver.play_phases()
        result = driver.compute()

    Attributes:
        server: the server; any machine that has the methods of ``ServerMachine``.
        clients: those that joined, by cohort index.
        events: what the server said about each message, in order.
        errors: by client, the PeerError that made it leave.
        late: (client, message) pairs that arrive only after the phase in which they were sent is closed.
    """

    def __init__(
        self,
        inputs: Inputs,
        config: RoundConfig,
        *,
        attachments: Attachments = None,
        server: ServerMachine | None = None,
        seed: int | None = None,
        policy: Policy | None = None,
        identities: Sequence[Identity] = (),
        directory: Directory | None = None,
    ) -> None:
        """A round that has not begun.

        Args:
            inputs: the clients' vectors, shape (config.length,), or a function that makes a client's when it is asked
                for.
            config: the round's constants.
            attachments: what is submitted beside them, for a config with ``attachment_bytes``; a function is asked
                after ``inputs``.
            server: a new ``Server`` of this config when not given.
            seed: makes every draw reproducible, which a real round must never be; the system's randomness when not
                given.
            policy: what every client asks for; that of the config itself when not given.
            identities, directory: ``active``: of ``make_cohort``, whose digest is in the config.

        Raises ParameterError for a directory that does not hold the config's cohort.
        """
        self.inputs, self.config, self.seed = inputs, config, seed
        self.attachments = attachments
        self.policy = policy or Policy(
            min_sigma=config.sigma,
            min_grinding_bits=config.grinding_bits,
            max_attachment_bytes=config.attachment_bytes,
            max_groups=config.groups,
            carrier=config.carrier,
            max_complaints=config.complaints,
        )
        self.identities = identities
        self.directory = directory if config.threat_model.signs else None
        if server is None:
            server = Server(config, directory=self.directory, randomness=self.randomness("server"))
        self.server = server
        self.clients: dict[int, ClientMachine] = {}
        self.events: list[ServerEvent] = []
        self.errors: dict[int, PeerError] = {}
        self.late: Late = []

    def randomness(self, label: str) -> Callable[[int], bytes]:
        """The randomness of one party: "server", or "client" and its index."""
        return os.urandom if self.seed is None else SeededRandomness(self.seed, label)

    # The round.

    def play_phases(self) -> None:
        """Play phase after phase, until the server can compute the sum, or has aborted the round."""
        while not (self.server.ready_to_compute or self.server.done):
            self.collect()
            self.close()

    def collect(self) -> None:
        """Play one phase up to the last message that is in time; the phase stays open."""
        phase = self.server.phase.value
        with self.on_server(phase):
            outgoing = self.server.outgoing()
        for index in self.in_order(phase, outgoing.recipients):
            with self.on_server(phase):
                message = outgoing.to(index)
            self.exchange(phase, index, message or b"")

    def close(self) -> None:
        """Close the phase, and hand in what is late for it."""
        phase = self.server.phase.value
        with self.on_server(phase):
            self.server.close_phase()
        late, self.late = self.late, []
        for index, message in late:
            self.hand_in(phase, index, message)

    def compute(self) -> Result | None:
        """The sum; None when a dealer's bad shares come to light only now, and the round is aborted for them."""
        try:
            return self.server.compute()
        except PeerError:
            return None

    # The steps that a driver of another kind of round overrides.

    def in_order(self, phase: str, recipients: Sequence[int]) -> Iterable[int]:
        """The recipients of a phase's messages, in the order in which they answer."""
        return recipients

    def exchange(self, phase: str, index: int, message: bytes) -> None:
        """Let a client take the server's message, and the server take what the client answers."""
        for answer in self.answers_to(phase, index, message):
            self.hand_in(phase, index, answer)

    def answers_to(self, phase: str, index: int, message: bytes) -> Sequence[bytes]:
        """What a client sends when it gets the server's message, which is the invitation in ADVERTISE."""
        try:
            if phase == Phase.ADVERTISE:
                with self.on_client(phase, index):
                    client = self.clients[index] = self.join(index, message)
                    return (client.start(),)
            # Whoever never joined may still be told that it is out.
            return self.step(phase, index, message).outgoing if index in self.clients else ()
        except PeerError as refused:
            self.errors[index] = refused
            return self.leave(phase, index, refused.reply)

    def leave(self, phase: str, index: int, abort: bytes) -> Sequence[bytes]:
        """What a client sends that refused the server's message: its ABORT, unless it has none to send."""
        return (abort,) if abort else ()

    def input_of(self, index: int) -> npt.ArrayLike:
        """A client's vector.  Raises InputError where there is none."""
        if callable(self.inputs):
            return self.inputs(index)
        try:
            return self.inputs[index]
        except (IndexError, KeyError):
            raise InputError(f"no input for client {index}; there are {len(self.inputs)}") from None

    def attachment_of(self, index: int) -> Attachment | None:
        """What a client's host attaches to its vector.  Raises InputError where it should and has nothing."""
        if self.attachments is None or callable(self.attachments):
            return None if self.attachments is None else self.attachments(index)
        try:
            return self.attachments[index]
        except (IndexError, KeyError):
            raise InputError(f"no attachment for client {index}; there are {len(self.attachments)}") from None

    def hand_in(self, phase: str, index: int, message: bytes) -> None:
        """Hand the server a client's message."""
        with self.on_server(phase):
            step = self.server.receive(index, message)
        self.events.append(step.event)

    def on_server(self, phase: str) -> AbstractContextManager[object]:
        """The context of every call to the server: for drivers that measure."""
        return nullcontext()

    def on_client(self, phase: str, index: int) -> AbstractContextManager[object]:
        """The context of every call to a client: for drivers that measure."""
        return nullcontext()

    # What an honest client's host does.

    def join(self, index: int, invitation: bytes, **changes: Any) -> ClientMachine:
        """The client that joins as a member of the cohort; ``changes`` replace arguments of ``Client.join``."""
        options: dict[str, Any] = {
            "approve": self.config.digest,
            "policy": self.policy,
            "identity": self.identities[index] if self.config.threat_model.signs else None,
            "directory": self.directory,
            "consume": UsedTokens(),
            "randomness": self.randomness(f"client {index}"),
        }
        return Client.join(invitation, index, **{**options, **changes})

    def step(self, phase: str, index: int, message: bytes) -> ClientStep:
        """Let a client that joined take the server's message, and give it its input as soon as it asks for that."""
        client = self.clients[index]
        with self.on_client(phase, index):
            step = client.receive(message)
        if isinstance(step.event, InputNeeded):
            vector, attachment = self.input_of(index), self.attachment_of(index)
            with self.on_client(phase, index):
                step = client.submit(vector, attachment)
        return step
