"""What travels in Flower's messages beside the app's own records, and how it is read back."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Final

import msgspec
from flwr.app import ConfigRecord, Message, RecordDict

from secagg.errors import ParameterError

RECORD: Final = "secagg.round"
"""The config record of a message, in both directions."""
STATE_RECORD: Final = "secagg.client"
"""The config record in a client's context."""

INVITATION: Final = "invitation"
INDEX: Final = "index"
"""The client's cohort index: the server's in ``semi_honest``, the client's own in ``active``."""
PROTOCOL: Final = "message"
"""Bytes of the protocol."""
LAYOUT: Final = "layout"
PHASE: Final = "phase"

log: Final = logging.getLogger("flwr.secagg")
"""Below Flower's own logger, so that it goes where Flower's lines go."""


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a model becomes a vector, as the server says it; the round's context holds its digest.

    Attributes:
        clip, bits, max_weight: of the Encoder.
        clips: another clip than ``clip``, by array.
        difference: whether the change of the model is summed, and not the model.
        weighted_by: the metric that is the client's weight.
        run_config: whether the round's context holds the run's config too.
    """

    clip: float
    bits: int
    max_weight: int | None
    clips: dict[str, float]
    difference: bool
    weighted_by: str
    run_config: bool

    def to_bytes(self) -> bytes:
        """The same bytes for the same layout."""
        return msgspec.msgpack.encode(self, order="sorted")

    @classmethod
    def from_bytes(cls, data: bytes) -> Layout:
        """Raises ParameterError."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise ParameterError(f"the server's layout does not decode: {wrong}") from None


def digest_of(content: RecordDict, message_type: str, run_config: Mapping[str, object] | None) -> bytes:
    """SHA-256 over all that an app is told in a training message beside the arrays themselves.

    A number trains another model when the learning rate beside it is another one, so that the round's context must
    hold it.  ``run_config``: None when it is not to be held.
    """
    told = [
        message_type,
        sorted(content.array_records),
        {name: dict(record) for name, record in content.config_records.items() if name != RECORD},
        {name: dict(record) for name, record in content.metric_records.items()},
        None if run_config is None else dict(run_config),
    ]
    return hashlib.sha256(msgspec.msgpack.encode(told, order="sorted")).digest()


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
