"""AES-CTR in the processor's own instructions, with the sum fused in: several times the speed of a library's keystream.

A library writes each keystream to memory, where it is read again to be added up.  Here a kernel takes a *group* of
blocks, makes the keystreams of all keys for it and adds them up in registers; the vector is touched once for all keys,
a *tile* of groups at a time.  Modulo a prime a group goes through scratch memory in the nearest cache key by key, for
its candidates to be looked at, and is reduced once for all keys.

The rounds are LLVM intrinsics, one ``aesenc`` for one, two or four blocks, and the key schedule goes through the same
instructions: nothing branches on a key or a mask, and there is no table.

LLVM ends the process when it is asked for an instruction that the target lacks, so ``BLOCKS`` is decided by the
features that Numba compiles for, which need not be the host's (NUMBA_CPU_NAME, NUMBA_CPU_FEATURES).  Where it is zero
nothing else of this module may be called; ``secagg.arithmetic.kernels.fused`` sees to that.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from secagg.arithmetic.kernels import jit
from secagg.arithmetic.modular import Lanes
from secagg.arithmetic.modulus import Modulus

RoundKeys: TypeAlias = npt.NDArray[np.uint32]

_BLOCK_BYTES: Final = 16
_VECTORS: Final = 8
"""That go through the rounds side by side: enough to hide how long a round takes.  From 2 to 16 the speed is the same
where one instruction works on four blocks (``benchmarks/test_kernels.py -k test_masks``); with fewer blocks, 8 hide
more."""
_KEYS: Final = 8
"""Whose schedules are made side by side, for the same reason; with 2 of them many short masks take a tenth longer."""

# What LLVM's feature names imply is listed too, for switching one of those off switches the rest off.
_ONE_BLOCK: Final = frozenset({"sse", "sse2", "sse3", "ssse3", "sse4.1", "aes"})
_TWO_BLOCKS: Final = _ONE_BLOCK | {"sse4.2", "avx", "avx2", "vaes"}
_FOUR_BLOCKS: Final = _TWO_BLOCKS | {"fma", "f16c", "avx512f", "avx512bw", "avx512vl"}


def _blocks_of(target: Any) -> int:
    """How many AES blocks one instruction of a target works on: 4, 2, 1, or 0 where it has none.

    Args:
        target: as ``jit.target``; what is told in another form counts as a target that has none.
    """
    has = jit.features_of(target)
    if has >= _FOUR_BLOCKS and "-evex512" not in target[2].split(","):
        return 4
    return 2 if has >= _TWO_BLOCKS else 1 if has >= _ONE_BLOCK else 0


BLOCKS: Final = _blocks_of(jit.target())
"""AES blocks that one instruction works on; zero where there is none."""

_GROUP_BLOCKS: Final = _VECTORS * max(1, BLOCKS)
_GROUP_BYTES: Final = _GROUP_BLOCKS * _BLOCK_BYTES
_TILE_BYTES: Final = 1 << 11
"""Whole groups; the nearest cache holds it beside the schedules of some hundred keys.  From 2^9 to 2^14 bytes the speed
is the same (``benchmarks/test_kernels.py -k masks``)."""

_ROUND_CONSTANTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 27, 54)
_ZERO: Final = np.uint64(0)
_HALF: Final = np.uint64(32)
_SIGN: Final = np.uint64(63)
_TWO_32: Final = 2.0**32


def expand_keys(keys: bytes, key_bytes: int) -> RoundKeys:
    """The key schedules of keys that are joined, each of 16 or 32 bytes: shape (keys, 44 or 60)."""
    words = np.frombuffer(keys, dtype=np.uint32).reshape(-1, key_bytes // 4)
    schedules = np.empty((len(words), 44 if key_bytes == 16 else 60), dtype=np.uint32)
    _key_expander()(words, schedules)
    return schedules


def add_streams(vector: Lanes, schedules: RoundKeys, modulus: Modulus, negate: bool, block: int, skip: int) -> None:
    """Add the streams of all keys to the vector, or subtract them, in place; releases the GIL.

    Args:
        vector: shape (m,), contiguous and aligned, of ``modulus.dtype``; for a prime canonical.
        schedules: from ``expand_keys``, of 2^16 keys at most.
        modulus: for a ring, lanes are added up modulo 2^lane; for a prime, elements as
            ``secagg.primitives.masking`` defines them.
        negate: whether to subtract.
        block: a counter, modulo 2^128.
        skip: which lane of that block belongs to ``vector[0]``.
    """
    lanes_per_block = _BLOCK_BYTES // vector.itemsize
    add = _add_to_ring if modulus.is_ring else _add_modulo_prime
    start = 0
    while start < len(vector):
        # A kernel counts in 64 bits: its call ends where the counter carries into the upper half.
        level, low = divmod(block % (1 << 128), 1 << 64)
        part = vector[start : start + ((1 << 64) - low) * lanes_per_block - skip]
        add(part, schedules, modulus, negate, level, low, skip)
        start, block, skip = start + len(part), (level + 1) << 64, 0


def _add_to_ring(
    vector: Lanes, schedules: RoundKeys, modulus: Modulus, negate: bool, level: int, block: int, skip: int
) -> None:
    sums = np.empty(_TILE_BYTES // vector.itemsize, dtype=vector.dtype)
    _ring_adder(modulus.lane_bits, _rounds(schedules))(vector, schedules, sums, negate, level, block, skip)
    sums.fill(0)


def _add_modulo_prime(
    vector: Lanes, schedules: RoundKeys, modulus: Modulus, negate: bool, level: int, block: int, skip: int
) -> None:
    prime = modulus.value
    largest = (1 << modulus.lane_bits) // prime * prime - 1
    candidates = np.empty((2, _GROUP_BYTES // vector.itemsize), dtype=vector.dtype)
    sums = np.empty((2, _TILE_BYTES // vector.itemsize), dtype=np.uint64)
    _prime_adder(modulus.lane_bits, _rounds(schedules))(
        vector, schedules, candidates, sums, negate, level, block, skip, prime, largest, 1.0 / prime
    )
    candidates.fill(0)
    sums.fill(0)


def _rounds(schedules: RoundKeys) -> int:
    return int(schedules.shape[1]) // 4 - 1


# What is generated.  A vector of blocks is <2n x i64>: the even words are the upper halves of counters, the odd ones
# the lower halves, each of them with its bytes reversed, since the counter is big-endian.

_WORD: Final = ir.IntType(64)
_INDEX: Final = ir.IntType(32)
_ONE_BLOCK_TYPE: Final = ir.VectorType(_WORD, 2)

_get_or_insert_function: Any = cgutils.get_or_insert_function
_alloca_once: Any = cgutils.alloca_once
_for_range: Any = cgutils.for_range
_make_array: Any = arrayobj.make_array


def _declare(builder: Any, name: str, vector: Any, arguments: int) -> Any:
    return _get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * arguments), name)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, to: Any) -> Any:
    """The address of the element that lies ``offset`` elements after the first one."""
    data = _make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), to.as_pointer())


def _repeat(builder: Any, block: Any) -> Any:
    """One block in each place of a vector."""
    places = ir.Constant(ir.VectorType(_INDEX, 2 * BLOCKS), [0, 1] * BLOCKS)
    return builder.shuffle_vector(block, ir.Constant(block.type, ir.Undefined), places)


def _counters(builder: Any, level: Any, block: Any) -> list[Any]:
    """The counters (level, block), (level, block + 1), ... of a group, as AES takes them."""
    vector = ir.VectorType(_WORD, 2 * BLOCKS)
    swap_bytes = _declare(builder, f"llvm.bswap.v{2 * BLOCKS}i64", vector, 1)
    first = ir.Constant(_ONE_BLOCK_TYPE, ir.Undefined)
    for half, value in enumerate((level, block)):
        first = builder.insert_element(first, value, ir.Constant(_INDEX, half))
    repeated = _repeat(builder, first)
    counters = []
    for index in range(_VECTORS):
        steps = [step for place in range(BLOCKS) for step in (0, index * BLOCKS + place)]
        counters.append(builder.call(swap_bytes, [builder.add(repeated, ir.Constant(vector, steps))]))
    return counters


def _encrypt(builder: Any, schedule: Any, rounds: int, blocks: list[Any]) -> list[Any]:
    """AES of vectors of blocks under the round keys that ``schedule`` points to."""
    vector = blocks[0].type
    suffix = {1: "", 2: ".256", 4: ".512"}[BLOCKS]
    full_round = _declare(builder, f"llvm.x86.aesni.aesenc{suffix}", vector, 2)
    last_round = _declare(builder, f"llvm.x86.aesni.aesenclast{suffix}", vector, 2)

    def round_key(index: int) -> Any:
        return _repeat(builder, builder.load(builder.gep(schedule, [ir.Constant(_WORD, index)]), align=4))

    key = round_key(0)
    states = [builder.xor(block, key) for block in blocks]
    for index in range(1, rounds + 1):
        key = round_key(index)
        states = [builder.call(last_round if index == rounds else full_round, [state, key]) for state in states]
    return states


@intrinsic(prefer_literal=True)
def _sum_group_llvm(
    typing_context: Any,
    out: Any,
    offset: Any,
    schedules: Any,
    first: Any,
    keys: Any,
    level: Any,
    block: Any,
    rounds: Any,
) -> Any:
    """Write one group of lanes, from ``out[offset]`` on: the sum of some keys' keystreams from (level, block) on.

    Returns the largest lane.
    """
    i64, u64 = numba.types.int64, numba.types.uint64
    signature = out.dtype(out, i64, schedules, i64, i64, u64, u64, rounds)
    count, lane_bits = rounds.literal_value, out.dtype.bitwidth

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.VectorType(ir.IntType(lane_bits), BLOCKS * _BLOCK_BYTES * 8 // lane_bits)
        counters = _counters(builder, arguments[5], arguments[6])
        sums = [_alloca_once(builder, lanes) for _ in counters]  # LLVM keeps them in registers
        for total in sums:
            builder.store(ir.Constant(lanes, [0] * lanes.count), total)
        with _for_range(builder, arguments[4]) as loop:
            words = builder.mul(builder.add(arguments[3], loop.index), ir.Constant(_WORD, 4 * (count + 1)))
            schedule = _pointer(context, builder, signature.args[2], arguments[2], words, _ONE_BLOCK_TYPE)
            for total, state in zip(sums, _encrypt(builder, schedule, count, counters), strict=True):
                builder.store(builder.add(builder.load(total), builder.bitcast(state, lanes)), total)
        target = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], lanes)
        largest = ir.Constant(lanes, [0] * lanes.count)
        for index, total in enumerate(sums):
            value = builder.load(total)
            builder.store(value, builder.gep(target, [ir.Constant(_WORD, index)]), align=1)
            largest = builder.select(builder.icmp_unsigned(">", value, largest), value, largest)
        name, reduced = f"llvm.vector.reduce.umax.v{lanes.count}i{lane_bits}", ir.IntType(lane_bits)
        reduce = _get_or_insert_function(builder.module, ir.FunctionType(reduced, [lanes]), name)
        return builder.call(reduce, [largest])

    return signature, generate


@intrinsic
def _substitute_llvm(typing_context: Any, word: Any) -> Any:
    """The S-box on each byte of a uint32: AES's last round on a block of four equal columns, which it cannot shift."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        columns = ir.VectorType(_INDEX, 4)
        finish = _declare(builder, "llvm.x86.aesni.aesenclast", _ONE_BLOCK_TYPE, 2)
        state = ir.Constant(columns, ir.Undefined)
        for column in range(4):
            state = builder.insert_element(state, arguments[0], ir.Constant(_INDEX, column))
        no_key = ir.Constant(_ONE_BLOCK_TYPE, [0, 0])
        done = builder.call(finish, [builder.bitcast(state, _ONE_BLOCK_TYPE), no_key])
        return builder.extract_element(builder.bitcast(done, columns), ir.Constant(_INDEX, 0))

    return numba.types.uint32(numba.types.uint32), generate


# Called in kernels, without the typing context.
_sum_group: Final[Any] = _sum_group_llvm
_substitute: Final[Any] = _substitute_llvm


# Kernels.  Their names tell targets apart, see ``jit.specialised``.


@cache
def _key_expander() -> Any:
    constants, eight, twenty_four = _ROUND_CONSTANTS, np.uint32(8), np.uint32(24)

    def expand_keys(keys: Any, schedules: Any) -> None:
        size, rows = keys.shape[1], keys.shape[0]
        for first in range(0, rows, _KEYS):
            last = min(first + _KEYS, rows)
            for row in range(first, last):
                for index in range(size):
                    schedules[row, index] = keys[row, index]
            for index in range(size, schedules.shape[1]):
                for row in range(first, last):
                    word = schedules[row, index - 1]
                    if index % size == 0:
                        rotated = np.uint32((word >> eight) | (word << twenty_four))
                        word = np.uint32(_substitute(rotated) ^ np.uint32(constants[index // size - 1]))
                    elif size == 8 and index % size == 4:
                        word = _substitute(word)
                    schedules[row, index] = schedules[row, index - size] ^ word

    words, schedules = jit.array_of(np.uint32, 2, writable=False), jit.array_of(np.uint32, 2)
    return jit.specialised(expand_keys, f"expand_keys_x{BLOCKS}", words, schedules)


@cache
def _ring_adder(lane_bits: int, rounds: int) -> Any:
    """(vector, schedules, sums, negate, level, block, skip): ``sums``, a tile of lanes, is scratch."""
    tile, group, blocks = _TILE_BYTES * 8 // lane_bits, _GROUP_BYTES * 8 // lane_bits, np.uint64(_GROUP_BLOCKS)

    def add_to_ring(vector: Any, schedules: Any, sums: Any, negate: Any, level: Any, block: Any, skip: Any) -> None:
        keys, length = schedules.shape[0], vector.shape[0]
        for first in range(-skip, length, tile):
            begin, end = max(first, 0), min(first + tile, length)
            for offset in range(0, end - first, group):
                _sum_group(sums, offset, schedules, 0, keys, level, block, rounds)
                block += blocks
            part, added = vector[begin:end], sums[begin - first :]
            if negate:
                for index in range(end - begin):
                    part[index] -= added[index]
            else:
                for index in range(end - begin):
                    part[index] += added[index]

    lanes, keys, flag = jit.array_of(f"u{lane_bits // 8}"), jit.array_of(np.uint32, 2), jit.scalar_of(np.bool_)
    counter, count = jit.scalar_of(np.uint64), jit.scalar_of(np.int64)
    name = f"add_to_ring_{lane_bits}_{rounds}_x{BLOCKS}"
    return jit.specialised(add_to_ring, name, lanes, keys, lanes, flag, counter, counter, count)


@cache
def _prime_adder(lane_bits: int, rounds: int) -> Any:
    """(vector, schedules, candidates, sums, negate, level, block, skip, prime, largest, reciprocal).

    ``candidates``, two groups of lanes, and ``sums``, two tiles of uint64, are scratch.  Candidates above ``largest``
    are rejected.  What branches on candidates tells only whether some of a group are, and nothing of those taken.
    """
    tile, group, blocks = _TILE_BYTES * 8 // lane_bits, _GROUP_BYTES * 8 // lane_bits, np.uint64(_GROUP_BLOCKS)
    lane, is_wide = np.dtype(f"u{lane_bits // 8}").type, lane_bits == 64
    none, zero, one, half, lower = lane(0), np.uint64(0), np.uint64(1), np.uint64(32), np.uint64(2**32 - 1)

    def add_modulo_prime(
        vector: Any, schedules: Any, candidates: Any, sums: Any, negate: Any, level: Any, block: Any, skip: Any,
        prime: Any, largest: Any, reciprocal: Any,
    ) -> None:  # fmt: skip
        length, limit = vector.shape[0], lane(largest)
        taken, others = candidates[0], candidates[1]
        for first in range(-skip, length, tile):
            begin, end = max(first, 0), min(first + tile, length)
            for offset in range(0, end - first, group):
                low, high = sums[0, offset : offset + group], sums[1, offset : offset + group]
                for index in range(group):
                    low[index] = zero
                    high[index] = zero
                for key in range(schedules.shape[0]):
                    met, later = _sum_group(taken, 0, schedules, key, 1, level, block, rounds), level
                    while met > limit:
                        later += one
                        _sum_group(others, 0, schedules, key, 1, later, block, rounds)
                        met = none
                        for index in range(group):
                            candidate = others[index] if taken[index] > limit else taken[index]
                            taken[index] = candidate
                            met = max(met, candidate)
                    if is_wide:
                        for index in range(group):
                            low[index] += taken[index] & lower
                        for index in range(group):
                            high[index] += taken[index] >> half
                    else:
                        for index in range(group):
                            low[index] += np.uint64(taken[index])
                block += blocks
            done = begin - first
            _add_residues(vector[begin:end], sums[0, done:], sums[1, done:], negate, prime, reciprocal)

    lanes, keys, flag = jit.array_of(lane), jit.array_of(np.uint32, 2), jit.scalar_of(np.bool_)
    word, count, real = jit.scalar_of(np.uint64), jit.scalar_of(np.int64), jit.scalar_of(np.float64)
    scratch = jit.array_of(lane, 2), jit.array_of(np.uint64, 2)
    name = f"add_modulo_prime_{lane_bits}_{rounds}_x{BLOCKS}"
    return jit.specialised(add_modulo_prime, name, lanes, keys, *scratch, flag, word, word, count, word, word, real)


@jit.kernel
def _add_residues(part: Any, low: Any, high: Any, negate: Any, prime: Any, reciprocal: Any) -> None:
    """Add low + 2^32 high to a part of a vector modulo the prime, or subtract it; canonical before and after.

    The quotient by the prime is estimated in floating point.  It is below 2^32 times the number of keys, 2^48, and the
    estimate's relative error is below 2^-50: the floor is off by one at most.
    """
    for index in range(part.shape[0]):
        quotient = (np.float64(np.int64(low[index])) + np.float64(np.int64(high[index])) * _TWO_32) * reciprocal
        residue = low[index] + (high[index] << _HALF) - np.uint64(np.int64(quotient)) * prime
        residue += prime if residue >> _SIGN else _ZERO
        residue = min(residue, residue - prime)
        # Both ways something in 0 .. p is subtracted, for which the residues of one lane need no more room.
        away = residue if negate else prime - residue
        before = np.uint64(part[index])
        part[index] = before - away + (prime if before < away else _ZERO)
