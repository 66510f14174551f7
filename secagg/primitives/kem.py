"""Key encapsulation: ML-KEM-768 (FIPS 203), the half of a hybrid agreement that holds against quantum computers.

Whoever has an encapsulation key makes a secret and a ciphertext; the owner of the decapsulation key gets the secret
from the ciphertext.  ML-KEM rejects implicitly: a ciphertext that nobody made gives a secret that nobody else has, and
no error.  What is sealed under that secret then does not open.

``cryptography`` has ML-KEM from version 47 on, where the library under it has it too.  Encapsulation draws its own
randomness, so the same ciphertext is never made twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import cryptography
import numpy as np
from cryptography.exceptions import UnsupportedAlgorithm

from secagg.errors import ParameterError
from secagg.primitives.suites import CryptoError, Suite
from secagg.wording import counted

try:
    from cryptography.hazmat.primitives.asymmetric import mlkem
except ImportError:  # before version 47
    mlkem = None  # type: ignore[assignment]

ENCAPSULATION_KEY_BYTES: Final = 1184
CIPHERTEXT_BYTES: Final = 1088
SECRET_BYTES: Final = 32
SEED_BYTES: Final = 64
"""d and z of FIPS 203, of which the whole key pair is made."""
_LEAST_RELEASE: Final = 47
_MODULUS: Final = 3329
_NUMBERS_BYTES: Final = 1152
"""768 numbers of 12 bits, before the 32 bytes of a seed."""


def require(suite: Suite) -> None:
    """Raises ParameterError where the suite needs ML-KEM-768, and ``cryptography`` does not have it here."""
    if not suite.is_hybrid:
        return
    if mlkem is None:
        raise ParameterError(
            f"suite {suite.name} needs ML-KEM-768, and cryptography {cryptography.__version__} does not have it: "
            f"install cryptography {_LEAST_RELEASE} or newer, or ask for another suite"
        )
    try:
        mlkem.MLKEM768PrivateKey.from_seed_bytes(bytes(SEED_BYTES))
    except UnsupportedAlgorithm:
        raise ParameterError(
            f"suite {suite.name} needs ML-KEM-768, and the library under cryptography {cryptography.__version__} does "
            "not have it: install cryptography from its wheels on PyPI, or ask for another suite"
        ) from None


@final
class DecapsulationKey:
    """A key pair, made of its seed."""

    __slots__ = ("_private",)

    def __init__(self, seed: bytes) -> None:
        """``seed`` has SEED_BYTES; d is its first half (FIPS 203, ML-KEM.KeyGen_internal)."""
        self._private = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed)

    def encapsulation_key(self) -> bytes:
        """The public half, ENCAPSULATION_KEY_BYTES."""
        return self._private.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The secret in a ciphertext, SECRET_BYTES; of one that was not made for this key, one that nobody else has.

        Raises CryptoError for a ciphertext of another length.
        """
        if len(ciphertext) != CIPHERTEXT_BYTES:
            raise CryptoError(
                f"a ciphertext of {counted(len(ciphertext), 'byte')}: ML-KEM-768 has ciphertexts of {CIPHERTEXT_BYTES}"
            )
        return self._private.decapsulate(ciphertext)

    def __repr__(self) -> str:
        return "DecapsulationKey()"


def encapsulate(encapsulation_key: bytes) -> tuple[bytes, bytes]:
    """A fresh secret, SECRET_BYTES, and the ciphertext that brings it to the key's owner, CIPHERTEXT_BYTES.

    Raises CryptoError for bytes that are no encapsulation key.
    """
    try:
        return mlkem.MLKEM768PublicKey.from_public_bytes(encapsulation_key).encapsulate()
    except ValueError:
        raise CryptoError("these bytes are no ML-KEM-768 encapsulation key") from None


def are_encapsulation_keys(keys: Sequence[bytes]) -> bool:
    """Whether all of these pass the check of an encapsulation key (FIPS 203, 7.2): its length, and its numbers' range.

    ``encapsulate`` makes the same check of one key.  Here it is made of many at once, which costs a tenth as much.
    """
    if any(len(key) != ENCAPSULATION_KEY_BYTES for key in keys):
        return False
    encoded = np.frombuffer(b"".join([key[:_NUMBERS_BYTES] for key in keys]), np.uint8).reshape(-1, 3).astype(np.uint16)
    low, middle, high = encoded.T  # two numbers of 12 bits in three bytes, the lowest bit first
    return not (((low | (middle & 15) << 8) >= _MODULUS) | ((middle >> 4 | high << 4) >= _MODULUS)).any()
