"""ML-KEM-768 as the library calls it, and what is said where it is missing."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from secagg import Client, ParameterError, RoundConfig, Server, Suite
from secagg.primitives import kem
from secagg.primitives.kem import DecapsulationKey, are_encapsulation_keys, encapsulate
from secagg.primitives.suites import CryptoError

SEED = bytes(range(64))
KEY = DecapsulationKey(SEED).encapsulation_key()


def test_sizes() -> None:
    secret, ciphertext = encapsulate(KEY)
    assert (len(KEY), len(ciphertext), len(secret)) == (1184, 1088, 32)
    assert Suite.HYBRID.public_key_bytes == 32 + kem.ENCAPSULATION_KEY_BYTES
    assert Suite.HYBRID.ciphertext_bytes == kem.CIPHERTEXT_BYTES


def test_the_owner_gets_the_secret() -> None:
    for _ in range(20):
        secret, ciphertext = encapsulate(KEY)
        assert DecapsulationKey(SEED).decapsulate(ciphertext) == secret


def test_it_is_made_anew_every_time() -> None:
    assert len({encapsulate(KEY) for _ in range(20)}) == 20


def test_a_seed_makes_one_key_and_d_is_its_first_half() -> None:
    """z is for implicit rejection alone: a key pair with another z has the same public half."""
    assert DecapsulationKey(SEED[:32] + bytes(32)).encapsulation_key() == KEY
    assert DecapsulationKey(bytes(32) + SEED[32:]).encapsulation_key() != KEY


def test_rejection_is_implicit_and_that_of_fips_203() -> None:
    """FIPS 203, algorithm 18, line 7: a ciphertext that was not made gives SHAKE-256(z, ciphertext), and no error."""
    _, ciphertext = encapsulate(KEY)
    turned = bytes((ciphertext[0] ^ 1,)) + ciphertext[1:]
    for wrong in (turned, bytes(1088)):
        assert DecapsulationKey(SEED).decapsulate(wrong) == hashlib.shake_256(SEED[32:] + wrong).digest(32)


@pytest.mark.parametrize("length", [0, 1087, 1089])
def test_a_ciphertext_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(CryptoError, match=f"a ciphertext of {length:,} bytes: ML-KEM-768 has ciphertexts of 1088"):
        DecapsulationKey(SEED).decapsulate(bytes(length))


def with_number(place: int, value: int) -> bytes:
    """The key with another number of 12 bits in this place (FIPS 203, ByteEncode 12)."""
    numbers = int.from_bytes(KEY[:1152], "little")
    changed = numbers & ~(0xFFF << 12 * place) | value << 12 * place
    return changed.to_bytes(1152, "little") + KEY[1152:]


@pytest.mark.parametrize("place", [0, 1, 255, 256, 767])
def test_the_modulus_check(place: int) -> None:
    """Of many keys here, and of one by the library under ``encapsulate``: both say the same."""
    assert are_encapsulation_keys([KEY, with_number(place, 3328)])
    encapsulate(with_number(place, 3328))
    for beyond in (3329, 3330, 4095):
        assert not are_encapsulation_keys([with_number(place, beyond), KEY])
        assert not are_encapsulation_keys([KEY, with_number(place, beyond)])
        with pytest.raises(CryptoError, match="no ML-KEM-768 encapsulation key"):
            encapsulate(with_number(place, beyond))


@pytest.mark.parametrize("length", [0, 1183, 1185])
def test_a_key_of_another_length_is_none(length: int) -> None:
    assert not are_encapsulation_keys([KEY, (KEY + bytes(1))[:length]])
    with pytest.raises(CryptoError, match="no ML-KEM-768 encapsulation key"):
        encapsulate((KEY + bytes(1))[:length])


def test_a_decapsulation_key_shows_nothing() -> None:
    assert repr(DecapsulationKey(SEED)) == "DecapsulationKey()"


def too_old(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(kem, "mlkem", None)
    return r"suite HYBRID needs ML-KEM-768, and cryptography \S+ does not have it: install cryptography 47 or newer"


def built_without(monkeypatch: pytest.MonkeyPatch) -> str:
    def refuse(seed: bytes) -> None:
        raise UnsupportedAlgorithm("ML-KEM")

    key = SimpleNamespace(from_seed_bytes=refuse)
    monkeypatch.setattr(kem, "mlkem", SimpleNamespace(MLKEM768PrivateKey=key))
    return r"suite HYBRID needs ML-KEM-768, and the library under cryptography \S+ does not have it"


@pytest.mark.parametrize("lacking", [too_old, built_without])
def test_a_party_without_it_says_what_to_upgrade(lacking: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither server nor client gets into such a round, and no token is used up.  Other suites are as before."""
    config, plain = (RoundConfig.for_cohort(5, 3, suite=suite, version=2) for suite in ("hybrid", "aes-256"))
    server = Server(config)
    state = Client.join(server.invitation(), 1).suspend()
    told = lacking(monkeypatch)  # type: ignore[operator]
    used: list[bytes] = []
    for take in (
        lambda: Server(config),
        lambda: Server.restore(server.snapshot()),
        lambda: Client.join(server.invitation(), 0, consume=lambda token: bool(used.append(token))),
        lambda: Client.resume(state, lambda token: bool(used.append(token))),
    ):
        with pytest.raises(ParameterError, match=told):
            take()
    assert used == []
    assert Client.join(Server(plain).invitation(), 0).start()
