"""bfloat16 by hand, beside ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from secagg.encoding.bfloat16 import LARGEST, narrowed, widened

ALL = np.arange(2**16, dtype=np.uint16)


def test_every_value_widens_as_ml_dtypes_widens_it() -> None:
    theirs = ALL.view(ml_dtypes.bfloat16).astype(np.float32)
    ours = widened(ALL)
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32)), "bit for bit, NaNs among them"
    assert np.array_equal(widened(ALL.view("V2")), ours, equal_nan=True)


def test_every_finite_value_comes_back() -> None:
    finite = ALL[np.isfinite(widened(ALL))]
    assert np.array_equal(narrowed(widened(finite)), finite)
    assert float(ml_dtypes.finfo(ml_dtypes.bfloat16).max) == LARGEST


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_go_to_the_nearest_as_in_ml_dtypes(values: list[float]) -> None:
    given_ = np.array(values, np.float32)
    wanted = np.clip(given_, -LARGEST, LARGEST).astype(ml_dtypes.bfloat16)
    assert np.array_equal(narrowed(given_), wanted.view(np.uint16))


def test_ties_go_to_the_even_one_and_numbers_have_no_axis() -> None:
    half_way = np.array([0x3F808000, 0x3F818000], np.uint32).view(np.float32)
    assert narrowed(half_way).tolist() == [0x3F80, 0x3F82]
    assert narrowed(np.array(1.0)).shape == widened(np.array(0x3F80, np.uint16)).shape == ()
    assert narrowed(np.array(np.inf)).tolist() == 0x7F7F
