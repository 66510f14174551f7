"""What a Share of a hybrid suite gives its receivers: two Shares are compared by it, since neither can be made again.

Encapsulation draws randomness that nobody can hand to it.  So a client that is carried through a recorded round sends
other ciphertexts than the recorded ones, and seals under other keys.  All else follows from its draws: the shares and
salts that it seals, the pair secrets, every commitment.  The draws of the receivers are in the recorded round too, and
open both Shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

from secagg.errors import PeerError
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing
from secagg.pairwise.client.verification import graph_of
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule, Purpose
from secagg.pairwise.messages import HybridRoster, ShareWithSecrets
from secagg.pairwise.records import PublicKeys, SealedSecret
from secagg.primitives import aead


class Pair(NamedTuple):
    """What a sender and one of its neighbours have of the sender's Share."""

    shares: bytes
    """The pair of shares and its salts, unsealed."""
    shared: bytes
    """The secret in the ciphertext before it."""
    sealing_key: bytes

    def __repr__(self) -> str:
        return "Pair()"


class PairSecret(NamedTuple):
    """What a sealer and a holder have of the sealer's record."""

    secret: bytes
    commitment: bytes
    shared: bytes
    """The secret in the record's ciphertext."""
    sealing_key: bytes

    def __repr__(self) -> str:
        return "PairSecret()"


class Opened(NamedTuple):
    """A Share, unsealed with the private keys of all receivers."""

    session: bytes
    seed_commitment: bytes
    commitments: bytes
    pairs: dict[int, Pair]
    pair_secrets: dict[int, PairSecret]

    def independent_of_encapsulation(self) -> tuple[object, ...]:
        """What two Shares of one client in one session have in common."""
        pairs = {holder: pair.shares for holder, pair in self.pairs.items()}
        secrets = {holder: (record.secret, record.commitment) for holder, record in self.pair_secrets.items()}
        return self.session, self.seed_commitment, self.commitments, pairs, secrets


def is_share(config: RoundConfig, data: bytes) -> bool:
    """Whether these bytes are a Share of a round with a hybrid suite."""
    if not config.suite.is_hybrid:
        return False
    try:
        return isinstance(_decoded(messages.to_server, config, data), ShareWithSecrets)
    except PeerError:
        return False


@final
class Receivers:
    """The private keys of a recorded round's members, from their draws."""

    def __init__(self, config: RoundConfig, draws: Sequence[Sequence[bytes]]) -> None:
        """``draws`` are those of each client, by cohort index."""
        self._config, self._draws = config, draws

    def pair(self, round_id: bytes, index: int, purpose: Purpose) -> KeyPair:
        """A member's key pair."""
        return KeyPair(self._config, round_id, index, self._draws[index][0 if purpose == "channel" else 1], purpose)

    def opened(self, sender: int, roster: bytes, share: bytes) -> Opened:
        """Unseal the Share that a sender made of a Roster.  Raises CryptoError when something in it does not open."""
        shown, made = (
            _decoded(decoder, self._config, data)
            for decoder, data in ((messages.to_client, roster), (messages.to_server, share))
        )
        return Opened(
            made.session,
            made.seed_commitment,
            made.commitments,
            dict(self._pairs(sender, shown, made)),
            dict(self._pair_secrets(sender, shown, made)),
        )

    def _neighbours(self, roster: HybridRoster) -> dict[int, PublicKeys]:
        present = messages.decode_ids(roster.present)
        keys = records.public_keys(roster.keys, len(present), "the neighbours' keys", self._config.suite)
        return dict(zip(present, keys, strict=True))

    def _pairs(self, sender: int, roster: HybridRoster, share: ShareWithSecrets) -> Iterator[tuple[int, Pair]]:
        config, suite = self._config, self._config.suite
        keys, own = KeySchedule(suite, share.session, config.labels), PublicKeys.from_bytes(roster.own)
        boxes = records.cut(share.sealed, records.sealed_bytes(suite))
        for (holder, theirs), box in zip(self._neighbours(roster).items(), boxes, strict=True):
            channel = self.pair(roster.session, holder, "channel")
            ciphertext, agreed = box[: suite.ciphertext_bytes], channel.agree(own.channel)
            (key,) = dealing.receive_keys(
                keys, holder, channel, theirs.channel, [sender], [own.channel], [agreed], [ciphertext]
            )
            context = config.labels.sealed_shares_context(share.session, sender, holder)
            shares = aead.unseal(suite, key, box[suite.ciphertext_bytes :], context)
            yield holder, Pair(shares, channel.decapsulate(ciphertext), key)

    def _pair_secrets(
        self, sender: int, roster: HybridRoster, share: ShareWithSecrets
    ) -> Iterator[tuple[int, PairSecret]]:
        config, own, neighbours = self._config, PublicKeys.from_bytes(roster.own), self._neighbours(roster)
        sealing = graph_of(config, roster.digest, share.session).seals_for(sender, list(neighbours))
        holders = [holder for holder, seals in zip(neighbours, sealing.tolist(), strict=True) if seals]
        boxes = records.cut(share.pair_secrets, records.SEALED_SECRET_BYTES)
        for holder, box in zip(holders, boxes, strict=True):
            record, masking = SealedSecret.from_bytes(box), self.pair(roster.session, holder, "masking")
            secrets = PairSecrets(config, share.session, holder, masking, neighbours[holder].masking)
            key = secrets.opening_key(sender, own.masking, record.ciphertext)
            secret = aead.unseal(config.suite, key, record.sealed, secrets.context(sender))
            yield holder, PairSecret(secret, record.commitment, masking.decapsulate(record.ciphertext), key)


def _decoded(decoder: messages.StrictDecoder[Any], config: RoundConfig, data: bytes) -> Any:
    return decoder.decode(data, len(data), config.version, config.suite.agreement)
