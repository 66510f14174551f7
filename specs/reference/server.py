"""A server of one round.  Each refusal stands with the requirement that it carries out."""

import hashlib
from collections.abc import Callable, Collection, Sequence

from . import primitives, wire
from .arithmetic import mask, read_share, reconstruct, unpack_vector
from .client import pairwise_key
from .primitives import KEY_BYTES, derive
from .rules import Config, neighbours_of, prove, proved_root
from .wire import Refused, require

COLLECTS = ("ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK")
PHASES = {"semi_honest": (*COLLECTS[:3], "UNMASK", "COMPUTE", "DONE"), "active": (*COLLECTS, "COMPUTE", "DONE")}
PHASE_OF = dict(zip(wire.TO_SERVER, COLLECTS, strict=True))

Closed = tuple[list[int], Callable[[int], bytes]]  # who takes part in the next phase, and what each of them is sent


class Server:
    """``receive`` collects a phase's messages, ``close_phase`` ends it and gives what to send, ``compute`` the sum."""

    def __init__(self, config: Config, draw: Callable[[int], bytes], cohort: Sequence[bytes] = ()) -> None:
        """``cohort`` holds the identity keys by index, in ``active``."""
        self.config, self.cohort, self.nonce, self.phase = config, cohort, draw(32), "ADVERTISE"
        self.labels = config.labels
        self.round_id, self.session = self.labels.round_id(config.digest, self.nonce), b""
        self.everybody = range(config.clients)
        self.recipients, self.awaited, self.left = list(self.everybody), set(self.everybody), set[int]()
        self.taken: dict[str, dict[int, bytes]] = {phase: {} for phase in COLLECTS}  # digests of messages
        self.keys: dict[int, bytes] = {}
        self.signatures, self.seeds = dict[int, bytes](), dict[int, bytes]()  # of ADVERTISE, and commitments of SHARE
        self.dealt: dict[int, list[dict[int, bytes]]] = {}  # by holder: sealed pairs, and commitments
        self.shared, self.survivors = list[int](), list[int]()
        self.total = [0] * config.length
        self.confirmations: dict[int, bytes] = {}
        self.shares: dict[int, dict[int, list[int]]] = {}
        self.attachments: dict[int, bytes] = {}

    def invitation(self) -> bytes:
        """The same for everybody."""
        return self._encode("Invitation", self.round_id, self.config.to_bytes(), self.nonce)

    def _encode(self, name: str, session: bytes, *fields: int | bytes) -> bytes:
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
        limit = max(map(self.config.max_bytes, wire.TO_SERVER))
        name, session, fields = wire.decode(data, ("Abort", *wire.TO_SERVER), limit, (self.config.version,))
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
        require(not any(map(primitives.has_low_order, fresh)), "key-unusable")
        known = [key for both in self.keys.values() for key in (both[:32], both[32:])] + fresh
        require(len({*known}) == len(known), "key-repeated")
        if self.config.active:
            signed = self.labels.signed_advertisement(self.config.digest, self.nonce, sender, *fresh)
            require(primitives.verifies(self.cohort[sender], signed, signature), "bad-signature")
        self.keys[sender], self.signatures[sender] = channel_key + masking_key, signature

    def _take_share(self, sender: int, seed_commitment: bytes, sealed: bytes, committed: bytes) -> None:
        near, blobs = self.near[sender], ((sealed, wire.SEALED), (committed, 64))
        require(all(len(blob) == size * len(near) for blob, size in blobs), "wrong-length")  # R-SHARE-8
        split = [wire.records(blob, size, len(near)) for blob, size in blobs]
        self.seeds[sender], self.dealt[sender] = seed_commitment, [dict(zip(near, part, strict=True)) for part in split]

    def _take_mask(self, sender: int, vector: bytes) -> None:
        masked = unpack_vector(vector, self.config.length, self.config.modulus)
        self.total = [(x + y) % self.config.modulus for x, y in zip(self.total, masked, strict=True)]

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
        phases = PHASES[self.config.threat_model]
        self.phase = phases[phases.index(self.phase) + 1]
        self.recipients = [member for member in participants if member not in self.left]
        self.awaited = {*self.recipients}
        out = dict.fromkeys(listening, self._abort("excluded")) if self.phase != "COMPUTE" else {}
        return out | {member: make(member) for member in self.recipients}

    def _near(self, member: int, members: Collection[int]) -> list[int]:
        return [other for other in self.near[member] if other in members]

    def _close_advertise(self) -> Closed:
        config, roster = self.config, sorted({*self.keys} - self.left)
        leaves = [self.labels.empty_leaf(member) for member in self.everybody]
        for member in roster:
            leaves[member] = self.labels.leaf(member, self.keys[member][:32], self.keys[member][32:])
        root = proved_root(dict(enumerate(leaves)), config.clients, b"", self.labels.node)
        digest = self.labels.roster_digest(self.round_id, config.clients, root)
        self.session = self.labels.session_id(config.digest, self.nonce, digest)
        self.near = {member: neighbours_of(member, config, digest, self.session) for member in roster}
        able = [member for member in roster if len(self._near(member, roster)) >= config.threshold]
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

    def _close_share(self) -> Closed:
        alive, threshold = sorted({*self.dealt} - self.left), self.config.threshold
        while pruned := [member for member in alive if len(self._near(member, alive)) < threshold]:
            alive = sorted({*alive} - {*pruned})
        require(len(alive) >= self.config.min_survivors, "too-few-clients")  # R-SHARE-9
        self.shared = alive

        def make(member: int) -> bytes:
            dealers = self._near(member, alive)
            sealed, committed = (b"".join(self.dealt[dealer][part][member] for dealer in dealers) for part in (0, 1))
            return self._encode("Shares", self.session, wire.ids(dealers), sealed, committed)

        return alive, make

    def _close_mask(self) -> Closed:
        self.survivors = sorted(self.taken["MASK"])
        require(len(self.survivors) >= self.config.min_survivors, "too-few-clients")  # R-MASK-8
        for owner in self._owners():
            require(len(self._near(owner, self.survivors)) >= self.config.threshold, "too-few-clients")
        self.message = self._encode("Survivors", self.session, wire.bitmap(self.survivors, self.config.clients))
        return self.survivors, lambda member: self.message

    def _owners(self) -> list[int]:
        """Whose secrets UNMASK opens: the survivors' seeds, the masking keys of those that they masked against."""
        return [m for m in self.shared if m in self.survivors or self._near(m, self.survivors)]

    def _close_confirm(self) -> Closed:
        require(len(self.confirmations) >= self.config.quorum, "too-few-clients")  # R-CONFIRM-3
        signers = sorted(self.confirmations)[: self.config.quorum]
        signatures = b"".join(self.confirmations[signer] for signer in signers)
        message = self._encode("Confirmations", self.session, wire.bitmap(signers, self.config.clients), signatures)
        return sorted(self.confirmations), lambda member: message

    def _close_unmask(self) -> Closed:
        # R-UNMASK-5
        for owner in self._owners():
            require(len(self.shares.get(owner, {})) >= self.config.threshold, "too-few-clients")
        return [], lambda member: b""

    def compute(self) -> list[int]:
        """The sum: every survivor's mask and every mask of a pair with a client that was lost is taken out again."""
        config, session, suite, total = self.config, self.session, self.config.suite, self.total
        for owner in self._owners():
            secret = reconstruct(dict(sorted(self.shares[owner].items())[: config.threshold]))
            require(secret != b"", "bad-dealer", owner)  # R-UNMASK-7
            if owner in self.survivors:
                commitment = derive(secret, session, self.labels.seed_commitment_info(suite, owner), 32)
                require(commitment == self.seeds[owner], "bad-dealer", owner)
                keys = [(-1, derive(secret, session, self.labels.self_mask_info(suite, owner), KEY_BYTES[suite]))]
            else:
                own = primitives.public_key(secret)
                require(own == self.keys[owner][32:], "bad-dealer", owner)
                keys = []
                for other in self._near(owner, self.survivors):
                    key = pairwise_key(config, session, owner, other, secret, own, self.keys[other][32:])
                    keys.append((1 if owner < other else -1, key))
            for sign, key in keys:
                stream = mask(key, 0, config.length, config.modulus)
                total = [(x + sign * y) % config.modulus for x, y in zip(total, stream, strict=True)]
        self.phase = "DONE"
        return total
