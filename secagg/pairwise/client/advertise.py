"""ADVERTISE: a client draws all its secrets, and sends two public keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from secagg.pairwise import messages
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Advertised
from secagg.pairwise.hybrid import KeyPair
from secagg.pairwise.keys import SHARE_SECRET_BYTES
from secagg.primitives.secret import Secret

Randomness: TypeAlias = Callable[[int], bytes]


def advertise(member: Member, randomness: Randomness) -> tuple[Advertised, bytes]:
    """Draw both key pairs and the secret behind the shares; where the threat model signs, sign the public keys."""
    config = member.config
    size = config.suite.private_key_bytes
    drawn = [randomness(size), randomness(size), randomness(SHARE_SECRET_BYTES)]  # R-ADVERTISE-1
    channel_private, masking_private, share_secret = (Secret(part) for part in drawn)
    channel_key = KeyPair(config, member.round.round_id, member.index, drawn[0], "channel").public_key()
    masking_key = KeyPair(config, member.round.round_id, member.index, drawn[1], "masking").public_key()
    signature = b""
    if config.threat_model.signs and member.identity is not None:  # R-ADVERTISE-3
        signed = config.labels.signed_advertisement(
            config.digest, member.round.nonce, member.index, channel_key, masking_key
        )
        signature = member.identity.sign(signed)
    record = Advertised(channel_private, masking_private, share_secret, channel_key, masking_key)
    message = messages.advertise(  # R-ADVERTISE-2
        config.suite, config.version, member.round.round_id, channel_key, masking_key, signature
    )
    return record, messages.encode(message)
