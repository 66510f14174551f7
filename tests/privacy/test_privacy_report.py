"""What a round reports of its promise, beside exact accounting of the noise that is left in its sum."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import ParameterError, RoundConfig
from secagg.privacy.calibration import Promise, calibrate, honest_contributors
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import Mechanism, NoiseKind
from secagg.privacy.report import PrivacyReport, report_of
from secagg.simulation import simulate
from secagg.testing.strategies import faults
from tests.support import exact_divergences as exact

DELTA = 1e-5
REACH = 400
CONFIG = RoundConfig.for_cohort(8, 2, gamma=1 / 8, delta=3 / 8, modulus=2**16)
INPUTS = [np.ones(CONFIG.length, np.uint64)] * CONFIG.clients


def promise_of(noise: NoiseKind) -> Promise:
    """A mechanism so coarse that its divergences can be summed up: D2^2 = 8, reached by (2, 2)."""
    mechanism = Mechanism(
        noise=noise, clip=1.0, scale=Fraction(182, 128), bits=16, rounding_failure=0.0, variance=4, length=2
    )
    promise = Promise(mechanism=mechanism, honest=honest_contributors(CONFIG), delta=DELTA)
    assert (promise.sum.squared_l2, promise.sum.l1) == (8, 5)
    return promise


def exact_epsilon(promise: Promise, honest: int) -> float:
    """Of exactly the noise that this many clients left in the sum."""
    return _exact_epsilon(promise.mechanism.noise, honest, promise.mechanism.variance)


@lru_cache
def _exact_epsilon(noise: NoiseKind, honest: int, variance: int) -> float:
    if noise is NoiseKind.SKELLAM:
        probabilities = exact.skellam(float(honest * variance), REACH)
    else:
        probabilities = exact.sum_of_discrete_gaussians(honest, float(variance), REACH)
    return exact.epsilon(probabilities, 2, 8, 5, DELTA)


def report(promise: Promise, included: int, **more: float) -> PrivacyReport:
    return report_of(promise, contributors=included, colluders=CONFIG.colluders, **more)


@settings(max_examples=max(20, settings().max_examples // 3))
@given(noise=st.sampled_from(NoiseKind), schedule=faults(CONFIG), data=st.data())
def test_no_dropouts_make_a_report_better_than_the_noise_that_is_left(
    noise: NoiseKind, schedule: object, data: st.DataObject
) -> None:
    """Clients vanish in any phase, any A of all clients collude: a whole round says who is in the sum."""
    outcome = simulate(INPUTS, CONFIG, faults=schedule, seed=1)  # type: ignore[arg-type]
    if outcome.result is None:
        return
    everybody = st.sampled_from(range(CONFIG.clients))
    colluders = data.draw(st.sets(everybody, max_size=CONFIG.colluders))
    honest = len(set(outcome.included) - colluders)
    promise = promise_of(noise)
    told = report(promise, len(outcome.included))
    assert told.reached_epsilon >= exact_epsilon(promise, honest) * (1 - 1e-12)
    assert told.promised_epsilon >= told.reached_epsilon
    assert told.is_kept


@pytest.mark.parametrize("noise", list(NoiseKind))
def test_a_report_that_counted_one_client_too_many_would_be_caught(noise: NoiseKind) -> None:
    promise = promise_of(noise)
    for included in range(CONFIG.min_survivors, CONFIG.clients):
        honest = included - CONFIG.colluders
        wrong = report(promise, included + 1)
        assert (
            wrong.reached_epsilon < exact_epsilon(promise, honest) <= report(promise, included).reached_epsilon + 1e-9
        )


def test_all_counts_and_sigmas() -> None:
    found = calibrate(epsilon=3.0, delta=1e-6, length=1000, clip=0.5, clients=100, honest=70, rounds=50)
    told = report_of(found.promise, contributors=95, colluders=20, wrapped_share=3e-5)
    assert (told.contributors, told.colluders, told.promised_honest) == (95, 20, 70)
    assert (told.rounds, told.delta, told.sampling_rate) == (50, 1e-6, 1.0)
    assert told.promised_epsilon == found.promise.epsilon > told.reached_epsilon > told.round_epsilon
    assert told.reached_sigma == pytest.approx(told.promised_sigma * math.sqrt(75 / 70))
    assert told.promised_sigma == pytest.approx(found.promise.noise_multiplier * 0.5)
    text = told.explain()
    assert "Promised: epsilon 3 at delta 1e-06 over 50 rounds, with 70 honest clients or more in each sum." in text
    assert "95 clients in the sum, 20 of whom may collude" in text
    assert "wrapped around: 3e-05" in text
    assert "not kept" not in text


def test_too_few_are_said_to_break_the_promise() -> None:
    promise = promise_of(NoiseKind.SKELLAM)
    told = report(promise, CONFIG.min_survivors - 1)
    assert not told.is_kept
    assert told.reached_epsilon > told.promised_epsilon
    assert "The promise was not kept" in told.explain()


def test_colluders_alone_leave_no_privacy() -> None:
    told = report_of(promise_of(NoiseKind.SKELLAM), contributors=3, colluders=5)
    assert told.reached_epsilon == told.round_epsilon == math.inf
    assert told.reached_sigma == 0
    assert told.colluders == 3
    assert not told.is_kept


def test_noise_that_was_taken_off_again_does_not_count() -> None:
    promise = promise_of(NoiseKind.SKELLAM)
    left = NoisySum.of_clients(promise.mechanism, promise.honest)
    told = report_of(promise, contributors=8, colluders=1, remaining=left)
    assert told.reached_epsilon == told.promised_epsilon
    assert told.is_kept


@pytest.mark.parametrize(("contributors", "colluders"), [(0, 0), (-1, 0), (5, -1), (2.5, 0)])
def test_counts_out_of_range_are_refused(contributors: int, colluders: int) -> None:
    with pytest.raises(ParameterError, match=r"(contributors|colluders) is"):
        report_of(promise_of(NoiseKind.SKELLAM), contributors=contributors, colluders=colluders)
