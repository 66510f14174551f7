"""Sealing: authenticated encryption under keys that seal one plaintext each, so that the nonce is constant."""

from __future__ import annotations

from typing import Final, assert_never

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.primitives.suites import Aead, CryptoError, Suite, check_key

AEAD_TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)  # a sealing key seals one plaintext, ever


def seal(suite: Suite, key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Seal under a key that seals nothing else; the tag is the last 16 bytes.

    Raises CryptoError for a key of another size than the suite's.
    """
    return _aead(suite, key).encrypt(_NONCE, plaintext, associated)


def unseal(suite: Suite, key: bytes, sealed: bytes, associated: bytes) -> bytes:
    """Undo ``seal``.  Raises CryptoError when suite, key, bytes or associated data are not the sealed ones."""
    try:
        return _aead(suite, key).decrypt(_NONCE, sealed, associated)
    except InvalidTag:
        raise CryptoError("the sealed bytes do not open under this key and context") from None


def _aead(suite: Suite, key: bytes) -> AESGCM:
    check_key(suite, key)
    match suite.aead:
        case Aead.AES_GCM:
            return AESGCM(key)
        case _:
            assert_never(suite.aead)
