"""A machine takes one call at a time: a second one is refused while the first is under way, and changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from secagg import AbortCode, Accepted, Client, ClientState, StateError, ThreatModel, UsageError, arithmetic
from secagg.pairwise.server import compute
from secagg.primitives import masking
from secagg.simulation import SeededRandomness
from tests.support.staging import MODELS, Stage, semi_honest

OTHERS: dict[str, Callable[[Client], object]] = {
    "start": Client.start,
    "receive": lambda client: client.receive(b"anything"),
    "submit": lambda client: client.submit([1, 2, 3, 4, 5]),
    "abort": Client.abort,
    "suspend": Client.suspend,
    "close": Client.close,
}


class Held:
    """A function that stops halfway, in a thread of its own, until it is let go."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.inside, self.go_on = function, threading.Event(), threading.Event()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.inside.set()
        assert self.go_on.wait(60)
        return self.function(*arguments, **named)

    def running(self, call: Callable[[], object]) -> threading.Thread:
        """A thread in the middle of the call."""
        thread = threading.Thread(target=call)
        thread.start()
        assert self.inside.wait(60)
        return thread


@pytest.mark.parametrize("name", OTHERS)
def test_a_client_in_the_middle_of_masking(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(semi_honest(4)).play("MASK")
    client = stage.clients[0]
    client.receive(stage.server.outgoing().to(0) or b"")
    steps: list[Any] = []
    held = Held(masking.apply_masks)
    monkeypatch.setattr(masking, "apply_masks", held)
    thread = held.running(lambda: steps.append(client.submit(stage.vector(0))))
    try:
        with pytest.raises(StateError, match=f"{name}: another call of this client is under way"):
            OTHERS[name](client)
    finally:
        held.go_on.set()
        thread.join()
    assert client.state is ClientState.MASKED
    (answer,) = steps[0].outgoing
    monkeypatch.undo()
    assert stage.server.receive(0, answer).event == Accepted(0, "MASK")
    stage.deliver(stage.answers())
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(4))


def test_a_call_from_within_a_call_is_one_too_many() -> None:
    """As when a source of randomness, or an executor, calls back."""
    stage, told = Stage(semi_honest(4)), []

    def draw(length: int) -> bytes:
        with pytest.raises(StateError) as refused:
            client.abort()
        told.append(str(refused.value))
        return SeededRandomness(1, f"client {len(told)}")(length)

    client = stage.join(0, randomness=draw)
    assert client.start()
    assert len(told) == 3
    assert client.state is ClientState.ADVERTISED


def test_after_a_failure_a_client_can_be_called_again() -> None:
    client = Stage(semi_honest(4)).join(0)
    for _ in range(3):
        with pytest.raises(StateError, match="submit: not possible in state"):
            client.submit([1])
        with pytest.raises(UsageError, match="receive"):
            client.receive("text")  # type: ignore[arg-type]
    assert client.start()
    client.close()
    client.close()
    assert client.state is ClientState.ABORTED


def test_a_server_in_the_middle_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(semi_honest(4)).play("MASK")
    answers = stage.answers()
    held = Held(arithmetic.add_packed)
    monkeypatch.setattr("secagg.arithmetic.add_packed", held)
    events: list[Any] = []
    thread = held.running(lambda: events.append(stage.server.receive(0, answers[0]).event))
    try:
        for call in (lambda: stage.server.receive(1, answers[1]), stage.server.close_phase, stage.server.abort):
            with pytest.raises(StateError, match="another call of this server is under way"):
                call()
    finally:
        held.go_on.set()
        thread.join()
    assert events == [Accepted(0, "MASK")]
    stage.deliver({index: answers[index] for index in (1, 2, 3)})
    stage.server.close_phase()
    assert stage.finish().sum.tolist() == stage.plain_sum(range(4))


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_server_that_computes_still_takes_messages(
    threat_model: ThreatModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(MODELS[threat_model](4)).play()
    late = stage.sent["UNMASK"][1]
    held = Held(compute.without_masks)
    monkeypatch.setattr(compute, "without_masks", held)
    results: list[Any] = []
    thread = held.running(lambda: results.append(stage.server.compute()))
    try:
        assert stage.server.receive(1, late).event is not None
        with pytest.raises(StateError, match="another call"):
            stage.server.compute()
    finally:
        held.go_on.set()
        thread.join()
    assert results[0].sum.tolist() == stage.plain_sum(range(4))
    assert stage.server.compute() is results[0]


def test_a_round_that_is_aborted_while_it_computes_has_no_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(semi_honest(4)).play()
    held = Held(compute.without_masks)
    monkeypatch.setattr(compute, "without_masks", held)
    errors: list[StateError] = []

    def run() -> None:
        try:
            stage.server.compute()
        except StateError as error:
            errors.append(error)

    thread = held.running(run)
    stage.server.abort("enough")
    held.go_on.set()
    thread.join()
    assert "aborted while" in str(errors[0])
    assert stage.server.phase == "ABORTED"
    assert stage.server.failure is not None
    assert stage.server.failure.code is AbortCode.CANCELLED
