"""Clients that stand out over rounds are no longer invited: an option that a server's operator asks for.

Nothing here proves that a client is malicious; see ``LeaveOut`` for what the choice costs honest ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import final

import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.robust.distances import ClientDistance, ClientDistances
from secagg.wording import counted


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """Which clients are no longer invited.

    A client is left out when its estimated update is both ``farther`` times as far from the others' as the middle
    client's, and ``level`` deviations farther (``ClientDistance``).  Honest clients with unusual data are left out as
    well, now and then; lower numbers find weaker attacks, and leave out more of them.  A malicious client can also make
    an honest one look bad, by attacking in that one's groups alone.

    Attributes:
        at_most: how many clients are left out in all, at least 1.  Choose the number of malicious clients that you
            expect: it also bounds how many honest ones are wronged.
        level: modified z-score; above 0.
        farther: in units of the middle client's distance; at least 1.
        already: the names of clients that are left out from the start, such as an earlier run's.

    Raises ParameterError for a number out of its range.
    """

    at_most: int
    level: float = 2.5
    farther: float = 1.75
    already: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if type(self.at_most) is not int or self.at_most < 1:
            raise ParameterError(f"at_most is {self.at_most!r}: it must be a whole number from 1 up")
        if not (math.isfinite(self.level) and self.level > 0):
            raise ParameterError(f"level is {self.level!r}: it must be finite and above 0")
        if not (math.isfinite(self.farther) and self.farther >= 1):
            raise ParameterError(f"farther is {self.farther!r}: it must be finite and at least 1")
        if isinstance(self.already, str) or not all(isinstance(name, str) for name in self.already):
            raise ParameterError(f"already is {self.already!r}: it must hold the names of clients, which are strings")
        if len(set(self.already)) > self.at_most:
            raise ParameterError(
                f"already names {counted(len(set(self.already)), 'client')}, "
                f"and at_most is {self.at_most}: raise at_most"
            )


@final
class Exclusions:
    """Who is left out, from the group means of a cohort's rounds.

    Attributes:
        distances: of the clients, for a person to look at.
    """

    __slots__ = ("_left_out", "_rule", "distances")

    def __init__(self, rule: LeaveOut, *, seed: int | None = None) -> None:
        """``seed``: of the sketch of long updates, for tests; by default a secret draw."""
        self.distances = ClientDistances(seed=seed)
        self._rule = rule
        self._left_out = dict.fromkeys(rule.already, math.inf)

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are left out, the one that stood out the most first."""
        return tuple(sorted(self._left_out, key=lambda name: -self._left_out[name]))

    def add(
        self, means: npt.ArrayLike, members: Sequence[Sequence[int]], names: Iterable[str] | None = None
    ) -> tuple[ClientDistance, ...]:
        """Take in a round, as ``ClientDistances.add`` does; returns those that are left out from now on.

        Raises InputError as that does.
        """
        self.distances.add(means, members, names)
        room = self._rule.at_most - len(self._left_out)
        found = [one for one in self.distances.ranking(without=self._left_out) if self._stands_out(one)][:room]
        self._left_out |= {one.client: one.distance for one in found}
        return tuple(found)

    def staying(self, names: Iterable[str], fits: Callable[[int], bool]) -> list[str]:
        """Whom to invite of these clients, in the order given: those that are not left out.

        Args:
            names: of the clients that would be invited.
            fits: whether a round of so many clients keeps to what is asked of it, such as its groups' size and the
                fewest survivors.  Where it does not, those that stood out the least are invited all the same, one after
                another; in the end everybody is.
        """
        given = list(names)
        there = set(given)
        out = [name for name in self.names if name in there]
        while out and not fits(len(given) - len(out)):
            out.pop()
        return [name for name in given if name not in out]

    def _stands_out(self, one: ClientDistance) -> bool:
        return one.distance > self._rule.farther and one.excess > self._rule.level
