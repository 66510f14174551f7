"""bfloat16, which NumPy has no type for: the upper half of a float32."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

LARGEST: Final = float(np.array(0x7F7F0000, np.uint32).view(np.float32))
"""The largest finite bfloat16."""
_HALF: Final = np.uint32(16)
_BELOW_HALF: Final = np.uint32(0x7FFF)


def widened(halves: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """The values of bfloat16s, which float32 holds exactly; ``halves`` are of any type of 16 bits."""
    return np.asarray((halves.view(np.uint16).astype(np.uint32) << _HALF).view(np.float32))


def narrowed(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The bits of the bfloat16s that are nearest to finite float32s, of two that are as near the even one.

    What is beyond the largest bfloat16 becomes that.
    """
    bits = np.asarray(np.clip(values, -LARGEST, LARGEST), np.float32).view(np.uint32)
    return np.asarray(((bits + _BELOW_HALF + ((bits >> _HALF) & np.uint32(1))) >> _HALF).astype(np.uint16))
