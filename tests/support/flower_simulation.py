"""A program for the simulation engine: active rounds with a client lost in every phase.

``python -m tests.support.flower_simulation DIRECTORY`` runs it with the identities in DIRECTORY, and
writes report.npz and report.json there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from secagg import Policy
from secagg.adapters.flower import SecAggMod, SecAggStrategy, phase_of
from tests.support.flower_grid import CLIPS, App, arrays_of, model, record_of
from tests.support.flower_setup import averaging

NODES = 14
LOST = {"ADVERTISE": 0, "SHARE": 1, "MASK": 2, "CONFIRM": 3, "UNMASK": 4}
DIRECTORY = Path(sys.argv[1]) if __name__ == "__main__" else Path()


def drop_out(message: Message, context: Context, call_next: Any) -> Message:
    phase = phase_of(message)
    reply = call_next(message, context)
    if phase is not None and LOST.get(phase) == context.node_config["partition-id"]:
        raise ConnectionError("dropped out")
    return reply


def main(grid: Grid, context: Context) -> None:
    strategy = SecAggStrategy(
        averaging(),
        clip=1.0,
        clips=CLIPS,
        max_weight=500,
        threat_model="active",
        gamma=0.1,
        delta=0.36,
        directory=DIRECTORY / "cohort.json",
        run_config=context.run_config,
    )
    result = strategy.start(grid, record_of(model()), num_rounds=1)
    report = strategy.reports[1]
    np.savez(DIRECTORY / "report.npz", **arrays_of(result.arrays))
    (DIRECTORY / "report.json").write_text(
        json.dumps(
            {
                "included": [report.nodes[index] for index in report.included],
                "dropped": {phase: len(lost) for phase, lost in report.dropped.items()},
                "bound": report.error_bound,
                "failure": report.failure,
                "records": result.evaluate_metrics_clientapp[1]["records"],
            }
        ),
        encoding="utf-8",
    )


if __name__ == "__main__":
    mod = SecAggMod(
        identity=lambda context: DIRECTORY / f"{101 + int(context.node_config['partition-id'])}.json",
        directory=DIRECTORY / "cohort.json",
        tokens=lambda context: DIRECTORY / f"{context.node_id}.sqlite",
        policy=Policy(gamma=0.1),
        evaluate=True,
    )
    server = ServerApp()
    server.main()(main)
    run_simulation(
        server,
        App(drop_out, mod).app,
        NODES,
        backend_config={"client_resources": {"num_cpus": 1}, "init_args": {"num_cpus": 2, "include_dashboard": False}},
    )
