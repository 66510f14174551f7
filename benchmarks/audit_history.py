"""How long an auditor waits for a whole history of a cohort's rounds: all signatures, quorums and links.

    python benchmarks/audit_history.py --rounds 10000 --clients 10

The rounds are played once and certified as often as is asked for, each time with a nonce and confirmations of its own,
so that nothing is the same twice.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
from machine import machine

from secagg import Identity, MemoryDirectory, RoundConfig
from secagg.audit import audit
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import NO_CERTIFICATE, Certificate
from secagg.simulation import make_cohort
from secagg.simulation.rounds import Simulation

LIMIT_SECONDS = 10.0
"""For 10,000 rounds."""


def history(rounds: int, clients: int) -> tuple[list[bytes], MemoryDirectory]:
    """The certificates of a chain of active rounds."""
    identities, directory, cohort = make_cohort(clients)
    config = RoundConfig.for_cohort(clients, 8, threat_model="active", cohort=cohort)
    played = Simulation(
        lambda client: np.ones(8, dtype=config.modulus.dtype), config, identities=identities, directory=directory
    )
    played.run()
    server = Identity.generate()
    first = Certificate.from_bytes(played.server.certificate(server))
    made, previous = [], NO_CERTIFICATE
    for number in range(rounds):
        draft = msgspec.structs.replace(first, number=number, previous=previous, nonce=number.to_bytes(32, "big"))
        signed = config.labels.signed_survivors(draft.session, draft.survivors)
        confirmed = b"".join(identities[signer].sign(signed) for signer in draft.members(draft.signers))
        certificate = certificates.signed(msgspec.structs.replace(draft, signatures=confirmed), server)
        made.append(certificate.to_bytes())
        previous = certificate.digest
    return made, directory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--output", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    made, directory = history(options.rounds, options.clients)
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        started, computed = time.perf_counter(), time.process_time()
        found = audit(made, directory=directory, executor=threads)
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - computed
    limit = LIMIT_SECONDS * options.rounds / 10_000
    print("| rounds | clients | signatures a round | seconds | of the limit | CPU seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    signatures = 1 + len(found.rounds[0].signers)
    figures_of_time = f"{seconds:.2f} | {seconds / limit:.2f} | {cpu_seconds:.2f}"
    print(f"| {options.rounds} | {options.clients} | {signatures} | {figures_of_time} |")
    if options.output is not None:
        figures = {
            "machine": machine(),
            "rounds": options.rounds,
            "clients": options.clients,
            "signatures": signatures,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "of_the_limit": seconds / limit,
        }
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
