"""The files of a member: its identity, the cohort's directory, which tokens it has used, and the ends of its chains.

``DurableTokens`` has a file of its own.  The state file of ``secagg join`` has the same sets beside the state, so that
one transaction marks a token and stores what came of it.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Sequence
from typing import Final, final

from secagg.durable import FileKind, PrivateDatabase, StoredSet, make_private, sync_every_commit
from secagg.errors import ParameterError, SecAggError
from secagg.identity import Identity, MemoryDirectory

_BUSY_SECONDS: Final = 30.0
"""How long one process waits for another that marks a token, which takes milliseconds."""
_TOKENS_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (token BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS released (input BLOB PRIMARY KEY);
"""


def load_identity(path: str | os.PathLike[str]) -> Identity:
    """The identity in a file that ``secagg identity new`` wrote.

    Raises ParameterError when it is no such file, without saying what was in it; OSError when it cannot be read.
    """
    with open(path, encoding="utf-8", errors="replace") as file:
        # Read in a function of its own: the traceback of an error must not hold what was in the file.
        identity = _identity_in(file.read())
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
        with open(path, encoding="utf-8") as file:
            members = json.load(file)["members"]
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
    with open(path, "w", encoding="utf-8") as file:
        file.write(json.dumps({"members": listed}, indent=2) + "\n")


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

        make_private(os.path.realpath(path), "file of used tokens")
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
        self.released: Final = ReleasedInputFile(self)
        """The same as ``is_released`` and ``release``, for a host that is written for ``ReleasedInputs``."""

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
        """Close the file, behind the call that another thread is in."""
        with self._lock:
            self._database.close()


@final
class ReleasedInputFile:
    """The released inputs in a file of ``DurableTokens``, with the methods of ``ReleasedInputs``."""

    def __init__(self, tokens: DurableTokens) -> None:
        """Not for callers: use ``DurableTokens.released``."""
        self._tokens = tokens

    def __contains__(self, digest: bytes) -> bool:
        return self._tokens.is_released(digest)

    def add(self, digest: bytes) -> bool:
        """Remember that the input may be in a sum.  Durable when it returns; True when it was not there yet."""
        return self._tokens.release(digest)


class ChainFileError(SecAggError):
    """The file of a member's chains cannot be read or written: it must not take part in chained rounds without it."""


_CHAINS: Final = FileKind("file of chains", 0x53434831, 1, ChainFileError)


@final
class DurableChains:
    """The ends of a member's chains in an SQLite file: atomic, durable, and for all processes that open it.

    Pass it as the store of a ``Chain``.  Only the file's owner can read it.  Calls may come from any thread.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file, or make it.  Raises ParameterError for another file, ChainFileError and OSError."""
        self._file = PrivateDatabase(
            path,
            _CHAINS,
            lambda database: database.execute("CREATE TABLE chains (cohort BLOB PRIMARY KEY, ending BLOB NOT NULL)"),
        )

    def load(self, cohort: bytes) -> bytes:
        """What was stored last for this cohort; no bytes at first.  Raises ChainFileError."""
        with self._file.reading():
            return self._stored(cohort)

    def swap(self, cohort: bytes, before: bytes, after: bytes) -> bool:
        """Store ``after``, durably, if ``before`` is what is stored; whether it is now.  Raises ChainFileError."""
        with self._file.step():
            if self._stored(cohort) != before:
                return False
            self._file.execute("INSERT OR REPLACE INTO chains VALUES (?, ?)", (cohort, after))
            return True

    def close(self) -> None:
        """Close the file, behind the call that another thread is in."""
        self._file.close()

    def _stored(self, cohort: bytes) -> bytes:
        found = self._file.execute("SELECT ending FROM chains WHERE cohort = ?", (cohort,)).fetchone()
        return b"" if found is None else bytes(found[0])
