"""Vectors of Ed25519 where verifiers differ: other encodings of S and R, and points of small order in a key or in R."""

from __future__ import annotations

import hashlib

from reference import primitives

from .common import Test, entry, labelled

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, P) % P
_BASE = (
    15112221349535400772501151409588531511454012693041857206046113283949847762202,
    46316835694926478169428394003475163141307993866256225615783033603165251855960,
)
_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
"""The y of a point of order 8."""

Point = tuple[int, int]


def _add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    both = _D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + both, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - both, -1, P) % P


def _times(factor: int, point: Point) -> Point:
    result = (0, 1)
    for bit in bin(factor)[2:]:
        result = _add(result, result)
        result = _add(result, point) if bit == "1" else result
    return result


def _encoded(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def _small_order() -> Point:
    square = (_ORDER_8**2 - 1) * pow(_D * _ORDER_8**2 + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root, _ORDER_8


def signatures() -> list[Test]:
    """Tests of the function `verify`."""
    seed, message = labelled("signer", 32), labelled("signed", 40)
    half = hashlib.sha512(seed).digest()[:32]
    scalar = int.from_bytes(half, "little") & ~7 & (1 << 254) - 1 | 1 << 254
    key, nonce, small = _times(scalar, _BASE), int.from_bytes(labelled("r", 32), "little") % ORDER, _small_order()
    public = primitives.identity_key(seed)
    if _encoded(key) != public or _times(8, small) != (0, 1) or _times(4, small) == (0, 1):
        raise ValueError("the arithmetic of Ed25519 is wrong")

    def signed(point: bytes, private_nonce: int, by: bytes = public) -> bytes:
        challenge = int.from_bytes(hashlib.sha512(point + by + message).digest(), "little")
        return point + ((private_nonce + challenge * scalar) % ORDER).to_bytes(32, "little")

    honest = primitives.sign(seed, message)
    larger = int.from_bytes(honest[32:], "little") + ORDER
    mixed = _encoded(_add(key, small))
    cases = {
        "as an honest signer makes it": (public, honest, True),
        "another nonce of the same signer": (public, signed(_encoded(_times(nonce, _BASE)), nonce), True),
        "S is larger by the group's order": (public, honest[:32] + larger.to_bytes(32, "little"), False),
        "R is the neutral element, written as q + 1": (public, signed((P + 1).to_bytes(32, "little"), 0), False),
        "R with a point of order 8 added, which the equation with the cofactor lets through": (
            public,
            signed(_encoded(_add(_times(nonce, _BASE), small)), nonce),
            False,
        ),
        "a key with a point of order 8 added": (mixed, signed(_encoded(_times(nonce, _BASE)), nonce, mixed), False),
        "another message's": (public, primitives.sign(seed, message[1:]), False),
    }
    tests = []
    for comment, (by, signature, holds) in cases.items():
        if primitives.verifies(by, message, signature) != holds:
            raise ValueError(comment)
        shown = {"function": "verify", "key": by.hex(), "signed": message.hex(), "signature": signature.hex()}
        tests.append(entry("SIGN-1", comment, "VERIFY", error="" if holds else "bad-signature", **shown))
    return tests
