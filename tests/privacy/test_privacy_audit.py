"""Sums of what clients submit never show more than the stated epsilon, and do show it when the noise is halved."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from secagg import RoundConfig
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder
from secagg.privacy.calibration import Promise
from secagg.privacy.parameters import CANONICAL_ROUNDING_FAILURE
from secagg.simulation import SeededRandomness
from tests.support.privacy_audit import Decode, Encode, FloatArray, observe, shown_epsilon

DELTA = 0.05
RUNS = 4000
UPDATE = np.array([1.5, -1.5, 0.3, 2.1])
"""Longer than the clip, so that a shortened one has all of the norm that is allowed."""
MECHANISM = Mechanism(
    noise=NoiseKind.SKELLAM, clip=1.0, scale=Fraction(64), bits=16, rounding_failure=0.0, variance=4400, length=4
)
"""A noise multiplier of about 1 when one honest client is in the sum."""


def in_numpy(mechanism: Mechanism, seed: int) -> tuple[Encode, Decode]:
    """The mechanism as the papers have it, with NumPy's noise."""
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


def in_the_library(mechanism: Mechanism, seed: int) -> tuple[Encode, Decode]:
    """What a client of a round does, and what its server makes of the sum."""
    encoder = PrivateEncoder(np.zeros(4), mechanism, randomness=SeededRandomness(seed, "audit"))
    config = RoundConfig.for_cohort(3, encoder.length, modulus=encoder.modulus_for(3), context=encoder.layout_digest())
    encoder = encoder.for_round(config)
    return encoder.encode, lambda total: np.asarray(encoder.decode_sum(total, 1).mean)


def epsilons(make: object, mechanism: Mechanism, honest: int) -> tuple[float, float, float]:
    """What is stated, what sums show, and what they show with half the standard deviation of the noise."""
    halved = replace(mechanism, variance=mechanism.variance // 4)
    shown = [
        shown_epsilon(*observe(*make(one, seed), UPDATE, honest, RUNS), DELTA)  # type: ignore[operator]
        for seed, one in enumerate((mechanism, halved))
    ]
    return Promise(mechanism=mechanism, honest=honest, delta=DELTA).epsilon, shown[0], shown[1]


@pytest.mark.parametrize("honest", [1, 3])
def test_the_papers_mechanism_shows_no_more_than_is_stated(honest: int) -> None:
    """Whatever the number of honest clients that the noise is shared by."""
    shared = replace(MECHANISM, variance=MECHANISM.variance // honest)
    stated, shown, halved = epsilons(in_numpy, shared, honest)
    assert 0.3 * stated < shown <= stated < halved


@pytest.mark.parametrize(
    "mechanism",
    [
        MECHANISM,
        replace(MECHANISM, noise=NoiseKind.DISCRETE_GAUSSIAN, rounding_failure=CANONICAL_ROUNDING_FAILURE),
    ],
    ids=lambda mechanism: mechanism.noise,
)
def test_the_library_s_encoder_shows_no_more_than_is_stated(mechanism: Mechanism) -> None:
    """Rotation, conditional rounding and samplers included: the sum of one honest client's vector is the worst one."""
    stated, shown, halved = epsilons(in_the_library, mechanism, 1)
    assert 0.3 * stated < shown <= stated < halved
