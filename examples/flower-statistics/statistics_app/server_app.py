"""The analyst: runs the study over all nodes, and writes the report."""

from __future__ import annotations

import time
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from secagg.adapters.flower import run_study
from secagg.statistics.report import write_report
from statistics_app import STUDY

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Wait for the hospitals, then ask."""
    while len(list(grid.get_node_ids())) < int(context.run_config["nodes"]):
        time.sleep(1)
    write_report(run_study(STUDY, grid), Path(str(context.run_config["report"])))
