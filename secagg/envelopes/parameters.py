"""Which parameters an envelope has: they follow from the config, and nobody gives them (R-ENV-3).

    parameters = find(clients=1000, length=1_000_000, element_bits=26)
    print("\\n".join(parameters.explain()))

The finder takes the set with the fewest bytes among all that are secure and large enough.  It is exact: a client and a
server that find them apart find the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from typing import Final

from secagg.arithmetic.modulus import is_prime
from secagg.envelopes import layout
from secagg.envelopes.gaussian import ERROR, SECRET
from secagg.errors import ParameterError
from secagg.wording import counted

LARGEST_MODULUS_BITS: Final = {4096: 101, 8192: 202, 16384: 411}
"""By degree, the largest q in bits at 128 bits of security against quantum computers: the rows for ternary secrets of
the Homomorphic Encryption Standard (2018), table 2.  Secrets and errors here are wider than the standard's."""

LEAST_PRIME_BITS: Final = 17
MOST_PRIME_BITS: Final = 30
"""Residues lie in lanes of 32 bits, and primes are below 2^30, so that the kernels can put reductions off."""

ELEMENT_BITS: Final = 64
"""The most bits that an element of the sum may have."""

SLACK: Final = (65, 32)
"""The modulus is above 65 / 32 of t (n E + 1), where 2 is enough for the sum: of random coefficients one in 65, at
least, is then outside of what noise can be."""


@dataclass(frozen=True, slots=True)
class EnvelopeParameters:
    """What an envelope is made with; from ``find``.

    Attributes:
        clients: n, how many envelopes are added up at most.
        length: m, elements of a vector.
        element_bits: b, bits of an element of the sum.
        slots: f, elements in a coefficient.
        degree: N, coefficients of a polynomial.
        primes: whose product is the modulus q; distinct, descending, each 1 modulo 2N and of 17 to 30 bits.
    """

    clients: int
    length: int
    element_bits: int
    slots: int
    degree: int
    primes: tuple[int, ...]

    @property
    def modulus_bits(self) -> int:
        """The bits of q."""
        return prod(self.primes).bit_length()

    @property
    def error_bound(self) -> int:
        """E: the largest magnitude of one error."""
        return ERROR.bound

    @property
    def secret_bound(self) -> int:
        """B: the largest magnitude of a secret's coefficient."""
        return SECRET.bound

    @property
    def noise_bound(self) -> int:
        """n E: the largest magnitude that the errors of a sum can have."""
        return self.clients * ERROR.bound

    @property
    def key_bits(self) -> int:
        """w: the sum of n secrets, each shifted by B, is below 2^w."""
        return (2 * SECRET.bound * self.clients).bit_length()

    @property
    def key_bytes(self) -> int:
        """The size of a masked key on the wire."""
        return self.degree * self.key_bits // 8

    @property
    def envelope_bytes(self) -> int:
        """The size of an envelope on the wire."""
        return layout.envelope_bytes(self)

    @property
    def sum_bytes(self) -> int:
        """The size of a sum of envelopes in memory: a lane of 32 bits for each residue."""
        return 4 * layout.sent_coefficients(self) * len(self.primes)

    def explain(self) -> tuple[str, ...]:
        """The parameters in sentences, one for each."""
        each = (self.envelope_bytes + self.key_bytes) * 8 / self.length
        return (
            f"The envelope's ring has degree {self.degree:,} and a modulus of {self.modulus_bits} bits, the product of "
            f"{counted(len(self.primes), 'prime')}; {LARGEST_MODULUS_BITS[self.degree]} bits are the most at 128 bits "
            "of post-quantum security.",
            f"A coefficient carries {counted(self.slots, 'element')} of {self.element_bits} bits; the errors of "
            f"{counted(self.clients, 'client')} stay within {self.noise_bound:,}.",
            f"A client sends {counted(self.envelope_bytes, 'byte')} of envelope and {counted(self.key_bytes, 'byte')} "
            f"of masked key: {each:.2f} bits per element.",
        )


@lru_cache(maxsize=256)  # not without end: servers say what a client looks for
def find(clients: int, length: int, element_bits: int) -> EnvelopeParameters:
    """The parameters with the fewest bytes; of equals those of the smallest degree, then of the fewest slots.

    Args:
        clients: n.
        length: m.
        element_bits: b, the bit length of n times the largest element.

    Raises:
        ParameterError: a number is out of range, or no set of parameters is large enough.
    """
    if clients < 2 or length < 1:
        raise ParameterError(
            f"{counted(clients, 'client')} and length {length}: an envelope takes two clients and one element"
        )
    if not 1 <= element_bits <= ELEMENT_BITS:
        raise ParameterError(
            f"sums of {counted(element_bits, 'bit')}: an envelope's elements have 1 to {ELEMENT_BITS}; choose a "
            'smaller input_max, or carrier="masks"'
        )
    best: EnvelopeParameters | None = None
    for least_bytes, degree, slots, least in sorted(_candidates(clients, length, element_bits)):
        if best is not None and least_bytes > _upload(best):
            break
        if primes := _smallest_set(degree, least, LARGEST_MODULUS_BITS[degree]):
            found = EnvelopeParameters(clients, length, element_bits, slots, degree, primes)
            if best is None or _rank(found) < _rank(best):
                best = found
    if best is None:
        raise ParameterError(
            f"no envelope holds sums of {counted(element_bits, 'bit')} over {counted(clients, 'client')}: choose a "
            'smaller input_max, or carrier="masks"'
        )
    return best


def _candidates(clients: int, length: int, element_bits: int) -> Iterator[tuple[int, int, int, int]]:
    """Degree, slots and the least modulus of what is secure, and before them the bytes that it takes at least."""
    key_bits = (2 * SECRET.bound * clients).bit_length()
    for degree, most_bits in LARGEST_MODULUS_BITS.items():
        for slots in range(1, most_bits // element_bits + 1):
            least = (SLACK[0] << (slots * element_bits)) * (clients * ERROR.bound + 1) // SLACK[1] + 1
            if least.bit_length() <= most_bits:
                sent = layout.coefficients_for(length, degree, slots)
                yield (sent * least.bit_length() + degree * key_bits) // 8, degree, slots, least


def _smallest_set(degree: int, least: int, most_bits: int) -> tuple[int, ...] | None:
    """The fewest primes with a product of at least ``least``, and of these those with the fewest bits in all.

    Their sizes differ by one bit at most, and of each size they are the largest ones.
    """
    count = -(-least.bit_length() // MOST_PRIME_BITS)
    fewest = max(least.bit_length(), count * LEAST_PRIME_BITS)
    for bits in range(fewest, min(most_bits, count * MOST_PRIME_BITS) + 1):
        small, large = divmod(bits, count)
        primes = _largest_primes(degree, small + 1, large) + _largest_primes(degree, small, count - large)
        if len(primes) == count and prod(primes) >= least:
            return primes
    return None


@cache
def _largest_primes(degree: int, bits: int, count: int) -> tuple[int, ...]:
    """The largest primes of so many bits that are 1 modulo 2N, descending: ``count``, or all there are."""
    step, found = 2 * degree, list[int]()
    value = ((1 << bits) - 2) // step * step + 1
    while len(found) < count and value >= 1 << (bits - 1):
        if is_prime(value):
            found.append(value)
        value -= step
    return tuple(found)


def _upload(parameters: EnvelopeParameters) -> int:
    return parameters.envelope_bytes + parameters.key_bytes


def _rank(parameters: EnvelopeParameters) -> tuple[int, int, int]:
    return _upload(parameters), parameters.degree, parameters.slots
