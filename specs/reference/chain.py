"""Certificates of rounds, receipts, and what a client asks that keeps a chain of them: section 9 of version 2."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from math import inf
from typing import Any

from . import primitives, wire
from .arithmetic import pack_vector
from .rules import Config, read_config
from .wire import Refused, require

NONE = bytes(32)  # what the first certificate of a chain has for the one before it
PHASES = ("ADVERTISE", "SHARE", "COMPLAIN", "ANSWER", "MASK", "CONFIRM", "UNMASK")
CODES = (  # of a server's refusals
    *("malformed", "too-large", "wrong-version", "wrong-session", "wrong-phase", "conflict", "peer-aborted"),
    *("unknown-sender", "key-unusable", "key-repeated", "bad-signature", "wrong-length", "element-range", "padding"),
    *("bad-share", "bad-dealer", "complaint-dealers", "bad-answer", "disputed"),
)

# The shape of the arrays: a word for each element, as `fits` reads it.
SUM, LOST, FAULT = ["count", "bytes", "hash"], ["text", "bytes"], ["count", "text", "text"]
ENDED, SPENT = ["text", "count", "bytes", "bytes"], ["float", "float"]
CERTIFICATE: list[Any] = ["count", "hash", "count", "text", "count", "bytes", "hash", *["bytes"] * 6]
CERTIFICATE += [[SUM], [LOST], [FAULT], (ENDED,), *["bytes"] * 3, (SPENT,), "hash", "signature"]
RECEIPT: list[Any] = ["count", "hash", "count", "hash", "count", "signature"]
KINDS: Mapping[str, Callable[[Any], bool]] = {
    "count": lambda value: isinstance(value, int) and 0 <= value <= 2**53,
    "text": lambda value: isinstance(value, str) and len(value) <= 64,
    "bytes": lambda value: isinstance(value, bytes),
    "hash": lambda value: isinstance(value, bytes) and len(value) == 32,
    "signature": lambda value: isinstance(value, bytes) and len(value) == 64,
    "float": lambda value: isinstance(value, float),
}


def fits(value: Any, kind: Any) -> bool:
    """Whether an element has its shape: a tuple stands for nil or an array, a list in a list for any number of them."""
    if isinstance(kind, str):
        return KINDS[kind](value)
    if isinstance(kind, tuple):
        return value is None or fits(value, kind[0])
    if not isinstance(value, list):
        return False
    if isinstance(kind[0], list):
        return all(fits(part, kind[0]) for part in value)
    return len(value) == len(kind) and all(map(fits, value, kind))


def unpacked(data: bytes, shape: Sequence[Any]) -> list[Any]:
    """R-CHAIN-1: the elements, which are in their shortest form."""
    try:
        values = wire.unpack(data, depth=3)
    except Refused:
        raise Refused("invalid") from None
    require(len(values) == len(shape) and all(map(fits, values, shape)), "invalid")
    require(wire.pack(values) == data and values[0] == 1, "invalid")
    return values


@dataclass(frozen=True)
class Certificate:
    """In the order of the wire; the arrays in it are lists."""

    form: int
    previous: bytes
    number: int
    name: str
    time: int
    encoded: bytes  # the config
    nonce: bytes
    roster: bytes
    advertised: bytes
    dealers: bytes
    survivors: bytes
    signers: bytes
    signatures: bytes
    sums: list[Any]
    lost: list[Any]
    faults: list[Any]
    ended: list[Any] | None
    silent: bytes
    statements: bytes
    transcript: bytes
    spent: list[float] | None
    server: bytes
    signature: bytes = bytes(64)

    def to_bytes(self) -> bytes:
        return wire.pack(astuple(self))

    @property
    def config(self) -> Config:
        return read_config(self.encoded)

    @property
    def digest(self) -> bytes:
        return self.config.labels.certificate_digest(self.to_bytes())

    @property
    def session(self) -> bytes:
        return self.config.labels.session_id(self.config.digest, self.nonce, self.roster) if self.roster else b""

    def members(self, bitmap: bytes) -> list[int]:
        return wire.read_bitmap(bitmap, self.config.clients) if bitmap else []

    def signed(self) -> bytes:
        """R-CHAIN-3: what the server signs."""
        return self.config.labels.signed_certificate(replace(self, signature=bytes(64)).to_bytes())

    def signed_by(self, seed: bytes) -> "Certificate":
        named = replace(self, server=primitives.identity_key(seed))
        return replace(named, signature=primitives.sign(seed, named.signed()))


def read(data: bytes) -> Certificate:
    """The certificate, if it agrees with itself: all of R-CHAIN-5 that one alone can show, but its members' word."""
    try:
        certificate = Certificate(*unpacked(data, CERTIFICATE))
        check(certificate, certificate.config)
    except (Refused, ValueError):
        raise Refused("invalid") from None
    return certificate


def check(c: Certificate, config: Config) -> None:
    require(config.to_bytes() == c.encoded, "invalid")
    require(primitives.verifies(c.server, c.signed(), c.signature), "invalid")  # R-CHAIN-3
    require(config.chain in (b"", c.previous), "invalid")
    require((c.number == 0) == (c.previous == NONE), "invalid")
    require(len(c.roster) == (32 if c.advertised else 0), "invalid")
    roster, dealers, survivors, signers, silent = (
        {*c.members(shown)} for shown in (c.advertised, c.dealers, c.survivors, c.signers, c.silent)
    )
    require(survivors <= dealers <= roster and signers <= survivors, "invalid")
    require(len(c.signatures) == 64 * len(signers) and len(c.statements) == 64 * len(silent), "invalid")
    require(not signers or config.active, "invalid")
    summed = {member for _, members, _ in c.sums for member in c.members(members)}
    require(not silent or (config.active and c.roster != b"" and not silent & summed), "invalid")  # R-CHAIN-13
    for member, phase, code in c.faults:
        require(member < config.clients and phase in (*PHASES, "COMPUTE", "DONE", "ABORTED"), "invalid")
        require(code in CODES, "invalid")
    require(c.spent is None or (0 <= c.spent[0] < inf and 0 <= c.spent[1] <= 1), "invalid")
    phases, lost = [phase for phase, _ in c.lost], [{*c.members(members)} for _, members in c.lost]
    require(phases == [phase for phase in PHASES if phase in phases] and all(lost), "invalid")
    require(sum(map(len, lost)) == len({member for members in lost for member in members}), "invalid")
    if c.ended is not None:
        phase, code, missing, culprits = c.ended
        require(c.sums == [] and c.transcript == b"", "invalid")
        require(phase in (*PHASES, "COMPUTE") and code < len(wire.ABORTS), "invalid")
        for shown in (missing, culprits):
            c.members(shown)  # refuses what is no set
        return
    require(len(c.transcript) == 32 and len(survivors) >= config.min_survivors, "invalid")
    early = {m for phase, members in zip(phases, lost, strict=True) if phase in PHASES[:5] for m in members}
    require(early == {*range(config.clients)} - survivors, "invalid")
    check_sums(c, config, survivors, signers)


def check_sums(c: Certificate, config: Config, survivors: set[int], signers: set[int]) -> None:
    numbers = [number for number, _, _ in c.sums]
    require(numbers != [] and numbers == sorted({*numbers}) and numbers[-1] < config.groups, "invalid")
    rest = survivors
    for _, shown, _ in c.sums:
        members = {*c.members(shown)}
        require(members <= rest and len(members) >= config.min_group, "invalid")
        require(len(members & signers) >= config.quorum, "invalid")
        rest = rest - members
    require(config.groups > 1 or rest == set(), "invalid")


def check_members(c: Certificate, cohort: Sequence[bytes]) -> None:
    """R-CHAIN-5, R-CHAIN-13: confirmations and statements are the members'."""
    labels = c.config.labels
    confirmed, silence = labels.signed_survivors(c.session, c.survivors), labels.signed_silence(c.session)
    for signed, shown, joined in ((confirmed, c.signers, c.signatures), (silence, c.silent, c.statements)):
        ids = c.members(shown)
        for member, signature in zip(ids, wire.records(joined, 64, len(ids)), strict=True):
            require(primitives.verifies(cohort[member], signed, signature), "invalid")


def follows(before: Certificate, after: Certificate) -> bool:
    """R-CHAIN-4."""
    return (
        after.previous == before.digest
        and after.number == before.number + 1
        and after.server == before.server
        and after.config.cohort == before.config.cohort
        and (after.time == 0 or after.time >= before.time)
    )


def is_once(chain: Sequence[Certificate]) -> bool:
    """R-CHAIN-5: no config and nonce stand in a chain twice."""
    return len({(c.encoded, c.nonce) for c in chain}) == len(chain)


# Who reads a whole chain.


def audit(
    certificates: Iterable[bytes], receipts: Iterable[bytes], server: bytes, cohort: Sequence[bytes]
) -> list[Certificate]:
    """The chain, if it holds from its first certificate on, and the receipts do: anything else is refused."""
    chain = [read(data) for data in certificates]
    require(chain != [] and chain[0].number == 0 and chain[0].server == server, "invalid")
    require(all(follows(before, after) for before, after in pairwise(chain)) and is_once(chain), "invalid")
    for c in chain:
        if c.config.active:
            check_members(c, cohort)
    for data in receipts:
        check_receipt(data, chain, cohort)
    return chain


def check_receipt(data: bytes, chain: Sequence[Certificate], cohort: Sequence[bytes]) -> None:
    """R-CHAIN-16."""
    _, session, number, digest, member, signature = unpacked(data, RECEIPT)
    found = [c for c in chain if c.config.active and c.session == session]
    require(found != [] and member < len(cohort) and number < 2**32, "invalid")
    signed = found[0].config.labels.signed_receipt(session, number, digest)
    require(primitives.verifies(cohort[member], signed, signature), "invalid")
    require((number, digest) in [(n, d) for n, _, d in found[0].sums], "invalid")


# A client that keeps a chain.


@dataclass(frozen=True)
class Answered:
    """The round in which a client answered last, until it is settled."""

    session: bytes
    survivors: bytes
    dealers: tuple[int, ...]
    threshold: int
    received: bytes = b""  # the digest of the certificate that it signed a receipt for


@dataclass(frozen=True)
class End:
    """What a client stores of a cohort's chain."""

    head: bytes = b""
    answered: Answered | None = None
    disclaimed: tuple[bytes, ...] = ()


class Chain:
    """One client's: the key of its server, and the end of the chain of each cohort."""

    def __init__(self, server: bytes) -> None:
        self.server, self.ends = server, dict[bytes, End]()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Chain":
        """It is the host's, and outlasts the client: one that was stored comes back to it."""
        return self

    def end(self, cohort: bytes) -> End:
        return self.ends.get(cohort, End())

    def joined(self, config: Config, index: int, cohort: Sequence[bytes], brought: Sequence[bytes]) -> End:
        """The end after an invitation, which is refused unless R-CHAIN-8 to R-CHAIN-10 and R-CHAIN-15 hold."""
        try:
            certificates = [read(data) for data in brought]
        except Refused:
            raise Refused("chain-certificate") from None  # R-CHAIN-8
        require(all(c.server == self.server for c in certificates), "chain-certificate")
        require(all(c.config.cohort == config.cohort for c in certificates), "chain-certificate")
        require(is_once(certificates), "chain-certificate")
        end = self.end(config.cohort)
        known = [place for place, c in enumerate(certificates) if c.digest == end.head]
        new = certificates[known[0] + 1 :] if known else certificates
        self._linked(end.head, new, config.chain)
        if end.answered:
            self._settled(end.answered, index, new, cohort)
        return replace(end, head=config.chain, answered=None)

    def _linked(self, head: bytes, new: Sequence[Certificate], chain: bytes) -> None:
        """R-CHAIN-9."""
        require(not new or head in (b"", new[0].previous), "chain-broken")
        require(all(follows(before, after) for before, after in pairwise(new)), "chain-broken")
        last = new[-1].digest if new else head
        require(last in (b"", chain), "chain-broken")

    def _settled(self, answered: Answered, index: int, new: Sequence[Certificate], cohort: Sequence[bytes]) -> None:
        """R-CHAIN-10: the round that the client answered in is among the certificates, and ended as it can have."""
        found = next((c for c in new if c.session == answered.session), None)
        if found is None:
            raise Refused("chain-unsettled")
        require(found.ended is not None or found.survivors == answered.survivors, "chain-unsettled")
        require(answered.received in (b"", found.digest), "chain-unsettled")  # R-CHAIN-15
        if any(index in found.members(members) for _, members, _ in found.sums):
            return
        silent, signed = found.members(found.silent), found.config.labels.signed_silence(answered.session)
        statements = dict(zip(silent, wire.records(found.statements, 64, len(silent)), strict=True))
        near = [member for member in silent if member in answered.dealers]
        require(len(near) >= answered.threshold, "chain-unsettled")
        for member in near:
            require(primitives.verifies(cohort[member], signed, statements[member]), "chain-unsettled")

    def answer(self, config: Config, session: bytes, survivors: bytes, dealers: Iterable[int]) -> None:
        """R-CHAIN-11 and R-CHAIN-12: before the answer to Confirmations leaves."""
        end = self.end(config.cohort)
        require(session not in end.disclaimed, "chain-disclaimed")
        require(end.answered is None or end.answered.session == session, "chain-unsettled")
        require(config.chain == end.head, "chain-unsettled")
        answered = Answered(session, survivors, tuple(dealers), config.threshold)
        self.ends[config.cohort] = replace(end, answered=end.answered or answered)

    def disclaim(self, config: Config, session: bytes, seed: bytes) -> bytes:
        """R-CHAIN-12: the statement of a member that did not answer."""
        end = self.end(config.cohort)
        if end.answered and end.answered.session == session:
            raise ValueError("not now")
        self.ends[config.cohort] = replace(end, disclaimed=(*end.disclaimed, session))
        return primitives.sign(seed, config.labels.signed_silence(session))

    def receive(self, data: bytes, total: Sequence[int], number: int, cohort: Sequence[bytes], seed: bytes) -> bytes:
        """R-CHAIN-14 and R-CHAIN-15: the receipt for a total that came with a certificate."""
        handed = read(data)
        require(handed.server == self.server, "invalid")
        end, labels = self.end(handed.config.cohort), handed.config.labels
        answered = end.answered
        if answered is None:
            raise ValueError("not now")
        require((handed.session, handed.survivors) == (answered.session, answered.survivors), "invalid")
        check_members(handed, cohort)
        digest = sum_digest(handed, total)
        require((number, digest) in [(n, d) for n, _, d in handed.sums], "invalid")
        if answered.received not in (b"", handed.digest):
            raise ValueError("not now")
        self.ends[handed.config.cohort] = replace(end, answered=replace(answered, received=handed.digest))
        signature = primitives.sign(seed, labels.signed_receipt(handed.session, number, digest))
        member = cohort.index(primitives.identity_key(seed))
        return wire.pack([1, handed.session, number, digest, member, signature])


def sum_digest(certificate: Certificate, total: Sequence[int]) -> bytes:
    """R-CHAIN-2."""
    packed = pack_vector(list(total), certificate.config.modulus)
    return certificate.config.labels.sum_digest(certificate.session, packed)
