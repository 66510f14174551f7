"""What a malicious server can be told to do, as plain data: frozen, comparable, and easy to draw and to shrink.

A lie overrides the steps of ``Lie`` in which it differs from the truth.  ``to`` says to whom it is told; empty, to
everybody.  Lies compose: each one changes what those before it made.  Here are those about hosts and about any message;
``roster_lies`` and ``round_lies`` have the others, and ``adversary`` names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secagg import messages
from secagg.config import RoundConfig
from secagg.messages import Survivors
from secagg.transcript import VERSION

if TYPE_CHECKING:
    from secagg.testing.malicious_server import Box, Ids, MaliciousServer, Member, RosterDraft, World


@dataclass(frozen=True, slots=True)
class Lie:
    """The truth, step by step."""

    # Before the roster.

    def invites_again(self, index: int) -> bool:
        """Whether a client's host joins a second time, having lost the first client's state."""
        return False

    def invitation(
        self, server: MaliciousServer, index: int, config: RoundConfig, nonce: bytes
    ) -> tuple[RoundConfig, bytes]:
        """The config and the nonce for one client."""
        return config, nonce

    def wire_invitation(self, index: int, data: bytes) -> bytes:
        """The invitation's bytes."""
        return data

    # The roster.

    def group(self, member: Member, group: object) -> object:
        """Clients of one group get one roster."""
        return group

    def draft(self, server: MaliciousServer, world: World) -> None:
        """Change who stands in a roster, before its digest is made."""

    def drawn(self, server: MaliciousServer, world: World) -> None:
        """Change what follows from a roster, once its graph is known."""

    def roster(self, server: MaliciousServer, world: World, member: Member, draft: RosterDraft) -> None:
        """Change the roster for one client."""

    # Later phases.

    def reaches(self, phase: str, index: int) -> bool:
        """Whether a client gets the message that closes a phase; who does not is lost for good."""
        return True

    def resumes_twice(self, index: int) -> bool:
        """Whether a client's host resumes one suspended state twice."""
        return False

    def submits_again(self, index: int) -> bool:
        """Whether a client's host submits a second vector."""
        return False

    def shares(
        self, server: MaliciousServer, world: World, member: Member, dealt: list[tuple[int, Box]]
    ) -> list[tuple[int, Box]]:
        """Which sealed shares a client gets, from which dealers."""
        return dealt

    def survivors(
        self, server: MaliciousServer, world: World, member: Member, survivors: frozenset[int]
    ) -> frozenset[int]:
        """The survivors shown to a client."""
        return survivors

    def confirmations(
        self, server: MaliciousServer, world: World, member: Member, signatures: dict[int, bytes]
    ) -> dict[int, bytes]:
        """The confirmations shown to a client, by signer."""
        return signatures

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """The bytes of the message that closes a phase."""
        return data

    def more(self, world: World, member: Member, phase: str, data: bytes) -> Iterable[bytes]:
        """Further messages, after it."""
        return ()

    def after(self, server: MaliciousServer) -> None:
        """What the adversary does when all is over."""


def meant(to: Ids, index: int) -> bool:
    """Whether a lie is told to a client."""
    return not to or index in to


def turned(data: bytes) -> bytes:
    """The bytes with one bit turned; none stay none."""
    return bytes((data[0] ^ 1,)) + data[1:] if data else b""


# -- What hosts are talked into ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InviteAgain(Lie):
    """Hosts that lost their client's state join the same round anew; these clients get a roster of their own."""

    to: Ids = ()

    def invites_again(self, index: int) -> bool:
        """Once more."""
        return meant(self.to, index)


@dataclass(frozen=True, slots=True)
class ResumeTwice(Lie):
    """Some hosts are made to resume a suspended client twice; each clone masks a vector of its own."""

    to: Ids = ()

    def resumes_twice(self, index: int) -> bool:
        """While it waits for its input."""
        return meant(self.to, index)


@dataclass(frozen=True, slots=True)
class SubmitAgain(Lie):
    """Some hosts submit a second vector."""

    to: Ids = ()

    def submits_again(self, index: int) -> bool:
        """Right after the first."""
        return meant(self.to, index)


# -- Any message -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lose(Lie):
    """Some clients do not get the message that closes a phase, and are lost from there on."""

    ids: Ids
    phase: str

    def reaches(self, phase: str, index: int) -> bool:
        """Neither that message nor a later one."""
        return phase != self.phase or index not in self.ids


@dataclass(frozen=True, slots=True)
class FlipBit(Lie):
    """One bit of the message that closes a phase is turned."""

    phase: str
    bit: int
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """Counted from the first byte on, and around."""
        if phase != self.phase or not meant(self.to, member.index) or not data:
            return data
        bit = self.bit % (8 * len(data))
        return data[: bit // 8] + bytes((data[bit // 8] ^ 1 << bit % 8,)) + data[bit // 8 + 1 :]


@dataclass(frozen=True, slots=True)
class Resize(Lie):
    """The message that closes a phase is cut short, or has zeros behind it."""

    phase: str
    by: int
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """By so many bytes."""
        if phase != self.phase or not meant(self.to, member.index):
            return data
        return data[: self.by] if self.by < 0 else data + bytes(self.by)


@dataclass(frozen=True, slots=True)
class Rewrite(Lie):
    """Fields of the message that closes a phase are replaced: another session's, another version's, other contents."""

    phase: str
    changes: tuple[tuple[str, Any], ...]
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """Decoded, changed, encoded."""
        if phase != self.phase or not meant(self.to, member.index):
            return data
        message = messages.to_client.decode(data, len(data))
        values = {name: getattr(message, name) for name in message.__struct_fields__}
        return messages.encode(type(message)(**{**values, **dict(self.changes)}))


@dataclass(frozen=True, slots=True)
class Replay(Lie):
    """In place of the message that closes a phase come bytes of the past: another session's, or another phase's."""

    phase: str
    data: bytes
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """As they were."""
        return self.data if phase == self.phase and meant(self.to, member.index) else data


@dataclass(frozen=True, slots=True)
class OutOfPhase(Lie):
    """Survivors are shown in a phase in which they have no place."""

    phase: str
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """Everybody, in place of the message."""
        if phase != self.phase or not meant(self.to, member.index):
            return data
        return messages.encode(Survivors(VERSION, world.session, world.bitmap(range(world.config.clients))))


@dataclass(frozen=True, slots=True)
class SendAgain(Lie):
    """The message that closes a phase comes again, the same or with one bit turned in its middle."""

    phase: str
    changed: bool = False
    to: Ids = ()

    def more(self, world: World, member: Member, phase: str, data: bytes) -> Sequence[bytes]:
        """Right behind it."""
        if phase != self.phase or not meant(self.to, member.index) or not data:
            return ()
        middle = len(data) // 2
        return (data[:middle] + turned(data[middle:]) if self.changed else data,)
