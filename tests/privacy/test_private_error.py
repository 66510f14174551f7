"""A private sum is as near to the truth as the central Gaussian mechanism's of the same epsilon."""

from __future__ import annotations

import numpy as np
import pytest

from secagg import RoundConfig
from secagg.privacy import NoiseKind, PrivateEncoder
from secagg.privacy.calibration import calibrate
from secagg.simulation import SeededRandomness

CLIENTS = 30
LENGTH = 2**16


@pytest.mark.parametrize("noise", list(NoiseKind))
def test_the_error_at_twenty_bits_is_the_central_mechanism_s(noise: NoiseKind) -> None:
    """Within 2%, all of encoding and decoding included; 2^16 coordinates tell a variance to about 0.6%."""
    found = calibrate(
        epsilon=3.0, delta=1e-6, length=LENGTH, clip=2.0, clients=CLIENTS, honest=CLIENTS, noise=noise, bits=20
    )
    encoder = PrivateEncoder(np.zeros(LENGTH), found.mechanism, randomness=SeededRandomness(1, "error"))
    encoder = encoder.for_round(RoundConfig.for_cohort(CLIENTS, LENGTH, modulus=encoder.modulus_for(CLIENTS)))
    generator = np.random.default_rng(1)
    true, total = np.zeros(LENGTH), np.zeros(LENGTH, np.uint64)
    for _ in range(CLIENTS):
        update = generator.normal(size=LENGTH)
        update *= 2.0 / np.linalg.norm(update)
        true += update
        total += encoder.encode(update)
    mean = encoder.decode_sum(total % 2**20, CLIENTS)
    error = float(np.mean((mean.mean * CLIENTS - true) ** 2))
    assert error == pytest.approx((found.central_multiplier * 2.0) ** 2, rel=0.02)
    assert mean.wrapped_share <= 2 * found.wrapped_share
