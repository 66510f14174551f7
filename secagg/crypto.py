"""The primitives, thin over ``cryptography`` and PyNaCl; nothing else in the library imports either of them.

Ed25519 goes through PyNaCl, which releases the GIL; X25519 through whichever is faster, PyNaCl for one agreement and
``cryptography`` for many with one private key; HKDF-SHA256, AES-GCM and the AES-CTR keystream through ``cryptography``.
Every key that comes out of here is used once: for one stream, or to seal one plaintext, so the AEAD
nonce is constant.
"""

from __future__ import annotations

from typing import Final, final

import nacl.bindings
import nacl.exceptions
import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
AEAD_TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)  # a sealing key seals one plaintext, ever


class CryptoError(ValueError):
    """A primitive refused its input: a low-order point, a wrong tag, a wrong signature."""


def public_key(private: bytes) -> bytes:
    """The X25519 public key of 32 private bytes (RFC 7748)."""
    return nacl.bindings.crypto_scalarmult_base(private)


def agree(private: bytes, peer_public: bytes) -> bytes:
    """The X25519 shared secret, 32 bytes.  Raises CryptoError when it is all zero (a point of low order)."""
    try:
        shared = nacl.bindings.crypto_scalarmult(private, peer_public)
    except (RuntimeError, nacl.exceptions.CryptoError) as refused:
        raise CryptoError("the key agreement gave zero: the peer's public key has low order") from refused
    if not any(shared):
        raise CryptoError("the key agreement gave zero: the peer's public key has low order")
    return shared


@final
class AgreementKey:
    """A private X25519 key that agrees with many peers: what depends on it alone is computed once."""

    __slots__ = ("_private",)

    def __init__(self, private: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private)

    def public_key(self) -> bytes:
        """As the function ``public_key``."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, peer_public: bytes) -> bytes:
        """As the function ``agree``."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError as refused:
            raise CryptoError("the key agreement gave zero: the peer's public key has low order") from refused

    def __repr__(self) -> str:
        return "AgreementKey()"


def derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869): ``length`` bytes."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AES-GCM under a key that seals nothing else; the tag is the last 16 bytes."""
    return AESGCM(key).encrypt(_NONCE, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Undo ``seal``.  Raises CryptoError when key, bytes or associated data are not the sealed ones."""
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, associated)
    except InvalidTag:
        raise CryptoError("the sealed bytes do not open under this key and context") from None


def signing_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """The Ed25519 (public, secret) key pair of a 32-byte seed (RFC 8032)."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    return public, secret


def is_signing_key(public: bytes) -> bool:
    """Whether these bytes are a well-formed Ed25519 public key: 32 of them, and a coordinate below 2^255 - 19.

    Verifiers differ on others (R-SIGN-2).  The first comparison settles nearly every key, for a cohort may have many.
    """
    return len(public) == PUBLIC_KEY_BYTES and (
        public[31] & 0x7F != 0x7F or int.from_bytes(public, "little") & ((1 << 255) - 1) < _P
    )


def sign(secret_key: bytes, message: bytes) -> bytes:
    """A 64-byte Ed25519 signature."""
    return nacl.bindings.crypto_sign(message, secret_key)[:SIGNATURE_BYTES]


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises CryptoError unless ``signature`` is ``public``'s over ``message``."""
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except (nacl.exceptions.CryptoError, ValueError):
        raise CryptoError("the signature does not verify") from None


def permute_blocks(key: bytes, blocks: bytes) -> bytes:
    """AES of each 16-byte block on its own: a keyed permutation of distinct blocks, not an encryption mode."""
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305
    return encryptor.update(blocks) + encryptor.finalize()


@final
class Keystream:
    """An AES-CTR keystream (AES-128 for a 16-byte key, AES-256 for a 32-byte one) that can be read from any block.

    The counter is the 128-bit big-endian number of the block, starting at zero.
    """

    __slots__ = ("_encryptor", "_next")

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(AES(key), CTR(bytes(16))).encryptor()
        self._next = 0

    def read_into(self, out: npt.NDArray[np.uint8], zeros: npt.NDArray[np.uint8], block: int) -> None:
        """Fill ``out`` with the keystream from counter ``block`` on.

        ``out`` and ``zeros`` are C-contiguous uint8 arrays of equal length; ``zeros`` holds zeros, and is handed in
        so that slices share one.  Releases the GIL.
        """
        if block != self._next:
            self._encryptor.reset_nonce(block.to_bytes(16, "big"))
        self._encryptor.update_into(zeros.data, out.data)
        self._next = block + len(out) // 16 if len(out) % 16 == 0 else -1

    def __repr__(self) -> str:
        return "Keystream()"


def keystream_bytes(key: bytes, length: int) -> bytes:
    """The first ``length`` bytes of a key's keystream."""
    out = np.empty(length, dtype=np.uint8)
    Keystream(key).read_into(out, np.zeros(length, dtype=np.uint8), 0)
    return out.tobytes()


_P = 2**255 - 19
_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_LOW_ORDER: Final = frozenset(u.to_bytes(32, "little") for u in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1))


def has_low_order(public: bytes) -> bool:
    """Whether every X25519 agreement with this public key is zero (the points of order 1, 2, 4 and 8, RFC 7748, 6.1).

    The highest bit of a public key is ignored, as X25519 does.
    """
    return public[:31] + bytes((public[31] & 0x7F,)) in _LOW_ORDER
