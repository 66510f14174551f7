"""Kernels against Python integers: every packing width, primes of every kind, and the ways they are compiled."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secagg
from secagg import Suite, arithmetic
from secagg.arithmetic import Modulus, packing
from secagg.arithmetic.kernels import jit, row_sums, shuffles
from secagg.primitives import masking
from tests.support.installs import read_only_install

Lanes = npt.NDArray[np.unsignedinteger]

WIDTHS = range(1, 65)
# Each kind of reduction in each lane; primes that fill their lane; the widest Barrett quotients.
PRIMES = (
    3, 7, 127, 131, 251,
    257, 8191, 32771, 65521,
    65537, 131071, 1073741789, 2**31 - 1, 4294967291,
    4294967311, 1099511627791, 1152921504606846883, 2305843009213693921, 2**61 - 1,
)  # fmt: skip
ROOT = Path(secagg.__file__).parents[1]


def packed_by_hand(elements: list[int], modulus: Modulus) -> bytes:
    groups = []
    for first in range(0, len(elements), 8):
        group = elements[first : first + 8]
        whole = sum(element % modulus.value << (index * modulus.bits) for index, element in enumerate(group))
        groups.append(whole.to_bytes(modulus.packed_bytes(len(group)), "little"))
    return b"".join(groups)


def random_lanes(modulus: Modulus, length: int, seed: int = 0) -> Lanes:
    """Any lanes, among them the smallest and largest ones."""
    generator = np.random.default_rng([modulus.value & 0xFFFFFFFF, seed, length])
    lanes = np.frombuffer(generator.bytes(length * modulus.dtype.itemsize), modulus.dtype).copy()
    lanes[::5] = 2**modulus.lane_bits - 1
    lanes[1::7] = 0
    return lanes


def edge_lanes(modulus: Modulus) -> list[int]:
    """Lanes on both sides of multiples of a prime, of powers of two, and of the ends."""
    prime, end = modulus.value, 2**modulus.lane_bits
    quotients = {0, 1, 2, 3, end // prime - 1, end // prime, end // prime // 2}
    multiples = {quotient * prime for quotient in quotients}
    powers = {1 << bit for bit in range(modulus.lane_bits + 1)}
    around = {value + step for value in multiples | powers for step in (-2, -1, 0, 1, 2)}
    return sorted(value for value in around if 0 <= value < end)


# Packing.


@pytest.mark.parametrize("bits", WIDTHS)
def test_packing_places_element_i_at_bit_i_times_b(bits: int) -> None:
    modulus = Modulus.ring(bits)
    for length in (1, 7, 8, 9, 63, 64, 65, 200):
        lanes = random_lanes(modulus, length)
        before = lanes.copy()
        packed = arithmetic.pack(lanes, modulus)
        assert packed == packed_by_hand(lanes.tolist(), modulus)
        assert np.array_equal(lanes, before)
        assert arithmetic.pack_in_place(lanes, modulus) == packed


@pytest.mark.parametrize("bits", WIDTHS)
def test_unpacking_gives_back_canonical_elements(bits: int) -> None:
    modulus = Modulus.ring(bits)
    for length in (1, 7, 8, 9, 63, 64, 65, 200):
        lanes = random_lanes(modulus, length)
        unpacked = arithmetic.unpack(arithmetic.pack(lanes, modulus), modulus, length)
        assert unpacked.dtype == modulus.dtype
        assert unpacked.tolist() == [element % modulus.value for element in lanes.tolist()]


@given(bits=st.integers(1, 64), data=st.data())
@settings(deadline=None)
def test_packing_any_elements(bits: int, data: st.DataObject) -> None:
    modulus = Modulus.ring(bits)
    elements = data.draw(st.lists(st.integers(0, 2**modulus.lane_bits - 1), max_size=150))
    packed = arithmetic.pack(np.array(elements, modulus.dtype), modulus)
    assert packed == packed_by_hand(elements, modulus)
    assert arithmetic.unpack(packed, modulus, len(elements)).tolist() == [e % modulus.value for e in elements]
    # In place within another array, at an address that need not be one of a 64-bit word.
    room = np.array([1, *elements, 1], modulus.dtype)
    assert arithmetic.pack_in_place(room[1:-1], modulus) == packed
    assert room[[0, -1]].tolist() == [1, 1]


@given(bits=st.integers(1, 64), data=st.data())
@settings(deadline=None)
def test_adding_packed_elements_from_any_buffer(bits: int, data: st.DataObject) -> None:
    modulus = Modulus.ring(bits)
    lane = st.integers(0, 2**modulus.lane_bits - 1)
    pairs = data.draw(st.lists(st.tuples(lane, lane), max_size=150))
    skip = data.draw(st.integers(0, 17))
    accumulator = np.array([before for before, _ in pairs], modulus.dtype)
    packed = packed_by_hand([added for _, added in pairs], modulus)
    # Read-only, unaligned, and followed by bytes that are not its own.
    view = memoryview(b"\xff" * skip + packed + b"\xff" * 9)[skip : skip + len(packed)]
    arithmetic.add_packed(accumulator, view, modulus)
    arithmetic.reduce(accumulator, modulus)
    assert accumulator.tolist() == [(before + added) % modulus.value for before, added in pairs]


@pytest.fixture
def without_shuffles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Packing and unpacking go element by element, as where no instruction shuffles bytes."""
    monkeypatch.setattr(shuffles, "can_unpack", lambda bits: False)
    monkeypatch.setattr(shuffles, "can_pack", lambda bits: False)
    forget_kernels()
    yield
    forget_kernels()


def forget_kernels() -> None:
    packing._unpacker.cache_clear()
    packing._shuffled_packer.cache_clear()


@pytest.mark.usefixtures("without_shuffles")
@pytest.mark.parametrize("bits", WIDTHS)
def test_adding_packed_elements_one_by_one(bits: int) -> None:
    modulus = Modulus.ring(bits)
    for length in (1, 7, 8, 9, 63, 64, 65, 200):
        lanes, accumulator = random_lanes(modulus, length), random_lanes(modulus, length)
        expected = [(a + b) % modulus.value for a, b in zip(lanes.tolist(), accumulator.tolist(), strict=True)]
        arithmetic.add_packed(accumulator, packed_by_hand(lanes.tolist(), modulus), modulus)
        arithmetic.reduce(accumulator, modulus)
        assert accumulator.tolist() == expected


@pytest.mark.usefixtures("without_shuffles")
@pytest.mark.parametrize("bits", WIDTHS)
def test_packing_elements_one_by_one(bits: int) -> None:
    modulus = Modulus.ring(bits)
    for length in (1, 63, 64, 65, 200):
        lanes = random_lanes(modulus, length)
        packed = packed_by_hand(lanes.tolist(), modulus)
        assert arithmetic.pack(lanes, modulus) == packed
        assert arithmetic.pack_in_place(lanes, modulus) == packed


@pytest.mark.parametrize("bits", [bits for bits in range(1, 61) if bits not in (8, 16, 31, 32, 59)])
def test_packing_by_shuffles(bits: int) -> None:
    """Each width's kernel, whatever the target: to another array and in place, no byte beside its groups written."""
    modulus, group = Modulus.ring(bits), shuffles.elements(bits)
    pack, size = shuffles.packer(bits), group * bits // 8
    for groups in (0, 1, 2, 5):
        lanes = random_lanes(modulus, (groups + 1) * group)
        before = lanes.tolist()
        expected = packed_by_hand(before[: groups * group], modulus)
        end = max(0, groups - 1) * size + (shuffles.GROUP_BYTES if groups else 0)
        room = np.full(end + 8, 0xA5, np.uint8)
        pack(room, lanes, groups)
        assert room[: groups * size].tobytes() == expected
        assert room[end:].tolist() == [0xA5] * 8
        assert lanes.tolist() == before
        pack(lanes.view(np.uint8), lanes, groups)
        assert lanes.view(np.uint8)[: groups * size].tobytes() == expected
        assert lanes[groups * group :].tolist() == before[groups * group :]


@pytest.mark.parametrize("bits", [31, 59, 61, 62, 63])
def test_words_that_a_shift_would_cut_are_not_packed_by_shuffles(bits: int) -> None:
    assert not shuffles.can_pack(bits)


@pytest.mark.parametrize("bits", [bits for bits in range(1, 62) if bits not in (8, 16, 32)])
def test_adding_packed_elements_by_shuffles(bits: int) -> None:
    """Each width's kernel, whatever the target: around whole groups, nothing beside them read or written."""
    modulus, group = Modulus.ring(bits), shuffles.elements(bits)
    add = shuffles.adder(bits)
    for groups in (0, 1, 2, 5):
        length = groups * group
        lanes, room = random_lanes(modulus, length), random_lanes(modulus, length + 2 * group)
        before = room.tolist()
        packed = packed_by_hand(lanes.tolist(), modulus)
        assert len(packed) == length * bits // 8
        readable = np.frombuffer(packed + b"\xff" * (shuffles.reach(bits) - group * bits // 8), dtype=np.uint8)
        add(room[group:], readable, groups)
        assert room[:group].tolist() == before[:group]
        assert room[group + length :].tolist() == before[group + length :]
        added = zip(before[group:], lanes.tolist(), strict=False)
        assert room[group : group + length].tolist() == [
            (a + b % modulus.value) % 2**modulus.lane_bits for a, b in added
        ]


def test_a_numba_without_shuffles_is_told_of_and_works_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(bits: int) -> bool:
        raise NotImplementedError("a Numba of another shape")

    monkeypatch.setattr(shuffles, "can_unpack", fails)
    monkeypatch.setattr(shuffles, "can_pack", fails)
    forget_kernels()
    accumulator, modulus = np.zeros(100, np.uint32), Modulus.ring(19)
    with pytest.warns(RuntimeWarning, match="another shape"):
        arithmetic.add_packed(accumulator, packed_by_hand(list(range(100)), modulus), modulus)
    assert accumulator.tolist() == list(range(100))
    with pytest.warns(RuntimeWarning, match="another shape"):
        assert arithmetic.pack(accumulator, modulus) == packed_by_hand(list(range(100)), modulus)
    forget_kernels()


@pytest.mark.parametrize("prime", PRIMES)
def test_packing_and_adding_modulo_a_prime(prime: int) -> None:
    modulus = Modulus(prime)
    elements = [lane for lane in edge_lanes(modulus) if lane < prime] * 3
    lanes = np.array(elements, modulus.dtype)
    packed = arithmetic.pack(lanes, modulus)
    assert packed == packed_by_hand(elements, modulus)
    assert arithmetic.unpack(packed, modulus, len(elements)).tolist() == elements
    accumulator = lanes[::-1].copy()
    arithmetic.add_packed(accumulator, memoryview(b"\xff" + packed)[1:], modulus)
    assert accumulator.tolist() == [(a + b) % prime for a, b in zip(elements, reversed(elements), strict=True)]


@pytest.mark.parametrize("prime", [65537, 2**61 - 1, 251])
def test_a_prime_vector_longer_than_a_chunk(prime: int) -> None:
    modulus = Modulus(prime)
    lanes = random_lanes(modulus, 140_011)
    arithmetic.reduce(lanes, modulus)
    assert arithmetic.pack(lanes, modulus) == packed_by_hand(lanes.tolist(), modulus)
    assert arithmetic.pack_in_place(lanes.copy(), modulus) == arithmetic.pack(lanes, modulus)
    accumulator = lanes.copy()
    arithmetic.add_packed(accumulator, arithmetic.pack(lanes, modulus), modulus)
    assert accumulator.tolist() == [2 * lane % prime for lane in lanes.tolist()]


def test_packing_an_array_that_is_neither_contiguous_nor_writable() -> None:
    modulus = Modulus.ring(20)
    lanes = random_lanes(modulus, 300)[::3]
    lanes.flags.writeable = False
    assert arithmetic.pack(lanes, modulus) == packed_by_hand(lanes.tolist(), modulus)
    with pytest.raises(ValueError, match="contiguous"):
        arithmetic.pack_in_place(lanes, modulus)


@pytest.mark.parametrize("modulus", [Modulus.ring(20), Modulus.ring(32), Modulus(65537)], ids=str)
def test_an_empty_vector_packs_to_nothing(modulus: Modulus) -> None:
    assert arithmetic.pack(np.empty(0, modulus.dtype), modulus) == b""
    assert arithmetic.pack_in_place(np.empty(0, modulus.dtype), modulus) == b""
    assert len(arithmetic.unpack(b"", modulus, 0)) == 0


# What packed bytes are checked for.


@pytest.mark.parametrize("modulus", [Modulus.ring(20), Modulus.ring(32), Modulus(65537)], ids=str)
@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length(modulus: Modulus, change: int) -> None:
    data = bytes(modulus.packed_bytes(33) + change)
    with pytest.raises(arithmetic.PackedLengthError, match=f"{len(data)} bytes: 33 elements"):
        arithmetic.check_packed(data, modulus, 33)


@pytest.mark.parametrize(
    ("modulus", "length"),
    [(Modulus.ring(1), 3), (Modulus.ring(20), 33), (Modulus.ring(63), 9), (Modulus(65537), 3)],
    ids=str,
)
def test_every_padding_bit_must_be_zero(modulus: Modulus, length: int) -> None:
    used = length * modulus.bits % 8
    data = bytearray(modulus.packed_bytes(length))
    arithmetic.check_packed(data, modulus, length)
    for bit in range(used, 8):
        data[-1] = 1 << bit
        with pytest.raises(arithmetic.PackedPaddingError):
            arithmetic.check_packed(data, modulus, length)
    data[-1] = 1 << (used - 1) if modulus.is_ring else 0
    arithmetic.check_packed(data, modulus, length)


@pytest.mark.parametrize("prime", PRIMES)
@pytest.mark.parametrize("position", [0, 7, 140_000])
def test_every_element_must_be_below_the_prime(prime: int, position: int) -> None:
    modulus = Modulus(prime)
    elements = np.zeros(140_001, modulus.dtype)
    elements[position] = prime - 1
    arithmetic.check_packed(arithmetic.pack(elements, modulus), modulus, len(elements))
    for wrong in (prime, 2**modulus.bits - 1):
        elements[position] = wrong
        with pytest.raises(arithmetic.PackedElementError, match=f"{wrong}.*{prime}"):
            arithmetic.check_packed(arithmetic.pack(elements, modulus), modulus, len(elements))


def test_the_faults_are_told_apart_and_are_all_packed_errors() -> None:
    faults = {arithmetic.PackedLengthError, arithmetic.PackedPaddingError, arithmetic.PackedElementError}
    assert len(faults) == 3
    assert all(issubclass(fault, arithmetic.PackedError) for fault in faults)
    assert not any(issubclass(a, b) for a in faults for b in faults if a is not b)


def test_a_refused_vector_changes_nothing() -> None:
    modulus = Modulus(65537)
    accumulator = np.arange(140_000, dtype=modulus.dtype) % np.uint32(65537)
    before = accumulator.tolist()
    elements = np.ones(140_000, modulus.dtype)
    elements[-1] = 65537
    too_large = arithmetic.pack(elements, modulus)
    elements[-1] = 1
    good = arithmetic.pack(elements, modulus)
    refused = {
        arithmetic.PackedElementError: too_large,
        arithmetic.PackedLengthError: good + b"\0",
    }
    for fault, data in refused.items():
        with pytest.raises(fault):
            arithmetic.add_packed(accumulator, data, modulus)
    ring, short = Modulus.ring(17), np.arange(3, dtype=np.uint32)
    with pytest.raises(arithmetic.PackedPaddingError):
        arithmetic.add_packed(short, b"\1\1\1\1\1\1\x80", ring)
    assert accumulator.tolist() == before
    assert short.tolist() == [0, 1, 2]


# Sums.


@pytest.mark.parametrize("prime", PRIMES)
def test_adding_and_subtracting_any_lanes_modulo_a_prime(prime: int) -> None:
    modulus = Modulus(prime)
    lanes = edge_lanes(modulus)
    for before in {0, 1, 2, prime // 2, prime - 2, prime - 1}:
        for operation, sign in ((arithmetic.add, 1), (arithmetic.subtract, -1)):
            accumulator = np.full(len(lanes), before, modulus.dtype)
            operation(accumulator, np.array(lanes, modulus.dtype), modulus)
            assert accumulator.tolist() == [(before + sign * lane) % prime for lane in lanes]


@pytest.mark.parametrize(
    ("prime", "lane"),
    [
        (4295059267, 18078092926021271551),
        (8590021441, 17835926469256151039),
        (549760221601, 17901110328914083839),
        (140738564874883, 14103585183064129535),
    ],
)
def test_an_estimated_quotient_that_is_two_too_small(prime: int, lane: int) -> None:
    """Primes little above a power of two whose reciprocal is cut by almost one: found by search."""
    modulus = Modulus(prime)
    estimate = ((lane >> modulus.bits - 1) * (2**64 // prime)) >> 65 - modulus.bits
    assert lane // prime == estimate + 2
    accumulator = np.full(9, 5, np.uint64)
    arithmetic.add(accumulator, np.full(9, lane, np.uint64), modulus)
    assert accumulator.tolist() == [(5 + lane) % prime] * 9


@pytest.mark.parametrize("prime", PRIMES)
def test_long_arrays_modulo_a_prime(prime: int) -> None:
    modulus = Modulus(prime)
    lanes, accumulator = random_lanes(modulus, 5003), random_lanes(modulus, 5003, seed=1)
    arithmetic.reduce(accumulator, modulus)
    before = accumulator.tolist()
    arithmetic.add(accumulator, lanes, modulus)
    assert accumulator.tolist() == [(a + b) % prime for a, b in zip(before, lanes.tolist(), strict=True)]
    arithmetic.subtract(accumulator, lanes, modulus)
    assert accumulator.tolist() == before


@given(prime=st.sampled_from(PRIMES), data=st.data())
@settings(deadline=None)
def test_any_sum_modulo_a_prime(prime: int, data: st.DataObject) -> None:
    modulus = Modulus(prime)
    pairs = data.draw(
        st.lists(
            st.tuples(st.integers(0, prime - 1), st.integers(0, 2**modulus.lane_bits - 1)), min_size=1, max_size=70
        )
    )
    accumulator = np.array([a for a, _ in pairs], modulus.dtype)
    other = np.array([b for _, b in pairs], modulus.dtype)
    arithmetic.add(accumulator, other, modulus)
    assert accumulator.tolist() == [(a + b) % prime for a, b in pairs]
    arithmetic.subtract(accumulator, other, modulus)
    assert accumulator.tolist() == [a for a, _ in pairs]


@pytest.mark.parametrize("bits", [1, 8, 13, 16, 20, 32, 33, 63, 64])
def test_sums_in_a_ring_wrap_around(bits: int) -> None:
    modulus = Modulus.ring(bits)
    lanes, accumulator = random_lanes(modulus, 999), random_lanes(modulus, 999, seed=1)
    before = accumulator.tolist()
    arithmetic.add(accumulator, lanes, modulus)
    arithmetic.add(accumulator, lanes, modulus)
    arithmetic.reduce(accumulator, modulus)
    assert accumulator.tolist() == [(a + 2 * b) % 2**bits for a, b in zip(before, lanes.tolist(), strict=True)]
    for _ in range(3):
        arithmetic.subtract(accumulator, lanes, modulus)
    arithmetic.reduce(accumulator, modulus)
    assert accumulator.tolist() == [(a - b) % 2**bits for a, b in zip(before, lanes.tolist(), strict=True)]


@settings(max_examples=60, deadline=None)
@given(
    lane_bits=st.sampled_from([8, 16, 32, 64]),
    rows=st.integers(0, 9),
    length=st.integers(0, 40) | st.sampled_from([511, 512, 513, 4095, 4096, 4097, 9000]),
    gap=st.integers(0, 3),
    start=st.integers(0, 3),
    negate=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_rows_are_added_in_one_pass(
    lane_bits: int, rows: int, length: int, gap: int, start: int, negate: bool, seed: int
) -> None:
    """Row after row by NumPy gives the same, and what lies between the rows is left out."""
    generator, dtype = np.random.default_rng(seed), np.dtype(f"u{lane_bits // 8}")
    stride = start + length + gap
    total, lanes = (
        generator.integers(0, 2**lane_bits - 1, size, dtype, endpoint=True) for size in (length, rows * stride)
    )
    expected = total.copy()
    for row in range(rows):
        first = row * stride + start
        (np.subtract if negate else np.add)(expected, lanes[first : first + length], out=expected)
    before = lanes.copy()
    row_sums.row_adder(lane_bits)(total, lanes, rows, stride, start, negate)
    assert np.array_equal(total, expected)
    assert np.array_equal(lanes, before)


def test_rows_are_added_in_one_pass_where_there_is_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel compares with Python integers at the edges; a prime has none, nor has a process without Numba."""
    total, rows = np.array([0, 1, 255], np.uint8), np.array([255, 255, 255, 1, 1, 1, 254, 0, 2], np.uint8)
    add = arithmetic.row_adder_of(Modulus.ring(7))
    assert add is not None
    add(total, rows, 3, 3, 0, False)
    assert total.tolist() == [(0 + 255 + 1 + 254) % 256, (1 + 255 + 1 + 0) % 256, (255 + 255 + 1 + 2) % 256]
    add(total, rows, 3, 3, 0, True)
    assert total.tolist() == [0, 1, 255]
    assert arithmetic.row_adder_of(Modulus(251)) is None
    monkeypatch.setattr(jit, "is_loaded", lambda: False)
    assert arithmetic.row_adder_of(Modulus.ring(7)) is None


@pytest.mark.parametrize("prime", PRIMES)
def test_reducing_modulo_a_prime(prime: int) -> None:
    modulus = Modulus(prime)
    lanes = edge_lanes(modulus)
    vector = np.array(lanes, modulus.dtype)
    arithmetic.reduce(vector, modulus)
    assert vector.tolist() == [lane % prime for lane in lanes]


@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus(65537)], ids=str)
def test_the_other_array_may_be_read_only_strided_or_unaligned(modulus: Modulus) -> None:
    raw = bytes(range(1, 50))
    unaligned = np.frombuffer(raw, np.uint32, 12, offset=1)
    strided = np.arange(24, dtype=np.uint32)[::2]
    for other in (unaligned, strided):
        accumulator = np.zeros(12, np.uint32)
        arithmetic.add(accumulator, other, modulus)
        assert accumulator.tolist() == [lane % modulus.value for lane in other.tolist()]


@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus.ring(20), Modulus(65537)], ids=str)
@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(8, np.uint64),
        np.zeros(8, np.int32),
        np.zeros((2, 4), np.uint32),
        np.zeros(16, np.uint32)[::2],
        np.zeros(8, ">u4"),
        np.frombuffer(bytes(32), np.uint32),
        np.frombuffer(bytearray(33), np.uint32, 8, offset=1),
    ],
    ids=("wide", "signed", "matrix", "strided", "big-endian", "read-only", "unaligned"),
)
def test_an_array_that_cannot_be_changed_in_place_is_refused(modulus: Modulus, wrong: Lanes) -> None:
    calls: tuple[Callable[[], None], ...] = (
        lambda: arithmetic.add(wrong, np.zeros(8, np.uint32), modulus),
        lambda: arithmetic.subtract(wrong, np.zeros(8, np.uint32), modulus),
        lambda: arithmetic.reduce(wrong, modulus),
        lambda: arithmetic.add_packed(wrong, bytes(modulus.packed_bytes(8)), modulus),
    )
    for call in calls:
        with pytest.raises(ValueError, match="must be"):
            call()


def test_arrays_that_do_not_fit_are_refused() -> None:
    modulus = Modulus(65537)
    for other in (np.zeros(7, np.uint32), np.zeros(8, np.uint64), np.zeros(1, np.uint32)):
        with pytest.raises(ValueError, match="does not fit"):
            arithmetic.add(np.zeros(8, np.uint32), other, modulus)
    for vector in (np.zeros(8, np.uint64), np.zeros((2, 4), np.uint32)):
        with pytest.raises(ValueError, match="one-dimensional"):
            arithmetic.pack(vector, modulus)


# How kernels are compiled.

KERNELS = 10  # of the script below: four widths to pack and to unpack, two primes; masks from the library
DIGEST_SCRIPT = """
import hashlib, sys
from secagg import Suite, arithmetic
from secagg.primitives import masking
from secagg.arithmetic import Modulus
assert "numba" not in sys.modules, "importing the package imported numba"
digest = hashlib.sha256()
for value in (2**20, 2**63, 2**32, 2**31 - 1, 2**61 - 1):
    modulus = Modulus(value)
    vector = masking.expand(Suite.AES_128, bytes(16), 3, 1003, modulus)
    packed = arithmetic.pack(vector, modulus)
    arithmetic.add_packed(vector, packed, modulus)
    arithmetic.reduce(vector, modulus)
    digest.update(packed + vector.tobytes())
print(digest.hexdigest())
"""


def expected_digest() -> str:
    digest = hashlib.sha256()
    for value in (2**20, 2**63, 2**32, 2**31 - 1, 2**61 - 1):
        modulus = Modulus(value)
        elements = masking.expand(Suite.AES_128, bytes(16), 3, 1003, modulus).tolist()
        doubled = np.array([2 * element % value for element in elements], modulus.dtype)
        digest.update(packed_by_hand(elements, modulus) + doubled.tobytes())
    return digest.hexdigest()


def run(source: str, *flags: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    return subprocess.run(
        [sys.executable, *flags, "-c", source],
        env={**inherited, "PYTHONPATH": str(root), **environment},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_a_jit_the_kernels_are_plain_python() -> None:
    result = run(DIGEST_SCRIPT, "-W", "error", NUMBA_DISABLE_JIT="1")
    assert result.stderr == ""
    assert result.stdout.strip() == expected_digest()


def test_a_generic_processor() -> None:
    result = run(DIGEST_SCRIPT, "-W", "error", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert result.stderr == ""
    assert result.stdout.strip() == expected_digest()


def test_a_read_only_install_without_a_cache_works_and_warns_once(tmp_path: Path) -> None:
    nowhere = read_only_install(tmp_path)
    result = run(DIGEST_SCRIPT, root=tmp_path, **nowhere)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == expected_digest()
    assert result.stderr.count("RuntimeWarning") == 1
    assert "NUMBA_CACHE_DIR" in result.stderr


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    first = run(DIGEST_SCRIPT, NUMBA_CACHE_DIR=str(cache), SECAGG_FUSED_AES="0")
    assert first.stderr == ""
    assert first.stdout.strip() == expected_digest()
    return cache


def test_the_next_process_takes_every_kernel_from_the_cache(filled_cache: Path) -> None:
    result = run(DIGEST_SCRIPT, NUMBA_CACHE_DIR=str(filled_cache), NUMBA_DEBUG_CACHE="1", SECAGG_FUSED_AES="0")
    assert result.stdout.count("data loaded") == KERNELS
    assert "data saved" not in result.stdout
    assert result.stdout.splitlines()[-1] == expected_digest()


def test_no_two_kernels_share_a_cache_file(filled_cache: Path) -> None:
    assert len(list(filled_cache.rglob("*.nbi"))) == len(list(filled_cache.rglob("*.nbc"))) == KERNELS


SHARING_SCRIPT = """
import numpy as np
from secagg.primitives import secret_sharing
shares = secret_sharing.share(bytes(range(32)), np.arange(9), 5, np.arange(20, dtype=np.uint64).reshape(5, 4))
print(secret_sharing.encode_shares(shares).hex())
"""


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_kernels_that_are_loaded_late_bear_with_a_damaged_cache_too(suffix: str, tmp_path: Path) -> None:
    right = run(SHARING_SCRIPT, NUMBA_CACHE_DIR=str(tmp_path))
    assert (right.returncode, right.stderr) == (0, "")
    damaged = list(tmp_path.rglob(f"mersenne61*{suffix}"))
    assert damaged
    for file in damaged:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = run(SHARING_SCRIPT, NUMBA_CACHE_DIR=str(tmp_path))
    assert (result.returncode, result.stdout) == (0, right.stdout), result.stderr
    assert result.stderr.count("RuntimeWarning") <= 1


def test_a_damaged_cache_costs_a_warning_not_the_round(filled_cache: Path, tmp_path: Path) -> None:
    shutil.copytree(filled_cache, tmp_path, dirs_exist_ok=True)
    for index in tmp_path.rglob("*.nbi"):
        index.write_bytes(b"")
    result = run(DIGEST_SCRIPT, NUMBA_CACHE_DIR=str(tmp_path), SECAGG_FUSED_AES="0")
    assert result.stdout.strip() == expected_digest()
    assert result.stderr.count("RuntimeWarning") == 1
