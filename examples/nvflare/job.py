"""Five sites train a model of handwritten digits; the server sees their weighted mean alone.

    pip install '.[nvflare]' scikit-learn     # in a checkout of secagg
    python examples/nvflare/job.py            # NVFlare's simulator: about a minute

With PyTorch the recipe is ``nvflare.app_opt.pt.recipes.fedavg.FedAvgRecipe(model=Net(), ...)``, and the line with
``secure`` stays the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.sim_env import SimEnv

from secagg.adapters.nvflare import secure  # one

SITES = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="Number of rounds (default: 2).")
    parser.add_argument("--workspace", default="nvflare-simulation", help="Folder of the simulator.")
    options = parser.parse_args()
    recipe = NumpyFedAvgRecipe(
        name="digits",
        model=np.zeros((10, 65)),
        min_clients=4,
        num_rounds=options.rounds,
        train_script=str(Path(__file__).with_name("train.py")),
    )
    recipe = secure(recipe, clip=2.0, max_weight=400, metrics={"accuracy": 1.0})  # two
    recipe.execute(SimEnv(num_clients=SITES, workspace_root=options.workspace))


if __name__ == "__main__":
    main()
