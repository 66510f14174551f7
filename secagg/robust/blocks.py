"""Large matrices of group means, a block of coordinates at a time, so that copies stay small beside the matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError, ParameterError
from secagg.wording import counted

Floats: TypeAlias = npt.NDArray[np.float64]

_LARGEST: Final = 1e150
"""Squares of what is no larger are finite.  No encoder's clip comes near it."""
_BLOCK_BYTES: Final = 1 << 18
"""Of a block: it stays in a cache while it is sorted or multiplied."""


def checked_means(means: npt.ArrayLike) -> Floats:
    """The means as float64, shape (G, m), not copied where they are that already.

    Raises InputError unless there is at least one group and one coordinate, and every value is within +-1e150.
    """
    found = np.asarray(means, dtype=np.float64)
    if found.ndim != 2 or not found.size:
        raise InputError(
            f"the group means have shape {found.shape}: they must have two dimensions, one row for each group and one "
            "column for each coordinate, and at least one of each"
        )
    usable = np.array([max(-row.min(), row.max()) <= _LARGEST for row in found])  # False for one with a NaN
    if not usable.all():
        raise InputError(
            f"the mean of group {int(np.argmin(usable))} holds a value that is not finite, or beyond {_LARGEST:g}: "
            "leave this group out"
        )
    return found


def checked_weights(weights: npt.ArrayLike, groups: int) -> Floats:
    """The weights as float64, shape (G,).  Raises ParameterError unless each group has one, finite and above 0."""
    found = np.asarray(weights, dtype=np.float64)
    if found.shape != (groups,):
        raise ParameterError(
            f"the weights have shape {found.shape}, and there are {counted(groups, 'group mean')}: pass one weight for "
            "each group"
        )
    good = np.isfinite(found) & (found > 0)
    if not good.all():
        at = int(np.argmin(good))
        raise ParameterError(
            f"the weight of group {at} is {found[at]:g}: weights must be finite and above 0; leave out a group that "
            "has none"
        )
    return found


def column_blocks(means: Floats) -> Iterator[slice]:
    """Consecutive slices that cover the columns."""
    rows, columns = means.shape
    width = max(1, _BLOCK_BYTES // (8 * rows))
    return (slice(start, min(start + width, columns)) for start in range(0, columns, width))


def gram_about(means: Floats, pivot: Floats) -> Floats:
    """The inner products of the rows' differences to ``pivot``, shape (G, G).

    Args:
        means: shape (G, m).
        pivot: shape (m,).  The nearer it is to the rows that matter, the less is lost by cancellation.
    """
    products = np.zeros((len(means), len(means)))
    for block in column_blocks(means):
        differences = means[:, block] - pivot[block]
        products += differences @ differences.T
    return products


def squared_distances(gram: Floats) -> Floats:
    """|x_i - x_j|^2 for all rows, from their inner products about some point; shape (G, G), zero on the diagonal."""
    norms = np.diagonal(gram)
    distances: Floats = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def combined(means: Floats, shares: npt.NDArray[Any]) -> Floats:
    """The convex combination of the rows, clamped to the rows' own range in each coordinate; shape (m,).

    The clamp takes off what float64 rounds up: means within +- clip combine to a vector within +- clip.

    Args:
        means: shape (G, m).
        shares: shape (G,), at least 0, with sum 1; rows of share 0 do not enter.
    """
    there = np.flatnonzero(shares)
    result = np.empty(means.shape[1])
    for block in column_blocks(means):
        rows = means[there, block]
        result[block] = np.clip(shares[there] @ rows, rows.min(axis=0), rows.max(axis=0))
    return result
