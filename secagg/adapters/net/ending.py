"""How a round ends, as the journal keeps it and as each client is told."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from secagg.adapters.net.frames import Aborted, Counted, Message, Sum


class OpenedGroup(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The sum of one group.

    Attributes:
        number: of the group.
        included: whose vectors are in its sum.
        packed: the sum.
    """

    number: int
    included: tuple[int, ...]
    packed: bytes


class Ending(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How a round ended.

    Attributes:
        failure: why there is no sum; empty when there is one.
        included: whose vectors are in the sum.
        packed: the sum; the journal keeps it beside the rest.
        dropped: by phase.
        transcript: the digest of what the server accepted and decided, in hex.
        answered: in a private round whose noise has levels, of how many clients the sum lacks what was not needed.
        groups: the sums of the groups that were opened, for the server's host; clients get the sum of them all.
        certificate: of the round, which clients get with the sum; empty when none was made, or when it is larger than
            a client takes.
    """

    failure: str
    included: tuple[int, ...] = ()
    packed: bytes = b""
    dropped: dict[str, tuple[int, ...]] = {}
    transcript: str = ""
    answered: int = 0
    groups: tuple[OpenedGroup, ...] = ()
    certificate: bytes = b""

    def head(self) -> bytes:
        """All but the sum over everybody, for the journal."""
        return msgspec.msgpack.encode(msgspec.structs.replace(self, packed=b""))

    @classmethod
    def of(cls, head: bytes, packed: bytes) -> Ending:
        """The ending that the journal has."""
        return msgspec.structs.replace(msgspec.msgpack.decode(head, type=cls), packed=packed)


@dataclass(frozen=True, slots=True)
class Outbound:
    """A frame for one client, and the bytes behind it.

    Attributes:
        certificate: of the round, to be sent before the frame; empty when there is none to send.
    """

    frame: Message | Sum | Counted | Aborted
    payload: bytes
    certificate: bytes = b""
