"""Batches: rounds that invite whole ones, and lose nobody, are never refused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.differencing import Classes, batches_of, sample
from secagg.errors import ParameterError

MEMBERS = [f"m{number:03}" for number in range(43)]


@given(st.integers(2, 9), st.integers(1, 12), st.randoms(use_true_random=False))
def test_whole_batches_are_never_refused(size: int, rounds: int, draw: random.Random) -> None:
    """Whoever is away, and however many batches a round takes."""
    classes = Classes()
    for _ in range(rounds):
        here = draw.sample(MEMBERS, draw.randint(30, len(MEMBERS)))
        batches = batches_of(classes, here, size)
        assert all(size <= len(batch) < 2 * size for batch in batches)
        assert set().union(*batches) <= set(here)
        assert sum(map(len, batches)) == len(set().union(*batches)), "a member is in two batches"
        if not batches:
            continue
        chosen = sample(batches, draw.randint(1, len(batches)), draw)
        assert not classes.why_not([chosen], size)
        classes.add([chosen])


def test_batches_stay_the_same_while_nobody_is_lost() -> None:
    draw = random.Random(7)
    classes = Classes()
    first = set(batches_of(classes, MEMBERS, 5))
    for _ in range(20):
        batches = batches_of(classes, MEMBERS, 5)
        assert set(batches) == first
        classes.add([sample(batches, 3, draw)])
    assert all(len(members) >= 5 for members in classes.members())


def test_who_is_lost_at_first_comes_with_others_later() -> None:
    classes = Classes()
    batch = batches_of(classes, MEMBERS[:6], 6)[0]
    classes.add([batch[1:]])
    assert batches_of(classes, MEMBERS[:6], 6) == (batch[1:],)
    later = batches_of(classes, MEMBERS[:11], 6)
    assert sorted(map(len, later)) == [5, 6]
    assert any(batch[0] in one for one in later)


def test_a_batch_with_somebody_away_is_left_out() -> None:
    classes = Classes.after([MEMBERS[:10]])
    one, other = batches_of(classes, MEMBERS[:10], 5)
    assert batches_of(classes, set(MEMBERS[:10]) - {one[0]}, 5) == (other,)


@pytest.mark.parametrize("count", [0, 3])
def test_fewer_batches_than_asked_for(count: int) -> None:
    with pytest.raises(ParameterError, match=f"{count} batches are asked for, and 2 can be invited now"):
        sample([("a", "b"), ("c", "d")], count)
    with pytest.raises(ParameterError, match="the size of a batch is 0"):
        batches_of(Classes(), MEMBERS, 0)
