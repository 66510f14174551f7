"""The project's performance targets beside what is measured here: one table, met or not met, nothing asserted.

    python benchmarks/targets.py                # an hour, most of it servers on the complete graph
    python benchmarks/targets.py --graphs sparse
    python benchmarks/targets.py --scale 0.1    # rounds of a tenth of the clients and elements: seconds
    python benchmarks/targets.py --only bytes sharing import

- kernels: 100 masks over 1,000,000 elements, speed over the raw keystream's (benchmarks/kernels.py);
- client: CPU over the floor with 100 neighbours, at 1,000,000 and 100,000 elements; the limits depend on whether an
  AES instruction of this machine, or of what NUMBA_CPU_FEATURES leaves of it, takes several blocks;
- server: CPU over the floor, and peak memory, n = 1,000, m = 1,000,000, both graphs, 0, 10 and 30 % lost;
  all of these with the fused kernel and, with SECAGG_FUSED_AES=0, without;
- sharing: Shamir among 1,000 clients, and on a sparse graph;
- bytes: what a client sends over its plain vector of 16-bit values, from message sizes, exact;
- import: time of ``import secagg``, which must not import numba.

Floors and raw speeds are measured in the same run.  Measured figures are medians of --repeat runs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from cells import Cell, Figures, median_of, run
from machine import describe, duration, machine, save, size, table

from secagg import Modulus, RoundConfig, Suite
from secagg.arithmetic.kernels import aes, fused
from secagg.arithmetic.modulus import MERSENNE_61
from secagg.cli.rounds import warm_up
from secagg.pairwise.graph import NeighbourGraph
from secagg.primitives import masking, secret_sharing
from secagg.simulation.traffic import traffic

GROUPS: Final = ("kernels", "client", "server", "sharing", "bytes", "import")
GRAPHS: Final = ("sparse", "complete")
VARIANTS: Final = {"fused": "1", "library": "0"}  # values of SECAGG_FUSED_AES
RINGS_AT_LEAST: Final = {"fused": 1.6, "library": 0.78}  # times the raw keystream's speed
PRIMES_AT_LEAST: Final = 0.65
TWO_THREADS_AT_LEAST: Final = 1.8
CLIENTS_AT_MOST: Final = {1_000_000: {"fused": 1.0, "library": 1.45}, 100_000: {"fused": 1.3, "library": 1.6}}
CLIENTS_AT_MOST_ONE_BLOCK: Final = {
    1_000_000: {"fused": 1.2, "library": 1.45},
    100_000: {"fused": 1.6, "library": 1.6},
}
"""Where an AES instruction takes one block (AES-NI without VAES), the kernels are about as fast as the library."""
SERVERS_AT_MOST: Final = {
    0.0: {"fused": 1.2, "library": 1.7},
    0.1: {"fused": 1.1, "library": 1.45},
    0.3: {"fused": 1.1, "library": 1.45},
}
SHARE_S, RECONSTRUCT_S, RECONSTRUCT_SPARSE_S, IMPORT_S = 10e-3, 30e-3, 60e-6, 0.25
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
    met: bool


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
    rows = [[each.what, each.limit, each.measured, "met" if each.met else "NOT MET"] for each in targets]
    print(table(["target", "limit", "measured", ""], rows))
    print(f"\n{sum(each.met for each in targets)} of {len(targets)} met")
    if options.output:
        save(options.output, {"machine": here, "scale": options.scale, "targets": [asdict(each) for each in targets]})


def at_most(what: str, limit: float, measured: float, show: Callable[[float], str] = "{:.2f}".format) -> Target:
    return Target(what, f"<= {show(limit)}", show(measured), measured <= limit)


def at_least(what: str, limit: float, measured: float) -> Target:
    return Target(what, f">= {limit:.2f}", f"{measured:.2f}", measured >= limit)


# Kernels.


def kernels(scale: float, repeat: int) -> Iterator[Target]:
    dim = int(1_000_000 * scale)
    command = [sys.executable, str(Path(__file__).with_name("kernels.py")), "--repeat", str(repeat), "--dim", str(dim)]
    for variant, setting in VARIANTS.items():
        environment = {**os.environ, fused.SWITCH: setting}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        for modulus, ratios in json.loads(done.stdout).items():
            if ratios["fused"] != (variant == "fused"):
                yield Target(f"{modulus}, {variant}", "there", "not on this machine", met=False)
                continue
            speed = PRIMES_AT_LEAST if modulus.startswith("p") else RINGS_AT_LEAST[variant]
            for work in ("masking", "unmasking"):
                yield at_least(f"{work}, {modulus}, {variant}: speed over raw keystream", speed, ratios[work])
                threads, raw = f"{work}, 2 threads over 1", ratios["raw, 2 threads over 1"]
                name = f"{threads}, {modulus}, {variant} (raw keystream: {raw:.2f})"
                yield at_least(name, TWO_THREADS_AT_LEAST, ratios[threads])


# Rounds.


def clients(scale: float, repeat: int) -> Iterator[Target]:
    kinds = CLIENTS_AT_MOST if aes.BLOCKS > 1 else CLIENTS_AT_MOST_ONE_BLOCK
    for dim, limits in kinds.items():
        cell = Cell(101, int(dim * scale), 0.0, "complete", "semi_honest")
        name = f"client CPU over floor, 100 neighbours, m = {cell.dim:,}"
        for variant, limit in limits.items():
            yield at_most(f"{name}, {variant}", limit, _median_run(cell, 20, variant, repeat).client_over_floor)


def servers(graphs: Sequence[str], scale: float, repeat: int) -> Iterator[Target]:
    """The complete graph is reported too; of its CPU nothing is asked."""
    for graph in graphs:
        for dropout, limits in SERVERS_AT_MOST.items():
            cell = Cell(max(100, int(1000 * scale)), int(1_000_000 * scale), dropout, graph, "semi_honest")
            for variant, limit in limits.items():
                figures = _median_run(cell, 1, variant, repeat)
                name = (
                    f"{graph}, n = {cell.clients:,}, m = {cell.dim:,}, k = {figures.neighbours:g}, {dropout:.0%} lost"
                )
                most = limit if graph == "sparse" else math.inf
                yield at_most(f"server CPU over floor, {name}, {variant}", most, figures.server_over_floor)
            yield at_most(f"server memory, {name}", figures.peak_limit_bytes, figures.peak_bytes, size)


def _median_run(cell: Cell, full: int, variant: str, repeat: int) -> Figures:
    os.environ[fused.SWITCH] = VARIANTS[variant]  # read before every call; the server's process inherits it
    _warm_up(cell)
    return median_of([run(cell, full) for _ in range(repeat)])


def _warm_up(cell: Cell) -> None:
    config = cell.config()
    warm_up(config.modulus, config.suite, config.threat_model)


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


def imports(_: float, repeat: int) -> Iterator[Target]:
    code = "import sys, time; s = time.perf_counter(); import secagg; s -= time.perf_counter(); "
    code += "print(-s, 'numba' in sys.modules)"
    samples, with_numba = [], False
    for _run in range(max(7, repeat)):
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        seconds, numba = done.stdout.split()
        samples.append(float(seconds))
        with_numba |= numba == "True"
    yield at_most("import secagg, wall time", IMPORT_S, statistics.median(samples), duration)
    yield Target("import secagg imports numba", "no", "yes" if with_numba else "no", not with_numba)


if __name__ == "__main__":
    main()
