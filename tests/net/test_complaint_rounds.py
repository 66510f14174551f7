"""Rounds with complaints over the network: who deals bad shares is named, and the others get their total."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from secagg import Identity, Policy, ThreatModel
from secagg.adapters.net.frames import RefusedError
from tests.support.bad_dealing import dealing_badly
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import run
from tests.support.rounds_of_processes import Start
from tests.support.three_members import ThreeMembers

CLIENTS = 6
LIAR = 5
MODELS = pytest.mark.parametrize("model", ThreatModel)


async def play(model: ThreatModel, folder: Path, tls: Path) -> tuple[Any, list[Any], dict[int, Any]]:
    """The hosted round, how each member ended, and the totals."""
    identities = [Identity.generate() for _ in range(CLIENTS)]
    asked: dict[str, Any] = {"gamma": 0.2, "delta": 0.2, "version": 2, "complaints": "auto"}
    spec = spec_of(CLIENTS, active=model.signs, identities=identities, **asked)
    policy = Policy(threat_model=model, min_survivors=3, max_complaints=None)
    async with hosting([spec], folder, tls) as running:
        members = [
            running.member(number, policy=policy, identity=identities[number], directory=spec.directory)
            for number in range(CLIENTS)
        ]
        ends = await asyncio.gather(*(member.run() for member in members), return_exceptions=True)
        return running.hosted(), ends, running.totals


@MODELS
def test_a_dealer_of_bad_shares_is_named_and_the_others_get_the_total(
    tmp_path: Path, tls_folder: Path, model: ThreatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealing_badly(monkeypatch, LIAR, CLIENTS)

    async def round_() -> None:
        hosted, ends, totals = await play(model, tmp_path, tls_folder)
        assert "disputed" in str(ends[LIAR])
        assert isinstance(ends[LIAR], RefusedError)
        assert hosted.refused == {"disputed": 1}
        assert "ANSWER" not in hosted.phase_seconds
        for number in range(LIAR):
            check_total(totals[number], tuple(range(LIAR)))

    run(round_)


@MODELS
def test_a_dealer_that_opens_its_bad_shares_stays_in_the_sum(
    tmp_path: Path, tls_folder: Path, model: ThreatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealing_badly(monkeypatch, LIAR, 1)

    async def round_() -> None:
        hosted, _, totals = await play(model, tmp_path, tls_folder)
        assert hosted.refused == {}
        assert {"COMPLAIN", "ANSWER", "MASK"} <= set(hosted.phase_seconds)
        for number in range(CLIENTS):
            check_total(totals[number], tuple(range(CLIENTS)))

    run(round_)


def test_a_round_of_the_command_line_has_complaints(start: Start, tmp_path: Path) -> None:
    members = ThreeMembers(start, tmp_path, "--complaints")
    members.all_get_the_sum()
    assert "COMPLAIN" in members.server.errors()
    assert "Each may make up to 1 complaint about shares that do not open." in members.server.errors()
