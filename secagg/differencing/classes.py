"""Members in classes of equal history, and what a further sum would make of the classes.

Sums over sets S1, S2, ... of members are public, each over the same values of the members.  Members that were in the
same sets form a *class*.  Every sum is then a sum of whole classes, so that all sums together are a function of the
classes' totals: whatever anybody works out from them, by a weighted combination or otherwise, is worked out from totals
over whole classes.  When each class has T members or more, nothing is about fewer than T.

Members that were in no sum belong to no class: nothing about them is public.  They may wait in any number, but those
that come into a sum together are a class from then on, of T members or more.  Only members whose values are in a sum
that may be public count, not those that were invited and lost.

Classes of T members are sufficient and not necessary: the sums over {1, 2} and {2, 3} have three classes of one member,
and no combination of them is about a single one.  A third sum over {1, 2, 3} tells of 3, and of 1.  So a class that is
too small is refused even where nothing can be taken off yet.  For the same reason a set that splits no class adds
nothing where all classes are large enough, but may complete a combination where one is too small already (because a
smaller T was allowed before); of the latter, only a set that was summed before is let through.

Members of a class that pool their own values take them off its total.  With A of them, T >= A + 2 leaves two honest
members or more in every class.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Self, final

from secagg.errors import ParameterError
from secagg.wording import counted

_LISTED: Final = 8
"""Members that a refusal names."""


def least_difference(colluders: int) -> int:
    """The smallest T that leaves two honest members in every class when ``colluders`` members pool their values."""
    return colluders + 2


def digest_of(members: Iterable[str]) -> bytes:
    """What a set of members is recognised by: 32 bytes, whatever their order."""
    digest = hashlib.sha256()
    for member in sorted(set(members)):
        name = member.encode()
        digest.update(len(name).to_bytes(8, "big") + name)
    return digest.digest()


@final
class Classes:
    """The members of all sums so far, in classes of equal history.

    A further set of n members is checked, or added, in O(n) steps, however many sums there were before.
    """

    def __init__(self, class_of: Mapping[str, int] | None = None, sums: Iterable[bytes] = ()) -> None:
        """As they were stored.

        Args:
            class_of: the class of each member that was in any sum, by a number of its own.
            sums: ``digest_of`` each set that was summed.
        """
        self._members: dict[int, set[str]] = defaultdict(set)
        self._class_of: dict[str, int] = {}
        for member, number in (class_of or {}).items():
            self._put(member, number)
        self._sums = set(sums)
        self._next = max(self._members, default=-1) + 1

    @classmethod
    def after(cls, sums: Iterable[Iterable[str]]) -> Self:
        """The classes that these sums leave, each given by its members."""
        classes = cls()
        for members in sums:
            classes.add([members])
        return classes

    def of(self, member: str) -> int | None:
        """The number of a member's class; None when it was in no sum."""
        return self._class_of.get(member)

    def members(self) -> tuple[tuple[str, ...], ...]:
        """The members of each class, ascending, the classes in the order of their first members."""
        return tuple(sorted(tuple(sorted(members)) for members in self._members.values()))

    def news(self, sums: Iterable[Iterable[str]]) -> list[frozenset[str]]:
        """Those sets that were not summed before, without empty ones."""
        sets = [frozenset(members) for members in sums]
        return [members for members in sets if members and digest_of(members) not in self._sums]

    def smallest_with(self, sums: Iterable[Iterable[str]]) -> tuple[str, ...]:
        """The smallest class once these sets are summed as well, ascending; the first of several; empty without any."""
        parts = self._parts(self.news(sums))
        taken: dict[int, set[str]] = defaultdict(set)
        for (number, _), members in parts.items():
            if number is not None:
                taken[number].update(members)
        found: list[Collection[str]] = list(parts.values())
        found += [self._members[number] - members for number, members in taken.items()]
        found += [members for number, members in self._members.items() if number not in taken]
        least = min((len(members) for members in found if members), default=0)
        smallest = [members for members in found if least and len(members) == least]
        return tuple(sorted(min(smallest, key=min, default=())))  # classes have no member in common

    def why_not(self, sums: Iterable[Iterable[str]], least: int, noun: str = "member") -> str:
        """Why these sets may not be summed as well; empty when they may.

        ``sums`` are those of one round, such as one set for each group, and ``least`` is T.  Sets that were summed
        before are always allowed.  ``noun`` is what the message calls a member.  Raises ParameterError for a ``least``
        below 1.
        """
        if least < 1:
            raise ParameterError(f"min_difference is {least}: a class has 1 member at least; give a number from 1 on")
        news = self.news(sums)
        few = self.smallest_with(news) if news else ()
        if not news or len(few) >= least:
            return ""
        members = frozenset[str]().union(*news)
        names = ", ".join(few[:_LISTED]) + (f" and {len(few) - _LISTED} more" if len(few) > _LISTED else "")
        return (
            f"sums over this set of {counted(len(members), noun)} and over earlier ones could be combined to tell of "
            f"{names} alone: at least {least} must always be in and out together (min_difference)"
        )

    def add(self, sums: Iterable[Iterable[str]]) -> dict[str, int]:
        """Take the sets of one round as summed; returns the members whose class has a new number, with the number.

        Nothing is checked: see ``why_not``.
        """
        news = self.news(sums)
        self._sums.update(map(digest_of, news))
        changed: dict[str, int] = {}
        for (number, _), members in self._parts(news).items():
            if number is not None and len(members) == len(self._members[number]):
                continue  # nobody else is left in the class: its number stays
            for member in members:
                self._put(member, self._next)
                changed[member] = self._next
            self._next += 1
        return changed

    def _parts(self, news: Sequence[frozenset[str]]) -> dict[tuple[int | None, tuple[int, ...]], list[str]]:
        """The members of new sets, by their class so far and the new sets that they are in."""
        positions: dict[str, list[int]] = defaultdict(list)
        for position, members in enumerate(news):
            for member in members:
                positions[member].append(position)
        parts: dict[tuple[int | None, tuple[int, ...]], list[str]] = defaultdict(list)
        for member, where in positions.items():
            parts[self._class_of.get(member), tuple(where)].append(member)
        return parts

    def _put(self, member: str, number: int) -> None:
        if (former := self._class_of.get(member)) is not None:
            self._members[former].discard(member)
            if not self._members[former]:
                del self._members[former]
        self._class_of[member] = number
        self._members[number].add(member)
