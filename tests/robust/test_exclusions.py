"""Who is left out, and who is taken back: an option with a price for honest clients, which tests state."""

from __future__ import annotations

import numpy as np
import pytest

from secagg.errors import InputError, ParameterError
from secagg.robust import Exclusions, LeaveOut
from tests.support.poisoned_updates import BAD, CLIENTS, groups_of, updates_of


def trained(exclusions, updates, draw, rounds, noise=0.5):
    """Rounds of those who are still invited; returns who was left out in each."""
    found = []
    for _ in range(rounds):
        staying = exclusions.staying(map(str, range(len(updates))), lambda count: count >= 9)
        invited = [int(name) for name in staying]
        groups = [[invited[at] for at in group] for group in groups_of(draw, len(invited))]
        sent = updates + draw.normal(0, noise, updates.shape)
        means = np.array([sent[group].mean(axis=0) for group in groups])
        found.append([int(one.client) for one in exclusions.add(means, groups)])
    return found


@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_attackers_is_left_out_within_ten_rounds(seed):
    draw = np.random.default_rng(seed)
    exclusions = Exclusions(LeaveOut(at_most=len(BAD)))
    found = trained(exclusions, updates_of(draw), draw, 10)
    assert {client for left_out in found for client in left_out} == BAD
    assert {int(name) for name in exclusions.names} == BAD
    assert not any(found[:3]), "three rounds of 13 groups do not tell 40 clients apart"


def test_honest_clients_of_one_kind_stay():
    """Where nobody attacks and data are alike, nobody is left out in 20 runs of 12 rounds."""
    for seed in range(20):
        draw = np.random.default_rng(seed)
        exclusions = Exclusions(LeaveOut(at_most=8))
        assert not any(trained(exclusions, updates_of(draw, bad=frozenset()), draw, 12))


def test_an_honest_client_with_unusual_data_is_left_out_too():
    """What is estimated is how unusual a client is, and not what it intends."""
    draw = np.random.default_rng(1)
    updates = updates_of(draw, bad=frozenset())
    updates[5] *= 5
    exclusions = Exclusions(LeaveOut(at_most=8))
    trained(exclusions, updates, draw, 10)
    assert exclusions.names == ("5",)


def test_no_more_than_at_most_and_the_farthest_first():
    draw = np.random.default_rng(2)
    updates = updates_of(draw)
    updates[3] *= 2
    exclusions = Exclusions(LeaveOut(at_most=3))
    found = trained(exclusions, updates, draw, 12)
    assert sum(map(len, found)) == 3
    first = next(left_out for left_out in found if left_out)
    assert first[0] == 3
    assert exclusions.names[0] == "3"


def test_level_and_farther_are_both_asked_for():
    for rule, count in ((LeaveOut(at_most=8, level=50.0), 0), (LeaveOut(at_most=8, farther=4.0), 0)):
        draw = np.random.default_rng(0)
        assert sum(map(len, trained(Exclusions(rule), updates_of(draw), draw, 8))) == count


def test_those_who_stood_out_the_least_are_invited_where_too_few_would_be():
    exclusions = Exclusions(LeaveOut(at_most=4, already=("a", "b")))
    assert exclusions.staying("dcba", lambda count: True) == ["d", "c"]
    assert exclusions.staying("dcba", lambda count: count >= 3) in (["d", "c", "b"], ["d", "c", "a"])
    assert exclusions.staying("dcba", lambda count: count >= 4) == ["d", "c", "b", "a"]
    assert exclusions.staying("dcba", lambda count: False) == ["d", "c", "b", "a"]
    draw = np.random.default_rng(3)
    updates = updates_of(draw)
    exclusions = Exclusions(LeaveOut(at_most=8))
    trained(exclusions, updates, draw, 10)
    staying = exclusions.staying(map(str, range(CLIENTS)), lambda count: count >= CLIENTS - 2)
    assert set(map(str, range(CLIENTS))) - set(staying) == set(exclusions.names[:2])


def test_a_bad_round_changes_nothing():
    exclusions = Exclusions(LeaveOut(at_most=1))
    with pytest.raises(InputError, match="pass the members of each"):
        exclusions.add(np.ones((2, 3)), [[0]])
    assert exclusions.distances.rounds == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"at_most": 0}, "at_most is 0"),
        ({"at_most": 2.0}, "at_most is 2.0"),
        ({"at_most": 1, "level": 0.0}, "level is 0.0"),
        ({"at_most": 1, "level": float("nan")}, "level is nan"),
        ({"at_most": 1, "farther": 0.5}, "farther is 0.5"),
        ({"at_most": 1, "already": "abc"}, "already is 'abc'"),
        ({"at_most": 1, "already": (7,)}, "already is"),
        ({"at_most": 1, "already": ("a", "b")}, "already names 2 clients"),
    ],
)
def test_rules_out_of_range(options, said):
    with pytest.raises(ParameterError, match=said):
        LeaveOut(**options)
