"""Envelopes by Python integers, from the definitions: no transform, no lazy reductions, no kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import numpy.typing as npt

from secagg import Suite
from secagg.arithmetic.modulus import Modulus
from secagg.errors import ParameterError
from secagg.primitives.streams import keystream_bytes

_NARROWEST = 20
"""Bits of a prime: there are several of so many bits for every degree up to 4096."""


@dataclass(frozen=True)
class Parameters:
    """Parameters of any size, also of such that protect nothing."""

    degree: int
    primes: tuple[int, ...]
    element_bits: int
    slots: int
    length: int
    clients: int
    error_bound: int = 51

    @property
    def noise_bound(self) -> int:
        return self.clients * self.error_bound

    @property
    def modulus(self) -> int:
        return prod(self.primes)


def chosen(degree: int, element_bits: int, slots: int, length: int, clients: int, widest: int = 29) -> Parameters:
    """Parameters with the largest primes of about equal widths, so that the noise of so many clients has room."""
    needed = 2 * (clients * 51 + 1) << element_bits * slots
    bits = max(needed.bit_length(), 2 * _NARROWEST)
    while True:
        count = max(2, -(-bits // widest))
        primes: list[int] = []
        for place in range(count):
            primes.append(_largest_prime(degree, (bits + place) // count, tuple(primes)))
        if prod(primes) > needed:
            return Parameters(degree, tuple(primes), element_bits, slots, length, clients)
        bits += 1


@cache
def _largest_prime(degree: int, bits: int, taken: tuple[int, ...]) -> int:
    candidate = ((1 << bits) - 2) // (2 * degree) * 2 * degree + 1
    while not _is_prime(candidate) or candidate in taken:
        candidate -= 2 * degree
    return candidate


def _is_prime(number: int) -> bool:
    try:
        return Modulus(number).value == number
    except ParameterError:
        return False


def polynomial_sizes(parameters: Parameters) -> list[int]:
    """How many coefficients are sent of each polynomial."""
    rest, sizes = parameters.length, []
    while rest > 0:
        sizes.append(min(parameters.degree, -(-rest // (64 * parameters.slots)) * 64))
        rest -= parameters.degree * parameters.slots
    return sizes


def public_residues(suite: Suite, key: bytes, parameters: Parameters, number: int, place: int) -> list[int]:
    """The values of a public polynomial in the slots of the transform; its stream's first polynomial and prime only,
    or any others that begin within reach."""
    prime = parameters.primes[place]
    mask = (1 << prime.bit_length()) - 1
    data = _keystream_at(suite, key, (number << 64) + (place << 32), 16 * parameters.degree)
    words = np.frombuffer(data, dtype="<u4").tolist()
    return [word & mask for word in words if word & mask < prime][: parameters.degree]


def _keystream_at(suite: Suite, key: bytes, block: int, length: int) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    assert len(keystream_bytes(suite, key, 1)) == 1  # the key fits the suite
    return Cipher(AES(key), CTR(block.to_bytes(16, "big"))).encryptor().update(bytes(length))


def public_polynomial(suite: Suite, key: bytes, parameters: Parameters, number: int, place: int, psi: int) -> list[int]:
    """Its coefficients: the inverse transform by its definition."""
    prime, degree = parameters.primes[place], parameters.degree
    bits = degree.bit_length() - 1
    powers = [1]
    for _ in range(2 * degree - 1):
        powers.append(powers[-1] * psi % prime)
    odd = np.array([2 * int(f"{slot:0{bits}b}"[::-1], 2) + 1 for slot in range(degree)])
    values = np.array(public_residues(suite, key, parameters, number, place), dtype=np.uint64)
    roots = np.array(powers, dtype=np.uint64)
    scale = pow(degree, -1, prime)
    return [
        int((values * roots[-odd * j % (2 * degree)] % np.uint64(prime)).sum()) * scale % prime for j in range(degree)
    ]


def negacyclic(one: list[int], other: list[int], prime: int) -> list[int]:
    """The product modulo X^N + 1 and the prime, by the schoolbook."""
    degree = len(one)
    factor, total = np.array(other, dtype=object), np.zeros(2 * degree, dtype=object)
    for place, coefficient in enumerate(one):
        total[place : place + degree] += coefficient * factor
    return [int(value) % prime for value in total[:degree] - total[degree:]]


def encrypted(
    suite: Suite,
    key: bytes,
    parameters: Parameters,
    psis: dict[int, int],
    secret: npt.NDArray[np.int32],
    vector: npt.NDArray[np.unsignedinteger],
    errors: list[npt.NDArray[np.int32]],
) -> bytes:
    """The envelope, by its definition."""
    b, f = parameters.element_bits, parameters.slots
    envelope, elements = b"", [int(element) for element in vector]
    for number, (sent, error) in enumerate(zip(polynomial_sizes(parameters), errors, strict=True)):
        own = elements[number * parameters.degree * f :][: sent * f]
        own += [0] * (sent * f - len(own))
        messages = [sum(own[slot * sent + j] << slot * b for slot in range(f)) for j in range(sent)]
        for place, prime in enumerate(parameters.primes):
            public = public_polynomial(suite, key, parameters, number, place, psis[prime])
            masks = negacyclic(public, secret.tolist(), prime)
            residues = [
                (mask + (int(e) << b * f) + message) % prime
                for mask, e, message in zip(masks, error, messages, strict=False)
            ]
            envelope += packed(residues, prime.bit_length())
    return envelope


def packed(residues: list[int], bits: int) -> bytes:
    joined = sum(residue << place * bits for place, residue in enumerate(residues))
    return joined.to_bytes(-(-len(residues) * bits // 8), "little")


def unpacked(data: bytes, bits: int) -> list[int]:
    joined = int.from_bytes(data, "little")
    return [joined >> place & (1 << bits) - 1 for place in range(0, 8 * len(data), bits)]
