"""``secagg serve`` and ``secagg join`` as a user runs them: files, exit codes, one-line messages."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import load_file, save_file

import secagg
from secagg import Identity, save_directory
from secagg._install import how_to_install
from tests.support.processes import Command, free_port
from tests.support.rounds_of_processes import Start

SHAPES = {"layer.weight": (8, 4), "layer.bias": (4,), "steps": ()}


def arrays_of(member: int) -> dict[str, Any]:
    rng = np.random.default_rng(member)
    return {name: np.asarray(rng.uniform(-1, 1, shape), dtype=np.float32) for name, shape in SHAPES.items()}


def plain_sum(members: range) -> dict[str, Any]:
    return {name: sum(arrays_of(member)[name].astype(np.float64) for member in members) for name in SHAPES}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three members' files, in both formats, and their identities."""
    members = []
    for member in range(3):
        np.savez(tmp_path / f"u{member}.npz", **arrays_of(member))
        save_file(arrays_of(member), tmp_path / f"u{member}.safetensors")
        identity = Identity.generate()
        members.append((f"m{member}", identity.public_key))
        content = {"name": f"m{member}", "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
        (tmp_path / f"m{member}.json").write_text(json.dumps(content))
    save_directory(tmp_path / "cohort.json", members)
    return tmp_path


def launch(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    source = str(Path(secagg.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": source + os.pathsep + os.environ.get("PYTHONPATH", "")}
    return subprocess.Popen(
        [sys.executable, "-m", "secagg", *map(str, arguments)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def launched(files: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Fresh interpreters; none is left over."""
    running: list[subprocess.Popen[str]] = []

    def start_one(*arguments: object) -> subprocess.Popen[str]:
        running.append(launch(files, *arguments))
        return running[-1]

    yield start_one
    for process in running:
        process.kill()
        process.communicate()


def test_three_organisations_sum_their_files(files: Path, launched: Callable[..., subprocess.Popen[str]]) -> None:
    port, tls = free_port(), ("--ca", "tls/server.pem")
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1, "--bits", 24, "--open")
    server = launched(*serve, "--demo-cert", "tls", "--port", port, "--output", "server.npz", "--json")
    assert server.stderr is not None
    assert any("listening" in line for line in server.stderr)  # the port is open
    url = f"wss://localhost:{port}/default"
    clients = [
        launched("join", url, "--input", "u0.npz", "--output", "sum0.npz", *tls),
        launched("join", url, "--input", "u1.safetensors", "--output", "sum1.safetensors", *tls),
        launched("join", url, "--input", "u2.npz", "--output", "mean2.safetensors", "--mean", *tls, "--json"),
    ]
    printed = [client.communicate(timeout=60) for client in clients]
    assert [client.returncode for client in clients] == [0, 0, 0], printed
    summary = json.loads(server.communicate(timeout=60)[0])
    assert server.returncode == 0
    assert summary["ok"]
    assert summary["rounds"][0]["included"] == 3
    bound = json.loads(printed[2][0])["error_bound"]
    expected = plain_sum(range(3))
    for found in (np.load(files / "sum0.npz"), np.load(files / "server.npz"), load_file(files / "sum1.safetensors")):
        for name in SHAPES:
            assert found[name].dtype == np.float64
            assert found[name].shape == SHAPES[name]
            assert np.abs(found[name] - expected[name]).max() <= 3 * bound
    for name, mean in load_file(files / "mean2.safetensors").items():
        assert mean.dtype == np.float32
        assert np.abs(mean - expected[name] / 3).max() <= bound + 1e-6


def test_active_with_a_server_that_is_killed_and_a_client_that_is_stopped(start: Start, files: Path) -> None:
    port = free_port()
    serve = (
        *("serve", "--directory", "cohort.json", "--dim-from", "u0.safetensors", "--clip", 1, "--demo-cert", "tls"),
        *("--port", port, "--log-format", "json", "--json"),
    )

    def join(member: int, name: str) -> Command:
        url = f"wss://localhost:{port}/default"
        trust = ("--identity", f"m{member}.json", "--directory", "cohort.json", "--ca", "tls/server.pem")
        return start(name, "join", url, "--input", f"u{member}.npz", "--output", f"sum{member}.npz", *trust)

    server = start("server", *serve)
    server.await_log("listening")
    first = join(0, "first")
    server.await_log("login", '"client": "m0"')
    assert first.terminate() == 3
    state = f"m0.json.localhost-{port}.default.state"
    assert f"{state} keeps the state: run the same command to go on" in first.errors()
    server.kill()
    server = start("server again", *serve)
    clients = [join(member, f"client {member}") for member in range(3)]
    assert [client.wait() for client in clients] == [0, 0, 0]
    assert server.wait() == 0
    assert server.result()["rounds"][0]["threat_model"] == "active"
    for name, expected in plain_sum(range(3)).items():
        assert np.abs(np.load(files / "sum0.npz")[name] - expected).max() < 1e-3


def test_weights_over_plaintext_on_this_machine(start: Start, files: Path) -> None:
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
        1,
    )
    serve += ("--max-weight", 100, "--insecure-plaintext", "--port", port, "--round", "a.b", "--output", "{round}.npz")
    server = start("server", *serve, "--linger", 5)
    server.await_log("listening")
    clients = [
        start(
            f"client {member}",
            *("join", f"ws://localhost:{port}/a.b", "--insecure-plaintext", "--identity", f"m{member}.json"),
            *("--input", f"u{member}.npz", "--output", f"mean{member}.npz", "--mean", "--weight", 10 * member + 10),
        )
        for member in range(3)
    ]
    assert [client.wait() for client in clients] == [0, 0, 0]
    for name in SHAPES:
        weighted = np.average([arrays_of(member)[name] for member in range(3)], axis=0, weights=[10, 20, 30])
        assert np.abs(np.load(files / "mean1.npz")[name] - weighted).max() < 1e-3
        assert np.abs(np.load(files / "a.b.npz")[name] - 60 * weighted).max() < 6e-2
    assert server.wait() == 0
    again = start("again", *serve, "--linger", 0.1)
    assert again.wait() == 0
    assert "round a.b is over, and is handed out again" in again.errors()


def test_what_a_server_says_does_not_steer_the_terminal(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from secagg.cli.join_run import ended_with

    outcome = ended_with("no\x1b[2J\x1b]0;mine\x07 \nreally", 4)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "secagg join: no?[2J?]0;mine? really"
    assert outcome.exit_code == 4


def test_metrics_and_the_status_page(start: Start, files: Path) -> None:
    port, monitor = free_port(), free_port()
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1, "--open", "--demo-cert", "tls")
    server = start("server", *serve, "--port", port, "--monitor-port", monitor, "--log-format", "json")
    server.await_log("listening")

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://localhost:{monitor}/{path}", timeout=10) as answer:
            return str(answer.read().decode())

    join = ("--input", "u0.npz", "--output", "sum0.npz", "--ca", "tls/server.pem")
    client = start("client", "join", f"wss://localhost:{port}/default", *join)
    refused = start("refused", "join", f"wss://localhost:{port}/nowhere", *join, "--state", "other.state")
    assert refused.wait() == 4
    limit = time.monotonic() + 30
    while json.loads(get("status.json"))["rounds"][0]["arrived"] < 1:
        assert time.monotonic() < limit
        time.sleep(0.02)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(get("metrics"))
        for sample in family.samples
    }
    assert found["secagg_logged_in",] == 1
    assert found["secagg_round_phase", "ADVERTISE", "default"] == 1
    assert found["secagg_round_phase", "MASK", "default"] == 0
    assert found["secagg_round_arrived", "default"] == 1
    assert found["secagg_refused_total", "round-unknown"] == 1
    assert found["secagg_journal_commits_total",] >= 3
    assert found["secagg_client_awaited", "default", "seat 1"] == 1
    assert found["secagg_round_seated", "default"] == 1
    page = get("status")
    assert "width=device-width" in page
    assert "<table" not in page, "a table is wider than a telephone"
    assert (files / f"u0.npz.localhost-{port}.default.state").exists()  # whatever the output is called
    assert server.terminate() == 3
    assert "secagg-journal.sqlite keeps the rounds" in server.errors()
    client.kill()
    assert not re.search(r"[0-9a-f]{65,}", server.errors()), "no keys or messages in the log"


SERVE = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1)


def odd_files(folder: Path) -> None:
    """Input files that cannot be summed, or not be written again."""
    np.savez(folder / "nan.npz", w=np.array([1.0, np.nan]))
    np.savez(folder / "text.npz", w=np.array(["text"]))
    np.savez(folder / "named.npz", __metadata__=np.zeros(3))
    np.savez(folder / "long.npz", w=np.zeros(3, np.longdouble))
    (folder / "link.npz").hardlink_to(folder / "u0.npz")
    ends = b" " * 20 + b"\n"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }" + ends
    signs = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"-" * 9000 + b"3,), }" + ends
    for name, text in (("huge", header), ("signs", signs)):
        with zipfile.ZipFile(folder / f"{name}.npz", "w") as archive:
            archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(8))
    one = io.BytesIO()
    np.save(one, np.zeros(2))
    with zipfile.ZipFile(folder / "twice.npz", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("w.npy", one.getvalue())
        archive.writestr("w.npy", one.getvalue())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (SERVE, "--directory"),
        ((*SERVE, "--open"), "--demo-cert"),
        ((*SERVE, "--open", "--directory", "cohort.json", "--demo-cert", "tls"), "exclude each other"),
        ((*SERVE, "--open", "--insecure-plaintext", "--host", "0.0.0.0"), "without TLS, listen on localhost only"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--threat-model", "active"), "needs the cohort's --directory"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--deadline", "LUNCH=9"), "PHASE=SECONDS"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--round", "a b"), "round name 'a b'"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--round", "a", "--round", "a"), "twice"),
        ((*SERVE[:-1], -1, "--open", "--demo-cert", "tls"), "clip"),
        (SERVE[:-2], "--clip is missing: layer.bias, layer.weight, steps would have none"),
        ((*SERVE, "--clip", "nothing=1"), "no array has this name"),
        ((*SERVE, "--exact", "steps=3..9"), "the range leaves out 0, and clients refuse that: write 0..9"),
        ((*SERVE, "--max-weight", 10**6), "give --bits 21 or --array-bits 'layer.bias=21', or lower --max-weight"),
        ((*SERVE, "--max-weight", 0), "--max-weight is 0"),
        ((*SERVE, "--bits", 40), "--bits is 40"),
        ((*SERVE, "--exact", "steps=-1e15..1e15", "--max-weight", 9999), "give --exact a narrower range"),
        ((*SERVE, "--open", "--max-connections", 0), "--max-connections 0: it must be at least 1"),
        ((*SERVE, "--open", "--linger", -5), "--linger -5: it must be from 0"),
        ((*SERVE, "--open", "--linger", "nan"), "--linger nan: it must be from 0"),
        ((*SERVE, "--open", "--port", 99999), "--port 99999: it must be from 0 to 65535"),
        ((*SERVE, "--open", "--monitor-port", 65536), "--monitor-port 65536: it must be from 0 to 65535"),
        ((*SERVE, "--open", "--monitor-port", -1), "--monitor-port -1: it must be from 0 to 65535"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--output", "none/s.npz"), "there is no directory none"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--output", "{round}/s.npz"), "there is no directory default"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--output", "u0.npz"), "this is an input file"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--output", "s.txt"), "must end in .npz or .safetensors"),
        ((*SERVE, "--open", "--demo-name", "a.example", "--insecure-plaintext"), "give --demo-cert DIR too"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--demo-name", "wss://a.example:1"), "without wss:// and a port"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--demo-name", ""), "--demo-name '': give a host name"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--demo-name", "b\u00fccher.example"), "give a host name"),
        ((*SERVE, "--write-layout", "none/layout.json"), "none/layout.json: name a file in a directory that is there"),
        (
            ("serve", "--clients", 4, *SERVE[3:], "--open", "--demo-cert", "tls", "--min-survivors", 3, "--gamma", 0.5),
            "--min-survivors = 3: must be at least 4 (threshold + 1 = 4, colluders + 2 = 4",
        ),
        (("serve", "--dim-from", "none.npz", "--clip", 1), "none.npz: there is no such file"),
        (("serve", "--dim-from", "text.npz", "--clip", 1), "text.npz: w holds <U4 elements"),
        ((*SERVE[:1], *SERVE[3:], "--directory", "none.json"), "none.json: No such file"),
        ((*SERVE, "--open", "--cert", "none.pem", "--key", "none.key"), "none.pem: No such file"),
        ((*SERVE, "--open", "--demo-cert", "tls", "--journal", "none/j.sqlite"), "none/j.sqlite: No such file"),
        (("join", "--input", "u0.npz", "--output", "s.npz"), "URL is missing"),
        (("join", "wss://localhost:1", "--input", "u0.npz"), "--output is missing"),
        (("join", "wss://localhost:1", "--input", "nan.npz", "--output", "s.npz"), "nan.npz: w holds a NaN"),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--layout", "none.json"),
            "none.json: cannot be read",
        ),
        (
            (
                *("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz"),
                *("--directory", "none.json", "--identity", "m0.json"),
            ),
            "none.json: No such file",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--weight", 0),
            "--weight 0: it must be from 1",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--min-survivors", 1),
            "--min-survivors 1: it must be at least 2",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--give-up-after", 0),
            "--give-up-after 0: it must be from 1",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--refuse-clipped"),
            "give the --layout that says what is clipped",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--refuse-above", "steps=1e-9"),
            "which is above --refuse-above 1e-09; nothing was sent",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--refuse-above", "nothing=1"),
            "no array of your file has this name",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--refuse-above", "x"),
            "--refuse-above 'x': 'x' is not a number",
        ),
        ((*SERVE, "--open", "--cert", "u0.npz", "--key", "u0.npz"), "not a certificate in PEM"),
        (("serve", "--clients", 4, *SERVE[3:], "--directory", "cohort.json", "--demo-cert", "tls"), "lists 3"),
        (("join", "ws://localhost:1/x", "--input", "u0.npz", "--output", "s.npz"), "without TLS anybody on the way"),
        (
            ("join", "ws://example.org:1/x", "--insecure-plaintext", "--input", "u0.npz", "--output", "s.npz"),
            "without TLS anybody on the way",
        ),
        (("join", "http://localhost", "--input", "u0.npz", "--output", "s.npz"), "wss://HOST:PORT/ROUND"),
        (("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.txt"), ".npz or .safetensors"),
        (("join", "wss://localhost:99999", "--input", "u0.npz", "--output", "s.npz"), "from 1 to 65535"),
        (("join", "wss://localhost:1", "--input", "u0.npz", "--output", "u0.npz"), "would replace the file of --input"),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "link.npz"),
            "would replace the file of --input",
        ),
        (("join", "wss://localhost:1", "--input", "u0.npz", "--output", "none/s.npz"), "there is no directory none"),
        (("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--ca", "no.pem"), "no.pem: No such"),
        (("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--identity", "no.js"), "no.js"),
        (("join", "wss://localhost:1", "--input", "nan.npz", "--output", "s.npz"), "w holds a NaN or an infinity"),
        (("join", "wss://localhost:1", "--input", "text.npz", "--output", "s.npz"), "w holds <U4 elements"),
        (("join", "wss://localhost:1", "--input", "twice.npz", "--output", "s.npz"), "holds the array 'w' twice"),
        (("join", "wss://localhost:1", "--input", "huge.npz", "--output", "s.npz"), "the file is damaged"),
        (("join", "wss://localhost:1", "--input", "signs.npz", "--output", "s.npz"), "array 'w' cannot be read"),
        (
            ("join", "wss://localhost:1", "--input", "named.npz", "--output", "s.safetensors"),
            "cannot hold an array named '__metadata__'",
        ),
        (
            ("join", "wss://localhost:1", "--input", "long.npz", "--output", "s.safetensors", "--mean"),
            "which .safetensors has not",
        ),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--min-clip", 2, "--max-clip", 1),
            "this allows nothing",
        ),
        (("join", "wss://localhost:1", "--input", "none.npz", "--output", "s.npz"), "there is no such file"),
        (
            ("join", "wss://localhost:1", "--input", "u0.npz", "--output", "s.npz", "--threat-model", "active"),
            "needs --identity and --directory",
        ),
    ],
)
def test_what_cannot_be_carried_out_is_said_in_one_line(
    start: Start, files: Path, arguments: tuple[object, ...], says: str
) -> None:
    odd_files(files)
    command = start("command", *arguments)
    assert command.wait() == 2
    (line,) = command.errors().splitlines()
    assert line.startswith(f"secagg {arguments[0]}: ")
    assert says in line
    assert not list(files.glob("*.state"))


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        (("--identity", "stranger.json"), 4, "does not hold this identity key: "),
        (
            ("--gamma", "0.9"),
            4,
            "this client's policy asks for at least 2; --gamma of secagg join sets what it accepts",
        ),
        (("--input", "other.npz"), 2, "it lacks 'layer.bias'"),
        (("--weight", "7"), 2, "the round has no weights"),
        (("--min-clip", "2"), 4, "clip 1.0; this client's policy allows 2.0"),
        (("--min-bits", "20"), 4, "allows 20 to 32; --min-bits or --max-bits of secagg join sets what it accepts"),
        (("--min-survivors", "4"), 4, "asks for at least 4; --min-survivors of secagg join sets what it accepts"),
        (("--threat-model", "active", "--directory", "cohort.json"), 4, "--threat-model of secagg join sets what"),
        (("--ca", None), 4, "certificate is not trusted"),
        (("--give-up-after", "1", "wrong port"), 3, "no word from the server for 1 s"),
    ],
)
def test_every_refusal_has_its_exit_code_and_one_line(
    start: Start, files: Path, changes: tuple[Any, ...], code: int, says: str
) -> None:
    np.savez(files / "other.npz", unrelated=np.zeros(3))
    identity = Identity.generate()
    stranger = {"name": "stranger", "key": identity.public_key.hex(), "private_key": identity.seed().hex()}
    (files / "stranger.json").write_text(json.dumps(stranger))
    port = free_port()
    serve = ("serve", "--directory", "cohort.json", "--threat-model", "semi_honest", "--dim-from", "u0.npz")
    server = start("server", *serve, "--clip", 1, "--demo-cert", "tls", "--port", port, "--log-format", "json")
    server.await_log("listening")
    options = {"--input": "u0.npz", "--output": "s.npz", "--ca": "tls/server.pem", "--identity": "m0.json"}
    options |= dict(zip(changes[::2], changes[1::2], strict=False))
    given = [part for name, value in options.items() if value is not None for part in (name, value)]
    others = [
        start(f"other {member}", *("join", f"wss://localhost:{port}/default", "--input", f"u{member}.npz"),
              *("--output", f"s{member}.npz", "--ca", "tls/server.pem", "--identity", f"m{member}.json"))
        for member in (1, 2) if changes[0] == "--weight"
    ]  # fmt: skip
    target = free_port() if changes[-1] == "wrong port" else port
    command = start("join", "join", f"wss://localhost:{target}/default", *given)
    assert command.wait() == code, command.errors()
    lines = [line for line in command.errors().splitlines() if line.startswith("secagg join: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in command.errors()
    for other in others:
        other.kill()
    server.kill()


def test_another_file_than_the_state_remembers(start: Start, files: Path) -> None:
    """The old total for a new file, a file that may be in a sum, and a weight that is too large: all are said."""
    port = free_port()
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1, "--open", "--demo-cert", "tls")
    serve += ("--port", port, "--max-weight", 5, "--linger", 30)

    def join(member: int, name: str, *more: object) -> Command:
        ca = ("--ca", "tls/server.pem", "--give-up-after", 30)
        url = f"wss://localhost:{port}/default"
        return start(name, "join", url, "--input", f"u{member}.npz", "--output", f"{name}.npz", *ca, *more)

    server = start("server", *serve)
    server.await_log("listening")
    first = [join(member, f"first{member}", "--weight", 4 + member, "--json") for member in range(3)]
    assert [client.wait() for client in first] == [0, 0, 0], first[0].errors()
    assert "your weight is above the server's --max-weight, and was reduced to 5" in first[2].errors()
    assert first[2].result()["weight"] == 14
    assert first[2].result()["weight_clamped"]
    server = start("server again", *serve)  # on the same journal: it hands out the old sum
    server.await_log("listening")
    np.savez(files / "u0.npz", **{**arrays_of(0), "steps": np.float32(0.25)})
    changed = join(0, "changed", "--weight", 4)
    assert changed.wait() == 5
    assert "its sum is over another file or weight than this one" in changed.errors()
    assert not (files / "changed.npz").exists()
    assert join(1, "same", "--weight", 5).wait() == 0
    server.terminate()
    server = start("new server", *serve, "--journal", "new.sqlite")
    server.await_log("listening")
    again = join(1, "again", "--weight", 5)
    assert again.wait() == 5
    assert "your file may be in a sum already" in again.errors()
    assert "--again" in again.errors()
    more = [
        join(0, "new0", "--weight", 4),
        join(1, "new1", "--weight", 5, "--again"),
        join(2, "new2", "--weight", 5, "--again"),
    ]
    assert [client.wait() for client in more] == [0, 0, 0], more[1].errors()


def test_a_tls_port_that_is_called_without_tls(start: Start, files: Path) -> None:
    port = free_port()
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--clip", 1, "--open", "--port", port)
    server = start("server", *serve, "--demo-cert", "tls")
    server.await_log("listening")
    join = ("join", f"ws://localhost:{port}/default", "--insecure-plaintext", "--input", "u0.npz", "--output", "s.npz")
    client = start("client", *join)
    assert client.wait() == 2
    (line,) = [line for line in client.errors().splitlines() if line.startswith("secagg join: ")]
    assert "speaks TLS: give wss://" in line


@pytest.mark.parametrize("module", ["websockets", "safetensors", "prometheus_client"])
@pytest.mark.parametrize("arguments", [SERVE, ("join", "wss://localhost", "--input", "u0.npz", "--output", "s.npz")])
def test_without_the_extra_it_says_what_to_install(files: Path, module: str, arguments: tuple[object, ...]) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['secagg', *{[str(part) for part in arguments]!r}]; "
        "from secagg.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=files, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f"secagg {arguments[0]}: {module} is not installed, and this needs it: {how_to_install('net')}\n"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--clients", 3), "A sum needs 3 of them, and no client may be lost: if one is late there is no sum"),
        (
            ("--clients", 4),
            "4 clients, threat model semi_honest. A sum needs 3 of them, and 1 client may be lost. Up to 1",
        ),
        (
            ("--clients", 12, "--gamma", 0.25),
            "A sum needs 11 of them, and 1 client may be lost. Up to 3 may collude with the server.",
        ),
    ],
)
def test_it_says_at_the_start_what_the_round_tolerates(
    start: Start, files: Path, options: tuple[object, ...], says: str
) -> None:
    serve = ("serve", *options, "--dim-from", "u0.npz", "--open", "--demo-cert", "tls", "--port", free_port())
    server = start("server", *serve, "--clip", 1)
    assert says in server.await_log("round default: ")
    server.kill()


def test_names_of_members_are_text_on_the_terminal() -> None:
    """Whatever a directory calls its members, it is no markup and steers no terminal."""
    from rich.console import Console

    from secagg.cli.serve_run import _table

    service: Any = SimpleNamespace(
        status=lambda: {
            "logged_in": 1,
            "rounds": [
                {
                    "name": "r",
                    "phase": "MASK",
                    "threat_model": "active",
                    "open": False,
                    "seated": 2,
                    "clients": 2,
                    "arrived": 1,
                    "expected": 2,
                    "seconds_left": 3.0,
                    "included": 0,
                    "failure": "",
                    "awaited": ["[red]ada[/red]", "[/]ben"],
                    "lost": {"SHARE": ["cy"]},
                    "refusals": [{"client": "cy", "phase": "SHARE", "code": "malformed", "by_client": False}],
                    "ballot": None,
                }
            ],
        }
    )
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(_table(service, "wss://x"))
    shown = console.export_text()
    for words in ("r (active)", "[red]ada[/red], [/]ben", "lost cy in SHARE; refused or left: cy (malformed)"):
        assert words in shown


def test_a_journal_belongs_to_its_options(start: Start, files: Path) -> None:
    serve = ("serve", "--clients", 3, "--dim-from", "u0.npz", "--open", "--demo-cert", "tls", "--port", free_port())
    server = start("server", *serve, "--clip", 1, "--log-format", "json")
    server.await_log("listening")
    second = start("second", *serve, "--clip", 1)
    assert second.wait() == 2
    assert "another process uses this journal" in second.errors()
    server.signal(signal.SIGTERM)
    assert server.wait() == 3
    other = start("other", *serve, "--clip", 2)
    assert other.wait() == 2
    assert "with another config, layout or directory" in other.errors()
