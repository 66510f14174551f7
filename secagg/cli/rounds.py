"""What commands that run rounds share: names for choices, the warm-up, and a phase's medians."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from statistics import median, median_low
from typing import Any, Literal

from secagg.arithmetic.modulus import Modulus
from secagg.encoding import UpdateEncoder
from secagg.errors import ParameterError
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.grouping import LEAST_VERSION
from secagg.pairwise.phases import ThreatModel
from secagg.privacy import PrivateLayout
from secagg.simulation import PhaseCost, SeededRandomness, make_cohort
from secagg.simulation.carriers import load_envelope_kernels
from secagg.simulation.small import small_round


class SuiteName(StrEnum):
    """A suite on the command line."""

    AES_128 = "aes-128"
    AES_256 = "aes-256"
    HYBRID = "hybrid"

    @property
    def suite(self) -> Suite:
        """What the library calls it."""
        return Suite[self.name]


def parse_neighbours(text: str) -> int | Literal["auto", "complete"]:
    """``auto``, ``complete``, or a number.  Raises ParameterError."""
    match text:
        case "auto":
            return "auto"
        case "complete":
            return "complete"
    try:
        return int(text)
    except ValueError:
        raise ParameterError(
            f"--neighbours {text!r}: give auto, complete, or an even number below clients - 1"
        ) from None


class Cohort:
    """The identities of a cohort in ``active``; nobody in ``semi_honest``."""

    def __init__(self, clients: int, threat: ThreatModel, seed: int | None = None) -> None:
        self.identities: list[Identity] = []
        self.directory: MemoryDirectory | None = None
        self.digest = b""
        if threat.signs:
            randomness = os.urandom if seed is None else SeededRandomness(seed, "identities")
            self.identities, self.directory, self.digest = make_cohort(clients, randomness)


def config_for(
    clients: int,
    encoder: UpdateEncoder,
    threat: ThreatModel,
    gamma: float | None,
    delta: float | None,
    neighbours: str,
    suite: SuiteName,
    *,
    min_survivors: int | None = None,
    cohort: bytes = bytes(32),
    own: Mapping[str, Any] | None = None,
) -> RoundConfig:
    """The config that command-line options ask for; in ``active`` zeros stand for the digest of a cohort to come.

    ``gamma`` and ``delta`` of None mean the defaults of ``RoundConfig.for_cohort``.  ``own`` has further arguments of
    it: those of a private layout (``private_arguments``), or of groups.
    """
    arguments = {
        "clients": clients,
        "length": encoder.length,
        "threat_model": threat,
        "gamma": gamma,
        "delta": delta,
        "neighbours": parse_neighbours(neighbours),
        "input_max": encoder.input_max,
        "min_survivors": min_survivors,
        "suite": suite.suite,
        "context": encoder.layout_digest(),
        "cohort": cohort if threat.signs else b"",
        **(own or {}),
    }
    if suite.suite.is_hybrid:
        arguments["version"] = max(LEAST_VERSION, arguments.get("version", LEAST_VERSION))
    return RoundConfig.for_cohort(**arguments)


def grouped_arguments(groups: int, min_group: int | None) -> dict[str, Any]:
    """The arguments of a round with so many groups; nothing without groups."""
    if groups == 1 and min_group is None:
        return {}
    return {"version": LEAST_VERSION, "groups": groups, "min_group": min_group}


def private_arguments(layout: PrivateLayout, clients: int) -> dict[str, Any]:
    """What a private layout asks of a config: it has a modulus of its own, and another digest than its encoder."""
    encoder = layout.encoder()
    return {
        "modulus": encoder.modulus_for(clients),
        "version": encoder.wire_version,
        "attachment_bytes": encoder.attachment_bytes,
        "context": layout.digest(),
    }


def warm_up(modulus: Modulus, suite: Suite, threat: ThreatModel) -> float:
    """Compile or load every kernel of a round; returns the seconds that took beyond running it."""
    started = time.perf_counter()
    small_round(modulus, suite, threat)
    first = time.perf_counter()
    small_round(modulus, suite, threat)
    return max(0.0, (first - started) - (time.perf_counter() - first))


def warm_up_for(config: RoundConfig) -> float:
    """``warm_up`` for this round, its envelopes included; returns the seconds that all of it took beyond running."""
    started = time.perf_counter()
    load_envelope_kernels(config)
    return time.perf_counter() - started + warm_up(config.masked_modulus, config.suite, config.threat_model)


def phase_summary(cost: PhaseCost) -> dict[str, Any]:
    """What a phase cost, over the clients that took part in it."""
    spent = cost.client_cpu_s.values()
    return {
        "client_cpu_s": {"median": median(spent) if spent else 0.0, "max": max(spent, default=0.0)},
        "server_cpu_s": cost.server_cpu_s,
        "bytes_up": lower_median(cost.bytes_up.values()),
        "bytes_down": lower_median(cost.bytes_down.values()),
    }


def lower_median(numbers: Iterable[int]) -> int:
    """The (lower) median; 0 of nothing."""
    found = list(numbers)
    return median_low(found) if found else 0
