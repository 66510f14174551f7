"""R-JOIN-3 to R-JOIN-6: what a client's host checks before ADVERTISE, and what its data must not change afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secagg import (
    Client,
    ClientAborted,
    Encoder,
    Finished,
    InputNeeded,
    ParameterError,
    PeerError,
    ReleasedInputs,
    RoundConfig,
    Server,
    ServerState,
    ThreatModel,
    UsedTokens,
)
from secagg.pairwise.config import Policy
from tests.support.staging import MODELS, Stage, message_for

N = 5
ENCODER = Encoder(np.zeros(4), clip=1.0, max_weight=10)


def config_for(encoder: Encoder, **changes: Any) -> RoundConfig:
    return RoundConfig.for_cohort(
        N, **{"length": encoder.length, "input_max": encoder.input_max, "gamma": 0.2, "delta": 0.2, **changes}
    )


class Host:
    """A host that does its duties, and what its client sent."""

    def __init__(self, index: int, update: Any, weight: int, released: ReleasedInputs | None = None) -> None:
        self.index, self.update, self.weight = index, np.asarray(update, dtype=np.float64), weight
        self.digest = ENCODER.input_digest(self.update)
        self.released = ReleasedInputs() if released is None else released
        self.sent: list[tuple[str, int]] = []

    def join(self, invitation: bytes, *, again: bool = False) -> bytes:
        if self.digest in self.released and not again:
            raise ParameterError("this input may be in a sum")
        self.client = Client.join(invitation, self.index, policy=Policy(min_sigma=1), consume=UsedTokens())
        ENCODER.check_config(self.client.config)
        return self._send(self.client.start())

    def answer(self, message: bytes) -> bytes:
        step = self.client.receive(message)
        if isinstance(step.event, InputNeeded):
            step = self.client.submit(ENCODER.encode(self.update, weight=self.weight))
        if self.client.done:
            self.released.add(self.digest)  # before the Unmask leaves
        return self._send(b"".join(step.outgoing))

    def _send(self, message: bytes) -> bytes:
        self.sent.append((self.client.state.value, len(message)))
        return message


def play(server: Server, hosts: list[Host], until: ServerState = ServerState.COMPUTE) -> None:
    """The round, up to a state of the server's."""
    outgoing = {host.index: server.invitation() for host in hosts}
    for first in (True, False, False, False):
        for host in hosts:
            server.receive(host.index, (host.join if first else host.answer)(outgoing[host.index]))
        outgoing = dict(server.close_phase())
        if server.phase is until:
            return


@pytest.mark.parametrize("wrong", [{"length": ENCODER.length + 1}, {"input_max": ENCODER.input_max - 1}])
def test_a_config_that_does_not_fit_is_found_before_anything_is_sent(wrong: dict[str, Any]) -> None:
    """R-JOIN-3: and not by looking at the data, which would fit or would not."""
    server = Server(config_for(ENCODER, **wrong))
    for update in (np.zeros(4), np.full(4, 100.0)):
        host = Host(0, update, 1)
        with pytest.raises(ParameterError, match="round's"):
            host.join(server.invitation())
        assert host.sent == []


def test_what_a_client_sends_does_not_depend_on_its_data() -> None:
    """R-JOIN-4: in range, beyond the clip, zero, of a weight beyond the largest: the same states, the same lengths."""
    updates = [np.full(4, 0.5), np.full(4, -7e9), np.zeros(4), np.array([1e300, -1e300, 0, 1]), np.full(4, -0.5)]
    hosts = [
        Host(i, update, weight) for i, (update, weight) in enumerate(zip(updates, (1, 3, 0, 10**6, 10), strict=True))
    ]
    server = Server(config_for(ENCODER))
    play(server, hosts)
    assert all(host.sent == hosts[0].sent for host in hosts)
    assert len(hosts[0].sent) == 4
    mean = ENCODER.decode(server.compute())
    assert (mean.count, mean.contributors, mean.weight) == (N, 4, 1 + 3 + 0 + 10 + 10)
    clamped = [np.clip(update, -1, 1) * min(host.weight, 10) for update, host in zip(updates, hosts, strict=True)]
    assert np.abs(np.asarray(mean.mean) - sum(clamped) / mean.weight).max() <= ENCODER.error_bound(N, mean.weight)


def test_an_input_whose_unmask_left_enters_no_other_round_unasked() -> None:
    """R-JOIN-5: a server that opens the sum, tells an abort, and invites again without one member."""
    config = config_for(ENCODER)
    hosts = [Host(i, np.full(4, i / 10), 1) for i in range(N)]
    first = Server(config)
    play(first, hosts)
    opened = first.compute().sum
    assert opened.any()
    for host in hosts[1:]:
        again = Host(host.index, host.update, host.weight, host.released)
        with pytest.raises(ParameterError, match="may be in a sum"):
            again.join(Server(config).invitation())
        assert again.sent == []
        again.join(Server(config).invitation(), again=True)
        Host(host.index, host.update + 0.01, 1, host.released).join(Server(config).invitation())


def test_an_input_whose_unmask_did_not_leave_is_free() -> None:
    """R-JOIN-5: a client that was sent no survivors has given nothing away."""
    config = config_for(ENCODER)
    hosts = [Host(i, np.full(4, i / 10), 1) for i in range(N)]
    play(Server(config), hosts, until=ServerState.UNMASK)
    assert all(host.digest not in host.released for host in hosts)
    for host in hosts:
        Host(host.index, host.update, host.weight, host.released).join(Server(config).invitation())


def test_an_invitation_that_is_refused_uses_no_token() -> None:
    """R-JOIN-2."""
    used, invitation = UsedTokens(), Server(config_for(ENCODER)).invitation()
    with pytest.raises(PeerError):
        Client.join(invitation, 0, policy=Policy(min_sigma=99), consume=used)
    assert Client.join(invitation, 0, consume=used).start()


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_host_judges_the_survivors_before_the_unmask_leaves(threat_model: ThreatModel) -> None:
    """R-JOIN-6: it is told the very set that the sum is over, while the answer is still with it, and may leave."""
    stage = Stage(MODELS[threat_model](N)).play("UNMASK", silent={"MASK": [3]})
    for index in (0, 1, 2, 4):
        step = stage.clients[index].receive(message_for(stage.server, index))
        assert isinstance(step.event, Finished)
        assert step.event.survivors == (0, 1, 2, 4)
        assert isinstance(stage.server.receive(index, stage.clients[index].abort()).event, ClientAborted)
    stage.server.close_phase()
    assert stage.server.phase is ServerState.ABORTED
