"""One Flower app with secagg's mod and with Flower's own SecAgg+, side by side: CPU time and bytes.

    pip install -e '.[bench-peers]' scikit-learn
    python benchmarks/flower_side_by_side.py --quick    # the example app alone: seconds
    python benchmarks/flower_side_by_side.py            # and larger models, with and without losses: minutes

The app is that of examples/flower: a round of its clients' training, and then, in its place, updates of more floats.
Both sides get the same updates and weights, quantise to 22 bits, and have as many neighbours and the same threshold.
Each runs its own client mod on real Flower messages, which a grid in memory turns to bytes and back; Flower's SecAgg+
is driven by its own (legacy) workflow, ours by SecAggStrategy around FedAvg.  Training and the grid count for nobody.

CPU is the process' time: of the whole round; of the median client, of those that stay to the end; of the server.
Upload is what that client sends in all phases, Flower's records included.
"""

from __future__ import annotations

import argparse
import logging
import runpy
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from machine import describe, duration, machine, save, size, table
from peers.measured import BITS, CLIP, MAX_WEIGHT, Cell, Figures, Memory, Meter, run_side

from secagg.pairwise.phases import Phase

EXAMPLE = Path(__file__).parents[1] / "examples" / "flower" / "digits_app" / "task.py"
COLUMNS = ("round", "", "whole round, CPU", "client, CPU", "server, CPU", "client upload", "error")
SIDES = {"Flower SecAgg+": "peers.flower", "secagg.adapters.flower": "flower_side_by_side"}


@cache
def _task_of_the_example() -> dict[str, Any]:
    """The names of the example app's module, which is no package that is installed."""
    return runpy.run_path(str(EXAMPLE))


@dataclass(frozen=True)
class AppCell(Cell):
    """A round of the example app: what its clients train, from a model of zeros."""

    def update_of(self, client: int) -> npt.NDArray[np.float32]:
        """The client's trained model."""
        task = _task_of_the_example()
        images, labels = task["partition"](client, self.clients)
        trained = task["train"](task["new_model"](), images, labels, learning_rate=0.05)
        return np.concatenate([values.ravel() for values in trained.values()])

    def weight_of(self, client: int) -> int:
        """Its number of images."""
        return len(_task_of_the_example()["partition"](client, self.clients)[1])

    def __str__(self) -> str:
        return f"the example app: {Cell.__str__(self)}"


QUICK = (AppCell(10, 650, 9, 6), AppCell(10, 650, 9, 6, dropout=0.2))
CELLS = (*QUICK, Cell(16, 100_000, 15, 9), Cell(100, 100_000, 32, 8), Cell(100, 100_000, 32, 8, dropout=0.3))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the example app alone")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    options = parser.parse_args(arguments)
    for library, name in (("flwr", "bench-peers"), ("sklearn", "demo")):
        if find_spec(library) is None:
            raise SystemExit(f"{library} is not installed: pip install -e '.[{name}]'")
    here = machine("flwr")
    print(f"{describe(here)}\n\n{table(COLUMNS, [])}", flush=True)
    found = []
    for cell in QUICK if options.quick else CELLS:
        sides = {}
        for name, module in SIDES.items():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                sides[name] = process.submit(run_side, module, cell).result()
        found.append({"cell": str(cell), **{name: asdict(figures) for name, figures in sides.items()}})
        print("\n".join(rows(cell, sides)), flush=True)
    if options.output:
        save(options.output, {"machine": here, "cells": found})


def rows(cell: Cell, sides: dict[str, Figures]) -> list[str]:
    """A line a side, and one of ratios: the peer's figure over ours."""
    shows = (duration, duration, duration, size)
    figures = {name: (f.round_cpu_s, f.client_cpu_s, f.server_cpu_s, f.upload_bytes) for name, f in sides.items()}
    lines = [
        [
            str(cell),
            name,
            *(show(value) for show, value in zip(shows, values, strict=True)),
            f"{sides[name].max_error:.1e}",
        ]
        for name, values in figures.items()
    ]
    peer, ours = figures.values()
    lines.append(["", "ratio", *(f"{theirs / own:.3g}" for theirs, own in zip(peer, ours, strict=True)), ""])
    return [f"| {' | '.join(line)} |" for line in lines]


def run(cell: Cell) -> Figures:
    """Our side: one round, after one that compiles the kernels."""
    from flwr.app import Array, ArrayRecord, ConfigRecord
    from flwr.serverapp.strategy import FedAvg

    from secagg.adapters.flower import SecAggStrategy

    logging.getLogger("flwr").setLevel(logging.ERROR)
    strategy = SecAggStrategy(
        FedAvg(min_train_nodes=cell.clients, min_available_nodes=cell.clients, fraction_evaluate=0.0),
        clip=CLIP,
        bits=BITS,
        max_weight=MAX_WEIGHT,
        gamma=0.05,
        delta=cell.dropout,
        neighbours="complete" if cell.neighbours == cell.clients - 1 else cell.neighbours,
        threshold=cell.threshold,
    )
    model = ArrayRecord({"update": Array(np.zeros(cell.dim, np.float32))})

    def one_round() -> tuple[Any, Any, float]:
        meter = Meter()
        grid = memory_grid(cell, meter)
        started = time.process_time()
        messages = strategy.configure_train(1, model, ConfigRecord(), grid)
        mean, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
        if mean is None:
            raise SystemExit(f"{cell}: {strategy.reports[1].failure}")
        return grid, mean["update"].numpy(), time.process_time() - started

    one_round()
    memory = Memory()
    grid, mean, round_s = one_round()
    peak = memory.peak()
    meter, included = grid.meter, strategy.reports[1].included
    return Figures(
        round_cpu_s=round_s - meter.left_out_s,
        client_cpu_s=meter.median_of(meter.client_s, included),
        server_cpu_s=round_s - grid.spent_s,
        upload_bytes=meter.median_of(meter.sent, included),
        peak_bytes=peak,
        imported_bytes=memory.imported,
        max_error=float(np.abs(mean - cell.expected_mean(included)).max()),
    )


def memory_grid(cell: Cell, meter: Meter) -> Any:
    """A grid of ClientApps with secagg_mod in this process: messages are bytes in between, as on a network."""
    from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.common.serde import message_from_proto, message_to_proto
    from flwr.proto.message_pb2 import Message as ProtoMessage
    from flwr.serverapp import Grid
    from flwr.supercore.task_identity import TaskIdentity

    from secagg.adapters.flower import phase_of, secagg_mod

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0
    app = ClientApp(mods=[secagg_mod])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        with meter.leave_out():
            client = context.node_id - 1
            update = ArrayRecord({"update": Array(cell.update_of(client))})
            weight = MetricRecord({"num-examples": cell.weight_of(client)})
            return Message(RecordDict({"arrays": update, "metrics": weight}), reply_to=message)

    def copied(message: Message) -> tuple[Message, int]:
        """The message as it arrives, and the bytes of its content, which is what the peer's side counts."""
        data = message_to_proto(message)
        return message_from_proto(ProtoMessage.FromString(data.SerializeToString())), data.content.ByteSize()

    class MemoryGrid(Grid):
        def __init__(self) -> None:
            self.meter, self.spent_s = meter, 0.0
            self.contexts = [Context(1, client + 1, {}, RecordDict(), {}) for client in range(cell.clients)]

        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
            pending, started = list(messages), time.process_time()
            answers = [self.answer(message) for message in pending]
            self.spent_s += time.process_time() - started
            return [answer for answer in answers if answer is not None]

        def answer(self, message: Message) -> Message | None:
            client = message.metadata.dst_node_id - 1
            if phase_of(message) == Phase.MASK and client in cell.lost:
                return None
            arrived, _ = copied(message)
            with meter.client(client):
                reply = app(arrived, self.contexts[client])
            reply, sent = copied(reply)
            meter.sent[client] = meter.sent.get(client, 0) + sent
            return reply

        def get_node_ids(self) -> list[int]:
            return [client + 1 for client in range(cell.clients)]

        def not_here(self, *_: object, **__: object) -> NoReturn:
            raise TypeError("a strategy sends and receives, and nothing else")

        set_run = create_message = push_messages = pull_messages = not_here
        run = property(not_here)

    make: Callable[[], Any] = MemoryGrid  # its abstract property is replaced by an ordinary one
    return make()


if __name__ == "__main__":
    main()
