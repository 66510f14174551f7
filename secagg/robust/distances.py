"""How far each client's usual update lies from the others', worked out from the group means of several rounds.

A round's poisoned groups may be the majority although few clients are malicious: of groups of three, a fifth of the
clients spoils half.  No comparison of groups sees through that.  Over rounds with newly drawn groups a comparison of
*clients* does, for the honest ones remain the majority.

Each group mean is the mean of its members' updates.  With several rounds there are more group means than clients, so
that least squares gives the client updates that explain them best; those who happened to share a group with an attacker
are thereby told apart from it.  What is estimated is what a client sends on average, relative to everybody's average.
Finding malicious members from overlapping groups is group testing: Xhemrishi, Ostman, Wachter-Zeh and Graell i Amat,
"FedGT: Identification of Malicious Clients in Federated Learning With Secure Aggregation" (IEEE Transactions on
Information Forensics and Security, 2025), who draw the groups from a code; here public randomness draws them.

Long vectors are kept as a count sketch (Charikar, Chen and Farach-Colton, "Finding Frequent Items in Data Streams",
ICALP 2002): each coordinate is added to one of 1,024 buckets with a random sign, which keeps distances to a few
percent.  The draw is secret: whoever knows it can send updates that vanish in it.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError
from secagg.robust.blocks import Floats, checked_means
from secagg.robust.rules import geometric_median
from secagg.wording import counted

_SKETCH: Final = 1024
"""Numbers that are kept of a group's mean; a shorter mean is kept as it is."""
_ROUNDS_PER_MEMBER: Final = 4
"""For each member of a group, so many of the last rounds count: there are then four means for each client."""
_FEWEST_MEANS: Final = 1.2
"""For each client: with fewer, several answers explain the means."""
_FEWEST_ROUNDS: Final = 4
"""Of a client that is compared: one round says little, and its estimate is then near 0."""
_RIDGE: Final = 0.1
"""Of the mean diagonal of the normal equations: what keeps clients of few rounds from taking extreme values."""
_SHORT_SHARE: Final = 0.2
_MOST: Final = 10.0
"""Length of a mean in units of its round's short ones: longer ones are shortened, so that no round outweighs others."""
_NORMAL: Final = 1.4826
"""A normal distribution's standard deviation, in units of its median absolute deviation."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClientDistance:
    """How far a client's usual update lies from the others'.

    Attributes:
        client: by the name that the rounds were given.
        rounds: in how many of the rounds that count it was in a sum.
        distance: of the client's estimated update to the geometric median of all clients', in units of the middle
            client's distance; infinite where that is 0 and this is not.
        excess: by how many standard deviations the distance is above the middle one: Iglewicz and Hoaglin's modified
            z-score ("How to Detect and Handle Outliers", 1993), whose deviation is 1.4826 times the median absolute
            one, so that a minority of malicious clients does not widen it much.  Infinite where that is 0.
    """

    client: str
    rounds: int
    distance: float
    excess: float


@dataclass(frozen=True, slots=True, eq=False)
class _Round:
    """A round's groups, with names of their members, and their means: centred, in units of the round's short ones."""

    members: tuple[tuple[str, ...], ...]
    means: Floats


@final
class ClientDistances:
    """The distances of a cohort's clients, from the group means of its last rounds.

    It keeps at most 1,024 numbers of each group's mean, for four rounds per member of a group: about 32 KB a client.
    The estimates are only about as good as the assumption behind them, that a client sends much the same in all of
    these rounds, relative to the others.
    """

    __slots__ = ("_columns", "_history", "_seed")

    def __init__(self, *, seed: int | None = None) -> None:
        """``seed``: of the sketch, for tests; by default a secret draw."""
        self._seed = secrets.randbits(128) if seed is None else seed
        self._history: deque[_Round] = deque()
        self._columns = 0

    @property
    def rounds(self) -> int:
        """How many rounds count at present."""
        return len(self._history)

    def add(self, means: npt.ArrayLike, members: Sequence[Sequence[int]], names: Iterable[str] | None = None) -> None:
        """Take in a round.

        Args:
            means: the groups' means, shape (G, m); m is the same in all rounds.
            members: of each group, the clients in its sum.
            names: of the clients, by the index that ``members`` has; by default the index itself, in decimals.  Rounds
                in which a client has another index need names that stay the same.

        Raises InputError for means that are not finite or of another length than before, for members that do not fit
        them, and for a client without a name or in two groups.  It changes nothing then.
        """
        rows = checked_means(means)
        named = _named(rows, members, None if names is None else list(names))
        if self._history and rows.shape[1] != self._columns:
            raise InputError(
                f"the means have {counted(rows.shape[1], 'element')}, and those of earlier rounds {self._columns}: "
                "start anew for another model"
            )
        self._columns = rows.shape[1]
        self._history.append(_Round(named, _comparable(self._sketched(rows))))
        kept = math.ceil(_ROUNDS_PER_MEMBER * sum(map(len, named)) / len(named))
        while len(self._history) > kept:
            self._history.popleft()

    def ranking(self, without: Collection[str] = ()) -> list[ClientDistance]:
        """The clients that can be compared, the farthest first; equal ones by name.

        Empty until there are 1.2 group means for each client, which takes a little more rounds than a group has
        members.  Clients that were in fewer than four rounds are not compared.

        Args:
            without: the clients that the others are not compared with, and that are not in the result.  What they sent
                in earlier rounds is still taken into account.
        """
        rounds: dict[str, int] = {}
        for name in (name for one in self._history for group in one.members for name in group):
            rounds[name] = rounds.get(name, 0) + 1
        if sum(len(one.members) for one in self._history) < _FEWEST_MEANS * len(rounds):
            return []
        names = sorted(rounds)
        compared = [at for at, name in enumerate(names) if name not in without and rounds[name] >= _FEWEST_ROUNDS]
        if not compared:
            return []
        estimates = self._estimates(names)[compared]
        found = np.linalg.norm(estimates - geometric_median(estimates, np.ones(len(estimates))), axis=1)
        middle = float(np.median(found))
        deviation = _NORMAL * float(np.median(np.abs(found - middle)))
        ranked = [
            ClientDistance(
                client=names[at],
                rounds=rounds[names[at]],
                distance=_ratio(distance, middle),
                excess=_ratio(distance - middle, deviation),
            )
            for at, distance in zip(compared, found.tolist(), strict=True)
        ]
        return sorted(ranked, key=lambda one: (-one.distance, one.client))

    def _estimates(self, names: list[str]) -> Floats:
        """What each client sends on average, relative to everybody's, by ridge regression; shape (clients, sketch)."""
        at = {name: column for column, name in enumerate(names)}
        blocks = []
        for one in self._history:
            shares = np.zeros((len(one.members), len(names)))
            for row, group in enumerate(one.members):
                shares[row, [at[name] for name in group]] = 1 / len(group)
            blocks.append(shares - shares.mean(axis=0))  # the means are centred as well
        shares, means = np.concatenate(blocks), np.concatenate([one.means for one in self._history])
        normal = shares.T @ shares
        normal[np.diag_indices_from(normal)] += _RIDGE * float(np.trace(normal)) / len(names) or 1.0
        found: Floats = np.linalg.solve(normal, shares.T @ means)
        return found

    def _sketched(self, rows: Floats) -> Floats:
        columns = rows.shape[1]
        if columns <= _SKETCH:
            return rows
        draw = np.random.default_rng(self._seed)
        buckets = draw.integers(0, _SKETCH, columns)
        signs = draw.choice(np.array([-1.0, 1.0]), columns)
        return np.array([np.bincount(buckets, weights=signs * row, minlength=_SKETCH) for row in rows])


def _named(rows: Floats, members: Sequence[Sequence[int]], names: list[str] | None) -> tuple[tuple[str, ...], ...]:
    if len(members) != len(rows) or not all(len(group) for group in members):
        raise InputError(f"there are {len(rows)} group means: pass the members of each, at least one")
    seen: set[int] = set()
    for member in (int(member) for group in members for member in group):
        if names is not None and not 0 <= member < len(names):
            raise InputError(f"the groups have client {member}, and there are {counted(len(names), 'name')}")
        if member in seen:
            raise InputError(f"client {member} is in two groups")
        seen.add(member)
    return tuple(
        tuple(str(int(member)) if names is None else names[int(member)] for member in group) for group in members
    )


def _comparable(rows: Floats) -> Floats:
    """Centred, and in units of the round's short means, since updates shrink as a model learns; shape as given."""
    norms = np.linalg.norm(rows, axis=1)
    above = norms[norms > 0]
    unit = float(np.quantile(above, _SHORT_SHARE, method="lower")) if above.size else 1.0
    shortened = rows / np.maximum(norms / _MOST, unit)[:, None]
    centred: Floats = shortened - shortened.mean(axis=0)
    return centred


def _ratio(value: float, unit: float) -> float:
    if unit > 0:
        return value / unit
    return math.copysign(math.inf, value) if value else 0.0
