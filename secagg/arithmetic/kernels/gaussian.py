"""Discrete Gaussians from random words: a table that is compared with as a whole, never looked up.

Every sample is compared with every entry of the table, to all 127 bits, and the comparisons are counted.  So neither an
address nor a branch depends on a sample, and the loop over samples, which is the inner one, is vectorised.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from secagg.arithmetic.kernels.jit import kernel

_BLOCK: Final = 1024
"""Samples that are worked on at a time: their words and counts stay in the first-level cache."""

_ONE: Final = np.uint64(1)
_HALF: Final = np.uint64(1 << 63)


@kernel
def gaussian_samples(words: Any, high_bounds: Any, low_bounds: Any, out: Any) -> None:
    """Write signed samples.

    A sample takes two words, the lower 64 bits first.  Their lowest bit is the sign; the other 127 bits, as a number u,
    give the magnitude: the number of bounds that are at most u.

    Args:
        words: uint64, two a sample.
        high_bounds, low_bounds: int64: of each bound the upper 64 bits minus 2^63, and the lower 63.  The upper ones
            are shifted because vector units compare signed numbers alone.
        out: int32, one a sample.
    """
    high = np.empty(_BLOCK, dtype=np.int64)
    low = np.empty(_BLOCK, dtype=np.int64)
    counts = np.empty(_BLOCK, dtype=np.int64)
    for start in range(0, len(out), _BLOCK):
        size = min(_BLOCK, len(out) - start)
        for i in range(size):
            low[i] = np.int64(words[2 * (start + i)] >> _ONE)
            high[i] = np.int64(words[2 * (start + i) + 1] ^ _HALF)
            counts[i] = 0
        for k in range(len(high_bounds)):
            high_bound, low_bound = high_bounds[k], low_bounds[k]
            for i in range(size):
                above = (high[i] > high_bound) | ((high[i] == high_bound) & (low[i] >= low_bound))
                counts[i] += np.int64(above)
        for i in range(size):
            sign = np.int64(words[2 * (start + i)] & _ONE)
            out[start + i] = np.int32((counts[i] ^ -sign) + sign)
    high[:] = 0
    low[:] = 0
    counts[:] = 0
