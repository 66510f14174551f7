"""The private encoding of ``specs/distributed-dp.md`` in plain Python: to be read beside it.

Floats are IEEE 754 doubles, and every operation on them stands where the specification has it.  The noise is drawn with
448 bits of each uniform number and with decimals of 120 digits: where that does not decide, which has a probability
below 2^-300, it stops.
"""

import hashlib
import hmac
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction

from .primitives import aes_blocks, derive

TRIES = 64
SHRINK = 1 - 2.0**-30
RUN = 1 << 15
WORDS, DIGITS = 6, 120


@dataclass(frozen=True)
class Mechanism:
    noise: str
    clip: float
    scale: Fraction
    bits: int
    rounding_failure: float
    variance: int
    length: int
    max_weight: int | None = None
    weight_clip: float = 0.0

    @property
    def size(self) -> int:
        """Coordinates of the update, without the weight's."""
        return self.length - (self.max_weight is not None)

    @property
    def dimension(self) -> int:
        d = 1
        while d < self.length:
            d *= 2
        return d


# Parameters that follow from others.


def squared_norm_bound(mechanism: Mechanism) -> int:
    """B."""
    with localcontext() as context:
        context.prec = 200
        clip = Decimal(mechanism.clip) * mechanism.scale.numerator / mechanism.scale.denominator
        root = Decimal(mechanism.dimension).sqrt()
        bound = clip**2 + 2 * clip * root + root**2
        if mechanism.rounding_failure > 0:
            spread = (2 * (1 / Decimal(mechanism.rounding_failure)).ln()).sqrt()
            bound = min(bound, clip**2 + root**2 / 4 + spread * (clip + root / 2))
        nearest = bound.to_integral_value()  # the first bound can be a whole number, with 150 digits of rounding
        return int(nearest if abs(bound - nearest) < Decimal(10) ** -100 else bound.to_integral_value(ROUND_FLOOR))


def update_clip(mechanism: Mechanism) -> float:
    """The largest double whose square, with weight_clip's, is at most the clip's."""
    rest = Fraction(mechanism.clip) ** 2 - Fraction(mechanism.weight_clip) ** 2
    found = math.sqrt(rest)
    while Fraction(found) ** 2 <= rest:
        found = math.nextafter(found, math.inf)
    while Fraction(found) ** 2 > rest:
        found = math.nextafter(found, 0)
    return found


def steps_in_a_unit(mechanism: Mechanism) -> float:
    """The double nearest to S / sqrt(d)."""
    with localcontext() as context:
        context.prec = 200
        scale = Decimal(mechanism.scale.numerator) / mechanism.scale.denominator
        return float(scale / Decimal(mechanism.dimension).sqrt())


def layout_digest(
    mechanism: Mechanism, arrays: Sequence[tuple[Sequence[str | int], Sequence[int]]], levels: int = 0
) -> bytes:
    """``arrays``: path and shape of each, in order."""
    description: dict[str, object] = {
        "arrays": [[list(keys), list(shape)] for keys, shape in arrays],
        "bits": mechanism.bits,
        "clip": mechanism.clip.hex(),
        "max_weight": mechanism.max_weight,
        "noise": mechanism.noise,
        "rounding_failure": mechanism.rounding_failure.hex(),
        "scale": [mechanism.scale.numerator, mechanism.scale.denominator],
        "variance": mechanism.variance,
        "weight_clip": mechanism.weight_clip.hex(),
    }
    if levels:
        description["levels"] = levels
    text = json.dumps(description, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(b"secagg private layout 1\n" + text.encode("ascii")).digest()


# The rotation.


def signs(context: bytes, dimension: int) -> list[int]:
    key = derive(context, b"", b"secagg private encoding: rotation, version 1", 32)
    stream = int.from_bytes(aes_blocks(key, range((dimension + 127) // 128)), "little")
    return [-1 if stream >> i & 1 else 1 for i in range(dimension)]


def hadamard(values: Sequence[float]) -> list[float]:
    out = list(values)
    distance = 1
    while distance < len(out):
        for i in range(len(out)):
            if i & distance == 0:
                a, b = out[i], out[i + distance]
                out[i], out[i + distance] = a + b, a - b
        distance *= 2
    return out


# Noise.


def noise(kind: str, variance: int, key: bytes, count: int) -> list[int]:
    accepted = _accepted(kind, variance, key)
    if kind == "skellam":
        return [next(accepted) - next(accepted) for _ in range(count)]
    return [next(accepted) for _ in range(count)]


def _accepted(kind: str, variance: int, key: bytes) -> Iterator[int]:
    trial = 0
    while True:
        further = aes_blocks(key, range(2**127 + 2**64 * trial, 2**127 + 2**64 * trial + WORDS))
        blocks = aes_blocks(key, range(trial, trial + 1)) + further
        u = t = Fraction(0)
        for place in range(1 + WORDS):
            first, second = blocks[16 * place : 16 * place + 8], blocks[16 * place + 8 : 16 * place + 16]
            u += Fraction(int.from_bytes(first, "little"), 2 ** (64 * place))
            t += Fraction(int.from_bytes(second, "little", signed=place == 0), 2 ** (64 * place))
        k = tried(kind, variance, u, t)
        if k is not None:
            yield k
        trial += 1


def tried(kind: str, variance: int, u: Fraction, t: Fraction) -> int | None:
    """What one trial accepts; u is 2^64 U."""
    rest = Fraction(1, 2 ** (64 * WORDS + 1))  # amid what the bits leave open
    u, t = u + rest, t + rest
    x = scale_of(kind, variance) * t / u + Fraction(1, 2)
    k = math.floor(x)
    if not 2**-200 < x - k < 1 - 2**-200:
        raise ArithmeticError("more bits are needed")
    with localcontext() as context:
        context.prec, context.Emin = DIGITS, -(10**15)
        exponent = _exponent(kind, variance, k)
        if exponent is None:
            return None
        log_square = 2 * (Decimal(u.numerator) / (u.denominator * 2**64)).ln()
        if abs(log_square + exponent) < Decimal(10) ** -80:
            raise ArithmeticError("more digits are needed")
        return k if log_square < -exponent else None


def scale_of(kind: str, variance: int) -> int:
    """s."""
    square = Fraction(14716 if kind == "skellam" else 29432, 10000) * variance
    root = math.isqrt(math.floor(square))
    return 2 + root + (root * root < square)


def _exponent(kind: str, variance: int, k: int) -> Decimal | None:
    """-ln f(k); None where f(k) is 0."""
    if kind == "discrete-gaussian":
        return Decimal(k * k) / (2 * variance)
    mode = variance // 2
    if mode + k < 0:
        return None
    return _log_gamma(mode + k + 1) - _log_gamma(mode + 1) - k * (Decimal(variance) / 2).ln()


def root_of_density(kind: str, variance: int, k: int, bits: int) -> int:
    """sqrt(f(k)) in units of 2^-bits, nearly."""
    with localcontext() as context:
        context.prec = DIGITS
        exponent = _exponent(kind, variance, k)
        return 0 if exponent is None else int((-exponent / 2).exp() * 2**bits)


def _log_gamma(z: int) -> Decimal:
    """ln (z - 1)! less ln(2 pi) / 2, by Stirling's series at 200 or above: forty terms reach 100 digits there."""
    product = 1
    while z < 200:
        product *= z
        z += 1
    total = (z - Decimal(1) / 2) * Decimal(z).ln() - z - Decimal(product).ln()
    for i, number in enumerate(_BERNOULLI, 1):
        total += Decimal(number.numerator) / (number.denominator * 2 * i * (2 * i - 1) * z ** (2 * i - 1))
    return total


def _bernoulli_numbers(count: int) -> list[Fraction]:
    """B_2, B_4, ..., by the triangle of Akiyama and Tanigawa."""
    found = []
    for n in range(2 * count + 1):
        row = [Fraction(1, i + 1) for i in range(n + 1)]
        for width in range(n, 0, -1):
            row = [(i + 1) * (row[i] - row[i + 1]) for i in range(width)]
        found.append(row[0])
    return found[2::2]


_BERNOULLI = _bernoulli_numbers(40)


# Levels of noise.


@dataclass(frozen=True)
class Levels:
    """d_0 ... d_L and V_0 ... V_L."""

    losses: list[int]
    variances: list[int]

    def reached(self, lost: int) -> int:
        """The level of so many losses."""
        for level, most in enumerate(self.losses):
            if lost <= most:
                return level
        return len(self.losses) - 1


def levels_of(
    mechanism: Mechanism, clients: int, colluders: int, min_survivors: int, quorum: int, levels: int
) -> Levels:
    honest, fewest = clients - colluders, max(min_survivors, quorum) - colluders
    allowed = honest - fewest
    last = min(levels, allowed)
    losses = [0] + [level * allowed // last for level in range(1, last + 1)]
    return Levels(losses, [math.ceil(Fraction(fewest * mechanism.variance, honest - lost)) for lost in losses])


def _expand(key: bytes, label: bytes) -> bytes:
    return hmac.digest(key, label + b"\x01", "sha256")


def _next(link: bytes) -> bytes:
    return _expand(link, b"secagg private encoding: next level of removable noise, version 1")


def removable(mechanism: Mechanism, levels: Levels, link: bytes, level: int) -> list[list[int]]:
    """The components behind a level, from the link of that level."""
    found = []
    for before, after in zip(levels.variances[level:], levels.variances[level + 1 :], strict=False):
        key = _expand(link, b"secagg private encoding: removable noise, version 1")
        if after > before:
            found.append(noise(mechanism.noise, after - before, key, mechanism.dimension))
        link = _next(link)
    return found


def without_surplus(
    mechanism: Mechanism, levels: Levels, total: Sequence[int], lost: int, links: Sequence[bytes]
) -> list[int]:
    """The sum, without what the revealed links take off it."""
    components = [part for link in links for part in removable(mechanism, levels, link, levels.reached(lost))]
    return [(element - sum(parts)) % 2**mechanism.bits for element, *parts in zip(total, *components, strict=True)]


def variance_of_sum(levels: Levels, lost: int, included: int, answered: int) -> int:
    """Of the noise in each coordinate of the sum after the removal."""
    return answered * levels.variances[levels.reached(lost)] + (included - answered) * levels.variances[-1]


def variance_that_counts(levels: Levels, lost: int, included: int, colluders: int) -> int:
    """The most of it that a statement on privacy may count."""
    return (included - colluders) * levels.variances[levels.reached(lost)]


# Encoding and decoding.


def encode(mechanism: Mechanism, context: bytes, seed: bytes, update: Sequence[float], weight: int = 1) -> list[int]:
    """The elements of one client's vector; ``seed`` is its 32 random bytes."""
    added = noise(mechanism.noise, mechanism.variance, _noise_key(seed), mechanism.dimension)
    return _encoded(mechanism, context, seed, update, weight, [added])


def encode_in_levels(
    mechanism: Mechanism, levels: Levels, context: bytes, seed: bytes, update: Sequence[float], weight: int = 1
) -> tuple[list[int], list[bytes]]:
    """The elements of one client's vector, and its links, by level."""
    links = [derive(seed, b"", b"secagg private encoding: first level of removable noise, version 1", 32)]
    while len(links) < len(levels.losses):
        links.append(_next(links[-1]))
    always = noise(mechanism.noise, levels.variances[0], _noise_key(seed), mechanism.dimension)
    added = [always, *removable(mechanism, levels, links[0], 0)]
    return _encoded(mechanism, context, seed, update, weight, added), links


def _noise_key(seed: bytes) -> bytes:
    return derive(seed, b"", b"secagg private encoding: noise, version 1", 32)


def _encoded(
    mechanism: Mechanism, context: bytes, seed: bytes, update: Sequence[float], weight: int, added: list[list[int]]
) -> list[int]:
    rotated = rotate(mechanism, context, update, weight)
    key = derive(seed, b"", b"secagg private encoding: stochastic rounding, version 1", 32)
    rounded = round_conditionally(rotated, key, squared_norm_bound(mechanism))
    return [(whole + sum(more)) % 2**mechanism.bits for whole, *more in zip(rounded, *added, strict=True)]


def rotate(mechanism: Mechanism, context: bytes, update: Sequence[float], weight: int) -> list[float]:
    """Clipped, weighed, in steps, and rotated."""
    largest = max(map(abs, update))
    exponent = max(math.frexp(largest)[1], -900) if largest > 0 else -900
    scaled = [value * 2.0**-exponent if exponent < 1024 else value * 2.0**-1023 * 0.5 for value in update]
    norm = math.sqrt(_sum_of_squares(scaled))
    clipped = update_clip(mechanism) * SHRINK / norm if norm > 0 else math.inf
    unclipped = 2.0**exponent if exponent < 1024 else math.inf
    share = 1.0 if mechanism.max_weight is None else min(weight, mechanism.max_weight) / mechanism.max_weight
    factor = min(unclipped, clipped) * share * steps_in_a_unit(mechanism)
    values = [value * factor for value in scaled]
    if mechanism.max_weight is not None:
        values.append(mechanism.weight_clip * SHRINK * share * steps_in_a_unit(mechanism))
    values += [0.0] * (mechanism.dimension - len(values))
    return hadamard([sign * value for sign, value in zip(signs(context, mechanism.dimension), values, strict=True)])


def _sum_of_squares(values: Sequence[float]) -> float:
    total = 0.0
    for start in range(0, len(values), RUN):
        run = 0.0
        for value in values[start : start + RUN]:
            run += value * value
        total += run
    return total


def round_conditionally(values: Sequence[float], key: bytes, bound: int) -> list[int]:
    for attempt in range(TRIES):
        blocks = range(2**64 * attempt, 2**64 * attempt + (len(values) + 3) // 4)
        stream = aes_blocks(key, blocks)
        rounded = []
        for i, value in enumerate(values):
            draw = int.from_bytes(stream[4 * i : 4 * i + 4], "little")
            floor = float(math.floor(value))
            rounded.append(int(floor) + (draw < round((value - floor) * 2.0**32)))
        if sum(whole * whole for whole in rounded) <= bound:
            return rounded
    return [math.trunc(value) for value in values]


def decode(
    mechanism: Mechanism, context: bytes, total: Sequence[int], count: int, variance: int | None = None
) -> tuple[list[float], float]:
    """The estimated mean of a sum of ``count`` vectors, and what it was divided by.

    ``variance`` is that of the noise in the sum, where it is not ``count`` times the mechanism's.
    """
    half, modulus = 2 ** (mechanism.bits - 1), 2**mechanism.bits
    centred = [float((element + half) % modulus - half) for element in total]
    unit = float(mechanism.scale) * math.sqrt(mechanism.dimension)
    turned = zip(hadamard(centred), signs(context, mechanism.dimension), strict=True)
    values = [value / unit * sign for value, sign in turned]
    divisor = weight = float(count)
    if mechanism.max_weight is not None:
        full = mechanism.weight_clip * SHRINK
        deviation = math.sqrt(count * mechanism.variance if variance is None else variance) / float(mechanism.scale)
        divisor = max(values[mechanism.size], deviation) / full
        weight = divisor * mechanism.max_weight
    return [value / divisor for value in values[: mechanism.size]], weight


def spread(mechanism: Mechanism, total: Sequence[int]) -> float:
    """The estimated standard deviation of the sum's elements before they wrapped."""
    angles = [2 * math.pi * element / 2**mechanism.bits for element in total]
    length = math.hypot(math.fsum(map(math.cos, angles)), math.fsum(map(math.sin, angles))) / len(total)
    if length < 2**-40:
        return math.inf
    return 2**mechanism.bits / (2 * math.pi) * math.sqrt(-2 * math.log(min(length, 1.0)))
