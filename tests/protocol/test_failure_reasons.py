"""What a failed round says of itself: how many did what was asked, what became of the others, and what is needed."""

from __future__ import annotations

from typing import Any

import pytest

from secagg import ErrorCode, Server, ThreatModel
from tests.support import wire
from tests.support.staging import MODELS, Stage, active, semi_honest


def reason(server: Server) -> str:
    assert server.failure is not None
    return server.failure.reason


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_two_advertised_and_one_was_turned_away(threat_model: ThreatModel) -> None:
    stage = Stage(MODELS[threat_model](3, gamma=0.0, delta=0.0))
    answers = stage.answers()
    stage.deliver({0: answers[0], 1: answers[1]})
    stage.server.receive(2, wire.write([*wire.read(answers[2])[:3], bytes(32), *wire.read(answers[2])[4:]]))
    assert stage.server.blame[0].code is ErrorCode.KEY_UNUSABLE
    stage.server.close_phase()
    assert reason(stage.server) == (
        "2 clients advertised their keys (1 was refused); 2 of them were left out, with fewer than 2 neighbours that "
        "did the same; 0 could go on; 3 are needed"
    )


def test_one_of_each_kind_in_share() -> None:
    """One does not answer, one is refused, one leaves: nobody is counted twice."""
    stage = Stage(semi_honest(7, delta=1 / 7, threshold=3, min_survivors=6)).play("SHARE")
    answers = stage.answers()
    stage.deliver({index: answers[index] for index in (0, 1, 2, 3)})
    stage.server.receive(4, answers[4][:-1])
    stage.server.receive(5, stage.clients[5].abort())
    stage.server.close_phase()
    assert reason(stage.server) == (
        "4 clients dealt their shares (1 was refused, 1 left, 1 did not answer); 6 are needed"
    )


def test_who_was_refused_and_then_answered_has_answered() -> None:
    stage = Stage(semi_honest(7, delta=1 / 7, threshold=3, min_survivors=6)).play("SHARE")
    answers = stage.answers()
    stage.server.receive(0, answers[0][:-1])
    stage.deliver({index: answers[index] for index in (0, 1)})
    stage.server.close_phase()
    assert reason(stage.server).startswith("2 clients dealt their shares (5 did not answer)")


@pytest.mark.parametrize(
    ("phase", "answering", "told"),
    [
        ("ADVERTISE", 0, "0 clients advertised their keys (7 did not answer); 6 are needed"),
        ("ADVERTISE", 1, "1 client advertised its keys (6 did not answer); 1 of them was left out, with fewer than"),
        ("SHARE", 5, "5 clients dealt their shares (2 did not answer); 6 are needed"),
        ("MASK", 1, "1 client sent its masked vector (6 did not answer); 6 are needed"),
        ("MASK", 5, "5 clients sent their masked vectors (2 did not answer); 6 are needed"),
        ("CONFIRM", 3, "3 clients confirmed the survivors (4 did not answer); 4 are needed"),
        ("UNMASK", 3, "3 clients returned their shares (4 did not answer)"),
    ],
)
def test_too_few_in_each_phase(phase: str, answering: int, told: str) -> None:
    stage = Stage(active(7, delta=1 / 7, min_survivors=6)).play(phase)
    answers = stage.answers()
    stage.deliver({index: answers[index] for index in range(answering)})
    stage.server.close_phase()
    assert told in reason(stage.server)


def test_shares_that_do_not_match_are_counted() -> None:
    stage = Stage(semi_honest(4)).play("UNMASK")
    answers = stage.answers()
    values: list[Any] = wire.read(answers[3])
    answers[3] = wire.write([*values[:3], bytes(len(values[3]))])
    stage.deliver({index: answers[index] for index in (0, 3)})
    stage.server.close_phase()
    assert reason(stage.server) == (
        "0 good shares of client 0's secret came back, and 1 that does not match; 2 are needed; "
        "2 clients returned their shares (2 did not answer)"
    )


@pytest.mark.parametrize(
    ("seed", "told"),
    [
        (
            0,
            "the secrets of 4 clients, client 15 among them, could not be reconstructed, because fewer than 2 of their",
        ),
        (23, "the secret of client 12 could not be reconstructed, because fewer than 2 of its neighbours are"),
    ],
)
def test_vectors_enough_but_not_around_everybody(seed: int, told: str) -> None:
    """On a sparse graph."""
    config = semi_honest(20, neighbours=4, threshold=2, delta=0.1, sigma=1, eta=1, min_survivors=8, length=3)
    stage = Stage(config, seed).play("MASK")
    stage.collect(silent=range(9))
    stage.server.close_phase()
    assert reason(stage.server).startswith(f"11 clients sent their masked vectors (9 did not answer); {told}")


@pytest.mark.parametrize("enough", [True, False])
def test_who_does_not_confirm_is_dropped_when_the_phase_closes(enough: bool) -> None:
    stage = Stage(active(7, delta=2 / 7)).play("CONFIRM")
    silent = (1, 4) if enough else (1, 2, 3, 4)
    stage.collect(silent=silent)
    assert stage.server.dropped == {}
    stage.server.close_phase()
    assert stage.server.dropped == {"CONFIRM": silent}
    assert (stage.server.failure is None) == enough
    if enough:
        assert stage.finish().dropped == {"CONFIRM": silent}


def test_who_confirms_and_leaves_is_lost_in_the_next_phase() -> None:
    stage = Stage(active(7, delta=2 / 7)).play("CONFIRM")
    stage.collect()
    stage.server.receive(3, stage.clients[3].abort())
    stage.server.close_phase()
    assert stage.server.dropped == {}
    result = stage.finish()
    assert result.dropped == {"UNMASK": (3,)}
    assert result.included == tuple(range(7))
