"""The files of a member: its identity, the cohort's directory, and which tokens it has used.

Used tokens and released inputs are sets of byte strings that only grow.  ``StoredSet`` is such a set in a table of an
SQLite database, whichever it is: ``DurableTokens`` has a file of its own, and the state file of ``secagg join`` has the
same tables beside the state, so that one transaction marks a token and stores what came of it.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from secagg.errors import ParameterError
from secagg.identity import Identity, MemoryDirectory

if TYPE_CHECKING:
    import sqlite3

_BUSY_SECONDS: Final = 30.0
_OWNER_ONLY: Final = stat.S_IRUSR | stat.S_IWUSR
_TOKENS_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (token BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS released (input BLOB PRIMARY KEY);
"""


def load_identity(path: str | os.PathLike[str]) -> Identity:
    """The identity in a file that ``secagg identity new`` wrote.

    Raises ParameterError when it is no such file, without saying what was in it; OSError when it cannot be read.
    """
    # Read in a function of its own: the traceback of an error must not hold what was in the file.
    identity = _identity_in(Path(path).read_text(encoding="utf-8", errors="replace"))
    if identity is None:
        raise ParameterError(f"{os.fspath(path)}: not an identity file; make one with secagg identity new")
    return identity


def _identity_in(text: str) -> Identity | None:
    try:
        member = json.loads(text)
        identity = Identity(bytes.fromhex(member["private_key"]))
        return identity if identity.public_key.hex() == member["key"] else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def load_directory(path: str | os.PathLike[str]) -> tuple[MemoryDirectory, tuple[str, ...], bytes]:
    """A directory from a JSON file ``{"members": [{"name": ..., "key": hex}, ...]}``, in cohort order.

    Returns the directory, the members' names by index, and the cohort's digest.  Raises ParameterError.
    """
    try:
        members = json.loads(Path(path).read_text(encoding="utf-8"))["members"]
        names = tuple(str(member["name"]) for member in members)
        keys = [bytes.fromhex(member["key"]) for member in members]
    except (ValueError, KeyError, TypeError, RecursionError) as wrong:
        raise ParameterError(
            f'{os.fspath(path)}: not a directory of the form {{"members": [{{"name": ..., "key": hex}}]}}: '
            f"{type(wrong).__name__}"  # without its text, which may be the file's: an identity given by mistake, say
        ) from None
    directory = MemoryDirectory()
    return directory, names, directory.add(keys)


def save_directory(path: str | os.PathLike[str], members: Sequence[tuple[str, bytes]]) -> None:
    """Write the file that ``load_directory`` reads, from (name, identity key) pairs in cohort order."""
    listed = [{"name": name, "key": key.hex()} for name, key in members]
    Path(path).write_text(json.dumps({"members": listed}, indent=2) + "\n", encoding="utf-8")


@final
class DurableTokens:
    """Used tokens and released inputs in an SQLite file: atomic, durable, and shared by all processes that open it.

    Pass it as ``consume``.  What a call has written outlives a power cut, and only the file's owner can read it.  Calls
    may come from any thread.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, or make it.

        Raises OSError when it can be neither opened nor made, and ParameterError when it is something else.
        """
        import sqlite3  # most hosts that import this library open no such file

        make_private(Path(path).resolve(), "file of used tokens")
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        try:
            sync_every_commit(self._database)
            self._database.executescript(_TOKENS_SCHEMA)
        except sqlite3.Error as failure:
            self._database.close()
            raise ParameterError(
                f"{os.fspath(path)}: not a file of used tokens ({failure}); name another file, which is made then"
            ) from None
        self._used, self._released = StoredSet(self._database, "used"), StoredSet(self._database, "released")

    def __call__(self, token: bytes) -> bool:
        """Mark a token as used.  True the first time that it comes, False ever after."""
        with self._lock:
            return self._used.add(token)

    def is_released(self, digest: bytes) -> bool:
        """Whether ``release`` was called with this digest, in any process."""
        with self._lock:
            return digest in self._released

    def release(self, digest: bytes) -> bool:
        """Remember that the input with this digest may be in a sum.  Durable when it returns; True the first time."""
        with self._lock:
            return self._released.add(digest)

    def close(self) -> None:
        """Close the file."""
        self._database.close()


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


def sync_every_commit(database: sqlite3.Connection) -> None:
    """A power cut undoes no transaction that was committed.

    EXTRA also syncs the directory after a commit, and with it the new file's own entry.  With FULL a power cut could
    bring the rollback journal back, and with it undo the last transaction: a used token would be new again.
    """
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("PRAGMA synchronous = EXTRA")


def make_private(path: Path, what: str) -> None:
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
