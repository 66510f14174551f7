"""Groups that stand out, on the status page and in the metrics of the service."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from secagg import Policy, ThreatModel
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.group_anomalies import report_of, shown_groups
from secagg.adapters.net.monitor import _ServiceCollector
from secagg.robust import report_round
from tests.support.hosting import SHAPES, hosting, spec_of
from tests.support.moved_clock import eventually, run

COUNTS = ("clients", "seated", "offered", "may_be_lost", "connected", "arrived", "expected", "included")
SERVICE = ("connections", "logging_in", "logged_in", "logins", "received_bytes", "journal_commits")
NOTHING = {"name": "default", "phase": "DONE", "phase_seconds": {}, "refused": {}, "awaited": [], "refusals": []}
IN_GROUPS = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.0, min_survivors=3, max_groups=3)


def test_a_round_in_groups_says_which_stand_out(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        spec = spec_of(9, gamma=0.0, version=2, groups=3, min_survivors=None)
        async with hosting([spec], tmp_path, tls_folder) as host:
            assert host.service.status()["rounds"][0]["group_anomalies"] == []
            poison = {name: np.full(shape, -0.4) for name, shape in SHAPES.items()}
            honest = {name: np.full(shape, 0.1) for name, shape in SHAPES.items()}
            arrays = [poison if number == 4 else honest for number in range(9)]
            totals = await asyncio.gather(*(host.member(n, arrays=arrays[n], policy=IN_GROUPS).run() for n in range(9)))
            assert {total.mean.count for total in totals} == {9}
            await eventually(lambda: host.hosted().group_anomalies)
            shown = host.service.status()["rounds"][0]["group_anomalies"]
            assert [group["number"] for group in shown] == [0, 1, 2]
            assert [group["stands_out"] for group in shown].count(True) == 1
            assert all("members" not in group for group in shown)
            (bad,) = [group for group in shown if group["stands_out"]]
            registry = CollectorRegistry()
            registry.register(_ServiceCollector(host.service.status))
            label = {"round": "default", "group": str(bad["number"])}
            assert registry.get_sample_value("secagg_group_stands_out", label) == 1
            assert registry.get_sample_value("secagg_group_distance", label) == bad["distance"] > 3
            json.dumps(host.service.status(), allow_nan=False)
            assert registry.get_sample_value("secagg_group_norm", label) == pytest.approx(bad["norm"])
            assert -1 <= registry.get_sample_value("secagg_group_cosine", label) <= 1

    run(test)


def test_one_sum_has_no_groups_to_compare() -> None:
    assert report_of(spec_of(5), Ending("", included=tuple(range(5)))) is None


def test_a_distance_beyond_all_others_is_shown_as_json_has_it() -> None:
    """Where most groups lie on the centre, the median distance is 0, and another group is infinitely far from it."""
    report = report_round(np.array([[1.0], [1.0], [1.0], [5.0]]), [[0], [1], [2], [3]], centre=[1.0])
    shown = shown_groups(report)
    assert [group["distance"] for group in shown] == [0.0, 0.0, 0.0, None]
    assert shown[3]["stands_out"]
    json.dumps(shown, allow_nan=False)
    of_round = {**dict.fromkeys(COUNTS, 0), "group_anomalies": shown}
    status = {
        **dict.fromkeys(SERVICE, 0),
        "refused": {},
        "workers": None,
        "scores": None,
        "rounds": [of_round | NOTHING],
    }
    registry = CollectorRegistry()
    registry.register(_ServiceCollector(lambda: status))
    assert registry.get_sample_value("secagg_group_distance", {"round": "default", "group": "3"}) == math.inf
