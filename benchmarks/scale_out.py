"""How much faster a server unmasks on executors than in one thread: threads, processes, and a Dask cluster.

    python benchmarks/scale_out.py [--workers 2] [--masks 20000] [--dim 1000000] [--repeat 3]

What ``Server.compute`` does with its executor: keys of masks go out, slices of the net mask come back and are added
to the vector.  Each executor does it once before it is timed, so that nothing is compiled or loaded then.  Wall time,
the median of --repeat; every vector that comes out is compared with the first one.  The cluster is a
``distributed.LocalCluster`` of single-threaded worker processes (``pip install -e '.[dask]'``).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import numba  # noqa: F401 - a server has loaded it when it unmasks, and kernels are fused only then
import numpy as np
from machine import describe, duration, machine, save, table

from secagg import Modulus, Suite
from secagg.primitives import masking


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--masks", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    here = machine()
    print(f"{describe(here)}\n{options.masks:,} masks of {options.dim:,} elements, 32-bit ring\n", flush=True)
    keys = [os.urandom(16) for _ in range(options.masks)]
    expected = np.zeros(options.dim, np.uint32)
    masking.remove_masks(Suite.AES_128, expected, keys[::2], keys[1::2], Modulus.ring(32))
    seconds = {
        name: _seconds(opened, keys, expected, options.workers, options.repeat)
        for name, opened in _executors(options.workers).items()
    }
    alone = seconds["this thread"]
    rows = [[name, duration(taken), f"{alone / taken:.2f}"] for name, taken in seconds.items()]
    print(table(["executor", "wall time", "speed-up"], rows))
    if options.output:
        save(options.output, {"machine": here, "masks": options.masks, "dim": options.dim, "seconds": seconds})


def _executors(workers: int) -> dict[str, Callable[[], AbstractContextManager[Executor | None]]]:
    spawn = multiprocessing.get_context("spawn")
    return {
        "this thread": nullcontext,
        f"{workers} threads": lambda: ThreadPoolExecutor(workers),
        f"{workers} processes": lambda: ProcessPoolExecutor(workers, mp_context=spawn),
        f"Dask, {workers} worker processes": lambda: _dask(workers),
    }


@contextmanager
def _dask(workers: int) -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


def _seconds(
    opened: Callable[[], AbstractContextManager[Executor | None]],
    keys: Sequence[bytes],
    expected: np.ndarray,
    workers: int,
    repeat: int,
) -> float:
    samples = []
    with opened() as executor:
        for _ in range(repeat + 1):
            vector = np.zeros_like(expected)
            started = time.perf_counter()
            masking.remove_masks(Suite.AES_128, vector, keys[::2], keys[1::2], Modulus.ring(32), executor, workers)
            samples.append(time.perf_counter() - started)
            if not np.array_equal(vector, expected):
                raise SystemExit("an executor gave another sum")
    return statistics.median(samples[1:])


if __name__ == "__main__":
    main()
