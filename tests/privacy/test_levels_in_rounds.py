"""Noise in levels through whole rounds: what is left, as measured, and what is reported of it."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import private

from secagg import RoundConfig
from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder
from secagg.privacy.calibration import Promise, honest_contributors
from secagg.privacy.report import PrivacyReport, report_of
from secagg.simulation import Faults, make_cohort, simulate
from secagg.testing.strategies import faults
from tests.support import exact_divergences as exact

DELTA = 1e-5
REACH = 400
MODELS = ("semi_honest", "active")
CLIENTS = 10
IDENTITIES, DIRECTORY, COHORT = make_cohort(CLIENTS)


def mechanism_of(length: int, **changes: Any) -> Mechanism:
    """As coarse as exact divergences need it: the squared norm bound of two coordinates is 8, reached by (2, 2)."""
    values = {"scale": Fraction(182, 128), "bits": 16, "rounding_failure": 0.0, "variance": 120, "clip": 1.0}
    return Mechanism(noise=NoiseKind.SKELLAM, length=length, **(values | changes))


def config_for(encoder: PrivateEncoder, threat_model: str, **options: Any) -> RoundConfig:
    if threat_model == "active":
        options |= {"threat_model": "active", "cohort": COHORT}
    return RoundConfig.for_cohort(
        CLIENTS, encoder.length, modulus=encoder.modulus_for(CLIENTS), context=encoder.layout_digest(), version=2,
        attachment_bytes=encoder.attachment_bytes, neighbours="complete", min_survivors=7, delta=0.3, **options,
    )  # fmt: skip


class Host:
    """Every client's host: it encodes once, and hands vector and attachment over together."""

    def __init__(self, encoder: PrivateEncoder) -> None:
        self.encoder = encoder
        self.attached: dict[int, list[tuple[int, bytes]]] = {}

    def vector(self, index: int) -> Any:
        vector, self.attached[index] = self.encoder.encode_in_levels(np.zeros(self.encoder.mechanism.length))
        return vector

    def attachment(self, index: int) -> Any:
        return self.attached[index]


def play(host: Host, config: RoundConfig, schedule: Any) -> Any:
    members: dict[str, Any] = {"identities": IDENTITIES, "directory": DIRECTORY} if config.is_active else {}
    return simulate(host.vector, config, attachments=host.attachment, faults=schedule, seed=1, **members)


# What is reported, beside exact accounting of the noise that is left.

MECHANISM = mechanism_of(2)
ENCODER = PrivateEncoder(np.zeros(2), MECHANISM, levels=4)
CONFIGS = {model: config_for(ENCODER, model, gamma=0.1) for model in MODELS}


def reference_levels(config: RoundConfig) -> private.Levels:
    told = private.Mechanism("skellam", 1.0, Fraction(182, 128), 16, 0.0, MECHANISM.variance, 2)
    return private.levels_of(told, config.clients, config.colluders, config.min_survivors, config.quorum, 4)


@lru_cache
def exact_epsilon(variance: int) -> float:
    """Of Skellam noise of this variance in the sum."""
    return exact.epsilon(exact.skellam(float(variance), REACH), 2, 8, 5, DELTA)


def report(config: RoundConfig, included: int) -> PrivacyReport:
    levels = ENCODER.for_round(config).noise_levels
    assert levels is not None
    promise = Promise(mechanism=MECHANISM, honest=honest_contributors(config), delta=DELTA)
    left = levels.left(MECHANISM, config.clients, included, config.colluders)
    return report_of(promise, contributors=included, colluders=config.colluders, remaining=left)


@st.composite
def schedules(draw: st.DrawFn, config: RoundConfig) -> Faults:
    """Losses in any phase, and as often nothing but clients whose last answer does not come in time."""
    if draw(st.booleans()):
        return draw(faults(config))
    last = "CONFIRM" if config.is_active else "MASK"
    silent = draw(st.sets(st.integers(0, config.clients - 1), max_size=config.dropouts))
    return Faults(dict.fromkeys(silent, last))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@settings(max_examples=max(20, settings().max_examples // 3))
@given(data=st.data())
def test_no_report_is_better_than_the_noise_that_is_left(config: RoundConfig, data: st.DataObject) -> None:
    """Clients vanish in any phase, any A of all clients collude, and some that are silent answer too late."""
    host = Host(ENCODER.for_round(config))
    result = play(host, config, data.draw(schedules(config))).result
    if result is None:
        return
    colluders = data.draw(st.sets(st.sampled_from(range(config.clients)), max_size=config.colluders))
    silent = sorted(set(result.included) - set(result.attachments))
    late = data.draw(st.just({*silent}) | st.sets(st.sampled_from(silent))) if silent else set()
    variances, lost = reference_levels(config).variances, config.clients - len(result.included)
    left = 0
    for client in set(result.included) - colluders:
        links = [link for _, link in host.attached[client]]
        revealed = result.attachments.get(client)
        if client in late:
            revealed = next(link for most, link in host.attached[client] if most >= lost)
        left += MECHANISM.variance if revealed is None else variances[links.index(revealed)]
    told = report(config, len(result.included))
    assert told.reached_epsilon >= exact_epsilon(left) * (1 - 1e-12)
    assert told.promised_epsilon >= told.reached_epsilon
    assert told.is_kept


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_report_that_removed_one_level_too_few_would_be_caught(config: RoundConfig) -> None:
    variances = reference_levels(config).variances
    levels = ENCODER.for_round(config).noise_levels
    assert levels is not None
    assert len(variances) > 3
    for level in range(len(variances) - 1):
        included = config.clients - levels.losses[level]
        honest = included - config.colluders
        promise = Promise(mechanism=MECHANISM, honest=honest_contributors(config), delta=DELTA)
        left = levels.left(MECHANISM, config.clients, included, config.colluders)
        wrong = report_of(
            promise, contributors=included, colluders=config.colluders,
            remaining=replace(left, variance=variances[level + 1]),
        )  # fmt: skip
        true = exact_epsilon(honest * variances[level])
        assert wrong.reached_epsilon < true <= report(config, included).reached_epsilon * (1 + 1e-12)


def test_all_epsilons_of_a_report_hold_against_the_same_people() -> None:
    config = CONFIGS["semi_honest"]
    levels = ENCODER.for_round(config).noise_levels
    assert levels is not None
    promise = Promise(mechanism=MECHANISM, honest=honest_contributors(config), delta=DELTA, sampling_rate=0.01)
    left = levels.left(MECHANISM, config.clients, config.min_survivors, config.colluders)
    told = report_of(promise, contributors=config.min_survivors, colluders=config.colluders, remaining=left)
    assert told.reached_epsilon == told.promised_epsilon < report(config, config.min_survivors).reached_epsilon


# What is measured.

LENGTH = 1 << 19
FINE = mechanism_of(LENGTH, scale=1024, bits=32, variance=1_000_000)


@pytest.mark.parametrize("threat_model", MODELS)
@pytest.mark.parametrize("lost", [0, 1, 3])
def test_the_variance_is_the_target_whatever_is_lost(threat_model: str, lost: int) -> None:
    """0, 10 and 30% lost.  Of 2^19 values the variance is known to 0.2%, and a hundredth is five of these."""
    encoder = PrivateEncoder(np.zeros(LENGTH), FINE, levels=3)
    config = config_for(encoder, threat_model, gamma=0.0)
    host = Host(encoder.for_round(config))
    result = play(host, config, Faults(dict.fromkeys(range(lost), "SHARE"))).result
    assert result is not None
    target = 7 * FINE.variance
    levels = host.encoder.noise_levels
    assert levels is not None
    assert target <= levels.variance_of_sum(lost, 10 - lost, 10 - lost) <= target + 10
    mean = host.encoder.decode_in_levels(result)
    values = np.asarray(mean.mean) * mean.count * 1024
    assert np.mean(values**2) == pytest.approx(target, rel=0.01)
    assert mean.noise * mean.count * 1024 == pytest.approx(math.sqrt(target), rel=1e-5)
