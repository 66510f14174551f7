"""What a site keeps of its round between two tasks: a file of its own for each job.

A job's process may end between two tasks, or in one; the server then hands the task out once more, to the process that
comes after.  What is in the file is there for that one, and what was taken out of it is nobody's any more: a state that
answered twice would give the server this site's vector.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, final

from secagg.adapters.node import Suspended
from secagg.durable import FileKind, PrivateDatabase, StoredSet
from secagg.errors import SecAggError

if TYPE_CHECKING:
    import sqlite3


class SiteFileError(SecAggError):
    """The file of a site's round cannot be read or written: the site takes no part without it."""


_KIND: Final = FileKind("file of a site's round", 0x53434E56, 1, SiteFileError)
_SCHEMA: Final = (
    "CREATE TABLE suspended (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL, announcement BLOB NOT NULL)",
    "CREATE TABLE joined (token BLOB PRIMARY KEY)",
    "CREATE TABLE released (digest BLOB PRIMARY KEY)",
)


@final
class SiteFile:
    """A suspended round, the invitations that were accepted, and the models whose updates may be in a sum.

    Every change is durable when the call returns; only the file's owner can read it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, or make it.  Raises ParameterError for another file, SiteFileError and OSError."""
        self._file = PrivateDatabase(path, _KIND, _make)
        self._joined, self._released = StoredSet(self._file, "joined"), StoredSet(self._file, "released")

    def announcement(self) -> bytes | None:
        """What the suspended round was announced with; None without one.  Raises SiteFileError."""
        with self._file.reading():
            found = self._file.execute("SELECT announcement FROM suspended").fetchone()
        return None if found is None else bytes(found[0])

    def take(self) -> Suspended | None:
        """The suspended round, once: it is gone from the file when the call returns.  Raises SiteFileError."""
        with self._file.step():
            found = self._file.execute("SELECT state, announcement FROM suspended").fetchone()
            self._file.execute("DELETE FROM suspended")
        return None if found is None else Suspended(bytes(found[0]), bytes(found[1]))

    def keep(self, suspended: Suspended) -> None:
        """Keep it for the next task; there is one round at a time.  Raises SiteFileError."""
        with self._file.step():
            self._file.execute(
                "INSERT OR REPLACE INTO suspended VALUES (1, ?, ?)", (suspended.state, suspended.announcement)
            )

    def join(self, token: bytes) -> bool:
        """Mark an invitation as accepted; True the first time.  Raises SiteFileError."""
        with self._file.step():
            return self._joined.add(token)

    def is_released(self, digest: bytes) -> bool:
        """Whether ``release`` was called with this digest.  Raises SiteFileError."""
        with self._file.reading():
            return digest in self._released

    def release(self, digest: bytes) -> bool:
        """Remember that the input with this digest may be in a sum; True the first time.  Raises SiteFileError."""
        with self._file.step():
            return self._released.add(digest)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _make(database: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        database.execute(statement)
