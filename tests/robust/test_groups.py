"""Group sums to means, and a robust mean back to an update."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from secagg import Encoder, InputError
from secagg.robust import as_update, group_means, robust_mean

TEMPLATE = {"weight": np.zeros((2, 3)), "layer": [np.zeros(4), 0.0]}


@dataclass
class Group:
    number: int
    included: tuple[int, ...]
    sum: np.ndarray


def update(seed: int) -> dict[str, object]:
    draw = np.random.default_rng(seed)
    return {"weight": draw.uniform(-1, 1, (2, 3)), "layer": [draw.uniform(-1, 1, 4), draw.uniform(-1, 1)]}


def flat(one: dict[str, object]) -> np.ndarray:
    """In the template's order, by an encoder of its own."""
    return np.concatenate([np.ravel(part) for part in Encoder(TEMPLATE, clip=1).template.flatten(one)])


def summed(encoder: Encoder, members: tuple[int, ...], weight: int = 1) -> np.ndarray:
    return sum(encoder.encode(update(member), weight).astype(np.uint64) for member in members)


def test_means_and_weights_of_groups() -> None:
    encoder = Encoder(TEMPLATE, clip=1.0, bits=24, max_weight=10)
    groups = [Group(3, (0, 4), summed(encoder, (0, 4), 2)), Group(5, (1, 2, 3), summed(encoder, (1, 2, 3), 7))]
    found = group_means(encoder, groups)
    assert (found.numbers, found.members) == ((3, 5), ((0, 4), (1, 2, 3)))
    assert found.weights.tolist() == [4.0, 21.0]
    assert dict(found.refused) == {}
    wanted = [np.mean([flat(update(member)) for member in group.included], axis=0) for group in groups]
    assert found.means == pytest.approx(np.array(wanted), abs=1e-5)


def test_a_sum_that_no_encoder_makes_costs_its_group_alone() -> None:
    encoder = Encoder(TEMPLATE, clip=1.0, max_weight=10)
    broken = summed(encoder, (2, 3))
    broken[-1] = 2 * encoder.input_max + 1
    unweighted = Group(2, (4,), encoder.encode(update(4), 0))
    found = group_means(encoder, [Group(0, (0, 1), summed(encoder, (0, 1))), Group(1, (2, 3), broken), unweighted])
    assert found.numbers == (0,)
    assert set(found.refused) == {1, 2}
    with pytest.raises(InputError, match="no group has a sum that can be decoded"):
        group_means(encoder, [unweighted])
    pair = Group(4, (0, 4), summed(encoder, (0,)) + encoder.encode(update(4), 0))
    assert group_means(encoder, [pair]).members == ((0, 4),)
    with pytest.raises(InputError, match="1 of the 2 clients"):
        group_means(encoder, [pair], min_contributors=2)
    with pytest.raises(InputError, match="there is none"):
        group_means(encoder, [])


def test_a_robust_mean_is_an_update() -> None:
    encoder = Encoder(TEMPLATE, clip=1.0, bits=24)
    groups = [Group(at, (at,), summed(encoder, (at,))) for at in range(5)]
    found = group_means(encoder, groups)
    mean = as_update(encoder, robust_mean(found.means, found.weights, "median"))
    wanted = np.median([flat(update(at)) for at in range(5)], axis=0)
    assert set(mean) == {"weight", "layer"}
    assert flat(mean) == pytest.approx(wanted, abs=1e-5)
    assert mean["weight"].shape == (2, 3)
    with pytest.raises(InputError, match=r"shape \(3,\): the template has 11 elements"):
        as_update(encoder, np.zeros(3))
