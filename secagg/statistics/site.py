"""A site's side of a study: it checks its own data before it connects, and answers what follows from the study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ErrorCode, InputError, PeerError, StateError
from secagg.privacy.budget_errors import BudgetExceededError
from secagg.statistics.analyst import Analyst, cells_of, check_noise
from secagg.statistics.asks import Ask
from secagg.statistics.cells import INCOMPLETE, RECORDS, Presence, to_limbs
from secagg.statistics.chunk import Chunk, Dataset, Misfit
from secagg.statistics.columns import Category, levels_of
from secagg.statistics.distributions import scipy_module
from secagg.statistics.expressions import where_column
from secagg.statistics.method import Method
from secagg.statistics.noise import check_covered, check_room, cost_of
from secagg.statistics.policy import SitePolicy
from secagg.statistics.question import Question
from secagg.statistics.study import Study
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

_NAME_BYTES: Final = 32
"""Of an answer in the budget: each is charged by itself, also when the same question is asked again."""


@final
@dataclass(frozen=True)
class SiteCheck:
    """What a site's own operator sees before anything is sent; it tells of the data.

    Attributes:
        read: records that were read.
        records: in the study, after its filters.
        by_method: complete and incomplete records by method.
        outside: by column, values that the range or the list excludes, and for which the study has a rule.
        missing: by column, missing values, before anything stands for them.
        rounded: by column, numbers with more decimals than the study says, which are rounded.
        never_met: by category, the values that no record has.
    """

    read: int = field(repr=False)
    records: int = field(repr=False)
    by_method: Mapping[str, tuple[int, int]] = field(repr=False)
    outside: Mapping[str, int] = field(repr=False)
    missing: Mapping[str, int] = field(repr=False)
    rounded: Mapping[str, int] = field(repr=False)
    never_met: Mapping[str, tuple[str, ...]] = field(repr=False)


@final
class Site:
    """One organisation's part.

    Secret: its records, and every answer.  Neither shows in a repr.
    """

    def __init__(
        self,
        study: Study,
        dataset: Dataset,
        *,
        policy: SitePolicy | None = None,
        budget: Budget | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            study: as the organisation has approved it.
            dataset: its records.
            policy: what it allows; None allows any study.
            budget: the privacy that all studies together may still cost these records.  ``answer`` charges it.  Without
                one, this object answers no more than the study's own epsilon has room for.

        Raises DisclosureError for a study that the policy refuses, or that has no noise where there is a budget.
        """
        if policy is not None:
            policy.check(study)
        check_covered(budget, study.noise)
        self.study = study
        self.policy = policy
        self._budget = budget
        self._answered = 0
        self._dataset = dataset
        self._checked = False
        self._replayed: Analyst | None = None

    def check(self) -> SiteCheck:
        """Read all records once.

        Raises InputError when they do not fit the study, DisclosureError when they are too few for the policy,
        ParameterError where SciPy, or what noise needs, is not installed, and BudgetExceededError and BudgetFileError
        for a budget that has no room for all rounds of the study.

        Whatever could make the site stay away is asked here: afterwards nothing depends on the data.
        """
        self._checked = False  # what an earlier check found does not count when this one refuses
        scipy_module("special")  # some methods' sums need it
        check_noise(self.study)
        if self.study.noise is not None and self._budget is not None:
            check_room(self._budget, self.study.noise, self.study.noisy_rounds)
        count = _Count(self.study)
        for chunk in self._dataset.chunks():
            count.add(chunk)
        if count.misfits:
            raise InputError("; ".join(count.misfits_in_words()))
        if count.records > self.study.max_records:
            raise InputError(f"{count.records} records, and the study allows {self.study.max_records} (max_records)")
        found = count.found()
        if self.policy is not None:
            self.policy.check_records(found)
        self._checked = True
        return found

    def answer(self, question: Question) -> dict[str, npt.NDArray[Any]]:
        """This site's arrays for ``StudyLayout.encode``: only ever to be given to a secure sum, and encoded once.

        With noise, each call is charged to the budget before it returns.

        Raises PeerError for a question of another study, or one that the study does not lead to; BudgetExceededError
        and BudgetFileError for one that the budget has no room for.
        """
        self.check_question(question)
        self._charge()
        return self.sums(question)

    def _charge(self) -> None:
        terms, rounds = self.study.noise, self.study.noisy_rounds
        if terms is None:
            return
        if self._budget is not None:
            self._budget.charge(os.urandom(_NAME_BYTES), cost_of(terms, rounds))
            return
        if self._answered >= rounds:
            raise BudgetExceededError(
                f"this site has answered {counted(rounds, 'round')}, which is all that the study's noise is for: to "
                "run the study again is to spend its epsilon again; give the site a budget, or make another one"
            )
        self._answered += 1

    @property
    def min_difference(self) -> int:
        """The fewest sites that must always be in and out of sums together: the study's number, or the policy's."""
        own = 1 if self.policy is None else self.policy.min_difference
        return max(own, self.study.release.min_difference)

    def check_question(self, question: Question) -> Analyst:
        """The analyst that asks this.  Raises PeerError.

        What was replayed for the last question is kept, so that each question costs the replay of what is new.
        """
        if question.study != self.study.digest.hex():
            raise PeerError(ErrorCode.CONFIG_BELOW_POLICY, "the round's question is of another study than this site's")
        analyst = Analyst.replayed(self.study, question, self._replayed)
        self._replayed = analyst.copy()  # the other one is the host's, which goes on with it
        return analyst

    def sums(self, question: Question) -> dict[str, npt.NDArray[Any]]:
        """The arrays that answer a question that was checked; a host that calls it charges its budget itself.

        Raises StateError before ``check`` has found that the data fit: an answer never depends on whether they do.
        """
        if not self._checked:
            raise StateError("the site has not checked its data: call check() before it connects")
        totals: dict[tuple[str, str], npt.NDArray[Any]] = {}
        for chunk in self._dataset.chunks():
            for name, ask in question.asks.items():
                for part, values in self._sums_of(name, ask, chunk).items():
                    so_far = totals.get((name, part))
                    totals[name, part] = values if so_far is None else _added(so_far, values)
        found: dict[str, npt.NDArray[Any]] = {}
        most = self.study.max_records
        for name, ask in question.asks.items():
            for part, cells in cells_of(self.study, name, ask).items():
                dtype: type[Any] = np.bool_ if isinstance(cells, Presence) else np.int64
                empty = np.zeros(cells.shape, dtype)
                found |= to_limbs(f"{name}/{part}", cells, totals.get((name, part), empty), most)
        return found

    def _sums_of(self, name: str, ask: Ask, chunk: Chunk) -> dict[str, npt.NDArray[Any]]:
        method = self.study.asked[name]
        used, incomplete = _records_for(method, chunk)
        counts = {RECORDS: np.array(used.size), INCOMPLETE: np.array(incomplete)}
        return {**counts, **method.sums(self.study.terms, ask, used)}

    def __repr__(self) -> str:
        return f"Site({self.study.name!r})"


class _Count:
    """What is counted while a site reads its records; it tells of the data."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self.records = self._read = 0
        self._by_method = dict.fromkeys(study.methods, (0, 0))
        self._outside: Counter[str] = Counter()
        self._missing: Counter[str] = Counter()
        self._rounded: Counter[str] = Counter()
        self.misfits: dict[tuple[str, str], Misfit] = {}
        self._met = {
            name: np.zeros(len(column.values), np.int64)
            for name in study.used
            if isinstance(column := study.columns[name], Category)
        }

    def add(self, chunk: Chunk) -> None:
        tally = chunk.tally
        self._read += tally.read
        self.records += chunk.size
        self._outside.update(tally.outside)
        self._missing.update(tally.missing)
        self._rounded.update(tally.rounded)
        for one in tally.misfits:
            earlier = self.misfits.setdefault((one.column, one.why), replace(one, count=0))
            self.misfits[one.column, one.why] = replace(earlier, count=earlier.count + one.count)
        for name, met in self._met.items():
            codes = chunk.codes(name)
            met += np.bincount(codes[codes >= 0], minlength=met.size)
        for name, method in self._study.methods.items():
            used, incomplete = _records_for(method, chunk)
            complete, lacking = self._by_method[name]
            self._by_method[name] = complete + used.size, lacking + incomplete

    def misfits_in_words(self) -> list[str]:
        return [
            f"{f'columns.{one.column}: ' if one.column else ''}{counted(one.count, 'value' if one.column else 'line')} "
            f"{one.why}, the first in record {one.first}"
            for one in self.misfits.values()
        ]

    def found(self) -> SiteCheck:
        used = self._study.used
        return SiteCheck(
            read=self._read,
            records=self.records,
            by_method=self._by_method,
            outside={name: self._outside[name] for name in used},
            missing={name: self._missing[name] for name in used},
            rounded={name: self._rounded[name] for name in used if self._rounded[name]},
            never_met={
                name: never
                for name, met in self._met.items()
                if (never := tuple(np.array(levels_of(self._study.columns[name]))[met == 0].tolist()))
            },
        )


def _records_for(method: Method, chunk: Chunk) -> tuple[Chunk, int]:
    """The complete records that a method has, and how many of its records are incomplete."""
    if method.where:
        chunk = chunk.select(chunk.numbers(where_column(method.where)) == 1.0)
    complete = chunk.complete(method.needs)
    return chunk.select(complete), int(np.count_nonzero(~complete))


def _added(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers in Python's integers, which do not overflow; yes where either says yes."""
    if one.dtype == np.bool_:
        return np.asarray(one | other)
    if one.dtype.kind in "iu":
        one = one.astype(object)
    return np.asarray(one + other)
