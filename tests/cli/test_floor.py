"""The floor's counts, held against what the code really does."""

from __future__ import annotations

import numpy as np
import pytest

from secagg import RoundConfig
from secagg.primitives import agreement, masking, signing
from secagg.simulation import Faults, make_cohort, simulate
from secagg.simulation.costs import UnitCosts, Work, client_work, measure, server_work, work_of

LENGTH = 100


@pytest.fixture
def calls(monkeypatch):
    """Counts what a round does, while it runs."""
    counted = {"agreements": 0, "signed": 0, "verified": 0, "masks": 0}

    def count(module, name, what, amount=lambda *arguments: 1):
        honest = getattr(module, name)

        def wrapped(*arguments):
            counted[what] += amount(*arguments)
            return honest(*arguments)

        monkeypatch.setattr(module, name, wrapped)

    count(agreement, "agree", "agreements")
    count(agreement.AgreementKey, "agree", "agreements")
    count(signing, "sign", "signed")
    count(signing, "verify", "verified")
    # Modulo a prime it draws the coefficients of the shares, which are no masks.
    count(
        masking,
        "apply_masks",
        "masks",
        lambda suite, vector, add, subtract, modulus, *start: (len(add) + len(subtract)) * modulus.is_ring,
    )
    return counted


def simulated(threat, fates, clients=12, **options):
    identities, directory, digest = make_cohort(clients) if threat == "active" else ((), None, b"")
    config = RoundConfig.for_cohort(
        clients, LENGTH, threat_model=threat, gamma=0.1, delta=0.25, input_max=1, cohort=digest, **options
    )
    outcome = simulate(
        [np.ones(LENGTH, np.uint8)] * clients,
        config,
        faults=Faults(fates),
        identities=identities,
        directory=directory,
    )
    assert outcome.result is not None
    return config, outcome


def test_semi_honest(calls):
    # 12 clients, all neighbours of each other: one never comes, one deals nothing, one sends no vector.
    config, outcome = simulated("semi_honest", {3: "NONE", 5: "ADVERTISE", 7: "SHARE"}, neighbours="complete")
    client, server = work_of(outcome, config)
    mask = LENGTH * config.modulus.dtype.itemsize
    assert client == Work(keystream_bytes=10 * mask, agreements=10 + 9, vectors=1)
    assert server == Work(keystream_bytes=(9 + 9) * mask, agreements=9, vectors=9)
    # Client 7 made its channel keys but no mask; client 5 was gone.
    assert calls["agreements"] == 9 * client.agreements + 10 + server.agreements
    assert calls["masks"] * mask == 9 * client.keystream_bytes + server.keystream_bytes
    assert calls["signed"] == calls["verified"] == 0


def test_active(calls):
    config, outcome = simulated("active", {7: "SHARE", 2: "MASK"}, neighbours="complete")
    client, server = work_of(outcome, config)
    assert (client.signed, client.verified) == (2, 11 + config.quorum)
    assert server.verified == 12 + 10
    # Client 7 signed and verified the roster; client 2 got no survivors.
    assert calls["signed"] == 10 * client.signed + 2
    assert calls["verified"] == 10 * client.verified + 2 * 11 + server.verified


def test_a_sparse_graph(calls):
    config, outcome = simulated("semi_honest", {}, clients=20, neighbours=16)
    client, server = work_of(outcome, config)
    assert client == client_work(config)
    assert server == server_work(config, survivors=20, orphaned_pairs=0)
    assert calls["agreements"] == 20 * client.agreements == 20 * 2 * 16
    assert calls["masks"] == 20 * 17 + 20


def test_an_aborted_round_has_no_floor():
    config = RoundConfig.for_cohort(5, 10, gamma=0.0, delta=0.2)
    outcome = simulate([np.zeros(10, int)] * 5, config, faults=Faults(dict.fromkeys(range(4), "SHARE")))
    with pytest.raises(ValueError, match="aborted"):
        work_of(outcome, config)


def test_seconds_add_up():
    costs = UnitCosts(keystream_s_per_byte=1.0, agreement_s=10.0, sign_s=100.0, verify_s=1e3, add_s=1e4)
    assert Work(keystream_bytes=1, agreements=2, signed=3, verified=4, vectors=5).seconds(costs) == 54321.0
    assert Work().seconds(costs) == 0.0


@pytest.mark.parametrize("suite", ["aes-128", "hybrid"])
def test_unit_costs_are_measured(suite):
    costs = measure(RoundConfig.for_cohort(5, 1000, gamma=0.0, delta=0.2, suite=suite, version=2))
    none = set() if suite == "hybrid" else {"encapsulation_s", "decapsulation_s"}
    for field in set(UnitCosts.__dataclass_fields__) - none:
        assert 0 < getattr(costs, field) < 0.1, field
    assert {getattr(costs, field) for field in none} <= {0.0}
