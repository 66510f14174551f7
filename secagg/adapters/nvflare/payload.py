"""What travels in NVFlare's messages beside a job's own data, and how it is read back."""

from __future__ import annotations

import logging
from typing import Final, TypeVar, final

import msgspec
from nvflare.apis.shareable import Shareable

from secagg.errors import ParameterError

TASK: Final = "secagg"
"""The task of every phase but MASK, whose message comes with the training task."""
KEY: Final = "secagg"
"""Of a Shareable, in both directions."""

Payload = TypeVar("Payload", "ToSite", "ToServer")

log: Final = logging.getLogger("secagg.nvflare")


@final
class ToSite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site is sent.

    Attributes:
        phase: what the server says that it is of; nothing in the protocol depends on it.
        message: bytes of the protocol; empty beside an invitation.
        invitation: the first message; empty afterwards.
        announcement: with the invitation, see ``announcement.Announcement``.
        index: with the invitation, the site's cohort index in ``semi_honest``.
    """

    phase: str
    message: bytes = b""
    invitation: bytes = b""
    announcement: bytes = b""
    index: int | None = None

    def __repr__(self) -> str:
        return f"ToSite(phase={self.phase!r})"


@final
class ToServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a site answers.

    Attributes:
        message: bytes of the protocol.
        index: with ADVERTISE in ``active``, which member of the directory the site is.
        refused: why the site takes no part; it holds nothing of the site's data.
    """

    message: bytes = b""
    index: int | None = None
    refused: str = ""

    def __repr__(self) -> str:
        return f"ToServer(refused={self.refused!r})"


def in_shareable(payload: ToSite | ToServer, shareable: Shareable | None = None) -> Shareable:
    """The Shareable, a new one when there is none, with this payload."""
    shareable = Shareable() if shareable is None else shareable
    shareable[KEY] = msgspec.msgpack.encode(payload)
    return shareable


def for_site(shareable: Shareable) -> ToSite | None:
    """What the server sent; None when it sent nothing of ours.  Raises ParameterError for what does not decode."""
    return _decoded(shareable, ToSite)


def for_server(shareable: object) -> ToServer | None:
    """What a site answered; None when that is nothing of ours, whatever it is."""
    if not isinstance(shareable, Shareable):
        return None
    try:
        return _decoded(shareable, ToServer)
    except ParameterError:
        return None


def _decoded(shareable: Shareable, kind: type[Payload]) -> Payload | None:
    data = shareable.get(KEY)
    if data is None:
        return None
    if not isinstance(data, bytes):
        raise ParameterError(f"the part {KEY!r} of a message is {type(data).__name__}: it must be bytes")
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise ParameterError(f"the part {KEY!r} of a message does not decode: {wrong}") from None
