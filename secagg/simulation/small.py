"""A small round that runs every kernel of a large one: to warm up, and to measure by."""

from __future__ import annotations

from functools import cache

import numpy as np

from secagg.arithmetic.modulus import Modulus
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.simulation.cohort import make_cohort
from secagg.simulation.faults import Faults
from secagg.simulation.rounds import Outcome, simulate

WARM_UP_LENGTH = 1000
"""Long enough for whole groups of every kernel and for a remainder behind them."""


def small_round(
    modulus: Modulus,
    suite: Suite,
    threat: ThreatModel,
    *,
    clients: int = 5,
    length: int = WARM_UP_LENGTH,
    lost: int = 1,
    complaints: bool = False,
) -> tuple[Outcome, RoundConfig]:
    """A round on the complete graph, of zero vectors, with its last clients lost in MASK: it runs every kernel."""
    identities: list[Identity] = []
    directory: MemoryDirectory | None = None
    digest = b""
    if threat.signs:
        identities, directory, digest = make_cohort(clients)
    config = RoundConfig.for_cohort(
        clients,
        length,
        threat_model=threat,
        gamma=0.0,
        delta=max(1, lost) / clients,
        neighbours="complete",
        modulus=modulus,
        suite=suite,
        cohort=digest,
        complaints="auto" if complaints else 0,
        version=2 if suite.is_hybrid or complaints else 1,
    )
    zeros = np.zeros(length, dtype=modulus.dtype)
    faults = Faults({clients - 1 - index: Phase.SHARE for index in range(lost)})
    outcome = simulate(lambda client: zeros, config, faults=faults, identities=identities, directory=directory)
    return outcome, config


@cache
def load_kernels(modulus: Modulus, suite: Suite, threat: ThreatModel) -> None:
    """Import, and compile or load, whatever a round's first messages would have loaded; once a process."""
    small_round(modulus, suite, threat)
