"""Masks and lattice envelopes side by side: a client's and the server's CPU time, by length and by losses.

    python benchmarks/carriers.py [--clients 1000] [--lengths 10000 100000 1000000 10000000] [--repeats 5]

A mask, an envelope, its addition and its opening are timed over whole vectors of each length, in this thread, and
multiplied by how many of them a round has: a client makes k + 1 masks, and the server expands one for each survivor and
for each pair of a survivor and a lost neighbour.  What a round takes with either carrier is left out: agreements,
secret sharing, encoding.  Degrees are the finder's, for 20% of colluders and the losses of the row.

Masks are made in three ways: by the fused kernel on machines with VAES, by the fused kernel with AES-NI alone, and by
the library's keystream.  A machine with VAES stands in for the others (NUMBA_CPU_FEATURES).  Envelopes are timed with
AVX2 alone as well, where the processor has more.  ``k*`` is the number of neighbours from which on an envelope costs a
client less.

A second table has an envelope by itself: to make one, to add one to the sum, and to open the sum, which takes the same
however many clients were lost.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from machine import describe, duration, machine, save, table, without_features
from targets import KINDS, environments

from secagg import Modulus, RoundConfig, Suite
from secagg.arithmetic import add_packed, pack
from secagg.envelopes import scheme
from secagg.pairwise.carrier import empty_sums, public_polynomials, seal, sum_of_secrets
from secagg.primitives import masking

LOSSES: Final = (0.0, 0.1, 0.3)
AVX2: Final = "envelopes, AVX2"
ENVELOPES: Final = "envelopes"
_MASKS: Final = 8


def config_for(clients: int, length: int, lost: float) -> RoundConfig:
    """The finder's, with envelopes."""
    return RoundConfig.for_cohort(clients, length, delta=lost, input_max=2**16 - 1, version=2, carrier="lattice")


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The best of several calls, after one that loads the kernels."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken)


def mask_times(config: RoundConfig, repeats: int) -> dict[str, float]:
    """Of one mask over the vector and over an envelope's secret, and of the addition of a packed vector."""
    mask_s, add_s = one_mask(config.suite, config.modulus, config.length, repeats)
    key_mask_s, key_add_s = one_mask(config.suite, config.masked_modulus, config.masked_length, repeats)
    return {"mask_s": mask_s, "mask_s_add": add_s, "key_mask_s": key_mask_s, "key_mask_s_add": key_add_s}


def one_mask(suite: Suite, modulus: Modulus, length: int, repeats: int) -> tuple[float, float]:
    """Of a mask, where many are added up, and of the addition of a packed vector."""
    keys = [os.urandom(suite.key_bytes) for _ in range(_MASKS)]
    lanes = np.zeros(length, dtype=modulus.dtype)
    packed = memoryview(pack(lanes, modulus))
    masks_s = seconds(lambda: masking.apply_masks(suite, lanes, keys, (), modulus), repeats)
    return masks_s / _MASKS, seconds(lambda: add_packed(lanes, packed, modulus), repeats)


def envelope_times(config: RoundConfig, repeats: int) -> dict[str, float]:
    """Of an envelope, its addition, and the opening of a sum, which is checked."""
    parameters, session = config.envelope, os.urandom(32)
    assert parameters is not None
    vector = np.random.default_rng(0).integers(0, 2**16, config.length, dtype=np.uint32)
    keys, envelope = seal(config, parameters, session, os.urandom(32), vector)
    total = empty_sums(parameters, ())
    scheme.add_envelope(parameters, total, envelope)
    secrets = sum_of_secrets(parameters, keys, 1)

    def opened() -> np.ndarray:
        return scheme.open_sum(parameters, public_polynomials(config, parameters, session), total.copy(), secrets)

    if not np.array_equal(opened(), vector):
        raise SystemExit("the sum of one envelope is not its vector")
    spare = total.copy()
    return {
        "seal_s": seconds(lambda: seal(config, parameters, session, bytes(32), vector), repeats),
        "add_s": seconds(lambda: scheme.add_envelope(parameters, spare, envelope), repeats),
        "open_s": seconds(opened, max(1, repeats // 2)),
    }


def measured(clients: int, lengths: list[int], repeats: int, *, masks: bool, envelopes: bool) -> dict[str, Any]:
    """By length, what this process measures."""
    found: dict[str, Any] = {}
    for length in lengths:
        config = config_for(clients, length, 0.1)
        fewer = max(1, repeats if length <= 10**6 else repeats // 2)
        found[str(length)] = {
            **(mask_times(config, fewer) if masks else {}),
            **(envelope_times(config, fewer) if envelopes else {}),
        }
    return found


def elsewhere(environment: Mapping[str, str], arguments: list[str]) -> dict[str, Any]:
    """``measured`` in a process whose Numba compiles for another processor."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def rows_of(
    config: RoundConfig, lost: float, times: Mapping[str, Mapping[str, float]]
) -> dict[str, tuple[float, float]]:
    """By carrier, seconds of a client and of the server."""
    k, survivors = config.neighbours, config.clients - int(lost * config.clients)
    orphaned = (config.clients - survivors) * k * survivors / (config.clients - 1)
    keys = next(iter(times.values()))
    found = {}
    for kind, given in times.items():
        if "mask_s" in given:
            server = survivors * given["mask_s_add"] + (survivors + orphaned) * given["mask_s"]
            found[f"masks, {kind}"] = ((k + 1) * given["mask_s"], server)
    for kind, given in times.items():
        if "seal_s" in given:
            key = given.get("key_mask_s", keys["key_mask_s"])
            server = survivors * (given["add_s"] + keys["key_mask_s_add"]) + (survivors + orphaned) * key
            found[kind if kind in (ENVELOPES, AVX2) else ENVELOPES] = (
                given["seal_s"] + (k + 1) * key,
                server + given["open_s"],
            )
    return found


def crossing(given: Mapping[str, float], seal_s: float, key_mask_s: float) -> str:
    """From how many neighbours on an envelope costs a client less than masks."""
    saved = given["mask_s"] - key_mask_s
    return "never" if saved <= 0 else f"{max(0.0, seal_s / saved - 1):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="10,000 elements alone, measured once")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--only", choices=["masks", "envelopes"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    lengths, repeats = ([10**4], 1) if given.quick else (given.lengths, given.repeats)
    if given.only:
        only = measured(
            given.clients, lengths, repeats, masks=given.only == "masks", envelopes=given.only == "envelopes"
        )
        print(json.dumps(only))
        return
    passed = ["--clients", str(given.clients), "--lengths", *map(str, lengths), "--repeats", str(repeats), "--only"]
    times = {
        kind: elsewhere(environment, [*passed, "masks"])
        for kind, environment in environments().items()
        if environment is not None
    }
    times[ENVELOPES] = elsewhere({}, [*passed, "envelopes"])
    times[AVX2] = elsewhere(without_features("avx512", "avx10", "vaes"), [*passed, "envelopes"])
    by_length = {length: {kind: found[str(length)] for kind, found in times.items()} for length in lengths}
    lines = []
    for length in lengths:
        here = by_length[length]
        key_mask_s = min(found["key_mask_s"] for found in here.values() if "key_mask_s" in found)
        for lost in LOSSES:
            config = config_for(given.clients, length, lost)
            for carrier, (client_s, server_s) in rows_of(config, lost, here).items():
                kind = carrier.removeprefix("masks, ")
                meets = crossing(here[kind], here[ENVELOPES]["seal_s"], key_mask_s) if kind in KINDS else ""
                sent = config.masked_input_bytes if kind not in KINDS else config.modulus.packed_bytes(length)
                lines.append(
                    [
                        f"{length:,}",
                        f"{lost:.0%}",
                        str(config.neighbours),
                        carrier,
                        duration(client_s),
                        duration(server_s),
                        f"{sent / 1e6:.3f} MB",
                        meets,
                    ]
                )
    alone = [
        [f"{length:,}", kind, *(duration(here[kind][f"{part}_s"]) for part in ("seal", "add", "open"))]
        for length, here in by_length.items()
        for kind in (ENVELOPES, AVX2)
    ]
    print(f"{describe(machine())}\n{given.clients:,} clients\n")
    print(table(["elements", "lost", "k", "carrier", "client", "server", "sent", "k*"], lines))
    print()
    print(table(["elements", "carrier", "make one", "add one", "open the sum"], alone))
    if given.output is not None:
        save(given.output, {"machine": machine(), "clients": given.clients, "times": by_length, "rows": lines})


if __name__ == "__main__":
    main()
