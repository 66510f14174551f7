"""``secagg serve --ledger`` and ``secagg join --ledger`` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from secagg import Identity, save_directory
from secagg.cli.app import app
from secagg.differencing import DifferenceLedger
from tests.support.processes import Command, free_port
from tests.support.rounds_of_processes import Start

SERVE = ("serve", "--dim-from", "u0.npz", "--clip", 2, "--directory", "cohort.json", "--demo-cert", "tls")
RATES = ("--gamma", 0.2, "--delta", 0.2, "--min-survivors", 4, "--threat-model", "semi_honest")
MEMBERS = range(5)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    members = []
    for member in MEMBERS:
        np.savez(tmp_path / f"u{member}.npz", v=np.linspace(-1, 1, 8) * member / 4)
        identity = Identity.generate()
        members.append((f"m{member}", identity.public_key))
        content = {"name": f"m{member}", "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
        (tmp_path / f"m{member}.json").write_text(json.dumps(content))
    save_directory(tmp_path / "cohort.json", members)
    return tmp_path


def join(start: Start, port: int, name: str, member: int) -> Command:
    given = ("--input", f"u{member}.npz", "--output", f"sum{member}.npz", "--ca", "tls/server.pem", "--again")
    trust = ("--identity", f"m{member}.json", "--directory", "cohort.json", "--threat-model", "semi_honest")
    kept = ("--ledger", f"{member}.ledger", "--min-difference", 2) if member == 0 else ()
    return start(f"client {member}", "join", f"wss://localhost:{port}/{name}", *given, *trust, *kept)


def test_a_second_round_without_one_member_has_no_sum(start: Start, files: Path) -> None:
    port = free_port()
    kept = ("--ledger", "server.ledger", "--min-difference", 2)
    server = start("server", *SERVE, *RATES, "--port", port, "--round", "one", *kept)
    server.await_log("listening")
    clients = [join(start, port, "one", member) for member in MEMBERS]
    assert [client.wait() for client in clients] == [0] * 5, clients[0].errors()
    assert server.wait() == 0, server.errors()
    everybody = tuple(f"m{member}" for member in MEMBERS)
    for file in ("server.ledger", "0.ledger"):
        ledger = DifferenceLedger(files / file)
        assert ledger.classes().members() == (everybody,)
        ledger.close()

    late = ("--deadline", "ADVERTISE=6", "--linger", 3, "--round", "two", "--journal", "two.sqlite")
    server = start("server", *SERVE, *RATES, "--port", port, *late, *kept)
    server.await_log("listening")
    clients = [join(start, port, "two", member) for member in range(4)]
    assert [client.wait() for client in clients] == [1] * 4, clients[0].errors()
    assert server.wait() == 1
    for command in (server, clients[0]):
        assert "to tell of m4 alone: at least 2 must always be in and out together" in command.errors()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-difference", 3), "--min-difference 3: it is what --ledger checks; give --ledger FILE"),
        (("--ledger", "l", "--min-difference", 1), "--min-difference 1"),
        (("--ledger", "l"), "--ledger l: it needs names that stay the same over all rounds"),
        (("--ledger", "u0.npz", "--directory", "cohort.json"), "u0.npz: not a difference ledger"),
    ],
)
def test_what_no_ledger_can_use(
    files: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[object, ...], message: str
) -> None:
    monkeypatch.chdir(files)
    (files / "u0.npz").write_bytes((files / "u0.npz").read_bytes() + bytes(4096))
    join_command = ("join", "ws://localhost:1/r", "--input", "u1.npz", "--output", "s.npz", "--insecure-plaintext")
    serve_command = ("serve", "--dim-from", "u1.npz", "--clip", 1, "--insecure-plaintext", "--port", 0)
    extra = () if "--directory" in options else ("--open", "--clients", 4)
    trust = ("--threat-model", "semi_honest")
    for command in ((*join_command, *trust), (*serve_command, *trust, *extra)):
        result = CliRunner().invoke(app, [str(argument) for argument in (*command, *options)])
        assert result.exit_code == 2, (result.stderr, result.exception)
        assert message in result.stderr
