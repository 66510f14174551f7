"""SHARE: clients deal shares of two secrets to their neighbours; each gets the shares that were dealt to it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from secagg.outcome import MakeMessage
from secagg.pairwise import messages
from secagg.pairwise.messages import Share
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import COMMITMENTS_BYTES, SEALED_SECRET_BYTES, sealed_bytes
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_enough
from secagg.pairwise.server.records import Advertised, Ids, Shared, Sharing, flags


def begin(advertised: Advertised) -> Sharing:
    """There is room for the shares of each pair of neighbours."""
    pairs, suite = len(advertised.edges), advertised.round.config.suite
    secrets = int(advertised.sealing.sum()) if suite.is_hybrid else 0
    return Sharing(
        advertised,
        sealed=np.zeros((pairs, sealed_bytes(suite)), dtype=np.uint8),
        commitments=np.zeros((pairs, COMMITMENTS_BYTES), dtype=np.uint8),
        pair_secrets=np.zeros((secrets, SEALED_SECRET_BYTES), dtype=np.uint8),
    )


def take(sharing: Sharing, sender: int, message: Share) -> None:
    """Sealed shares and commitments go to the dealer's entries."""
    advertised, suite = sharing.advertised, sharing.advertised.round.config.suite
    span = advertised.edges.span(sender)
    count = span.stop - span.start
    secrets = messages.pair_secrets_of(message)
    rows = advertised.sealing_rows[span][advertised.sealing[span]] if suite.is_hybrid else np.empty(0, np.int64)
    for name, blob, size, neighbours in (
        ("sealed shares", message.sealed, sealed_bytes(suite), count),
        ("commitments", message.commitments, COMMITMENTS_BYTES, count),
        ("pair secrets", secrets, SEALED_SECRET_BYTES, len(rows)),
    ):
        rules.shares_sized(name, len(blob), size, neighbours)
    sharing.sealed[span] = np.frombuffer(message.sealed, dtype=np.uint8).reshape(count, -1)
    sharing.commitments[span] = np.frombuffer(message.commitments, dtype=np.uint8).reshape(count, -1)
    sharing.seed_commitments[sender] = message.seed_commitment
    if len(rows):
        sharing.pair_secrets[rows] = np.frombuffer(secrets, dtype=np.uint8).reshape(len(rows), -1)


def close(sharing: Sharing, attendance: Attendance) -> tuple[Shared, Ids]:
    """R-SHARE-9: U2, who shared and stayed, without those whose neighbours in it are fewer than the threshold."""
    config = sharing.advertised.round.config
    able = pruned(attendance.staying(sharing.seed_commitments), sharing.advertised)
    members = groups.going_on(attendance, Phase.SHARE, able, sharing.advertised)
    attendance.lose(Phase.SHARE, set(attendance.recipients).difference(members))
    require_enough(attendance, Phase.SHARE, members, config)
    shared = Shared(
        sharing.advertised,
        members,
        sharing.sealed,
        sharing.commitments,
        sharing.seed_commitments,
        sharing.pair_secrets,
    )
    return shared, members


def pruned(members: Iterable[int], advertised: Advertised) -> Ids:
    """R-SHARE-9: these members without those that have fewer than the threshold of neighbours among them, ascending."""
    config = advertised.round.config
    alive = flags(members, config.clients)
    while True:
        lonely = alive & (advertised.edges.degrees_within(alive) < config.threshold)
        if not lonely.any():
            return tuple(np.flatnonzero(alive).tolist())
        alive &= ~lonely


def messages_of(shared: Shared) -> MakeMessage:
    """R-SHARE-10: the shares addressed to each receiver, gathered from their dealers' entries."""
    advertised, edges, session = shared.advertised, shared.advertised.edges, shared.advertised.session
    suite, version = advertised.round.config.suite, advertised.round.config.version

    def shares_for(index: int) -> bytes:
        neighbours = edges.neighbours(index)
        dealt = shared.flags[neighbours]
        entries = edges.entries_for(index)[dealt]
        secrets = b""
        if suite.is_hybrid:  # R-HYBRID-10
            sealing = entries[advertised.sealing[entries]]
            secrets = shared.pair_secrets[advertised.sealing_rows[sealing]].tobytes()
        shares = messages.shares(
            suite,
            version,
            session,
            messages.encode_ids(neighbours[dealt]),
            shared.sealed[entries].tobytes(),
            shared.commitments[entries].tobytes(),
            pair_secrets=secrets,
        )
        return messages.encode(shares)

    return shares_for
