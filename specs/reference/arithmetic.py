"""Integers modulo something: masks, packed vectors, secret sharing."""

from collections.abc import Mapping, Sequence

from .primitives import aes_blocks
from .wire import require

FIELD = 2**61 - 1  # of the secret sharing
LIMB_BITS = (52, 52, 52, 52, 48)


def bits_of(modulus: int) -> int:
    return (modulus - 1).bit_length()


def mask(key: bytes, start: int, stop: int, modulus: int) -> list[int]:
    """Elements start .. stop - 1 of the mask that a key makes: any slice on its own."""
    lane = next(lane for lane in (1, 2, 4, 8) if 8 * lane >= bits_of(modulus))
    first = start * lane // 16
    stream = aes_blocks(key, range(first, (stop * lane + 15) // 16))
    places = range(start * lane - 16 * first, stop * lane - 16 * first, lane)
    lanes = [int.from_bytes(stream[place : place + lane], "little") for place in places]
    # Of a ring no candidate is rejected: the bound is 2^L.
    bound = (1 << 8 * lane) // modulus * modulus
    return [_accepted(key, start + i, lanes[i], lane, bound) % modulus for i in range(len(lanes))]


def _accepted(key: bytes, element: int, candidate: int, lane: int, bound: int) -> int:
    """The first candidate for an element that is below the bound; each lies 2^64 blocks after the one before."""
    block, offset = divmod(element * lane, 16)
    while candidate >= bound:
        block += 1 << 64
        candidate = int.from_bytes(aes_blocks(key, range(block, block + 1))[offset : offset + lane], "little")
    return candidate


def packed_bytes(length: int, modulus: int) -> int:
    return (length * bits_of(modulus) + 7) // 8


def pack_vector(vector: Sequence[int], modulus: int) -> bytes:
    """Element i lies in bits i b .. (i + 1) b - 1, from the lowest bit of the first byte on."""
    whole = sum(element << i * bits_of(modulus) for i, element in enumerate(vector))
    return whole.to_bytes(packed_bytes(len(vector), modulus), "little")


def unpack_vector(data: bytes, length: int, modulus: int) -> list[int]:
    """R-MASK-6: undo ``pack_vector``."""
    bits, whole = bits_of(modulus), int.from_bytes(data, "little")
    require(len(data) == packed_bytes(length, modulus), "wrong-length")
    require(not whole >> length * bits, "padding")
    vector = [whole >> i * bits & (1 << bits) - 1 for i in range(length)]
    require(max(vector) < modulus, "element-range")
    return vector


def share(secret: bytes, coefficients: Sequence[Sequence[int]], holder: int) -> bytes:
    """Each limb is the constant term of a polynomial: all five at x = holder + 1; coefficients for x, x^2, ..."""
    rest, shared = int.from_bytes(secret, "little"), b""
    for bits, higher in zip(LIMB_BITS, coefficients, strict=True):
        powers = (c * pow(holder + 1, j + 1, FIELD) for j, c in enumerate(higher))
        shared += ((rest % (1 << bits) + sum(powers)) % FIELD).to_bytes(8, "little")
        rest >>= bits
    return shared


def read_share(data: bytes) -> list[int] | None:
    """The five elements of a share; None when one is not below the field's prime."""
    values = [int.from_bytes(data[at : at + 8], "little") for at in range(0, 40, 8)]
    return values if max(values) < FIELD else None


def reconstruct(shares: Mapping[int, Sequence[int]]) -> bytes:
    """The secret of t shares, by holder; empty when a limb is out of range."""
    limbs = [0] * len(LIMB_BITS)
    for holder, values in shares.items():
        weight = 1
        for other in shares:
            if other != holder:
                weight = weight * (other + 1) * pow(other - holder, -1, FIELD) % FIELD
        limbs = [(limb + weight * value) % FIELD for limb, value in zip(limbs, values, strict=True)]
    secret = sum(limb << 52 * i for i, limb in enumerate(limbs))
    fits = all(limb >> bits == 0 for limb, bits in zip(limbs, LIMB_BITS, strict=True))
    return secret.to_bytes(32, "little") if fits else b""


def is_prime(value: int) -> bool:
    """Miller and Rabin, with bases that decide every number of 64 bits."""
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if any(value % base == 0 for base in bases):
        return value in bases
    twos = (value - 1 & 1 - value).bit_length() - 1
    squares = [[pow(base, value - 1 >> s, value) for s in range(twos, 0, -1)] for base in bases]
    return all(row[0] == 1 or value - 1 in row for row in squares)
