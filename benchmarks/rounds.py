"""Whole rounds: CPU time by phase, over its floor, bytes, and the server's memory, and how each grows.

    python benchmarks/rounds.py --quick
    python benchmarks/rounds.py --clients 100 1000 --dim 1000 100000 --dropout 0 0.1 --graph sparse complete \\
        --threat semi_honest active --repeat 3 --output rounds.json --plots pictures

Without arguments: every n in 100, 1,000, 10,000, m in 1,000 to 10,000,000, 0, 10 and 30 % lost, both graphs and threat
models, as far as --max-seconds for one run and --max-gb allow; what is left out is named with its prediction.

- Every message is real and the sum is checked, but only --full clients run in full (see secagg.simulation.prepared);
  the figures of a client are medians over those.  Config: gamma = 0.2, delta = the share that is lost, after dealing.
- CPU seconds are thread time around the calls into Client and Server, after a warm-up round; encoding floats is not in
  them, nor is compiling, which is shown apart.
- The floor (secagg.simulation.costs) is measured right after each run, in the same process.
- With --carrier masks lattice, the same rounds run with both carriers of the vectors, and one more table has them side
  by side, with the memory of each phase: the server's as below, and the most that a client allocates.
- Elements are 16-bit values, so the plain vector, which bytes are compared with, has 2 m bytes.
- The server runs in a process of its own and takes messages in batches, so that clients on the same machine do not cool
  its caches between any two of them; with --interleaved they do.
- The server's memory is the most that its process holds above what it held with libraries and compiled kernels before
  the round (benchmarks/server_process.py).
- With --repeat, each figure is the median over the runs.
- --output is written after every cell; with --resume, cells that it holds are taken from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import plots
from cells import Cell, Figures, median_of, predict, run
from growth import Growth, fit
from machine import describe, duration, machine, save, size, table

from secagg import ParameterError
from secagg.cli.rounds import warm_up_for
from secagg.pairwise.carrier import Carrier
from secagg.pairwise.phases import Phase, ServerState, ThreatModel
from secagg.simulation import PHASES
from secagg.simulation.costs import measure

CLIENTS, DIMS, DROPOUTS = (100, 1_000, 10_000), (1_000, 100_000, 1_000_000, 10_000_000), (0.0, 0.1, 0.3)
GRAPHS, THREATS = ("sparse", "complete"), tuple(model.value for model in ThreatModel)
CARRIERS = tuple(carrier.value for carrier in Carrier)

GROWING = {
    "client CPU": "client_total_s",
    "server CPU": "server_total_s",
    "bytes up": "bytes_up",
    "bytes down": "bytes_down",
    "server memory": "peak_bytes",
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    here = machine()
    print(f"{describe(here)}\n", flush=True)
    found, left_out, compile_s = measure_all(options, here)
    found = dict(sorted(found.items(), key=lambda row: (row[0].dropout, row[0].clients, row[0].dim)))
    masks = with_masks(found)
    for graph, threat in itertools.product(GRAPHS, THREATS):
        part = {cell: figures for cell, figures in masks.items() if (cell.graph, cell.threat) == (graph, threat)}
        if part:
            print(f"\n## {graph} graph, {threat}\n\n{client_table(part)}\n\n{server_table(part)}")
    if masks != found:
        print(f"\n## By carrier\n\n{carrier_table(found)}")
    grown = growths(found)
    if grown:
        print(f"\n## Growth\n\n{growth_table(grown)}")
    if compile_s:
        print(f"\nCompiling kernels, or loading them from the cache, took {duration(compile_s)} and is in no figure.")
    if left_out:
        print("\nLeft out:\n" + "\n".join(f"- {cell}: {reason}" for cell, reason in left_out.items()))
    if options.output:
        save(options.output, to_json(here, options, found, left_out, compile_s))
    if options.plots and masks:
        draw(options.plots, masks)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--dim", type=int, nargs="+", default=DIMS)
    parser.add_argument("--dropout", type=float, nargs="+", default=DROPOUTS, help="shares, lost in MASK")
    parser.add_argument("--graph", choices=GRAPHS, nargs="+", default=GRAPHS)
    parser.add_argument("--threat", choices=THREATS, nargs="+", default=THREATS)
    parser.add_argument("--carrier", choices=CARRIERS, nargs="+", default=CARRIERS[:1])
    parser.add_argument("--repeat", type=int, default=3, help="runs a cell; the figures are medians")
    parser.add_argument("--full", type=int, default=20, help="clients that run in full")
    parser.add_argument("--interleaved", action="store_true", help="the server takes each message when it is made")
    parser.add_argument("--max-seconds", type=float, default=600.0, help="leave out cells whose run is to take longer")
    parser.add_argument("--max-gb", type=float, default=6.0, help="leave out cells that are to take more memory")
    parser.add_argument("--quick", action="store_true", help="one small cell of each kind, once")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    parser.add_argument("--resume", action="store_true", help="keep the cells that --output holds already")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw a picture a table, with matplotlib")
    options = parser.parse_args(arguments)
    if options.quick:
        options.clients, options.dim, options.dropout, options.repeat = (100,), (1_000, 20_000), (0.0, 0.1), 1
    return options


def measure_all(
    options: argparse.Namespace, here: Mapping[str, object]
) -> tuple[dict[Cell, Figures], dict[Cell, str], float]:
    """Run the cells; returns their figures, why others were left out, and the time that compiling took."""
    found = load(options.output) if options.resume and options.output else {}
    left_out: dict[Cell, str] = {}
    warmed: set[object] = set()
    compile_s = 0.0
    grid = itertools.product(
        options.threat, options.graph, options.dropout, options.clients, options.dim, options.carrier
    )
    for threat, graph, dropout, clients, dim, carrier in grid:
        cell = Cell(clients, dim, dropout, graph, threat, carrier)
        if cell in found:
            continue
        try:
            config = cell.config()
        except ParameterError as impossible:
            left_out[cell] = str(impossible)
            continue
        seconds, memory = predict(cell, config, options.full, measure(config.replace(length=min(dim, 1_000_000))))
        if seconds > options.max_seconds or memory > 1e9 * options.max_gb:
            left_out[cell] = f"predicted {duration(seconds)} and {size(memory)} a run"
            continue
        kernels = config.masked_modulus.value, config.envelope
        if kernels not in warmed:
            warmed.add(kernels)
            compile_s += warm_up_for(config)
        found[cell] = median_of(
            [run(cell, options.full, interleaved=options.interleaved) for _ in range(options.repeat)]
        )
        took = found[cell].wall_s
        print(f"{cell}: {duration(took)} a run, predicted {duration(seconds)}", file=sys.stderr, flush=True)
        if options.output:
            save(options.output, to_json(here, options, found, left_out, compile_s))
    return found, left_out, compile_s


def client_table(found: Mapping[Cell, Figures]) -> str:
    phases = [phase for phase in PHASES if any(figures.client_s[phase] for figures in found.values())]
    rows = [
        [
            *names(cell, figures),
            *(duration(figures.client_s[phase]) for phase in phases),
            duration(figures.client_total_s),
            f"{figures.client_over_floor:.2f}",
            f"{size(figures.bytes_up)} = {figures.bytes_up / figures.plain_bytes:.3g}",
            f"{size(figures.bytes_down)} = {figures.bytes_down / figures.plain_bytes:.3g}",
        ]
        for cell, figures in found.items()
    ]
    ends = ("client CPU", "over floor", "up, over plain", "down, over plain")
    return table(["n", "m", "lost", "k / t", *phases, *ends], rows)


def server_table(found: Mapping[Cell, Figures]) -> str:
    phases = [phase for phase in PHASES if any(figures.server_s[phase] for figures in found.values())]
    rows = [
        [
            *names(cell, figures),
            *(duration(figures.server_s[phase]) for phase in phases),
            duration(figures.server_total_s),
            f"{figures.server_over_floor:.2f}",
            size(figures.peak_bytes),
            f"{figures.peak_bytes / figures.peak_limit_bytes:.2f}",
        ]
        for cell, figures in found.items()
    ]
    ends = ("server CPU", "over floor", "peak memory", "over 6 vectors + 400 B a pair")
    return table(["n", "m", "lost", "k / t", *phases, *ends], rows)


def carrier_table(found: Mapping[Cell, Figures]) -> str:
    """A line for the client of each cell, and one for its server: CPU time and memory by phase."""
    phases = [phase for phase in PHASES if any(figures.server_s[phase] for figures in found.values())]
    rows = []
    for cell, figures in found.items():
        peaks = {phase: figures.peak_by_phase.get(phase, 0) for phase in phases}
        peaks[Phase.UNMASK] = max(peaks[Phase.UNMASK], figures.peak_by_phase.get(ServerState.COMPUTE, 0))
        for party, spent, held, total, sent in (
            ("client", figures.client_s, figures.client_peak_bytes, figures.client_total_s, size(figures.bytes_up)),
            ("server", figures.server_s, peaks, figures.server_total_s, ""),
        ):
            by_phase = [f"{duration(spent[phase])}, {size(held.get(phase, 0))}" for phase in phases]
            each = f"{max(held.values(), default=0) / cell.dim:.1f} B"
            kind = f"{cell.graph}, {cell.threat}"
            rows.append([kind, *names(cell, figures), cell.carrier, party, *by_phase, duration(total), each, sent])
    return table(["", "n", "m", "lost", "k / t", "carrier", "", *phases, "CPU", "memory over m", "sent"], rows)


def with_masks(found: Mapping[Cell, Figures]) -> dict[Cell, Figures]:
    """The cells whose vectors masks carry: floors and growth are of these."""
    return {cell: figures for cell, figures in found.items() if cell.carrier == Carrier.MASKS}


def names(cell: Cell, figures: Figures) -> list[str]:
    degrees = f"{figures.neighbours:g} / {figures.threshold:g}"
    return [f"{cell.clients:,}", f"{cell.dim:,}", f"{cell.dropout:.0%}", degrees]


def growths(found: Mapping[Cell, Figures]) -> dict[str, dict[str, Growth]]:
    """By threat model and dropout, how each figure of rounds with masks grows over both graphs."""
    found = with_masks(found)
    grown: dict[str, dict[str, Growth]] = {}
    for threat, dropout in sorted({(cell.threat, cell.dropout) for cell in found}):
        cells = [cell for cell in found if (cell.threat, cell.dropout) == (threat, dropout)]
        variables = {
            "m": [cell.dim for cell in cells],
            "k": [found[cell].neighbours for cell in cells],
            "n": [cell.clients for cell in cells],
        }
        fits = {
            name: fit(variables, [getattr(found[cell], figure) for cell in cells]) for name, figure in GROWING.items()
        }
        kept = {name: growth for name, growth in fits.items() if growth is not None}
        if kept:
            grown[f"{threat}, {dropout:.0%} lost"] = kept
    return grown


def growth_table(grown: Mapping[str, Mapping[str, Growth]]) -> str:
    rows = [[kind, *(str(fits.get(name, "-")) for name in GROWING)] for kind, fits in grown.items()]
    return table(["rounds", *GROWING], rows)


def to_json(
    here: Mapping[str, object],
    options: argparse.Namespace,
    found: Mapping[Cell, Figures],
    left_out: Mapping[Cell, str],
    compile_s: float,
) -> dict[str, object]:
    return {
        "machine": here,
        "repeat": options.repeat,
        "full": options.full,
        "compile_s": compile_s,
        "cells": [{"cell": asdict(cell), "figures": asdict(figures)} for cell, figures in found.items()],
        "left_out": [{"cell": asdict(cell), "reason": reason} for cell, reason in left_out.items()],
        "growth": {
            kind: {name: asdict(growth) for name, growth in fits.items()} for kind, fits in growths(found).items()
        },
    }


def load(path: Path) -> dict[Cell, Figures]:
    """The cells of a file that an earlier run wrote; none where there is no file."""
    if not path.exists():
        return {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {Cell(**each["cell"]): Figures(**each["figures"]) for each in cells}


def draw(directory: Path, found: Mapping[Cell, Figures]) -> None:
    if not plots.available():
        print("matplotlib is not installed: no pictures", file=sys.stderr)
        return
    for path in plots.draw(directory, found):
        print(f"drawn: {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
