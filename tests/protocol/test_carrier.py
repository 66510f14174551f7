"""Rounds whose vectors come in lattice envelopes: their sums, whoever is lost, and malformed envelopes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from secagg import Client, ErrorCode, InputNeeded, Misbehaved, PeerError, Server
from secagg.simulation import Faults, SeededRandomness, simulate
from secagg.simulation.driver import RoundDriver
from tests.support.enveloped import (
    CLIENTS,
    Change,
    Tampering,
    config_of,
    known,
    other_envelope,
    residue_of_ones,
    sum_over,
    vectors,
)

BOTH = ["semi_honest", "active"]


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize(
    "options",
    [{}, {"input_max": None, "modulus": 2**16}, {"modulus": 2**31 - 1}, {"input_max": 2**55}, {"suite": 2}],
    ids=str,
)
def test_rounds_with_envelopes_give_the_sum(model: str, options: dict[str, Any]) -> None:
    config = config_of(model, **options)
    faults = Faults(fates={1: "SHARE", 4: "ADVERTISE", 7: "MASK"}, order=3)
    result = simulate(vectors(config), config, faults=faults, seed=2, **known(config)).result
    assert result is not None
    assert result.included == (0, 2, 3, 5, 6, 7, 8)
    assert (result.sum.tolist(), result.sum.dtype) == (sum_over(config, result.included), config.modulus.dtype)


def test_with_groups_every_group_has_its_sum() -> None:
    config = config_of(groups=3, delta=0)
    result = simulate(vectors(config), config, seed=2).result
    assert result is not None
    assert len(result.groups) == 3
    for group in result.groups:
        assert group.sum.tolist() == sum_over(config, group.included)
    assert result.sum.tolist() == sum_over(config, result.included)


@pytest.mark.parametrize("model", BOTH)
@pytest.mark.parametrize("groups", [1, 3])
def test_servers_and_clients_go_on_where_they_were_stored(model: str, groups: int) -> None:
    config = config_of(model, groups=groups, delta=0 if groups > 1 else 0.4)
    driver = RoundDriver(vectors(config), config, seed=2, **known(config))
    while not driver.server.ready_to_compute:
        driver.collect()
        assert isinstance(driver.server, Server)
        driver.server = Server.restore(driver.server.snapshot(), directory=driver.directory)
        driver.close()
        driver.server = Server.restore(driver.server.snapshot(), directory=driver.directory)
        for index, client in driver.clients.items():
            assert isinstance(client, Client)
            if not client.done:
                driver.clients[index] = Client.resume(
                    client.suspend(),
                    lambda token: True,
                    identity=driver.identities[index] if config.is_active else None,
                    directory=driver.directory,
                    randomness=SeededRandomness(2, f"resumed {index}"),
                )
    result = driver.server.compute()
    assert result.sum.tolist() == sum_over(config, tuple(range(CLIENTS)))
    assert Server.restore(driver.server.snapshot(), directory=driver.directory).compute().sum.tolist() == (
        result.sum.tolist()
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda vector: vector[:-1], ErrorCode.WRONG_LENGTH),
        (lambda vector: vector + b"\0", ErrorCode.WRONG_LENGTH),
        (lambda vector: b"", ErrorCode.WRONG_LENGTH),
        (residue_of_ones, ErrorCode.ELEMENT_RANGE),
    ],
    ids=["shorter", "longer", "nothing", "a residue of all ones"],
)
def test_a_malformed_masked_input_is_refused_and_the_right_one_taken(change: Change, code: ErrorCode) -> None:
    config = config_of()
    driver = Tampering(config, {4: change}, repeat=True)
    driver.play_phases()
    result = driver.compute()
    assert result is not None
    assert [event.code for event in driver.events if isinstance(event, Misbehaved)] == [code]
    assert [(blame.sender, blame.code) for blame in result.blame] == [(4, code)]
    assert result.sum.tolist() == sum_over(config, tuple(range(CLIENTS)))


@pytest.mark.parametrize("model", BOTH)
def test_an_envelope_of_another_secret_spoils_the_sum_and_names_nobody(model: str) -> None:
    config = config_of(model)
    driver = Tampering(config, {4: other_envelope(config)})
    driver.play_phases()
    with pytest.raises(PeerError, match=r"the noise of the sum reaches .* there is no sum") as refused:
        driver.server.compute()
    assert (refused.value.code, refused.value.culprit) == (ErrorCode.BAD_ENVELOPE, ())
    failure = driver.server.failure
    assert failure is not None
    assert (failure.phase, failure.culprit) == ("COMPUTE", ())
    assert isinstance(driver.server, Server)
    assert driver.server.blame == ()


def test_with_groups_a_malformed_envelope_costs_its_own_group() -> None:
    config = config_of(groups=3, delta=0)
    driver = Tampering(config, {4: other_envelope(config)})
    driver.play_phases()
    result = driver.compute()
    assert result is not None
    (failed,) = result.failed_groups
    assert driver.server.graph is not None
    assert 4 in driver.server.graph.members_of(failed).tolist()
    assert "there is no sum" in result.failed_groups[failed].reason
    assert [group.number for group in result.groups] == [number for number in range(3) if number != failed]
    for group in result.groups:
        assert group.sum.tolist() == sum_over(config, group.included)


def test_every_envelope_has_a_seed_of_its_own() -> None:
    """R-ENV-10: it is drawn by submit, after the 96 bytes that a client draws in any round, and is in no state."""
    config, drawn, seeds = config_of(), dict[int, list[bytes]](), list[bytes]()

    class Watching(RoundDriver):
        def randomness(self, label: str) -> Any:
            source, index = random.Random(label), int(label.split()[-1]) if label != "server" else -1

            def draw(size: int) -> bytes:
                drawn.setdefault(index, []).append(source.randbytes(size))
                return drawn[index][-1]

            return draw

        def step(self, phase: str, index: int, message: bytes) -> Any:
            client = self.clients[index]
            step = client.receive(message)
            if isinstance(step.event, InputNeeded):
                before = len(drawn[index])
                step = client.submit(self.input_of(index))
                (seed,) = drawn[index][before:]
                assert len(seed) == 32
                seeds.append(seed)
                if index == 0:
                    assert isinstance(client, Client)
                    assert seed not in client.suspend()
            return step

    Watching(vectors(config), config).play_phases()
    assert len({*seeds}) == CLIENTS
