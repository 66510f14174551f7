"""Lattice envelopes over Flower: a strategy asks for them, and a node refuses them unless its owner allows them."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secagg import Policy, RoundConfig
from secagg.adapters.flower import SecAggStrategy, node, server
from secagg.errors import ParameterError
from secagg.pairwise.carrier import Carrier
from secagg.privacy import Privacy
from secagg.simulation import carriers
from tests.support.flower_grid import MemoryGrid, model
from tests.support.flower_setup import ODD, assert_mean, averaging, make, one_round, others, with_node_config

ZEROS = {"weight": np.zeros((4, 3), np.float32), "bias": np.zeros(3, np.float32)}


def allowing(grid: MemoryGrid, carrier: str = "any") -> MemoryGrid:
    for each in grid.nodes:
        with_node_config(grid, each, carrier=carrier)
    return grid


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_a_strategy_trains_in_envelopes_and_loses_a_node(
    threat_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = make(threat_model, tmp_path, carrier="lattice")
    allowing(grid).mute = {("MASK", ODD)}
    arrays = model()
    with caplog.at_level(logging.INFO, logger="flwr"):
        assert_mean(strategy, one_round(strategy, grid, arrays), arrays, others(grid))
    assert "the carrier is lattice" in caplog.text


def test_a_node_takes_masks_alone_unless_its_owner_says_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = make("semi_honest", Path(), carrier=Carrier.LATTICE)
    with_node_config(allowing(grid, "lattice"), ODD, carrier="masks")
    arrays = model()
    assert_mean(strategy, one_round(strategy, grid, arrays), arrays, others(grid))
    assert "config has carrier = lattice; this client's policy asks for masks" in caplog.text


def test_a_node_that_wants_envelopes_refuses_masks() -> None:
    strategy, grid = make("semi_honest", Path())
    assert one_round(strategy, allowing(grid, "lattice"), model()) is None
    assert "ADVERTISE" in strategy.reports[1].failure


@pytest.mark.parametrize("cheaper", Carrier)
def test_auto_takes_the_cheaper_carrier(cheaper: Carrier, monkeypatch: pytest.MonkeyPatch) -> None:
    def costs(config: RoundConfig) -> carriers.CarrierCosts:
        return carriers.CarrierCosts(client_s=2.0 - (config.carrier is cheaper), server_s=1.0, upload_bytes=1)

    monkeypatch.setattr(carriers, "costs_of", costs)
    strategy, grid = make("semi_honest", Path(), carrier="auto")
    met: list[RoundConfig] = []
    monkeypatch.setattr(server, "Server", recorded(server.Server, met))
    arrays = model()
    assert_mean(strategy, one_round(strategy, allowing(grid), arrays), arrays, grid.nodes)
    assert [config.carrier for config in met] == [cheaper]
    assert met[0].version == (1 if cheaper is Carrier.MASKS else 2)


def recorded(machine: Any, met: list[RoundConfig]) -> Any:
    def make_server(config: RoundConfig, **options: Any) -> Any:
        met.append(config)
        return machine(config, **options)

    return make_server


def test_a_private_round_goes_in_envelopes() -> None:
    """Its values are taken modulo the modulus, which an envelope does behind the opening."""
    privacy = Privacy(epsilon=8.0, delta=1e-5, rounds=2, clip=1.0)
    strategy = SecAggStrategy(averaging(), privacy=privacy, carrier="lattice", gamma=0.2, delta=0.25)
    _, grid = make("semi_honest", Path())
    mean = one_round(strategy, allowing(grid), ZEROS)
    report = strategy.reports[1]
    assert mean is not None, report.failure
    assert report.noise > 0
    assert all(np.isfinite(array).all() for array in mean.values())


def test_another_carrier_is_refused_before_there_is_a_round() -> None:
    with pytest.raises(ParameterError, match="carrier 'envelopes': must be one of masks, lattice, auto"):
        make("semi_honest", Path(), carrier="envelopes")


def policy_of(policy: Policy | None = None, **node_config: Any) -> Policy:
    return node.config_of(SimpleNamespace(node_config=node_config)).policy(policy, active=False)  # type: ignore[arg-type]


def test_a_nodes_config_names_the_carriers_to_accept() -> None:
    assert policy_of().carrier is Carrier.MASKS
    assert policy_of(Policy(carrier="any")).carrier == "any"
    assert policy_of(Policy(carrier="any"), **{"secagg-carrier": "lattice"}).carrier is Carrier.LATTICE
    assert policy_of(**{"secagg-carrier": "any"}).carrier == "any"
    for wrong in (True, "auto"):
        with pytest.raises(ParameterError, match=f"secagg-carrier is {wrong!r}: must be one of masks, lattice, any"):
            policy_of(**{"secagg-carrier": wrong})
