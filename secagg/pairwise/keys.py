"""The key schedule: every key that a round derives, out of which secret, for what.

    ===================================  ==================================================================
    secret                               what is derived of it
    ===================================  ==================================================================
    agreed by two channel keys           ``channel``: seals what one end deals to the other; one key a direction
    agreed by two masking keys           ``pairwise_mask``: the mask between the two
    a self-mask seed                     ``self_mask``, and the public ``seed_commitment``
    a share secret, drawn in ADVERTISE   ``seed``, ``coefficients`` and ``salts``: what a client draws in SHARE
    a hybrid suite's root                ``RootSchedule``: both private keys of a key pair, and the pair secrets key
    a pair secrets key                   ``pair_secret``: what one end of a pair draws for the mask between the two
    agreed for one pair secret           ``pair_secret_seal``: seals it for the other end
    a host's key                         ``suspended_state``: seals one suspended client
    ===================================  ==================================================================

All are HKDF-SHA256.  All but the last have the session for their salt, or the round's id where there is no session yet,
in ``RootSchedule``.  No key makes two streams, or seals two
plaintexts (R-STREAM-3): each has a label of its own, and the clients that it is for are among its fields.  Client,
server, simulation, adversary and test vectors take them from here, so that no two of them can differ.  What each label
and its fields are is in ``transcript``; which secrets these come from, in ``dealing``.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, final

from secagg.pairwise import transcript
from secagg.pairwise.transcript import PAIR_SECRET_BYTES, Labels
from secagg.primitives import agreement, kdf, kem
from secagg.primitives.suites import Suite

SEED_BYTES: Final = 32
"""Of a self-mask seed."""
SHARE_SECRET_BYTES: Final = 32
Purpose: TypeAlias = Literal["channel", "masking"]
"""Which of a client's two key pairs."""
STATE_SUITE: Final = Suite.AES_256
"""A suspended client is sealed by this one, whatever its round's."""


@final
class KeySchedule:
    """The keys of one session."""

    __slots__ = ("_labels", "_number", "_session", "_size")

    def __init__(self, suite: Suite, session: bytes, labels: Labels) -> None:
        """``labels`` are those of the round's version: ``config.labels``."""
        self._number, self._size, self._session, self._labels = int(suite), suite.key_bytes, session, labels

    # Of what two clients agreed on.

    def channel(
        self,
        agreed: bytes,
        sender: int,
        receiver: int,
        sender_key: bytes,
        receiver_key: bytes,
        ciphertext: bytes = b"",
    ) -> bytes:
        """R-SHARE-4: the key that seals ``sender``'s shares for ``receiver``; the public keys are the channel keys.

        R-HYBRID-5: with a ciphertext, ``agreed`` is the secret in it and then what X25519 agreed on.
        """
        info = self._labels.channel_info(self._number, sender, receiver, sender_key, receiver_key, ciphertext)
        return kdf.derive(agreed, self._session, info, self._size)

    def channels(self, agreed: bytes, index: int, other: int, own_key: bytes, other_key: bytes) -> tuple[bytes, bytes]:
        """``channel`` from ``index`` to ``other``, and back."""
        there = self._labels.channel_info(self._number, index, other, own_key, other_key)
        back = self._labels.channel_info(self._number, other, index, other_key, own_key)
        extracted = kdf.extract(agreed, self._session)
        return kdf.expand(extracted, there, self._size), kdf.expand(extracted, back, self._size)

    def pairwise_mask(self, agreed: bytes, one: int, other: int, one_key: bytes, other_key: bytes) -> bytes:
        """R-MASK-3: the key of the mask between two clients, in either order; the public keys are the masking keys.

        R-HYBRID-13: in a hybrid suite ``agreed`` is the pair secret and then what X25519 agreed on.
        """
        ends = (one, other, one_key, other_key) if one < other else (other, one, other_key, one_key)
        return kdf.derive(agreed, self._session, self._labels.pairwise_mask_info(self._number, *ends), self._size)

    def pair_secret(self, pair_secrets_key: bytes, sealer: int, holder: int) -> bytes:
        """R-HYBRID-7: the secret of a pair, 32 bytes, from the sealer's pair secrets key."""
        info = self._labels.pair_secret_info(self._number, sealer, holder)
        return kdf.derive(pair_secrets_key, self._session, info, PAIR_SECRET_BYTES)

    def pair_secret_seal(
        self, agreed: bytes, sealer: int, holder: int, sealer_key: bytes, holder_key: bytes, ciphertext: bytes
    ) -> bytes:
        """R-HYBRID-7: the key that seals a pair secret; the public keys are the masking keys.

        ``agreed`` is the secret in the ciphertext and then what X25519 agreed on.
        """
        info = self._labels.pair_secret_seal_info(self._number, sealer, holder, sealer_key, holder_key, ciphertext)
        return kdf.derive(agreed, self._session, info, self._size)

    # Of a self-mask seed.

    def self_mask(self, seed: bytes, index: int) -> bytes:
        """R-MASK-2: the key of a client's own mask."""
        return kdf.derive(seed, self._session, self._labels.self_mask_info(self._number, index), self._size)

    def seed_commitment(self, seed: bytes, index: int) -> bytes:
        """R-SHARE-6: what a client publishes of its seed, 32 bytes."""
        info = self._labels.seed_commitment_info(self._number, index)
        return kdf.derive(seed, self._session, info, transcript.DIGEST_BYTES)

    # Of a client's share secret (R-SHARE-1).

    def seed(self, share_secret: bytes, index: int) -> bytes:
        """A client's self-mask seed."""
        return self._drawn(share_secret, index, "seed", SEED_BYTES)

    def coefficients(self, share_secret: bytes, index: int) -> bytes:
        """The key of the stream that its polynomials are drawn from."""
        return self._drawn(share_secret, index, "coefficients", self._size)

    def salts(self, share_secret: bytes, index: int) -> bytes:
        """The key of the stream that the salts of its commitments are drawn from."""
        return self._drawn(share_secret, index, "salts", self._size)

    def _drawn(self, share_secret: bytes, index: int, purpose: str, length: int) -> bytes:
        info = self._labels.share_randomness_info(self._number, index, purpose)
        return kdf.derive(share_secret, self._session, info, length)


@final
class RootSchedule:
    """R-HYBRID-2: what a hybrid suite makes of the two roots of one client."""

    __slots__ = ("_index", "_labels", "_number", "_round_id")

    def __init__(self, suite: Suite, round_id: bytes, labels: Labels, index: int) -> None:
        """``labels`` are those of the round's version, ``index`` is the client's."""
        self._number, self._round_id, self._labels, self._index = int(suite), round_id, labels, index

    def x25519_key(self, root: bytes, purpose: Purpose) -> bytes:
        """The X25519 private key of a key pair."""
        info = self._labels.x25519_key_info(self._number, self._index, purpose)
        return kdf.derive(root, self._round_id, info, agreement.PUBLIC_KEY_BYTES)

    def ml_kem_seed(self, root: bytes, purpose: Purpose) -> bytes:
        """The seed of the ML-KEM half of a key pair."""
        info = self._labels.ml_kem_key_info(self._number, self._index, purpose)
        return kdf.derive(root, self._round_id, info, kem.SEED_BYTES)

    def pair_secrets_key(self, masking_root: bytes) -> bytes:
        """The key that the client's pair secrets come from."""
        info = self._labels.pair_secrets_info(self._number, self._index)
        return kdf.derive(masking_root, self._round_id, info, PAIR_SECRET_BYTES)


def suspended_state(key: bytes, token: bytes) -> bytes:
    """The key that seals the one suspended client with this token; of STATE_SUITE."""
    return kdf.derive(key, token, transcript.suspended_state(), STATE_SUITE.key_bytes)
