"""The hospitals: each answers the study's questions with its own file."""

from __future__ import annotations

from pathlib import Path

from flwr.app import Context
from flwr.clientapp import ClientApp

from secagg.adapters.flower import STUDY_ACTION, StudyNode
from secagg.statistics import Site, open_data
from statistics_app import STUDY


def site_of(context: Context) -> Site:
    """The file that the node's own config names; in a simulation, one of the run's directory."""
    file = context.node_config.get("data")
    if file is None:
        file = Path(str(context.run_config["data"]), f"hospital-{int(context.node_config['partition-id']) + 1}.csv")
    return Site(STUDY, open_data(str(file), STUDY))


app = ClientApp()
app.query(STUDY_ACTION)(StudyNode(site_of))
