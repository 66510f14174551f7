"""From an update in float64 to whole steps with noise, block by block; what it computes is said in ``secagg.privacy``.

Sums and products are in the order of the elements, so that they are the same to the bit on every machine.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from secagg.arithmetic.kernels.jit import kernel

_LARGEST: Final = np.finfo(np.float64).max
_FRACTION: Final = 2.0**32
_HALF_BITS: Final = np.uint64(24)
_LOW_HALF: Final = np.uint64(2**24 - 1)
_EIGHT: Final = np.int64(8)
_ONE: Final = np.uint8(1)


@kernel
def largest_of(values: Any) -> Any:
    """The largest absolute value, and whether all values are finite."""
    largest, wrong = 0.0, np.int64(0)
    for i in range(len(values)):
        size = abs(values[i])
        wrong += np.int64(not size <= _LARGEST)  # so is NaN's
        largest = max(largest, size)
    return largest, wrong == 0


@kernel
def sum_of_squares(values: Any, power: float) -> float:
    """The sum of (values[i] * power)^2, one after the other."""
    total = 0.0
    for i in range(len(values)):
        value = values[i] * power
        total += value * value
    return total


@kernel
def scale_and_sign(values: Any, power: float, factor: float, signs: Any) -> None:
    """values[i] = values[i] * power * factor, negated where bit i of ``signs`` (uint8, the lowest bit first) is 1."""
    for i in range(len(values)):
        bit = (signs[i // _EIGHT] >> np.uint8(i % _EIGHT)) & _ONE
        values[i] = values[i] * power * factor * (1.0 - 2.0 * np.float64(bit))


@kernel
def _rounded(value: float, random: Any) -> Any:
    floor = np.floor(value)
    return np.int64(floor) + np.int64(np.float64(random) < np.rint((value - floor) * _FRACTION))


@kernel
def square_sums(values: Any, random: Any) -> Any:
    """Sums of high^2, high low and low^2 over the rounded values, where |rounded| = 2^24 high + low.

    ``values`` are at most 2^47 in size and 2^15 in number, so that no sum reaches 2^64.
    """
    highs, mixed, lows = np.uint64(0), np.uint64(0), np.uint64(0)
    for i in range(len(values)):
        size = np.uint64(abs(_rounded(values[i], random[i])))
        high, low = size >> _HALF_BITS, size & _LOW_HALF
        highs += high * high
        mixed += high * low
        lows += low * low
    return highs, mixed, lows


@kernel
def round_and_add(values: Any, random: Any, noise: Any, out: Any) -> None:
    """out[i] = the rounded value + noise[i], modulo 2^64; ``noise`` and ``out`` are int64."""
    for i in range(len(values)):
        out[i] = _rounded(values[i], random[i]) + noise[i]
