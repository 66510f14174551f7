"""The project's performance targets beside what is measured here: one table, met or not met, nothing asserted.

    python benchmarks/targets.py                # an hour and a half, most of it servers on the complete graph
    python benchmarks/targets.py --graphs sparse
    python benchmarks/targets.py --scale 0.1    # rounds of a tenth of the clients and elements: seconds
    python benchmarks/targets.py --only client sharing bytes import

- kernels: 100 masks over 1,000,000 elements, speed over the raw keystream's (benchmarks/kernels.py);
- client: CPU over the floor with 100 neighbours, at 1,000,000 and 100,000 elements;
- server: CPU over the floor, and peak memory, n = 1,000, m = 1,000,000, both graphs, 0, 10 and 30 % lost;
- sharing: Shamir among 1,000 clients, and on a sparse graph;
- bytes: what a client sends over its plain vector of 16-bit values, from message sizes, exact;
- import: CPU time of ``import secagg`` over that of ``import numpy``; it must not import numba.

The first three have limits for three kinds of machine, and are measured for each, in processes of their own:

- VAES: an AES instruction takes several blocks;
- AES-NI: it takes one.  A machine with VAES stands in for it, by NUMBA_CPU_FEATURES; the keystream of the floor comes
  from ``cryptography``, which uses AES-NI alone on both;
- library: there is none in what Numba compiles for, as on other processors than x86-64; SECAGG_FUSED_AES=0.

What this machine cannot be measured as is in the table with its limit, and neither met nor not met.  Floors and raw
speeds are measured in the same run.  Measured figures are medians of --repeat runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from cells import Cell, Figures
from kernels import MODULI
from machine import describe, duration, machine, save, size, table, without_features

from secagg import Modulus, RoundConfig, Suite
from secagg.arithmetic.kernels import aes, fused
from secagg.arithmetic.modulus import MERSENNE_61
from secagg.pairwise.graph import NeighbourGraph
from secagg.primitives import masking, secret_sharing
from secagg.simulation.traffic import traffic

GROUPS: Final = ("kernels", "client", "server", "sharing", "bytes", "import")
GRAPHS: Final = ("sparse", "complete")
VAES, AES_NI, LIBRARY = KINDS = ("VAES", "AES-NI", "library")
RINGS_AT_LEAST: Final = {VAES: 1.6, AES_NI: 0.95, LIBRARY: 0.78}  # times the raw keystream's speed
PRIMES_AT_LEAST: Final = {VAES: 0.65, LIBRARY: 0.65}  # with AES-NI alone the library makes their masks too
TWO_THREADS_AT_LEAST: Final = 0.9  # of what they are to the raw keystream: other work may hold the second processor
CLIENTS_AT_MOST: Final = {
    1_000_000: {VAES: 1.0, AES_NI: 1.2, LIBRARY: 1.45},
    100_000: {VAES: 1.3, AES_NI: 1.6, LIBRARY: 1.6},
}
SERVERS_AT_MOST: Final = {
    0.0: {VAES: 1.2, AES_NI: 1.4, LIBRARY: 1.7},
    0.1: {VAES: 1.1, AES_NI: 1.2, LIBRARY: 1.45},
    0.3: {VAES: 1.1, AES_NI: 1.2, LIBRARY: 1.45},
}
SHARE_S, RECONSTRUCT_S, RECONSTRUCT_SPARSE_S, IMPORT_AT_MOST = 10e-3, 30e-3, 60e-6, 2.0
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
UPLOADS: Final = (
    (1 << 10, 1 << 20, "auto", 1.66),
    (1 << 14, 1 << 24, "auto", 1.88),
    (1 << 10, 1 << 20, "complete", 1.78),
    (1 << 14, 1 << 24, "complete", 2.03),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One line: what, the limit and the figure in the same unit, both for a person, and whether it is met."""

    what: str
    limit: str
    measured: str
    met: bool | None
    """None where this machine cannot be measured as such a one."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=GROUPS, nargs="+", default=list(GROUPS))
    parser.add_argument("--graphs", choices=GRAPHS, nargs="+", default=list(GRAPHS), help="of the server's rounds")
    parser.add_argument("--scale", type=float, default=1.0, help="of the clients and elements of rounds and kernels")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    groups: dict[str, Callable[[float, int], Iterator[Target]]] = {
        "kernels": kernels,
        "client": clients,
        "server": partial(servers, options.graphs),
        "sharing": sharing,
        "bytes": uploads,
        "import": imports,
    }
    here = machine()
    print(f"{describe(here)}\n", flush=True)
    targets: list[Target] = []
    for name in options.only:
        print(f"measuring: {name}", file=sys.stderr, flush=True)
        for target in groups[name](options.scale, options.repeat):
            print(f"  {target.what}: {target.measured}", file=sys.stderr, flush=True)
            targets.append(target)
    words = {True: "met", False: "NOT MET", None: "-"}
    rows = [[each.what, each.limit, each.measured, words[each.met]] for each in targets]
    print(table(["target", "limit", "measured", ""], rows))
    verdicts = [each.met for each in targets if each.met is not None]
    print(f"\n{sum(verdicts)} of {len(verdicts)} met; {len(targets) - len(verdicts)} cannot be measured here")
    if options.output:
        save(options.output, {"machine": here, "scale": options.scale, "targets": [asdict(each) for each in targets]})


def at_most(what: str, limit: float, measured: float | None, show: Callable[[float], str] = "{:.2f}".format) -> Target:
    if measured is None:
        return Target(what, f"<= {show(limit)}", "not here", None)
    return Target(what, f"<= {show(limit)}", show(measured), measured <= limit)


def at_least(what: str, limit: float, measured: float | None) -> Target:
    if measured is None:
        return Target(what, f">= {limit:.2f}", "not here", None)
    return Target(what, f">= {limit:.2f}", f"{measured:.2f}", measured >= limit)


# Kinds of machine.


def environments() -> dict[str, dict[str, str] | None]:
    """By kind, what makes a process here one of such a machine; None where nothing does."""
    here: dict[str, str] = {fused.SWITCH: "1"}
    narrow = here if aes.BLOCKS == 1 else {**here, **without_features("vaes", "avx512", "avx10")}
    return {
        VAES: here if aes.BLOCKS > 1 else None,
        AES_NI: narrow if aes.BLOCKS > 0 else None,
        LIBRARY: {fused.SWITCH: "0"},
    }


def measured_as(kind: str, script: str, *arguments: object) -> Any:
    """What a script prints as JSON in a process of such a machine; None where there can be none."""
    environment = environments()[kind]
    if environment is None:
        return None
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


# Kernels.


def kernels(scale: float, repeat: int) -> Iterator[Target]:
    for kind in KINDS:
        found = measured_as(kind, "kernels.py", "--repeat", repeat, "--dim", int(1_000_000 * scale))
        for modulus in MODULI:
            at_least_of = RINGS_AT_LEAST if MODULI[modulus].is_ring else PRIMES_AT_LEAST
            if kind in at_least_of:
                yield from _kernel_targets(f"{modulus}, {kind}", at_least_of[kind], found and found[modulus])


def _kernel_targets(name: str, limit: float, ratios: Mapping[str, float] | None) -> Iterator[Target]:
    for work in ("masking", "unmasking"):
        yield at_least(f"{work}, {name}: speed over raw keystream", limit, ratios and ratios[work])
        threads, raw = f"{work}, 2 threads over 1", "raw, 2 threads over 1"
        gain = ratios and ratios[threads] / ratios[raw]
        yield at_least(f"{threads}, {name}: over the raw keystream's", TWO_THREADS_AT_LEAST, gain)


# Rounds.


def clients(scale: float, repeat: int) -> Iterator[Target]:
    for dim, limits in CLIENTS_AT_MOST.items():
        cell = Cell(101, int(dim * scale), 0.0, "complete", "semi_honest")
        for kind, limit in limits.items():
            figures = _figures_as(kind, cell, 20, repeat)
            name = f"client CPU over floor, 100 neighbours, m = {cell.dim:,}, {kind}"
            yield at_most(name, limit, figures and figures.client_over_floor)


def servers(graphs: Sequence[str], scale: float, repeat: int) -> Iterator[Target]:
    """The complete graph is reported too; of its CPU nothing is asked."""
    for graph in graphs:
        for dropout, limits in SERVERS_AT_MOST.items():
            cell = Cell(max(100, int(1000 * scale)), int(1_000_000 * scale), dropout, graph, "semi_honest")
            name = f"{graph}, n = {cell.clients:,}, m = {cell.dim:,}, {dropout:.0%} lost"
            for kind, limit in limits.items():
                figures = _figures_as(kind, cell, 1, repeat)
                most = limit if graph == "sparse" else math.inf
                yield at_most(f"server CPU over floor, {name}, {kind}", most, figures and figures.server_over_floor)
                if figures:
                    memory = f"server memory, {name}, k = {figures.neighbours:g}, {kind}"
                    yield at_most(memory, figures.peak_limit_bytes, figures.peak_bytes, size)


def _figures_as(kind: str, cell: Cell, full: int, repeat: int) -> Figures | None:
    found = measured_as(kind, "cells.py", *astuple(cell), "--full", full, "--repeat", repeat)
    return found and Figures(**found)


# Secret sharing.


def sharing(_: float, repeat: int) -> Iterator[Target]:
    everybody, threshold = np.arange(1000), 667
    share = partial(_share, everybody, threshold)
    yield at_most("share a key and a seed, 667 of 1,000", SHARE_S, _seconds(share, repeat), duration)
    one = share()[0]
    common = partial(_reconstruct, np.tile(one, (1000, 1)), [everybody] * 1000, threshold)
    name = "reconstruct 1,000 secrets, 667 of 1,000, common holders"
    yield at_most(name, RECONSTRUCT_S, _seconds(common, repeat), duration)
    others = [np.delete(everybody, owner) for owner in everybody]
    complete = partial(_reconstruct, np.concatenate([one[holders] for holders in others]), others, threshold)
    name = "reconstruct 1,000 secrets, 667 of 999, a complete graph's holders"
    yield at_most(name, RECONSTRUCT_S, _seconds(complete, repeat), duration)
    shares, neighbours, threshold = _sparse_shares()
    each = _seconds(partial(_reconstruct, shares, neighbours, threshold), repeat) / len(neighbours)
    name = f"reconstruct a secret, {threshold} of 100 neighbours, holders of its own"
    yield at_most(name, RECONSTRUCT_SPARSE_S, each, duration)


def _share(holders: np.ndarray, threshold: int) -> np.ndarray:
    secrets = [os.urandom(32), os.urandom(32)]
    drawn = _coefficients(threshold)
    return secret_sharing.share(secrets, holders, threshold, drawn)


def _coefficients(threshold: int) -> np.ndarray:
    drawn = masking.expand(Suite.AES_128, os.urandom(16), 0, 2 * 5 * (threshold - 1), Modulus(MERSENNE_61))
    return drawn.reshape(2, 5, threshold - 1)


def _sparse_shares() -> tuple[np.ndarray, list[np.ndarray], int]:
    """Everybody's secret among its neighbours on a graph of 1,000 clients with 100 neighbours each."""
    config = RoundConfig.for_cohort(1000, 1, gamma=0.2, delta=0.1, neighbours=100)
    graph = NeighbourGraph(config.clients, config.neighbours, os.urandom(32))
    holders = [graph.neighbours_of(owner) for owner in range(config.clients)]
    return np.concatenate([_share(near, config.threshold)[0] for near in holders]), holders, config.threshold


def _reconstruct(shares: np.ndarray, holders_of: Sequence[np.ndarray], threshold: int) -> None:
    """Every secret, whose shares lie one after the other."""
    reconstructor, first = secret_sharing.Reconstructor(threshold, shares), 0
    for holders in holders_of:
        reconstructor.add(holders, np.arange(first, first + len(holders)))
        first += len(holders)
    if None in reconstructor.secrets():
        raise SystemExit("a reconstructed secret is out of range")


def _seconds(work: Callable[[], object], repeat: int) -> float:
    work()
    samples = []
    for _ in range(max(5, repeat)):
        started = time.thread_time()
        work()
        samples.append(time.thread_time() - started)
    return statistics.median(samples)


# Bytes and import.


def uploads(_: float, __: int) -> Iterator[Target]:
    for n, m, neighbours, limit in UPLOADS:
        config = RoundConfig.for_cohort(
            n,
            m,
            gamma=0.2,
            delta=0.1,
            neighbours=neighbours,  # type: ignore[arg-type]
            input_max=2**16 - 1,
        )
        up = sum(sent for sent, _ in traffic(config).values())
        name = f"upload over plain, n = {n:,}, m = {m:,}, {config.neighbours:,} neighbours"
        yield at_most(name, limit, up / (2 * m), "{:.3f}".format)


def imports(_scale: float, repeat: int) -> Iterator[Target]:
    """CPU time with NumPy's included, over NumPy's in the same process: the median of 21 processes at least.

    Byte code is in place, as an installed package has it.  NumPy's linear algebra gets no threads: it starts one for
    each processor as it is loaded, and they wait in loops, so that the time of either import could double by chance.
    """
    code = (
        "import sys, time; begun = time.process_time(); import numpy; between = time.process_time(); import secagg; "
        "print((time.process_time() - begun) / (between - begun), 'numba' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    with tempfile.TemporaryDirectory() as byte_code:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": byte_code, "PYTHONDONTWRITEBYTECODE": "", **ONE_THREAD}
        runs = [
            subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.split()
            for _ in range(max(21, repeat) + 1)
        ]
    ratios = [float(ratio) for ratio, _numba in runs[1:]]  # the first process compiles
    with_numba = any(numba == "True" for _ratio, numba in runs)
    yield at_most("import secagg, over import numpy", IMPORT_AT_MOST, statistics.median(ratios))
    yield Target("import secagg imports numba", "no", "yes" if with_numba else "no", not with_numba)


if __name__ == "__main__":
    main()
