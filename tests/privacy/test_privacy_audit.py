"""Sums of what clients submit never show more than the stated epsilon, and do show it when the noise is halved."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from audit import Decode, Encode, FloatArray, observe, shown_epsilon

from secagg.privacy.calibration import Promise
from secagg.privacy.parameters import Mechanism, NoiseKind

DELTA = 0.05
RUNS = 4000
HONEST = 2
UPDATE = np.array([1.5, -1.5, 0.3, 2.1])
"""Longer than the clip, so that a shortened one has all of the norm that is allowed."""
MECHANISM = Mechanism(
    noise=NoiseKind.SKELLAM, clip=1.0, scale=Fraction(64), bits=16, rounding_failure=0.0, variance=2200, length=4
)
"""A noise multiplier of about 1 for two honest clients."""
HALVED = replace(MECHANISM, variance=MECHANISM.variance // 4)


def in_numpy(mechanism: Mechanism, seed: int) -> tuple[Encode, Decode]:
    """The mechanism as the papers have it, with NumPy's noise: what the library's own encoder is compared with."""
    generator = np.random.default_rng(seed)
    width, scale = 2**mechanism.bits, float(mechanism.scale)

    def encode(update: FloatArray) -> np.ndarray:
        shortened = update * min(1.0, mechanism.clip / (float(np.linalg.norm(update)) or 1.0))
        rounded = np.floor(shortened * scale + generator.random(len(update))).astype(np.int64)
        positive, negative = generator.poisson(mechanism.variance / 2, (2, len(update)))
        return ((rounded + positive - negative) % width).astype(np.uint64)

    def decode(total: np.ndarray) -> FloatArray:
        wrapped = (total % width).astype(np.int64)
        return np.where(wrapped >= width // 2, wrapped - width, wrapped) / scale

    return encode, decode


@pytest.fixture(scope="module")
def stated() -> float:
    return Promise(mechanism=MECHANISM, honest=HONEST, delta=DELTA).epsilon


def shown(encoder: tuple[Encode, Decode]) -> float:
    return shown_epsilon(*observe(*encoder, UPDATE, HONEST, RUNS), DELTA)


def test_sums_show_no_more_than_is_stated_and_half_the_noise_shows_more(stated: float) -> None:
    assert shown(in_numpy(MECHANISM, 1)) <= stated
    assert shown(in_numpy(HALVED, 2)) > stated
