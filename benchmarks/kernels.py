"""How fast masks are added, beside the raw keystream: one process, one setting of SECAGG_FUSED_AES.

    python benchmarks/kernels.py [--repeat 5] [--masks 100] [--dim 1000000]

Prints JSON; ``targets.py`` runs it once with the fused kernel and once without.  A speed is bytes of keystream a
second; a ratio is that speed over the keystream's alone, as ``cryptography`` makes it in blocks of 256 KiB, on as many
threads.  One thread: CPU time.  Two threads: wall time, so that other work on the machine shows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from secagg import Modulus, masking

MODULI: Final = {
    "32-bit ring": Modulus.ring(32),
    "64-bit ring": Modulus.ring(64),
    "p = 2^31 - 1": Modulus(2**31 - 1),
    "p = 2^61 - 1": Modulus(2**61 - 1),
}
_BLOCK: Final = 1 << 18
_RAW_BLOCKS: Final = 1 << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--masks", type=int, default=100)
    parser.add_argument("--dim", type=int, default=1_000_000)
    options = parser.parse_args()
    print(json.dumps(measured(options.masks, options.dim, options.repeat), indent=2))


def measured(masks: int, dim: int, repeat: int) -> dict[str, dict[str, float]]:
    """By modulus: the ratio of masking and unmasking on one thread and on two."""
    with ThreadPoolExecutor(2) as executor:
        return {name: _ratios(modulus, masks, dim, repeat, executor) for name, modulus in MODULI.items()}


def _ratios(modulus: Modulus, masks: int, dim: int, repeat: int, executor: ThreadPoolExecutor) -> dict[str, float]:
    keys = [os.urandom(16) for _ in range(masks)]
    half = masks // 2
    vectors = [np.zeros(dim, dtype=modulus.dtype) for _ in range(2)]
    total = masks * vectors[0].nbytes

    def mask(vector: int = 0) -> None:
        masking.apply_masks(vectors[vector], keys[:half], keys[half:], modulus)

    def unmask(threads: ThreadPoolExecutor | None) -> None:
        masking.remove_masks(vectors[0], keys[:half], keys[half:], modulus, threads)

    mask()  # compiles
    unmask(executor)
    raw, raw_two = _median(_raw, time.thread_time, repeat), _median(lambda: _both(executor, _raw), _wall, repeat)
    raw_speed, raw_two_speed = _BLOCK * _RAW_BLOCKS / raw, 2 * _BLOCK * _RAW_BLOCKS / raw_two
    return {
        "raw bytes a second, 1 thread": raw_speed,
        "raw bytes a second, 2 threads": raw_two_speed,
        "masking, 1 thread": total / _median(mask, time.thread_time, repeat) / raw_speed,
        "masking, 2 threads": 2 * total / _median(lambda: _both(executor, mask, (0, 1)), _wall, repeat) / raw_two_speed,
        "unmasking, 1 thread": total / _median(lambda: unmask(None), time.thread_time, repeat) / raw_speed,
        "unmasking, 2 threads": total / _median(lambda: unmask(executor), _wall, repeat) / raw_two_speed,
    }


_wall = time.perf_counter


def _raw(_: int = 0) -> None:
    encryptor = Cipher(AES(bytes(16)), CTR(bytes(16))).encryptor()
    zeros, out = bytes(_BLOCK), bytearray(_BLOCK)
    for _block in range(_RAW_BLOCKS):
        encryptor.update_into(zeros, out)


def _both(executor: ThreadPoolExecutor, work: Callable[[int], None], arguments: Sequence[int] = (0, 1)) -> None:
    list(executor.map(work, arguments))


def _median(work: Callable[[], None], clock: Callable[[], float], repeat: int) -> float:
    samples = []
    for _ in range(repeat):
        started = clock()
        work()
        samples.append(clock() - started)
    return statistics.median(samples)


if __name__ == "__main__":
    main()
