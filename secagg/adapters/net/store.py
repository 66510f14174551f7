"""A client's file: what it must not lose, and what it must not do twice, in one SQLite database.

Every step is one transaction: the token of the stored state is used, the state resumed, the server's message taken, and
the new state stored with the answer.  Only then does the answer leave.  A process that is killed before the commit has
sent nothing, and begins the step again; one that is killed after it sends the same bytes again.

The file is readable by its owner alone, and not sealed under a key: the key would have to lie beside it, and whoever
can read the one can read the other.  What is deleted is overwritten.

Beyond the round it remembers which rounds it was in, and which arrays may be in a sum that somebody has: the digest of
the arrays is written in the transaction that makes this client's UNMASK message durable.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Final, final

from secagg.durable import StoredSet, make_private, sync_every_commit, transaction
from secagg.errors import ParameterError
from secagg.pairwise.phases import Phase

STATE_SUFFIX: Final = ".state"
"""How state files end: by that a client finds those of its other rounds."""
_VERSION: Final = 2
_FIRST_VERSION: Final = 1
_BUSY_SECONDS: Final = 20.0
"""What another process may take for a transaction on this file: a transaction takes milliseconds, and a slow disk a
second."""
_NO_STATE: Final = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
"""What reading a file gives that is no database, or a database that lacks the tables of a state."""
_ANOTHER_STATE: Final = (
    "give another --state in the same folder, where this one is still found: it remembers which files may be in a sum"
)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS used (token BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS released (digest BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS identity (seed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS digest_key (one INTEGER PRIMARY KEY CHECK (one = 1), key BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS bound (one INTEGER PRIMARY KEY CHECK (one = 1), url TEXT NOT NULL, key BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS taking_part (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seat INTEGER NOT NULL, invitation BLOB NOT NULL, config BLOB NOT NULL, layout BLOB NOT NULL,
    certificate BLOB NOT NULL, values_digest BLOB NOT NULL, input_digest BLOB NOT NULL, masked INTEGER NOT NULL,
    state BLOB, over TEXT
);
CREATE TABLE IF NOT EXISTS outgoing (
    number INTEGER PRIMARY KEY AUTOINCREMENT, phase TEXT NOT NULL, data BLOB NOT NULL
);
"""


_VOTES: Final = (
    "CREATE TABLE IF NOT EXISTS votes (one INTEGER PRIMARY KEY CHECK (one = 1), ballot BLOB NOT NULL, "
    "vote TEXT NOT NULL)"
)
"""Made with the first vote, so that states without any stay what they were."""


@final
@dataclass(frozen=True, slots=True)
class JoinedRound:
    """The round that a client is in, or was in last.

    Attributes:
        seat: its index.
        invitation: SHA-256 of the invitation.
        config: the round's.
        layout: the layout that it joined with, as ``layout_bytes`` makes it.
        certificate: SHA-256 of the certificate that the server showed when it joined; empty without TLS.
        values_digest: of its arrays alone, under the file's key; see ``OwnInput``.
        input_digest: of its arrays, weight and layout, under the file's key.
        masked: whether the server acknowledged its masked vector.
        state: the suspended client; None once it has answered for the last time.
        over: why there is nothing more to do, or None while there is.
    """

    seat: int
    invitation: bytes
    config: bytes
    layout: bytes
    certificate: bytes
    values_digest: bytes
    input_digest: bytes
    masked: bool
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
            make_private(Path(path), "state file")
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        self._used, self._released = StoredSet(self._database, "used"), StoredSet(self._database, "released")
        try:
            self._prepare()
        except sqlite3.Error as failure:
            self._database.close()
            raise ParameterError(f"{os.fspath(path)}: not a client's state ({failure}); give another --state") from None
        except ParameterError:
            self._database.close()
            raise

    def _prepare(self) -> None:
        database = self._database
        # Its rollback journal is no log that is written ahead: old pages with secrets do not linger beside the file.
        sync_every_commit(database)
        database.execute("PRAGMA secure_delete = ON")
        database.execute("PRAGMA temp_store = MEMORY")  # what VACUUM copies stays out of shared folders
        found = database.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _FIRST_VERSION, _VERSION):
            raise ParameterError(f"{self.path!s}: a state of version {found}; this library writes {_VERSION}")
        if found == _VERSION:
            return
        with self.step():
            if found == _FIRST_VERSION:
                self._leave_the_first_version()
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute("INSERT OR IGNORE INTO digest_key VALUES (1, ?)", (os.urandom(32),))
            database.execute(f"PRAGMA user_version = {_VERSION}")

    def _leave_the_first_version(self) -> None:
        """Its used tokens and its identity stay; a round that it is in the middle of says nothing about its input."""
        if self._database.execute("SELECT 1 FROM taking_part WHERE over IS NULL").fetchone() is not None:
            raise ParameterError(
                f"{self.path!s}: an older version of secagg is in the middle of a round with this state; end the round "
                "with that version. What it has given away is not known here: with another --state, your file could be "
                "in two sums"
            )
        self._database.execute("DROP TABLE taking_part")

    def close(self) -> None:
        """Close the file, behind the step that a thread is in: a client that is cancelled leaves one behind."""
        with self._lock:
            self._database.close()

    @contextmanager
    def step(self) -> Iterator[None]:
        """One transaction, durable when the block ends, undone when it raises."""
        with self._lock, transaction(self._database):
            yield

    # Inside a step.

    def consume(self, token: bytes) -> bool:
        """Mark a token as used; True the first time."""
        return self._used.add(token)

    def load(self) -> JoinedRound | None:
        """The round that this client is or was in."""
        row = self._database.execute(
            "SELECT seat, invitation, config, layout, certificate, values_digest, input_digest, masked, state, over "
            "FROM taking_part"
        ).fetchone()
        if row is None:
            return None
        part = JoinedRound(*row)
        return replace(part, masked=bool(part.masked))

    def save(self, part: JoinedRound) -> None:
        """Store it in place of what was there."""
        self._database.execute(
            "INSERT OR REPLACE INTO taking_part VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(part)
        )

    def push(self, phase: str, data: bytes | memoryview) -> None:
        """Store a message to send, behind those that wait."""
        self._database.execute("INSERT INTO outgoing (phase, data) VALUES (?, ?)", (phase, data))

    def drop_outgoing(self) -> None:
        """Nothing that waits is to be sent any more."""
        self._database.execute("DELETE FROM outgoing")

    def keyed(self, digest: bytes) -> bytes:
        """What the file keeps of a digest: without the file's key nobody can try out what the data may be."""
        (key,) = self._database.execute("SELECT key FROM digest_key").fetchone()
        return _keyed(key, digest)

    def is_released(self, keyed_digest: bytes) -> bool:
        """Whether these arrays may be in a sum that somebody has."""
        return keyed_digest in self._released

    def release(self, keyed_digest: bytes) -> None:
        """From now on these arrays may be in a sum."""
        self._released.add(keyed_digest)

    def vote_on(self, ballot: bytes) -> str | None:
        """The vote that was kept for a ballot, by the digest of its layout; None without one."""
        with_votes = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'votes'"
        if self._database.execute(with_votes).fetchone() is None:
            return None
        row = self._database.execute("SELECT vote FROM votes WHERE ballot = ?", (ballot,)).fetchone()
        return None if row is None else str(row[0])

    def keep_vote(self, ballot: bytes, vote: str) -> None:
        """Keep the vote of a ballot in place of the one before: what is sent stays the same after a restart."""
        self._database.execute(_VOTES)
        self._database.execute("INSERT OR REPLACE INTO votes VALUES (1, ?, ?)", (ballot, vote))

    def goes_after(self, others: Iterable[Path], values_digest: bytes, invitation: bytes) -> Path | None:
        """The state file of another round that gives these arrays away before this one may, or has done so; or None.

        Of two rounds that are joined at the same moment, each before the other was stored, this lets one alone go on:
        the one whose file has the smaller key, unless the other's last answer is stored already.  Raises
        ParameterError, see ``may_hold``.
        """
        (key,) = self._database.execute("SELECT key FROM digest_key").fetchone()
        files = self._files_of(others)
        return next((path for path in files if may_hold(path, values_digest, invitation, before=key)), None)

    def may_be_elsewhere(self, others: Iterable[Path], values_digest: bytes, invitation: bytes) -> Path | None:
        """The state file by which these arrays may be in another sum, or are in a round that is not over; or None."""
        return next((path for path in self._files_of(others) if may_hold(path, values_digest, invitation)), None)

    def _files_of(self, others: Iterable[Path]) -> Iterator[Path]:
        """The files, and those in the folders, but this very one."""
        own = Path(self.path).resolve()
        for other in others:
            found = sorted(other.glob(f"*{STATE_SUFFIX}")) if other.is_dir() else [other]
            yield from (path for path in found if path.resolve() != own)

    # Steps of their own.

    def bind(self, url: str, key: bytes) -> None:
        """Tie the file to one round's URL and one identity.  Raises ParameterError when it is tied to others."""
        with self.step():
            row = self._database.execute("SELECT url, key FROM bound").fetchone()
            if row is None:
                self._database.execute("INSERT INTO bound VALUES (1, ?, ?)", (url, key))
                return
        if row[0] != url:
            raise ParameterError(f"{self.path!s}: this state belongs to {row[0]}, not to {url}; {_ANOTHER_STATE}")
        if row[1] != key:
            raise ParameterError(
                f"{self.path!s}: this state belongs to another identity than the one that is given; give that one as "
                f"--identity, or {_ANOTHER_STATE}"
            )

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

    def waiting(self) -> list[str]:
        """The phases of what was not acknowledged yet."""
        with self._lock:
            return [str(phase) for (phase,) in self._database.execute("SELECT phase FROM outgoing ORDER BY number")]

    def acknowledged(self, number: int, *, accepted: bool) -> str | None:
        """The server has it, and took it or came too late for it; returns its phase, None for a number not awaited."""
        with self.step():
            row = self._database.execute("SELECT phase FROM outgoing WHERE number = ?", (number,)).fetchone()
            self._database.execute("DELETE FROM outgoing WHERE number = ?", (number,))
            if row is not None and row[0] == Phase.MASK and accepted:
                self._database.execute("UPDATE taking_part SET masked = 1")
        return None if row is None else str(row[0])

    def finish(self, why: str) -> None:
        """The round is over for this client: forget its state and what it would still send, and give the room back."""
        with self.step():
            self.drop_outgoing()
            self._database.execute("UPDATE taking_part SET state = NULL, over = ?", (why,))
        # A disk that is full refuses this alone: the end is stored, and the room is given back another time.
        with self._lock, suppress(sqlite3.OperationalError):
            self._database.execute("VACUUM")


def may_hold(path: Path, values_digest: bytes, invitation: bytes = b"", *, before: bytes | None = None) -> bool:
    """Whether, by another state file, these arrays may be in a sum, or are in a round that is not over.

    A file that is none, or that is no state of this version, says nothing.  Raises ParameterError for a state that
    cannot be read: what it remembers must not be taken for nothing.

    Args:
        path: the file.
        values_digest: see ``OwnInput``.
        invitation: SHA-256 of the invitation to the client's own round.  Another member of that very round may have the
            same values: there is one sum, with both.
        before: the key of a file that is in a round with these arrays, too: a round that is not over counts only when
            the other file's key is smaller.
    """
    if not path.is_file():
        return False
    try:
        with closing(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS)
        ) as database:
            (key,) = database.execute("SELECT key FROM digest_key").fetchone()
            digest = _keyed(key, values_digest)
            part = "SELECT invitation, over IS NULL FROM taking_part WHERE values_digest = ?"
            joined, goes_on = database.execute(part, (digest,)).fetchone() or (None, False)
            if joined is not None and joined == invitation:
                return False
            if goes_on and (before is None or key < before):
                return True
            return digest in StoredSet(database, "released")
    except sqlite3.Error as failure:
        if failure.sqlite_errorcode in _NO_STATE:
            return False
        raise ParameterError(
            f"{path}: cannot be read ({failure}), so that nobody knows whether your file may be in a sum already; end "
            "what uses this state, or make it readable"
        ) from None


def _keyed(key: bytes, digest: bytes) -> bytes:
    return hmac.digest(key, digest, "sha256")
