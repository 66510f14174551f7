"""What a client deals in SHARE, opens in MASK and reveals in UNMASK: its side of the secret sharing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from secagg import checks, crypto, masking, messages, secret_sharing, transcript
from secagg.arithmetic.modulus import MERSENNE_61, Modulus
from secagg.config import RoundConfig
from secagg.transcript import KEY_SHARE, SEED_SHARE

_FIELD: Final = Modulus(MERSENNE_61)
_LIMBS: Final = 5
_BOTH_SHARES: Final = 2 * messages.SHARE_BYTES
_BOTH_SALTS: Final = 2 * messages.SALT_BYTES
_PAIR: Final = _BOTH_SHARES + _BOTH_SALTS
"""An opened pair of shares: key share, seed share, the key share's salt, the seed share's."""


class Keys(NamedTuple):
    """Two public keys as they were advertised."""

    channel: bytes
    masking: bytes


class Dealt(NamedTuple):
    """What dealing gives: the parts of the SHARE message, and what the dealer keeps."""

    seed_commitment: bytes
    sealed: bytes
    commitments: bytes
    seed: bytes
    receive_keys: bytes

    def __repr__(self) -> str:
        return f"Dealt(to {len(self.commitments) // messages.COMMITMENTS_BYTES} neighbours)"


@final
class ShareRandomness:
    """What a client draws in SHARE: from its secret and the session, so that a repeated SHARE is the same bytes."""

    def __init__(self, secret: bytes, session: bytes, config: RoundConfig, index: int) -> None:
        self._secret, self._session, self._config, self._index = secret, session, config, index

    def draw(self, purpose: str, length: int) -> bytes:
        """``length`` bytes for one purpose."""
        info = transcript.share_randomness_info(int(self._config.suite), self._index, purpose)
        return crypto.derive(self._secret, self._session, info, length)

    def salts(self, count: int) -> bytes:
        """Independent salts of 32 bytes."""
        key = self.draw("salts", self._config.suite.key_bytes)
        return crypto.keystream_bytes(key, count * messages.SALT_BYTES)

    def coefficients(self, secrets: int) -> npt.NDArray[np.uint64]:
        """Uniform polynomial coefficients, shape (secrets, 5, t - 1)."""
        key = self.draw("coefficients", self._config.suite.key_bytes)
        degree = self._config.threshold - 1
        drawn = masking.expand(key, 0, secrets * _LIMBS * degree, _FIELD)
        return drawn.astype(np.uint64, copy=False).reshape(secrets, _LIMBS, degree)


def deal(
    config: RoundConfig,
    session: bytes,
    index: int,
    own: Keys,
    channel_private: bytes,
    masking_private: bytes,
    share_secret: bytes,
    neighbours: Mapping[int, Keys],
) -> Dealt:
    """Share the masking key and a new seed among the neighbours (ascending), and seal each one's part for it."""
    randomness = ShareRandomness(share_secret, session, config, index)
    seed = randomness.draw("seed", 32)
    shares = secret_sharing.share(
        [masking_private, seed],
        np.fromiter(neighbours, dtype=np.int64),
        config.threshold,
        randomness.coefficients(2),
    )
    key_shares = messages.records_of(secret_sharing.encode_shares(shares[KEY_SHARE]), messages.SHARE_BYTES)
    seed_shares = messages.records_of(secret_sharing.encode_shares(shares[SEED_SHARE]), messages.SHARE_BYTES)
    salts = messages.records_of(randomness.salts(2 * len(neighbours)), _BOTH_SALTS)
    sealed: list[bytes] = []
    pairs: list[bytes] = []
    receive_keys: list[bytes] = []
    private = crypto.AgreementKey(channel_private)
    for (neighbour, keys), key_share, seed_share, salt in zip(
        neighbours.items(), key_shares, seed_shares, salts, strict=True
    ):
        pair = key_share + seed_share + salt
        send_key, receive_key = _channel_keys(config, session, index, own.channel, private, neighbour, keys)
        sealed.append(crypto.seal(send_key, pair, transcript.sealed_shares_context(session, index, neighbour)))
        pairs.append(pair)
        receive_keys.append(receive_key)
    commitment = crypto.derive(seed, session, transcript.seed_commitment_info(int(config.suite), index), 32)
    commitments = _commit(session, index, np.fromiter(neighbours, dtype=np.int64), b"".join(pairs))
    return Dealt(commitment, b"".join(sealed), commitments, seed, b"".join(receive_keys))


def _channel_keys(
    config: RoundConfig,
    session: bytes,
    index: int,
    own: bytes,
    private: crypto.AgreementKey,
    neighbour: int,
    keys: Keys,
) -> tuple[bytes, bytes]:
    """The keys toward a neighbour and from it."""
    suite, size = int(config.suite), config.suite.key_bytes
    shared = private.agree(keys.channel)
    toward = transcript.channel_info(suite, index, neighbour, own, keys.channel)
    back = transcript.channel_info(suite, neighbour, index, keys.channel, own)
    return crypto.derive(shared, session, toward, size), crypto.derive(shared, session, back, size)


def pairwise_key(
    config: RoundConfig, session: bytes, index: int, own: bytes, private: crypto.AgreementKey, other: int, public: bytes
) -> bytes:
    """The key of the mask between two clients, from one's private and the other's public masking key."""
    ends = (index, other, own, public) if index < other else (other, index, public, own)
    info = transcript.pairwise_mask_info(int(config.suite), *ends)
    return crypto.derive(private.agree(public), session, info, config.suite.key_bytes)


def open_pairs(
    session: bytes,
    holder: int,
    dealers: Sequence[int],
    receive_keys: Sequence[bytes],
    sealed: Sequence[bytes],
    commitments: Sequence[bytes],
) -> bytes:
    """Checks 9 and 10: open what every dealer sealed for this holder; one pair of shares a dealer, joined."""
    pairs = [
        checks.share_opens(key, box, transcript.sealed_shares_context(session, dealer, holder), dealer)
        for dealer, key, box in zip(dealers, receive_keys, sealed, strict=True)
    ]
    opened = b"".join(pairs)
    shares = b"".join([pair[:_BOTH_SHARES] for pair in pairs])
    malformed: list[bool] = np.any(secret_sharing.bad_shares(shares).reshape(-1, 2), axis=1).tolist()
    expected = messages.records_of(_commit(session, dealers, holder, opened), messages.COMMITMENTS_BYTES)
    for dealer, committed, rebuilt, bad in zip(dealers, commitments, expected, malformed, strict=True):
        checks.share_committed(not bad, committed, rebuilt, dealer)
    return opened


def reveal(pairs: bytes, dealers: Sequence[int], survivors: frozenset[int]) -> bytes:
    """Check 18: of each dealer one share with its salt, the seed's when it survived, the key's when it did not.

    What is asked for follows from the survivors and the dealers alone.
    """
    revealed: list[bytes] = []
    for dealer, pair in zip(dealers, messages.records_of(pairs, _PAIR), strict=True):
        kind = SEED_SHARE if dealer in survivors else KEY_SHARE
        share = pair[kind * messages.SHARE_BYTES : (kind + 1) * messages.SHARE_BYTES]
        salt = _BOTH_SHARES + kind * messages.SALT_BYTES
        revealed.append(share + pair[salt : salt + messages.SALT_BYTES])
    return b"".join(revealed)


def _commit(session: bytes, dealers: npt.ArrayLike, holders: npt.ArrayLike, pairs: bytes) -> bytes:
    """The commitments to both shares of each of many pairs, a key share's before the seed share's."""
    rows = np.frombuffer(pairs, dtype=np.uint8).reshape(-1, _PAIR)
    shares = rows[:, :_BOTH_SHARES].reshape(-1, messages.SHARE_BYTES)
    salts = rows[:, _BOTH_SHARES:].reshape(-1, messages.SALT_BYTES)
    kinds = np.tile((KEY_SHARE, SEED_SHARE), len(rows))
    return transcript.share_commitments(session, _twice(dealers), _twice(holders), kinds, salts, shares)


def _twice(ends: npt.ArrayLike) -> npt.ArrayLike:
    """Ids for both shares of each pair; a single id is for all of them."""
    return ends if np.ndim(ends) == 0 else np.repeat(ends, 2)
