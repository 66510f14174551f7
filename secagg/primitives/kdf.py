"""Key derivation: HKDF-SHA256, through the standard library's HMAC, which is as fast as a library's HKDF.

Its two steps are apart, so that two keys of one secret share the first.
"""

from __future__ import annotations

import hmac


def derive(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 (RFC 5869): ``length`` bytes."""
    return expand(extract(secret, salt), info, length)


def extract(secret: bytes, salt: bytes) -> bytes:
    """The first half of ``derive``: 32 bytes that serve all keys of one secret and salt."""
    return hmac.digest(salt, secret, "sha256")  # an empty salt is padded with zeros, as RFC 5869 has it


def expand(extracted: bytes, info: bytes, length: int) -> bytes:
    """The second half of ``derive``: ``length`` bytes, at most 8,160."""
    block = hmac.digest(extracted, info + b"\x01", "sha256")
    if length <= len(block):
        return block[:length]
    blocks = [block]
    for number in range(2, -(-length // len(block)) + 1):
        blocks.append(hmac.digest(extracted, blocks[-1] + info + bytes((number,)), "sha256"))
    return b"".join(blocks)[:length]
