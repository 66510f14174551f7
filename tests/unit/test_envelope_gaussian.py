"""The discrete Gaussians of envelopes: their table, samples of given bytes, and how samples are distributed."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2

from secagg.envelopes.gaussian import ERROR, MAGNITUDE_BITS, SECRET, Gaussian, magnitude_bounds, sample
from secagg.envelopes.randomness import EnvelopeRandomness

BOTH = [SECRET, ERROR]


def exp_of_minus(x: Fraction, bits: int = 400) -> Fraction:
    """exp(-x) to about 2^-bits, relatively: 1 / exp(x), whose series has no cancellation."""
    total, term, j = Fraction(0), Fraction(1), 0
    while term > total / 2**bits:
        total, j = total + term, j + 1
        term = Fraction(int(term * x / j * 2 ** (bits + 64)), 2 ** (bits + 64))
    return 1 / total


def samples(distribution: Gaussian, random: bytes) -> NDArray[np.int32]:
    out = np.empty(len(random) // 16, dtype=np.int32)
    sample(distribution, np.frombuffer(random, dtype=np.uint8), out)
    return out


def by_integers(distribution: Gaussian, random: bytes) -> list[int]:
    bounds, drawn = magnitude_bounds(distribution), []
    for start in range(0, len(random), 16):
        number = int.from_bytes(random[start : start + 16], "little")
        magnitude = sum(number >> 1 >= bound for bound in bounds)
        drawn.append(-magnitude if number & 1 else magnitude)
    return drawn


@pytest.mark.parametrize("distribution", BOTH)
def test_the_table_holds_the_exact_probabilities_to_127_bits(distribution: Gaussian) -> None:
    weights = [exp_of_minus(k * k / (2 * distribution.variance)) for k in range(distribution.bound + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    below = Fraction(0)
    bounds = magnitude_bounds(distribution)
    assert len(bounds) == distribution.bound
    for k, bound in enumerate(bounds):
        below += weights[k] * (2 if k else 1) / total
        assert abs(below * 2**MAGNITUDE_BITS - bound) <= Fraction(1, 2) + Fraction(1, 2**64)


@pytest.mark.parametrize("distribution", BOTH)
def test_the_cut_is_at_eight_standard_deviations(distribution: Gaussian) -> None:
    assert distribution.bound**2 <= 64 * distribution.variance < (distribution.bound + 1) ** 2
    assert ERROR.variance == 2 * SECRET.variance == Fraction(81, 2)


@pytest.mark.parametrize("distribution", BOTH)
def test_samples_around_every_entry_of_the_table(distribution: Gaussian) -> None:
    numbers = {0, 1, 2**127 - 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**126}
    for bound in magnitude_bounds(distribution):
        near = (bound - 2**63, bound - 2, bound - 1, bound, bound + 1, bound + 2**63)
        numbers |= {number for number in near if 0 <= number < 2**127}
    random = b"".join((2 * number + sign).to_bytes(16, "little") for number in sorted(numbers) for sign in (0, 1))
    drawn = samples(distribution, random).tolist()
    assert drawn == by_integers(distribution, random)
    assert (min(drawn), max(drawn)) == (-distribution.bound, distribution.bound)


@given(st.sampled_from(BOTH), st.integers(0, 2100), st.binary(max_size=4))
def test_samples_are_those_of_python_integers(distribution: Gaussian, count: int, label: bytes) -> None:
    random = hashlib.shake_256(label).digest(16 * count)
    assert samples(distribution, random).tolist() == by_integers(distribution, random)


@pytest.mark.parametrize("distribution", BOTH)
def test_samples_are_distributed_as_they_should_be(distribution: Gaussian) -> None:
    """Chi-square over the values that are expected at least five times, and the two tails."""
    count = 200_000
    drawn = samples(distribution, hashlib.shake_256(b"chi-square").digest(16 * count))
    weights = [exp_of_minus(k * k / (2 * distribution.variance)) for k in range(distribution.bound + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    expected = {k: float(count * weights[abs(k)] / total) for k in range(-distribution.bound, distribution.bound + 1)}
    edge = max(k for k in expected if expected[k] >= 5)
    cells = [float((drawn == k).sum()) for k in range(-edge + 1, edge)]
    cells = [float((drawn <= -edge).sum()), *cells, float((drawn >= edge).sum())]
    wanted = [expected[k] for k in range(-edge + 1, edge)]
    tail = sum(value for k, value in expected.items() if k >= edge)
    wanted = [tail, *wanted, tail]
    statistic = sum((got - want) ** 2 / want for got, want in zip(cells, wanted, strict=True))
    assert chi2.sf(statistic, len(cells) - 1) > 0.001


def test_random_bytes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"31 random bytes for 2 samples: .* hand in 32"):
        sample(SECRET, np.zeros(31, dtype=np.uint8), np.empty(2, dtype=np.int32))


def test_the_randomness_of_a_seed_is_one_keystream_without_gaps() -> None:
    seed = hashlib.sha256(b"a seed").digest()
    encryptor = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    stream = encryptor.update(bytes(16 * (4096 + 64 + 1216)))
    randomness = EnvelopeRandomness(seed)
    assert randomness.secret(4096).tolist() == by_integers(SECRET, stream[: 16 * 4096])
    assert randomness.errors(64).tolist() == by_integers(ERROR, stream[16 * 4096 : 16 * 4160])
    assert randomness.errors(1216).tolist() == by_integers(ERROR, stream[16 * 4160 :])
    assert seed.hex() not in repr(randomness)
