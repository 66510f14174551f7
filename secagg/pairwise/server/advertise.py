"""ADVERTISE: clients send two public keys; each member of the roster gets its neighbours' keys."""

from __future__ import annotations

from secagg.outcome import MakeMessage
from secagg.pairwise import messages, records
from secagg.pairwise.messages import Advertise
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import SIGNATURE_BYTES
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_enough
from secagg.pairwise.server.records import Advert, Advertised, Advertising, Ids, Round


def invitation(round_: Round) -> bytes:
    """Config and nonce, the same for everybody: what opens the phase."""
    config = round_.config
    return messages.encode_invitation(
        config.version, round_.round_id, config.to_bytes(), round_.nonce, round_.certificates
    )


def take(advertising: Advertising, sender: int, message: Advertise) -> None:
    """Two usable keys that nobody advertised before; in ``active`` signed by the sender's identity."""
    round_, config = advertising.round, advertising.round.config
    keys = (message.channel_key, message.masking_key)
    size = SIGNATURE_BYTES if config.threat_model.signs else 0
    rules.signature_sized(len(message.signature), size, config.threat_model)
    rules.advertised_keys_usable(config.suite, keys)
    rules.advertised_keys_new(_compared(keys), advertising.advertised_by)
    if config.threat_model.signs:
        signed = config.labels.signed_advertisement(config.digest, round_.nonce, sender, *keys)
        rules.advertisement_signed(round_.identity_key(sender), signed, message.signature, sender)
    advertising.advertised_by.update(dict.fromkeys(_compared(keys), sender))
    advertising.adverts[sender] = Advert(*keys, message.signature)


def _compared(keys: tuple[bytes, bytes]) -> list[bytes]:
    """What tells two keys apart: each half of a hybrid one by itself (R-HYBRID-3)."""
    halves = [(key[: records.PUBLIC_KEY_BYTES], key[records.PUBLIC_KEY_BYTES :]) for key in keys]
    return [half for both in halves for half in both if half]


def close(advertising: Advertising, attendance: Attendance) -> tuple[Advertised, Ids]:
    """Make the roster, and with it session and graph.

    Who stands in the roster with too few neighbours would refuse it: it is told so instead, and not asked to share
    (R-ADVERTISE-8).
    """
    config, adverts = advertising.round.config, advertising.adverts
    advertised = Advertised(advertising.round, adverts, tuple(sorted(attendance.staying(adverts))))  # R-ADVERTISE-5
    degrees = advertised.edges.degrees_within(advertised.flags)
    able = tuple(member for member in advertised.members if degrees[member] >= config.threshold)
    able = groups.going_on(attendance, Phase.ADVERTISE, able, advertised)
    attendance.lose(Phase.ADVERTISE, set(range(config.clients)).difference(able))
    require_enough(attendance, Phase.ADVERTISE, able, config, advertised)  # R-ADVERTISE-9
    return advertised, able


def messages_of(advertised: Advertised) -> MakeMessage:
    """R-ADVERTISE-7: each receiver gets its neighbours' keys, in ``active`` with proofs and signatures."""
    config, adverts, edges = advertised.round.config, advertised.adverts, advertised.edges

    def roster_for(index: int) -> bytes:
        own, neighbours = adverts[index], edges.neighbours(index)
        absent: list[int] = []
        signatures = proof = b""
        if config.threat_model.signs:
            everybody = advertised.graph.neighbours_of(index)
            absent = everybody[~advertised.flags[everybody]].tolist()
            signatures = advertised.signatures[neighbours].tobytes()
            proof = advertised.tree.prove([index, *everybody.tolist()])
        roster = messages.roster(
            config.suite,
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
