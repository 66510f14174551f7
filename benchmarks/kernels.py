"""How fast masks are added, beside the raw keystream: one process, one setting of SECAGG_FUSED_AES.

    python benchmarks/kernels.py [--repeat 5] [--masks 100] [--dim 1000000]

Prints JSON; ``targets.py`` runs it once with the fused kernel and once without.  Masking and unmasking on one thread:
the ratio of their speed, in bytes of keystream a second of CPU time, to that of the keystream alone, as
``cryptography`` makes it in blocks of 256 KiB.  On two threads: how many times one thread's speed, by wall time, so
that other work on the machine shows: the median over pairs of runs, one after the other, for some seconds; the raw
keystream's tells how much of a second processor there is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numba  # noqa: F401 - a round has loaded it when it masks, and kernels are fused only then
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from secagg import Modulus, Suite
from secagg.arithmetic.kernels import fused
from secagg.primitives import masking

MODULI: Final = {
    "32-bit ring": Modulus.ring(32),
    "64-bit ring": Modulus.ring(64),
    "p = 2^31 - 1": Modulus(2**31 - 1),
    "p = 2^61 - 1": Modulus(2**61 - 1),
}
_BLOCK: Final = 1 << 18
_RAW_BLOCKS: Final = 1 << 10
_PAIRS_A_REPEAT: Final = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--dim", type=int, default=1_000_000)
    options = parser.parse_args()
    print(json.dumps(measured(options.masks, options.dim, options.repeat), indent=2))


def measured(masks: int, dim: int, repeat: int) -> dict[str, dict[str, float]]:
    """By modulus: whether kernels are fused, and the ratios of masking and unmasking."""
    with ThreadPoolExecutor(2) as executor:
        return {name: _ratios(modulus, masks, dim, repeat, executor) for name, modulus in MODULI.items()}


def _ratios(modulus: Modulus, masks: int, dim: int, repeat: int, executor: ThreadPoolExecutor) -> dict[str, float]:
    keys = [os.urandom(16) for _ in range(masks)]
    half = masks // 2
    vectors = [np.zeros(dim, dtype=modulus.dtype) for _ in range(2)]
    total = masks * vectors[0].nbytes

    def mask(vector: int = 0) -> None:
        masking.apply_masks(Suite.AES_128, vectors[vector], keys[:half], keys[half:], modulus)

    def unmask(threads: ThreadPoolExecutor | None) -> None:
        masking.remove_masks(Suite.AES_128, vectors[0], keys[:half], keys[half:], modulus, threads)

    mask()  # compiles
    unmask(executor)
    raw_speed = _BLOCK * _RAW_BLOCKS / _median(_raw, time.thread_time, repeat)
    return {
        "fused": fused.kernels_for(modulus, 16, masks, vectors[0].nbytes) is not None,
        "raw bytes a second": raw_speed,
        "raw, 2 threads over 1": 2 * _speed_up(_raw, lambda: _both(executor, _raw), 1),
        "masking": total / _median(mask, time.thread_time, repeat) / raw_speed,
        "unmasking": total / _median(lambda: unmask(None), time.thread_time, repeat) / raw_speed,
        "masking, 2 threads over 1": 2 * _speed_up(mask, lambda: _both(executor, mask), repeat),
        "unmasking, 2 threads over 1": _speed_up(lambda: unmask(None), lambda: unmask(executor), repeat),
    }


def _raw(_thread: int = 0) -> None:
    encryptor = Cipher(AES(bytes(16)), CTR(bytes(16))).encryptor()
    zeros, out = bytes(_BLOCK), bytearray(_BLOCK)
    for _block in range(_RAW_BLOCKS):
        encryptor.update_into(zeros, out)


def _both(executor: ThreadPoolExecutor, work: Callable[[int], None]) -> None:
    list(executor.map(work, (0, 1)))


def _speed_up(slow: Callable[[], None], fast: Callable[[], None], repeat: int) -> float:
    """The median ratio of wall times: each pair of runs has the machine in the same state."""
    return statistics.median(_wall(slow) / _wall(fast) for _ in range(_PAIRS_A_REPEAT * repeat))


def _wall(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _median(work: Callable[[], None], clock: Callable[[], float], repeat: int) -> float:
    samples = []
    for _ in range(repeat):
        started = clock()
        work()
        samples.append(clock() - started)
    return statistics.median(samples)


if __name__ == "__main__":
    main()
