"""The training script of the jobs in tests/nvflare: its result follows from the site's name and the model alone."""

from __future__ import annotations

import sys

import numpy as np
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType

STEPS = {"site-1": 10, "site-2": 20, "site-3": 5}


def change(site: str, shape: tuple[int, ...], current_round: int) -> np.ndarray:
    """What a site adds to an array in a round."""
    seed = sum(site.encode()) * 1000 + current_round
    return np.random.default_rng(seed).uniform(-0.05, 0.05, shape).astype(np.float32)


def main(options: list[str]) -> None:
    flare.init()
    while flare.is_running():
        model = flare.receive()
        site, number = flare.get_site_name(), model.current_round
        if f"fail={site}" in options:
            raise RuntimeError("this site's data is 12345")
        changes = {name: change(site, values.shape, number) for name, values in model.params.items()}
        params = {name: values + changes[name] for name, values in model.params.items()}
        meta = {"NUM_STEPS_CURRENT_ROUND": STEPS.get(site, 1)}
        if "diff" in options:
            flare.send(FLModel(params=changes, params_type=ParamsType.DIFF, metrics={"loss": 1.5}, meta=meta))
        else:
            flare.send(FLModel(params=params, metrics={"loss": float(len(site))}, meta=meta))


if __name__ == "__main__":
    main(sys.argv[1:])
