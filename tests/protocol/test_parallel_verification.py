"""Signatures verified on an executor: the same outcome, and the same refusal of a forged one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest

from secagg import (
    Client,
    ClientState,
    ErrorCode,
    Identity,
    InputNeeded,
    MemoryDirectory,
    PeerError,
    RoundConfig,
    Server,
    UsedTokens,
)
from secagg.pairwise import messages
from secagg.pairwise.messages import Confirmations
from secagg.simulation import SeededRandomness, make_cohort

CLIENTS = 150  # on the complete graph: more signatures in a roster, and in the confirmations, than one job takes


class Counting(ThreadPoolExecutor):
    """Counts the jobs that it is given."""

    jobs = 0

    def submit(self, *arguments, **keywords):
        Counting.jobs += 1
        return super().submit(*arguments, **keywords)


@pytest.fixture(scope="module")
def confirmed() -> tuple[Client, MemoryDirectory, Identity, bytes]:
    """A client that waits for confirmations, the directory, its identity, and the confirmations."""
    identities, directory, cohort = make_cohort(CLIENTS, SeededRandomness(1, "identities"))
    config = RoundConfig.for_cohort(
        CLIENTS, 3, threat_model="active", gamma=0.0, delta=0.0, neighbours="complete", modulus=2**16, cohort=cohort
    )
    server = Server(config, directory=directory)
    clients = [
        Client.join(server.invitation(), i, identity=identities[i], directory=directory, consume=UsedTokens())
        for i in range(CLIENTS)
    ]
    with Counting(2) as executor:
        for client in clients:
            server.receive(client.index, client.start())
        for _ in range(3):
            for index, data in server.close_phase():
                step = clients[index].receive(data, executor if index == 0 else None)
                if isinstance(step.event, InputNeeded):
                    step = clients[index].submit(np.ones(3, dtype=np.uint16))
                for answer in step.outgoing:
                    server.receive(index, answer)
    assert Counting.jobs == 3  # 149 signatures in client 0's roster
    return clients[0], directory, identities[0], dict(server.close_phase())[0]


def resumed(confirmed, state: bytes) -> Client:
    return Client.resume(state, UsedTokens(), identity=confirmed[2], directory=confirmed[1])


@pytest.fixture(scope="module")
def state(confirmed) -> bytes:
    return confirmed[0].suspend()


@pytest.fixture
def executor() -> Iterator[Executor]:
    with Counting(2) as pool:
        yield pool


def test_an_executor_changes_nothing(confirmed, state, executor) -> None:
    alone, together = resumed(confirmed, state), resumed(confirmed, state)
    before = Counting.jobs
    assert together.receive(confirmed[3], executor) == alone.receive(confirmed[3])
    assert Counting.jobs == before + 2  # Q = 76 signatures


def test_a_forged_confirmation_is_refused_on_an_executor(confirmed, state, executor) -> None:
    message = messages.to_client.decode(confirmed[3], len(confirmed[3]), 1)
    assert isinstance(message, Confirmations)
    forged = message.signatures[:-64] + bytes(64)
    data = messages.encode(Confirmations(message.version, message.session, message.signers, forged))
    with pytest.raises(PeerError) as refused:
        resumed(confirmed, state).receive(data, executor)
    assert refused.value.code is ErrorCode.CONFIRM_SIGNATURE


class Losing(ThreadPoolExecutor):
    """Drops what it is given."""

    def map(self, *arguments, **keywords):
        return iter(())


def test_an_executor_that_verifies_nothing_lets_nothing_through(confirmed, state) -> None:
    client = resumed(confirmed, state)
    with Losing(1) as pool, pytest.raises(RuntimeError, match="verified 0 signatures of 76"):
        client.receive(confirmed[3], pool)
    assert client.state is ClientState.ABORTED
