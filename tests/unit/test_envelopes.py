"""Envelopes: bytes against Python integers, sums against sums, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Suite
from secagg.arithmetic import Modulus, modular
from secagg.arithmetic.kernels import envelopes as kernels
from secagg.arithmetic.kernels import ntt
from secagg.envelopes import layout, scheme
from tests.support import envelopes as by_hand
from tests.support.envelopes import Parameters, chosen

KEY = bytes(range(16))
Lanes = npt.NDArray[np.unsignedinteger[Any]]


def public(parameters: Parameters) -> scheme.PublicPolynomials:
    return scheme.PublicPolynomials(Suite.AES_128, KEY, parameters)


class Sampler:
    """Errors and secrets out of a seeded generator, which remembers them; extremes come often."""

    def __init__(self, seed: int, bound: int = 51) -> None:
        self.generator, self.bound, self.drawn = np.random.default_rng(seed), bound, []

    def __call__(self, count: int) -> npt.NDArray[np.int32]:
        errors = self.generator.integers(-self.bound, self.bound + 1, count, dtype=np.int32)
        errors[self.generator.random(count) < 0.2] = self.bound
        errors[self.generator.random(count) < 0.2] = -self.bound
        self.drawn.append(errors.copy())
        return errors


def lane_type(parameters: Parameters) -> np.dtype[np.unsignedinteger]:
    return Modulus.ring(parameters.element_bits).dtype


def a_vector(parameters: Parameters, seed: int, largest: int) -> Lanes:
    """Elements of which some are zero and some as large as can be."""
    generator = np.random.default_rng(seed)
    vector = generator.integers(0, largest, parameters.length, dtype=np.uint64, endpoint=True)
    vector[generator.random(parameters.length) < 0.2] = largest
    vector[generator.random(parameters.length) < 0.1] = 0
    return vector.astype(lane_type(parameters))


def summed(
    parameters: Parameters, clients: int, seed: int = 0
) -> tuple[scheme.Words, npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """The sum of some envelopes, of their secrets and of their vectors."""
    largest = (2**parameters.element_bits - 1) // clients
    total, polynomials = scheme.empty_sum(parameters), public(parameters)
    secrets = np.zeros(parameters.degree, dtype=np.int64)
    vectors = np.zeros(parameters.length, dtype=np.uint64)
    for client in range(clients):
        secret, vector = Sampler(seed + client, 36)(parameters.degree), a_vector(parameters, seed + client, largest)
        envelope = scheme.encrypt(parameters, polynomials, secret, vector, Sampler(seed - client - 1 & 2**32 - 1))
        scheme.add_envelope(parameters, total, envelope)
        secrets += secret
        vectors += vector.astype(np.uint64)
    return total, secrets, vectors


EDGES = [
    # degree, element bits, slots, length, clients
    chosen(512, 26, 3, 1, 1000),
    chosen(512, 26, 3, 512 * 3, 3),
    chosen(512, 26, 3, 512 * 3 + 1, 3),
    chosen(512, 1, 100, 512 * 100 - 1, 1),
    chosen(512, 8, 9, 5_000, 200),
    chosen(512, 28, 2, 3_000, 3),
    chosen(512, 29, 2, 3_000, 3),
    chosen(512, 33, 5, 3_000, 7),
    chosen(512, 57, 3, 3_000, 7),
    chosen(512, 64, 2, 3_000, 7),
    chosen(4096, 26, 3, 20_000, 1000),
    chosen(8192, 26, 7, 8192 * 7 + 65, 1000),
    chosen(16384, 26, 15, 100_000, 1000),
]


@pytest.mark.parametrize("parameters", EDGES, ids=str)
def test_a_sum_of_envelopes_opens_to_the_sum_of_the_vectors(parameters: Parameters) -> None:
    total, secrets, vectors = summed(parameters, min(parameters.clients, 5))
    opened = scheme.open_sum(parameters, public(parameters), total, secrets)
    assert opened.dtype == lane_type(parameters)
    assert np.array_equal(opened, vectors)


@settings(max_examples=settings().max_examples // 4)
@given(data=st.data())
def test_any_width_packing_and_length(data: st.DataObject) -> None:
    element_bits = data.draw(st.integers(1, 64))
    slots = data.draw(st.integers(1, max(1, 200 // element_bits)))
    clients = data.draw(st.integers(1, min(4, 2**element_bits - 1)))
    length = data.draw(st.integers(0, 3 * 512 * slots))
    parameters = chosen(512, element_bits, slots, length, clients, data.draw(st.integers(24, 30)))
    total, secrets, vectors = summed(parameters, clients, data.draw(st.integers(0, 2**31)))
    assert np.array_equal(scheme.open_sum(parameters, public(parameters), total, secrets), vectors)


@pytest.mark.parametrize("suite", [Suite.AES_128, Suite.AES_256])
@pytest.mark.parametrize(("element_bits", "slots"), [(26, 3), (40, 2), (5, 11)])
def test_an_envelope_is_what_its_definition_says(suite: Suite, element_bits: int, slots: int) -> None:
    parameters = chosen(512, element_bits, slots, 512 * slots + 70, 1000)
    key, sampler = bytes(range(suite.key_bytes)), Sampler(1)
    secret, vector = Sampler(2, 36)(512), a_vector(parameters, 3, 2**element_bits - 1)
    polynomials = scheme.PublicPolynomials(suite, key, parameters)
    envelope = scheme.encrypt(parameters, polynomials, secret, vector, sampler)
    psis = {prime: ntt.root_of_unity(512, prime) for prime in parameters.primes}
    assert [len(errors) for errors in sampler.drawn] == by_hand.polynomial_sizes(parameters)
    assert envelope == by_hand.encrypted(suite, key, parameters, psis, secret, vector, sampler.drawn)
    assert len(envelope) == layout.envelope_bytes(parameters)


def test_a_prime_far_below_a_power_of_two_rejects_many_words() -> None:
    """Half of the words of a prime just above a power of two are rejected: its stream is read on."""
    prime = 2**28 + 21 * 2**10 + 1
    while not by_hand._is_prime(prime):
        prime += 2**10
    parameters = Parameters(512, (prime,), 2, 4, 5, 1)
    residues = np.empty(512, dtype=np.uint32)
    public(parameters).read_into(residues, 0, 0)
    assert residues.tolist() == by_hand.public_residues(Suite.AES_128, KEY, parameters, 0, 0)


def test_envelopes_add_up_in_any_order_and_stay_canonical() -> None:
    parameters = EDGES[2]
    largest = [prime - 1 for prime in parameters.primes]
    envelope = b"".join(
        by_hand.packed([residue] * sent, residue.bit_length())
        for sent in by_hand.polynomial_sizes(parameters)
        for residue in largest
    )
    total = scheme.empty_sum(parameters)
    for count in range(1, 20):
        scheme.add_envelope(parameters, total, envelope)
        starts = np.cumsum([0, *(sent for sent in by_hand.polynomial_sizes(parameters) for _ in largest)])[:-1]
        expected = [-count % prime for _ in by_hand.polynomial_sizes(parameters) for prime in parameters.primes]
        assert total[starts].tolist() == expected


@pytest.mark.parametrize("place", [0, 64 * 29 - 1, -1])
def test_a_residue_that_is_not_below_its_prime_changes_nothing(place: int) -> None:
    parameters = EDGES[2]
    total, secrets, vectors = summed(parameters, 2)
    envelope = bytearray(layout.envelope_bytes(parameters))
    before = total.copy()
    for prime in (parameters.primes[0 if place >= 0 else -1],):
        bits = prime.bit_length()
        start = 0 if place >= 0 else len(envelope) - 64 * bits // 8
        residues = [0] * 64
        residues[-1 if place else 0] = prime
        envelope[start : start + 64 * bits // 8] = by_hand.packed(residues, bits)
        with pytest.raises(scheme.EnvelopeError, match=f"an element is {prime}"):
            scheme.add_envelope(parameters, total, envelope)
    assert np.array_equal(total, before)
    assert np.array_equal(scheme.open_sum(parameters, public(parameters), total, secrets), vectors)


def test_no_kernel_is_compiled_for_the_primes_of_new_parameters() -> None:
    """A server would wait for a dozen of them at its first envelope."""
    parameters = chosen(2048, 26, 3, 64, 3)
    compiled = modular._prime_accumulator.cache_info().currsize
    scheme.add_envelope(parameters, scheme.empty_sum(parameters), bytes(layout.envelope_bytes(parameters)))
    assert modular._prime_accumulator.cache_info().currsize == compiled


@given(
    st.lists(st.integers(-(2**33), 2**33), min_size=1, max_size=40), st.sampled_from([65537, 2**29 + 11, 2**30 - 35])
)
def test_a_secret_is_lifted_as_python_integers_are(secret: list[int], prime: int) -> None:
    """Without a remainder of signed numbers, whose time would depend on them."""
    secret += [0, 36, -36, 2**33, -(2**33)]
    factor = pow(512, -1, prime)
    constants = np.array([prime, 2**32 % prime, (2**32 % prime << 32) // prime, 2**32 // prime, 2 * prime], np.uint32)
    residues = np.empty(len(secret), np.uint32)
    companion = np.uint32((factor << 32) // prime)
    kernels.lift(np.array(secret), residues, np.int64(prime << 17), np.uint32(factor), companion, constants)
    assert [int(each) % prime for each in residues] == [each * factor % prime for each in secret]
    assert max(residues) < 2 * prime


def test_a_frozen_sum_needs_no_kernel_of_its_own() -> None:
    """A server freezes the sum before it opens it, and would compile for seconds in the middle of a round."""
    total, secrets, vectors = summed(EDGES[5], 3)
    scheme.open_sum(EDGES[5], public(EDGES[5]), total, secrets)
    compiled = len(kernels.add_remainders.signatures)
    total.flags.writeable = False
    assert np.array_equal(scheme.open_sum(EDGES[5], public(EDGES[5]), total, secrets), vectors)
    assert len(kernels.add_remainders.signatures) == compiled


@pytest.mark.parametrize("change", [-1, 1])
def test_an_envelope_of_another_size_is_refused(change: int) -> None:
    parameters = EDGES[0]
    size = layout.envelope_bytes(parameters)
    with pytest.raises(scheme.EnvelopeError, match=f"an envelope of {size + change:,} bytes.*{size:,}"):
        scheme.add_envelope(parameters, scheme.empty_sum(parameters), bytes(size + change))


def test_a_malformed_envelope_shows_in_the_noise() -> None:
    parameters = EDGES[5]
    total, secrets, _ = summed(parameters, 3)
    total[:512] = np.random.default_rng(0).integers(0, parameters.primes[0], 512, dtype=np.uint32)
    with pytest.raises(scheme.NoiseError, match="a client sent a malformed envelope"):
        scheme.open_sum(parameters, public(parameters), total, secrets)


def test_another_secret_than_the_envelopes_shows_in_the_noise() -> None:
    parameters = EDGES[5]
    total, secrets, _ = summed(parameters, 3)
    secrets[511] += 1
    with pytest.raises(scheme.NoiseError, match=f"keep it to {parameters.noise_bound}"):
        scheme.open_sum(parameters, public(parameters), total, secrets)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_noise_bound_is_inclusive(sign: int) -> None:
    """The largest errors of all clients open; one unit more in one coefficient does not."""
    parameters = chosen(512, 20, 3, 1_000, 4)
    secret, vector = Sampler(1, 36)(512), a_vector(parameters, 1, 2**18 - 1)
    for excess in (0, 1):
        total = scheme.empty_sum(parameters)
        for client in range(4):

            def errors(count: int, client: int = client, excess: int = excess) -> npt.NDArray[np.int32]:
                found = np.full(count, 51 * sign, dtype=np.int32)
                if client == 3:
                    found[7] += sign * excess
                return found

            envelope = scheme.encrypt(parameters, public(parameters), secret, vector, errors)
            scheme.add_envelope(parameters, total, envelope)
        secrets = 4 * secret.astype(np.int64)
        if excess:
            with pytest.raises(scheme.NoiseError, match="reaches 205"):
                scheme.open_sum(parameters, public(parameters), total, secrets)
        else:
            opened = scheme.open_sum(parameters, public(parameters), total, secrets)
            assert np.array_equal(opened, 4 * vector)


def test_wrong_arrays_are_refused() -> None:
    parameters = EDGES[2]
    polynomials, errors = public(parameters), Sampler(0)
    secret, vector = np.zeros(512, dtype=np.int32), np.zeros(parameters.length, dtype=np.uint32)
    with pytest.raises(ValueError, match="a secret of shape"):
        scheme.encrypt(parameters, polynomials, secret[1:], vector, errors)
    with pytest.raises(ValueError, match="a vector of shape"):
        scheme.encrypt(parameters, polynomials, secret, vector[1:], errors)
    vector[5] = 2**26
    with pytest.raises(ValueError, match=r"an element does not fit: .* have 26 bits"):
        scheme.encrypt(parameters, polynomials, secret, vector, errors)
    with pytest.raises(ValueError, match="a sum of secrets of shape"):
        scheme.open_sum(parameters, polynomials, scheme.empty_sum(parameters), secret[1:])
    with pytest.raises(ValueError, match="a sum of envelopes of shape"):
        scheme.open_sum(parameters, polynomials, scheme.empty_sum(parameters)[1:], secret)


def test_what_an_envelope_is_made_from_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The errors, the transform of the secret, its products with public polynomials, and copies of elements."""
    parameters = EDGES[2]
    drawn: list[npt.NDArray[Any]] = []
    kept: dict[str, npt.NDArray[Any]] = {}
    lift, multiply, add_message = kernels.lift, kernels.multiply, kernels.add_message

    def errors(count: int) -> npt.NDArray[np.int32]:
        drawn.append(np.full(count, 3, dtype=np.int32))
        return drawn[-1]

    def kept_lift(secret: npt.NDArray[Any], residues: npt.NDArray[Any], *others: Any) -> None:
        kept.update({"signed secret": secret, f"transform {len(kept)}": residues})
        lift(secret, residues, *others)

    def kept_multiply(residues: npt.NDArray[Any], factors: npt.NDArray[Any], companions: Any, prime: Any) -> None:
        kept.update({"product": residues, f"companions of {prime}": companions})
        multiply(residues, factors, companions, prime)

    def kept_add_message(residues: npt.NDArray[Any], slots: npt.NDArray[Any], *others: Any) -> None:
        kept["slots"] = slots
        add_message(residues, slots, *others)

    for name, replaced in (("lift", kept_lift), ("multiply", kept_multiply), ("add_message", kept_add_message)):
        monkeypatch.setattr(kernels, name, replaced)
    secret, vector = Sampler(1, 36)(512), a_vector(parameters, 1, 2**20)
    before = vector.copy()
    scheme.encrypt(parameters, public(parameters), secret, vector, errors)
    assert len(kept) > 3 + len(parameters.primes)
    assert not [name for name, array in kept.items() if array.any()]
    assert not any(array.any() for array in drawn)
    assert np.array_equal(vector, before)


def test_memory_is_the_result_and_one_polynomial() -> None:
    parameters = chosen(8192, 26, 7, 1_000_000, 10)
    polynomials, sampler = public(parameters), Sampler(1)
    secret, vector = sampler(8192), a_vector(parameters, 1, 2**16)
    total = scheme.empty_sum(parameters)
    scheme.add_envelope(parameters, total, scheme.encrypt(parameters, polynomials, secret, vector, sampler))  # compiles
    scheme.open_sum(parameters, polynomials, total, secret)

    def errors(count: int) -> npt.NDArray[np.int32]:
        return np.zeros(count, dtype=np.int32)

    envelope = scheme.encrypt(parameters, polynomials, secret, vector, errors)
    block = 8 * 8192 * (parameters.slots + 4)
    calls = [
        (lambda: scheme.encrypt(parameters, polynomials, secret, vector, errors), len(envelope)),
        (lambda: scheme.add_envelope(parameters, total, envelope), 0),
        (lambda: scheme.open_sum(parameters, polynomials, total, 2 * secret.astype(np.int64)), 4_000_000),
    ]
    for call, result in calls:
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < result + 3 * block


def test_importing_it_loads_no_numba() -> None:
    program = "import sys, secagg.envelopes.scheme; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
