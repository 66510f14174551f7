"""The derivations of a hybrid suite, against HKDF and FIELDS written out here, and who is the sealer of a pair."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from secagg import RoundConfig, Suite
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.hybrid import KeyPair, PairSecrets, encapsulate
from secagg.pairwise.keys import KeySchedule
from secagg.pairwise.records import SealedSecret
from secagg.primitives.suites import CryptoError

CONFIG = RoundConfig.for_cohort(5, 3, suite="hybrid", version=2)
ROUND, SESSION = b"r" * 32, b"s" * 32
ROOTS = {1: b"1" * 32, 3: b"3" * 32}


def fields(name: str, *parts: bytes | int) -> bytes:
    """FIELDS of the specification, section 1."""
    encoded = [f"secagg/v2 {name}".encode()]
    encoded += [part.to_bytes(4, "little") if isinstance(part, int) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in encoded)


def hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, step by step."""
    extracted, made, block = hmac.digest(salt, secret, "sha256"), b"", b""
    for number in range(1, 4):
        block = hmac.digest(extracted, block + info + bytes((number,)), "sha256")
        made += block
    return made[:length]


def keys_of(index: int, purpose: bytes = b"masking") -> tuple[X25519PrivateKey, MLKEM768PrivateKey, bytes]:
    """Both private keys and the public key, by R-HYBRID-2."""
    root = ROOTS[index]
    x25519 = X25519PrivateKey.from_private_bytes(hkdf(root, ROUND, fields("x25519 key", 3, index, purpose), 32))
    ml_kem = MLKEM768PrivateKey.from_seed_bytes(hkdf(root, ROUND, fields("ml-kem key", 3, index, purpose), 64))
    return x25519, ml_kem, x25519.public_key().public_bytes_raw() + ml_kem.public_key().public_bytes_raw()


def pair_of(index: int, purpose: str = "masking") -> KeyPair:
    return KeyPair(CONFIG, ROUND, index, ROOTS[index], purpose)  # type: ignore[arg-type]


@pytest.mark.parametrize("purpose", ["channel", "masking"])
def test_a_root_makes_both_halves(purpose: str) -> None:
    x25519, ml_kem, public = keys_of(1, purpose.encode())
    pair = pair_of(1, purpose)
    assert pair.public_key() == public
    other = X25519PrivateKey.from_private_bytes(b"x" * 32)
    assert pair.agree(other.public_key().public_bytes_raw() + bytes(1184)) == other.exchange(x25519.public_key())
    secret, ciphertext = encapsulate(CONFIG, public)
    assert ml_kem.decapsulate(ciphertext) == pair.decapsulate(ciphertext) == secret
    assert repr(pair) == "KeyPair()"


def test_keys_differ_by_purpose_index_round_and_root() -> None:
    made = [
        KeyPair(CONFIG, round_id, index, root, purpose).public_key()  # type: ignore[arg-type]
        for round_id in (ROUND, SESSION)
        for index in (1, 3)
        for root in ROOTS.values()
        for purpose in ("channel", "masking")
    ]
    assert len(set(made)) == len({key[32:] for key in made}) == len({key[:32] for key in made}) == 16


def test_a_pair_secret_by_the_specification() -> None:
    """Client 3 is the sealer: what it seals is opened here, and what is sealed here it opens."""
    x1, kem1, own = keys_of(1)
    x3, _, theirs = keys_of(3)
    secrets = PairSecrets(CONFIG, SESSION, 3, pair_of(3), theirs)
    key = hkdf(ROOTS[3], ROUND, fields("pair secrets", 3, 3), 32)
    secret = hkdf(key, SESSION, fields("pair secret", 3, 3, 1), 32)
    assert secrets.derived(1) == secret
    record = secrets.seal(secret, 1, own)
    data = record.to_bytes()
    assert (len(data), SealedSecret.from_bytes(data)) == (1168, record)
    assert data == record.ciphertext + record.sealed + record.commitment
    assert record.commitment == hashlib.sha256(fields("pair secret commitment", SESSION, 3, 1, secret)).digest()
    agreed = kem1.decapsulate(record.ciphertext) + x1.exchange(x3.public_key())
    sealing = hkdf(agreed, SESSION, fields("pair secret seal", 3, 3, 1, theirs, own, record.ciphertext), 32)
    context = fields("sealed pair secret", SESSION, 3, 1, b"SHARE")
    assert AESGCM(sealing).decrypt(bytes(12), record.sealed, context) == secret
    holder = PairSecrets(CONFIG, SESSION, 1, pair_of(1), own)
    assert holder.opening_key(3, theirs, record.ciphertext) == sealing
    assert holder.context(3) == context


def test_keys_of_masks_and_of_the_channel_by_the_specification() -> None:
    x1, _, own = keys_of(1)
    x3, _, theirs = keys_of(3)
    agreed = x1.exchange(x3.public_key())
    mask = hkdf(b"r" * 32 + agreed, SESSION, fields("pairwise mask", 3, 1, 3, own, theirs), 32)
    for index, far in ((1, 3), (3, 1)):
        public = {1: own, 3: theirs}
        secrets = PairSecrets(CONFIG, SESSION, index, pair_of(index), public[index])
        assert secrets.mask_key(far, public[far], b"r" * 32) == mask
    keys, ciphertext = KeySchedule(Suite.HYBRID, SESSION, CONFIG.labels), b"c" * 1088
    channel = keys.channel(b"k" * 32 + agreed, 3, 1, theirs, own, ciphertext)
    assert channel == hkdf(b"k" * 32 + agreed, SESSION, fields("channel", 3, 3, 1, theirs, own, ciphertext), 32)


@given(st.sampled_from(["session", "sealer", "holder", "keys", "ciphertext"]))
def test_a_seal_opens_in_its_own_place_alone(changed: str) -> None:
    """The key is another where any of what it is bound to is another."""
    own, theirs = keys_of(1)[2], keys_of(3)[2]
    record = PairSecrets(CONFIG, SESSION, 3, pair_of(3), theirs).seal(bytes(32), 1, own)
    session = ROUND if changed == "session" else SESSION
    holder = PairSecrets(CONFIG, session, 2 if changed == "holder" else 1, pair_of(1), own)
    sealer = 2 if changed == "sealer" else 3
    shown = keys_of(3, b"channel")[2] if changed == "keys" else theirs
    ciphertext = encapsulate(CONFIG, own).ciphertext if changed == "ciphertext" else record.ciphertext
    right = PairSecrets(CONFIG, SESSION, 1, pair_of(1), own).opening_key(3, theirs, record.ciphertext)
    assert holder.opening_key(sealer, shown, ciphertext) != right


def test_other_suites_have_neither_ciphertext_nor_pair_secret() -> None:
    config = CONFIG.replace(suite=Suite.AES_256)
    pair = KeyPair(config, ROUND, 1, ROOTS[1], "masking")
    assert pair.public_key() == X25519PrivateKey.from_private_bytes(ROOTS[1]).public_key().public_bytes_raw()
    assert encapsulate(config, pair.public_key()) == (b"", b"")
    assert pair.decapsulate(b"") == b""


def test_low_order_and_unusable_keys_are_errors_of_the_primitives() -> None:
    pair = pair_of(1)
    with pytest.raises(CryptoError, match="low order"):
        pair.agree(bytes(32) + keys_of(3)[2][32:])
    with pytest.raises(CryptoError, match="encapsulation key"):
        encapsulate(CONFIG, keys_of(3)[2][:32] + b"\xff" * 1184)
    with pytest.raises(ValueError, match="public key"):
        MLKEM768PublicKey.from_public_bytes(b"\xff" * 1184)
    assert X25519PublicKey.from_public_bytes(bytes(32))


# -- The sealer --------------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> NeighbourGraph:
    clients = draw(st.integers(3, 40))
    kind = draw(st.sampled_from(["complete", "ring", "groups"]))
    key = draw(st.binary(min_size=32, max_size=32))
    if kind == "ring" and clients > 4:
        return NeighbourGraph(clients, 2 * draw(st.integers(1, (clients - 2) // 2)), key)
    if kind == "groups" and clients >= 6:
        groups = draw(st.integers(2, clients // 3))
        return NeighbourGraph(clients, -(-clients // groups) - 1, key, groups)
    return NeighbourGraph(clients, clients - 1, key)


def sealer(place: dict[int, int], i: int, j: int) -> int:
    """R-HYBRID-6, as it stands there."""
    first, second = sorted((i, j), key=lambda client: place[client])
    return first if (place[second] - place[first]) % 2 == 1 else second


@given(graphs())
def test_each_pair_has_one_sealer_and_everybody_half_of_its_pairs(graph: NeighbourGraph) -> None:
    order = range(graph.clients) if graph.complete else graph.ring.tolist()
    place = {client: position for position, client in enumerate(order)}
    sealed: Counter[int] = Counter()
    for client in range(graph.clients):
        neighbours = graph.neighbours_of(client)
        sealing = graph.seals_for(client, neighbours)
        assert sealing.dtype == np.bool_
        for neighbour, seals in zip(neighbours.tolist(), sealing.tolist(), strict=True):
            assert seals == (sealer(place, client, neighbour) == client)
        sealed[client] = int(sealing.sum())
        assert abs(2 * sealed[client] - len(neighbours)) <= 2
        assert sealed[client] <= graph.neighbours // 2 + 1
    assert 2 * sealed.total() == sum(len(graph.neighbours_of(client)) for client in range(graph.clients))
