"""What the machines tell the system that embeds them.  Frozen, public, and free of secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from secagg.errors import AbortCode, ErrorCode


@dataclass(frozen=True, slots=True)
class InputNeeded:
    """Client: call ``submit`` with a vector of ``length`` elements below ``modulus``, none above ``input_max``.

    With it goes an attachment of ``attachment_bytes``, unless that is 0.
    """

    length: int
    modulus: int
    input_max: int
    attachment_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """Client: its last message is in this step; its secrets are wiped.

    ``survivors`` are the cohort indices of those whose sum the message helps to open, ascending.  They are told so that
    a host can judge them before the message leaves, and are no part of equality: every ``Finished`` equals another.
    """

    survivors: tuple[int, ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class RoundAborted:
    """Client: the server ended the round."""

    code: AbortCode


@dataclass(frozen=True, slots=True)
class Accepted:
    """Server: a message was taken."""

    sender: int
    phase: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Server: the same message again; nothing changed."""

    sender: int
    phase: str


@dataclass(frozen=True, slots=True)
class AlreadyMasked:
    """Server: a further masked input of a client whose first one counts; it was not compared, nothing changed."""

    sender: int


@dataclass(frozen=True, slots=True)
class Admitted:
    """Server: the partial sum of this name may add this client's masked input; it counts when that sum is merged."""

    sender: int
    partial: str


@dataclass(frozen=True, slots=True)
class InHand:
    """Server: a masked input of a client of which one was admitted before, to this partial sum; nothing changed.

    Whether that one will count is not settled.  Keep this one, or have it sent again, until that partial sum is merged
    or dropped, or its worker refuses the input.
    """

    sender: int
    partial: str


@dataclass(frozen=True, slots=True)
class Late:
    """Server: a message of a phase that is over, or from a client that is out of the round; nothing changed."""

    sender: int
    phase: str


@dataclass(frozen=True, slots=True)
class Misbehaved:
    """Server: a message, or some shares in it, was refused.  ``dealers`` are those whose shares were bad."""

    sender: int
    phase: str
    code: ErrorCode
    detail: str
    dealers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientAborted:
    """Server: a client left the round."""

    sender: int
    phase: str
    code: AbortCode


ClientEvent: TypeAlias = InputNeeded | Finished | RoundAborted
ServerEvent: TypeAlias = Accepted | Duplicate | AlreadyMasked | Admitted | InHand | Late | Misbehaved | ClientAborted
Event: TypeAlias = ClientEvent | ServerEvent


@dataclass(frozen=True, slots=True)
class ClientStep:
    """What a call to a client did: the messages to send to the server, in order, and what happened, if anything did."""

    outgoing: tuple[bytes, ...] = ()
    event: ClientEvent | None = None


@dataclass(frozen=True, slots=True)
class ServerStep:
    """What a message did to a server.  There is nothing to send: only ``close_phase`` makes messages."""

    event: ServerEvent

    if not TYPE_CHECKING:
        # For one release: both roles' steps were one type, and hosts may still loop over the messages of a server's.
        outgoing: ClassVar[tuple[()]] = ()


Step: TypeAlias = ClientStep
"""What ``ClientStep`` was called before; this name stays for one release."""
