"""examples/http_polling, as its README starts it: the server's program, and a member's in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polling_client
import polling_server
import pytest

from secagg import Contribution, DurableTokens, Encoder, Policy
from tests.support.example_hosts import hashes, served, token

ROOT = Path(__file__).parents[2]


def start_member(url: str, index: int, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    np.save(folder / "values.npy", np.full(4, index / 4))
    login = {"MEMBER_TOKEN": token(index), "MEMBER_KEY": bytes(32).hex(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, polling_client.__file__, url, str(index), "values.npy", "my-round"]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **login})


def member_here(index: int, folder: Path) -> polling_client.Member:
    encoder = Encoder(np.zeros(4), clip=1.0, max_weight=100)
    used = DurableTokens(folder / f"used{index}")
    contribution = Contribution(encoder, np.full(4, index / 4), released=used.released)
    policy = Policy(gamma=0.1, min_survivors=3, context=encoder.layout_digest())
    return polling_client.Member(index, contribution, policy, folder / f"member{index}", used, bytes(32))


def test_the_programs_run_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps(hashes(3)))
    apps: list[Any] = []
    monkeypatch.setattr(polling_server.uvicorn, "run", lambda app, port: apps.append(app))
    polling_server.main(tmp_path, 4, seconds=600.0)
    with served(apps[0]) as url:
        process = start_member(url, 0, tmp_path / "0")
        here = [member_here(index, tmp_path) for index in (1, 2)]
        while here:
            for member in here.copy():
                login = {"Authorization": f"Bearer {token(member.index)}"}
                with httpx.Client(base_url=url, headers=login, verify=False) as http:
                    if not member.step(http):
                        here.remove(member)
            time.sleep(0.05)
            assert process.poll() in (None, 0)
        assert process.wait(120) == 0
        while not (printed := capsys.readouterr().out):
            time.sleep(0.05)
    assert "count=3" in printed
