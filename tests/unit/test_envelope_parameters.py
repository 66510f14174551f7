"""The finder of envelopes' parameters against its conditions, and against a search of everything."""

from __future__ import annotations

from math import isqrt, log2, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.envelopes.parameters import LARGEST_MODULUS_BITS, EnvelopeParameters, find
from secagg.errors import ParameterError

REQUESTS = st.tuples(st.integers(3, 2**20), st.integers(1, 2**36), st.integers(2, 64))


@given(REQUESTS)
def test_what_is_found_is_secure_and_large_enough(request_: tuple[int, int, int]) -> None:
    clients, _, bits = request_
    found = find(*request_)
    q, t = prod(found.primes), 2 ** (found.slots * bits)
    assert (found.clients, found.length, found.element_bits) == request_
    assert q.bit_length() == found.modulus_bits <= LARGEST_MODULUS_BITS[found.degree]
    assert found.sum_bytes == 4 * len(found.primes) * found.envelope_bytes * 8 // sum(map(int.bit_length, found.primes))
    assert 2 * t * (50 * clients + 1) < q
    assert 65 * t * (50 * clients + 1) < 32 * q
    assert list(found.primes) == sorted(set(found.primes), reverse=True)
    for prime in found.primes:
        assert all(prime % divisor for divisor in range(2, isqrt(prime) + 1))
        assert prime % (2 * found.degree) == 1
        assert 2**16 < prime < 2**30
    assert found.noise_bound == 50 * clients
    assert 2 * 36 * clients < 2**found.key_bits <= 4 * 36 * clients


@settings(max_examples=10)
@given(st.tuples(st.integers(3, 5000), st.integers(1, 10**7), st.integers(8, 64)))
def test_no_other_set_takes_fewer_bytes(request_: tuple[int, int, int]) -> None:
    """With real-valued logarithms and no primes at all: what q needs at least gives a bound that is met to a bit."""
    clients, length, bits = request_
    found = find(*request_)
    for degree, most in {4096: 101, 8192: 202, 16384: 411}.items():
        for slots in range(1, most // bits + 1):
            needed = slots * bits + log2(65 / 32 * (50 * clients + 1))
            if needed >= most:
                continue
            sent = 64 * -(-length // (64 * slots))
            key = degree * found.key_bits / 8
            assert found.envelope_bytes + found.key_bytes <= (sent + degree) * (needed + 2) / 8 + key


@pytest.mark.parametrize(
    ("clients", "length", "bits", "degree", "slots", "modulus_bits", "upload"),
    [
        (1000, 10_000, 26, 4096, 3, 95, 48_984),
        (1000, 100_000, 26, 8192, 7, 199, 374_016),
        (1000, 1_000_000, 26, 16384, 15, 407, 3_427_568),
        (10_000, 1_000_000, 30, 16384, 13, 410, 3_983_520),
        (1000, 10_000_000, 26, 16384, 15, 407, 33_952_568),
    ],
)
def test_known_sizes(
    clients: int, length: int, bits: int, degree: int, slots: int, modulus_bits: int, upload: int
) -> None:
    found = find(clients, length, bits)
    assert (found.degree, found.slots, found.modulus_bits) == (degree, slots, modulus_bits)
    assert found.envelope_bytes + found.key_bytes == upload


def test_what_no_envelope_holds_is_refused_with_what_to_change() -> None:
    with pytest.raises(ParameterError, match=r"sums of 65 bits: .* choose a smaller input_max"):
        find(1000, 10, 65)
    with pytest.raises(ParameterError, match="1 client and length 5"):
        find(1, 5, 10)


def test_the_explanation_names_the_ring_its_limit_and_the_bytes() -> None:
    text = "\n".join(find(1000, 1_000_000, 26).explain())
    assert "degree 16,384 and a modulus of 407 bits, the product of 14 primes; 411 bits are the most" in text
    assert "15 elements of 26 bits; the errors of 1,000 clients stay within 50,000" in text
    assert "3,392,752 bytes of envelope and 34,816 bytes of masked key: 27.42 bits per element" in text


def test_parameters_compare_by_value() -> None:
    assert find(3, 7, 5) == EnvelopeParameters(3, 7, 5, find(3, 7, 5).slots, find(3, 7, 5).degree, find(3, 7, 5).primes)
