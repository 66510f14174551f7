"""Prepared clients send what full ones would: under one seed, the transcript of a round of either is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secagg import ParameterError, RoundConfig, Suite
from secagg.simulation import Faults, Nuisance, Outcome, SeededRandomness, Trouble, make_cohort, simulate
from secagg.simulation.prepared import choose_full, simulate_prepared

CLIENTS, LENGTH, SEED = 40, 257, 7
FATES = {3: "NONE", 8: "ADVERTISE", 11: "SHARE", 17: "SHARE", 20: "SHARE", 29: "MASK", 30: "CONFIRM"}


def vector_of(client: int) -> NDArray[np.uint16]:
    return np.random.default_rng(client).integers(0, 1 << 16, LENGTH, np.uint16)


def run(threat_model: str, neighbours: str, full: int | None, **options: Any) -> Outcome:
    identities, directory, cohort = make_cohort(CLIENTS, SeededRandomness(SEED, "identities"))
    active = threat_model == "active"
    config = RoundConfig.for_cohort(
        CLIENTS,
        LENGTH,
        threat_model=threat_model,
        gamma=0.1,
        delta=0.2,
        neighbours=neighbours,  # type: ignore[arg-type]
        input_max=2**16 - 1,
        cohort=cohort if active else b"",
        **options,
    )
    fates = FATES if active else {client: fate.replace("CONFIRM", "MASK") for client, fate in FATES.items()}
    faults = Faults(fates=fates, troubles=(Trouble(5, "SHARE", Nuisance.DUPLICATE), Trouble(6, "MASK", Nuisance.LATE)))
    given: dict[str, Any] = {"faults": faults, "seed": SEED, "identities": identities, "directory": directory}
    if config.attachment_bytes:
        given["attachments"] = lambda client: [(lost, bytes([client, lost])) for lost in range(CLIENTS + 1)]
    if full is None:
        return simulate(vector_of, config, **given)
    return simulate_prepared(vector_of, config, full=full, **given)


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_what_is_attached_is_that_of_full_clients(threat_model: str) -> None:
    options = {"version": 2, "attachment_bytes": 2}
    real, prepared = (run(threat_model, "auto", full, **options) for full in (None, 7))
    assert real.result is not None
    assert prepared.result is not None
    lost = CLIENTS - len(real.included)
    assert prepared.result.transcript_digest == real.result.transcript_digest
    assert prepared.result.attachments == real.result.attachments
    assert set(prepared.result.attachments.items()) <= {(client, bytes([client, lost])) for client in real.included}


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_envelopes_are_those_of_full_clients(threat_model: str) -> None:
    real, prepared = (run(threat_model, "auto", full, version=2, carrier="lattice") for full in (None, 7))
    assert real.result is not None
    assert prepared.result is not None
    assert prepared.result.transcript_digest == real.result.transcript_digest
    assert np.array_equal(prepared.sum, real.sum)
    assert np.array_equal(prepared.sum, sum(vector_of(client).astype(np.uint64) for client in prepared.included))
    assert {phase: cost.bytes_up for phase, cost in prepared.costs.items()} == {
        phase: cost.bytes_up for phase, cost in real.costs.items()
    }


@pytest.mark.parametrize("full", [1, 7, CLIENTS - 2, CLIENTS])
@pytest.mark.parametrize("neighbours", ["auto", "complete"])
@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_the_transcript_is_that_of_full_clients(threat_model: str, neighbours: str, full: int) -> None:
    real, prepared = run(threat_model, neighbours, None), run(threat_model, neighbours, full)
    assert real.result is not None
    assert prepared.result is not None
    assert prepared.result.transcript_digest == real.result.transcript_digest
    assert prepared.dropped == real.dropped
    assert np.array_equal(prepared.sum, real.sum)
    assert np.array_equal(prepared.sum, sum(vector_of(client).astype(np.uint64) for client in prepared.included))
    assert not prepared.client_errors
    assert {phase: cost.bytes_up for phase, cost in prepared.costs.items()} == {
        phase: cost.bytes_up for phase, cost in real.costs.items()
    }
    assert len(prepared.costs["UNMASK"].client_cpu_s) == min(full, CLIENTS - len(FATES) - 1)


def test_the_other_suite() -> None:
    real, prepared = (run("active", "auto", full, suite=Suite.AES_256) for full in (None, 5))
    assert real.result is not None
    assert prepared.result is not None
    assert prepared.result.transcript_digest == real.result.transcript_digest


def test_the_draft_of_the_next_version() -> None:
    real, prepared = (run("active", "auto", full, version=2) for full in (None, 5))
    assert real.result is not None
    assert prepared.result is not None
    assert prepared.result.transcript_digest == real.result.transcript_digest


def test_an_aborted_round_has_no_sum() -> None:
    config = RoundConfig.for_cohort(CLIENTS, LENGTH, gamma=0.1, delta=0.1)
    fates = dict.fromkeys(range(0, CLIENTS, 2), "SHARE")
    outcome = simulate_prepared(vector_of, config, full=5, faults=Faults(fates=fates | dict.fromkeys((1, 3), "NONE")))
    assert outcome.result is None
    assert outcome.failure is not None


def test_full_clients_are_spread_over_those_that_stay() -> None:
    config = RoundConfig.for_cohort(CLIENTS, LENGTH, gamma=0.1, delta=0.2)
    lost = Faults(fates=dict.fromkeys(range(4), "SHARE"))
    assert choose_full(config, lost, 6) == {4, 10, 16, 22, 28, 34}
    assert choose_full(config, lost, 38) == {*range(4, CLIENTS), 0, 2}
    assert choose_full(config, lost, 1000) == frozenset(range(CLIENTS))


@pytest.mark.parametrize("full", [0, -1, True, 2.0])
def test_somebody_is_full(full: int) -> None:
    config = RoundConfig.for_cohort(CLIENTS, LENGTH, gamma=0.1, delta=0.2)
    with pytest.raises(ParameterError, match="full = "):
        choose_full(config, Faults(), full)
