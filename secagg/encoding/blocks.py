"""An update's arrays in float64, a block at a time: no copy of the whole update is made."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secagg.encoding.arrays import RealArray
from secagg.encoding.rounding import BLOCK
from secagg.encoding.template import Leaf
from secagg.errors import InputError


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of one array's elements, and where in the block it goes."""

    index: int
    values: RealArray
    start: int
    stop: int


def blocks_of(arrays: Sequence[RealArray]) -> Iterator[list[Piece]]:
    """Cut the flat vector into blocks of BLOCK elements, each a list of runs; the last block may be shorter."""
    pieces: list[Piece] = []
    filled = 0
    for index, array in enumerate(arrays):
        taken = 0
        while taken < array.size:
            size = min(array.size - taken, BLOCK - filled)
            pieces.append(Piece(index, array[taken : taken + size], filled, filled + size))
            taken += size
            filled += size
            if filled == BLOCK:
                yield pieces
                pieces, filled = [], 0
    if pieces:
        yield pieces


def gathered(
    pieces: list[Piece], work: npt.NDArray[np.float64], scales: Sequence[float] | None = None
) -> npt.NDArray[np.float64]:
    """One block as float64, each array times its scale.

    All is looked at in this copy: the update may be another thread's live memory.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # long double beyond float64: refused later as infinite
        for piece in pieces:
            work[piece.start : piece.stop] = piece.values
            if scales is not None and scales[piece.index] != 1.0:
                work[piece.start : piece.stop] *= scales[piece.index]
    return work[: pieces[-1].stop]


def values_digest(arrays: Sequence[RealArray], key: bytes) -> bytes:
    """HMAC-SHA256 over the values of all arrays in float64, one after the other."""
    total = hmac.new(key, b"secagg input 1\n", "sha256")
    work = np.empty(min(BLOCK, sum(array.size for array in arrays)), np.float64)
    for pieces in blocks_of(arrays):
        total.update(gathered(pieces, work).data)
    return total.digest()


def not_finite(leaf: Leaf, array: RealArray) -> InputError:
    with np.errstate(over="ignore", invalid="ignore"):
        values = array.astype(np.float64)
    bad = ~np.isfinite(values)
    nans, total = int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(bad))
    index = [int(axis) for axis in np.unravel_index(int(bad.argmax()), leaf.shape)]
    place = f", the first at index {index}" if index else ""
    return InputError(
        f"{leaf.name} holds {nans} NaN and {total - nans} infinite values among {leaf.size}{place}: only finite values "
        "can be summed; look for the training step that diverged, or leave this round out"
    )
