"""A site in a study over the service: it answers NAME.1, NAME.2, ..., and believes no history but its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from secagg.adapters.net.addresses import round_of
from secagg.adapters.net.clock import SYSTEM_CLOCK, Clock
from secagg.adapters.net.frames import Progress, Refusal, RefusedError
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import GaveUpError, MemberOptions
from secagg.adapters.net.store import STATE_SUFFIX, ClientStore
from secagg.adapters.net.study_answer import StudyTotal, Sums
from secagg.adapters.net.study_session import round_name
from secagg.errors import DisclosureError, ErrorCode, PeerError
from secagg.identity import Identity
from secagg.statistics.analyst import MOST_FAILURES, Analyst
from secagg.statistics.layout import StudyLayout
from secagg.statistics.ledger import Entry, Ledger
from secagg.statistics.noise import check_covered
from secagg.statistics.question import PastRound, Question, flat
from secagg.statistics.results import StudyResult
from secagg.statistics.site import Site
from secagg.wording import counted

_PAUSE: Final = 0.5
"""Seconds between two looks whether the next round is there."""
_WITHOUT_THIS_SITE: Final = frozenset({Refusal.LEFT_OUT, Refusal.ROUND_BEGUN})
"""The round goes on, or went on, and so does the study: a site that was lost may be in the next round."""
_DIGITS: Final = 16
_BUDGET_SUFFIX: Final = ".budget"


@final
@dataclass(frozen=True)
class _Met:
    """A question that was announced, and the analyst that asks it."""

    question: Question
    analyst: Analyst


@final
class StudyMember:
    """One site and its rounds.

    Before anything leaves, it refuses a question of another study, one that does not follow from the history, and a
    history that is not what it got itself in the rounds that it was in.
    """

    def __init__(
        self,
        site: Site,
        options: MemberOptions,
        folder: Path,
        *,
        names: Sequence[str] = (),
        ledger: Ledger | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Nothing is connected before ``run``.

        Args:
            site: whose data were checked (``Site.check``).
            options: how it takes part; the URL's last part is the session's name.  Sums over fewer organisations than
                the study asks for are refused, and ``again`` is set: a study asks the same records again and again.
            folder: for the state of each round, and for its identity where the options have none: it is the same in all
                rounds, by which a site keeps its seat.
            names: of the organisations by seat; without them they are called by their seats.
            ledger: remembers with whom the records were summed: before the last answer of a round leaves, it is asked
                whether a sum over these organisations may be opened.
            on_progress: called now and then.
            clock: what its patience is counted by.

        Raises DisclosureError for a study without noise where the options have a budget.
        """
        check_covered(options.privacy_budget, site.study.noise)
        least = max(options.policy.min_survivors, site.study.release.min_organisations)
        self._options = replace(
            options,
            policy=replace(options.policy, min_survivors=least),
            again=True,
            may_reveal=options.may_reveal if ledger is None else self._record,
        )
        self._ledger = ledger
        self._site, self._folder, self._names = site, folder, tuple(names)
        self._on_progress, self._clock = on_progress, clock
        self._session: str | None = None
        self._got: dict[int, PastRound] = {}
        self._number = 0
        self._met: _Met | None = None

    async def run(self) -> StudyResult:
        """Take part until the study is over, or three rounds in a row have failed.

        A site that was lost in a round takes part again in the next one.  In a study with noise, each round is charged
        to the options' budget; without one, to a budget of the study's own epsilon in the folder, so that no server
        gets more answers than the study promises.

        Raises what ``Member.run`` raises; PeerError for a question that is refused; DisclosureError when the ledger
        withheld three answers in a row; RefusedError(SERIES_OVER) when the last round went on without this site;
        GaveUpError when the next round does not come; BudgetExceededError and BudgetFileError for a round that the
        budget has no room for.
        """
        with ExitStack() as opened:
            if self._options.identity is None:
                own_identity = opened.enter_context(closing(ClientStore(self._folder / f"identity{STATE_SUFFIX}")))
                self._options = replace(self._options, identity=Identity(own_identity.identity_seed()))
            noise = self._site.study.noise
            if noise is not None and self._options.privacy_budget is None:
                from secagg.privacy.budget import Budget

                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"{self._site.study.digest.hex()[:_DIGITS]}{_BUDGET_SUFFIX}"
                own = opened.enter_context(closing(Budget(path, epsilon=noise.epsilon, delta=noise.delta)))
                self._options = replace(self._options, privacy_budget=own)
            return await self._run()

    async def _run(self) -> StudyResult:
        failures = 0
        while self._number < MOST_FAILURES * (self._site.study.max_rounds + 1):
            self._number += 1
            try:
                total = await self._round_when_it_is_there()
            except (RefusedError, DisclosureError) as refused:
                if isinstance(refused, RefusedError) and refused.code in _WITHOUT_THIS_SITE:
                    continue
                failures += 1
                is_over = isinstance(refused, RefusedError) and refused.code is not Refusal.ROUND_ABORTED
                if is_over or failures == MOST_FAILURES:
                    raise
                continue
            failures, analyst = 0, self._take(total)
            if analyst.question() is None:
                return analyst.result()
        raise GaveUpError(f"the server began {counted(self._number, 'round')}, which is more than the study can have")

    async def _round_when_it_is_there(self) -> StudyTotal:
        base, _, session = self._options.url.rpartition("/")
        options = replace(self._options, url=f"{base}/{round_name(session, self._number)}")
        end = self._clock.monotonic() + options.give_up_seconds
        while True:
            store = ClientStore(self._folder / f"{round_of(options.url)}{STATE_SUFFIX}")
            try:
                return await Member(
                    options,
                    store,
                    self._answer,
                    on_total=lambda total: None,
                    on_progress=self._on_progress,
                    clock=self._clock,
                ).answer()
            except RefusedError as refused:
                if refused.code is Refusal.SERIES_OVER:
                    raise RefusedError(
                        refused.code,
                        "the study is over, and its last round was one without this organisation: ask whoever runs the "
                        "server for the results",
                    ) from None
                if refused.code is not Refusal.ROUND_UNKNOWN:
                    raise
                if self._clock.monotonic() >= end:
                    raise GaveUpError(
                        f"round {round_of(options.url)} has not begun for {options.give_up_seconds:g} s: the study may "
                        "be over, or its server may have stopped; ask who runs it"
                    ) from None
            finally:
                store.close()
            await self._clock.sleep(_PAUSE)

    def _answer(self, layout: StudyLayout) -> Sums:
        """What this site sums for a question.  Raises PeerError when it is refused."""
        question = Question.from_bytes(layout.question)
        analyst = self._site.check_question(question)
        self._check_history(question)
        if analyst.layout(question).digest() != layout.digest():
            raise _refused("the round sums other arrays than the question asks for")
        self._session = question.session
        self._met = _Met(question, analyst)
        return self._site.sums(question)

    def _check_history(self, question: Question) -> None:
        if question.number != self._number or len(question.history) >= question.number:
            raise _refused(f"round {self._number} of the study asks question {question.number}")
        if self._session not in (None, question.session):
            raise _refused("the server began the study anew")
        for position, got in self._got.items():
            told = question.history[position] if position < len(question.history) else None
            if told is None or (told.asks, told.sums, len(told.sites)) != (got.asks, got.sums, len(got.sites)):
                raise _refused(f"its history has other sums than this site got in completed round {position + 1}")

    def _record(self, survivors: tuple[int, ...]) -> None:
        """Raises DisclosureError when a sum over these may not be opened."""
        if self._met is None or self._ledger is None:
            raise RuntimeError("an answer without a question")
        question = self._met.question
        # Without a directory, a seat is somebody else's in the next session.
        names = [self._names[seat] if self._names else f"{question.session} seat {seat}" for seat in survivors]
        self._ledger.record(Entry.of(question, names), self._site.min_difference)

    def _take(self, total: StudyTotal) -> Analyst:
        if self._met is None:
            raise RuntimeError("a sum without a question")
        question, analyst = self._met.question, self._met.analyst
        sites = [self._names[seat] if self._names else f"seat {seat}" for seat in total.included]
        analyst.take(question, total.sums, sites)
        self._got[len(question.history)] = PastRound(question.asks, flat(total.sums), tuple(sorted(sites)))
        return analyst


def _refused(why: str) -> PeerError:
    return PeerError(ErrorCode.CONFIG_BELOW_POLICY, f"the server's question is refused: {why}")
