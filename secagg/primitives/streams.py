"""Keystreams, and the keyed permutation that the graph is drawn with."""

from __future__ import annotations

from typing import Final, assert_never, final

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher as LibraryCipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB

from secagg.primitives.suites import Cipher, CryptoError, Suite, check_key
from secagg.wording import counted

_PERMUTATION_KEY_BYTES: Final = 32
"""AES-256, whatever the round's suite: a graph belongs to no suite."""


def permute_blocks(key: bytes, blocks: bytes) -> bytes:
    """AES-256 of each 16-byte block on its own: a keyed permutation of distinct blocks, not an encryption mode.

    Raises CryptoError for a key of another size than 32 bytes.
    """
    if len(key) != _PERMUTATION_KEY_BYTES:
        raise CryptoError(f"a key of {counted(len(key), 'byte')}: the permutation's has {_PERMUTATION_KEY_BYTES}")
    encryptor = LibraryCipher(AES(key), ECB()).encryptor()  # noqa: S305
    return encryptor.update(blocks) + encryptor.finalize()


@final
class Keystream:
    """The keystream of a suite's cipher, which can be read from any block of 16 bytes.

    AES-CTR: the counter is the 128-bit big-endian number of the block, starting at zero.
    """

    __slots__ = ("_encryptor", "_next")

    def __init__(self, suite: Suite, key: bytes) -> None:
        """Raises CryptoError for a key of another size than the suite's."""
        check_key(suite, key)
        match suite.cipher:
            case Cipher.AES_CTR:
                self._encryptor = LibraryCipher(AES(key), CTR(bytes(16))).encryptor()
            case _:
                assert_never(suite.cipher)
        self._next = 0

    def read_into(self, out: memoryview, zeros: memoryview, block: int) -> None:
        """Fill ``out`` with the keystream from counter ``block`` on.

        ``out`` and ``zeros`` are views of as many bytes, C-contiguous; ``zeros`` holds zeros, and is handed in so that
        slices share one.  Views, since whoever reads many streams into one place makes it once.  Releases the GIL.
        """
        if block != self._next:
            self._encryptor.reset_nonce(block.to_bytes(16, "big"))
        self._encryptor.update_into(zeros, out)
        self._next = block + len(out) // 16 if len(out) % 16 == 0 else -1

    def __repr__(self) -> str:
        return "Keystream()"


def keystream_bytes(suite: Suite, key: bytes, length: int) -> bytes:
    """The first ``length`` bytes of a key's keystream."""
    out = np.empty(length, dtype=np.uint8)
    Keystream(suite, key).read_into(out.data, memoryview(bytes(length)), 0)
    return out.tobytes()
