"""What a hybrid suite adds to a key pair and to a pair of clients: ML-KEM's half, and the secrets of pairs.

A key pair is made of 32 drawn bytes in every suite: they are the X25519 private key, or the root of both private keys.
``KeyPair`` is either, so that whoever needs a public key or an agreement does not ask which suite it is.

ML-KEM is no agreement of two static keys: somebody sends a ciphertext.  For the mask between two clients, one of them,
the sealer, derives a pair secret from its masking root, seals it for the other, and commits to it.  The root of either
end alone gives it back: that is what the server reconstructs when one of them is lost (``PairSecrets``).
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple, final

from secagg.pairwise.config import RoundConfig
from secagg.pairwise.keys import KeySchedule, Purpose, RootSchedule
from secagg.pairwise.records import SealedSecret
from secagg.primitives import aead, agreement, kem


class Encapsulated(NamedTuple):
    """A secret and the ciphertext that brings it to the owner of a public key; both empty where there is no KEM."""

    secret: bytes
    ciphertext: bytes

    def __repr__(self) -> str:
        return "Encapsulated()"


def encapsulate(config: RoundConfig, public_key: bytes) -> Encapsulated:
    """A fresh secret for the owner of a public key.  Raises CryptoError for a key that fails ML-KEM's check."""
    if not config.suite.is_hybrid:
        return Encapsulated(b"", b"")
    return Encapsulated(*kem.encapsulate(public_key[agreement.PUBLIC_KEY_BYTES :]))


def complaint_digest(config: RoundConfig, sealed: bytes, commitments: bytes, pair_secret: bytes) -> bytes:
    """R-COMPLAIN-4: the digest of what a dealer sends one holder.

    ``pair_secret`` is a part of it in a hybrid suite alone, and empty there of a dealer that is not the sealer.
    """
    behind = (pair_secret,) if config.suite.is_hybrid else ()
    return config.labels.complaint_digest(sealed, commitments, *behind)


@final
class KeyPair:
    """One of a client's two key pairs, from the bytes that were drawn for it."""

    def __init__(
        self,
        config: RoundConfig,
        round_id: bytes,
        index: int,
        drawn: bytes,
        purpose: Purpose,
        *,
        in_threads: bool = False,
    ) -> None:
        """``index`` is the client's; ``drawn`` has the suite's ``private_key_bytes``.

        ``in_threads`` is for several threads that share the work, as for ``AgreementKey``.
        """
        self._suite, self._drawn, self._purpose, self._in_threads = config.suite, drawn, purpose, in_threads
        self._roots = RootSchedule(config.suite, round_id, config.labels, index)

    @cached_property
    def _x25519(self) -> agreement.AgreementKey:
        private = self._roots.x25519_key(self._drawn, self._purpose) if self._suite.is_hybrid else self._drawn
        return agreement.AgreementKey(self._suite, private, in_threads=self._in_threads)

    @cached_property
    def _ml_kem(self) -> kem.DecapsulationKey:
        return kem.DecapsulationKey(self._roots.ml_kem_seed(self._drawn, self._purpose))

    @cached_property
    def pair_secrets_key(self) -> bytes:
        """Of a hybrid suite's masking key pair: what this client's pair secrets come from."""
        return self._roots.pair_secrets_key(self._drawn)

    def public_key(self) -> bytes:
        """The public half, of the suite's ``public_key_bytes``."""
        x25519 = self._x25519.public_key()
        return x25519 + self._ml_kem.encapsulation_key() if self._suite.is_hybrid else x25519

    def agree(self, public_key: bytes) -> bytes:
        """What X25519 agrees on with the owner of another public key, 32 bytes.  Raises CryptoError for low order."""
        return self._x25519.agree(public_key)

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext for this key pair, 32 bytes; nothing where there is no KEM."""
        return self._ml_kem.decapsulate(ciphertext) if self._suite.is_hybrid else b""

    def __repr__(self) -> str:
        return "KeyPair()"


@final
class PairSecrets:
    """The pair secrets of one client in one session, as whoever has its masking key pair gets at them."""

    def __init__(self, config: RoundConfig, session: bytes, index: int, pair: KeyPair, own_key: bytes) -> None:
        """``own_key`` is the public half of the masking key ``pair``."""
        self._config, self._session, self._index = config, session, index
        self._pair, self._own_key = pair, own_key
        self._agreed: dict[bytes, bytes] = {}
        self._keys = KeySchedule(config.suite, session, config.labels)

    def derived(self, holder: int) -> bytes:
        """R-HYBRID-7: the secret of the pair with a client that this one is the sealer for."""
        return self._keys.pair_secret(self._pair.pair_secrets_key, self._index, holder)

    def seal(self, secret: bytes, holder: int, holder_key: bytes) -> SealedSecret:
        """R-HYBRID-7: a pair secret sealed for its holder, with the commitment to it."""
        shared, ciphertext = encapsulate(self._config, holder_key)
        agreed = shared + self._agree(holder_key)
        key = self._keys.pair_secret_seal(agreed, self._index, holder, self._own_key, holder_key, ciphertext)
        context = self._config.labels.sealed_pair_secret_context(self._session, self._index, holder)
        box = aead.seal(self._config.suite, key, secret, context)
        return SealedSecret(ciphertext, box, self.commitment(self._index, holder, secret))

    def opening_key(self, sealer: int, sealer_key: bytes, ciphertext: bytes) -> bytes:
        """The key under which a sealer sealed a pair secret for this client."""
        agreed = self._pair.decapsulate(ciphertext) + self._agree(sealer_key)
        return self._keys.pair_secret_seal(agreed, sealer, self._index, sealer_key, self._own_key, ciphertext)

    def context(self, sealer: int) -> bytes:
        """The associated data of what a sealer sealed for this client."""
        return self._config.labels.sealed_pair_secret_context(self._session, sealer, self._index)

    def commitment(self, sealer: int, holder: int, secret: bytes) -> bytes:
        """The commitment to a pair secret."""
        return self._config.labels.pair_secret_commitment(self._session, sealer, holder, secret)

    def mask_key(self, other: int, other_key: bytes, secret: bytes) -> bytes:
        """R-HYBRID-13: the key of the mask with another client; ``secret`` is empty where there are no pair secrets."""
        agreed = secret + self._agree(other_key)
        return self._keys.pairwise_mask(agreed, self._index, other, self._own_key, other_key)

    def _agree(self, public_key: bytes) -> bytes:
        """Once with each: the seal of a pair secret and the mask both take it."""
        if (agreed := self._agreed.get(public_key)) is None:
            agreed = self._agreed[public_key] = self._pair.agree(public_key)
        return agreed

    def __repr__(self) -> str:
        return "PairSecrets()"
