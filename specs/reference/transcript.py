"""What is hashed, signed, derived and committed to: the only place where a label stands, but for the arguments."""

import hashlib
from collections.abc import Sequence
from functools import partial

PREFIX = "secagg/v1 "
KEY_SHARE, SEED_SHARE = 0, 1


def u32(value: int) -> bytes:
    """Four bytes, little-endian, as every number outside of MessagePack's headers and AES blocks."""
    return value.to_bytes(4, "little")


def fields(label: str, *parts: bytes | int) -> bytes:
    """FIELDS: the label and the parts, each behind its length; an int stands for its four bytes."""
    encoded = [(PREFIX + label).encode(), *(u32(part) if isinstance(part, int) else part for part in parts)]
    return b"".join(u32(len(part)) + part for part in encoded)


def digest(label: str, *parts: bytes | int) -> bytes:
    """HASH: SHA-256 of FIELDS."""
    return hashlib.sha256(fields(label, *parts)).digest()


config_digest = partial(digest, "config")  # the config's bytes
round_id = partial(digest, "round")  # config digest, nonce
session_id = partial(digest, "session")  # config digest, nonce, roster digest
join_token = partial(digest, "join token")  # round id, index
leaf = partial(digest, "roster leaf")  # index, channel key, masking key
empty_leaf = partial(digest, "roster empty leaf")  # index
node = partial(digest, "roster node")  # left child, right child
roster_digest = partial(digest, "roster")  # round id, n, root
graph_key = partial(digest, "graph")  # roster digest, session
signed_advertisement = partial(fields, "advertise")  # config digest, nonce, index, channel key, masking key
signed_survivors = partial(fields, "survivors")  # session, bitmap
channel_info = partial(fields, "channel")  # suite, sender, receiver, sender's key, receiver's key
pairwise_mask_info = partial(fields, "pairwise mask")  # suite, lower id, higher id, lower's key, higher's key
self_mask_info = partial(fields, "self mask")  # suite, index
seed_commitment_info = partial(fields, "seed commitment")  # suite, index
share_randomness_info = partial(fields, "share randomness")  # suite, index, purpose
sealed_shares_context = partial(fields, "sealed shares")  # session, sender, receiver, the phase's name


def cohort_digest(identity_keys: Sequence[bytes]) -> bytes:
    """Of the Ed25519 identity keys, by index."""
    return digest("cohort", len(identity_keys), b"".join(identity_keys))


def share_commitment(session: bytes, dealer: int, holder: int, kind: int, salt: bytes, share: bytes) -> bytes:
    """To one share.  Only the label stands behind its length: everything else has one length ever."""
    parts = fields("share commitment"), session, u32(dealer), u32(holder), bytes([kind]), salt, share
    return hashlib.sha256(b"".join(parts)).digest()
