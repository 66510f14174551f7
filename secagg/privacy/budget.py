"""How much privacy is left, in a file that survives crashes: a budget of (epsilon, delta) over all rounds.

A round is recorded before anything of it leaves, and what is recorded counts as spent whatever happens afterwards.  So
a process that is killed at any point has at worst paid for a round that did not take place, and never the reverse.

The file holds the numbers of each sum's mechanism and no epsilon: each time, dp-accounting composes all of them anew.
What is recorded therefore means the same under a later, better accountant.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from secagg.durable import FileKind, PrivateDatabase
from secagg.encoding.limits import real
from secagg.errors import ParameterError, SecAggError
from secagg.privacy import accounting
from secagg.privacy.budget_errors import BudgetExceededError as BudgetExceededError
from secagg.privacy.budget_errors import BudgetFileError as BudgetFileError
from secagg.privacy.cohort import check_delta
from secagg.privacy.noisy_sum import NoisySum
from secagg.wording import counted

if TYPE_CHECKING:
    import sqlite3

MOST_NAME_BYTES: Final = 64
_KIND: Final = FileKind("privacy budget", 0x5EC466B1, 1, BudgetFileError)
_MOST_COUNTED: Final = 2**20
"""Rounds that ``rounds_left`` counts up to: more than any budget is made for."""
_SCHEMA: Final = """
CREATE TABLE bound (one INTEGER PRIMARY KEY CHECK (one = 1), epsilon TEXT NOT NULL, delta TEXT NOT NULL);
CREATE TABLE spent (round BLOB PRIMARY KEY, sum TEXT NOT NULL);
"""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """What was spent of a budget.

    Attributes:
        epsilon: of all recorded rounds together, at ``delta``.
        limit: the budget's epsilon.
        delta: the budget's delta.
        rounds: how many rounds are recorded.
    """

    epsilon: float
    limit: float
    delta: float
    rounds: int

    @property
    def left(self) -> float:
        """The epsilon that is left.  A further round takes less of it than it would take alone."""
        return max(0.0, self.limit - self.epsilon)


@final
class Budget:
    """The privacy that the holder of a file may still spend; a server holds one, and so does each client.

    A client's budget counts the rounds that the client itself is in; a server's counts all of its rounds, as a client
    that is in each of them sees it.  Neither trusts the other's.

    Several processes may use one file, and several threads one object.  Whoever can write the file can reset it: keep
    it where the operator keeps keys, and never restore it from a backup.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, epsilon: float | None = None, delta: float | None = None
    ) -> None:
        """Open the file, or make it.

        Args:
            path: the file, readable and writable by its owner alone; ``:memory:`` for a budget that is gone with the
                process.
            epsilon, delta: the budget, needed for a new file.  A file keeps its own for good: what was given here must
                be the same.

        Raises:
            ParameterError: the file is something else, or of another version, or has another budget.
            BudgetFileError: it cannot be read or written.
            OSError: it cannot be made.
        """
        self.path = os.fspath(path)
        self._file = PrivateDatabase(path, _KIND, lambda database: self._make(database, epsilon, delta))
        try:
            self._limit, self._delta = self._bound(epsilon, delta)
        except SecAggError:
            self._file.close()
            raise

    def _make(self, database: sqlite3.Connection, epsilon: float | None, delta: float | None) -> None:
        if epsilon is None or delta is None:
            raise ParameterError(f"{self.path}: there is no budget yet; give epsilon and delta to make one")
        bound = (repr(real("epsilon", epsilon, 0.0, 1e6)), repr(check_delta(delta)))
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        database.execute("INSERT INTO bound VALUES (1, ?, ?)", bound)

    def _bound(self, epsilon: float | None, delta: float | None) -> tuple[float, float]:
        """The budget that the file has.  Raises ParameterError when another one was given."""
        with self._file.reading():
            row = self._file.execute("SELECT epsilon, delta FROM bound").fetchone()
        limit, at = float(row[0]), float(row[1])
        for name, given, stored in (("epsilon", epsilon, limit), ("delta", delta, at)):
            if given is not None and given != stored:
                raise ParameterError(
                    f"{self.path}: this budget has {name} = {stored!r}, not {given!r}, and is not changed once it is "
                    "made; leave it out, or begin another file"
                )
        return limit, at

    def charge(self, round_name: bytes, noisy_sum: NoisySum) -> Spent:
        """Record a round as spent; durable when it returns.  Call it before anything of the round leaves.

        Args:
            round_name: 1 to 64 bytes that no other round has, such as the SHA-256 digest of the invitation.
            noisy_sum: what the round shows, with the least noise that it may have: ``Promise.sum``.  Its numbers must
                not follow from what earlier rounds showed.

        Returns what is spent with it.

        Raises:
            BudgetExceededError: it would pass the budget; nothing was recorded.
            BudgetFileError: it cannot be recorded.
            ParameterError: the name is no name, or a round of that name is recorded already.  A process that resumes a
                round after a restart asks ``is_charged`` first.
        """
        name = _name(round_name)
        text = noisy_sum.to_text()
        with self._file.step():
            if self._has(name):
                raise ParameterError(
                    f"{self.path}: round {name.hex()} is recorded already; each round needs a name of its own, and a "
                    "round that is resumed is not charged again (is_charged)"
                )
            recorded = self._recorded()
            spent = self._spent([*recorded, (noisy_sum, 1)])
            if not spent.epsilon <= self._limit:
                before = spent.rounds - 1
                raise BudgetExceededError(
                    f"{self.path}: with this round epsilon would be {spent.epsilon:.6g} at delta {self._delta:g}, and "
                    f"the budget is {self._limit:g}; {counted(before, 'round')} recorded so far: do not take part, or "
                    "ask for more noise",
                    epsilon=spent.epsilon,
                    limit=self._limit,
                    rounds=before,
                )
            self._file.execute("INSERT INTO spent VALUES (?, ?)", (name, text))
        return spent

    def is_charged(self, round_name: bytes) -> bool:
        """Whether a round of this name is recorded: one that is resumed after a restart is not charged again."""
        with self._file.reading():
            return self._has(_name(round_name))

    def give_back(self, round_name: bytes) -> bool:
        """Forget a round of which nothing has left: this client's masked vector never did, or this server has no sum.

        Durable when it returns; True if the round was recorded.  A client whose masked vector may have left never calls
        it: others can complete the sum without it.
        """
        with self._file.step():
            return self._file.execute("DELETE FROM spent WHERE round = ?", (_name(round_name),)).rowcount == 1

    def spent(self) -> Spent:
        """What is spent by all recorded rounds."""
        with self._file.reading():
            return self._spent(self._recorded())

    def rounds_left(self, noisy_sum: NoisySum) -> int:
        """How many more rounds like this one the budget allows, up to 2^20."""
        with self._file.reading():
            recorded = self._recorded()

        def fits(times: int) -> bool:
            return self._spent([*recorded, (noisy_sum, times)]).epsilon <= self._limit

        if not fits(1):
            return 0
        low, high = 1, 2  # low fits
        while high < _MOST_COUNTED and fits(high):
            low, high = high, 2 * high
        if high >= _MOST_COUNTED and fits(_MOST_COUNTED):
            return _MOST_COUNTED
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    # Inside of the lock.

    def _has(self, name: bytes) -> bool:
        return self._file.execute("SELECT 1 FROM spent WHERE round = ?", (name,)).fetchone() is not None

    def _recorded(self) -> list[tuple[NoisySum, int]]:
        rows = self._file.execute("SELECT sum, COUNT(*) FROM spent GROUP BY sum ORDER BY sum").fetchall()
        return [(NoisySum.from_text(text), times) for text, times in rows]

    def _spent(self, sums: list[tuple[NoisySum, int]]) -> Spent:
        return Spent(
            epsilon=accounting.epsilon(sums, self._delta),
            limit=self._limit,
            delta=self._delta,
            rounds=sum(times for _, times in sums),
        )


def _name(round_name: bytes) -> bytes:
    if not isinstance(round_name, bytes) or not 1 <= len(round_name) <= MOST_NAME_BYTES:
        raise ParameterError(f"round_name is {round_name!r:.80}: must be 1 to {MOST_NAME_BYTES} bytes")
    return round_name
