"""A deployment of NVFlare on this machine: a server and sites with their own startup kits, TLS keys and processes.

NVFlare's POC tool makes the startup kits.  The processes are started here, so that each is known by its id: what is
left of them is killed, whatever becomes of a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

ADMIN = "admin@nvidia.com"
SERVER = "localhost"
"""The server listens at the address of its name: at no other than this machine's own."""
_PROVISION = """
import sys
from nvflare.tool.poc.poc_commands import prepare_poc_provision
prepare_poc_provision(sys.argv[3:], len(sys.argv[3:]), sys.argv[1], None, False, sys.argv[2], None)
"""
_SUBMIT = """
import sys, time
from nvflare.fuel.flare_api.flare_api import new_secure_session
user, kit, job, sites = sys.argv[1:]
end = time.monotonic() + 90
while True:
    try:
        session = new_secure_session(user, kit, timeout=5.0)
        break
    except Exception:  # NVFlare has several for a server that is not up yet
        if time.monotonic() > end:
            raise
        time.sleep(0.2)
while len(session.get_connected_client_list()) < int(sites):
    assert time.monotonic() < end, "the sites do not connect"
    time.sleep(0.2)
print("job", session.submit_job(job))
session.close()
"""
_BUILDERS = [
    {"path": "nvflare.lighter.impl.workspace.WorkspaceBuilder", "args": {"template_file": ["master_template.yml"]}},
    {"path": "nvflare.lighter.impl.static_file.StaticFileBuilder", "args": {"config_folder": "config"}},
    {"path": "nvflare.lighter.impl.cert.CertBuilder"},
    {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
]


class Deployment:
    def __init__(self, root: Path, sites: list[str]) -> None:
        self.root, self.sites = root, sites
        self.kits = root / "poc" / "study" / "prod_00"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def provision(self) -> None:
        """Make the startup kits, with a port that is free now."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        participants: list[dict[str, Any]] = [
            {"name": SERVER, "type": "server", "org": "here", "fed_learn_port": port, "default_host": SERVER},
            {"name": ADMIN, "type": "admin", "org": "here", "role": "project_admin"},
            *({"name": name, "type": "client", "org": "here"} for name in self.sites),
        ]
        project = {
            "api_version": 3,
            "name": "study",
            "description": "a deployment of the tests",
            "participants": participants,
            "builders": _BUILDERS,
        }
        path = self.root / "project.yml"
        path.write_text(json.dumps(project), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-c", _PROVISION, str(self.root / "poc"), str(path), *self.sites]
        done = subprocess.run(command, env=self._environment(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]

    def start(self) -> None:
        for name in (SERVER, *self.sites):
            with (self.root / f"{name}.log").open("wb") as log:
                self.processes[name] = subprocess.Popen(
                    ["bash", str(self.kits / name / "startup" / "sub_start.sh"), "--once"],
                    cwd=self.kits / name,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )

    def submit(self, job: str) -> str:
        """Hand in a job when all sites are connected; returns its id.

        In a process of its own: NVFlare keeps state for the length of a process, and what other tests leave of it has
        kept an administrator from connecting.
        """
        command = [sys.executable, "-c", _SUBMIT, ADMIN, str(self.kits / ADMIN), job, str(len(self.sites))]
        done = subprocess.run(command, env=self._environment(), capture_output=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr.decode()[-2000:]
        (number,) = [line[4:] for line in done.stdout.decode().splitlines() if line.startswith("job ")]
        return number

    def kill(self, name: str) -> None:
        """A process and all that it has started, such as that of the site's job."""
        process = self.processes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(process.pid)
            for one in (*parent.children(recursive=True), parent):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        process.wait(timeout=10)

    def log_of(self, name: str) -> str:
        return (self.root / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def _environment(self) -> dict[str, str]:
        bin_folder = str(Path(sys.executable).parent)
        home = self.root / "home"
        home.mkdir(exist_ok=True)
        return {
            **os.environ,
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HOME": str(home),  # the tool remembers its last deployment there
        }


@contextlib.contextmanager
def deployment(root: Path, sites: list[str], prepare: Callable[[Deployment], None]) -> Iterator[Deployment]:
    """A running one; ``prepare`` writes into the kits before anything starts."""
    made = Deployment(root, sites)
    made.provision()
    prepare(made)
    made.start()
    try:
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.2)
