"""What ``secagg join --receipts`` keeps of a total: the round's certificate, and this member's receipt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from secagg.certificate_files import RECEIPT_SUFFIX, SUFFIX, write_whole
from secagg.errors import ParameterError
from secagg.pairwise.certificate import Certificate

if TYPE_CHECKING:
    from secagg.adapters.net.receipts import CertifiedTotal, ContradictionError

_PROOF_SUFFIX: Final = ".contradiction"
"""Of a second certificate: ``secagg audit`` must not take it for one of the chain."""


def check_receipts(folder: Path | None) -> None:
    """Make the directory, if one is asked for.  Raises ParameterError for a name that is none, and OSError."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise ParameterError(f"--receipts {folder}: this is no directory; name one, which is made if it is not there")
    folder.mkdir(parents=True, exist_ok=True)


def write_certified(folder: Path, certified: CertifiedTotal) -> None:
    """Write the certificate and the receipt, each whole or not at all; again the same after a crash.

    Raises ParameterError when the directory has another certificate in this place, and OSError.
    """
    certificate, receipt = certified.certificate, certified.receipt
    if certificate is None:
        return
    file, data = _certificate_file(folder, certificate), certificate.to_bytes()
    if file.exists() and file.read_bytes() != data:
        raise ParameterError(
            f"--receipts {folder}: {file.name} in it is another certificate, of another chain; give each chain a "
            "directory of its own"
        )
    write_whole(file, data)
    if receipt is not None:
        write_whole(_receipt_file(folder, certificate, receipt.member), receipt.to_bytes())


def show_certified(folder: Path | None, certified: CertifiedTotal | None) -> dict[str, Any]:
    """Say whether there is a receipt; returns the same for ``--json``.  Nothing for a client without a chain."""
    if certified is None:
        return {}
    certificate, receipt = certified.certificate, certified.receipt
    found = {"certificate": None if certificate is None else certificate.digest.hex(), "receipt": None}
    if certificate is None or receipt is None:
        typer.echo(f"Warning: no receipt: {certified.why_none}.", err=True)
        return found
    digest = found["certificate"]
    if folder is None:
        typer.echo(f"the server signed this total, with the certificate {digest}", err=True)
        return found
    file = _receipt_file(folder, certificate, receipt.member)
    typer.echo(f"{file}: the receipt for this total, which the server signed with the certificate {digest}", err=True)
    return {**found, "receipt": str(file)}


def keep_proof(folder: Path | None, lie: ContradictionError) -> str:
    """Keep a second certificate beside the first, where there is a directory; what to add to the reason.

    Raises OSError.
    """
    if folder is None:
        return ""
    file = _certificate_file(folder, Certificate.from_bytes(lie.certificate)).with_suffix(_PROOF_SUFFIX)
    write_whole(file, lie.certificate)
    return f"; {file} is the second one"


def _certificate_file(folder: Path, certificate: Certificate) -> Path:
    """Named as in the server's directory, in the order of the chain."""
    return folder / f"{certificate.number:08d}{SUFFIX}"


def _receipt_file(folder: Path, certificate: Certificate, member: int) -> Path:
    return folder / f"{certificate.number:08d}.member-{member}{RECEIPT_SUFFIX}"
