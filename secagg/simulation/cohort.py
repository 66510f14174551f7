"""What the parties of a round in memory start with: identities, and randomness that can be repeated."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from secagg.identity import Identity, MemoryDirectory


class SeededRandomness:
    """Reproducible bytes for tests and replays; never for a real round."""

    def __init__(self, seed: int, label: str) -> None:
        """Different labels give independent streams."""
        self._key = hashlib.sha256(f"secagg testing {seed} {label}".encode()).digest()
        self._calls = 0

    def __call__(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        self._calls += 1
        return hashlib.shake_256(self._key + self._calls.to_bytes(8, "little")).digest(length)


def make_cohort(
    clients: int, randomness: Callable[[int], bytes] = os.urandom
) -> tuple[list[Identity], MemoryDirectory, bytes]:
    """Identities for a cohort, a directory that vouches for it, and its digest for the config."""
    identities = [Identity.generate(randomness) for _ in range(clients)]
    directory = MemoryDirectory()
    return identities, directory, directory.add([identity.public_key for identity in identities])
