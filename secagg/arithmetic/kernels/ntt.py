"""Number-theoretic transforms of polynomials modulo X^N + 1 and a prime p = 1 mod 2N below 2^30.

The transform of a polynomial is its values at the N odd powers of psi, a primitive 2N-th root of unity: slot k holds
the value at psi^(2 r(k) + 1), where r reverses the log2 N bits of k.  A product modulo X^N + 1 is the product slot by
slot.

Lanes have 32 bits.  Products by a known factor w are Shoup's: with w' = floor(2^32 w / p) at hand, w x - floor(w' x /
2^32) p lies in 0 .. 2p - 1 for every lane x.  Between butterflies values stay below 4p (forward) or 2p (inverse), as in
Harvey, "Faster arithmetic for number-theoretic transforms" (2014); only what leaves the module is canonical, or said to
be below 2p.

Butterflies at a distance of 64 and more run over contiguous lanes, so that LLVM makes vectors of them.  The six
distances below are taken on eight chunks of 64 values at once, which are transposed before and after: then eight
neighbouring lanes belong to eight chunks, each of which has factors of its own.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.kernels.jit import kernel

Words: TypeAlias = npt.NDArray[np.uint32]

_CHUNK: Final = 64
"""Values of a chunk; distances below are taken within it."""
_CHUNKS: Final = 8
"""Chunks that are transformed side by side: eight lanes of 32 bits fill an AVX2 register."""
SMALLEST_DEGREE: Final = _CHUNK * _CHUNKS
LARGEST_PRIME: Final = 2**30 - 1

_SHIFT: Final = np.uint64(32)
_ONE: Final = np.uint64(1)


class Factors(NamedTuple):
    """The roots of unity of one direction, and Shoup's companions of them.

    Attributes:
        wide: shape (2, N / 64): root m + i for block i of the layer of m blocks, for the distances from 64 up.
        narrow: shape (2, N / 512, 63, 8): for each eight chunks and each block of a chunk, the eight chunks' roots.
    """

    wide: Words
    narrow: Words


class Transform(NamedTuple):
    """What the transforms modulo one prime need.

    Attributes:
        prime: p.
        forward, backward: their roots.
        inverse_degree: 1 / N modulo p: ``inverse`` leaves this factor to its caller.
    """

    prime: np.uint32
    forward: Factors
    backward: Factors
    inverse_degree: int


@cache
def transform(degree: int, prime: int) -> Transform:
    """The transform of this degree, a power of two from 512 up, and prime, which the caller has found to be one.

    Raises ValueError where p = 1 mod 2N does not hold, or p is 2^30 or above.
    """
    if degree < SMALLEST_DEGREE or degree & (degree - 1):
        raise ValueError(f"a transform of degree {degree}: it must be a power of two from {SMALLEST_DEGREE} up")
    if prime > LARGEST_PRIME or prime % (2 * degree) != 1:
        raise ValueError(f"a transform modulo {prime}: it must be below 2^30, and 1 modulo {2 * degree}")
    psi = root_of_unity(degree, prime)
    return Transform(
        prime=np.uint32(prime),
        forward=_factors(degree, prime, psi),
        backward=_factors(degree, prime, pow(psi, -1, prime)),
        inverse_degree=pow(degree, -1, prime),
    )


def root_of_unity(degree: int, prime: int) -> int:
    """psi: x^((p - 1) / 2N) for the smallest x from 2 up for which it has the order 2N."""
    for base in range(2, prime):
        psi = pow(base, (prime - 1) // (2 * degree), prime)
        if pow(psi, degree, prime) == prime - 1:
            return psi
    raise ValueError(f"{prime} is not a prime: it has no root of unity of order {2 * degree}")


def _factors(degree: int, prime: int, psi: int) -> Factors:
    power, powers = 1, []
    for _ in range(degree):
        powers.append(power)
        power = power * psi % prime
    bits = degree.bit_length() - 1
    places = np.arange(degree)
    reversed_places = np.zeros_like(places)
    for _ in range(bits):
        reversed_places = reversed_places << 1 | places & 1
        places = places >> 1
    roots = np.array(powers, dtype=np.uint64)[reversed_places]
    both = np.stack([roots, companions_of(roots, prime)]).astype(np.uint32)
    layers = []
    distance = _CHUNK // 2
    while distance:
        blocks = degree // (2 * distance)
        layers.append(both[:, blocks : 2 * blocks].reshape(2, degree // SMALLEST_DEGREE, _CHUNKS, -1))
        distance //= 2
    narrow = np.ascontiguousarray(np.concatenate(layers, axis=3).transpose(0, 1, 3, 2))
    return Factors(np.ascontiguousarray(both[:, : degree // _CHUNK]), narrow)


def companions_of(factors: npt.NDArray[np.unsignedinteger[Any]], prime: int) -> npt.NDArray[np.uint64]:
    """Shoup's companions floor(2^32 w / p) of canonical factors w."""
    companions: npt.NDArray[np.uint64] = factors.astype(np.uint64)
    companions <<= _SHIFT
    companions //= np.uint64(prime)  # in place: the factors may be those of a secret
    return companions


def forward(values: Words, transform: Transform) -> None:
    """Transform the rows of ``values``, shape (rows, N), contiguous, of lanes below 4p, in place; canonical after."""
    _forward(values, transform.forward.wide, transform.forward.narrow, transform.prime)


def inverse(values: Words, transform: Transform) -> None:
    """The inverse of ``forward`` times N, in place: of lanes below 2p, to lanes below 2p."""
    _inverse(values, transform.backward.wide, transform.backward.narrow, transform.prime)


@kernel
def _times(lane: Any, factor: Any, companion: Any, prime: Any) -> Any:
    """factor times any lane, below 2p."""
    quotient = np.uint32((np.uint64(lane) * np.uint64(companion)) >> _SHIFT)
    return np.uint32(np.uint32(lane * factor) - np.uint32(quotient * prime))


@kernel
def _transpose_in(values: Any, scratch: Any) -> None:
    for chunk in range(_CHUNKS):
        for place in range(_CHUNK):
            scratch[place, chunk] = values[chunk * _CHUNK + place]


@kernel
def _transpose_out(values: Any, scratch: Any) -> None:
    for chunk in range(_CHUNKS):
        for place in range(_CHUNK):
            values[chunk * _CHUNK + place] = scratch[place, chunk]


@kernel
def _forward_block(low: Any, high: Any, factor: Any, companion: Any, prime: Any, twice: Any) -> None:
    for i in range(len(low)):
        u = low[i]
        u = min(u, np.uint32(u - twice))
        v = _times(high[i], factor, companion, prime)
        low[i] = u + v
        high[i] = u + twice - v


@kernel
def _inverse_block(low: Any, high: Any, factor: Any, companion: Any, prime: Any, twice: Any) -> None:
    for i in range(len(low)):
        u, v = low[i], high[i]
        total = np.uint32(u + v)
        low[i] = min(total, np.uint32(total - twice))
        high[i] = _times(np.uint32(u + twice - v), factor, companion, prime)


@kernel
def _forward(rows: Any, wide: Any, narrow: Any, prime: Any) -> None:
    twice = np.uint32(prime + prime)
    scratch = np.empty((_CHUNK, _CHUNKS), np.uint32)
    degree = rows.shape[1]
    for row in range(rows.shape[0]):
        values = rows[row]
        distance, blocks = degree // 2, 1
        while distance >= _CHUNK:
            for block in range(blocks):
                start = 2 * block * distance
                low, high = values[start : start + distance], values[start + distance : start + 2 * distance]
                _forward_block(low, high, wide[0, blocks + block], wide[1, blocks + block], prime, twice)
            distance //= 2
            blocks *= 2
        for group in range(degree // (_CHUNK * _CHUNKS)):
            part = values[group * _CHUNK * _CHUNKS : (group + 1) * _CHUNK * _CHUNKS]
            _transpose_in(part, scratch)
            distance, blocks = _CHUNK // 2, 1
            while distance:
                for block in range(blocks):
                    factors, companions = narrow[0, group, blocks - 1 + block], narrow[1, group, blocks - 1 + block]
                    for place in range(2 * block * distance, (2 * block + 1) * distance):
                        for lane in range(_CHUNKS):
                            u = scratch[place, lane]
                            u = min(u, np.uint32(u - twice))
                            v = _times(scratch[place + distance, lane], factors[lane], companions[lane], prime)
                            scratch[place, lane] = u + v
                            scratch[place + distance, lane] = u + twice - v
                distance //= 2
                blocks *= 2
            for place in range(_CHUNK):
                for lane in range(_CHUNKS):
                    u = scratch[place, lane]
                    u = min(u, np.uint32(u - twice))
                    scratch[place, lane] = min(u, np.uint32(u - prime))
            _transpose_out(part, scratch)
    scratch[:] = 0


@kernel
def _inverse(rows: Any, wide: Any, narrow: Any, prime: Any) -> None:
    twice = np.uint32(prime + prime)
    scratch = np.empty((_CHUNK, _CHUNKS), np.uint32)
    degree = rows.shape[1]
    for row in range(rows.shape[0]):
        values = rows[row]
        for group in range(degree // (_CHUNK * _CHUNKS)):
            part = values[group * _CHUNK * _CHUNKS : (group + 1) * _CHUNK * _CHUNKS]
            _transpose_in(part, scratch)
            distance, blocks = 1, _CHUNK // 2
            while blocks:
                for block in range(blocks):
                    factors, companions = narrow[0, group, blocks - 1 + block], narrow[1, group, blocks - 1 + block]
                    for place in range(2 * block * distance, (2 * block + 1) * distance):
                        for lane in range(_CHUNKS):
                            u, v = scratch[place, lane], scratch[place + distance, lane]
                            total = np.uint32(u + v)
                            scratch[place, lane] = min(total, np.uint32(total - twice))
                            difference = np.uint32(u + twice - v)
                            scratch[place + distance, lane] = _times(difference, factors[lane], companions[lane], prime)
                distance *= 2
                blocks //= 2
            _transpose_out(part, scratch)
        distance, blocks = _CHUNK, degree // (2 * _CHUNK)
        while blocks:
            for block in range(blocks):
                start = 2 * block * distance
                low, high = values[start : start + distance], values[start + distance : start + 2 * distance]
                _inverse_block(low, high, wide[0, blocks + block], wide[1, blocks + block], prime, twice)
            distance *= 2
            blocks //= 2
    scratch[:] = 0
