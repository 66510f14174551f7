"""A whole round where nothing can be written, neither beside the package nor in any cache directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.installs import read_only_install

ROUND = """
import secagg
from secagg import RoundConfig
from secagg.simulation import Faults, simulate

config = RoundConfig.for_cohort(6, 11, gamma=0.0, delta=0.2, modulus=2**20)
outcome = simulate(lambda client: [client] * 11, config, faults=Faults({2: "SHARE"}))
print(secagg.__file__, outcome.included, outcome.sum.tolist())
"""


def test_a_round_in_a_read_only_install_without_a_cache(tmp_path: Path) -> None:
    nowhere = read_only_install(tmp_path)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
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
