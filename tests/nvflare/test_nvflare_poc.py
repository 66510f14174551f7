"""A server and four sites as processes with TLS, in ``active``; one site is killed while it trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe

import secagg
from secagg.adapters.nvflare import secure
from tests.support import nvflare_site
from tests.support.nvflare_poc import SERVER, Deployment, deployment, until

SITES = ["site-1", "site-2", "site-3", "site-4"]
KILLED = "site-2"
SHAPE = (4, 5)
FILTERS = {
    "data": "secagg.adapters.nvflare.SecAggDataFilter",
    "result": "secagg.adapters.nvflare.SecAggResultFilter",
}


def write_own_configs(made: Deployment) -> None:
    """What each owner brings: an identity, the directory of all, bounds, and filters on the results of all jobs."""
    identities = {name: secagg.Identity.generate() for name in made.sites}
    listed = [(name, identity.public_key) for name, identity in identities.items()]
    for name, identity in identities.items():
        local = made.kits / name / "local"
        key = {"private_key": identity.seed().hex(), "key": identity.public_key.hex()}
        (local / "identity.json").write_text(json.dumps(key), encoding="utf-8")
        secagg.save_directory(local / "directory.json", listed)
        own = {"identity": "identity.json", "directory": "directory.json", "max_clip": 0.2}
        (local / "secagg.json").write_text(json.dumps(own), encoding="utf-8")
        filters = {f"task_{chain}_filters": [{"path": path}] for chain, path in FILTERS.items()}
        scope = {"scopes": [{"name": "secure", **filters}], "default_scope": "secure"}
        (local / "privacy.json").write_text(json.dumps(scope), encoding="utf-8")
    secagg.save_directory(made.kits / SERVER / "directory.json", listed)


def job(root: Path, made: Deployment, halted: Path) -> str:
    recipe = NumpyFedAvgRecipe(
        name="job",
        model=np.zeros(SHAPE, np.float32),
        min_clients=3,
        num_rounds=1,
        train_script=nvflare_site.__file__,
        train_args=f"halt={KILLED}:{halted}",
    )
    secure(
        recipe,
        clip=0.1,
        max_weight=50,
        threat_model="active",
        directory=str(made.kits / SERVER / "directory.json"),
        timeout=30.0,
        train_timeout=12.0,
        round_options={"gamma": 0.2, "delta": 0.25},
    ).export(str(root / "jobs"))
    return str(root / "jobs" / "job")


def test_a_site_that_is_killed_while_it_trains_is_left_out(tmp_path: Path) -> None:
    halted = tmp_path / "halted"
    with deployment(tmp_path, SITES, write_own_configs) as made:
        number = made.submit(job(tmp_path, made, halted))
        until(halted.exists, 60, f"{KILLED} trains")
        made.kill(KILLED)
        # NVFlare itself says that the job is over when it has given up the site that is gone, minutes later.
        until(lambda: "Finished FedAvg" in made.log_of(SERVER), 90, "the round ends")
        log = made.log_of(SERVER)
    survivors = [name for name in SITES if name != KILLED]
    (path,) = (made.kits / SERVER / number).rglob("server.npy")
    expected = nvflare_site.plain_mean(survivors, SHAPE, 1)
    assert np.abs(np.load(path) - expected).max() < len(survivors) * 0.1 / (2**15 - 1) * 50 / 55 + 1e-7
    assert "the mean of 3 sites, 3 of them with a weight; total weight 55" in log
    assert f"lost by phase: {{'MASK': ('{KILLED}',)}}" in log
