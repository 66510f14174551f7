"""Clipping, conditional stochastic rounding, and noise: from a flat update in float64 to elements modulo 2^b.

Every float operation is that of IEEE 754 in double precision, rounded to nearest, and they come in the order written
here, so that one update, one context and the same random bytes give the same elements on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from secagg.encoding.limits import real
from secagg.encoding.rounding import BLOCK, fresh_bytes
from secagg.errors import ParameterError
from secagg.primitives.streams import Keystream
from secagg.privacy.keys import KEY_BYTES, SUITE, EncodingKeys
from secagg.privacy.noise import Noise
from secagg.privacy.parameters import Mechanism
from secagg.privacy.removal import NoiseLevels
from secagg.privacy.rotation import scale_and_sign, transform

TRIES: Final = 64
"""Roundings that are tried; after them the update is rounded towards zero.  Each is good with probability 1 - beta."""

_ALWAYS_TRIED: Final = 8
"""Which rounding is taken depends on the update.  So that the time hardly does, so many are always worked out.  At
worst, where the dimension is large, 1 in 6 is too long, and less than 1 time in 10^6 all of them are."""

SHRINK: Final = 1 - 2.0**-30
"""A clipped update is this much shorter than the clip, so that the rounding of floats makes none longer than that."""

_SMALLEST_EXPONENT: Final = -900
"""2^900 is a float64, and an update below 2^-900 is never clipped."""


def clips_of(clip: float, max_weight: int | None, weight_clip: float | None) -> tuple[float, float]:
    """How a mechanism's clip is divided between an update and the coordinate of its weight.

    Args:
        clip: the largest L2 norm of both together.
        max_weight: the largest weight; None for a layout without weights.
        weight_clip: what the weight's coordinate is at full weight; a quarter of the clip when not given.

    Returns:
        The largest norm of the update alone, and the weight's coordinate at full weight: 0.0 without weights.

    Raises ParameterError for a weight's clip out of range, or without weights.
    """
    if max_weight is None:
        if weight_clip is not None:
            raise ParameterError(f"weight_clip is {weight_clip!r} and max_weight None: give both or neither")
        return clip, 0.0
    chosen = clip / 4 if weight_clip is None else real("weight_clip", weight_clip, clip * 2.0**-20, clip)
    if chosen == clip:
        raise ParameterError(f"weight_clip is {weight_clip!r}: must be below the mechanism's clip, {clip!r}")
    return _leg(clip, chosen), chosen


def _leg(hypotenuse: float, other: float) -> float:
    """The largest float64 whose square, and that of ``other``, are together at most the square of ``hypotenuse``."""
    square = Fraction(hypotenuse) ** 2 - Fraction(other) ** 2
    leg = min(hypotenuse, math.sqrt(square) * (1 + 2.0**-50))
    while Fraction(leg) ** 2 > square:
        leg = math.nextafter(leg, 0.0)
    return leg


@final
class Scaling:
    """What takes an update from its own unit to steps of a rotated coordinate."""

    __slots__ = ("_steps", "_update_clip", "_weight_clip")

    def __init__(self, mechanism: Mechanism, update_clip: float, weight_clip: float) -> None:
        """``update_clip`` is for the update alone; ``weight_clip`` is the weight's coordinate at full weight, or 0."""
        self._update_clip, self._weight_clip = update_clip * SHRINK, weight_clip * SHRINK
        self._steps = nearest_root(Fraction(mechanism.scale) ** 2 / mechanism.dimension)

    def rotate(
        self,
        values: npt.NDArray[np.float64],
        size: int,
        largest: float,
        share: float,
        signs: npt.NDArray[np.uint8],
    ) -> float:
        """Clip, weigh, scale and rotate an update, in place.

        Args:
            values: (d,); the update in the first ``size`` of them, and zeros behind it.
            size: its coordinates, without the weight's.
            largest: its largest absolute value.
            share: weight / max_weight.
            signs: of the rotation.

        Returns:
            What the update was multiplied by to clip it; 1.0 where it was not.
        """
        exponent = max(math.frexp(largest)[1], _SMALLEST_EXPONENT) if largest > 0 else _SMALLEST_EXPONENT
        power = math.ldexp(1.0, -exponent)
        unclipped = math.inf if exponent > 1023 else math.ldexp(1.0, exponent)
        norm = math.sqrt(_sum_of_squares(values[:size], power))
        clipped = self._update_clip / norm if norm > 0 else math.inf
        if size < len(values):
            values[size] = 0.0
        scale_and_sign(values, signs, min(unclipped, clipped) * share * self._steps, power)
        if self._weight_clip:
            negated = bool(signs[size // 8] >> (size % 8) & 1)
            weight = self._weight_clip * share * self._steps
            values[size] = -weight if negated else weight
        transform(values)
        return min(1.0, clipped / unclipped) if norm > 0 else 1.0


def perturb(
    values: npt.NDArray[np.float64],
    mechanism: Mechanism,
    randomness: Callable[[int], bytes],
    dtype: npt.DTypeLike,
    levels: NoiseLevels | None = None,
) -> tuple[npt.NDArray[np.unsignedinteger[Any]], EncodingKeys]:
    """Round a rotated update, in steps, add noise and reduce modulo 2^b.  ``values`` may be rounded towards zero.

    With ``levels`` the noise is drawn in components.  Returns the elements, and the keys that they were made with.
    """
    from secagg.arithmetic.kernels import private_rounding

    keys = EncodingKeys(fresh_bytes(randomness, KEY_BYTES))
    draws = _Draws(keys.rounding.reveal(), len(values))
    attempt = _first_good(values, draws, mechanism)
    out = np.empty(len(values), dtype)
    mask = np.uint64((1 << mechanism.bits) - 1)
    steps = np.empty(min(BLOCK, len(values)), np.int64)
    start = 0
    for noise in _noise(mechanism, keys, levels, len(values)):
        stop = start + len(noise)
        block = steps[: len(noise)]
        private_rounding.round_and_add(values[start:stop], draws.block(attempt, start, len(noise)), noise, block)
        np.bitwise_and(block.view(np.uint64), mask, out=out[start:stop], casting="unsafe")
        start = stop
    return out, keys


def _noise(
    mechanism: Mechanism, keys: EncodingKeys, levels: NoiseLevels | None, size: int
) -> Iterator[npt.NDArray[np.int64]]:
    """The whole noise of one client, in blocks."""
    if levels is None:
        yield from Noise(mechanism.noise, mechanism.variance, keys.noise.reveal()).blocks(size)
        return
    always = Noise(mechanism.noise, levels.variances[0], keys.noise.reveal())
    removable = levels.removable(mechanism, keys.removable.reveal(), 0)
    for total, *parts in zip(*(part.blocks(size) for part in (always, *removable)), strict=True):
        for part in parts:
            np.add(total, part, out=total)
        yield total


def nearest_root(square: Fraction) -> float:
    """The float64 nearest to the square root of a positive fraction."""
    shift = max(0, 140 - square.numerator.bit_length() + square.denominator.bit_length()) // 2 + 1
    scaled = (square.numerator << 2 * shift) // square.denominator
    root = math.isqrt(scaled)
    # At least 64 bits, and one that says whether more follow: it rounds as the root itself does.
    more = root * root * square.denominator != square.numerator << 2 * shift
    return float(Fraction(2 * root + more, 2 << shift))


def _sum_of_squares(values: npt.NDArray[np.float64], power: float) -> float:
    """In runs of BLOCK: each of them in order, and then their sums in order."""
    from secagg.arithmetic.kernels import private_rounding

    total = 0.0
    for start in range(0, len(values), BLOCK):
        total += private_rounding.sum_of_squares(values[start : start + BLOCK], power)
    return total


@final
class _Draws:
    """The random numbers of the rounding: 32 bits for each coordinate in each attempt."""

    __slots__ = ("_bytes", "_stream", "_zeros")

    def __init__(self, key: bytes, length: int) -> None:
        self._stream = Keystream(SUITE, key)
        room = 4 * max(4, min(BLOCK, length))
        self._bytes, self._zeros = np.empty(room, np.uint8), np.zeros(room, np.uint8)

    def block(self, attempt: int, start: int, count: int) -> npt.NDArray[np.uint32]:
        """Those of ``count`` coordinates from ``start``, a multiple of 4, on; good until the next call."""
        taken = -(-count // 4) * 16
        counter = (attempt << 64) + start // 4
        self._stream.read_into(self._bytes[:taken].data, self._zeros[:taken].data, counter)
        return self._bytes[: 4 * count].view(np.dtype("<u4"))


def _first_good(values: npt.NDArray[np.float64], draws: _Draws, mechanism: Mechanism) -> int:
    """The first attempt whose rounded values are within the mechanism's norm bound.

    When none of TRIES is, the values are rounded towards zero, in place, which is no longer than they are.
    """
    bound = mechanism.squared_norm_bound
    together = _ALWAYS_TRIED if mechanism.rounding_failure > 0 else 1  # without a condition, the first one is good
    for first in range(0, TRIES, together):
        squares = [_rounded_square(values, draws, attempt) for attempt in range(first, first + together)]
        for attempt, square in enumerate(squares, first):
            if square <= bound:
                return attempt
    np.trunc(values, out=values)
    return 0


def _rounded_square(values: npt.NDArray[np.float64], draws: _Draws, attempt: int) -> int:
    from secagg.arithmetic.kernels import private_rounding

    total = 0
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        high, mixed, low = private_rounding.square_sums(block, draws.block(attempt, start, len(block)))
        total += (int(high) << 48) + (int(mixed) << 25) + int(low)
    return total
