"""Which groups of a round stand out, for the status page and the metrics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from secagg.adapters.net.frames import AnnouncedLayout
from secagg.encoding.layout import Layout
from secagg.errors import InputError
from secagg.outcome import Result
from secagg.robust import group_means, report_round


def group_anomalies(layout: AnnouncedLayout, result: Result) -> list[dict[str, Any]]:
    """Of each opened group, how its mean lies to the others, as JSON has it: see ``secagg.robust.GroupAnomaly``.

    Members are left out: whoever sees the page would learn whose group it was.  Empty for a round with a single sum,
    for a layout without plain means (noise, a study), and where no group's sum can be decoded.
    """
    if len(result.groups) < 2 or not isinstance(layout, Layout):
        return []
    try:
        found = group_means(layout.encoder(), result.groups, min_contributors=result.min_survivors)
    except InputError:
        return []
    report = report_round(found.means, found.members, counts=found.weights, numbers=found.numbers)
    return [{key: value for key, value in asdict(group).items() if key != "members"} for group in report.groups]
