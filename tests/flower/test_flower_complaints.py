"""Rounds with complaints over Flower: a node that deals bad shares is named, and costs the round nothing but itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from secagg import ErrorCode, ThreatModel
from tests.support.bad_dealing import dealing_badly
from tests.support.flower_grid import model
from tests.support.flower_setup import ODD, assert_mean, make, one_round, with_node_config

LIAR = 3
"""Its number in the cohort."""


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("everybody", [True, False])
def test_a_node_that_deals_bad_shares(
    threat_model: ThreatModel, everybody: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy, grid = make(threat_model.value, tmp_path, complaints="auto")
    dealing_badly(monkeypatch, LIAR, len(grid.nodes) if everybody else 1)
    mean = one_round(strategy, grid, model())
    report = strategy.reports[1]
    left_out = {report.nodes[LIAR]} if everybody else set()
    assert_mean(strategy, mean, model(), sorted({*grid.nodes} - left_out))
    assert [(entry.sender, entry.code) for entry in report.blame] == [(LIAR, ErrorCode.DISPUTED)] * everybody


@pytest.mark.parametrize("most", [0, 1])
def test_a_node_bounds_the_complaints_of_a_round(tmp_path: Path, most: int) -> None:
    """With one colluder among eight, a client may complain about one other."""
    strategy, grid = make("semi_honest", tmp_path, complaints="auto")
    with_node_config(grid, ODD, max_complaints=most)
    mean = one_round(strategy, grid, model())
    report = strategy.reports[1]
    left_out = [ODD] if most == 0 else []
    assert_mean(strategy, mean, model(), sorted({*grid.nodes} - {*left_out}))
    assert [report.nodes[index] for index in report.dropped.get("ADVERTISE", ())] == left_out
