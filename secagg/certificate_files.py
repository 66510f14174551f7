"""A chain of certificates in a directory: one file each, named by its place, written whole or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, final

from secagg.errors import CertificateError, ParameterError
from secagg.pairwise.certificate import Certificate

SUFFIX: Final = ".certificate"
RECEIPT_SUFFIX: Final = ".receipt"
_HEADER_BYTES: Final = 5
"""Of MessagePack, before a string of bytes: at most."""
MAX_BYTES: Final = 2**28
"""Of a file: a certificate of the largest cohort, with everybody's signature, has a quarter of it."""


def read_certificates(paths: Iterable[str | os.PathLike[str]]) -> list[bytes]:
    """The certificates in files, and in directories of such files, in the order of their file names in each directory.

    Raises ParameterError for a directory without certificates and for a file that is far too large, and OSError.
    """
    found: list[bytes] = []
    for given in map(Path, paths):
        files = _listed(given) if given.is_dir() else [given]
        if not files:
            raise ParameterError(f"{given}: there is no file *{SUFFIX} in this directory")
        found += [_read(file) for file in files if file.suffix != RECEIPT_SUFFIX]
    return found


def read_receipts(paths: Iterable[str | os.PathLike[str]]) -> list[bytes]:
    """The receipts in files whose names end in ``.receipt``, among those given and in the directories given.

    Raises ParameterError for a file that is far too large, and OSError.
    """
    found: list[bytes] = []
    for given in map(Path, paths):
        if given.is_dir():
            found += [_read(file) for file in _listed(given, RECEIPT_SUFFIX)]
        elif given.suffix == RECEIPT_SUFFIX:
            found.append(_read(given))
    return found


def _listed(folder: Path, suffix: str = SUFFIX) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def _read(file: Path) -> bytes:
    if file.stat().st_size > MAX_BYTES:
        raise ParameterError(f"{file}: larger than any certificate; name the file of a certificate")
    return file.read_bytes()


def write_whole(file: Path, data: bytes) -> None:
    """Write a file, whole or not at all; it is there after a power cut.  Raises OSError."""
    partial = file.with_name(f"{file.name}.partial")
    with open(partial, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, file)
    if os.name == "posix":  # Windows opens no directory
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@final
class CertificateFiles:
    """A chain that grows: every new certificate is in its file, durably, before anybody hears of it.

    Several rounds of one process may end at a time: one thread after the other adds a certificate.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Open the chain in a directory, or begin one in an empty or new directory.

        Raises CertificateError when what is there does not make a chain, and OSError.
        """
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._by_round: dict[tuple[bytes, bytes], bytes] = {}
        self._last, self._number = b"", 0
        for file in _listed(self.folder):
            data = _read(file)
            try:
                certificate = Certificate.from_bytes(data)
            except CertificateError as wrong:
                raise CertificateError(f"{file}: {wrong}") from None
            if self._last and certificate.previous != Certificate.from_bytes(self._last).digest:
                raise CertificateError(f"{file}: it does not stand behind the certificate in the file before it")
            self._take(certificate, data)

    @property
    def last(self) -> bytes:
        """The last certificate; no bytes at the beginning of a chain."""
        return self._last

    @property
    def head(self) -> bytes:
        """The digest of the last certificate; no bytes at the beginning of a chain."""
        return Certificate.from_bytes(self._last).digest if self._last else b""

    def recent(self, most: int) -> tuple[bytes, ...]:
        """The last certificates, in their order, as many as have this number of bytes together with their headers."""
        found: list[bytes] = []
        with self._lock:
            known = list(self._by_round.values())
        for data in reversed(known):
            most -= len(data) + _HEADER_BYTES
            if most < 0:
                break
            found.append(data)
        return tuple(reversed(found))

    def of_round(self, name: str) -> bytes:
        """The last certificate of a round of this name; no bytes when there is none."""
        with self._lock:
            known = list(self._by_round.values())
        named = (data for data in reversed(known) if Certificate.from_bytes(data).name == name)
        return next(named, b"")

    def add(self, config: bytes, nonce: bytes, make: Callable[[bytes], bytes]) -> bytes:
        """The certificate of a round: the one that is there already, or the one that ``make`` makes behind the last.

        A round that ends again after a crash is certified once.  Raises what ``make`` raises, and OSError.
        """
        with self._lock:
            if (known := self._by_round.get((config, nonce))) is not None:
                return known
            data = make(self._last)
            certificate = Certificate.from_bytes(data)
            write_whole(self.folder / f"{certificate.number:08d}{SUFFIX}", data)
            self._take(certificate, data)
            return data

    def _take(self, certificate: Certificate, data: bytes) -> None:
        self._by_round[certificate.config, certificate.nonce] = data
        self._last, self._number = data, certificate.number
