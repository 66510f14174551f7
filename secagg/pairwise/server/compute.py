"""COMPUTE: from the shares that came back to the sum: reconstruct, check, derive, expand, subtract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.outcome import GroupSum, Result, Security
from secagg.pairwise import messages
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import SealedSecret
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Ids, Lanes, Masked, Unmasked
from secagg.primitives import masking, secret_sharing

if TYPE_CHECKING:
    from concurrent.futures import Executor


def owners_by_group(unmasked: Unmasked) -> Mapping[int, Ids]:
    """For each group that is opened, whose secrets that takes; without groups one entry."""
    masked, advertised = unmasked.masked, unmasked.advertised
    return groups.by_group(groups.members_of_others(masked.owners, unmasked.failed_groups, advertised), advertised)


def mask_keys(unmasked: Unmasked, owners: Ids) -> tuple[list[bytes], list[bytes]]:
    """The keys of the streams to add to, and to subtract from, the sum of the masked inputs of these owners' group.

    Raises PeerError(BAD_DEALER) when what a client dealt reconstructs to something else than it announced.
    """
    masked, advertised = unmasked.masked, unmasked.advertised
    config, session, adverts = advertised.round.config, advertised.session, advertised.adverts
    add: list[bytes] = []
    subtract: list[bytes] = []
    keys = KeySchedule(config.suite, session, config.labels)
    for owner, secret in _secrets(unmasked, owners):
        if masked.flags[owner]:
            rules.seed_committed(keys.seed_commitment(secret, owner), masked.seed_commitments[owner], owner)
            subtract.append(keys.self_mask(secret, owner))
            continue
        pair = KeyPair(config, advertised.round.round_id, owner, secret, "masking")
        rules.masking_key_advertised(pair.public_key(), adverts[owner].masking_key, owner)
        secrets = PairSecrets(config, session, owner, pair, adverts[owner].masking_key)
        for place, neighbour in enumerate(advertised.edges.neighbours(owner).tolist()):
            if masked.flags[neighbour]:
                pair_secret = _pair_secret(masked, secrets, owner, place) if config.suite.is_hybrid else b""
                key = secrets.mask_key(neighbour, adverts[neighbour].masking_key, pair_secret)
                # R-UNMASK-8: the survivor added this mask if its id is the lower one: take it out again.
                (subtract if neighbour < owner else add).append(key)
    return add, subtract


def _pair_secret(masked: Masked, secrets: PairSecrets, lost: int, place: int) -> bytes:
    """R-HYBRID-14: the secret of a lost client's pair with its neighbour in this place, from the lost one's root."""
    advertised, edges = masked.advertised, masked.advertised.edges
    neighbour, own_entry = int(edges.neighbours(lost)[place]), edges.span(lost).start + place
    if advertised.sealing[own_entry]:
        record = _sealed_secret(masked, own_entry)
        sealer, secret, holder = lost, secrets.derived(neighbour), neighbour
    else:
        record = _sealed_secret(masked, int(edges.entries_for(lost)[place]))
        sealer, holder = neighbour, lost
        key = secrets.opening_key(sealer, advertised.adverts[sealer].masking_key, record.ciphertext)
        suite = advertised.round.config.suite
        secret = rules.secret_recovered(suite, key, record.sealed, secrets.context(sealer), sealer)
    rules.secret_committed(record.commitment, secrets.commitment(sealer, holder, secret), sealer)
    return secret


def _sealed_secret(masked: Masked, entry: int) -> SealedSecret:
    return SealedSecret.from_bytes(masked.pair_secrets[masked.advertised.sealing_rows[entry]].tobytes())


def _secrets(unmasked: Unmasked, owners: Ids) -> list[tuple[int, bytes]]:
    reconstructor = secret_sharing.Reconstructor(unmasked.advertised.round.config.threshold, unmasked.shares)
    for owner in owners:
        reconstructor.add(*_shares_of(owner, unmasked))
    opened = zip(owners, reconstructor.secrets(), strict=True)
    return [(owner, rules.secret_in_range(secret, owner)) for owner, secret in opened]


def _shares_of(owner: int, unmasked: Unmasked) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.signedinteger[Any]]]:
    """Who returned a good share of the owner's secret (ascending ids), and at which entries."""
    edges = unmasked.advertised.edges
    entries = edges.entries_for(owner)
    good = unmasked.good[entries]
    return edges.neighbours(owner)[good], entries[good]


def without_masks(
    total: Lanes,
    add: list[bytes],
    subtract: list[bytes],
    config: RoundConfig,
    executor: Executor | None,
    workers: int | None,
) -> Lanes:
    """The sum without its masks, in a new array: an executor that breaks down leaves the masked sum as it was."""
    result = total.copy()
    masking.remove_masks(config.suite, result, add, subtract, config.modulus, executor, workers)
    return result


def sum_of(sums: Sequence[GroupSum], config: RoundConfig) -> Lanes:
    """The sum over all groups that were opened; of one group it is that group's own array.  All are read-only then."""
    total = sums[0].sum
    if len(sums) > 1:
        total = total.copy()
        for other in sums[1:]:
            arithmetic.add(total, other.sum, config.modulus)
        arithmetic.reduce(total, config.modulus)
    for group in sums:
        group.sum.flags.writeable = False
    total.flags.writeable = False
    return total


def group_sum(unmasked: Unmasked, number: int, total: Lanes) -> GroupSum:
    """What the host is given of one group, with the sum that ``without_masks`` made."""
    return GroupSum(number, groups.by_group(unmasked.masked.members, unmasked.advertised)[number], total)


def result_of(unmasked: Unmasked, attendance: Attendance, sums: Sequence[GroupSum]) -> Result:
    """What the host is given, with the sums of the groups that were opened; there is at least one."""
    session, config = unmasked.advertised.session, unmasked.advertised.round.config
    included = tuple(sorted(member for group in sums for member in group.included))
    bounds = config.bounds
    return Result(
        sum=sum_of(sums, config),
        modulus=config.modulus,
        included=included,
        min_survivors=config.smallest_sum,
        dropped={phase: tuple(members) for phase, members in attendance.dropped.items()},
        blame=tuple(attendance.blame),
        security=Security(
            threat=config.threat_model.value,
            colluders=config.colluders,
            honest_members=min(len(group.included) for group in sums) - config.colluders_in_group,
            sigma=config.sigma,
            privacy_log2=bounds.privacy_log2,
            connectivity_log2=bounds.connectivity_log2,
            correctness_log2=bounds.correctness_log2,
        ),
        session=session,
        attachments=dict(sorted(unmasked.attachments.items())) if config.attachment_bytes else {},
        transcript_digest=config.labels.transcript_digest(session, _transcript(unmasked, attendance, included)),
        groups=tuple(sums),
        failed_groups=dict(sorted(attendance.failed_groups.items())),
    )


def _transcript(unmasked: Unmasked, attendance: Attendance, included: Ids) -> list[bytes]:
    """What the server accepted and decided, without the masked vectors; with groups also whose sums were opened."""
    masked, config = unmasked.masked, unmasked.advertised.round.config
    clients = config.clients
    parts = [
        part
        for phase in Phase
        if phase is not Phase.MASK
        for sender, digest in sorted(attendance.answered(phase).items())
        for part in (phase.encode(), sender.to_bytes(4, "little"), digest)
    ]
    opened = [messages.encode_bitmap(included, clients)] if config.groups > 1 else []
    return [*parts, messages.encode_bitmap(masked.dealers, clients), masked.bitmap, *opened]
