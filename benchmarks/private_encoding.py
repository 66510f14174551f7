"""What it costs a client to encode its update with noise, part by part, beside NumPy's own and plain loops.

    python benchmarks/private_encoding.py [--dim 1000000] [--clients 100] [--bits 20] [--levels 4] [--repeat 5]
                                          [--output FILE]

Each figure is the best CPU time of one thread over the repeats, after a warm-up.  The noise is that of so many clients
with a multiplier of 1, and is drawn for as many values as the vector has elements.  The peers: NumPy's
``Generator.poisson``, two draws for each value, which is neither exact nor cryptographic; a Walsh-Hadamard transform as
a loop over whole arrays in NumPy, and as three plain loops in Numba.

In levels the noise is drawn in components, in a round that may lose 30% of its clients.  What the server does to take
off the surplus of one client is shown for a round that loses nobody, which is the most.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, duration, machine, save, table
from numba import njit

from secagg import Encoder, RoundConfig
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder
from secagg.privacy.noise import Noise
from secagg.privacy.rotation import transform

_NOT_WRAPPED = 3.8906
"""Deviations: 1 coordinate in 10,000 of a sum wraps around."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--bits", type=int, default=20)
    parser.add_argument("--levels", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "rows": measured(options)}
    print(describe(found["machine"]))
    rows = [[row["work"], duration(row["seconds"]), row["beside"], row["ratio"]] for row in found["rows"]]
    print(table(["work", "CPU time", "beside", "ratio"], rows))
    if options.output:
        save(options.output, found)


def measured(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Each piece of work with its time, and over what it is put."""
    update = np.random.default_rng(0).normal(size=options.dim) / math.sqrt(options.dim)
    encoders = {
        kind: private_encoder(update, kind, options.clients, options.bits, random_bytes=os.urandom)
        for kind in NoiseKind
    }
    mechanism = encoders[NoiseKind.SKELLAM].mechanism
    work: dict[str, tuple[Callable[[], object], str]] = {
        "plain encoding, 16 bits": (lambda: Encoder(update, clip=1e-2).encode(update), ""),
        "private encoding, Skellam": (lambda: encoders[NoiseKind.SKELLAM].encode(update), "plain encoding, 16 bits"),
        "private encoding, discrete Gaussian": (
            lambda: encoders[NoiseKind.DISCRETE_GAUSSIAN].encode(update),
            "plain encoding, 16 bits",
        ),
    }
    work |= level_work(update, mechanism, options.clients, options.levels)
    work |= noise_work(mechanism) | transform_work(mechanism.dimension)
    vector = encoders[NoiseKind.SKELLAM].encode(update)
    work["decoding"] = (lambda: encoders[NoiseKind.SKELLAM].decode_sum(vector, 1), "")
    times = {name: best(call, options.repeat) for name, (call, _) in work.items()}
    return [
        {
            "work": name,
            "seconds": times[name],
            "beside": beside,
            "ratio": f"{times[name] / times[beside]:.2f}" if beside else "",
        }
        for name, (_, beside) in work.items()
    ]


def level_work(
    update: np.ndarray, mechanism: Mechanism, clients: int, count: int
) -> dict[str, tuple[Callable[[], object], str]]:
    """A client's encoding in levels, and the removal of its surplus."""
    encoder = PrivateEncoder(update, mechanism, levels=count)
    config = RoundConfig.for_cohort(
        clients,
        encoder.length,
        gamma=0.0,
        delta=0.3,
        min_survivors=clients - int(0.3 * clients),
        modulus=encoder.modulus_for(clients),
        context=encoder.layout_digest(),
        version=2,
        attachment_bytes=encoder.attachment_bytes,
    )
    encoder = encoder.for_round(config)
    levels = encoder.noise_levels
    vector, attachment = encoder.encode_in_levels(update)
    links = [attachment[0][1]]
    return {
        f"private encoding, Skellam in {count} levels": (
            lambda: encoder.encode_in_levels(update),
            "private encoding, Skellam",
        ),
        f"removing one client's surplus of {count} levels": (
            lambda: levels.without_surplus(vector, mechanism, 0, links),
            "private encoding, Skellam",
        ),
    }


def noise_work(mechanism: Mechanism) -> dict[str, tuple[Callable[[], object], str]]:
    """Noise for every element, and NumPy's."""
    size, variance, generator = mechanism.dimension, mechanism.variance, np.random.default_rng(0)
    peer = f"NumPy's poisson, twice, of mean {variance / 2:.4g}"

    def drawn(kind: NoiseKind) -> int:
        return sum(len(block) for block in Noise(kind, variance, bytes(32)).blocks(size))

    return {
        peer: (lambda: generator.poisson(variance / 2, size) - generator.poisson(variance / 2, size), ""),
        f"Skellam noise of variance {variance:.4g}": (lambda: drawn(NoiseKind.SKELLAM), peer),
        "discrete Gaussian noise": (lambda: drawn(NoiseKind.DISCRETE_GAUSSIAN), peer),
    }


def transform_work(size: int) -> dict[str, tuple[Callable[[], object], str]]:
    """The rotation's transform, and plain ones."""
    values = np.random.default_rng(0).normal(size=size)
    return {
        "Walsh-Hadamard, plain loop in NumPy": (lambda: plain_transform(values.copy()), ""),
        "Walsh-Hadamard, plain loops in Numba": (
            lambda: compiled_transform(values.copy()),
            "Walsh-Hadamard, plain loop in NumPy",
        ),
        "Walsh-Hadamard": (lambda: transform(values.copy()), "Walsh-Hadamard, plain loop in NumPy"),
    }


def private_encoder(
    update: np.ndarray, kind: NoiseKind, clients: int, bits: int, random_bytes: Callable[[int], bytes]
) -> PrivateEncoder:
    """An encoder of a round of so many clients, with as many steps in a unit as the bits have room for."""
    dimension = 1 << (len(update) - 1).bit_length()
    room = math.sqrt(4.0**bits - clients * _NOT_WRAPPED**2)
    scale = room / (2 * _NOT_WRAPPED * math.sqrt(clients**2 / dimension + 1))
    mechanism = Mechanism(
        noise=kind,
        clip=1.0,
        scale=Fraction(scale),
        bits=bits,
        rounding_failure=math.exp(-0.5),
        variance=math.ceil(scale**2 / clients),
        length=len(update),
    )
    encoder = PrivateEncoder(update, mechanism, randomness=random_bytes)
    config = RoundConfig.for_cohort(
        clients, encoder.length, modulus=encoder.modulus_for(clients), context=encoder.layout_digest()
    )
    return encoder.for_round(config)


def plain_transform(values: np.ndarray) -> np.ndarray:
    distance = 1
    while distance < len(values):
        pairs = values.reshape(-1, 2, distance)
        pairs[:, 0], pairs[:, 1] = pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]
        distance *= 2
    return values


@njit
def compiled_transform(values: Any) -> Any:
    distance = 1
    while distance < len(values):
        for start in range(0, len(values), 2 * distance):
            for i in range(start, start + distance):
                a, b = values[i], values[i + distance]
                values[i] = a + b
                values[i + distance] = a - b
        distance *= 2
    return values


def best(call: Callable[[], object], repeat: int) -> float:
    """Seconds of CPU time of this thread."""
    call()
    times = []
    for _ in range(repeat):
        started = time.thread_time()
        call()
        times.append(time.thread_time() - started)
    return min(times)


if __name__ == "__main__":
    main()
