"""The simulation engine on Ray, and ``flwr run`` of the example: programs of their own, which leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.support.flower_grid import CLIPS, arrays_of, model, plain_mean, record_of
from tests.support.flower_setup import members
from tests.support.flower_simulation import LOST, NODES

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "flower"
BINARIES = Path(sys.executable).parent
MARK = "SECAGG_TEST_RUN"
PATIENCE_S = 150


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """For programs of this test; when it ends, every process that has inherited it is ended."""
    mark = uuid.uuid4().hex
    # Ray's sockets lie below its directory, and a socket's path is short.
    short = tempfile.mkdtemp(prefix="ray", dir="/tmp" if Path("/tmp").is_dir() else None)
    yield {
        **os.environ,
        MARK: mark,
        "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_TMPDIR": short,
        "RAY_USAGE_STATS_ENABLED": "0",
        "NO_PROXY": "*",
    }
    left = started_with(mark)
    for process in left:
        process.terminate()
    for process in psutil.wait_procs(left, timeout=5)[1]:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    shutil.rmtree(short, ignore_errors=True)
    assert started_with(mark) == []


def started_with(mark: str) -> list[psutil.Process]:
    """The processes that inherited this mark, but those that have ended and are only waited for."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # gone by now, or another user's
            continue
    return found


def run(command: list[str], environment: dict[str, str], cwd: Path) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    return done.stdout


def test_active_rounds_in_the_simulation_engine(environment: dict[str, str], tmp_path: Path) -> None:
    """Ray's actors, a client lost in each of the five phases, and the plain mean of the others."""
    members(tmp_path, NODES)
    printed = run([sys.executable, "-m", "tests.support.flower_simulation", str(tmp_path)], environment, tmp_path)
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["failure"] == "", printed[-5000:]
    assert report["dropped"] == dict.fromkeys(LOST, 1)
    assert len(report["included"]) == NODES - 3
    assert report["records"] == pytest.approx(2), "evaluation sees nothing of the protocol"
    mean = np.load(tmp_path / "report.npz")
    sent_out = arrays_of(record_of(model()))
    for name, expected in plain_mean(sent_out, report["included"]).items():
        bound = report["bound"] * (CLIPS["*.batches"] if name.endswith("batches") else 1.0)
        cast = np.finfo(mean[name].dtype).eps * np.abs(expected).max(initial=1.0)
        assert np.abs(mean[name] - expected).max(initial=0.0) <= bound + cast, name


def reported(config: str, environment: dict[str, str], directory: Path) -> list[dict[str, Any]]:
    """What the example's server writes of its three rounds in a run with this config."""
    report = directory / "report.json"
    report.unlink(missing_ok=True)
    printed = run(
        [
            str(BINARIES / "flwr"), "run", str(directory / "app"), "here", "--stream",
            "--federation-config",
            "num-supernodes=12 client-resources-num-cpus=1 init-args-num-cpus=2",
            "--run-config",
            f"report='{report}' {config}",
        ],
        environment,
        directory,
    )  # fmt: skip
    assert report.exists(), printed[-5000:]
    rounds: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    assert len(rounds) == 3
    return rounds


def test_the_example_with_flwr_run(environment: dict[str, str], tmp_path: Path) -> None:
    """With a client lost in every phase, a model is the plain mean of the others'; an attacker's group stands out."""
    home = Path(environment["FLWR_HOME"])
    home.mkdir()
    port = free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n',
        encoding="utf-8",
    )
    app = tmp_path / "app"
    shutil.copytree(EXAMPLE, app, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "superlink.log").open("w", encoding="utf-8") as log:
        link = subprocess.Popen(
            [
                str(BINARIES / "flower-superlink"),
                "--insecure",
                "--simulation",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
            ],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_up(link, port, tmp_path / "superlink.log")
        lossy, attacked = (
            reported(config, environment, tmp_path)
            for config in ("dropouts='ADVERTISE:0 SHARE:1 MASK:2 UNMASK:3'", "attackers=1 groups=4")
        )
    finally:
        link.terminate()
        link.wait(timeout=30)
    for outcome in lossy:
        assert outcome["failure"] == ""
        assert outcome["partitions"] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
        assert outcome["dropped"] == {"ADVERTISE": 1, "SHARE": 1, "MASK": 1, "UNMASK": 1}
        assert outcome["difference"] <= outcome["bound"] + 1e-6  # and the cast to float32
    assert lossy[-1]["accuracy"] > 0.9
    assert lossy[0]["train_accuracy"] < lossy[-1]["train_accuracy"] <= 1.0, "summed beside the model"
    assert all(outcome["failure"] == "" for outcome in attacked)
    assert all(0 in group for outcome in attacked for group in outcome["standing_out"][:1])
    assert attacked[-1]["standing_out"]
    assert attacked[-1]["accuracy"] > 0.8


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_up(link: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert link.poll() is None, log.read_text(encoding="utf-8")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(log.read_text(encoding="utf-8"))
