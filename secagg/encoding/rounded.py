"""Values that are rounded to a number of levels: a clip for each array, one number of bits for all of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from fractions import Fraction
from math import inf, nextafter
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.arrays import RealArray
from secagg.encoding.blocks import Piece, blocks_of, gathered, not_finite
from secagg.encoding.digits import Digits
from secagg.encoding.rounding import BLOCK, Rounder, fixed_point_factor
from secagg.encoding.sums import centred
from secagg.encoding.tail import Counts
from secagg.encoding.template import Leaf
from secagg.errors import InputError
from secagg.wording import counted

_LARGEST: Final = float(np.finfo(np.float64).max)
_ULP: Final = Fraction(1, 2**53)  # of float64, relative, for one operation that rounds to nearest


@final
class RoundedPart:
    """Some arrays of an update, one after the other, each value clipped, weighed and rounded at random.

    A value with as many bits as the encoder's takes one element, one with more bits a digit in each of several planes.
    """

    def __init__(
        self, leaves: Sequence[Leaf], clips: Collection[float], bits: int, base: int, max_weight: int | None
    ) -> None:
        """``clips`` are those of the leaves; the digits' base is 2^b - 1 for the encoder's own b bits."""
        self._leaves, self._clips = leaves, tuple(clips)
        self.max_weight: Final = max_weight
        self.levels: Final = (1 << (bits - 1)) - 1
        self._reference = self._clips[0]
        self._scales = [_scale(self._reference, clip) for clip in self._clips]
        self._digits = Digits(base, 2 * self.levels)
        self._size = sum(leaf.size for leaf in leaves)
        self.length: Final = self._size * self._digits.count

    def encode(
        self,
        arrays: Sequence[RealArray],
        weight: int,
        out: npt.NDArray[np.unsignedinteger],
        clipped: dict[str, int],
        randomness: Callable[[int], bytes],
    ) -> None:
        """Write the arrays' values, and count by name what was clipped.  Raises InputError for what is not finite."""
        factor = fixed_point_factor(self.levels, self._reference, weight, self.max_weight or 1)
        rounder = Rounder(self.levels, self._reference, factor, randomness, self._size)
        work = np.empty(min(BLOCK, self._size), np.float64)
        planes = out.reshape(self._digits.count, self._size)
        single = self._digits.count == 1
        rounded = out if single else np.empty(len(work), np.uint32)
        done = 0
        for pieces in blocks_of(arrays):
            block = gathered(pieces, work, self._scales)
            stop = done + len(block)
            into = rounded[done:stop] if single else rounded[: len(block)]
            random = rounder.draw(len(block))
            for piece in pieces:
                part = slice(piece.start, piece.stop)
                beyond = rounder.round(block[part], random[part], into[part])
                if beyond is None:
                    beyond = self._round_overflown(rounder, block[part], random[part], into[part], piece, arrays)
                if beyond:
                    name = self._leaves[piece.index].name
                    clipped[name] = clipped.get(name, 0) + beyond
            if not single:
                self._digits.split(into.astype(np.uint64), planes[:, done:stop])
            done = stop

    def decode(self, vector: npt.NDArray[Any], counts: Counts, count: int) -> Iterator[npt.NDArray[np.float64]]:
        """The mean of each array, in order.  Raises InputError for a sum that no clients have."""
        numbers = self._joined(vector, count)
        if self.max_weight is not None:  # else the largest element, which is checked, says it all
            self._check_reach(numbers, counts, count, self.max_weight)
        zero, start = np.uint64(count * self.levels), 0
        for leaf, clip in zip(self._leaves, self._clips, strict=True):
            factor = float(self._unit(clip, counts.weight))
            yield centred(numbers[start : start + leaf.size], zero, factor).reshape(leaf.shape)
            start += leaf.size

    def error_bound(self, position: int, count: int, total_weight: int) -> float:
        """Of the array at this position of the part; see ``Encoder.error_bound``."""
        clip = self._clips[position]
        # Eight roundings on the way to the fixed point, in units of a step: levels * 8 ulp; two more with a clip of
        # its own, and four on the way back.
        roundings = 8 if clip == self._reference else 10
        bound = count * (1 + roundings * _ULP * self.levels) * self._unit(clip, total_weight)
        return nextafter(float(bound + 4 * _ULP * (Fraction(clip) + bound)), inf)

    def _unit(self, clip: float, total_weight: int) -> Fraction:
        """What one step of the sum is worth in the mean: max_weight / (scale * total_weight)."""
        return Fraction(self.max_weight or 1, self.levels * total_weight) * Fraction(clip)

    def _round_overflown(
        self,
        rounder: Rounder,
        values: npt.NDArray[np.float64],
        random: npt.NDArray[np.uint32],
        out: npt.NDArray[np.unsignedinteger],
        piece: Piece,
        arrays: Sequence[RealArray],
    ) -> int | None:
        """Round values of which a finite one became infinite when it was scaled.  Raises InputError for all others."""
        with np.errstate(over="ignore", invalid="ignore"):
            given = piece.values.astype(np.float64)
        if self._scales[piece.index] == 1.0 or not np.isfinite(given).all():
            raise not_finite(self._leaves[piece.index], arrays[piece.index])
        return rounder.round(np.clip(values, -_LARGEST, _LARGEST), random, out)

    def _joined(self, vector: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
        planes = vector.reshape(self._digits.count, self._size)
        return self._digits.joined(planes, count, lambda at: f"an element of {self._name_at(at)}")

    def _name_at(self, at: int) -> str:
        ends = np.cumsum([leaf.size for leaf in self._leaves])
        return self._leaves[int(np.searchsorted(ends, at, side="right"))].name

    def _check_reach(self, numbers: npt.NDArray[Any], counts: Counts, count: int, max_weight: int) -> None:
        """Values of this total weight are no larger: else a client gave less weight than it put into its values.

        A client's value is at most levels times its share of max_weight, and rounding adds less than one; the zeros of
        a client of weight 0 are not rounded.
        """
        zero = count * self.levels
        reach = -(-self.levels * counts.weight // max_weight) + counts.contributors
        for extreme in (int(numbers.min()), int(numbers.max())):
            if abs(extreme - zero) > reach:
                raise InputError(
                    f"a sum of values is {extreme - zero} steps from zero, and "
                    f"{counted(counts.contributors, 'client')} of total weight {counts.weight} can reach {reach}: "
                    "a client sent what no encoder makes, or the count or the layout is another than the clients'"
                )


def _scale(reference: float, clip: float) -> float:
    """What brings values with this clip to the reference's; rounded down, so that the clip itself is not beyond it."""
    scale = reference / clip
    while clip * scale > reference:
        scale = nextafter(scale, 0.0)
    return scale
