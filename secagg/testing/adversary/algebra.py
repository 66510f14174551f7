"""Exact linear algebra over the integers, on sparse rows: which combinations of masked vectors have no mask left."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from math import gcd
from typing import TypeAlias, TypeVar

Key = TypeVar("Key", bound=Hashable)
Unknown = TypeVar("Unknown", bound=Hashable)
Combination: TypeAlias = dict[Key, int]
"""Integer factors, without zeros."""


def bare(rows: Iterable[tuple[Combination[Unknown], Combination[Key]]]) -> list[Combination[Key]]:
    """Eliminate the unknowns.

    Args:
        rows: each (the unknowns in an observation, what it is an observation of).

    Returns:
        A basis of the combinations of observations in which no unknown is left.
    """
    remaining, free = [(dict(unknown), dict(key)) for unknown, key in rows], []
    while remaining:
        row = remaining.pop(min(range(len(remaining)), key=lambda place: len(remaining[place][0])))
        if not row[0]:
            free.append(row[1])
            continue
        pivot = next(iter(row[0]))
        for place, other in enumerate(remaining):
            if pivot in other[0]:
                remaining[place] = _difference(other, row, row[0][pivot], other[0][pivot])
    return free


def reduced(
    rows: Iterable[tuple[Combination[Key], Combination[Unknown]]],
) -> list[tuple[Combination[Key], Combination[Unknown]]]:
    """The rows in reduced row echelon form of their first parts; what is done to those is done to the second parts.

    Rows whose first part comes to nothing are left out.
    """
    waiting = [row for row in rows if row[0]]
    done: list[tuple[Combination[Key], Combination[Unknown]]] = []
    while waiting:
        row = waiting.pop()
        pivot = next(iter(row[0]))

        def without(
            other: tuple[Combination[Key], Combination[Unknown]],
        ) -> tuple[Combination[Key], Combination[Unknown]]:
            return _difference(other, row, row[0][pivot], other[0].get(pivot, 0))  # noqa: B023

        waiting = [other for other in map(without, waiting) if other[0]]
        done = [*map(without, done), row]
    return [_positive(row) for row in done]


def _difference(
    row: tuple[Combination[Unknown], Combination[Key]],
    pivot: tuple[Combination[Unknown], Combination[Key]],
    ours: int,
    theirs: int,
) -> tuple[Combination[Unknown], Combination[Key]]:
    """``ours`` times a row minus ``theirs`` times the pivot row, divided by what all factors have in common."""
    left, right = _minus(row[0], pivot[0], ours, theirs), _minus(row[1], pivot[1], ours, theirs)
    return _divided(left, right, gcd(*left.values(), *right.values()) or 1)


def _positive(row: tuple[Combination[Unknown], Combination[Key]]) -> tuple[Combination[Unknown], Combination[Key]]:
    return _divided(*row, -1 if next(iter(row[0].values())) < 0 else 1)


def _divided(
    left: Combination[Unknown], right: Combination[Key], divisor: int
) -> tuple[Combination[Unknown], Combination[Key]]:
    return (
        {name: factor // divisor for name, factor in left.items()},
        {name: factor // divisor for name, factor in right.items()},
    )


def _minus(row: Combination[Key], other: Combination[Key], ours: int, theirs: int) -> Combination[Key]:
    if not theirs:
        return dict(row)
    factors = {name: ours * row.get(name, 0) - theirs * other.get(name, 0) for name in {**row, **other}}
    return {name: factor for name, factor in factors.items() if factor}
