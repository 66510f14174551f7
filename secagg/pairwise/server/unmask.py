"""UNMASK: clients return one share for each neighbour; with enough of each secret's, the sum can be computed."""

from __future__ import annotations

import numpy as np

from secagg.errors import ErrorCode, PeerError
from secagg.events import Misbehaved
from secagg.pairwise.messages import Unmask, UnmaskWithAttachment
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import KINDS, OPENING_BYTES, openings
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import shares_missing
from secagg.pairwise.server.records import Confirmed, Ids, Masked, Unmasked, Unmasking
from secagg.pairwise.transcript import DIGEST_BYTES, KEY_SHARE, SEED_SHARE
from secagg.primitives import secret_sharing
from secagg.wording import counted, was


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
    if len(message.openings) != len(dealers) * OPENING_BYTES:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"{len(message.openings)} bytes of shares; {len(dealers) * OPENING_BYTES} are needed, for "
            f"{counted(len(dealers), 'neighbour')}",
        )
    attachment = message.attachment if isinstance(message, UnmaskWithAttachment) else b""
    if len(attachment) != unmasking.advertised.round.config.attachment_bytes:
        raise PeerError(
            ErrorCode.WRONG_LENGTH,
            f"an attachment of {len(attachment)} bytes; this round's have "
            f"{unmasking.advertised.round.config.attachment_bytes}",
        )
    shares, salts = openings(message.openings)
    blob = shares.tobytes()
    good = ~secret_sharing.bad_shares(blob)
    committed = masked.commitments[edges.entries_for(sender)[dealt]].reshape(-1, len(KINDS), DIGEST_BYTES)
    kinds = np.where(masked.flags[dealers], SEED_SHARE, KEY_SHARE)
    labels = unmasking.advertised.round.config.labels
    returned = labels.share_commitments(unmasking.advertised.session, dealers, sender, kinds, salts, shares)
    rebuilt = np.frombuffer(returned, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    good &= (rebuilt == committed[np.arange(len(dealers)), kinds]).all(axis=1)
    entries = np.arange(edges.span(sender).start, edges.span(sender).stop)[dealt]
    unmasking.shares[entries] = np.frombuffer(blob, dtype="<u8").reshape(len(dealers), -1)
    unmasking.good[entries] = good
    unmasking.attachments[sender] = attachment
    if good.all():
        return None
    bad = tuple(dealers[~good].tolist())
    detail = f"{counted(len(bad), 'share')} of {len(dealers)} {was(len(bad))} left out: not what was committed to"
    return Misbehaved(sender, Phase.UNMASK, ErrorCode.BAD_SHARE, detail, bad)


def close(unmasking: Unmasking, attendance: Attendance) -> tuple[Unmasked, Ids]:
    """Each secret that must be reconstructed has good shares up to the threshold; nobody is asked for more."""
    masked, edges = unmasking.masked, unmasking.advertised.edges
    config = unmasking.advertised.round.config
    answered = attendance.answered(Phase.UNMASK)
    attendance.lose(Phase.UNMASK, set(unmasking.settled.members).difference(answered))
    returned = np.bincount(edges.ids[unmasking.good], minlength=config.clients)
    for owner in masked.owners:
        if returned[owner] < config.threshold:
            good = int(returned[owner])
            bad = sum(holder in answered for holder in edges.neighbours(owner).tolist()) - good
            raise shares_missing(attendance, Phase.UNMASK, owner, good, bad, config)
    return Unmasked(masked, unmasking.shares, unmasking.good, unmasking.attachments), ()
