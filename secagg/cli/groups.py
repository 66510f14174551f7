"""What the commands say of a round's groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from secagg.cli.output import finite
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.grouping import GroupBounds
from secagg.simulation import Outcome
from secagg.wording import counted


def graph_name(config: RoundConfig) -> str:
    """The kind of graph, for a person."""
    if config.groups > 1:
        return "groups"
    return "complete" if config.is_complete else "sparse"


def group_facts(config: RoundConfig, outcome: Outcome | None = None) -> dict[str, Any] | None:
    """The groups as JSON, with what became of them in a round; None without groups."""
    bounds = config.bounds
    if not isinstance(bounds, GroupBounds):
        return None
    smallest, largest = bounds.grouping.sizes
    found: dict[str, Any] = {
        "count": config.groups,
        "smallest": smallest,
        "largest": largest,
        "min_group": config.min_group,
        "colluders_in_group": config.colluders_in_group,
        "expected_left_out": finite(bounds.expected_left_out),
    }
    if outcome is not None:
        result = outcome.result
        found["opened"] = [] if result is None else [group.number for group in result.groups]
        found["left_out"] = (
            {} if result is None else {str(number): why.reason for number, why in result.failed_groups.items()}
        )
    return found


def add_groups(rows: Table, config: RoundConfig, found: Mapping[str, Any] | None = None) -> None:
    """A row on the groups; ``found`` is what became of them."""
    if config.groups == 1:
        return
    text = f"{config.groups}, each with a sum of at least {counted(config.min_group, 'client')}"
    if found is not None:
        text += f"; {len(found['opened'])} were opened"
    rows.add_row("groups", text)
