"""TLS: contexts for both sides, the certificate's digest that logins are bound to, and a certificate for demos."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secagg.errors import ParameterError

_DEMO_DAYS: Final = 30
"""A demo is over by then; whoever needs longer has a certificate of an authority."""
CERTIFICATE_FILE: Final = "server.pem"
KEY_FILE: Final = "server.key"


def server_context(certificate: Path, key: Path) -> tuple[ssl.SSLContext, bytes]:
    """A context for the server, TLS 1.3, and the SHA-256 of its certificate.  Raises ParameterError and OSError."""
    _check_readable(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (ssl.SSLError, ValueError) as wrong:
        raise ParameterError(f"{certificate} and {key}: not a certificate in PEM and its key ({wrong})") from None
    return context, hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).digest()


def client_context(ca: Path | None) -> ssl.SSLContext:
    """A context for a client, TLS 1.3: trusts the certificates in ``ca`` alone, or those of the system.

    Raises ParameterError, and OSError for a file that cannot be read.
    """
    if ca is not None:
        _check_readable(ca)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as wrong:
        raise ParameterError(f"{ca}: holds no certificates in PEM ({wrong})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def seen_certificate(tls: ssl.SSLObject | None) -> bytes:
    """SHA-256 of the certificate that the server showed on this connection; empty without TLS."""
    shown = tls.getpeercert(binary_form=True) if tls is not None else None
    return hashlib.sha256(shown).digest() if shown else b""


def make_demo_certificate(directory: Path, names: Sequence[str] = ()) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, good for some weeks; an existing one is kept.

    Args:
        directory: gets ``server.pem``, which clients are given as their CA, and ``server.key``, readable by its owner.
        names: more host names and addresses to be reached by.

    Returns both paths.  Raises ParameterError for an existing one that is out of date, or for other names.
    """
    certificate, key_file = directory / CERTIFICATE_FILE, directory / KEY_FILE
    if certificate.exists() and key_file.exists():
        _check_still_good(certificate, names)
        if os.name == "posix":
            key_file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        return certificate, key_file
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    made = _self_signed(key, ["localhost", socket.gethostname(), "127.0.0.1", "::1", *names])
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(key_file, private, stat.S_IRUSR | stat.S_IWUSR)
    _write_new(certificate, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key_file


def _write_new(file: Path, content: bytes, mode: int) -> None:
    """Half of a pair that is left over is replaced; a symbolic link is, too, and never followed."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(content)


def _check_readable(*files: Path) -> None:
    """Raises OSError with the file's name, which the TLS library leaves out."""
    for file in files:
        with file.open("rb"):
            pass


def _check_still_good(certificate: Path, names: Sequence[str]) -> None:
    try:
        found = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
        known = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (ValueError, x509.ExtensionNotFound) as wrong:
        raise ParameterError(f"{certificate}: not a demo certificate ({wrong}); name another directory") from None
    missing = [name for name in names if _general_name(name) not in known]
    if missing or found.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        why = f"is not for {missing[0]}" if missing else "is out of date"
        raise ParameterError(
            f"{certificate}: {why}; remove it and {KEY_FILE}, and give clients the one that is made then"
        )


def _self_signed(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secagg demo")])
    now = datetime.datetime.now(datetime.UTC)
    public, identifier = key.public_key(), x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_DEMO_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in dict.fromkeys(names)]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(usage, True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(identifier, False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False)
        .sign(key, hashes.SHA256())
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
