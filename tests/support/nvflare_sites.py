"""Sites and a server's task board in one process: NVFlare's own contexts, Shareables and components, and no network.

A site handles a task as NVFlare's ClientRunner does: the filters on the way in, the executor, the filters on the way
out.  Each task meets new components, as after a restart of the job's process: what a site keeps is in its files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task, TaskCompletionStatus
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.decomposers import common_decomposers, numpy_decomposers
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.fuel.utils import fobs

import secagg
from secagg.adapters.nvflare import RoundReport, SecAggDataFilter, SecAggExecutor, SecAggResultFilter, Settings
from secagg.adapters.nvflare.codec import MeanUpdate
from secagg.adapters.nvflare.payload import TASK, for_server, for_site
from secagg.adapters.nvflare.rounds import SecureRounds
from secagg.adapters.nvflare.tasks import Exchange

common_decomposers.register()
numpy_decomposers.register()

Train = Callable[["InProcessSite", FLModel], FLModel | str]
"""What a training script returns, or the return code of an executor that failed."""
SITES = [f"site-{number}" for number in range(1, 6)]
ODD = "site-2"
"""The site that something happens to."""


def sent(shareable: Shareable) -> Shareable:
    """What arrives at the other end of NVFlare's own serialisation."""
    arrived: Shareable = fobs.loads(fobs.dumps(shareable))
    return arrived


@dataclass
class Workspace:
    root: Path

    def get_root_dir(self) -> str:
        return str(self.root)

    def get_site_config_dir(self) -> str:
        return str(self.root / "local")

    def get_run_dir(self, job: str) -> str:
        return str(self.root / job)


@dataclass
class Engine:
    workspace: Workspace

    def get_workspace(self) -> Workspace:
        return self.workspace


class InProcessSite:
    def __init__(self, name: str, root: Path, train: Train) -> None:
        self.name, self.train, self.job = name, train, "job-1"
        self.workspace = Workspace(root / name)
        (root / name / "local").mkdir(parents=True, exist_ok=True)
        self.trained = 0

    def write_config(self, **values: Any) -> None:
        Path(self.workspace.get_site_config_dir(), "secagg.json").write_text(json.dumps(values), encoding="utf-8")

    def context(self, task: str) -> FLContext:
        fl_ctx = FLContext()
        for key, value in (
            (ReservedKey.ENGINE, Engine(self.workspace)),
            (ReservedKey.IDENTITY_NAME, self.name),
            (ReservedKey.RUN_NUM, self.job),
            (FLContextKey.TASK_NAME, task),
        ):
            fl_ctx.put(key=key, value=value, private=True, sticky=False)
        return fl_ctx

    def handle(self, task: str, data: Shareable, *, filters: int = 1, crash: str = "") -> Shareable:
        """The reply to a task; ``crash`` says after which step the process dies: "data filter" or "training"."""
        fl_ctx = self.context(task)
        data.add_cookie("workflow", "by which the server knows the answer's task")
        try:
            for _ in range(filters):
                data = SecAggDataFilter().process(data, fl_ctx)
        except Exception:
            return make_reply(ReturnCode.TASK_DATA_FILTER_ERROR)
        assert data.get_cookie("workflow") is not None
        if crash == "data filter":
            raise CrashedError
        try:
            reply = SecAggExecutor().execute(task, data, fl_ctx, Signal()) if task == TASK else self._trained(data)
        except Exception:
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        if crash == "training":
            raise CrashedError
        try:
            for _ in range(filters):
                reply = SecAggResultFilter().process(reply, fl_ctx)
        except Exception:
            return make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR)
        return reply

    def _trained(self, data: Shareable) -> Shareable:
        self.trained += 1
        result = self.train(self, FLModelUtils.from_shareable(data))
        return make_reply(result) if isinstance(result, str) else FLModelUtils.to_shareable(result)


class CrashedError(Exception):
    """A job's process died."""


Fate = Callable[[InProcessSite, str, Shareable], Shareable | None]
"""What becomes of a task at a site, from the task's name and its data; None when nothing comes back."""


@dataclass
class Board:
    """The task board of a server: it hands each task to its site at once, and records what came back."""

    sites: dict[str, InProcessSite]
    fates: dict[tuple[str, str], Fate] = field(default_factory=dict)
    """By site and phase."""
    before: Callable[[Shareable], Shareable] = lambda data: data
    """What a lying server does to what it sends."""
    results: list[tuple[str, str, Shareable]] = field(default_factory=list)
    """Site, phase and reply of every task."""
    phases: list[str] = field(default_factory=list)
    standing: list[Task] = field(default_factory=list)
    silent: list[Task] = field(default_factory=list)

    def send(self, task: Task, fl_ctx: FLContext, targets: list[str]) -> None:
        (name,) = targets
        payload = for_site(task.data)
        assert payload is not None
        self.phases.append(payload.phase)
        self.standing.append(task)
        data = sent(self.before(task.data))
        fate = self.fates.get((name, payload.phase))
        reply = self.sites[name].handle(task.name, data) if fate is None else fate(self.sites[name], task.name, data)
        if reply is None:
            task.completion_status = TaskCompletionStatus.CLIENT_DEAD
            task.task_done_cb(task, fl_ctx)
            return
        reply = sent(reply)
        self.results.append((name, payload.phase, reply))
        client_task = ClientTask(Client(name, f"token-{name}"), task)
        client_task.result = reply
        task.result_received_cb(client_task, fl_ctx)
        assert client_task.result is None, "a result that stays would keep every masked vector in memory"

    def cancel_task(self, task: Task) -> None:
        self.standing.remove(task)


def silent(site: InProcessSite, task: str, data: Shareable) -> None:
    """The site vanished."""
    return


def model(seed: int = 0) -> dict[str, np.ndarray]:
    """With floats of two widths, a counter, and an array without any element."""
    draw = np.random.default_rng(seed)
    return {
        "layer.weight": draw.normal(size=(4, 6)).astype(np.float32),
        "layer.bias": draw.normal(size=6),
        "norm.batches": np.asarray(1000 + seed, np.int64),
        "none": np.zeros((0, 3), np.float32),
    }


def change(site: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a site adds to an array: whole numbers to the counter."""
    draw = np.random.default_rng(sum(site.encode()) + len(name))
    return draw.integers(1, 50, shape) if name == "norm.batches" else draw.uniform(-0.9, 0.9, shape)


def steps(site: str) -> int:
    return 10 * int(site.removeprefix("site-"))


def ordinary(site: InProcessSite, given: FLModel) -> FLModel:
    params = {
        name: np.asarray(values + change(site.name, name, values.shape)).astype(values.dtype)
        for name, values in given.params.items()
    }
    return FLModel(
        params=params,
        metrics={"loss": steps(site.name) / 100},
        meta={"NUM_STEPS_CURRENT_ROUND": steps(site.name), "secret": f"data of {site.name}"},
    )


def with_changes(site: InProcessSite, given: FLModel) -> FLModel:
    """A script that returns what it adds."""
    full = ordinary(site, given)
    params = {name: values - given.params[name] for name, values in full.params.items()}
    return FLModel(params=params, params_type=ParamsType.DIFF, metrics=full.metrics, meta=full.meta)


def plain_mean(given: dict[str, np.ndarray], sites: list[str]) -> dict[str, np.ndarray]:
    """In float64, from the changes themselves."""
    total = sum(map(steps, sites))
    return {
        name: values + sum(steps(site) * change(site, name, values.shape) for site in sites) / total
        for name, values in given.items()
    }


def board(root: Path, train: Train = ordinary, count: int = 5) -> Board:
    return Board({name: InProcessSite(name, root, train) for name in SITES[:count]})


def run(
    over: Board, given: dict[str, np.ndarray], number: int = 0, rounds: SecureRounds | None = None, **settings: Any
) -> tuple[MeanUpdate | None, RoundReport]:
    """One round; the clip of changes is 1."""
    rounds = rounds or SecureRounds(settings_of(**settings))

    def task() -> Shareable:
        return FLModelUtils.to_shareable(FLModel(params=dict(given), current_round=number, total_rounds=3))

    mean, report = rounds.run(number, "train", task, list(over.sites), Exchange(over, FLContext(), Signal()))
    assert over.standing == []
    return mean, report


def settings_of(**settings: Any) -> Settings:
    return Settings(**({"clip": 1.0, "max_weight": 100, "timeout": 5.0, "train_timeout": 5.0} | settings))


def assert_mean(mean: MeanUpdate | None, given: dict[str, np.ndarray], sites: list[str]) -> None:
    """The plain mean of these sites, up to quantisation and up to the cast to the model's own type."""
    assert mean is not None
    assert mean.arrays.keys() == given.keys()
    weight = sum(map(steps, sites))
    assert mean.weight == weight
    for name, expected in plain_mean(given, sites).items():
        # Each site's value is rounded by less than a step: 1 / (2^15 - 1) of the clip, over max_weight / weight.
        step = 2**24 / (2**31 - 1) if name == "norm.batches" else 1 / (2**15 - 1)
        bound = len(sites) * step * 100 / weight
        cast = np.finfo(mean.arrays[name].dtype).eps * np.abs(expected).max(initial=1.0)
        assert mean.arrays[name].shape == expected.shape
        assert np.abs(mean.arrays[name] - expected).max(initial=0.0) <= bound + cast, name


def members(root: Path, over: Board) -> Path:
    """An identity in each site's own folder, and the directory of all; returns the server's copy of it."""
    identities = {name: secagg.Identity.generate() for name in over.sites}
    listed = [(name, identity.public_key) for name, identity in reversed(identities.items())]
    for name, identity in identities.items():
        local = Path(over.sites[name].workspace.get_site_config_dir())
        key = {"private_key": identity.seed().hex(), "key": identity.public_key.hex()}
        (local / "identity.json").write_text(json.dumps(key), encoding="utf-8")
        secagg.save_directory(local / "directory.json", listed)
        over.sites[name].write_config(identity="identity.json", directory="directory.json")
    secagg.save_directory(root / "directory.json", listed)
    return root / "directory.json"


def message_of(reply: Shareable) -> bytes:
    payload = for_server(reply)
    assert payload is not None
    return payload.message


def refused(reply: Shareable) -> str:
    payload = for_server(reply)
    assert payload is not None
    return payload.refused
