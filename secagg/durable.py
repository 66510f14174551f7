"""What the library's SQLite files share: they outlive a power cut, and only their owner reads them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from secagg.errors import ParameterError

if TYPE_CHECKING:
    import sqlite3

_OWNER_ONLY: Final = stat.S_IRUSR | stat.S_IWUSR


@final
class StoredSet:
    """Byte strings in a table of one column; nothing is ever taken out.

    A change belongs to the transaction that is open, or is one of its own.
    """

    def __init__(self, database: sqlite3.Connection, table: str) -> None:
        """``table`` is there, or will be before the set is used; its column is the primary key."""
        self._database = database
        self._add = f"INSERT OR IGNORE INTO {table} VALUES (?)"  # noqa: S608  (a name from this library's own code)
        self._holds = f"SELECT ? IN {table}"

    def add(self, value: bytes) -> bool:
        """Add it.  True when it was not there yet."""
        return self._database.execute(self._add, (value,)).rowcount == 1

    def __contains__(self, value: bytes) -> bool:
        return bool(self._database.execute(self._holds, (value,)).fetchone()[0])


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """One transaction that no other process's overlaps: committed when the block ends, undone when it raises.

    A commit that fails is undone as well, so that the connection can be used again.  The connection is one with
    ``isolation_level`` None.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def sync_every_commit(database: sqlite3.Connection) -> None:
    """A power cut undoes no transaction that was committed.

    EXTRA also syncs the directory after a commit, and with it the new file's own entry.  With FULL a power cut could
    bring the rollback journal back, and with it undo the last transaction: a used token would be new again.
    """
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = EXTRA")


def make_private(path: str | os.PathLike[str], what: str) -> None:
    """Make an empty file that its owner alone can read, or narrow the rights of the one that is there.

    Raises ParameterError for a symbolic link, which names ``what`` the file is for: the rights of whatever it leads to
    are not for us to change.  Raises OSError when the file can be neither opened nor made.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)  # Windows has none
    try:
        descriptor = os.open(path, flags, _OWNER_ONLY)
    except OSError as failure:
        if failure.errno == errno.ELOOP:
            raise ParameterError(f"{path}: is a symbolic link; name the {what} itself") from None
        raise
    try:
        os.chmod(descriptor if os.chmod in os.supports_fd else path, _OWNER_ONLY)
    finally:
        os.close(descriptor)
