"""ADVERTISE: clients send two public keys; each member of the roster gets its neighbours' keys."""

from __future__ import annotations

from secagg.errors import ErrorCode, PeerError
from secagg.outcome import MakeMessage
from secagg.pairwise import messages
from secagg.pairwise.messages import Advertise, Invitation, Roster
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import SIGNATURE_BYTES
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_enough
from secagg.pairwise.server.records import Advert, Advertised, Advertising, Ids, Round, flags
from secagg.primitives import agreement


def invitation(round_: Round) -> bytes:
    """Config and nonce, the same for everybody: what opens the phase."""
    config = round_.config
    return messages.encode(Invitation(config.version, round_.round_id, config.to_bytes(), round_.nonce))


def take(advertising: Advertising, sender: int, message: Advertise) -> None:
    """Two usable keys that nobody advertised before; in ``active`` signed by the sender's identity."""
    round_, config = advertising.round, advertising.round.config
    keys = (message.channel_key, message.masking_key)
    if len(message.signature) != (SIGNATURE_BYTES if config.threat_model.signs else 0):
        raise PeerError(ErrorCode.MALFORMED, f"a signature of {len(message.signature)} bytes in {config.threat_model}")
    # What a neighbour would refuse to share with never gets into the roster.
    if any(agreement.has_low_order(config.suite, key) for key in keys):
        raise PeerError(ErrorCode.KEY_UNUSABLE, "a public key of low order")
    if keys[0] == keys[1] or any(key in advertising.advertised_by for key in keys):
        raise PeerError(ErrorCode.KEY_REPEATED, "a public key that was advertised before")
    if config.threat_model.signs:
        signed = config.labels.signed_advertisement(config.digest, round_.nonce, sender, *keys)
        round_.verify(sender, signed, message.signature)
    advertising.advertised_by.update(dict.fromkeys(keys, sender))
    advertising.adverts[sender] = Advert(*keys, message.signature)


def close(advertising: Advertising, attendance: Attendance) -> tuple[Advertised, Ids]:
    """Make the roster, and with it session and graph.

    Who stands in the roster with too few neighbours would refuse it: it is told so instead, and not asked to share.
    """
    config, adverts = advertising.round.config, advertising.adverts
    advertised = Advertised(advertising.round, adverts, tuple(sorted(attendance.staying(adverts))))
    degrees = advertised.edges.degrees_within(flags(advertised.members, config.clients))
    able = tuple(member for member in advertised.members if degrees[member] >= config.threshold)
    attendance.lose(Phase.ADVERTISE, set(range(config.clients)).difference(able))
    require_enough(attendance, Phase.ADVERTISE, able, config, advertised)
    return advertised, able


def messages_of(advertised: Advertised) -> MakeMessage:
    """The rosters: each receiver gets its neighbours' keys, in ``active`` with proofs and signatures."""
    config, adverts, edges = advertised.round.config, advertised.adverts, advertised.edges

    def roster_for(index: int) -> bytes:
        own, neighbours = adverts[index], edges.neighbours(index)
        absent: list[int] = []
        signatures = proof = b""
        if config.threat_model.signs:
            present = neighbours.tolist()
            absent = sorted(set(advertised.graph.neighbours_of(index).tolist()) - set(present))
            signatures = b"".join(adverts[member].signature for member in present)
            proof = advertised.tree.prove([index, *present, *absent])
        roster = Roster(
            config.version,
            advertised.round.round_id,
            advertised.digest,
            own.keys.to_bytes(),
            messages.encode_ids(neighbours),
            advertised.keys[neighbours].tobytes(),
            messages.encode_ids(absent),
            signatures,
            proof,
        )
        return messages.encode(roster)

    return roster_for
