"""What a member of a ballot brings instead of a file: a judge of its own, and the vote that it gave.

The judge runs before the member joins, and its vote is stored before anything but a login has left.  Whatever it says,
also when it fails, the member goes on and sends a vector of the same size: from its part in the round nobody can tell
how it voted, or whether it could.  How long the judge takes shows in when the member joins.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.frames import Counted, Refusal, RefusedError
from secagg.adapters.net.store import ClientStore
from secagg.errors import SecAggError
from secagg.pairwise.config import RoundConfig
from secagg.robust.ballots import Tally, Verdict, Vote
from secagg.wording import counted as in_words

_log = logging.getLogger("secagg.net.member")
Judge: TypeAlias = Callable[[bytes, BallotLayout], Vote]
"""A host's function: tests the bytes of a candidate on its own data, and votes by the rules of ``layout.ballot()`` or
by its own.  It runs on a thread.  The bytes come from the server: read them with what cannot run code, such as NumPy
without pickle.  A judge that is stopped on the way raises CancelledError: then there is no vote, and the candidate is
tested again the next time."""

DEFAULT_CANDIDATE_BYTES: Final = 2**28


@final
@dataclass(frozen=True, slots=True)
class Judging:
    """How a member votes.

    Attributes:
        judge: what tests the candidate.  When it raises anything, or gives no Vote, the member abstains.  Its own log
            has the type of the exception, and the text of a SecAggError: the texts of others may quote data.
        max_candidate_bytes: the longest candidate that the member takes; a longer one is refused before it is sent.
    """

    judge: Judge
    max_candidate_bytes: int = DEFAULT_CANDIDATE_BYTES


@final
@dataclass(frozen=True, slots=True)
class BallotInput:
    """A member's part in the ballot of one layout.

    Attributes:
        layout: the ballot's.
        vote: the member's own.
    """

    layout: BallotLayout
    vote: Vote = field(repr=False)
    weight = None

    @property
    def values_digest(self) -> bytes:
        """32 bytes that name the candidate, and say nothing of the vote."""
        return self.layout.values_digest

    def digest(self, layout: bytes) -> bytes:
        """32 bytes over the candidate and the bytes of a round's layout."""
        return hashlib.sha256(b"secagg ballot vote 1\n" + self.values_digest + layout).digest()


@final
@dataclass(frozen=True, slots=True)
class BallotTotal:
    """What a member of a ballot gets.

    Attributes:
        layout: the ballot's.
        config: the round's.
        tally: the count, as the server tells it.
        verdict: what follows from it by the ballot's rules.
        seat: the member's own.
    """

    layout: BallotLayout
    config: RoundConfig
    tally: Tally
    verdict: Verdict
    seat: int


@final
class Voting:
    """A member's votes, which are in its state file."""

    def __init__(self, judging: Judging, store: ClientStore) -> None:
        self._judging, self._store = judging, store

    def stored(self, layout: BallotLayout) -> BallotInput | None:
        """The vote that was given on this layout, if one was; for the inside of a step of the store."""
        vote = self._store.vote_on(layout.digest())
        return None if vote is None else BallotInput(layout, Vote(vote))

    def check(self, layout: BallotLayout) -> None:
        """Raises RefusedError for a candidate that is longer than this member takes."""
        most = self._judging.max_candidate_bytes
        if layout.size > most:
            raise RefusedError(
                Refusal.TOO_LARGE,
                f"the candidate has {in_words(layout.size, 'byte')}, and this member takes at most {most:,} "
                "(max_candidate_bytes)",
            )

    def judge(self, layout: BallotLayout, candidate: bytes) -> None:
        """Test a candidate, and store the vote.  Raises RefusedError for bytes that are not what was announced."""
        if not layout.is_candidate(candidate):
            raise RefusedError(
                Refusal.MALFORMED, "the server sent another candidate than the one that the ballot is about"
            )
        vote = self._vote(layout, candidate)
        with self._store.step():
            self._store.keep_vote(layout.digest(), vote.value)

    def _vote(self, layout: BallotLayout, candidate: bytes) -> Vote:
        try:
            return Vote(self._judging.judge(candidate, layout))
        except Exception as failure:
            # The judge is somebody else's code, and may raise anything; that it did may tell of the member's data.
            trouble = str(failure) if isinstance(failure, SecAggError) else type(failure).__name__
            said = "the judge gave no vote on the candidate, so that this member abstains"
            _log.warning("judge-failed", extra={"fields": {"trouble": trouble, "now": said}})
            return Vote.ABSTAIN


def checked_count(layout: BallotLayout, config: RoundConfig, frame: Counted, seat: int) -> BallotTotal:
    """What the server tells of a ballot's end.  Raises RefusedError for counts that no ballot has."""
    if not frame.objections <= frame.voters <= frame.clients <= config.clients:
        raise RefusedError(
            Refusal.MALFORMED,
            f"the server counts {frame.objections} objections of {in_words(frame.voters, 'voter')} among "
            f"{in_words(frame.clients, 'client')} of {config.clients}: no ballot ends so",
        )
    tally = Tally(objections=frame.objections, voters=frame.voters, clients=frame.clients)
    return BallotTotal(layout, config, tally, layout.ballot().verdict(tally), seat)
