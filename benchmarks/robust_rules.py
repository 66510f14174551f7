"""What each robust mean takes: seconds and memory, beside NumPy's median and SciPy's trimmed mean.

    python benchmarks/robust_rules.py

Group means are normal numbers; the counts are equal, and then from 1 to 9, which the rules by rank sort with their
weights.  Memory is what Python and NumPy allocated at the most, beside the means themselves.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, duration, machine, save, size, table
from scipy import stats

from secagg.robust import RuleName, robust_mean


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    found = machine("scipy")
    draw = np.random.default_rng(0)
    means = draw.standard_normal((options.groups, options.dim))
    equal, unequal = np.ones(options.groups), draw.integers(1, 10, options.groups).astype(float)
    calls: dict[str, Callable[[], Any]] = {}
    for rule in RuleName:
        calls[rule] = lambda rule=rule: robust_mean(means, equal, rule)
        calls[f"{rule}, counts differ"] = lambda rule=rule: robust_mean(means, unequal, rule)
    calls["numpy.median"] = lambda: np.median(means, axis=0)
    calls["scipy.stats.trim_mean"] = lambda: stats.trim_mean(means, 0.25, axis=0)
    rows = [_measured(name, call, options.repeat) for name, call in calls.items()]
    print(f"{describe(found)}\n")
    print(f"{options.groups} groups of {options.dim:,} elements, {size(means.nbytes)}; the best of {options.repeat}.\n")
    print(table(["rule", "time", "memory"], [[row["rule"], duration(row["s"]), size(row["bytes"])] for row in rows]))
    if options.output:
        save(options.output, {"machine": found, "groups": options.groups, "dim": options.dim, "rules": rows})


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=50)
    parser.add_argument("--dim", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser


def _measured(name: str, call: Callable[[], Any], repeat: int) -> dict[str, Any]:
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"rule": name, "s": min(seconds), "bytes": peak}


if __name__ == "__main__":
    main()
