"""The primitives, thin over ``cryptography`` and PyNaCl; nothing else in the library imports either of them.

Ed25519 goes through PyNaCl, which releases the GIL; X25519 through whichever is faster, PyNaCl for one agreement and
``cryptography`` for many with one private key; the AEADs and the keystreams through ``cryptography``; HKDF through the
standard library's HMAC, which is as fast, and lets two keys of one secret share the first of HKDF's two steps.
What a suite chooses takes the suite, and refuses a key of another size; signatures, derivations and the graph's
permutation are the same in every suite.  Every key that comes out of here is used once: for one stream, or to seal one
plaintext, so the AEAD nonce is constant.
"""

from __future__ import annotations

import hmac
from typing import Final, assert_never, final

import nacl.bindings
import nacl.exceptions
import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher as LibraryCipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB

from secagg.suite import Aead, Agreement, Cipher, Suite

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
AEAD_TAG_BYTES: Final = 16
_PERMUTATION_KEY_BYTES: Final = 32
_LOW_ORDER_MET: Final = "the key agreement gave zero: the peer's public key has low order"
_NONCE: Final = bytes(12)  # a sealing key seals one plaintext, ever


class CryptoError(ValueError):
    """A primitive refused its input: a low-order point, a key of a wrong size, a wrong tag, a wrong signature."""


def public_key(suite: Suite, private: bytes) -> bytes:
    """The public key of 32 private bytes (X25519: RFC 7748)."""
    match suite.agreement:
        case Agreement.X25519:
            return nacl.bindings.crypto_scalarmult_base(private)
        case _:
            assert_never(suite.agreement)


def agree(suite: Suite, private: bytes, peer_public: bytes) -> bytes:
    """The shared secret, 32 bytes.  Raises CryptoError when it is all zero (X25519: a point of low order)."""
    match suite.agreement:
        case Agreement.X25519:
            try:
                shared = nacl.bindings.crypto_scalarmult(private, peer_public)
            except (RuntimeError, nacl.exceptions.CryptoError) as refused:
                raise CryptoError(_LOW_ORDER_MET) from refused
            if not any(shared):
                raise CryptoError(_LOW_ORDER_MET)
            return shared
        case _:
            assert_never(suite.agreement)


@final
class AgreementKey:
    """A private key that agrees with many peers: what depends on it alone is computed once."""

    __slots__ = ("_private",)

    def __init__(self, suite: Suite, private: bytes) -> None:
        match suite.agreement:
            case Agreement.X25519:
                self._private = X25519PrivateKey.from_private_bytes(private)
            case _:
                assert_never(suite.agreement)

    def public_key(self) -> bytes:
        """As the function ``public_key``."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, peer_public: bytes) -> bytes:
        """As the function ``agree``."""
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(peer_public))
        except ValueError as refused:
            raise CryptoError(_LOW_ORDER_MET) from refused

    def __repr__(self) -> str:
        return "AgreementKey()"


def derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869): ``length`` bytes."""
    return expand(extract(secret, salt), info, length)


def extract(secret: bytes, salt: bytes) -> bytes:
    """The first half of ``derive``: 32 bytes that serve all keys of one secret and salt."""
    return hmac.digest(salt, secret, "sha256")  # an empty salt is padded with zeros, as RFC 5869 has it


def expand(extracted: bytes, info: bytes, length: int) -> bytes:
    """The second half of ``derive``: ``length`` bytes, at most 8,160."""
    block = hmac.digest(extracted, info + b"\x01", "sha256")
    if length <= len(block):
        return block[:length]
    blocks = [block]
    for number in range(2, -(-length // len(block)) + 1):
        blocks.append(hmac.digest(extracted, blocks[-1] + info + bytes((number,)), "sha256"))
    return b"".join(blocks)[:length]


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


def check_key(suite: Suite, key: bytes) -> None:
    """Raises CryptoError unless ``key`` has the size of the suite's mask keys and sealing keys."""
    if len(key) != suite.key_bytes:
        raise CryptoError(f"a key of {len(key)} bytes: {suite.name} has keys of {suite.key_bytes}")


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
    """AES-256 of each 16-byte block on its own: a keyed permutation of distinct blocks, not an encryption mode.

    Raises CryptoError for a key of another size than 32 bytes.
    """
    if len(key) != _PERMUTATION_KEY_BYTES:
        raise CryptoError(f"a key of {len(key)} bytes: the permutation's has {_PERMUTATION_KEY_BYTES}")
    encryptor = LibraryCipher(AES(key), ECB()).encryptor()  # noqa: S305
    return encryptor.update(blocks) + encryptor.finalize()


@final
class Keystream:
    """The keystream of a suite's cipher, which can be read from any block of 16 bytes.

    AES-CTR: the counter is the 128-bit big-endian number of the block, starting at zero.
    """

    __slots__ = ("_encryptor", "_next")

    def __init__(self, suite: Suite, key: bytes) -> None:
        """Raises CryptoError for a key of another size than the suite's."""
        check_key(suite, key)
        match suite.cipher:
            case Cipher.AES_CTR:
                self._encryptor = LibraryCipher(AES(key), CTR(bytes(16))).encryptor()
            case _:
                assert_never(suite.cipher)
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


def keystream_bytes(suite: Suite, key: bytes, length: int) -> bytes:
    """The first ``length`` bytes of a key's keystream."""
    out = np.empty(length, dtype=np.uint8)
    Keystream(suite, key).read_into(out, np.zeros(length, dtype=np.uint8), 0)
    return out.tobytes()


_P = 2**255 - 19
_ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
_LOW_ORDER: Final = frozenset(
    (u | high_bit << 255).to_bytes(32, "little")
    for u in (0, 1, *_ORDER_8, _P - 1, _P, _P + 1)
    for high_bit in (0, 1)  # which X25519 ignores
)


def has_low_order(suite: Suite, public: bytes) -> bool:
    """Whether every agreement with this public key is zero (X25519: the points of order 1, 2, 4, 8; RFC 7748, 6.1)."""
    match suite.agreement:
        case Agreement.X25519:
            return public in _LOW_ORDER
        case _:
            assert_never(suite.agreement)
