"""How much faster a server takes vectors in and unmasks with several workers: threads, processes, and a Dask cluster.

    python benchmarks/scale_out.py [--workers 1 2] [--clients 200] [--masks 20000] [--dim 1000000] [--repeat 3]

*Intake* is MASK: a vector for each client is checked, unpacked and added up.  In one thread ``Server.receive`` does it.
Else each worker fills a partial sum, whose clients the server admits, and the server merges it.  A worker has the
messages already, as from connections of its own: all have the bytes of one, so that a job carries a single copy.

*Unmasking* is what ``Server.compute`` does with its executor: keys of masks go out, and slices of the net mask come
back and are added to the vector.

Each executor does everything once before it is timed, so that nothing is compiled or loaded then.  Wall time, the
median of --repeat; every sum that comes out is compared with the first one.  The cluster is a
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
from functools import partial
from pathlib import Path

import numba  # noqa: F401 - a server has loaded it when it unmasks, and kernels are fused only then
import numpy as np
from machine import describe, duration, machine, save, table

from secagg import Modulus, PartialSum, RoundConfig, Server, Suite
from secagg.pairwise import messages
from secagg.pairwise.messages import MaskedInput
from secagg.pairwise.server.records import Unmasking as UnmaskingPhase
from secagg.pairwise.server.snapshot import load
from secagg.primitives import masking
from secagg.simulation import RoundDriver

BITS = 32
Opened = Callable[[], AbstractContextManager[Executor | None]]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2))
    parser.add_argument("--clients", type=int, default=200, help="whose vectors are taken in")
    parser.add_argument("--masks", type=int, default=20_000, help="that are taken off")
    parser.add_argument("--dim", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    here = machine()
    print(
        f"{describe(here)}\n{options.clients:,} vectors and {options.masks:,} masks of {options.dim:,} elements, "
        f"{BITS}-bit ring\n",
        flush=True,
    )
    works = Intake(options.clients, options.dim), Unmasking(options.masks, options.dim)
    seconds = {
        name: [_seconds(opened, work, workers, options.repeat) for work in works]
        for name, workers, opened in _executors(options.workers)
    }
    alone = seconds["this thread"]
    rows = [
        [name, duration(intake), f"{alone[0] / intake:.2f}", duration(unmasking), f"{alone[1] / unmasking:.2f}"]
        for name, (intake, unmasking) in seconds.items()
    ]
    print(table(["workers", "intake", "speed-up", "unmasking", "speed-up"], rows))
    if options.output:
        what = {"clients": options.clients, "masks": options.masks, "dim": options.dim}
        save(options.output, {"machine": here, **what, "seconds": seconds})


def _executors(counts: Sequence[int]) -> Iterator[tuple[str, int, Opened]]:
    spawn = multiprocessing.get_context("spawn")
    yield "this thread", 1, nullcontext
    for count in counts:
        yield f"threads: {count}", count, partial(ThreadPoolExecutor, count)
        yield f"processes: {count}", count, partial(ProcessPoolExecutor, count, mp_context=spawn)
        yield f"Dask worker processes: {count}", count, partial(_dask, count)


@contextmanager
def _dask(workers: int) -> Iterator[Executor]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor(pure=False)


class Intake:
    """MASK of a round that has come so far."""

    def __init__(self, clients: int, dim: int) -> None:
        config = RoundConfig.for_cohort(clients, dim, gamma=0.1, delta=0.1, modulus=2**BITS)
        driver = RoundDriver(lambda index: np.zeros(dim, np.uint32), config)
        while driver.server.phase != "MASK":
            driver.collect()
            driver.close()
        self._snapshot, self._clients = driver.server.snapshot(), range(clients)
        self._session = Server.restore(self._snapshot).open_partial().session
        vector = memoryview(os.urandom(config.modulus.packed_bytes(dim)))
        self._message = messages.encode(MaskedInput(config.version, self._session, vector))

    def __call__(self, executor: Executor | None, workers: int) -> tuple[float, bytes]:
        """The seconds that it took, and what came out."""
        server = Server.restore(self._snapshot)
        started = time.perf_counter()
        if executor is None:
            for sender in self._clients:
                server.receive(sender, self._message)
        else:
            jobs = []
            for worker in range(workers):
                own, senders = server.open_partial(), self._clients[worker::workers]
                for sender in senders:
                    header = own.header(sender, self._message)
                    if isinstance(header, bytes):
                        server.admit(sender, header, own.name)
                jobs.append(executor.submit(_fill, own, self._message, senders))
            for job in jobs:
                server.merge(job.result())
        taken = time.perf_counter() - started
        if server.missing:
            raise SystemExit(f"{len(server.missing)} vectors are missing")
        server.close_phase()
        held = load(server.snapshot(), None).held
        if not isinstance(held, UnmaskingPhase):
            raise SystemExit(f"the round ended: {server.failure}")
        return taken, held.masked.total.tobytes()


def _fill(own: PartialSum, message: bytes, senders: Sequence[int]) -> PartialSum:
    return own.add_all((sender, message) for sender in senders)[0]


class Unmasking:
    """Masks that are taken off a vector."""

    def __init__(self, masks: int, dim: int) -> None:
        self._keys, self._dim = [os.urandom(16) for _ in range(masks)], dim

    def __call__(self, executor: Executor | None, workers: int) -> tuple[float, bytes]:
        """The seconds that it took, and what came out."""
        vector, keys = np.zeros(self._dim, np.uint32), self._keys
        started = time.perf_counter()
        masking.remove_masks(Suite.AES_128, vector, keys[::2], keys[1::2], Modulus.ring(BITS), executor, workers)
        return time.perf_counter() - started, vector.tobytes()


def _seconds(opened: Opened, work: Intake | Unmasking, workers: int, repeat: int) -> float:
    expected = work(None, 1)[1]
    with opened() as executor:
        samples = [work(executor, workers) for _ in range(repeat + 1)]
    if any(found != expected for _, found in samples):
        raise SystemExit("an executor gave another sum")
    return statistics.median(taken for taken, _ in samples[1:])


if __name__ == "__main__":
    main()
