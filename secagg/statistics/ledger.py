"""A file at each organisation that remembers with whom its data were summed, against differencing.

The same question over some organisations and over all of them but one gives that one's own answer, each sum having
been harmless alone.  So an organisation asks its ledger before it lets a sum be completed, and the ledger refuses a set
that, with the earlier sets over the same data, makes a class of fewer than T organisations;
``secagg.differencing.classes`` says why that is enough.  It does not matter which questions were asked: a study
that is changed a little is the same study.  What is recorded is durable before anything leaves, and counts whatever
happens afterwards.

What it does not protect from:

- members of a class that collude: they subtract their own parts, and what is left is that of the others in it;
- one organisation that takes part under several names, where no directory says who everybody is;
- sums that no honest organisation was in both of.  A ledger knows the rounds of its own organisation; whoever was left
  out is protected by the ledgers of the others, which have both sets;
- data that change between two sums: the difference is then about the change, too, over the same organisations;
- a ledger that is deleted, restored from a backup, or asked about the same data under another name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self, final

import msgspec

from secagg.durable import IN_MEMORY, FileKind, PrivateDatabase
from secagg.errors import DisclosureError, ParameterError, SecAggError
from secagg.statistics.participation import refused_difference
from secagg.statistics.question import Question

_SCHEMA: Final = """
CREATE TABLE entries (
    data TEXT NOT NULL, study TEXT NOT NULL, session TEXT NOT NULL, number INTEGER NOT NULL, question TEXT NOT NULL,
    organisations TEXT NOT NULL, UNIQUE (data, study, session, number, question, organisations)
)
"""


class LedgerFileError(SecAggError):
    """The file cannot be read or written, as with a full disk: nothing may leave."""


_KIND: Final = FileKind("ledger", 0x5EC4661E, 1, LedgerFileError)


@final
@dataclass(frozen=True)
class Entry:
    """A sum that an organisation was in, or was about to be.

    Attributes:
        study: the study's digest in hexadecimal digits.
        session, number: of the round.
        question: the question's SHA-256 digest in hexadecimal digits.
        organisations: whose parts are in the sum, ascending.
    """

    study: str
    session: str
    number: int
    question: str
    organisations: tuple[str, ...]

    @classmethod
    def of(cls, question: Question, organisations: Iterable[str]) -> Self:
        """The entry of a round whose sum is over these organisations."""
        digest = sha256(question.to_bytes()).hexdigest()
        return cls(question.study, question.session, question.number, digest, tuple(sorted(set(organisations))))


@final
class Ledger:
    """The sets of organisations with which one organisation's data were summed.

    Several processes may use one file, and several threads one object.  Organisations need names that stay the same, as
    those of a directory do.
    """

    def __init__(self, path: str | os.PathLike[str] = IN_MEMORY, data_name: str = "data") -> None:
        """Open the file, or make it.

        Args:
            path: the file, readable and writable by its owner alone; without one, the ledger is gone with the process.
            data_name: what the organisation calls its data; entries about other data are not looked at.

        Raises:
            ParameterError: the file is something else, or of another version, or the name is empty.
            LedgerFileError: it cannot be read or written.
            OSError: it cannot be made.
        """
        if not data_name:
            raise ParameterError("data_name is empty: name the data, so that the ledger knows what was summed before")
        self._file = PrivateDatabase(path, _KIND, lambda database: database.execute(_SCHEMA))
        self.path = self._file.path
        self.data_name = data_name

    def record(self, entry: Entry, min_difference: int) -> None:
        """Record a sum; durable when it returns.  Call it before what completes the sum leaves.

        ``min_difference`` is the fewest members of a class: the larger one of the study's and the organisation's own.
        An entry that is there already stays, and a set that is there already is always allowed.

        Raises:
            DisclosureError: the set makes a class that is too small; nothing was recorded, and nothing may leave.
            LedgerFileError: it cannot be recorded.
        """
        with self._file.step():
            earlier = [one.organisations for one in self._entries()]
            if why := refused_difference(earlier, entry.organisations, min_difference):
                raise DisclosureError(f"the ledger of {self.data_name!r}: {why}")
            self._file.execute(
                "INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(self.data_name, entry.study, entry.session, entry.number, entry.question),
                    msgspec.json.encode(entry.organisations).decode(),
                ),
            )

    def entries(self) -> tuple[Entry, ...]:
        """What is recorded about these data, in the order in which it was.  Raises LedgerFileError."""
        with self._file.reading():
            return tuple(self._entries())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _entries(self) -> list[Entry]:
        rows = self._file.execute(
            "SELECT study, session, number, question, organisations FROM entries WHERE data = ? ORDER BY rowid",
            (self.data_name,),
        )
        return [
            Entry(study, session, number, question, msgspec.json.decode(names, type=tuple[str, ...]))
            for study, session, number, question, names in rows
        ]
