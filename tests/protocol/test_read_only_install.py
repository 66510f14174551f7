"""A whole round where nothing can be written, neither beside the package nor in any cache directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROUND = """
import secagg
from secagg import RoundConfig
from secagg.testing import Faults, simulate

config = RoundConfig.for_cohort(6, 11, gamma=0.0, delta=0.2, modulus=2**20)
outcome = simulate(lambda client: [client] * 11, config, faults=Faults({2: "SHARE"}))
print(secagg.__file__, outcome.included, outcome.sum.tolist())
"""


def test_a_round_in_a_read_only_install_without_a_cache(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "secagg", tmp_path / "secagg", ignore=shutil.ignore_patterns("__pycache__"))
    # Permission bits do not bind root: a directory that would have to be made where a file is cannot be, by anybody.
    obstacle = tmp_path / "file"
    obstacle.touch()
    for package in (tmp_path / "secagg", *(tmp_path / "secagg").rglob("*")):
        if package.is_dir():
            (package / "__pycache__").touch()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    nowhere = {
        "NUMBA_CACHE_DIR": str(obstacle / "cache"),
        "XDG_CACHE_HOME": str(obstacle / "xdg"),
        "HOME": str(obstacle / "home"),
    }
    result = subprocess.run(
        [sys.executable, "-c", ROUND],
        env={**inherited, **nowhere, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == f"{tmp_path / 'secagg' / '__init__.py'} (0, 1, 3, 4, 5) {[13] * 11}"
    assert result.stderr.count("RuntimeWarning") == 1
    assert "NUMBA_CACHE_DIR" in result.stderr
