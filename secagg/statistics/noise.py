"""Differential privacy of one record in the sums of a study: how much noise each organisation adds to what.

One record
==========
Two sets of data are neighbours when one record of one organisation is in one of them and not in the other.  That record
changes at most ``touched`` cells of an array, each by at most ``per_record`` (see ``secagg.statistics.cells``), and so
the array by at most touched per_record^2 in squared L2 norm and touched per_record in L1 norm.  Of the arrays of one
``group`` it changes one alone.  Nothing else that leaves an organisation depends on the record.

Only whole numbers get noise.  A sum of floats is rounded as it is added up, and the rounding of any cell may change
with any record: there is no bound that holds for sure.  A yes or no has no room for noise.

Noise
=====
Each organisation adds Skellam noise (N. Agarwal, P. Kairouz and Z. Liu, "The Skellam Mechanism for Differentially
Private Federated Learning", NeurIPS 2021) to the whole number of each cell, modulo 2^64 and before it is masked, so
that nobody sees one without it.  The noise of ``min_organisations`` less ``colluders`` of them is enough by itself: no
sum is over fewer, and colluders know their own.  With noise a number has no limbs: the sum of the low ones would
tell more than the sum of the numbers does (what was carried at each organisation), and noise is not sized for that.

The budget
==========
z is the noise multiplier at which one Gaussian sum is (epsilon, delta)-differentially private by dp-accounting, with
four digits and rounded up, so that all machines have the same.  R rounds of multiplier z sqrt(R) are as one of z.  So
each of the rounds that a study may have, completed or not, is no worse than a Gaussian sum of multiplier z sqrt(R), at
every order of the Renyi divergence, whatever it asks and whatever was released before it.  In a round each group of
arrays has a share of 1 / (z^2 R); shares are equal, but that counts of records and of missing values have an eighth of
one, because they are large or matter less.  ``secagg.privacy.accounting`` says what multiplier a sum with Skellam noise
has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from math import prod
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeAlias, final

from secagg.errors import DisclosureError, ParameterError
from secagg.statistics.cells import RECORD_COUNTS, Cells, Presence, Whole, most_units
from secagg.statistics.counts import COUNTS
from secagg.statistics.release import NoiseTerms
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget
    from secagg.privacy.noisy_sum import NoisySum

_DIGITS: Final = Context(prec=4, rounding=ROUND_CEILING)
_MARGIN: Final = 1 + 1e-6
"""Of z: more than what is rounded on the way to a sum's epsilon."""
_LESS: Final = Fraction(1, 8)
_STEPS: Final = 2**20
"""Of what a record changes in ``cost_of``: so fine that Skellam noise is as good as Gaussian noise."""
MOST_VARIANCE: Final = 2**62
MOST_AT_A_SITE: Final = 2**56
"""A sum over some 60 sites stays in the ring with its noise; ``StudyLayout.check_sites`` says so of more."""

CellsByMethod: TypeAlias = Mapping[str, Mapping[str, Cells]]
"""By method, and by the name of each of its arrays."""


@final
@dataclass(frozen=True)
class NoisyArrays:
    """Arrays of which a record changes one alone, and their noise.

    Attributes:
        arrays: their names in the layout.
        sum: what whoever sees them has before them, with the noise of the fewest honest organisations.
    """

    arrays: tuple[str, ...]
    sum: NoisySum


def noise_of(terms: NoiseTerms, honest: int, rounds: int, cells: CellsByMethod) -> tuple[NoisyArrays, ...]:
    """The least noise with which a round keeps to its part of the budget.

    Args:
        terms: of the study.
        honest: organisations in each sum whose noise nobody else knows.
        rounds: of the study, at most.
        cells: of the round.

    Raises ParameterError where none is large enough, and without dp-accounting.
    """
    groups = _groups(cells)
    weights = [_LESS if _is_of_records(name) else Fraction(1) for name in groups]
    goal = multiplier(terms) ** 2 * rounds * sum(weights, Fraction(0))
    return tuple(
        NoisyArrays(tuple(arrays), _least_noise(list(arrays.values()), honest, goal / weight))
        for arrays, weight in zip(groups.values(), weights, strict=True)
    )


def cost_of(terms: NoiseTerms, rounds: int) -> NoisySum:
    """What any round of the study costs at most, for a budget: it follows from nothing that the study has found.

    It is a sum of multiplier z sqrt(rounds), or a little less.
    """
    from secagg.privacy.noisy_sum import NoisySum
    from secagg.privacy.parameters import NoiseKind

    variance = math.floor(multiplier(terms) ** 2 * rounds * _STEPS**2)
    return NoisySum(noise=NoiseKind.SKELLAM, honest=1, variance=variance, dimension=1, squared_l2=_STEPS**2, l1=_STEPS)


def noise_in_words(terms: NoiseTerms, honest: int, rounds: int) -> str:
    """What a study with noise promises, for a person who approves it."""
    return (
        "Noise hides whether any single record is in the data: "
        f"epsilon {terms.epsilon:g} at delta {terms.delta:g}, for all that is released in up to "
        f"{counted(rounds, 'round')}. It holds against the server with up to "
        f"{counted(terms.colluders, 'organisation')}, since each sum has the noise of {honest} or more others. A "
        "person with several records is hidden less."
    )


def check_covered(budget: Budget | None, terms: NoiseTerms | None) -> None:
    """Raises DisclosureError for a study without noise where there is a budget, which could not count it."""
    if budget is not None and terms is None:
        raise DisclosureError(
            f"the study has no noise, and the budget {budget.path} covers studies with noise alone: have [noise] in "
            "the study, or leave the budget out"
        )


def check_room(budget: Budget, terms: NoiseTerms, rounds: int) -> None:
    """Before anything is sent.  Raises BudgetExceededError for a budget without room for all rounds of the study."""
    from secagg.privacy.budget_errors import BudgetExceededError

    if (left := budget.rounds_left(cost_of(terms, rounds))) < rounds:
        spent = budget.spent()
        raise BudgetExceededError(
            f"{budget.path}: epsilon {spent.epsilon:.6g} of {spent.limit:g} at delta {spent.delta:g} is spent; the "
            f"study may have {counted(rounds, 'round')}, and there is room for {left}: do not take part, or ask for "
            "more noise",
            epsilon=spent.epsilon,
            limit=spent.limit,
            rounds=spent.rounds,
        )


def check_cells(method: str, cells: Mapping[str, Cells], max_records: int) -> None:
    """Raises ParameterError for arrays that can have no noise: of yes and no, of floats, or of very large numbers."""
    for part, one in cells.items():
        why = ""
        if isinstance(one, Presence):
            why = "is of yes and no, to which nothing can be added"
        elif not isinstance(one, Whole):
            why = "is of floats, whose rounding no noise covers: give the columns decimals"
        elif most_units(one, max_records) > MOST_AT_A_SITE:
            why = "may be above 2^56 at one site: lower max_records, or narrow the ranges of the columns"
        if why:
            raise ParameterError(f"noise: {method}'s sum {part!r} {why}; or leave the method out, or [noise]")


@lru_cache(maxsize=64)
def multiplier(terms: NoiseTerms) -> Fraction:
    """z, to four digits and rounded up.  Raises ParameterError when no noise keeps the promise."""
    found = _accounting().gaussian_multiplier(terms.epsilon, terms.delta) * _MARGIN
    if math.isinf(found):
        raise ParameterError(
            f"noise: none keeps epsilon {terms.epsilon:g} at delta {terms.delta:g}: raise one of the two"
        )
    return Fraction(_DIGITS.create_decimal(Decimal(found)))


def _accounting() -> ModuleType:
    """Raises ParameterError, which says what to install, without dp-accounting."""
    try:
        from secagg.privacy import accounting
    except ModuleNotFoundError as missing:
        raise ParameterError(f"noise: {missing}") from None
    return accounting


def _groups(cells: CellsByMethod) -> dict[tuple[str, str], dict[str, Whole]]:
    """By method and group, the arrays by their names; an array without a group is one by itself."""
    found: dict[tuple[str, str], dict[str, Whole]] = {}
    for method, parts in cells.items():
        for part, one in parts.items():
            if isinstance(one, Whole):
                found.setdefault((method, one.group or f"of {part}"), {})[f"{method}/{part}"] = one
    return found


def _is_of_records(group: tuple[str, str]) -> bool:
    return group[0] == COUNTS or group[1] == RECORD_COUNTS


def _least_noise(arrays: list[Whole], honest: int, goal: Fraction) -> NoisySum:
    """The sum with the least noise that has a squared multiplier of ``goal``.  Raises ParameterError."""
    from secagg.privacy.noisy_sum import NoisySum
    from secagg.privacy.parameters import NoiseKind

    sizes = [prod(one.shape) for one in arrays]
    touched = [
        max(1, size if one.touched is None else min(one.touched, size)) for one, size in zip(arrays, sizes, strict=True)
    ]
    squared = max(count * one.per_record**2 for count, one in zip(touched, arrays, strict=True))
    l1 = max(count * one.per_record for count, one in zip(touched, arrays, strict=True))
    # By the two lines of Skellam noise: no less than Gaussian noise needs, and no more than 3 l1 / 2 on top of it.
    low = math.ceil(goal * squared / honest) - 1
    high = math.ceil(goal * (squared + Fraction(3 * l1, 2)) / honest) + 1
    if high > MOST_VARIANCE:
        raise ParameterError(
            f"noise: it would need a variance of {float(high):.3g}, and at most 2^62 is possible: raise epsilon, or "
            "narrow the ranges of the columns"
        )

    def of(variance: int) -> NoisySum:
        return NoisySum(
            noise=NoiseKind.SKELLAM,
            honest=honest,
            variance=variance,
            dimension=max(1, sum(sizes)),
            squared_l2=squared,
            l1=l1,
        )

    accounting = _accounting()
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accounting.equivalent_multiplier(of(middle)) ** 2 >= goal else (middle, high)
    return of(high)
