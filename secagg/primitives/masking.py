"""Mask streams: expand them, and add or subtract many of them, on any slice of the vector, in threads or processes.

A mask is the keystream of a key that makes no other stream (R-STREAM-3), by the cipher of the round's suite.  Element i
is lane i of the stream, a little-endian integer of the modulus's 8, 16, 32 or 64 bits, without the bits above b for
Z_2^b (R-STREAM-1).

Modulo a prime p, lane i is only the first candidate for element i (R-STREAM-2).  Candidate j is lane i of the stream
that starts at counter j 2^64, its *level*, and the element is the first candidate below p floor(2^L / p), modulo p:
exactly uniform, however often p rejects, and still a function of i alone.  Levels above zero are made only where an
element needs them.

The work goes slice by slice, each of a size that the second-level cache holds together with the zeros that are
encrypted and the keystream that comes of it; within a slice mask by mask.

Keystream comes from one of two sources that give the same bits: the library ``cryptography``, or, for AES, kernels that
run the processor's AES instructions and add up many streams before they touch the vector.  ``kernels.fused`` tells
which of them is taken when.  The environment variable SECAGG_FUSED_AES=0 switches the kernels off.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, assert_never, final

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.arithmetic import Modulus
from secagg.arithmetic.kernels import fused
from secagg.arithmetic.modular import AddRows
from secagg.primitives.streams import Keystream
from secagg.primitives.suites import Cipher, Suite, check_key

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

Lanes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Positions: TypeAlias = npt.NDArray[np.int64]
Batch: TypeAlias = tuple[bytes, bool]  # joined keys, whether their masks are subtracted

_BLOCK_BYTES: Final = 16
_LEVEL_BLOCKS: Final = 1 << 64  # from the first counter of a level to the next one's

_SLICE_BYTES: Final = 7 << 15
"""Of the vector, and of a keystream, at a time: both stay in a core's second-level cache.  From 32 KiB on, the kernels
are as fast with any value; the library's keystream is fastest from 200 to 500 KiB, and a tenth slower at 64 KiB and at
1 MiB (``benchmarks/test_kernels.py -k test_masks``, with SECAGG_FUSED_AES=0 and without)."""
_SHARED_SLICE_BYTES: Final = 7 << 17
"""Of the library's keystream in one of several threads: longer, since threads wait for each other between two calls."""
_ROWS: Final = 4
"""Keystreams of the library that are added up at once, of half a slice each, so that they take as much of the cache."""
_LIVE_STREAMS: Final = 256
"""Streams that are kept open from slice to slice; more are worked off in batches, so that memory is bounded.  From 32
on any number is as fast, to within some percent (``benchmarks/test_kernels.py -k many_short``)."""
_SPAN_BYTES_PER_LANE: Final = 1 << 12  # as much keystream takes as long as to seek to a block and read it alone

_JOB_BYTES: Final = 1 << 20  # of the vector: that much of a stream takes twenty times as long as to open it
_AMPLE_JOB_BYTES: Final = 1 << 22  # shorter jobs than that are made for workers that would have none, not for more each
_JOBS_PER_WORKER: Final = 4
"""So that a worker that was held up leaves jobs to the others.  With more, each stream would be opened more often
(``benchmarks/scale_out.py``)."""

_ZEROS: Final = np.zeros(_SHARED_SLICE_BYTES, dtype=np.uint8)
_ZEROS.flags.writeable = False


def expand(suite: Suite, key: bytes, start: int, stop: int, modulus: Modulus) -> Lanes:
    """Elements start .. stop - 1 of one mask: shape (stop - start,), dtype ``modulus.dtype``, canonical.

    Raises:
        ValueError: the key has not the suite's size, or the slice is negative.
    """
    return net_mask(suite, (key,), (), start, stop, modulus)


def net_mask(
    suite: Suite, add: Sequence[bytes], subtract: Sequence[bytes], start: int, stop: int, modulus: Modulus
) -> Lanes:
    """Elements start .. stop - 1 of the sum of some masks minus the sum of others; else as ``expand``."""
    if not 0 <= start <= stop:
        raise ValueError(f"the slice from {start} to {stop} of a mask: it must begin at 0 or later, and not end before")
    vector = np.zeros(stop - start, dtype=modulus.dtype)
    apply_masks(suite, vector, add, subtract, modulus, start)
    return vector


def apply_masks(
    suite: Suite, vector: Lanes, add: Sequence[bytes], subtract: Sequence[bytes], modulus: Modulus, start: int = 0
) -> None:
    """Add masks to a vector and subtract others, in place; afterwards it is canonical.

    Args:
        suite: whose cipher makes the masks, and whose size all keys have.
        vector: lanes, shape (m,), contiguous; any for a ring, canonical for a prime.
        add: the keys of the masks to add.
        subtract: the keys of those to subtract.
        start: which element of the masks belongs to ``vector[0]``.

    Raises:
        ValueError: a key has another size, ``start`` is negative, or the vector is of another dtype or shape,
            read-only or not contiguous.  The vector is then as it was.
    """
    arithmetic.check_lanes(vector, modulus)
    if start < 0:
        raise ValueError(f"start = {start}: a mask begins at element 0")
    _check_keys(suite, add, subtract)
    batches = chain(_batches(add, False), _batches(subtract, True))
    _apply(suite, vector, batches, len(add) + len(subtract), modulus, start)


def remove_masks(
    suite: Suite,
    vector: Lanes,
    add: Sequence[bytes],
    subtract: Sequence[bytes],
    modulus: Modulus,
    executor: Executor | None = None,
    workers: int | None = None,
) -> None:
    """Do what ``apply_masks`` does, on an executor: for a sum of masked vectors, where there are many masks to undo.

    The vector is split among jobs, and where it is short the keys are.  A job carries keys and numbers, and returns its
    part of the net mask, so that any executor will do: of threads, of processes, or of other machines, which then see
    the keys.  That takes memory for the vector once more, or 8 MiB a worker.  The standard library's threads work on
    their parts of the vector itself, where it is long enough to be split.

    Args:
        suite, vector: as for ``apply_masks``.
        add: the keys of the masks to add.
        subtract: the keys of the masks to subtract.
        executor: none of its threads may be waiting for this call; without one, the work is done in this thread.
        workers: how many jobs the executor runs at once; when not given, what the standard library's two say of
            themselves, and for others the number of this machine's processors.

    Raises:
        ValueError: as ``apply_masks``, or ``workers`` is below 1.
        Exception: whatever the executor or its jobs raise.  Then the vector holds some of the masks, and jobs may still
            be at work on it: it is of no more use.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers = {workers}: an executor has one or more; leave it out if you do not know")
    if executor is None:
        apply_masks(suite, vector, add, subtract, modulus)
        return
    from concurrent.futures import ThreadPoolExecutor  # whoever has an executor has imported it

    arithmetic.check_lanes(vector, modulus)
    _check_keys(suite, add, subtract)
    jobs = list(_jobs(suite, len(vector), add, subtract, modulus, workers or _workers(executor)))
    in_place = isinstance(executor, ThreadPoolExecutor) and len({start for start, *_ in jobs}) == len(jobs)
    futures: list[Future[Any]] = [
        executor.submit(_add_net_mask, vector[job[0] : job[1]], job[0], *job[2:], shared=True)
        if in_place
        else executor.submit(_net_mask_job, *job)
        for job in jobs
    ]
    try:
        for (start, stop, *_), future in zip(jobs, futures, strict=True):
            part = future.result()
            if not in_place:  # added while the jobs behind are at work
                arithmetic.add(vector[start:stop], part, modulus)
    finally:
        for future in futures:
            future.cancel()
    if modulus.is_ring and not in_place:
        arithmetic.reduce(vector, modulus)


class _Masks(Protocol):
    """Some masks whose streams are open."""

    slice_bytes: int
    """How much of the vector they are made for at a time."""

    def add_to(self, part: Lanes, negate: bool, low: int) -> None:
        """Add each mask's elements from ``low`` on to ``part``, which lies within one slice, or subtract them."""

    def wipe(self) -> None:
        """Forget the streams, as far as that can be done."""


@final
class _KernelMasks:
    """Masks from kernels, which make all of them at once."""

    def __init__(self, keys: bytes, key_bytes: int, modulus: Modulus, kernels: ModuleType) -> None:
        self.slice_bytes = _SLICE_BYTES
        self._modulus, self._kernels = modulus, kernels
        self._schedules = kernels.expand_keys(keys, key_bytes)

    def add_to(self, part: Lanes, negate: bool, low: int) -> None:
        block, offset = divmod(low, _BLOCK_BYTES // part.itemsize)
        self._kernels.add_streams(part, self._schedules, self._modulus, negate, block, offset)

    def wipe(self) -> None:
        self._schedules.fill(0)


@final
class _LibraryMasks:
    """Masks from the library's keystream, which is written to memory and added up from there.

    Where there is a kernel for it, some streams are written into rows of the buffer before they are added, at once.
    Else each is added on its own; so it is modulo a prime, where each stream's candidates are looked at.
    """

    def __init__(self, suite: Suite, keys: bytes, modulus: Modulus, vector_bytes: int, shared: bool) -> None:
        size = suite.key_bytes
        self._streams = [Keystream(suite, keys[first : first + size]) for first in range(0, len(keys), size)]
        self._dtype = modulus.dtype
        self._add = arithmetic.accumulator_of(modulus)
        self._add_rows = arithmetic.row_adder_of(modulus) if len(self._streams) > 1 else None
        self.slice_bytes = _SHARED_SLICE_BYTES if shared else _SLICE_BYTES
        if self._add_rows is not None:
            self.slice_bytes //= 2
        whole = vector_bytes - vector_bytes % _BLOCK_BYTES + 2 * _BLOCK_BYTES
        rows = 1 if self._add_rows is None else min(_ROWS, len(self._streams))
        self._buffer = np.empty((rows, min(whole, self.slice_bytes)), dtype=np.uint8)
        # Candidates from here on are rejected; no lane of a ring is.
        self._bound = 0 if modulus.is_ring else (1 << modulus.lane_bits) // modulus.value * modulus.value

    def add_to(self, part: Lanes, negate: bool, low: int) -> None:
        block, offset = divmod(low * self._dtype.itemsize, _BLOCK_BYTES)
        end = offset + part.nbytes
        size = end + -end % _BLOCK_BYTES
        if self._add_rows is None:
            self._add_each(part, negate, low, block, slice(offset, end), size)
        else:
            self._add_together(self._add_rows, part, negate, block, offset, size)

    def _add_together(self, add: AddRows, part: Lanes, negate: bool, block: int, offset: int, size: int) -> None:
        rows, zeros = [row[:size].data for row in self._buffer], _ZEROS[:size].data
        lanes = self._buffer.reshape(-1).view(self._dtype)
        stride, start = len(lanes) // len(rows), offset // self._dtype.itemsize
        for first in range(0, len(self._streams), len(rows)):
            streams = self._streams[first : first + len(rows)]
            for stream, row in zip(streams, rows, strict=False):
                stream.read_into(row, zeros, block)
            add(part, lanes, len(streams), stride, start, negate)

    def _add_each(self, part: Lanes, negate: bool, low: int, block: int, place: slice, size: int) -> None:
        keystream, zeros = self._buffer[0, :size].data, _ZEROS[:size].data
        candidates = self._buffer[0, place].view(self._dtype)
        add, bound = self._add, self._bound
        for stream in self._streams:
            stream.read_into(keystream, zeros, block)
            largest = add(part, candidates, negate)
            if largest >= bound > 0:
                self._replace_rejected(part, candidates, stream, negate, low)

    def wipe(self) -> None:
        self._streams.clear()
        self._buffer.fill(0)

    def _replace_rejected(self, part: Lanes, candidates: Lanes, stream: Keystream, negate: bool, low: int) -> None:
        """Take the candidates that should have been rejected back out of ``part``, and put in those that follow."""
        rejected = np.flatnonzero(candidates >= self._bound)
        touched = part[rejected]
        self._add(touched, candidates[rejected], not negate)
        self._add(touched, self._accepted_later(stream, rejected + low), negate)
        part[rejected] = touched

    def _accepted_later(self, stream: Keystream, elements: Positions) -> Lanes:
        """For elements, ascending, whose level-0 candidate is rejected: the first candidate that is not."""
        accepted = np.empty(len(elements), dtype=self._dtype)
        pending, level = np.arange(len(elements)), 1
        while len(pending):
            candidates = self._level(stream, level, elements[pending])
            accepted[pending] = candidates
            pending = pending[candidates >= self._bound]
            level += 1
        return accepted

    def _level(self, stream: Keystream, level: int, elements: Positions) -> Lanes:
        """The candidates of a level for some elements, ascending, of one slice."""
        lanes_per_block = _BLOCK_BYTES // self._dtype.itemsize
        blocks = elements // lanes_per_block
        first, counter = int(blocks[0]), level * _LEVEL_BLOCKS
        span = (int(blocks[-1]) - first + 1) * _BLOCK_BYTES
        if span <= len(elements) * _SPAN_BYTES_PER_LANE:
            keystream = np.empty(span, dtype=np.uint8)
            stream.read_into(keystream.data, _ZEROS[:span].data, counter + first)
            return keystream.view(self._dtype)[elements - first * lanes_per_block]
        keystream = np.empty((len(elements), _BLOCK_BYTES), dtype=np.uint8)
        for row, block in enumerate(blocks.tolist()):
            stream.read_into(keystream[row].data, _ZEROS[:_BLOCK_BYTES].data, counter + block)
        return keystream.view(self._dtype)[np.arange(len(elements)), elements % lanes_per_block]


def _apply(
    suite: Suite,
    vector: Lanes,
    batches: Iterable[Batch],
    streams: int,
    modulus: Modulus,
    start: int,
    *,
    shared: bool = False,
) -> None:
    """Do what ``apply_masks`` does, with so many keys in all; ``shared`` in one of several threads."""
    for keys, negate in batches:
        kernels = _kernels_for(suite, modulus, streams, vector.nbytes)
        masks: _Masks
        if kernels is not None:
            masks = _KernelMasks(keys, suite.key_bytes, modulus, kernels)
        else:
            masks = _LibraryMasks(suite, keys, modulus, vector.nbytes, shared)
        try:
            for low, high in _slices(start, start + len(vector), masks.slice_bytes // vector.itemsize):
                masks.add_to(vector[low - start : high - start], negate, low)
        finally:
            masks.wipe()
    if modulus.is_ring:
        arithmetic.reduce(vector, modulus)


def _kernels_for(suite: Suite, modulus: Modulus, streams: int, vector_bytes: int) -> ModuleType | None:
    """The kernels, if there are any for this cipher and they are to be taken."""
    if suite.cipher is Cipher.AES_CTR:
        return fused.kernels_for(modulus, suite.key_bytes, streams, vector_bytes)
    assert_never(suite.cipher)


def _check_keys(suite: Suite, *keys: Iterable[bytes]) -> None:
    for key in chain(*keys):
        check_key(suite, key)


def _batches(keys: Sequence[bytes], negate: bool) -> Iterator[Batch]:
    """Join keys, some at a time."""
    for first in range(0, len(keys), _LIVE_STREAMS):
        yield b"".join(keys[first : first + _LIVE_STREAMS]), negate


def _slices(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    """Split start .. stop at the multiples of a slice, so that only the first one can begin within a block."""
    while start < stop:
        end = min(stop, start - start % step + step)
        yield start, end
        start = end


def _workers(executor: Executor) -> int:
    """How many jobs an executor runs at once.  The interface does not tell; the standard library's two do."""
    workers = getattr(executor, "_max_workers", None)
    return workers if isinstance(workers, int) and workers > 0 else os.cpu_count() or 1


def blocks(vector_bytes: int, workers: int) -> int:
    """Into how many parts ``remove_masks`` cuts a vector of so many bytes for so many workers; 1 leaves it whole."""
    pieces = min(vector_bytes // _JOB_BYTES, workers)
    if pieces < workers:
        return max(pieces, 1)
    return workers * max(1, min(vector_bytes // _AMPLE_JOB_BYTES // workers, _JOBS_PER_WORKER))


def _jobs(
    suite: Suite, length: int, add: Sequence[bytes], subtract: Sequence[bytes], modulus: Modulus, workers: int
) -> Iterator[tuple[int, int, bytes, bytes, Suite, int]]:
    """The arguments of ``_net_mask_job`` for each job: some of the vector and all keys, or some of both."""
    size = length * modulus.dtype.itemsize
    pieces, groups = blocks(size, workers), 1
    if size // _JOB_BYTES < workers:
        groups = max(1, min(workers * _JOBS_PER_WORKER // pieces, len(add) + len(subtract)))
    bounds = [length * piece // pieces for piece in range(pieces + 1)]
    for group in range(groups):
        added, subtracted = _joined(add, group, groups), _joined(subtract, group, groups)
        for low, high in pairwise(bounds):
            yield low, high, added, subtracted, suite, modulus.value


def _joined(keys: Sequence[bytes], group: int, groups: int) -> bytes:
    return b"".join(keys[len(keys) * group // groups : len(keys) * (group + 1) // groups])


def _net_mask_job(start: int, stop: int, add: bytes, subtract: bytes, suite: Suite, modulus: int) -> Lanes:
    """``net_mask`` with arguments that are small to pickle: the keys joined, the modulus as a number."""
    vector = np.zeros(stop - start, dtype=Modulus(modulus).dtype)
    _add_net_mask(vector, start, add, subtract, suite, modulus)
    return vector


def _add_net_mask(
    vector: Lanes, start: int, add: bytes, subtract: bytes, suite: Suite, modulus: int, *, shared: bool = False
) -> None:
    """Add it to ``vector``, the elements from ``start`` on."""
    batches = chain(_split(suite, add, False), _split(suite, subtract, True))
    streams = (len(add) + len(subtract)) // suite.key_bytes
    _apply(suite, vector, batches, streams, Modulus(modulus), start, shared=shared)


def _split(suite: Suite, keys: bytes, negate: bool) -> Iterator[Batch]:
    step = _LIVE_STREAMS * suite.key_bytes
    return ((keys[first : first + step], negate) for first in range(0, len(keys), step))
