"""UNMASK: clients return one share for each neighbour; with enough of each secret's, the sum can be computed."""

from __future__ import annotations

import numpy as np

from secagg.events import Misbehaved
from secagg.pairwise.messages import Unmask, UnmaskWithAttachment
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import KINDS, OPENING_BYTES, openings
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import shares_missing
from secagg.pairwise.server.records import Confirmed, Ids, Masked, Unmasked, Unmasking
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
    """Each secret that must be reconstructed has good shares up to the threshold; nobody is asked for more."""
    masked, edges = unmasking.masked, unmasking.advertised.edges
    config = unmasking.advertised.round.config
    answered = attendance.answered(Phase.UNMASK)
    attendance.lose(Phase.UNMASK, set(unmasking.settled.members).difference(answered))
    returned = np.bincount(edges.ids[unmasking.good], minlength=config.clients)
    for owner in masked.owners:
        if returned[owner] < config.threshold:  # R-UNMASK-5
            good = int(returned[owner])
            bad = sum(holder in answered for holder in edges.neighbours(owner).tolist()) - good
            raise shares_missing(attendance, Phase.UNMASK, owner, good, bad, config)
    confirmations = unmasking.settled.signatures if isinstance(unmasking.settled, Confirmed) else {}
    return Unmasked(masked, unmasking.shares, unmasking.good, unmasking.attachments, confirmations), ()
