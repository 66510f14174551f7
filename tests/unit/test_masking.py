"""Masks from both sources, against a naive twin: `cryptography`'s keystream, and Python integers."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import operator
import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import RoundConfig, Suite, arithmetic
from secagg.arithmetic import Modulus
from secagg.arithmetic.kernels import aes, fused, jit
from secagg.pairwise.server import compute
from secagg.primitives import masking

Lanes = npt.NDArray[np.unsignedinteger]

RINGS = tuple(Modulus.ring(bits) for bits in (1, 7, 8, 13, 16, 20, 32, 33, 63, 64))
PRIMES = tuple(Modulus(prime) for prime in (3, 251, 257, 32771, 65521, 65537, 2**31 - 1, 4294967311, 2**61 - 1))
AES_128 = Suite.AES_128
KEYS = tuple(bytes([index]) * 16 for index in range(1, 12))
FROZEN_32771 = [6163, 14139, 12572, 9601, 20335, 25217, 3909, 31192, 18035, 17449, 28341, 7860]


@pytest.fixture(scope="module", params=["library", "kernels"] if aes.BLOCKS else ["library"], autouse=True)
def source(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where keystream comes from; kernels make all of it that they can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECAGG_FUSED_AES", "0" if request.param == "library" else "1")
        if request.param == "kernels":
            patch.setattr(fused, "FEWEST_STREAMS", 1)
        yield request.param


def naive_mask(key: bytes, start: int, stop: int, modulus: Modulus) -> list[int]:
    """Element by element from the definition."""
    lane_bytes = modulus.lane_bits // 8
    bound = 2**modulus.lane_bits // modulus.value * modulus.value
    streams: dict[int, bytes] = {}

    def candidate(element: int, level: int) -> int:
        if level not in streams:
            encryptor = Cipher(AES(key), CTR((level << 64).to_bytes(16, "big"))).encryptor()
            streams[level] = encryptor.update(bytes(stop * lane_bytes))
        return int.from_bytes(streams[level][element * lane_bytes : (element + 1) * lane_bytes], "little")

    mask = []
    for element in range(start, stop):
        level = 0
        while candidate(element, level) >= bound:
            level += 1
        mask.append(candidate(element, level) % modulus.value)
    return mask


def naive_net(add: Any, subtract: Any, start: int, stop: int, modulus: Modulus) -> list[int]:
    net = [0] * (stop - start)
    for keys, sign in ((add, 1), (subtract, -1)):
        for key in keys:
            net = [a + sign * b for a, b in zip(net, naive_mask(key, start, stop, modulus), strict=True)]
    return [element % modulus.value for element in net]


# The stream.


def test_known_answers() -> None:
    """AES of the counters 0, 1, 2 under the zero key: H, E(K, Y0) and a ciphertext of the GCM specification's cases."""
    blocks = "66e94bd4ef8a2c3b884cfa59ca342b2e58e2fccefa7e3061367f1d57a4e7455a0388dace60b6a392f328c2b971b2fe78"
    assert masking.expand(AES_128, bytes(16), 0, 48, Modulus.ring(8)).tobytes().hex() == blocks
    assert masking.expand(AES_128, bytes(16), 0, 6, Modulus.ring(64)).tobytes().hex() == blocks
    assert masking.expand(AES_128, bytes(16), 0, 2, Modulus.ring(20)).tolist() == [
        0xBE966,
        0xC8AEF,
    ]  # of d44be966, 3b2c8aef
    assert masking.expand(AES_128, bytes(16), 4, 6, Modulus(2**31 - 1)).tolist() == [
        0xCEFCE258 - (2**31 - 1),
        0x61307EFA,
    ]
    assert (
        masking.expand(Suite.AES_256, bytes(32), 0, 4, Modulus.ring(32)).tobytes().hex()
        == "dc95c078a2408989ad48a21492842087"
    )


def test_a_frozen_answer_of_a_prime_that_rejects_half_of_its_lanes() -> None:
    key = bytes(range(16))
    assert masking.expand(AES_128, key, 0, 12, Modulus(32771)).tolist() == FROZEN_32771
    assert naive_mask(key, 0, 12, Modulus(32771)) == FROZEN_32771


@pytest.mark.parametrize("modulus", RINGS + PRIMES, ids=str)
@pytest.mark.parametrize("suite", Suite)
def test_a_mask_is_the_naive_one(modulus: Modulus, suite: Suite) -> None:
    key = bytes(range(suite.key_bytes))
    whole = naive_mask(key, 0, 700, modulus)
    for start, stop in ((0, 700), (0, 1), (1, 2), (3, 700), (15, 17), (333, 334), (511, 603)):
        mask = masking.expand(suite, key, start, stop, modulus)
        assert mask.dtype == modulus.dtype
        assert mask.tolist() == whole[start:stop]


@given(
    modulus=st.sampled_from(RINGS + PRIMES),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    key=st.binary(min_size=16, max_size=16),
)
@settings(deadline=None)
def test_slices_stand_alone(modulus: Modulus, cuts: list[int], key: bytes) -> None:
    bounds = [0, *sorted(cuts), 400]
    parts = [masking.expand(AES_128, key, low, high, modulus).tolist() for low, high in itertools.pairwise(bounds)]
    assert functools.reduce(operator.iadd, parts, []) == naive_mask(key, 0, 400, modulus)


@pytest.mark.parametrize("modulus", [Modulus.ring(13), Modulus.ring(64), Modulus(32771), Modulus(257)], ids=str)
def test_elements_on_both_sides_of_the_cache_sized_slices(modulus: Modulus) -> None:
    step = (1 << 17) // modulus.dtype.itemsize
    length = 2 * step + 100
    whole = masking.expand(AES_128, KEYS[0], 0, length, modulus)
    assert whole[:50].tolist() == naive_mask(KEYS[0], 0, 50, modulus)
    for start, stop in ((step - 9, step + 9), (2 * step - 1, 2 * step + 1), (step, length), (7, length)):
        assert np.array_equal(masking.expand(AES_128, KEYS[0], start, stop, modulus), whole[start:stop])
    assert naive_mask(KEYS[0], step - 3, step + 3, modulus) == whole[step - 3 : step + 3].tolist()


def test_far_along_the_stream() -> None:
    modulus, start = Modulus(32771), 10**15 + 3
    block, offset = divmod(start * 2, 16)
    mask = masking.expand(AES_128, KEYS[0], start, start + 500, modulus)
    bound, lanes = 32771, []
    for level in range(40):
        encryptor = Cipher(AES(KEYS[0]), CTR(((level << 64) + block).to_bytes(16, "big"))).encryptor()
        lanes.append(np.frombuffer(encryptor.update(bytes(1200))[offset:][:1000], "<u2").tolist())
    assert mask.tolist() == [next(lane for lane in column if lane < bound) for column in zip(*lanes, strict=True)]


@pytest.mark.parametrize("prime", [3, 257, 32771, 65521])
@pytest.mark.parametrize("span", [0, 1 << 40], ids=("block by block", "in one span"))
def test_rejected_lanes_are_drawn_again_however_they_are_read(
    prime: int, span: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    modulus = Modulus(prime)
    monkeypatch.setattr(masking, "_SPAN_BYTES_PER_LANE", span)
    assert masking.expand(AES_128, KEYS[1], 11, 2011, modulus).tolist() == naive_mask(KEYS[1], 11, 2011, modulus)


def test_the_rare_rejections_of_a_slice_are_found() -> None:
    """p = 257 rejects one 16-bit lane in 65,536: those of a long vector, far from each other."""
    modulus, length = Modulus(257), 400_000
    encryptor = Cipher(AES(KEYS[2]), CTR(bytes(16))).encryptor()
    lanes = np.frombuffer(encryptor.update(bytes(2 * length)), "<u2").astype(np.int64)
    rejected = np.flatnonzero(lanes == 65535)
    assert len(rejected) >= 2
    mask = masking.expand(AES_128, KEYS[2], 0, length, modulus).astype(np.int64)
    others = np.delete(np.arange(length), rejected)
    assert np.array_equal(mask[others], lanes[others] % 257)
    for element in rejected.tolist():
        second = Cipher(AES(KEYS[2]), CTR(((1 << 64) + element // 8).to_bytes(16, "big"))).encryptor().update(bytes(16))
        assert mask[element] == int.from_bytes(second[element % 8 * 2 :][:2], "little") % 257


# Many masks.


@pytest.mark.parametrize("modulus", RINGS + PRIMES, ids=str)
def test_masks_are_added_and_subtracted(modulus: Modulus) -> None:
    before = [index * 7919 % modulus.value for index in range(300)]
    vector = np.array(before, modulus.dtype)
    masking.apply_masks(AES_128, vector, KEYS[:5], KEYS[5:8], modulus, start=9)
    net = naive_net(KEYS[:5], KEYS[5:8], 9, 309, modulus)
    assert vector.tolist() == [(a + b) % modulus.value for a, b in zip(before, net, strict=True)]
    masking.apply_masks(AES_128, vector, KEYS[5:8], KEYS[:5], modulus, start=9)
    assert vector.tolist() == before


@pytest.mark.parametrize("modulus", RINGS + PRIMES, ids=str)
def test_the_net_mask_of_a_slice(modulus: Modulus) -> None:
    net = masking.net_mask(AES_128, KEYS[:2], KEYS[2:6], 5, 105, modulus)
    assert net.dtype == modulus.dtype
    assert net.tolist() == naive_net(KEYS[:2], KEYS[2:6], 5, 105, modulus)


@given(modulus=st.sampled_from(RINGS + PRIMES), data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_masks_on_any_slice(modulus: Modulus, data: st.DataObject) -> None:
    suite = data.draw(st.sampled_from(Suite))
    keys = st.lists(st.binary(min_size=suite.key_bytes, max_size=suite.key_bytes), max_size=4)
    add, subtract, start = data.draw(keys), data.draw(keys), data.draw(st.integers(0, 50))
    before = data.draw(st.lists(st.integers(0, modulus.value - 1), max_size=60))
    vector = np.array(before, modulus.dtype)
    masking.apply_masks(suite, vector, add, subtract, modulus, start)
    net = naive_net(add, subtract, start, start + len(before), modulus)
    assert vector.tolist() == [(a + b) % modulus.value for a, b in zip(before, net, strict=True)]


def test_garbage_above_the_ring_does_no_harm() -> None:
    modulus = Modulus.ring(20)
    clean = np.arange(50, dtype=np.uint32)
    dirty = clean | np.uint32(0xFFF00000)
    for vector in (clean, dirty):
        masking.apply_masks(AES_128, vector, KEYS[:1], (), modulus)
    assert clean.tolist() == dirty.tolist()
    assert clean.max() < 2**20


@pytest.mark.parametrize("modulus", [Modulus.ring(20), Modulus(32771)], ids=str)
def test_more_keys_than_streams_are_kept_open(modulus: Modulus, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [index.to_bytes(16, "big") for index in range(600)]
    few = masking.net_mask(AES_128, keys[:400], keys[400:], 0, 20, modulus)
    monkeypatch.setattr(masking, "_LIVE_STREAMS", 10_000)
    assert np.array_equal(few, masking.net_mask(AES_128, keys[:400], keys[400:], 0, 20, modulus))
    assert few.tolist() == naive_net(keys[:400], keys[400:], 0, 20, modulus)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 11])
@pytest.mark.parametrize("loaded", [True, False])
@pytest.mark.parametrize("bits", [8, 13, 32, 64])
def test_several_streams_of_the_library_at_once(
    bits: int, loaded: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices of few blocks: with the kernel that adds up rows of them, and one by one without it."""
    modulus = Modulus.ring(bits)
    monkeypatch.setenv("SECAGG_FUSED_AES", "0")
    monkeypatch.setattr(jit, "is_loaded", lambda: loaded)
    monkeypatch.setattr(masking, "_SLICE_BYTES", 256)
    found = masking.net_mask(AES_128, KEYS[:count], KEYS[count:], 5, 150, modulus)
    assert found.tolist() == naive_net(KEYS[:count], KEYS[count:], 5, 150, modulus)


def test_streams_are_opened_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    live = 0

    class Counted(masking.Keystream):  # type: ignore[misc]
        def __init__(self, suite: Suite, key: bytes) -> None:
            nonlocal live
            live += 1
            opened.append(live)
            super().__init__(suite, key)

        def __del__(self) -> None:
            nonlocal live
            live -= 1

    monkeypatch.setattr(masking, "Keystream", Counted)
    monkeypatch.setenv("SECAGG_FUSED_AES", "0")
    masking.net_mask(AES_128, [index.to_bytes(16, "big") for index in range(3000)], (), 0, 1, Modulus.ring(8))
    assert len(opened) == 3000
    assert max(opened) <= 600


@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus(65537)], ids=str)
def test_no_masks_and_no_elements(modulus: Modulus) -> None:
    vector = np.arange(5, dtype=modulus.dtype)
    masking.apply_masks(AES_128, vector, (), (), modulus)
    assert vector.tolist() == [0, 1, 2, 3, 4]
    assert masking.expand(AES_128, KEYS[0], 7, 7, modulus).tolist() == []
    with ThreadPoolExecutor(2) as executor:
        masking.remove_masks(AES_128, vector, (), (), modulus, executor)
        masking.remove_masks(AES_128, vector[:0], KEYS, (), modulus, executor)
    assert vector.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [0, 15, 17, 24, 31, 33])
def test_keys_of_other_lengths_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes"):
        masking.expand(AES_128, bytes(size), 0, 1, Modulus.ring(8))


def test_impossible_slices_and_vectors_are_refused() -> None:
    modulus = Modulus.ring(32)
    for start, stop in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="slice"):
            masking.expand(AES_128, KEYS[0], start, stop, modulus)
    with pytest.raises(ValueError, match="start = -1"):
        masking.apply_masks(AES_128, np.zeros(3, np.uint32), KEYS, (), modulus, start=-1)
    for vector in (np.zeros(3, np.uint64), np.zeros((3, 1), np.uint32), np.zeros(6, np.uint32)[::2]):
        with pytest.raises(ValueError, match="must be"):
            masking.apply_masks(AES_128, vector, KEYS, (), modulus)
        with pytest.raises(ValueError, match="must be"):
            masking.remove_masks(AES_128, vector, KEYS, (), modulus, InThisThread())


# On executors.


class InThisThread(Executor):
    """Runs every job at once and remembers it; tells nothing about its workers, unless it is told to."""

    def __init__(self, workers: int | None = None, fails_at: int | None = None) -> None:
        self.jobs: list[tuple[Any, ...]] = []
        self._fails_at = fails_at
        if workers is not None:
            self._max_workers = workers

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.jobs.append((fn, args))
        future: Future[Any] = Future()
        if len(self.jobs) == self._fails_at:
            future.set_exception(ConnectionError("worker lost"))
        else:
            future.set_result(pickle.loads(pickle.dumps(fn))(*args, **kwargs))
        return future


@pytest.mark.parametrize("modulus", [Modulus.ring(20), Modulus(2**31 - 1), Modulus(32771)], ids=str)
@pytest.mark.parametrize(
    "executor", [None, InThisThread(), InThisThread(1), InThisThread(3)], ids=("none", "?", "1", "3")
)
@pytest.mark.parametrize("length", [1, 1000])
def test_removing_masks(modulus: Modulus, executor: Executor | None, length: int) -> None:
    before = [index * 104729 % modulus.value for index in range(length)]
    vector = np.array(before, modulus.dtype)
    masking.remove_masks(AES_128, vector, KEYS[:3], KEYS[3:], modulus, executor)
    net = naive_net(KEYS[:3], KEYS[3:], 0, length, modulus)
    assert vector.tolist() == [(a + b) % modulus.value for a, b in zip(before, net, strict=True)]


@pytest.mark.parametrize("length", [1, 5, 1000, 4000, 100_000])
@pytest.mark.parametrize("workers", [1, 2, 3, 16])
@pytest.mark.parametrize("keys", [1, 2, 11])
def test_jobs_cover_every_element_of_every_mask_once(
    length: int, workers: int, keys: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masking, "_JOB_BYTES", 1000)
    monkeypatch.setattr(masking, "_AMPLE_JOB_BYTES", 4000)
    executor, modulus = InThisThread(workers), Modulus.ring(32)
    monkeypatch.setattr(masking, "_net_mask_job", lambda start, stop, *rest: np.zeros(stop - start, np.uint32))
    monkeypatch.setattr(executor, "submit", lambda fn, *args: (executor.jobs.append(args), done(fn(*args)))[1])
    add, subtract = KEYS[: keys // 2], KEYS[keys // 2 : keys]
    masking.remove_masks(AES_128, np.zeros(length, np.uint32), add, subtract, modulus, executor)
    covered: dict[tuple[str, bytes], list[tuple[int, int]]] = {}
    for start, stop, added, subtracted, suite, value in executor.jobs:
        assert (suite, value) == (AES_128, 2**32)
        for side, joined in (("add", added), ("subtract", subtracted)):
            for first in range(0, len(joined), 16):
                covered.setdefault((side, joined[first : first + 16]), []).append((start, stop))
    assert set(covered) == {("add", key) for key in add} | {("subtract", key) for key in subtract}
    for spans in covered.values():
        spans.sort()
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    assert len(executor.jobs) <= 4 * workers
    parts = 4 * length // 1000  # of the vector, each long enough for a job
    if parts >= workers:
        # The vector alone is split: every job has all keys, and no worker ends with a job that the others have not.
        assert len(executor.jobs) % workers == 0
        assert all(len(added + subtracted) == 16 * keys for _, _, added, subtracted, _, _ in executor.jobs)
    else:
        # The keys are split as well: three jobs a worker at least, as far as there are keys.
        assert len(executor.jobs) >= min(3 * workers, max(parts, 1) * keys)


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def test_jobs_are_small_to_pickle() -> None:
    executor = InThisThread(2)
    keys = [index.to_bytes(16, "big") for index in range(1000)]
    masking.remove_masks(AES_128, np.zeros(50, np.uint32), keys, keys[:500], Modulus.ring(32), executor)
    assert sum(len(pickle.dumps(job)) for job in executor.jobs) < 16 * 1500 + 300 * len(executor.jobs)


def test_an_executor_that_breaks_is_told_of() -> None:
    vector = np.arange(1000, dtype=np.uint32)
    executor = InThisThread(4, fails_at=3)
    with pytest.raises(ConnectionError, match="worker lost"):
        masking.remove_masks(AES_128, vector, KEYS, (), Modulus.ring(32), executor)


def test_an_executor_that_loses_a_part_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = InThisThread(4)
    monkeypatch.setattr(executor, "submit", lambda fn, *args: done(None))
    with pytest.raises((TypeError, ValueError, AttributeError)):
        masking.remove_masks(AES_128, np.arange(1000, dtype=np.uint32), KEYS, (), Modulus.ring(32), executor)


class BrokenThreads(ThreadPoolExecutor):
    """Threads of which one job, in order, is lost."""

    def __init__(self, lost: int) -> None:
        super().__init__(2)
        self._until_lost = lost

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._until_lost -= 1
        if self._until_lost == 0:
            fn, args, kwargs = int, ("no number",), {}
        return super().submit(fn, *args, **kwargs)


@pytest.mark.parametrize("length", [1000, 700_001])
def test_a_sum_outlives_an_executor_that_breaks(length: int) -> None:
    config = RoundConfig.for_cohort(10, length, gamma=0.1)
    masked = np.arange(length, dtype=config.modulus.dtype) % config.modulus.value
    before, broken = masked.copy(), BrokenThreads(2)
    with broken, pytest.raises(ValueError, match="no number"):
        compute.without_masks(masked, KEYS[:3], KEYS[3:], config, broken, None)
    assert np.array_equal(masked, before)
    expected = compute.without_masks(masked, KEYS[:3], KEYS[3:], config, None, None)
    with ThreadPoolExecutor(2) as threads:
        assert np.array_equal(compute.without_masks(masked, KEYS[:3], KEYS[3:], config, threads, None), expected)
    assert np.array_equal(masked, before)


def test_a_key_of_another_suite_is_refused_before_anything_is_changed() -> None:
    vector = np.zeros(3, np.uint32)
    with pytest.raises(ValueError, match="a key of 32 bytes: AES_128 has keys of 16"):
        masking.apply_masks(AES_128, vector, KEYS, (bytes(32),), Modulus.ring(32))
    assert vector.tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="a key of 16 bytes: AES_256 has keys of 32"):
        masking.apply_masks(Suite.AES_256, vector, KEYS, (), Modulus.ring(32))
    with pytest.raises(ValueError, match="a key of 32 bytes: AES_128 has keys of 16"):
        masking.remove_masks(
            Suite.AES_128, np.zeros(3, np.uint32), KEYS, (bytes(32),), Modulus.ring(32), InThisThread()
        )


@pytest.mark.parametrize("modulus", [Modulus.ring(32), Modulus.ring(20), Modulus(2**61 - 1)], ids=str)
def test_masked_vectors_add_up_on_threads(modulus: Modulus) -> None:
    """Three clients, pairwise masks that cancel, self masks that are removed."""
    length = 700_001
    inputs = [np.full(length, client + 1, modulus.dtype) for client in range(3)]
    masked = [vector.copy() for vector in inputs]
    masking.apply_masks(AES_128, masked[0], [KEYS[0], KEYS[3], KEYS[4]], (), modulus)
    masking.apply_masks(AES_128, masked[1], [KEYS[1], KEYS[5]], [KEYS[3]], modulus)
    masking.apply_masks(AES_128, masked[2], [KEYS[2]], [KEYS[4], KEYS[5]], modulus)
    total = np.zeros(length, modulus.dtype)
    for vector in masked:
        assert len(np.unique(vector[:1000])) > 900
        arithmetic.add_packed(total, arithmetic.pack(vector, modulus), modulus)
    alone = total.copy()
    masking.remove_masks(AES_128, alone, (), KEYS[:3], modulus)
    with ThreadPoolExecutor(2) as executor:
        masking.remove_masks(AES_128, total, (), KEYS[:3], modulus, executor)
    assert np.array_equal(total, np.full(length, 6, modulus.dtype))
    assert np.array_equal(total, alone)


def test_masks_are_removed_on_other_processes() -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        for modulus in (Modulus.ring(20), Modulus(32771)):
            vector = np.zeros(5000, modulus.dtype)
            masking.remove_masks(AES_128, vector, KEYS[:2], KEYS[2:], modulus, executor)
            assert vector.tolist() == naive_net(KEYS[:2], KEYS[2:], 0, 5000, modulus)
