"""The scores of clients over a service's rounds with groups, in a file of their own beside the journal.

A round counts once, however often the server is started again: with its scores the file keeps the digest of what the
round's server accepted, and a round that ended before a crash is taken from the journal when it is hosted again.

The scores tell of single clients how unusual their data are, which no single sum does: they are kept only where a host
asks for it, and the file and the page are for their owner alone.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final

from secagg.adapters.net.round_spec import RoundSpec
from secagg.durable import IN_MEMORY, FileKind, PrivateDatabase, StoredSet, make_private
from secagg.encoding.layout import Layout
from secagg.errors import ParameterError, SecAggError
from secagg.robust import RoundReport, Scores
from secagg.robust.page import write_anomalies

if TYPE_CHECKING:
    import sqlite3

_log = logging.getLogger("secagg.net.round")
_SHOWN: Final = 20
"""Clients on the status page and in the metrics: what a person looks at, and few enough for a metric's labels."""
_FEWEST_ROUNDS: Final = 2
"""With one round, a client has the score of its whole group."""


class ScoreFileError(SecAggError):
    """The file of scores cannot be read or written, as with a full disk."""


_KIND: Final = FileKind("file of scores", 0x5EC466D5, 1, ScoreFileError)


def _make(database: sqlite3.Connection) -> None:
    database.execute("CREATE TABLE scores (one INTEGER PRIMARY KEY CHECK (one = 1), state BLOB NOT NULL)")
    database.execute("CREATE TABLE counted (round BLOB PRIMARY KEY)")
    database.execute("INSERT INTO scores VALUES (1, ?)", (Scores().to_bytes(),))


@final
class ScoreKeeper:
    """Scores that outlive the process; several rounds may add to them at a time."""

    def __init__(self, path: str | os.PathLike[str] = IN_MEMORY, page: str | os.PathLike[str] | None = None) -> None:
        """Open the file, or make it.

        Args:
            path: the file, readable and writable by its owner alone; without one, the scores are gone with the process.
            page: where ``write_anomalies`` writes its page after each round; it is for its owner alone as well.

        Raises:
            ParameterError: the file is something else, or of another version.
            ScoreFileError: it cannot be read or written.
            OSError: it cannot be made.
        """
        self._file = PrivateDatabase(path, _KIND, _make)
        self._page, self._adding = None if page is None else Path(page), threading.Lock()
        with self._file.reading():
            self.scores = self._stored()

    def _stored(self) -> Scores:
        return Scores.from_bytes(self._file.execute("SELECT state FROM scores").fetchone()[0])

    def check_round(self, spec: RoundSpec) -> None:
        """Raises ParameterError for a round without groups to compare, or whose clients have no lasting names."""
        if spec.keys is None:
            raise ParameterError(
                f"round {spec.name}: scores need to know clients in other rounds, and anybody may take a seat in this "
                "one; give the round a directory, or leave the scores out"
            )
        if spec.config.groups < 2 or not isinstance(spec.layout, Layout):
            raise ParameterError(
                f"round {spec.name}: scores compare the means of groups, and this round has none: give it groups and a "
                "layout without noise, or leave the scores out"
            )

    def add(self, spec: RoundSpec, transcript: bytes, report: RoundReport) -> None:
        """Count a round, unless it was counted before; durable when it returns.

        ``transcript`` is the digest of what the round's server accepted.  A page that cannot be written is logged.
        Raises ScoreFileError.
        """
        names = [_name(spec, seat) for seat in range(spec.config.clients)]
        with self._adding:
            with self._file.step():
                scores = self._stored()  # another process may have added to it
                if StoredSet(self._file, "counted").add(transcript):
                    scores.add(report, names)
                    self._file.execute("UPDATE scores SET state = ?", (scores.to_bytes(),))
            self.scores = scores
            if self._page is not None:
                self._write_page(self._page, report, names)

    def _write_page(self, page: Path, report: RoundReport, names: list[str]) -> None:
        try:
            make_private(page, "page of scores")
            write_anomalies(self.scores, report, page, names=names)
        except (OSError, ParameterError, ModuleNotFoundError) as trouble:
            _log.warning("scores-page", extra={"fields": {"trouble": str(trouble), "page": str(page)}})

    def shown(self) -> dict[str, Any]:
        """For the status page and ``--json``: the highest scores of clients that were in two sums or more."""
        scores = self.scores
        ranking = scores.ranking()
        known = [one for one in ranking if one.rounds >= _FEWEST_ROUNDS and math.isfinite(one.error)]
        return {
            "rounds": scores.rounds,
            "clients": len(ranking),
            "highest": [asdict(one) for one in known[:_SHOWN]],
        }

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _name(spec: RoundSpec, seat: int) -> str:
    """What the scores call a client: the directory's name for it, or else its key."""
    return spec.names[seat] if spec.names or spec.keys is None else spec.keys[seat].hex()
