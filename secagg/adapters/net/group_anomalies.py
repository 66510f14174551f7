"""Which groups of a round stand out, for the status page and the metrics, and for the scores of clients."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt

from secagg.adapters.net.ending import Ending
from secagg.adapters.net.round_spec import RoundSpec
from secagg.arithmetic import unpack
from secagg.encoding.layout import Layout
from secagg.errors import InputError
from secagg.robust import RoundReport, group_means, report_round


@final
@dataclass(frozen=True, slots=True)
class _Sum:
    number: int
    included: tuple[int, ...]
    sum: npt.NDArray[np.unsignedinteger[Any]]


def report_of(spec: RoundSpec, ending: Ending) -> RoundReport | None:
    """How the groups of a round lie to each other, from what the journal keeps of it.

    None for a round with a single sum, for a layout without plain means (noise, a study, votes), and where no group's
    sum can be decoded.
    """
    config = spec.config
    if len(ending.groups) < 2 or not isinstance(spec.layout, Layout):
        return None
    sums = [
        _Sum(group.number, group.included, unpack(group.packed, config.modulus, config.length))
        for group in ending.groups
    ]
    try:
        found = group_means(spec.layout.encoder().for_round(config), sums, min_contributors=config.min_group)
    except InputError:
        return None
    return report_round(found.means, found.members, counts=found.weights, numbers=found.numbers)


def shown_groups(report: RoundReport) -> list[dict[str, Any]]:
    """Of each opened group, how its mean lies to the others, as JSON has it: see ``secagg.robust.GroupAnomaly``.

    Members are left out: whoever sees the page would learn whose group it was.  An infinite distance is None.
    """
    shown = [{key: value for key, value in asdict(group).items() if key != "members"} for group in report.groups]
    return [{**one, "distance": one["distance"] if math.isfinite(one["distance"]) else None} for one in shown]
