"""Commands in processes of their own, for tests: started, killed, waited for."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import secagg

HANG_SECONDS = 60.0
"""No command of these tests takes so long: then something hangs."""


class Zygote:
    """See ``zygote``."""

    def __init__(self) -> None:
        source = str(Path(secagg.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": source, "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def ask(self, **request: Any) -> Any:
        """One request, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it; it has no children left."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Command:
    """A running ``secagg`` command."""

    def __init__(self, zygote: Zygote, folder: Path, name: str, *arguments: object) -> None:
        self._zygote, self.name = zygote, name
        self.out, self.log = folder / f"{name}.out", folder / f"{name}.log"
        self.returncode: int | None = None
        self.pid = zygote.ask(
            do="start",
            folder=str(folder),
            arguments=[str(argument) for argument in arguments],
            out=str(self.out),
            log=str(self.log),
        )

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None:
            self.returncode = self._zygote.ask(do="poll", pid=self.pid)
        return self.returncode

    def kill(self) -> bool:
        """SIGKILL; False when it had ended by itself."""
        if self.poll() is not None:
            return False
        os.kill(self.pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.002)
        return self.returncode == -signal.SIGKILL

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        """The exit code; a command that does not end is a failure."""
        limit = time.monotonic() + HANG_SECONDS
        while (code := self.poll()) is None:
            if time.monotonic() > limit:
                self.kill()
                raise AssertionError(f"{self.name} hangs; its log:\n{self.errors()}")
            time.sleep(0.005)
        return code

    def await_log(self, *texts: str) -> str:
        """Wait for a line of its log that has all of the texts, or for its end; returns the line."""
        limit = time.monotonic() + HANG_SECONDS
        while time.monotonic() < limit:
            ended = self.poll() is not None
            for line in self.errors().splitlines(keepends=True):
                if all(text in line for text in texts) and (ended or line.endswith("\n")):
                    return line.rstrip("\n")
            if ended:
                return ""
            time.sleep(0.002)
        raise AssertionError(f"{self.name}: no {texts} in its log:\n{self.errors()}")

    def errors(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text() if self.log.exists() else ""

    def result(self) -> dict[str, Any]:
        """The JSON object that it printed."""
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
