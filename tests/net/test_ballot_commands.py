"""``secagg serve --ballot`` and ``secagg join --judge`` as a user runs them."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from secagg import InputError, ParameterError
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.store import ClientStore
from secagg.cli.join_ballot import JudgeCommand
from secagg.robust import Ballot, Vote
from tests.support.processes import Command, free_port
from tests.support.rounds_of_processes import Start

PYTHON = sys.executable
JUDGE = """
import sys
import numpy as np
weight = np.load(sys.argv[-1], allow_pickle=False)["w"]
limit = float(sys.argv[1])
print("tested", weight.size, "weights")
print("object" if np.abs(weight).max() > limit else "accept")
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.savez(tmp_path / "candidate.npz", w=np.array([0.5, -2.0, 1.0]))
    (tmp_path / "judge.py").write_text(JUDGE)
    return tmp_path


def judge(limit: float) -> str:
    return f"{PYTHON} judge.py {limit}"


def serve(start: Start, port: int, *options: object) -> Command:
    served = start(
        "server",
        *("serve", "--ballot", "candidate.npz", "--clients", 3, "--open", "--demo-cert", "tls", "--port", port),
        *("--json", "--log-format", "json", *options),
    )
    served.await_log("listening")
    return served


def join(start: Start, port: int, member: int, command: str, *options: object) -> Command:
    own = ("--ca", "tls/server.pem", "--state", f"m{member}.state", "--json")
    return start(f"m{member}", "join", f"wss://localhost:{port}/default", "--judge", command, *own, *options)


@pytest.mark.parametrize(
    ("limits", "share", "verdict", "code"), [((3, 3, 1), 0.4, "accepted", 0), ((3, 1, 1), 0.4, "dropped", 1)]
)
def test_a_ballot_of_commands(
    start: Start, files: Path, limits: tuple[float, ...], share: float, verdict: str, code: int
) -> None:
    port = free_port()
    server = serve(start, port, "--objecting-share", share)
    members = [join(start, port, member, judge(limit)) for member, limit in enumerate(limits)]
    assert [member.wait() for member in members] == [0, 0, 0], members[0].errors()
    assert server.wait() == code
    assert "--judge COMMAND" in server.errors()
    objections = sum(limit < 2 for limit in limits)
    said = f"{verdict}: {objections} of 3 voters object, of 3 clients"
    assert f"round default: {said}" in server.errors()
    assert said in members[0].errors()
    (found,) = server.result()["rounds"]
    assert server.result()["ok"] == (code == 0)
    assert found["ballot"]["verdict"] == members[0].result()["verdict"] == verdict
    assert not any(word in server.errors() for word in ("object\n", "accept\n", "tested"))


def test_a_member_that_is_stopped_while_its_command_runs_has_not_voted(start: Start, files: Path) -> None:
    port = free_port()
    serve(start, port)
    (files / "slow.py").write_text("import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(600)\n")
    member = join(start, port, 0, f"{PYTHON} slow.py")
    while not (files / "begun").exists():
        assert member.poll() is None
        time.sleep(0.01)
    member.signal(signal.SIGTERM)
    assert member.wait() == 3
    layout = BallotLayout.of((files / "candidate.npz").read_bytes(), Ballot(), ".npz")
    store = ClientStore(files / "m0.state")
    with store.step():
        assert store.vote_on(layout.digest()) is None
    store.close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("serve", "--ballot", "candidate.npz", "--clip", 1, "--bits", 8), "leave out --clip, --bits"),
        (("serve", "--ballot", "candidate.npz", "--dim-from", "candidate.npz"), "leave out --dim-from"),
        (("serve", "--ballot", "candidate.npz", "--round", "a", "--round", "b"), "vote on a candidate once"),
        (("serve", "--ballot", "model.pt"), "files end in .npz or .safetensors"),
        (("serve", "--ballot", "pickled.npz"), "pickled.npz"),
        (("serve", "--ballot", "candidate.npz", "--objecting-share", 1), "--objecting-share"),
        (("serve", "--objecting-share", 0.5, "--dim-from", "candidate.npz"), "give --ballot"),
        (("serve",), "--dim-from is missing"),
        (("join", "wss://localhost:1/x", "--judge", "true", "--input", "candidate.npz"), "leave out --input"),
        (("join", "wss://localhost:1/x", "--judge", "no-such-command -x"), "there is no command of this name"),
        (("join", "wss://localhost:1/x", "--judge", "'"), "cannot be read as a command"),
        (("join", "wss://localhost:1/x", "--output", "o.npz"), "--input is missing"),
        (("join", "wss://localhost:1/x", "--output", "o.npz", "--input", "c.npz", "--max-candidate", 9), "--judge"),
    ],
)
def test_options_that_do_not_go_together(start: Start, files: Path, arguments: tuple[object, ...], says: str) -> None:
    (files / "model.pt").write_bytes(b"a pickle")
    np.savez(files / "pickled.npz", w=np.array([{"a": 1}], dtype=object))
    extra = ("--clients", 3, "--open", "--insecure-plaintext", "--port", 0) if arguments[0] == "serve" else ()
    command = start("wrong", *arguments, *extra)
    assert command.wait() == 2
    assert says in command.errors()


# The command of --judge by itself.


def candidate() -> tuple[bytes, BallotLayout]:
    data = Path("candidate.npz").read_bytes()
    return data, BallotLayout.of(data, Ballot(), ".npz")


@pytest.mark.parametrize(
    ("script", "vote"),
    [("print('ABSTAIN ')", Vote.ABSTAIN), ("print('object'); print(); print('accept'); print()", Vote.ACCEPT)],
)
def test_the_last_line_is_the_vote(files: Path, monkeypatch: pytest.MonkeyPatch, script: str, vote: Vote) -> None:
    monkeypatch.chdir(files)
    Path("own.py").write_text(script)
    assert JudgeCommand(f"{PYTHON} own.py")(*candidate()) is vote


@pytest.mark.parametrize(
    ("script", "says"),
    [("print('object'); raise SystemExit(1)", "exit code 1"), ("", "last line"), ("print('objection')", "last line")],
)
def test_a_command_without_a_vote(files: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str) -> None:
    """Exit code 1 is what an interpreter gives for an exception: it counts as no objection."""
    monkeypatch.chdir(files)
    Path("own.py").write_text(script)
    with pytest.raises(InputError, match=says):
        JudgeCommand(f"{PYTHON} own.py")(*candidate())


def test_no_command_sees_a_candidate_that_is_no_file_of_arrays(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    Path("own.py").write_text("open('seen', 'w')\nprint('accept')")
    pickled = b"\x80\x04K\x01."
    for suffix in (".npz", ".safetensors", ""):
        with pytest.raises((InputError, ParameterError)):
            JudgeCommand(f"{PYTHON} own.py")(pickled, BallotLayout.of(pickled, Ballot(), suffix))  # type: ignore[arg-type]
    assert not Path("seen").exists()


def test_a_command_that_is_stopped_ends_with_its_children(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    Path("own.py").write_text(
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('begun').write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    command, ended = JudgeCommand(f"{PYTHON} own.py"), []

    def work() -> None:
        try:
            command(*candidate())
        except asyncio.CancelledError as stopped:
            ended.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    while not Path("begun").exists():
        time.sleep(0.01)
    command.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert len(ended) == 1
    with pytest.raises(asyncio.CancelledError):
        command(*candidate())
