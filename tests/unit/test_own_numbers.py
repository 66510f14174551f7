"""What an app reports, as numbers that can be summed: compared with exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.adapters.own_numbers import bounded, number_in, weight_in_steps, weights_in_steps
from secagg.encoding.limits import LARGEST_CLIP, LARGEST_WEIGHT
from secagg.errors import InputError

REPORTED = {"loss": 0.5, "text": "1", "list": [1.0], "nan": math.nan, "infinity": -math.inf}
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(value=FLOATS | st.integers(-(2**64), 2**64), scale=st.integers(1, 10**9))
def test_a_weight_is_rounded_and_none_above_zero_counts_nothing(value: float, scale: int) -> None:
    exact = max(Fraction(0), Fraction(value)) * scale
    steps = weight_in_steps(value, scale)
    if exact >= LARGEST_WEIGHT:
        assert steps >= LARGEST_WEIGHT, "the encoder reduces it to the largest"
    elif exact == 0:
        assert steps == 0
    else:  # the product of two float64 is off by 2^-53 of it at most
        assert steps >= 1
        assert steps == 1 or abs(steps - exact) <= Fraction(1, 2) + exact / 2**53


@given(values=st.lists(FLOATS, max_size=5), scale=st.integers(1, 10**9))
def test_weights_of_classes_follow_the_rule_of_one_weight(values: list[float], scale: int) -> None:
    assert weights_in_steps(values, scale).tolist() == [weight_in_steps(value, scale) for value in values]


@given(value=FLOATS | st.integers() | st.integers(-(10**400), 10**400))
def test_a_number_stays_what_it_is_within_every_clip(value: float) -> None:
    found = bounded(value)
    assert np.asarray(found).dtype.kind in "iuf"
    assert abs(found) <= LARGEST_CLIP
    clipped = max(-LARGEST_CLIP, min(value, LARGEST_CLIP))
    assert found == clipped or (abs(clipped) > 2**63 and found == float(clipped))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("accuracy", "the reply lacks the number 'accuracy'; it has 'loss', 'text', 'list', 'nan', 'infinity'"),
        ("text", "the reply has '1' for 'text'; it must be one number"),
        ("list", "the reply has [1.0] for 'list'; it must be one number"),
        ("nan", "the reply has nan for 'nan'; what is summed must be finite"),
        ("infinity", "the reply has -inf for 'infinity'; what is summed must be finite"),
    ],
)
def test_what_cannot_be_summed_is_named(name: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        number_in(REPORTED, name, "the reply")
    assert str(refused.value) == told
    assert number_in(REPORTED, "loss", "the reply") == 0.5


def test_nothing_that_is_reported_is_named_as_nothing() -> None:
    empty: dict[str, Any] = {}
    with pytest.raises(InputError, match="it has none"):
        number_in(empty, "loss", "the reply")
