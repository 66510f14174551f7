"""SHARE: clients deal shares of two secrets to their neighbours; each gets the shares that were dealt to it."""

from __future__ import annotations

import numpy as np

from secagg.outcome import MakeMessage
from secagg.pairwise import messages
from secagg.pairwise.messages import Share, Shares
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import COMMITMENTS_BYTES, SEALED_BYTES
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_enough
from secagg.pairwise.server.records import Advertised, Ids, Shared, Sharing, flags


def begin(advertised: Advertised) -> Sharing:
    """There is room for the shares of each pair of neighbours."""
    pairs = len(advertised.edges)
    return Sharing(
        advertised,
        sealed=np.zeros((pairs, SEALED_BYTES), dtype=np.uint8),
        commitments=np.zeros((pairs, COMMITMENTS_BYTES), dtype=np.uint8),
    )


def take(sharing: Sharing, sender: int, message: Share) -> None:
    """Sealed shares and commitments go to the dealer's entries."""
    span = sharing.advertised.edges.span(sender)
    count = span.stop - span.start
    for name, blob, size in (
        ("sealed shares", message.sealed, SEALED_BYTES),
        ("commitments", message.commitments, COMMITMENTS_BYTES),
    ):
        rules.shares_sized(name, len(blob), size, count)
    sharing.sealed[span] = np.frombuffer(message.sealed, dtype=np.uint8).reshape(count, -1)
    sharing.commitments[span] = np.frombuffer(message.commitments, dtype=np.uint8).reshape(count, -1)
    sharing.seed_commitments[sender] = message.seed_commitment


def close(sharing: Sharing, attendance: Attendance) -> tuple[Shared, Ids]:
    """R-SHARE-9: U2, who shared and stayed, without those whose neighbours in it are fewer than the threshold."""
    config, edges = sharing.advertised.round.config, sharing.advertised.edges
    alive = flags(attendance.staying(sharing.seed_commitments), config.clients)
    while True:
        pruned = alive & (edges.degrees_within(alive) < config.threshold)
        if not pruned.any():
            break
        alive &= ~pruned
    members = groups.going_on(attendance, Phase.SHARE, tuple(np.flatnonzero(alive).tolist()), sharing.advertised)
    attendance.lose(Phase.SHARE, set(attendance.recipients).difference(members))
    require_enough(attendance, Phase.SHARE, members, config)
    return Shared(sharing.advertised, members, sharing.sealed, sharing.commitments, sharing.seed_commitments), members


def messages_of(shared: Shared) -> MakeMessage:
    """R-SHARE-10: the shares addressed to each receiver, gathered from their dealers' entries."""
    edges, session = shared.advertised.edges, shared.advertised.session
    version = shared.advertised.round.config.version

    def shares_for(index: int) -> bytes:
        neighbours = edges.neighbours(index)
        dealt = shared.flags[neighbours]
        entries = edges.entries_for(index)[dealt]
        shares = Shares(
            version,
            session,
            messages.encode_ids(neighbours[dealt]),
            shared.sealed[entries].tobytes(),
            shared.commitments[entries].tobytes(),
        )
        return messages.encode(shares)

    return shares_for
