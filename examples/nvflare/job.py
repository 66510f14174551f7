"""Five sites train a model of handwritten digits; the server sees their weighted mean alone.

    pip install '.[nvflare]' scikit-learn     # in a checkout of secagg
    python examples/nvflare/job.py            # NVFlare's simulator: about a minute

With ``--torch`` (and PyTorch installed) the sites train a network with BatchNorm.  Its recipe is NVFlare's for PyTorch,
and the line with ``secure`` is the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.recipe.sim_env import SimEnv
from nvflare.recipe.spec import Recipe

from secagg.adapters.nvflare import secure  # one

SITES = 5
CLIPS = {"*.num_batches_tracked": 1000.0}
"""A counter's mean is the closer, the closer its clip is to what it grows by in a round."""


def logistic_regression(rounds: int) -> Recipe:
    script = Path(__file__).with_name("train.py")
    return NumpyFedAvgRecipe(
        name="digits", model=np.zeros((10, 65)), min_clients=4, num_rounds=rounds, train_script=str(script)
    )


def network(rounds: int) -> Recipe:
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from train_torch import Net

    script = Path(__file__).with_name("train_torch.py")
    return FedAvgRecipe(name="digits", model=Net(), min_clients=4, num_rounds=rounds, train_script=str(script))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="Number of rounds (default: 2).")
    parser.add_argument("--workspace", default="nvflare-simulation", help="Folder of the simulator.")
    parser.add_argument("--torch", action="store_true", help="Train a network with PyTorch.")
    options = parser.parse_args()
    recipe = network(options.rounds) if options.torch else logistic_regression(options.rounds)
    clips = CLIPS if options.torch else None
    recipe = secure(recipe, clip=2.0, clips=clips, max_weight=400, metrics={"accuracy": 1.0})  # two
    recipe.execute(SimEnv(num_clients=SITES, workspace_root=options.workspace))


if __name__ == "__main__":
    main()
