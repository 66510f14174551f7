"""The passes over an envelope's residues: drawing public residues, encrypting, and opening a sum.

Lanes of residues have 32 bits and belong to a prime below 2^30.  Messages come in *digits* of at most 28 bits: the
elements of one slot, or the parts of wider elements.  So a digit times a residue is below 2^58, and up to 32 such
products fit into 63 bits; a coefficient has fewer digits than that, or so narrow ones that their products are smaller.

Nothing branches on a message, an error or a secret, and nothing is indexed by them.  Public residues are drawn by
rejection, with a branch on values that everybody knows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from secagg.arithmetic.kernels.jit import kernel

_TILE: Final = 512
"""Coefficients that are worked on at a time: their 64-bit sums stay in the nearest cache."""
_HALF: Final = np.uint64(32)
_LOWER: Final = np.uint64(2**32 - 1)


@kernel
def take_below(words: Any, residues: Any, filled: Any, prime: Any, mask: Any) -> Any:
    """Write the words that are below the prime once masked to ``residues`` from ``filled`` on; how far it is filled."""
    for i in range(len(words)):
        word = words[i] & mask
        if filled == len(residues):
            break
        residues[filled] = word
        filled += np.int64(word < prime)
    return filled


@kernel
def _times(lane: Any, factor: Any, companion: Any, prime: Any) -> Any:
    """factor times any lane, below 2p; see ``ntt``."""
    quotient = np.uint32((np.uint64(lane) * np.uint64(companion)) >> _HALF)
    return np.uint32(np.uint32(lane * factor) - np.uint32(quotient * prime))


@kernel
def multiply(residues: Any, factors: Any, companions: Any, prime: Any) -> None:
    """residues *= factors, slot by slot: below 2p, for any lanes and canonical factors."""
    for i in range(len(residues)):
        residues[i] = _times(residues[i], factors[i], companions[i], prime)


@kernel
def _reduce_wide(value: Any, constants: Any) -> Any:
    """A value below 2^63 modulo the prime, below 2p; constants as ``add_message`` has them."""
    prime = constants[0]
    high = _times(np.uint32(value >> _HALF), constants[1], constants[2], prime)
    low = _times(np.uint32(value & _LOWER), np.uint32(1), constants[3], prime)
    total = np.uint32(high + low)
    return min(total, np.uint32(total - constants[4]))


@kernel
def lift(secret: Any, residues: Any, offset: Any, factor: Any, companion: Any, constants: Any) -> None:
    """residues = factor times the secret, modulo the prime and below 2p.

    NumPy's remainder of signed numbers would branch on their signs, and divide in a time that depends on them.

    Args:
        secret: shape (N,), int64; absolute values are below the offset.
        residues: shape (N,), written.
        offset: what makes the numbers positive: a multiple of p below 2^62, int64.
        factor, companion: a canonical factor.
        constants: as ``add_message`` has them.
    """
    for i in range(len(secret)):
        residues[i] = _times(_reduce_wide(np.uint64(secret[i] + offset), constants), factor, companion, constants[0])


@kernel
def add_message(
    residues: Any, slots: Any, part_bits: int, weights: Any, errors: Any, error_weight: Any, offset: Any, constants: Any
) -> None:
    """residues += message + t error, canonical afterwards.

    Args:
        residues: shape (r,), below 2p.
        slots: shape (f, r): the elements of each slot, of any unsigned dtype.
        part_bits: of a digit; the last one of an element may be narrower.
        weights: shape (f, parts), uint64: 2^(its first bit) modulo p of each digit.
        errors: shape (r,), int32; their absolute value is below 2^16.
        error_weight: t modulo p, uint64.
        offset: what makes the errors' sum positive: a multiple of p, uint64.
        constants: uint32: p, 2^32 mod p and its companion, the companion of 1, 2p.
    """
    prime, twice = constants[0], constants[4]
    shift, mask = np.uint64(part_bits), (np.uint64(1) << np.uint64(part_bits)) - np.uint64(1)
    sums = np.empty(_TILE, np.uint64)
    for start in range(0, len(residues), _TILE):
        end = min(start + _TILE, len(residues))
        count = end - start
        part = errors[start:end]
        for i in range(count):
            sums[i] = offset + np.uint64(np.int64(part[i]) * np.int64(error_weight))
        for slot in range(slots.shape[0]):
            elements = slots[slot, start:end]
            if weights.shape[1] == 1:
                weight = weights[slot, 0]
                for i in range(count):
                    sums[i] += np.uint64(elements[i]) * weight
            else:
                for digit in range(weights.shape[1]):
                    weight, low = weights[slot, digit], np.uint64(digit) * shift
                    for i in range(count):
                        sums[i] += ((np.uint64(elements[i]) >> low) & mask) * weight
        own = residues[start:end]
        for i in range(count):
            total = np.uint32(own[i] + _reduce_wide(sums[i], constants))
            total = min(total, np.uint32(total - twice))
            own[i] = min(total, np.uint32(total - prime))
    sums[:] = 0


@kernel
def add_residues(total: Any, residues: Any, prime: Any) -> Any:
    """total += residues, canonical, unless one of them is not below the prime; the largest of them.

    Both are below 2^30.  One kernel serves all primes: with a kernel for each, a server that takes the first envelope
    of new parameters would compile a dozen of them.
    """
    largest = np.uint32(0)
    for i in range(len(residues)):
        largest = max(largest, residues[i])
    if largest < prime:
        for i in range(len(residues)):
            lane = np.uint32(total[i] + residues[i])
            total[i] = min(lane, np.uint32(lane - prime))
    return largest


@kernel
def subtract_residues(total: Any, residues: Any, prime: Any) -> None:
    """total -= residues; both are canonical, and the total stays so."""
    for i in range(len(residues)):
        lane = np.uint32(total[i] - residues[i])
        total[i] = min(lane, np.uint32(lane + prime))


@kernel
def add_remainders(
    sums: Any, fractions: Any, total: Any, products: Any, factor: Any, companion: Any, inverse: float, digits: Any,
    prime: Any,
) -> None:  # fmt: skip
    """Add one prime's part of Chinese remaindering: y = (total - product) (q / p)^-1 mod p, times q / p.

    Args:
        sums: shape (digits + 1, r), int64.
        fractions: shape (r,), float64: sum of y / p.
        total, products: shape (r,): canonical, and below 2p.
        factor, companion: (q / p)^-1 mod p.
        inverse: 1 / p.
        digits: shape (digits + 1,), int64: q / p in digits; the last one is all that lies above the message.
        prime: p.
    """
    twice = np.uint32(prime + prime)
    lanes = np.empty(_TILE, np.uint32)
    for start in range(0, len(total), _TILE):
        end = min(start + _TILE, len(total))
        count = end - start
        sent, product, share = total[start:end], products[start:end], fractions[start:end]
        for i in range(count):
            lane = _times(np.uint32(sent[i] + twice - product[i]), factor, companion, prime)
            lanes[i] = min(lane, np.uint32(lane - prime))
            share[i] += np.float64(lanes[i]) * inverse
        for digit in range(len(digits)):
            row, weight = sums[digit, start:end], digits[digit]
            for i in range(count):
                row[i] += np.int64(lanes[i]) * weight


@kernel
def settle(sums: Any, fractions: Any, modulus_digits: Any, widths: Any) -> Any:
    """Centre the sums modulo q, carry, and split the message from the noise.

    Afterwards row d of ``sums``, shape (digits + 1, r), holds digit d of the message, and the last row the noise.
    Returns the noise that is furthest from zero, as an absolute value; all of it is int64.
    """
    largest = np.int64(0)
    last = len(widths)
    for i in range(len(fractions)):
        turns = np.int64(np.rint(fractions[i]))
        carry = np.int64(0)
        for digit in range(last):
            value = sums[digit, i] - turns * modulus_digits[digit] + carry
            carry = value >> widths[digit]
            sums[digit, i] = value - (carry << widths[digit])
        noise = sums[last, i] - turns * modulus_digits[last] + carry
        sums[last, i] = noise
        largest = max(largest, abs(noise))
    return largest


@kernel
def join_digits(elements: Any, sums: Any, part_bits: int, parts: int) -> None:
    """elements, shape (f, r) of an unsigned dtype, from digits: shape (f parts, r)."""
    for slot in range(elements.shape[0]):
        row = elements[slot]
        for i in range(len(row)):
            value = np.uint64(sums[slot * parts, i])
            for part in range(1, parts):
                value |= np.uint64(sums[slot * parts + part, i]) << np.uint64(part * part_bits)
            row[i] = value
