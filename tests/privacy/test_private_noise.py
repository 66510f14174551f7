"""The noise: its probabilities, and that every trial ends as the real numbers say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import localcontext
from fractions import Fraction
from itertools import repeat
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reference import private as reference

from secagg.arithmetic.kernels import noise as kernels
from secagg.privacy import NoiseKind, exact, noise
from secagg.privacy.noise import BLOCK, Noise
from tests.support.exact_noise import PROBABILITIES, of_sum, p_value

KINDS = list(NoiseKind)
VARIANCES = [1, 2, 3, 50, 2047, 2048, 2049, 10**6 + 1, 2**40, 2**62]
KEY = bytes(range(32))


def draw(kind: NoiseKind, variance: int, size: int, key: bytes = KEY) -> np.ndarray:
    return Noise(kind, variance, key).draw(size)


def around(variance: int) -> np.ndarray:
    reach = 20 + 9 * math.isqrt(variance)
    return np.arange(-reach, reach + 1)


# The distribution.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", [1, 2, 7, 100, 2047, 5000])
def test_probabilities(kind: NoiseKind, variance: int) -> None:
    values = around(variance)
    assert p_value(draw(kind, variance, 200_000), values, PROBABILITIES[kind](variance, values)) > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_variance_is_noticed(kind: NoiseKind) -> None:
    values = around(106)
    assert p_value(draw(kind, 100, 200_000), values, PROBABILITIES[kind](106, values)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_shares(kind: NoiseKind) -> None:
    total = sum(draw(kind, 3, 100_000, bytes([client] * 32)) for client in range(5))
    one = around(3)
    whole = np.arange(5 * one[0], 5 * one[-1] + 1)
    assert p_value(np.asarray(total), whole, of_sum([PROBABILITIES[kind](3, one)] * 5)) > 1e-4


def test_sums_of_skellam_shares_are_skellam() -> None:
    values = np.arange(-400, 401)
    total = of_sum([PROBABILITIES["skellam"](3, np.arange(-80, 81))] * 5)
    assert np.abs(total - PROBABILITIES["skellam"](15, values)).max() < 1e-13


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", [2**40, 2**62])
def test_large_variances_are_normal(kind: NoiseKind, variance: int) -> None:
    """Where a value is so wide that the difference cannot be seen."""
    sample = draw(kind, variance, 200_000) / math.sqrt(variance)
    edges = np.linspace(-3, 3, 61)
    cumulative = np.array([0.0, *(math.erfc(-edge / math.sqrt(2)) / 2 for edge in edges), 1.0])
    met = np.histogram(sample, np.array([-math.inf, *edges, math.inf]))[0]
    expected = np.diff(cumulative) * len(sample)
    assert float(((met - expected) ** 2 / expected).sum()) < 130  # 61 degrees of freedom: 1 in 10^6


# Each trial.


def certain(kind: NoiseKind, variance: int, w: int, t: int) -> int | None:
    """The verdict of a kernel on one trial."""
    law, judge = noise._sampler(kind, variance)
    unsigned = np.array([w, 0], np.uint64)
    signed = np.array([0, t], np.int64)
    candidates, verdicts = np.empty(1, np.int64), np.empty(1, np.uint8)
    judge(unsigned, signed, candidates, verdicts)
    if verdicts[0] != kernels.UNDECIDED:
        accepted = int(candidates[0]) if verdicts[0] == kernels.ACCEPTED else None
        # Whatever the further bits are: the extremes agree.  A few are enough, or the kernel was too sure of itself.
        ones = 2**64 - 1
        for bits in ((0, 0), (0, ones), (ones, 0), (ones, ones)):
            assert exact.decide(law, w, t, repeat(bits, 4)) == accepted
    return int(verdicts[0])


WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 2**37) | st.integers(2**64 - 2**20, 2**64 - 1)


@given(st.sampled_from(KINDS), st.integers(1, 5000) | st.integers(1, 2**62), WORDS, st.integers(-(2**63), 2**63 - 1))
@example(NoiseKind.SKELLAM, 1, 2**63, -(2**62))
@example(NoiseKind.SKELLAM, 3, 2**64 - 1, 2**63 - 1)
@example(NoiseKind.DISCRETE_GAUSSIAN, 2**62, 2**36, -(2**63))
def test_a_kernel_is_certain_of_what_is_certain(kind: NoiseKind, variance: int, w: int, t: int) -> None:
    certain(kind, variance, w, t)


@given(
    st.sampled_from(KINDS),
    st.integers(1, 5000) | st.integers(2048, 2100) | st.integers(1, 2**62),
    st.floats(-9, 9),
    st.integers(-62, -20),
    st.sampled_from([-1, 1]),
    st.integers(-3, 3),
)
def test_a_kernel_is_certain_of_what_is_nearly_uncertain(
    kind: NoiseKind, variance: int, deviations: float, log_distance: int, side: int, shift: int
) -> None:
    """U^2 nearly f(K), and s T / U nearly at the edge between two values."""
    law, _ = noise._sampler(kind, variance)
    k = round(deviations * math.sqrt(variance))
    exponent = law.exponent(k, 30)
    if exponent is None or exponent > 80:
        return
    w = min(int(Fraction((-exponent / 2).exp()) * 2**64 * (1 + side * Fraction(2) ** log_distance)), 2**64 - 1)
    for half in (-1, 0, 1):
        t = (2 * k + half) * w // (2 * law.scale) + shift
        if -(2**63) <= t < 2**63:
            certain(kind, variance, w, t)


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_any_trial_is_left_to_exact_arithmetic(kind: NoiseKind) -> None:
    words = np.frombuffer(np.random.default_rng(7).bytes(16 * 100_000), np.uint64)
    for variance in VARIANCES[:-1]:
        candidates, verdicts = np.empty(100_000, np.int64), np.empty(100_000, np.uint8)
        noise._sampler(kind, variance)[1](words, words.view(np.int64), candidates, verdicts)
        assert np.count_nonzero(verdicts == kernels.UNDECIDED) <= 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_exact_arithmetic_alone_gives_the_same(kind: NoiseKind, variance: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 40
    expected = draw(kind, variance, size).tolist()

    def undecided(*arguments: Any) -> None:
        arguments[-1][:] = kernels.REJECTED
        arguments[-1][:200] = kernels.UNDECIDED

    for name in ("gaussian_trials", "poisson_trials", "small_poisson_trials"):
        monkeypatch.setattr(kernels, name, undecided)
    met = draw(kind, variance, 30 if kind is NoiseKind.DISCRETE_GAUSSIAN else 5).tolist()
    assert met == expected[: len(met)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_the_reference_draws_the_same(kind: NoiseKind, variance: int) -> None:
    assert draw(kind, variance, 20).tolist() == reference.noise(kind.value, variance, KEY, 20)


def test_further_bits_are_read_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial whose U is 5 / 2^64 at most: K is known after the second 64 bits, and accepted."""
    first = (4).to_bytes(8, "little") + (-20).to_bytes(8, "little", signed=True)
    further = (3 << 62).to_bytes(8, "little") + (1 << 62).to_bytes(8, "little")
    asked = []

    class Keystream:
        def __init__(self, suite: object, key: bytes) -> None: ...

        def read_into(self, out: memoryview, zeros: memoryview, block: int) -> None:
            asked.append((block, len(out)))
            out[:] = np.frombuffer(further if block >> 127 else first * (len(out) // 16), np.uint8)

    monkeypatch.setattr(noise, "Keystream", Keystream)
    monkeypatch.setattr(noise, "_TRIALS", 8)
    variance = 2**40
    scale = exact.DiscreteGaussian(variance).scale
    # U = 4.75 / 2^64 and T = -19.75, up to 2^-64.
    expected = math.floor(Fraction(scale) * Fraction(-79, 4) / Fraction(19, 4) + Fraction(1, 2))
    sampler = Noise(NoiseKind.DISCRETE_GAUSSIAN, variance, KEY)
    assert abs(sampler.draw(3) - expected).max() <= 1
    assert {block for block, _ in asked if block >> 127} >= {2**127 + trial * 2**64 for trial in range(3)}
    assert (0, 16 * 8) in asked


def test_decide_asks_for_bits_until_it_can_tell() -> None:
    """U^2 is f(K) up to 190 bits."""
    law = exact.DiscreteGaussian(50)
    with localcontext(prec=200):
        square = Fraction((-law.exponent(5, 200)).exp())
    u = math.isqrt(int(square * 2**512))  # 256 bits
    t = 5 * (u >> 192) // law.scale
    asked = []

    def bits_of(number: int) -> Iterator[tuple[int, int]]:
        for place in (128, 64, 0):
            asked.append(place)
            yield number >> place & (2**64 - 1), 0

    assert exact.decide(law, u >> 192, t, bits_of(u - 2**60)) == 5
    assert exact.decide(law, u >> 192, t, bits_of(u + 2**60)) is None
    assert asked == [128, 64, 0] * 2


# The scale.


@pytest.mark.parametrize("variance", range(1, 80))
def test_the_scale_covers_a_small_poisson(variance: int) -> None:
    law = exact.CentredPoisson(variance)
    mean, mode = Fraction(variance, 2), variance // 2
    assert law.mode == mode
    density = Fraction(1)
    for k in range(1, 400):
        density *= mean / (mode + k)
        assert density <= 1
        assert (2 * k + 1) ** 2 * density <= law.scale**2
    density = Fraction(1)
    for k in range(1, mode + 1):
        density *= (mode - k + 1) / mean
        assert (2 * k + 1) ** 2 * density <= law.scale**2


@given(st.integers(40, 2**62))
def test_the_scale_covers_a_poisson(variance: int) -> None:
    """The bound that ``CentredPoisson`` derives, in floats with room to spare."""
    m = variance - 0.5
    a = 1 / math.sqrt(m)
    rate = a - a * a / 2
    bound = math.exp(rate - 1 + a * a * m / 2 + 1 / (8 * m)) / rate
    assert bound * (1 + 1e-12) <= exact.CentredPoisson(variance).scale / 2


@given(st.integers(1, 2**62))
def test_the_scale_covers_a_discrete_gaussian(variance: int) -> None:
    assert math.sqrt(2 * variance / math.e) * (1 + 1e-12) + 0.5 <= exact.DiscreteGaussian(variance).scale / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("variance", [50, 2047, 2049, 10**6])
def test_no_more_trials_than_promised(kind: NoiseKind, variance: int) -> None:
    """3 in 4 are accepted of large variances; a scale that were twice too large would halve that."""
    words = np.frombuffer(np.random.default_rng(8).bytes(16 * 100_000), np.uint64)
    candidates, verdicts = np.empty(100_000, np.int64), np.empty(100_000, np.uint8)
    noise._sampler(kind, variance)[1](words, words.view(np.int64), candidates, verdicts)
    accepted = np.count_nonzero(verdicts == kernels.ACCEPTED) / 100_000
    assert accepted > (0.72 if variance > 2000 else 0.5) - 0.02


# The stream.


@pytest.mark.parametrize("kind", KINDS)
def test_values_do_not_depend_on_how_many_are_asked_for_at_once(kind: NoiseKind) -> None:
    whole = draw(kind, 100, 3 * BLOCK)
    pieces = Noise(kind, 100, KEY)
    sizes = [1, 2, 3, 1000, BLOCK, BLOCK + 1]
    assert np.concatenate([pieces.draw(size) for size in sizes]).tolist() == whole[: sum(sizes)].tolist()


def test_another_key_is_other_noise() -> None:
    one, other = (draw(NoiseKind.SKELLAM, 100, 1000, bytes([number] * 32)) for number in (1, 2))
    assert np.count_nonzero(one == other) < 100


def test_the_noise_shows_nothing() -> None:
    assert repr(Noise(NoiseKind.SKELLAM, 100, KEY)) == "Noise()"


@pytest.mark.parametrize(("number", "wrapped"), [(5, 5), (-5, -5), (2**63, -(2**63)), (-(2**63) - 1, 2**63 - 1)])
def test_values_beyond_64_bits_wrap(number: int, wrapped: int) -> None:
    assert exact.wrapped(number) == wrapped
