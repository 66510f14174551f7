"""A client's file: what it must not lose, and what it must not do twice, in one SQLite database.

Every step is one transaction: the token of the stored state is used, the state resumed, the server's message taken, and
the new state stored with the answer.  Only then does the answer leave.  A process that is killed before the commit has
sent nothing, and begins the step again; one that is killed after it sends the same bytes again.

The file is readable by its owner alone, and not sealed under a key: the key would have to lie beside it, and whoever
can read the one can read the other.  What is deleted is overwritten.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from secagg.errors import ParameterError

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (token BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS identity (seed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS taking_part (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seat INTEGER NOT NULL, invitation BLOB NOT NULL, config BLOB NOT NULL, state BLOB, over TEXT
);
CREATE TABLE IF NOT EXISTS outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT, phase TEXT NOT NULL, data BLOB NOT NULL
);
"""


@final
@dataclass(frozen=True, slots=True)
class TakingPart:
    """The round that a client is in, or was in last.

    Attributes:
        seat: its index.
        invitation: SHA-256 of the invitation.
        config: the round's.
        state: the suspended client; None once it has answered for the last time.
        over: why there is nothing more to do, or None while there is.
    """

    seat: int
    invitation: bytes
    config: bytes
    state: bytes | None = field(repr=False)
    over: str | None


@final
class ClientStore:
    """One client's file, or ``:memory:`` for a client that never restarts."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or make it.  Raises ParameterError when it is something else."""
        self.path = path
        if os.fspath(path) != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR))
            os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)  # one that was there already too
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=20.0)
        try:
            self._prepare()
        except sqlite3.Error as failure:
            self._database.close()
            raise ParameterError(f"{os.fspath(path)}: not a client's state ({failure}); give another --state") from None

    def _prepare(self) -> None:
        database = self._database
        # A rollback journal, not a log to be written ahead: old pages with secrets do not linger beside the file.
        database.execute("PRAGMA journal_mode = DELETE")
        # EXTRA: the directory is synced too, else a power cut could bring the journal back, and undo the last step.
        database.execute("PRAGMA synchronous = EXTRA")
        database.execute("PRAGMA secure_delete = ON")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            raise ParameterError(f"{self.path!s}: a state of version {found}; this library writes {_VERSION}")
        with self.step():
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            if not found:
                database.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One transaction, durable when the block ends, undone when it raises."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    # Inside a step.

    def consume(self, token: bytes) -> bool:
        """Mark a token as used; True the first time."""
        return self._database.execute("INSERT OR IGNORE INTO used VALUES (?)", (token,)).rowcount == 1

    def load(self) -> TakingPart | None:
        """The round that this client is or was in."""
        row = self._database.execute("SELECT seat, invitation, config, state, over FROM taking_part").fetchone()
        return None if row is None else TakingPart(*row)

    def save(self, part: TakingPart) -> None:
        """Replace it."""
        self._database.execute(
            "INSERT OR REPLACE INTO taking_part VALUES (1, ?, ?, ?, ?, ?)",
            (part.seat, part.invitation, part.config, part.state, part.over),
        )

    def push(self, phase: str, data: bytes | memoryview) -> None:
        """A message to send."""
        self._database.execute("INSERT INTO outgoing (phase, data) VALUES (?, ?)", (phase, data))

    def drop_outgoing(self) -> None:
        """Nothing that waits is to be sent any more."""
        self._database.execute("DELETE FROM outgoing")

    # Steps of their own.

    def identity_seed(self) -> bytes:
        """The seed of this file's own identity, drawn when it is first asked for."""
        with self.step():
            row = self._database.execute("SELECT seed FROM identity").fetchone()
            if row is None:
                row = (os.urandom(32),)
                self._database.execute("INSERT INTO identity VALUES (?)", row)
        return bytes(row[0])

    def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
        """(number, phase, data) of what was not acknowledged yet."""
        with self._lock:
            rows = self._database.execute(
                "SELECT number, phase, data FROM outgoing WHERE number > ? ORDER BY number", (after,)
            )
            return rows.fetchall()

    def acknowledged(self, number: int) -> str | None:
        """The server has it; returns its phase."""
        with self.step():
            row = self._database.execute("SELECT phase FROM outgoing WHERE number = ?", (number,)).fetchone()
            self._database.execute("DELETE FROM outgoing WHERE number = ?", (number,))
        return None if row is None else str(row[0])

    def finish(self, why: str) -> None:
        """The round is over for this client: forget its state and what it would still send."""
        with self.step():
            self.drop_outgoing()
            self._database.execute("UPDATE taking_part SET state = NULL, over = ?", (why,))
