"""Stochastic rounding in fixed point, a block at a time.

A value x in [-levels, levels] is held as X = x 2^32, rounded to an int64.  With k uniform in 0 .. 2^32 - 1 the result
is ``((X + levels 2^32 + k) mod 2^64) >> 32 = floor((X + k) / 2^32) + levels``, whose mean over k is exactly
X / 2^32 + levels: a whole x never moves, and all the bias there is comes from rounding x to X, at most 2^-33 and the
float64 rounding of x.  The result is never a whole step or more away from x.  The sum stays below 2^64 since
levels < 2^31.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import nextafter
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.rounding import FRACTION_BITS, round_block
from secagg.errors import ParameterError
from secagg.primitives.kdf import derive
from secagg.primitives.streams import Keystream
from secagg.primitives.suites import Suite
from secagg.wording import counted

BLOCK: Final = 1 << 15
"""Elements worked on at a time: the scratch arrays of a block stay in a core's second-level cache.  From 2^13 to 2^19
any number serves, to within a third (``benchmarks/test_kernels.py -k encoding``)."""

_SUITE: Final = Suite.AES_256
"""Whatever the round's: an encoder belongs to no round."""
_KEY_BYTES: Final = _SUITE.key_bytes
_PURPOSE: Final = b"secagg encoding: stochastic rounding, version 1"


def fixed_point_factor(levels: int, clip: float, weight: int, max_weight: int) -> float:
    """What a clipped value is multiplied by to give X: levels / clip * weight / max_weight * 2^32, rounded once.

    Rounded down where need be so that no |value| <= clip gives an |X| above levels * 2^32.
    """
    limit = float(levels << FRACTION_BITS)  # exact: at most 31 bits that are not zero
    factor = float(Fraction((levels * weight) << FRACTION_BITS, max_weight) / Fraction(clip))
    while clip * factor > limit:
        factor = nextafter(factor, 0.0)
    return factor


@final
class Rounder:
    """The rounding of one vector: fresh random bytes, and the memory for those of one block (0.25 MB)."""

    __slots__ = ("_bytes", "_clip", "_drawn", "_factor", "_levels", "_stream", "_zeros")

    def __init__(
        self, levels: int, clip: float, factor: float, randomness: Callable[[int], bytes], length: int
    ) -> None:
        """``levels`` < 2^31, ``factor`` from ``fixed_point_factor``; ``length`` elements will be rounded at most."""
        room = max(4, min(BLOCK, -(-length // 4) * 4))  # whole 16-byte blocks of the keystream
        self._levels, self._clip, self._factor = levels, clip, factor
        self._stream = Keystream(_SUITE, _fresh_key(randomness))
        self._drawn = 0
        self._bytes = np.empty(4 * room, np.uint8)
        self._zeros = np.zeros(4 * room, np.uint8)

    def draw(self, size: int) -> npt.NDArray[np.uint32]:
        """The next ``size`` random numbers, at most BLOCK; good until the next call."""
        taken = -(-size // 4) * 16  # bytes
        self._stream.read_into(self._bytes[:taken].data, self._zeros[:taken].data, self._drawn)
        self._drawn += taken // 16
        return self._bytes[: 4 * size].view(np.dtype("<u4"))

    def round(
        self, values: npt.NDArray[np.float64], random: npt.NDArray[np.uint32], out: npt.NDArray[Any]
    ) -> int | None:
        """Clip and round into ``out``; how many values were beyond the clip, None when one is not finite."""
        return round_block(values, self._factor, self._clip, self._levels, random, out)


def fresh_bytes(randomness: Callable[[int], bytes], count: int) -> bytes:
    """That many bytes of a source of randomness.  Raises ParameterError when it gives anything else."""
    seed = randomness(count)
    if not isinstance(seed, bytes) or len(seed) != count:
        met = counted(len(seed), "byte") if isinstance(seed, bytes) else type(seed).__name__
        raise ParameterError(
            f"randomness({count}) gave {met}: it must return {counted(count, 'byte')}, as os.urandom does"
        )
    return seed


def _fresh_key(randomness: Callable[[int], bytes]) -> bytes:
    return derive(fresh_bytes(randomness, _KEY_BYTES), b"", _PURPOSE, _KEY_BYTES)
