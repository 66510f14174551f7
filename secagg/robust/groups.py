"""From the sums of a round's groups to the means that robust rules take, and back to an update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

import numpy as np
import numpy.typing as npt

from secagg.encoding import Encoder
from secagg.errors import InputError
from secagg.robust.blocks import Floats
from secagg.wording import counted


class SumOfGroup(Protocol):
    """What ``group_means`` needs of one group's sum; a round's ``Result.groups`` has such."""

    @property
    def number(self) -> int:
        """Of the group."""
        ...

    @property
    def included(self) -> Sequence[int]:
        """Whose vectors are in the sum."""
        ...

    @property
    def sum(self) -> npt.NDArray[Any]:
        """The sum of their encoded vectors: 1-D, unsigned."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GroupMeans:
    """The decoded sums of a round's groups.

    Attributes:
        numbers: of the groups that are in the other attributes, in the order given.
        members: of each group, whose updates are in its mean.
        means: shape (G, m), float64: the weighted mean of each group, with the arrays one after another in the
            template's order.
        weights: shape (G,), float64: the sum of the members' weights; their number if the encoder has no weights.
        contributors: of each group, how many members have a weight above 0.
        clipped: of each group, how many values were clipped.
        refused: by number, why a group's sum was left out.
    """

    numbers: tuple[int, ...]
    members: tuple[tuple[int, ...], ...]
    means: Floats
    weights: Floats
    contributors: tuple[int, ...]
    clipped: tuple[int, ...]
    refused: Mapping[int, str] = field(default_factory=dict)


def group_means(encoder: Encoder, groups: Iterable[SumOfGroup], *, min_contributors: int = 1) -> GroupMeans:
    """Decode the sum of every group.

    A client that lies can make its group's sum one that no honest encoders make.  Such a group is left out, and so is
    one in which too few have a weight above 0: they spoil nothing but their own.

    Args:
        encoder: of the round's vectors.
        groups: the round's ``Result.groups``.
        min_contributors: the fewest members with a weight above 0, such as the round's ``Result.min_survivors``.

    Raises InputError where no group is left.
    """
    given = list(groups)
    means = np.empty((len(given), encoder.template.size))
    numbers: list[int] = []
    members: list[tuple[int, ...]] = []
    weights: list[float] = []
    counts: list[tuple[int, int]] = []
    refused: dict[int, str] = {}
    for group in given:
        try:
            decoded = encoder.decode_sum(group.sum, len(group.included), min_contributors=min_contributors)
        except InputError as problem:
            refused[group.number] = str(problem)
            continue
        np.concatenate([part.ravel() for part in encoder.template.flatten(decoded.mean)], out=means[len(numbers)])
        numbers.append(group.number)
        members.append(tuple(group.included))
        weights.append(float(decoded.weight))
        counts.append((decoded.contributors, decoded.clipped))
    if not numbers:
        first = next(iter(refused.values()), "there is none")
        raise InputError(f"no group has a sum that can be decoded: {first}")
    return GroupMeans(
        numbers=tuple(numbers),
        members=tuple(members),
        means=means[: len(numbers)],
        weights=np.array(weights),
        contributors=tuple(contributors for contributors, _ in counts),
        clipped=tuple(clipped for _, clipped in counts),
        refused=refused,
    )


def as_update(encoder: Encoder, vector: npt.NDArray[np.float64]) -> Any:
    """A vector such as ``robust_mean`` gives, nested, named and shaped as the encoder's template, in float64.

    Raises InputError for a vector of another shape than (m,).
    """
    leaves = encoder.template.leaves
    if vector.shape != (encoder.template.size,):
        raise InputError(
            f"the vector has shape {vector.shape}: the template has {counted(encoder.template.size, 'element')}"
        )
    parts = np.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return encoder.template.restore([part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)])
