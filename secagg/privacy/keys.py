"""Every key of a private encoding: that of the rotation, which is public, and those of one ``encode``."""

from __future__ import annotations

from typing import Final, final

from secagg.primitives.kdf import derive, expand, extract
from secagg.primitives.secret import Secret
from secagg.primitives.suites import Suite

SUITE: Final = Suite.AES_256
"""Of every keystream here, whatever the round's: the noise protects for longer than the round lasts."""
KEY_BYTES: Final = SUITE.key_bytes

_ROTATION: Final = b"secagg private encoding: rotation, version 1"
_ROUNDING: Final = b"secagg private encoding: stochastic rounding, version 1"
_NOISE: Final = b"secagg private encoding: noise, version 1"
_COMPONENT: Final = b"secagg private encoding: removable noise, version 1"
_NEXT_LINK: Final = b"secagg private encoding: next level of removable noise, version 1"
_REMOVABLE: Final = b"secagg private encoding: first level of removable noise, version 1"


def rotation_key(context: bytes) -> bytes:
    """The key of a round's signs; public, as the round's context is."""
    return derive(context, b"", _ROTATION, KEY_BYTES)


def component_key(link: bytes) -> bytes:
    """The key of the component of removable noise that a link opens; see ``secagg.privacy.removal``."""
    return expand(link, _COMPONENT, KEY_BYTES)


def next_link(link: bytes) -> bytes:
    """The link behind a link: whoever has one has all behind it, and none in front of it."""
    return expand(link, _NEXT_LINK, KEY_BYTES)


@final
class EncodingKeys:
    """The secret keys of one ``encode``, from 32 fresh random bytes that serve no other.

    ``removable`` is the first link of a chain, see ``secagg.privacy.removal``.
    """

    __slots__ = ("noise", "removable", "rounding")

    def __init__(self, seed: bytes) -> None:
        extracted = extract(seed, b"")
        self.rounding: Final = Secret(expand(extracted, _ROUNDING, KEY_BYTES))
        self.noise: Final = Secret(expand(extracted, _NOISE, KEY_BYTES))
        self.removable: Final = Secret(expand(extracted, _REMOVABLE, KEY_BYTES))
