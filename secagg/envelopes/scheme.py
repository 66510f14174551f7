"""Encrypt a vector under a fresh secret, add envelopes up, and open their sum with the sum of the secrets.

    c_l = a_l s + t e_l + m_l    modulo X^N + 1 and q

for each polynomial l of the vector: the a_l are public, s and the errors e_l are small, m_l holds the elements.  The
scheme is key-homomorphic: the sum of envelopes is an envelope of the sum under the sum of the secrets (Bell et al.,
"ACORN: Input Validation for Secure Aggregation", USENIX Security 2023).

Every function works polynomial by polynomial: beside its result it takes memory for one polynomial.  Kernels, and
Numba with them, are loaded when the first function is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.arithmetic import Modulus
from secagg.envelopes import layout
from secagg.envelopes.layout import Parameters, Polynomial
from secagg.primitives.streams import Keystream
from secagg.primitives.suites import Suite
from secagg.wording import counted

Words: TypeAlias = npt.NDArray[np.uint32]
Lanes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Errors: TypeAlias = Callable[[int], npt.NDArray[np.int32]]
"""Draws that many errors: shape (count,)."""

_BLOCK_BYTES: Final = 16


class EnvelopeError(ValueError):
    """What was given is not an envelope, or not a sum of well-formed ones."""


class NoiseError(EnvelopeError):
    """The noise of a sum is larger than well-formed envelopes can make it."""


class PublicPolynomials:
    """The polynomials a_0, a_1, ... of a session, modulo each prime and as the transform has them.

    All come from one keystream.  Polynomial l modulo prime number i begins at block l 2^64 + i 2^32; its residues are
    the little-endian words of 32 bits from there on, without the bits above the prime's, that are below the prime.
    """

    def __init__(self, suite: Suite, key: bytes, parameters: Parameters) -> None:
        """``key`` makes no other stream.  Raises CryptoError for a key of another size than the suite's."""
        self._stream = Keystream(suite, key)
        self._degree, self._primes = parameters.degree, parameters.primes
        # Enough words for most polynomials: a residue is taken with a probability of at least a half.
        slack = max((1 << prime.bit_length()) / prime for prime in self._primes)
        words = int(self._degree * slack * 1.01) + 64
        self._words = np.empty(words + -words % 4, dtype=np.uint32)
        self._zeros = memoryview(bytes(self._words.nbytes))

    def read_into(self, residues: Words, number: int, place: int) -> None:
        """Write polynomial ``number`` modulo prime ``place`` to ``residues``, shape (N,)."""
        from secagg.arithmetic.kernels import envelopes

        prime = self._primes[place]
        mask = np.uint32((1 << prime.bit_length()) - 1)
        filled, block = 0, (number << 64) + (place << 32)
        while filled < self._degree:
            self._stream.read_into(self._words.view(np.uint8).data, self._zeros, block)
            filled = envelopes.take_below(self._words, residues, filled, np.uint32(prime), mask)
            block += self._words.nbytes // _BLOCK_BYTES


class _Residues(NamedTuple):
    """What one prime of some parameters needs.

    Attributes:
        modulus: the prime.
        constants: see ``kernels.envelopes.add_message``.
        weights: shape (f, parts), of the digits.
        error_weight: t.
        offset: see there.
        remainder: (q / p)^-1 and its companion.
        inverse: 1 / p.
        digits: q / p, in digits.
    """

    modulus: Modulus
    constants: Words
    weights: npt.NDArray[np.uint64]
    error_weight: np.uint64
    offset: np.uint64
    remainder: tuple[np.uint32, np.uint32]
    inverse: float
    digits: npt.NDArray[np.int64]


@cache
def _residues(primes: tuple[int, ...], element_bits: int, slots: int) -> tuple[_Residues, ...]:
    cut = layout.digits(element_bits, slots)
    t, q = 1 << (element_bits * slots), prod(primes)
    found = []
    for p in primes:
        inverse = pow(q // p, -1, p)
        weights = [
            [pow(2, slot * element_bits + part * cut.part_bits, p) for part in range(cut.parts)]
            for slot in range(slots)
        ]
        found.append(
            _Residues(
                modulus=Modulus(p),
                constants=np.array([p, 2**32 % p, (2**32 % p << 32) // p, 2**32 // p, 2 * p], dtype=np.uint32),
                weights=np.array(weights, dtype=np.uint64),
                error_weight=np.uint64(t % p),
                offset=np.uint64(p << 17),
                remainder=(np.uint32(inverse), np.uint32((inverse << 32) // p)),
                inverse=1.0 / p,
                digits=_in_digits(q // p, cut.widths),
            )
        )
    return tuple(found)


def _in_digits(value: int, widths: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """A number in digits of these widths, and above them all the rest."""
    digits = []
    for width in widths:
        digits.append(value & ((1 << width) - 1))
        value >>= width
    return np.array([*digits, value], dtype=np.int64)


def encrypt(
    parameters: Parameters,
    public: PublicPolynomials,
    secret: npt.NDArray[np.signedinteger[Any]],
    vector: Lanes,
    errors: Errors,
) -> bytearray:
    """The envelope of a vector: ``layout.envelope_bytes(parameters)`` bytes.

    Args:
        parameters: of the round.
        public: the session's public polynomials.
        secret: shape (N,), from the sampler; it encrypts nothing else.
        vector: shape (m,), unsigned; the sums of all clients' elements must stay below 2^b.
        errors: the sampler of errors; what it returns is wiped, and so is all that is computed from it and the secret.

    Raises:
        ValueError: the secret or the vector has another shape, or an element does not fit into b bits.
    """
    from secagg.arithmetic.kernels import envelopes, ntt

    _check_shape("secret", secret, parameters.degree)
    _check_shape("vector", vector, parameters.length)
    if len(vector) and int(vector.max()) >> parameters.element_bits:
        raise ValueError(f"an element does not fit: this envelope's have {parameters.element_bits} bits")
    residues = _residues(parameters.primes, parameters.element_bits, parameters.slots)
    part_bits = layout.digits(parameters.element_bits, parameters.slots).part_bits
    keys = _transformed(parameters, residues, secret)
    envelope, position = bytearray(layout.envelope_bytes(parameters)), 0
    product = np.empty((1, parameters.degree), dtype=np.uint32)
    for polynomial in layout.polynomials(parameters):
        slots = _slots(vector, polynomial, parameters.slots)
        noise = errors(polynomial.sent)
        for place, residue in enumerate(residues):
            prime = np.uint32(residue.modulus.value)
            public.read_into(product[0], polynomial.number, place)
            envelopes.multiply(product[0], *keys[place], prime)
            ntt.inverse(product, ntt.transform(parameters.degree, residue.modulus.value))
            sent = product[0, : polynomial.sent]
            envelopes.add_message(
                sent, slots, part_bits, residue.weights, noise, residue.error_weight, residue.offset, residue.constants
            )
            packed = arithmetic.pack(sent, residue.modulus)
            envelope[position : position + len(packed)] = packed
            position += len(packed)
        noise[:] = 0
        if not np.may_share_memory(slots, vector):
            slots[:] = 0  # a copy of elements
    product[:] = 0  # what is not sent of the last product tells the secret, without an error
    for values, companions in keys:  # they are the secret's transform
        values[:] = companions[:] = 0
    return envelope


def empty_sum(parameters: Parameters) -> Words:
    """The sum of no envelopes: residues, in the order of the wire."""
    return np.zeros(layout.sent_coefficients(parameters) * len(parameters.primes), dtype=np.uint32)


def sum_bytes(parameters: Parameters) -> int:
    """The bytes of a sum of envelopes in memory."""
    return 4 * layout.sent_coefficients(parameters) * len(parameters.primes)


def add_envelope(parameters: Parameters, total: Words, envelope: bytes | bytearray | memoryview) -> None:
    """total += an envelope; nothing is changed when an error is raised.

    Args:
        parameters: of the round.
        total: from ``empty_sum``; it stays canonical.
        envelope: any contiguous buffer.

    Raises:
        EnvelopeError: it has another size, or a residue is not below its prime.
    """
    expected = layout.envelope_bytes(parameters)
    data = np.frombuffer(envelope, dtype=np.uint8)
    if len(data) != expected:
        raise EnvelopeError(
            f"an envelope of {counted(len(data), 'byte')}: one of {counted(parameters.length, 'element')} has "
            f"{expected:,}"
        )
    from secagg.arithmetic.kernels import envelopes

    done: list[tuple[Words, Modulus, memoryview, np.uint32]] = []
    lane = position = 0
    for polynomial in layout.polynomials(parameters):
        for number in parameters.primes:
            ring, prime = Modulus.ring(number.bit_length()), np.uint32(number)
            size = ring.packed_bytes(polynomial.sent)
            part, packed = total[lane : lane + polynomial.sent], data[position : position + size].data
            largest = int(envelopes.add_residues(part, arithmetic.unpack(packed, ring, len(part)), prime))
            if largest >= number:
                for added, its_ring, its_bytes, its_prime in done:
                    residues = arithmetic.unpack(its_bytes, its_ring, len(added))
                    envelopes.subtract_residues(added, residues, its_prime)
                raise EnvelopeError(
                    f"polynomial {polynomial.number} of an envelope: an element is {largest}: it must be below {number}"
                )
            done.append((part, ring, packed, prime))
            lane, position = lane + polynomial.sent, position + size


def check_sum(parameters: Parameters, total: Words) -> None:
    """Raises EnvelopeError unless this is a sum of envelopes: of this size, and every residue below its prime."""
    sent = layout.sent_coefficients(parameters)
    if total.shape != (sent * len(parameters.primes),) or total.dtype != np.uint32:
        raise EnvelopeError(
            f"a sum of envelopes of shape {total.shape} and {total.dtype}: it must be "
            f"({sent * len(parameters.primes)},) uint32"
        )
    for number, _, part in _parts(parameters, total):
        largest = int(part.max(initial=0))
        if largest >= number:
            raise EnvelopeError(f"a residue of a sum of envelopes is {largest}: it must be below {number}")


def add_sum(parameters: Parameters, total: Words, other: Words) -> None:
    """total += another sum of envelopes, which ``check_sum`` has passed; it stays canonical."""
    from secagg.arithmetic.kernels import envelopes

    for number, place, part in _parts(parameters, other):
        envelopes.add_residues(total[place], part, np.uint32(number))


def _parts(parameters: Parameters, total: Words) -> Iterator[tuple[int, slice, Words]]:
    """The residues of a sum modulo one prime after the other: the prime, where they stand, and a view of them."""
    lane = 0
    for polynomial in layout.polynomials(parameters):
        for number in parameters.primes:
            place = slice(lane, lane + polynomial.sent)
            yield number, place, total[place]
            lane += polynomial.sent


def open_sum(
    parameters: Parameters, public: PublicPolynomials, total: Words, secrets: npt.NDArray[np.signedinteger[Any]]
) -> Lanes:
    """The sum of the vectors: shape (m,), in the lanes of b bits.

    Args:
        parameters: of the round.
        public: the session's public polynomials.
        total: the sum of the envelopes.
        secrets: the sum of their secrets, shape (N,), signed.

    Raises:
        NoiseError: a client sent an envelope that is not well-formed, or another secret: there is no sum.
        ValueError: an array has another shape.
    """
    from secagg.arithmetic.kernels import envelopes, ntt

    _check_shape("sum of secrets", secrets, parameters.degree)
    _check_shape("sum of envelopes", total, layout.sent_coefficients(parameters) * len(parameters.primes))
    residues = _residues(parameters.primes, parameters.element_bits, parameters.slots)
    cut = layout.digits(parameters.element_bits, parameters.slots)
    widths, whole = np.array(cut.widths), _in_digits(prod(parameters.primes), cut.widths)
    total = total.view()
    total.flags.writeable = False  # Numba compiles twice for those that may be written and those that may not
    keys = _transformed(parameters, residues, secrets)
    vector = np.empty(parameters.length, dtype=Modulus.ring(parameters.element_bits).dtype)
    product = np.empty((1, parameters.degree), dtype=np.uint32)
    lane = 0
    for polynomial in layout.polynomials(parameters):
        sums = np.zeros((len(cut.widths) + 1, polynomial.sent), dtype=np.int64)
        fractions = np.zeros(polynomial.sent)
        for place, residue in enumerate(residues):
            prime = np.uint32(residue.modulus.value)
            public.read_into(product[0], polynomial.number, place)
            envelopes.multiply(product[0], *keys[place], prime)
            ntt.inverse(product, ntt.transform(parameters.degree, residue.modulus.value))
            sent = total[lane : lane + polynomial.sent]
            envelopes.add_remainders(
                sums, fractions, sent, product[0], *residue.remainder, residue.inverse, residue.digits, prime
            )
            lane += polynomial.sent
        noise = int(envelopes.settle(sums, fractions, whole, widths))
        if noise > parameters.noise_bound:
            raise NoiseError(
                f"the noise of the sum reaches {noise} in polynomial {polynomial.number}, and well-formed envelopes "
                f"keep it to {parameters.noise_bound}: a client sent a malformed envelope, or another secret than it "
                "encrypted with; there is no sum"
            )
        elements = np.empty((parameters.slots, polynomial.sent), dtype=vector.dtype)
        envelopes.join_digits(elements, sums, cut.part_bits, cut.parts)
        vector[polynomial.start : polynomial.stop] = elements.reshape(-1)[: polynomial.stop - polynomial.start]
    return vector


def _check_shape(name: str, array: npt.NDArray[Any], length: int) -> None:
    if array.shape != (length,):
        raise ValueError(f"a {name} of shape {array.shape}: it must be ({length},)")


def _transformed(
    parameters: Parameters, residues: tuple[_Residues, ...], secret: npt.NDArray[np.signedinteger[Any]]
) -> list[tuple[Words, Words]]:
    """The transform of a secret over N, modulo each prime, and its companions: the inverse leaves the N to us.

    What is copied of the secret on the way is wiped.
    """
    from secagg.arithmetic.kernels import envelopes, ntt

    keys = []
    signed = secret.astype(np.int64)
    for residue in residues:
        prime = residue.modulus.value
        transform = ntt.transform(parameters.degree, prime)
        factor = np.array([transform.inverse_degree], dtype=np.uint64)
        values = np.empty((1, parameters.degree), dtype=np.uint32)
        companion = ntt.companions_of(factor, prime).astype(np.uint32)
        envelopes.lift(
            signed, values[0], np.int64(residue.offset), np.uint32(factor[0]), companion[0], residue.constants
        )
        ntt.forward(values, transform)
        wide = ntt.companions_of(values[0], prime)
        keys.append((values[0], wide.astype(np.uint32)))
        wide[:] = 0
    signed[:] = 0
    return keys


def _slots(vector: Lanes, polynomial: Polynomial, slots: int) -> Lanes:
    """A polynomial's elements by slots, shape (f, r); a copy only where elements are missing."""
    elements, room = vector[polynomial.start : polynomial.stop], slots * polynomial.sent
    if len(elements) < room:
        elements = np.concatenate([elements, np.zeros(room - len(elements), dtype=vector.dtype)])
    return elements.reshape(slots, polynomial.sent)
