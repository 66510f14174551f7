"""A client of one round.  Each refusal stands with the requirement that it carries out."""

import hashlib
from collections.abc import Callable, Sequence

from . import envelopes, hybrid, primitives, transcript, wire
from .arithmetic import FIELD, mask, pack_vector, read_share, share
from .chain import Chain
from .hybrid import KeyPair
from .primitives import KEY_BYTES, derive
from .rules import Config, neighbours_of, places_of, proved_root, read_config, shown_version
from .transcript import Labels
from .wire import Refused, require

STATES = {
    "semi_honest": ("JOINED", "ADVERTISED", "SHARED", "INPUT", "MASKED", "DONE"),
    "active": ("JOINED", "ADVERTISED", "SHARED", "INPUT", "MASKED", "CONFIRMED", "DONE"),
}
AWAITED = {"ADVERTISED": "Roster", "SHARED": "Shares", "MASKED": "Survivors", "CONFIRMED": "Confirmations"}
WITH_COMPLAINTS = {"CHECKED": ("Accusations", "Settled"), "ANSWERED": ("Settled",)}
AFTER = {"Shares": "CHECKED", "Accusations": "ANSWERED", "Settled": "INPUT"}


def commitments(labels: Labels, session: bytes, dealer: int, holder: int, pair: bytes) -> bytes:
    """To both shares of an opened pair: key share, seed share, the key share's salt, the seed share's."""
    key = labels.share_commitment(session, dealer, holder, transcript.KEY_SHARE, pair[80:112], pair[:40])
    seed = labels.share_commitment(session, dealer, holder, transcript.SEED_SHARE, pair[112:144], pair[40:80])
    return key + seed


class Client:
    """``start``, ``receive`` the server's messages, ``submit`` in state INPUT: each returns the message to send."""

    def __init__(
        self,
        invitation: bytes,
        index: int,
        draw: Callable[[int], bytes],
        *,
        accept: Callable[[Config], str] = lambda config: "",
        identity: bytes = b"",
        directory: Callable[[bytes], Sequence[bytes] | None] = lambda digest: None,
        consume: Callable[[bytes], bool] = lambda token: True,
        chain: Chain | None = None,
        encapsulate: Callable[[bytes], tuple[bytes, bytes]] = primitives.encapsulate,
    ) -> None:
        """Join a round: ``accept`` gives the code of the host's or policy's refusal; ``identity`` is a seed.

        ``encapsulate`` makes a secret and its ciphertext for an encapsulation key; it draws randomness of its own.
        """
        self.round_id, version = bytes(32), 1
        try:
            limit = 4096 + (1 << 20) * (invitation[2:3] == b"\2")  # R-CHAIN-7
            _, round_id, fields = wire.decode(invitation, ["Invitation"], limit, wire.VERSIONS)
            (encoded, self.nonce, *optional), invited = fields, wire.unpack(invitation, depth=2)[1]
            require(invited == 1 or shown_version(encoded) in (invited, None), "wrong-version")  # R-VERSION-3
            self.round_id, version = round_id, invited
            self.config = config = read_config(encoded)  # R-CONFIG-10
            require(config.version == version, "config-unsound")
            self.labels = config.labels
            require(self.labels.round_id(config.digest, self.nonce) == self.round_id, "wrong-session")  # R-WIRE-6
            require(not (refusal := accept(config)), refusal)  # R-CONFIG-2, R-CONFIG-11
            if index >= config.clients:
                raise ValueError("this round has no such client")
            if config.active:  # R-CONFIG-12
                self.cohort = directory(config.cohort) or ()
                require(transcript.cohort_digest(self.cohort) == config.cohort, "cohort-not-vouched")
                require(all(map(primitives.is_well_formed, self.cohort)), "cohort-not-vouched")  # R-SIGN-2
                require(len(self.cohort) == len({*self.cohort}) == config.clients, "cohort-not-vouched")
                require(self.cohort[index] == primitives.identity_key(identity), "cohort-not-vouched")
            self.chain = chain if config.active else None
            brought = optional[0] if optional else []
            if self.chain:
                end = self.chain.joined(config, index, self.cohort, brought)
            require(consume(self.labels.join_token(self.round_id, index)), "already-joined")  # R-CONFIG-13
            if self.chain:
                self.chain.ends[config.cohort] = end
        except Refused as refused:
            refused.reply = wire.abort(self.round_id, "config-refused", version)
            raise
        self.index, self.draw, self.identity, self.encapsulate = index, draw, identity, encapsulate
        self.suite, self.key_bytes = config.suite, KEY_BYTES[config.suite]
        self.public_bytes = wire.PUBLIC_KEY[config.suite]
        self.state, self.session = "JOINED", b""
        self.seen: dict[str, bytes] = {}

    def start(self) -> bytes:
        """ADVERTISE."""
        if self.state != "JOINED":
            raise ValueError("not now")
        channel_private, self.masking_private, self.share_secret = (self.draw(32) for _ in range(3))
        self.channel = KeyPair(self.config, self.round_id, self.index, channel_private, b"channel")
        self.masking = KeyPair(self.config, self.round_id, self.index, self.masking_private, b"masking")
        self.channel_key, self.masking_key = self.channel.public, self.masking.public
        signed = self._advertised(self.index, self.channel_key + self.masking_key)
        signature = primitives.sign(self.identity, signed) if self.config.active else b""
        self._advance()
        return self._encode("Advertise", self.round_id, self.channel_key, self.masking_key, signature)

    def receive(self, data: bytes) -> bytes | None:
        """One message of the server's; a rule that it breaks is raised, and the client is ABORTED."""
        if self.state == "ABORTED":
            return None
        try:
            return self._receive(data)
        except Refused as refused:
            self.state = "ABORTED"
            refused.reply = wire.abort(self.round_id, "protocol-violation", self.config.version)
            raise

    def _receive(self, data: bytes) -> bytes | None:
        names = wire.to_client(self.config.version)
        limit, answered = max(map(self.config.max_bytes, names)), hashlib.sha256(data).digest()
        name, session, fields = wire.decode(data, ("Abort", *names), limit, (self.config.version,), self.suite)
        if name == "Abort":
            require(session in (self.round_id, self.session), "wrong-session")  # R-WIRE-6
            self.state = self.state if self.state == "DONE" else "ABORTED"
            return None
        if name in self.seen:  # R-WIRE-8, R-SURVIVORS-6: only as it was, and then nothing happens
            require(self.seen[name] == answered, "survivors-changed" if name == "Survivors" else "conflict")
            return None
        awaited = WITH_COMPLAINTS.get(self.state, (AWAITED.get(self.state),))
        require(name in awaited, "wrong-phase")  # R-STATE-1, R-COMPLAIN-3
        require(session == (self.session or self.round_id), "wrong-session")  # R-WIRE-6
        answer: bytes | None = getattr(self, f"_take_{name.lower()}")(*fields)
        self.seen[name] = answered
        self._advance(name)
        return answer

    def _encode(self, name: str, session: bytes, *fields: int | bytes) -> bytes:
        return wire.encode(name, session, *fields, version=self.config.version)

    def _advance(self, taken: str = "") -> None:
        states = STATES[self.config.threat_model]
        if self.config.complaints and taken in AFTER:
            self.state = AFTER[taken]
        else:
            self.state = states[states.index(self.state) + 1]

    def _advertised(self, member: int, keys: bytes) -> bytes:
        return self.labels.signed_advertisement(self.config.digest, self.nonce, member, *self._both(keys))

    def _both(self, keys: bytes) -> tuple[bytes, bytes]:
        """A member's channel key and its masking key."""
        return keys[: self.public_bytes], keys[self.public_bytes :]

    def _take_roster(
        self, digest: bytes, own: bytes, present: bytes, keys: bytes, absent: bytes, signatures: bytes, proof: bytes
    ) -> bytes:
        config, here, gone = self.config, wire.read_ids(present), wire.read_ids(absent)
        self.peers = dict(zip(here, pairs := wire.records(keys, 2 * self.public_bytes, len(here)), strict=True))
        self.session = self.labels.session_id(config.digest, self.nonce, digest)
        require(own == self.channel_key + self.masking_key, "roster-own-leaf")  # R-ROSTER-1
        in_range = all(member < config.clients for member in here) and len(here) <= config.neighbours
        require(in_range and here == sorted({*here} - {self.index}), "roster-ids")  # R-ROSTER-2
        # R-ROSTER-3
        shown = [key for both in (own, *pairs) for key in self._both(both)]
        compared = [half for key in shown for half in hybrid.halves(key)]
        require(len({*compared}) == len(compared) and all(map(hybrid.is_usable, shown)), "roster-keys")
        if config.active:
            # R-ROSTER-4
            drawn = neighbours_of(self.index, config, digest, self.session)
            require(sorted([*here, *gone]) == drawn and gone == sorted(gone), "roster-neighbours")
            # R-ROSTER-5
            leaves = {member: self.labels.empty_leaf(member) for member in gone} | {
                member: self.labels.leaf(member, *self._both(both))
                for member, both in [(self.index, own), *self.peers.items()]
            }
            root = proved_root(leaves, config.clients, proof, self.labels.node)
            require(self.labels.roster_digest(self.round_id, config.clients, root) == digest, "roster-path")
            # R-ROSTER-6
            for member, signature in zip(here, wire.records(signatures, 64, len(here)), strict=True):
                signed = self._advertised(member, self.peers[member])
                require(primitives.verifies(self.cohort[member], signed, signature), "roster-signature")
        else:
            require(absent == signatures == proof == b"", "malformed")  # R-ROSTER-7
        require(len(here) >= config.threshold, "roster-too-few")  # R-ROSTER-8
        self.neighbours = {*here, *gone}
        places = places_of(config, digest, self.session) if self.suite == 3 else {}
        self.sealers = [peer for peer in here if places and hybrid.sealer(places, self.index, peer) == peer]
        return self._deal()

    def _random(self, purpose: bytes, length: int) -> bytes:
        info = self.labels.share_randomness_info(self.suite, self.index, purpose)
        return derive(self.share_secret, self.session, info, length)

    def _deal(self) -> bytes:
        """SHARE: all of it follows from the share secret and the session, so that it is dealt once."""
        degree = self.config.threshold - 1
        self.seed = self._random(b"seed", 32)
        drawn = mask(self._random(b"coefficients", self.key_bytes), 0, 10 * degree, FIELD)
        rows = [drawn[row * degree : (row + 1) * degree] for row in range(10)]
        salts = primitives.aes_blocks(self._random(b"salts", self.key_bytes), range(4 * len(self.peers)))
        sealed, committed, dealt = b"", b"", dict[int, tuple[bytes, bytes]]()
        self.dealt: dict[int, tuple[bytes, bytes]] = {}  # by holder: the opened pair, the digest of what is sent
        self.sent: dict[int, bytes] = {}  # by holder: what is sealed, in suite 3 behind its ciphertext
        self.sent_secrets: dict[int, bytes] = {}  # by holder that this client is the sealer for
        for place, (peer, keys) in enumerate(self.peers.items()):
            pair = share(self.masking_private, rows[:5], peer) + share(self.seed, rows[5:], peer)
            pair += salts[64 * place : 64 * (place + 1)]
            theirs, _ = self._both(keys)
            secret, ciphertext = self.encapsulate(theirs[32:]) if self.suite == 3 else (b"", b"")  # R-HYBRID-5
            ends = self.index, peer, self.channel_key, theirs
            key = self._channel_key(secret + self.channel.agree(theirs), *ends, ciphertext)
            context = self.labels.sealed_shares_context(self.session, self.index, peer, b"SHARE")
            box = ciphertext + primitives.seal(key, pair, context)
            both = commitments(self.labels, self.session, self.index, peer, pair)
            sealed, committed, self.sent[peer], dealt[peer] = sealed + box, committed + both, box, (pair, both)
        info = self.labels.seed_commitment_info(self.suite, self.index)
        parts = derive(self.seed, self.session, info, 32), sealed, committed
        secrets = [self._seal_secrets()] if self.suite == 3 else []
        for peer, (pair, both) in dealt.items():
            record = self.sent_secrets.get(peer, b"")
            digest = hybrid.complaint_digest(self.config, self.sent[peer], both, record)
            self.dealt[peer] = pair + self._behind_pair(peer), digest
        return self._encode("Share", self.session, *parts, *secrets)

    def _behind_pair(self, peer: int) -> bytes:
        """R-COMPLAIN-8: what an opened pair has behind the pair."""
        if self.suite != 3:
            return b""
        return bytes(32) if peer in self.sealers else self._pair_secret(peer)

    def _channel_key(
        self, agreed: bytes, sender: int, receiver: int, sent: bytes, received: bytes, ciphertext: bytes
    ) -> bytes:
        """R-SHARE-4, R-HYBRID-5: the key of what one client seals for another; the ciphertext is a field in suite 3."""
        ends = sender, receiver, sent, received, *([ciphertext] if self.suite == 3 else [])
        return derive(agreed, self.session, self.labels.channel_info(self.suite, *ends), self.key_bytes)

    def _seal_secrets(self) -> bytes:
        """R-HYBRID-7: a record for each neighbour that this client is the sealer for."""
        for peer in (peer for peer in self.peers if peer not in self.sealers):
            _, theirs = self._both(self.peers[peer])
            shared, ciphertext = self.encapsulate(theirs[32:])
            keys, ends = (self.masking_key, theirs), (self.index, peer)
            agreed = shared + self.masking.agree(theirs)
            key = hybrid.sealing_key(self.config, self.session, agreed, ends, keys, ciphertext)
            secret = self._pair_secret(peer)
            context = self.labels.sealed_pair_secret_context(self.session, *ends, b"SHARE")
            commitment = self.labels.pair_secret_commitment(self.session, *ends, secret)
            self.sent_secrets[peer] = ciphertext + primitives.seal(key, secret, context) + commitment
        return b"".join(self.sent_secrets.values())

    def _pair_secret(self, peer: int) -> bytes:
        """The one that this client seals."""
        return hybrid.pair_secret(self.config, self.session, self.masking, self.index, peer)

    def _take_shares(self, dealers: bytes, sealed: bytes, committed: bytes, secrets: bytes = b"") -> bytes | None:
        ids = wire.read_ids(dealers)
        require(ids == sorted({*ids} & {*self.peers}), "shares-dealers")  # R-SHARES-1
        require(len(ids) >= self.config.threshold, "shares-too-few")  # R-SHARES-2
        boxes = wire.records(sealed, wire.CIPHERTEXT[self.suite] + wire.SEALED, len(ids))
        expected = wire.records(committed, wire.COMMITMENTS, len(ids))
        sealers = [dealer for dealer in ids if dealer in self.sealers]
        records = dict(zip(sealers, wire.records(secrets, wire.PAIR_SECRET, len(sealers)), strict=True))  # R-HYBRID-10
        self.pairs, self.secrets = dict[int, bytes](), dict[int, bytes]()
        came = [*zip(ids, boxes, expected, strict=True)]
        if not self.config.complaints:
            for dealer, box, _ in came:
                self.pairs[dealer] = self._opened(dealer, box)
            for dealer, _, both in came:
                self._check_pair(dealer, self.pairs[dealer], both)
            self.secrets = {dealer: self._opened_secret(dealer, record) for dealer, record in records.items()}
            for dealer, record in records.items():
                self._check_secret(dealer, self.secrets[dealer], record)
            return None
        # R-COMPLAIN-4: by dealer, commitments, the record of the pair secret, and the digest
        self.complained: dict[int, tuple[bytes, bytes, bytes]] = {}
        for dealer, box, both in came:
            record = records.get(dealer, b"")
            try:
                self.pairs[dealer] = self._opened(dealer, box)
                self._check_pair(dealer, self.pairs[dealer], both)
                if record:
                    self.secrets[dealer] = self._opened_secret(dealer, record)
                    self._check_secret(dealer, self.secrets[dealer], record)
            except Refused:
                digest = hybrid.complaint_digest(self.config, box, both, record)
                self.complained[dealer] = both, record, digest
                if len(self.complained) > self.config.complaints:
                    raise
                self.pairs[dealer] = b""
        signatures = b"".join(
            self._sign(self.labels.signed_complaint(self.session, self.index, dealer, digest))
            for dealer, (*_, digest) in self.complained.items()
        )
        return self._encode("Complaint", self.session, wire.ids(self.complained), signatures)

    def _opened(self, dealer: int, box: bytes) -> bytes:
        context = self.labels.sealed_shares_context(self.session, dealer, self.index, b"SHARE")
        size = wire.CIPHERTEXT[self.suite]
        pair = primitives.unseal(self.opening_key(dealer, box[:size]), box[size:], context)
        require(pair is not None, "shares-unsealable", dealer)  # R-SHARES-3
        return pair or b""

    def opening_key(self, dealer: int, ciphertext: bytes = b"") -> bytes:
        """Of what a dealer sealed for this client; in suite 3 behind the ciphertext."""
        theirs, _ = self._both(self.peers[dealer])
        agreed = self.channel.opened(ciphertext, theirs)
        return self._channel_key(agreed, dealer, self.index, theirs, self.channel_key, ciphertext)

    def _opened_secret(self, dealer: int, record: bytes) -> bytes:
        _, theirs = self._both(self.peers[dealer])
        ends = dealer, self.index
        secret = hybrid.open_secret(self.config, self.session, self.masking, ends, theirs, record)
        require(secret is not None, "secret-unsealable", dealer)  # R-HYBRID-11
        return secret or b""

    def _check_pair(self, dealer: int, pair: bytes, both: bytes) -> None:
        # R-SHARES-4, R-SHARES-5
        require(None not in (read_share(pair[:40]), read_share(pair[40:80])), "shares-range", dealer)
        require(commitments(self.labels, self.session, dealer, self.index, pair) == both, "shares-commitment", dealer)

    def _check_secret(self, dealer: int, secret: bytes, record: bytes) -> None:
        committed = hybrid.is_committed(self.config, self.session, (dealer, self.index), secret, record)
        require(committed, "secret-commitment", dealer)  # R-HYBRID-12

    def _sign(self, signed: bytes) -> bytes:
        return primitives.sign(self.identity, signed) if self.config.active else b""

    def _signatures(self, data: bytes, count: int) -> list[bytes]:
        return wire.records(data, 64, count) if self.config.active else wire.records(data, 0, 0) or [b""] * count

    def _take_accusations(self, holders: bytes, signatures: bytes) -> bytes:
        ids = wire.read_ids(holders)
        # R-COMPLAIN-6
        few = 0 < len(ids) <= self.config.complaints
        require(few and ids == sorted({*ids} & {*self.peers}), "accusation-holders")
        shown = self._signatures(signatures, len(ids))
        pairs, answers = b"", b""
        for holder, signature in zip(ids, shown, strict=True):
            pair, digest = self.dealt[holder]
            signed = self.labels.signed_complaint(self.session, holder, self.index, digest)
            good = not self.config.active or primitives.verifies(self.cohort[holder], signed, signature)
            require(good, "accusation-signature")  # R-COMPLAIN-7
            pairs += pair  # R-COMPLAIN-8
            answers += self._sign(self.labels.signed_answer(self.session, self.index, holder, digest, pair))
        return self._encode("Answer", self.session, pairs, answers)

    def _take_settled(self, dealers: bytes, pairs: bytes, signatures: bytes) -> None:
        ids = wire.read_ids(dealers)
        require(ids == sorted({*ids} & {*self.pairs}), "settled-dealers")  # R-COMPLAIN-12
        require(len(ids) >= self.config.threshold, "shares-too-few")  # R-SHARES-2
        disputed = [dealer for dealer in ids if dealer in self.complained]
        opened = wire.records(pairs, wire.OPENED[self.suite], len(disputed))
        shown = self._signatures(signatures, len(disputed))
        for dealer, pair, signature in zip(disputed, opened, shown, strict=True):
            both, record, digest = self.complained[dealer]
            signed = self.labels.signed_answer(self.session, dealer, self.index, digest, pair)
            good = not self.config.active or primitives.verifies(self.cohort[dealer], signed, signature)
            require(good, "answer-signature", dealer)  # R-COMPLAIN-11
            self._check_pair(dealer, pair, both)
            self.pairs[dealer] = pair[: wire.PAIR]
            if record:
                self.secrets[dealer] = pair[wire.PAIR :]
                self._check_secret(dealer, self.secrets[dealer], record)
        self.pairs = {dealer: self.pairs[dealer] for dealer in ids}

    def submit(self, vector: Sequence[int], attachment: Sequence[tuple[int, bytes]] = ()) -> bytes:
        """MASK: the vector, its own mask, and one for each dealer: the lower id adds it, the higher subtracts it.

        ``attachment``, of version 2: pairs of the most losses that a value is for, ascending, and the value.
        """
        if self.state != "INPUT":  # R-MASK-5
            raise ValueError("not now")
        if len(vector) != self.config.length or min(vector) < 0 or max(vector) > self.config.input_max:
            raise ValueError("not this input")
        losses = [most for most, _ in attachment]
        if any(len(value) != self.config.attachment_bytes for _, value in attachment) or losses != sorted({*losses}):
            raise ValueError("not this input")
        if self.config.attachment_bytes and (
            not losses or losses[-1] < self.config.clients - self.config.min_survivors
        ):
            raise ValueError("not this input")
        if attachment and not self.config.attachment_bytes:
            raise ValueError("not this input")
        self.attachment = attachment
        own = derive(self.seed, self.session, self.labels.self_mask_info(self.suite, self.index), self.key_bytes)
        length, modulus, envelope = self.config.masked_length, self.config.masked_modulus, b""
        if self.config.envelope:  # R-ENV-7
            vector, envelope = envelopes.seal(self.config.envelope, self._public_key(), self.draw(32), vector)
        masked = [x + y for x, y in zip(vector, mask(own, 0, length, modulus), strict=True)]
        for dealer in self.pairs:
            _, theirs = self._both(self.peers[dealer])
            secret = b""
            if self.suite == 3:  # R-HYBRID-13
                secret = self.secrets[dealer] if dealer in self.sealers else self._pair_secret(dealer)
            ends = self.index, dealer, self.masking, theirs, secret
            pairwise = mask(hybrid.mask_key(self.config, self.session, *ends), 0, length, modulus)
            sign = 1 if self.index < dealer else -1
            masked = [x + sign * y for x, y in zip(masked, pairwise, strict=True)]
        self._advance()
        packed = pack_vector([x % modulus for x in masked], modulus)
        return self._encode("MaskedInput", self.session, packed + envelope)

    def _public_key(self) -> bytes:
        return self.labels.envelope_polynomials(self.session)[: self.key_bytes]

    def _take_survivors(self, survivors: bytes) -> bytes:
        self.survivors = {*wire.read_bitmap(survivors, self.config.clients)}
        self.shown, self.signed = survivors, self.labels.signed_survivors(self.session, survivors)
        near = self.survivors & self.neighbours
        require(self.index in self.survivors, "survivors-self")  # R-SURVIVORS-2
        require(len(self.survivors) >= self.config.min_survivors, "survivors-too-few")  # R-SURVIVORS-3
        require(len(near) + 1 >= self.config.min_group, "survivors-too-few")  # R-GROUP-5
        require(near <= {*self.pairs}, "survivors-not-shared")  # R-SURVIVORS-4
        require(len(near) >= self.config.threshold, "survivors-neighbours")  # R-SURVIVORS-5
        if not self.config.active:
            return self._unmask()
        return self._encode("Confirm", self.session, primitives.sign(self.identity, self.signed))

    def _take_confirmations(self, signers: bytes, signatures: bytes) -> bytes:
        ids = wire.read_bitmap(signers, self.config.clients)
        require({*ids} <= self.survivors and len(ids) >= self.config.quorum, "confirm-signers")  # R-CONFIRM-5
        own = {self.index, *self.neighbours}
        require({*ids} <= own or self.config.groups == 1, "confirm-signers")  # R-GROUP-6
        # R-CONFIRM-6
        for signer, signature in zip(ids, wire.records(signatures, 64, len(ids)), strict=True):
            require(primitives.verifies(self.cohort[signer], self.signed, signature), "confirm-signature")
        if self.chain:
            self.chain.answer(self.config, self.session, self.shown, self.pairs)
        return self._unmask()

    def disclaim(self) -> bytes:
        """R-CHAIN-12: the statement of a client with a chain that it did not answer, once the round was aborted."""
        if self.state != "ABORTED" or not self.session:
            raise ValueError("not now")
        return self.chain.disclaim(self.config, self.session, self.identity)  # type: ignore[union-attr]

    def _unmask(self) -> bytes:
        """UNMASK: of each dealer one share with its salt.  R-UNMASK-2: which one follows from the survivors alone.

        Of version 2 also the first value attached that is for at least as many losses as there are.
        """
        openings = [
            pair[40:80] + pair[112:] if dealer in self.survivors else pair[:40] + pair[80:112]
            for dealer, pair in self.pairs.items()
        ]
        lost = self.config.clients - len(self.survivors)
        attached = [next((value for most, value in self.attachment if most >= lost), b"")]
        del self.pairs, self.attachment  # R-UNMASK-3
        return self._encode("Unmask", self.session, b"".join(openings), *(attached if self.config.version >= 2 else []))
