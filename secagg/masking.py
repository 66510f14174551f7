"""Mask streams: expand them, and add or subtract many of them, on any slice of the vector, in threads or processes.

A mask is the AES-CTR keystream of a key that makes no other stream.  Element i is lane i of the stream, a little-endian
integer of the modulus's 8, 16, 32 or 64 bits, without the bits above b for Z_2^b.

Modulo a prime p, lane i is only the first candidate for element i.  Candidate j is lane i of the stream that starts at
counter j 2^64, its *level*, and the element is the first candidate below p floor(2^L / p), modulo p: exactly uniform,
however often p rejects, and still a function of i alone.  Levels above zero are made only where an element needs them.

The work goes slice by slice, each of a size that the second-level cache holds together with the zeros that are
encrypted and the keystream that comes of it; within a slice mask by mask.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import chain, islice, pairwise, repeat
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.arithmetic import Modulus
from secagg.crypto import Keystream

Lanes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Positions: TypeAlias = npt.NDArray[np.int64]

_BLOCK_BYTES: Final = 16
_LEVEL_BLOCKS: Final = 1 << 64  # from the first counter of a level to the next one's

_SLICE_BYTES: Final = 1 << 17
_LIVE_STREAMS: Final = 256  # streams kept open from slice to slice: more are worked off in batches
_SPAN_BYTES_PER_LANE: Final = 1 << 12  # as much keystream takes as long as to seek to a block and read it alone

_JOB_BYTES: Final = 1 << 20  # of the vector: that much of a stream takes twenty times as long as to open it
_JOBS_PER_WORKER: Final = 4

_ZEROS: Final = np.zeros(_SLICE_BYTES, dtype=np.uint8)
_ZEROS.flags.writeable = False


def expand(key: bytes, start: int, stop: int, modulus: Modulus) -> Lanes:
    """Elements start .. stop - 1 of one mask: shape (stop - start,), dtype ``modulus.dtype``, canonical.

    Args:
        key: 16 bytes for AES-128, 32 for AES-256.

    Raises:
        ValueError: the key has another length, or the slice is negative.
    """
    return net_mask((key,), (), start, stop, modulus)


def net_mask(add: Iterable[bytes], subtract: Iterable[bytes], start: int, stop: int, modulus: Modulus) -> Lanes:
    """Elements start .. stop - 1 of the sum of some masks minus the sum of others; else as ``expand``."""
    if not 0 <= start <= stop:
        raise ValueError(f"the slice from {start} to {stop} of a mask: it must begin at 0 or later, and not end before")
    vector = np.zeros(stop - start, dtype=modulus.dtype)
    apply_masks(vector, add, subtract, modulus, start)
    return vector


def apply_masks(
    vector: Lanes, add: Iterable[bytes], subtract: Iterable[bytes], modulus: Modulus, start: int = 0
) -> None:
    """Add masks to a vector and subtract others, in place; afterwards it is canonical.

    Args:
        vector: lanes, shape (m,), contiguous; any for a ring, canonical for a prime.
        add: the keys of the masks to add, 16 or 32 bytes each.
        subtract: the keys of those to subtract.
        start: which element of the masks belongs to ``vector[0]``.

    Raises:
        ValueError: a key has another length, ``start`` is negative, or the vector is of another dtype or shape,
            read-only or not contiguous.  When it is for a key, the vector holds some of the masks.
    """
    arithmetic.check_lanes(vector, modulus)
    if start < 0:
        raise ValueError(f"start = {start}: a mask begins at element 0")
    work = _Workspace(modulus)
    signed_keys = chain(zip(add, repeat(False)), zip(subtract, repeat(True)))
    while batch := [(_open(key), negate) for key, negate in islice(signed_keys, _LIVE_STREAMS)]:
        for low, high in _slices(start, start + len(vector), modulus):
            work.accumulate(vector[low - start : high - start], batch, low)
    if modulus.is_ring:
        arithmetic.reduce(vector, modulus)
    work.wipe()


def remove_masks(
    vector: Lanes,
    add: Sequence[bytes],
    subtract: Sequence[bytes],
    modulus: Modulus,
    executor: Executor | None = None,
) -> None:
    """Do what ``apply_masks`` does, on an executor: for a sum of masked vectors, where there are many masks to undo.

    The vector is split among jobs, and where it is short the keys are.  Beyond the vector it takes memory for as much
    again, or 8 MiB a worker.  A job carries keys and numbers, and returns its part of the net mask, so that any
    executor will do: of threads, of processes, or of other machines, which then see the keys.

    Args:
        vector: as for ``apply_masks``.
        add: the keys of the masks to add.
        subtract: the keys of the masks to subtract.  All keys are of one length.
        executor: none of its threads may be waiting for this call; without one, the work is done in this thread.

    Raises:
        ValueError: as ``apply_masks``, or keys differ in length.
        Exception: whatever the executor or its jobs raise.  Then, with an executor, the vector is as before.
    """
    if executor is None:
        apply_masks(vector, add, subtract, modulus)
        return
    arithmetic.check_lanes(vector, modulus)
    jobs = list(_jobs(len(vector), add, subtract, modulus, _workers(executor)))
    futures = [executor.submit(_net_mask_job, *job) for job in jobs]
    try:
        parts = [future.result() for future in futures]
    finally:
        for future in futures:
            future.cancel()
    for (start, stop, *_), part in zip(jobs, parts, strict=True):
        arithmetic.add(vector[start:stop], part, modulus)
    if modulus.is_ring:
        arithmetic.reduce(vector, modulus)


class _Workspace:
    """What a call needs to run streams over slices: a buffer for the keystream, and the modulus's ways."""

    def __init__(self, modulus: Modulus) -> None:
        self._dtype = modulus.dtype
        self._add = arithmetic.accumulator_of(modulus)
        self._buffer = np.empty(_SLICE_BYTES, dtype=np.uint8)
        # Candidates from here on are rejected; no lane of a ring is.
        self._bound = 0 if modulus.is_ring else (1 << modulus.lane_bits) // modulus.value * modulus.value

    def accumulate(self, part: Lanes, streams: Iterable[tuple[Keystream, bool]], low: int) -> None:
        """Add each stream's elements from ``low`` on to ``part``, or subtract them; both lie within one slice."""
        block, offset = divmod(low * self._dtype.itemsize, _BLOCK_BYTES)
        end = offset + part.nbytes
        keystream = self._buffer[: end + -end % _BLOCK_BYTES]
        zeros = _ZEROS[: len(keystream)]
        candidates = keystream[offset:end].view(self._dtype)
        add, bound = self._add, self._bound
        for stream, negate in streams:
            stream.read_into(keystream, zeros, block)
            largest = add(part, candidates, negate)
            if largest >= bound > 0:
                self._replace_rejected(part, candidates, stream, negate, low)

    def wipe(self) -> None:
        """Forget the last stream."""
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
            stream.read_into(keystream, _ZEROS[:span], counter + first)
            return keystream.view(self._dtype)[elements - first * lanes_per_block]
        keystream = np.empty((len(elements), _BLOCK_BYTES), dtype=np.uint8)
        for row, block in enumerate(blocks.tolist()):
            stream.read_into(keystream[row], _ZEROS[:_BLOCK_BYTES], counter + block)
        return keystream.view(self._dtype)[np.arange(len(elements)), elements % lanes_per_block]


def _open(key: bytes) -> Keystream:
    if len(key) not in (16, 32):
        raise ValueError(f"a mask key of {len(key)} bytes: it must have 16 or 32")
    return Keystream(key)


def _slices(start: int, stop: int, modulus: Modulus) -> Iterator[tuple[int, int]]:
    """Split start .. stop at the multiples of a slice, so that only the first one can begin within a block."""
    step = _SLICE_BYTES // modulus.dtype.itemsize
    while start < stop:
        end = min(stop, start - start % step + step)
        yield start, end
        start = end


def _workers(executor: Executor) -> int:
    """How many jobs an executor runs at once.  The interface does not tell; the standard library's two do."""
    workers = getattr(executor, "_max_workers", None)
    return workers if isinstance(workers, int) and workers > 0 else os.cpu_count() or 1


def _jobs(
    length: int, add: Sequence[bytes], subtract: Sequence[bytes], modulus: Modulus, workers: int
) -> Iterator[tuple[int, int, bytes, bytes, int, int]]:
    """The arguments of ``_net_mask_job`` for each job: some of the vector and all keys, or some of both."""
    sizes = {len(key) for key in chain(add, subtract)}
    if len(sizes) > 1:
        raise ValueError(f"mask keys of {sorted(sizes)} bytes: all keys of one call must have one length")
    key_bytes = max(sizes, default=16)
    pieces = min(length * modulus.dtype.itemsize // _JOB_BYTES, workers * _JOBS_PER_WORKER)
    if pieces >= workers:
        pieces, groups = pieces - pieces % workers, 1
    else:
        pieces = max(pieces, 1)
        groups = max(1, min(workers * _JOBS_PER_WORKER // pieces, len(add) + len(subtract)))
    bounds = [length * piece // pieces for piece in range(pieces + 1)]
    for group in range(groups):
        added, subtracted = _joined(add, group, groups), _joined(subtract, group, groups)
        for low, high in pairwise(bounds):
            yield low, high, added, subtracted, key_bytes, modulus.value


def _joined(keys: Sequence[bytes], group: int, groups: int) -> bytes:
    return b"".join(keys[len(keys) * group // groups : len(keys) * (group + 1) // groups])


def _net_mask_job(start: int, stop: int, add: bytes, subtract: bytes, key_bytes: int, modulus: int) -> Lanes:
    """``net_mask`` with arguments that are small to pickle: the keys joined, the modulus as a number."""
    return net_mask(_split(add, key_bytes), _split(subtract, key_bytes), start, stop, Modulus(modulus))


def _split(keys: bytes, size: int) -> Iterator[bytes]:
    return (keys[first : first + size] for first in range(0, len(keys), size))
