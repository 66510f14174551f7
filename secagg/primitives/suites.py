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
    HYBRID = "X25519 and ML-KEM-768"
    """Both: what is agreed on stays secret as long as one of them holds."""


class Suite(IntEnum):
    """The primitives of a round; its number is what stands in a config, in a suspended client and in derivations.

    All use X25519, HKDF-SHA256 and SHA-256.  No property has a default: a new suite answers for itself, and the type
    checker names the answers that are missing.
    """

    AES_128 = 1
    """AES-128-CTR masks, shares sealed with AES-128-GCM."""
    AES_256 = 2
    """AES-256-CTR masks, shares sealed with AES-256-GCM."""
    HYBRID = 3
    """As AES_256, and every agreement is one by X25519 and one by ML-KEM-768: what is recorded today stays secret when
    a quantum computer solves X25519.  It needs version 2 of the wire, and ``cryptography`` 47 or newer.
    """

    @property
    def cipher(self) -> Cipher:
        """What makes the keystream of a mask."""
        match self:
            case Suite.AES_128 | Suite.AES_256 | Suite.HYBRID:
                return Cipher.AES_CTR

    @property
    def aead(self) -> Aead:
        """What seals a pair of shares."""
        match self:
            case Suite.AES_128 | Suite.AES_256 | Suite.HYBRID:
                return Aead.AES_GCM

    @property
    def agreement(self) -> Agreement:
        """How two clients agree on a secret."""
        match self:
            case Suite.AES_128 | Suite.AES_256:
                return Agreement.X25519
            case Suite.HYBRID:
                return Agreement.HYBRID

    @property
    def is_hybrid(self) -> bool:
        """Whether an agreement takes a ciphertext of a key encapsulation besides the public keys."""
        return self.agreement is Agreement.HYBRID

    @property
    def key_bytes(self) -> int:
        """Bytes of a mask key and of a sealing key."""
        match self:
            case Suite.AES_128:
                return 16
            case Suite.AES_256 | Suite.HYBRID:
                return 32

    @property
    def tag_bytes(self) -> int:
        """By how much sealed bytes are longer than what is in them."""
        match self.aead:
            case Aead.AES_GCM:
                return 16

    @property
    def private_key_bytes(self) -> int:
        """Bytes that are drawn for a key pair: the private key, or the root of which both private keys are made."""
        match self.agreement:
            case Agreement.X25519 | Agreement.HYBRID:
                return 32

    @property
    def public_key_bytes(self) -> int:
        """Bytes of a public key of the agreement: X25519's, and then ML-KEM-768's where there is one."""
        match self.agreement:
            case Agreement.X25519:
                return 32
            case Agreement.HYBRID:
                return 32 + 1184

    @property
    def ciphertext_bytes(self) -> int:
        """Bytes that go before what is sealed for somebody: the ciphertext that brings its key, where there is one."""
        match self.agreement:
            case Agreement.X25519:
                return 0
            case Agreement.HYBRID:
                return 1088


class CryptoError(ValueError):
    """A primitive refused its input: a low-order point, a key of a wrong size, a wrong tag, a wrong signature."""


def check_key(suite: Suite, key: bytes) -> None:
    """Raises CryptoError unless ``key`` has the size of the suite's mask keys and sealing keys."""
    if len(key) != suite.key_bytes:
        raise CryptoError(f"a key of {counted(len(key), 'byte')}: {suite.name} has keys of {suite.key_bytes}")
