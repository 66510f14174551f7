"""Unpacking with byte shuffles: 64 bytes of lanes at a time, several times as fast as element by element.

A group of packed elements is loaded in four parts of 16 bytes, each from the byte in which its first element begins.  A
shuffle within the parts puts each element's bytes into its lane; a shift by the lane's own number of bits, and a mask,
leave the element.  Where an element reaches into one byte more than a lane has, a second shuffle brings that byte.

What is generated is plain LLVM, which any target can run.  It pays where the target shuffles bytes by one instruction,
as x86-64 does with SSSE3, and with AVX2 and AVX-512 on wider registers; ``can_unpack`` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.extending import intrinsic
from numba.np import arrayobj

from secagg.arithmetic import _jit
from secagg.arithmetic.modular import Lanes
from secagg.arithmetic.modulus import Modulus

Bytes: TypeAlias = npt.NDArray[np.uint8]

_PARTS: Final = 4
_PART_BYTES: Final = 16
_WIDEST: Final = 61  # two elements of more bits do not fit into one part, wherever they begin

_BYTE: Final = ir.IntType(8)
_INDEX: Final = ir.IntType(32)
_WORD: Final = ir.IntType(64)
_make_array: Any = arrayobj.make_array


def can_unpack(bits: int) -> bool:
    """Whether there is a kernel for elements of this width that pays on this target."""
    return bits <= _WIDEST and "ssse3" in _jit.features_of(_jit.target())


def elements(bits: int) -> int:
    """How many elements are a group; they take a whole number of bytes."""
    return _PARTS * _PART_BYTES * 8 // Modulus.ring(bits).lane_bits


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

    lanes, packed = _jit.array_of(Modulus.ring(bits).dtype), _jit.array_of(np.uint8, writable=False)
    return _jit.specialised(add_shuffled, f"add_shuffled_{bits}", lanes, packed, _jit.scalar_of(np.int64))


def _first_byte(part: int, bits: int) -> int:
    """Where a part begins in its group."""
    return part * (elements(bits) // _PARTS) * bits // 8


class _Plan(NamedTuple):
    """By lane: how far it is shifted down, and its further byte up; by byte of the lanes: where it comes from."""

    down: list[int]
    up: list[int]
    bytes: list[int]
    further: list[int]


_NOWHERE: Final = _PARTS * _PART_BYTES  # the first byte of a second, zero operand of the shuffle


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
        def pointer(array: int, index: Any, to: Any) -> Any:
            data = _make_array(signature.args[array])(context, builder, arguments[array]).data
            return builder.bitcast(builder.gep(data, [index]), to.as_pointer())

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


def _constants(kind: Any, values: Any) -> Any:
    values = list(values)
    return ir.Constant(ir.VectorType(kind, len(values)), values)


# Called in kernels, without the typing context.
_add_group: Final[Any] = _add_group_llvm
