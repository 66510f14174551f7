"""Ten million draws of each kind of noise against exact probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secagg.privacy import NoiseKind
from secagg.privacy.noise import Noise
from tests.support.exact_noise import PROBABILITIES, p_value

_DRAWS = 10_000_000


@pytest.mark.parametrize("kind", list(NoiseKind))
@pytest.mark.parametrize("variance", [1, 9, 400, 2049, 250_000])
def test_ten_million_draws(kind: NoiseKind, variance: int) -> None:
    reach = 20 + 9 * math.isqrt(variance)
    values = np.arange(-reach, reach + 1)
    sample = Noise(kind, variance, variance.to_bytes(32, "big")).draw(_DRAWS)
    assert p_value(sample, values, PROBABILITIES[kind](variance, values)) > 1e-4
    # Neighbours in the row are independent: the correlation of so many has a deviation of 0.0003.
    assert abs(float(np.mean(sample[1:].astype(np.float64) * sample[:-1])) / variance) < 0.0016
