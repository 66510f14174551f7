"""MASK taken by several threads: every client hears what one thread would tell it, and the sum is the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import RoundConfig
from secagg.adapters.net.shared_intake import SharedIntake
from secagg.events import ServerEvent
from tests.support.staging import Stage, active, semi_honest

ENVELOPES = {"version": 2, "carrier": "lattice", "length": 70, "modulus": None, "input_max": 1000}
KINDS: dict[str, Callable[[], RoundConfig]] = {
    "semi_honest": lambda: semi_honest(6, delta=0.5),
    "active": lambda: active(6, delta=0.3),
    "envelopes": lambda: semi_honest(6, delta=0.5, **ENVELOPES),
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda message: message,
    "another version": lambda message: bytes([message[0] ^ 1, *message[1:]]),
    "too short": lambda message: message[:-1],
    "too long": lambda message: message + b"\0",
    "no message": lambda message: b"",
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6)
@given(st.data())
def test_threads_say_and_sum_what_the_server_alone_would(kind: str, data: st.DataObject) -> None:
    """Any messages in any batches, some damaged, some sent twice in one batch."""
    alone, shared = Stage(KINDS[kind]()).play("MASK"), Stage(KINDS[kind]()).play("MASK")
    answers = alone.answers()
    assert answers == shared.answers()
    one = st.tuples(st.sampled_from(sorted(answers)), st.sampled_from(sorted(DAMAGES)))
    batches = data.draw(st.lists(st.lists(one, max_size=8), max_size=4), label="batches")
    whole = [(sender, "none") for sender in answers]
    intake = SharedIntake(data.draw(st.integers(2, 3), label="threads"))
    try:
        for batch in [*batches, whole]:
            news = [(sender, DAMAGES[damage](answers[sender])) for sender, damage in batch]
            expected: list[ServerEvent] = [alone.server.receive(*message).event for message in news]
            assert intake.receive(shared.server, news) == expected
        intake.merge(shared.server)
    finally:
        intake.close()
    assert not shared.server.missing
    assert shared.server.blame == alone.server.blame
    alone.close()
    shared.close()
    result = shared.finish()
    assert result.included == tuple(sorted(answers))
    assert result.sum.tolist() == shared.plain_sum(result.included)
    assert result.transcript_digest == alone.finish().transcript_digest


def test_a_phase_that_is_closed_early_counts_what_the_threads_have() -> None:
    stage = Stage(semi_honest(6, delta=0.5)).play("MASK")
    answers, intake = stage.answers(), SharedIntake(2)
    intake.receive(stage.server, [(sender, answers[sender]) for sender in (0, 1, 2, 4)])
    assert set(stage.server.missing) == set(answers)  # merged when all are there, or at the close
    intake.merge(stage.server)
    stage.close()
    intake.close()
    result = stage.finish()
    assert result.included == (0, 1, 2, 4)
    assert result.sum.tolist() == stage.plain_sum(result.included)


def test_a_client_that_leaves_while_its_vector_is_in_hand_holds_nobody_up() -> None:
    """Nobody is awaited then, so that the phase need not wait for its deadline."""
    stage = Stage(semi_honest(6, delta=0.5)).play("MASK")
    answers, intake = stage.answers(), SharedIntake(2)
    intake.receive(stage.server, [(0, answers[0]), (1, answers[1])])
    intake.receive(stage.server, [(0, stage.clients[0].abort())])
    intake.receive(stage.server, [(sender, answers[sender]) for sender in (2, 3, 4, 5)])
    intake.close()
    assert not stage.server.missing
    stage.close()
    result = stage.finish()
    assert result.sum.tolist() == stage.plain_sum(result.included)
