"""Which groups of a round stand out, and which clients over many rounds; a hint for a person, and never a proof.

Nobody sees a client's update, so a round tells of groups only.  Over rounds with newly drawn groups, a client that
poisons every group it is in has a higher mean than the others, who share a group with it only now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError
from secagg.robust.blocks import Floats, checked_means, checked_weights, column_blocks
from secagg.robust.rules import RuleName, robust_mean

STANDS_OUT: Final = 3.0
"""Distances of a group that stands out, in units of the median distance."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAnomaly:
    """How one group's mean lies to the others.

    Attributes:
        number: of the group, as the round counts it.
        members: whose updates are in its sum.
        distance: L2 distance to the robust centre, in units of the groups' median distance; 0 where that is 0 and the
            group lies on the centre, infinite where it does not.
        cosine: of the angle to the robust centre, -1 to 1; 0 where one of them has norm 0.
        norm: L2 norm of the group's mean, in the update's own unit.
        stands_out: whether ``distance`` is above ``STANDS_OUT``.
    """

    number: int
    members: tuple[int, ...]
    distance: float
    cosine: float
    norm: float
    stands_out: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What a round's groups look like beside one another.

    Attributes:
        groups: one entry for each group, in the order given.
        median_distance: L2, in the update's own unit.
        centre_norm: L2 norm of the robust centre.
    """

    groups: tuple[GroupAnomaly, ...]
    median_distance: float
    centre_norm: float

    @property
    def standing_out(self) -> tuple[GroupAnomaly, ...]:
        """The groups that stand out, the farthest first."""
        found = [group for group in self.groups if group.stands_out]
        return tuple(sorted(found, key=lambda group: -group.distance))


def report_round(
    means: npt.ArrayLike,
    members: Sequence[Sequence[int]],
    *,
    counts: npt.ArrayLike | None = None,
    numbers: Sequence[int] | None = None,
    centre: npt.ArrayLike | None = None,
) -> RoundReport:
    """Compare the group means of a round with their robust centre.

    Args:
        means: the groups' means, shape (G, m).
        members: of each group, the clients in its sum.
        counts: the groups' weights for the centre, shape (G,); by default the numbers of members.
        numbers: of the groups, where some are missing; by default 0 to G - 1.
        centre: shape (m,); by default ``robust_mean`` by the rule "mixed-geometric-median".

    Raises InputError and ParameterError as ``robust_mean`` does, and InputError for members, numbers or a centre that
    do not fit the means.
    """
    rows = checked_means(means)
    if len(members) != len(rows) or not all(len(group) for group in members):
        raise InputError(f"there are {len(rows)} group means: pass the members of each, at least one")
    named = range(len(rows)) if numbers is None else numbers
    if len(named) != len(rows):
        raise InputError(f"there are {len(rows)} group means and {len(named)} numbers: pass one number for each group")
    weights = checked_weights([len(group) for group in members] if counts is None else counts, len(rows))
    middle = robust_mean(rows, weights, RuleName.MIXED_GEOMETRIC_MEDIAN) if centre is None else _as_centre(centre, rows)
    distances, norms, inner = _geometry(rows, middle)
    scale, centre_norm = float(np.median(distances)), float(np.linalg.norm(middle))
    lengths = norms * centre_norm
    cosines = np.clip(np.divide(inner, lengths, out=np.zeros_like(inner), where=lengths > 0), -1.0, 1.0)
    groups = tuple(
        GroupAnomaly(
            number=int(named[at]),
            members=tuple(int(member) for member in members[at]),
            distance=(relative := _relative(float(distances[at]), scale)),
            cosine=float(cosines[at]),
            norm=float(norms[at]),
            stands_out=relative > STANDS_OUT,
        )
        for at in range(len(rows))
    )
    return RoundReport(groups=groups, median_distance=scale, centre_norm=centre_norm)


def _as_centre(centre: npt.ArrayLike, rows: Floats) -> Floats:
    found = np.asarray(centre, dtype=np.float64)
    if found.shape != (rows.shape[1],) or not np.isfinite(found).all():
        raise InputError(f"the centre has shape {found.shape}: it must be {rows.shape[1]} finite numbers, as the means")
    return found


def _geometry(rows: Floats, centre: Floats) -> tuple[Floats, Floats, Floats]:
    """For each row, the distance to the centre, the norm, and the inner product with the centre; shapes (G,)."""
    squares, norms, inner = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    for block in column_blocks(rows):
        part = rows[:, block]
        squares += ((part - centre[block]) ** 2).sum(axis=1)
        norms += (part**2).sum(axis=1)
        inner += part @ centre[block]
    return np.sqrt(squares), np.sqrt(norms), inner


def _relative(distance: float, scale: float) -> float:
    if scale > 0:
        return distance / scale
    return np.inf if distance > 0 else 0.0
