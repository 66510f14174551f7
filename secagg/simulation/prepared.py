"""Rounds of many clients of which a few run in full: the others' messages are made by a cheaper route.

    outcome = simulate_prepared(inputs, config, full=20)

A round of ten thousand clients in ``active`` has each of them verify some thousands of signatures, which takes one
machine hours, although every client does the same work.  Here the server and ``full`` clients are the real ones, and
the costs of both are measured.  The other clients are *prepared*: their messages are bytes that a client could have
sent, accepted for real by the server and by the full clients, but whoever makes them holds the secrets of all prepared
clients, and leaves out what only they themselves would see:

- they verify nothing: no signatures, Merkle proofs or commitments of each other;
- a pair of them agrees on its channel once, not at both ends, and does not open what the other end sealed;
- a mask between two of them whose vectors both arrive cancels in the sum, so neither end expands it.  A mask with a
  full client, or with one that is lost after it dealt its shares, is there, since the server takes it out again.

Shares, their seals, commitments and signatures are all made, with the library's own functions, so that every secret is
reconstructed from shares that were really dealt, and the sum is exact or the round fails.  Under one seed every message
but the masked vectors is byte for byte the one that ``simulate`` has, and so is the transcript's digest.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg import arithmetic
from secagg.envelopes.randomness import SEED_BYTES as ENVELOPE_SEED_BYTES
from secagg.errors import ParameterError
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise import carrier, messages, records
from secagg.pairwise.client import attachment, dealing
from secagg.pairwise.client.attachment import Attached, Attachment
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.keys import SHARE_SECRET_BYTES, KeySchedule
from secagg.pairwise.messages import (
    Advertise,
    Confirm,
    Confirmations,
    MaskedInput,
    Roster,
    Share,
    Shares,
    Survivors,
)
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import PublicKeys
from secagg.primitives import aead, agreement, masking
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

    channel_private: bytes
    masking_private: bytes
    share_secret: bytes
    seed: bytes = b""
    neighbours: array[int] = field(default_factory=lambda: array("I"))
    """Those that it dealt to, ascending."""
    dealt: bytes = b""
    """For each of them a pair of shares."""
    receive_keys: bytes = b""
    """For each of them: the key of what it seals for this client."""
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
        size = self._config.suite.private_key_bytes
        member = self._members[index] = _Prepared(randomness(size), randomness(size), randomness(SHARE_SECRET_BYTES))
        if self._config.envelope is not None:
            member.envelope_seed = randomness(ENVELOPE_SEED_BYTES)
        private = member.channel_private, member.masking_private
        keys = PublicKeys(*(agreement.public_key(self._config.suite, key) for key in private))
        self._public[index] = keys
        signature = b""
        if self._config.threat_model.signs:
            signed = self._config.labels.signed_advertisement(self._config.digest, self._nonce, index, *keys)
            signature = self._identities[index].sign(signed)
        return messages.encode(Advertise(self._config.version, self._round_id, *keys, signature))

    def answer(self, index: int, data: bytes, input_of: InputOf, attachment_of: AttachmentOf) -> bytes | None:
        """What a client answers to a message of the server's; None to an ABORT."""
        message = messages.to_client.decode(data, messages.most_bytes_to_client(self._config), self._config.version)
        match message:
            case Roster():
                return self._share(index, message)
            case Shares():
                vector = input_of(index)
                self._members[index].attached = attachment.taken(attachment_of(index), self._config)
                return self._mask(index, message, vector)
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
        return messages.encode(Share(self._config.version, self._session, commitment, sealed, commitments))

    def _note_full_keys(self, member: _Prepared, roster: Roster) -> None:
        """The keys of full clients are known from rosters alone."""
        shown = records.public_keys(roster.keys, len(member.neighbours), "the neighbours' keys")
        for neighbour, keys in zip(member.neighbours, shown, strict=True):
            self._public.setdefault(neighbour, keys)

    def _seal(self, index: int, member: _Prepared) -> tuple[bytes, bytes]:
        """A sealed pair of shares and its commitments for each neighbour, joined."""
        session, private = self._session, agreement.AgreementKey(self._config.suite, member.channel_private)
        sealed: list[bytes] = []
        receive_keys: list[bytes] = []
        for neighbour, pair in zip(member.neighbours, records.cut(member.dealt, records.PAIR_BYTES), strict=True):
            send_key, receive_key = self._channel_keys(index, private, neighbour)
            receive_keys.append(receive_key)
            context = self._config.labels.sealed_shares_context(session, index, neighbour)
            sealed.append(aead.seal(self._config.suite, send_key, pair, context))
        member.receive_keys = b"".join(receive_keys)
        return b"".join(sealed), dealing.commit(self._config.labels, session, index, member.neighbours, member.dealt)

    def _channel_keys(self, index: int, private: agreement.AgreementKey, neighbour: int) -> tuple[bytes, bytes]:
        """The keys to seal with for a neighbour, and to unseal with what it deals.

        Both come from one agreement, made by whichever prepared end deals first.
        The end that deals later needs only the key to seal with: nobody unseals what two prepared clients seal.
        """
        size, other = self._config.suite.key_bytes, self._members.get(neighbour)
        if other is not None and other.receive_keys:
            place = other.place_of(index)
            return other.receive_keys[place * size : (place + 1) * size], bytes(size)
        own, theirs = self._public[index].channel, self._public[neighbour].channel
        return self._keys.channels(private.agree(theirs), index, neighbour, own, theirs)

    # MASK.

    def _mask(self, index: int, message: Shares, vector: npt.ArrayLike) -> bytes:
        config, member = self._config, self._members[index]
        member.dealers = messages.decode_ids(message.dealers)
        self._unseal(index, member, message)
        lanes = np.array(vector, dtype=config.modulus.dtype)
        self_mask = self._keys.self_mask(member.seed, index)
        higher, lower = self._mask_keys(index, member)
        envelope = bytearray()
        if config.envelope is not None:
            lanes, envelope = carrier.seal(config, config.envelope, self._session, member.envelope_seed, lanes)
        masking.apply_masks(config.suite, lanes, [self_mask, *higher], lower, config.masked_modulus)
        packed = memoryview(arithmetic.pack(lanes, config.masked_modulus) + envelope)
        return messages.encode(MaskedInput(self._config.version, self._session, packed))

    def _unseal(self, index: int, member: _Prepared, message: Shares) -> None:
        """Unseal and check what full clients dealt: nobody else knows what is in it."""
        suite = self._config.suite
        places = [place for place, dealer in enumerate(member.dealers) if dealer in self._full]
        dealers = [member.dealers[place] for place in places]
        keys = records.cut(member.receive_keys, suite.key_bytes)
        sealed = records.cut(message.sealed, records.SEALED_BYTES)
        commitments = records.cut(message.commitments, records.COMMITMENTS_BYTES)
        pairs = dealing.unseal_pairs(
            self._config,
            self._session,
            index,
            dealers,
            [keys[member.place_of(dealer)] for dealer in dealers],
            [sealed[place] for place in places],
            [commitments[place] for place in places],
        )
        member.received = dict(zip(dealers, records.cut(pairs, records.PAIR_BYTES), strict=True))

    def _mask_keys(self, index: int, member: _Prepared) -> tuple[list[bytes], list[bytes]]:
        """Keys of the pairwise masks that do not cancel among prepared clients: with higher ids, with lower ones."""
        higher: list[bytes] = []
        lower: list[bytes] = []
        own, private = self._public[index].masking, agreement.AgreementKey(self._config.suite, member.masking_private)
        for dealer in member.dealers:
            if dealer in self._masked_against:
                public = self._public[dealer].masking
                key = self._keys.pairwise_mask(private.agree(public), index, dealer, own, public)
                (lower if dealer < index else higher).append(key)
        return higher, lower

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
