"""A suite says what a key is for; nothing is inferred from a key's length."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from secagg import Modulus, Suite
from secagg.arithmetic.kernels import fused
from secagg.pairwise import records
from secagg.primitives import aead, agreement, masking, streams
from secagg.primitives.suites import Aead, Agreement, Cipher, CryptoError

OTHER = {Suite.AES_128: Suite.AES_256, Suite.AES_256: Suite.AES_128, Suite.HYBRID: Suite.AES_128}
X25519 = [suite for suite in Suite if not suite.is_hybrid]


def stranger(**changes: object) -> Any:
    """A suite with keys of AES-256's size, and one primitive that this library has not: ChaCha20, for instance."""
    known = {"cipher": Cipher.AES_CTR, "aead": Aead.AES_GCM, "agreement": Agreement.X25519}
    return SimpleNamespace(name="CHACHA", key_bytes=32, **(known | changes))


def test_the_suites() -> None:
    sizes = {suite.name: (int(suite), suite.key_bytes) for suite in Suite}
    assert sizes == {"AES_128": (1, 16), "AES_256": (2, 32), "HYBRID": (3, 32)}
    agreements = {suite.name: suite.agreement for suite in Suite}
    assert agreements == {"AES_128": Agreement.X25519, "AES_256": Agreement.X25519, "HYBRID": Agreement.HYBRID}
    for suite in Suite:
        assert (suite.cipher, suite.aead) == (Cipher.AES_CTR, Aead.AES_GCM)
        assert len(aead.seal(suite, bytes(suite.key_bytes), b"", b"")) == suite.tag_bytes
        assert pickle.loads(pickle.dumps(suite)) is suite  # jobs of other processes carry it


@pytest.mark.parametrize("suite", X25519)
def test_the_records_of_version_1_hold_every_suites_keys_and_seals(suite: Suite) -> None:
    """A suite of other sizes needs other records, and so another version of the wire."""
    assert len(agreement.public_key(suite, bytes(suite.private_key_bytes))) == suite.public_key_bytes
    assert suite.public_key_bytes == records.PUBLIC_KEY_BYTES
    assert records.PAIR_BYTES + suite.tag_bytes == records.SEALED_BYTES == records.sealed_bytes(suite)
    assert records.keys_bytes(suite) == records.KEYS_BYTES
    assert suite.ciphertext_bytes == 0


@pytest.mark.parametrize("suite", Suite)
def test_a_key_of_the_other_suite_is_refused(suite: Suite) -> None:
    key = bytes(OTHER[suite].key_bytes)
    told = f"a key of {len(key)} bytes: {suite.name} has keys of {suite.key_bytes}"
    sealed = aead.seal(OTHER[suite], key, b"shares", b"")
    for take in (
        lambda: aead.seal(suite, key, b"shares", b""),
        lambda: aead.unseal(suite, key, sealed, b""),
        lambda: streams.Keystream(suite, key),
        lambda: streams.keystream_bytes(suite, key, 16),
        lambda: masking.expand(suite, key, 0, 1, Modulus.ring(32)),
        lambda: masking.remove_masks(suite, np.zeros(3, np.uint32), (key,), (), Modulus.ring(32)),
    ):
        with pytest.raises(CryptoError, match=told):
            take()


def test_a_key_of_another_cipher_does_not_pass_for_aes_256s(monkeypatch: pytest.MonkeyPatch) -> None:
    key, vector = bytes(32), np.zeros(1000, np.uint32)
    chacha = stranger(cipher="ChaCha20")
    with pytest.raises(AssertionError, match="ChaCha20"):
        streams.Keystream(chacha, key)
    for switch in ("0", "1"):  # neither the library nor a kernel
        monkeypatch.setenv(fused.SWITCH, switch)
        with pytest.raises(AssertionError, match="ChaCha20"):
            masking.apply_masks(chacha, vector, (key,) * 8, (), Modulus.ring(32))
    assert not vector.any()


def test_sealed_bytes_of_another_aead_are_not_opened_as_aes_gcms() -> None:
    key = bytes(32)
    for take in (aead.seal, aead.unseal):
        with pytest.raises(AssertionError, match="ChaCha20-Poly1305"):
            take(stranger(aead="ChaCha20-Poly1305"), key, bytes(32), b"")


def test_a_key_of_another_agreement_is_not_taken_for_x25519s() -> None:
    hybrid = stranger(agreement="ML-KEM-768 alone")
    for take in (
        lambda: agreement.public_key(hybrid, bytes(32)),
        lambda: agreement.agree(hybrid, bytes(32), bytes(32)),
        lambda: agreement.AgreementKey(hybrid, bytes(32)),
        lambda: agreement.has_low_order(hybrid, bytes(32)),
    ):
        with pytest.raises(AssertionError, match="ML-KEM"):
            take()
