"""The modulus of the vectors' elements: Z_2^b, or a prime field.  Plain integers; no kernel is loaded from here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secagg.errors import ParameterError

MERSENNE_61 = 2**61 - 1
"""The largest prime modulus, and the field of the secret sharing."""


def is_prime(value: int) -> bool:
    """R-CONFIG-5: Miller-Rabin with the bases that decide every integer below 3.3e24 (Sorenson and Webster, 2015)."""
    if value < 2:
        return False
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41)
    if any(value % base == 0 for base in bases):
        return value in bases
    odd, twos = value - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        power = pow(base, odd, value)
        if power in (1, value - 1):
            continue
        for _ in range(twos - 1):
            power = power * power % value
            if power == value - 1:
                break
        else:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Modulus:
    """The modulus of the input vectors: 2^b with 1 <= b <= 64, or an odd prime up to 2^61 - 1.

    Elements lie in the smallest unsigned lane of 8, 16, 32 or 64 bits that holds them in memory, and take exactly
    ``bits`` bits each on the wire.
    """

    value: int

    def __post_init__(self) -> None:
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise ParameterError(f"a modulus is a whole number (int), not {type(self.value).__name__}")
        if self.is_ring:
            if not 2 <= self.value <= 2**64:
                raise ParameterError(f"modulus {self.value}: a power of two must lie in 2^1 .. 2^64")
        elif self.value > MERSENNE_61 or not is_prime(self.value):
            raise ParameterError(f"modulus {self.value}: neither 2^b (1 <= b <= 64) nor an odd prime up to 2^61 - 1")

    @classmethod
    def ring(cls, bits: int) -> Modulus:
        """Z_2^bits, 1 <= bits <= 64."""
        if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 64:
            raise ParameterError(f"ring of {bits!r} bits: the bits must be a whole number from 1 to 64")
        return cls(1 << bits)

    @property
    def is_ring(self) -> bool:
        """True for 2^b, False for a prime."""
        return self.value > 1 and self.value & (self.value - 1) == 0

    @property
    def bits(self) -> int:
        """Bits of one element on the wire."""
        return (self.value - 1).bit_length()

    @property
    def lane_bits(self) -> int:
        """Bits of one element in memory: the smallest of 8, 16, 32, 64 that is at least ``bits``."""
        return next(lane for lane in (8, 16, 32, 64) if lane >= self.bits)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The unsigned NumPy dtype of ``lane_bits`` bits, native byte order."""
        return np.dtype(f"u{self.lane_bits // 8}")

    def packed_bytes(self, length: int) -> int:
        """Bytes of ``length`` elements on the wire: ceil(length * bits / 8)."""
        return (length * self.bits + 7) // 8

    def __str__(self) -> str:
        return f"2^{self.bits}" if self.is_ring else str(self.value)
