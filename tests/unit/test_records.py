"""Records: one at a time and many at once, they are cut at the same places, which the wire format fixes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from secagg import ErrorCode, PeerError, Suite
from secagg.pairwise import records, transcript
from secagg.pairwise.records import KINDS, Commitments, Opening, PublicKeys, SharePair

RNG = random.Random(7)


def pairs_of(count: int) -> tuple[list[SharePair], bytes]:
    pairs = [
        SharePair(*(Opening(RNG.randbytes(records.SHARE_BYTES), RNG.randbytes(records.SALT_BYTES)) for _ in KINDS))
        for _ in range(count)
    ]
    return pairs, b"".join(pair.to_bytes() for pair in pairs)


def test_sizes() -> None:
    """Those of version 1 of the wire."""
    assert records.SHARE_BYTES == 40
    assert records.KEYS_BYTES == 64
    assert records.OPENING_BYTES == 72
    assert records.PAIR_BYTES == 144
    assert records.SEALED_BYTES == 160
    assert records.COMMITMENTS_BYTES == 64


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (PublicKeys, records.KEYS_BYTES),
        (Opening, records.OPENING_BYTES),
        (SharePair, records.PAIR_BYTES),
        (Commitments, records.COMMITMENTS_BYTES),
    ],
)
def test_a_record_is_its_bytes(kind: type[PublicKeys | Opening | SharePair | Commitments], size: int) -> None:
    data = RNG.randbytes(size)
    assert kind.from_bytes(data).to_bytes() == data


def test_where_things_lie() -> None:
    data = bytes(range(144))
    pair = SharePair.from_bytes(data)
    assert pair.key == (data[:40], data[80:112])
    assert pair.seed == (data[40:80], data[112:])
    assert Opening.from_bytes(data[:72]) == (data[:40], data[40:72])
    assert PublicKeys.from_bytes(data[:64]) == (data[:32], data[32:64])
    assert Commitments.from_bytes(data[:64])[transcript.SEED_SHARE] == data[32:64]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_many_pairs_at_once(count: int) -> None:
    pairs, data = pairs_of(count)
    shares, salts = records.shares_and_salts(data)
    assert (shares.shape, salts.shape) == ((count, 2, 40), (count, 2, 32))
    kinds = [RNG.choice(KINDS) for _ in pairs]
    assert records.openings_of(data, kinds) == b"".join(
        pair[kind].to_bytes() for pair, kind in zip(pairs, kinds, strict=True)
    )
    opened, salted = records.openings(records.openings_of(data, kinds))
    for row, (pair, kind) in enumerate(zip(pairs, kinds, strict=True)):
        assert (opened[row].tobytes(), salted[row].tobytes()) == pair[kind]
        for each in KINDS:
            assert (shares[row, each].tobytes(), salts[row, each].tobytes()) == pair[each]


def test_pairs_are_joined_of_shares_and_salts() -> None:
    shares = np.random.default_rng(3).integers(0, 2**61 - 1, (2, 4, 5), np.uint64)
    salts = RNG.randbytes(8 * records.SALT_BYTES)
    joined = records.cut(records.join_pairs(shares, salts), records.PAIR_BYTES)
    for holder, pair in enumerate(map(SharePair.from_bytes, joined)):
        for kind in KINDS:
            start = (2 * holder + kind) * records.SALT_BYTES
            assert pair[kind] == (shares[kind, holder].astype("<u8").tobytes(), salts[start : start + 32])


def test_keys_that_do_not_fill_their_records() -> None:
    keys = [PublicKeys(RNG.randbytes(32), RNG.randbytes(32)) for _ in range(3)]
    data = b"".join(both.to_bytes() for both in keys)
    assert records.public_keys(data, 3, "a test's keys", Suite.AES_128) == keys
    for wrong in (data[:-1], data + b"\x00", data[:64]):
        with pytest.raises(PeerError, match="a test's keys") as caught:
            records.public_keys(wrong, 3, "a test's keys", Suite.AES_128)
        assert caught.value.code is ErrorCode.MALFORMED


def test_what_holds_a_share_does_not_show_it() -> None:
    (pair,), _ = pairs_of(1)
    assert (repr(pair), repr(pair.key)) == ("SharePair()", "Opening()")
