"""What is hashed, signed, derived and committed to: every domain-separation label, and nothing else uses one.

Each input is built from fixed fields, every variable one prefixed by its length, so that no two different field lists
give the same bytes.  Integers are little-endian: 4 bytes for an id or a count.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

VERSION: Final = 1
DIGEST_BYTES: Final = 32

_PREFIX: Final = b"secagg/v1 "
_CONFIG: Final = _PREFIX + b"config"
_COHORT: Final = _PREFIX + b"cohort"
_ROUND: Final = _PREFIX + b"round"
_LEAF: Final = _PREFIX + b"roster leaf"
_EMPTY_LEAF: Final = _PREFIX + b"roster empty leaf"
_NODE: Final = _PREFIX + b"roster node"
_ROSTER: Final = _PREFIX + b"roster"
_SESSION: Final = _PREFIX + b"session"
_GRAPH: Final = _PREFIX + b"graph"
_ADVERTISE: Final = _PREFIX + b"advertise"
_CHANNEL: Final = _PREFIX + b"channel"
_PAIRWISE_MASK: Final = _PREFIX + b"pairwise mask"
_SELF_MASK: Final = _PREFIX + b"self mask"
_SEED_COMMITMENT: Final = _PREFIX + b"seed commitment"
_SHARE_RANDOMNESS: Final = _PREFIX + b"share randomness"
_SHARE_COMMITMENT: Final = _PREFIX + b"share commitment"
_SEALED_SHARES: Final = _PREFIX + b"sealed shares"
_SURVIVORS: Final = _PREFIX + b"survivors"
_JOIN_TOKEN: Final = _PREFIX + b"join token"
_LOGIN: Final = _PREFIX + b"login"
_STATE: Final = _PREFIX + b"suspended client"
_TRANSCRIPT: Final = _PREFIX + b"transcript"

KEY_SHARE: Final = 0
"""The kind of a share of a masking private key."""
SEED_SHARE: Final = 1
"""The kind of a share of a self-mask seed."""


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _fields(label: bytes, *fields: bytes) -> bytes:
    """The label and the fields, each behind its length."""
    return b"".join(part for field in (label, *fields) for part in (_u32(len(field)), field))


def _hash(label: bytes, *fields: bytes) -> bytes:
    return hashlib.sha256(_fields(label, *fields)).digest()


# Identifiers of a round.


def config_digest(config: bytes) -> bytes:
    """The digest of a config's canonical bytes: what a client's host approves, and what every key depends on."""
    return _hash(_CONFIG, config)


def cohort_digest(identity_keys: Sequence[bytes]) -> bytes:
    """The digest of the cohort's Ed25519 identity keys, by index."""
    return _hash(_COHORT, _u32(len(identity_keys)), b"".join(identity_keys))


def round_id(config: bytes, nonce: bytes) -> bytes:
    """What stands for the session before there is one, from the config's digest and the server's nonce."""
    return _hash(_ROUND, config, nonce)


def session_id(config: bytes, nonce: bytes, roster: bytes) -> bytes:
    """The session: the config's digest, the server's nonce and the roster's digest."""
    return _hash(_SESSION, config, nonce, roster)


def graph_key(roster: bytes, session: bytes) -> bytes:
    """The AES-256 key under which the ids are put in ring order."""
    return _hash(_GRAPH, roster, session)


def join_token(round_: bytes, index: int) -> bytes:
    """What a host marks as used when it lets a client join a round."""
    return _hash(_JOIN_TOKEN, round_, _u32(index))


def transcript_digest(session: bytes, parts: Iterable[bytes]) -> bytes:
    """What the server saw and decided, without the masked vectors."""
    return _hash(_TRANSCRIPT, session, *parts)


# The roster's Merkle tree: exactly n leaves, leaf j for member j.


def leaf(index: int, channel_key: bytes, masking_key: bytes) -> bytes:
    """The leaf of a member that advertised these two keys."""
    return _hash(_LEAF, _u32(index), channel_key, masking_key)


def empty_leaf(index: int) -> bytes:
    """The leaf of a member that did not advertise."""
    return _hash(_EMPTY_LEAF, _u32(index))


def node(left: bytes, right: bytes) -> bytes:
    """An inner node."""
    return _hash(_NODE, left, right)


def roster_digest(round_: bytes, clients: int, root: bytes) -> bytes:
    """The roster: its tree's root, tied to the round and to the number of leaves."""
    return _hash(_ROSTER, round_, _u32(clients), root)


# What identities sign.


def signed_advertisement(config: bytes, nonce: bytes, index: int, channel_key: bytes, masking_key: bytes) -> bytes:
    """The bytes that an identity signs over its two keys."""
    return _fields(_ADVERTISE, config, nonce, _u32(index), channel_key, masking_key)


def signed_survivors(session: bytes, survivors: bytes) -> bytes:
    """The bytes that an identity signs, once, over the survivors' bitmap."""
    return _fields(_SURVIVORS, session, survivors)


def signed_login(challenge: bytes, round_name: str, certificate: bytes) -> bytes:
    """The bytes that an identity signs to prove itself to a network service.

    ``certificate`` is the SHA-256 of the certificate that the client saw: a login that somebody in the middle passes on
    is one for another certificate.
    """
    return _fields(_LOGIN, challenge, round_name.encode(), certificate)


# The `info` of key derivations; the salt is always the session.


def channel_info(suite: int, sender: int, receiver: int, sender_key: bytes, receiver_key: bytes) -> bytes:
    """For the key that seals ``sender``'s shares for ``receiver``: one direction, one plaintext."""
    return _between(_CHANNEL_HEAD, suite, sender, receiver, sender_key, receiver_key)


def pairwise_mask_info(suite: int, lower: int, higher: int, lower_key: bytes, higher_key: bytes) -> bytes:
    """For the mask between two clients: the lower id adds it, the higher subtracts it."""
    return _between(_PAIRWISE_MASK_HEAD, suite, lower, higher, lower_key, higher_key)


def _between(head: bytes, suite: int, one: int, other: int, one_key: bytes, other_key: bytes) -> bytes:
    """``_fields`` for two ids and their 32-byte keys, packed at once: it runs three times a pair of neighbours."""
    return head + _pack_between(4, suite, 4, one, 4, other, 32, one_key, 32, other_key)


def self_mask_info(suite: int, index: int) -> bytes:
    """For a client's own mask, from its seed."""
    return _fields(_SELF_MASK, _u32(suite), _u32(index))


def seed_commitment_info(suite: int, index: int) -> bytes:
    """For the public commitment to a seed: the same derivation as the mask's, under another label."""
    return _fields(_SEED_COMMITMENT, _u32(suite), _u32(index))


def share_randomness_info(suite: int, index: int, purpose: str) -> bytes:
    """For what a client draws in SHARE, from its secret drawn in ADVERTISE: a repeated SHARE is the same bytes."""
    return _fields(_SHARE_RANDOMNESS, _u32(suite), _u32(index), purpose.encode())


def suspended_state() -> bytes:
    """The associated data under which a client's suspended state is sealed."""
    return _fields(_STATE)


# Shares.


def sealed_shares_context(session: bytes, sender: int, receiver: int) -> bytes:
    """The associated data of one sealed pair of shares: session, sender, receiver, phase."""
    return _SEALED_HEAD + session + _pack_ids(4, sender, 4, receiver) + _SHARE_PHASE


def share_commitment(session: bytes, dealer: int, holder: int, kind: int, salt: bytes, share: bytes) -> bytes:
    """The commitment to one share; ``kind`` is KEY_SHARE or SEED_SHARE, the salt 32 bytes of its own."""
    kinds = (b"\x00", b"\x01")  # every field has a fixed length
    return hashlib.sha256(
        _COMMITMENT_HEAD + session + _u32(dealer) + _u32(holder) + kinds[kind] + salt + share
    ).digest()


def share_commitments(
    session: bytes,
    dealers: npt.ArrayLike,
    holders: npt.ArrayLike,
    kinds: npt.ArrayLike,
    salts: npt.NDArray[np.uint8],
    shares: npt.NDArray[np.uint8],
) -> bytes:
    """``share_commitment`` of many: dealers, holders and kinds of shape (r,) or single, salts (r, 32), shares (r, 40).

    Returns 32 bytes each, joined.  It runs twice a pair of neighbours on every side.
    """
    head = np.frombuffer(_COMMITMENT_HEAD + session, dtype=np.uint8)
    fields = np.dtype(
        [
            ("head", "u1", len(head)),
            ("dealer", "<u4"),
            ("holder", "<u4"),
            ("kind", "u1"),
            ("salt", "u1", salts.shape[1]),
            ("share", "u1", shares.shape[1]),
        ]
    )
    rows = np.empty(len(shares), dtype=fields)
    rows["head"], rows["dealer"], rows["holder"], rows["kind"] = head, dealers, holders, kinds
    rows["salt"], rows["share"] = salts, shares
    preimages, size, sha256 = rows.tobytes(), fields.itemsize, hashlib.sha256
    return b"".join([sha256(preimages[start : start + size]).digest() for start in range(0, len(preimages), size)])


# Beginnings and lengths of what is built once a pair of neighbours: the same bytes as `_fields` would give.
_pack_between: Final = struct.Struct("<IIIIIII32sI32s").pack
_pack_ids: Final = struct.Struct("<IIII").pack
_CHANNEL_HEAD: Final = _fields(_CHANNEL)
_PAIRWISE_MASK_HEAD: Final = _fields(_PAIRWISE_MASK)
_COMMITMENT_HEAD: Final = _fields(_SHARE_COMMITMENT)
_SEALED_HEAD: Final = _fields(_SEALED_SHARES) + _u32(DIGEST_BYTES)
_SHARE_PHASE: Final = _u32(5) + b"SHARE"
