"""What `active` costs beside `semi_honest`: one round each, the same clients, vectors and dropouts.

    python benchmarks/threat_models.py [--clients 100 1000] [--dim 100000]

Prints a table of docs/benchmarks.md.  CPU seconds are thread time around the calls into Client and Server, after a
warm-up round.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial

import numpy as np

from secagg import Modulus, RoundConfig
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.simulation import PHASES, Faults, Outcome, make_cohort, simulate

GAMMA, DROPOUT = 0.2, 0.05


def config_for(clients: int, length: int, threat_model: str, cohort: bytes) -> RoundConfig:
    return RoundConfig.for_cohort(
        clients,
        length,
        threat_model=threat_model,
        gamma=GAMMA,
        delta=DROPOUT,
        input_max=2**16 - 1,
        cohort=cohort,
    )


def warm_up(modulus: Modulus) -> None:
    """Compile the kernels of this modulus, so that the round does not pay for them."""
    simulate(lambda client: np.arange(100) % 2, RoundConfig.for_cohort(4, 100, gamma=0, delta=0, modulus=modulus))


def vector_of(client: int, length: int) -> np.ndarray:
    return np.random.default_rng(client).integers(0, 2**16, size=length, dtype=np.uint32)


def run(clients: int, length: int, threat_model: str) -> tuple[RoundConfig, Outcome]:
    identities, directory, cohort = make_cohort(clients) if ThreatModel(threat_model).signs else ([], None, b"")
    config = config_for(clients, length, threat_model, cohort)
    warm_up(config.modulus)
    faults = Faults(fates=dict.fromkeys(range(int(DROPOUT * clients)), Phase.SHARE))
    outcome = simulate(
        partial(vector_of, length=length), config, faults=faults, identities=identities, directory=directory
    )
    expected = sum(vector_of(client, length).astype(np.uint64) for client in outcome.included)
    if not np.array_equal(outcome.sum, expected):
        raise SystemExit(f"{threat_model}: the sum is wrong")
    return config, outcome


def row(clients: int, length: int, threat_model: str) -> str:
    config, outcome = run(clients, length, threat_model)
    costs = [outcome.costs[phase] for phase in PHASES]

    def median(name: str) -> float:
        return statistics.median(
            sum(getattr(cost, name).get(client, 0) for cost in costs) for client in outcome.included
        )

    server = sum(cost.server_cpu_s for cost in costs)
    return (
        f"| {clients:,} | {threat_model} | {config.neighbours} / {config.threshold} "
        f"| {1e3 * median('client_cpu_s'):.1f} ms | {server:.2f} s "
        f"| {median('bytes_up') / 1e3:,.0f} kB | {median('bytes_down') / 1e3:,.1f} kB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--dim", type=int, default=100_000)
    arguments = parser.parse_args()
    print(
        f"vectors of {arguments.dim:,} elements, {DROPOUT:.0%} lost after SHARE, gamma = {GAMMA}, delta = {DROPOUT}\n"
    )
    print("| clients | threat model | neighbours / threshold | client CPU | server CPU | upload | download |")
    print("|---|---|---|---|---|---|---|")
    for clients in arguments.clients:
        for threat_model in ThreatModel:
            print(row(clients, arguments.dim, threat_model), flush=True)


if __name__ == "__main__":
    main()
