"""What the hybrid suite costs a client beside suite 1, and beside its targets: 60 kB and 15 ms for 32 neighbours.

    python benchmarks/hybrid_suite.py
    python benchmarks/hybrid_suite.py --clients 1000 --full 4

First a client with 32 neighbours, on the complete graph of 33.  Then one of a round of 1,000 with the degree that the
parameter finder takes; a few clients run in full there, and the others are prepared (``simulate_prepared``).  The
client CPU time is the median over the clients that run in full, the best of several rounds phase by phase.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from machine import describe, duration, machine, save, table

from secagg import RoundConfig, Suite
from secagg.cli.rounds import warm_up
from secagg.simulation import simulate_prepared

UPLOAD_TARGET: Final = 60_000
"""Bytes more than in suite 1."""
CPU_TARGET_S: Final = 0.015
"""Seconds more than in suite 1."""
NEIGHBOURS: Final = 32
DIM: Final = 1000


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000, help="clients of the round with the finder's degree")
    parser.add_argument("--full", type=int, default=4, help="how many of them run in full")
    parser.add_argument("--repeat", type=int, default=5, help="rounds of each kind; the best of them counts")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    here = machine()
    print(f"{describe(here)}\nvectors of {DIM:,} elements; best of {options.repeat}\n", flush=True)
    rounds = {
        f"{NEIGHBOURS} neighbours": {"clients": NEIGHBOURS + 1, "neighbours": "complete"},
        f"{options.clients:,} clients": {"clients": options.clients},
    }
    figures: dict[str, Any] = {}
    rows = []
    for name, shape in rounds.items():
        found = {
            suite: _client(RoundConfig.for_cohort(length=DIM, suite=suite, version=2, **shape), options)
            for suite in (Suite.AES_128, Suite.HYBRID)
        }
        figures[name] = {suite.name: costs for suite, costs in found.items()}
        rows += [_row(name, suite.name, costs, found[Suite.AES_128]) for suite, costs in found.items()]
    print(table(["round", "suite", "neighbours", "upload", "download", "client CPU", "more up", "more CPU"], rows))
    print("\n" + _beside_targets(figures[f"{NEIGHBOURS} neighbours"]))
    if options.output:
        save(options.output, {"machine": here, "dim": DIM, "rounds": figures})


def _client(config: RoundConfig, options: argparse.Namespace) -> dict[str, Any]:
    """What the median client, of those that run in full, sends, gets and computes."""
    warm_up(config.modulus, config.suite, config.threat_model)
    zeros, best = np.zeros(config.length, config.modulus.dtype), dict[str, float]()
    for _ in range(options.repeat):
        outcome = simulate_prepared(lambda client: zeros, config, full=options.full, seed=1)
        for phase, cost in outcome.costs.items():
            spent = statistics.median(cost.client_cpu_s.values()) if cost.client_cpu_s else 0.0
            best[phase] = min(best.get(phase, spent), spent)
    costs = outcome.costs.values()
    return {
        "neighbours": config.neighbours,
        "upload_bytes": sum(max(cost.bytes_up.values(), default=0) for cost in costs),
        "download_bytes": sum(max(cost.bytes_down.values(), default=0) for cost in costs),
        "cpu_s": sum(best.values()),
    }


def _row(name: str, suite: str, costs: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    return [
        name,
        suite,
        str(costs["neighbours"]),
        f"{costs['upload_bytes'] / 1000:.1f} kB",
        f"{costs['download_bytes'] / 1000:.1f} kB",
        duration(costs["cpu_s"]),
        f"{(costs['upload_bytes'] - plain['upload_bytes']) / 1000:.1f} kB",
        f"{(costs['cpu_s'] - plain['cpu_s']) * 1e3:.2f} ms ({costs['cpu_s'] / plain['cpu_s']:.2f} times)",
    ]


def _beside_targets(found: dict[str, Any]) -> str:
    plain, hybrid = found[Suite.AES_128.name], found[Suite.HYBRID.name]
    upload = hybrid["upload_bytes"] - plain["upload_bytes"]
    spent = hybrid["cpu_s"] - plain["cpu_s"]
    return (
        f"{NEIGHBOURS} neighbours: upload {upload / UPLOAD_TARGET:.2f} of the target of {UPLOAD_TARGET:,} bytes more, "
        f"CPU {spent / CPU_TARGET_S:.2f} of the target of {CPU_TARGET_S * 1e3:.0f} ms more"
    )


if __name__ == "__main__":
    main()
