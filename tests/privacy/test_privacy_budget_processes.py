"""A budget survives the kill of its process at any point, and is one for all processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from secagg.privacy.budget import Budget
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import NoiseKind

ROOT = Path(__file__).parents[2]
ROUND = NoisySum(noise=NoiseKind.SKELLAM, honest=70, variance=90_000, dimension=4096, squared_l2=40_000, l1=9000)
"""A small part of an epsilon of 3."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budget"


CHARGER = """
import os, signal, sys
from secagg.privacy import accounting
from secagg.privacy.budget import Budget, BudgetExceededError
from secagg.privacy.noisy_sum import NoisySum
path, what, first = sys.argv[1:4]
budget, one = Budget(path), NoisySum.from_text(sys.argv[4])
def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
if what == "killed before":
    accounting.epsilon = killed
if what == "killed within":  # the row is written, the transaction is not committed
    real = budget._file._database
    class Database:
        def execute(self, statement, *arguments):
            killed() if statement == "COMMIT" else None
            return real.execute(statement, *arguments)
        def __getattr__(self, name):
            return getattr(real, name)
    budget._file._database = Database()
print("ready", flush=True)
sys.stdin.readline()
charged = 0
for number in range(100):
    try:
        budget.charge(f"{first} {number}".encode(), one)
    except BudgetExceededError:
        break
    charged += 1
    if what == "killed after":
        killed()
print(charged)
"""


def charger(path: Path, what: str, first: str = "process") -> subprocess.Popen[str]:
    started = subprocess.Popen(
        [sys.executable, "-c", CHARGER, str(path), what, first, ROUND.to_text()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    return started


@pytest.mark.parametrize(("when", "recorded"), [("before", 0), ("within", 0), ("after", 1)])
def test_a_killed_process_leaves_a_whole_budget(path: Path, when: str, recorded: int) -> None:
    """What was recorded before the kill counts; what was not has not been acted on."""
    Budget(path, epsilon=3.0, delta=1e-6).close()
    process = charger(path, f"killed {when}")
    process.communicate("go\n", timeout=60)
    assert process.returncode == -signal.SIGKILL
    budget = Budget(path)
    assert budget.spent().rounds == recorded
    assert budget.is_charged(b"process 0") == bool(recorded)
    budget.charge(b"another", ROUND)


def test_processes_at_once_never_pass_the_budget_together(path: Path) -> None:
    budget = Budget(path, epsilon=3.0, delta=1e-6)
    allowed = budget.rounds_left(ROUND)
    processes = [charger(path, "", f"process {number}") for number in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    charged = [int(process.communicate(timeout=120)[0]) for process in processes]
    assert sum(charged) == allowed == budget.spent().rounds
    assert budget.spent().epsilon <= 3.0
