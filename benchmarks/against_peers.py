"""secagg and Flower's SecAgg+ side by side: the same rounds, in one run, each in a process of its own.

    pip install -e '.[bench-peers]'
    python benchmarks/against_peers.py --quick        # n = 16: seconds
    python benchmarks/against_peers.py                # some minutes, most of them in the peer
    python benchmarks/against_peers.py --only 2 3     # single cells, as numbered by --list
    python benchmarks/against_peers.py --parts        # the second table alone
    python benchmarks/against_peers.py --sums         # the third table alone

Both sides get the same floats and weights and give back the weighted mean, quantised to 22 bits, with as many
neighbours and the same threshold: on 32 neighbours one that still completes when 30 % are lost.  Who is lost is lost
after dealing its shares, in both.  Flower runs its own client mod and its own server workflow over a grid in memory
(peers/flower.py); secagg its simulator (peers/ours.py).

CPU is the process' time: of the whole round; of the median client, floats in; of the server, mean out.  Upload is what
that client sends in all phases.  Peak memory is the whole process', clients and server together, above what it held
with its libraries before the round.  A ratio is the peer's figure over ours.

A second table has parts of a round through other libraries, where they are installed (peers/parts.py).

A third one has the mean of 100 vectors of a million floats: through NVIDIA FLARE's homomorphic encryption, which is
TenSEAL's CKKS (peers/flare.py), and in whole rounds of secagg with either carrier.  Nobody is lost, and all weigh
alike.  A client's CPU has the decryption in it where the server cannot read the mean; what it receives has the mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from machine import describe, duration, machine, save, size, table
from peers import parts
from peers.measured import Cell, Figures, run_side, run_sum

from secagg.pairwise.carrier import Carrier

QUICK = (Cell(16, 100_000, 15, 9),)
CELLS = (
    *QUICK,
    Cell(100, 100_000, 32, 8),
    Cell(100, 100_000, 32, 8, dropout=0.3),
    Cell(100, 1_000_000, 32, 8),
    Cell(100, 100_000, 99, 51),
)
FLARE = ("nvflare", "tenseal")
SIDES = {"Flower SecAgg+": "peers.flower", "secagg": "peers.ours"}
PART_COLUMNS = ("part", "library", "CPU", "secagg", "ratio")
SUMS = {
    "NVIDIA FLARE, TenSEAL": ("peers.flare",),
    "secagg, envelopes": ("peers.ours", Carrier.LATTICE.value),
    "secagg, masks": ("peers.ours", Carrier.MASKS.value),
}
"""By side: the module that runs it, and what its function takes beside the number of clients and elements."""
SUM_COLUMNS = ("mean", "", "client, CPU", "server, CPU", "client sends", "client receives", "error")
COLUMNS = ("round", "", "whole round, CPU", "client, CPU", "server, CPU", "client upload", "peak memory", "error")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.list:
        print("\n".join(f"{number}  {cell}" for number, cell in enumerate(CELLS)))
        return
    if find_spec("flwr") is None:
        raise SystemExit("Flower is not installed: pip install -e '.[bench-peers]'")
    cells = QUICK if options.quick else [CELLS[number] for number in options.only]
    here = machine("flwr", "nvflare", "tenseal")
    print(f"{describe(here)}\n", flush=True)
    if options.parts or options.sums:
        cells = ()
    else:
        print(table(COLUMNS, []), flush=True)
    found = []
    for cell in cells:
        sides = {name: measure(module, cell, options.repeat) for name, module in SIDES.items()}
        found.append({**asdict(cell), **{name: asdict(figures) for name, figures in sides.items()}})
        print("\n".join(rows(cell, sides)), flush=True)
    found_parts = [] if options.sums else show_parts(options.quick)
    found_sums = [] if options.parts else show_sums(*((10, 20_000) if options.quick else (100, 1_000_000)))
    if options.output:
        figures = {"cells": found, "parts": [asdict(part) for part in found_parts], "sums": found_sums}
        save(options.output, {"machine": here, "repeat": options.repeat, **figures})


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest cell alone")
    parser.add_argument("--parts", action="store_true", help="the second table alone")
    parser.add_argument("--sums", action="store_true", help="the third table alone")
    parser.add_argument("--list", action="store_true", help="number the cells")
    parser.add_argument("--only", type=int, nargs="+", choices=range(len(CELLS)), default=range(len(CELLS)))
    parser.add_argument("--repeat", type=int, default=1, help="runs a cell and side; the figures are medians")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    return parser.parse_args(arguments)


def measure(module: str, cell: Cell, repeat: int) -> Figures:
    """Medians over rounds, each in a new process, so that memory is the round's own."""
    runs = []
    for _ in range(repeat):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            runs.append(process.submit(run_side, module, cell).result())
    return Figures(**{field.name: median(getattr(run, field.name) for run in runs) for field in fields(Figures)})


def show_parts(quick: bool) -> list[parts.Part]:
    """Print the second table, line by line."""
    print(f"\n{table(PART_COLUMNS, [])}", flush=True)
    found = []
    for part in parts.measure(quick):
        found.append(part)
        print(part_row(part), flush=True)
    for name in parts.missing():
        print(f"\n{name} is not installed: pip install -e '.[bench-peers]'")
    return found


def show_sums(clients: int, dim: int) -> list[dict[str, object]]:
    """Print the third table, line by line; each side runs in a new process."""
    print(f"\n{table(SUM_COLUMNS, [])}", flush=True)
    here, found = all(find_spec(name) is not None for name in FLARE), []
    for side, (module, *more) in SUMS.items():
        if module == "peers.flare" and not here:
            continue
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            figures = process.submit(run_sum, module, clients, dim, *more).result()
        found.append({"side": side, "clients": clients, "dim": dim, **asdict(figures)})
        line = [f"n = {clients}, m = {dim:,}", side, duration(figures.client_s), duration(figures.server_s)]
        line += [size(figures.sent_bytes), size(figures.received_bytes), f"{figures.max_error:.1e}"]
        print(f"| {' | '.join(line)} |", flush=True)
    if not here:
        print(f"\n{' or '.join(FLARE)} is not installed: pip install -e '.[bench-peers]'")
    return found


def rows(cell: Cell, sides: dict[str, Figures]) -> list[str]:
    """A line a side, and one of ratios."""
    peer, ours = (values(figures) for figures in sides.values())
    shows: Sequence[Any] = (duration, duration, duration, size, size)
    lines = [
        [
            str(cell) if first else "",
            name,
            *(show(value) for show, value in zip(shows, values(figures), strict=True)),
            f"{figures.max_error:.1e}",
        ]
        for first, (name, figures) in zip((True, False), sides.items(), strict=True)
    ]
    lines.append(["", "ratio", *(f"{theirs / own:.3g}" for theirs, own in zip(peer, ours, strict=True)), ""])
    return [f"| {' | '.join(line)} |" for line in lines]


def part_row(part: parts.Part) -> str:
    ratio = f"{part.peer_s / part.ours_s:.3g}"
    return f"| {' | '.join((part.what, part.peer, duration(part.peer_s), duration(part.ours_s), ratio))} |"


def values(figures: Figures) -> tuple[float, ...]:
    peak = max(1, figures.peak_bytes - figures.imported_bytes)
    return figures.round_cpu_s, figures.client_cpu_s, figures.server_cpu_s, figures.upload_bytes, peak


if __name__ == "__main__":
    main()
