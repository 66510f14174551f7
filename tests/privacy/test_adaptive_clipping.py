"""The clip follows a quantile of the norms, and the bit that teaches it is paid for."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import ParameterError, RoundConfig
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder
from secagg.privacy.adaptive_clipping import ClipRule, ClipState
from secagg.privacy.calibration import calibrate
from secagg.privacy.noisy_sum import NoisySum
from secagg.simulation import SeededRandomness

PROMISED = calibrate(epsilon=3.0, delta=1e-6, length=1001, clip=1.0, clients=200, honest=150, rounds=20, bits=20)


@given(
    z=st.floats(0.1, 50),
    clients=st.integers(10, 10_000),
    wide=st.floats(1.01, 20),
    clip=st.floats(1e-3, 1e3),
)
def test_the_split_is_the_paper_s(z: float, clients: int, wide: float, clip: float) -> None:
    """Andrew et al. 2021, theorem 1: z_update = (z^-2 - (2 sigma_b)^-2)^(-1/2), z and sigma_b as given."""
    sigma_b = wide * z / 2
    rule = ClipRule.for_noise(z, clients, indicator_noise=sigma_b)
    noise = z * rule.whole_clip(clip)  # in the sum's coordinates, the one of the bit among them
    assert noise / clip == pytest.approx((z**-2 - (2 * sigma_b) ** -2) ** -0.5, rel=1e-9)
    assert noise / (2 * rule.indicator(0.0, clip)) == pytest.approx(sigma_b, rel=1e-9)


def test_the_default_noise_is_the_paper_s_and_more_where_clients_are_few() -> None:
    many, few = ClipRule.for_noise(1.0, 1000), ClipRule.for_noise(16.0, 100)
    assert many.ratio == pytest.approx(1 / math.sqrt((2 * 50 / 1.0) ** 2 - 1))
    assert few.ratio == pytest.approx(1 / math.sqrt(4**2 - 1))
    assert few.whole_clip(1.0) == pytest.approx(1.0328, abs=1e-4)  # what the bit costs at most: 3.3% more noise


@given(
    update=st.lists(st.floats(-100, 100), min_size=1, max_size=20), clip=st.floats(1e-3, 1e3), ratio=st.floats(0.01, 3)
)
def test_a_shortened_update_with_its_bit_is_within_the_whole_clip(
    update: list[float], clip: float, ratio: float
) -> None:
    rule = ClipRule(ratio=ratio)
    values = np.array(update)
    norm = float(np.linalg.norm(values))
    shortened = values * min(1.0, clip / norm) if norm else values
    whole = np.append(shortened, rule.indicator(norm, clip))
    assert np.linalg.norm(whole) <= rule.whole_clip(clip) * (1 + 1e-12)
    assert (whole[-1] > 0) == (norm <= clip)


def test_what_is_no_number_is_above_the_clip() -> None:
    assert ClipRule(ratio=0.1).indicator(math.nan, 2.0) == pytest.approx(-0.2)


@given(clip=st.floats(1e-6, 1e6), ratio=st.floats(1e-3, 3))
def test_a_mechanism_at_another_clip_costs_no_more(clip: float, ratio: float) -> None:
    """The budget is charged for one mechanism; at whatever clip, a round shows at most that."""
    base = PROMISED.mechanism
    moved = ClipRule(ratio=ratio).mechanism_at(base, clip)
    assert (moved.variance, moved.bits, moved.length, moved.noise) == (
        base.variance,
        base.bits,
        base.length,
        base.noise,
    )
    assert moved.clip == pytest.approx(clip * math.hypot(1, ratio))
    steps = [float(Fraction(one.clip) * one.scale) for one in (base, moved)]
    assert steps[0] * (1 - 2**-22) <= steps[1] <= steps[0]
    costs, paid = NoisySum.of_clients(moved, 150), PROMISED.promise.sum
    assert costs.squared_l2 <= paid.squared_l2
    assert costs.l1 <= paid.l1


@pytest.mark.parametrize(("quantile", "start"), [(0.5, 0.01), (0.5, 300.0), (0.8, 1.0)])
def test_the_clip_settles_at_the_quantile(quantile: float, start: float) -> None:
    """Noise and all: a central stand-in for the secure sum, with the noise that the rule is made for."""
    generator = np.random.default_rng(7)
    norms = generator.lognormal(0, 1, size=400)
    rule = ClipRule.for_noise(1.0, 400, quantile=quantile)
    state = ClipState(clip=start)
    clips = []
    for _ in range(150):
        bits = sum(rule.indicator(norm, state.clip) for norm in norms)
        noise = generator.normal(scale=1.0 * rule.whole_clip(state.clip))
        state = rule.next_state(state, bits + noise, len(norms))
        clips.append(state.clip)
    assert np.median(clips[-50:]) == pytest.approx(np.quantile(norms, quantile), rel=0.15)
    assert state.rounds == 150


def test_a_shortened_update_and_its_bit() -> None:
    rule = ClipRule(ratio=0.5)
    update = {"a": np.array([[3.0], [0.0]], np.float32), "b": [np.float64(4.0)]}
    short = rule.with_bit(update, 1.0)
    assert short["within_clip"] == -0.5
    np.testing.assert_allclose(short["update"]["a"], [[0.6], [0.0]])
    assert short["update"]["b"] == [pytest.approx(0.8)]
    kept = rule.with_bit(update, 5.0)
    assert kept["within_clip"] == 2.5
    np.testing.assert_array_equal(kept["update"]["a"], update["a"])


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e200])
def test_an_update_without_a_norm_is_the_encoder_s_to_refuse(value: float) -> None:
    short = ClipRule(ratio=0.5).with_bit(np.array([value, 1.0]), 1.0)
    np.testing.assert_array_equal(short["update"], [value, 1.0])
    assert short["within_clip"] == -0.5


def test_the_bit_rides_in_the_secure_sum_under_distributed_noise() -> None:
    """With the library's encoder the clip settles at the median, and the mean is that of shortened updates."""
    generator = np.random.default_rng(3)
    clients, honest = 40, 30
    updates = [generator.normal(size=6) * generator.lognormal(0, 0.5) for _ in range(clients)]
    norms = [float(np.linalg.norm(update)) for update in updates]
    promise = calibrate(
        epsilon=8.0, delta=1e-5, length=7, clip=1.0, clients=clients, honest=honest, rounds=1, bits=20
    ).promise
    rule = ClipRule.for_noise(promise.noise_multiplier, clients)
    state, clips = ClipState(clip=20.0), []
    for number in range(60):
        mechanism = rule.mechanism_at(promise.mechanism, state.clip)
        template = rule.with_bit(np.zeros(6), state.clip)
        encoder = PrivateEncoder(template, mechanism, randomness=SeededRandomness(number, "clip"))
        config = RoundConfig.for_cohort(
            clients, encoder.length, modulus=encoder.modulus_for(clients), context=number.to_bytes(4, "big")
        )
        encoder = encoder.for_round(config)
        vectors = [encoder.encode(rule.with_bit(update, state.clip)) for update in updates]
        total = np.sum(vectors, axis=0, dtype=np.uint64) % config.modulus.value
        mean = encoder.decode_sum(total, clients)
        expected = np.mean(
            [update * min(1.0, state.clip / norm) for update, norm in zip(updates, norms, strict=True)], 0
        )
        assert np.abs(mean.mean["update"] - expected).max() < 6 * mean.noise
        state = rule.next_state(state, clients * float(mean.mean["within_clip"]), clients)
        clips.append(state.clip)
    assert np.median(clips[-25:]) == pytest.approx(np.median(norms), rel=0.25)


def test_a_step_is_the_geometric_update() -> None:
    rule = ClipRule(ratio=0.1, quantile=0.5, learning_rate=0.2)
    state = rule.next_state(ClipState(clip=2.0), indicator_sum=0.1 * 2.0 * (70 - 30), contributors=100)
    assert state.within == pytest.approx(0.7)
    assert state.clip == pytest.approx(2.0 * math.exp(-0.2 * 0.2))
    assert state.rounds == 1


def test_noise_never_moves_the_clip_further_than_all_bits_could() -> None:
    rule = ClipRule(ratio=0.1)
    for indicator_sum, within in ((1e9, 1.0), (-1e9, 0.0)):
        state = rule.next_state(ClipState(clip=1.0), indicator_sum, 10)
        assert state.within == within
        assert abs(math.log(state.clip)) == pytest.approx(0.1)


def test_the_clip_stays_within_its_bounds() -> None:
    rule = ClipRule(ratio=0.1, lowest=0.95, highest=1.05)
    assert rule.next_state(ClipState(clip=1.0), 10.0, 10).clip == 0.95
    assert rule.next_state(ClipState(clip=1.0), -10.0, 10).clip == 1.05


def test_the_bit_cannot_take_all_of_the_privacy() -> None:
    with pytest.raises(
        ParameterError, match=r"indicator_noise is 0\.5: with a noise multiplier of 1 it must be above 0\.5"
    ):
        ClipRule.for_noise(1.0, 100, indicator_noise=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("ratio", 0.0), ("quantile", 1.5), ("learning_rate", 0.0), ("lowest", 0.0), ("highest", math.inf), ("ratio", "x")],
)
def test_a_rule_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name} is"):
        ClipRule(**{"ratio": 0.1, name: value})  # type: ignore[arg-type]


def test_a_rule_needs_an_order_of_its_bounds() -> None:
    with pytest.raises(ParameterError, match="highest is"):
        ClipRule(ratio=0.1, lowest=2.0, highest=1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_sum_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(ParameterError, match="indicator_sum is"):
        ClipRule(ratio=0.1).next_state(ClipState(clip=1.0), bad, 10)


def test_states_are_checked() -> None:
    for values in ({"clip": 0.0}, {"clip": 1.0, "rounds": -1}):
        with pytest.raises(ParameterError, match="is"):
            ClipState(**values)  # type: ignore[arg-type]


def test_a_mechanism_of_another_kind_moves_as_well() -> None:
    base = Mechanism(
        noise=NoiseKind.DISCRETE_GAUSSIAN,
        clip=3.0,
        scale=Fraction(1, 4),
        bits=8,
        rounding_failure=0.0,
        variance=4,
        length=9,
    )
    moved = ClipRule(ratio=1.0).mechanism_at(base, 1.0)
    assert float(moved.scale) == pytest.approx(3 / 4 / math.sqrt(2), rel=1e-6)
