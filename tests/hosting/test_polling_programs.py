"""examples/http_polling, as its README starts it: each member is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polling_client
import polling_server
import pytest

from tests.support.example_hosts import hashes, served, token

ROOT = Path(__file__).parents[2]


def start_member(url: str, index: int, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    np.save(folder / "values.npy", np.full(4, index / 4))
    login = {"MEMBER_TOKEN": token(index), "MEMBER_KEY": bytes(32).hex(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, polling_client.__file__, url, str(index), "values.npy", "my-round"]
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **login})


def test_the_programs_run_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps(hashes(3)))
    apps: list[Any] = []
    monkeypatch.setattr(polling_server.uvicorn, "run", lambda app, port: apps.append(app))
    polling_server.main(tmp_path, 4)
    with served(apps[0]) as url:
        members = [start_member(url, index, tmp_path / str(index)) for index in range(3)]
        assert [member.wait(120) for member in members] == [0, 0, 0]
        while not (printed := capsys.readouterr().out):
            time.sleep(0.05)
    assert "count=3" in printed
