"""Secure aggregation for NVIDIA FLARE: a recipe's FedAvg, whose server sees the mean of the sites' updates alone.

    recipe = secure(FedAvgRecipe(...), clip=0.1, max_weight=1000)

The training script stays as it is.  A site's owner bounds what a server may ask for in ``local/secagg.json``.  What the
server still sees, and what NVFlare must guarantee, is in ``docs/nvflare.md``.
"""

from __future__ import annotations

from importlib.util import find_spec

from secagg._install import how_to_install

if find_spec("nvflare") is None:
    raise ModuleNotFoundError(
        f"nvflare is not installed, and this needs it: {how_to_install('nvflare')}", name="nvflare"
    )

from secagg.adapters.nvflare.client import SecAggDataFilter, SecAggExecutor, SecAggResultFilter
from secagg.adapters.nvflare.controller import RoundFailedError, SecAggFedAvg, SecuredController
from secagg.adapters.nvflare.recipe import secure
from secagg.adapters.nvflare.rounds import RoundReport, Settings
from secagg.adapters.nvflare.tasks import JobAbortedError

__all__ = [
    "JobAbortedError",
    "RoundFailedError",
    "RoundReport",
    "SecAggDataFilter",
    "SecAggExecutor",
    "SecAggFedAvg",
    "SecAggResultFilter",
    "SecuredController",
    "Settings",
    "secure",
]
