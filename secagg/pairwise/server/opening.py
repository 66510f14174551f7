"""COMPUTE: from the shares that came back to the keys of the masks: reconstruct, check, derive (R-UNMASK-6 to 8).

The work is cut into jobs of some owners each, in this thread or on an executor.  A job carries plain data, so that it
can go to another process; it returns keys of mask streams, or the error that a bad dealer's shares come to.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from secagg.errors import PeerError
from secagg.pairwise import records
from secagg.pairwise.config import RoundConfig, decode_config
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.records import SEALED_SECRET_BYTES, SealedSecret
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server.records import Ids, Masked, Unmasked
from secagg.primitives import secret_sharing

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

_OWNERS: Final = 512
"""Of a job in this thread: what a job needs beside the shares is made for so many at a time."""
_FEWEST_OWNERS: Final = 8
"""Of a job on an executor."""
_JOBS_PER_WORKER: Final = 4
"""So that a worker with many lost clients' secrets leaves others to the rest."""


class Survivor(NamedTuple):
    """Whose seed is reconstructed: its self mask is taken off."""

    owner: int
    seed_commitment: bytes


@final
class Lost(NamedTuple):
    """Whose masking key is reconstructed: what it shares with survivors did not cancel.

    Of its surviving neighbours, ascending: their ids, masking keys (joined), and in a hybrid suite whether it is the
    sealer for them, their pairs' sealed secrets (joined), and those secrets that were opened because of a complaint.
    These are why its repr shows the owner alone.
    """

    owner: int
    masking_key: bytes
    neighbours: Ids
    masking_keys: bytes
    seals: tuple[bool, ...] = ()
    sealed_secrets: bytes = b""
    opened_secrets: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Lost {self.owner}>"


@final
class Job(NamedTuple):
    """Some owners' secrets to open.  Its repr shows none of it: executors log what their jobs were given."""

    config: bytes
    round_id: bytes
    session: bytes
    owners: tuple[Survivor | Lost, ...]
    shares: secret_sharing.Part
    in_threads: bool
    """Whether threads of one process share the work: then none may keep the others waiting."""

    def __repr__(self) -> str:
        return f"<Job of {len(self.owners)}>"


@final
class MaskKeys(NamedTuple):
    """The keys of the streams to add to a masked sum, and to subtract from it, each joined."""

    add: bytes
    subtract: bytes

    def __repr__(self) -> str:
        return "MaskKeys()"


def mask_keys(
    unmasked: Unmasked, owners: Ids, executor: Executor | None = None, workers: int | None = None
) -> tuple[list[bytes], list[bytes]]:
    """The keys of the streams to add to, and to subtract from, the sum of the masked inputs of these owners' group.

    Raises PeerError(BAD_DEALER) when what a client dealt reconstructs to something else than it announced; with several
    such clients, the first one of the first job that has one.
    """
    add: list[bytes] = []
    subtract: list[bytes] = []
    size = unmasked.advertised.round.config.suite.key_bytes
    for found in _opened(unmasked, owners, executor, workers):
        if isinstance(found, PeerError):
            raise found
        add += records.cut(found.add, size)
        subtract += records.cut(found.subtract, size)
    return add, subtract


def open_secrets(job: Job) -> MaskKeys | PeerError:
    """What a job comes to.  The error is returned, so that no executor logs it with the job."""
    try:
        return _keys_of(job)
    except PeerError as refused:
        return refused.with_traceback(None)


# The jobs.


def _opened(
    unmasked: Unmasked, owners: Ids, executor: Executor | None, workers: int | None
) -> Iterator[MaskKeys | PeerError]:
    if executor is None:
        yield from map(open_secrets, _jobs(unmasked, owners, _OWNERS, apart=False, in_threads=False))
        return
    from concurrent.futures import ThreadPoolExecutor  # whoever has an executor has imported it

    count = workers or getattr(executor, "_max_workers", None) or os.cpu_count() or 1
    size = max(_FEWEST_OWNERS, -(-len(owners) // (count * _JOBS_PER_WORKER)))
    in_threads = isinstance(executor, ThreadPoolExecutor)
    jobs = _jobs(unmasked, owners, size, apart=not in_threads, in_threads=in_threads and count > 1)
    waiting: deque[Future[MaskKeys | PeerError]] = deque()
    try:
        # Not all at once: each holds its shares once more.
        waiting.extend(executor.submit(open_secrets, job) for job in islice(jobs, 2 * count))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(executor.submit(open_secrets, job) for job in islice(jobs, 1))
    finally:
        for future in waiting:
            future.cancel()


def _jobs(unmasked: Unmasked, owners: Ids, size: int, *, apart: bool, in_threads: bool) -> Iterator[Job]:
    advertised = unmasked.advertised
    config = advertised.round.config
    reconstructor = secret_sharing.Reconstructor(config.threshold, unmasked.shares)
    for owner in owners:
        reconstructor.add(*_shares_of(owner, unmasked))
    common = config.to_bytes(), advertised.round.round_id, advertised.session
    for place, part in enumerate(reconstructor.parts(size, apart=apart)):
        chosen = owners[place * size : (place + 1) * size]
        yield Job(*common, tuple(_owner(owner, unmasked.masked) for owner in chosen), part, in_threads)


def _shares_of(owner: int, unmasked: Unmasked) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.signedinteger[Any]]]:
    """Who returned a good share of the owner's secret (ascending ids), and at which entries."""
    edges = unmasked.advertised.edges
    entries = edges.entries_for(owner)
    good = unmasked.good[entries]
    return edges.neighbours(owner)[good], entries[good]


def _owner(owner: int, masked: Masked) -> Survivor | Lost:
    if masked.flags[owner]:
        return Survivor(owner, masked.seed_commitments[owner])
    advertised, adverts = masked.advertised, masked.advertised.adverts
    everybody = advertised.edges.neighbours(owner)
    surviving = masked.flags[everybody]
    neighbours = tuple(everybody[surviving].tolist())
    lost = Lost(
        owner,
        adverts[owner].masking_key,
        neighbours,
        b"".join(adverts[neighbour].masking_key for neighbour in neighbours),
    )
    if not advertised.round.config.suite.is_hybrid:
        return lost
    span = advertised.edges.span(owner)
    own = np.arange(span.start, span.stop)[surviving]
    seals = advertised.sealing[own]
    rows = np.where(seals, own, advertised.edges.entries_for(owner)[surviving])
    sealed = masked.pair_secrets[advertised.sealing_rows[rows]].tobytes()
    opened = masked.opened_secrets.get(owner, {})
    return lost._replace(
        seals=tuple(seals.tolist()),
        sealed_secrets=sealed,
        opened_secrets=tuple(opened.get(neighbour, b"") for neighbour in neighbours),
    )


# What a job does.


def _keys_of(job: Job) -> MaskKeys:
    config = decode_config(job.config)
    keys = KeySchedule(config.suite, job.session, config.labels)
    add: list[bytes] = []
    subtract: list[bytes] = []
    opened = zip(job.owners, job.shares.secrets(), strict=True)
    for known, secret in [(known, rules.secret_in_range(found, known.owner)) for known, found in opened]:
        if isinstance(known, Survivor):
            commitment = keys.seed_commitment(secret, known.owner)
            rules.seed_committed(commitment, known.seed_commitment, known.owner)
            subtract.append(keys.self_mask(secret, known.owner))
            continue
        for neighbour, key in zip(known.neighbours, _pairwise(config, job, known, secret), strict=True):
            # R-UNMASK-8: the survivor added this mask if its id is the lower one: take it out again.
            (subtract if neighbour < known.owner else add).append(key)
    return MaskKeys(b"".join(add), b"".join(subtract))


def _pairwise(config: RoundConfig, job: Job, lost: Lost, secret: bytes) -> Iterator[bytes]:
    """The keys of a lost client's masks with its surviving neighbours."""
    pair = KeyPair(config, job.round_id, lost.owner, secret, "masking", in_threads=job.in_threads)
    rules.masking_key_advertised(pair.public_key(), lost.masking_key, lost.owner)
    secrets = PairSecrets(config, job.session, lost.owner, pair, lost.masking_key)
    theirs = records.cut(lost.masking_keys, config.suite.public_key_bytes)
    if not config.suite.is_hybrid:
        for neighbour, key in zip(lost.neighbours, theirs, strict=True):
            yield secrets.mask_key(neighbour, key, b"")
        return
    sealed = records.cut(lost.sealed_secrets, SEALED_SECRET_BYTES)
    ends = zip(lost.neighbours, theirs, lost.seals, sealed, lost.opened_secrets, strict=True)
    for neighbour, key, seals, record, opened in ends:
        pair_secret = _pair_secret(
            config,
            secrets,
            lost.owner,
            neighbour,
            key,
            seals=seals,
            record=SealedSecret.from_bytes(record),
            opened=opened,
        )
        yield secrets.mask_key(neighbour, key, pair_secret)


def _pair_secret(
    config: RoundConfig,
    secrets: PairSecrets,
    lost: int,
    neighbour: int,
    key: bytes,
    *,
    seals: bool,
    record: SealedSecret,
    opened: bytes,
) -> bytes:
    """R-HYBRID-14: the secret of a lost client's pair with a neighbour, from the lost one's root.

    R-COMPLAIN-14: or the one that the neighbour opened, if it sealed that and had to open it.
    """
    if seals:
        sealer, holder, secret = lost, neighbour, secrets.derived(neighbour)
    elif opened:
        sealer, holder, secret = neighbour, lost, opened
    else:
        sealer, holder = neighbour, lost
        opening_key = secrets.opening_key(sealer, key, record.ciphertext)
        secret = rules.secret_recovered(config.suite, opening_key, record.sealed, secrets.context(sealer), sealer)
    rules.secret_committed(record.commitment, secrets.commitment(sealer, holder, secret), sealer)
    return secret
