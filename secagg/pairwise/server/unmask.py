"""UNMASK: clients return one share for each neighbour; with enough of each secret's, the sum can be computed."""

from __future__ import annotations

import numpy as np

from secagg.events import Misbehaved
from secagg.pairwise.messages import Unmask, UnmaskWithAttachment
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import KINDS, OPENING_BYTES, openings
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import RoundOverError, shares_missing
from secagg.pairwise.server.records import Confirmed, Flags, Ids, Masked, Unmasked, Unmasking
from secagg.pairwise.transcript import DIGEST_BYTES, KEY_SHARE, SEED_SHARE
from secagg.primitives import secret_sharing


def begin(settled: Masked | Confirmed) -> Unmasking:
    """There is room for the share that each holder returns for each of its neighbours."""
    masked = settled if isinstance(settled, Masked) else settled.masked
    pairs = len(masked.advertised.edges)
    return Unmasking(
        settled,
        shares=np.zeros((pairs, secret_sharing.LIMBS), dtype=np.uint64),
        good=np.zeros(pairs, dtype=np.bool_),
    )


def take(unmasking: Unmasking, sender: int, message: Unmask) -> Misbehaved | None:
    """Shares that match their commitments count; bad ones are left out, and their sender is named."""
    masked, edges = unmasking.masked, unmasking.advertised.edges
    present = edges.neighbours(sender)
    dealt = masked.dealt[present]
    dealers = present[dealt]
    rules.openings_sized(len(message.openings), OPENING_BYTES, len(dealers))
    attachment = message.attachment if isinstance(message, UnmaskWithAttachment) else b""
    rules.attachment_sized(len(attachment), unmasking.advertised.round.config.attachment_bytes)
    shares, salts = openings(message.openings)
    blob = shares.tobytes()
    committed = masked.commitments[edges.entries_for(sender)[dealt]].reshape(-1, len(KINDS), DIGEST_BYTES)
    kinds = np.where(masked.flags[dealers], SEED_SHARE, KEY_SHARE)
    labels = unmasking.advertised.round.config.labels
    returned = labels.share_commitments(unmasking.advertised.session, dealers, sender, kinds, salts, shares)
    rebuilt = np.frombuffer(returned, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    expected = committed[np.arange(len(dealers)), kinds]
    good = rules.openings_committed(~secret_sharing.bad_shares(blob), rebuilt, expected)
    entries = np.arange(edges.span(sender).start, edges.span(sender).stop)[dealt]
    unmasking.shares[entries] = np.frombuffer(blob, dtype="<u8").reshape(len(dealers), -1)
    unmasking.good[entries] = good
    unmasking.attachments[sender] = attachment
    return rules.bad_openings(sender, dealers, good)


def close(unmasking: Unmasking, attendance: Attendance) -> tuple[Unmasked, Ids]:
    """Each secret that must be reconstructed has good shares up to the threshold; nobody is asked for more.

    With groups, one that lacks shares of a secret is left out, and what its members returned is not kept.
    """
    masked, edges = unmasking.masked, unmasking.advertised.edges
    config = unmasking.advertised.round.config
    answered = attendance.answered(Phase.UNMASK)
    lost = set(unmasking.settled.members).difference(answered)
    returned = np.bincount(edges.ids[unmasking.good], minlength=config.clients)
    owners = groups.members_of_others(masked.owners, attendance.failed_groups, unmasking.advertised)
    ended: RoundOverError | None = None
    for owner in owners:
        if returned[owner] >= config.threshold:  # R-UNMASK-5
            continue
        good = int(returned[owner])
        bad = sum(holder in answered for holder in edges.neighbours(owner).tolist()) - good
        attendance.lose(Phase.UNMASK, lost)
        ended = shares_missing(attendance, Phase.UNMASK, owner, good, bad, config)
        if config.groups == 1:
            raise ended
        group = int(unmasking.advertised.group_numbers[owner])
        groups.leave_out(attendance, Phase.UNMASK, group, ended.reason)
    failed = tuple(sorted(attendance.failed_groups))
    opened = groups.members_of_others(unmasking.settled.members, failed, unmasking.advertised)
    attendance.lose(Phase.UNMASK, lost.union(unmasking.settled.members).difference(set(opened) - lost))
    if not opened:
        raise ended or RuntimeError("no group was left when UNMASK was opened")
    confirmations = unmasking.settled.signatures if isinstance(unmasking.settled, Confirmed) else {}
    good_ones, attachments = _kept(unmasking, failed), unmasking.attachments
    return Unmasked(masked, unmasking.shares, good_ones, attachments, confirmations, failed), ()


def _kept(unmasking: Unmasking, failed: Ids) -> Flags:
    """Which returned shares count, those of groups that failed taken out; their values are wiped."""
    if not failed:
        return unmasking.good
    numbers = unmasking.advertised.group_numbers
    out = np.isin(numbers[unmasking.advertised.edges.ids], failed)
    unmasking.shares[out] = 0
    return unmasking.good & ~out
