"""Rounds with groups over the network: whose sums are opened, what the host and what the members are given."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from secagg import Identity, Policy, ThreatModel, save_directory
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.frames import Refusal, RefusedError
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.score_keeping import ScoreKeeper
from secagg.arithmetic import unpack
from tests.support.hosting import LAYOUT, SHAPES, arrays_of, check_total, hosting, spec_of
from tests.support.moved_clock import run
from tests.support.processes import free_port
from tests.support.rounds_of_processes import Start

CLIENTS = 8


def grouped(identities: list[Identity], *, active: bool) -> RoundSpec:
    """Two groups of four, of which three at least are in a sum: without three clients, one group is left out."""
    return spec_of(
        CLIENTS,
        active=active,
        identities=identities,
        gamma=0,
        delta=0.3,
        groups=2,
        min_group=3,
        version=2,
        min_survivors=None,
    )


@pytest.mark.parametrize("active", [False, True])
def test_one_group_is_left_out_and_the_others_members_get_its_sum(
    tmp_path: Path, tls_folder: Path, active: bool
) -> None:
    async def without_three() -> None:
        identities = [Identity.generate() for _ in range(CLIENTS)]
        spec = grouped(identities, active=active)
        model = ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST
        policy = Policy(threat_model=model, min_survivors=3, max_groups=2)
        async with hosting([spec], tmp_path, tls_folder) as running:
            members = {
                number: running.member(number, policy=policy, identity=identities[number], directory=spec.directory)
                for number in range(3, CLIENTS)
            }
            tasks = {number: asyncio.create_task(member.run()) for number, member in members.items()}
            await running.until("ADVERTISE", CLIENTS - 3)
            running.end_phase()
            await asyncio.wait(tasks.values())
            ending = running.hosted().ending
            check(ending, spec, {number: task.exception() for number, task in tasks.items()})
            for number in ending.included:
                check_total(running.totals[number], ending.included)

    run(without_three)


def check(ending: Ending, spec: RoundSpec, errors: dict[int, BaseException | None]) -> None:
    """The one group's sum is the plain one of its members, and it outlasts the journal; the others heard why."""
    (group,) = ending.groups
    assert group.included == ending.included
    assert 3 <= len(group.included) <= 4
    assert Ending.of(ending.head(), ending.packed) == ending
    vector = unpack(group.packed, spec.config.modulus, spec.config.length)
    encoder = LAYOUT.encoder().for_round(spec.config)
    mean = encoder.decode_sum(vector, len(group.included), min_contributors=3)
    bound = encoder.error_bound(len(group.included), mean.weight)
    for name in SHAPES:
        plain = np.mean([arrays_of(member)[name] for member in group.included], axis=0, dtype=np.float64)
        assert np.abs(mean.mean[name] - plain).max() <= bound
    for number, error in errors.items():
        if number in ending.included:
            assert error is None
        else:
            assert isinstance(error, RefusedError)
            assert error.code is Refusal.LEFT_OUT


def test_files_of_each_group_from_the_command_line(start: Start, tmp_path: Path) -> None:
    for member in range(6):
        np.savez(tmp_path / f"u{member}.npz", w=arrays_of(member)["w"])
    port = free_port()
    serve = ("serve", "--clients", 6, "--dim-from", "u0.npz", "--clip", 2, "--bits", 20, "--open", "--gamma", 0)
    tls = ("--demo-cert", "tls", "--port", port, "--output", "sum.npz", "--json")
    server = start("server", *serve, *tls, "--groups", 2, "--min-group", 3, "--log-format", "json")
    assert server.await_log("listening")
    *said, last = server.errors().splitlines()
    assert any("Each of 2 groups has a sum, which needs 3 of them" in line for line in said)
    assert '"event": "listening"' in last, "whoever waits for it has everything that is said before a round"
    url, trust = f"wss://localhost:{port}/default", ("--ca", "tls/server.pem", "--gamma", 0)
    refused = start("refused", "join", url, "--input", "u0.npz", "--output", "own.npz", *trust)
    assert refused.wait() != 0
    assert "groups = 2" in refused.errors()
    assert "--max-groups" in refused.errors()
    clients = [
        start(f"client {m}", "join", url, "--input", f"u{m}.npz", "--output", f"t{m}.npz", "--max-groups", 2, *trust)
        for m in range(6)
    ]
    assert [client.wait() for client in clients] == [0] * 6
    assert server.wait() == 0
    (found,) = server.result()["rounds"]
    assert [group["number"] for group in found["groups"]] == [0, 1]
    assert [len(group["clients"]) for group in found["groups"]] == [3, 3]
    sums = [np.load(tmp_path / f"sum.group-{number}.npz")["w"] for number in range(2)]
    assert [group["file"] for group in found["groups"]] == ["sum.group-0.npz", "sum.group-1.npz"]
    plain = sum(arrays_of(member)["w"].astype(np.float64) for member in range(6))
    assert np.abs(sums[0] + sums[1] - plain).max() < 1e-3
    assert np.abs(np.load(tmp_path / "t0.npz")["w"] - plain).max() < 1e-3
    assert np.abs(sums[0] - sums[1]).max() > 0.1


def test_scores_of_clients_from_the_command_line(start: Start, tmp_path: Path) -> None:
    """Two rounds of one server: scores are in the output, in their file and on a page; without groups, no scores."""
    members = []
    for member in range(6):
        np.savez(tmp_path / f"u{member}.npz", w=arrays_of(member)["w"])
        np.savez(tmp_path / f"v{member}.npz", w=arrays_of(member + 6)["w"])
        identity = Identity.generate()
        members.append((f"m{member}", identity.public_key))
        content = {"name": f"m{member}", "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
        (tmp_path / f"m{member}.json").write_text(json.dumps(content))
    save_directory(tmp_path / "cohort.json", members)
    port = free_port()
    serve = (
        "serve",
        "--directory",
        "cohort.json",
        "--threat-model",
        "semi_honest",
        "--dim-from",
        "u0.npz",
        "--clip",
        2,
    )
    tls = ("--gamma", 0, "--demo-cert", "tls", "--port", port, "--json", "--log-format", "json", "--scores", "scores")
    refused = start("refused", *serve, *tls)
    assert refused.wait() == 2
    assert "give --groups and --directory" in refused.errors()
    server = start("server", *serve, *tls, "--groups", 2, "--min-group", 3, "--round", "one", "--round", "two")
    server.await_log("listening")
    trust = ("--ca", "tls/server.pem", "--gamma", 0, "--max-groups", 2)
    clients = [
        start(
            *(f"{name}{m}", "join", f"wss://localhost:{port}/{name}", "--input", f"{file}{m}.npz"),
            *("--output", f"{name}{m}.npz", "--identity", f"m{m}.json", *trust),
        )
        for name, file in (("one", "u"), ("two", "v"))
        for m in range(6)
    ]
    assert [client.wait() for client in clients] == [0] * 12, clients[0].errors()
    assert server.wait() == 0
    scores = server.result()["scores"]
    assert (scores["rounds"], scores["clients"]) == (2, 6)
    assert {one["client"] for one in scores["highest"]} <= {f"m{m}" for m in range(6)}
    page = (tmp_path / "scores.html").read_text()
    assert all(f"m{m}" in page for m in range(6))
    with closing(ScoreKeeper(tmp_path / "scores")) as kept:
        assert kept.shown() == scores
