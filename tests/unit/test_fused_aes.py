"""The AES kernels against `cryptography` and Python integers."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given
from hypothesis import strategies as st

from secagg import Suite
from secagg.arithmetic import Modulus
from secagg.arithmetic.kernels import aes, fused
from secagg.primitives import masking

Lanes = npt.NDArray[np.unsignedinteger]

MASKS = 1 << 128
RINGS = tuple(Modulus.ring(lane_bits) for lane_bits in (8, 16, 32, 64))
# Those that reject half of their candidates, a few, one in 2^32 or none to speak of, in every lane.
PRIMES = tuple(
    Modulus(prime)
    for prime in (
        *(3, 131, 251, 257, 32771, 65521, 65537, 2147483659, 2**31 - 1, 4293918721, 4294967291),
        *(4294967311, 2049638230412172427, 2305843009213693921, 2**61 - 1),
    )
)
KEYS = {
    size: tuple(hashlib.sha256(bytes((size, index))).digest()[:size] for index in range(9)) for size in (16, 32)
}  # fmt: skip
# Where the lower 32 and 64 bits carry, the levels of a prime begin, and the counter ends.
BLOCKS = (0, 1, 5, (1 << 32) - 3, (1 << 64) - 1, (1 << 64) - 33, 1 << 64, (7 << 64) + 9, (1 << 127) + 1, (1 << 128) - 2)

on_kernels = pytest.mark.skipif(not aes.BLOCKS, reason="what Numba compiles for has no AES instructions")


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fused.SWITCH, raising=False)


def naive_lanes(key: bytes, block: int, skip: int, length: int, modulus: Modulus) -> Lanes:
    size = modulus.lane_bits // 8
    encryptor = Cipher(AES(key), CTR((block % MASKS).to_bytes(16, "big"))).encryptor()
    return np.frombuffer(encryptor.update(bytes((skip + length) * size)), modulus.dtype)[skip:]


def naive_elements(key: bytes, block: int, skip: int, length: int, modulus: Modulus) -> npt.NDArray[np.object_]:
    """As Python integers."""
    accepted = naive_lanes(key, block, skip, length, modulus).astype(object)
    bound, level = 2**modulus.lane_bits // modulus.value * modulus.value, 0
    while (rejected := accepted >= bound).any():
        level += 1
        later = naive_lanes(key, block + (level << 64), skip, length, modulus).astype(object)
        accepted = np.where(rejected, later, accepted)
    return accepted % modulus.value


def summed(
    vector: Lanes, add: tuple[bytes, ...], subtract: tuple[bytes, ...], modulus: Modulus, block: int = 0, skip: int = 0
) -> Lanes:
    """By kernels, and reduced."""
    vector = vector.copy()
    for keys, negate in ((add, False), (subtract, True)):
        if keys:
            schedules = aes.expand_keys(b"".join(keys), len(keys[0]))
            aes.add_streams(vector, schedules, modulus, negate, block, skip)
    return vector


def naive_sum(
    vector: Lanes, add: tuple[bytes, ...], subtract: tuple[bytes, ...], modulus: Modulus, block: int = 0, skip: int = 0
) -> list[int]:
    total = vector.astype(object)
    for keys, sign in ((add, 1), (subtract, -1)):
        for key in keys:
            total = total + sign * naive_elements(key, block, skip, len(vector), modulus)
    return list(total % modulus.value)


def some_vector(length: int, modulus: Modulus) -> Lanes:
    return np.array([index * 7919 % modulus.value for index in range(length)], modulus.dtype)


# What the kernels compute.


@on_kernels
def test_key_schedules_of_fips_197() -> None:
    """Appendix A of the standard: the last round key of each example."""
    for key, last in (
        ("2b7e151628aed2a6abf7158809cf4f3c", "d014f9a8c9ee2589e13f0cc8b6630ca6"),
        (
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "fe4890d1e6188d0b046df344706c631e",
        ),
    ):
        schedule = aes.expand_keys(bytes.fromhex(key) * 3, len(key) // 2)
        assert schedule.shape == (3, 44 if len(key) == 32 else 60)
        assert [row[-4:].tobytes().hex() for row in schedule] == [last] * 3
        assert [row[: len(key) // 8].tobytes().hex() for row in schedule] == [key] * 3


@on_kernels
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("modulus", RINGS, ids=str)
def test_lengths_and_places_in_a_block(modulus: Modulus, size: int) -> None:
    keys, per_block = KEYS[size], 128 // modulus.lane_bits
    group, tile = aes._GROUP_BLOCKS * per_block, aes._TILE_BYTES * 8 // modulus.lane_bits
    edges = {edge + step for edge in (group, tile, 2 * tile, 3 * tile) for step in (-per_block, -1, 0, 1, 3)}
    for length in sorted({0, 1, 2, 3, 15, 17, 101, *edges}):
        for skip in {0, 1, per_block - 1}:
            vector = some_vector(length, modulus)
            got = summed(vector, keys[:2], keys[2:5], modulus, 3, skip)
            assert got.tolist() == naive_sum(vector, keys[:2], keys[2:5], modulus, 3, skip)


@on_kernels
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("modulus", RINGS + PRIMES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=hex)
def test_first_blocks_and_counters_that_carry(modulus: Modulus, size: int, block: int) -> None:
    keys, vector = KEYS[size], some_vector(811, modulus)
    got = summed(vector, keys[:3], keys[3:4], modulus, block, 1)
    assert got.tolist() == naive_sum(vector, keys[:3], keys[3:4], modulus, block, 1)


@on_kernels
@pytest.mark.parametrize("modulus", PRIMES, ids=str)
def test_lengths_modulo_a_prime(modulus: Modulus) -> None:
    keys = KEYS[16]
    tile = aes._TILE_BYTES * 8 // modulus.lane_bits
    for length in (0, 1, 2, 17, tile - 1, tile, 2 * tile + 3):
        vector = some_vector(length, modulus)
        got = summed(vector, keys[:1], keys[1:], modulus, 0, 1)
        assert got.tolist() == naive_sum(vector, keys[:1], keys[1:], modulus, 0, 1)


@on_kernels
@given(
    modulus=st.sampled_from(RINGS + PRIMES),
    size=st.sampled_from((16, 32)),
    block=st.integers(0, (1 << 128) - 1) | st.sampled_from(BLOCKS),
    length=st.integers(0, 700),
    data=st.data(),
)
def test_any_sum(modulus: Modulus, size: int, block: int, length: int, data: st.DataObject) -> None:
    keys = st.lists(st.binary(min_size=size, max_size=size), max_size=3).map(tuple)
    add, subtract = data.draw(keys), data.draw(keys)
    skip = data.draw(st.integers(0, 128 // modulus.lane_bits - 1))
    vector = some_vector(length, modulus)
    got = summed(vector, add, subtract, modulus, block, skip)
    assert got.tolist() == naive_sum(vector, add, subtract, modulus, block, skip)


@on_kernels
@pytest.mark.parametrize("modulus", [*RINGS, Modulus(32771), Modulus(2**61 - 1)], ids=str)
def test_nothing_is_written_beside_the_vector(modulus: Modulus) -> None:
    for length in (1, 100, 2048, 3000):
        room = some_vector(length + 1200, modulus)
        before, part = room.copy(), room[600 : 600 + length]
        schedules = aes.expand_keys(b"".join(KEYS[16]), 16)
        aes.add_streams(part, schedules, modulus, False, 0, 1)
        assert part.tolist() == naive_sum(before[600 : 600 + length], KEYS[16], (), modulus, 0, 1)
        assert np.array_equal(room[:600], before[:600])
        assert np.array_equal(room[600 + length :], before[600 + length :])


@on_kernels
@pytest.mark.parametrize("prime", [modulus.value for modulus in PRIMES])
def test_sums_are_reduced_exactly(prime: int) -> None:
    """Sums on both sides of multiples of the prime, up to those of 2^16 keys."""
    modulus, keys = Modulus(prime), 1 << 16
    most = keys * (2**modulus.lane_bits - 1)
    quotients = {0, 1, 2, most // prime // 3, most // prime - 1, most // prime}
    around = {quotient * prime + step for quotient in quotients for step in (-2, -1, 0, 1, 2)}
    sums = sorted(value for value in around | {1 << bit for bit in range(80)} | {most} if 0 <= value <= most)
    if modulus.lane_bits == 64:  # the halves are summed apart, so that the lower one may have more than 32 bits
        carried = [min(keys - 1, value >> 32) for value in sums]
        high = [(value >> 32) - carry for value, carry in zip(sums, carried, strict=True)] + [v >> 32 for v in sums]
        sums = sums * 2
    else:
        high = [0] * len(sums)
    low = np.array([value - (upper << 32) for value, upper in zip(sums, high, strict=True)], np.uint64)
    for before in {0, 1, prime // 2, prime - 1}:
        for negate, sign in ((False, 1), (True, -1)):
            part = np.full(len(sums), before, modulus.dtype)
            aes._add_residues(part, low, np.array(high, np.uint64), negate, np.uint64(prime), 1.0 / prime)
            assert part.tolist() == [(before + sign * value) % prime for value in sums]


@on_kernels
def test_kernels_release_the_gil() -> None:
    for kernel in (aes._key_expander(), aes._ring_adder(32, 10), aes._prime_adder(32, 10)):
        assert kernel.targetoptions["nogil"]


@on_kernels
def test_threads_that_come_first_together() -> None:
    modulus, barrier = Modulus.ring(16), threading.Barrier(4)
    fused._is_trusted.cache_clear()
    aes._ring_adder.cache_clear()

    def mask(index: int) -> list[int]:
        barrier.wait()
        return masking.expand(Suite.AES_128, KEYS[16][index], 3, 5003, modulus).tolist()

    with ThreadPoolExecutor(4) as executor:
        masks = list(executor.map(mask, range(4)))
    assert masks == [naive_elements(key, 0, 3, 5000, modulus).tolist() for key in KEYS[16][:4]]
    assert aes._ring_adder.cache_info().misses == 1


@on_kernels
@pytest.mark.parametrize("modulus", [Modulus.ring(20), Modulus(2**31 - 1)], ids=str)
def test_round_keys_are_wiped(modulus: Modulus, monkeypatch: pytest.MonkeyPatch) -> None:
    expand, schedules = aes.expand_keys, []

    def recorded(keys: bytes, key_bytes: int) -> Any:
        schedules.append(expand(keys, key_bytes))
        return schedules[-1]

    masking.net_mask(Suite.AES_128, KEYS[16], KEYS[16], 0, 1000, modulus)  # the known answers are given
    monkeypatch.setattr(aes, "expand_keys", recorded)
    masking.net_mask(Suite.AES_128, KEYS[16], KEYS[16], 0, 1000, modulus)
    if modulus.is_ring or aes.BLOCKS > 1:
        assert [len(batch) for batch in schedules] == [9, 9]
    assert not any(batch.any() for batch in schedules)


# The known answers of the first use.


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("modulus", [modulus for pair in fused.TRIED.values() for modulus in pair], ids=str)
def test_the_known_answers_are_those_of_the_library(modulus: Modulus, size: int) -> None:
    keys = tuple(bytes(range(first, first + size)) for first in (0, size, 2 * size))
    length = 1500 * 8 // modulus.lane_bits
    total = naive_sum(np.zeros(length, modulus.dtype), keys[:1], (), modulus, (3 << 64) - 9, 1)
    total = naive_sum(np.array(total, modulus.dtype), (), keys, modulus, (1 << 32) - 10, 1)
    answer = hashlib.sha256(np.array(total, modulus.dtype).tobytes()).hexdigest()[:16]
    assert fused._KNOWN_ANSWERS[modulus.value, size] == answer
    if aes.BLOCKS:
        assert fused._answer(modulus, size) == answer


def test_every_lane_is_tried() -> None:
    assert set(fused._KNOWN_ANSWERS) == {
        (modulus.value, size) for pair in fused.TRIED.values() for modulus in pair for size in (16, 32)
    }
    for lane_bits, (ring, prime) in fused.TRIED.items():
        assert ring == Modulus.ring(lane_bits)
        assert prime.lane_bits == lane_bits
        assert 2**lane_bits % prime.value > 2**lane_bits // 100  # candidates that are rejected
