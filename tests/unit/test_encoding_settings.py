"""Clips, bits and exact ranges of single arrays, against integers and fractions."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Encoder, Exact, InputError, ParameterError, RoundConfig
from secagg.encoding.rounding import BLOCK
from secagg.simulation import simulate


def total(vectors: list[np.ndarray]) -> np.ndarray:
    return np.sum([vector.astype(np.uint64) for vector in vectors], axis=0, dtype=np.uint64)


@st.composite
def exact_cohorts(draw: st.DrawFn) -> tuple[Exact, int, int | None, list[int], list[list[int]]]:
    """Range, bits, max_weight, weights, and each client's values in units; some out of range."""
    decimals = draw(st.integers(0, 6))
    low = draw(st.integers(-(10**6), 10**6))
    high = low + draw(st.integers(1, 10**6))
    units = 10**decimals
    max_weight = draw(st.none() | st.integers(1, 10**4))
    count, length = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    weights = [1 if max_weight is None else draw(st.integers(1, max_weight)) for _ in range(count)]
    values = st.integers((low - 2) * units, (high + 2) * units)
    updates = [draw(st.lists(values, min_size=length, max_size=length)) for _ in range(count)]
    return Exact(low, high, decimals), draw(st.integers(2, 32)), max_weight, weights, updates


@settings(deadline=None, max_examples=200)
@given(exact_cohorts())
def test_exact_arrays_are_summed_as_python_sums_integers(cohort: Any) -> None:
    exact, bits, max_weight, weights, updates = cohort
    units = 10**exact.decimals
    encoder = Encoder({"x": np.zeros(len(updates[0]))}, 1.0, bits, max_weight, exact={"x": exact})
    vectors = []
    beyond = 0
    for update, weight in zip(updates, weights, strict=True):
        given_as = np.array(update) if exact.decimals == 0 else np.array([float(Fraction(u, units)) for u in update])
        vectors.append(encoder.encode({"x": given_as}, weight=weight))
        assert int(vectors[-1].max()) <= encoder.input_max
        outside = sum(not exact.low * units <= u <= exact.high * units for u in update)
        assert sum(encoder.clipped.values()) == outside
        beyond += outside
    decoded = encoder.decode_sum(total(vectors), len(updates))
    kept = [[max(exact.low * units, min(exact.high * units, u)) for u in update] for update in updates]
    expected = [sum(w * row[i] for w, row in zip(weights, kept, strict=True)) for i in range(len(kept[0]))]
    assert [int(value) for value in decoded.totals["x"]] == expected
    assert decoded.clipped == beyond
    for mean, wanted in zip(decoded.mean["x"], expected, strict=True):
        error = abs(Fraction(float(mean)) - Fraction(wanted, sum(weights) * units))
        assert error <= Fraction(encoder.error_bound(len(updates), sum(weights), "x"))


def test_money_to_the_cent_through_a_whole_round() -> None:
    """Floats at 16 bits were off by thousands; sums of money are whole numbers of cents."""
    rng = np.random.default_rng(4)
    cents = rng.integers(-(10**9), 10**9, (10, 50))
    amounts = [{"balance": row / 100} for row in cents]
    encoder = Encoder(amounts[0], clip=1.0, exact={"balance": Exact(-(10**7), 10**7, decimals=2)})
    config = RoundConfig.for_cohort(10, encoder.length, gamma=0.2, delta=0.2, input_max=encoder.input_max)
    outcome = simulate(lambda client: encoder.encode(amounts[client]), config)
    assert outcome.result is not None
    decoded = encoder.decode(outcome.result)
    sums = [Decimal(int(total)) / 100 for total in decoded.totals["balance"]]
    assert sums == [Decimal(int(column)) / 100 for column in cents.sum(axis=0)]


@pytest.mark.parametrize("dtype", ["i1", "u1", "i4", ">i4", "u4", "i8", "u8", "?", "f4", "f8"])
def test_any_real_dtype(dtype: str) -> None:
    values = np.array([0, 1, 1, 0, 1]).astype(dtype)
    encoder = Encoder(values, 1.0, exact={"update": Exact(0, 5)})
    assert encoder.decode_sum(encoder.encode(values), 1).totals["update"].tolist() == [0, 1, 1, 0, 1]


def test_values_far_outside_of_the_range_are_clipped_and_counted() -> None:
    encoder = Encoder(np.zeros(3), 1.0, exact={"*": Exact(-5, 5)})
    for values in (
        np.array([2**64 - 1, 3, 0], np.uint64),
        np.array([-(2**63), 7, 2**63 - 1]),
        np.array([1e300, 6, -9]),
    ):
        decoded = encoder.decode_sum(encoder.encode(values), 1)
        wanted = [max(-5, min(5, int(value))) for value in values.tolist()]
        assert decoded.totals["update"].tolist() == wanted
        assert decoded.clipped == sum(int(value) != want for value, want in zip(values.tolist(), wanted, strict=True))


def test_a_count_beside_weights_keeps_its_value() -> None:
    """A BatchNorm counter of 54.94 came out as 56.97, at a clip for counters and weights far below the largest."""
    counters = [{"w": np.zeros(3), "batches": np.array(batches)} for batches in (50, 55, 60)]
    weights = [100, 120, 80]
    encoder = Encoder(counters[0], 0.1, max_weight=10**6, exact={"batches": Exact(0, 2**31)})
    vectors = [encoder.encode(update, weight=weight) for update, weight in zip(counters, weights, strict=True)]
    decoded = encoder.decode_sum(total(vectors), 3)
    assert decoded.totals["batches"] == 50 * 100 + 55 * 120 + 60 * 80
    assert decoded.mean["batches"] == pytest.approx(16400 / 300, rel=1e-15)


def test_more_than_63_bits_in_the_sum() -> None:
    exact = Exact(-(2**52), 2**52)
    encoder = Encoder(np.zeros(2), 1.0, max_weight=1000, exact={"*": exact})
    values = np.array([2**52, -(2**52)])
    vectors = [encoder.encode(values, weight=1000)] * 900
    decoded = encoder.decode_sum(total(vectors), 900)
    assert decoded.totals["update"].tolist() == [2**52 * 900_000, -(2**52) * 900_000]
    np.testing.assert_array_equal(decoded.mean, [2.0**52, -(2.0**52)])


def test_longer_than_a_block() -> None:
    values = np.arange(2 * BLOCK + 5)
    encoder = Encoder({"n": values, "w": np.zeros(3)}, 1.0, bits=4, exact={"n": Exact(0, 10**6)})
    decoded = encoder.decode_sum(total([encoder.encode({"n": values, "w": np.ones(3)})] * 3), 3)
    np.testing.assert_array_equal(decoded.totals["n"], 3 * values)
    np.testing.assert_allclose(decoded.mean["w"], 1.0)


@pytest.mark.parametrize("bits", [2, 8, 16, 24, 32])
@pytest.mark.parametrize("own_bits", [2, 15, 17, 32])
def test_bits_and_clips_of_single_arrays(bits: int, own_bits: int) -> None:
    rng = np.random.default_rng(bits)
    template = {"plain": np.zeros(70), "fine": np.zeros((5, 4)), "large": np.zeros(9), "empty": np.zeros(0)}
    clips = {"plain": 1.0, "fine": 0.01, "large": 5e4}
    encoder = Encoder(template, 1.0, bits, 50, clips={"fine": 0.01, "lar*": 5e4}, array_bits={"fine": own_bits})
    updates = [
        {name: rng.uniform(-1.2, 1.2, value.shape) * clips.get(name, 1.0) for name, value in template.items()}
        for _ in range(6)
    ]
    weights = [50, 1, 7, 30, 0, 12]
    vectors, beyond = [], 0
    for update, weight in zip(updates, weights, strict=True):
        vectors.append(encoder.encode(update, weight=weight))
        assert vectors[-1].shape == (encoder.length,)
        assert int(vectors[-1].max()) <= encoder.input_max == 2**bits - 2
        counted = {name: int((np.abs(update[name]) > clip).sum()) for name, clip in clips.items()}
        assert encoder.clipped == {name: number for name, number in counted.items() if number}
        beyond += sum(counted.values())
    decoded = encoder.decode_sum(total(vectors), 6)
    assert decoded.clipped == beyond
    for name, clip in clips.items():
        kept = [np.clip(update[name], -clip, clip) for update in updates]
        expected = np.average(kept, axis=0, weights=weights)
        bound = encoder.error_bound(6, 100, name)
        assert np.abs(decoded.mean[name] - expected).max() <= bound
        levels = 2 ** ((own_bits if name == "fine" else bits) - 1) - 1
        assert bound == pytest.approx(6 * 50 / 100 * clip / levels, rel=1e-4)
    assert encoder.error_bound(6, 100) == max(encoder.error_bound(6, 100, name) for name in clips)
    assert decoded.mean["empty"].shape == (0,)


def test_a_finite_value_beyond_float64_when_scaled_is_clipped() -> None:
    encoder = Encoder({"a": np.zeros(1), "b": np.zeros(1)}, 1e100, clips={"b": 1e-100})
    decoded = encoder.decode_sum(encoder.encode({"a": np.zeros(1), "b": np.array([1e250])}), 1)
    assert decoded.mean["b"][0] == pytest.approx(1e-100)
    assert encoder.clipped == {"b": 1}
    with pytest.raises(InputError, match="b holds 1 NaN"):
        encoder.encode({"a": np.zeros(1), "b": np.array([np.nan])})


def test_layouts_that_differ_have_other_digests() -> None:
    template = {"a": np.zeros(2), "b": np.zeros(2)}
    encoders = [
        Encoder(template, 1.0),
        Encoder(template, 1.0, clips={"b": 2.0}),
        Encoder(template, 1.0, clips={"a": 2.0}),
        Encoder(template, 1.0, array_bits={"b": 17}),
        Encoder(template, 1.0, exact={"b": Exact(0, 9)}),
        Encoder(template, 1.0, exact={"b": Exact(0, 9, 1)}),
        Encoder(template, 1.0, exact={"b": Exact(-1, 9)}),
    ]
    assert len({encoder.layout_digest() for encoder in encoders}) == len(encoders)
    assert Encoder(template, 1.0, clips={"b": 1.0}).layout_digest() == encoders[0].layout_digest()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": {"c": 1.0}}, "clips: 'c' matches no array; there are a, b"),
        ({"clips": {"a": 0.0}}, "clips: the clip of a is 0.0"),
        ({"array_bits": {"a": 33}}, "array_bits: the bits of a is 33"),
        ({"exact": {"a": (0, 1)}}, r"exact: a has \(0, 1\); give secagg.Exact"),
        ({"exact": {"a": Exact(0, 2**40)}, "max_weight": 2**23}, "a: .* exact values times a weight .* need 64 bits"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Encoder({"a": np.zeros(1), "b": np.zeros(1)}, 1.0, **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, 3), "an exact array from 3 to 3: high must be above low"),
        ((0.5, 3), "low is 0.5"),
        ((0, 2**53 + 1), "high is 9007199254740993"),
        ((0, 10**15, 2), "high is 1000000000000000"),
        ((0, 1, -1), "decimals is -1"),
    ],
)
def test_ranges_that_are_none(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Exact(*arguments)


def test_sums_that_no_clients_make() -> None:
    encoder = Encoder({"n": np.zeros(2)}, 1.0, bits=4, max_weight=10, exact={"n": Exact(0, 100)})
    good = encoder.encode({"n": np.array([3, 100])}, weight=5).astype(np.uint64)
    assert encoder.decode_sum(good, 1).totals["n"].tolist() == [15, 500]
    for at, value, message in (
        (0, 15, "a digit of an element of n is 15 in the sum, and 1 client can reach 14"),
        (1, 14, "an element of n is 509 units above its least in the sum, and a total weight of 5 can reach 500"),
        (5, 5, "a digit of an element of n is 5 in the sum, and 1 client can reach 4"),
    ):
        bad = good.copy()
        bad[at] = value
        with pytest.raises(InputError, match=message):
            encoder.decode_sum(bad, 1)


@pytest.mark.parametrize(
    ("bits", "max_weight", "remedy"),
    [
        (16, 2**15, "give it 17 bits or more"),
        (16, 10**6, "give it 21 bits or more"),
        (16, 2**40, "sum it exactly"),
        (2, 2, "give it 3 bits or more"),
    ],
)
def test_a_layout_in_which_small_weights_are_lost_is_refused(bits: int, max_weight: int, remedy: str) -> None:
    """Weights near 100 under a max_weight of 10^6 gave an error of 320%, without a word."""
    encoder = Encoder({"w": np.zeros(3)}, 1.0, bits, max_weight)
    with pytest.raises(ParameterError, match=f"max_weight is {max_weight}, and a value of w has .*{remedy}"):
        encoder.check_precision()
    Encoder({"w": np.zeros(3)}, 1.0, bits, 2 ** (bits - 1) - 1).check_precision()
    Encoder({"w": np.zeros(3)}, 1.0, bits, max_weight, exact={"w": Exact(0, 9)}).check_precision()


def test_arrays_that_are_small_beside_the_rounding_are_named() -> None:
    """A count of 1701 came out as 0 under a clip of 1e8."""
    template = {"count": np.zeros(2), "weights": np.zeros(3), "zeros": np.zeros(2), "cut": np.zeros(1)}
    update = {
        "count": np.array([1701, -3]),
        "weights": np.array([1e7, 0, 0]),
        "zeros": np.zeros(2),
        "cut": np.array([5e10]),
    }
    encoder = Encoder(template, 1e8, clips={"weights": 1e7})
    found = encoder.coarse(update)
    assert set(found) == {"count", "cut"}
    assert (found["count"].largest, found["count"].clip) == (1701.0, 1e8)
    assert found["count"].rounding == pytest.approx(1e8 / 32767)
    weighted = Encoder({"w": np.zeros(1)}, 1.0, max_weight=10_000)
    assert weighted.coarse({"w": np.ones(1)}, weight=10_000) == {}
    assert weighted.coarse({"w": np.ones(1)}, weight=10)["w"].rounding == pytest.approx(1000 / 32767)
    assert Encoder(template, 1e8, exact={"*": Exact(-(10**12), 10**12)}).coarse(update) == {}
