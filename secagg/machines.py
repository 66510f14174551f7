"""What a host needs of a client and of a server, as typing protocols.

``Client`` and ``Server`` are such machines.  Whatever carries their messages (the simulation, the adapters, the
adversary) is written against these protocols, so that it can also drive a machine that wraps one of them, lives in
another process, or speaks another version of the wire.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy.typing as npt

from secagg.errors import AbortCode
from secagg.events import ClientStep, ServerStep
from secagg.identity import Identity
from secagg.outcome import Blame, Failure, Outgoing, Result
from secagg.pairwise.certificate import Spent
from secagg.pairwise.client.attachment import Attachment
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.phases import ClientState, ServerState

if TYPE_CHECKING:  # with logging, it takes longer to import than this module does
    from concurrent.futures import Executor


class ClientMachine(Protocol):
    """One member of the cohort in one round, after it has joined; ``Client`` documents each call."""

    @property
    def config(self) -> RoundConfig:
        """The round's config."""

    @property
    def index(self) -> int:
        """This client's cohort index."""

    @property
    def state(self) -> ClientState:
        """Where it stands, which says what its next message is."""

    @property
    def done(self) -> bool:
        """Whether the round is over for this client, well or badly."""

    def start(self) -> bytes:
        """The first message to the server."""

    def receive(self, data: bytes | bytearray | memoryview, executor: Executor | None = None) -> ClientStep:
        """Take one message of the server's.  Raises PeerError when the server broke a rule."""

    def submit(self, vector: npt.ArrayLike, attachment: Attachment | None = None) -> ClientStep:
        """Mask the input, shape (config.length,), once the event InputNeeded has asked for it."""

    def suspend(self, key: bytes | None = None) -> bytes:
        """Hand out the whole state, once, and spend this object."""

    def abort(self, code: AbortCode = AbortCode.CANCELLED) -> bytes:
        """Leave the round; returns the message that says so to the server."""

    def close(self) -> None:
        """Wipe the secrets."""


class ServerMachine(Protocol):
    """One round; ``Server`` documents each call."""

    @property
    def config(self) -> RoundConfig:
        """The round's config."""

    @property
    def phase(self) -> ServerState:
        """The phase whose messages are collected, or COMPUTE, DONE, ABORTED."""

    @property
    def missing(self) -> Collection[int]:
        """The clients that are still awaited in this phase."""

    @property
    def ready_to_compute(self) -> bool:
        """Whether ``compute`` is next."""

    @property
    def done(self) -> bool:
        """Whether the round is over, with a sum or without."""

    @property
    def failure(self) -> Failure | None:
        """Why the round was aborted, if it was."""

    @property
    def blame(self) -> tuple[Blame, ...]:
        """Which clients broke which rules so far."""

    @property
    def dropped(self) -> Mapping[str, tuple[int, ...]]:
        """By phase, the clients that the server lost in it so far."""

    @property
    def graph(self) -> NeighbourGraph | None:
        """Who is whose neighbour; None before that is drawn."""

    def invitation(self) -> bytes:
        """The first message to every client."""

    def receive(self, sender: int, data: bytes | bytearray | memoryview) -> ServerStep:
        """Take one message of a client's.  Never raises for what a client sent, never advances, never sends."""

    def close_phase(self) -> Outgoing:
        """End the phase, and return what to send.  Raises StateError when there is no phase to close."""

    def outgoing(self) -> Outgoing:
        """What the last ``close_phase`` returned, again; before the first one, the invitation for everybody."""

    def compute(self, executor: Executor | None = None, workers: int | None = None) -> Result:
        """Unmask the sum.  Raises PeerError when a client dealt shares that open to something else."""

    def certificate(
        self,
        identity: Identity,
        *,
        previous: bytes = b"",
        name: str = "",
        time: int = 0,
        spent: Spent | None = None,
        statements: Mapping[int, bytes] = MappingProxyType({}),
    ) -> bytes:
        """The round's certificate, signed by the server's identity.  Raises StateError before the round is over."""

    def check_statement(self, member: int, statement: bytes) -> None:
        """Raises CertificateError unless the member signed that it did not answer in this round, which was aborted."""

    def abort(self, reason: str = "cancelled by the host") -> Outgoing:
        """End the round without a sum, and return what to send."""

    def snapshot(self) -> bytes:
        """The whole state, everything received so far included."""
