"""Add several arrays to one in a single pass: that one is read and written once for four of them, not once for each.

Where a library's keystreams are added up, one after the other as they come, the additions take a third as long as the
keystreams themselves; four at a time, a sixth.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from secagg.arithmetic.kernels import jit

_TILE_BYTES: Final = 1 << 12  # of the sum: the nearest cache holds it beside what is added to it


@cache
def row_adder(lane_bits: int) -> Any:
    """The kernel for lanes of 8, 16, 32 or 64 bits: (total, lanes, rows, stride, start, negate); it releases the GIL.

    It adds ``lanes[row * stride + start + i]``, of rows 0 to ``rows`` - 1, to ``total[i]``, or subtracts them, modulo
    2^lane_bits.  Both arrays are contiguous.
    """
    tile = _TILE_BYTES * 8 // lane_bits

    def add_rows(total: Any, lanes: Any, rows: Any, stride: Any, start: Any, negate: Any) -> None:
        for first in range(0, total.shape[0], tile):
            part = total[first : first + tile]
            size, begin = part.shape[0], start + first
            for row in range(0, rows - 3, 4):
                place = begin + row * stride
                one, two = lanes[place : place + size], lanes[place + stride : place + stride + size]
                place += 2 * stride
                three, four = lanes[place : place + size], lanes[place + stride : place + stride + size]
                if negate:
                    for i in range(size):
                        part[i] -= one[i] + two[i] + three[i] + four[i]
                else:
                    for i in range(size):
                        part[i] += one[i] + two[i] + three[i] + four[i]
            for row in range(rows - rows % 4, rows):
                one = lanes[begin + row * stride : begin + row * stride + size]
                if negate:
                    for i in range(size):
                        part[i] -= one[i]
                else:
                    for i in range(size):
                        part[i] += one[i]

    lanes, count = jit.array_of(f"u{lane_bits // 8}"), jit.scalar_of(np.int64)
    return jit.specialised(
        add_rows, f"add_rows_{lane_bits}", lanes, lanes, count, count, count, jit.scalar_of(np.bool_)
    )
