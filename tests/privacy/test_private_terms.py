"""What a private round promises, as plain data, and what a client asks of it before it gives anything away."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import InputError, LayoutPolicy, ParameterError, PeerError, RoundConfig
from secagg.encoding.layout import Layout
from secagg.privacy import AdaptiveClip, Mechanism, Privacy, PrivacyTerms, PrivateLayout
from secagg.privacy.accounting import gaussian_epsilon
from secagg.privacy.adaptive_clipping import ClipRule, ClipState
from secagg.privacy.calibration import InfeasibleError, Promise, calibrate
from secagg.privacy.cohort import honest_contributors
from secagg.privacy.hosting import decoded, opened, submitted
from secagg.privacy.layout_file import read_any_layout, write_any_layout
from secagg.privacy.noisy_sum import NoisySum
from secagg.privacy.parameters import CANONICAL_ROUNDING_FAILURE, as_noise
from secagg.privacy.removal import noise_left

SHAPES = {"w": (4, 3), "b": (5,)}
ASK = Privacy(epsilon=6.0, delta=1e-6, clip=1.5, rounds=20)
COHORT = RoundConfig.for_cohort(20, 1)
TERMS = ASK.terms(17, COHORT)
LAYOUT = PrivateLayout.of(SHAPES, TERMS)


@dataclass(frozen=True)
class Collected:
    """A round's result, as far as a host's decoding looks at it."""

    sum: Any
    included: Any
    min_survivors: int
    attachments: Any


def config_of(layout: PrivateLayout, clients: int = 20, **changes: Any) -> RoundConfig:
    encoder = layout.encoder()
    changes = {"modulus": encoder.modulus_for(clients), "context": layout.digest()} | changes
    return RoundConfig.for_cohort(clients, encoder.length, **changes)


mechanisms = st.builds(
    lambda steps, twos, clip, **others: Mechanism(scale=steps * Fraction(2) ** twos, clip=clip, **others),
    noise=st.sampled_from(["skellam", "discrete-gaussian"]),
    clip=st.floats(1e-3, 1e3),
    steps=st.integers(1, 2**24 - 1),
    twos=st.integers(-9, 9),
    bits=st.integers(2, 32),
    rounding_failure=st.sampled_from([0.0, CANONICAL_ROUNDING_FAILURE, 0.25]),
    variance=st.integers(1, 2**62),
    length=st.integers(1, 2**36),
)
rules = st.builds(ClipRule, ratio=st.floats(1e-6, 1e3), quantile=st.floats(0, 1), learning_rate=st.floats(1e-3, 2))
adaptives = st.none() | st.tuples(rules, st.builds(ClipState, clip=st.floats(1e-3, 1e3)))
terms_drawn = st.builds(
    lambda mechanism, levels, **others: PrivacyTerms.of(
        mechanism, levels=levels if mechanism.noise.value == "skellam" else 0, **others
    ),
    mechanisms,
    levels=st.sampled_from([0, 0, 1, 7, 64]),
    honest=st.integers(1, 2**32),
    delta=st.floats(1e-100, 0.5),
    rounds=st.integers(1, 2**32),
    sampling_rate=st.floats(1e-6, 1),
    adaptive=adaptives,
)


# Plain data.


@given(terms=terms_drawn)
def test_terms_come_back_from_json_and_from_bytes_as_they_went(terms: PrivacyTerms) -> None:
    assert PrivacyTerms.from_data(json.loads(json.dumps(terms.to_data()))) == terms
    assert msgspec.msgpack.decode(terms.to_bytes(), type=PrivacyTerms) == terms
    assert msgspec.json.decode(msgspec.json.encode(terms), type=PrivacyTerms).to_bytes() == terms.to_bytes()


@given(
    mechanism=mechanisms,
    honest=st.integers(1, 2**32),
    delta=st.floats(1e-12, 1e-3),
    rounds=st.integers(1, 1000),
    rate=st.floats(1e-3, 1),
)
def test_terms_hold_the_numbers_that_they_were_made_of(
    mechanism: Mechanism, honest: int, delta: float, rounds: int, rate: float
) -> None:
    terms = PrivacyTerms.of(mechanism, honest=honest, delta=delta, rounds=rounds, sampling_rate=rate)
    assert terms.mechanism == terms.round_mechanism == mechanism
    assert terms.promise() == Promise(
        mechanism=mechanism, honest=honest, delta=delta, rounds=rounds, sampling_rate=rate
    )
    assert terms.sum == NoisySum.of_clients(mechanism, honest, sampling_rate=rate)
    assert terms.sum_to_server == NoisySum.of_clients(mechanism, honest)
    assert terms.noise_multiplier == pytest.approx(terms.promise().noise_multiplier, rel=1e-12)


@given(one=terms_drawn, other=terms_drawn)
def test_other_terms_have_other_bytes(one: PrivacyTerms, other: PrivacyTerms) -> None:
    assert (one.to_bytes() == other.to_bytes()) == (one == other)


@given(terms=terms_drawn.filter(lambda terms: terms.adaptive is not None))
def test_the_clip_of_the_round_never_costs_more_than_what_is_charged(terms: PrivacyTerms) -> None:
    """A budget is charged the calibrated mechanism: the same for every clip that training leads to."""
    moved = NoisySum.of_clients(terms.round_mechanism, terms.honest)
    charged = terms.sum_to_server
    assert (moved.squared_l2, moved.l1) <= (charged.squared_l2, charged.l1)
    assert (moved.variance, moved.dimension) == (charged.variance, charged.dimension)


# Levels.


def test_terms_without_levels_have_the_bytes_that_they_always_had() -> None:
    """A member of a release that knows no levels reads them, and has the same context."""
    named = [
        "noise", "clip", "scale", "bits", "rounding_failure", "variance", "length", "honest", "delta", "rounds",
        "sampling_rate", "adaptive",
    ]  # fmt: skip
    assert list(msgspec.msgpack.decode(TERMS.to_bytes())) == named
    assert list(msgspec.msgpack.decode(replace(ASK, levels=3).terms(17, COHORT).to_bytes())) == [*named, "levels"]


def test_levels_are_part_of_what_a_round_agrees_on_and_cost_nothing() -> None:
    made = {levels: PrivateLayout.of(SHAPES, replace(ASK, levels=levels).terms(17, COHORT)) for levels in (0, 1, 2)}
    assert len({layout.digest() for layout in made.values()}) == 3
    assert len({layout.encoder().layout_digest() for layout in made.values()}) == 3
    assert {layout.terms.sum_to_server for layout in made.values()} == {TERMS.sum_to_server}
    assert {layout.terms.epsilon_at(1e-6) for layout in made.values()} == {TERMS.epsilon_at(1e-6)}
    assert made[2].difference_to(made[0]) == "levels 2 was agreed, and it is 0"
    assert (TERMS.attachment_bytes, made[2].terms.attachment_bytes) == (0, 32)
    assert (LAYOUT.encoder().wire_version, made[2].encoder().wire_version) == (1, 2)


@given(
    clients=st.integers(5, 60),
    gamma=st.floats(0.1, 0.3),
    delta=st.floats(0, 0.3),
    levels=st.integers(1, 64),
    variance=st.integers(1, 2**40),
    data=st.data(),
)
def test_what_is_left_is_never_less_than_what_a_client_judged_by(
    clients: int, gamma: float, delta: float, levels: int, variance: int, data: st.DataObject
) -> None:
    """Whatever is lost: the variance that the terms promise is what the honest clients' components have together."""
    try:
        config = RoundConfig.for_cohort(clients, 1, gamma=gamma, delta=delta)
    except ParameterError:  # no room for so many that collude or are lost
        return
    honest = honest_contributors(config)
    mechanism = replace(TERMS.mechanism, variance=variance)
    terms = PrivacyTerms.of(mechanism, honest=honest, delta=1e-6, levels=levels)
    included = data.draw(st.integers(config.min_survivors, clients))
    left = noise_left(terms.mechanism, config, levels, included)
    assert left is not None
    assert left.honest == included - config.colluders
    assert left.honest * left.variance >= honest * variance
    assert noise_left(terms.mechanism, config, 0, included) is None
    assert noise_left(terms.mechanism, config, levels, config.colluders) is None, "nobody honest is in it"


def test_a_host_hands_vectors_and_sums_over_with_what_belongs_to_them() -> None:
    asked = replace(ASK, epsilon=1e4, levels=5)
    layout = PrivateLayout.of(SHAPES, asked.terms(17, COHORT))
    config = config_of(layout, version=2, attachment_bytes=32)
    encoder, arrays = layout.encoder().for_round(config), {"w": np.full((4, 3), 0.1), "b": np.zeros(5)}
    given_by = [submitted(encoder, arrays) for _ in range(20)]
    assert all(one.keys is not None and len(one.keys) == len(encoder.noise_levels.losses) for one in given_by)  # type: ignore[union-attr]
    assert repr(given_by[0]) == "Submitted()", "whoever reads a log must not have the keys"
    vectors = [one.vector for one in given_by]
    total = (np.sum(vectors, axis=0, dtype=np.uint64) % config.modulus.value).astype(config.modulus.dtype)
    result = Collected(total, range(20), config.min_survivors, {i: one.keys[0][1] for i, one in enumerate(given_by)})  # type: ignore[index]
    handed = opened(encoder, result)
    assert (handed.vector.dtype, handed.answered) == (total.dtype, 20)
    mean = decoded(encoder, handed, 20)
    assert mean.noise == encoder.decode_in_levels(result).noise < encoder.decode_sum(total, 20).noise  # type: ignore[union-attr]
    assert np.abs(mean.mean["w"] - 0.1).max() < 6 * mean.noise  # type: ignore[union-attr]
    for answered, other in ((21, encoder), (1, LAYOUT.encoder().for_round(config_of(LAYOUT)))):
        with pytest.raises(ParameterError, match=f"answered is {answered}: must be (a whole number from )?0"):
            other.decode_without_surplus(total, 20, answered)


def test_vectors_without_levels_go_through_as_they_are() -> None:
    for encoder in (LAYOUT.encoder().for_round(config_of(LAYOUT)), Layout.of(SHAPES, clip=1.0).encoder()):
        arrays = {"w": np.zeros((4, 3)), "b": np.zeros(5)}
        one = submitted(encoder, arrays)
        assert one.keys is None
        result = Collected(one.vector, range(1), 1, {})
        handed = opened(encoder, result)
        assert (handed.vector is one.vector, handed.answered) == (True, 0)
        assert decoded(encoder, handed, 1).count == 1


DATA = TERMS.to_data()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"delta": 2.0}, "delta is 2.0: must be a number from"),
        ({"rounds": 0}, "rounds is 0: must be a whole number from 1"),
        ({"honest": 0}, "honest is 0: must be a whole number from 1"),
        ({"honest": True}, "Expected `int`, got `bool`"),
        ({"bits": 33}, "bits is 33: must be a whole number from 2 to 32"),
        ({"variance": 0}, "variance is 0: must be a whole number from 1"),
        ({"variance": 2**63}, "variance is 9223372036854775808: must be a whole number"),
        ({"length": 2**40}, "length is 1099511627776: must be a whole number"),
        ({"noise": "laplace"}, "Invalid enum value 'laplace'"),
        ({"clip": math.nan}, "clip is nan: must be a number from"),
        ({"clip": "0x1p0"}, "Expected `float`, got `str`"),
        ({"scale": (2, 1)}, r"scale is \(2, 1\): must be an odd number"),
        ({"scale": (1, 10**9)}, "an exponent of 2 from -2000 to 2000"),
        ({"scale": (1, -1000)}, r"must have at least 2\^-20 steps"),
        ({"scale": (1, 60)}, r"must be at most 2\^46"),
        ({"sampling_rate": 0.0}, "sampling_rate is 0.0"),
        ({"rounding_failure": 1.0}, "rounding_failure is 1.0"),
        ({"adaptive": {"clip": 1.0}}, "missing required field"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_terms_out_of_range_are_refused_by_name(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        PrivacyTerms.from_data(DATA | changes)


@pytest.mark.parametrize("missing", DATA)
def test_terms_lack_nothing(missing: str) -> None:
    with pytest.raises(ParameterError, match=f"missing required field `{missing}`"):
        PrivacyTerms.from_data({name: value for name, value in DATA.items() if name != missing})


@pytest.mark.parametrize("clip", [1.0, 20.0])
def test_an_adaptive_clip_stays_within_its_rule(clip: float) -> None:
    mechanism = TERMS.mechanism
    with pytest.raises(ParameterError, match=f"the adaptive clip is {clip!r}: its rule keeps it from 2.0 to 10.0"):
        PrivacyTerms.of(
            mechanism,
            honest=3,
            delta=1e-6,
            adaptive=(ClipRule(ratio=0.1, lowest=2.0, highest=10.0), ClipState(clip=clip)),
        )


def test_a_scale_of_too_many_digits_is_refused() -> None:
    with pytest.raises(ParameterError, match="scale has 54 significant bits: must have at most 53"):
        PrivacyTerms.of(
            Mechanism(
                noise="skellam",
                clip=1e-12,
                scale=2**53 + 1,
                bits=20,
                rounding_failure=0.0,
                variance=4,
                length=8,
            ),
            honest=3,
            delta=1e-6,
        )


# What an operator asks for.


def test_the_terms_are_those_that_calibration_finds() -> None:
    honest = honest_contributors(COHORT)
    found = calibrate(epsilon=6.0, delta=1e-6, clip=1.5, rounds=20, length=17, clients=20, honest=honest)
    assert TERMS.promise() == found.promise
    assert TERMS.honest == max(COHORT.min_survivors, COHORT.quorum) - COHORT.colluders == 14
    assert TERMS.epsilon_at(1e-6) <= 6.0


def test_an_adaptive_clip_is_calibrated_for_its_bit() -> None:
    asked = Privacy(epsilon=6.0, delta=1e-6, clip=1.5, rounds=20, adaptive=AdaptiveClip(quantile=0.6, lowest=0.1))
    first = asked.terms(17, COHORT)
    later = asked.terms(17, COHORT, state=ClipState(clip=0.25, rounds=3))
    assert first.length == 18
    assert first.adaptive is not None
    assert later.adaptive is not None
    assert (first.adaptive.clip, later.adaptive.clip) == (1.5, 0.25)
    assert first.adaptive.rule == later.adaptive.rule
    assert first.adaptive.rule.ratio == ClipRule.for_noise(first.noise_multiplier, 20).ratio
    assert (first.adaptive.quantile, first.adaptive.lowest) == (0.6, 0.1)
    assert first.sum == later.sum, "what is charged does not follow from what earlier rounds showed"


def test_an_ask_that_cannot_be_kept_says_what_would_do() -> None:
    with pytest.raises(InfeasibleError, match=r"use [0-9]+ bits or more; or allow an epsilon of"):
        Privacy(epsilon=0.5, delta=1e-6, clip=1.0, rounds=1000, bits=8).terms(17, COHORT)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"delta": 1.0}, "delta is 1.0"),
        ({"clip": -1.0}, "clip is -1.0"),
        ({"rounds": 0}, "rounds is 0"),
        ({"noise": "laplace"}, "noise is 'laplace': must be one of skellam, discrete-gaussian"),
        ({"bits": 1}, "bits is 1"),
    ],
)
def test_an_ask_out_of_range_is_refused_by_name(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        Privacy(**({"epsilon": 1.0, "delta": 1e-6, "clip": 1.0} | wrong))


@pytest.mark.parametrize("wrong", [{"quantile": 1.5}, {"learning_rate": 0.0}, {"indicator_noise": -1.0}])
def test_an_adaptive_clip_out_of_range_is_refused_when_it_is_asked_for(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        AdaptiveClip(**wrong)


# Layouts.


def test_the_digest_holds_every_term() -> None:
    """A client that was told of other terms than the others has another context, and its keys fit nobody's."""
    other: dict[str, object] = {
        "noise": "discrete-gaussian",
        "clip": 1.25,
        "scale": (TERMS.scale[0] - 2, TERMS.scale[1]),
        "bits": TERMS.bits + 1,
        "rounding_failure": 0.0,
        "variance": TERMS.variance + 1,
        "honest": TERMS.honest - 1,
        "delta": 2e-6,
        "rounds": 21,
        "sampling_rate": 0.5,
    }
    assert other.keys() == DATA.keys() - {"length", "adaptive"}
    digests = {LAYOUT.digest()}
    for name, value in other.items():
        changed = PrivacyTerms.from_data(DATA | {name: value})
        digests.add(PrivateLayout.of(SHAPES, changed).digest())
    digests.add(PrivateLayout.of({"w": (12,), "b": (5,)}, TERMS).digest())
    assert len(digests) == len(other) + 2


def test_a_layout_encodes_and_decodes_as_its_encoder_does() -> None:
    config = config_of(LAYOUT)
    LAYOUT.check_round(config)
    arrays = {"w": np.full((4, 3), 0.1, np.float32), "b": np.arange(5.0)}
    encoder = LAYOUT.encoder_for(arrays).for_round(config)
    vectors = [encoder.encode(LAYOUT.prepared(arrays)) for _ in range(20)]
    mean = encoder.decode_sum(np.sum(vectors, axis=0, dtype=np.uint64) % 2**TERMS.bits, 20)
    norm = math.hypot(*(float(np.linalg.norm(array)) for array in arrays.values()))
    for name, values in LAYOUT.mean_of(mean).items():
        assert np.abs(values - arrays[name] * 1.5 / norm).max() < 6 * mean.noise
    assert LAYOUT.bits_of(mean) is None


def test_an_adaptive_layout_has_the_bit_behind_the_arrays() -> None:
    asked = Privacy(epsilon=50.0, delta=1e-6, clip=1.5, adaptive=AdaptiveClip(indicator_noise=1.0))
    layout = PrivateLayout.of(SHAPES, asked.terms(17, COHORT, state=ClipState(clip=0.5)))
    config = config_of(layout)
    rule = ClipRule.for_noise(layout.terms.noise_multiplier, 20, indicator_noise=1.0)
    short, long = (
        {"w": np.full((4, 3), size / math.sqrt(17), np.float32), "b": np.full(5, size / math.sqrt(17))}
        for size in (0.25, 8.0)
    )
    encoder = layout.encoder_for(short).for_round(config)
    assert layout.leaf_names() == {"b": "update.b", "w": "update.w"}
    vectors = [encoder.encode(layout.prepared(arrays)) for arrays in [short] * 15 + [long] * 5]
    decoded = encoder.decode_sum(np.sum(vectors, axis=0, dtype=np.uint64) % 2**layout.terms.bits, 20)
    indicator = layout.bits_of(decoded)
    assert indicator is not None
    state = rule.next_state(ClipState(clip=0.5), indicator, 20)
    assert state.within == pytest.approx(0.75, abs=6 * 1.1 * math.sqrt(20 / layout.terms.honest) / 20)
    expected = (15 * 0.25 + 5 * 0.5) / 20 / math.sqrt(17)
    assert np.abs(layout.mean_of(decoded)["b"] - expected).max() < 6 * decoded.noise


def test_weights_and_an_adaptive_clip_exclude_each_other() -> None:
    terms = Privacy(epsilon=6.0, delta=1e-6, clip=1.5, adaptive=AdaptiveClip()).terms(18, COHORT)
    with pytest.raises(ParameterError, match="max_weight is 10, and the clip is adaptive"):
        PrivateLayout.of(SHAPES, terms, max_weight=10)


def test_terms_of_another_number_of_coordinates_are_refused() -> None:
    with pytest.raises(ParameterError, match="the mechanism is for 17 coordinates, and this layout has 18"):
        PrivateLayout.of(SHAPES, TERMS, max_weight=10)


@pytest.mark.parametrize("weighted", [None, 100])
def test_a_layout_comes_back_from_its_file(tmp_path: Path, weighted: int | None) -> None:
    terms = ASK.terms(17 + (weighted is not None), COHORT)
    layout = PrivateLayout.of(SHAPES, terms, max_weight=weighted)
    write_any_layout(tmp_path / "layout.json", layout)
    assert read_any_layout(tmp_path / "layout.json") == layout


def test_a_plain_layout_comes_back_from_its_file_as_such(tmp_path: Path) -> None:
    layout = Layout.of(SHAPES, clip=2.0)
    write_any_layout(tmp_path / "layout.json", layout)
    assert read_any_layout(tmp_path / "layout.json") == layout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found["terms"].update(variance=1), "it was changed after it was written"),
        (lambda found: found["terms"].update(delta=3.0), "delta is 3.0"),
        (lambda found: found["arrays"].reverse(), "names must be ascending"),
        (lambda found: found.update(clip=1.0), "unknown field `clip`"),
        (lambda found: found.update(format="secagg layout 1"), "not a layout file"),
        (lambda found: found.update(format=3), "not a layout file"),
    ],
)
def test_a_private_layout_file_that_was_changed_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    file = tmp_path / "layout.json"
    write_any_layout(file, LAYOUT)
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    with pytest.raises(InputError, match=says) as refused:
        read_any_layout(file)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("begins", ['{"terms": ', '{"format": "secagg private layout 1", "x": ', '{"x": {"format": '])
def test_a_layout_file_that_is_nested_without_end_is_refused(tmp_path: Path, begins: str) -> None:
    file = tmp_path / "layout.json"
    file.write_text(begins + "[" * 100_000)
    with pytest.raises(InputError, match=r"layout\.json: not a layout file"):
        read_any_layout(file)


# The cohort.


@dataclass(frozen=True)
class Shape:
    min_survivors: int
    quorum: int
    colluders: int


@given(
    survivors=st.integers(2, 100), quorum=st.integers(0, 100), colluders=st.integers(0, 40), honest=st.integers(1, 100)
)
def test_a_client_counts_the_honest_itself(survivors: int, quorum: int, colluders: int, honest: int) -> None:
    """max(min_survivors, Q) - A, whatever the server says."""
    terms = PrivacyTerms.from_data(DATA | {"honest": honest})
    cohort = Shape(survivors, quorum, colluders)
    fewest = max(survivors, quorum) - colluders
    if honest <= fewest:
        terms.check_cohort(cohort)
        return
    with pytest.raises(ParameterError, match=f"sized for {honest} honest clients, .* as few as {fewest}: "):
        terms.check_cohort(cohort)


def test_a_round_that_may_have_fewer_honest_clients_is_refused() -> None:
    LAYOUT.check_round(config_of(LAYOUT))
    with pytest.raises(ParameterError, match="sized for 14 honest clients, and a sum of this round may have as few as"):
        LAYOUT.check_round(config_of(LAYOUT, gamma=0.4, delta=0.0))


def test_a_round_whose_groups_have_less_noise_each_is_refused() -> None:
    """Its min_survivors counts the whole cohort, and the noise in a group's sum is that of the group alone."""
    grouped = config_of(LAYOUT, 60, version=2, groups=2, gamma=0.05, min_survivors=40)
    assert grouped.min_survivors - grouped.colluders >= TERMS.honest > grouped.min_group
    with pytest.raises(ParameterError, match="has 2 groups, each with a sum of its own"):
        LAYOUT.check_round(grouped)


def test_the_modulus_is_exactly_that_of_the_mechanism() -> None:
    wider = config_of(LAYOUT, modulus=2 ** (TERMS.bits + 5), input_max=2**TERMS.bits - 1)
    with pytest.raises(ParameterError, match=f"a private round counts modulo 2\\^{TERMS.bits} and nothing else"):
        LAYOUT.check_round(wider)


# A client's policy.


def epsilon_by_hand(terms: PrivacyTerms, delta: float) -> float:
    """Skellam noise of so much variance is above a Gaussian's by a sliver; the central mechanism is a lower bound."""
    return gaussian_epsilon(terms.noise_multiplier, delta, terms.rounds)


def test_the_epsilon_is_that_of_all_announced_rounds_at_the_client_s_own_delta() -> None:
    for delta in (1e-9, 1e-6, 1e-3):
        lower = epsilon_by_hand(TERMS, delta)
        assert lower <= TERMS.epsilon_at(delta) <= 1.02 * lower
    assert TERMS.epsilon_at(1e-9) > TERMS.epsilon_at(1e-6)


def test_coarse_steps_do_not_pass_for_noise() -> None:
    """With one step in a clip, all that 2^20 coordinates can change is their rounding, and the noise has to hide it."""
    coarse = Mechanism(
        noise=as_noise("skellam"),
        clip=1.0,
        scale=1,
        bits=16,
        rounding_failure=math.exp(-0.5),
        variance=1,
        length=2**20,
    )
    terms = PrivacyTerms.of(coarse, honest=16, delta=1e-6)
    assert terms.noise_multiplier == 4.0
    assert terms.epsilon_at(1e-6) > 1000
    layout = PrivateLayout.of({"a": (2**20,)}, terms)
    layout.check_policy(LayoutPolicy(private=True))
    with pytest.raises(PeerError, match=r"a noise multiplier of 0\.0078\d+; .* allows 0\.01 or more"):
        layout.check_policy(LayoutPolicy(min_noise_multiplier=0.01))


@given(terms=terms_drawn)
def test_the_noise_that_a_client_judges_by_is_over_all_that_it_can_change(terms: PrivacyTerms) -> None:
    change = NoisySum.of_clients(terms.mechanism, terms.honest).squared_l2
    expected = Fraction(terms.honest * terms.variance, change)
    assert terms.least_noise_multiplier**2 == pytest.approx(float(expected), rel=1e-12)


def test_sampling_makes_no_promise_to_the_server() -> None:
    sampled = PrivacyTerms.from_data(DATA | {"sampling_rate": 0.01})
    assert sampled.epsilon_at(1e-6) == TERMS.epsilon_at(1e-6)
    assert sampled.promise().epsilon < TERMS.promise().epsilon


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ({"max_epsilon": 5.0, "max_delta": 1e-6}, r"an epsilon of 5\.99\d+ at delta 1e-06 .* allows 5$"),
        ({"max_epsilon": 6.0, "max_delta": 1e-9}, r"an epsilon of 7\.\d+ at delta 1e-09 .* allows 6$"),
        ({"min_noise_multiplier": 4.5}, r"a noise multiplier of 3\.97\d+; .* allows 4\.5 or more"),
        ({"max_clip": 1.0}, "has clip 1.5; .* allows 1e-100 to 1.0"),
        ({"min_bits": 20}, "has bits 1[0-9]; .* allows 20 to 32"),
    ],
)
def test_a_client_refuses_what_its_policy_does_not_allow(policy: dict[str, float], says: str) -> None:
    with pytest.raises(PeerError, match=says):
        LAYOUT.check_policy(LayoutPolicy(**policy))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "policy",
    [
        {},
        {"private": True},
        {"max_epsilon": 6.0, "max_delta": 1e-6},
        {"min_noise_multiplier": 3.9},
        {"private": True, "max_epsilon": 10.0, "max_delta": 1e-9, "min_noise_multiplier": 1.0, "min_clip": 1.0},
    ],
)
def test_a_client_takes_what_its_policy_allows(policy: dict[str, Any]) -> None:
    LAYOUT.check_policy(LayoutPolicy(**policy))


@pytest.mark.parametrize(
    "policy", [{"private": True}, {"max_epsilon": 6.0, "max_delta": 1e-6}, {"min_noise_multiplier": 1.0}]
)
def test_a_client_that_asks_for_noise_takes_no_round_without(policy: dict[str, Any]) -> None:
    with pytest.raises(PeerError, match=f"has no noise; .* private rounds alone \\({next(iter(policy))} = "):
        Layout.of(SHAPES, clip=2.0).check_policy(LayoutPolicy(**policy))


def test_a_rounding_that_takes_as_long_as_the_data_say_is_refused_by_every_client() -> None:
    """With beta near 1 most attempts fail, and how many do depends on the update."""
    slow = PrivateLayout.of(SHAPES, PrivacyTerms.from_data(DATA | {"rounding_failure": 0.999}))
    with pytest.raises(PeerError, match=r"has rounding_failure 0\.999; clients allow 0 to"):
        slow.check_policy(LayoutPolicy())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_epsilon": 1.0},
        {"max_delta": 1e-6},
        {"max_epsilon": 0.0, "max_delta": 1e-6},
        {"max_epsilon": 1.0, "max_delta": 1.0},
        {"min_noise_multiplier": -1.0},
        {"max_epsilon": math.nan, "max_delta": 1e-6},
    ],
)
def test_a_policy_on_noise_that_says_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="a layout policy with"):
        LayoutPolicy(**wrong)  # type: ignore[arg-type]
