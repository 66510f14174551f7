"""Encapsulation with given randomness, with which the vectors are made, against another library's ML-KEM-768."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import primitives
from vectors import ml_kem

SEEDS, RANDOMNESS = st.binary(min_size=64, max_size=64), st.binary(min_size=32, max_size=32)


@given(SEEDS, RANDOMNESS)
@settings(max_examples=10)
def test_it_is_the_encapsulation_that_decapsulation_makes_again(seed: bytes, randomness: bytes) -> None:
    """Decapsulation encapsulates once more and compares, so that any other ciphertext gives any other secret."""
    private = MLKEM768PrivateKey.from_seed_bytes(seed)
    secret, ciphertext = ml_kem.encapsulate(private.public_key().public_bytes_raw(), randomness)
    assert private.decapsulate(ciphertext) == secret
    assert private.decapsulate(bytes([ciphertext[0] ^ 1]) + ciphertext[1:]) != secret


@given(SEEDS, st.integers(0, 767), st.integers(0, 4095))
def test_the_modulus_check_is_the_other_librarys(seed: bytes, place: int, number: int) -> None:
    honest = primitives.kem_public_key(seed)
    numbers = int.from_bytes(honest[:1152], "little")
    numbers += (number - (numbers >> 12 * place & 0xFFF)) << 12 * place
    key = numbers.to_bytes(1152, "little") + honest[1152:]
    assert primitives.passes_modulus_check(key) == (number < 3329)
    if number < 3329:
        MLKEM768PublicKey.from_public_bytes(key)
    else:
        with pytest.raises(ValueError, match="key"):
            MLKEM768PublicKey.from_public_bytes(key).encapsulate()
