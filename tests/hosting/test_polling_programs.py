"""examples/http_polling, as its README starts it: the server's program, and a member's in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polling_client
import polling_server
import pytest
import uvicorn

from secagg import Contribution, DurableTokens, Encoder, Policy, RoundConfig
from tests.support.example_hosts import hashes, token
from tests.support.processes import free_port

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


@pytest.fixture(autouse=True)
def _no_logging_config(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's own logging config would close the handlers of the process that it is tested in."""
    monkeypatch.setattr(polling_server.uvicorn, "Config", partial(uvicorn.Config, log_config=None, ws="none"))


def exit_code_of_server(folder: Path, **options: Any) -> Any:
    with pytest.raises(SystemExit) as ended:
        polling_server.main(folder, 4, **options)
    return ended.value.code


def test_the_programs_run_a_round_and_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps(hashes(3)))
    port = free_port()
    with ThreadPoolExecutor() as threads:
        server = threads.submit(exit_code_of_server, tmp_path, seconds=600.0, port=port)
        process = start_member(f"http://127.0.0.1:{port}", 0, tmp_path / "0")
        here = [member_here(index, tmp_path) for index in (1, 2)]
        means = [member.folder / "mean.npy" for member in here]
        while not all(mean.exists() for mean in means):
            for member in here:
                login = {"Authorization": f"Bearer {token(member.index)}"}
                with (
                    httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=login, verify=False) as http,
                    suppress(httpx.ConnectError),
                ):
                    member.step(http)
            time.sleep(0.05)
            assert process.poll() in (None, 0)
        assert process.wait(120) == 0
        assert server.result(120) == 0
    for mean in (*means, tmp_path / "0" / "my-round" / "mean.npy"):
        assert np.abs(np.load(mean) - (0 + 0.25 + 0.5) / 3).max() <= 0.0031  # as the README says
    assert "count=3" in capsys.readouterr().out


def test_the_server_ends_where_nobody_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps(hashes(3)))
    assert exit_code_of_server(tmp_path, seconds=0.1, port=free_port()) == 1
    assert "ADVERTISE" in capsys.readouterr().out


def test_the_server_ends_where_its_port_is_taken(tmp_path: Path) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps(hashes(3)))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert exit_code_of_server(tmp_path, port=taken.getsockname()[1]) != 0


def test_the_server_ends_when_its_disk_is_full_and_goes_on_from_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens.json").write_text(json.dumps(hashes(3)))
    stored: list[bytes] = []
    store = polling_server.Journal.store

    def full_after_the_first(journal: polling_server.Journal, snapshot: bytes) -> None:
        if stored:
            raise OSError("no space left")
        stored.append(snapshot)
        store(journal, snapshot)

    monkeypatch.setattr(polling_server.Journal, "store", full_after_the_first)
    with pytest.raises(OSError, match="no space left"):
        polling_server.main(tmp_path, 4, seconds=0.1, port=free_port())
    config = RoundConfig.for_cohort(3, 4)
    restored = polling_server.Journal(tmp_path / "round.sqlite").server(config)
    assert (restored.phase, restored.snapshot()) == ("ADVERTISE", stored[0])
