"""What a client keeps in Flower's context: its suspended round, and which invitations and inputs it has used."""

from __future__ import annotations

from typing import Final, final

from flwr.app import ConfigRecord, Context

from secagg.adapters.flower.records import ANNOUNCEMENT, STATE_RECORD, bytes_of
from secagg.adapters.node import Suspended

_TOKEN_BYTES: Final = 32
_STATE: Final = "state"
_JOINED: Final = "joined"
_RELEASED: Final = "released"


@final
class Memory:
    """A client's part of Flower's context: its suspended round, the invitations it has accepted, its released inputs.

    Flower stores the context after it has sent the app's reply.  A context that is restored, that a crash in between
    kept from being stored, or that is handed to two processes at once brings its own memory along: DurableTokens does
    not.
    """

    def __init__(self, context: Context) -> None:
        """Nothing is read that another version wrote otherwise: it counts as absent."""
        self._context = context
        record = context.state.config_records.get(STATE_RECORD)
        state, announcement = bytes_of(record, _STATE), bytes_of(record, ANNOUNCEMENT)
        self._suspended = None if state is None or announcement is None else Suspended(state, announcement)
        self._joined = bytes_of(record, _JOINED) or b""
        self._released = bytes_of(record, _RELEASED) or b""

    def take(self) -> Suspended | None:
        """The suspended round, once: it is gone from the context, whatever becomes of the round."""
        suspended, self._suspended = self._suspended, None
        self._write()
        return suspended

    def keep(self, suspended: Suspended) -> None:
        """Keep it for the next message; there is one round at a time."""
        self._suspended = suspended
        self._write()

    def join(self, token: bytes) -> bool:
        """Mark an invitation as accepted; True the first time."""
        if _is_in(self._joined, token):
            return False
        self._joined += token
        self._write()
        return True

    def is_released(self, digest: bytes) -> bool:
        """Whether ``release`` was called with this digest."""
        return _is_in(self._released, digest)

    def release(self, digest: bytes) -> bool:
        """Remember that the input with this digest may be in a sum; True the first time."""
        if self.is_released(digest):
            return False
        self._released += digest
        self._write()
        return True

    def _write(self) -> None:
        fields = {_JOINED: self._joined, _RELEASED: self._released}
        if self._suspended is not None:
            fields |= {_STATE: self._suspended.state, ANNOUNCEMENT: self._suspended.announcement}
        self._context.state.config_records[STATE_RECORD] = ConfigRecord(dict(fields))


def _is_in(listed: bytes, token: bytes) -> bool:
    """Whether a list of 32-byte strings, one behind the other, holds this one."""
    return token in {listed[start : start + _TOKEN_BYTES] for start in range(0, len(listed), _TOKEN_BYTES)}
