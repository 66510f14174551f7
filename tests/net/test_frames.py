"""Frames: strict in what is taken, whatever comes."""

from __future__ import annotations

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.adapters.net.frames import (
    Ack,
    Candidate,
    Challenge,
    Counted,
    EndReceived,
    Login,
    Message,
    Progress,
    Refused,
    RefusedError,
    Submission,
    Sum,
    WantsCandidate,
    Welcome,
    decode_to_client,
    decode_to_server,
    encode,
)
from secagg.pairwise.transcript import VERSIONS, labels, signed_login

TO_SERVER = [Login(1, bytes(32), bytes(64)), Submission(3, "MASK", 1000), EndReceived(), WantsCandidate(wants=True)]
TO_CLIENT = [
    Challenge(1, bytes(32)),
    Welcome(2, 5, 100),
    Message("SHARE", 77),
    Ack(3, "accepted"),
    Progress("MASK", 1, 2, 3.5),
    Sum(b"\x07", 100),
    Refused("left-out", "too late"),
    Candidate(2**30),
    Counted(1, 9, 10),
]


def test_frames_come_back() -> None:
    for frame in TO_SERVER:
        assert decode_to_server(encode(frame)) == frame
    for frame in TO_CLIENT:
        assert decode_to_client(encode(frame)) == frame


@given(st.binary(max_size=200))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for decode in (decode_to_server, decode_to_client):
        with suppress(RefusedError):
            decode(data)


@pytest.mark.parametrize("frame", TO_SERVER)
def test_a_frame_with_more_or_fewer_fields_is_refused(frame: Login | Submission | EndReceived | WantsCandidate) -> None:
    fields = msgspec.msgpack.decode(encode(frame))
    for other in ([*fields, 1], fields[:-1] or [99], [99, *fields[1:]], ["x", *fields[1:]]):
        with pytest.raises(RefusedError, match="does not decode"):
            decode_to_server(msgspec.msgpack.encode(other))


def test_one_side_s_frames_are_not_the_other_s() -> None:
    for frame in TO_SERVER:
        with pytest.raises(RefusedError):
            decode_to_client(encode(frame))
    for frame in TO_CLIENT:
        with pytest.raises(RefusedError):
            decode_to_server(encode(frame))


def test_a_login_is_for_one_challenge_round_and_certificate() -> None:
    """And is nothing else that an identity signs."""
    fields = [bytes(32), bytes([1]) * 32]
    signed = {signed_login(challenge, name, seen) for challenge in fields for name in "ab" for seen in (*fields, b"")}
    assert len(signed) == 12
    assert signed_login(b"a", "bc", b"") != signed_login(b"ab", "c", b"")
    others = {
        statement
        for known in map(labels, VERSIONS)
        for statement in (known.signed_advertisement(*fields, 0, *fields), known.signed_survivors(*fields))
    }
    assert len(others) == 2 * len(VERSIONS)
    assert not signed & others
