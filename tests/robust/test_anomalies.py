"""Groups that stand out, and clients over rounds."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import InputError, ParameterError
from secagg.robust import Scores, report_round

CLIENTS, GROUPS, LENGTH = 40, 13, 30


def drawn_groups(seed: int, number: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng([seed, number]).permutation(CLIENTS), GROUPS)


def add_rounds(scores: Scores, attackers: set[int], rounds: range, seed: int = 0) -> Scores:
    """Clients with a direction in common and noise of their own; attackers turn theirs round."""
    for number in rounds:
        updates = 1.0 + np.random.default_rng([seed, number, 1]).standard_normal((CLIENTS, LENGTH))
        for attacker in attackers:
            updates[attacker] *= -5.0
        groups = drawn_groups(seed, number)
        scores.add(report_round([updates[group].mean(axis=0) for group in groups], groups))
    return scores


def scored(attackers: set[int], rounds: int, seed: int = 0) -> Scores:
    return add_rounds(Scores(), attackers, range(rounds), seed)


def test_a_report_by_hand() -> None:
    means = [[3.0, 4.0], [3.0, 5.0], [3.0, 3.0], [-9.0, 4.0]]
    report = report_round(means, [(0, 1), (2,), (3, 4), (5,)], centre=[3.0, 4.0], numbers=[0, 2, 3, 7])
    assert [group.number for group in report.groups] == [0, 2, 3, 7]
    assert [group.members for group in report.groups] == [(0, 1), (2,), (3, 4), (5,)]
    assert (report.median_distance, report.centre_norm) == (1.0, 5.0)
    assert [group.distance for group in report.groups] == [0.0, 1.0, 1.0, 12.0]
    assert [group.norm for group in report.groups] == pytest.approx([5.0, 34**0.5, 18**0.5, 97**0.5])
    wanted = [1.0, 29 / 5 / 34**0.5, 21 / 5 / 18**0.5, -11 / 5 / 97**0.5]
    assert [group.cosine for group in report.groups] == pytest.approx(wanted)
    assert [group.number for group in report.standing_out] == [7]


def test_the_centre_is_robust_unless_it_is_given() -> None:
    means = np.random.default_rng(0).normal(1.0, 0.1, (9, LENGTH))
    means[:3] = -50
    report = report_round(means, [(at,) for at in range(9)])
    assert {group.number for group in report.standing_out} == {0, 1, 2}
    assert all(group.cosine > 0.9 for group in report.groups[3:])
    assert all(group.cosine < -0.9 for group in report.groups[:3])


def test_groups_that_agree_to_the_last_bit() -> None:
    report = report_round([[1.0, 2.0]] * 4 + [[1.0, 2.5]], [(at,) for at in range(5)], centre=[1.0, 2.0])
    assert [group.distance for group in report.groups] == [0, 0, 0, 0, np.inf]
    assert [group.stands_out for group in report.groups] == [False] * 4 + [True]
    nothing = report_round([[0.0, 0.0]] * 3, [(0,), (1,), (2,)])
    assert [group.cosine for group in nothing.groups] == [0.0] * 3


@pytest.mark.parametrize("seed", range(3))
def test_a_constant_attacker_is_first_after_twenty_rounds(seed: int) -> None:
    ranking = scored({17}, 20, seed).ranking()
    assert ranking[0].client == "17"
    assert ranking[0].excess > 5
    assert len(ranking) == CLIENTS
    assert [one.rounds for one in ranking] == [20] * CLIENTS


def test_several_attackers_are_first() -> None:
    attackers = {3, 17, 25, 39}
    ranking = scored(attackers, 30).ranking()
    assert {one.client for one in ranking[:4]} == {str(attacker) for attacker in attackers}


def test_without_an_attacker_nobody_stands_out() -> None:
    ranking = scored(set(), 30).ranking()
    assert ranking[0].score < 1.5
    assert ranking[0].excess < 5


def test_a_score_is_the_mean_of_the_distances_with_a_cap() -> None:
    scores = Scores()
    for distance in (1.0, 4.0, 1e9):
        means = [[0.0], [1.0], [-1.0], [distance]]
        scores.add(report_round(means, [(0,), (1,), (2,), (3,)], centre=[0.0]), names=["a", "b", "c", "d"])
    top = scores.ranking()[0]
    assert (top.client, top.rounds) == ("d", 3)
    assert top.score == pytest.approx((1 + 4 + 10) / 3)
    assert top.error == pytest.approx(np.std([1, 4, 10], ddof=1) / 3**0.5)
    assert scores.rounds == 3


@settings(max_examples=settings().max_examples // 5)
@given(attackers=st.sets(st.integers(0, CLIENTS - 1), max_size=3), cut=st.integers(0, 4))
def test_a_state_goes_on_where_it_was_kept(attackers: set[int], cut: int) -> None:
    whole, before = scored(attackers, 4), scored(attackers, cut)
    kept = Scores.from_bytes(before.to_bytes())
    assert kept.ranking() == before.ranking()
    assert add_rounds(kept, attackers, range(cut, 4)).to_bytes() == whole.to_bytes()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no state of scores"),
        (b"\xff\xfe", "no state of scores"),
        (b'{"version": 2, "rounds": 0, "clients": {}}', "have version 2"),
        (b'{"version": 1, "rounds": 0, "clients": {}, "more": 1}', "no state of scores"),
        (b'{"version": 1, "rounds": 1, "clients": {"a": [2, 0.0, 0.0]}}', "do not go together"),
        (b'{"version": 1, "rounds": 2, "clients": {"a": [1, 11.0, 1.0]}}', "do not go together"),
        (b'{"version": 1, "rounds": 2, "clients": {"a": [1, -1.0, 1.0]}}', "do not go together"),
    ],
)
def test_a_state_that_is_none_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Scores.from_bytes(data)


def test_a_round_that_does_not_fit_changes_nothing() -> None:
    scores = Scores()
    twice = report_round([[0.0], [1.0]], [(0, 1), (1,)])
    with pytest.raises(InputError, match="client 1 is in two groups"):
        scores.add(twice)
    with pytest.raises(InputError, match="has client 1, and there are 1 name"):
        scores.add(report_round([[0.0], [1.0]], [(0,), (1,)]), names=["a"])
    assert msgspec.json.decode(scores.to_bytes()) == {"version": 1, "rounds": 0, "clients": {}}
    assert scores.ranking() == []


@pytest.mark.parametrize(
    ("means", "members", "options", "said"),
    [
        ([[1.0], [2.0]], [(0,)], {}, "there are 2 group means: pass the members of each"),
        ([[1.0]], [()], {}, "at least one"),
        ([[1.0]], [(0,)], {"numbers": [1, 2]}, "1 group means and 2 numbers"),
        ([[1.0]], [(0,)], {"centre": [1.0, 2.0]}, r"the centre has shape \(2,\): it must be 1 finite"),
        ([[1.0]], [(0,)], {"centre": [np.nan]}, "finite"),
        ([[np.nan]], [(0,)], {}, "not finite"),
    ],
)
def test_bad_input_is_named(means: object, members: object, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        report_round(means, members, **options)
