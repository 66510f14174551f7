"""Rounds of the hybrid suite over the network: what a member gets, and what one refuses that asks for this suite."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from secagg import Identity, Policy, Suite, ThreatModel
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import run
from tests.support.rounds_of_processes import Start
from tests.support.three_members import ThreeMembers

CLIENTS = 5


@pytest.mark.parametrize("active", [False, True])
def test_a_member_is_lost_and_the_others_get_the_total(tmp_path: Path, tls_folder: Path, active: bool) -> None:
    async def without_one() -> None:
        identities = [Identity.generate() for _ in range(CLIENTS)]
        spec = spec_of(CLIENTS, active=active, identities=identities, gamma=0, delta=0.3, suite=Suite.HYBRID, version=2)
        model = ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST
        policy = Policy(threat_model=model, min_survivors=3, suites=frozenset({Suite.HYBRID}))
        async with hosting([spec], tmp_path, tls_folder) as running:
            members = {
                number: running.member(number, policy=policy, identity=identities[number], directory=spec.directory)
                for number in range(1, CLIENTS)
            }
            tasks = {number: asyncio.create_task(member.run()) for number, member in members.items()}
            await running.until("ADVERTISE", CLIENTS - 1)
            running.end_phase()
            await asyncio.wait(tasks.values())
            assert [task.exception() for task in tasks.values()] == [None] * (CLIENTS - 1)
            for number in members:
                check_total(running.totals[number], tuple(range(1, CLIENTS)))

    run(without_one)


def test_serve_and_join_ask_for_it(start: Start, tmp_path: Path) -> None:
    members = ThreeMembers(start, tmp_path, "--suite", "hybrid")
    refused = members.join("refused", 0, "own.npz", "--suite", "aes-256")
    assert refused.wait() != 0
    assert "suite = HYBRID" in refused.errors()
    assert "--suite" in refused.errors()
    members.all_get_the_sum("--suite", "hybrid")
