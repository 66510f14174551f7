"""Rounds over the network whose vectors come in lattice envelopes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from secagg import Identity, Policy, ThreatModel
from tests.support.hosting import arrays_of, check_total, hosting, spec_of
from tests.support.moved_clock import run
from tests.support.processes import free_port
from tests.support.rounds_of_processes import Start

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
    for member in range(3):
        np.savez(tmp_path / f"u{member}.npz", w=arrays_of(member)["w"])
    port = free_port()
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 2, "--bits", 20, "--open", "--gamma", 0)
    tls = ("--demo-cert", "tls", "--port", port, "--output", "sum.npz", "--json")
    server = start("server", *serve, *tls, "--carrier", "lattice", "--log-format", "json")
    server.await_log("listening")
    url, trust = f"wss://localhost:{port}/default", ("--ca", "tls/server.pem", "--gamma", 0)
    refused = start("refused", "join", url, "--input", "u0.npz", "--output", "own.npz", *trust)
    assert refused.wait() != 0
    assert "carrier = lattice" in refused.errors()
    assert "--carrier" in refused.errors()
    clients = [
        start(f"client {m}", "join", url, "--input", f"u{m}.npz", "--output", f"t{m}.npz", "--carrier", "any", *trust)
        for m in range(3)
    ]
    assert [client.wait() for client in clients] == [0] * 3
    assert server.wait() == 0
    plain = sum(arrays_of(member)["w"].astype(np.float64) for member in range(3))
    assert np.abs(np.load(tmp_path / "t0.npz")["w"] - plain).max() < 1e-3
    assert np.abs(np.load(tmp_path / "sum.npz")["w"] - plain).max() < 1e-3
