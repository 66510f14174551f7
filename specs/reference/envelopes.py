"""Lattice envelopes: a vector encrypted once, under a short secret that adds up as the vectors do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from math import prod

from .arithmetic import bits_of, is_prime, pack_vector, packed_bytes, unpack_vector
from .primitives import aes_blocks
from .wire import Refused, require

MOST_BITS = {4096: 101, 8192: 202, 16384: 411}  # of the modulus, by degree
SECRET, ERROR = (Fraction(81, 4), 36), (Fraction(81, 2), 50)  # variances, and the largest magnitudes


@dataclass(frozen=True)
class Parameters:
    """What an envelope is made with: it follows from g, m and b."""

    clients: int  # g, whose envelopes are added up
    length: int  # m
    bits: int  # b, of an element of the sum
    slots: int  # f
    degree: int  # N
    primes: tuple[int, ...]

    @property
    def key_modulus(self) -> int:
        return 1 << (2 * SECRET[1] * self.clients).bit_length()

    def pieces(self) -> Iterator[tuple[int, int, int]]:
        """Of each polynomial: its first element, the one behind its last, and how many coefficients are sent."""
        for start in range(0, self.length, self.degree * self.slots):
            stop = min(start + self.degree * self.slots, self.length)
            yield start, stop, -(-(stop - start) // (64 * self.slots)) * 64

    def envelope_bytes(self) -> int:
        whole, rest = divmod(self.length, self.degree * self.slots)
        sent = whole * self.degree + -(-rest // (64 * self.slots)) * 64
        return sent // 8 * sum(map(int.bit_length, self.primes))

    def upload(self) -> int:
        return self.envelope_bytes() + packed_bytes(self.degree, self.key_modulus)


@cache
def find(clients: int, length: int, bits: int) -> Parameters:
    """R-ENV-2, R-ENV-3: of all sets that are secure and large enough, the one with the fewest bytes."""
    require(bits <= 64, "config-unsound")
    sets = []
    for degree, most in MOST_BITS.items():
        for slots in range(1, most // bits + 1):
            least = 65 * 2 ** (slots * bits) * (clients * ERROR[1] + 1) // 32 + 1
            if primes := primes_for(degree, least, most):
                sets.append(Parameters(clients, length, bits, slots, degree, primes))
    require(sets != [], "config-unsound")
    return min(sets, key=lambda found: (found.upload(), found.degree, found.slots))


@cache
def primes_for(degree: int, least: int, most: int) -> tuple[int, ...]:
    """Primes of 17 to 30 bits, as few as may be, with the fewest bits in all; none if these are more than ``most``."""
    count = -(-least.bit_length() // 30)
    for total in range(max(least.bit_length(), 17 * count), min(most, 30 * count) + 1):
        small, large = divmod(total, count)
        primes = largest_primes(degree, small + 1)[:large] + largest_primes(degree, small)[: count - large]
        if len(primes) == count and prod(primes) >= least:
            return primes
    return ()


@cache
def largest_primes(degree: int, bits: int) -> tuple[int, ...]:
    """The primes of so many bits that are 1 modulo 2N, descending: the first 14, which is as many as a set has."""
    values = range(((1 << bits) - 2) // (2 * degree) * 2 * degree + 1, (1 << bits) >> 1, -2 * degree)
    found = (value for value in values if is_prime(value))
    return tuple(prime for prime, _ in zip(found, range(14), strict=False))


# Randomness.


@cache
def magnitude_bounds(variance: Fraction, largest: int) -> tuple[int, ...]:
    """R-ENV-5: 2^127 P[|e| < k], rounded, for k from 1 to the largest magnitude."""
    with localcontext() as context:
        context.prec = 90
        twice = Decimal(2 * variance.numerator) / variance.denominator
        weights = [(2 if k else 1) * (-k * k / twice).exp() for k in range(largest + 1)]
        return tuple(round(sum(weights[:k]) / sum(weights) * 2**127) for k in range(1, largest + 1))


def samples(stream: bytes, distribution: tuple[Fraction, int]) -> list[int]:
    """R-ENV-5: a sample of each 16 bytes."""
    drawn = []
    for start in range(0, len(stream), 16):
        x = int.from_bytes(stream[start : start + 16], "little")
        magnitude = sum(bound <= x >> 1 for bound in magnitude_bounds(*distribution))
        drawn.append(-magnitude if x % 2 else magnitude)
    return drawn


def public_values(key: bytes, number: int, place: int, parameters: Parameters) -> list[int]:
    """R-ENV-4: polynomial a_l modulo a prime, by its values."""
    prime = parameters.primes[place]
    block, values = (number << 64) + (place << 32), list[int]()
    while len(values) < parameters.degree:
        stream = aes_blocks(key, range(block, block + 64))
        words = (int.from_bytes(stream[at : at + 4], "little") % 2 ** prime.bit_length() for at in range(0, 1024, 4))
        values += [word for word in words if word < prime]
        block += 64
    return values[: parameters.degree]


# Polynomials modulo X^N + 1 and a prime, by their values at psi^(2 brv(k) + 1): brv reverses the bits of k.


@cache
def powers_of_root(degree: int, prime: int) -> list[int]:
    """R-ENV-4: 1, psi, psi^2, ... for psi of order 2N."""
    candidates = (pow(x, (prime - 1) // (2 * degree), prime) for x in range(2, prime))
    psi = next(candidate for candidate in candidates if pow(candidate, degree, prime) == prime - 1)
    powers = [1]
    for _ in range(2 * degree - 1):
        powers.append(powers[-1] * psi % prime)
    return powers


def evaluate(f: Sequence[int], prime: int, powers: Sequence[int], exponent: int) -> list[int]:
    """The values of f, which is modulo X^len(f) - psi^exponent: of f modulo X^(len(f) / 2) - z, and then + z."""
    half, turn = len(f) // 2, len(powers) // 2
    if not half:
        return [*f]
    z = powers[exponent // 2]
    low, high = f[:half], [z * x for x in f[half:]]
    plus = [(x + y) % prime for x, y in zip(low, high, strict=True)]
    minus = [(x - y) % prime for x, y in zip(low, high, strict=True)]
    return evaluate(plus, prime, powers, exponent // 2) + evaluate(minus, prime, powers, exponent // 2 + turn)


def interpolate(values: Sequence[int], prime: int, powers: Sequence[int], exponent: int) -> list[int]:
    """Undo ``evaluate``."""
    half, turn = len(values) // 2, len(powers) // 2
    if not half:
        return [*values]
    plus = interpolate(values[:half], prime, powers, exponent // 2)
    minus = interpolate(values[half:], prime, powers, exponent // 2 + turn)
    inverse = pow(2 * powers[exponent // 2], -1, prime)
    low = [(x + y) * (prime + 1) // 2 % prime for x, y in zip(plus, minus, strict=True)]
    return low + [(x - y) * inverse % prime for x, y in zip(plus, minus, strict=True)]


def products(parameters: Parameters, key: bytes, secret: Sequence[int], number: int) -> list[list[int]]:
    """a_l s modulo each prime: coefficients."""
    found = []
    for place, prime in enumerate(parameters.primes):
        powers = powers_of_root(parameters.degree, prime)
        values = evaluate([x % prime for x in secret], prime, powers, parameters.degree)
        public = public_values(key, number, place, parameters)
        both = [a * s % prime for a, s in zip(public, values, strict=True)]
        found.append(interpolate(both, prime, powers, parameters.degree))
    return found


# Envelopes.


def seal(parameters: Parameters, key: bytes, seed: bytes, vector: Sequence[int]) -> tuple[list[int], bytes]:
    """R-ENV-5, R-ENV-6: the shifted secret, and the envelope."""
    sent_in_all = sum(sent for _, _, sent in parameters.pieces())
    stream = aes_blocks(seed, range(parameters.degree + sent_in_all))
    secret = samples(stream[: 16 * parameters.degree], SECRET)
    errors = iter(samples(stream[16 * parameters.degree :], ERROR))
    t, envelope = 1 << parameters.slots * parameters.bits, b""
    for number, (start, stop, sent) in enumerate(parameters.pieces()):
        messages = [0] * sent
        for place, element in enumerate(vector[start:stop]):
            messages[place % sent] += element << place // sent * parameters.bits
        noise = [next(errors) for _ in range(sent)]
        for prime, product in zip(parameters.primes, products(parameters, key, secret, number), strict=True):
            residues = [(a + t * e + x) % prime for a, e, x in zip(product, noise, messages, strict=False)]
            envelope += pack_vector(residues, prime)
    return [x + SECRET[1] for x in secret], envelope


def read(parameters: Parameters, envelope: bytes) -> list[list[int]]:
    """R-ENV-7: the residues, polynomial by polynomial and prime by prime."""
    require(len(envelope) == parameters.envelope_bytes(), "wrong-length")
    found, place = [], 0
    for _, _, sent in parameters.pieces():
        for prime in parameters.primes:
            size = sent * bits_of(prime) // 8
            found.append(unpack_vector(envelope[place : place + size], sent, prime))
            place += size
    return found


def add(parameters: Parameters, one: Sequence[list[int]], other: Sequence[list[int]]) -> list[list[int]]:
    """The sum of what ``read`` gives."""
    moduli = [prime for _ in parameters.pieces() for prime in parameters.primes]
    return [[(x + y) % p for x, y in zip(a, b, strict=True)] for p, a, b in zip(moduli, one, other, strict=True)]


def open_sum(
    parameters: Parameters, key: bytes, total: Sequence[list[int]], keys: Sequence[int], members: int
) -> list[int]:
    """R-ENV-8: the sum of the vectors, from the sums of the envelopes and of the shifted secrets of so many members."""
    secret, q = [x - members * SECRET[1] for x in keys], prod(parameters.primes)
    bits, rows, vector = parameters.slots * parameters.bits, iter(total), list[int]()
    for number, (start, stop, sent) in enumerate(parameters.pieces()):
        whole = [0] * sent
        for prime, product in zip(parameters.primes, products(parameters, key, secret, number), strict=True):
            weight = q // prime * pow(q // prime, -1, prime)
            for j, (c, a) in enumerate(zip(next(rows), product, strict=False)):
                whole[j] += (c - a) * weight
        centred = [(x + q // 2) % q - q // 2 for x in whole]
        if any(abs(x >> bits) > parameters.clients * ERROR[1] for x in centred):
            raise Refused("bad-envelope")
        for place in range(stop - start):
            element = centred[place % sent] >> place // sent * parameters.bits
            vector.append(element % (1 << parameters.bits))
    return vector
