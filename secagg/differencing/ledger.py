"""A file that remembers which members were summed together, against differencing over rounds.

``secagg.differencing.classes`` says what it keeps apart, and why that is enough.  A client asks its ledger before the
last answer of a round leaves, with the set whose sum that answer helps to open; a server asks its own before it tells
anybody who the survivors are.  What is recorded is durable before anything leaves, and counts whatever happens
afterwards: a round that then fails may have been opened all the same.

What it does not protect from:

- members of a class that collude, beyond what T leaves room for (``least_difference``);
- one member that takes part under several names, where no directory says who everybody is;
- sums that the holder of the file was not in, as a client; whoever was left out is protected by the ledgers of the
  others, which have both sets, or by the server's;
- values that change from round to round: a difference is then about the change as well, over the same members;
- a file that is deleted, restored from a backup, or asked about the same values under another name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, final

from secagg.differencing.classes import Classes, digest_of
from secagg.durable import IN_MEMORY, FileKind, PrivateDatabase
from secagg.errors import DisclosureError, ParameterError, SecAggError

if TYPE_CHECKING:
    import sqlite3

_TABLES: Final = (
    "CREATE TABLE members (data TEXT NOT NULL, member TEXT NOT NULL, class INTEGER NOT NULL, "
    "PRIMARY KEY (data, member)) WITHOUT ROWID",
    "CREATE TABLE sums (data TEXT NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL, "
    "PRIMARY KEY (data, digest)) WITHOUT ROWID",
)


class DifferenceLedgerError(SecAggError):
    """The file cannot be read or written, as with a full disk: no sum may be opened."""


_KIND: Final = FileKind("difference ledger", 0x5EC466D1, 1, DifferenceLedgerError)


def _make(database: sqlite3.Connection) -> None:
    for table in _TABLES:
        database.execute(table)


@final
class DifferenceLedger:
    """The classes of members that the sums over some data leave.

    Several processes may use one file, and several threads one object.  Members need names that stay the same over all
    rounds, as those of a directory do.  A check of n members reads n rows, and a record writes n at most, however many
    rounds there were.
    """

    def __init__(self, path: str | os.PathLike[str] = IN_MEMORY, data_name: str = "data") -> None:
        """Open the file, or make it.

        Args:
            path: the file, readable and writable by its owner alone; without one, the ledger is gone with the process.
            data_name: what the values are called; sums over other data are not looked at.

        Raises:
            ParameterError: the file is something else, or of another version, or the name is empty.
            DifferenceLedgerError: it cannot be read or written.
            OSError: it cannot be made.
        """
        if not data_name:
            raise ParameterError("data_name is empty: name the data, so that the ledger knows what was summed before")
        self._file = PrivateDatabase(path, _KIND, _make)
        self.path = self._file.path
        self.data_name = data_name

    def classes(self) -> Classes:
        """The classes that the recorded sums leave.  Raises DifferenceLedgerError."""
        with self._file.reading():
            return self._classes()

    def rounds(self) -> int:
        """How many different sets were summed.  Raises DifferenceLedgerError."""
        with self._file.reading():
            return int(self._file.execute("SELECT COUNT(*) FROM sums WHERE data = ?", (self.data_name,)).fetchone()[0])

    def record(self, sums: Iterable[Iterable[str]], min_difference: int) -> None:
        """Record the sums of one round; durable when it returns.  Call it before what opens them leaves.

        Args:
            sums: the members of each; a round without groups has one.
            min_difference: T, the fewest members of a class.

        A set that is there already is always allowed, and changes nothing: after a crash the same set is recorded again
        without harm.

        Raises:
            DisclosureError: a class would be too small; nothing was recorded, and nothing may leave.
            DifferenceLedgerError: it cannot be recorded.
            ParameterError: ``min_difference`` is below 1.
        """
        with self._file.step():
            classes = self._classes()
            news = classes.news(sums)
            if why := classes.why_not(news, min_difference):
                raise DisclosureError(f"the ledger of {self.data_name!r}: {why}")
            for members in news:
                self._file.execute(
                    "INSERT INTO sums VALUES (?, ?, ?)", (self.data_name, digest_of(members), len(members))
                )
            for member, number in classes.add(news).items():
                self._file.execute(
                    "INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET class = excluded.class",
                    (self.data_name, member, number),
                )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _classes(self) -> Classes:
        rows = self._file.execute("SELECT member, class FROM members WHERE data = ?", (self.data_name,))
        digests = self._file.execute("SELECT digest FROM sums WHERE data = ?", (self.data_name,))
        return Classes(dict(rows), (digest for (digest,) in digests))
