"""A host needs no more of the machines than the protocols say: a round runs over anything that has that."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from secagg import Client, ClientMachine, ClientStep, Server, ServerMachine, ServerStep, ThreatModel
from secagg.simulation import RoundDriver
from secagg.simulation.rounds import Simulation
from secagg.testing.strategies import cohort
from tests.support.staging import MODELS


def names(protocol: type) -> list[str]:
    return [name for name in vars(protocol) if not name.startswith("_")]


class Only:
    """A machine of which nothing can be reached but what a protocol names."""

    def __init__(self, machine: object, protocol: type) -> None:
        self._machine, self._names = machine, frozenset(names(protocol))

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"{name} is not in the protocol")
        return getattr(self._machine, name)


class OverProtocols(RoundDriver):
    """Its clients are reached through the protocol alone."""

    def join(self, index: int, invitation: bytes, **changes: Any) -> Any:
        return Only(super().join(index, invitation, **changes), ClientMachine)


@pytest.mark.parametrize(("machine", "protocol"), [(Client, ClientMachine), (Server, ServerMachine)])
def test_the_machines_have_what_the_protocols_say(machine: type, protocol: type) -> None:
    for name in names(protocol):
        ours, said = inspect.getattr_static(machine, name), inspect.getattr_static(protocol, name)
        assert isinstance(ours, property) == isinstance(said, property)
        if not isinstance(said, property):
            given, wanted = inspect.signature(ours).parameters, inspect.signature(said).parameters
            assert list(given) == list(wanted)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_round_over_the_protocols_alone(threat_model: ThreatModel) -> None:
    config = MODELS[threat_model](6)
    identities, directory, _ = cohort(6)
    trust = {"identities": identities, "directory": directory}
    vectors = [np.full(config.length, 1 + client) for client in range(6)]
    server = Server(config, directory=directory if config.is_active else None)
    driver = OverProtocols(vectors, config, server=Only(server, ServerMachine), **trust)
    driver.play_phases()
    result = driver.compute()
    assert result is not None
    assert result.sum.tolist() == [21] * config.length
    assert {type(event).__name__ for event in driver.events} == {"Accepted"}

    other = Server(config, directory=directory if config.is_active else None)
    outcome = Simulation(vectors, config, server=Only(other, ServerMachine), **trust).run()
    assert outcome.sum.tolist() == [21] * config.length


def test_a_driver_without_an_inputs_function_says_whose_input_is_missing() -> None:
    config = MODELS[ThreatModel.SEMI_HONEST](5)
    driver = RoundDriver([np.zeros(config.length, int)] * 4, config)
    with pytest.raises(ValueError, match="no input for client 4; there are 4"):
        driver.play_phases()


def test_a_server_s_step_has_no_messages() -> None:
    config = MODELS[ThreatModel.SEMI_HONEST](5)
    server = Server(config)
    client = Client.join(server.invitation(), 0)
    step = server.receive(0, client.start())
    assert isinstance(step, ServerStep)
    assert [field.name for field in fields(ServerStep)] == ["event"]
    assert step.outgoing == ()  # for one release, so that a host which loops over them goes on
    assert isinstance(client.receive(server.abort().to(0) or b""), ClientStep)
