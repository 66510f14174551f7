"""The private encoding against the executable reference, and round trips, over drawn layouts and updates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import private as reference

from secagg.privacy import Mechanism, NoiseKind, PrivateEncoder
from tests.support.private_reference import reference_of


@dataclass
class Case:
    """A client of a private round."""

    encoder: PrivateEncoder
    context: bytes
    seed: bytes
    update: np.ndarray
    weight: int

    @property
    def by_reference(self) -> reference.Mechanism:
        """The mechanism as the reference has it."""
        return reference_of(self.encoder.mechanism, self.encoder.max_weight, self.encoder.weight_clip)


@st.composite
def cases(draw: st.DrawFn, largest: int = 40) -> Case:
    size = draw(st.integers(1, largest))
    max_weight = draw(st.none() | st.integers(1, 2**53))
    clip = draw(st.floats(1e-3, 1e3) | st.floats(1e-100, 1e100))
    steps = draw(st.floats(0.1, 2**20) | st.floats(1e-3, 2.0**45))
    mechanism = Mechanism(
        noise=draw(st.sampled_from(NoiseKind)),
        clip=clip,
        scale=Fraction(steps / clip),
        bits=draw(st.integers(2, 32)),
        rounding_failure=draw(st.sampled_from([0.0, math.exp(-0.5)]) | st.floats(0, 0.999)),
        variance=draw(st.integers(1, 5000) | st.integers(1, 2**62)),
        length=PrivateEncoder.coordinates(np.zeros(size), max_weight),
    )
    seed, context = draw(st.binary(min_size=32, max_size=32)), draw(st.binary(max_size=20))
    encoder = PrivateEncoder(
        np.zeros(size),
        mechanism,
        max_weight=max_weight,
        weight_clip=None if max_weight is None else clip * draw(st.floats(0.01, 0.99)),
        randomness=lambda length: seed[:length],
    )
    shape = {
        "clients": 5,
        "length": encoder.length,
        "input_max": encoder.input_max,
        "attachment_bytes": 0,
        "context": context,
    }
    bound = encoder.for_round(SimpleNamespace(**shape, modulus=encoder.modulus_for(5)))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    update = draw(st.lists(st.floats(-clip, clip) | finite, min_size=size, max_size=size))
    weight = 1 if max_weight is None else draw(st.integers(0, max_weight))
    return Case(bound, context, seed, np.array(update), weight)


@given(cases())
def test_the_reference_encodes_the_same(case: Case) -> None:
    vector = case.encoder.encode(case.update, case.weight)
    expected = reference.encode(case.by_reference, case.context, case.seed, case.update.tolist(), case.weight)
    assert vector.tolist() == expected


@given(cases())
def test_the_reference_decodes_the_same(case: Case) -> None:
    total = np.random.default_rng(list(case.seed)).integers(0, 2**case.encoder.bits, case.encoder.length, np.uint64)
    mean = case.encoder.decode_sum(total, 3)
    values, weight = reference.decode(case.by_reference, case.context, total.tolist(), 3)
    largest = max(map(abs, values))
    assert np.abs(mean.mean - values).max() <= 1e-9 * largest
    assert math.isclose(mean.weight, weight, rel_tol=1e-9)


@given(cases(largest=300))
@settings(max_examples=settings().max_examples // 2)
def test_a_client_is_never_worth_more_than_the_bound(case: Case) -> None:
    """The vector less its noise: whatever the update is, and however extreme."""
    by_reference = case.by_reference
    rotated = reference.rotate(by_reference, case.context, case.update.tolist(), case.weight)
    assert math.fsum(value * value for value in rotated) <= float(Fraction(by_reference.clip) * by_reference.scale) ** 2
    rounded = reference.round_conditionally(rotated, case.seed, reference.squared_norm_bound(by_reference))
    assert sum(whole * whole for whole in rounded) <= case.encoder.mechanism.squared_norm_bound
