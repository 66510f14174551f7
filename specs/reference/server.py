"""A server of one round.  Each refusal stands with the requirement that it carries out."""

import hashlib
from collections.abc import Callable, Collection, Sequence

from . import envelopes, hybrid, primitives, wire
from .arithmetic import mask, packed_bytes, read_share, reconstruct, unpack_vector
from .client import commitments
from .hybrid import KeyPair
from .primitives import KEY_BYTES, derive
from .rules import Config, groups_of, neighbours_of, places_of, prove, proved_root
from .wire import Refused, require

COLLECTS = ("ADVERTISE", "SHARE", "COMPLAIN", "ANSWER", "MASK", "CONFIRM", "UNMASK")
_ALWAYS = tuple(phase for phase in COLLECTS if phase not in ("COMPLAIN", "ANSWER"))
PHASES = {"semi_honest": (*_ALWAYS[:3], "UNMASK", "COMPUTE", "DONE"), "active": (*_ALWAYS, "COMPUTE", "DONE")}
PHASE_OF = dict(zip(wire.TO_SERVER, _ALWAYS, strict=True)) | {"Complaint": "COMPLAIN", "Answer": "ANSWER"}

Closed = tuple[list[int], Callable[[int], bytes]]  # who takes part in the next phase, and what each of them is sent


def phases_of(config: Config) -> tuple[str, ...]:
    """The phases of a round, and how it ends; with complaints there are two more (R-COMPLAIN-3)."""
    phases = PHASES[config.threat_model]
    return (*phases[:2], "COMPLAIN", "ANSWER", *phases[2:]) if config.complaints else phases


class Server:
    """``receive`` collects a phase's messages, ``close_phase`` ends it and gives what to send, ``compute`` the sum."""

    def __init__(
        self,
        config: Config,
        draw: Callable[[int], bytes],
        cohort: Sequence[bytes] = (),
        certificates: Sequence[bytes] = (),
    ) -> None:
        """``cohort`` holds the identity keys by index, in ``active``; ``certificates`` are those of a chained round."""
        self.certificates = list(certificates)
        self.config, self.cohort, self.nonce, self.phase = config, cohort, draw(32), "ADVERTISE"
        self.labels = config.labels
        self.round_id, self.session = self.labels.round_id(config.digest, self.nonce), b""
        self.everybody = range(config.clients)
        self.recipients, self.awaited, self.left = list(self.everybody), set(self.everybody), set[int]()
        self.taken: dict[str, dict[int, bytes]] = {phase: {} for phase in COLLECTS}  # digests of messages
        self.keys: dict[int, bytes] = {}
        self.signatures, self.seeds = dict[int, bytes](), dict[int, bytes]()  # of ADVERTISE, and commitments of SHARE
        self.dealt: dict[int, list[dict[int, bytes]]] = {}  # by holder: sealed pairs, and commitments
        self.pair_secrets: dict[int, dict[int, bytes]] = {}  # by sealer and holder, the records; R-HYBRID-15
        self.places: dict[int, int] = {}
        self.shared, self.survivors = list[int](), list[int]()
        self.groups: list[list[int]] = []
        self.open = list(range(config.groups))  # the groups that were not left out
        self.totals = [[0] * config.masked_length for _ in self.open]  # by group
        self.envelopes: dict[int, list[list[int]]] = {}  # by group, their sum, as envelopes.read has one
        self.sums: dict[int, list[int]] = {}  # of those that were opened
        self.confirmations: dict[int, bytes] = {}
        self.shares: dict[int, dict[int, list[int]]] = {}
        self.attachments: dict[int, bytes] = {}
        self.complaints: dict[int, dict[int, bytes]] = {}  # by holder and dealer, the signatures
        self.accused: dict[int, list[int]] = {}  # by dealer, the holders
        self.answers: dict[int, dict[int, tuple[bytes, bytes]]] = {}  # by dealer and holder, opened pair and signature
        self.named: list[int] = []  # who was left out for its conflicts

    def invitation(self) -> bytes:
        """The same for everybody."""
        brought = [self.certificates] if self.certificates else []
        return self._encode("Invitation", self.round_id, self.config.to_bytes(), self.nonce, *brought)

    def _encode(self, name: str, session: bytes, *fields: int | bytes | list[bytes]) -> bytes:
        return wire.encode(name, session, *fields, version=self.config.version)

    def _abort(self, code: str) -> bytes:
        return wire.abort(self.round_id, code, self.config.version)

    # Receiving: nothing that a client sends raises, advances the phase or sends.

    def receive(self, sender: int, data: bytes) -> str:
        """What happened: accepted, duplicate, already-masked, late, client-aborted, or the code of a refusal."""
        try:
            return self._receive(sender, data)
        except Refused as refused:
            return refused.code

    def _receive(self, sender: int, data: bytes) -> str:
        require(sender in self.everybody, "unknown-sender")  # R-WIRE-10
        names = wire.to_server(self.config.version)
        limit = max(map(self.config.max_bytes, names))
        name, session, fields = wire.decode(data, ("Abort", *names), limit, (self.config.version,), self.config.suite)
        if name == "Abort":
            require(session in (self.round_id, self.session), "wrong-session")  # R-WIRE-6
            if sender in self.left or self.phase not in COLLECTS:
                return "late"
            self.left.add(sender)
            self.awaited.discard(sender)
            return "client-aborted"
        phase, digest = PHASE_OF[name], hashlib.sha256(data).digest()
        require(session == (self.round_id if phase == "ADVERTISE" else self.session), "wrong-session")  # R-WIRE-6
        if sender in self.taken[phase]:
            require(phase == "MASK" or self.taken[phase][sender] == digest, "conflict")  # R-WIRE-8
            return "already-masked" if phase == "MASK" else "duplicate"
        if self.phase not in COLLECTS or COLLECTS.index(phase) < COLLECTS.index(self.phase):
            return "late"
        require(phase == self.phase, "wrong-phase")  # R-STATE-2
        if sender not in self.awaited:
            return "late"
        event: str | None = getattr(self, f"_take_{phase.lower()}")(sender, *fields)
        self.taken[phase][sender] = digest
        self.awaited.discard(sender)
        return event or "accepted"

    def _take_advertise(self, sender: int, channel_key: bytes, masking_key: bytes, signature: bytes) -> None:
        # R-ADVERTISE-4
        require(len(signature) == (64 if self.config.active else 0), "malformed")
        fresh = [channel_key, masking_key]
        require(all(map(hybrid.is_usable, fresh)), "key-unusable")
        known = [key for both in self.keys.values() for key in self.both(both)] + fresh
        compared = [half for key in known for half in hybrid.halves(key)]
        require(len({*compared}) == len(compared), "key-repeated")
        if self.config.active:
            signed = self.labels.signed_advertisement(self.config.digest, self.nonce, sender, *fresh)
            require(primitives.verifies(self.cohort[sender], signed, signature), "bad-signature")
        self.keys[sender], self.signatures[sender] = channel_key + masking_key, signature

    def both(self, keys: bytes) -> tuple[bytes, bytes]:
        """A member's channel key and its masking key."""
        size = wire.PUBLIC_KEY[self.config.suite]
        return keys[:size], keys[size:]

    def _take_share(
        self, sender: int, seed_commitment: bytes, sealed: bytes, committed: bytes, secrets: bytes = b""
    ) -> None:
        near, blobs = self.near[sender], ((sealed, wire.CIPHERTEXT[self.config.suite] + wire.SEALED), (committed, 64))
        require(all(len(blob) == size * len(near) for blob, size in blobs), "wrong-length")  # R-SHARE-8
        holders = [other for other in near if self.places and hybrid.sealer(self.places, sender, other) == sender]
        require(len(secrets) == wire.PAIR_SECRET * len(holders), "wrong-length")  # R-HYBRID-9
        boxes = wire.records(secrets, wire.PAIR_SECRET, len(holders))
        self.pair_secrets[sender] = dict(zip(holders, boxes, strict=True))
        split = [wire.records(blob, size, len(near)) for blob, size in blobs]
        self.seeds[sender], self.dealt[sender] = seed_commitment, [dict(zip(near, part, strict=True)) for part in split]

    def _digest(self, dealer: int, holder: int) -> bytes:
        box, both = (part[holder] for part in self.dealt[dealer])
        return hybrid.complaint_digest(self.config, box, both, self.pair_secrets[dealer].get(holder, b""))

    def _take_complain(self, sender: int, dealers: bytes, signatures: bytes) -> None:
        # R-COMPLAIN-5
        ids, size = wire.read_ids(dealers), 64 if self.config.active else 0
        sent = self._near(sender, self.shared)
        require(ids == sorted({*ids} & {*sent}) and len(ids) <= self.config.complaints, "complaint-dealers")
        require(len(signatures) == size * len(ids), "wrong-length")
        shown = wire.records(signatures, size, len(ids)) if size else [b""] * len(ids)
        for dealer, signature in zip(ids, shown, strict=True):
            signed = self.labels.signed_complaint(self.session, sender, dealer, self._digest(dealer, sender))
            good = not self.config.active or primitives.verifies(self.cohort[sender], signed, signature)
            require(good, "bad-signature")
        self.complaints[sender] = dict(zip(ids, shown, strict=True))

    def _take_answer(self, sender: int, pairs: bytes, signatures: bytes) -> None:
        # R-COMPLAIN-9
        holders, size = self.accused[sender], 64 if self.config.active else 0
        lengths = wire.OPENED[self.config.suite] * len(holders), size * len(holders)
        require((len(pairs), len(signatures)) == lengths, "wrong-length")
        opened = wire.records(pairs, wire.OPENED[self.config.suite], len(holders))
        shown = wire.records(signatures, size, len(holders)) if size else [b""] * len(holders)
        for holder, pair, signature in zip(holders, opened, shown, strict=True):
            both = commitments(self.labels, self.session, sender, holder, pair)
            in_range = None not in (read_share(pair[:40]), read_share(pair[40:80]))
            require(in_range and both == self.dealt[sender][1][holder], "bad-answer")
            require(self._fits_record(sender, holder, pair[wire.PAIR :]), "bad-answer")
            signed = self.labels.signed_answer(self.session, sender, holder, self._digest(sender, holder), pair)
            good = not self.config.active or primitives.verifies(self.cohort[sender], signed, signature)
            require(good, "bad-signature")
        self.answers[sender] = dict(zip(holders, zip(opened, shown, strict=True), strict=True))

    def _fits_record(self, dealer: int, holder: int, behind: bytes) -> bool:
        """R-COMPLAIN-9: whether what is behind an opened pair is the pair secret, or zeros where there is none."""
        if record := self.pair_secrets[dealer].get(holder):
            return hybrid.is_committed(self.config, self.session, (dealer, holder), behind, record)
        return behind == bytes(len(behind))

    def _take_mask(self, sender: int, vector: bytes) -> None:
        group, modulus = self._group_of(sender), self.config.masked_modulus
        size = packed_bytes(self.config.masked_length, modulus)
        if self.config.envelope:  # R-ENV-7
            rows, others = envelopes.read(self.config.envelope, vector[size:]), self.envelopes.get(group)
            self.envelopes[group] = envelopes.add(self.config.envelope, others, rows) if others else rows
            vector = vector[:size]
        masked = unpack_vector(vector, self.config.masked_length, modulus)
        self.totals[group] = [(x + y) % modulus for x, y in zip(self.totals[group], masked, strict=True)]

    def _take_confirm(self, sender: int, signature: bytes) -> None:
        # R-CONFIRM-2
        signed = self.labels.signed_survivors(self.session, wire.bitmap(self.survivors, self.config.clients))
        require(primitives.verifies(self.cohort[sender], signed, signature), "bad-signature")
        self.confirmations[sender] = signature

    def _take_unmask(self, sender: int, openings: bytes, attachment: bytes = b"") -> str:
        dealers = [member for member in self.near[sender] if member in self.shared]
        require(len(openings) == wire.OPENING * len(dealers), "wrong-length")  # R-UNMASK-4
        require(len(attachment) == self.config.attachment_bytes, "wrong-length")  # R-ATTACH-4
        self.attachments[sender] = attachment
        event = "accepted"
        for dealer, record in zip(dealers, wire.records(openings, wire.OPENING, len(dealers)), strict=True):
            kind, values = int(dealer in self.survivors), read_share(record[:40])
            commitment = self.labels.share_commitment(self.session, dealer, sender, kind, record[40:], record[:40])
            if values and commitment == self.dealt[dealer][1][sender][32 * kind : 32 * kind + 32]:
                self.shares.setdefault(dealer, {})[sender] = values
            else:
                event = "bad-share"
        return event

    # Closing: each decides with what is there.

    def close_phase(self) -> dict[int, bytes]:
        """The messages to send, by receiver.  Without enough answers the round is ABORTED."""
        listening = [member for member in self.recipients if member not in self.left]
        try:
            participants, make = getattr(self, f"_close_{self.phase.lower()}")()
        except Refused as ends:
            self.phase = "ABORTED"
            return dict.fromkeys(listening, self._abort(ends.code))
        phases = phases_of(self.config)
        self.phase = phases[phases.index(self.phase) + 1]
        if self.phase == "ANSWER" and self.accused:  # R-COMPLAIN-3: the others stay, and get nothing
            told = [member for member in participants if member not in self.left]
            gone = dict.fromkeys({*listening} - {*told}, self._abort("excluded"))
            self.recipients, self.awaited = told, {*told} & {*self.accused}
            return gone | {member: make(member) for member in sorted(self.awaited)}
        if self.phase == "ANSWER":
            participants, make = self._close_answer()
            self.phase = "MASK"
        self.recipients = [member for member in participants if member not in self.left]
        self.awaited = {*self.recipients}
        out = dict.fromkeys(listening, self._abort("excluded")) if self.phase != "COMPUTE" else {}
        return out | {member: make(member) for member in self.recipients}

    def _near(self, member: int, members: Collection[int]) -> list[int]:
        return [other for other in self.near[member] if other in members]

    def _group_of(self, member: int) -> int:
        return next(number for number, group in enumerate(self.groups) if member in group)

    def _going_on(self, able: list[int], needed: int) -> list[int]:
        """R-GROUP-4: those of the able whose groups go on; the other groups are left out."""
        self.open = [g for g in self.open if len({*self.groups[g]} & {*able}) >= needed]
        return [member for member in able if self._group_of(member) in self.open]

    def _close_advertise(self) -> Closed:
        config, roster = self.config, sorted({*self.keys} - self.left)
        leaves = [self.labels.empty_leaf(member) for member in self.everybody]
        for member in roster:
            leaves[member] = self.labels.leaf(member, *self.both(self.keys[member]))
        root = proved_root(dict(enumerate(leaves)), config.clients, b"", self.labels.node)
        digest = self.labels.roster_digest(self.round_id, config.clients, root)
        self.session = self.labels.session_id(config.digest, self.nonce, digest)
        self.near = {member: neighbours_of(member, config, digest, self.session) for member in roster}
        self.groups = groups_of(config, digest, self.session)
        self.places = places_of(config, digest, self.session) if config.suite == 3 else {}
        able = [member for member in roster if len(self._near(member, roster)) >= config.threshold]
        able = self._going_on(able, config.min_group)
        require(len(able) >= config.min_survivors, "too-few-clients")  # R-ADVERTISE-9
        drawn, self.near = self.near, {member: self._near(member, roster) for member in roster}

        def make(member: int) -> bytes:
            present, absent, signatures, proof = self.near[member], [], b"", b""
            if config.active:
                absent = [other for other in drawn[member] if other not in roster]
                signatures = b"".join(self.signatures[other] for other in present)
                proof = prove(leaves, [member, *drawn[member]], self.labels.node)
            keys = b"".join(self.keys[other] for other in present)
            parts = self.keys[member], wire.ids(present), keys, wire.ids(absent), signatures, proof
            return self._encode("Roster", self.round_id, digest, *parts)

        return able, make

    def _prune(self, alive: list[int]) -> list[int]:
        """R-SHARE-9: who has t neighbours among those that go on."""
        while pruned := [member for member in alive if len(self._near(member, alive)) < self.config.threshold]:
            alive = sorted({*alive} - {*pruned})
        alive = self._going_on(alive, self.config.min_group)
        require(len(alive) >= self.config.min_survivors, "too-few-clients")  # R-SHARE-9
        return alive

    def _close_complain(self) -> Closed:
        # R-COMPLAIN-10
        pairs = [(holder, dealer) for holder, dealers in self.complaints.items() for dealer in dealers]
        conflicts = {
            member: {*(d for h, d in pairs if h == member), *(h for h, d in pairs if d == member)}
            for member in self.shared
        }
        self.named = [member for member in self.shared if len(conflicts[member]) > self.config.complaints]
        self.shared = self._prune(sorted({*self.complaints} - self.left - {*self.named}))
        self.accused = {
            dealer: holders
            for dealer in self.shared
            if (holders := sorted(h for h, d in pairs if d == dealer and h in self.shared))
        }

        def make(member: int) -> bytes:
            holders = self.accused[member]
            signatures = b"".join(self.complaints[holder][member] for holder in holders)
            return self._encode("Accusations", self.session, wire.ids(holders), signatures)

        return self.shared, make

    def _close_answer(self) -> Closed:
        # R-COMPLAIN-10
        silent = {*self.accused} - {*self.answers}
        self.shared = self._prune(sorted({*self.shared} - self.left - silent))

        def make(member: int) -> bytes:
            dealers = self._near(member, self.shared)
            opened = [self.answers[d][member] for d in dealers if member in self.answers.get(d, {})]
            pairs, signatures = (b"".join(part) for part in zip(*opened, strict=True)) if opened else (b"", b"")
            return self._encode("Settled", self.session, wire.ids(dealers), pairs, signatures)

        return self.shared, make

    def _close_share(self) -> Closed:
        alive = self.shared = self._prune(sorted({*self.dealt} - self.left))

        def make(member: int) -> bytes:
            dealers = self._near(member, alive)
            parts = [b"".join(self.dealt[dealer][part][member] for dealer in dealers) for part in (0, 1)]
            if self.config.suite == 3:  # R-HYBRID-10
                parts.append(b"".join(self.pair_secrets[dealer].get(member, b"") for dealer in dealers))
            return self._encode("Shares", self.session, wire.ids(dealers), *parts)

        return alive, make

    def _close_mask(self) -> Closed:
        self.survivors = self._going_on(sorted(self.taken["MASK"]), self.config.min_group)
        require(len(self.survivors) >= self.config.min_survivors, "too-few-clients")  # R-MASK-8
        for owner in self._owners():
            require(len(self._near(owner, self.survivors)) >= self.config.threshold, "too-few-clients")
        self.message = self._encode("Survivors", self.session, wire.bitmap(self.survivors, self.config.clients))
        return self.survivors, lambda member: self.message

    def _owners(self) -> list[int]:
        """Whose secrets UNMASK opens: the survivors' seeds, the masking keys of those that they masked against."""
        asked = [m for m in self.shared if m in self.survivors or self._near(m, self.survivors)]
        return [m for m in asked if self._group_of(m) in self.open]

    def _close_confirm(self) -> Closed:
        signed = self._going_on(sorted(self.confirmations), self.config.quorum)
        require(len(signed) >= self.config.quorum, "too-few-clients")  # R-CONFIRM-3

        def make(member: int) -> bytes:
            own = [signer for signer in signed if self._group_of(signer) == self._group_of(member)]  # R-GROUP-7
            signers = own[: self.config.quorum]
            signatures = b"".join(self.confirmations[signer] for signer in signers)
            return self._encode("Confirmations", self.session, wire.bitmap(signers, self.config.clients), signatures)

        return signed, make

    def _close_unmask(self) -> Closed:
        # R-UNMASK-5
        short = {
            self._group_of(owner) for owner in self._owners() if len(self.shares.get(owner, {})) < self.config.threshold
        }
        self.open = [group for group in self.open if group not in short]
        require(self.open != [], "too-few-clients")
        return [], lambda member: b""

    def compute(self) -> list[int]:
        """The sum of each group, and of them all.  R-GROUP-8: a bad dealer costs its own group."""
        bad = Refused("too-few-clients")
        for group in self.open:
            try:
                self.sums[group] = self._unmasked(group)
            except Refused as refused:
                bad = refused
        if not self.sums:
            raise bad
        self.phase = "DONE"
        self.open = sorted(self.sums)
        return [sum(column) % self.config.modulus for column in zip(*self.sums.values(), strict=True)]

    def included(self, group: int | None = None) -> list[int]:
        """Whose vectors are in a group's sum, or in the sum of all that were opened."""
        numbers = self.open if group is None else [group]
        return [member for member in self.survivors if self._group_of(member) in numbers]

    def _pair_secret(self, pair: KeyPair, lost: int, other: int) -> bytes:
        """R-HYBRID-14: the secret of a lost client's pair with a survivor, from the lost one's masking key pair."""
        if hybrid.sealer(self.places, lost, other) == lost:
            ends, secret = (lost, other), hybrid.pair_secret(self.config, self.session, pair, lost, other)
        else:
            ends, theirs = (other, lost), self.both(self.keys[other])[1]
            record = self.pair_secrets[other][lost]
            if lost in self.answers.get(other, {}):  # R-COMPLAIN-14
                opened: bytes | None = self.answers[other][lost][0][wire.PAIR :]
            else:
                opened = hybrid.open_secret(self.config, self.session, pair, ends, theirs, record)
            require(opened is not None, "bad-dealer", other)
            secret = opened or b""
        record = self.pair_secrets[ends[0]][ends[1]]
        require(hybrid.is_committed(self.config, self.session, ends, secret, record), "bad-dealer", ends[0])
        return secret

    def _unmasked(self, group: int) -> list[int]:
        """A group's sum: every survivor's mask, and every mask of a pair with a lost client, is taken out again."""
        config, session, suite, total = self.config, self.session, self.config.suite, self.totals[group]
        for owner in self._owners():
            if self._group_of(owner) != group:
                continue
            secret = reconstruct(dict(sorted(self.shares[owner].items())[: config.threshold]))
            require(secret != b"", "bad-dealer", owner)  # R-UNMASK-7
            if owner in self.survivors:
                commitment = derive(secret, session, self.labels.seed_commitment_info(suite, owner), 32)
                require(commitment == self.seeds[owner], "bad-dealer", owner)
                keys = [(-1, derive(secret, session, self.labels.self_mask_info(suite, owner), KEY_BYTES[suite]))]
            else:
                pair = KeyPair(config, self.round_id, owner, secret, b"masking")
                require(pair.public == self.both(self.keys[owner])[1], "bad-dealer", owner)  # R-HYBRID-4
                keys = []
                for other in self._near(owner, self.survivors):
                    both = self._pair_secret(pair, owner, other) if suite == 3 else b""
                    theirs = self.both(self.keys[other])[1]
                    key = hybrid.mask_key(config, session, owner, other, pair, theirs, both)
                    keys.append((1 if owner < other else -1, key))
            for sign, key in keys:
                stream = mask(key, 0, config.masked_length, config.masked_modulus)
                total = [(x + sign * y) % config.masked_modulus for x, y in zip(total, stream, strict=True)]
        if not config.envelope:
            return total
        public = self.labels.envelope_polynomials(session)[: KEY_BYTES[suite]]
        members = len({*self.groups[group]} & {*self.survivors})
        opened = envelopes.open_sum(config.envelope, public, self.envelopes[group], total, members)
        return [x % config.modulus for x in opened]
