"""From a promise to bits, scale and noise, and what is said when there are none."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Identity, ParameterError, RoundConfig
from secagg.privacy import accounting
from secagg.privacy.calibration import (
    Calibration,
    InfeasibleError,
    Promise,
    calibrate,
    finest_scale,
    honest_contributors,
)
from secagg.privacy.parameters import LARGEST_STEPS, MOST_BITS, NoiseKind
from secagg.simulation import make_cohort

ASK = {"epsilon": 4.753718, "delta": 1e-5, "length": 2**16, "clip": 1.0, "clients": 100, "honest": 100}


def calibrated(**changes: object) -> Calibration:
    return calibrate(**{**ASK, **changes})  # type: ignore[arg-type]


# What it finds.


def test_a_golden_row_backwards() -> None:
    """From the epsilon of a published row to its scale, its noise and its noise multiplier of 1."""
    found = calibrated(bits=16)
    assert float(found.mechanism.scale) == pytest.approx(7845.076, rel=1e-5)
    assert math.sqrt(found.mechanism.variance) == pytest.approx(784.5076, rel=1e-5)
    assert found.promise.noise_multiplier == pytest.approx(1, rel=1e-5)
    assert found.promise.epsilon == pytest.approx(4.753718, abs=1e-4)


asks = st.fixed_dictionaries(
    {
        "epsilon": st.floats(0.3, 20),
        "delta": st.sampled_from([1e-4, 1e-6, 1e-9]),
        "rounds": st.integers(1, 300),
        "length": st.integers(1, 2**24),
        "clip": st.floats(1e-3, 1e3),
        "clients": st.integers(2, 5000),
        "noise": st.sampled_from(NoiseKind),
        "rounding_failure": st.sampled_from([0.0, math.exp(-0.5), 0.9]),
    }
)


@settings(max_examples=max(10, settings().max_examples // 8))
@given(ask=asks, share=st.floats(0.1, 1), bits=st.none() | st.integers(8, MOST_BITS))
def test_the_promise_is_kept_with_as_little_noise_as_does(
    ask: dict[str, object], share: float, bits: int | None
) -> None:
    honest = max(1, round(share * ask["clients"]))  # type: ignore[operator]
    try:
        found = calibrate(**ask, honest=honest, bits=bits)  # type: ignore[arg-type]
    except InfeasibleError:
        assert bits is not None
        return
    promise, mechanism = found.promise, found.mechanism
    assert promise.epsilon <= ask["epsilon"]  # type: ignore[operator]
    assert promise.honest == honest
    assert found.wrapped_share <= 1e-4 * (1 + 1e-6)
    assert mechanism.scale.numerator.bit_length() <= 24
    assert mechanism.scale.denominator & (mechanism.scale.denominator - 1) == 0
    if bits is None:
        assert found.excess <= 0.01 or mechanism.bits == MOST_BITS
    if mechanism.variance > 1:  # less noise breaks the promise, though it leaves room for a finer scale
        variance = min(mechanism.variance - 1, round(0.99 * mechanism.variance))
        finest = finest_scale(mechanism.bits, found.clients, mechanism.dimension, mechanism.clip, variance)
        scale = min(Fraction(finest), LARGEST_STEPS / Fraction(mechanism.clip))
        less = replace(mechanism, variance=variance, scale=Fraction(float(scale)) * Fraction(2**40 - 1, 2**40))
        assert replace(promise, mechanism=less).epsilon > ask["epsilon"]  # type: ignore[operator]


def test_bits_are_the_fewest_whose_excess_does() -> None:
    found = calibrated()
    fewer = calibrated(bits=found.mechanism.bits - 1)
    assert found.excess <= 0.01 < fewer.excess
    tight = calibrated(most_excess=1e-5)
    assert tight.mechanism.bits > found.mechanism.bits
    assert tight.excess <= 1e-5


def test_twenty_bits_are_as_good_as_the_central_gaussian() -> None:
    assert 0 <= calibrated(bits=20).excess < 0.001
    assert calibrated(bits=20).central_multiplier == pytest.approx(0.9998, abs=1e-4)


def test_noise_is_for_the_honest_and_room_for_everybody() -> None:
    """Half of the clients honest: the same noise in the sum of the honest, twice as much from everybody."""
    everybody, half = calibrated(bits=20), calibrated(bits=20, honest=50)
    assert half.promise.sigma == pytest.approx(everybody.promise.sigma, rel=1e-3)
    share = [math.sqrt(one.mechanism.variance) / float(one.mechanism.scale) for one in (everybody, half)]
    assert share[1] == pytest.approx(share[0] * math.sqrt(2), rel=1e-3)
    assert half.mechanism.scale < everybody.mechanism.scale


def test_sampled_rounds_need_less_noise_and_the_server_is_told_the_rest() -> None:
    whole, sampled = (calibrated(epsilon=3.0, rounds=100, sampling_rate=rate) for rate in (1.0, 0.01))
    assert sampled.promise.noise_multiplier < 0.1 * whole.promise.noise_multiplier
    assert sampled.promise.epsilon <= 3.0 < 10 * sampled.promise.epsilon_to_server
    assert sampled.promise.epsilon == pytest.approx(3.0, abs=1e-3)
    assert sampled.promise.epsilon_to_server > 100
    assert whole.promise.epsilon == whole.promise.epsilon_to_server


def test_what_rounding_and_noise_leave_no_room_for() -> None:
    with pytest.raises(
        ParameterError, match=r"variance is 1e\+20: with 8 bits and 100 clients it must be below 10\.574"
    ):
        finest_scale(8, 100, 16, 1.0, 1e20)


# What it says when there is nothing to find.


def test_too_few_bits() -> None:
    with pytest.raises(InfeasibleError, match=r"use 10 bits or more; or allow an epsilon of 27\.1 or more") as caught:
        calibrated(bits=8)
    refused = caught.value
    for one in (refused, pickle.loads(pickle.dumps(refused))):  # as a process pool hands it on
        assert (one.smallest_bits, one.smallest_epsilon, one.largest_cohort) == (10, 27.1, None)
    assert_remedies_work(refused, bits=8)


def test_too_many_clients() -> None:
    ask = {"length": 4, "clients": 3000, "honest": 1500, "bits": 8, "epsilon": 1.0}
    with pytest.raises(InfeasibleError, match=r"invite \d+ clients or fewer, as large a share honest") as caught:
        calibrated(**ask)
    assert_remedies_work(caught.value, **ask)


def test_noise_alone_overflows() -> None:
    """2^(2b) is not even n K^2: no epsilon helps these bits, and fewer clients do."""
    ask = {"length": 4, "clients": 1000, "honest": 1000, "bits": 5, "epsilon": 50.0}
    with pytest.raises(InfeasibleError) as caught:
        calibrated(**ask)
    assert caught.value.smallest_epsilon is None
    assert caught.value.largest_cohort is not None
    assert_remedies_work(caught.value, **ask)


def assert_remedies_work(refused: InfeasibleError, **ask: object) -> None:
    """Each remedy does, by itself, and the next one below it does not."""
    values = {**ASK, **ask}
    if refused.smallest_bits is not None:
        calibrate(**{**values, "bits": refused.smallest_bits})  # type: ignore[arg-type]
        with pytest.raises(InfeasibleError):
            calibrate(**{**values, "bits": refused.smallest_bits - 1})  # type: ignore[arg-type]
    if refused.smallest_epsilon is not None:
        calibrate(**{**values, "epsilon": refused.smallest_epsilon})  # type: ignore[arg-type]
        with pytest.raises(InfeasibleError):
            calibrate(**{**values, "epsilon": 0.98 * refused.smallest_epsilon})  # type: ignore[arg-type]
    if refused.largest_cohort is not None:
        for clients, works in ((refused.largest_cohort, True), (refused.largest_cohort + 1, False)):
            honest = max(1, values["honest"] * clients // values["clients"])  # type: ignore[operator]
            few = {**values, "clients": clients, "honest": honest}
            if works:
                calibrate(**few)  # type: ignore[arg-type]
            else:
                with pytest.raises(InfeasibleError):
                    calibrate(**few)  # type: ignore[arg-type]


def test_an_epsilon_that_sampled_rounds_cannot_show() -> None:
    with pytest.raises(ParameterError, match=r"epsilon is 0\.02: at delta 1e-100, sampled rounds"):
        calibrated(epsilon=0.02, delta=1e-100, sampling_rate=0.01)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.0), ("epsilon", math.nan), ("delta", 0.0), ("delta", 1.0), ("length", 0), ("clip", 0.0),
        ("clients", 0), ("honest", 0), ("honest", 101), ("rounds", 0), ("sampling_rate", 0.0), ("sampling_rate", 1.5),
        ("noise", "gaussian"), ("bits", 1), ("bits", 33), ("rounding_failure", 1.0), ("wrapped_share", 0.0),
        ("most_excess", 0.0),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name} is"):
        calibrated(**{name: value})


# How many are honest.


@given(clients=st.integers(5, 400), gamma=st.floats(0, 0.3), delta=st.floats(0, 0.3), active=st.booleans())
def test_honest_contributors_are_the_fewest_that_a_sum_can_have(
    clients: int, gamma: float, delta: float, active: bool
) -> None:
    model, cohort = ("active", bytes(32)) if active else ("semi_honest", b"")
    try:
        config = RoundConfig.for_cohort(clients, 10, threat_model=model, gamma=gamma, delta=delta, cohort=cohort)
    except ParameterError:
        return
    honest = honest_contributors(config)
    assert honest == config.min_survivors - config.colluders  # a config's min_survivors is never below its quorum
    assert 2 <= honest <= clients - config.dropouts - config.colluders


def test_a_quorum_counts_where_it_is_larger() -> None:
    class Shape:
        colluders, min_survivors, quorum = 3, 10, 12

    assert honest_contributors(Shape()) == 9


def test_a_cohort_of_the_simulation_can_be_calibrated_for() -> None:
    identities, directory, digest = make_cohort(12)
    assert all(isinstance(one, Identity) for one in identities)
    config = RoundConfig.for_cohort(12, 100, threat_model="active", cohort=digest)
    found = calibrated(clients=config.clients, honest=honest_contributors(config), length=config.length)
    assert found.promise.honest == config.min_survivors - config.colluders
    assert directory.cohort(digest)


# The promise.


def test_a_promise_is_checked() -> None:
    mechanism = calibrated().mechanism
    for name, value in (("honest", 0), ("delta", 2.0), ("rounds", 0), ("sampling_rate", 0.0)):
        with pytest.raises(ParameterError, match=f"{name} is"):
            Promise(**{"mechanism": mechanism, "honest": 60, "delta": 1e-5, name: value})  # type: ignore[arg-type]


def test_a_promise_over_more_rounds_is_weaker() -> None:
    promise = calibrated().promise
    later = replace(promise, rounds=10)
    assert later.epsilon > promise.epsilon
    assert later.epsilon == accounting.epsilon([(promise.sum, 10)], 1e-5)


def test_noise_is_not_sized_for_the_sums_of_groups() -> None:
    """A group's sum has the noise of its own members alone, fewer than the cohort's sum has."""
    config = RoundConfig.for_cohort(40, 5, gamma=0.05, groups=4, version=2)
    with pytest.raises(ParameterError, match="groups = 4: noise is sized for the one sum of a cohort"):
        honest_contributors(config)
