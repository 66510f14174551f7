"""The encoder against exact arithmetic in integers and fractions, and against its own inverse."""

from __future__ import annotations

from collections import OrderedDict
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secagg.encoding import Encoder, Template
from secagg.encoding.rounding import fixed_point_factor, round_block

CLIPS = st.floats(1e-100, 1e100) | st.floats(1e-3, 1e3) | st.sampled_from([0.1, 1.0, 1 / 3, 127.0])
BITS = st.integers(2, 32)
SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(deadline=None, max_examples=150)


class Moments(NamedTuple):
    first: Any
    second: Any


def seeded(seed: int) -> Any:
    return np.random.default_rng(seed).bytes


def clipped(value: Fraction, clip: float) -> Fraction:
    return max(-Fraction(clip), min(Fraction(clip), value))


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[float, int, int | None, list[int], list[np.ndarray]]:
    """clip, bits, max_weight, one weight per client, one update per client; values all around the clip."""
    clip, bits = draw(CLIPS), draw(BITS)
    count, length = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    max_weight = draw(st.none() | st.integers(1, 10) | st.integers(1, 2**53))
    weights = [1] * count if max_weight is None else [draw(st.integers(0, max_weight)) for _ in range(count)]
    if not any(weights):
        weights[0] = 1
    dtype = draw(st.sampled_from(["f2", "f4", "f8", ">f8", "i4", "i8", "u8", "?"]))
    around = st.floats(-1.5, 1.5).map(lambda part: part * clip) | st.sampled_from([clip, -clip, 0.0, -0.0])
    finite = st.floats(allow_nan=False, allow_infinity=False)
    elements = around | finite if dtype.endswith("f8") else None
    if dtype in ("f2", "f4"):
        elements = st.floats(allow_nan=False, allow_infinity=False, width=16 if dtype == "f2" else 32)
    updates = [draw(hnp.arrays(dtype, length, elements=elements)) for _ in range(count)]
    return clip, bits, max_weight, weights, updates


def exact(value: Any) -> Fraction:
    return Fraction(int(value)) if np.asarray(value).dtype.kind in "biu" else Fraction(float(value))


@FEW
@given(cohorts(), SEEDS)
def test_mean_is_within_the_stated_bound_of_the_exact_one(cohort: Any, seed: int) -> None:
    clip, bits, max_weight, weights, updates = cohort
    encoder = Encoder(updates[0], clip, bits, max_weight, randomness=seeded(seed))
    modulus = encoder.modulus_for(len(updates))
    encoder.check_capacity(len(updates), modulus)
    ring = np.zeros(encoder.length, modulus.dtype)
    beyond = 0
    for update, weight in zip(updates, weights, strict=True):
        vector = encoder.encode(update, weight=weight)
        assert int(vector.max()) <= encoder.input_max
        beyond += sum(encoder.clipped.values())
        ring = (ring + vector.astype(modulus.dtype)) & modulus.dtype.type(modulus.value - 1)
    decoded = encoder.decode_sum(ring, len(updates))
    assert decoded.weight == sum(weights)
    bound = Fraction(encoder.error_bound(len(updates), decoded.weight))
    values = [[exact(value) for value in update] for update in updates]
    for coordinate, mean in enumerate(decoded.mean):
        weighed = sum(w * clipped(row[coordinate], clip) for w, row in zip(weights, values, strict=True))
        assert abs(Fraction(float(mean)) - weighed / decoded.weight) <= bound
    # An int64 beyond 2^53 may round onto the clip; every other value is compared as it is.
    if updates[0].dtype.kind != "i" and updates[0].dtype.kind != "u":
        assert beyond == sum(abs(value) > Fraction(clip) for row in values for value in row)


@FEW
@given(cohorts())
def test_stated_bound_is_the_formula_and_little_more(cohort: Any) -> None:
    clip, bits, max_weight, weights, _ = cohort
    encoder = Encoder(np.zeros(1), clip, bits, max_weight)
    count, total = len(weights), sum(weights)
    scale = Fraction((1 << (bits - 1)) - 1) / Fraction(clip)
    formula = count * Fraction(max_weight or 1) / (scale * total)
    slack = (formula + Fraction(clip)) / 2**50 + formula * Fraction(2) ** (bits - 51)
    bound = Fraction(encoder.error_bound(count, total))
    assert formula + slack / 4 < bound <= formula + slack


@FEW
@given(BITS, CLIPS, st.integers(1, 2**53), st.data())
def test_factor_never_overshoots_and_is_close(bits: int, clip: float, max_weight: int, data: st.DataObject) -> None:
    weight = data.draw(st.integers(0, max_weight))
    levels = (1 << (bits - 1)) - 1
    factor = fixed_point_factor(levels, clip, weight, max_weight)
    exactly = Fraction((levels * weight) << 32, max_weight) / Fraction(clip)
    assert clip * factor <= levels << 32
    assert abs(Fraction(factor) - exactly) <= 5 * exactly / 2**53


@FEW
@given(BITS, st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 2**32 - 1)), min_size=1, max_size=40))
def test_rounding_is_the_integer_formula(bits: int, pairs: list[tuple[float, int]]) -> None:
    levels = (1 << (bits - 1)) - 1
    values = np.array([value for value, _ in pairs]) * levels
    fixed = [round(Fraction(float(value)) * 2**32) for value in values]  # half to even, as rint
    random = np.array([k for _, k in pairs], np.uint32)
    for dtype in (dtype for dtype in (np.uint8, np.uint16, np.uint32, np.uint64) if 2 * levels <= np.iinfo(dtype).max):
        out = np.zeros(len(pairs), dtype)
        assert round_block(values, 2.0**32, levels, levels, random, out) == 0
        assert out.tolist() == [((x + k) >> 32) + levels for x, (_, k) in zip(fixed, pairs, strict=True)]
    with pytest.raises(ValueError, match="random numbers"):
        round_block(values, 2.0**32, levels, levels, random[1:], out)
    for value, coded in zip(values, out.tolist(), strict=True):
        assert abs(Fraction(float(value)) - (coded - levels)) < 1


@FEW
@given(BITS, st.none() | st.integers(1, 2**53), st.integers(1, 2**31))
def test_modulus_is_the_smallest(bits: int, max_weight: int | None, clients: int) -> None:
    encoder = Encoder(np.zeros(1), 1.0, bits, max_weight)
    largest = clients * encoder.input_max
    modulus = encoder.modulus_for(clients)
    assert modulus.is_ring
    assert modulus.value // 2 <= largest < modulus.value


LEAF_DTYPES = st.sampled_from(["f2", "f4", "f8", ">f4", "i1", "i4", "i8", "u2", "?"])
LEAVES = (
    hnp.arrays(
        LEAF_DTYPES, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3), elements=st.integers(0, 1)
    )
    | st.booleans()
    | st.integers(0, 1)
    | st.sampled_from([0.0, 1.0])
    | st.none()
)
KEYS = st.text(max_size=4) | st.integers(-3, 3)
UPDATES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3).map(OrderedDict)
        | st.builds(Moments, inner, inner)
    ),
    max_leaves=12,
)


def assert_same(left: Any, right: Any) -> None:
    """Equal in nesting, types, keys and their order, shapes, dtypes and values."""
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, strict=True)
    else:
        assert left == right


@FEW
@given(UPDATES, st.none() | st.integers(1, 1000))
def test_structure_comes_back(update: Any, max_weight: int | None) -> None:
    template = Template.of(update)
    names = [leaf.name for leaf in template.leaves]
    assert len(set(names)) == len(names)
    assert [leaf.start for leaf in template.leaves] == [
        sum(leaf.size for leaf in template.leaves[:i]) for i in range(len(names))
    ]
    if template.size == 0:
        return
    encoder = Encoder(template, clip=1.0, bits=2, max_weight=max_weight)  # 0 and 1 are whole steps at full weight
    vector = encoder.encode(update, weight=max_weight or 1)
    assert_same(encoder.decode_sum(vector, 1, "template").mean, update)
    plain = encoder.decode_sum(vector, 1).mean
    for array, wanted in zip(template.flatten(plain), template.flatten(update), strict=True):
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, wanted)
    assert Encoder(Template.of(plain), 1.0, 2, max_weight).layout_digest() == encoder.layout_digest()


@FEW
@given(
    hnp.arrays("f4", hnp.array_shapes(max_dims=4, max_side=5), elements=st.floats(-2, 2, width=32)), st.data(), SEEDS
)
def test_memory_layout_does_not_matter(array: np.ndarray, data: st.DataObject, seed: int) -> None:
    axes = data.draw(st.permutations(range(array.ndim)))
    roomy = np.zeros(tuple(2 * extent for extent in array.shape), data.draw(st.sampled_from(["f4", ">f4", "f8"])))
    window = roomy[tuple(np.s_[::2] for _ in array.shape)]
    window[...] = array
    shuffled = np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))
    coded = [Encoder(array, 1.0, randomness=seeded(seed)).encode(form) for form in (array, window, shuffled)]
    np.testing.assert_array_equal(coded[0], coded[1])
    np.testing.assert_array_equal(coded[0], coded[2])
