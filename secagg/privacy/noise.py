"""Exact integer noise from a key: Skellam and discrete Gaussian, the same on every machine.

Both are drawn by the ratio of uniforms (Kinderman and Monahan 1977; for whole numbers Stadlober 1990).  For a density
f on the integers with f <= 1 and (|k| + 1/2) sqrt(f(k)) <= s / 2 for every k, a *trial* takes U uniform in (0, 1) and T
uniform in (-2^63, 2^63), and computes

    K = floor(s T / (2^64 U) + 1/2),    accepted exactly if U^2 < f(K).

An accepted K has probabilities in proportion to f, whatever s is; a smaller s wastes fewer trials.  U, T, f(K) and the
comparison are those of the real numbers: 64 bits of U and of T are drawn, and decide all but about one trial in 10^9;
as many more as it takes are drawn for that one.  Nothing is rounded, and no tail is cut off.

- Discrete Gaussian of variance parameter v: f(k) = exp(-k^2 / 2 v), s = 2 + ceil(sqrt(2.9432 v)).
- Skellam of variance v: the difference of two Poisson variables of mean v / 2, each less its mode
  m = floor(v / 2), which cancels: f(k) = (v / 2)^k m! / (m + k)!, s = 2 + ceil(sqrt(1.4716 v)).

Trial number i reads the 16 bytes of block i of the AES-256-CTR keystream of the key: bytes 0 - 7 are the whole part of
2^64 U, unsigned, and bytes 8 - 15 the whole part of T, signed, both with the lowest byte first.  Further bits of both
are in blocks 2^127 + 2^64 i + j, j = 0, 1, ..., 64 bits each in the same places, the highest first.

What the time tells: how many trials were rejected, which follows from the key alone and never from the data; it tells
next to nothing about the noise either, for a rejected trial says nothing about the one that is accepted after it.  A
trial that exact arithmetic decides takes about a millisecond, and that tells that its U^2 was very near to f(K).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Final, final

import numpy as np
import numpy.typing as npt

from secagg.primitives.streams import Keystream
from secagg.privacy import exact
from secagg.privacy.keys import SUITE
from secagg.privacy.parameters import NoiseKind

BLOCK: Final = 1 << 14
"""Values made at a time."""
_TRIALS: Final = 1 << 12
"""Trials carried out at a time.  It does not change what comes out: a trial has its own place in the keystream."""
_BLOCK_BYTES: Final = 16
_LARGE_MODE: Final = 1024
"""From this mode on the error of ``poisson_trials``' series is within its bound; below, ``small_poisson_trials`` has it
within the same one."""
_CERTAIN: Final = 42
"""f(K) < exp(-42) < 2^-60 beyond the limit of a sampler."""


@final
class Noise:
    """An endless row of independent values of one distribution, which follows from the key.

    Not safe for several threads at once.  The key is not kept, and shows in no repr.
    """

    __slots__ = ("_candidates", "_judge", "_law", "_paired", "_position", "_stream", "_trial", "_verdicts", "_words")

    def __init__(self, kind: NoiseKind, variance: int, key: bytes) -> None:
        """``variance`` in 1 .. 2^62, ``key`` of 32 bytes."""
        self._stream = Keystream(SUITE, key)
        self._paired = kind is NoiseKind.SKELLAM
        self._law, self._judge = _sampler(kind, variance)
        self._candidates, self._verdicts = np.empty(_TRIALS, np.int64), np.empty(_TRIALS, np.uint8)
        self._words = np.empty(_BLOCK_BYTES * _TRIALS, np.uint8)
        self._trial = 0  # the first that was not yet tried
        self._position = _TRIALS  # the first of the last trials that was not yet taken

    def blocks(self, size: int) -> Iterator[npt.NDArray[np.int64]]:
        """The next ``size`` values, in arrays of at most ``BLOCK``, each good until the next one."""
        out = np.empty(min(size, BLOCK), np.int64)
        drawn = np.empty(2 * len(out), np.int64) if self._paired else out
        for start in range(0, size, BLOCK):
            count = min(BLOCK, size - start)
            if self._paired:
                self._fill(drawn[: 2 * count])
                np.subtract(drawn[0 : 2 * count : 2], drawn[1 : 2 * count : 2], out=out[:count])
            else:
                self._fill(out[:count])
            yield out[:count]

    def draw(self, size: int) -> npt.NDArray[np.int64]:
        """The next ``size`` values."""
        out = np.empty(size, np.int64)
        done = 0
        for block in self.blocks(size):
            out[done : done + len(block)] = block
            done += len(block)
        return out

    def _fill(self, out: npt.NDArray[np.int64]) -> None:
        from secagg.arithmetic.kernels import noise as kernels

        filled = 0
        while filled < len(out):
            if self._position == _TRIALS:
                self._try_more()
            self._position, filled = kernels.take(self._candidates, self._verdicts, self._position, out, filled)

    def _try_more(self) -> None:
        from secagg.arithmetic.kernels import noise as kernels

        self._stream.read_into(self._words.data, _zeros(len(self._words)).data, self._trial)
        unsigned = self._words.view(np.dtype("<u8"))
        signed = self._words.view(np.dtype("<i8"))
        self._judge(unsigned, signed, self._candidates, self._verdicts)
        for index in np.flatnonzero(self._verdicts == kernels.UNDECIDED).tolist():
            trial = self._trial + index
            w, t = int(unsigned[2 * index]), int(signed[2 * index + 1])
            found = exact.decide(self._law, w, t, self._further_bits(trial))
            self._verdicts[index] = kernels.REJECTED if found is None else kernels.ACCEPTED
            self._candidates[index] = 0 if found is None else exact.wrapped(found)
        self._trial += _TRIALS
        self._position = 0

    def _further_bits(self, trial: int) -> Iterator[tuple[int, int]]:
        """The bits of U and of T that a trial has beyond the first 64 each."""
        out = np.empty(_BLOCK_BYTES, np.uint8)
        for number in range(2**64):
            self._stream.read_into(out.data, _zeros(_BLOCK_BYTES).data, 2**127 + 2**64 * trial + number)
            data = out.tobytes()
            yield int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")

    def __repr__(self) -> str:
        return "Noise()"


@cache
def _zeros(size: int) -> npt.NDArray[np.uint8]:
    """What a keystream is made of."""
    zeros = np.zeros(size, np.uint8)
    zeros.flags.writeable = False
    return zeros


def _sampler(kind: NoiseKind, variance: int) -> tuple[exact.Law, Callable[..., None]]:
    """The density, and the kernel that carries out many trials."""
    from secagg.arithmetic.kernels import noise as kernels

    if kind is NoiseKind.DISCRETE_GAUSSIAN:
        gaussian = exact.DiscreteGaussian(variance)
        limit = math.sqrt(2 * _CERTAIN * variance) + 2
        return gaussian, partial(kernels.gaussian_trials, float(gaussian.scale), limit, float(variance))
    poisson = exact.CentredPoisson(variance)
    # From here on j (j - 1) / (2 mean + j - 1) is above 42; see CentredPoisson.
    limit = _CERTAIN + 2 + math.sqrt(_CERTAIN * variance + _CERTAIN**2 / 4 + 1)
    trials = kernels.poisson_trials if poisson.mode >= _LARGE_MODE else kernels.small_poisson_trials
    return poisson, partial(trials, float(poisson.scale), limit, float(poisson.mode), variance % 2 / 2)
