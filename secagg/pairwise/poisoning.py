"""How many groups a robust mean needs: the probability that attackers are in half of the groups or more.

    groups = groups_for(Demand.of_rates(1000, gamma=0.02, delta=0.02), attackers=10)
    found = Poisoning(Grouping(demand, groups).choose(), attackers=10)
    print(found.failure_log2)

A robust mean of the groups' means fails when half of the groups that are left, or more, hold an attacker: a client
that sends any vector it likes.  Attackers are chosen before the groups are drawn.  Each group is worth Y = 2 when it
holds an attacker, 1 when it holds none and loses so many members that it is left out, and 0 otherwise; the mean fails
only when the sum of all Y is G or more.  (A group that holds an attacker and is left out counts 2 all the same, which
is the worse case.)

The draw puts n clients, each of which is sound (0), lost (1) or an attacker (2), into the places of the groups by a
random permutation.  Values that are permuted at random are negatively associated, and so are functions that do not fall
in any of their arguments, of places that no two of them share (Joag-Dev and Proschan, "Negative association of random
variables", Annals of Statistics 11, 1983, theorem 2.11 and property 6).  Y is such a function.  The exponential moment
of a sum of negatively associated variables is at most the product of theirs, so that Chernoff's bound holds as if the
groups were independent (Dubhashi and Ranjan, "Balls and bins: a study in negative dependence", Random Structures and
Algorithms 13, 1998):

    P[sum of Y >= G]  <=  exp(-x G) * product over groups of E[exp(x Y)]     for every x > 0.

The moments are exact, from hypergeometric probabilities; x is found numerically, and any x gives a true bound.  Without
losses this is exp(-G KL(1/2 || p)), p the probability that a group holds an attacker.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from secagg.errors import ParameterError
from secagg.pairwise import explanation
from secagg.pairwise.grouping import UNGROUPED, GroupBounds, Grouping
from secagg.pairwise.parameters import Demand
from secagg.pairwise.tails import log2_at_least
from secagg.pairwise.values import is_auto, whole
from secagg.wording import counted

DEFAULT_ROBUST_BITS: Final = 20
"""A robust mean fails in fewer than one of a million rounds."""
_FEWEST_GROUPS: Final = 3
"""Of two groups, one is half."""
_SCANNED_ONE_BY_ONE: Final = 1024
_LARGEST_EXPONENT: Final = 64.0
_STEPS: Final = 80


@dataclass(frozen=True)
class Poisoning:
    """Attackers in a round with groups.

    Attributes:
        bounds: the round's groups, and what is asked of the cohort.
        attackers: f, the clients that may send anything.

    Raises ParameterError for fewer attackers than one, or more than there are clients.
    """

    bounds: GroupBounds
    attackers: int

    def __post_init__(self) -> None:
        whole("attackers", self.attackers, 1, self.bounds.demand.clients)

    @cached_property
    def _shares(self) -> tuple[tuple[int, float, float], ...]:
        """For the groups of each size: how many, P[Y = 2] and P[Y = 1]."""
        grouping = self.bounds.grouping
        clients, groups = grouping.demand.clients, grouping.groups
        (smallest, largest), larger = grouping.sizes, clients % groups
        sound = clients - self.attackers
        lost = min(grouping.demand.dropouts, sound)
        found = []
        for size, count in ((largest, larger), (smallest, groups - larger)):
            hit = 2.0 ** log2_at_least(clients, self.attackers, size, 1)
            # Of a group without attackers, all members are drawn from the others.
            fatal = size - self.bounds.min_group + 1
            left_out = 2.0 ** log2_at_least(sound, lost, size, fatal) if size <= sound else 0.0
            found.append((count, hit, (1.0 - hit) * left_out))
        return tuple(one for one in found if one[0])

    @property
    def expected_hit(self) -> float:
        """How many groups hold an attacker on average."""
        return sum(count * hit for count, hit, _ in self._shares)

    @property
    def is_impossible(self) -> bool:
        """Whether no draw at all puts attackers into half of the groups that are left."""
        grouping = self.bounds.grouping
        fatal = grouping.sizes[0] - self.bounds.min_group + 1
        left_out = grouping.demand.dropouts // fatal
        return 2 * self.attackers + left_out < grouping.groups

    @cached_property
    def failure_log2(self) -> float:
        """log2 of a bound on the probability that a robust mean fails; -inf where it cannot, 0.0 without a bound."""
        if self.is_impossible:
            return -math.inf
        low, high = 0.0, _LARGEST_EXPONENT
        for _ in range(_STEPS):  # the logarithm of the bound is convex in the exponent
            third = (high - low) / 3
            if self._log_bound(low + third) <= self._log_bound(high - third):
                high -= third
            else:
                low += third
        return min(self._log_bound((low + high) / 2), 0.0) / math.log(2)

    def _log_bound(self, exponent: float) -> float:
        """The natural logarithm of exp(-x G) times the product of E[exp(x Y)]."""
        total = 0.0
        for count, hit, left_out in self._shares:
            sound = max(0.0, 1.0 - hit - left_out)
            # E[exp(x (Y - 1))], of terms that do not overflow.
            total += count * math.log(hit * math.exp(exponent) + left_out + sound * math.exp(-exponent))
        return total

    def explain(self) -> tuple[str, ...]:
        """Sentences for a person."""
        return explanation.of_attackers(self)


def groups_for(
    demand: Demand,
    attackers: int,
    *,
    robust_bits: int = DEFAULT_ROBUST_BITS,
    threshold: int | None = None,
    min_group: int | None = None,
) -> int:
    """The smallest number of groups whose robust mean fails with less than 2^-robust_bits.

    Fewer groups are larger, and hide each client among more others.  Of cohorts that can be cut into more than 1,024
    groups, one number is looked at for each size of the smallest group.

    Args:
        demand: what is asked of the cohort.
        attackers: f, the clients that may send anything; they may be among the colluders or not.
        robust_bits: a positive number.
        threshold, min_group: as for ``Grouping.choose``.

    Raises ParameterError when no number of groups does it; the message says what the best one reaches, and how many
    attackers one can stand.
    """
    whole("attackers", attackers, 1, demand.clients)
    whole("robust_bits", robust_bits, 1)
    asked = _Asked(demand, threshold, min_group)
    best: Poisoning | None = None
    for found in asked.poisonings(attackers):
        if found.failure_log2 < -robust_bits:
            return found.bounds.grouping.groups
        if best is None or found.failure_log2 < best.failure_log2:
            best = found
    raise ParameterError(asked.no_number(attackers, robust_bits, best))


def groups_asked(
    demand: Demand,
    groups: int | Literal["auto"],
    attackers: int | None,
    robust_bits: int,
    *,
    threshold: int | None = None,
    min_group: int | None = None,
) -> int:
    """The number of groups that is asked for: found for ``"auto"``, and checked where attackers are given with it.

    Raises ParameterError.
    """
    whole("robust_bits", robust_bits, 1)
    if is_auto(groups):
        if attackers is None:
            raise ParameterError(
                "groups = 'auto': give attackers, how many clients may send anything; a number of groups follows from "
                "them"
            )
        return groups_for(demand, attackers, robust_bits=robust_bits, threshold=threshold, min_group=min_group)
    number = whole("groups", groups, 1)
    if attackers is None:
        return number
    whole("attackers", attackers, 1, demand.clients)
    if number == UNGROUPED:
        raise ParameterError(
            f"attackers = {attackers}: one sum over everybody withstands none; ask for groups = 'auto', or leave "
            "attackers out"
        )
    bounds = Grouping(demand, number).choose(threshold=threshold, min_group=min_group)
    found = Poisoning(bounds, attackers).failure_log2
    if found >= -robust_bits:
        raise ParameterError(
            f"groups = {number}: a robust mean of so many, with {counted(attackers, 'attacker')}, fails with "
            f"probability up to 2^{found:.1f}, and 2^-{robust_bits} is asked for (robust_bits); ask for more groups, "
            "or for groups = 'auto'"
        )
    return number


@dataclass(frozen=True)
class _Asked:
    """What is asked of every number of groups that is looked at."""

    demand: Demand
    threshold: int | None
    min_group: int | None

    @cached_property
    def candidates(self) -> tuple[GroupBounds, ...]:
        """The numbers of groups that keep the rules of privacy, with what they need; ascending."""
        most = Grouping(self.demand, 2).most_groups() if self.demand.clients >= 2 * _FEWEST_GROUPS else 1
        clients, numbers = self.demand.clients, range(_FEWEST_GROUPS, most + 1)
        looked_at: Iterable[int] = numbers
        if most > _SCANNED_ONE_BY_ONE:
            looked_at = sorted({-(-clients // (clients // groups + 1)) for groups in numbers} & set(numbers))
        found = []
        for groups in looked_at:
            grouping = Grouping(self.demand, groups)
            if grouping.fits and self._has_room(grouping):
                found.append(grouping.choose(threshold=self.threshold, min_group=self.min_group))
        return tuple(found)

    def _has_room(self, grouping: Grouping) -> bool:
        """Whether the threshold and the min_group that are asked for are allowed in groups of this size."""
        try:
            grouping.choose(threshold=self.threshold, min_group=self.min_group).check()
        except ParameterError:
            return False
        return True

    def poisonings(self, attackers: int) -> Iterable[Poisoning]:
        """With so many attackers."""
        return (Poisoning(bounds, attackers) for bounds in self.candidates)

    def no_number(self, attackers: int, bits: int, best: Poisoning | None) -> str:
        """Why no number of groups will do, and what would."""
        demand = self.demand
        if best is None:
            return (
                f"attackers = {attackers}: a robust mean needs {_FEWEST_GROUPS} groups or more, and "
                f"{counted(demand.clients, 'client')} with {counted(demand.colluders, 'colluder')} cannot be "
                "drawn into so many; invite more clients, or lower gamma"
            )
        most_attackers = bisect_left(range(1, attackers), True, key=lambda fewer: not self._withstands(fewer, bits))
        most = f"ask for at most {most_attackers} attackers" if most_attackers else "invite more clients"
        looser = math.ceil(-best.failure_log2) - 1
        lower = f", lower robust_bits to at most {looser}" if looser >= 1 else ""
        grouping = best.bounds.grouping
        reached = (
            f"the best, {grouping.groups} groups of {grouping.sizes[0]} or more, keeps it at 2^{best.failure_log2:.1f}"
            if best.failure_log2 < 0
            else "none bounds it at all"
        )
        return (
            f"attackers = {attackers}: with {counted(demand.clients, 'client')}, no number of groups keeps the "
            f"probability that a robust mean fails below 2^-{bits}; {reached}; {most}{lower}, or lower gamma, which "
            "allows smaller groups"
        )

    def _withstands(self, attackers: int, bits: int) -> bool:
        return any(found.failure_log2 < -bits for found in self.poisonings(attackers))
