"""What comes with a total in a round of a chain: the server's certificate, and this client's receipt for the total."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from secagg.arithmetic.modular import Lanes
from secagg.errors import CertificateError, ErrorCode, PeerError, SecAggError
from secagg.identity import Directory, Identity
from secagg.pairwise.certificate import Certificate
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.config import RoundConfig

if TYPE_CHECKING:
    from secagg.pairwise.receipt import Receipt

_NO_CERTIFICATE: Final = (
    "the server handed out no certificate with the total: the total is the word of a server that signed nothing"
)
_OF_GROUPS: Final = "the total is the sum over all groups, and the certificate has the sum of each group"
_WITHOUT_SURPLUS: Final = (
    "the server took noise off the sum that nobody needs, and the certificate has the sum with all of it"
)
_DOES_NOT_WAIT: Final = (
    "this client has not answered in the round, or has joined a later one since, whose invitation brought the "
    "certificate"
)


class ContradictionError(SecAggError):
    """The server signed two certificates of a round: both together prove its lie.

    Attributes:
        certificate: the second one; the first one lies beside the receipt that this client has signed.
    """

    def __init__(self, certificate: bytes) -> None:
        super().__init__(
            "the server signed another certificate of this round than the one that this client has a receipt for, so "
            "that it tells two stories: both certificates together are the proof (secagg.audit.prove_contradiction)"
        )
        self.certificate = certificate


@final
@dataclass(frozen=True, slots=True)
class CertifiedTotal:
    """What a client that keeps a chain knows of a total.

    Attributes:
        certificate: of the round, which holds, and is of this total where there is a receipt; None without one.
        receipt: what this client signed; None when it signed nothing.
        why_none: why there is no receipt, a whole sentence without its full stop; empty where there is one.
    """

    certificate: Certificate | None
    receipt: Receipt | None
    why_none: str = ""


def certified_total(
    data: bytes,
    total: Lanes,
    *,
    chain: Chain,
    config: RoundConfig,
    included: tuple[int, ...],
    without_surplus: bool,
    identity: Identity,
    directory: Directory,
) -> CertifiedTotal:
    """R-CHAIN-14: compare a total with the certificate that came with it, and sign the receipt.

    The chain's store has the certificate's digest before the receipt is handed out (R-CHAIN-15).

    Args:
        data: the certificate; empty when none came.
        total: shape (config.length,), dtype ``config.modulus.dtype``, as the server handed it out.
        chain: this client's.
        config: of the round that this client took part in.
        included: whose vectors are in the total, by the server's word.
        without_surplus: whether the server took noise off, so that the total is none of the certificate's sums.
        identity: this client's.
        directory: which vouches for the cohort.

    Raises PeerError(CHAIN_CERTIFICATE) when the certificate does not hold, is another server's or another round's, or
    is not of this total, and ContradictionError when this client has a receipt for another one.
    """
    if not data:
        return CertifiedTotal(None, None, _NO_CERTIFICATE)
    try:
        certificate = _of_this_round(data, chain, config, included, directory)
        session, received = chain.answered(config.cohort)
        if session == certificate.session and received not in (b"", certificate.digest):
            raise ContradictionError(data)
        if config.groups > 1 or without_surplus:
            return CertifiedTotal(certificate, None, _OF_GROUPS if config.groups > 1 else _WITHOUT_SURPLUS)
        if session != certificate.session:
            certificate.check_sum(total)
            return CertifiedTotal(certificate, None, _DOES_NOT_WAIT)
        receipt = chain.receive(data, total, identity=identity, directory=directory)
    except CertificateError as wrong:
        raise PeerError(
            ErrorCode.CHAIN_CERTIFICATE,
            f"the certificate that came with the total is not to be relied on, and so is the total: {wrong}",
        ) from None
    return CertifiedTotal(certificate, receipt)


def _of_this_round(
    data: bytes, chain: Chain, config: RoundConfig, included: tuple[int, ...], directory: Directory
) -> Certificate:
    certificate = Certificate.from_bytes(data)
    if certificate.server != chain.server:
        raise CertificateError(
            f"the server {certificate.server.hex()} signed it; this client knows {chain.server.hex()} (--server)"
        )
    if certificate.config != config.to_bytes():
        raise CertificateError("it is of another round")
    certificate.check_members(directory.cohort(config.cohort) or ())
    summed = {member for opened in certificate.sums for member in certificate.members(opened.members)}
    if summed != set(included):
        raise CertificateError("its sums are over other members than the server says that the total is over")
    return certificate
