"""Every benchmark still runs, at a size that takes seconds; what it measures then means nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
TINY_ROUNDS = ["--clients", "12", "--dim", "200", "--dropout", "0.2", "--graph", "complete", "--repeat", "1"]
ON_STANDARD_OUTPUT = {"cells.py", "kernels.py"}
"""What others run for their figures: they print JSON."""
SCRIPTS = {
    "audit_history.py": ["--rounds", "20", "--clients", "3"],
    "carriers.py": ["--quick", "--clients", "20"],
    "cells.py": ["12", "200", "0.2", "complete", "semi_honest", "--full", "2", "--repeat", "2"],
    "against_peers.py": ["--quick"],
    "confirm_committee.py": ["--clients", "1000"],
    "differencing.py": ["--rounds", "3", "--clients", "40"],
    "hybrid_suite.py": ["--clients", "40", "--full", "2", "--repeat", "1"],
    "kernels.py": ["--repeat", "1", "--masks", "3", "--dim", "1000"],
    "nvflare_job.py": ["--dim", "2000"],
    "private_error.py": ["--bits", "12", "14", "--clients", "5", "--dim", "64", "--repeat", "1"],
    "private_training.py": ["--quick"],
    "private_encoding.py": ["--dim", "1000", "--repeat", "1"],
    "robust_rules.py": ["--groups", "7", "--dim", "2000", "--repeat", "1"],
    "robust_training.py": ["--quick"],
    "rounds.py": [*TINY_ROUNDS, "--threat", "active", "--carrier", "masks", "lattice"],
    "scale_out.py": ["--workers", "2", "--repeat", "1", "--clients", "12", "--masks", "20", "--dim", "1000"],
    "statistics_glm.py": ["--sites", "4", "--rows", "2000", "--columns", "3"],
    "statistics_rows.py": ["--rows", "2000", "--memory", "0"],
    "targets.py": ["--repeat", "1", "--scale", "0.001", "--only", "bytes", "import"],
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_prints_its_figures(script: str, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    saves = [] if script in ON_STANDARD_OUTPUT else ["--output", output]
    result = run(BENCHMARKS / script, *SCRIPTS[script], *saves)
    assert result.returncode == 0, result.stderr
    figures = json.loads(output.read_text(encoding="utf-8") if saves else result.stdout)
    assert figures
    if saves:
        assert figures["machine"]["cores"] == os.cpu_count()
        assert "| --- |" in result.stdout
    if script == "rounds.py":
        found = {cell["cell"]["carrier"]: cell["figures"] for cell in figures["cells"]}
        assert found["lattice"]["client_peak_bytes"]["MASK"] > found["masks"]["client_peak_bytes"]["MASK"] > 0
        assert result.stdout.count(" | lattice | ") == 2
    if script == "against_peers.py":
        assert {part["peer"].split()[0] for part in figures["parts"]} == {"declearn", "shamirs"}
        sides = [each["side"] for each in figures["sums"]]
        assert sides[-2:] == ["secagg, envelopes", "secagg, masks"]
        if all(find_spec(name) for name in ("nvflare", "tenseal")):
            assert sides[0].startswith("NVIDIA FLARE")
        assert all(each["max_error"] < 1e-5 for each in figures["sums"])


BLOCKS_BY_KIND = """
import json, os, subprocess, sys
sys.path.insert(0, "benchmarks")
import targets
from secagg.arithmetic.kernels import aes
blocks = {"here": aes.BLOCKS}
show = "from secagg.arithmetic.kernels import aes; print(aes.BLOCKS)"
for kind, environment in targets.environments().items():
    if environment is not None:
        command, environment = [sys.executable, "-c", show], {**os.environ, **environment}
        blocks[kind] = int(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
print(json.dumps(blocks))
"""


def test_targets_are_measured_as_the_kinds_of_machine_that_this_one_can_be() -> None:
    result = run("-c", BLOCKS_BY_KIND)
    assert result.returncode == 0, result.stderr
    blocks = json.loads(result.stdout)
    assert blocks.get("VAES", 0) == (blocks["here"] if blocks["here"] > 1 else 0)
    assert blocks.get("AES-NI", 0) == min(1, blocks["here"])
    assert "library" in blocks


def test_honest_logins_are_measured_under_abuse(tmp_path: Path) -> None:
    output = tmp_path / "logins.json"
    options = ["--logins", "--seconds", "0.3", "--connections", "2", "--json", output]
    result = run(BENCHMARKS / "service_load.py", *options, "--only", "empty fragments", "pings before the login")
    assert result.returncode == 0, result.stderr
    rows = json.loads(output.read_text(encoding="utf-8"))["logins"]
    assert [row["abuse"] for row in rows] == ["nothing", "empty fragments", "pings before the login"]
    assert all(row["logins"] for row in rows)
    assert all(row["attempts"] for row in rows[1:])


def test_kernels_are_benchmarked() -> None:
    some = ["-k", "wire or many_short or pack"]
    options = ["-q", "-p", "no:cacheprovider", "--benchmark-disable"]
    result = run("-m", "pytest", *options, BENCHMARKS / "test_kernels.py", *some)
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
