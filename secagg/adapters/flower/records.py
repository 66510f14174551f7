"""What travels in Flower's messages beside the app's own records, and how it is read back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from flwr.app import ConfigRecord, Message, RecordDict

RECORD: Final = "secagg.round"
"""The config record of a message, in both directions."""
STATE_RECORD: Final = "secagg.pairwise.client.machine"
"""The config record in a client's context."""

INVITATION: Final = "invitation"
INDEX: Final = "index"
"""The client's cohort index: the server's in ``semi_honest``, the client's own in ``active``."""
PROTOCOL: Final = "message"
"""Bytes of the protocol."""
ANNOUNCEMENT: Final = "announcement"
"""With the invitation: the model's arrays and how they are encoded; see ``announcement.Announcement``."""
PHASE: Final = "phase"

log: Final = logging.getLogger("flwr.secagg")
"""Below Flower's own logger, so that it goes where Flower's lines go."""


def bytes_of(record: Mapping[str, object] | None, key: str) -> bytes | None:
    """A field of bytes, or None when it is not there or something else."""
    value = None if record is None else record.get(key)
    return value if isinstance(value, bytes) else None


def index_of(record: Mapping[str, object] | None) -> int | None:
    """The cohort index, or None when there is none."""
    value = None if record is None else record.get(INDEX)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def content(fields: Mapping[str, bytes | int | str]) -> RecordDict:
    """A message's content that holds our record alone."""
    return RecordDict({RECORD: ConfigRecord({**fields})})


def phase_of(message: Message) -> str | None:
    """The phase that the server says a message is of (``"SHARE"``), None when it is not of this protocol.

    For mods that log or count; nothing in the protocol depends on it.
    """
    if not message.has_content():
        return None
    record = message.content.config_records.get(RECORD)
    phase = None if record is None else record.get(PHASE)
    return phase if isinstance(phase, str) else None
