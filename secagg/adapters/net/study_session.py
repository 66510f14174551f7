"""A study over the service: the analyst's rounds NAME.1, NAME.2, ... on one port, each opened when the last is over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, final

import msgspec

from secagg.adapters.net.ending import Ending
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.round_spec import DEFAULT_DEADLINES, RoundSpec
from secagg.adapters.net.service import Service
from secagg.arithmetic import unpack
from secagg.errors import InputError, ParameterError, PeerError
from secagg.identity import Directory
from secagg.statistics.analyst import Analyst
from secagg.statistics.layout import StudyLayout
from secagg.statistics.question import Question
from secagg.statistics.results import StudyResult
from secagg.statistics.study import Study

_log = logging.getLogger("secagg.net.study")
_NOBODY: Final = b"secagg study seat 1\n"


def round_name(session: str, number: int) -> str:
    """What a study's round is called in its URL."""
    return f"{session}.{number}"


@final
@dataclass(frozen=True, kw_only=True)
class StudyRounds:
    """What all rounds of a study's session have in common.

    Attributes:
        name: of the session: its rounds are NAME.1, NAME.2, ...
        clients: how many organisations are invited to each round.
        deadlines, keys, names, directory: as ``RoundSpec`` has them.
            Without keys, whoever is in the first round that is released keeps its seat in the others, and nobody else
            gets one: seats are what organisations are told apart by.
        config: further options of ``RoundConfig.for_cohort``, such as ``threat_model``, ``cohort`` and ``gamma``.
    """

    name: str
    clients: int
    deadlines: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_DEADLINES))
    keys: tuple[bytes, ...] | None = None
    names: tuple[str, ...] = ()
    directory: Directory | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


@final
class StudySession:
    """Asks a study's questions over a service, to its end or until three rounds in a row have failed.

    ::

        session = StudySession(study, rounds)
        service = Service([session.first], journal, certificate=certificate)
        async with service.listen(host, port, tls):
            result = await session.run(service)
            await service.finished(60)
    """

    def __init__(
        self,
        study: Study,
        rounds: StudyRounds,
        *,
        journal: Journal | None = None,
        on_round: Callable[[RoundSpec], None] = lambda spec: None,
    ) -> None:
        """Begin a session, or take up the one whose rounds a journal has.

        What is asked follows from what was released, so that the same questions lead through the rounds that are over.

        Args:
            study: what is asked.
            rounds: how.
            journal: of the service; None: the session is a new one.
            on_round: told of each round when it is open.

        Raises ParameterError for rounds that cannot be hosted, a study that asks nothing, and a journal that has rounds
        of another study.
        """
        session = None if journal is None else _session_in(journal, study, round_name(rounds.name, 1))
        self._analyst = Analyst(study, session=session)
        self._rounds, self._on_round, self._keys = rounds, on_round, rounds.keys
        question = self._analyst.question()
        if question is None:
            raise InputError("the study asks nothing: give it a method")
        self._question: Question = question
        self.is_whole = False
        """Whether all was asked: once ``run`` is over, False after rounds that failed."""
        self.first = self._spec(question)
        """The round that the service must have from the beginning: members wait for the others."""

    def _spec(self, question: Question) -> RoundSpec:
        rounds = self._rounds
        layout = self._analyst.layout(question)
        least = self._analyst.study.release.min_organisations
        return RoundSpec(
            name=round_name(rounds.name, question.number),
            config=layout.config_for(rounds.clients, least, **rounds.config),
            layout=layout,
            deadlines=rounds.deadlines,
            keys=self._keys,
            names=rounds.names,
            directory=rounds.directory,
        )

    async def run(self, service: Service) -> StudyResult:
        """Carry the study to its end, over a service that listens.  The last round may still have to tell its members.

        It ends as well when the sites that are left may not be summed after those of earlier rounds: see
        ``Analyst.stopped``.

        Raises ParameterError for a question that cannot be hosted, and what ``Service.host`` raises.
        """
        analyst, hosted = self._analyst, service.rounds[self.first.name]
        question: Question | None = self._question
        while question is not None:
            self._on_round(hosted.spec)
            while (ending := hosted.ending) is None:
                await hosted.changed()
            if why := self._take(question, hosted.spec, ending):
                _log.error("nothing-released", extra={"fields": {"round": hosted.name, "why": why}})
            elif self._keys is None:
                self._keys = _seated(hosted, analyst.session)
            question = analyst.question()
            if question is not None:
                hosted = await service.host(self._spec(question))
        self.is_whole = not analyst.stopped
        self._end(service, hosted)
        return analyst.result()

    def _end(self, service: Service, last: HostedRound) -> None:
        """Wait at the end for nobody who knows how the rounds ended, and for those who are about to ask for more."""
        prefix = f"{self._rounds.name}."
        for name, earlier in service.rounds.items():
            if name.startswith(prefix) and earlier is not last:
                for seat in last.to_inform:  # who comes to a round has been told of those before it
                    earlier.client_knows_end(seat)
        lost = {seat for seats in last.dropped.values() for seat in seats}
        service.end_series(prefix, len(last.to_inform & lost))

    def _take(self, question: Question, spec: RoundSpec, ending: Ending) -> str:
        """Why nothing of a round is released; empty when its sums are."""
        if ending.failure:
            return self._analyst.failed(ending.failure)
        vector = unpack(ending.packed, spec.config.modulus, spec.config.length)
        return self._analyst.take_vector(question, vector, [spec.name_of(seat) for seat in ending.included])


def _seated(hosted: HostedRound, session: str) -> tuple[bytes, ...]:
    """Who sits where from now on; a seat that nobody took belongs to a key that nobody has."""
    holders = hosted.seats.bound_keys
    return tuple(
        holders.get(seat) or sha256(_NOBODY + f"{session} {seat}".encode()).digest()
        for seat in range(hosted.config.clients)
    )


def _session_in(journal: Journal, study: Study, first: str) -> str | None:
    """The session whose first round the journal has; None for a journal without one."""
    stored = journal.load(first)
    if stored is None:
        return None
    try:
        layout, _ = msgspec.msgpack.decode(stored.layout, type=tuple[StudyLayout, bytes])
        question = Question.from_bytes(layout.question)
    except (msgspec.DecodeError, ParameterError, PeerError) as wrong:
        raise ParameterError(f"{journal.path}: its round {first} is of no study ({wrong}); give another file") from None
    if question.study != study.digest.hex():
        raise ParameterError(f"{journal.path}: its round {first} is of another study; give another file")
    return question.session
