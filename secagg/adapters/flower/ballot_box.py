"""The server's side of a ballot: the nodes of a round vote on the model that it made, in one more round."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias, final

from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from secagg.adapters.flower.announcement import context_of, digest_of_told
from secagg.adapters.flower.ballot_terms import BallotTerms
from secagg.adapters.flower.grid_round import GridRound
from secagg.adapters.flower.records import log
from secagg.adapters.flower.voter import MOST_EARLIER
from secagg.encoding import Encoder
from secagg.errors import ParameterError, PeerError
from secagg.machines import ServerMachine
from secagg.outcome import Result
from secagg.pairwise.phases import Phase
from secagg.privacy.ask import Privacy
from secagg.robust.ballots import Ballot, Tally, Verdict

MakeRound: TypeAlias = Callable[[Encoder, bytes, Grid, Sequence[Message]], GridRound]
"""A round that sums vectors of an encoder, in this context, over the nodes of these messages."""

_ARRAYS: Final = "arrays"
_NO_VOTER: Final = "no node has answered: give the nodes SecAggMod(ballot=...), and see their own answers above"


class WithoutVerdict(StrEnum):
    """What becomes of a candidate when a ballot fails, or too few voted."""

    ACCEPT = "accept"
    DROP = "drop"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BallotReport:
    """What became of a ballot.

    Attributes:
        kept: whether the candidate is the new model; otherwise the previous one stays.
        verdict: UNDECIDED when the ballot failed, or too few voted.
        tally: the count; None when the ballot failed.
        failure: why it failed; empty when it did not.
        dropped: by phase, the cohort indices that were lost in the ballot.
    """

    kept: bool
    verdict: Verdict
    tally: Tally | None = None
    failure: str = ""
    dropped: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def checked_without_verdict(ballot: Ballot | None, given: str, privacy: Privacy | None) -> WithoutVerdict:
    """What was asked for.  Raises ParameterError for a ballot that cannot be held."""
    if given not in list(WithoutVerdict):
        raise ParameterError(f"without_verdict = {given!r}: must be one of {', '.join(WithoutVerdict)}")
    if ballot is not None and privacy is not None:
        raise ParameterError("ballot and privacy: the count of a ballot has no noise; leave one out")
    if ballot is not None and ballot.earlier > MOST_EARLIER:
        raise ParameterError(f"ballot: earlier = {ballot.earlier}: nodes remember {MOST_EARLIER} models at most")
    return WithoutVerdict(given)


@final
class BallotBox:
    """Holds the ballots of a strategy, each over the nodes that were invited to the training before it."""

    def __init__(
        self,
        ballot: Ballot,
        without_verdict: WithoutVerdict,
        make_round: MakeRound,
        timeout_of: Callable[[str], float | None],
        run_config: Mapping[str, object] | None,
    ) -> None:
        """``timeout_of``: of a phase, MASK among them, where the nodes test the candidate."""
        self._ballot, self._without_verdict, self._make_round = ballot, without_verdict, make_round
        self._timeout_of, self._run_config = timeout_of, run_config

    def judge(self, candidate: ArrayRecord, grid: Grid, invited: Sequence[Message]) -> BallotReport:
        """Have the nodes of these messages vote on a candidate."""
        content = RecordDict({_ARRAYS: candidate})
        # The messages have the type of those for training, so that they reach the mod whatever functions the app has.
        addressed = [_readdressed(message, content) for message in invited]
        told = digest_of_told(content, addressed[0].metadata.message_type, self._run_config)
        terms = BallotTerms.of(self._ballot, candidate, told, run_config=self._run_config is not None)
        announcement = terms.to_bytes()
        round_ = self._make_round(self._ballot.encoder(), context_of(announcement), grid, addressed)
        result = self._result(round_, grid, announcement)
        return self._report(round_, result)

    def _result(self, round_: GridRound, grid: Grid, announcement: bytes) -> Result | str:
        """What the round comes to, or why it failed."""
        server = round_.server
        pending = round_.exchange_keys(announcement)
        if server.failure is None:
            messages = round_.training_messages(pending)
            round_.unmask(grid.send_and_receive(messages, timeout=self._timeout_of(Phase.MASK)))
        try:
            if server.failure is None:
                return server.compute()
        except PeerError as wrong:  # a client that dealt bad shares
            return str(wrong)
        return _why_failed(server) if round_.heard else _NO_VOTER

    def _report(self, round_: GridRound, result: Result | str) -> BallotReport:
        tally, failure, verdict = None, "", Verdict.UNDECIDED
        if isinstance(result, str):
            failure = result
        else:
            tally = self._ballot.tally((one.sum, len(one.included)) for one in result.groups)
            verdict = self._ballot.verdict(tally)
        kept = verdict is Verdict.ACCEPTED or (
            verdict is Verdict.UNDECIDED and self._without_verdict is WithoutVerdict.ACCEPT
        )
        report = BallotReport(
            kept=kept, verdict=verdict, tally=tally, failure=failure, dropped=dict(round_.server.dropped)
        )
        _log(report)
        return report


def _readdressed(message: Message, content: RecordDict) -> Message:
    addressed = message.metadata
    return Message(
        content,
        dst_node_id=addressed.dst_node_id,
        message_type=addressed.message_type,
        ttl=addressed.ttl,
        group_id=addressed.group_id,
    )


def _why_failed(server: ServerMachine) -> str:
    failure = server.failure
    return "the ballot ended early" if failure is None else f"{failure.reason} (in {failure.phase})"


def _log(report: BallotReport) -> None:
    becomes = "the candidate is the new model" if report.kept else "the previous model stays"
    if report.tally is None:
        log.error("secagg: the ballot failed, and %s: %s", becomes, report.failure)
        return
    log.log(
        logging.INFO if report.verdict is Verdict.ACCEPTED else logging.WARNING,
        "secagg: %d of %d voters object, of %d clients whose votes count: %s, and %s",
        report.tally.objections,
        report.tally.voters,
        report.tally.clients,
        report.verdict,
        becomes,
    )
    if not report.kept:
        log.warning(
            "secagg: the next round begins from the previous model, whose updates are in a sum: a node that was in it "
            "trains it again only when its owner has set secagg-again=true, and secagg-sums beside it is what keeps "
            "the two sums from telling of single nodes"
        )
