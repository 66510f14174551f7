"""Two ways to run the command: in this process, and as a user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import secagg
from secagg.cli.app import app

Invoke = Callable[..., Any]

# The modules named in the first argument cannot be imported; the rest is the command line.
BLOCKER = """
import sys

BLOCKED = sys.argv[1].split(",")

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv = ["secagg", *sys.argv[2:]]
from secagg.__main__ import main
main()
"""


@pytest.fixture
def invoke() -> Invoke:
    """Run a command in this process; arguments are turned to text.  An exception that escapes fails the test."""

    def run(*arguments: object) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def invoke_json(invoke: Invoke) -> Invoke:
    """Run a command with ``--json``; returns the exit code and the object."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        result = invoke(*arguments, "--json")
        assert result.stdout, result.stderr
        return result.exit_code, json.loads(result.stdout, parse_constant=pytest.fail)

    return run


@pytest.fixture
def run_process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python -m secagg`` in an empty directory; ``without`` names modules that are not installed there."""

    def run(*arguments: object, without: str = "") -> subprocess.CompletedProcess[str]:
        source = str(Path(secagg.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": source + os.pathsep + os.environ.get("PYTHONPATH", "")}
        start = ["-c", BLOCKER, without] if without else ["-m", "secagg"]
        return subprocess.run(
            [sys.executable, *start, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=tmp_path,
            env=environment,
        )

    return run
