"""Modular arithmetic on arrays: Numba kernels, no objects, no policy.  Only this package imports numba.

Importing it loads no kernel and not numba either: that happens when the first kernel is needed.
"""

import sys

from secagg.arithmetic.modular import accumulator_of, add, check_lanes, reduce, row_adder_of, subtract
from secagg.arithmetic.modulus import MERSENNE_61, Modulus
from secagg.arithmetic.packing import (
    PackedElementError,
    PackedError,
    PackedLengthError,
    PackedPaddingError,
    add_packed,
    check_packed,
    pack,
    pack_in_place,
    unpack,
)

if sys.byteorder != "little":
    raise ImportError("secagg runs on little-endian processors only: its lanes in memory are the bytes on the wire")

__all__ = [
    "MERSENNE_61",
    "Modulus",
    "PackedElementError",
    "PackedError",
    "PackedLengthError",
    "PackedPaddingError",
    "accumulator_of",
    "add",
    "add_packed",
    "check_lanes",
    "check_packed",
    "pack",
    "pack_in_place",
    "reduce",
    "row_adder_of",
    "subtract",
    "unpack",
]
