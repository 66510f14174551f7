"""A cohort that is drawn into groups: what each group then needs, and how likely it is that this does not hold.

    grouping = Grouping(Demand.of_rates(1000, gamma=0.05, delta=0.1), groups=20)
    bounds = grouping.choose()
    bounds.check()
    print("\\n".join(bounds.explain()))

Every group is a round on a complete graph of its own members, under one roster.  Nobody chooses who is in which group:
the ring that the roster's digest draws is cut into G pieces (R-GROUP-2).  So how many of a group's members collude is
hypergeometric, and all rules of a group count on its largest likely number, A_g.

A group that loses too many members is left out, and the round goes on without it.  For this reason no rule asks that
all groups complete; ``GroupBounds`` says how many are left out at most on average.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

from secagg.errors import ParameterError
from secagg.pairwise import explanation
from secagg.pairwise.parameters import LOWEST_THRESHOLD, Demand
from secagg.pairwise.tails import log2_at_least, quantile
from secagg.pairwise.transcript import EXTENDED_VERSION
from secagg.pairwise.values import FEWEST_CLIENTS, whole
from secagg.wording import counted

UNGROUPED: Final = 1
"""The number of groups of a cohort that is not drawn into any."""
LEAST_VERSION: Final = EXTENDED_VERSION
"""The first version of the wire that knows groups."""


def group_sizes(clients: int, groups: int) -> tuple[int, int]:
    """How many members the smallest and the largest group have: floor(n / G) and ceil(n / G)."""
    return clients // groups, -(-clients // groups)


def check_groups(clients: int, groups: int) -> None:
    """R-GROUP-1.  Raises ParameterError unless every one of 2 groups or more has at least 3 clients."""
    most = clients // FEWEST_CLIENTS
    if not 1 < groups <= most:
        allowed = f"from 2 to {most}" if most > 1 else f"not possible with fewer than {2 * FEWEST_CLIENTS} clients"
        raise ParameterError(
            f"groups = {groups}: with {counted(clients, 'client')} it must be {allowed}, so that every group has at "
            f"least {FEWEST_CLIENTS}"
        )


def check_group_degree(clients: int, neighbours: int, groups: int) -> None:
    """R-GROUP-1.  Raises ParameterError unless k is what makes every group a complete graph."""
    check_groups(clients, groups)
    needed = group_sizes(clients, groups)[1] - 1
    if neighbours != needed:
        raise ParameterError(
            f"neighbours = {neighbours}: in groups of up to {counted(needed + 1, 'client')} everybody has up to "
            f"{counted(needed, 'neighbour')}; leave it 'auto'"
        )


@dataclass(frozen=True)
class Grouping:
    """A demand that is spread over groups.

    Attributes:
        demand: what is asked of the whole cohort: n, A, D, the threat model and the bits.  Its degree, its threshold
            and its fewest survivors are not looked at.
        groups: G, 2 or more.

    Raises ParameterError when there are too many groups for the cohort.
    """

    demand: Demand
    groups: int

    def __post_init__(self) -> None:
        check_groups(self.demand.clients, whole("groups", self.groups))

    @property
    def sizes(self) -> tuple[int, int]:
        """How many members the smallest and the largest group have."""
        return group_sizes(self.demand.clients, self.groups)

    @cached_property
    def colluders(self) -> int:
        """A_g, the most colluders in any group, but for a chance below 2^-(s + 1) over all groups.

        It is at most the number of colluders, and at most a group's size.
        """
        clients, largest = self.demand.clients, self.sizes[1]
        bound = -(self.demand.privacy_bits + 1) - math.log2(self.groups)
        return quantile(clients, min(self.demand.colluders, clients), largest, bound)

    @cached_property
    def of_group(self) -> Demand:
        """What the largest group asks for, as a round of its own on the complete graph."""
        return replace(
            self.demand,
            clients=self.sizes[1],
            colluders=self.colluders,
            dropouts=0,
            neighbours="complete",
            threshold=None,
            min_survivors=None,
        )

    @property
    def least_threshold(self) -> int:
        """The smallest threshold that privacy allows in a group."""
        return self.of_group.thresholds(self.sizes[1] - 1)[0]

    @property
    def fits(self) -> bool:
        """Whether groups of this size keep the rules with any threshold."""
        return self.of_group.fewest_survivors(self.least_threshold) <= self.sizes[0]

    def choose(
        self, *, threshold: int | None = None, min_group: int | None = None, min_survivors: int | None = None
    ) -> GroupBounds:
        """Threshold, quorum, min_group and fewest survivors; where they are not asked for, the smallest allowed.

        Each share more that a secret takes is one more survivor needed, and a group that has too few is left out.

        Raises ParameterError when groups of this size cannot keep the bounds; the message says how many could.
        """
        if not self.fits:
            raise ParameterError(self._too_small())
        threshold = self.least_threshold if threshold is None else threshold
        whole("threshold", threshold, LOWEST_THRESHOLD, self.sizes[0] - 1)
        quorum = self.of_group.quorum
        least = self.of_group.fewest_survivors(threshold, quorum)
        min_group = least if min_group is None else whole("min_group", min_group)
        min_survivors = min_group if min_survivors is None else min_survivors
        return self.assess(threshold, quorum=quorum, min_group=min_group, min_survivors=min_survivors)

    def assess(self, threshold: int, *, quorum: int, min_group: int, min_survivors: int) -> GroupBounds:
        """The bounds that these numbers reach, good or bad."""
        return GroupBounds(
            grouping=self, threshold=threshold, quorum=quorum, min_group=min_group, min_survivors=min_survivors
        )

    def most_groups(self) -> int:
        """The largest number of groups that keeps the rules; 1 when no number does."""
        numbers = range(2, self.demand.clients // FEWEST_CLIENTS + 1)
        # Smaller groups keep fewer bounds, but for the rounding of their sizes: what is found is looked at once more.
        found = bisect_left(numbers, True, key=lambda groups: not Grouping(self.demand, groups).fits)
        return numbers[found - 1] if found else UNGROUPED

    def _too_small(self) -> str:
        smallest, largest = self.sizes
        needed = self.of_group.fewest_survivors(self.least_threshold)
        most = self.most_groups()
        remedy = f"take at most {most} groups" if most > 1 else "take no groups, or lower gamma"
        return (
            f"groups = {self.groups}: a group of {counted(largest, 'client')} may hold {self.colluders} of the "
            f"{self.demand.colluders} colluders, and its sum then needs {needed} members, but there are groups of "
            f"{smallest}; {remedy}"
        )


@dataclass(frozen=True, kw_only=True)
class GroupBounds:
    """What a grouping comes to: the numbers of a round with groups, and how likely they are not to hold at most.

    The bounds are log2 of a probability, -inf for what cannot happen, 0.0 where there is no bound.

    Attributes:
        grouping: what was asked for.
        threshold: t, the shares that reconstruct a secret; t - 1 do not.
        quorum: Q, the members of its group whose confirmations a client asks for; 0 without CONFIRM.
        min_group: the fewest vectors in a group's sum.
        min_survivors: the fewest clients of the cohort with which the round goes on.
    """

    grouping: Grouping
    threshold: int
    quorum: int
    min_group: int
    min_survivors: int

    @property
    def demand(self) -> Demand:
        """What was asked of the whole cohort."""
        return self.grouping.demand

    @property
    def neighbours(self) -> int:
        """k, of a member of the largest group."""
        return self.grouping.sizes[1] - 1

    @property
    def complete(self) -> bool:
        """Whether everyone in the cohort is everyone's neighbour: with groups, nobody is."""
        return False

    @property
    def most_colluding(self) -> int:
        """The most colluders in a group with which secrets stay shut, quorums meet, and two members are honest."""
        largest, model = self.grouping.sizes[1], self.demand.threat_model
        withstood = 2 * self.threshold - largest if model.adversarial_drops else self.threshold - 1
        if model.confirms:
            withstood = min(withstood, 2 * self.quorum - largest - 1)
        return min(withstood, self.min_group - 2)

    @cached_property
    def privacy_log2(self) -> float:
        """Some group has more colluders than these numbers withstand."""
        draw = self.demand.clients, self.demand.colluders, self.grouping.sizes[1]
        return min(math.log2(self.grouping.groups) + log2_at_least(*draw, self.most_colluding + 1), 0.0)

    @property
    def connectivity_log2(self) -> float:
        """The graph of a group falls apart: a complete one never does."""
        return -math.inf

    @cached_property
    def expected_left_out(self) -> float:
        """How many groups are left out on average, at most, when D clients are lost."""
        (smallest, largest), groups = self.grouping.sizes, self.grouping.groups
        larger = self.demand.clients % groups
        return sum(
            count * 2 ** log2_at_least(self.demand.clients, self.demand.dropouts, size, size - self.min_group + 1)
            for size, count in ((largest, larger), (smallest, groups - larger))
            if count
        )

    @property
    def correctness_log2(self) -> float:
        """Some group is left out when D clients are lost."""
        return min(math.log2(self.expected_left_out), 0.0) if self.expected_left_out else -math.inf

    def reach(self) -> bool:
        """Whether privacy fails with less than 2^-sigma; groups that are left out are no failure."""
        return self.privacy_log2 < -(self.demand.privacy_bits + 1)

    def check(self) -> Self:
        """R-GROUP-1, R-GROUP-3: these numbers keep the rules of a round with groups.

        Raises ParameterError, which names the parameter, its value, what is allowed, and what to change.
        """
        self.demand.check_losses()
        self._check_threshold()
        self._check_quorum()
        self._check_sums()
        return self

    def _check_threshold(self) -> None:
        least, most = max(self.grouping.least_threshold, LOWEST_THRESHOLD), self.grouping.sizes[0] - 1
        if least > most:
            raise ParameterError(self.grouping._too_small())
        if not least <= self.threshold <= most:
            remedy = "raise it: colluders could open secrets" if self.threshold < least else "lower it"
            raise ParameterError(
                f"threshold = {self.threshold}: in groups of {self._sizes} it must lie in {least} .. {most}; {remedy}"
            )

    def _check_quorum(self) -> None:
        smallest, largest = self.grouping.sizes
        most_split = largest + self.grouping.colluders
        if self.demand.threat_model.confirms and not (
            self.grouping.of_group.quorums_meet(self.quorum) and self.quorum <= smallest
        ):
            raise ParameterError(
                f"quorum {self.quorum}: in groups of {self._sizes}, up to {self.grouping.colluders} of them "
                f"colluding, it must exceed {most_split / 2:g} and be at most {smallest}; take fewer groups"
            )

    def _check_sums(self) -> None:
        colluders, smallest = self.grouping.colluders, self.grouping.sizes[0]
        least = self.grouping.of_group.fewest_survivors(self.threshold, self.quorum)
        if not least <= self.min_group <= smallest:
            raise ParameterError(
                f"min_group = {self.min_group}: must be at least {least} (threshold + 1 = {self.threshold + 1}, most "
                f"colluders in a group + 2 = {colluders + 2}, quorum = {self.quorum}) and at most {smallest}, the size "
                "of the smallest group"
            )
        remain = self.demand.clients - self.demand.dropouts
        if not self.min_group <= self.min_survivors <= remain:
            raise ParameterError(
                f"min_survivors = {self.min_survivors}: must be at least min_group = {self.min_group} and at most "
                f"clients - dropouts = {remain}"
            )

    @property
    def _sizes(self) -> str:
        smallest, largest = self.grouping.sizes
        most = counted(largest, "client")
        return most if smallest == largest else f"{smallest} or {most}"

    def explain(self) -> tuple[str, ...]:
        """Sentences for a person: the groups and their numbers, the bounds they reach and what those rest on."""
        return explanation.of_groups(self)
