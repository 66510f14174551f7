"""Contribution: the duties of a client's host (R-JOIN-3 to R-JOIN-6) that one call each carries out."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import (
    AbortCode,
    Client,
    ClientAborted,
    ClientState,
    Contribution,
    DurableTokens,
    Encoder,
    InputError,
    ParameterError,
    PeerError,
    Policy,
    ReleasedInputs,
    RoundConfig,
    Server,
    UsedTokens,
)
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder

N = 4
ENCODER = Encoder(np.zeros(3), clip=1.0, max_weight=10)
UPDATES = [np.full(3, index / 10) for index in range(N)]
POLICY = Policy(min_sigma=1)


def config_for(**changes: Any) -> RoundConfig:
    shape = {"length": ENCODER.length, "input_max": ENCODER.input_max, "gamma": 0.1, "delta": 0.0}
    return RoundConfig.for_cohort(N, min_survivors=3, **{**shape, **changes})


def play(server: Server, contributions: list[Contribution], *, suspended: bool = False) -> list[Client]:
    """The round to its end; with ``suspended``, each client is resumed from bytes for every message."""
    clients = [Client.join(server.invitation(), index, policy=POLICY) for index in range(N)]
    for client, contribution in zip(clients, contributions, strict=True):
        server.receive(client.index, contribution.start(client))
    while not (server.ready_to_compute or server.done):
        for index, data in list(server.close_phase()):
            if suspended:
                clients[index] = Client.resume(clients[index].suspend(), UsedTokens())
            for answer in contributions[index].answer(clients[index], data):
                server.receive(index, answer)
    return clients


@pytest.mark.parametrize("suspended", [False, True])
def test_the_input_is_submitted_with_its_weight_and_remembered(suspended: bool) -> None:
    released = [ReleasedInputs() for _ in range(N)]
    contributions = [
        Contribution(ENCODER, update, weight=index + 1, released=released[index])
        for index, update in enumerate(UPDATES)
    ]
    server = Server(config_for())
    clients = play(server, contributions, suspended=suspended)
    mean = ENCODER.decode(server.compute())
    assert mean.weight == 1 + 2 + 3 + 4
    expected = np.average(UPDATES, axis=0, weights=[1, 2, 3, 4])
    assert np.abs(np.asarray(mean.mean) - expected).max() <= ENCODER.error_bound(N, 10)
    assert {client.state for client in clients} == {ClientState.DONE}
    assert all(ENCODER.input_digest(update) in released[index] for index, update in enumerate(UPDATES))


def test_a_released_input_is_found_before_a_token_is_used() -> None:
    released = ReleasedInputs()
    released.add(ENCODER.input_digest(UPDATES[0]))
    contribution = Contribution(ENCODER, UPDATES[0], weight=7, released=released)
    with pytest.raises(InputError, match="may be in a sum already"):
        contribution.check_unreleased()
    client = Client.join(Server(config_for()).invitation(), 0, policy=POLICY)
    with pytest.raises(InputError, match="may be in a sum already"):
        contribution.start(client)
    assert client.state is ClientState.ABORTED


@pytest.mark.parametrize("wrong", [{"length": ENCODER.length + 1}, {"input_max": ENCODER.input_max - 1}])
def test_a_round_that_does_not_fit_is_left_before_anything_is_sent(wrong: dict[str, Any]) -> None:
    client = Client.join(Server(config_for(**wrong)).invitation(), 0, policy=POLICY)
    with pytest.raises(ParameterError, match="round's"):
        Contribution(ENCODER, UPDATES[0], released=ReleasedInputs()).start(client)
    assert client.state is ClientState.ABORTED


def test_a_round_with_attachments_is_left_before_anything_is_sent() -> None:
    policy = Policy(min_sigma=1, max_attachment_bytes=8)
    server = Server(config_for(version=2, attachment_bytes=8))
    client = Client.join(server.invitation(), 0, policy=policy)
    with pytest.raises(ParameterError, match="the round asks for 8 bytes beside the vector"):
        Contribution(ENCODER, UPDATES[0], released=ReleasedInputs()).start(client)
    assert client.state is ClientState.ABORTED


def test_a_private_encoder_is_that_of_the_round() -> None:
    """Its rotation follows from the config's context: the contribution asks for the round's encoder by itself."""
    fine = Mechanism(
        noise=NoiseKind.SKELLAM,
        clip=1.0,
        scale=Fraction(2**16),
        bits=28,
        rounding_failure=math.exp(-0.5),
        variance=1,
        length=4,
    )
    encoder = PrivateEncoder(np.zeros(4), fine)
    config = RoundConfig.for_cohort(
        N,
        encoder.length,
        gamma=0.1,
        delta=0.0,
        min_survivors=3,
        modulus=encoder.modulus_for(N),
        context=encoder.layout_digest(),
    )
    server = Server(config)
    updates = [np.full(4, index / 10) for index in range(N)]
    play(server, [Contribution(encoder, update, released=ReleasedInputs()) for update in updates])
    mean = encoder.for_round(config).decode(server.compute())
    assert np.abs(np.asarray(mean.mean) - np.mean(updates, axis=0)).max() < 1e-3


def test_an_input_that_another_round_released_meanwhile_is_withheld() -> None:
    """Two rounds with the same input at once: the second answers with an ABORT in the place of its shares."""
    released = ReleasedInputs()
    contributions = [Contribution(ENCODER, update, released=ReleasedInputs()) for update in UPDATES]
    contributions[2] = Contribution(ENCODER, UPDATES[2], released=released)
    released_digest = ENCODER.input_digest(UPDATES[2])
    server = Server(config_for())
    answers: list[Any] = []
    clients = [Client.join(server.invitation(), index, policy=POLICY) for index in range(N)]
    for client, contribution in zip(clients, contributions, strict=True):
        server.receive(client.index, contribution.start(client))
    while not (server.ready_to_compute or server.done):
        if server.phase == "MASK":
            released.add(released_digest)
        for index, data in list(server.close_phase()):
            events = [
                server.receive(index, answer).event for answer in contributions[index].answer(clients[index], data)
            ]
            answers += events if index == 2 else []
    assert isinstance(answers[-1], ClientAborted)
    assert answers[-1].code is AbortCode.CANCELLED
    assert clients[2].state is ClientState.ABORTED


def test_survivors_are_judged_before_the_last_message_leaves() -> None:
    """R-JOIN-6: who says no keeps its shares, and has released nothing."""
    judged: list[tuple[int, ...]] = []
    released = [ReleasedInputs() for _ in range(N)]
    contributions = [
        Contribution(
            ENCODER,
            update,
            released=released[index],
            accept_survivors=lambda survivors: bool(judged.append(survivors)),
        )
        for index, update in enumerate(UPDATES)
    ]
    server = Server(config_for())
    clients = play(server, contributions)
    assert judged == [(0, 1, 2, 3)] * N
    assert server.failure is not None
    assert {client.state for client in clients} == {ClientState.ABORTED}
    assert [len(kept) for kept in released] == [0] * N


def test_an_update_that_is_made_late_is_made_when_it_is_asked_for() -> None:
    made: list[int] = []

    def train(index: int) -> Any:
        made.append(index)
        return UPDATES[index]

    contributions = [
        Contribution(
            ENCODER,
            lambda index=index: train(index),
            released=ReleasedInputs(),
            input_digest=bytes([index]) * 32,
        )
        for index in range(N)
    ]
    server = Server(config_for())
    play(server, contributions)
    assert sorted(made) == list(range(N))
    assert ENCODER.decode(server.compute()).count == N
    with pytest.raises(ParameterError, match="input_digest is not given"):
        Contribution(ENCODER, lambda: UPDATES[0], released=ReleasedInputs())


@pytest.mark.parametrize("update", [np.full(3, np.nan), lambda: np.full(4, 0.5), lambda: 1 / 0])
def test_an_update_that_cannot_be_encoded_ends_the_clients_part(update: Any) -> None:
    """No secret stays behind, and the server need not wait for the deadline."""
    server = Server(config_for())
    contributions = [Contribution(ENCODER, update, released=ReleasedInputs(), input_digest=bytes(32)) for _ in range(N)]
    clients = [Client.join(server.invitation(), index, policy=POLICY) for index in range(N)]
    for client, contribution in zip(clients, contributions, strict=True):
        server.receive(client.index, contribution.start(client))
    for index, data in list(server.close_phase()):
        server.receive(index, *contributions[index].answer(clients[index], data))
    shares = server.close_phase().to(0)
    assert shares is not None
    with pytest.raises((InputError, ZeroDivisionError)):
        contributions[0].answer(clients[0], shares)
    assert clients[0].state is ClientState.ABORTED
    assert isinstance(server.receive(0, clients[0].abort()).event, ClientAborted)
    assert contributions[0].answer(clients[0], shares) == ()


def test_a_rule_that_the_server_broke_is_told_with_the_reply() -> None:
    client = Client.join(Server(config_for()).invitation(), 0, policy=POLICY)
    contribution = Contribution(ENCODER, UPDATES[0], released=ReleasedInputs())
    contribution.start(client)
    with pytest.raises(PeerError) as refused:
        contribution.answer(client, b"rubbish")
    assert refused.value.reply
    assert client.state is ClientState.ABORTED


def test_it_shows_no_input() -> None:
    assert repr(Contribution(ENCODER, UPDATES[3], released=ReleasedInputs())) == "<Contribution of weight 1>"


def test_the_file_of_tokens_is_a_memory_of_released_inputs(tmp_path: Path) -> None:
    tokens = DurableTokens(tmp_path / "used")
    contribution = Contribution(ENCODER, UPDATES[1], released=tokens.released)
    contribution.check_unreleased()
    assert tokens.released.add(ENCODER.input_digest(UPDATES[1]))
    assert tokens.is_released(ENCODER.input_digest(UPDATES[1]))
    with pytest.raises(InputError):
        contribution.check_unreleased()
