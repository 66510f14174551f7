"""Packing and unpacking with byte shuffles: 64 bytes of lanes at a time, several times as fast as element by element.

To unpack, a group of packed elements is loaded in four parts of 16 bytes, each from the byte in which its first element
begins.  A shuffle within the parts puts each element's bytes into its lane; a shift by the lane's own number of bits,
and a mask, leave the element.  Where an element reaches into one byte more than a lane has, a second shuffle brings
that byte.

To pack, neighbouring lanes are merged until they are words of 64 bits, each of which is shifted to where in a byte it
begins.  Then two shuffles bring the even words and the odd ones to their bytes, since neighbours can share one.

What is generated is plain LLVM, which any target can run.  It pays where the target shuffles bytes by one instruction,
as x86-64 does with SSSE3, and with AVX2 and AVX-512 on wider registers; ``can_unpack`` and ``can_pack`` say so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.extending import intrinsic
from numba.np import arrayobj

from secagg.arithmetic.kernels import jit
from secagg.arithmetic.modular import Lanes
from secagg.arithmetic.modulus import Modulus

Bytes: TypeAlias = npt.NDArray[np.uint8]

_PARTS: Final = 4
"""With 16 bytes each they are the 64 bytes that one AVX-512 register holds; narrower targets take two or four
registers."""
_PART_BYTES: Final = 16
GROUP_BYTES: Final = _PARTS * _PART_BYTES  # of lanes
_WIDEST: Final = 61  # two elements of more bits do not fit into one part, wherever they begin

_BYTE: Final = ir.IntType(8)
_INDEX: Final = ir.IntType(32)
_WORD: Final = ir.IntType(64)
_make_array: Any = arrayobj.make_array


def can_unpack(bits: int) -> bool:
    """Whether there is a kernel for elements of this width that pays on this target."""
    return bits <= _WIDEST and "ssse3" in jit.features_of(jit.target())


def can_pack(bits: int) -> bool:
    """The same for packing: no word may reach beyond 64 bits when it is shifted."""
    return _widest_shifted(bits) <= 64 and "ssse3" in jit.features_of(jit.target())


def elements(bits: int) -> int:
    """How many elements are a group; they take a whole number of bytes."""
    return GROUP_BYTES * 8 // Modulus.ring(bits).lane_bits


def reach(bits: int) -> int:
    """How many bytes, from its first on, are read for a group."""
    return _first_byte(_PARTS - 1, bits) + _PART_BYTES


@cache
def adder(bits: int) -> Callable[[Lanes, Bytes, int], None]:
    """(accumulator, packed, groups): adds so many groups, for a width that ``can_unpack``."""
    lanes_a_group, group_bytes = elements(bits), elements(bits) * bits // 8

    def add_shuffled(accumulator: Any, packed: Any, groups: Any) -> None:
        for group in range(groups):
            _add_group(accumulator, group * lanes_a_group, packed, group * group_bytes, bits)

    lanes, packed = jit.array_of(Modulus.ring(bits).dtype), jit.array_of(np.uint8, writable=False)
    return jit.specialised(add_shuffled, f"add_shuffled_{bits}", lanes, packed, jit.scalar_of(np.int64))


@cache
def packer(bits: int) -> Callable[[Bytes, Lanes, int], None]:
    """(packed, vector, groups): packs so many groups, for a width that it ``can_pack``.

    It writes 64 bytes a group, of which the next group's overwrite those that are too many.  ``packed`` may begin where
    ``vector`` does: nothing is written where it was not read before.
    """
    lanes_a_group, group_bytes = elements(bits), elements(bits) * bits // 8

    def pack_shuffled(packed: Any, vector: Any, groups: Any) -> None:
        for group in range(groups):
            _pack_group(packed, group * group_bytes, vector, group * lanes_a_group, bits)

    packed, lanes = jit.array_of(np.uint8), jit.array_of(Modulus.ring(bits).dtype, writable=False)
    return jit.specialised(pack_shuffled, f"pack_shuffled_{bits}", packed, lanes, jit.scalar_of(np.int64))


def _word_bits(bits: int) -> int:
    """How many bits of elements a word of 64 bits of lanes holds."""
    return 64 // Modulus.ring(bits).lane_bits * bits


def _widest_shifted(bits: int) -> int:
    """How many bits a word has at most, with the empty ones in front of it in its first byte."""
    size = _word_bits(bits)
    return max(size + word * size % 8 for word in range(8))


def _first_byte(part: int, bits: int) -> int:
    """Where a part begins in its group."""
    return part * (elements(bits) // _PARTS) * bits // 8


class _Plan(NamedTuple):
    """By lane: how far it is shifted down, and its further byte up; by byte of the lanes: where it comes from."""

    down: list[int]
    up: list[int]
    bytes: list[int]
    further: list[int]


_NOWHERE: Final = GROUP_BYTES  # the first byte of a second, zero operand of the shuffle


def _plan(bits: int) -> _Plan:
    lane_bits = Modulus.ring(bits).lane_bits
    lane_bytes = lane_bits // 8
    plan = _Plan([], [], [], [])
    for element in range(elements(bits)):
        part = element * lane_bytes // _PART_BYTES
        first, shift = divmod(element * bits - 8 * _first_byte(part, bits), 8)
        end = shift + bits
        source = part * _PART_BYTES + first
        plan.down.append(shift)
        plan.up.append(lane_bits - shift if end > lane_bits else 0)
        for place in range(lane_bytes):
            plan.bytes.append(source + place if 8 * place < end else _NOWHERE)
            plan.further.append(source + lane_bytes if end > lane_bits and place == 0 else _NOWHERE)
    return plan


@intrinsic(prefer_literal=True)
def _add_group_llvm(
    typing_context: Any, accumulator: Any, lane: Any, packed: Any, first: Any, bits: Any
) -> tuple[Any, Callable[..., Any]]:
    """Add the group of elements that begins at ``packed[first]`` to the lanes from ``accumulator[lane]`` on."""
    i64 = numba.types.int64
    signature = numba.types.void(accumulator, i64, packed, i64, bits)
    width, lane_bits = bits.literal_value, accumulator.dtype.bitwidth
    plan = _plan(width)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = partial(_pointer, context, builder, signature, arguments)

        def part(number: int) -> Any:
            start = builder.add(arguments[3], ir.Constant(_WORD, _first_byte(number, width)))
            return builder.load(pointer(2, start, ir.VectorType(_BYTE, _PART_BYTES)), align=1)

        def joined(one: Any, other: Any) -> Any:
            return builder.shuffle_vector(one, other, _constants(_INDEX, range(2 * one.type.count)))

        def shuffled(places: list[int]) -> Any:
            return builder.bitcast(builder.shuffle_vector(source, nothing, _constants(_INDEX, places)), lanes)

        element, count = ir.IntType(lane_bits), len(plan.down)
        lanes = ir.VectorType(element, count)
        source = joined(joined(part(0), part(1)), joined(part(2), part(3)))
        nothing = _constants(_BYTE, [0] * _NOWHERE)
        value = builder.lshr(shuffled(plan.bytes), _constants(element, plan.down))
        if any(plan.up):
            further = builder.shl(shuffled(plan.further), _constants(element, plan.up))
            value = builder.or_(value, further)
        value = builder.and_(value, _constants(element, [(1 << width) - 1] * count))
        target = pointer(0, arguments[1], lanes)
        before = builder.load(target, align=lane_bits // 8)
        builder.store(builder.add(before, value), target, align=lane_bits // 8)
        return context.get_dummy_value()

    return signature, generate


@intrinsic(prefer_literal=True)
def _pack_group_llvm(
    typing_context: Any, packed: Any, first: Any, vector: Any, lane: Any, bits: Any
) -> tuple[Any, Callable[..., Any]]:
    """Pack the group of elements that begins at ``vector[lane]`` to ``packed[first]`` and the 63 bytes behind it."""
    i64 = numba.types.int64
    signature = numba.types.void(packed, i64, vector, i64, bits)
    width, lane_bits = bits.literal_value, vector.dtype.bitwidth
    size = _word_bits(width)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = partial(_pointer, context, builder, signature, arguments)

        def brought(words: list[int]) -> Any:
            places = [_NOWHERE] * GROUP_BYTES
            for word in words:
                first_bit = word * size
                for byte in range(first_bit // 8, -(-(first_bit + size) // 8)):
                    places[byte] = 8 * word + byte - first_bit // 8
            return builder.shuffle_vector(source, nothing, _constants(_INDEX, places))

        element, count = ir.IntType(lane_bits), GROUP_BYTES * 8 // lane_bits
        lanes = builder.load(pointer(2, arguments[3], ir.VectorType(element, count)), align=lane_bits // 8)
        value = builder.and_(lanes, _constants(element, [(1 << width) - 1] * count))
        merged, taken = width, lane_bits  # bits of elements, and of lanes, that a word of the vector consists of
        while taken < 64:
            count //= 2
            wider = ir.IntType(2 * taken)
            value = builder.bitcast(value, ir.VectorType(wider, count))
            low = builder.and_(value, _constants(wider, [(1 << taken) - 1] * count))
            high = builder.lshr(value, _constants(wider, [taken] * count))
            value = builder.or_(low, builder.shl(high, _constants(wider, [merged] * count)))
            merged, taken = 2 * merged, 2 * taken
        value = builder.shl(value, _constants(_WORD, [word * size % 8 for word in range(8)]))
        source = builder.bitcast(value, ir.VectorType(_BYTE, GROUP_BYTES))
        nothing = _constants(_BYTE, [0] * GROUP_BYTES)
        result = builder.or_(brought([0, 2, 4, 6]), brought([1, 3, 5, 7]))
        builder.store(result, pointer(0, arguments[1], ir.VectorType(_BYTE, GROUP_BYTES)), align=1)
        return context.get_dummy_value()

    return signature, generate


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any, array: int, index: Any, to: Any) -> Any:
    """The address of an element of one of the arguments, as of something else."""
    data = _make_array(signature.args[array])(context, builder, arguments[array]).data
    return builder.bitcast(builder.gep(data, [index]), to.as_pointer())


def _constants(kind: Any, values: Any) -> Any:
    values = list(values)
    return ir.Constant(ir.VectorType(kind, len(values)), values)


# Called in kernels, without the typing context.
_add_group: Final[Any] = _add_group_llvm
_pack_group: Final[Any] = _pack_group_llvm
