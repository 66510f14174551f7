"""``secagg warmup``: compile the kernels once, into the cache that later processes read."""

from __future__ import annotations

import time
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track

from secagg.arithmetic.modulus import Modulus
from secagg.cli.output import seconds, usage_errors
from secagg.encoding import Encoder
from secagg.pairwise.carrier import LEAST_VERSION, Carrier
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.phases import ThreatModel
from secagg.primitives import masking
from secagg.simulation.carriers import load_envelope_kernels
from secagg.simulation.small import small_round

# 8- to 24-bit values of 4 to a million clients and more.
_COMMON_RING_BITS = tuple(range(10, 41))
_COMMON_CLIENTS = (10, 100, 1000)
_LENGTHS_OF_EVERY_DEGREE = (10**4, 10**5, 10**6)  # of an envelope
_ENCODED_BITS = (8, 16, 24)  # one for each width of an encoded value in memory


def warmup(
    bits: Annotated[
        list[int] | None,
        typer.Option(
            help="Bits of a ring to compile for. The option may be repeated (default: 10 to 40, the rings of common "
            "rounds).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fill the cache of compiled kernels, those of lattice envelopes among them, for example when an image is built.

    Numba chooses where the cache lies: beside the installed package, in the user's cache directory, or in the directory
    that NUMBA_CACHE_DIR names.
    """
    with usage_errors("warmup"):
        moduli = [Modulus.ring(ring_bits) for ring_bits in (bits or _COMMON_RING_BITS)]
        console = Console(stderr=True)
        started = time.perf_counter()
        for modulus in track(moduli, "compiling", console=console, disable=not console.is_terminal, transient=True):
            small_round(modulus, Suite.AES_128, ThreatModel.SEMI_HONEST)
            key = bytes(Suite.AES_256.key_bytes)
            masking.expand(Suite.AES_256, key, 0, 1, modulus)  # the suites' kernels differ for masks alone
        for clients in _COMMON_CLIENTS:
            for length in _LENGTHS_OF_EVERY_DEGREE:
                load_envelope_kernels(
                    RoundConfig.for_cohort(clients, length, version=LEAST_VERSION, carrier=Carrier.LATTICE)
                )
        for encoded_bits in _ENCODED_BITS:
            Encoder(np.zeros(1), clip=1.0, bits=encoded_bits).encode(np.zeros(1))
    named = f"{len(moduli)} rings" if len(moduli) > 1 else f"the ring {moduli[0]}"
    typer.echo(f"The kernels of {named} are ready after {seconds(time.perf_counter() - started)}")
