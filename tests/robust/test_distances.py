"""Clients' distances from the group means of several rounds: attackers are found where most groups are poisoned."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from secagg.errors import InputError
from secagg.robust import ClientDistances, geometric_median
from tests.support.poisoned_updates import BAD, CLIENTS, SIZE, groups_of, updates_of


def fed(updates, draw, rounds, noise=0.5, seed=None):
    """Distances after rounds over these updates, and the groups of each round with their means."""
    distances, history = ClientDistances(seed=seed), []
    for _ in range(rounds):
        groups = groups_of(draw, len(updates))
        sent = updates + draw.normal(0, noise, updates.shape)
        means = np.array([sent[group].mean(axis=0) for group in groups])
        distances.add(means, groups)
        history.append((means, groups))
    return distances, history


@pytest.mark.parametrize("seed", range(5))
def test_attackers_are_the_farthest_where_most_groups_are_poisoned(seed):
    draw = np.random.default_rng(seed)
    distances, history = fed(updates_of(draw), draw, 8)
    poisoned = [np.mean([not BAD.isdisjoint(group) for group in groups]) for _, groups in history]
    assert np.mean(poisoned) > 0.45
    assert max(poisoned) > 0.5
    ranking = distances.ranking()
    assert {int(one.client) for one in ranking[: len(BAD)]} == BAD
    assert ranking[len(BAD) - 1].distance > 1.1 * ranking[len(BAD)].distance


def test_the_estimates_are_those_of_ridge_regression():
    """scikit-learn fits the same model: centred shares to centred means, each in units of the round's short ones."""
    draw = np.random.default_rng(3)
    distances, history = fed(updates_of(draw, 20), draw, 7)
    shares, wanted = [], []
    for means, groups in history:
        norms = np.linalg.norm(means, axis=1)
        means = means / np.sort(norms)[math.floor(0.2 * (len(norms) - 1))]
        share = np.zeros((len(groups), CLIENTS))
        for row, group in enumerate(groups):
            share[row, group] = 1 / len(group)
        shares.append(share - share.mean(axis=0))
        wanted.append(means - means.mean(axis=0))
    shares, wanted = np.concatenate(shares), np.concatenate(wanted)
    fit = Ridge(alpha=0.1 * (shares**2).sum() / CLIENTS, fit_intercept=False).fit(shares, wanted)
    estimates = fit.coef_.T
    expected = np.linalg.norm(estimates - geometric_median(estimates, np.ones(CLIENTS)), axis=1)
    found = {int(one.client): one for one in distances.ranking()}
    middle = np.median(expected)
    deviation = 1.4826 * np.median(np.abs(expected - middle))
    for client, distance in enumerate(expected):
        assert found[client].distance == pytest.approx(distance / middle, rel=1e-6)
        assert found[client].excess == pytest.approx((distance - middle) / deviation, rel=1e-5, abs=1e-5)
        assert found[client].rounds == 7


def test_a_sketch_keeps_distances():
    draw = np.random.default_rng(5)
    updates = updates_of(draw, 6000)
    long, history = fed(updates, draw, 8, seed=1)
    other = ClientDistances(seed=2)
    for means, groups in history:
        other.add(means, groups)
    found, again = ({one.client: one.distance for one in each.ranking()} for each in (long, other))
    true = np.linalg.norm(updates - np.median(updates, axis=0), axis=1)
    honest = np.median(true[len(BAD) :])
    for client in range(CLIENTS):
        assert found[str(client)] == pytest.approx(again[str(client)], rel=0.2)
    assert {int(one.client) for one in long.ranking()[: len(BAD)]} == BAD
    attackers = np.mean([found[str(client)] for client in BAD])
    assert attackers == pytest.approx(np.mean(true[: len(BAD)]) / honest, rel=0.15)


def test_the_draw_of_the_sketch_is_secret():
    """Whoever knew it could send what vanishes in it, so that two objects must not share one."""
    draw = np.random.default_rng(5)
    updates = updates_of(draw, 3000)
    one, history = fed(updates, draw, 6)
    other = ClientDistances()
    for means, groups in history:
        other.add(means, groups)
    assert one.ranking() != other.ranking()


def test_nobody_is_compared_before_the_means_suffice():
    draw = np.random.default_rng(1)
    updates = updates_of(draw)
    distances = ClientDistances()
    assert distances.ranking() == []
    for rounds in range(1, 5):  # 13 groups each: 52 means for 40 clients after four rounds
        groups = groups_of(draw)
        distances.add(np.array([updates[group].mean(axis=0) for group in groups]), groups)
        assert bool(distances.ranking()) is (rounds == 4)
    newcomer = [[CLIENTS, *group] if row == 0 else group for row, group in enumerate(groups_of(draw))]
    distances.add(np.array([updates[: len(group)].mean(axis=0) for group in newcomer]), newcomer)
    assert str(CLIENTS) not in {one.client for one in distances.ranking()}


def test_old_rounds_are_forgotten():
    """Four rounds for each member of a group: an attacker that has become honest is no longer first."""
    draw = np.random.default_rng(2)
    distances, _ = fed(updates_of(draw), draw, 15)
    assert distances.rounds == math.ceil(4 * CLIENTS / (CLIENTS // SIZE))
    honest = updates_of(draw, bad=frozenset())
    for _ in range(13):
        groups = groups_of(draw)
        distances.add(np.array([honest[group].mean(axis=0) for group in groups]), groups)
    assert not {int(one.client) for one in distances.ranking()[:3]} <= BAD
    assert distances.ranking()[0].distance < 1.75


def test_without_some_the_others_are_compared_among_themselves():
    draw = np.random.default_rng(4)
    distances, _ = fed(updates_of(draw), draw, 8)
    left = [str(client) for client in BAD]
    among, all_ = distances.ranking(without=left), {one.client: one for one in distances.ranking()}
    assert {one.client for one in among} == set(map(str, range(len(BAD), CLIENTS)))
    assert np.median([one.distance for one in among]) == pytest.approx(1.0, abs=0.01)
    higher = [one.excess > all_[one.client].excess for one in among[: len(among) // 4]]
    assert all(higher), "attackers made the middle distance larger, and the deviation wider"


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(1e-6, 1e6))
def test_names_order_and_unit_do_not_matter(seed, factor):
    draw = np.random.default_rng(seed)
    updates = updates_of(draw, 12, clients=12, bad=frozenset({0}))
    one, other = ClientDistances(), ClientDistances()
    names = [f"client {number}" for number in draw.permutation(12)]
    for _ in range(6):
        groups = groups_of(draw, 12)
        means = np.array([updates[group].mean(axis=0) for group in groups])
        one.add(means, groups)
        order = draw.permutation(len(groups))
        other.add(factor * means[order], [groups[at][::-1] for at in order], names)
    found = {entry.client: entry for entry in other.ranking()}
    for entry in one.ranking():
        assert found[names[int(entry.client)]].distance == pytest.approx(entry.distance, rel=1e-6)


def test_updates_that_are_all_equal_or_zero():
    for updates in (np.zeros((12, 5)), np.ones((12, 5))):
        distances, _ = fed(updates, np.random.default_rng(0), 8, noise=0.0)
        assert [one.distance for one in distances.ranking()] == pytest.approx([0.0] * 12, abs=1e-9)


def test_bad_input_is_refused_and_changes_nothing():
    draw = np.random.default_rng(0)
    distances, history = fed(updates_of(draw, 6, clients=12, bad=frozenset()), draw, 5)
    before = distances.ranking()
    means, groups = history[0]
    for bad_means, bad_groups, names, said in [
        (means[:, :5], groups, None, "of earlier rounds 6"),
        (means, groups[:3], None, "there are 4 group means"),
        (means, [[], *groups[1:]], None, "at least one"),
        (means, [[groups[1][0]], *groups[1:]], None, "is in two groups"),
        (means, groups, ["a"] * 5, "there are 5 names"),
        (np.full_like(means, np.nan), groups, None, "not finite"),
    ]:
        with pytest.raises(InputError, match=said):
            distances.add(bad_means, bad_groups, names)
    assert distances.ranking() == before
    assert distances.rounds == 5
