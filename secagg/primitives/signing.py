"""Signatures: Ed25519 in every suite, through PyNaCl, which releases the GIL."""

from __future__ import annotations

from typing import Final

import nacl.bindings
import nacl.exceptions

from secagg.primitives.suites import CryptoError

SIGNATURE_BYTES: Final = 64
_PUBLIC_KEY_BYTES: Final = 32
_P = 2**255 - 19


def signing_key_pair(seed: bytes) -> tuple[bytes, bytes]:
    """The Ed25519 (public, secret) key pair of a 32-byte seed (RFC 8032)."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
    return public, secret


def is_signing_key(public: bytes) -> bool:
    """Whether these bytes are a well-formed Ed25519 public key: 32 of them, and a coordinate below 2^255 - 19.

    Verifiers differ on others (R-SIGN-2).  The first comparison settles nearly every key, for a cohort may have many.
    """
    return len(public) == _PUBLIC_KEY_BYTES and (
        public[31] & 0x7F != 0x7F or int.from_bytes(public, "little") & ((1 << 255) - 1) < _P
    )


def sign(secret_key: bytes, message: bytes) -> bytes:
    """A 64-byte Ed25519 signature."""
    return nacl.bindings.crypto_sign(message, secret_key)[:SIGNATURE_BYTES]


def verify(public: bytes, message: bytes, signature: bytes) -> None:
    """Raises CryptoError unless ``signature`` is ``public``'s over ``message``, by the equation of R-SIGN-1."""
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except (nacl.exceptions.CryptoError, ValueError):
        raise CryptoError("the signature does not verify") from None
