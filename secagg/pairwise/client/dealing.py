"""What a client deals in SHARE, unseals in MASK and reveals in UNMASK: its side of the secret sharing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from secagg.arithmetic.modulus import MERSENNE_61, Modulus
from secagg.pairwise import hybrid, records
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.records import KINDS, PublicKeys
from secagg.pairwise.rules import client as rules
from secagg.pairwise.transcript import KEY_SHARE, SEED_SHARE, Labels
from secagg.primitives import aead, masking, secret_sharing, streams
from secagg.wording import counted

_FIELD: Final = Modulus(MERSENNE_61)


class Dealt(NamedTuple):
    """What dealing gives: the parts of the SHARE message, and what the dealer keeps."""

    seed_commitment: bytes
    sealed: bytes
    commitments: bytes
    seed: bytes
    receive_keys: bytes
    """The keys that open the neighbours' shares, in order; in a hybrid suite what X25519 agreed on with each."""
    pairs: bytes
    """The pairs that were sealed, in order."""

    def __repr__(self) -> str:
        return f"Dealt(to {counted(len(self.commitments) // records.COMMITMENTS_BYTES, 'neighbour')})"


@final
class ShareRandomness:
    """What a client draws in SHARE: from its secret and the session, so that a repeated SHARE is the same bytes."""

    def __init__(self, secret: bytes, session: bytes, config: RoundConfig, index: int) -> None:
        self._secret, self._config, self._index = secret, config, index
        self._keys = KeySchedule(config.suite, session, config.labels)

    def seed(self) -> bytes:
        """The self-mask seed."""
        return self._keys.seed(self._secret, self._index)

    def salts(self, count: int) -> bytes:
        """Independent salts of 32 bytes."""
        key = self._keys.salts(self._secret, self._index)
        return streams.keystream_bytes(self._config.suite, key, count * records.SALT_BYTES)

    def coefficients(self, secrets: int) -> npt.NDArray[np.uint64]:
        """Uniform polynomial coefficients, shape (secrets, 5, t - 1)."""
        key = self._keys.coefficients(self._secret, self._index)
        degree = self._config.threshold - 1
        drawn = masking.expand(self._config.suite, key, 0, secrets * secret_sharing.LIMBS * degree, _FIELD)
        return drawn.astype(np.uint64, copy=False).reshape(secrets, secret_sharing.LIMBS, degree)


def deal(
    config: RoundConfig,
    session: bytes,
    index: int,
    own: PublicKeys,
    channel: KeyPair,
    masking_private: bytes,
    share_secret: bytes,
    neighbours: Mapping[int, PublicKeys],
) -> Dealt:
    """Share the masking key and a new seed among the neighbours (ascending), and seal each one's part for it."""
    suite, labels = config.suite, config.labels
    keys = KeySchedule(suite, session, labels)
    randomness = ShareRandomness(share_secret, session, config, index)
    seed, holders = randomness.seed(), np.fromiter(neighbours, dtype=np.int64)
    pairs = share_pairs(randomness, masking_private, seed, holders, config.threshold)
    # One kind of work after another: a loop over neighbours that does all of it takes a tenth longer.
    agreed = [channel.agree(theirs.channel) for theirs in neighbours.values()]
    channels = _channels(config, keys, index, own, agreed, neighbours)
    sealed = [
        ciphertext + aead.seal(suite, send_key, pair, labels.sealed_shares_context(session, index, neighbour))
        for (send_key, _, ciphertext), pair, neighbour in zip(
            channels, records.cut(pairs, records.PAIR_BYTES), neighbours, strict=True
        )
    ]
    return Dealt(
        keys.seed_commitment(seed, index),
        b"".join(sealed),
        commit(labels, session, index, holders, pairs),
        seed,
        b"".join([receive_key for _, receive_key, _ in channels]),
        pairs,
    )


def _channels(
    config: RoundConfig,
    keys: KeySchedule,
    index: int,
    own: PublicKeys,
    agreed: Sequence[bytes],
    neighbours: Mapping[int, PublicKeys],
) -> list[tuple[bytes, bytes, bytes]]:
    """For each neighbour the key to seal with, the key to open with, and the ciphertext to send.

    In a hybrid suite the key to open with takes a ciphertext that has not come yet: what X25519 agreed on is in its
    place (``receive_keys``).
    """
    ends = list(zip(agreed, neighbours.items(), strict=True))
    if not config.suite.is_hybrid:
        return [
            (*keys.channels(secret, index, neighbour, own.channel, theirs.channel), b"")
            for secret, (neighbour, theirs) in ends
        ]
    made = [hybrid.encapsulate(config, theirs.channel) for theirs in neighbours.values()]  # R-HYBRID-5
    return [
        (keys.channel(fresh + secret, index, neighbour, own.channel, theirs.channel, ciphertext), secret, ciphertext)
        for (secret, (neighbour, theirs)), (fresh, ciphertext) in zip(ends, made, strict=True)
    ]


def receive_keys(
    keys: KeySchedule,
    index: int,
    channel: KeyPair,
    own_key: bytes,
    dealers: Sequence[int],
    channel_keys: Sequence[bytes],
    agreed: Sequence[bytes],
    ciphertexts: Sequence[bytes],
) -> list[bytes]:
    """R-HYBRID-5: the keys that open what dealers sealed, from their channel keys and what X25519 agreed on."""
    return [
        keys.channel(channel.decapsulate(ciphertext) + secret, dealer, index, their_key, own_key, ciphertext)
        for dealer, their_key, secret, ciphertext in zip(dealers, channel_keys, agreed, ciphertexts, strict=True)
    ]


def seal_secrets(secrets: PairSecrets, neighbours: Mapping[int, PublicKeys], sealing: Sequence[bool]) -> list[bytes]:
    """R-HYBRID-7: by neighbour, what it is sent; nothing where this client is not the sealer (``sealing``)."""
    return [
        secrets.seal(secrets.derived(neighbour), neighbour, theirs.masking).to_bytes() if seals else b""
        for (neighbour, theirs), seals in zip(neighbours.items(), sealing, strict=True)
    ]


def open_secrets(
    config: RoundConfig, secrets: PairSecrets, holder: int, sealers: Mapping[int, bytes], boxes: Sequence[bytes]
) -> dict[int, bytes]:
    """R-HYBRID-11, R-HYBRID-12: by sealer, the pair secrets that were sealed for this holder.

    ``sealers`` maps those that sealed one to their masking keys, in the order of ``boxes``.
    """
    cut = [records.SealedSecret.from_bytes(box) for box in boxes]
    opened = {
        sealer: rules.secret_opens(
            config.suite,
            secrets.opening_key(sealer, their_key, record.ciphertext),
            record.sealed,
            secrets.context(sealer),
            sealer,
        )
        for (sealer, their_key), record in zip(sealers.items(), cut, strict=True)
    }
    for (sealer, secret), record in zip(opened.items(), cut, strict=True):
        rules.secret_committed(record.commitment, secrets.commitment(sealer, holder, secret), sealer)
    return opened


def share_pairs(
    randomness: ShareRandomness, masking_private: bytes, seed: bytes, holders: npt.NDArray[np.int64], threshold: int
) -> bytes:
    """Shares of both secrets and their salts: a pair for each of the holders (ascending), joined."""
    shares = secret_sharing.share([masking_private, seed], holders, threshold, randomness.coefficients(len(KINDS)))
    return records.join_pairs(shares, randomness.salts(len(KINDS) * len(holders)))


def pairwise_keys(
    config: RoundConfig,
    secrets: PairSecrets,
    others: Sequence[int],
    publics: Sequence[bytes],
    opened: Mapping[int, bytes],
) -> list[bytes]:
    """The keys of the masks between a client and others, from their public masking keys.

    ``opened`` has the pair secrets that others sealed for this client; those that it sealed itself it derives.
    """
    ends = zip(others, publics, strict=True)
    if not config.suite.is_hybrid:
        return [secrets.mask_key(other, public, b"") for other, public in ends]
    return [
        secrets.mask_key(other, public, opened[other] if other in opened else secrets.derived(other))
        for other, public in ends
    ]


def unseal_pairs(
    config: RoundConfig,
    session: bytes,
    holder: int,
    dealers: Sequence[int],
    receive_keys: Sequence[bytes],
    sealed: Sequence[bytes],
    commitments: Sequence[bytes],
) -> bytes:
    """R-SHARES-3 to R-SHARES-5: unseal what every dealer sealed for this holder: a pair of shares each, joined."""
    suite, labels = config.suite, config.labels
    pairs = b"".join(
        [
            rules.share_opens(suite, key, box, labels.sealed_shares_context(session, dealer, holder), dealer)
            for dealer, key, box in zip(dealers, receive_keys, sealed, strict=True)
        ]
    )
    check_pairs(config, session, holder, dealers, pairs, commitments)
    return pairs


def check_pairs(
    config: RoundConfig,
    session: bytes,
    holder: int,
    dealers: Sequence[int],
    pairs: bytes,
    commitments: Sequence[bytes],
) -> None:
    """R-SHARES-4, R-SHARES-5: what dealers dealt this holder is in the field, and is what they committed to."""
    labels = config.labels
    shares, _ = records.shares_and_salts(pairs)
    malformed: list[bool] = np.any(secret_sharing.bad_shares(shares.tobytes()).reshape(-1, 2), axis=1).tolist()
    expected = records.cut(commit(labels, session, dealers, holder, pairs), records.COMMITMENTS_BYTES)
    for dealer, committed, rebuilt, bad in zip(dealers, commitments, expected, malformed, strict=True):
        rules.share_in_range(not bad, dealer)
        rules.share_committed(committed, rebuilt, dealer)


def reveal(pairs: bytes, dealers: Sequence[int], survivors: frozenset[int]) -> bytes:
    """R-UNMASK-2: of each dealer one share with its salt, the seed's when it survived, the key's when it did not.

    What is asked for follows from the survivors and the dealers alone.
    """
    return records.openings_of(pairs, [SEED_SHARE if dealer in survivors else KEY_SHARE for dealer in dealers])


def commit(labels: Labels, session: bytes, dealers: npt.ArrayLike, holders: npt.ArrayLike, pairs: bytes) -> bytes:
    """The commitments to both shares of each of many pairs; a single dealer or holder is that of all of them."""
    shares, salts = records.shares_and_salts(pairs)
    kinds = np.tile(KINDS, len(shares))
    return labels.share_commitments(
        session,
        _twice(dealers),
        _twice(holders),
        kinds,
        salts.reshape(-1, records.SALT_BYTES),
        shares.reshape(-1, records.SHARE_BYTES),
    )


def _twice(ends: npt.ArrayLike) -> npt.ArrayLike:
    """Ids for both shares of each pair; a single id is for all of them."""
    return ends if np.ndim(ends) == 0 else np.repeat(ends, 2)
