"""Which states and invitations a client has used: what keeps it from being rolled back."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import Final, Protocol, final

from flwr.app import ConfigRecord, Context

from secagg.adapters.flower.records import STATE_RECORD, bytes_of

_OWNER_ONLY: Final = stat.S_IRUSR | stat.S_IWUSR
_TOKEN_BYTES: Final = 32
_STATE: Final = "state"
_JOINED: Final = "joined"


class Releases(Protocol):
    """Which models this client's input may have been summed for; see ``ReleasedInputs``."""

    def is_released(self, digest: bytes) -> bool:
        """Whether ``release`` was called with this digest."""
        ...

    def release(self, digest: bytes) -> None:
        """Remember it."""
        ...


@final
class DurableTokens:
    """Used tokens and released inputs in an SQLite file: atomic, durable, and shared by the processes of a node.

    What a call has written outlives a power cut, and only the file's owner can read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, or make it.  Raises OSError or sqlite3.Error when it can be neither opened nor made."""
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY))
        os.chmod(path, _OWNER_ONLY)  # a file that was there already, too
        self._database = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        # EXTRA also syncs the directory after a commit, and with it the new file's own entry.  With FULL a power cut
        # could bring the rollback journal back, which would make a used token new again.
        self._database.execute("PRAGMA journal_mode = DELETE")
        self._database.execute("PRAGMA synchronous = EXTRA")
        self._database.execute("CREATE TABLE IF NOT EXISTS used (token BLOB PRIMARY KEY)")
        self._database.execute("CREATE TABLE IF NOT EXISTS released (input BLOB PRIMARY KEY)")

    def __call__(self, token: bytes) -> bool:
        """Mark a token as used.  True the first time that it comes, False ever after."""
        return self._database.execute("INSERT OR IGNORE INTO used VALUES (?)", (token,)).rowcount == 1

    def is_released(self, digest: bytes) -> bool:
        """Whether ``release`` was called with this digest, in any process."""
        return self._database.execute("SELECT 1 FROM released WHERE input = ?", (digest,)).fetchone() is not None

    def release(self, digest: bytes) -> None:
        """Remember that the input with this digest may be in a sum.  Durable when it returns."""
        self._database.execute("INSERT OR IGNORE INTO released VALUES (?)", (digest,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


@final
class Memory:
    """A client's part of Flower's context: its suspended state, and the invitations it has accepted.

    Flower stores the context after it has sent the app's reply.  A context that is restored, that a crash in between
    kept from being stored, or that is handed to two processes at once brings its own memory along: DurableTokens does
    not.
    """

    def __init__(self, context: Context) -> None:
        """Nothing is read that another version wrote otherwise: it counts as absent."""
        self._context = context
        record = context.state.config_records.get(STATE_RECORD)
        self._state = bytes_of(record, _STATE)
        self._joined = bytes_of(record, _JOINED) or b""

    def take(self) -> bytes | None:
        """The suspended state, once: it is gone from the context, whatever becomes of the round."""
        state, self._state = self._state, None
        self._write()
        return state

    def keep(self, state: bytes) -> None:
        """The state for the next message; there is one round at a time."""
        self._state = state
        self._write()

    def join(self, token: bytes) -> bool:
        """Mark an invitation as accepted; True the first time."""
        size = _TOKEN_BYTES
        if token in {self._joined[start : start + size] for start in range(0, len(self._joined), size)}:
            return False
        self._joined += token
        self._write()
        return True

    def _write(self) -> None:
        fields = {_JOINED: self._joined} | ({} if self._state is None else {_STATE: self._state})
        self._context.state.config_records[STATE_RECORD] = ConfigRecord(dict(fields))
