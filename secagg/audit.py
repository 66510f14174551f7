"""Reading a history of rounds offline: every certificate, the chain that they make, and what it says for an auditor.

Nothing here reads a file; ``secagg audit`` does.  What a history proves, and what it does not, is in ``docs/audit.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import msgspec

from secagg.errors import AbortCode, CertificateError
from secagg.identity import Directory
from secagg.pairwise.certificate import NO_CERTIFICATE, Certificate, check_follows
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.receipt import Receipt

if TYPE_CHECKING:
    from concurrent.futures import Executor


_Signed: TypeAlias = tuple[int, Certificate, Sequence[bytes]]
"""A certificate with its place in the history, and the identity keys of its cohort."""
_CERTIFICATES_PER_JOB: Final = 64


@final
@dataclass(frozen=True, slots=True)
class AuditedRound:
    """What a certificate says of its round, with members by cohort index.

    Attributes:
        number, name, time: as in the certificate.
        config: under which rules the round was played.
        session: the session's id, or nothing for a round that ended without a roster.
        advertised, dealers, included: who stands in the roster, who dealt shares, whose vectors were summed.
        signers: who confirmed the survivors.
        lost: by phase, whom it was closed without.
        faults: (member, phase, code) of whoever broke a rule.
        outcome: ``sum``, or the name of the abort code.
        ended_in: the phase in which a round without a sum ended; empty with a sum.
        missing, culprits: whom a round without a sum waited for in vain, and who is to blame.
        sums: (group, members, digest) of what was opened.
        epsilon, delta: the privacy that the round took; None where none was promised.
        digest: of the certificate, which the next one names.
        receipts: the members whose receipts for a total of the round were given to the audit, and hold.
    """

    number: int
    name: str
    time: int
    config: RoundConfig
    session: bytes
    advertised: tuple[int, ...]
    dealers: tuple[int, ...]
    included: tuple[int, ...]
    signers: tuple[int, ...]
    lost: Mapping[str, tuple[int, ...]]
    faults: tuple[tuple[int, str, str], ...]
    outcome: str
    ended_in: str
    missing: tuple[int, ...]
    culprits: tuple[int, ...]
    sums: tuple[tuple[int, tuple[int, ...], bytes], ...]
    epsilon: float | None
    delta: float | None
    digest: bytes
    receipts: tuple[int, ...] = ()

    @classmethod
    def of(cls, certificate: Certificate) -> AuditedRound:
        """What a certificate says that was checked."""
        ended, spent, members = certificate.ended, certificate.spent, certificate.members
        return cls(
            number=certificate.number,
            name=certificate.name,
            time=certificate.time,
            config=certificate.round_config,
            session=certificate.session,
            advertised=members(certificate.advertised),
            dealers=members(certificate.dealers),
            included=members(certificate.survivors),
            signers=members(certificate.signers),
            lost={entry.phase: members(entry.members) for entry in certificate.lost},
            faults=tuple((fault.sender, fault.phase, fault.code) for fault in certificate.faults),
            outcome="sum" if ended is None else AbortCode(ended.code).name.lower().replace("_", "-"),
            ended_in="" if ended is None else ended.phase,
            missing=() if ended is None else members(ended.missing),
            culprits=() if ended is None else members(ended.culprits),
            sums=tuple((opened.number, members(opened.members), opened.digest) for opened in certificate.sums),
            epsilon=None if spent is None else spent.epsilon,
            delta=None if spent is None else spent.delta,
            digest=certificate.digest,
        )

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's types, digests in hexadecimal digits."""
        config = self.config
        return {
            "number": self.number,
            "name": self.name,
            "time": self.time,
            "digest": self.digest.hex(),
            "session": self.session.hex(),
            "invited": config.clients,
            "advertised": list(self.advertised),
            "dealers": list(self.dealers),
            "included": list(self.included),
            "signers": list(self.signers),
            "lost": {phase: list(members) for phase, members in self.lost.items()},
            "faults": [{"member": member, "phase": phase, "code": code} for member, phase, code in self.faults],
            "outcome": self.outcome,
            "ended_in": self.ended_in,
            "missing": list(self.missing),
            "culprits": list(self.culprits),
            "sums": [
                {"group": group, "members": list(members), "digest": digest.hex()}
                for group, members, digest in self.sums
            ],
            "privacy": None if self.epsilon is None else {"epsilon": self.epsilon, "delta": self.delta},
            "policy": policy_of(config),
            "receipts": list(self.receipts),
        }


def policy_of(config: RoundConfig) -> dict[str, Any]:
    """The rules of a round that an auditor asks for, by name."""
    return {
        "config": config.digest.hex(),
        "version": config.version,
        "threat_model": config.threat_model.value,
        "clients": config.clients,
        "length": config.length,
        "modulus": config.modulus.value,
        "colluders": config.colluders,
        "dropouts": config.dropouts,
        "threshold": config.threshold,
        "quorum": config.quorum,
        "min_survivors": config.min_survivors,
        "sigma": config.sigma,
        "context": config.context.hex(),
        "cohort": config.cohort.hex(),
    }


@final
@dataclass(frozen=True, slots=True)
class History:
    """A chain that holds.

    Attributes:
        server: the public key that signed every certificate of it.
        rounds: in their order.
        head: the digest of the last certificate.
    """

    server: bytes
    rounds: tuple[AuditedRound, ...]
    head: bytes

    @property
    def epsilon(self) -> float:
        """The epsilons of all rounds added up: an upper bound of what they took together, by simple composition."""
        return float(sum(audited.epsilon or 0.0 for audited in self.rounds))

    @property
    def delta(self) -> float:
        """The deltas of all rounds added up."""
        return float(sum(audited.delta or 0.0 for audited in self.rounds))

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON's types."""
        return {
            "server": self.server.hex(),
            "head": self.head.hex(),
            "rounds": [audited.as_json() for audited in self.rounds],
            "privacy": {"epsilon": self.epsilon, "delta": self.delta},
        }


def audit(
    certificates: Iterable[bytes],
    *,
    directory: Directory | None = None,
    server: bytes | None = None,
    head: bytes | None = None,
    partial: bool = False,
    executor: Executor | None = None,
    receipts: Iterable[bytes] = (),
) -> History:
    """Check a whole history: every signature, every quorum, every claim, and the chain.

    Args:
        certificates: in the order of the chain.
        directory: ``active``: who vouches for the cohort, so that the members' signatures can be checked.
        server: the server's public key, where the auditor knows it; else the first certificate's, for all of them.
        head: the digest of the last certificate, where the auditor knows it (a member does, that keeps its chain):
            a history that was cut off at its end is refused then.
        partial: take a history whose beginning is not there.
        executor: where the members' signatures are verified, which takes most of the time; threads serve, because
            verifying releases the GIL.  This thread when not given.
        receipts: of members, in any order, for totals of these rounds.

    Raises CertificateError, which says which certificate or receipt does not hold, and why.
    """
    rounds: list[AuditedRound] = []
    sessions: set[tuple[bytes, bytes]] = set()
    signed: list[_Signed] = []
    last: Certificate | None = None
    digest = NO_CERTIFICATE
    for place, data in enumerate(certificates):
        try:
            certificate = Certificate.from_bytes(data)
            _check_signer(certificate, server if last is None else last.server)
            if last is None:
                _check_first(certificate, partial=partial)
            else:
                check_follows(certificate, last, digest)
            keys = _cohort_of(certificate, directory)
            if (played := (certificate.config, certificate.nonce)) in sessions:
                raise CertificateError("this round was certified before: config and nonce are the same")
        except CertificateError as wrong:
            raise CertificateError(f"certificate {place} of the history: {wrong}") from None
        if keys:
            signed.append((place, certificate, keys))
        audited = AuditedRound.of(certificate)
        rounds.append(audited)
        sessions.add(played)
        last, digest = certificate, audited.digest
    if last is None:
        raise CertificateError("there is no certificate in this history")
    _check_members(signed, executor)
    if head not in (None, digest):
        raise CertificateError(
            f"the history ends with {digest.hex()}, not with {head.hex() if head else ''}: its end is missing, or it "
            "is another history"
        )
    return History(last.server, _with_receipts(rounds, signed, receipts), digest)


def _check_signer(certificate: Certificate, server: bytes | None) -> None:
    if server not in (None, certificate.server):
        raise CertificateError(
            f"it is signed by the server {certificate.server.hex()}, not by {server.hex() if server else ''}"
        )


def _check_first(certificate: Certificate, *, partial: bool) -> None:
    if certificate.number and not partial:
        raise CertificateError(
            f"it has number {certificate.number}: the certificates before it are missing; give them, or ask for a "
            "partial history"
        )


def _cohort_of(certificate: Certificate, directory: Directory | None) -> Sequence[bytes]:
    """The members' identity keys by index, where they sign."""
    config = certificate.round_config
    if not config.threat_model.signs:
        return ()
    keys: Sequence[bytes] | None = None if directory is None else directory.cohort(config.cohort)
    if keys is None or len(keys) != config.clients:
        raise CertificateError(
            f"no directory is given that holds its cohort of {config.clients} with digest {config.cohort.hex()}, and "
            "without one its members' signatures prove nothing"
        )
    return keys


def _check_members(signed: Sequence[_Signed], executor: Executor | None) -> None:
    parts = [signed[start : start + _CERTIFICATES_PER_JOB] for start in range(0, len(signed), _CERTIFICATES_PER_JOB)]
    checked = sum(map(_check_some, parts) if executor is None else executor.map(_check_some, parts))
    if checked != len(signed):  # an executor that loses jobs must not let a signature through
        raise RuntimeError(f"the executor checked {checked} certificates of {len(signed)}: its map() drops jobs")


def _check_some(signed: Sequence[_Signed]) -> int:
    for place, certificate, keys in signed:
        try:
            certificate.check_members(keys)
        except CertificateError as wrong:
            raise CertificateError(f"certificate {place} of the history: {wrong}") from None
    return len(signed)


def _with_receipts(
    rounds: Sequence[AuditedRound], signed: Sequence[_Signed], receipts: Iterable[bytes]
) -> tuple[AuditedRound, ...]:
    """The rounds with the members whose receipts hold (R-CHAIN-16)."""
    by_session = {certificate.session: (place, certificate, keys) for place, certificate, keys in signed}
    holders: dict[int, set[int]] = {}
    for number, data in enumerate(receipts):
        try:
            receipt = Receipt.from_bytes(data)
            if receipt.session not in by_session:
                raise CertificateError(f"no active round of this history has the session {receipt.session.hex()}")
            place, certificate, keys = by_session[receipt.session]
            receipt.check(certificate, keys)
        except CertificateError as wrong:
            raise CertificateError(f"receipt {number}: {wrong}") from None
        holders.setdefault(place, set()).add(receipt.member)
    return tuple(
        replace(audited, receipts=tuple(sorted(holders.get(place, ())))) for place, audited in enumerate(rounds)
    )


# A server that contradicts itself.


def prove_contradiction(one: bytes, other: bytes) -> bytes:
    """Two certificates of one server that cannot both be true, as a proof that anybody can check.

    They say different things of one round (two totals, two sets of members, a sum and an abort), or stand behind the
    same certificate of one cohort.  Raises CertificateError when they do not contradict each other.
    """
    proof = msgspec.msgpack.encode(sorted((one, other)))
    check_contradiction(proof)
    return proof


def check_contradiction(proof: bytes) -> str:
    """What is contradictory in a proof, for a person, with the public key of the server that signed both.

    Raises CertificateError unless the proof holds.
    """
    try:
        one, other = map(Certificate.from_bytes, msgspec.msgpack.decode(proof, type=tuple[bytes, bytes]))
    except msgspec.DecodeError as wrong:
        raise CertificateError(f"the proof does not decode: {wrong}") from None
    if one.server != other.server:
        raise CertificateError("two servers signed these certificates; neither contradicts itself")
    signed = f"the server {one.server.hex()} signed"
    if (one.config, one.nonce) == (other.config, other.nonce):
        differs = [name for name in _OF_THE_ROUND if getattr(one, name) != getattr(other, name)]
        if differs:
            return f"{signed} two certificates of one round, which differ in {', '.join(differs)}"
    cohort = one.round_config.cohort
    in_one_place = bool(cohort) and cohort == other.round_config.cohort and one.previous == other.previous
    if in_one_place and one.previous != NO_CERTIFICATE and (one.config, one.nonce) != (other.config, other.nonce):
        return f"{signed} two certificates behind {one.previous.hex()}, of the cohort {cohort.hex()}"
    raise CertificateError("these certificates do not contradict each other")


_OF_THE_ROUND: Final = ("roster", "advertised", "dealers", "survivors", "sums", "lost", "ended", "transcript")
"""What a round has once.  Its name, its time and its place in a chain are the host's to say."""
