"""The random rotation that spreads an update over all coordinates: x -> H (s x) / sqrt(d), H Walsh-Hadamard.

The signs s are public: bit i of the AES-256-CTR keystream of a key derived from the round's context, the lowest bit of
a byte first, says whether coordinate i is negated.  The square root is left to whoever scales the values anyway.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from secagg.primitives.streams import keystream_bytes
from secagg.privacy.keys import SUITE, rotation_key


def signs_of(context: bytes, dimension: int) -> npt.NDArray[np.uint8]:
    """The signs of a round as bits, one for each coordinate; whole bytes."""
    return np.frombuffer(keystream_bytes(SUITE, rotation_key(context), -(-dimension // 8)), np.uint8)


def transform(values: npt.NDArray[np.float64]) -> None:
    """Multiply by H, in place: entries 1 and -1, in Sylvester's order.  A contiguous vector, a power of two long."""
    from secagg.arithmetic.kernels import hadamard

    hadamard.transform(values)


def scale_and_sign(
    values: npt.NDArray[np.float64], signs: npt.NDArray[np.uint8], factor: float, power: float = 1.0
) -> None:
    """Multiply by ``power``, by ``factor`` and by the signs, in place and in this order."""
    from secagg.arithmetic.kernels import private_rounding

    private_rounding.scale_and_sign(values, power, factor, signs)
