"""Rounds of many clients of which a few run in full: the others' messages are made by a cheaper route.

    outcome = simulate_prepared(inputs, config, full=20)

A round of ten thousand clients in ``active`` has each of them verify some thousands of signatures, which takes one
machine hours, although every client does the same work.  Here the server and ``full`` clients are the real ones, and
the costs of both are measured.  The other clients are *prepared*: their messages are bytes that a client could have
sent, accepted for real by the server and by the full clients, but whoever makes them holds the secrets of all prepared
clients, and leaves out what only they themselves would see:

- they verify nothing: no signatures, Merkle proofs or commitments of each other;
- a pair of them agrees on its channel once, not at both ends, and does not open what the other end sealed, pair secrets
  of a hybrid suite included;
- a mask between two of them whose vectors both arrive cancels in the sum, so neither end expands it.  A mask with a
  full client, or with one that is lost after it dealt its shares, is there, since the server takes it out again.

Shares, their seals, commitments and signatures are all made, with the library's own functions, so that every secret is
reconstructed from shares that were really dealt, and the sum is exact or the round fails.  Under one seed every message
but the masked vectors is byte for byte the one that ``simulate`` has, and so is the transcript's digest; except in a
hybrid suite, whose encapsulation draws randomness that no seed reaches.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.envelopes.randomness import SEED_BYTES as ENVELOPE_SEED_BYTES
from secagg.errors import ParameterError
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise import carrier, hybrid, messages, records
from secagg.pairwise.client import attachment, dealing
from secagg.pairwise.client.attachment import Attached, Attachment
from secagg.pairwise.client.verification import graph_of
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import SHARE_SECRET_BYTES, KeySchedule
from secagg.pairwise.messages import (
    Complaint,
    Confirm,
    Confirmations,
    MaskedInput,
    Roster,
    Settled,
    Shares,
    Survivors,
)
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import PublicKeys
from secagg.primitives import aead, masking
from secagg.simulation.driver import Attachments, Inputs
from secagg.simulation.faults import Faults
from secagg.simulation.rounds import Outcome, Progress, Simulation

Randomness: TypeAlias = Callable[[int], bytes]
InputOf: TypeAlias = Callable[[int], npt.ArrayLike]
AttachmentOf: TypeAlias = Callable[[int], Attachment | None]


def simulate_prepared(
    inputs: Inputs,
    config: RoundConfig,
    *,
    attachments: Attachments = None,
    full: int = 20,
    faults: Faults | None = None,
    seed: int | None = None,
    executor: Executor | None = None,
    policy: Policy | None = None,
    identities: Sequence[Identity] = (),
    directory: MemoryDirectory | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run a round as ``simulate`` does, with at most ``full`` of its clients in full.

    Args:
        full: how many clients are real; ``choose_full`` says which.

    The others are those of ``simulate``.  In the outcome, ``client_cpu_s`` of a phase holds the full clients alone;
    bytes are everybody's.  Raises UsageError for arguments that do not fit.
    """
    return PreparedSimulation(
        inputs,
        config,
        attachments=attachments,
        full=full,
        faults=faults,
        seed=seed,
        executor=executor,
        policy=policy,
        identities=identities,
        directory=directory,
        progress=progress,
    ).run()


def choose_full(config: RoundConfig, faults: Faults, full: int) -> frozenset[int]:
    """The clients to run in full: spread evenly over those that stay to the end, then over the others.

    Raises ParameterError for a number below 1.
    """
    if isinstance(full, bool) or not isinstance(full, int) or full < 1:
        raise ParameterError(f"full = {full!r}: at least one client must run in full")
    everybody = range(config.clients)
    stay = [client for client in everybody if faults.delivers(client, Phase.UNMASK)]
    others = [client for client in everybody if not faults.delivers(client, Phase.UNMASK)]
    chosen = _spread(stay, full)
    return frozenset(chosen + _spread(others, full - len(chosen)))


def _spread(members: Sequence[int], count: int) -> list[int]:
    count = min(count, len(members))
    return [members[place * len(members) // count] for place in range(count)]


class PreparedSimulation(Simulation):
    """A simulated round of which some clients are prepared; use ``simulate_prepared``."""

    def __init__(
        self, inputs: Inputs, config: RoundConfig, *, full: int = 20, faults: Faults | None = None, **options: Any
    ) -> None:
        """``full``: how many clients are real; ``options`` are those of ``Simulation``."""
        super().__init__(inputs, config, faults=faults, **options)
        self.full = choose_full(config, self.faults, full)
        self.prepared = PreparedClients(config, self.faults, self.full, self.identities)

    def answers_to(self, phase: str, index: int, message: bytes) -> Sequence[bytes]:
        """What a client answers: a full one by itself, the others from what was prepared."""
        if index in self.full:
            return super().answers_to(phase, index, message)
        if phase == Phase.ADVERTISE:
            return (self.prepared.advertise(index, message, self.randomness(f"client {index}")),)
        answer = self.prepared.answer(index, message, self.input_of, self.attachment_of)
        return () if answer is None else (answer,)


@dataclass(slots=True)
class _Prepared:
    """One prepared client: all its secrets, as flat as they come, since there are thousands."""

    channel: KeyPair
    masking: KeyPair
    masking_private: bytes
    share_secret: bytes
    seed: bytes = b""
    neighbours: array[int] = field(default_factory=lambda: array("I"))
    """Those that it dealt to, ascending."""
    dealt: bytes = b""
    """For each of them a pair of shares."""
    receive_keys: bytes = b""
    """For each of them: the key of what it seals for this client; in a hybrid suite what X25519 agreed on."""
    secrets: PairSecrets | None = None
    """In a hybrid suite: its pair secrets."""
    sealed_for: frozenset[int] = frozenset()
    """In a hybrid suite: the neighbours that seal the secret of the pair for it."""
    shares: Shares | None = None
    """In a round with complaints: what came, until it is settled whose shares count."""
    dealers: tuple[int, ...] = ()
    attached: Attached | None = None
    received: dict[int, bytes] = field(default_factory=dict)
    """What full clients dealt to this one."""
    survivors: bytes = b""
    envelope_seed: bytes = b""
    """In rounds with envelopes."""

    def place_of(self, neighbour: int) -> int:
        """Where a neighbour that it dealt to stands."""
        return bisect_left(self.neighbours, neighbour)


class PreparedClients:
    """All prepared clients of a round.

    Args:
        config: the round's constants.
        faults: whose masked vectors will not arrive; the masks that they share must be there.
        full: who is not prepared.
        identities: ``active``: of everybody, by index.
    """

    def __init__(
        self, config: RoundConfig, faults: Faults, full: frozenset[int], identities: Sequence[Identity]
    ) -> None:
        self._config, self._identities, self._full = config, identities, full
        lost = (client for client in range(config.clients) if not faults.delivers(client, Phase.MASK))
        self._masked_against = full.union(lost)
        self._members: dict[int, _Prepared] = {}
        self._public: dict[int, PublicKeys] = {}
        self._nonce = b""
        self._round_id = b""
        self._session = b""
        self._keys = KeySchedule(config.suite, self._session, config.labels)
        self._survivors: tuple[bytes, frozenset[int]] = (b"", frozenset())

    def advertise(self, index: int, invitation: bytes, randomness: Randomness) -> bytes:
        """The first message of a client."""
        invite = messages.invitation.decode(invitation, messages.MAX_INVITATION_BYTES, self._config.version)
        self._nonce, self._round_id = invite.nonce, invite.session
        config, size = self._config, self._config.suite.private_key_bytes
        channel, masking, share_secret = randomness(size), randomness(size), randomness(SHARE_SECRET_BYTES)
        member = self._members[index] = _Prepared(
            KeyPair(config, self._round_id, index, channel, "channel"),
            KeyPair(config, self._round_id, index, masking, "masking"),
            masking,
            share_secret,
        )
        if config.envelope is not None:
            member.envelope_seed = randomness(ENVELOPE_SEED_BYTES)
        keys = PublicKeys(member.channel.public_key(), member.masking.public_key())
        self._public[index] = keys
        signature = b""
        if self._config.threat_model.signs:
            signed = self._config.labels.signed_advertisement(self._config.digest, self._nonce, index, *keys)
            signature = self._identities[index].sign(signed)
        return messages.encode(messages.advertise(config.suite, config.version, self._round_id, *keys, signature))

    def answer(self, index: int, data: bytes, input_of: InputOf, attachment_of: AttachmentOf) -> bytes | None:
        """What a client answers to a message of the server's; None to an ABORT."""
        config = self._config
        limit = messages.most_bytes_to_client(config)
        message = messages.to_client.decode(data, limit, config.version, config.suite.agreement)
        match message:
            case Roster():
                return self._share(index, message)
            case Shares() if config.complaints:  # nobody's shares are bad
                self._members[index].shares = message
                return messages.encode(Complaint(config.version, self._session, b"", b""))
            case Shares() | Settled():
                shares = message if isinstance(message, Shares) else self._counting(index, message)
                vector = input_of(index)
                self._members[index].attached = attachment.taken(attachment_of(index), self._config)
                return self._mask(index, shares, vector)
            case Survivors():
                self._members[index].survivors = message.survivors
                return self._confirm(index) if self._config.threat_model.confirms else self._unmask(index)
            case Confirmations():
                return self._unmask(index)
        return None

    # SHARE.

    def _share(self, index: int, roster: Roster) -> bytes:
        config, member = self._config, self._members[index]
        self._session = config.labels.session_id(config.digest, self._nonce, roster.digest)
        self._keys = KeySchedule(config.suite, self._session, config.labels)
        member.neighbours.frombytes(messages.encode_ids(messages.decode_ids(roster.present)))
        self._note_full_keys(member, roster)
        drawn = dealing.ShareRandomness(member.share_secret, self._session, config, index)
        member.seed = drawn.seed()
        holders = np.array(member.neighbours, dtype=np.int64)
        member.dealt = dealing.share_pairs(drawn, member.masking_private, member.seed, holders, config.threshold)
        sealed, commitments = self._seal(index, member)
        commitment = self._keys.seed_commitment(member.seed, index)
        pair_secrets = self._seal_secrets(index, member, roster.digest) if config.suite.is_hybrid else b""
        share = messages.share(
            config.suite, config.version, self._session, commitment, sealed, commitments, pair_secrets=pair_secrets
        )
        return messages.encode(share)

    def _seal_secrets(self, index: int, member: _Prepared, digest: bytes) -> bytes:
        """The secrets of its pairs, for the neighbours that it is the sealer for."""
        config, neighbours = self._config, member.neighbours
        sealing = graph_of(config, digest, self._session).seals_for(index, neighbours).tolist()
        member.sealed_for = frozenset(other for other, seals in zip(neighbours, sealing, strict=True) if not seals)
        member.secrets = PairSecrets(config, self._session, index, member.masking, self._public[index].masking)
        sealed = dealing.seal_secrets(member.secrets, {other: self._public[other] for other in neighbours}, sealing)
        return b"".join(sealed)

    def _note_full_keys(self, member: _Prepared, roster: Roster) -> None:
        """The keys of full clients are known from rosters alone."""
        count = len(member.neighbours)
        shown = records.public_keys(roster.keys, count, "the neighbours' keys", self._config.suite)
        for neighbour, keys in zip(member.neighbours, shown, strict=True):
            self._public.setdefault(neighbour, keys)

    def _seal(self, index: int, member: _Prepared) -> tuple[bytes, bytes]:
        """A sealed pair of shares and its commitments for each neighbour, joined."""
        config, session = self._config, self._session
        sealed: list[bytes] = []
        receive_keys: list[bytes] = []
        for neighbour, pair in zip(member.neighbours, records.cut(member.dealt, records.PAIR_BYTES), strict=True):
            send_key, receive_key, ciphertext = self._channel_keys(index, member, neighbour)
            receive_keys.append(receive_key)
            context = config.labels.sealed_shares_context(session, index, neighbour)
            sealed.append(ciphertext + aead.seal(config.suite, send_key, pair, context))
        member.receive_keys = b"".join(receive_keys)
        return b"".join(sealed), dealing.commit(config.labels, session, index, member.neighbours, member.dealt)

    def _channel_keys(self, index: int, member: _Prepared, neighbour: int) -> tuple[bytes, bytes, bytes]:
        """The keys to seal with for a neighbour, and to unseal with what it deals, and the ciphertext to send.

        Both come from one agreement, made by whichever prepared end deals first.
        The end that deals later needs only the key to seal with: nobody unseals what two prepared clients seal.
        """
        size, other = self._config.suite.key_bytes, self._members.get(neighbour)
        own, theirs = self._public[index].channel, self._public[neighbour].channel
        if other is not None and other.receive_keys:
            place = other.place_of(index)
            shared = other.receive_keys[place * size : (place + 1) * size]
            if not self._config.suite.is_hybrid:
                return shared, bytes(size), b""
        else:
            shared = member.channel.agree(theirs)
        if not self._config.suite.is_hybrid:
            return (*self._keys.channels(shared, index, neighbour, own, theirs), b"")
        fresh, ciphertext = hybrid.encapsulate(self._config, theirs)
        return self._keys.channel(fresh + shared, index, neighbour, own, theirs, ciphertext), shared, ciphertext

    # MASK.

    def _mask(self, index: int, message: Shares, vector: npt.ArrayLike) -> bytes:
        config, member = self._config, self._members[index]
        member.dealers = messages.decode_ids(message.dealers)
        self._unseal(index, member, message)
        lanes = np.array(vector, dtype=config.modulus.dtype)
        self_mask = self._keys.self_mask(member.seed, index)
        higher, lower = self._mask_keys(index, member, message)
        envelope = bytearray()
        if config.envelope is not None:
            lanes, envelope = carrier.seal(config, config.envelope, self._session, member.envelope_seed, lanes)
        masking.apply_masks(config.suite, lanes, [self_mask, *higher], lower, config.masked_modulus)
        packed = memoryview(arithmetic.pack(lanes, config.masked_modulus) + envelope)
        return messages.encode(MaskedInput(self._config.version, self._session, packed))

    def _counting(self, index: int, settled: Settled) -> Shares:
        """In a round with complaints: the shares that came, of the dealers whose shares count."""
        member, suite = self._members[index], self._config.suite
        if member.shares is None:
            raise RuntimeError(f"client {index}: Settled before Shares")
        shares, member.shares = member.shares, None
        came, counting = messages.decode_ids(shares.dealers), set(messages.decode_ids(settled.dealers))
        keep = [dealer in counting for dealer in came]
        sealed = compress(records.cut(shares.sealed, records.sealed_bytes(suite)), keep)
        commitments = compress(records.cut(shares.commitments, records.COMMITMENTS_BYTES), keep)
        secrets = records.cut(messages.pair_secrets_of(shares), records.SEALED_SECRET_BYTES)
        sealers = [dealer in counting for dealer in came if dealer in member.sealed_for]
        return messages.shares(
            suite,
            shares.version,
            shares.session,
            settled.dealers,
            b"".join(sealed),
            b"".join(commitments),
            pair_secrets=b"".join(compress(secrets, sealers)),
        )

    def _unseal(self, index: int, member: _Prepared, message: Shares) -> None:
        """Unseal and check what full clients dealt: nobody else knows what is in it."""
        suite, public = self._config.suite, self._public
        places = [place for place, dealer in enumerate(member.dealers) if dealer in self._full]
        dealers = [member.dealers[place] for place in places]
        kept = records.cut(member.receive_keys, suite.key_bytes)
        keys = [kept[member.place_of(dealer)] for dealer in dealers]
        boxes = records.cut(message.sealed, records.sealed_bytes(suite))
        if suite.is_hybrid:
            channel_keys = [public[dealer].channel for dealer in dealers]
            ciphertexts = [boxes[place][: suite.ciphertext_bytes] for place in places]
            keys = dealing.receive_keys(
                self._keys, index, member.channel, public[index].channel, dealers, channel_keys, keys, ciphertexts
            )
        commitments = records.cut(message.commitments, records.COMMITMENTS_BYTES)
        pairs = dealing.unseal_pairs(
            self._config,
            self._session,
            index,
            dealers,
            keys,
            [boxes[place][suite.ciphertext_bytes :] for place in places],
            [commitments[place] for place in places],
        )
        member.received = dict(zip(dealers, records.cut(pairs, records.PAIR_BYTES), strict=True))

    def _mask_keys(self, index: int, member: _Prepared, message: Shares) -> tuple[list[bytes], list[bytes]]:
        """Keys of the pairwise masks that do not cancel among prepared clients: with higher ids, with lower ones."""
        config, own = self._config, self._public[index].masking
        secrets = member.secrets or PairSecrets(config, self._session, index, member.masking, own)
        against = {dealer: self._public[dealer].masking for dealer in member.dealers if dealer in self._masked_against}
        sealers = [dealer for dealer in member.dealers if dealer in member.sealed_for]
        boxes = records.cut(messages.pair_secrets_of(message), records.SEALED_SECRET_BYTES)
        wanted = {sealer: box for sealer, box in zip(sealers, boxes, strict=True) if sealer in against}
        sealing_keys = {sealer: against[sealer] for sealer in wanted}
        opened = dealing.open_secrets(config, secrets, index, sealing_keys, list(wanted.values()))
        keys = dict(
            zip(against, dealing.pairwise_keys(config, secrets, [*against], [*against.values()], opened), strict=True)
        )
        higher = [key for dealer, key in keys.items() if dealer > index]
        return higher, [key for dealer, key in keys.items() if dealer < index]

    # CONFIRM and UNMASK.

    def _confirm(self, index: int) -> bytes:
        signed = self._config.labels.signed_survivors(self._session, self._members[index].survivors)
        return messages.encode(Confirm(self._config.version, self._session, self._identities[index].sign(signed)))

    def _unmask(self, index: int) -> bytes:
        member = self._members[index]
        survivors = self._survivors_in(member.survivors)
        pairs = [
            member.received[dealer] if dealer in self._full else self._dealt_to(index, dealer)
            for dealer in member.dealers
        ]
        openings = dealing.reveal(b"".join(pairs), member.dealers, survivors)
        if member.attached is None:
            raise RuntimeError("a prepared client that sent no vector")
        attached = attachment.revealed(*member.attached, self._config.clients - len(survivors))
        return messages.encode(messages.unmask(self._config.version, self._session, openings, attached))

    def _survivors_in(self, bitmap: bytes) -> frozenset[int]:
        """Decoded once: everybody gets the same."""
        if self._survivors[0] != bitmap:
            self._survivors = bitmap, frozenset(messages.decode_bitmap(bitmap, self._config.clients))
        return self._survivors[1]

    def _dealt_to(self, holder: int, dealer: int) -> bytes:
        member = self._members[dealer]
        start = member.place_of(holder) * records.PAIR_BYTES
        return member.dealt[start : start + records.PAIR_BYTES]
