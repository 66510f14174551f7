"""What is hashed, signed, derived and committed to: every domain-separation label, and nothing else uses one.

Each input is built from fixed fields, every variable one prefixed by its length, so that no two different field lists
give the same bytes.  Integers are little-endian: 4 bytes for an id or a count.

Every label names the version of the wire that it belongs to, so that nothing made in one version means anything in
another (R-VERSION-1): ``labels(version)`` has all that is built in a round of that version.  Three things exist outside
of any round, and keep the labels of version 1 in all versions: a cohort's digest, a login, and a suspended client.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final, final

import numpy as np
import numpy.typing as npt

VERSION: Final = 1
"""The version that is spoken unless a config names another."""
EXTENDED_VERSION: Final = 2
"""The version whose configs have extensions; a config has it only when somebody asks for it."""
VERSIONS: Final = (VERSION, EXTENDED_VERSION)
"""Every version of the wire that this library speaks."""
DIGEST_BYTES: Final = 32
PAIR_SECRET_BYTES: Final = 32
"""Of a pair secret, and of the key that a client's pair secrets come from."""

_CONFIG: Final = b"config"
_COHORT: Final = b"cohort"
_ROUND: Final = b"round"
_LEAF: Final = b"roster leaf"
_EMPTY_LEAF: Final = b"roster empty leaf"
_NODE: Final = b"roster node"
_ROSTER: Final = b"roster"
_SESSION: Final = b"session"
_GRAPH: Final = b"graph"
_ENVELOPES: Final = b"envelope polynomials"
_ADVERTISE: Final = b"advertise"
_CHANNEL: Final = b"channel"
_PAIRWISE_MASK: Final = b"pairwise mask"
_SELF_MASK: Final = b"self mask"
_SEED_COMMITMENT: Final = b"seed commitment"
_SHARE_RANDOMNESS: Final = b"share randomness"
_SHARE_COMMITMENT: Final = b"share commitment"
_SEALED_SHARES: Final = b"sealed shares"
_SURVIVORS: Final = b"survivors"
_COMPLAINT: Final = b"complaint"
_COMPLAINT_ANSWER: Final = b"complaint answer"
_COMPLAINT_DIGEST: Final = b"complaint digest"
_JOIN_TOKEN: Final = b"join token"
_LOGIN: Final = b"login"
_STATE: Final = b"suspended client"
_TRANSCRIPT: Final = b"transcript"
_SUM: Final = b"sum"
_CERTIFICATE: Final = b"certificate"
_CHAIN: Final = b"certificate chain"
_SILENCE: Final = b"silence"
_RECEIPT: Final = b"receipt"
_X25519_KEY: Final = b"x25519 key"
_ML_KEM_KEY: Final = b"ml-kem key"
_PAIR_SECRETS: Final = b"pair secrets"
_PAIR_SECRET: Final = b"pair secret"
_PAIR_SECRET_SEAL: Final = b"pair secret seal"
_SEALED_PAIR_SECRET: Final = b"sealed pair secret"
_PAIR_SECRET_COMMITMENT: Final = b"pair secret commitment"

KEY_SHARE: Final = 0
"""The kind of a share of a masking private key."""
SEED_SHARE: Final = 1
"""The kind of a share of a self-mask seed."""

_SHORT_KEY_BYTES: Final = 32
_pack_between: Final = struct.Struct("<IIIIIII32sI32s").pack
_pack_ids: Final = struct.Struct("<IIII").pack


def known_versions() -> str:
    """The versions that this library speaks, for a person."""
    return f"{VERSION} and {EXTENDED_VERSION}"


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _prefix(version: int) -> bytes:
    return f"secagg/v{version} ".encode()


def _fields(label: bytes, *fields: bytes) -> bytes:
    """The label and the fields, each behind its length."""
    return b"".join(part for field in (label, *fields) for part in (_u32(len(field)), field))


def _hash(label: bytes, *fields: bytes) -> bytes:
    return hashlib.sha256(_fields(label, *fields)).digest()


_SHARE_PHASE: Final = _u32(5) + b"SHARE"


# What exists outside of any round.

_OUTSIDE: Final = _prefix(1)


def cohort_digest(identity_keys: Sequence[bytes]) -> bytes:
    """The digest of the cohort's Ed25519 identity keys, by index."""
    return _hash(_OUTSIDE + _COHORT, _u32(len(identity_keys)), b"".join(identity_keys))


def signed_login(challenge: bytes, round_name: str, certificate: bytes) -> bytes:
    """The bytes that an identity signs to prove itself to a network service.

    ``certificate`` is the SHA-256 of the certificate that the client saw: a login that somebody in the middle passes on
    is one for another certificate.
    """
    return _fields(_OUTSIDE + _LOGIN, challenge, round_name.encode(), certificate)


def suspended_state() -> bytes:
    """The associated data under which a client's suspended state is sealed."""
    return _fields(_OUTSIDE + _STATE)


# What is built in a round.


@cache
def labels(version: int) -> Labels:
    """What is hashed, signed and derived in rounds of one of ``VERSIONS``."""
    return Labels(version)


@final
class Labels:
    """What is hashed, signed, derived and committed to in rounds of one version; made by ``labels``."""

    __slots__ = (
        "_channel_head",
        "_commitment_head",
        "_pairwise_mask_head",
        "_prefix",
        "_sealed_head",
    )

    def __init__(self, version: int) -> None:
        self._prefix = _prefix(version)
        # Beginnings of what is built once a pair of neighbours: the same bytes as `_fields` would give.
        self._channel_head = self._fields(_CHANNEL)
        self._pairwise_mask_head = self._fields(_PAIRWISE_MASK)
        self._commitment_head = self._fields(_SHARE_COMMITMENT)
        self._sealed_head = self._fields(_SEALED_SHARES) + _u32(DIGEST_BYTES)

    def _fields(self, name: bytes, *fields: bytes) -> bytes:
        return _fields(self._prefix + name, *fields)

    def _hash(self, name: bytes, *fields: bytes) -> bytes:
        return _hash(self._prefix + name, *fields)

    # Identifiers of a round.

    def config_digest(self, config: bytes) -> bytes:
        """R-CONFIG-1: the digest of a config's canonical bytes: a host approves it, and every key depends on it."""
        return self._hash(_CONFIG, config)

    def round_id(self, config: bytes, nonce: bytes) -> bytes:
        """R-WIRE-6: what stands for the session before there is one, from the config's digest and the nonce."""
        return self._hash(_ROUND, config, nonce)

    def session_id(self, config: bytes, nonce: bytes, roster: bytes) -> bytes:
        """R-WIRE-6: the session: the config's digest, the server's nonce and the roster's digest."""
        return self._hash(_SESSION, config, nonce, roster)

    def graph_key(self, roster: bytes, session: bytes) -> bytes:
        """R-GRAPH-1: the AES-256 key under which the ids are put in ring order."""
        return self._hash(_GRAPH, roster, session)

    def envelope_polynomials(self, session: bytes) -> bytes:
        """R-ENV-4: the key of the stream that the public polynomials are drawn from begins with these bytes."""
        return self._hash(_ENVELOPES, session)

    def join_token(self, round_: bytes, index: int) -> bytes:
        """R-CONFIG-13: what a host marks as used when it lets a client join a round."""
        return self._hash(_JOIN_TOKEN, round_, _u32(index))

    def transcript_digest(self, session: bytes, parts: Iterable[bytes]) -> bytes:
        """What the server saw and decided, without the masked vectors."""
        return self._hash(_TRANSCRIPT, session, *parts)

    # What is certified when the round is over.

    def sum_digest(self, session: bytes, packed: bytes | memoryview) -> bytes:
        """R-CHAIN-2: the digest of a sum, packed at its modulus' bits as a masked input is.

        The sum is hashed before it becomes a field: it may be longer than a field's length can say.
        """
        return self._hash(_SUM, session, hashlib.sha256(packed).digest())

    def signed_certificate(self, unsigned: bytes) -> bytes:
        """R-CHAIN-3: the bytes that a server's identity signs over a certificate without its signature."""
        return self._fields(_CERTIFICATE, unsigned)

    def signed_silence(self, session: bytes) -> bytes:
        """R-CHAIN-12: the bytes that an identity signs to state that it did not answer UNMASK, and never will."""
        return self._fields(_SILENCE, session)

    def signed_receipt(self, session: bytes, number: int, digest: bytes) -> bytes:
        """R-CHAIN-14: the bytes that an identity signs over the digest of a total that it was handed."""
        return self._fields(_RECEIPT, session, _u32(number), digest)

    def certificate_digest(self, certificate: bytes) -> bytes:
        """R-CHAIN-4: what the next certificate of the chain gives as its ``previous``."""
        return self._hash(_CHAIN, certificate)

    # The roster's Merkle tree: exactly n leaves, leaf j for member j.

    def leaf(self, index: int, channel_key: bytes, masking_key: bytes) -> bytes:
        """R-ADVERTISE-6: the leaf of a member that advertised these two keys."""
        return self._hash(_LEAF, _u32(index), channel_key, masking_key)

    def empty_leaf(self, index: int) -> bytes:
        """R-ADVERTISE-6: the leaf of a member that did not advertise."""
        return self._hash(_EMPTY_LEAF, _u32(index))

    def node(self, left: bytes, right: bytes) -> bytes:
        """The hash of an inner node of the roster's tree."""
        return self._hash(_NODE, left, right)

    def roster_digest(self, round_: bytes, clients: int, root: bytes) -> bytes:
        """R-ADVERTISE-6: the roster: its tree's root, tied to the round and to the number of leaves."""
        return self._hash(_ROSTER, round_, _u32(clients), root)

    # What identities sign.

    def signed_advertisement(
        self, config: bytes, nonce: bytes, index: int, channel_key: bytes, masking_key: bytes
    ) -> bytes:
        """R-ADVERTISE-3: the bytes that an identity signs over its two keys."""
        return self._fields(_ADVERTISE, config, nonce, _u32(index), channel_key, masking_key)

    def signed_survivors(self, session: bytes, survivors: bytes) -> bytes:
        """R-CONFIRM-1: the bytes that an identity signs, once, over the survivors' bitmap."""
        return self._fields(_SURVIVORS, session, survivors)

    def complaint_digest(self, sealed: bytes, commitments: bytes, *pair_secret: bytes) -> bytes:
        """R-COMPLAIN-4: the digest of what a dealer sends one holder: the sealed pair and its commitments.

        In a hybrid suite the sealed pair secret is a third part; it is empty of a dealer that is not the sealer.
        """
        return self._hash(_COMPLAINT_DIGEST, sealed, commitments, *pair_secret)

    def signed_complaint(self, session: bytes, holder: int, dealer: int, digest: bytes) -> bytes:
        """R-COMPLAIN-4: the bytes that a holder signs over what came of a dealer and does not open, or match."""
        return self._fields(_COMPLAINT, session, _u32(holder), _u32(dealer), digest)

    def signed_answer(self, session: bytes, dealer: int, holder: int, digest: bytes, pair: bytes) -> bytes:
        """R-COMPLAIN-8: the bytes that a dealer signs over what it opens for a holder."""
        return self._fields(_COMPLAINT_ANSWER, session, _u32(dealer), _u32(holder), digest, pair)

    # The `info` of key derivations; the salt is always the session.

    def channel_info(
        self, suite: int, sender: int, receiver: int, sender_key: bytes, receiver_key: bytes, ciphertext: bytes = b""
    ) -> bytes:
        """For the key that seals ``sender``'s shares for ``receiver``: one direction, one plaintext.

        A hybrid suite's has the ciphertext that brings the key's other half for a sixth field (R-HYBRID-5).
        """
        if ciphertext:
            ends = _u32(suite), _u32(sender), _u32(receiver), sender_key, receiver_key
            return self._fields(_CHANNEL, *ends, ciphertext)
        return self._between(self._channel_head, suite, sender, receiver, sender_key, receiver_key)

    def pairwise_mask_info(self, suite: int, lower: int, higher: int, lower_key: bytes, higher_key: bytes) -> bytes:
        """For the mask between two clients: the lower id adds it, the higher subtracts it."""
        if len(lower_key) > _SHORT_KEY_BYTES:
            return self._fields(_PAIRWISE_MASK, _u32(suite), _u32(lower), _u32(higher), lower_key, higher_key)
        return self._between(self._pairwise_mask_head, suite, lower, higher, lower_key, higher_key)

    def _between(self, head: bytes, suite: int, one: int, other: int, one_key: bytes, other_key: bytes) -> bytes:
        """``_fields`` for two ids and their 32-byte keys, packed at once: it runs three times a pair of neighbours."""
        return head + _pack_between(4, suite, 4, one, 4, other, 32, one_key, 32, other_key)

    def self_mask_info(self, suite: int, index: int) -> bytes:
        """For a client's own mask, from its seed."""
        return self._fields(_SELF_MASK, _u32(suite), _u32(index))

    def seed_commitment_info(self, suite: int, index: int) -> bytes:
        """For the public commitment to a seed: the same derivation as the mask's, under another label."""
        return self._fields(_SEED_COMMITMENT, _u32(suite), _u32(index))

    def share_randomness_info(self, suite: int, index: int, purpose: str) -> bytes:
        """For what a client draws in SHARE, from its secret drawn in ADVERTISE: a repeated SHARE is the same bytes."""
        return self._fields(_SHARE_RANDOMNESS, _u32(suite), _u32(index), purpose.encode())

    # What a hybrid suite makes of a client's roots, and of the secrets of its pairs (R-HYBRID-2, R-HYBRID-7).

    def x25519_key_info(self, suite: int, index: int, purpose: str) -> bytes:
        """For an X25519 private key, from the root of the channel's or the masks' key pair; ``purpose`` says which."""
        return self._fields(_X25519_KEY, _u32(suite), _u32(index), purpose.encode())

    def ml_kem_key_info(self, suite: int, index: int, purpose: str) -> bytes:
        """For the seed of an ML-KEM key pair, from the same root."""
        return self._fields(_ML_KEM_KEY, _u32(suite), _u32(index), purpose.encode())

    def pair_secrets_info(self, suite: int, index: int) -> bytes:
        """For the key that a client's pair secrets come from, from the masking root."""
        return self._fields(_PAIR_SECRETS, _u32(suite), _u32(index))

    def pair_secret_info(self, suite: int, sealer: int, holder: int) -> bytes:
        """For the secret of one pair, from that key."""
        return self._fields(_PAIR_SECRET, _u32(suite), _u32(sealer), _u32(holder))

    def pair_secret_seal_info(
        self, suite: int, sealer: int, holder: int, sealer_key: bytes, holder_key: bytes, ciphertext: bytes
    ) -> bytes:
        """For the key that seals a pair secret; the public keys are the masking keys."""
        ends = _u32(suite), _u32(sealer), _u32(holder), sealer_key, holder_key
        return self._fields(_PAIR_SECRET_SEAL, *ends, ciphertext)

    def sealed_pair_secret_context(self, session: bytes, sealer: int, holder: int) -> bytes:
        """R-HYBRID-7: the associated data of one sealed pair secret."""
        return self._fields(_SEALED_PAIR_SECRET, session, _u32(sealer), _u32(holder), b"SHARE")

    def pair_secret_commitment(self, session: bytes, sealer: int, holder: int, secret: bytes) -> bytes:
        """R-HYBRID-7: the commitment to a pair secret, which is random itself and needs no salt."""
        return self._hash(_PAIR_SECRET_COMMITMENT, session, _u32(sealer), _u32(holder), secret)

    # Shares.

    def sealed_shares_context(self, session: bytes, sender: int, receiver: int) -> bytes:
        """R-SHARE-4: the associated data of one sealed pair of shares: session, sender, receiver, phase."""
        return self._sealed_head + session + _pack_ids(4, sender, 4, receiver) + _SHARE_PHASE

    def share_commitment(self, session: bytes, dealer: int, holder: int, kind: int, salt: bytes, share: bytes) -> bytes:
        """R-SHARE-5: the commitment to one share; ``kind`` is KEY_SHARE or SEED_SHARE, the salt 32 bytes of its own."""
        kinds = (b"\x00", b"\x01")  # every field has a fixed length
        return hashlib.sha256(
            self._commitment_head + session + _u32(dealer) + _u32(holder) + kinds[kind] + salt + share
        ).digest()

    def share_commitments(
        self,
        session: bytes,
        dealers: npt.ArrayLike,
        holders: npt.ArrayLike,
        kinds: npt.ArrayLike,
        salts: npt.NDArray[np.uint8],
        shares: npt.NDArray[np.uint8],
    ) -> bytes:
        """``share_commitment`` of many.

        Dealers, holders and kinds have shape (r,) or are single, salts (r, 32), shares (r, 40).  Returns 32 bytes each,
        joined.  It runs twice a pair of neighbours on every side.
        """
        head = np.frombuffer(self._commitment_head + session, dtype=np.uint8)
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
