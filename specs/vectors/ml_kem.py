"""ML-KEM-768's encapsulation with its randomness given, in plain Python, so that vectors can be made again.

``cryptography`` draws that randomness itself.  This is ML-KEM.Encaps_internal of FIPS 203 (algorithm 17) over K-PKE
(algorithm 14); key generation and decapsulation stay ``cryptography``'s, and show in every round that both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import sha3_256, sha3_512, shake_128, shake_256

Q, K, N, ETA = 3329, 3, 256, 2
COMPRESSED = (10, 4)  # bits of a coefficient of u and of v
_INVERSE_OF_128 = pow(128, -1, Q)


def _reversed_bits(number: int) -> int:
    """Of seven bits."""
    return int(f"{number:07b}"[::-1], 2)


ZETAS = [pow(17, _reversed_bits(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * _reversed_bits(i) + 1, Q) for i in range(128)]

Polynomial = list[int]


def encapsulate(key: bytes, randomness: bytes) -> tuple[bytes, bytes]:
    """Secret and ciphertext for an encapsulation key of 1184 bytes; ``randomness`` is the m of FIPS 203, 32 bytes."""
    hashed = sha3_512(randomness + sha3_256(key).digest()).digest()
    return hashed[:32], _encrypt(key, randomness, hashed[32:])


def encapsulator(draw: Callable[[int], bytes]) -> Callable[[bytes], tuple[bytes, bytes]]:
    """Encapsulation whose randomness is drawn, 32 bytes each time."""
    return lambda key: encapsulate(key, draw(32))


@lru_cache(maxsize=1024)  # the recipes are made several times in one process
def _encrypt(key: bytes, message: bytes, randomness: bytes) -> bytes:
    matrix, t = _expanded(key)
    y, first, second = (
        [_noise(randomness, number) for number in numbers] for numbers in (range(K), range(K, 2 * K), [2 * K])
    )
    transformed = [_ntt(part) for part in y]
    u = [
        _added(_inverse_ntt(_product([matrix[row][column] for row in range(K)], transformed)), first[column])
        for column in range(K)
    ]
    bits = int.from_bytes(message, "little")
    shown = [(Q + 1) // 2 * (bits >> place & 1) for place in range(N)]
    v = _added(_inverse_ntt(_product(t, transformed)), _added(second[0], shown))
    return b"".join(_encoded(part, COMPRESSED[0]) for part in u) + _encoded(v, COMPRESSED[1])


@lru_cache(maxsize=256)
def _expanded(key: bytes) -> tuple[list[list[Polynomial]], list[Polynomial]]:
    """The matrix A, by row and column, and the vector t of an encapsulation key, both transformed."""
    rho = key[384 * K :]
    matrix = [[_uniform(rho + bytes((column, row))) for column in range(K)] for row in range(K)]
    decoded = [int.from_bytes(key[384 * part : 384 * (part + 1)], "little") for part in range(K)]
    return matrix, [[number >> 12 * place & 0xFFF for place in range(N)] for number in decoded]


def _uniform(seed: bytes) -> Polynomial:
    """SampleNTT: numbers of 12 bits, those of Q or more left out."""
    stream = shake_128(seed).digest(3 * 224)  # that fewer than 256 of 448 pass has a probability below 2^-100
    numbers = []
    for place in range(0, len(stream), 3):
        low, middle, high = stream[place : place + 3]
        numbers += [low | (middle & 15) << 8, middle >> 4 | high << 4]
    return [number for number in numbers if number < Q][:N]


def _noise(randomness: bytes, number: int) -> Polynomial:
    """SamplePolyCBD of eta 2: of four bits each, the sum of two less the sum of the other two."""
    bits = int.from_bytes(shake_256(randomness + bytes([number])).digest(64 * ETA), "little")
    fours = [bits >> 4 * place & 15 for place in range(N)]
    return [(four & 1) + (four >> 1 & 1) - (four >> 2 & 1) - (four >> 3) for four in fours]


def _ntt(polynomial: Sequence[int]) -> Polynomial:
    f, number, length = list(polynomial), 1, 128
    while length >= 2:
        for start in range(0, N, 2 * length):
            zeta, number = ZETAS[number], number + 1
            for j in range(start, start + length):
                moved = zeta * f[j + length] % Q
                f[j + length], f[j] = (f[j] - moved) % Q, (f[j] + moved) % Q
        length //= 2
    return f


def _inverse_ntt(polynomial: Sequence[int]) -> Polynomial:
    f, number, length = list(polynomial), 127, 2
    while length <= 128:
        for start in range(0, N, 2 * length):
            zeta, number = ZETAS[number], number - 1
            for j in range(start, start + length):
                f[j], f[j + length] = (f[j] + f[j + length]) % Q, zeta * (f[j + length] - f[j]) % Q
        length *= 2
    return [value * _INVERSE_OF_128 % Q for value in f]


def _product(left: Sequence[Polynomial], right: Sequence[Polynomial]) -> Polynomial:
    """The inner product of two vectors of transformed polynomials: pairs of coefficients modulo X^2 - gamma."""
    total = [0] * N
    for f, g in zip(left, right, strict=True):
        for i, gamma in enumerate(GAMMAS):
            a, b, c, d = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            total[2 * i] += a * c + b * d * gamma
            total[2 * i + 1] += a * d + b * c
    return [value % Q for value in total]


def _added(left: Sequence[int], right: Sequence[int]) -> Polynomial:
    return [(a + b) % Q for a, b in zip(left, right, strict=True)]


def _encoded(polynomial: Sequence[int], bits: int) -> bytes:
    """Each coefficient compressed to some bits, the lowest bit first."""
    compressed = [((value << bits) + Q // 2) // Q % (1 << bits) for value in polynomial]
    return sum(value << bits * place for place, value in enumerate(compressed)).to_bytes(32 * bits, "little")
