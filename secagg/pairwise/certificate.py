"""The certificate of a round: what its server signs when the round is over, for people who were not there.

One MessagePack array, canonical: the bytes are those that encoding its fields gives again, so that a round has one
digest.  It names the digest of the certificate before it, which makes a chain of a cohort's rounds (R-CHAIN-1 to
R-CHAIN-5 in ``specs/secagg-v2.md``).

A certificate says what a server signed.  It proves that members of the cohort confirmed the survivors (in ``active``,
by their own signatures), and that the server cannot tell two people two stories with the same signature on both.  It
does not prove that the server learned no more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias, final

import msgspec
from msgspec import Meta

from secagg.arithmetic.modular import Lanes
from secagg.arithmetic.packing import pack
from secagg.errors import AbortCode, CertificateError, ErrorCode, ParameterError, PeerError
from secagg.pairwise.config import RoundConfig, decode_config
from secagg.pairwise.messages import Digest, PublicKey, decode_bitmap
from secagg.pairwise.phases import Phase, ServerState
from secagg.pairwise.records import SIGNATURE_BYTES, cut
from secagg.pairwise.transcript import DIGEST_BYTES
from secagg.primitives import signing, suites
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.identity import Identity

FORM: Final = 1
"""Of the certificates that are made and read; apart from the protocol's version, because it changes without it."""
NO_CERTIFICATE: Final = bytes(DIGEST_BYTES)
"""What the first certificate of a chain gives as the one before it."""
MAX_NAME: Final = 64
"""Characters of a round's name."""

Signature: TypeAlias = Annotated[bytes, Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]
_Count: TypeAlias = Annotated[int, Meta(ge=0, le=2**53)]


class _Part(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A part of a certificate."""


@final
class CertifiedSum(_Part, frozen=True):
    """One sum that was opened.

    Attributes:
        number: of the group; 0 in a round without groups.
        members: a bitmap over the cohort: whose vectors are in the sum.
        digest: of the sum (``Labels.sum_digest``).
    """

    number: _Count
    members: bytes
    digest: Digest


@final
class Lost(_Part, frozen=True):
    """Whom a phase was closed without: a bitmap over the cohort."""

    phase: str
    members: bytes


@final
class Fault(_Part, frozen=True):
    """Who broke which rule in which phase; the code is one of ``ErrorCode``."""

    sender: _Count
    phase: str
    code: str


@final
class Ended(_Part, frozen=True):
    """How a round ended without a sum.

    Attributes:
        phase: in which it ended, or COMPUTE.
        code: of ``AbortCode``: what the clients were told.
        missing, culprits: bitmaps over the cohort: whom the server waited for in vain, and who is to blame.
    """

    phase: str
    code: _Count
    missing: bytes
    culprits: bytes


@final
class Spent(_Part, frozen=True):
    """The differential privacy that the round took, as its host accounts for it."""

    epsilon: float
    delta: float


@final
class Certificate(_Part, frozen=True):
    """What a server signs about a round.

    Attributes:
        form: of the certificate itself, 1.
        previous: the digest of the certificate before it; zero bytes for the first of a chain.
        number: its place in the chain, from 0 on.
        name: what the host calls the round.
        time: when it was made, in seconds since 1970, by the host's clock; 0 where the host does not say.
        config, nonce: as the invitation had them.
        roster: the roster's digest; empty when the round ended without a roster.
        advertised, dealers, survivors: bitmaps over the cohort: who stands in the roster, who dealt shares (U2), whose
            vectors were summed (S).  Empty where the round did not come so far.
        signers, signatures: ``active``: a bitmap of the survivors whose signatures over S are here, and the signatures
            in ascending order of their ids.
        sums: what was opened: one sum in a round without groups, none where the round failed.
        lost: by phase, in their order, whom it was closed without.
        faults: who broke which rule.
        ended: why there is no sum; None when there is one.
        silent, statements: a bitmap of members that are in no sum, and state that they did not answer UNMASK and
            never will; their signatures in ascending order of their ids.
        transcript: the transcript's digest; empty without a sum.
        spent: the privacy that the round took; None where no privacy was promised.
        server: the server's Ed25519 public key.
        signature: the server's, over everything before it.
    """

    form: int
    previous: Digest
    number: _Count
    name: Annotated[str, Meta(max_length=MAX_NAME)]
    time: _Count
    config: bytes
    nonce: Digest
    roster: Annotated[bytes, Meta(max_length=DIGEST_BYTES)]
    advertised: bytes
    dealers: bytes
    survivors: bytes
    signers: bytes
    signatures: bytes
    sums: tuple[CertifiedSum, ...]
    lost: tuple[Lost, ...]
    faults: tuple[Fault, ...]
    ended: Ended | None
    silent: bytes
    statements: bytes
    transcript: Annotated[bytes, Meta(max_length=DIGEST_BYTES)]
    spent: Spent | None
    server: PublicKey
    signature: Signature

    @classmethod
    def from_bytes(cls, data: bytes) -> Certificate:
        """The certificate in ``data``.

        Raises CertificateError unless the bytes are the canonical ones of a certificate that a server could have made:
        its signature, and every claim that can be checked without the cohort's directory, hold.
        """
        try:
            certificate = _decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise CertificateError(f"the certificate does not decode: {wrong}") from None
        if certificate.form != FORM:
            raise CertificateError(f"a certificate of form {certificate.form}; this library reads form {FORM}")
        if certificate.to_bytes() != data:
            raise CertificateError("the certificate is not in its canonical form")
        _check(certificate)
        return certificate

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return _encoder.encode(self)

    def __repr__(self) -> str:
        outcome = "no sum" if self.ended else f"{len(self.sums)} sums"
        return f"<Certificate {self.number} of {self.name!r}: {outcome}, server {self.server.hex()[:8]}>"

    @property
    def round_config(self) -> RoundConfig:
        """The config, as an object."""
        return _sound_config(self.config)

    @property
    def digest(self) -> bytes:
        """What the next certificate of the chain gives as ``previous``: it covers the signature, too."""
        return self.round_config.labels.certificate_digest(self.to_bytes())

    @property
    def session(self) -> bytes:
        """The session's id; empty when the round ended without a roster."""
        config = self.round_config
        return config.labels.session_id(config.digest, self.nonce, self.roster) if self.roster else b""

    def members(self, bitmap: bytes) -> tuple[int, ...]:
        """The cohort indices in one of the bitmaps, ascending; none in an empty one."""
        return _ids(bitmap, self.round_config.clients)

    def check_sum(self, total: Lanes, number: int = 0) -> None:
        """Whether somebody who holds a total holds the one that was certified.

        Args:
            total: shape (config.length,), dtype ``config.modulus.dtype``, as ``Result.sum``.
            number: of its group; 0 in a round without groups.

        Raises CertificateError when it is another total, or when no such sum was certified.
        """
        config = self.round_config
        digest = config.labels.sum_digest(self.session, pack(total, config.modulus))
        if all((opened.number, opened.digest) != (number, digest) for opened in self.sums):
            raise CertificateError(f"the total of group {number} is not the one that the server certified")

    def check_members(self, identity_keys: Sequence[bytes]) -> None:
        """``active``: confirmations and statements are the members', by their identity keys in order of the cohort.

        Raises CertificateError.
        """
        config = self.round_config
        confirmed = config.labels.signed_survivors(self.session, self.survivors)
        silence = config.labels.signed_silence(self.session)
        for what, signed, signers, signatures in (
            ("confirmation", confirmed, self.signers, self.signatures),
            ("statement", silence, self.silent, self.statements),
        ):
            for signer, signature in zip(self.members(signers), cut(signatures, SIGNATURE_BYTES), strict=True):
                try:
                    signing.verify(identity_keys[signer], signed, signature)
                except suites.CryptoError:
                    raise CertificateError(f"the {what} of member {signer} is not its signature") from None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Certificate)


def signed(unsigned: Certificate, identity: Identity) -> Certificate:
    """The certificate as this server's: with its key and its signature."""
    named = msgspec.structs.replace(unsigned, server=identity.public_key)
    return msgspec.structs.replace(named, signature=identity.sign(_signed_bytes(named)))


def _signed_bytes(certificate: Certificate) -> bytes:
    unsigned = msgspec.structs.replace(certificate, signature=bytes(SIGNATURE_BYTES))
    return certificate.round_config.labels.signed_certificate(_encoder.encode(unsigned))


# What one certificate claims beside the one before it, and alone.


def check_follows(certificate: Certificate, last: Certificate, digest: bytes) -> None:
    """R-CHAIN-4: a certificate follows another one, whose digest is given.  Raises CertificateError."""
    if certificate.number != last.number + 1:
        raise CertificateError(f"it has number {certificate.number}, behind number {last.number}")
    if certificate.previous != digest:
        raise CertificateError(
            f"it names {certificate.previous.hex()} as the one before it, which has the digest {digest.hex()}"
        )
    if certificate.round_config.cohort != last.round_config.cohort:
        raise CertificateError("it is of another cohort than the one before it")
    if certificate.time and certificate.time < last.time:
        raise CertificateError(f"it was made at {certificate.time}, before the one before it, at {last.time}")


def _check(certificate: Certificate) -> None:
    config = certificate.round_config
    _check_signature(certificate)
    if config.chain not in (b"", certificate.previous):
        raise CertificateError(
            f"the round is chained to {config.chain.hex()}, and its certificate stands behind "
            f"{certificate.previous.hex()}"
        )
    if (certificate.number == 0) != (certificate.previous == NO_CERTIFICATE):
        raise CertificateError("the first certificate of a chain, and it alone, has number 0 and none before it")
    _check_members(certificate, config)
    _check_confirmed(certificate, config)
    _check_statements(certificate, config)
    _check_outcome(certificate, config)
    _check_lost(certificate, config)
    for fault in certificate.faults:
        if fault.sender >= config.clients or fault.phase not in _PHASES or fault.code not in _CODES:
            raise CertificateError(f"an unknown member, phase or code: {fault.sender}, {fault.phase}, {fault.code}")
    spent = certificate.spent
    if spent is not None and not (0 <= spent.epsilon < math.inf and 0 <= spent.delta <= 1):
        raise CertificateError(f"epsilon = {spent.epsilon}, delta = {spent.delta}: no such privacy")


_PHASES: Final = frozenset(state.value for state in ServerState)
_CODES: Final = frozenset(code.value for code in ErrorCode)


def _check_signature(certificate: Certificate) -> None:
    if not signing.is_signing_key(certificate.server):
        raise CertificateError(f"the server's key is no canonical Ed25519 key: {certificate.server.hex()}")
    try:
        signing.verify(certificate.server, _signed_bytes(certificate), certificate.signature)
    except suites.CryptoError:
        raise CertificateError("the signature is not the server's over this certificate") from None


def _check_members(certificate: Certificate, config: RoundConfig) -> None:
    """S within U2, U2 within the roster."""
    sets = [
        ("the roster", certificate.advertised),
        ("the dealers", certificate.dealers),
        ("the survivors", certificate.survivors),
    ]
    if len(certificate.roster) not in (0, DIGEST_BYTES) or bool(certificate.roster) != bool(certificate.advertised):
        raise CertificateError("a roster has a digest and members, or the round ended without one")
    for (outer_name, outer), (name, inner) in itertools.pairwise(sets):
        if inner and not outer:
            raise CertificateError(f"there are {name}, but not {outer_name}")
        if strangers := set(_ids(inner, config.clients)) - set(_ids(outer, config.clients)):
            raise CertificateError(f"member {min(strangers)} is among {name}, but not in {outer_name}")


def _check_confirmed(certificate: Certificate, config: RoundConfig) -> None:
    """R-CONFIRM-5 as a client asks it; who signed is checked with the cohort's directory."""
    signers = _ids(certificate.signers, config.clients)
    if len(certificate.signatures) != len(signers) * SIGNATURE_BYTES:
        raise CertificateError(
            f"{counted(len(certificate.signatures), 'byte')} of signatures for {counted(len(signers), 'signer')}"
        )
    if strangers := set(signers) - set(_ids(certificate.survivors, config.clients)):
        raise CertificateError(f"member {min(strangers)} confirmed the survivors, but is none")
    asked = config.quorum if certificate.ended is None else 0
    if len(signers) < asked:
        raise CertificateError(f"{len(signers)} members confirmed the survivors; {asked} are needed")
    if certificate.signers and not config.threat_model.confirms:
        raise CertificateError(f"nobody confirms survivors in {config.threat_model}")


def _check_statements(certificate: Certificate, config: RoundConfig) -> None:
    """R-CHAIN-13."""
    silent = _ids(certificate.silent, config.clients)
    if len(certificate.statements) != len(silent) * SIGNATURE_BYTES:
        raise CertificateError(
            f"{counted(len(certificate.statements), 'byte')} of statements of {counted(len(silent), 'member')}"
        )
    summed = {member for opened in certificate.sums for member in _ids(opened.members, config.clients)}
    if silent and (not certificate.roster or not config.threat_model.signs or summed & set(silent)):
        raise CertificateError("members state that they did not answer in active rounds that opened no sum of theirs")


def _check_outcome(certificate: Certificate, config: RoundConfig) -> None:
    ended, survivors = certificate.ended, _ids(certificate.survivors, config.clients)
    if bool(certificate.sums) == (ended is not None):
        raise CertificateError("a round has a sum, or it says how it ended without one")
    if ended is not None:
        if ended.phase not in _PHASES or ended.code not in set(AbortCode):
            raise CertificateError(f"a round that ended in {ended.phase} with code {ended.code}: neither is known")
        _ids(ended.missing, config.clients)
        _ids(ended.culprits, config.clients)
        if certificate.transcript:
            raise CertificateError("a round without a sum has no transcript")
        return
    if len(certificate.transcript) != DIGEST_BYTES:
        raise CertificateError("a round with a sum has a transcript's digest")
    if len(survivors) < config.min_survivors:
        raise CertificateError(f"{counted(len(survivors), 'survivor')}; the config asks for {config.min_survivors}")
    _check_sums(certificate, config, survivors)


def _check_sums(certificate: Certificate, config: RoundConfig, survivors: Sequence[int]) -> None:
    """A round without groups has one sum, of all survivors; one with groups some, each of a part of them."""
    if config.groups > 1:
        _check_groups(certificate, config, survivors)
        return
    (first, *more) = certificate.sums
    if more or first.number:
        raise CertificateError("a round without groups has one sum, with number 0")
    if _ids(first.members, config.clients) != survivors:
        raise CertificateError("the sum is not of the survivors")


def _check_groups(certificate: Certificate, config: RoundConfig, survivors: Sequence[int]) -> None:
    """R-GROUP-3, R-GROUP-6: each sum is of enough survivors, in no other sum, and confirmed by enough of them."""
    numbers = [entry.number for entry in certificate.sums]
    if numbers != sorted(set(numbers)) or numbers[-1] >= config.groups:
        raise CertificateError(f"sums of the groups {numbers}: their numbers ascend, and are below {config.groups}")
    rest, signers = set(survivors), set(_ids(certificate.signers, config.clients))
    for entry in certificate.sums:
        members = set(_ids(entry.members, config.clients))
        if not members <= rest:
            raise CertificateError(f"the sum of group {entry.number} is not of survivors that are in no other sum")
        rest -= members
        if len(members) < config.min_group:
            raise CertificateError(
                f"the sum of group {entry.number} is of {len(members)} members; the config asks for {config.min_group}"
            )
        if len(members & signers) < config.quorum:
            raise CertificateError(
                f"{len(members & signers)} members of group {entry.number} confirmed the survivors; {config.quorum} "
                "are needed"
            )


def _check_lost(certificate: Certificate, config: RoundConfig) -> None:
    """Each member is lost once; those that were not lost before CONFIRM are the survivors."""
    phases = [entry.phase for entry in certificate.lost]
    if any(phase not in list(Phase) for phase in phases):
        raise CertificateError(f"members lost in {phases}: not all of these are phases")
    if phases != [phase.value for phase in Phase if phase in phases]:
        raise CertificateError("the phases in which members were lost are not in their order, each once")
    before: set[int] = set()
    for entry in certificate.lost:
        lost = set(_ids(entry.members, config.clients))
        if not lost or lost & before:
            raise CertificateError(f"the members lost in {entry.phase}: none, or one that was lost before")
        before |= lost
    if certificate.ended is None:
        early = {
            member
            for entry in certificate.lost
            if not Phase(entry.phase).has_sum
            for member in _ids(entry.members, config.clients)
        }
        if early != set(range(config.clients)) - set(_ids(certificate.survivors, config.clients)):
            raise CertificateError("the members that were lost before the sum are not all but the survivors")


@lru_cache(maxsize=64)
def _sound_config(data: bytes) -> RoundConfig:
    try:
        config = decode_config(data)
    except ParameterError as unsound:
        raise CertificateError(f"the config breaks the protocol's rules: {unsound}") from None
    if config.to_bytes() != data:
        raise CertificateError("the config is not in its canonical form")
    return config


@lru_cache(maxsize=64)
def _ids(bitmap: bytes, clients: int) -> tuple[int, ...]:
    """Remembered: most sets of a round are the same."""
    if not bitmap:
        return ()
    try:
        return decode_bitmap(bitmap, clients)
    except PeerError as wrong:
        raise CertificateError(f"a set of members: {wrong}") from None
