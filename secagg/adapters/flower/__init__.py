"""Secure aggregation for Flower's Message API: a client mod, and a wrapper around any averaging strategy.

    app = ClientApp(mods=[secagg_mod])                              # client
    strategy = SecAggStrategy(FedAvg(), clip=0.1, max_weight=1000)  # server

The server learns the weighted mean of the updates and the total weight.  What it still sees, and what Flower must
guarantee, is in ``docs/flower.md``.
"""

from __future__ import annotations

from importlib.util import find_spec

from secagg._install import how_to_install

if find_spec("flwr") is None:
    raise ModuleNotFoundError(f"flwr is not installed, and this needs it: {how_to_install('flower')}", name="flwr")

from secagg.adapters.flower.ballot_box import BallotReport
from secagg.adapters.flower.batching import Batches
from secagg.adapters.flower.class_weights import ClassWeights
from secagg.adapters.flower.client import SecAggMod, secagg_mod
from secagg.adapters.flower.lora import LoraRank
from secagg.adapters.flower.metric_sums import MeanBy, Sum
from secagg.adapters.flower.records import phase_of
from secagg.adapters.flower.report import RoundReport
from secagg.adapters.flower.server import SecAggStrategy
from secagg.adapters.flower.study import STUDY_ACTION, StudyNode, run_study
from secagg.credentials import DurableTokens

__all__ = [
    "STUDY_ACTION",
    "BallotReport",
    "Batches",
    "ClassWeights",
    "DurableTokens",
    "LoraRank",
    "MeanBy",
    "RoundReport",
    "SecAggMod",
    "SecAggStrategy",
    "StudyNode",
    "Sum",
    "phase_of",
    "run_study",
    "secagg_mod",
]
