"""The records of fixed size that messages carry, many of them joined: what each holds, and in how many bytes.

    PublicKeys    a member's two public keys, as the roster shows them
    SharePair     what a dealer seals for one holder: a share of each of its two secrets, and their salts
    Commitments   what a dealer publishes of one pair
    Opening       what a holder reveals of one pair: a share and its salt
    SealedSecret  what a sealer sends one holder in a hybrid suite: the secret of their pair, sealed and committed to

Nobody else takes one of them apart.  Where there are many, the functions on joined records do it for all at once.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from secagg.pairwise.rules import wire as wire_rules
from secagg.pairwise.transcript import DIGEST_BYTES, KEY_SHARE, PAIR_SECRET_BYTES, SEED_SHARE
from secagg.primitives import secret_sharing
from secagg.primitives.aead import AEAD_TAG_BYTES
from secagg.primitives.agreement import PUBLIC_KEY_BYTES
from secagg.primitives.kem import CIPHERTEXT_BYTES, ENCAPSULATION_KEY_BYTES
from secagg.primitives.secret_sharing import SHARE_BYTES
from secagg.primitives.signing import SIGNATURE_BYTES
from secagg.primitives.suites import Suite

__all__ = [
    "COMMITMENTS_BYTES",
    "HYBRID_KEYS_BYTES",
    "HYBRID_KEY_BYTES",
    "KEYS_BYTES",
    "KINDS",
    "OPENING_BYTES",
    "PAIR_BYTES",
    "PAIR_SECRET_BYTES",
    "PUBLIC_KEY_BYTES",
    "SALT_BYTES",
    "SEALED_BYTES",
    "SEALED_SECRET_BYTES",
    "SHARE_BYTES",
    "SIGNATURE_BYTES",
    "Commitments",
    "Opening",
    "PublicKeys",
    "SealedSecret",
    "SharePair",
    "cut",
    "cut_exactly",
    "join_pairs",
    "keys_bytes",
    "opened_bytes",
    "openings",
    "openings_of",
    "public_keys",
    "sealed_bytes",
    "shares_and_salts",
]

SALT_BYTES: Final = 32
KINDS: Final = (KEY_SHARE, SEED_SHARE)
"""The order within a pair."""

KEYS_BYTES: Final = 2 * PUBLIC_KEY_BYTES
OPENING_BYTES: Final = SHARE_BYTES + SALT_BYTES
PAIR_BYTES: Final = 2 * OPENING_BYTES
SEALED_BYTES: Final = PAIR_BYTES + AEAD_TAG_BYTES
COMMITMENTS_BYTES: Final = 2 * DIGEST_BYTES

HYBRID_KEY_BYTES: Final = PUBLIC_KEY_BYTES + ENCAPSULATION_KEY_BYTES
HYBRID_KEYS_BYTES: Final = 2 * HYBRID_KEY_BYTES
_SEALED_PAIR_SECRET_BYTES: Final = PAIR_SECRET_BYTES + AEAD_TAG_BYTES
SEALED_SECRET_BYTES: Final = CIPHERTEXT_BYTES + _SEALED_PAIR_SECRET_BYTES + DIGEST_BYTES

Octets = npt.NDArray[np.uint8]

_PAIR: Final = np.dtype([("shares", "u1", (2, SHARE_BYTES)), ("salts", "u1", (2, SALT_BYTES))])
_OPENING: Final = np.dtype([("share", "u1", SHARE_BYTES), ("salt", "u1", SALT_BYTES)])


class PublicKeys(NamedTuple):
    """A member's two public keys."""

    channel: bytes
    """For the channels over which shares go."""
    masking: bytes
    """For the pairwise masks."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Undo ``to_bytes``; both keys have one length."""
        return cls(data[: len(data) // 2], data[len(data) // 2 :])

    def to_bytes(self) -> bytes:
        """``keys_bytes`` of the suite."""
        return self.channel + self.masking


class Opening(NamedTuple):
    """A share and the salt of its commitment."""

    share: bytes
    salt: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Undo ``to_bytes``."""
        return cls(data[:SHARE_BYTES], data[SHARE_BYTES:])

    def to_bytes(self) -> bytes:
        """OPENING_BYTES."""
        return self.share + self.salt

    def __repr__(self) -> str:
        return "Opening()"


class SharePair(NamedTuple):
    """The two openings that a holder gets of a dealer, by kind; on the wire both shares stand before both salts."""

    key: Opening
    seed: Opening

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Undo ``to_bytes``."""
        (row,) = np.frombuffer(data, _PAIR)
        return cls(*(Opening(row["shares"][kind].tobytes(), row["salts"][kind].tobytes()) for kind in KINDS))

    def to_bytes(self) -> bytes:
        """PAIR_BYTES."""
        return self.key.share + self.seed.share + self.key.salt + self.seed.salt

    def __repr__(self) -> str:
        return "SharePair()"


class Commitments(NamedTuple):
    """The commitments to both shares of a pair, by kind."""

    key: bytes
    seed: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Undo ``to_bytes``."""
        return cls(data[:DIGEST_BYTES], data[DIGEST_BYTES:])

    def to_bytes(self) -> bytes:
        """COMMITMENTS_BYTES."""
        return self.key + self.seed


class SealedSecret(NamedTuple):
    """R-HYBRID-7: a pair secret on its way from its sealer to its holder."""

    ciphertext: bytes
    """Brings the holder the sealing key's ML-KEM half."""
    sealed: bytes
    commitment: bytes

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Undo ``to_bytes``."""
        sealed = CIPHERTEXT_BYTES + _SEALED_PAIR_SECRET_BYTES
        return cls(data[:CIPHERTEXT_BYTES], data[CIPHERTEXT_BYTES:sealed], data[sealed:])

    def to_bytes(self) -> bytes:
        """SEALED_SECRET_BYTES."""
        return self.ciphertext + self.sealed + self.commitment


# What depends on the suite.


def keys_bytes(suite: Suite) -> int:
    """Bytes of a member's two public keys."""
    return 2 * suite.public_key_bytes


def sealed_bytes(suite: Suite) -> int:
    """Bytes of a sealed pair of shares: behind the ciphertext that brings its key, where the suite has one."""
    return suite.ciphertext_bytes + SEALED_BYTES


def opened_bytes(suite: Suite) -> int:
    """R-COMPLAIN-8: bytes of an opened pair of shares, and of the pair secret behind it in a hybrid suite."""
    return PAIR_BYTES + PAIR_SECRET_BYTES * suite.is_hybrid


# Many records, joined.


def cut(data: bytes, size: int) -> list[bytes]:
    """``data`` cut into records of ``size`` bytes."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def cut_exactly(data: bytes, size: int, count: int, what: str) -> list[bytes]:
    """``count`` records of ``size`` bytes.  Raises PeerError(MALFORMED) when ``data`` has another length."""
    wire_rules.records_whole(len(data), size, count, what)
    return cut(data, size)


def public_keys(data: bytes, count: int, what: str, suite: Suite) -> list[PublicKeys]:
    """The keys of ``count`` members.  Raises PeerError(MALFORMED) when ``data`` has another length."""
    return [PublicKeys.from_bytes(both) for both in cut_exactly(data, keys_bytes(suite), count, what)]


def join_pairs(shares: npt.NDArray[np.uint64], salts: bytes) -> bytes:
    """A pair for each of n holders: shares by kind, uint64 of shape (2, n, 5), and 2 n salts, a holder's together."""
    rows = np.empty(shares.shape[1], _PAIR)
    for kind in KINDS:
        encoded = np.frombuffer(secret_sharing.encode_shares(shares[kind]), np.uint8)
        rows["shares"][:, kind] = encoded.reshape(len(rows), SHARE_BYTES)
    rows["salts"] = np.frombuffer(salts, np.uint8).reshape(len(rows), 2, SALT_BYTES)
    return rows.tobytes()


def shares_and_salts(pairs: bytes) -> tuple[Octets, Octets]:
    """Of n pairs the shares, uint8 of shape (n, 2, SHARE_BYTES), and the salts, (n, 2, SALT_BYTES); both by kind."""
    rows = np.frombuffer(pairs, _PAIR)
    return rows["shares"], rows["salts"]


def openings_of(pairs: bytes, kinds: npt.ArrayLike) -> bytes:
    """The opening of one kind of each pair; ``kinds`` has shape (n,)."""
    rows, chosen = np.frombuffer(pairs, _PAIR), np.asarray(kinds, dtype=np.intp)
    opened, each = np.empty(len(rows), _OPENING), np.arange(len(rows))
    opened["share"], opened["salt"] = rows["shares"][each, chosen], rows["salts"][each, chosen]
    return opened.tobytes()


def openings(data: Any) -> tuple[Octets, Octets]:
    """Of n openings the shares, uint8 of shape (n, SHARE_BYTES), and the salts, (n, SALT_BYTES)."""
    rows = np.frombuffer(data, _OPENING)
    return rows["share"], rows["salt"]
