"""``secagg serve --chained`` and ``secagg join --chain`` over two rounds, and ``secagg audit`` of what they leave."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
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
                *("--chain", f"m{member}.chain", "--server", "server.pub", "--receipts", f"receipts{member}", "--json"),
            )
            for member in range(3)
        ]
        assert [client.wait() for client in clients] == [0, 0, 0], [client.errors() for client in clients]
        for member, client in enumerate(clients):
            receipt = Path(client.result()["receipt"])
            assert receipt.name == f"{('spring', 'summer').index(name):08d}.member-{member}.receipt"
            assert f"{receipt}: the receipt for this total" in client.errors()
    assert server.wait() == 0
    assert [found["name"] for found in server.result()["rounds"]] == ["spring", "summer"]
    against = ("--directory", "cohort.json", "--server", "server.pub", "--json")
    receipts = [argument for member in range(3) for argument in ("--receipts", f"receipts{member}")]
    audit = start("audit", "audit", "certificates", *against, *receipts)
    assert audit.wait() == 0, audit.errors()
    assert [found["name"] for found in audit.result()["rounds"]] == ["spring", "summer"]
    assert [found["receipts"] for found in audit.result()["rounds"]] == [[0, 1, 2]] * 2
    own = start("own", "audit", "receipts1", *against)  # what a member kept is a history, too
    assert own.wait() == 0, own.errors()
    assert [found["receipts"] for found in own.result()["rounds"]] == [[1]] * 2
    nothing = start("nothing", "audit", "certificates", *against, "--receipts", "cohort.json")
    assert nothing.wait() == 2
    assert "--receipts cohort.json: there is no receipt" in nothing.errors()


@contextmanager
def chain_that_cannot_be_written(file: Path) -> Iterator[None]:
    """Whoever keeps this chain stands still before its last answer leaves."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


def test_a_chained_round_that_is_aborted_in_unmask(start: Start, files: Path) -> None:
    """One member answers.  The machines of the two others go down before they do, and so does the server's, in the
    middle of the wait for statements.  Everybody is in the next round.
    """
    port = free_port()
    chain = ("--chained", "--certificates", "certificates", "--identity", "server.json", "--linger", 20)

    def serve(name: str) -> Command:
        return start(
            name,
            *("serve", "--directory", "cohort.json", "--dim-from", "spring0.npz", "--clip", 1, "--demo-cert", "tls"),
            *("--port", port, "--log-format", "json", "--json", "--round", "spring", "--round", "summer", *chain),
            *("--deadline", "UNMASK=1"),
        )

    def join(round_: str, member: int, command: str) -> Command:
        return start(
            command,
            *("join", f"wss://localhost:{port}/{round_}", "--input", f"{round_}{member}.npz"),
            *("--output", f"{round_}-sum{member}.npz", "--ca", "tls/server.pem"),
            *("--identity", f"m{member}.json", "--directory", "cohort.json", "--log-format", "json"),
            *("--chain", f"m{member}.chain", "--server", "server.pub"),
        )

    server = serve("server")
    server.await_log("listening", '"round": "spring"')
    asleep = [join("spring", member, f"asleep{member}") for member in (1, 2)]
    with ExitStack() as locked:
        for member, client in zip((1, 2), asleep, strict=True):
            client.await_log('"event": "joins"')
            locked.enter_context(chain_that_cannot_be_written(files / f"m{member}.chain"))
        answers = join("spring", 0, "answers")
        assert server.await_log("phase-closed", '"phase": "UNMASK"', "ABORTED")
        assert all(client.kill() for client in asleep)
        assert server.kill()
    server = serve("server-again")
    assert server.await_log("resumed", '"phase": "ABORTED"')
    awake = [join("spring", member, f"awake{member}") for member in (1, 2)]
    assert [client.wait() for client in (answers, *awake)] == [1, 1, 1], [client.errors() for client in awake]
    assert '"stated": ["m1", "m2"], "silent": []' in server.await_log('"event": "statements"')
    server.await_log("listening", '"round": "summer"')
    clients = [join("summer", member, f"summer{member}") for member in range(3)]
    assert [client.wait() for client in clients] == [0, 0, 0], [client.errors() for client in clients]
    assert server.wait() == 1  # a round ended without a sum
    audit = start("audit", "audit", "certificates", "--directory", "cohort.json", "--json")
    assert audit.wait() == 0
    assert [found["outcome"] for found in audit.result()["rounds"]] == ["too-few-clients", "sum"]


def test_receipts_belong_to_a_chain(start: Start, files: Path) -> None:
    member = ("--identity", "m0.json", "--directory", "cohort.json", "--receipts", "receipts")
    client = start("client", "join", "wss://localhost:1/spring", "--input", "spring0.npz", "--output", "s.npz", *member)
    assert client.wait() == 2
    assert "--receipts: a receipt is for a total of a chained round" in client.errors()


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
