"""Hashing many commitments at once gives what hashing each does, and fields cannot be confused."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from secagg.pairwise import transcript

LABELS = transcript.labels(1)
IDS = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(IDS, IDS, st.integers(0, 1), st.binary(min_size=72, max_size=72)), max_size=6))
def test_many_commitments_are_the_single_ones(rows: list[tuple[int, int, int, bytes]]) -> None:
    session = bytes(range(32))
    expected = b"".join(
        LABELS.share_commitment(session, dealer, holder, kind, opening[:32], opening[32:])
        for dealer, holder, kind, opening in rows
    )
    openings = np.frombuffer(b"".join(row[3] for row in rows), dtype=np.uint8).reshape(-1, 72)
    dealers, holders, kinds = (np.array([row[i] for row in rows], dtype=np.int64) for i in range(3))
    together = LABELS.share_commitments(session, dealers, holders, kinds, openings[:, :32], openings[:, 32:])
    assert together == expected


def test_single_ends_serve_all_rows() -> None:
    session, openings = bytes(32), np.arange(144, dtype=np.uint8).reshape(2, 72)
    together = LABELS.share_commitments(session, 7, [1, 2], 1, openings[:, :32], openings[:, 32:])
    singles = [
        LABELS.share_commitment(session, 7, holder, 1, opening[:32].tobytes(), opening[32:].tobytes())
        for holder, opening in zip((1, 2), openings, strict=True)
    ]
    assert together == b"".join(singles)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_different_fields_give_different_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (transcript._fields(b"label", *one) == transcript._fields(b"label", *other)) == (one == other)


def test_what_is_written_out_equals_the_general_form() -> None:
    session, one, other, number = b"s" * 32, b"a" * 32, b"b" * 32, transcript._u32
    general = LABELS._fields
    ends = (number(1), number(5), number(6))
    assert LABELS.channel_info(1, 5, 6, one, other) == general(transcript._CHANNEL, *ends, one, other)
    assert LABELS.pairwise_mask_info(1, 5, 6, one, other) == general(transcript._PAIRWISE_MASK, *ends, one, other)
    assert LABELS.sealed_shares_context(session, 5, 6) == general(
        transcript._SEALED_SHARES, session, number(5), number(6), b"SHARE"
    )
