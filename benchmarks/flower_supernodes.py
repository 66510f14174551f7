"""Rounds over a hundred SuperNodes in Flower's simulation engine, beside the same rounds of plain FedAvg.

    pip install -e '.[flower]' 'flwr[simulation]'
    python benchmarks/flower_supernodes.py                   # 100 nodes, 10 of them lost in MASK: a minute or two
    python benchmarks/flower_supernodes.py --nodes 12 --elements 1000

Each node adds a change that is known to a vector of floats.  A tenth of the nodes fail in the step that trains.  The
mean is compared with NumPy's.  Times are of the wall clock, of Ray's actors and Flower's messages above all; both runs
have as many actors as there are cores.  The first round starts the actors, and stands apart.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from machine import describe, duration, machine, save, table

from secagg.adapters.flower import SecAggStrategy, phase_of, secagg_mod

CLIP = 0.5
MAX_WEIGHT = 100
TRAINING = ("MASK", "train")
"""What a message of training is called with and without the protocol."""


@dataclass(kw_only=True)
class Run:
    """A training of some rounds.

    Attributes:
        side: "secagg" or "FedAvg".
        rounds_s: wall-clock seconds of each round.
        phases_s: the same of the exchanges in it, by phase, over all rounds but the first.
        error: the largest distance of a value from NumPy's mean, over the rounds.
        bound: what the reports say that it may be; None without secure aggregation.
    """

    side: str
    rounds_s: list[float] = field(default_factory=list)
    phases_s: dict[str, float] = field(default_factory=dict)
    error: float = 0.0
    bound: float | None = None


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    runs = [_trained(options, side) for side in ("secagg", "FedAvg")]
    found = machine("flwr", "ray")
    print(f"{describe(found)}\n")
    print(
        f"{options.nodes} SuperNodes, {_lost(options)} of them lost in training, {options.elements:,} floats, "
        f"{options.rounds} rounds, {os.cpu_count()} actors.\n"
    )
    rows = [
        [
            run.side,
            duration(run.rounds_s[0]),
            duration(float(np.mean(run.rounds_s[1:]))),
            ", ".join(f"{phase} {duration(seconds / (options.rounds - 1))}" for phase, seconds in run.phases_s.items()),
            f"{run.error:.1e}",
            "" if run.bound is None else f"{run.bound:.1e}",
        ]
        for run in runs
    ]
    print(table(["", "first round", "further rounds", "by exchange", "largest error", "bound"], rows))
    if options.output:
        save(options.output, {"machine": found, "options": _plain(options), "runs": [asdict(run) for run in runs]})


def _trained(options: argparse.Namespace, side: str) -> Run:
    run = Run(side=side)
    server = ServerApp()
    server.main()(partial(_serve, options, run))
    mods: list[Any] = [secagg_mod] if side == "secagg" else []
    app = ClientApp(mods=[partial(_fail, _lost(options)), *mods])
    app.train()(_train)
    cores = os.cpu_count() or 1
    run_simulation(
        server,
        app,
        options.nodes,
        backend_config={
            "client_resources": {"num_cpus": 1},
            "init_args": {"num_cpus": cores, "include_dashboard": False},
        },
    )
    return run


def _serve(options: argparse.Namespace, run: Run, grid: Grid, context: Context) -> None:
    nodes = {"min_train_nodes": options.nodes, "min_available_nodes": options.nodes, "fraction_evaluate": 0.0}
    strategy: Any = FedAvg(**nodes)  # type: ignore[arg-type]
    if run.side == "secagg":
        strategy = SecAggStrategy(strategy, clip=CLIP, max_weight=MAX_WEIGHT, gamma=0.1, delta=0.2)
    grid.send_and_receive = _timed(grid.send_and_receive, run)  # type: ignore[method-assign]
    arrays = ArrayRecord({"weight": Array(np.zeros(options.elements, np.float32))})
    for _ in range(options.rounds):
        before = arrays["weight"].numpy()
        started = time.perf_counter()
        arrays = strategy.start(grid, arrays, num_rounds=1).arrays
        run.rounds_s.append(time.perf_counter() - started)
        if run.side == "secagg":
            assert not strategy.reports[1].failure, strategy.reports[1].failure
            run.bound = max(run.bound or 0.0, strategy.reports[1].error_bound)
        staying = range(_lost(options), options.nodes)
        weights = [_weight(partition) for partition in staying]
        change = np.average([_change(partition, options.elements) for partition in staying], axis=0, weights=weights)
        run.error = max(run.error, float(np.abs(arrays["weight"].numpy() - before - change).max()))


def _timed(send: Callable[..., Iterable[Message]], run: Run) -> Callable[..., Iterable[Message]]:
    def timed(messages: Iterable[Message], **options: Any) -> list[Message]:
        messages = list(messages)
        started = time.perf_counter()
        replies = list(send(messages, **options))
        if messages and run.rounds_s:
            phase = phase_of(messages[0]) or messages[0].metadata.message_type
            run.phases_s[phase] = run.phases_s.get(phase, 0.0) + time.perf_counter() - started
        return replies

    return timed


def _fail(lost: int, message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    phase = phase_of(message) or message.metadata.message_type
    if phase in TRAINING and int(context.node_config["partition-id"]) < lost:
        raise ConnectionError("this node is lost")
    return call_next(message, context)


def _train(message: Message, context: Context) -> Message:
    before = message.content.array_records["arrays"]["weight"].numpy()
    partition = int(context.node_config["partition-id"])
    trained = np.asarray(before + _change(partition, len(before)), np.float32)
    metrics = MetricRecord({"num-examples": _weight(partition)})
    content = RecordDict({"arrays": ArrayRecord({"weight": Array(trained)}), "metrics": metrics})
    return Message(content, reply_to=message)


def _change(partition: int, elements: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(partition).uniform(-CLIP, CLIP, elements)


def _weight(partition: int) -> int:
    return 1 + partition % MAX_WEIGHT


def _lost(options: argparse.Namespace) -> int:
    return int(options.nodes * options.lost)


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100, help="SuperNodes (default: 100)")
    parser.add_argument("--lost", type=float, default=0.1, help="share of them that fails in training (default: 0.1)")
    parser.add_argument("--elements", type=int, default=100_000, help="floats of the model (default: 100,000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each training, from 2 on (default: 3)")
    parser.add_argument("--output", type=Path, help="write the figures here, as JSON")
    return parser


if __name__ == "__main__":
    main()
