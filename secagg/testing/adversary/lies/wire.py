"""Lies about any message on its way to a client: lost, changed, replaced, out of its phase, or sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secagg.pairwise import messages
from secagg.pairwise.messages import Survivors
from secagg.testing.adversary.lies.lie import Lie, meant, turned
from secagg.testing.adversary.world import Ids, Member, World


@dataclass(frozen=True, slots=True)
class Lose(Lie):
    """Some clients do not get the message that closes a phase, and are lost from there on."""

    ids: Ids
    phase: str

    def reaches(self, phase: str, index: int) -> bool:
        """The client gets neither that message nor a later one."""
        return phase != self.phase or index not in self.ids


@dataclass(frozen=True, slots=True)
class FlipBit(Lie):
    """One bit of the message that closes a phase is turned."""

    phase: str
    bit: int
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        """Bits are counted from the first byte on; beyond the last one the count begins again."""
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
        if phase != self.phase or not meant(self.to, member.index):
            return data
        message = messages.to_client.decode(data, len(data), world.config.version, world.config.suite.agreement)
        values = {name: getattr(message, name) for name in message.__struct_fields__}
        return messages.encode(type(message)(**{**values, **dict(self.changes)}))


@dataclass(frozen=True, slots=True)
class Replay(Lie):
    """In place of the message that closes a phase come bytes of the past: another session's, or another phase's."""

    phase: str
    data: bytes
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        return self.data if phase == self.phase and meant(self.to, member.index) else data


@dataclass(frozen=True, slots=True)
class OutOfPhase(Lie):
    """Survivors are shown in a phase in which they have no place."""

    phase: str
    to: Ids = ()

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        if phase != self.phase or not meant(self.to, member.index):
            return data
        return messages.encode(
            Survivors(world.config.version, world.session, world.bitmap(range(world.config.clients)))
        )


@dataclass(frozen=True, slots=True)
class SendAgain(Lie):
    """The message that closes a phase comes again, the same or with one bit turned in its middle."""

    phase: str
    changed: bool = False
    to: Ids = ()

    def more(self, world: World, member: Member, phase: str, data: bytes) -> Sequence[bytes]:
        if phase != self.phase or not meant(self.to, member.index) or not data:
            return ()
        half = len(data) // 2
        return (data[:half] + turned(data[half:]) if self.changed else data,)
