"""The suites: which primitives a round uses, and the sizes that follow.

A suite is one value that knows all of this, and every primitive takes it.  So no primitive guesses what a key is for
from its length: a key of 32 bytes may be AES-256's or another cipher's.
"""

from __future__ import annotations

from enum import Enum, IntEnum

from secagg.wording import counted


class Cipher(Enum):
    """What makes the keystream of a mask."""

    AES_CTR = "AES-CTR"
    """A counter of 128 bits, big-endian, that starts at zero."""


class Aead(Enum):
    """What seals a pair of shares."""

    AES_GCM = "AES-GCM"
    """A nonce of zeros: a key seals one plaintext."""


class Agreement(Enum):
    """How two clients agree on a secret."""

    X25519 = "X25519"


class Suite(IntEnum):
    """The primitives of a round; its number is what stands in a config, in a suspended client and in derivations.

    Both use X25519, HKDF-SHA256 and SHA-256; the AES key size differs.  No property has a default: a new suite answers
    for itself, and the type checker names the answers that are missing.
    """

    AES_128 = 1
    """AES-128-CTR masks, shares sealed with AES-128-GCM."""
    AES_256 = 2
    """AES-256-CTR masks, shares sealed with AES-256-GCM."""

    @property
    def cipher(self) -> Cipher:
        """What makes the keystream of a mask."""
        match self:
            case Suite.AES_128 | Suite.AES_256:
                return Cipher.AES_CTR

    @property
    def aead(self) -> Aead:
        """What seals a pair of shares."""
        match self:
            case Suite.AES_128 | Suite.AES_256:
                return Aead.AES_GCM

    @property
    def agreement(self) -> Agreement:
        """How two clients agree on a secret."""
        match self:
            case Suite.AES_128 | Suite.AES_256:
                return Agreement.X25519

    @property
    def key_bytes(self) -> int:
        """Bytes of a mask key and of a sealing key."""
        match self:
            case Suite.AES_128:
                return 16
            case Suite.AES_256:
                return 32

    @property
    def tag_bytes(self) -> int:
        """By how much sealed bytes are longer than what is in them."""
        match self.aead:
            case Aead.AES_GCM:
                return 16

    @property
    def private_key_bytes(self) -> int:
        """Bytes of a private key of the agreement."""
        match self.agreement:
            case Agreement.X25519:
                return 32

    @property
    def public_key_bytes(self) -> int:
        """Bytes of a public key of the agreement."""
        match self.agreement:
            case Agreement.X25519:
                return 32


class CryptoError(ValueError):
    """A primitive refused its input: a low-order point, a key of a wrong size, a wrong tag, a wrong signature."""


def check_key(suite: Suite, key: bytes) -> None:
    """Raises CryptoError unless ``key`` has the size of the suite's mask keys and sealing keys."""
    if len(key) != suite.key_bytes:
        raise CryptoError(f"a key of {counted(len(key), 'byte')}: {suite.name} has keys of {suite.key_bytes}")
