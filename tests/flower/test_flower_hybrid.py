"""The hybrid suite over Flower: a strategy asks for it, and a node refuses any other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secagg import Policy, Suite
from secagg.adapters.flower import node
from secagg.errors import ParameterError
from tests.support.flower_setup import make, one_round

ZEROS = {"weight": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_a_strategy_trains_with_it_and_loses_a_node(threat_model: str, tmp_path: Path) -> None:
    strategy, grid = make(threat_model, tmp_path, clips={}, suite="hybrid", gamma=0.2, delta=0.2)
    grid.mute = {("MASK", 102)}
    mean = one_round(strategy, grid, {name: array.copy() for name, array in ZEROS.items()})
    report = strategy.reports[1]
    assert mean is not None, report.failure
    assert 102 not in {report.nodes[index] for index in report.included}
    assert all(np.isfinite(array).all() for array in mean.values())


def policy_of(**node_config: Any) -> Policy:
    return node.config_of(SimpleNamespace(node_config=node_config)).policy(None, active=False)  # type: ignore[arg-type]


def test_a_nodes_config_names_the_only_suite_to_accept() -> None:
    assert policy_of().suites == frozenset(Suite)
    assert policy_of(**{"secagg-suite": "hybrid"}).suites == frozenset({Suite.HYBRID})
    for wrong, told in ((3, "secagg-suite is 3"), ("ml-kem", "suite = 'ml-kem'")):
        with pytest.raises(ParameterError, match=told):
            policy_of(**{"secagg-suite": wrong})
