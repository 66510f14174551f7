"""Robust means, beside SciPy, NumPy, and a Krum that tries everything."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from secagg import InputError, ParameterError
from secagg.robust import (
    RuleName,
    capped_weights,
    coordinate_median,
    geometric_median,
    mixed_geometric_median,
    most_bad,
    multi_krum,
    robust_mean,
    trimmed_mean,
    within_norm,
)

WEIGHTS = np.array([3.0, 1.0, 2.0, 2.0, 5.0, 1.0, 4.0])


def drawn(groups: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((groups, length))


def repeated(means: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each group as often as its weight says, for libraries that know no weights."""
    return np.repeat(means, weights.astype(int), axis=0)


@pytest.mark.parametrize("groups", [1, 2, 5, 8])
def test_the_median_is_numpys(groups: int) -> None:
    means = drawn(groups, 300)
    assert coordinate_median(means, np.ones(groups)) == pytest.approx(np.median(means, axis=0), abs=1e-15)


def test_a_weighted_median_is_that_of_repeated_groups() -> None:
    means = drawn(7, 300)
    wanted = np.median(repeated(means, WEIGHTS), axis=0)
    assert coordinate_median(means, WEIGHTS) == pytest.approx(wanted, abs=1e-15)
    assert coordinate_median(means, WEIGHTS / 30) == pytest.approx(wanted, abs=1e-15)


@pytest.mark.parametrize(("groups", "bad"), [(5, 0), (5, 2), (10, 3), (50, 12)])
def test_the_trimmed_mean_is_scipys(groups: int, bad: int) -> None:
    means = drawn(groups, 300)
    wanted = stats.trim_mean(means, (bad + 0.5) / groups, axis=0)  # SciPy rounds down
    assert trimmed_mean(means, np.full(groups, 0.1), bad=bad) == pytest.approx(wanted, abs=1e-14)


def test_a_weighted_trimmed_mean_is_that_of_repeated_groups() -> None:
    """The heaviest group has weight 5 of 18, and so much is cut from each end."""
    means = drawn(7, 300)
    wanted = stats.trim_mean(repeated(means, WEIGHTS), 5.5 / 18, axis=0)
    assert trimmed_mean(means, WEIGHTS, bad=1) == pytest.approx(wanted, abs=1e-14)


@pytest.mark.parametrize("weights", [np.ones(7), WEIGHTS], ids=["equal", "weighted"])
def test_the_geometric_median_is_what_an_optimiser_finds(weights: np.ndarray) -> None:
    means = drawn(7, 4)
    means[0] += 1000

    def distances(point: np.ndarray) -> float:
        return float(weights @ np.linalg.norm(means - point, axis=1))

    found = optimize.minimize(distances, np.median(means, axis=0), method="Nelder-Mead", options={"fatol": 1e-13})
    assert geometric_median(means, weights) == pytest.approx(found.x, abs=1e-4)
    assert distances(geometric_median(means, weights)) <= found.fun * (1 + 1e-6)


def test_the_geometric_median_of_groups_that_agree_is_where_they_agree() -> None:
    means = np.vstack([np.tile([1.0, -2.0], (4, 1)), [[1e9, 1e9], [-1e9, 3.0], [5.0, 1e9]]])
    assert geometric_median(means, np.ones(7)) == pytest.approx([1.0, -2.0], abs=1e-3)
    assert geometric_median(means[:4], np.ones(4)) == pytest.approx([1.0, -2.0])


def test_geometric_smoothing_costs_no_more_than_it_says() -> None:
    means = drawn(9, 50)
    exact, smooth = (geometric_median(means, np.ones(9), smoothing=smoothing) for smoothing in (1e-9, 0.5))
    near = np.linalg.norm(means - smooth, axis=1)
    allowed = np.linalg.norm(means - exact, axis=1).mean() + 0.5 * float(np.median(near))
    assert near.mean() <= allowed


def krum_by_hand(means: np.ndarray, weights: np.ndarray, bad: int, keep: int) -> np.ndarray:
    """Scores as Blanchard et al. write them: the squared distances to the n - f - 2 nearest others."""
    groups = len(means)
    scores = []
    for one in range(groups):
        others = sorted(float(np.sum((means[one] - means[other]) ** 2)) for other in range(groups) if other != one)
        scores.append(sum(others[: groups - bad - 2]))
    best = sorted(range(groups), key=lambda group: scores[group])[:keep]
    return np.average(means[best], axis=0, weights=weights[best])


@pytest.mark.parametrize(("bad", "keep"), [(0, 5), (1, 4), (2, 1), (2, 3)])
def test_multi_krum_is_what_trying_everything_gives(bad: int, keep: int) -> None:
    for seed in range(20):
        means = drawn(7, 40, seed)
        means[:2] += 50
        wanted = krum_by_hand(means, WEIGHTS, bad, keep)
        assert multi_krum(means, WEIGHTS, bad=bad, keep=keep) == pytest.approx(wanted, abs=1e-12)
    assert multi_krum(means, WEIGHTS, bad=2) == pytest.approx(krum_by_hand(means, WEIGHTS, 2, 3), abs=1e-12)


def test_distances_are_exact_beside_a_group_far_away() -> None:
    """Inner products about the origin, or about the far group, would lose what tells the near ones apart."""
    means = drawn(7, 40) * 1e-3
    means[0] = 1e7
    assert multi_krum(means, np.ones(7), bad=2) == pytest.approx(krum_by_hand(means, np.ones(7), 2, 3), abs=1e-12)
    without = geometric_median(means[1:], np.ones(6))
    assert np.linalg.norm(geometric_median(means, np.ones(7)) - without) < 0.01


def test_mixing_is_what_trying_everything_gives() -> None:
    """Each mean becomes that of its nearest, and their geometric median is taken: step by step, on the long vectors."""
    for bad in (0, 1, 3):
        means = drawn(7, 40, bad)
        means[:bad] += 50
        mixed = []
        for one in means:
            nearest = sorted(range(7), key=lambda group: float(np.sum((means[group] - one) ** 2)))[: 7 - bad]
            mixed.append(np.average(means[nearest], axis=0, weights=WEIGHTS[nearest]))
        wanted = geometric_median(mixed, np.ones(7))
        assert mixed_geometric_median(means, WEIGHTS, bad=bad) == pytest.approx(wanted, abs=1e-6)


def test_the_plain_mean_takes_weights_as_they_are() -> None:
    means = drawn(7, 40)
    assert robust_mean(means, WEIGHTS, "mean") == pytest.approx(np.average(means, axis=0, weights=WEIGHTS), abs=1e-15)


def test_no_group_counts_for_more_than_the_cap() -> None:
    assert capped_weights([1, 2, 3, 4, 1000]).tolist() == [1, 2, 3, 3, 3]
    assert capped_weights([1, 2, 3, 4, 1000], 2).tolist() == [1, 2, 3, 4, 6]
    means = drawn(5, 40)
    claimed = robust_mean(means, [10, 10, 10, 10, 1e9], "median")
    assert claimed == pytest.approx(np.median(means, axis=0), abs=1e-15)


def test_groups_that_are_too_long_are_left_out() -> None:
    """Seven of ten are long and agree, so that no rule that looks for agreement would do."""
    means = np.vstack([drawn(3, 40), np.full((7, 40), 9.0)])
    means[1] *= 1.5
    assert within_norm(means).tolist() == [True] * 3 + [False] * 7
    assert within_norm(means * 1e-9).tolist() == [True] * 3 + [False] * 7
    assert within_norm(np.zeros((3, 2))).all()
    for rule in ("median", "mixed-geometric-median", coordinate_median):
        found = robust_mean(means, np.arange(1, 11), rule, norm_limit=2.0)
        assert np.array_equal(found, robust_mean(means[:3], [1, 2, 3], rule)), rule
        assert not np.array_equal(found, robust_mean(means, np.arange(1, 11), rule))
    counted = robust_mean(means, np.ones(10), "trimmed-mean", bad=8, norm_limit=2.0)
    assert np.array_equal(counted, robust_mean(means[:3], np.ones(3), "trimmed-mean", bad=1)), "7 of the 8 are out"
    plain = np.average(means, axis=0, weights=np.arange(1, 11))
    assert robust_mean(means, np.arange(1, 11), "mean", norm_limit=2.0) == pytest.approx(plain)


def test_a_rule_by_name_is_the_function_of_that_name() -> None:
    means, capped = drawn(7, 40), capped_weights(WEIGHTS)
    rules = {
        "median": coordinate_median(means, capped),
        "trimmed-mean": trimmed_mean(means, capped, bad=most_bad(capped) // 2),
        "geometric-median": geometric_median(means, capped),
        "multi-krum": multi_krum(means, capped, bad=2),
        "mixed-geometric-median": mixed_geometric_median(means, capped, bad=3),
    }
    assert {"mean", *rules} == set(RuleName)
    for name, wanted in rules.items():
        assert np.array_equal(robust_mean(means, WEIGHTS, name), wanted), name
    for rule in (functools.partial(trimmed_mean, bad=2), functools.partial(multi_krum, bad=1)):
        assert np.array_equal(robust_mean(means, WEIGHTS, rule), rule(means, capped))
    assert np.array_equal(robust_mean(means, WEIGHTS, "trimmed-mean", bad=2), trimmed_mean(means, capped, bad=2))


def test_values_as_large_as_a_clip_can_be() -> None:
    """Their squares do not overflow, and what is small beside them is not lost."""
    means = drawn(7, 40)
    means[:2] = [[1e100], [-1e100]]
    for rule in set(RuleName) - {RuleName.MEAN}:
        assert np.abs(robust_mean(means, np.ones(7), rule)).max() < 10, rule


def test_how_many_bad_groups_a_rule_bears() -> None:
    assert [most_bad(np.ones(groups), "median") for groups in (1, 2, 3, 10, 11)] == [0, 0, 1, 4, 5]
    assert [most_bad(np.ones(groups), "multi-krum") for groups in (1, 3, 4, 5, 11)] == [0, 0, 0, 1, 4]
    assert [most_bad(np.ones(groups), "mixed-geometric-median") for groups in (1, 2, 3, 10)] == [0, 0, 1, 4]
    assert most_bad(np.ones(9), "mean") == 0
    assert most_bad([1, 1, 1, 1, 5], "median") == 0, "the heaviest alone has more than half"
    assert most_bad(np.full(10, 0.1), "median") == 4, "five have half, whatever the sums' rounding"


LARGE = st.floats(-1e12, 1e12)


@given(data=st.data())
def test_fewer_than_the_breakdown_number_cannot_leave_the_honest_range(data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 12))
    weights = np.array(data.draw(st.lists(st.integers(1, 9), min_size=groups, max_size=groups)), float)
    rule = data.draw(st.sampled_from(["median", "trimmed-mean"]))
    capped = capped_weights(weights)
    bad = data.draw(st.integers(0, most_bad(capped, rule)))
    order = data.draw(st.permutations(range(groups)))
    means = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(groups, 3)).round(1)
    for group in order[:bad]:
        means[group] = data.draw(st.lists(LARGE, min_size=3, max_size=3))
    allowed = {"bad": bad} if rule == "trimmed-mean" else {}
    found = robust_mean(means, weights, rule, **allowed)
    honest = means[list(order[bad:])]
    assert (honest.min(axis=0) <= found).all()
    assert (found <= honest.max(axis=0)).all()


@given(data=st.data())
def test_a_minority_moves_the_rules_on_distances_by_a_multiple_of_the_spread(data: st.DataObject) -> None:
    """However far away the bad groups are.

    The geometric median of points, all but a share a < 1/2 of which lie within r of a centre, is within
    (1 - a) / sqrt(1 - 2 a) r of it (Minsker, "Geometric median and robust estimation in Banach spaces", 2015, Lemma
    2.1).  What mixing makes of an honest group is the mean of groups within the honest diameter d of it, so that mixed
    honest groups lie within 3 d of one another.  A group that Multi-Krum keeps has a score of at most that of an honest
    one, (G - f - 2) d^2, and an honest group among its nearest.
    """
    groups = data.draw(st.integers(4, 12))
    rule = data.draw(st.sampled_from(["geometric-median", "multi-krum", "mixed-geometric-median"]))
    bad = data.draw(st.integers(0, most_bad(np.ones(groups), rule)))
    means = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(groups, 3))
    for group in range(bad):
        means[group] = data.draw(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
    honest = means[bad:]
    diameter = max(float(np.linalg.norm(one - other)) for one in honest for other in honest)
    share = bad / groups
    by_median = (1 - share) / (1 - 2 * share) ** 0.5
    allowed = {
        "geometric-median": by_median * diameter,
        "mixed-geometric-median": (3 * by_median + 1) * diameter,
        "multi-krum": ((groups - bad - 2) ** 0.5 + 1) * diameter,
    }[rule]
    options = {} if rule == "geometric-median" else {"bad": bad}
    found = robust_mean(means, np.ones(groups), rule, **options)
    assert np.linalg.norm(found - honest[0]) <= allowed * (1 + 1e-3) + 1e-6


@given(data=st.data())
def test_every_rule_stays_within_the_clip(data: st.DataObject) -> None:
    groups = data.draw(st.integers(3, 10))
    clip = data.draw(st.sampled_from([0.1, 0.3, 1.0]))
    means = np.array(
        data.draw(st.lists(st.lists(st.floats(-clip, clip), min_size=2, max_size=2), min_size=groups, max_size=groups))
    )
    weights = data.draw(st.lists(st.integers(1, 1000), min_size=groups, max_size=groups))
    for rule in RuleName:
        found = robust_mean(means, weights, rule)
        assert (means.min(axis=0) <= found).all(), rule
        assert (found <= means.max(axis=0)).all(), rule


def test_long_vectors_are_taken_block_by_block() -> None:
    """Several blocks, the last one shorter; and the input is as before."""
    means = drawn(9, 30_000)
    before = means.copy()
    assert robust_mean(means, np.ones(9), "median") == pytest.approx(np.median(means, axis=0), abs=1e-15)
    wanted = stats.trim_mean(means, 2.5 / 9, axis=0)
    assert robust_mean(means, np.ones(9), bad=2) == pytest.approx(wanted, abs=1e-14)
    assert np.array_equal(means, before)


@pytest.mark.parametrize(
    ("means", "counts", "options", "said"),
    [
        ([1.0, 2.0], [1], {}, r"shape \(2,\): they must have two dimensions"),
        (np.zeros((0, 3)), [], {}, "at least one of each"),
        ([[1.0], [np.nan]], [1, 1], {}, "the mean of group 1 holds a value that is not finite"),
        ([[1.0], [2.0], [-np.inf]], [1, 1, 1], {}, "the mean of group 2 holds a value that is not finite"),
        ([[1.0], [-2e150]], [1, 1], {}, r"the mean of group 1 holds .* or beyond 1e\+150"),
        ([[1.0], [2.0]], [1], {}, r"the weights have shape \(1,\), and there are 2 group means"),
        ([[1.0], [2.0]], [1, 0], {}, "the weight of group 1 is 0"),
        ([[1.0], [2.0]], [1, np.inf], {}, "the weight of group 1 is inf"),
        ([[1.0]], [1], {"rule": "krum"}, "the rule is 'krum': it must be one of 'mean', 'median', 'trimmed-mean'"),
        ([[1.0]] * 4, [1] * 4, {"bad": 2}, "bad is 2: with 4 groups .* can bear 0 to 1"),
        ([[1.0]] * 4, [1] * 4, {"bad": -1}, "bad is -1"),
        ([[1.0]] * 5, [1] * 5, {"rule": "multi-krum", "bad": 2}, "can bear 0 to 1"),
        ([[1.0]] * 2, [1] * 2, {"rule": "multi-krum"}, "there are 2 groups: multi-krum needs at least 3"),
        ([[1.0]], [1], {"rule": "median", "bad": 0}, "the rule 'median' takes no number of bad groups"),
        ([[1.0]], [1], {"weight_cap": 0.5}, "weight_cap is 0.5: it must be at least 1"),
        ([[1.0]], [1], {"weight_cap": np.nan}, "weight_cap is nan"),
        ([[1.0]], [1], {"norm_limit": 0.5}, "the norm limit is 0.5: it must be at least 1"),
        ([[1.0, 2.0]], [1], {"rule": lambda means, weights: means}, r"gave an array of shape \(1, 2\)"),
    ],
)
def test_bad_input_is_named(means: object, counts: object, options: dict[str, object], said: str) -> None:
    with pytest.raises((InputError, ParameterError), match=said):
        robust_mean(means, counts, **options)


def test_krum_and_smoothing_have_bounds() -> None:
    with pytest.raises(ParameterError, match="keep is 4: it must be 1 to 3"):
        multi_krum(drawn(7, 2), np.ones(7), bad=2, keep=4)
    with pytest.raises(ParameterError, match="smoothing is 0"):
        geometric_median(drawn(7, 2), np.ones(7), smoothing=0)
