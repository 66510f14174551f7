"""Rounds over the network whose vectors come in lattice envelopes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from secagg import Identity, Policy, ThreatModel
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import run
from tests.support.rounds_of_processes import Start
from tests.support.three_members import ThreeMembers

CLIENTS = 4


@pytest.mark.parametrize("active", [False, True])
def test_members_that_take_envelopes_get_the_total(tmp_path: Path, tls_folder: Path, active: bool) -> None:
    async def whole_round() -> None:
        identities = [Identity.generate() for _ in range(CLIENTS)]
        spec = spec_of(
            CLIENTS, active=active, identities=identities, gamma=0, min_survivors=None, version=2, carrier="lattice"
        )
        model = ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST
        policy = Policy(threat_model=model, min_survivors=3, carrier="lattice")
        async with hosting([spec], tmp_path, tls_folder) as running:
            members = [
                running.member(number, policy=policy, identity=identities[number], directory=spec.directory)
                for number in range(CLIENTS)
            ]
            await asyncio.gather(*(member.run() for member in members))
            for number in range(CLIENTS):
                check_total(running.totals[number], tuple(range(CLIENTS)))

    run(whole_round)


def test_a_client_takes_envelopes_when_it_is_told_to(start: Start, tmp_path: Path) -> None:
    members = ThreeMembers(start, tmp_path, "--carrier", "lattice")
    refused = members.join("refused", 0, "own.npz")
    assert refused.wait() != 0
    assert "carrier = lattice" in refused.errors()
    assert "--carrier" in refused.errors()
    members.all_get_the_sum("--carrier", "any")
