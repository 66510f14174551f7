"""The secret and the errors of one envelope, all of one seed (R-ENV-5).

The seed's AES-256-CTR keystream takes the place of the operating system's source, which gives a tenth of the speed.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from secagg.envelopes.gaussian import ERROR, SAMPLE_BYTES, SECRET, Gaussian, sample
from secagg.primitives.streams import Keystream
from secagg.primitives.suites import Suite

SEED_BYTES: Final = 32


@final
class EnvelopeRandomness:
    """Draws the secret first, and then the errors in the order in which they are asked for."""

    __slots__ = ("_block", "_stream")

    def __init__(self, seed: bytes) -> None:
        """``seed`` makes one envelope and nothing else.  Raises CryptoError unless it has SEED_BYTES bytes."""
        self._stream, self._block = Keystream(Suite.AES_256, seed), 0

    def secret(self, degree: int) -> NDArray[np.int32]:
        """The secret: shape (N,), of magnitudes up to ``SECRET.bound``."""
        return self._samples(SECRET, degree)

    def errors(self, count: int) -> NDArray[np.int32]:
        """The next errors: shape (count,), of magnitudes up to ``ERROR.bound``."""
        return self._samples(ERROR, count)

    def __repr__(self) -> str:
        return "EnvelopeRandomness()"

    def _samples(self, distribution: Gaussian, count: int) -> NDArray[np.int32]:
        random, out = np.zeros(count * SAMPLE_BYTES, dtype=np.uint8), np.empty(count, dtype=np.int32)
        self._stream.read_into(random.data, memoryview(bytes(random.nbytes)), self._block)
        self._block += count
        sample(distribution, random, out)
        random[:] = 0
        return out
