"""Vectors on the wire: element i of b bits lies in bits i b to (i+1) b - 1; bit k is bit k % 8, from the lowest, of
byte k // 8.

Where ``kernels.shuffles`` has kernels for the target, both ways work in groups of 64 bytes of lanes; else
packing in groups of 64 elements, which take b words of 64 bits, and unpacking of eight.  A kernel is compiled for each
b, so that every shift is a constant.  Where b is 8, 16, 32 or 64 the bytes are the lanes and no kernel is needed.

Kernels work on whole groups and never touch a byte outside of their arrays; the last few elements go through a padded
copy.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.arithmetic import modular
from secagg.arithmetic.kernels import jit
from secagg.arithmetic.modular import Lanes
from secagg.arithmetic.modulus import Modulus
from secagg.wording import counted

Buffer: TypeAlias = bytes | bytearray | memoryview
Bytes: TypeAlias = npt.NDArray[np.uint8]

_CHUNK: Final = 1 << 16
"""Elements of a prime that are checked and added at a time: what a core's second-level cache holds.  From 2^15 to 2^18
any number is as fast, to within a tenth (``benchmarks/test_kernels.py -k unpacking``)."""


class PackedError(ValueError):
    """Packed bytes that are not what a vector of this modulus and length packs to."""


class PackedLengthError(PackedError):
    """Too few bytes, or too many."""


class PackedPaddingError(PackedError):
    """A bit after the last element is set."""


class PackedElementError(PackedError):
    """An element is not below the modulus."""


def pack(vector: Lanes, modulus: Modulus) -> bytes:
    """R-MASK-4: the wire form of a vector: ``modulus.packed_bytes(m)`` bytes, the bits after the last element zero.

    Args:
        vector: lanes, shape (m,); for a ring any, of which the lowest b bits are taken, for a prime canonical.

    Raises:
        ValueError: the vector has another dtype or shape.
    """
    if vector.dtype != modulus.dtype or vector.ndim != 1:
        raise ValueError(
            f"an array of {vector.dtype} and shape {vector.shape}: modulo {modulus} it must be one-dimensional and of "
            f"{modulus.dtype}"
        )
    bits, length = modulus.bits, len(vector)
    if bits == modulus.lane_bits:
        return vector.tobytes()
    vector = np.require(vector, requirements=["C", "A"])
    groups, rest = divmod(length, 64)
    words = np.empty((groups + bool(rest)) * bits, dtype=np.uint64)
    if length:
        _pack_groups(words, vector, groups, bits)
        if rest:
            padded = np.zeros(64, dtype=modulus.dtype)
            padded[:rest] = vector[length - rest :]
            _pack_groups(words[groups * bits :], padded, 1, bits)
    return words.view(np.uint8)[: modulus.packed_bytes(length)].tobytes()


def pack_in_place(vector: Lanes, modulus: Modulus) -> memoryview:
    """As ``pack``, into the vector's own memory: for a long vector that nobody needs any more.

    A packed element lies in front of where it came from, so that none is overwritten before it is read.

    Raises:
        ValueError: as ``pack``, or the vector is not contiguous, aligned and writable.
    """
    modular.check_lanes(vector, modulus)
    bits, length = modulus.bits, len(vector)
    packed = vector.view(np.uint8)
    if bits < modulus.lane_bits and length:
        groups, rest = divmod(length, 64)
        whole = vector[: groups * 64]
        words = whole.view(np.uint64)
        if not words.flags.aligned:  # a part of another array, of narrower lanes
            return memoryview(pack(vector, modulus))
        _pack_groups(words, whole, groups, bits)
        if rest:
            start = groups * 8 * bits
            last = pack(vector[length - rest :], modulus)
            packed[start : start + len(last)] = np.frombuffer(last, dtype=np.uint8)
    return packed[: modulus.packed_bytes(length)].data


def unpack(data: Buffer, modulus: Modulus, length: int) -> Lanes:
    """The vector that packs to ``data``: shape (length,), dtype ``modulus.dtype``, canonical.

    Raises:
        PackedError: as ``check_packed``.
    """
    vector = np.zeros(length, dtype=modulus.dtype)
    add_packed(vector, data, modulus)
    return vector


def check_packed(data: Buffer, modulus: Modulus, length: int) -> None:
    """Check that ``data``, any contiguous buffer, is a vector of ``length`` elements.

    Raises:
        PackedLengthError: it is not ``modulus.packed_bytes(length)`` long.
        PackedPaddingError: a bit after the last element is set.
        PackedElementError: an element is not below the modulus.
    """
    packed = _checked_bytes(data, modulus, length)
    if not modulus.is_ring:
        for _, elements in _chunks(packed, length, modulus):
            _check_elements(elements, modulus)


def add_packed(accumulator: Lanes, data: Buffer, modulus: Modulus) -> None:
    """accumulator += the vector that packs to ``data``; nothing is changed when an error is raised.

    Args:
        accumulator: lanes, shape (m,), contiguous; for a ring any, which then may grow garbage above bit b until it is
            reduced, for a prime canonical.
        data: any contiguous buffer; it need not be aligned nor writable.

    Raises:
        PackedError: as ``check_packed``.
        ValueError: the accumulator is of another dtype or shape, read-only or not contiguous.
    """
    modular.check_lanes(accumulator, modulus)
    packed = _checked_bytes(data, modulus, len(accumulator))
    if modulus.is_ring:
        _add_elements(accumulator, packed, 0, modulus)
        return
    accumulate = modular.accumulator_of(modulus)
    for part, elements in _chunks(packed, len(accumulator), modulus):
        try:
            _check_elements(elements, modulus)
        except PackedElementError:
            for earlier, added in _chunks(packed, part.start, modulus):
                accumulate(accumulator[earlier], added, True)
            raise
        accumulate(accumulator[part], elements, False)


def _checked_bytes(data: Buffer, modulus: Modulus, length: int) -> Bytes:
    packed = np.frombuffer(data, dtype=np.uint8)
    expected = modulus.packed_bytes(length)
    if len(packed) != expected:
        raise PackedLengthError(
            f"{counted(len(packed), 'byte')}: {counted(length, 'element')} modulo {modulus} "
            f"{'is' if length == 1 else 'are'} packed in {expected:,}"
        )
    used = length * modulus.bits % 8
    if used and packed[-1] >> np.uint8(used):
        raise PackedPaddingError(
            f"a bit after the last of {counted(length, 'element')} is set: these bits must be zero"
        )
    return packed


def _check_elements(elements: Lanes, modulus: Modulus) -> None:
    largest = int(elements.max())
    if largest >= modulus.value:
        raise PackedElementError(f"an element is {largest}: it must be below {modulus}")


def _chunks(packed: Bytes, length: int, modulus: Modulus) -> Iterator[tuple[slice, Lanes]]:
    """The first ``length`` packed elements, as they are, a chunk at a time, and where each chunk lies."""
    for start in range(0, length, _CHUNK):
        elements = np.zeros(min(_CHUNK, length - start), dtype=modulus.dtype)
        _add_elements(elements, packed, start, modulus)
        yield slice(start, start + len(elements)), elements


def _add_elements(accumulator: Lanes, packed: Bytes, start: int, modulus: Modulus) -> None:
    """accumulator += elements start, start + 1, ... of the packed ones, with no reduction; start is a multiple of 8."""
    bits, count = modulus.bits, len(accumulator)
    first = start * bits // 8
    if bits == modulus.lane_bits:
        lanes = packed[first : first + count * bits // 8].view(modulus.dtype)
        np.add(accumulator, lanes, out=accumulator)
        return
    group_of = _unpacker(bits)
    group_bytes = group_of.elements * bits // 8
    # What a group's reads reach beyond its own bytes limits how many groups can be read in place.
    readable = (len(packed) - first - group_of.reach) // group_bytes + 1
    groups = max(0, min(count // group_of.elements, readable))
    if groups:
        group_of.add(accumulator, packed[first:], groups)
    rest = count - groups * group_of.elements
    if rest:
        groups_left = -(-rest // group_of.elements)
        padded = np.zeros(groups_left * group_bytes + group_of.reach, dtype=np.uint8)
        tail = packed[first + groups * group_bytes :][: groups_left * group_bytes]
        padded[: len(tail)] = tail
        lanes = np.zeros(groups_left * group_of.elements, dtype=modulus.dtype)
        group_of.add(lanes, padded, groups_left)
        accumulator[groups * group_of.elements :] += lanes[:rest]


class _Unpacker(NamedTuple):
    """Adds groups of packed elements to lanes.

    Attributes:
        add: (accumulator, packed, groups), from the first byte and the first lane on.
        elements: of a group; they take a whole number of bytes.
        reach: how many bytes, from its first on, are read for a group.
    """

    add: Callable[[Lanes, Bytes, int], None]
    elements: int
    reach: int


@cache
def _unpacker(bits: int) -> _Unpacker:
    """The fastest that there is on this target."""
    try:
        from secagg.arithmetic.kernels import shuffles

        if shuffles.can_unpack(bits):
            return _Unpacker(shuffles.adder(bits), shuffles.elements(bits), shuffles.reach(bits))
    except Exception as fault:  # whatever is raised by a Numba other than those that this was written for
        warnings.warn(f"secagg unpacks {bits} bits by its slower kernel ({fault})", RuntimeWarning, stacklevel=2)
    add = _adder(bits)
    return _Unpacker(
        lambda accumulator, packed, groups: add(accumulator, _windows(packed, groups, bits), groups),
        8,
        _window_count(bits) + 7,
    )


def _window_count(bits: int) -> int:
    """At how many successive byte offsets the words begin that hold a group's eight elements, see ``_adder``."""
    return 1 if bits <= 8 else (7 * bits >> 3) + 1 + _crosses_word(bits)


def _crosses_word(bits: int) -> bool:
    """Whether an element can begin so late in its first byte that it ends after 64 bits."""
    return any((index * bits & 7) + bits > 64 for index in range(8))


def _windows(packed: Bytes, groups: int, bits: int) -> npt.NDArray[np.uint64]:
    """Overlapping views: window [g, o] is the 64-bit word that begins at byte g bits + o.  NumPy checks the bounds."""
    return np.ndarray((groups, _window_count(bits)), np.uint64, packed, strides=(bits, 1))


@cache
def _adder(bits: int) -> Callable[[Lanes, npt.NDArray[np.uint64], int], None]:
    """(accumulator, windows, groups): adds 8 elements a group.  One unaligned load, shift and mask an element."""
    dtype = Modulus.ring(bits).dtype
    size, mask = np.uint64(bits), np.uint64(2**bits - 1)
    eight, three, seven, one = np.uint64(8), np.uint64(3), np.uint64(7), np.uint64(1)
    is_narrow, crosses = bits <= 8, _crosses_word(bits)

    def add_packed(accumulator: Any, windows: Any, groups: Any) -> None:
        for group in range(groups):
            row = np.uint64(group)
            for index in range(8):
                position = np.uint64(index) * size
                if is_narrow:  # one word holds the whole group
                    element = windows[row, 0] >> position
                else:
                    element = windows[row, position >> three] >> (position & seven)
                if crosses:
                    element |= (windows[row, (position >> three) + one] >> (position & seven)) << eight
                accumulator[row * eight + np.uint64(index)] += element & mask

    arguments = (
        jit.array_of(dtype),
        jit.array_of(np.uint64, 2, writable=False, contiguous=False),
        jit.scalar_of(np.int64),
    )
    return jit.specialised(add_packed, f"add_packed_{bits}", *arguments)


def _pack_groups(words: npt.NDArray[np.uint64], vector: Lanes, groups: int, bits: int) -> None:
    """Pack ``groups`` times 64 elements into ``bits`` words each, by the fastest means that there is on this target."""
    shuffled = _shuffled_packer(bits)
    if shuffled is None:
        _packer(bits)(words, vector, groups)
        return
    # Shuffles write all bytes of a group of lanes, of which the last one's must have room.
    beyond = shuffled.group_bytes - shuffled.elements * bits // 8
    fit = max(0, min(groups, (words.nbytes - beyond) // (8 * bits)))
    shuffled.pack(words.view(np.uint8), vector, fit * 64 // shuffled.elements)
    if fit < groups:
        room = np.empty((groups - fit) * bits + shuffled.group_bytes // 8, dtype=np.uint64)
        shuffled.pack(room.view(np.uint8), vector[fit * 64 :], (groups - fit) * 64 // shuffled.elements)
        words[fit * bits : groups * bits] = room[: (groups - fit) * bits]


class _ShuffledPacker(NamedTuple):
    """Packs groups of lanes.

    Attributes:
        pack: (packed, vector, groups), from the first byte and the first lane on.
        elements: of a group; 64 are a whole number of groups.
        group_bytes: how many bytes, from its first on, are written for a group.
    """

    pack: Callable[[Bytes, Lanes, int], None]
    elements: int
    group_bytes: int


@cache
def _shuffled_packer(bits: int) -> _ShuffledPacker | None:
    """The kernel that packs by shuffles, where there is one for the target."""
    try:
        from secagg.arithmetic.kernels import shuffles

        if shuffles.can_pack(bits):
            return _ShuffledPacker(shuffles.packer(bits), shuffles.elements(bits), shuffles.GROUP_BYTES)
    except Exception as fault:  # whatever is raised by a Numba other than those that this was written for
        warnings.warn(f"secagg packs {bits} bits by its slower kernel ({fault})", RuntimeWarning, stacklevel=2)
    return None


@cache
def _packer(bits: int) -> Callable[[npt.NDArray[np.uint64], Lanes, int], None]:
    """(words, vector, groups): packs 64 elements a group into ``bits`` words."""
    dtype = Modulus.ring(bits).dtype
    size, mask = np.uint64(bits), np.uint64(2**bits - 1)
    zero, one, six, word_bits, last_bit = np.uint64(0), np.uint64(1), np.uint64(6), np.uint64(64), np.uint64(63)

    def pack(words: Any, vector: Any, groups: Any) -> None:
        for group in range(groups):
            first = np.uint64(group)
            word = zero
            for index in range(64):
                position = np.uint64(index) * size
                shift = position & last_bit
                element = np.uint64(vector[first * word_bits + np.uint64(index)]) & mask
                word |= element << shift
                if shift + size >= word_bits:
                    words[first * size + (position >> six)] = word
                    word = (element >> one) >> (last_bit - shift)

    arguments = (jit.array_of(np.uint64), jit.array_of(dtype, writable=False), jit.scalar_of(np.int64))
    return jit.specialised(pack, f"pack_{bits}", *arguments)
