"""bfloat16, and floats of 8 bits and fewer, as ``ml_dtypes`` gives them to NumPy: in and out."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from secagg import Encoder, Exact

EXTENSIONS = ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e3m4", "float8_e4m3b11fnuz", "float6_e2m3fn"]


@pytest.mark.parametrize("name", EXTENSIONS)
def test_narrow_floats_of_ml_dtypes(name: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name))
    largest = float(ml_dtypes.finfo(dtype).max)
    update = {"w": np.array([0.5, -1.0, 2.0], dtype), "edge": np.array([largest], dtype)}
    clip = min(largest * 1.5, 1e100)
    encoder = Encoder(update, 2.0, bits=24, clips={"edge": clip})
    vectors = [encoder.encode(update).astype(np.uint64) for _ in range(3)]
    mean = encoder.decode_sum(np.sum(vectors, axis=0, dtype=np.uint64), 3, "template").mean
    assert mean["w"].dtype == mean["edge"].dtype == dtype
    np.testing.assert_array_equal(mean["w"].astype(float), update["w"].astype(float))
    assert float(mean["edge"][0]) == pytest.approx(largest, rel=0.3)  # finite, although the clip is beyond the type


@pytest.mark.parametrize("name", ["bfloat16", "float8_e5m2"])
def test_narrow_floats_keep_their_fraction_in_an_exact_array(name: str) -> None:
    """They were cut to whole numbers: NumPy says that they are no floats."""
    values = np.array([0.5, 1.5, -0.25], getattr(ml_dtypes, name))
    encoder = Encoder(values, 1.0, exact={"*": Exact(-5, 5, 2)})
    assert encoder.decode_sum(encoder.encode(values), 1).totals["update"].tolist() == [50, 150, -25]
