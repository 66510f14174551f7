"""From the shares that UNMASK returned to the sum: reconstruct, check, derive, expand, subtract."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from secagg import crypto, dealing, masking, secret_sharing, transcript
from secagg.adjacency import Adjacency
from secagg.config import RoundConfig
from secagg.errors import ErrorCode, PeerError
from secagg.server_state import Data

Flags = npt.NDArray[np.bool_]
Lanes = npt.NDArray[np.unsignedinteger[Any]]


def owners(data: Data, edges: Adjacency, survivors: Flags) -> list[int]:
    """Whose secrets UNMASK must open: the survivors' seeds, and the keys of the clients they masked against in vain."""
    near = edges.degrees_within(survivors)
    return [member for member in data.shared if survivors[member] or near[member]]


def shares_of(owner: int, edges: Adjacency, opened: Flags) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Who returned a good share of the owner's secret (ascending ids), and at which entries."""
    entries = edges.toward(owner)
    good = opened[entries]
    return edges.neighbours(owner)[good].astype(np.int64), entries[good].astype(np.intp)


def mask_keys(data: Data, edges: Adjacency, survivors: Flags, config: RoundConfig) -> tuple[list[bytes], list[bytes]]:
    """The keys of the streams to add to, and to subtract from, the sum of the masked inputs.

    Raises PeerError(BAD_DEALER) when what a client dealt reconstructs to something else than it announced.
    """
    add: list[bytes] = []
    subtract: list[bytes] = []
    suite, size, session = int(config.suite), config.suite.key_bytes, data.session
    for owner, secret in _secrets(data, edges, survivors, config):
        if survivors[owner]:
            expected = crypto.derive(secret, session, transcript.seed_commitment_info(suite, owner), 32)
            if expected != data.seed_commitments[owner]:
                raise _bad_dealer(owner, "its self-mask seed is not the one that it committed to")
            subtract.append(crypto.derive(secret, session, transcript.self_mask_info(suite, owner), size))
            continue
        advert = data.adverts[owner]
        private = crypto.AgreementKey(secret)
        if private.public_key() != advert.masking_key:
            raise _bad_dealer(owner, "its masking key is not the private half of the one that it advertised")
        for neighbour in edges.neighbours(owner).tolist():
            if survivors[neighbour]:
                public = data.adverts[neighbour].masking_key
                key = dealing.pairwise_key(config, session, owner, advert.masking_key, private, neighbour, public)
                # The survivor added this mask if its id is the lower one: take it out again.
                (subtract if neighbour < owner else add).append(key)
    return add, subtract


def _secrets(data: Data, edges: Adjacency, survivors: Flags, config: RoundConfig) -> list[tuple[int, bytes]]:
    opened, values = data.opened, data.openings
    if opened is None or values is None:
        raise RuntimeError("unmasking before the shares are in")
    wanted = owners(data, edges, survivors)
    reconstructor = secret_sharing.Reconstructor(config.threshold)
    for owner in wanted:
        holders, entries = shares_of(owner, edges, opened)
        reconstructor.add(holders, values[entries])
    secrets: list[tuple[int, bytes]] = []
    for owner, secret in zip(wanted, reconstructor.secrets(), strict=True):
        if secret is None:
            raise _bad_dealer(owner, "its shares reconstruct to a number out of range")
        secrets.append((owner, secret))
    return secrets


def unmasked(
    accumulator: Lanes,
    add: list[bytes],
    subtract: list[bytes],
    config: RoundConfig,
    executor: Executor | None,
    workers: int | None,
) -> Lanes:
    """The sum without its masks, in a new array: an executor that breaks down leaves the masked sum as it was."""
    total = accumulator.copy()
    masking.remove_masks(total, add, subtract, config.modulus, executor, workers)
    return total


def _bad_dealer(owner: int, what: str) -> PeerError:
    return PeerError(
        ErrorCode.BAD_DEALER,
        f"the round cannot be finished: client {owner} dealt bad shares: {what}",
        phase="UNMASK",
        culprit=(owner,),
    )
