"""The key schedule: each key is its own, both ends derive the same, and sharing an extract changes nothing."""

from __future__ import annotations

import pytest

from secagg import Suite
from secagg.pairwise import keys, transcript
from secagg.pairwise.keys import KeySchedule
from secagg.primitives import kdf

LABELS = transcript.labels(1)
SESSION, AGREED, SECRET, LOW, HIGH = (bytes((number,)) * 32 for number in range(1, 6))


@pytest.mark.parametrize("suite", Suite)
def test_both_ends_of_a_channel_derive_the_same_two_keys(suite: Suite) -> None:
    schedule = KeySchedule(suite, SESSION, LABELS)
    there, back = schedule.channels(AGREED, 2, 9, LOW, HIGH)
    assert schedule.channels(AGREED, 9, 2, HIGH, LOW) == (back, there)
    assert schedule.channel(AGREED, 2, 9, LOW, HIGH) == there
    assert schedule.channel(AGREED, 9, 2, HIGH, LOW) == back
    assert there != back
    info = LABELS.channel_info(int(suite), 2, 9, LOW, HIGH)
    assert there == kdf.derive(AGREED, SESSION, info, suite.key_bytes)


@pytest.mark.parametrize("suite", Suite)
def test_both_ends_of_a_pair_derive_the_same_mask(suite: Suite) -> None:
    schedule = KeySchedule(suite, SESSION, LABELS)
    assert schedule.pairwise_mask(AGREED, 2, 9, LOW, HIGH) == schedule.pairwise_mask(AGREED, 9, 2, HIGH, LOW)
    assert schedule.pairwise_mask(AGREED, 2, 9, LOW, HIGH) != schedule.pairwise_mask(AGREED, 2, 9, HIGH, LOW)


def derived(suite: Suite, session: bytes) -> list[bytes]:
    schedule = KeySchedule(suite, session, LABELS)
    return [
        *schedule.channels(SECRET, 2, 9, LOW, HIGH),
        schedule.pairwise_mask(SECRET, 2, 9, LOW, HIGH),
        schedule.self_mask(SECRET, 2),
        schedule.seed_commitment(SECRET, 2),
        schedule.seed(SECRET, 2),
        schedule.coefficients(SECRET, 2),
        schedule.salts(SECRET, 2),
        keys.suspended_state(SECRET, session),
    ]


def test_no_two_keys_are_equal_or_begin_alike() -> None:
    """Of one secret: by purpose, by session and by suite, a suspended state's apart, which belongs to no suite."""
    every = [
        *derived(Suite.AES_128, SESSION),
        *derived(Suite.AES_256, SESSION)[:-1],
        *derived(Suite.AES_128, LOW),
        *derived(Suite.AES_256, LOW)[:-1],
    ]
    assert len({key[:16] for key in every}) == len(every) == 34
    schedule = KeySchedule(Suite.AES_128, SESSION, LABELS)
    assert schedule.self_mask(SECRET, 2) != schedule.self_mask(SECRET, 3)


@pytest.mark.parametrize("suite", Suite)
def test_sizes(suite: Suite) -> None:
    size = suite.key_bytes
    assert [len(key) for key in derived(suite, SESSION)] == [size, size, size, size, 32, 32, size, size, 32]
