"""A client that does as it likes: no check, no state machine, every secret in the open.

Against an honest server it takes part in a round by itself (``receive``), telling the lies it was given.  A malicious
server holds one for each colluder, and for each place in the roster that it stole, and has it advertise, deal and sign.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.arithmetic.modulus import MERSENNE_61
from secagg.identity import Identity
from secagg.pairwise import hybrid, messages, records
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import SEED_BYTES, KeySchedule
from secagg.pairwise.messages import (
    Accusations,
    Advertise,
    Answer,
    Complaint,
    Confirm,
    Confirmations,
    MaskedInput,
    Message,
    Roster,
    Settled,
    Share,
    Shares,
    Survivors,
    Unmask,
)
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import KINDS, Commitments, Opening, PublicKeys, SealedSecret, SharePair
from secagg.pairwise.transcript import KEY_SHARE, SEED_SHARE, Labels
from secagg.primitives import aead, masking, secret_sharing
from secagg.primitives.suites import CryptoError, Suite

Randomness: TypeAlias = Callable[[int], bytes]
Elements: TypeAlias = npt.NDArray[np.uint64]


@dataclass
class Dealing:
    """What a dealer hands out, by holder, in the order of the roster that it was shown."""

    seed_commitment: bytes
    plain: dict[int, SharePair]
    commitments: dict[int, Commitments] = field(default_factory=dict)
    sealed: dict[int, bytes] = field(default_factory=dict)
    secrets: dict[int, SealedSecret] = field(default_factory=dict)
    """In a hybrid suite: what it sends those that it is the sealer for."""

    def commit(self, labels: Labels, session: bytes, dealer: int, holder: int) -> None:
        """Make the commitments to a holder's shares those to its plaintext."""
        pair = self.plain[holder]
        ends = session, dealer, holder
        digests = (labels.share_commitment(*ends, kind, pair[kind].salt, pair[kind].share) for kind in KINDS)
        self.commitments[holder] = Commitments(*digests)


@dataclass(frozen=True, slots=True)
class ClientLie:
    """One departure from the protocol by a client.  Each subclass overrides the step that it lies in."""

    def advertises(self, client: MaliciousClient, message: Advertise) -> Advertise:
        """Change what it advertises."""
        return message

    def secret(self, kind: int, secret: bytes) -> bytes:
        """Which secret it shares, when it announced ``secret``."""
        return secret

    def shares(self, client: MaliciousClient, kind: int, values: Elements) -> None:
        """Change the shares, shape (holders, 5), of one kind before they are committed to."""

    def deals(self, client: MaliciousClient, dealing: Dealing) -> None:
        """Change plaintexts or commitments before they are sealed."""

    def seals(self, client: MaliciousClient, dealing: Dealing) -> None:
        """Change what was sealed."""

    def complains(self, client: MaliciousClient, dealers: tuple[int, ...]) -> tuple[int, ...]:
        """Change about whom it complains, in rounds with complaints."""
        return dealers

    def answers(self, client: MaliciousClient, pairs: list[bytes]) -> list[bytes]:
        """Change what it opens for holders that complain about it: pairs, in a hybrid suite with the pair secrets."""
        return pairs

    def masks(self, client: MaliciousClient, packed: bytes) -> bytes:
        """Change the packed masked vector."""
        return packed

    def opens(self, client: MaliciousClient, openings: list[bytes]) -> list[bytes]:
        """Change what it returns in UNMASK: a record of share and salt for each dealer."""
        return openings

    def attaches(self, client: MaliciousClient, attachment: bytes) -> bytes:
        """Change what it attaches to its shares in UNMASK."""
        return attachment

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        """The messages to send in place of one, in order."""
        return (data,)


class MaliciousClient:
    """A member, or a place in the roster, whose every secret the adversary has."""

    def __init__(
        self,
        config: RoundConfig,
        nonce: bytes,
        index: int,
        *,
        randomness: Randomness,
        identity: Identity | None = None,
        lies: Sequence[ClientLie] = (),
        vector: Collection[int] | None = None,
    ) -> None:
        """``identity`` is the member's own, or None for a place that the adversary cannot sign for."""
        self.config, self.nonce, self.index, self.identity, self.lies = config, nonce, index, identity, tuple(lies)
        self.randomness = randomness
        size = config.suite.private_key_bytes
        self.channel_private, self.masking_private = randomness(size), randomness(size)
        round_id = config.labels.round_id(config.digest, nonce)
        self.channel = KeyPair(config, round_id, index, self.channel_private, "channel")
        self.masking = KeyPair(config, round_id, index, self.masking_private, "masking")
        self.keys = PublicKeys(self.channel.public_key(), self.masking.public_key())
        self.seed = randomness(SEED_BYTES)
        self.vector = [0] * config.length if vector is None else list(vector)
        self.session = b""
        self.dealing = Dealing(b"", {})
        self.received: Shares | None = None
        """In rounds with complaints: the shares that came, until it is settled whose count."""
        self.present: dict[int, PublicKeys] = {}
        self.seals_for: frozenset[int] = frozenset()
        """The present neighbours that it is the sealer for, in a hybrid suite."""
        self.chosen: dict[bytes, bytes] = {}
        """By commitment: pair secrets that it chose otherwise than its root has it."""
        self.plain: dict[int, SharePair] = {}
        """By dealer: what it was dealt."""
        self.dealers: tuple[int, ...] = ()
        self.survivors: frozenset[int] = frozenset()

    # Against an honest server.

    def start(self) -> Sequence[bytes]:
        """The first messages that it sends."""
        return self._wired(Phase.ADVERTISE, self.advertise())

    def receive(self, data: bytes) -> Sequence[bytes]:
        """What it answers to one message of the server's; nothing to an ABORT."""
        match messages.to_client.decode(data, len(data), self.config.version, self.config.suite.agreement):
            case Roster() as roster:
                ids = messages.decode_ids(roster.present)
                keys = records.public_keys(roster.keys, len(ids), "keys", self.config.suite)
                return self._wired(Phase.SHARE, self.share(roster.digest, dict(zip(ids, keys, strict=True))))
            case Shares() as shares if self.config.complaints:
                self.received = shares
                return self._wired(Phase.COMPLAIN, self.complain(shares))
            case Accusations() as accusations:
                return self._wired(Phase.ANSWER, self.answer(messages.decode_ids(accusations.holders)))
            case Settled() as settled:
                return self._wired(Phase.MASK, self.mask(self._counting(settled)))
            case Shares() as shares:
                return self._wired(Phase.MASK, self.mask(shares))
            case Survivors() as survivors:
                self.survivors = frozenset(messages.decode_bitmap(survivors.survivors, self.config.clients))
                if self.config.threat_model.confirms:
                    return self._wired(
                        Phase.CONFIRM,
                        Confirm(self.config.version, self.session, self.confirm(self.session, survivors.survivors)),
                    )
                return self._wired(Phase.UNMASK, self.unmask())
            case Confirmations():
                return self._wired(Phase.UNMASK, self.unmask())
            case _:
                return ()

    def _wired(self, phase: str, message: Message) -> Sequence[bytes]:
        sent: list[bytes] = [messages.encode(message)]
        for lie in self.lies:
            sent = [other for data in sent for other in lie.wire(self, phase, data)]
        return sent

    # The steps.

    def advertise(self) -> Advertise:
        """Its keys, signed when it has an identity to sign with."""
        message = self.signed_advertisement(self.keys)
        for lie in self.lies:
            message = lie.advertises(self, message)
        return message

    def signed_advertisement(self, keys: PublicKeys) -> Advertise:
        """An advertisement of any two keys, in its name."""
        config, signature = self.config, b""
        if config.threat_model.signs:
            signed = self.config.labels.signed_advertisement(config.digest, self.nonce, self.index, *keys)
            signature = bytes(records.SIGNATURE_BYTES) if self.identity is None else self.identity.sign(signed)
        round_id = config.labels.round_id(config.digest, self.nonce)
        return messages.advertise(config.suite, config.version, round_id, *keys, signature)

    def deal(self, digest: bytes, present: Mapping[int, PublicKeys]) -> Dealing:
        """Share its two secrets among these members, whose keys it was shown, in a roster with this digest."""
        session = self.config.labels.session_id(self.config.digest, self.nonce, digest)
        self.session, self.present = session, dict(present)
        suite = self.config.suite
        keys = KeySchedule(suite, session, self.config.labels)
        holders = list(present)
        shares = [
            self._shares_of(kind, announced, holders)
            for kind, announced in ((KEY_SHARE, self.masking_private), (SEED_SHARE, self.seed))
        ]
        salts = self.randomness(len(KINDS) * len(holders) * records.SALT_BYTES)
        pairs = records.cut(records.join_pairs(np.array(shares), salts), records.PAIR_BYTES)
        plain = {holder: SharePair.from_bytes(pair) for holder, pair in zip(holders, pairs, strict=True)}
        dealing = Dealing(keys.seed_commitment(self.seed, self.index), plain)
        for holder in holders:
            dealing.commit(self.config.labels, session, self.index, holder)
        for lie in self.lies:
            lie.deals(self, dealing)
        for holder, theirs in present.items():
            fresh, ciphertext = hybrid.encapsulate(self.config, theirs.channel)
            agreed = fresh + self.channel.agree(theirs.channel)
            key = keys.channel(agreed, self.index, holder, self.keys.channel, theirs.channel, ciphertext)
            context = self.config.labels.sealed_shares_context(session, self.index, holder)
            dealing.sealed[holder] = ciphertext + aead.seal(suite, key, dealing.plain[holder].to_bytes(), context)
        if suite.is_hybrid:
            self.seals_for = sealed_for(self.config, digest, session, self.index, holders)
            for holder in sorted(self.seals_for):
                secret = self.pair_secrets.derived(holder)
                dealing.secrets[holder] = self.pair_secrets.seal(secret, holder, present[holder].masking)
        for lie in self.lies:
            lie.seals(self, dealing)
        self.dealing = dealing
        return dealing

    @property
    def pair_secrets(self) -> PairSecrets:
        """Its pair secrets, in a hybrid suite."""
        return PairSecrets(self.config, self.session, self.index, self.masking, self.keys.masking)

    def _shares_of(self, kind: int, announced: bytes, holders: Sequence[int]) -> Elements:
        threshold, secret = self.config.threshold, announced
        for lie in self.lies:
            secret = lie.secret(kind, secret)
        # With fewer holders than the threshold nobody will reconstruct it: any shares do.
        degree = min(threshold, max(1, len(holders)))
        if not holders:
            return np.empty((0, secret_sharing.LIMBS), dtype=np.uint64)
        noise = np.frombuffer(self.randomness(records.SHARE_BYTES * (degree - 1)), dtype="<u8")
        coefficients = (noise % np.uint64(MERSENNE_61)).reshape(secret_sharing.LIMBS, degree - 1)
        values = secret_sharing.share(secret, np.array(holders, dtype=np.int64), degree, coefficients)
        for lie in self.lies:
            lie.shares(self, kind, values)
        return values

    def share(self, digest: bytes, present: Mapping[int, PublicKeys]) -> Share:
        """The SHARE message."""
        dealing = self.deal(digest, present)
        return messages.share(
            self.config.suite,
            self.config.version,
            self.session,
            dealing.seed_commitment,
            b"".join(dealing.sealed.values()),
            b"".join(both.to_bytes() for both in dealing.commitments.values()),
            pair_secrets=b"".join(dealing.secrets[holder].to_bytes() for holder in sorted(dealing.secrets)),
        )

    def complain(self, shares: Shares) -> Complaint:
        """The COMPLAIN message: about nobody, unless it lies."""
        config, labels, dealers = self.config, self.config.labels, messages.decode_ids(shares.dealers)
        boxes = records.cut(shares.sealed, records.sealed_bytes(config.suite))
        committed = records.cut(shares.commitments, records.COMMITMENTS_BYTES)
        secrets = self._sealed_for_it(shares)
        came = {
            dealer: hybrid.complaint_digest(config, box, both, secrets.get(dealer, b""))
            for dealer, box, both in zip(dealers, boxes, committed, strict=True)
        }
        about: tuple[int, ...] = ()
        for lie in self.lies:
            about = lie.complains(self, about)
        signatures = [
            self._signed(labels.signed_complaint(self.session, self.index, dealer, came[dealer])) for dealer in about
        ]
        return Complaint(config.version, self.session, messages.encode_ids(list(about)), b"".join(signatures))

    def answer(self, holders: Sequence[int]) -> Answer:
        """The ANSWER message: what it dealt to these holders."""
        config, dealing = self.config, self.dealing
        pairs = [dealing.plain[holder].to_bytes() for holder in holders]
        if config.suite.is_hybrid:
            pairs = [pair + self._sealed_secret(holder) for holder, pair in zip(holders, pairs, strict=True)]
        for lie in self.lies:
            pairs = lie.answers(self, pairs)
        signatures = []
        for holder, pair in zip(holders, pairs, strict=True):
            record = dealing.secrets[holder].to_bytes() if holder in dealing.secrets else b""
            both = dealing.commitments[holder].to_bytes()
            digest = hybrid.complaint_digest(config, dealing.sealed[holder], both, record)
            signatures.append(self._signed(config.labels.signed_answer(self.session, self.index, holder, digest, pair)))
        return Answer(self.config.version, self.session, b"".join(pairs), b"".join(signatures))

    def _signed(self, signed: bytes) -> bytes:
        if not self.config.threat_model.signs:
            return b""
        return bytes(records.SIGNATURE_BYTES) if self.identity is None else self.identity.sign(signed)

    def _sealed_secret(self, holder: int) -> bytes:
        """In a hybrid suite: what it sealed for a holder; zeros where it is not the sealer."""
        if holder not in self.dealing.secrets:
            return bytes(records.PAIR_SECRET_BYTES)
        chosen = self.chosen.get(self.dealing.secrets[holder].commitment)
        return chosen or self.pair_secrets.derived(holder)

    def _sealed_for_it(self, shares: Shares) -> dict[int, bytes]:
        """By sealer, in a hybrid suite: the pair secrets that were sealed for it; nothing in others."""
        if not self.config.suite.is_hybrid:
            return {}
        sealers = [dealer for dealer in messages.decode_ids(shares.dealers) if dealer not in self.seals_for]
        boxes = records.cut(messages.pair_secrets_of(shares), records.SEALED_SECRET_BYTES)
        return dict(zip(sealers, boxes, strict=True))

    def _counting(self, settled: Settled) -> Shares:
        """The shares that came from the dealers that count."""
        if self.received is None:
            raise RuntimeError("Settled before Shares")
        suite, received = self.config.suite, self.received
        dealers, places = messages.decode_ids(settled.dealers), messages.decode_ids(received.dealers)
        boxes = records.cut(received.sealed, records.sealed_bytes(suite))
        sealed = b"".join(boxes[places.index(dealer)] for dealer in dealers)
        secrets = self._sealed_for_it(received)
        return messages.shares(
            suite,
            self.config.version,
            self.session,
            settled.dealers,
            sealed,
            b"",
            pair_secrets=b"".join(secrets[dealer] for dealer in dealers if dealer in secrets),
        )

    def mask(self, shares: Shares) -> MaskedInput:
        """The MASK message; what does not open counts as zeros."""
        config, suite, session = self.config, self.config.suite, self.session
        derived = KeySchedule(suite, session, config.labels)
        self.dealers = messages.decode_ids(shares.dealers)
        boxes = records.cut_exactly(shares.sealed, records.sealed_bytes(suite), len(self.dealers), "sealed")
        secrets = {sealer: SealedSecret.from_bytes(box) for sealer, box in self._sealed_for_it(shares).items()}
        add: list[bytes] = []
        subtract: list[bytes] = []
        for dealer, box in zip(self.dealers, boxes, strict=True):
            keys = self.present[dealer]
            ciphertext, seal = box[: suite.ciphertext_bytes], box[suite.ciphertext_bytes :]
            agreed = self.channel.decapsulate(ciphertext) + self.channel.agree(keys.channel)
            key = derived.channel(agreed, dealer, self.index, keys.channel, self.keys.channel, ciphertext)
            context = self.config.labels.sealed_shares_context(session, dealer, self.index)
            plain = _opened(suite, key, seal, context) or bytes(records.PAIR_BYTES)
            self.plain[dealer] = SharePair.from_bytes(plain)
            secret = self._pair_secret(dealer, secrets.get(dealer)) if suite.is_hybrid else b""
            mask_key = self.pair_secrets.mask_key(dealer, keys.masking, secret)
            (subtract if dealer < self.index else add).append(mask_key)
        add.append(derived.self_mask(self.seed, self.index))
        lanes = np.array(self.vector, dtype=config.modulus.dtype)
        masking.apply_masks(suite, lanes, add, subtract, config.modulus)
        packed = arithmetic.pack(lanes, config.modulus)
        for lie in self.lies:
            packed = lie.masks(self, packed)
        return MaskedInput(self.config.version, self.session, memoryview(packed))

    def _pair_secret(self, other: int, record: SealedSecret | None) -> bytes:
        """The secret of its pair with another: derived, or what the other sealed for it."""
        if record is None:
            return self.pair_secrets.derived(other)
        key = self.pair_secrets.opening_key(other, self.present[other].masking, record.ciphertext)
        return _opened(self.config.suite, key, record.sealed, self.pair_secrets.context(other)) or bytes(32)

    def confirm(self, session: bytes, survivors: bytes) -> bytes:
        """Its signature over any survivors' bitmap; noise when it has no identity."""
        if self.identity is None:
            return bytes(records.SIGNATURE_BYTES)
        return self.identity.sign(self.config.labels.signed_survivors(session, survivors))

    def opening(self, dealer: int, kind: int) -> Opening:
        """A share that it was dealt, and its salt."""
        return self.plain[dealer][kind]

    def unmask(self) -> Unmask:
        """The UNMASK message."""
        openings = [
            self.opening(dealer, SEED_SHARE if dealer in self.survivors else KEY_SHARE).to_bytes()
            for dealer in self.dealers
        ]
        for lie in self.lies:
            openings = lie.opens(self, openings)
        attachment = bytes(self.config.attachment_bytes)
        for lie in self.lies:
            attachment = lie.attaches(self, attachment)
        return messages.unmask(self.config.version, self.session, b"".join(openings), attachment)


def sealed_for(
    config: RoundConfig, digest: bytes, session: bytes, index: int, others: Collection[int]
) -> frozenset[int]:
    """Those of the others that a member is the sealer for, in the graph of a roster with this digest."""
    key = config.labels.graph_key(digest, session)
    graph = NeighbourGraph(config.clients, config.neighbours, key, config.groups)
    ids = sorted(others)
    return frozenset(other for other, seals in zip(ids, graph.seals_for(index, ids).tolist(), strict=True) if seals)


def _opened(suite: Suite, key: bytes, sealed: bytes, context: bytes) -> bytes | None:
    """What is in a seal, or None."""
    try:
        return aead.unseal(suite, key, sealed, context)
    except CryptoError:
        return None
