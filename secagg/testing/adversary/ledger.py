"""What an adversary that is the server, and pools what it sees with its colluders, holds at the end of a round.

A ``Ledger`` is shown the bytes that went to and came from every honest client, and told the private keys that the
adversary has.  From these alone it works out, with the library's own primitives, which shares it holds, which secrets
they reconstruct, which masks it can therefore take off, and which linear combinations of honest inputs are left bare.
It really computes those, so that a claim that something opened can be held against the true inputs.

    ledger = Ledger(config)
    ledger.learn(colluder.channel)
    view = ledger.watch(3)              # an honest client, member 3
    view.sent(advertise)
    view.answered(roster, share)        # what it was shown, and what it said to that
    ...
    for opening in ledger.openings():
        assert opening.is_true(inputs, config.modulus)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TypeAlias

from secagg import arithmetic
from secagg.arithmetic.modulus import Modulus
from secagg.pairwise import messages, records
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.hybrid import KeyPair, PairSecrets
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.messages import (
    Accusations,
    Advertise,
    Answer,
    Complaint,
    MaskedInput,
    Roster,
    Settled,
    Share,
    Shares,
    Unmask,
    UnmaskWithAttachment,
)
from secagg.pairwise.records import KINDS, Commitments, PublicKeys, SealedSecret, SharePair
from secagg.pairwise.records import Opening as OpenedShare
from secagg.pairwise.transcript import KEY_SHARE, SEED_SHARE
from secagg.primitives import aead, masking, secret_sharing
from secagg.primitives.suites import CryptoError
from secagg.testing.adversary.algebra import Combination, bare, reduced
from secagg.testing.adversary.client import sealed_for

Input: TypeAlias = tuple[int, int]
"""One vector of an honest client: its cohort index, and which of its vectors (0 unless it was made to mask several)."""
Vector: TypeAlias = tuple[int, ...]
Stream: TypeAlias = tuple[object, ...]
"""A mask: everything that its key is derived from, secrets apart."""


@dataclass(slots=True)
class View:
    """One honest client, as the adversary saw it.  A client that was resumed twice has a view for each clone."""

    index: int
    keys: PublicKeys = field(default_factory=lambda: PublicKeys(b"", b""))
    round_id: bytes = b""
    session: bytes = b""
    present: dict[int, PublicKeys] = field(default_factory=dict)
    """The neighbours shown to it, and their keys."""
    seals_for: frozenset[int] = frozenset()
    """Those of them that it is the sealer for, in a hybrid suite."""
    shown_secrets: dict[int, SealedSecret] = field(default_factory=dict)
    """By dealer: the sealed pair secrets that it was shown, and took."""
    share: Share | None = None
    dealers: tuple[int, ...] = ()
    """U2 as shown to it, in the order shown."""
    opened: dict[int, SharePair] = field(default_factory=dict)
    """In rounds with complaints: by holder, the pairs that it opened to the server."""
    complained: tuple[int, ...] = ()
    """About whom it complained."""
    opened_secrets: dict[int, bytes] = field(default_factory=dict)
    """In a hybrid suite: by other end, the pair secrets that it opened, and those that were opened for it."""
    masked: list[tuple[Input, bytes]] = field(default_factory=list)
    openings: list[bytes] = field(default_factory=list)
    attachments: list[bytes] = field(default_factory=list)

    def sent(self, config: RoundConfig, data: bytes) -> None:
        """Note the keys that its first message, ADVERTISE, announces."""
        message = messages.to_server.decode(data, len(data), config.version, config.suite.agreement)
        if isinstance(message, Advertise):
            self.keys = PublicKeys(message.channel_key, message.masking_key)

    def answered(self, config: RoundConfig, nonce: bytes, shown: bytes, said: bytes, vector: int = 0) -> None:
        """It took one message and answered with another.  ``vector`` says which of its inputs it masked."""
        agreement = config.suite.agreement
        message = messages.to_client.decode(shown, len(shown), config.version, agreement)
        answer = messages.to_server.decode(said, len(said), config.version, agreement)
        if isinstance(message, Roster) and isinstance(answer, Share):
            ids = messages.decode_ids(message.present)
            keys = records.public_keys(message.keys, len(ids), "keys", config.suite)
            self.present = dict(zip(ids, keys, strict=True))
            self.round_id = config.labels.round_id(config.digest, nonce)
            self.session = config.labels.session_id(config.digest, nonce, message.digest)
            if config.suite.is_hybrid:
                self.seals_for = sealed_for(config, message.digest, self.session, self.index, ids)
            self.share = answer
        if isinstance(message, Accusations) and isinstance(answer, Answer):
            holders = messages.decode_ids(message.holders)
            pairs = records.cut(answer.pairs, records.opened_bytes(config.suite))
            self.opened = dict(
                zip(holders, (SharePair.from_bytes(pair[: records.PAIR_BYTES]) for pair in pairs), strict=True)
            )
            self._note_secrets(holders, pairs, self.seals_for)
        if isinstance(message, Shares) and isinstance(answer, MaskedInput | Complaint):
            self._note_shares(config, message)
        if isinstance(answer, Complaint):
            self.complained = messages.decode_ids(answer.dealers)
        if isinstance(message, Settled):
            disputed = [dealer for dealer in messages.decode_ids(message.dealers) if dealer in self.complained]
            self._note_secrets(
                disputed, records.cut(message.pairs, records.opened_bytes(config.suite)), self.shown_secrets
            )
        if isinstance(message, Shares | Settled) and isinstance(answer, MaskedInput):
            self.dealers = messages.decode_ids(message.dealers)
            self.masked.append(((self.index, vector), bytes(answer.vector)))
        if isinstance(answer, Unmask):
            self.openings.append(answer.openings)
        if isinstance(answer, UnmaskWithAttachment):
            self.attachments.append(answer.attachment)

    def _note_shares(self, config: RoundConfig, shares: Shares) -> None:
        dealers = messages.decode_ids(shares.dealers)
        sealers = [dealer for dealer in dealers if config.suite.is_hybrid and dealer not in self.seals_for]
        boxes = records.cut(messages.pair_secrets_of(shares), records.SEALED_SECRET_BYTES)
        self.shown_secrets = dict(zip(sealers, map(SealedSecret.from_bytes, boxes), strict=True))

    def _note_secrets(self, others: Sequence[int], opened: Sequence[bytes], sealed: Container[int]) -> None:
        """Those of the opened pairs that have a pair secret, which is where one of the two ends sealed it."""
        for other, whole in zip(others, opened, strict=True):
            if other in sealed:
                self.opened_secrets[other] = whole[records.PAIR_BYTES :]

    def clone(self) -> View:
        """The view of a second client that goes on from the same state."""
        other = copy(self)
        other.masked, other.openings, other.attachments = [], [], []
        return other

    @property
    def dealt(self) -> Iterator[tuple[int, bytes, Commitments]]:
        """What it dealt: (holder, sealed shares, commitments)."""
        if self.share is not None:
            count = len(self.present)
            sealed = records.cut_exactly(self.share.sealed, len(self.share.sealed) // max(1, count), count, "sealed")
            committed = records.cut_exactly(self.share.commitments, records.COMMITMENTS_BYTES, count, "commitments")
            yield from zip(self.present, sealed, map(Commitments.from_bytes, committed), strict=True)

    @property
    def sealed_secrets(self) -> dict[int, SealedSecret]:
        """By holder: the sealed pair secrets that it sent."""
        if self.share is None:
            return {}
        boxes = records.cut(messages.pair_secrets_of(self.share), records.SEALED_SECRET_BYTES)
        return dict(zip(sorted(self.seals_for), map(SealedSecret.from_bytes, boxes), strict=True))


@dataclass(frozen=True, slots=True)
class Opening:
    """A combination of honest inputs that the adversary computed: the sum of factor times vector is ``value``."""

    factors: tuple[tuple[Input, int], ...]
    value: Vector

    @property
    def clients(self) -> frozenset[int]:
        """Whose inputs are in it."""
        return frozenset(index for (index, _), _ in self.factors)

    def is_true(self, inputs: Mapping[Input, Collection[int]], modulus: Modulus) -> bool:
        """Whether the true inputs give the value computed."""
        columns = zip(*(inputs[which] for which, _ in self.factors), strict=True)
        return self.value == tuple(
            sum(factor * element for (_, factor), element in zip(self.factors, column, strict=True)) % modulus.value
            for column in columns
        )


class Ledger:
    """Everything that an adversary got in a round."""

    def __init__(self, config: RoundConfig) -> None:
        """``config`` is the one that the clients joined with."""
        self.config = config
        self.views: list[View] = []
        self.chosen: dict[bytes, bytes] = {}
        """By commitment: pair secrets that the adversary chose, and that follow from no root."""
        self.solver: KeyPair | None = None
        """Any key pair, where the adversary solves X25519 once the round is over: tests let every agreement of theirs
        come out the same, so that this one has them all.  What ML-KEM keeps, it does not open.
        """
        self._private: dict[bytes, KeyPair] = {}

    def learn(self, *pairs: KeyPair) -> None:
        """The adversary has these key pairs: a colluder's, or its own that it put in somebody's place."""
        self._private.update((pair.public_key(), pair) for pair in pairs)

    def watch(self, index: int) -> View:
        """Begin to write down what an honest client sends and is sent."""
        view = View(index)
        self.views.append(view)
        return view

    def watch_clone(self, view: View) -> View:
        """Begin to write down a second client that goes on from the same state."""
        clone = view.clone()
        self.views.append(clone)
        return clone

    # Shares.

    def shares(self) -> dict[tuple[int, int], dict[int, bytes]]:
        """By (view, kind): the shares that the adversary holds of that client's secret, by holder."""
        held: dict[tuple[int, int], dict[int, bytes]] = defaultdict(dict)
        for number, view in enumerate(self.views):
            for holder, pair in self._unsealed(view):
                for kind in KINDS:
                    held[number, kind][holder] = pair[kind].share
            for holder, pair in view.opened.items():
                for kind in KINDS:
                    held[number, kind][holder] = pair[kind].share
        for view in self.views:
            for number, kind, share in self._revealed(view):
                held[number, kind][view.index] = share
        return held

    def _unsealed(self, view: View) -> Iterator[tuple[int, SharePair]]:
        """What it dealt to holders whose channel key the adversary has."""
        suite, keys = self.config.suite, KeySchedule(self.config.suite, view.session, self.config.labels)
        for holder, sealed, _ in view.dealt:
            channel_key = view.present[holder].channel
            if (pair := self._private.get(channel_key, self.solver)) is None:
                continue
            ciphertext, box = sealed[: suite.ciphertext_bytes], sealed[suite.ciphertext_bytes :]
            agreed = pair.decapsulate(ciphertext) + pair.agree(view.keys.channel)
            key = keys.channel(agreed, view.index, holder, view.keys.channel, channel_key, ciphertext)
            context = self.config.labels.sealed_shares_context(view.session, view.index, holder)
            try:
                yield holder, SharePair.from_bytes(aead.unseal(suite, key, box, context))
            except CryptoError:
                if channel_key in self._private:
                    raise

    def _revealed(self, holder: View) -> Iterator[tuple[int, int, bytes]]:
        """What a holder gave away in UNMASK: (view of the dealer, kind, share), told by the dealers' commitments."""
        committed: dict[tuple[bytes, int], list[int]] = defaultdict(list)
        for number, view in enumerate(self.views):
            for to, _, both in view.dealt if view.session == holder.session else ():
                if to == holder.index:
                    for kind in KINDS:
                        committed[both[kind], kind].append(number)
        for opened in holder.openings:
            each = records.cut(opened, records.OPENING_BYTES)
            per_dealer = len(each) // max(1, len(holder.dealers))
            for position, record in enumerate(each):
                dealer = holder.dealers[position // per_dealer]
                share, salt = OpenedShare.from_bytes(record)
                for kind in KINDS:
                    digest = self.config.labels.share_commitment(
                        holder.session, dealer, holder.index, kind, salt, share
                    )
                    for number in committed.get((digest, kind), ()):
                        yield number, kind, share

    # Secrets.

    def secrets(self) -> dict[tuple[int, int], bytes]:
        """By (view, kind): the secrets that the adversary's shares reconstruct, each held against its public half."""
        found: dict[tuple[int, int], bytes] = {}
        for (number, kind), held in self.shares().items():
            if len(held) < self.config.threshold:
                continue
            secret = _reconstruct(held, self.config.threshold)
            if secret is not None and self._is_secret_of(self.views[number], kind, secret):
                found[number, kind] = secret
        return found

    def _is_secret_of(self, view: View, kind: int, secret: bytes) -> bool:
        if kind == KEY_SHARE:
            return self._masking_pair(view, secret).public_key() == view.keys.masking
        keys = KeySchedule(self.config.suite, view.session, self.config.labels)
        return view.share is not None and keys.seed_commitment(secret, view.index) == view.share.seed_commitment

    def _masking_pair(self, view: View, drawn: bytes) -> KeyPair:
        return KeyPair(self.config, view.round_id, view.index, drawn, "masking")

    def both_kinds(self) -> frozenset[int]:
        """Of which honest clients the adversary knows self-mask seed and masking key."""
        secrets = self.secrets()
        return frozenset(
            view.index
            for number, view in enumerate(self.views)
            if (number, KEY_SHARE) in secrets and (number, SEED_SHARE) in secrets
        )

    # What is bare.

    def openings(self) -> tuple[Opening, ...]:
        """A basis of the combinations of honest inputs that are free of unknown masks, in reduced row echelon form.

        A sum over a part, the difference of two sums, or a single vector shows up as an opening of its own, except
        that of several overlapping ones the basis is one choice of many.
        """
        secrets = self.secrets()
        private = dict(self._private)
        seeds: dict[int, bytes] = {}
        for (number, kind), secret in secrets.items():
            if kind == KEY_SHARE:
                view = self.views[number]
                private[view.keys.masking] = self._masking_pair(view, secret)
            else:
                seeds[number] = secret
        rows: list[tuple[Combination[Stream], Combination[int]]] = []
        observed: list[tuple[Input, Vector]] = []
        for number, view in enumerate(self.views):
            for which, packed in view.masked:
                unknown, known = self._streams(number, view, private, seeds.get(number))
                rows.append((unknown, {len(observed): 1}))
                observed.append((which, self._without(packed, known)))
        free = reduced((_inputs_of(factors, observed), factors) for factors in bare(rows))
        return tuple(Opening(tuple(sorted(inputs.items())), self._sum(factors, observed)) for inputs, factors in free)

    def _streams(
        self, number: int, view: View, private: Mapping[bytes, KeyPair], seed: bytes | None
    ) -> tuple[Combination[Stream], list[tuple[bytes, int]]]:
        """The masks in a client's masked vector: those not known, with their signs, and the keys of those known."""
        session = view.session
        keys = KeySchedule(self.config.suite, session, self.config.labels)
        unknown: Combination[Stream] = {}
        known: list[tuple[bytes, int]] = []
        if seed is None:
            commitment = view.share.seed_commitment if view.share is not None else b""
            unknown["self", session, view.index, commitment] = 1
        else:
            known.append((keys.self_mask(seed, view.index), 1))
        for dealer in view.dealers:
            own, shown = view.keys.masking, view.present[dealer].masking
            sign = 1 if view.index < dealer else -1
            key = self._pairwise_key(view, dealer, private)
            if key is not None:
                known.append((key, sign))
            else:
                commitment = self._commitment(view, dealer)
                stream = ("pair", session, *sorted(((view.index, own), (dealer, shown))), commitment)
                unknown[stream] = unknown.get(stream, 0) + sign
        return {stream: factor for stream, factor in unknown.items() if factor}, known

    def _commitment(self, view: View, other: int) -> bytes:
        """The commitment to the secret of a client's pair with another; two ends whose secrets differ share no mask."""
        if not self.config.suite.is_hybrid:
            return b""
        records_of = view.sealed_secrets if other in view.seals_for else view.shown_secrets
        return records_of[other].commitment

    def _pairwise_key(self, view: View, other: int, private: Mapping[bytes, KeyPair]) -> bytes | None:
        """The key of a client's mask with another, from either's masking key pair; None where it has neither."""
        own, shown = view.keys.masking, view.present[other].masking
        for index, far, mine, theirs in ((view.index, other, own, shown), (other, view.index, shown, own)):
            if (pair := private.get(mine, self.solver)) is None:
                continue
            secrets = PairSecrets(self.config, view.session, index, pair, mine)
            if not self.config.suite.is_hybrid:
                return secrets.mask_key(far, theirs, b"")
            if (opened := view.opened_secrets.get(other)) is not None:
                return secrets.mask_key(far, theirs, opened)
            if mine not in private:  # X25519 alone is solved: the pair secret has to be the adversary's own
                chosen = self.chosen.get(self._commitment(view, other))
                if chosen is None:
                    continue
                return secrets.mask_key(far, theirs, chosen)
            if (other in view.seals_for) == (index == view.index):  # this end is the sealer
                return secrets.mask_key(
                    far, theirs, self.chosen.get(self._commitment(view, other)) or secrets.derived(far)
                )
            record = view.sealed_secrets[other] if other in view.seals_for else view.shown_secrets[other]
            key = secrets.opening_key(far, theirs, record.ciphertext)
            secret = aead.unseal(self.config.suite, key, record.sealed, secrets.context(far))
            return secrets.mask_key(far, theirs, secret)
        return None

    def _without(self, packed: bytes, known: Iterable[tuple[bytes, int]]) -> Vector:
        config = self.config
        total = [int(element) for element in arithmetic.unpack(packed, config.modulus, config.length)]
        for key, sign in known:
            mask = masking.expand(config.suite, key, 0, config.length, config.modulus).tolist()
            total = [element - sign * part for element, part in zip(total, mask, strict=True)]
        return tuple(element % config.modulus.value for element in total)

    def _sum(self, factors: Combination[int], observed: Sequence[tuple[Input, Vector]]) -> Vector:
        columns = zip(*(observed[number][1] for number in factors), strict=True)
        return tuple(
            sum(factor * element for factor, element in zip(factors.values(), column, strict=True))
            % self.config.modulus.value
            for column in columns
        )


def _inputs_of(factors: Combination[int], observed: Sequence[tuple[Input, Vector]]) -> Combination[Input]:
    """A combination of observations, as one of inputs: a client may have masked the same vector twice."""
    total: Combination[Input] = {}
    for number, factor in factors.items():
        which = observed[number][0]
        total[which] = total.get(which, 0) + factor
    return {which: factor for which, factor in total.items() if factor}


def _reconstruct(held: Mapping[int, bytes], threshold: int) -> bytes | None:
    holders = sorted(held)[:threshold]
    weights = secret_sharing.lagrange_at_zero(secret_sharing.points(holders))
    shares = secret_sharing.decode_shares(b"".join(held[holder] for holder in holders))
    try:
        return secret_sharing.join_limbs(secret_sharing.reconstruct(weights, shares))
    except secret_sharing.ShareError:
        return None
