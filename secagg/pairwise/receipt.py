"""A receipt: what a member signs that was handed a round's total, with the certificate that the server signed of it.

The server's lie is proved by two certificates of its own; a receipt is what makes somebody look for the second one.  A
member signs the digest of the total that it holds, and nobody can say afterwards that it was handed another one.  An
auditor compares the receipts with the certificate (R-CHAIN-14 to R-CHAIN-16 in ``specs/secagg-v2.md``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final, final

import msgspec
from msgspec import Meta

from secagg.errors import CertificateError
from secagg.pairwise.certificate import Certificate, Signature
from secagg.pairwise.messages import Digest
from secagg.primitives import signing, suites

if TYPE_CHECKING:
    from secagg.identity import Identity

FORM: Final = 1
"""Of the receipts that are made and read."""


@final
class Receipt(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """That a member holds one of a round's totals.

    Attributes:
        form: of the receipt itself, 1.
        session: the round's session id.
        number: of the total's group; 0 in a round without groups.
        digest: of the total (``Labels.sum_digest``).
        member: the cohort index of the member that signed.
        signature: the member's, over session, number and digest.
    """

    form: int
    session: Digest
    number: Annotated[int, Meta(ge=0, lt=2**32)]
    digest: Digest
    member: Annotated[int, Meta(ge=0, lt=2**32)]
    signature: Signature

    @classmethod
    def from_bytes(cls, data: bytes) -> Receipt:
        """The receipt in ``data``; its signature is not checked yet.

        Raises CertificateError unless the bytes are the canonical ones of a receipt.
        """
        try:
            receipt = _decoder.decode(data)
        except (msgspec.DecodeError, RecursionError) as wrong:
            raise CertificateError(f"the receipt does not decode: {wrong}") from None
        if receipt.form != FORM:
            raise CertificateError(f"a receipt of form {receipt.form}; this library reads form {FORM}")
        if receipt.to_bytes() != data:
            raise CertificateError("the receipt is not in its canonical form")
        return receipt

    def to_bytes(self) -> bytes:
        """The canonical bytes."""
        return _encoder.encode(self)

    def __repr__(self) -> str:
        return f"<Receipt of member {self.member} for the total {self.number} of {self.session.hex()[:8]}>"

    def check(self, certificate: Certificate, identity_keys: Sequence[bytes]) -> None:
        """Whether the member signed this receipt, and for a total that the certificate has.

        ``identity_keys`` are the cohort's, by index.  Raises CertificateError, which says what does not hold.
        """
        if self.session != certificate.session:
            raise CertificateError(f"the receipt is of the session {self.session.hex()}, not of this certificate's")
        if self.member >= len(identity_keys):
            raise CertificateError(f"a receipt of member {self.member}, in a cohort of {len(identity_keys)}")
        signed = certificate.round_config.labels.signed_receipt(self.session, self.number, self.digest)
        try:
            signing.verify(identity_keys[self.member], signed, self.signature)
        except suites.CryptoError:
            raise CertificateError(f"the receipt of member {self.member} is not signed by it") from None
        if all((opened.number, opened.digest) != (self.number, self.digest) for opened in certificate.sums):
            raise CertificateError(
                f"member {self.member} signed that it was handed another total of group {self.number} than the "
                "certificate has; ask it for the certificate that came with that total: the two of them are the proof "
                "(secagg.audit.prove_contradiction)"
            )


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Receipt)


def signed_receipt(certificate: Certificate, number: int, member: int, identity: Identity) -> Receipt:
    """The receipt of a member for one of the sums in a certificate; who calls this has compared the total with it."""
    digest = next(opened.digest for opened in certificate.sums if opened.number == number)
    signed = certificate.round_config.labels.signed_receipt(certificate.session, number, digest)
    return Receipt(FORM, certificate.session, number, digest, member, identity.sign(signed))
