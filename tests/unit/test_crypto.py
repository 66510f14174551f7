"""The primitives against published vectors, and against implementations written out here."""

from __future__ import annotations

import hashlib
import hmac
import random

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from secagg import Suite
from secagg.primitives import aead, agreement, kdf, signing, streams
from secagg.primitives.streams import Keystream
from secagg.primitives.suites import CryptoError

unhex = bytes.fromhex
X25519 = Suite.AES_128
"""Any suite does: they all agree by it."""
SUITES = {suite.key_bytes: suite for suite in (Suite.AES_128, Suite.AES_256)}
"""AES's, by bytes of the key."""


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


# X25519: RFC 7748, sections 5.2 and 6.1.

P = 2**255 - 19
BASE = (9).to_bytes(32, "little")


def ladder(private: bytes, public: bytes) -> bytes:
    """The Montgomery ladder of RFC 7748, section 5, in Python integers."""
    scalar = (int.from_bytes(private, "little") & ~7 & (2**254 - 1)) | 1 << 254
    u = int.from_bytes(public, "little") & (2**255 - 1)
    x2, z2, x3, z3, swapped = 1, 0, u % P, 1, 0
    for position in reversed(range(255)):
        bit = scalar >> position & 1
        if bit ^ swapped:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % P, b * b % P, d * a % P, c * b % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, (aa - bb) * (aa + 121665 * (aa - bb)) % P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


@pytest.mark.parametrize(
    ("private", "public", "shared"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_agreement(private: str, public: str, shared: str) -> None:
    assert agreement.agree(X25519, unhex(private), unhex(public)) == unhex(shared)
    for in_threads in (False, True):
        key = agreement.AgreementKey(X25519, unhex(private), in_threads=in_threads)
        assert key.agree(unhex(public)) == unhex(shared)
    assert ladder(unhex(private), unhex(public)) == unhex(shared)


def test_agreement_of_two() -> None:
    alice = unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    shared = unhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert (
        agreement.public_key(X25519, alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    )
    assert agreement.public_key(X25519, bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert (
        agreement.agree(X25519, alice, agreement.public_key(X25519, bob))
        == agreement.agree(X25519, bob, agreement.public_key(X25519, alice))
        == shared
    )
    for private in (alice, bob):
        assert agreement.AgreementKey(X25519, private).public_key() == agreement.public_key(X25519, private)


def test_agreement_iterated() -> None:
    scalar = u = BASE
    for turn in range(1, 1001):
        scalar, u = agreement.agree(X25519, scalar, u), scalar
        if turn == 1:
            assert scalar.hex() == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert scalar.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


# Points of low order.

ORDER_8 = (
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
)
LOW_ORDER = [0, 1, P - 1, P, P + 1, *(int.from_bytes(unhex(point), "little") for point in ORDER_8)]
SCALARS = [random.Random(1).randbytes(32) for _ in range(3)]


@pytest.mark.parametrize("high_bit", [0, 1])
@pytest.mark.parametrize("u", LOW_ORDER)
def test_low_order_is_what_agrees_on_zero(u: int, high_bit: int) -> None:
    public = (u | high_bit << 255).to_bytes(32, "little")
    assert agreement.has_low_order(X25519, public)
    for private in SCALARS:
        assert ladder(private, public) == bytes(32)
        with pytest.raises(CryptoError, match="low order"):
            agreement.agree(X25519, private, public)
        with pytest.raises(CryptoError, match="low order"):
            agreement.AgreementKey(X25519, private).agree(public)
        with pytest.raises(CryptoError, match="low order"):
            agreement.AgreementKey(X25519, private, in_threads=True).agree(public)


@pytest.mark.parametrize("high_bit", [0, 1])
def test_nothing_else_is_refused(high_bit: int) -> None:
    """The neighbours of those points, points that are not reduced, points on the twist, any others."""
    rng = random.Random(2)
    near = {(u + step) % 2**255 for u in LOW_ORDER for step in (-2, -1, 1, 2)}
    for u in sorted(near | {rng.randrange(2**255) for _ in range(40)} | {P + 9, 2**255 - 1, 9}):
        public = (u | high_bit << 255).to_bytes(32, "little")
        shared = ladder(SCALARS[0], public)
        assert agreement.has_low_order(X25519, public) == (shared == bytes(32)) == (u in LOW_ORDER)
        if shared != bytes(32):
            assert agreement.agree(X25519, SCALARS[0], public) == shared
            assert agreement.AgreementKey(X25519, SCALARS[0]).agree(public) == shared


# Ed25519: RFC 8032, section 7.1.

SIGNATURES = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), SIGNATURES)
def test_signatures(seed: str, public: str, message: str, signature: str) -> None:
    met, secret = signing.signing_key_pair(unhex(seed))
    assert met == unhex(public)
    assert signing.sign(secret, unhex(message)) == unhex(signature)
    signing.verify(met, unhex(message), unhex(signature))


def test_signatures_that_do_not_verify() -> None:
    public, secret = signing.signing_key_pair(bytes(32))
    other, _ = signing.signing_key_pair(bytes(31) + b"\x01")
    message = b"the survivors"
    signature = signing.sign(secret, message)
    order = 2**252 + 27742317777372353535851937790883648493
    malleable = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    for key, signed, shown in (
        (other, message, signature),
        (public, message + b".", signature),
        (public, b"", signature),
        (public, message, bytes(64)),
        (public, message, malleable),
        (public, message, signature[:-1]),
        (public, message, signature + b"\x00"),
        (public, message, b""),
        *((public, message, flipped(signature, position)) for position in range(64)),
    ):
        with pytest.raises(CryptoError, match="verify"):
            signing.verify(key, signed, shown)


# HKDF-SHA256: RFC 5869, appendix A.

DERIVATIONS = [
    (
        "0b" * 22,
        bytes(range(13)).hex(),
        bytes(range(0xF0, 0xFA)).hex(),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
        "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
        "cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """Extract and expand, section 2."""
    key = hmac.digest(salt or bytes(32), secret, hashlib.sha256)
    blocks = [b""]
    while len(b"".join(blocks)) < length:
        blocks.append(hmac.digest(key, blocks[-1] + info + bytes([len(blocks)]), hashlib.sha256))
    return b"".join(blocks)[:length]


@pytest.mark.parametrize(("secret", "salt", "info", "expected"), DERIVATIONS)
def test_derivation(secret: str, salt: str, info: str, expected: str) -> None:
    length = len(expected) // 2
    assert kdf.derive(unhex(secret), unhex(salt), unhex(info), length) == unhex(expected)
    assert hkdf(unhex(secret), unhex(salt), unhex(info), length) == unhex(expected)


@pytest.mark.parametrize("length", [16, 32, 33, 500])
def test_derivation_of_any_length(length: int) -> None:
    rng = random.Random(length)
    secret, salt, info = rng.randbytes(32), rng.randbytes(32), rng.randbytes(150)
    assert kdf.derive(secret, salt, info, length) == hkdf(secret, salt, info, length)


# AES: FIPS 197, appendix C; CTR: NIST SP 800-38A, F.5; GCM: SP 800-38D and its test cases with a zero nonce.

AES_128, AES_256 = bytes(range(16)), bytes(range(32))
BLOCK = unhex("00112233445566778899aabbccddeeff")


def aes_blocks(key: bytes, blocks: bytes) -> bytes:
    """AES of each block, with a key of any size."""
    return Cipher(AES(key), ECB()).encryptor().update(blocks)


def test_blocks() -> None:
    assert aes_blocks(AES_128, BLOCK).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"
    assert streams.permute_blocks(AES_256, BLOCK).hex() == "8ea2b7ca516745bfeafc49904b496089"
    assert streams.permute_blocks(AES_256, BLOCK + bytes(16) + BLOCK)[32:] == streams.permute_blocks(AES_256, BLOCK)
    assert streams.permute_blocks(AES_256, BLOCK) == aes_blocks(AES_256, BLOCK)
    with pytest.raises(CryptoError, match="a key of 16 bytes: the permutation's has 32"):
        streams.permute_blocks(AES_128, BLOCK)


COUNTER = 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF
PLAINTEXT = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
STREAMS = [
    (
        "2b7e151628aed2a6abf7158809cf4f3c",
        "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
        "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee",
    ),
    (
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
    ),
]


def read(stream: Keystream, block: int, length: int) -> bytes:
    out = np.empty(length, dtype=np.uint8)
    stream.read_into(out.data, memoryview(bytes(length)), block)
    return out.tobytes()


def xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("key", "ciphertext"), STREAMS)
def test_keystream(key: str, ciphertext: str) -> None:
    suite = SUITES[len(unhex(key))]
    assert xor(read(Keystream(suite, unhex(key)), COUNTER, 64), unhex(PLAINTEXT)) == unhex(ciphertext)


@pytest.mark.parametrize("key", [AES_128, AES_256])
def test_a_keystream_read_from_anywhere(key: bytes) -> None:
    """Block by block from AES itself, in any order of reading, whole blocks or not, across 2^64."""
    suite = SUITES[len(key)]
    stream = Keystream(suite, key)
    rng = random.Random(5)
    whole = streams.keystream_bytes(suite, key, 4096)
    assert whole[:16] == aes_blocks(key, bytes(16))
    for _ in range(200):
        first = rng.choice((rng.randrange(256), 2**64 - 2 + rng.randrange(4), rng.randrange(2**128 - 300)))
        length = rng.choice((1, 15, 16, 17, 64, 300, 4096))
        blocks = b"".join((first + step).to_bytes(16, "big") for step in range((length + 15) // 16))
        assert read(stream, first, length) == aes_blocks(key, blocks)[:length]
    for first in (0, 3, 4, 5, 200):
        assert read(stream, first, 160) == whole[16 * first : 16 * first + 160]


def multiply(one: int, other: int) -> int:
    """In GF(2^128) as SP 800-38D, 6.3, has it."""
    product = 0
    for position in range(127, -1, -1):
        if one >> position & 1:
            product ^= other
        other = other >> 1 ^ (0xE1 << 120 if other & 1 else 0)
    return product


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 16)


def gcm(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """Ciphertext and tag under a nonce of zeros (SP 800-38D, section 7.1)."""
    counters = b"".join((1 + step).to_bytes(16, "big") for step in range(1 + (len(plaintext) + 15) // 16))
    stream = aes_blocks(key, counters)
    ciphertext = xor(plaintext, stream[16 : 16 + len(plaintext)])
    h = int.from_bytes(aes_blocks(key, bytes(16)), "big")
    lengths = (8 * len(associated)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    hashed = padded(associated) + padded(ciphertext) + lengths
    total = 0
    for start in range(0, len(hashed), 16):
        total = multiply(total ^ int.from_bytes(hashed[start : start + 16], "big"), h)
    return ciphertext + xor(total.to_bytes(16, "big"), stream[:16])


@pytest.mark.parametrize(
    ("key", "plaintext", "sealed"),
    [
        (bytes(16), b"", "58e2fccefa7e3061367f1d57a4e7455a"),
        (bytes(16), bytes(16), "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"),
        (bytes(32), b"", "530f8afbc74536b9a963b4f1c4cb738b"),
        (bytes(32), bytes(16), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ],
)
def test_sealing(key: bytes, plaintext: bytes, sealed: str) -> None:
    suite = SUITES[len(key)]
    assert aead.seal(suite, key, plaintext, b"") == gcm(key, plaintext, b"") == unhex(sealed)
    assert aead.unseal(suite, key, unhex(sealed), b"") == plaintext


@pytest.mark.parametrize("suite", Suite)
@pytest.mark.parametrize("length", [0, 1, 16, 144, 1000])
def test_sealing_with_associated_data(suite: Suite, length: int) -> None:
    rng = random.Random(length)
    key, plaintext, associated = rng.randbytes(suite.key_bytes), rng.randbytes(length), rng.randbytes(97)
    sealed = aead.seal(suite, key, plaintext, associated)
    assert sealed == gcm(key, plaintext, associated)
    assert len(sealed) == length + aead.AEAD_TAG_BYTES
    assert aead.unseal(suite, key, sealed, associated) == plaintext


def test_what_does_not_open() -> None:
    key, plaintext, associated = bytes(range(16)), bytes(144), b"session, sender, receiver, phase"
    sealed = aead.seal(Suite.AES_128, key, plaintext, associated)
    for shown_key, shown, shown_associated in (
        (flipped(key, 3), sealed, associated),
        (key, sealed, b""),
        (key, sealed, flipped(associated, 0)),
        (key, sealed[:-1], associated),
        (key, sealed + b"\x00", associated),
        (key, sealed[:10], associated),
        (key, b"", associated),
        *((key, flipped(sealed, position), associated) for position in range(len(sealed))),
    ):
        with pytest.raises(CryptoError, match="open"):
            aead.unseal(Suite.AES_128, shown_key, shown, shown_associated)
