"""The discrete Gaussians of envelopes: their table, samples of given bytes, and how samples are distributed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from decimal import Decimal, localcontext
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


# The figures of section 11.3 of specs/secagg-v2.md.

_UNITS = 2**240


def probabilities(distribution: Gaussian) -> dict[int, Fraction]:
    """Of every value, as the table has them."""
    steps = np.diff([0, *magnitude_bounds(distribution), 2**MAGNITUDE_BITS])
    each = [Fraction(int(step), 2**MAGNITUDE_BITS) for step in steps]
    return {value: each[abs(value)] / (2 if value else 1) for value in range(-len(each) + 1, len(each))}


def around(centre: Fraction, variance: Fraction, values: Iterable[int]) -> dict[int, Fraction]:
    """The discrete Gaussian on these values."""
    with localcontext(prec=90):
        exponents = {value: (value - centre) ** 2 / (2 * variance) for value in values}
        weights = {value: (-Decimal(x.numerator) / x.denominator).exp() for value, x in exponents.items()}
        total = sum(weights.values())
        return {value: Fraction(int(weight / total * _UNITS), _UNITS) for value, weight in weights.items()}


def distance(one: dict[int, Fraction], other: dict[int, Fraction]) -> Fraction:
    """The statistical distance."""
    values = {*one, *other}
    return sum(abs(one.get(value, Fraction(0)) - other.get(value, Fraction(0))) for value in values) / 2


@pytest.mark.parametrize("distribution", BOTH)
@pytest.mark.parametrize("hint", [0, 1, -9, 40])
def test_one_of_two_given_their_sum_is_a_gaussian_of_half_the_variance(distribution: Gaussian, hint: int) -> None:
    """The lemma, with the cut: around h / 2, within bound - |h| / 2 of it."""
    each = probabilities(distribution)
    both = {value: each[value] * each[hint - value] for value in each if hint - value in each}
    total = sum(both.values())
    given_the_sum = {value: weight / total for value, weight in both.items()}
    assert set(both) == {v for v in each if abs(v - Fraction(hint, 2)) <= distribution.bound - Fraction(abs(hint), 2)}
    assert distance(given_the_sum, around(Fraction(hint, 2), distribution.variance / 2, both)) < Fraction(1, 2**90)


@pytest.mark.parametrize(("distribution", "bits"), [(SECRET, 71), (ERROR, 143)])
@pytest.mark.parametrize("centre", [Fraction(0), Fraction(1, 2)])
def test_a_centre_is_taken_away_by_a_gaussian_around_it(distribution: Gaussian, bits: int, centre: Fraction) -> None:
    """Two of a quarter of the variance, one around the centre, are nearly one of the half around it."""
    quarter, reach = distribution.variance / 4, 4 * distribution.bound // 3
    values = range(-reach, reach + 1)
    standard, added = around(Fraction(0), quarter, values), around(centre, quarter, values)
    left, right = ([int(each[value] * _UNITS) for value in values] for each in (standard, added))
    both = range(-2 * reach, 2 * reach + 1)
    summed = [
        sum(left[i] * right[place - i] for i in range(max(0, place - 2 * reach), min(place, 2 * reach) + 1))
        for place in range(len(both))
    ]
    found = {value: Fraction(part, _UNITS**2) for value, part in zip(both, summed, strict=True)}
    assert distance(found, around(centre, 2 * quarter, both)) < Fraction(1, 2**bits)


@pytest.mark.parametrize("distribution", BOTH)
def test_the_cut_leaves_out_less_than_one_in_2_to_the_48(distribution: Gaussian) -> None:
    values = range(-3 * distribution.bound, 3 * distribution.bound + 1)
    uncut = around(Fraction(0), distribution.variance, values)
    assert sum(weight for value, weight in uncut.items() if abs(value) > distribution.bound) < Fraction(1, 2**48)


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
