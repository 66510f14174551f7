"""From a round that is over to its certificate: who was there, who was lost, what was opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from secagg.arithmetic.packing import pack
from secagg.errors import CertificateError
from secagg.identity import Identity
from secagg.outcome import Result
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import Certificate, CertifiedSum, Ended, Fault, Lost, Spent
from secagg.pairwise.messages import encode_bitmap
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Aborted, Done, Held, Round
from secagg.pairwise.transcript import DIGEST_BYTES
from secagg.primitives import signing, suites


def draft(
    round_: Round, attendance: Attendance, held: Held, result: Result | None, statements: Mapping[int, bytes]
) -> Certificate:
    """The certificate without what only the host knows: its place in a chain, its name, who signs it."""
    config = round_.config
    clients, advertised = config.clients, held.advertised
    blank = Certificate(
        form=certificates.FORM,
        previous=certificates.NO_CERTIFICATE,
        number=0,
        name="",
        time=0,
        config=config.to_bytes(),
        nonce=round_.nonce,
        roster=b"" if advertised is None else advertised.digest,
        advertised=b"" if advertised is None else encode_bitmap(advertised.members, clients),
        dealers=b"",
        survivors=b"",
        signers=b"",
        signatures=b"",
        sums=(),
        lost=_lost(attendance, clients),
        faults=tuple(Fault(entry.sender, entry.phase, entry.code.value) for entry in attendance.blame),
        ended=None,
        silent=_bitmap(sorted(statements), clients),
        statements=b"".join(statements[member] for member in sorted(statements)),
        transcript=b"",
        spent=None,
        server=bytes(PUBLIC_KEY_BYTES),
        signature=bytes(SIGNATURE_BYTES),
    )
    for member, statement in statements.items():
        check_statement(round_, blank.session, member, statement)
    if isinstance(held, Done) and result is not None:
        return _with_sum(blank, held, result)
    if isinstance(held, Aborted):
        failure = held.failure
        missing, culprits = _bitmap(failure.missing, clients), _bitmap(failure.culprit, clients)
        return msgspec.structs.replace(blank, ended=Ended(failure.phase, int(failure.code), missing, culprits))
    raise RuntimeError(f"a certificate of a round that holds {held}")


def chained(
    draft: Certificate, identity: Identity, previous: bytes, *, name: str, time: int, spent: Spent | None
) -> bytes:
    """The signed certificate behind the one before it; arguments and errors are those of ``Server.certificate``."""
    digest, number = bytes(DIGEST_BYTES), 0
    if previous:
        before = Certificate.from_bytes(previous)
        if before.server != identity.public_key:
            raise CertificateError(
                f"the certificate before this one is of the server {before.server.hex()}, this one of "
                f"{identity.public_key.hex()}; begin a chain of its own for each server"
            )
        digest, number = before.digest, before.number + 1
    certificate = certificates.signed(
        msgspec.structs.replace(draft, previous=digest, number=number, name=name, time=time, spent=spent), identity
    )
    data = certificate.to_bytes()
    Certificate.from_bytes(data)  # what a host gave is held to what a reader asks for
    return data


def check_statement(round_: Round, session: bytes, member: int, statement: bytes) -> None:
    """R-CHAIN-13: whether a member signed that it did not answer in this session.  Raises CertificateError."""
    try:
        signing.verify(round_.identity_key(member), round_.config.labels.signed_silence(session), statement)
    except suites.CryptoError:
        raise CertificateError(
            f"the statement of member {member} that it did not answer is not its signature over this session"
        ) from None


def _with_sum(blank: Certificate, done: Done, result: Result) -> Certificate:
    unmasked, masked, config = done.unmasked, done.unmasked.masked, done.advertised.round.config
    signers = sorted(unmasked.confirmations)
    sums = tuple(
        CertifiedSum(
            group.number,
            encode_bitmap(group.included, config.clients),
            config.labels.sum_digest(result.session, pack(group.sum, result.modulus)),
        )
        for group in result.groups
    )
    return msgspec.structs.replace(
        blank,
        dealers=encode_bitmap(masked.dealers, config.clients),
        survivors=masked.bitmap,
        signers=_bitmap(signers, config.clients),
        signatures=b"".join(unmasked.confirmations[signer] for signer in signers),
        sums=sums,
        transcript=result.transcript_digest,
    )


def _lost(attendance: Attendance, clients: int) -> tuple[Lost, ...]:
    dropped = attendance.dropped
    return tuple(Lost(phase.value, encode_bitmap(dropped[phase], clients)) for phase in Phase if dropped.get(phase))


def _bitmap(members: Iterable[int], clients: int) -> bytes:
    """The set as a bitmap; no bytes for nobody."""
    listed = list(members)
    return encode_bitmap(listed, clients) if listed else b""
