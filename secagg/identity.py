"""Identity keys and the directory that vouches for a cohort: what ``active`` trusts beforehand.

Nothing here reads or writes a file; ``secagg.credentials`` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

from secagg.errors import ParameterError
from secagg.pairwise import transcript
from secagg.primitives import signing
from secagg.primitives.secret import Secret
from secagg.wording import counted

IDENTITY_KEY_BYTES: Final = 32


@final
class Identity:
    """A member's Ed25519 key pair, kept beyond rounds.  Its repr shows the public key only."""

    __slots__ = ("_secret_key", "_seed", "public_key")

    def __init__(self, seed: bytes) -> None:
        """``seed`` is the 32-byte private key of RFC 8032."""
        if len(seed) != 32:
            raise ParameterError(f"an identity seed of {counted(len(seed), 'byte')}; it has 32")
        public, secret_key = signing.signing_key_pair(seed)
        self.public_key = public
        self._seed = Secret(seed)
        self._secret_key = Secret(secret_key)

    @classmethod
    def generate(cls, randomness: Callable[[int], bytes] = os.urandom) -> Identity:
        """A new identity."""
        return cls(randomness(32))

    def sign(self, message: bytes) -> bytes:
        """A 64-byte signature."""
        return signing.sign(self._secret_key.reveal(), message)

    def seed(self) -> bytes:
        """The 32 private bytes, for storing them; never log them."""
        return self._seed.reveal()

    def __repr__(self) -> str:
        return f"Identity(public_key={self.public_key.hex()})"


class Directory(Protocol):
    """Says which cohorts a host stands behind.  Its answers must not come from the round's server (R-EXTERNAL-1)."""

    def cohort(self, digest: bytes) -> Sequence[bytes] | None:
        """The identity keys (32 bytes each) by cohort index of the cohort with this digest, or None."""


@final
class MemoryDirectory:
    """A directory of the cohorts that it was given."""

    def __init__(self, *cohorts: Sequence[bytes]) -> None:
        """Each cohort is the list of its members' identity keys, by index, pairwise distinct."""
        self._cohorts: dict[bytes, tuple[bytes, ...]] = {}
        for cohort in cohorts:
            self.add(cohort)

    def add(self, identity_keys: Sequence[bytes]) -> bytes:
        """Vouch for a cohort; returns its digest, which goes into the config."""
        keys = tuple(identity_keys)
        for place, key in enumerate(keys):
            if len(key) != IDENTITY_KEY_BYTES:
                raise ParameterError(
                    f"member {place} has an identity key of {counted(len(key), 'byte')}; an identity "
                    f"key has {IDENTITY_KEY_BYTES}"
                )
            if not signing.is_signing_key(key):
                raise ParameterError(
                    f"member {place} has an identity key that is no canonical Ed25519 key: {key.hex()}; "
                    "list the key that Identity.public_key shows"
                )
        if len(set(keys)) != len(keys):
            raise ParameterError("two members of a cohort have the same identity key; each member is listed once")
        digest = transcript.cohort_digest(keys)
        self._cohorts[digest] = keys
        return digest

    def cohort(self, digest: bytes) -> Sequence[bytes] | None:
        """The identity keys of a cohort that was added, by index; None for another digest."""
        return self._cohorts.get(digest)


@final
class UsedTokens:
    """Which tokens were used, in memory: pass it as ``consume``.

    A host that must survive a restart keeps the same set durably, and marks a token before it returns True
    (R-EXTERNAL-4): see ``DurableTokens``.
    """

    def __init__(self) -> None:
        self._used: set[bytes] = set()

    def __call__(self, token: bytes) -> bool:
        """True the first time that a token comes, False ever after."""
        if token in self._used:
            return False
        self._used.add(token)
        return True
