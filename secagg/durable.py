"""What the library's SQLite files share: they outlive a power cut, and only their owner reads them."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from secagg.errors import ParameterError, SecAggError

if TYPE_CHECKING:
    import sqlite3

_OWNER_ONLY: Final = stat.S_IRUSR | stat.S_IWUSR
_BUSY_SECONDS: Final = 30.0
"""How long one process waits for another that writes the same file, which takes milliseconds."""
IN_MEMORY: Final = ":memory:"
"""The path of a database that is gone with the process."""


@final
class StoredSet:
    """Byte strings in a table of one column; nothing is ever taken out.

    A change belongs to the transaction that is open, or is one of its own.
    """

    def __init__(self, database: sqlite3.Connection | PrivateDatabase, table: str) -> None:
        """``table`` is there, or will be before the set is used; its column is the primary key."""
        self._database = database
        self._add = f"INSERT OR IGNORE INTO {table} VALUES (?)"  # noqa: S608  (a name from this library's own code)
        self._holds = f"SELECT ? IN {table}"

    def add(self, value: bytes) -> bool:
        """Add it.  True when it was not there yet."""
        return self._database.execute(self._add, (value,)).rowcount == 1

    def __contains__(self, value: bytes) -> bool:
        return bool(self._database.execute(self._holds, (value,)).fetchone()[0])


@final
@dataclass(frozen=True)
class FileKind:
    """What tells a file of ours from any other SQLite database.

    Attributes:
        what: people call it, such as "ledger".
        application: its ``application_id``.
        version: of its tables.
        failure: what is raised when it cannot be read or written, as with a full disk.
    """

    what: str
    application: int
    version: int
    failure: type[SecAggError]


@final
class PrivateDatabase:
    """An SQLite file of one kind: durable at every commit, for its owner alone, for several processes and threads."""

    def __init__(
        self, path: str | os.PathLike[str], kind: FileKind, make: Callable[[sqlite3.Connection], object]
    ) -> None:
        """Open the file, or make it: ``make`` fills a new one, in one transaction.

        Raises ParameterError for a file that is something else, or of another version, what ``make`` raises,
        ``kind.failure`` for one that cannot be read or written, and OSError for one that cannot be made.
        """
        import sqlite3  # most hosts that import this library open no such file

        self.path = os.fspath(path)
        self._kind, self._error = kind, sqlite3.Error
        if self.path != IN_MEMORY:
            make_private(self.path, kind.what)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
        )
        try:
            self._prepare(make)
        except sqlite3.DatabaseError as failure:
            self._database.close()
            if failure.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise ParameterError(f"{self.path}: not a {kind.what} ({failure}); give another file") from None
            raise self._cannot_be_used(failure) from failure
        except SecAggError:
            self._database.close()
            raise

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Inside of a block of ``reading`` or ``step``."""
        return self._database.execute(statement, values)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One thread at a time.  Raises the kind's failure in place of SQLite's errors."""
        with self._lock:
            try:
                yield
            except self._error as failure:
                raise self._cannot_be_used(failure) from failure

    @contextmanager
    def step(self) -> Iterator[None]:
        """One transaction that no other process's overlaps: durable when the block ends, undone when it raises."""
        with self.reading(), transaction(self._database):
            yield

    def close(self) -> None:
        """Close the file, behind the block that another thread is in."""
        with self._lock:
            self._database.close()

    def _prepare(self, make: Callable[[sqlite3.Connection], object]) -> None:
        database, kind = self._database, self._kind
        sync_every_commit(database)
        with transaction(database):
            application, version = (
                database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
            )
            tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            if (application, version, tables) == (0, 0, 0):
                make(database)
                database.execute(f"PRAGMA application_id = {kind.application}")
                database.execute(f"PRAGMA user_version = {kind.version}")
            elif application != kind.application:
                raise ParameterError(f"{self.path}: another program's database; give another file")
            elif version != kind.version:
                raise ParameterError(
                    f"{self.path}: a {kind.what} of version {version}; this library writes {kind.version}: use the "
                    "release that wrote it"
                )

    def _cannot_be_used(self, failure: Exception) -> SecAggError:
        return self._kind.failure(f"{self.path}: cannot be used ({failure})")


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
