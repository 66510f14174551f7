"""Lattice envelopes of the library against those of the reference, to the byte."""

from __future__ import annotations

import random
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import envelopes as reference
from reference.wire import Refused

from secagg.envelopes import gaussian, scheme
from secagg.envelopes.parameters import EnvelopeParameters, find
from secagg.envelopes.randomness import EnvelopeRandomness
from secagg.primitives.suites import Suite

SETS = [
    (4, 1, 2),
    (4, 65, 10),
    (1000, 200, 26),
    (3, 150, 64),
    (30, 20_000, 9),
    (1000, 9000, 31),
]
"""Clients, length and bits: one and several primes and slots, one and several digits, polynomials of every fill."""


def both(clients: int, length: int, bits: int) -> tuple[EnvelopeParameters, reference.Parameters]:
    return find(clients, length, bits), reference.find(clients, length, bits)


@given(st.integers(3, 2**20), st.integers(1, 2**36), st.integers(2, 64))
@settings(max_examples=15)
def test_both_find_the_same_parameters(clients: int, length: int, bits: int) -> None:
    found, other = both(clients, length, bits)
    assert astuple(found) == astuple(other)
    assert 1 << found.key_bits == other.key_modulus
    assert found.envelope_bytes == other.envelope_bytes()
    if length < 10**6:
        sent = sum(sent for _, _, sent in other.pieces())
        assert found.envelope_bytes == sent // 8 * sum(map(int.bit_length, other.primes))


def test_both_have_the_same_tables() -> None:
    for distribution in (gaussian.SECRET, gaussian.ERROR):
        assert gaussian.magnitude_bounds(distribution) == reference.magnitude_bounds(*distribution)
    assert (reference.SECRET, reference.ERROR) == (gaussian.SECRET, gaussian.ERROR)


@pytest.mark.parametrize("sizes", SETS, ids=str)
def test_both_make_the_same_envelopes_and_open_the_same_sums(sizes: tuple[int, int, int]) -> None:
    draw = random.Random(str(sizes))
    parameters, other = both(*sizes)
    key, largest = draw.randbytes(16), (2 ** sizes[2] - 1) // 2
    public = scheme.PublicPolynomials(Suite.AES_128, key, parameters)
    total, rows = scheme.empty_sum(parameters), None
    secrets, sums = np.zeros(parameters.degree, dtype=np.int64), [0] * sizes[1]
    for _ in range(2):
        seed, vector = (
            draw.randbytes(32),
            [draw.choice([0, largest, draw.randint(0, largest)]) for _ in range(sizes[1])],
        )
        randomness = EnvelopeRandomness(seed)
        secret = randomness.secret(parameters.degree)
        lanes = np.array(vector, dtype=np.uint64)
        envelope = bytes(scheme.encrypt(parameters, public, secret, lanes, randomness.errors))
        assert ((secret + 36).tolist(), envelope) == reference.seal(other, key, seed, vector)
        scheme.add_envelope(parameters, total, envelope)
        read = reference.read(other, envelope)
        rows = read if rows is None else reference.add(other, rows, read)
        secrets, sums = secrets + secret, [x + y for x, y in zip(sums, vector, strict=True)]
    assert rows is not None
    assert total.tolist() == [residue for row in rows for residue in row]
    assert scheme.open_sum(parameters, public, total, secrets).tolist() == sums
    assert reference.open_sum(other, key, rows, (secrets + 72).tolist(), 2) == sums
    with pytest.raises(scheme.NoiseError):
        scheme.open_sum(parameters, public, total, secrets + 1)
    with pytest.raises(Refused, match="bad-envelope"):
        reference.open_sum(other, key, rows, (secrets + 73).tolist(), 2)
