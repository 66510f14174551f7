"""The Walsh-Hadamard transform, in place.

Its result is defined to the bit: butterflies (a, b) -> (a + b, a - b) at distance 1, then 2, then 4 and so on, and no
other operation.  Which of the butterflies at one distance comes first makes no difference, so that the kernel takes
them in the order that suits the caches: chunks that stay in the first-level cache, and beyond them three distances in
one pass over memory.
"""

from __future__ import annotations

from typing import Any, Final

from secagg.arithmetic.kernels.jit import kernel

_CHUNK: Final = 1 << 12
"""Values of a chunk: 32 KiB, the size of the first-level data cache of most processors."""


@kernel
def _one_distance(values: Any, distance: int) -> None:
    for start in range(0, len(values), 2 * distance):
        low, high = values[start : start + distance], values[start + distance : start + 2 * distance]
        for i in range(distance):
            a, b = low[i], high[i]
            low[i] = a + b
            high[i] = a - b


@kernel
def _first_three_distances(values: Any) -> None:
    """Distances 1, 2 and 4: eight values at a time, in registers."""
    for start in range(0, len(values), 8):
        part = values[start : start + 8]
        a0, a1 = part[0] + part[1], part[0] - part[1]
        a2, a3 = part[2] + part[3], part[2] - part[3]
        a4, a5 = part[4] + part[5], part[4] - part[5]
        a6, a7 = part[6] + part[7], part[6] - part[7]
        b0, b2, b1, b3 = a0 + a2, a0 - a2, a1 + a3, a1 - a3
        b4, b6, b5, b7 = a4 + a6, a4 - a6, a5 + a7, a5 - a7
        part[0], part[4] = b0 + b4, b0 - b4
        part[1], part[5] = b1 + b5, b1 - b5
        part[2], part[6] = b2 + b6, b2 - b6
        part[3], part[7] = b3 + b7, b3 - b7


@kernel
def _three_distances(values: Any, distance: int) -> None:
    """``distance``, twice and four times it, in one pass."""
    for start in range(0, len(values), 8 * distance):
        p0 = values[start : start + distance]
        p1 = values[start + distance : start + 2 * distance]
        p2 = values[start + 2 * distance : start + 3 * distance]
        p3 = values[start + 3 * distance : start + 4 * distance]
        p4 = values[start + 4 * distance : start + 5 * distance]
        p5 = values[start + 5 * distance : start + 6 * distance]
        p6 = values[start + 6 * distance : start + 7 * distance]
        p7 = values[start + 7 * distance : start + 8 * distance]
        for i in range(distance):
            a0, a1 = p0[i] + p1[i], p0[i] - p1[i]
            a2, a3 = p2[i] + p3[i], p2[i] - p3[i]
            a4, a5 = p4[i] + p5[i], p4[i] - p5[i]
            a6, a7 = p6[i] + p7[i], p6[i] - p7[i]
            b0, b2, b1, b3 = a0 + a2, a0 - a2, a1 + a3, a1 - a3
            b4, b6, b5, b7 = a4 + a6, a4 - a6, a5 + a7, a5 - a7
            p0[i], p4[i] = b0 + b4, b0 - b4
            p1[i], p5[i] = b1 + b5, b1 - b5
            p2[i], p6[i] = b2 + b6, b2 - b6
            p3[i], p7[i] = b3 + b7, b3 - b7


@kernel
def _from(values: Any, distance: int) -> None:
    """All distances from ``distance`` up."""
    while 8 * distance <= len(values):
        _three_distances(values, distance)
        distance *= 8
    while 2 * distance <= len(values):
        _one_distance(values, distance)
        distance *= 2


@kernel
def transform(values: Any) -> None:
    """Multiply by the Walsh-Hadamard matrix (Sylvester's order, entries 1 and -1), in place.

    ``values``: float64, 1-D, contiguous, a power of two long.
    """
    chunk = min(len(values), _CHUNK)
    for start in range(0, len(values), chunk):
        part = values[start : start + chunk]
        if chunk >= 8:
            _first_three_distances(part)
            _from(part, 8)
        else:
            _from(part, 1)
    _from(values, chunk)
