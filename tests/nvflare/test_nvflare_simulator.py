"""An ordinary job of NVFlare's in its simulator, with two lines added: its model is the plain one's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.support import nvflare_site

SITES = ["site-1", "site-2", "site-3"]
SHAPE = (4, 5)
ROUNDS = 1
JOB = """
import sys
import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.sim_env import SimEnv
from secagg.adapters.nvflare import secure

recipe = NumpyFedAvgRecipe(
    name="job", model=np.zeros((4, 5), np.float32), min_clients=3, num_rounds=1, train_script=sys.argv[1]
)
recipe = secure(recipe, clip=0.1, max_weight=50, metrics={"loss": 100.0}, timeout=30.0, train_timeout=30.0)
recipe.execute(SimEnv(num_clients=3, workspace_root=sys.argv[2]))
"""


def test_three_simulated_sites(tmp_path: Path) -> None:
    command = [sys.executable, "-c", JOB, nvflare_site.__file__, str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    run = tmp_path / "job" / "server" / "simulate_job"
    model = np.load(run / "models" / "server.npy")
    expected = nvflare_site.plain_mean(SITES, SHAPE, ROUNDS)
    # Per round: each of three values is rounded by less than a step of 0.1 / (2^15 - 1), over 50 / 35 of its weight.
    assert np.abs(model - expected).max() < ROUNDS * len(SITES) * 0.1 / (2**15 - 1) * 50 / 35 + 1e-7
    assert said.count("the mean of 3 sites, 3 of them with a weight; total weight 35") == ROUNDS
    for site in SITES:
        assert (tmp_path / "job" / site / "simulate_job" / "secagg-round.db").exists()
