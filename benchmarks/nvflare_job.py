"""One FedAvg round of NVFlare with secagg's adapter and with NVFlare's own homomorphic encryption: CPU and bytes.

    pip install -e '.[bench-peers]'
    python benchmarks/nvflare_job.py --quick    # 100,000 parameters: seconds
    python benchmarks/nvflare_job.py            # and 1,000,000

Both sides get the same updates, of sites that weigh alike, and nobody is lost.  secagg's runs the components that
``secure`` puts into a job (SecureRounds, SecAggExecutor and the two filters) on messages that NVFlare's own FOBS turns
to bytes and back.  The other is NVFlare's encryptor, aggregator and decryptor; see ``peers/flare.py``.  The plain job's
messages are there for their bytes.

CPU is the process' time; training counts for nobody.  A site's CPU is the median site's, over all phases.  Sent and
received bytes are a site's, with the model, or the encrypted mean, that it receives.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from machine import describe, duration, machine, save, size, table
from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.decomposers import numpy_decomposers
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.fuel.utils import fobs
from peers.measured import Sum, mean_of, run_sum, vector_of

from secagg.adapters.nvflare import SecAggDataFilter, SecAggExecutor, SecAggResultFilter, Settings
from secagg.adapters.nvflare.payload import TASK
from secagg.adapters.nvflare.rounds import SecureRounds
from secagg.adapters.nvflare.tasks import Exchange

COLUMNS = ("parameters, sites", "", "site, CPU", "server, CPU", "site sends", "site receives", "largest error")
_MODEL = "update"


class Site:
    """A site in this process, with folders of its own, as NVFlare's engine and workspace give them."""

    def __init__(self, name: str, root: Path, dim: int, number: int) -> None:
        self.name, self.root, self.update = name, root / name, vector_of(dim, number)
        (self.root / "local").mkdir(parents=True)
        self.cpu_s = 0.0
        self.sent = self.received = 0

    def get_workspace(self) -> Site:
        return self

    def get_root_dir(self) -> str:
        return str(self.root)

    def get_site_config_dir(self) -> str:
        return str(self.root / "local")

    def get_run_dir(self, job: str) -> str:
        return str(self.root / job)

    def answer(self, task: str, message: bytes) -> bytes:
        """What NVFlare's ClientRunner does with a task."""
        self.received += len(message)
        context = FLContext()
        for key, value in (
            (ReservedKey.ENGINE, self),
            (ReservedKey.IDENTITY_NAME, self.name),
            (ReservedKey.RUN_NUM, "job"),
            (FLContextKey.TASK_NAME, task),
        ):
            context.put(key=key, value=value, private=True, sticky=False)
        started = time.process_time()
        data = SecAggDataFilter().process(fobs.loads(message), context)
        if task == TASK:
            reply = SecAggExecutor().execute(task, data, context, Signal())
        else:
            meta = {"NUM_STEPS_CURRENT_ROUND": 1}
            reply = FLModelUtils.to_shareable(FLModel(params={_MODEL: self.update}, meta=meta))
        sent: bytes = fobs.dumps(SecAggResultFilter().process(reply, context))
        self.cpu_s += time.process_time() - started
        self.sent += len(sent)
        return sent


class Board:
    """Hands each task to its site at once."""

    def __init__(self, sites: list[Site]) -> None:
        self.sites = {site.name: site for site in sites}

    def send(self, task: Task, fl_ctx: FLContext, targets: list[str]) -> None:
        site = self.sites[targets[0]]
        reply = site.answer(task.name, fobs.dumps(task.data))
        client_task = ClientTask(Client(site.name, site.name), task)
        client_task.result = fobs.loads(reply)
        task.result_received_cb(client_task, fl_ctx)

    def cancel_task(self, task: Task) -> None:
        """It is answered already."""


def secagg_sum(clients: int, dim: int) -> Sum:
    """The mean through secagg's adapter."""
    model = {_MODEL: np.zeros(dim, np.float32)}

    def task() -> Shareable:
        return FLModelUtils.to_shareable(FLModel(params=model, current_round=0, total_rounds=1))

    rounds = SecureRounds(Settings(clip=1.0, max_weight=None, bits=22))
    with TemporaryDirectory() as folder:
        sites = [Site(f"site-{number}", Path(folder), dim, number) for number in range(clients)]
        board = Board(sites)
        started = time.process_time()
        exchange = Exchange(board, FLContext(), Signal())
        mean, report = rounds.run(0, "train", task, list(board.sites), exchange)
        spent = time.process_time() - started
    if mean is None:
        raise SystemExit(report.failure)
    return Sum(
        client_s=median(site.cpu_s for site in sites),
        server_s=spent - sum(site.cpu_s for site in sites),
        sent_bytes=median(site.sent for site in sites),
        received_bytes=median(site.received for site in sites),
        max_error=float(np.abs(mean.arrays[_MODEL] - mean_of(dim, clients)).max()),
    )


def alone(*arguments: Any) -> Sum:
    """A side in a process of its own: NVFlare reads its keys once."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(run_sum, *arguments).result()


def plain_bytes(dim: int) -> int:
    """Of a model, or of a site's result, in a job without secure aggregation."""
    meta = {"NUM_STEPS_CURRENT_ROUND": 1}
    return len(fobs.dumps(FLModelUtils.to_shareable(FLModel(params={_MODEL: vector_of(dim, 0)}, meta=meta))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Only 100,000 parameters.")
    parser.add_argument("--dim", type=int, nargs="+", help="Numbers of parameters (default: 100,000 and 1,000,000).")
    parser.add_argument("--clients", type=int, default=4, help="Number of sites (default: 4).")
    parser.add_argument("--output", type=Path, help="File to write the figures to, as JSON.")
    options = parser.parse_args()
    numpy_decomposers.register()
    dims = options.dim or ([100_000] if options.quick else [100_000, 1_000_000])
    secagg_sum(options.clients, 1000)  # compiles the kernels
    found: dict[str, Any] = {"machine": machine("nvflare", "tenseal"), "jobs": []}
    rows: list[list[str]] = []
    for dim in dims:
        sides = {"NVFlare, secagg": secagg_sum(options.clients, dim)}
        if find_spec("tenseal") is not None:
            sides["NVFlare, TenSEAL"] = alone("peers.flare", options.clients, dim)
        label = f"{dim:,}, {options.clients}"
        plain = size(plain_bytes(dim))
        rows.append([label, "NVFlare, plain", "", "", plain, plain, ""])
        for name, side in sides.items():
            found["jobs"].append({"dim": dim, "clients": options.clients, "side": name, **asdict(side)})
            times = [duration(side.client_s), duration(side.server_s)]
            bytes_ = [size(side.sent_bytes), size(side.received_bytes)]
            rows.append([label, name, *times, *bytes_, f"{side.max_error:.1e}"])
    print(describe(found["machine"]))
    print()
    print(table(COLUMNS, rows))
    if options.output is not None:
        save(options.output, found)


if __name__ == "__main__":
    main()
