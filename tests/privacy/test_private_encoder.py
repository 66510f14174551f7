"""The private encoder: what it lets through, what it refuses, what comes back."""

from __future__ import annotations

import inspect
import math
import traceback
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import private as reference
from scipy.linalg import hadamard

from secagg import Encoder, InputError, Modulus, ParameterError, RoundConfig, StateError
from secagg.arithmetic.kernels import private_rounding
from secagg.encoding import UpdateEncoder
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder, perturbation, rotation, wrapping
from secagg.privacy.keys import EncodingKeys
from secagg.simulation import Faults, make_cohort, simulate
from tests.support.private_reference import reference_of

CANONICAL = math.exp(-0.5)


def mechanism(length: int, **changes: Any) -> Mechanism:
    """Little noise and many bits, unless changed."""
    values: dict[str, Any] = {
        "noise": NoiseKind.SKELLAM,
        "clip": 1.0,
        "scale": Fraction(2**16),
        "bits": 28,
        "rounding_failure": CANONICAL,
        "variance": 1,
    }
    return Mechanism(**(values | {"length": length} | changes))


def seeded(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def encoder_of(
    size: int,
    max_weight: int | None = None,
    *,
    context: bytes = b"round 1",
    weight_clip: float | None = None,
    **changes: Any,
) -> PrivateEncoder:
    """An encoder of one round, whose randomness is the same every time."""
    length = size + (max_weight is not None)
    encoder = PrivateEncoder(
        np.zeros(size),
        mechanism(length, **changes),
        max_weight=max_weight,
        weight_clip=weight_clip,
        randomness=seeded(1),
    )
    return encoder.for_round(config_of(encoder, context=context))


def config_of(encoder: PrivateEncoder, **changes: Any) -> Any:
    shape = {
        "clients": 10,
        "length": encoder.length,
        "input_max": encoder.input_max,
        "context": b"",
        "attachment_bytes": 0,
    }
    return SimpleNamespace(**(shape | {"modulus": encoder.modulus_for(10)} | changes))


def total(vectors: list[np.ndarray], encoder: PrivateEncoder) -> np.ndarray:
    return np.sum([vector.astype(np.uint64) for vector in vectors], axis=0, dtype=np.uint64) & np.uint64(
        encoder.input_max
    )


def of_norm(size: int, norm: float, seed: int = 0) -> np.ndarray:
    update = np.random.default_rng(seed).normal(size=size)
    return update * (norm / np.linalg.norm(update))


# The parameters.


class TestMechanism:
    @pytest.mark.parametrize(
        ("clients", "log_dimension", "bits", "failure", "scale", "bound"),
        [
            (100, 16, 16, 0.0, 7845.076, 1.032632),
            (100, 16, 16, CANONICAL, 7845.076, 1.000198),
            (100, 16, 20, 0.0, 125521.238, 1.002039),
            (1000, 20, 18, CANONICAL, 24102.835, 1.000247),
            (1000, 20, 20, CANONICAL, 122828.668, 1.000013),
            (100, 16, 12, CANONICAL, 490.295, 1.034760),
        ],
    )
    def test_the_norm_bound(
        self, clients: int, log_dimension: int, bits: int, failure: float, scale: float, bound: float
    ) -> None:
        met = mechanism(1 << log_dimension, scale=Fraction(scale), bits=bits, rounding_failure=failure)
        assert met.norm_bound == pytest.approx(bound, abs=6e-7)
        assert met.scaled_norm_bound == pytest.approx(bound * scale, rel=1e-6)
        assert met.squared_norm_bound <= met.scaled_norm_bound**2 < met.squared_norm_bound + 1.001

    @given(st.floats(1e-6, 1e6), st.fractions(1, 2**20, max_denominator=1), st.integers(1, 2**12), st.floats(0, 0.9999))
    def test_the_squared_bound_is_the_reference_s(
        self, clip: float, scale: Fraction, length: int, failure: float
    ) -> None:
        changes = {"clip": clip, "scale": scale, "rounding_failure": failure}
        met = mechanism(length, **changes)
        assert met.squared_norm_bound == reference.squared_norm_bound(reference_of(met))

    def test_a_whole_number_is_not_rounded_off(self) -> None:
        assert mechanism(64, scale=100, rounding_failure=0.0).squared_norm_bound == 108**2
        assert mechanism(4, scale=Fraction(1, 2), rounding_failure=0.0).squared_norm_bound == 6  # 2.5 squared

    def test_dimension(self) -> None:
        assert [mechanism(length).dimension for length in (1, 2, 3, 4, 5, 1000, 1024, 1025)] == [
            *(1, 2, 4, 4, 8, 1024, 1024, 2048)
        ]

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"noise": "laplace"}, "noise is 'laplace': must be one of skellam, discrete-gaussian"),
            ({"clip": 0.0}, "clip is 0.0"),
            ({"clip": math.nan}, "clip is nan"),
            ({"scale": Fraction(1, 3)}, "denominator must be a power of two"),
            ({"scale": 0}, "scale is 0"),
            ({"scale": 0.5}, "scale is 0.5: must be a whole number or a Fraction"),
            ({"scale": 2**46 + 1}, "must be at most 2\\^46"),
            ({"bits": 1}, "bits is 1"),
            ({"bits": 33}, "bits is 33"),
            ({"rounding_failure": 1.0}, "rounding_failure is 1.0"),
            ({"variance": 0}, "variance is 0"),
            ({"variance": 0.5}, "variance is 0.5"),
            ({"length": 0}, "length is 0"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], named: str) -> None:
        with pytest.raises(ParameterError, match=named):
            mechanism(**({"length": 4} | changes))


# The rotation.


@pytest.mark.parametrize("log_length", range(11))
def test_the_transform_is_hadamard_s(log_length: int) -> None:
    """Whole numbers come out exact, in any order of the additions."""
    values = np.random.default_rng(log_length).integers(-1000, 1000, 1 << log_length)
    met = values.astype(np.float64)
    rotation.transform(met)
    assert met.tolist() == (hadamard(1 << log_length) @ values).tolist()


@pytest.mark.parametrize("log_length", [*range(9), 13, 15])
def test_the_transform_is_the_reference_s_to_the_bit(log_length: int) -> None:
    values = np.random.default_rng(log_length).normal(size=1 << log_length)
    met = values.copy()
    rotation.transform(met)
    assert met.tolist() == reference.hadamard(values.tolist())


def test_signs_are_those_of_the_context() -> None:
    bits = np.unpackbits(rotation.signs_of(b"a round", 1000), bitorder="little")[:1000]
    assert (1 - 2 * bits.astype(int)).tolist() == reference.signs(b"a round", 1000)
    assert 400 < bits.sum() < 600
    assert rotation.signs_of(b"another", 1000).tobytes() != rotation.signs_of(b"a round", 1000).tobytes()


def test_a_spike_is_spread_over_all_coordinates() -> None:
    encoder = encoder_of(1024)
    update = np.zeros(1024)
    update[17] = 1.0
    steps = wrapping.centred_values(encoder.encode(update), 28)
    assert np.abs(np.abs(steps) - 2**16 / 32).max() < 10


# Rounding.


def rounded_square_of(values: np.ndarray, attempt: int) -> int:
    key = bytes(32)
    return perturbation._rounded_square(values, perturbation._Draws(key, len(values)), attempt)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e8, 2.0**46])
def test_the_square_norm_is_exact(size: float) -> None:
    values = np.random.default_rng(3).normal(size=70_000) * size / 300
    square = sum(
        whole * whole
        for start in range(0, len(values), 1 << 15)
        for whole in rounded_block(values[start : start + (1 << 15)], start, attempt=2)
    )
    assert rounded_square_of(values, 2) == square


def rounded_block(values: np.ndarray, start: int, attempt: int) -> list[int]:
    random = perturbation._Draws(bytes(32), 1 << 15).block(attempt, start, len(values))
    out = np.empty(len(values), np.int64)
    private_rounding.round_and_add(values, random, np.zeros(len(values), np.int64), out)
    whole: list[int] = out.tolist()
    assert max(np.abs(out - values)) < 1
    return whole


def test_rounding_is_unbiased() -> None:
    values = np.full(1 << 16, 0.3)
    values[::2] = -1.75
    out = np.array(
        [value for start in (0, 1 << 15) for value in rounded_block(values[start : start + (1 << 15)], start, 0)]
    )
    assert abs(out[::2].mean() + 1.75) < 0.01
    assert abs(out[1::2].mean() - 0.3) < 0.01


def test_whole_values_do_not_move() -> None:
    values = np.arange(-500.0, 500.0)
    assert rounded_block(values, 0, 0) == values.astype(int).tolist()


def test_a_value_just_below_zero() -> None:
    """Its distance from -1 is a float of 1.0: it always rounds to 0."""
    assert rounded_block(np.full(1000, -1e-300), 0, 0) == [0] * 1000


class TestConditionalRounding:
    VALUES = np.full(256, 0.5)

    def first_good(self, values: np.ndarray, bound: int, failure: float = CANONICAL) -> int:
        limits: Any = SimpleNamespace(squared_norm_bound=bound, rounding_failure=failure)
        return perturbation._first_good(values, perturbation._Draws(bytes(32), len(values)), limits)

    def test_the_first_that_is_short_enough_is_taken(self) -> None:
        squares = [rounded_square_of(self.VALUES, attempt) for attempt in range(perturbation.TRIES)]
        for bound in sorted({*squares, min(squares)}):
            expected = next(attempt for attempt, square in enumerate(squares) if square <= bound)
            assert self.first_good(self.VALUES, bound) == expected

    def test_none_is_short_enough(self) -> None:
        values = np.array([0.5, -0.5, 1.5, -1.5] * 64)
        least = 2 * 64  # rounded towards zero
        assert self.first_good(values, least) == 0
        assert values.tolist() == [0.0, -0.0, 1.0, -1.0] * 64
        assert rounded_square_of(values, 0) == least

    def test_tries_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        monkeypatch.setattr(perturbation, "_rounded_square", lambda *arguments: asked.append(arguments[2]) or 1 << 200)
        self.first_good(self.VALUES.copy(), 5)
        assert asked == list(range(64))

    @pytest.mark.parametrize(("failure", "tried"), [(CANONICAL, 8), (0.0, 1)])
    def test_as_many_are_tried_whatever_the_update(
        self, failure: float, tried: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for good in range(8):
            asked: list[int] = []
            monkeypatch.setattr(
                perturbation,
                "_rounded_square",
                lambda values, draws, attempt, good=good, asked=asked: asked.append(attempt) or int(attempt < good),
            )
            if failure == 0.0 and good:
                continue
            assert self.first_good(self.VALUES.copy(), 0, failure) == good
            assert asked == list(range(tried))

    @given(st.integers(0, 10**6), st.sampled_from([0.0, CANONICAL, 0.999999]), st.floats(0.1, 300), st.integers(0, 8))
    def test_the_bound_holds(self, seed: int, failure: float, clip: float, log_size: int) -> None:
        """Whatever is accepted, or rounded towards zero, is within the bound; also for updates beyond the clip."""
        met = mechanism(1 << log_size, scale=1, clip=clip, rounding_failure=failure)
        values = of_norm(1 << log_size, clip * 10, seed)
        scaling = perturbation.Scaling(met, met.clip, 0.0)
        scaling.rotate(values, len(values), float(np.abs(values).max()), 1.0, rotation.signs_of(b"", len(values)))
        assert float(np.linalg.norm(values)) <= clip
        draws = perturbation._Draws(seed.to_bytes(32, "big"), len(values))
        attempt = perturbation._first_good(values, draws, met)
        assert perturbation._rounded_square(values, draws, attempt) <= met.squared_norm_bound


# Encoding and decoding.


def test_round_trip() -> None:
    """With little noise and many bits the update comes back."""
    encoder = encoder_of(1000, scale=2**22, bits=32)
    update = of_norm(1000, 0.9)
    mean = encoder.decode_sum(encoder.encode(update), 1)
    assert np.abs(mean.mean - update).max() < 1e-5
    assert (mean.weight, mean.count, mean.weight_noise) == (1.0, 1, 0.0)
    assert mean.noise == pytest.approx(2**-22)


def test_shapes_and_types_are_the_template_s() -> None:
    template = {"w": np.zeros((2, 3), np.float32), "b": [np.zeros(()), 0.0], "none": None, "empty": np.zeros((0, 2))}
    encoder = PrivateEncoder(template, mechanism(8))
    encoder = encoder.for_round(config_of(encoder))
    update = {
        "w": np.full((2, 3), 0.1, np.float32),
        "b": [np.array(0.2), -0.3],
        "none": None,
        "empty": np.zeros((0, 2)),
    }
    vector = encoder.encode(update)
    assert (vector.shape, vector.dtype) == ((8,), np.uint32)
    mean = encoder.decode_sum(vector, 1, "template").mean
    assert mean["w"].dtype == np.float32
    assert mean["empty"].shape == (0, 2)
    assert isinstance(mean["b"][1], float)
    assert mean["w"] == pytest.approx(0.1, abs=1e-3)
    assert mean["b"] == [pytest.approx(0.2, abs=1e-3), pytest.approx(-0.3, abs=1e-3)]
    assert encoder.decode_sum(vector, 1).mean["w"].dtype == np.float64


@pytest.mark.parametrize("norm", [0.5, 1.0, 1.0001, 7.0, 1e200, 1.5e308])
def test_a_long_update_is_shortened(norm: float) -> None:
    """One of exactly the clip is, too, by a part in 2^30."""
    encoder = encoder_of(50, scale=2**20)
    update = of_norm(50, 1.0) * norm
    mean = encoder.decode_sum(encoder.encode(update), 1).mean
    assert np.abs(mean - update * (min(1.0, 1 / norm))).max() < 1e-4
    assert encoder.clip_factor == pytest.approx(min(1.0, 1 / norm))
    assert encoder.clipped == ({"update": 50} if norm >= 1 else {})


@pytest.mark.parametrize("update", [np.zeros(5), np.full(5, 5e-324), np.full(5, 1e-200)])
def test_what_is_next_to_nothing(update: np.ndarray) -> None:
    encoder = encoder_of(5, variance=1)
    assert np.abs(encoder.decode_sum(encoder.encode(update), 1).mean).max() < 1e-3
    assert encoder.clip_factor == 1.0


def test_encoding_is_unbiased() -> None:
    """The mean of many encodings is the update, up to the noise of so many."""
    size, runs, variance = 64, 1500, 400
    encoder = encoder_of(size, scale=40, bits=20, variance=variance)
    update = of_norm(size, 0.95)
    mean = encoder.decode_sum(total([encoder.encode(update) for _ in range(runs)], encoder), runs)
    deviation = math.sqrt((variance + 0.25) / runs) / 40
    assert mean.noise == pytest.approx(math.sqrt(variance / runs) / 40)
    errors = (mean.mean - update) / deviation
    assert abs(errors.mean()) < 4 / math.sqrt(size)
    assert 0.6 < errors.var() < 1.5


@pytest.mark.parametrize("kind", list(NoiseKind))
def test_the_noise_is_as_large_as_stated(kind: NoiseKind) -> None:
    encoder = encoder_of(1 << 14, noise=kind, scale=100, bits=20, variance=10_000)
    mean = encoder.decode_sum(encoder.encode(np.zeros(1 << 14)), 1)
    assert mean.noise == 1.0
    assert mean.mean.std() == pytest.approx(1.0, rel=0.03)
    assert mean.spread == pytest.approx(100, rel=0.03)
    assert encoder.standard_error(1) == 1.0
    assert encoder.standard_error(100) == pytest.approx(0.1)


class TestWeights:
    def test_the_weighted_mean_comes_back(self) -> None:
        encoder = encoder_of(100, max_weight=50, scale=2**20, bits=32)
        updates, weights = [of_norm(100, 0.5, seed) for seed in range(4)], [1, 50, 20, 0]
        mean = encoder.decode_sum(total(list(map(encoder.encode, updates, weights)), encoder), 4)
        expected = sum(weight * update for weight, update in zip(weights, updates, strict=True)) / 71
        assert np.abs(mean.mean - expected).max() < 1e-4
        assert mean.weight == pytest.approx(71, rel=1e-3)
        assert mean.weight_noise == pytest.approx(50 * 2 * 2**-20 / 0.25)
        assert mean.noise == pytest.approx(2 * 2**-20 * 50 / mean.weight)
        assert encoder.standard_error(4, 71) == pytest.approx(mean.noise, rel=1e-3)

    def test_the_whole_vector_is_within_the_clip(self) -> None:
        encoder = encoder_of(100, max_weight=50, scale=2**20, bits=32, variance=1)
        vector = encoder.encode(of_norm(100, 1e6), 50)
        steps = np.linalg.norm(wrapping.centred_values(vector, 32)) / 2**20
        assert 0.9999 < steps < 1.0001
        assert encoder.clip**2 + encoder.weight_clip**2 == pytest.approx(1.0, abs=1e-15)
        assert Fraction(encoder.clip) ** 2 + Fraction(encoder.weight_clip) ** 2 <= 1
        assert encoder.decode_sum(vector, 1).weight == pytest.approx(50, rel=1e-3)

    def test_a_weight_that_is_too_large_is_clamped(self) -> None:
        encoder = encoder_of(10, max_weight=5, scale=2**20, bits=32)
        mean = encoder.decode_sum(encoder.encode(np.ones(10), 9), 1)
        assert encoder.weight_clamped
        assert mean.weight == pytest.approx(5, rel=1e-3)
        encoder.encode(np.ones(10), 5)
        assert not encoder.weight_clamped

    def test_a_weight_that_drowns_in_noise_does_not_divide_by_nothing(self) -> None:
        encoder = encoder_of(10, max_weight=5, scale=100, bits=20, variance=10_000)
        for _ in range(20):
            mean = encoder.decode_sum(encoder.encode(np.zeros(10), 0), 1)
            assert mean.weight >= mean.weight_noise == pytest.approx(5 / 0.25)
            assert np.abs(mean.mean).max() < 10

    def test_weight_clip_can_be_chosen(self) -> None:
        assert encoder_of(10, max_weight=5, weight_clip=0.5).clip == pytest.approx(math.sqrt(0.75))

    @pytest.mark.parametrize("weight", [-1, 1.5, True, None, "1"])
    def test_weights_that_are_refused(self, weight: Any) -> None:
        with pytest.raises(InputError, match="weight"):
            encoder_of(10, max_weight=5).encode(np.zeros(10), weight)

    def test_no_weights_without_max_weight(self) -> None:
        with pytest.raises(InputError, match="this encoder has no weights"):
            encoder_of(10).encode(np.zeros(10), 2)


# Wrap-around.


@pytest.mark.parametrize("deviation", [10, 100, 1000, 3000])
def test_the_spread_is_that_before_wrapping(deviation: float) -> None:
    """The interval is 8,192 wide: of the last, half of the values have wrapped."""
    values = np.random.default_rng(1).normal(size=1 << 17) * deviation
    wrapped = (np.rint(values).astype(np.int64) + 4096) % 8192 - 4096
    assert wrapping.spread_of(wrapped.astype(np.float64), 8192.0) == pytest.approx(deviation, rel=0.02)


def test_values_all_over_the_interval_have_no_spread() -> None:
    assert wrapping.spread_of(np.arange(-512.0, 512.0), 1024.0) == math.inf
    assert wrapping.spread_of(np.zeros(5), 1024.0) == 0.0


@pytest.mark.parametrize(("spread", "share"), [(0.0, 0.0), (1 / 3.8906, 1e-4), (math.inf, 1.0)])
def test_the_share_that_wraps(spread: float, share: float) -> None:
    assert wrapping.wrapping_share(spread, 2.0) == pytest.approx(share, rel=1e-3)


def test_a_sum_that_wraps_around_says_so() -> None:
    fits = encoder_of(4096, scale=2**10, bits=8, variance=400)
    vector = fits.encode(of_norm(4096, 1.0))
    assert not fits.decode_sum(vector, 1).wrapped
    wraps = encoder_of(4096, scale=2**10, bits=8, variance=4000)
    mean = wraps.decode_sum(wraps.encode(of_norm(4096, 1.0)), 1)
    assert mean.wrapped
    assert mean.wrapped_share == pytest.approx(math.erfc(128 / math.sqrt(2 * (4000 + 256))), rel=0.1)


@pytest.mark.parametrize("bits", [2, 8, 31, 32])
def test_elements_stand_for_signed_numbers(bits: int) -> None:
    half = 2 ** (bits - 1)
    numbers = [0, 1, half - 1, -half, -1]
    vector = np.array([number % 2**bits for number in numbers], np.uint64)
    for dtype in (np.uint32, np.uint64):
        assert wrapping.centred_values(vector.astype(dtype), bits).tolist() == numbers


# Rounds.


@pytest.mark.parametrize("kind", list(NoiseKind))
@pytest.mark.parametrize("max_weight", [None, 9])
@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_a_round(kind: NoiseKind, max_weight: int | None, threat_model: str) -> None:
    clients, size = 8, 300
    length = PrivateEncoder.coordinates(np.zeros(size), max_weight)
    encoder = PrivateEncoder(
        np.zeros(size), mechanism(length, noise=kind, scale=2**14, bits=24, variance=2500), max_weight=max_weight
    )
    identities, directory, cohort = make_cohort(clients) if threat_model == "active" else ((), None, b"")
    config = RoundConfig.for_cohort(
        clients,
        encoder.length,
        threat_model=threat_model,
        modulus=encoder.modulus_for(clients),
        context=b"round 7" + encoder.layout_digest(),
        cohort=cohort,
    )
    encoder = encoder.for_round(config)
    updates = [of_norm(size, 0.5, seed) for seed in range(clients)]
    weights = [1 if max_weight is None else seed + 1 for seed in range(clients)]
    outcome = simulate(
        list(map(encoder.encode, updates, weights)),
        config,
        faults=Faults({3: "SHARE"}),
        identities=identities,
        directory=directory,
    )
    assert outcome.result is not None
    mean = encoder.decode(outcome.result)
    included = outcome.included
    weight = sum(weights[client] for client in included)
    expected = sum(weights[client] * updates[client] for client in included) / weight
    assert mean.count == len(included)
    assert not mean.wrapped
    assert abs(mean.weight - weight) <= 6 * mean.weight_noise
    assert np.abs(mean.mean - expected).max() < 6 * mean.noise
    assert (mean.mean - expected).std() == pytest.approx(mean.noise, rel=0.25)


# What an encoder refuses.


class TestConfig:
    def test_one_that_fits(self) -> None:
        encoder = encoder_of(10)
        encoder.check_config(config_of(encoder))
        encoder.check_capacity(10**6, Modulus.ring(28))

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"length": 17}, "17 elements, this encoder's 16"),
            ({"modulus": Modulus.ring(29)}, r"modulo 2\^28 and nothing else"),
            ({"modulus": Modulus.ring(27)}, r"modulo 2\^28 and nothing else"),
            ({"modulus": Modulus(2**31 - 1)}, r"modulo 2\^28 and nothing else"),
            ({"input_max": 2**28 - 2}, "input_max is 268435454"),
        ],
    )
    def test_refused(self, changes: dict[str, Any], named: str) -> None:
        encoder = encoder_of(10)
        for check in (encoder.check_config, encoder.for_round):
            with pytest.raises(ParameterError, match=named):
                check(config_of(encoder, **changes))

    def test_an_encoder_of_no_round(self) -> None:
        encoder = PrivateEncoder(np.zeros(10), mechanism(10))
        with pytest.raises(StateError, match="for_round"):
            encoder.encode(np.zeros(10))
        with pytest.raises(StateError, match="for_round"):
            encoder.decode_sum(np.zeros(16, np.uint32), 1)

    def test_rounds_have_rotations_of_their_own(self) -> None:
        one, other = encoder_of(100, context=b"1"), encoder_of(100, context=b"2")
        vector = one.encode(of_norm(100, 1.0))
        assert np.abs(one.decode_sum(vector, 1).mean - of_norm(100, 1.0)).max() < 0.01
        assert np.abs(other.decode_sum(vector, 1).mean - of_norm(100, 1.0)).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mechanism": mechanism(9)}, "is for 9 coordinates, and this layout has 10"),
        ({"max_weight": 5}, "is for 10 coordinates, and this layout has 11"),
        ({"max_weight": 0}, "max_weight is 0"),
        ({"weight_clip": 0.5}, "give both or neither"),
        ({"max_weight": 5, "weight_clip": 1.0, "mechanism": mechanism(11)}, "must be below the mechanism's clip"),
        ({"max_weight": 5, "weight_clip": 0.0, "mechanism": mechanism(11)}, "weight_clip is 0.0"),
        ({"template": np.zeros(0)}, "holds no elements"),
    ],
)
def test_encoders_that_are_refused(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        PrivateEncoder(**({"template": np.zeros(10), "mechanism": mechanism(10)} | arguments))


@pytest.mark.parametrize(
    ("update", "named"),
    [
        (np.array([0.0, math.nan, math.inf]), "1 NaN and 1 infinite values among 3, the first at index \\[1\\]"),
        (np.zeros(4), "shape"),
        (np.array(["a", "b", "c"]), "elements"),
        ({"a": np.zeros(3)}, "update"),
    ],
)
def test_updates_that_are_refused(update: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        encoder_of(3).encode(update)


@pytest.mark.parametrize(
    ("vector", "count", "named"),
    [
        (np.zeros(16, np.int64), 1, "1-d int64"),
        (np.zeros((4, 4), np.uint32), 1, "2-d uint32"),
        ([0] * 16, 1, "the sum is list"),
        (np.zeros(15, np.uint32), 1, "15 elements, this layout 16"),
        (np.zeros(16, np.uint32), 2, "2 clients in the sum, and at least 3"),
    ],
)
def test_sums_that_are_refused(vector: Any, count: int, named: str) -> None:
    with pytest.raises(InputError, match=named):
        encoder_of(10).decode_sum(vector, count, min_contributors=3 if count == 2 else 1)


def test_a_source_of_too_few_bytes_is_refused() -> None:
    encoder = PrivateEncoder(np.zeros(3), mechanism(3), randomness=lambda size: bytes(size - 1))
    with pytest.raises(ParameterError, match="gave 31 bytes"):
        encoder.for_round(config_of(encoder)).encode(np.zeros(3))


# Digests, secrets, memory.


def test_every_setting_is_in_the_digest() -> None:
    base = mechanism(11)
    changed = [
        replace(base, **change)
        for change in (
            {"noise": NoiseKind.DISCRETE_GAUSSIAN},
            {"clip": 2.0},
            {"scale": 2**15},
            {"bits": 20},
            {"rounding_failure": 0.0},
            {"variance": 2},
        )
    ]
    encoders = [PrivateEncoder(np.zeros(11), met) for met in (base, *changed)]
    encoders += [
        PrivateEncoder({"other": np.zeros(11)}, base),
        PrivateEncoder(np.zeros((11, 1)), base),
        PrivateEncoder(np.zeros(10), base, max_weight=5),
        PrivateEncoder(np.zeros(10), base, max_weight=6),
        PrivateEncoder(np.zeros(10), base, max_weight=5, weight_clip=0.3),
    ]
    digests = [encoder.layout_digest() for encoder in encoders]
    assert len(set(digests)) == len(digests)
    assert Encoder(np.zeros(11), clip=1.0).layout_digest() not in digests
    same = PrivateEncoder(np.zeros(11, np.float32), base)
    assert same.layout_digest() == same.for_round(config_of(same, context=b"x")).layout_digest() == digests[0]


def test_the_digest_is_the_reference_s() -> None:
    encoder = PrivateEncoder({"a": np.zeros((2, 3)), "b": [np.zeros(2)]}, mechanism(9), max_weight=5)
    arrays = [(("a",), (2, 3)), (("b", 0), (2,))]
    assert encoder.layout_digest() == reference.layout_digest(reference_of(encoder.mechanism, 5, 0.25), arrays)


def test_encodings_differ() -> None:
    encoder = PrivateEncoder(np.zeros(64), mechanism(64, variance=10_000))
    encoder = encoder.for_round(config_of(encoder))
    one, other = encoder.encode(np.zeros(64)), encoder.encode(np.zeros(64))
    assert np.count_nonzero(one == other) < 10


def test_secrets_do_not_show() -> None:
    secret = bytes(range(100, 132))
    keys = EncodingKeys(secret)
    encoder = PrivateEncoder(np.zeros(3), mechanism(3), randomness=lambda size: secret)
    for text in (repr(keys), repr(encoder), str(encoder.for_round(config_of(encoder)))):
        assert keys.noise.reveal().hex() not in text
        assert secret.hex() not in text
        assert "\\x" not in text


def test_a_failure_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever logs the variables of a traceback's frames must not log what takes the noise off."""
    secret = bytes(range(100, 132))
    encoder = PrivateEncoder(np.zeros(3), mechanism(3), randomness=lambda size: secret)
    monkeypatch.setattr(private_rounding, "round_and_add", None)
    with pytest.raises(TypeError) as failed:
        encoder.for_round(config_of(encoder)).encode(np.zeros(3))
    frames = [frame for frame, _ in traceback.walk_tb(failed.value.__traceback__)]
    assert len(frames) > 2
    assert not any(name in frame.f_locals for frame in frames for name in ("keys", "draws", "noise", "seed"))


def test_the_same_update_has_the_same_digest_whatever_the_mechanism() -> None:
    update = np.arange(5.0)
    one, other = (PrivateEncoder(np.zeros(5), mechanism(5, bits=bits)) for bits in (10, 20))
    assert one.input_digest(update) == other.input_digest(update) == Encoder(update, clip=1.0).input_digest(update)
    assert one.input_digest(update, key=b"k") != one.input_digest(update)
    assert one.input_digest(update + 1) != one.input_digest(update)


def test_it_leaves_the_update_alone() -> None:
    update = of_norm(100, 5.0)
    before = update.copy()
    encoder_of(100).encode(update)
    assert update.tolist() == before.tolist()


def test_memory() -> None:
    """A float64 and an element for each coordinate, and some blocks."""
    encoder = encoder_of(1 << 18)
    update = np.zeros(1 << 18)
    vector = encoder.encode(update)  # kernels are compiled now
    encoder.decode_sum(vector, 1)
    tracemalloc.start()
    try:
        encoder.encode(update)
        encoding = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        encoder.decode_sum(vector, 1)
        decoding = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert encoding < (8 + 4) * (1 << 18) + 2_000_000
    assert decoding < (8 + 8) * (1 << 18) + 2_000_000


@pytest.mark.parametrize("kind", [Encoder, PrivateEncoder])
def test_both_encoders_offer_what_a_host_needs(kind: type) -> None:
    for name, wanted in vars(UpdateEncoder).items():
        if name.startswith("_"):
            continue
        met = getattr(kind, name)
        assert isinstance(met, property) == isinstance(wanted, property)
        if inspect.isfunction(wanted):
            assert list(inspect.signature(met).parameters) == list(inspect.signature(wanted).parameters)


def test_the_plain_encoder_is_of_every_round_that_fits() -> None:
    encoder = Encoder(np.zeros(5), clip=1.0)
    config = RoundConfig.for_cohort(5, encoder.length, input_max=encoder.input_max)
    assert encoder.for_round(config) is encoder
    with pytest.raises(ParameterError, match="elements"):
        encoder.for_round(RoundConfig.for_cohort(5, encoder.length + 1, input_max=encoder.input_max))
