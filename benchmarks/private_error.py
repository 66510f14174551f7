"""The error of a private sum beside the central Gaussian mechanism's of the same epsilon, by bits.

    python benchmarks/private_error.py [--bits 12 14 16 20] [--plot error.png]

Each row calibrates a mechanism for the same promise with another number of bits, encodes the updates of all clients,
adds them up modulo 2^bits, decodes, and prints the mean squared error of the sum's coordinates over the variance of the
central Gaussian mechanism: 1 is as good as a server that everybody trusts.  Updates have the clip's norm in random
directions; nobody is lost and nobody colludes, so that all noise there is was asked for.  With ``--honest`` below 1 the
noise is for as many honest clients, and the figure rises to 1 / honest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from machine import describe, machine, table

from secagg import RoundConfig
from secagg.privacy import NoiseKind, PrivateEncoder
from secagg.privacy.calibration import Calibration, InfeasibleError, calibrate

Row = dict[str, float | int | None]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    rows = [row for bits in options.bits if (row := _row(options, bits)) is not None]
    found = machine("dp-accounting")
    print(f"{describe(found)}\n")
    print(
        f"Epsilon {options.epsilon:g} at delta {options.delta:g}, {options.clients} clients, {options.dim} values, "
        f"{options.repeat} sums a figure; mean squared error over the central Gaussian mechanism's.\n"
    )
    names = [str(kind) for kind in NoiseKind]
    print(table(["bits", *names], [[str(row["bits"]), *(_cell(row[name]) for name in names)] for row in rows]))
    if options.output:
        options.output.write_text(json.dumps({"machine": found, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    if options.plot:
        _draw(options.plot, rows)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[11, 12, 13, 14, 16, 18, 20])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--honest", type=float, default=1.0, help="share of the clients that the noise is for")
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--epsilon", type=float, default=4.753718)
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="write a picture; its suffix says of which kind")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    return parser


def _row(options: argparse.Namespace, bits: int) -> Row | None:
    row: Row = {"bits": bits}
    for kind in NoiseKind:
        try:
            found = calibrate(
                epsilon=options.epsilon,
                delta=options.delta,
                length=options.dim,
                clip=1.0,
                clients=options.clients,
                honest=max(1, round(options.honest * options.clients)),
                noise=kind,
                bits=bits,
            )
        except InfeasibleError as refused:
            print(f"{bits} bits, {kind}: {refused}\n")
            row[str(kind)] = None
            continue
        errors = [_squared_error(found, options.clients, seed) for seed in range(options.repeat)]
        row[str(kind)] = float(np.mean(errors)) / found.central_multiplier**2
    return row


def _squared_error(found: Calibration, clients: int, seed: int) -> float:
    """The mean squared error of a coordinate of the sum; the clip is 1."""
    generator = np.random.default_rng(seed)
    length = found.mechanism.length
    encoder = PrivateEncoder(np.zeros(length), found.mechanism)
    config = RoundConfig.for_cohort(
        clients, encoder.length, modulus=encoder.modulus_for(clients), context=seed.to_bytes(8, "big")
    )
    encoder = encoder.for_round(config)
    true, total = np.zeros(length), np.zeros(encoder.length, np.uint64)
    for _ in range(clients):
        update = generator.normal(size=length)
        update /= np.linalg.norm(update)
        true += update
        total += encoder.encode(update)
    decoded = np.asarray(encoder.decode_sum(total % config.modulus.value, clients).mean) * clients
    return float(np.mean((decoded - true) ** 2))


def _cell(value: float | int | None) -> str:
    return "no noise does" if value is None else f"{value:.4f}"


def _draw(path: Path, rows: Sequence[Row]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for kind, marker in zip(NoiseKind, ("o-", "x--"), strict=True):
        drawn = [(row["bits"], row[str(kind)]) for row in rows if row[str(kind)] is not None]
        axes.plot([bits for bits, _ in drawn], [error for _, error in drawn], marker, label=str(kind))
    axes.axhline(1.0, color="black", linewidth=0.8, label="central Gaussian mechanism")
    axes.axhspan(1.0, 1.02, color="black", alpha=0.08, label="within 2%")
    axes.set(xlabel="bits of an element", ylabel="mean squared error over the central Gaussian's", ylim=(0.95, 1.5))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
