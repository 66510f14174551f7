"""Key agreement: two clients get one secret from their own private keys and each other's public keys.

A hybrid suite's public keys have another half behind X25519's, which belongs to ``kem``; here the first half counts.
One agreement goes through PyNaCl, many with one private key through ``cryptography``, which is faster at that, unless
several threads share the work: ``cryptography`` lets one of them run at a time.
"""

from __future__ import annotations

from typing import Final, assert_never, final

import nacl.bindings
import nacl.exceptions
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from secagg.primitives.suites import Agreement, CryptoError, Suite

PUBLIC_KEY_BYTES: Final = 32
_LOW_ORDER_MET: Final = "the key agreement gave zero: the peer's public key has low order"
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


def x25519_half(public: bytes) -> bytes:
    """What X25519 takes of a public key: all of it, but for a hybrid one's other half."""
    return public[:PUBLIC_KEY_BYTES]


def public_key(suite: Suite, private: bytes) -> bytes:
    """The X25519 public key of 32 private bytes (RFC 7748)."""
    match suite.agreement:
        case Agreement.X25519 | Agreement.HYBRID:
            return nacl.bindings.crypto_scalarmult_base(private)
        case _:
            assert_never(suite.agreement)


def agree(suite: Suite, private: bytes, peer_public: bytes) -> bytes:
    """The shared secret, 32 bytes.  Raises CryptoError when it is all zero (X25519: a point of low order)."""
    match suite.agreement:
        case Agreement.X25519 | Agreement.HYBRID:
            try:
                shared = nacl.bindings.crypto_scalarmult(private, x25519_half(peer_public))
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

    __slots__ = ("_private", "_shared", "_suite")

    def __init__(self, suite: Suite, private: bytes, *, in_threads: bool = False) -> None:
        """``in_threads``: agree through PyNaCl, which lets other threads run meanwhile, and takes a tenth longer."""
        self._suite, self._shared = suite, private if in_threads else b""
        match suite.agreement:
            case Agreement.X25519 | Agreement.HYBRID:
                self._private = X25519PrivateKey.from_private_bytes(private)
            case _:
                assert_never(suite.agreement)

    def public_key(self) -> bytes:
        """The public key, as the function ``public_key`` gives it."""
        return self._private.public_key().public_bytes_raw()

    def agree(self, peer_public: bytes) -> bytes:
        """Agree with another's public key, as the function ``agree`` does."""
        if self._shared:
            return agree(self._suite, self._shared, peer_public)
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(x25519_half(peer_public)))
        except ValueError as refused:
            raise CryptoError(_LOW_ORDER_MET) from refused

    def __repr__(self) -> str:
        return "AgreementKey()"


def has_low_order(suite: Suite, public: bytes) -> bool:
    """Whether every agreement with this public key is zero (X25519: the points of order 1, 2, 4, 8; RFC 7748, 6.1)."""
    match suite.agreement:
        case Agreement.X25519 | Agreement.HYBRID:
            return x25519_half(public) in _LOW_ORDER
        case _:
            assert_never(suite.agreement)
