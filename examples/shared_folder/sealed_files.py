"""Files in a shared folder that only one member and the server can read, write or exchange."""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secagg.encoding.npz import replacing


def replace(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; it outlives a power cut when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:  # never through a link that somebody has put there
        file.write(data)


def read(path: Path, max_bytes: int) -> bytes:
    """A file's bytes; none where there is no file, or somebody put another thing or too long a file in its place."""
    try:  # through no link, and without waiting for the other end of a pipe
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            size = os.fstat(file.fileno()).st_size
            return file.read(size) if size <= max_bytes else b""
    except OSError:
        return b""


@dataclass(frozen=True)
class Box:
    """One member's files, sealed with 32 bytes that this member and the server alone have.

    Whoever else can write in the folder makes members drop out at most: a file of another member, or of another place,
    does not open.  With an object store, ``put`` and ``get`` write and read objects of the same names.
    """

    folder: Path
    index: int
    key: bytes

    def put(self, direction: str, name: str, data: bytes) -> None:
        """Publish a message, "up" to the server or "down" to the member, unless it is there already."""
        path, place = self._at(direction, name)
        if not path.exists():
            replace(path, (nonce := os.urandom(12)) + AESGCM(self.key).encrypt(nonce, data, place))

    def get(self, direction: str, name: str, max_bytes: int = 1 << 30) -> bytes | None:
        """A message; None while there is none, and for a file that is too long or of somebody else."""
        path, place = self._at(direction, name)
        try:
            sealed = read(path, max_bytes + 28)  # the nonce and the tag
            return AESGCM(self.key).decrypt(sealed[:12], sealed[12:], place)
        except (InvalidTag, ValueError):
            return None

    def _at(self, direction: str, name: str) -> tuple[Path, bytes]:
        return self.folder / direction / str(self.index) / name, f"{direction} {self.index} {name}".encode()
