"""The server's journal: what a restart must find, in one SQLite file.

Work runs on one thread, in groups: everything that waits is one transaction, so that a thousand clients do not cost a
thousand syncs to the disk.  A call returns when its transaction is durable.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, final

from secagg.errors import ParameterError, SecAggError

_T = TypeVar("_T")
_Operation = Callable[[sqlite3.Connection], Any]
_GROUP: Final = 512
_REPLAYED: Final = 8
_VERSION: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rounds (name TEXT PRIMARY KEY, config BLOB NOT NULL, layout BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seats (
    round TEXT NOT NULL, seat INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (round, seat), UNIQUE (round, key)
);
CREATE TABLE IF NOT EXISTS stages (
    round TEXT PRIMARY KEY, phase TEXT NOT NULL, deadline REAL NOT NULL, snapshot BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, round TEXT NOT NULL, sender INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS endings (round TEXT PRIMARY KEY, ending BLOB NOT NULL);
"""


class JournalError(SecAggError):
    """The journal cannot be written: nothing more may be acted on."""


@final
@dataclass(frozen=True, slots=True)
class StoredRound:
    """A round as the journal has it.

    Attributes:
        config, layout: as they were stored when it was opened.
        phase, deadline, snapshot: of the last close; the deadline is wall-clock time.
        seats: identity keys by cohort index.
        ending: how it ended, or None.
    """

    config: bytes
    layout: bytes
    phase: str
    deadline: float
    snapshot: bytes
    seats: dict[int, bytes]
    ending: bytes | None


@final
class Journal:
    """Open one a process: the file is locked for others."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or make the file, readable by its owner alone.  Raises ParameterError when it cannot serve."""
        self.path = Path(path)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR))
        self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            self._prepare()
        except sqlite3.Error as failure:
            self._database.close()
            raise ParameterError(_why(self.path, failure)) from failure
        self.commits = 0
        self._work: queue.SimpleQueue[tuple[_Operation, asyncio.Future[Any] | None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="secagg-journal", daemon=True)
        self._thread.start()

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            raise ParameterError(f"{self.path}: a journal of version {found}; this library writes {_VERSION}")
        database.execute("BEGIN IMMEDIATE")  # takes the lock
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")

    def close(self) -> None:
        """Finish what waits, and close the file."""
        if self._thread.is_alive():
            self._work.put(None)
            self._thread.join()
        self._database.close()

    # What is stored.

    def load(self, name: str) -> StoredRound | None:
        """A round, or None; for the start, before anything else runs."""
        read = self._database.execute
        opened = read("SELECT config, layout FROM rounds WHERE name = ?", (name,)).fetchone()
        if opened is None:
            return None
        ending = read("SELECT ending FROM endings WHERE round = ?", (name,)).fetchone()
        stage = read("SELECT phase, deadline, snapshot FROM stages WHERE round = ?", (name,)).fetchone()
        stage = stage or ("", 0.0, b"")
        return StoredRound(
            config=opened[0],
            layout=opened[1],
            phase=stage[0],
            deadline=stage[1],
            snapshot=stage[2],
            seats=dict(read("SELECT seat, key FROM seats WHERE round = ?", (name,)).fetchall()),
            ending=None if ending is None else ending[0],
        )

    def messages(self, name: str) -> Iterator[list[tuple[int, bytes]]]:
        """(sender, data) of what was accepted since the last stage, in order, a few at a time: they may be large."""
        rows = self._database.execute("SELECT sender, data FROM messages WHERE round = ? ORDER BY id", (name,))
        while batch := rows.fetchmany(_REPLAYED):
            yield batch

    async def open_round(self, name: str, config: bytes, layout: bytes) -> None:
        """A new round; its first stage follows."""
        await self._do(lambda db: db.execute("INSERT INTO rounds VALUES (?, ?, ?)", (name, config, layout)))

    async def take_seat(self, name: str, seat: int, key: bytes) -> None:
        """Bind a seat to an identity."""
        await self._do(lambda db: db.execute("INSERT INTO seats VALUES (?, ?, ?)", (name, seat, key)))

    async def append(self, name: str, accepted: Sequence[tuple[int, bytes | bytearray]]) -> None:
        """Messages that the server is about to act on."""
        rows = [(name, sender, data) for sender, data in accepted]
        await self._do(lambda db: db.executemany("INSERT INTO messages (round, sender, data) VALUES (?, ?, ?)", rows))

    async def store_stage(self, name: str, phase: str, deadline: float, snapshot: bytes) -> None:
        """A phase began: this snapshot stands for all messages so far."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO stages VALUES (?, ?, ?, ?)", (name, phase, deadline, snapshot))
            db.execute("DELETE FROM messages WHERE round = ?", (name,))

        await self._do(operation)

    async def move_deadline(self, name: str, deadline: float) -> None:
        """Give a phase more time."""
        await self._do(lambda db: db.execute("UPDATE stages SET deadline = ? WHERE round = ?", (deadline, name)))

    async def end_round(self, name: str, ending: bytes) -> None:
        """The round is over; what led to it is not needed any more."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO endings VALUES (?, ?)", (name, ending))
            db.execute("DELETE FROM messages WHERE round = ?", (name,))
            db.execute("DELETE FROM stages WHERE round = ?", (name,))

        await self._do(operation)

    # Group commit.

    async def _do(self, operation: _Operation) -> None:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._work.put((operation, done))
        await done

    def _run(self) -> None:
        while True:
            group = [self._work.get()]
            while len(group) < _GROUP and not self._work.empty():
                group.append(self._work.get())
            work = [item for item in group if item is not None]
            failed = self._commit([operation for operation, _ in work]) if work else None
            failure = None if failed is None else JournalError(f"{self.path}: cannot be written ({failed})")
            for _, done in work:
                if done is not None:
                    _settle(done, failure)
            if len(work) < len(group):
                return

    def _commit(self, operations: list[_Operation]) -> sqlite3.Error | None:
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            for operation in operations:
                operation(database)
            database.execute("COMMIT")
        except sqlite3.Error as failure:
            if database.in_transaction:
                database.execute("ROLLBACK")
            return failure
        self.commits += 1
        return None


def _settle(done: asyncio.Future[Any], failure: JournalError | None) -> None:
    def settle() -> None:
        if done.done():
            return
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)

    loop = done.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(settle)


def _why(path: Path, failure: sqlite3.Error) -> str:
    if isinstance(failure, sqlite3.OperationalError) and "locked" in str(failure):
        return f"{path}: another process uses this journal; stop it, or give another --journal"
    return f"{path}: not a journal of this service ({failure})"
