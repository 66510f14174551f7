"""The analyst's side of a study, and what each site replays: what is asked next, given what was released so far."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Self, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.errors import ErrorCode, InputError, ParameterError, PeerError
from secagg.pairwise.config import RoundConfig
from secagg.statistics.asks import Ask, Released
from secagg.statistics.cells import (
    INCOMPLETE,
    RECORD_COUNTS,
    RECORDS,
    Cells,
    Presence,
    Whole,
    from_limbs,
    largest_limb,
    limb_name,
    limbs_of,
)
from secagg.statistics.counts import COUNTS
from secagg.statistics.layout import StudyLayout
from secagg.statistics.method import Method
from secagg.statistics.noise import NoisyArrays, cost_of, noise_of
from secagg.statistics.participation import refused_difference
from secagg.statistics.question import PastRound, Question, flat, shaped
from secagg.statistics.results import MethodResult, Privacy, Reported, StudyResult, SummedRound
from secagg.statistics.study import Study
from secagg.wording import counted

MOST_FAILURES: Final = 3
"""Rounds one after another that may fail before a study ends with what it has."""
_RELATIVE: Final = 1e-9
"""How far a server's parameters may be from a site's own, in relation to the largest of them: two machines that compute
from the same sums differ by some 1e-15."""


@final
class Analyst:
    """Asks, takes sums, and reports.

    ::

        while (question := analyst.question()) is not None:
            layout = analyst.layout(question)
            sums, sites = ...  # a secure sum of layout.encode(site.answer(question)) over the sites
            analyst.release(question, sums, sites)
        print(analyst.result())

    No secret is in it: all that it holds was released.
    """

    def __init__(self, study: Study, *, session: str | None = None) -> None:
        """``session`` names the rounds that belong together; a fresh one is drawn when it is not given."""
        self.study = study
        self.session = session or secrets.token_hex(16)
        self.failed_rounds = self._failed_in_a_row = 0
        self.stopped = ""
        """Why it asks nothing more; empty while it does, and when all was asked."""
        self._history: list[PastRound] = []
        self._released: dict[str, list[Released]] = {name: [] for name in study.asked}
        self._wanted: dict[str, Ask] | None = None

    @classmethod
    def replayed(cls, study: Study, question: Question, known: Self | None = None) -> Self:
        """What an analyst of this study was, before it asked this question.

        ``known`` is one that came of an earlier question of the study: where the history begins with the very rounds
        that it has, their asks, sums and sites among it, only what is new is replayed.

        Raises PeerError(CONFIG_BELOW_POLICY) for a history or a question that the study does not lead to.
        """
        analyst = cls(study, session=question.session)
        if known is not None and question.history[: known.rounds] == tuple(known._history):
            analyst._go_on_from(known)
        try:
            for past in question.history[analyst.rounds :]:
                analyst._check_asks(past.asks)
                analyst.check_sites(past.sites)
                shapes = dict(layout_of(study, past.asks, b"").arrays)
                if past.sums.keys() != shapes.keys():
                    raise _refused("its history has the sums of other arrays than were asked for")
                analyst._take(past, {name: shaped(past.sums[name], shape) for name, shape in shapes.items()})
            analyst.failed_rounds = question.number - 1 - len(question.history)
            if analyst.failed_rounds < 0:
                raise _refused(f"it is number {question.number}, and {len(question.history)} were released before it")
            analyst._check_asks(question.asks)
        except (ValueError, ArithmeticError) as wrong:
            raise _refused(f"its history makes no sense ({type(wrong).__name__}: {wrong})") from None
        return analyst

    def copy(self) -> Analyst:
        """One that stays as this one is now."""
        copied = Analyst(self.study, session=self.session)
        copied._go_on_from(self)
        return copied

    def _go_on_from(self, other: Analyst) -> None:
        self._history = list(other._history)
        self._released = {name: list(released) for name, released in other._released.items()}
        self._wanted = other._wanted

    @property
    def rounds(self) -> int:
        """How many rounds were released."""
        return len(self._history)

    def question(self) -> Question | None:
        """What the next round asks; None when there is nothing more to ask, no more round is allowed, or it stopped.

        Raises ParameterError before the first round of a study of which a round could not get its noise.
        """
        if not self._history:
            check_noise(self.study)
        asks = self._next_asks()
        if not asks:
            return None
        return Question(
            study=self.study.digest.hex(),
            session=self.session,
            number=len(self._history) + self.failed_rounds + 1,
            asks=asks,
            history=tuple(self._history),
        )

    def layout(self, question: Question) -> StudyLayout:
        """What is summed in that round; its digest is the round's context."""
        return layout_of(self.study, question.asks, question.to_bytes())

    def release(self, question: Question, sums: Mapping[str, npt.NDArray[Any]], sites: Sequence[str]) -> None:
        """Take the sums of a round, as ``StudyLayout.decode`` has them, and the names of the sites in them.

        Raises ParameterError as ``check_sites`` does: nothing of the sums is kept.
        """
        self.check_sites(sites)
        past = PastRound(question.asks, flat(sums), tuple(sorted(set(sites))))
        self._take(past, {name: np.asarray(array, object) for name, array in sums.items()})
        self._failed_in_a_row = 0

    def config(self, question: Question, sites: int, **options: Any) -> RoundConfig | None:
        """The config of that round over so many sites; None, and the analyst stops, when too few are left for one.

        ``options`` are those of ``RoundConfig.for_cohort``.  Raises ParameterError where there can be no first round.
        """
        try:
            return self.layout(question).config_for(sites, self.study.release.min_organisations, **options)
        except ParameterError as unfit:
            if not self._history:
                raise
            self.stop(str(unfit))
            return None

    def take_vector(self, question: Question, vector: npt.NDArray[Any], sites: Sequence[str]) -> str:
        """Take the sum of a round as the protocol has it, shape (length of the layout,).

        Returns why nothing of it is released, or nothing.  The round has failed when no sites have such a sum, which is
        the work of a member that cheats; and where the study allows no sum over these sites, the analyst stops.
        """
        try:
            sums = self.layout(question).decode(vector, len(set(sites)))
        except InputError as wrong:
            return self.failed(str(wrong))
        return self.take(question, sums, sites)

    def take(self, question: Question, sums: Mapping[str, npt.NDArray[Any]], sites: Sequence[str]) -> str:
        """As ``take_vector``, for sums as ``StudyLayout.decode`` has them: it fails for nothing but the sites."""
        try:
            self.release(question, sums, sites)
        except ParameterError as refused:
            self.stop(str(refused))
        return self.stopped

    def check_sites(self, sites: Sequence[str]) -> None:
        """Raises ParameterError for sites of which the study allows no sum after those that were released.

        They are fewer than its ``min_organisations``, or fewer than its ``min_difference`` of them were in other sums
        than the rest: the sites themselves would refuse to complete such a sum.
        """
        least = self.study.release.min_organisations
        if len(set(sites)) < least:
            raise ParameterError(f"the sums are over {len(set(sites))} organisations; the study asks for {least}")
        earlier = [past.sites for past in self._history]
        if why := refused_difference(earlier, sites, self.study.release.min_difference):
            raise ParameterError(why)

    def stop(self, why: str) -> None:
        """Ask nothing more; methods that have not finished report why."""
        self.stopped = why

    def failed(self, why: str) -> str:
        """A round was not completed, and nothing of it was released: the next question has another number.

        In a study with noise it counts as one that was seen by whoever runs the server, and the analyst stops when none
        is left; so it does after ``MOST_FAILURES`` of them in a row.  Returns ``why``.
        """
        self.failed_rounds += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row == MOST_FAILURES:
            self.stop(f"{MOST_FAILURES} rounds in a row failed, the last one because {why}")
        elif self._noise_is_used_up():
            self.stop(
                f"its noise is for {counted(self.study.noisy_rounds, 'round')}, and {self.failed_rounds} failed, the "
                f"last one because {why}; a study with spare_rounds can ask again"
            )
        return why

    def result(self) -> StudyResult:
        """What was found.  A method that has not finished reports why."""
        reported = {
            name: replace(self._reported(name, method), label=method.label, words=method.in_words(self.study.terms))
            for name, method in self.study.asked.items()
        }
        columns = reported.pop(COUNTS)
        rounds = tuple(
            SummedRound({name: ask.stage for name, ask in past.asks.items()}, past.sites) for past in self._history
        )
        return StudyResult(
            self.study.name,
            self.study.digest.hex(),
            reported,
            self.study.purpose,
            rounds,
            self.failed_rounds,
            columns,
            self._privacy(),
        )

    def _privacy(self) -> Privacy | None:
        """By the organisations that were in each sum; rounds that failed, or ended the study, count as they might."""
        noise = self.study.noise
        if noise is None:
            return None
        from secagg.privacy import accounting

        seen = []
        for past in self._history:
            honest = len(past.sites) - noise.colluders
            seen += [(replace(one.sum, honest=honest), 1) for one in noise_in(self.study, past.asks)]
        if lost := self.failed_rounds + bool(self.stopped):
            seen.append((cost_of(noise, self.study.noisy_rounds), lost))
        reached = min(noise.epsilon, accounting.epsilon(seen, noise.delta))
        return Privacy(noise.epsilon, noise.delta, noise.colluders, reached)

    def _next_asks(self) -> dict[str, Ask]:
        if self.stopped or self.rounds >= self.study.max_rounds or self._noise_is_used_up():
            return {}
        return self._wanted_by_methods()

    def _wanted_by_methods(self) -> dict[str, Ask]:
        """What the methods ask next by what was released, worked out once."""
        if self._wanted is None:
            terms = self.study.terms
            asks = {name: method.next_ask(terms, self._released[name]) for name, method in self.study.asked.items()}
            self._wanted = {name: ask for name, ask in asks.items() if ask is not None}
        return self._wanted

    def _noise_is_used_up(self) -> bool:
        """Whether the study has noise, and as many rounds were asked, failed ones among them, as that is for."""
        return self.study.noise is not None and self.rounds + self.failed_rounds >= self.study.noisy_rounds

    def _take(self, past: PastRound, sums: Mapping[str, npt.NDArray[Any]]) -> None:
        released = {name: self._released_of(name, ask, past.sites, sums) for name, ask in past.asks.items()}
        self._history.append(past)
        self._wanted = None
        for name, one in released.items():
            self._released[name].append(one)

    def _released_of(
        self, name: str, ask: Ask, sites: tuple[str, ...], sums: Mapping[str, npt.NDArray[Any]]
    ) -> Released:
        most = self.study.max_records
        cells = cells_of(self.study, name, ask)
        joined = {part: from_limbs(f"{name}/{part}", kind, sums, most) for part, kind in cells.items()}
        records, incomplete = int(joined.pop(RECORDS)), int(joined.pop(INCOMPLETE))
        return Released(ask, joined, records, incomplete, sites)

    def _check_asks(self, asks: Mapping[str, Ask]) -> None:
        own = self._next_asks()
        if asks.keys() != own.keys():
            raise _refused(
                f"it asks for {', '.join(sorted(asks)) or 'nothing'}, not {', '.join(sorted(own)) or 'nothing'}"
            )
        for name, ask in asks.items():
            mine = own[name]
            alike = ask.stage == mine.stage and ask.parameters.keys() == mine.parameters.keys()
            if not alike or not all(_close(ask.parameters[key], mine.parameters[key]) for key in ask.parameters):
                raise _refused(f"{name} is asked for another {ask.stage} than the sums so far lead to")

    def _reported(self, name: str, method: Method) -> Reported:
        released = self._released[name]
        if not released:
            why = f"no round of it was completed{self.stopped and ': '}{self.stopped}"
            return Reported(MethodResult(withheld=why), None, None, 0, ())
        last = released[-1]
        count, sites = len(released), last.sites
        if last.records < self.study.release.min_cell:
            why = f"fewer than {self.study.release.min_cell} complete records"
            return Reported(MethodResult(withheld=why), None, None, count, sites)
        if name in self._wanted_by_methods():
            why = f"it was not finished after {counted(count, 'round')}"
            why += f": {self.stopped}" if self.stopped else "; raise max_rounds, or run the study again"
            return Reported(MethodResult(withheld=why), last.records, last.incomplete, count, sites)
        found = method.result(self.study.terms, released)
        noise = self._deviations(name, last)
        if noise:
            said = ", ".join(f"{deviation:.3g} in {part}" for part, deviation in noise.items())
            found = replace(
                found,
                notes=(
                    *found.notes,
                    f"Each sum has noise, which hides single records. Its standard deviation is {said}.",
                ),
            )
        return Reported(found, last.records, last.incomplete, count, sites, noise=noise)

    def _deviations(self, name: str, last: Released) -> dict[str, float]:
        """The standard deviation of the noise in the sums of a method's last round, by sum; empty without noise."""
        asks = next(past.asks for past in reversed(self._history) if name in past.asks)
        found, start = layout_of(self.study, asks, b"").deviations(len(last.sites)), f"{name}/"
        return {array.removeprefix(start): one for array, one in found.items() if array.startswith(start)}


def cells_of(study: Study, name: str, ask: Ask) -> dict[str, Cells]:
    """What a method's question sums, the counts of records among it."""
    method = study.asked[name]
    counts: dict[str, Cells] = {part: Whole((), group=RECORD_COUNTS) for part in (RECORDS, INCOMPLETE)}
    found = counts | method.cells(study.terms, ask)
    if study.noise is None:
        return found
    return {part: replace(one, single=True) if isinstance(one, Whole) else one for part, one in found.items()}


def layout_of(study: Study, asks: Mapping[str, Ask], question: bytes) -> StudyLayout:
    """The layout of a round.

    Raises ParameterError for what is too large to be summed, or to get noise.
    """
    arrays: dict[str, tuple[int, ...]] = {}
    largest: dict[str, int] = {}
    most = study.max_records
    for name, ask in asks.items():
        for part, cells in cells_of(study, name, ask).items():
            for limb in range(limbs_of(cells, most)):
                array = limb_name(f"{name}/{part}", limb)
                arrays[array] = cells.shape
                if not isinstance(cells, Presence):
                    largest[array] = largest_limb(cells, most, limb)
    made = StudyLayout(tuple(sorted(arrays.items())), tuple(sorted(largest.items())), question)
    if study.noise is None:
        return made
    noise = {array: one.sum.variance for one in noise_in(study, asks) for array in one.arrays}
    return msgspec.structs.replace(
        made,
        noise=tuple(sorted(noise.items())),
        fewest=study.release.min_organisations,
        cost=cost_of(study.noise, study.noisy_rounds).to_text(),
    )


def noise_in(study: Study, asks: Mapping[str, Ask]) -> tuple[NoisyArrays, ...]:
    """The noise of a round; empty for a study without noise.  Raises ParameterError as ``noise_of`` does."""
    if study.noise is None:
        return ()
    cells = {name: cells_of(study, name, ask) for name, ask in asks.items()}
    return noise_of(study.noise, study.honest, study.noisy_rounds, cells)


def check_noise(study: Study) -> None:
    """Before anything is sent.  Raises ParameterError for a study of which a round could not get its noise."""
    by_method = {name: method.noisy_rounds(study.terms) for name, method in study.asked.items()}
    for number in range(study.noisy_rounds):
        noise_in(study, {name: asks[number] for name, asks in by_method.items() if number < len(asks)})


def _close(theirs: list[float], mine: list[float]) -> bool:
    if len(theirs) != len(mine):
        return False
    scale = max((abs(value) for value in mine), default=0.0)
    return all(abs(one - other) <= _RELATIVE * scale for one, other in zip(theirs, mine, strict=True))


def _refused(why: str) -> PeerError:
    return PeerError(ErrorCode.CONFIG_BELOW_POLICY, f"the server's question does not follow from the study: {why}")
