"""The server's journal: what a restart must find, in one SQLite file.

Work runs on one thread, in groups: everything that waits is one transaction, so that a thousand clients do not cost a
thousand syncs to the disk.  A call returns when its transaction is durable.

SQLite holds no value above 10^9 bytes.  What may be larger (a masked vector, a snapshot, the sum) is stored in parts.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from secagg.adapters.net.standing import RefusalRecord
from secagg.durable import make_private, transaction
from secagg.errors import ParameterError, SecAggError

_Bytes: TypeAlias = bytes | bytearray | memoryview
_Operation = Callable[[sqlite3.Connection], Any]
_GROUP: Final = 512
"""Operations that are committed together at most: all that wait, since a commit takes a sync of the disk however many
operations it has."""
_REPLAYED_BYTES: Final = 2**20
"""Messages are read back in batches of about this size: many small ones at once, large ones alone."""
_PART_BYTES: Final = 2**26
"""Larger values are stored in parts: SQLite takes at most 10^9 bytes in one, and copies each."""
_VERSION: Final = 2
_BUSY_SECONDS: Final = 1.0
"""Longer than a process that is ending needs to let the file go."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rounds (name TEXT PRIMARY KEY, config BLOB NOT NULL, layout BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seats (
    round TEXT NOT NULL, seat INTEGER NOT NULL, key BLOB NOT NULL, PRIMARY KEY (round, seat), UNIQUE (round, key)
);
CREATE TABLE IF NOT EXISTS stages (round TEXT PRIMARY KEY, phase TEXT NOT NULL, deadline REAL NOT NULL);
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY, round TEXT NOT NULL, sender INTEGER NOT NULL, parts_left INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS endings (round TEXT PRIMARY KEY, ending BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS parts (
    round TEXT NOT NULL, kind TEXT NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (round, kind, number)
);
CREATE TABLE IF NOT EXISTS refusals (
    round TEXT NOT NULL, seat INTEGER NOT NULL, phase TEXT NOT NULL, code TEXT NOT NULL, by_client INTEGER NOT NULL,
    PRIMARY KEY (round, seat, phase, code)
);
"""
_SNAPSHOT: Final = "snapshot"
_SUM: Final = "sum"


class JournalError(SecAggError):
    """The journal cannot be written: nothing more may be acted on."""


@final
@dataclass(frozen=True, slots=True)
class StoredRound:
    """A round as the journal has it.

    Attributes:
        config, layout: as they were stored when it was opened.
        phase, deadline, snapshot: of the last close; the deadline is wall-clock time.
        seats: identity keys by cohort index; in an open round, to whom each seat was offered last.
        refusals: what was refused so far.
        ending: how it ended, or None; ``packed`` is the sum then.
    """

    config: bytes
    layout: bytes
    phase: str
    deadline: float
    snapshot: bytes
    seats: Mapping[int, bytes] = field(default_factory=dict)
    refusals: tuple[RefusalRecord, ...] = ()
    ending: bytes | None = None
    packed: bytes = b""


@final
class Journal:
    """Open one a process: the file is locked for others."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open or make the file, readable by its owner alone.  Raises ParameterError when it cannot serve."""
        self.path = Path(path)
        make_private(self.path, "journal")
        self._database = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS
        )
        try:
            self._prepare()
        except sqlite3.Error as failure:
            self._database.close()
            raise ParameterError(_why(self.path, failure)) from failure
        except ParameterError:
            self._database.close()
            raise
        self.commits = 0
        self._broken: JournalError | None = None
        self._work: queue.SimpleQueue[tuple[_Operation, asyncio.Future[Any]] | None] = queue.SimpleQueue()
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
            raise ParameterError(
                f"{self.path}: a journal of version {found}; this library writes {_VERSION}: finish its rounds with "
                "the release that began them, or give another --journal, which begins them anew"
            )
        with transaction(database):  # takes the lock
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA user_version = {_VERSION}")

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
        phase, deadline = read("SELECT phase, deadline FROM stages WHERE round = ?", (name,)).fetchone() or ("", 0.0)
        refusals = read("SELECT seat, phase, code, by_client FROM refusals WHERE round = ? ORDER BY rowid", (name,))
        return StoredRound(
            config=opened[0],
            layout=opened[1],
            phase=phase,
            deadline=deadline,
            snapshot=self._parts(name, _SNAPSHOT),
            seats=dict(read("SELECT seat, key FROM seats WHERE round = ?", (name,)).fetchall()),
            refusals=tuple(
                RefusalRecord(seat, when, code, bool(by_client)) for seat, when, code, by_client in refusals
            ),
            ending=None if ending is None else ending[0],
            packed=self._parts(name, _SUM),
        )

    def _parts(self, name: str, kind: str) -> bytes:
        rows = self._database.execute(
            "SELECT data FROM parts WHERE round = ? AND kind = ? ORDER BY number", (name, kind)
        )
        return b"".join(data for (data,) in rows)

    def messages(self, name: str) -> Iterator[list[tuple[int, bytes]]]:
        """(sender, data) of what was accepted since the last stage, in order, a few at a time: they may be large."""
        batch: list[tuple[int, bytes]] = []
        parts: list[bytes] = []
        size = 0
        rows = self._database.execute(
            "SELECT sender, parts_left, data FROM messages WHERE round = ? ORDER BY id", (name,)
        )
        for sender, parts_left, data in rows:
            parts.append(data)
            size += len(data)
            if parts_left:
                continue
            batch.append((sender, parts[0] if len(parts) == 1 else b"".join(parts)))
            parts = []
            if size >= _REPLAYED_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    async def open_round(self, name: str, config: bytes, layout: bytes) -> None:
        """A new round; its first stage follows."""
        await self._do(lambda db: db.execute("INSERT INTO rounds VALUES (?, ?, ?)", (name, config, layout)))

    async def offer_seat(self, name: str, seat: int, key: bytes) -> None:
        """Remember to whom a seat was offered; that replaces whoever had it before."""
        await self._do(lambda db: db.execute("INSERT OR REPLACE INTO seats VALUES (?, ?, ?)", (name, seat, key)))

    async def append(self, name: str, accepted: Sequence[tuple[int, bytes | bytearray]]) -> None:
        """Messages that the server is about to act on."""
        insert = "INSERT INTO messages (round, sender, parts_left, data) VALUES (?, ?, ?, ?)"

        def operation(db: sqlite3.Connection) -> None:
            for sender, data in accepted:
                parts = list(_cut(data))
                left = range(len(parts) - 1, -1, -1)
                db.executemany(insert, ((name, sender, after, part) for after, part in zip(left, parts, strict=True)))

        await self._do(operation)

    async def record(self, name: str, entries: Sequence[RefusalRecord]) -> None:
        """What was refused, so that a restarted server still says it."""
        rows = [(name, entry.seat, entry.phase, entry.code, entry.by_client) for entry in entries]
        await self._do(lambda db: db.executemany("INSERT OR IGNORE INTO refusals VALUES (?, ?, ?, ?, ?)", rows))

    async def store_stage(self, name: str, phase: str, deadline: float, snapshot: bytes) -> None:
        """A phase began: this snapshot stands for all messages so far."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO stages VALUES (?, ?, ?)", (name, phase, deadline))
            _store_parts(db, name, _SNAPSHOT, snapshot)
            db.execute("DELETE FROM messages WHERE round = ?", (name,))

        await self._do(operation)

    async def move_deadline(self, name: str, deadline: float) -> None:
        """Give a phase more time."""
        await self._do(lambda db: db.execute("UPDATE stages SET deadline = ? WHERE round = ?", (deadline, name)))

    async def end_round(self, name: str, ending: bytes, packed: bytes = b"") -> None:
        """The round is over, with this sum; what led to it is not needed any more."""

        def operation(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO endings VALUES (?, ?)", (name, ending))
            _store_parts(db, name, _SUM, packed)
            _store_parts(db, name, _SNAPSHOT, b"")
            db.execute("DELETE FROM messages WHERE round = ?", (name,))
            db.execute("DELETE FROM stages WHERE round = ?", (name,))

        await self._do(operation)

    # Group commit.

    async def _do(self, operation: _Operation) -> None:
        if self._broken is not None:
            raise self._broken
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._work.put((operation, done))
        await done

    def _run(self) -> None:
        while True:
            group = [self._work.get()]
            while len(group) < _GROUP and not self._work.empty():
                group.append(self._work.get())
            work = [item for item in group if item is not None]
            failure = self._broken or (self._commit([operation for operation, _ in work]) if work else None)
            for _, done in work:
                _settle(done, failure)
            if len(work) < len(group):
                return

    def _commit(self, operations: list[_Operation]) -> JournalError | None:
        database = self._database
        try:
            with transaction(database):
                for operation in operations:
                    operation(database)
        except Exception as failure:
            # Whatever it is, it must reach those that wait: an exception that ended this thread would leave them, and
            # everybody after them, waiting for good.
            expected = isinstance(failure, sqlite3.Error)
            why = str(failure) if expected else f"{type(failure).__name__}: {failure}"
            wrong = JournalError(f"{self.path}: cannot be written ({why})")
            wrong.__cause__ = failure
            if not expected:  # a bug: whether the next operation would do what it should is anybody's guess
                self._broken = wrong
            return wrong
        self.commits += 1
        return None


def _cut(data: _Bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, max(1, len(view)), _PART_BYTES):
        yield view[start : start + _PART_BYTES]


def _store_parts(db: sqlite3.Connection, name: str, kind: str, data: bytes) -> None:
    db.execute("DELETE FROM parts WHERE round = ? AND kind = ?", (name, kind))
    rows = ((name, kind, number, part) for number, part in enumerate(_cut(data)))
    db.executemany("INSERT INTO parts VALUES (?, ?, ?, ?)", rows if data else ())


def _settle(done: asyncio.Future[Any], failure: JournalError | None) -> None:
    def settle() -> None:
        if done.done():
            return
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)

    with suppress(RuntimeError):  # the loop is closed, maybe since this moment: nobody waits, and others' loops go on
        done.get_loop().call_soon_threadsafe(settle)


def _why(path: Path, failure: sqlite3.Error) -> str:
    if isinstance(failure, sqlite3.OperationalError) and "locked" in str(failure):
        return f"{path}: another process uses this journal; stop it, or give another --journal"
    return f"{path}: not a journal of this service ({failure})"
