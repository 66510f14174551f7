"""``secagg serve --chained`` and ``secagg join --chain`` over two rounds, and ``secagg audit`` of what they leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from secagg import Identity, save_directory
from tests.support.processes import Command, free_port

Start = Callable[..., Command]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three members with an input for each of two rounds, and the server's identity."""
    members = []
    for name in ("m0", "m1", "m2", "server"):
        identity = Identity.generate()
        content = {"name": name, "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / f"{name}.pub").write_text(json.dumps({"name": name, "key": content["key"]}))
        if name != "server":
            members.append((name, identity.public_key))
    for member in range(3):
        for place, round_ in enumerate(("spring", "summer")):
            np.savez(tmp_path / f"{round_}{member}.npz", v=np.full(4, 0.1 * (1 + member + 3 * place)))
    save_directory(tmp_path / "cohort.json", members)
    return tmp_path


def test_two_chained_rounds_and_their_audit(start: Start, files: Path) -> None:
    port = free_port()
    chain = ("--chained", "--certificates", "certificates", "--identity", "server.json")
    rounds = ("--round", "spring", "--round", "summer")
    server = start(
        "server",
        *("serve", "--directory", "cohort.json", "--dim-from", "spring0.npz", "--clip", 1, "--demo-cert", "tls"),
        *("--port", port, "--log-format", "json", "--json", "--linger", 20, *rounds, *chain),
    )
    for name in ("spring", "summer"):
        server.await_log("listening", f'"round": "{name}"')
        clients = [
            start(
                f"{name}{member}",
                *("join", f"wss://localhost:{port}/{name}", "--input", f"{name}{member}.npz"),
                *("--output", f"{name}-sum{member}.npz", "--ca", "tls/server.pem"),
                *("--identity", f"m{member}.json", "--directory", "cohort.json"),
                *("--chain", f"m{member}.chain", "--server", "server.pub"),
            )
            for member in range(3)
        ]
        assert [client.wait() for client in clients] == [0, 0, 0], [client.errors() for client in clients]
    assert server.wait() == 0
    assert [found["name"] for found in server.result()["rounds"]] == ["spring", "summer"]
    audit = start("audit", "audit", "certificates", "--directory", "cohort.json", "--server", "server.pub", "--json")
    assert audit.wait() == 0
    assert [found["name"] for found in audit.result()["rounds"]] == ["spring", "summer"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--chained",), "--chained: the chain is that of the certificates"),
        (("--identity", "server.json"), "--identity and --certificates go together"),
        (("--certificates", "certificates"), "--identity and --certificates go together"),
    ],
)
def test_options_of_serve_that_go_together(start: Start, files: Path, arguments: tuple[str, ...], said: str) -> None:
    common = ("--directory", "cohort.json", "--dim-from", "spring0.npz", "--clip", 1, "--demo-cert", "tls")
    server = start("server", "serve", *common, *arguments)
    assert server.wait() == 2
    assert said in server.errors()


def test_a_semi_honest_round_is_not_chained(start: Start, files: Path) -> None:
    chain = ("--chained", "--certificates", "certificates", "--identity", "server.json")
    common = ("--open", "--clients", 3, "--dim-from", "spring0.npz", "--clip", 1, "--demo-cert", "tls")
    server = start("server", "serve", *common, *chain)
    assert server.wait() == 2
    assert "cannot be chained" in server.errors()


def test_another_identity_does_not_continue_a_chain(start: Start, files: Path) -> None:
    common = ("--directory", "cohort.json", "--dim-from", "spring0.npz", "--clip", 1, "--demo-cert", "tls")
    (files / "certificates").mkdir()
    (files / "certificates" / "00000000.certificate").write_bytes(b"none")
    server = start("server", "serve", *common, "--certificates", "certificates", "--identity", "server.json")
    assert server.wait() == 2
    assert "the certificate does not decode" in server.errors()


def test_a_chain_of_join_needs_a_server_that_is_known(start: Start, files: Path) -> None:
    member = ("--identity", "m0.json", "--directory", "cohort.json", "--ca", "cohort.json")
    client = start(
        "client",
        *("join", "wss://localhost:1/spring", "--input", "spring0.npz", "--output", "sum.npz", *member),
        *("--chain", "m0.chain"),
    )
    assert client.wait() == 2
    assert "--chain, --server and --directory go together" in client.errors()
