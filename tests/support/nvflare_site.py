"""The training script of the jobs in tests/nvflare: its result follows from the site's name and the model alone.

With ``halt=SITE:FILE`` that site makes the file, and then trains for ever: until somebody kills it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import nvflare.client as flare
from nvflare.app_common.abstract.fl_model import FLModel

STEPS = {"site-1": 10, "site-2": 20, "site-3": 5, "site-4": 40}


def change(site: str, shape: tuple[int, ...], current_round: int) -> np.ndarray:
    """What a site adds to an array in a round."""
    seed = sum(site.encode()) * 1000 + current_round
    return np.random.default_rng(seed).uniform(-0.05, 0.05, shape).astype(np.float32)


def plain_mean(sites: list[str], shape: tuple[int, ...], rounds: int) -> np.ndarray:
    """Of a model of zeros, after these rounds, in float64."""
    total = sum(STEPS[site] for site in sites)
    changes = [
        STEPS[site] * change(site, shape, number).astype(np.float64) for site in sites for number in range(rounds)
    ]
    return sum(changes, np.zeros(shape)) / total


def main(options: list[str]) -> None:
    flare.init()
    while flare.is_running():
        model = flare.receive()
        site = flare.get_site_name()
        for option in options:
            name, _, path = option.removeprefix("halt=").partition(":")
            if name == site:
                Path(path).touch()
                time.sleep(600)
        params = {
            name: values + change(site, values.shape, model.current_round) for name, values in model.params.items()
        }
        meta = {"NUM_STEPS_CURRENT_ROUND": STEPS[site]}
        flare.send(FLModel(params=params, metrics={"loss": float(STEPS[site])}, meta=meta))


if __name__ == "__main__":
    main(sys.argv[1:])
