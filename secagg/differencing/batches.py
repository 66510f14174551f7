"""Whom to invite: batches of members that stay together, so that no round makes a class too small.

A round that invites whole batches, and loses nobody, splits each class into parts that have a batch or more.  Batches
follow from the classes so far and from the members' names alone, so that nothing else needs to be stored: within a
class, the order is that of a hash, which keeps a batch the same from round to round as long as its members are invited
together.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Sequence
from typing import Final, TypeAlias

from secagg.differencing.classes import Classes
from secagg.errors import ParameterError

Batch: TypeAlias = tuple[str, ...]
_DRAW: Final = random.SystemRandom()


def batches_of(classes: Classes, members: Iterable[str], size: int) -> tuple[Batch, ...]:
    """The batches of ``size`` members or more that may be invited now.

    A class of 2 ``size`` members or more is cut into several batches; a smaller one is a batch as it is, even where it
    has fewer than ``size`` members.  A batch of which anybody is away is left out, since the others would be summed
    without it.  Members that were in no sum yet are cut into batches in the same way, and those that are too few for
    one wait.

    Args:
        classes: as the sums so far have left them.
        members: who can take part now.
        size: T at least; a larger one leaves room for members that are lost before their batch was ever summed, or
            while a further batch of their class is not invited.

    Raises ParameterError for a ``size`` below 1.
    """
    if size < 1:
        raise ParameterError(f"the size of a batch is {size}: give a number from 1 on, and min_difference at least")
    here = set(members)
    new = [member for member in here if classes.of(member) is None]
    found = [batch for batch in _cut(new, size) if len(batch) >= size]
    for of_class in classes.members():
        found += [batch for batch in _cut(of_class, size) if here.issuperset(batch)]
    return tuple(found)


def sample(batches: Sequence[Batch], count: int, draw: random.Random = _DRAW) -> Batch:
    """The members of ``count`` batches, drawn at random; ascending.

    Raises ParameterError when there are fewer batches.
    """
    if not 1 <= count <= len(batches):
        raise ParameterError(
            f"{count} batches are asked for, and {len(batches)} can be invited now: wait for more members, or ask for "
            "fewer or smaller batches"
        )
    return tuple(sorted(member for batch in draw.sample(list(batches), count) for member in batch))


def _cut(members: Collection[str], size: int) -> list[Batch]:
    """In the order of a hash, ``size`` at a time; the last batch takes what is left over."""
    ordered = sorted(members, key=lambda member: hashlib.sha256(member.encode()).digest())
    count = max(1, len(ordered) // size)
    ends = [*range(size, size * count, size), len(ordered)]
    return [tuple(ordered[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
