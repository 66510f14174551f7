"""docs/service.md to the letter: its commands, in the order of the page, each member on a machine of its own."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.cli.join_ballot import JudgeCommand
from secagg.robust import Ballot, Vote
from tests.support.processes import free_port
from tests.support.rounds_of_processes import Start

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def commands(section: str) -> list[list[str]]:
    """Those of a section of the page; what they print is left out."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    joined = "\n".join(re.findall(r"```console\n(.*?)```", text, re.DOTALL)).replace("\\\n", "")
    return [shlex.split(line[2:]) for line in joined.splitlines() if line.startswith("$ ")]


def on_this_machine(command: list[str], port: int) -> list[str]:
    """The words behind ``secagg``, with this machine for the page's, and a port that is free."""
    words = [word.replace("server.example", "localhost").replace("8443", str(port)) for word in command[1:]]
    return [*words, "--port", str(port)] if words[0] == "serve" and "--write-layout" not in words else words


def test_the_first_round(start: Start, tmp_path: Path) -> None:
    make, serve, join, copy, join_here = commands("A first round")
    port = free_port()
    subprocess.run([sys.executable, *make[1:]], cwd=tmp_path, check=True)
    server = start("server", *on_this_machine(serve, port))
    assert f"clients run secagg join wss://localhost:{port}/default" in server.await_log("clients run")
    clients = []
    for member in range(2):
        machine = tmp_path / f"machine{member}"
        machine.mkdir()
        shutil.copy(tmp_path / "update.npz", machine)
        shutil.copy(tmp_path / "tls" / "server.pem", machine)
        clients.append(start(f"client{member}", *on_this_machine(join, port), folder=machine))
    assert copy == ["cp", "update.npz", "update1.npz"]  # and on the server's machine itself
    shutil.copy(tmp_path / "update.npz", tmp_path / "update1.npz")
    clients.append(start("here", *on_this_machine(join_here, port)))
    assert [client.wait() for client in clients] == [0, 0, 0], clients[0].errors()
    assert "sum.npz: the sum of 3 clients, total weight 3" in clients[0].errors()
    assert server.wait() == 0
    for file in (tmp_path / "total.npz", tmp_path / "machine0" / "sum.npz", tmp_path / "sum1.npz"):
        total = np.load(file)
        assert np.abs(total["w"] - 3).max() < 1e-3
        assert total["visits"].tolist() == [0, 3, 6, 9]


def test_the_layout_that_members_agree_on(start: Start, tmp_path: Path) -> None:
    make = commands("A first round")[0]
    subprocess.run([sys.executable, *make[1:]], cwd=tmp_path, check=True)
    write, check = commands("What is kept of the numbers")
    written = start("write", *on_this_machine(write, 0))
    assert written.wait() == 0, written.errors()
    assert "layout.json: the layout of 2 arrays with 7 values; members give it to" in written.errors()
    checked = start("check", *on_this_machine(check, 0))
    assert checked.wait() == 0, checked.errors()
    assert "The file has 7 values in 2 arrays." in checked.out.read_text()


def test_the_judge_of_the_page(tmp_path: Path) -> None:
    script = PAGE.split("$ cat judge.py\n")[1].split("```")[0]
    (tmp_path / "judge.py").write_text(script)
    command = JudgeCommand(f"{sys.executable} {tmp_path / 'judge.py'} validation.csv")
    for weight, vote in ((1.0, Vote.ACCEPT), (1000.0, Vote.OBJECT)):
        file = tmp_path / "candidate.npz"
        np.savez(file, weight=np.full(3, weight))
        data = file.read_bytes()
        assert command(data, BallotLayout.of(data, Ballot(), ".npz")) is vote


def test_every_option_of_the_page_exists() -> None:
    import typer

    from secagg.cli.app import app

    known = {
        option
        for name in ("serve", "join")
        for parameter in typer.main.get_command(app).commands[name].params  # type: ignore[attr-defined]
        for option in parameter.opts
    }
    sections = ("A first round", "What is kept of the numbers", "A real one", "Ballots")
    for command in (command for section in sections for command in commands(section)):
        if command[0] == "secagg":
            assert {word for word in command if word.startswith("--")} <= known
