"""The messages' bytes, written out by hand, and what decoding refuses."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import AbortCode, ErrorCode, PeerError
from secagg.pairwise import messages, records, transcript
from secagg.pairwise.messages import (
    Abort,
    Accusations,
    Advertise,
    Answer,
    Complaint,
    Confirm,
    Confirmations,
    HybridAdvertise,
    HybridRoster,
    Invitation,
    MaskedInput,
    Roster,
    Settled,
    Share,
    Shares,
    SharesWithSecrets,
    ShareWithSecrets,
    StrictDecoder,
    Survivors,
    Unmask,
    UnmaskWithAttachment,
)
from secagg.primitives.suites import Agreement
from tests.support import wire

SESSION = bytes(range(32))
HEAD = b"\xc4\x20" + SESSION
BIG = 10**9

MESSAGES: list[tuple[Any, bytes]] = [
    (Abort(1, SESSION, 3), b"\x94\x00\x01" + HEAD + b"\x03"),
    (Invitation(1, SESSION, b"cfg", bytes(32)), b"\x95\x01\x01" + HEAD + b"\xc4\x03cfg" + b"\xc4\x20" + bytes(32)),
    (
        Advertise(1, SESSION, b"c" * 32, b"m" * 32, b""),
        b"\x96\x02\x01" + HEAD + b"\xc4\x20" + b"c" * 32 + b"\xc4\x20" + b"m" * 32 + b"\xc4\x00",
    ),
    (
        Roster(1, SESSION, b"d" * 32, b"o" * 64, b"\x01\x00\x00\x00", b"k" * 64, b"", b"s" * 64, b"p" * 32),
        b"\x9a\x03\x01" + HEAD + b"\xc4\x20" + b"d" * 32 + b"\xc4\x40" + b"o" * 64 + b"\xc4\x04\x01\x00\x00\x00"
        b"\xc4\x40" + b"k" * 64 + b"\xc4\x00\xc4\x40" + b"s" * 64 + b"\xc4\x20" + b"p" * 32,
    ),
    (
        Share(1, SESSION, b"b" * 32, b"x" * 160, b"y" * 64),
        b"\x96\x04\x01" + HEAD + b"\xc4\x20" + b"b" * 32 + b"\xc4\xa0" + b"x" * 160 + b"\xc4\x40" + b"y" * 64,
    ),
    (
        Shares(1, SESSION, b"\x02\x00\x00\x00", b"x" * 160, b"y" * 64),
        b"\x96\x05\x01" + HEAD + b"\xc4\x04\x02\x00\x00\x00\xc4\xa0" + b"x" * 160 + b"\xc4\x40" + b"y" * 64,
    ),
    (MaskedInput(1, SESSION, memoryview(b"v" * 300)), b"\x94\x06\x01" + HEAD + b"\xc5\x01\x2c" + b"v" * 300),
    (Survivors(1, SESSION, b"\x1f"), b"\x94\x07\x01" + HEAD + b"\xc4\x01\x1f"),
    (Confirm(1, SESSION, b"s" * 64), b"\x94\x08\x01" + HEAD + b"\xc4\x40" + b"s" * 64),
    (Confirmations(1, SESSION, b"\x07", b"s" * 192), b"\x95\x09\x01" + HEAD + b"\xc4\x01\x07\xc4\xc0" + b"s" * 192),
    (Unmask(1, SESSION, b"o" * 72), b"\x94\x0a\x01" + HEAD + b"\xc4\x48" + b"o" * 72),
]
OF_VERSION_2: list[tuple[Any, bytes]] = [
    *((msgspec.structs.replace(message, version=2), data[:2] + b"\x02" + data[3:]) for message, data in MESSAGES[:-1]),
    (
        UnmaskWithAttachment(2, SESSION, b"o" * 72, b"a" * 32),
        b"\x95\x0a\x02" + HEAD + b"\xc4\x48" + b"o" * 72 + b"\xc4\x20" + b"a" * 32,
    ),
    (
        Complaint(2, SESSION, b"\x02\0\0\0", b"s" * 64),
        b"\x95\x0b\x02" + HEAD + b"\xc4\x04\x02\0\0\0\xc4\x40" + b"s" * 64,
    ),
    (
        Accusations(2, SESSION, b"\x03\0\0\0", b"s" * 64),
        b"\x95\x0c\x02" + HEAD + b"\xc4\x04\x03\0\0\0\xc4\x40" + b"s" * 64,
    ),
    (Answer(2, SESSION, b"p" * 144, b""), b"\x95\x0d\x02" + HEAD + b"\xc4\x90" + b"p" * 144 + b"\xc4\x00"),
    (
        Settled(2, SESSION, b"\x02\0\0\0", b"p" * 144, b""),
        b"\x96\x0e\x02" + HEAD + b"\xc4\x04\x02\0\0\0\xc4\x90" + b"p" * 144 + b"\xc4\x00",
    ),
]
"""In version 2."""
CHANNEL, MASKING = b"c" * 1216, b"m" * 1216
KEYS = b"\xc5\x04\xc0" + CHANNEL + b"\xc5\x04\xc0" + MASKING
SEALED = b"\xc5\x04\xe0" + b"x" * 1248 + b"\xc4\x40" + b"y" * 64 + b"\xc5\x04\x90" + b"z" * 1168
HYBRID: list[tuple[Any, bytes]] = [
    (HybridAdvertise(2, SESSION, CHANNEL, MASKING, b""), b"\x96\x02\x02" + HEAD + KEYS + b"\xc4\x00"),
    (
        HybridRoster(2, SESSION, b"d" * 32, CHANNEL + MASKING, b"\1\0\0\0", MASKING + CHANNEL, b"", b"", b""),
        b"\x9a\x03\x02"
        + HEAD
        + b"\xc4\x20"
        + b"d" * 32
        + b"\xc5\x09\x80"
        + CHANNEL
        + MASKING
        + b"\xc4\x04\1\0\0\0\xc5\x09\x80"
        + MASKING
        + CHANNEL
        + b"\xc4\x00\xc4\x00\xc4\x00",
    ),
    (
        ShareWithSecrets(2, SESSION, b"b" * 32, b"x" * 1248, b"y" * 64, b"z" * 1168),
        b"\x97\x04\x02" + HEAD + b"\xc4\x20" + b"b" * 32 + SEALED,
    ),
    (
        SharesWithSecrets(2, SESSION, b"\2\0\0\0", b"x" * 1248, b"y" * 64, b"z" * 1168),
        b"\x97\x05\x02" + HEAD + b"\xc4\x04\2\0\0\0" + SEALED,
    ),
]
"""In version 2, in a round of a hybrid suite: the messages that differ there."""
EVERY = [*MESSAGES, *OF_VERSION_2, *HYBRID]
ROLES: dict[StrictDecoder[Any], set[type]] = {
    messages.to_client: {
        *(Abort, Roster, Shares, Accusations, Settled, Survivors, Confirmations),
        *(HybridRoster, SharesWithSecrets),
    },
    messages.to_server: {
        *(Abort, Advertise, Share, Complaint, Answer, MaskedInput, Confirm, Unmask, UnmaskWithAttachment),
        *(HybridAdvertise, ShareWithSecrets),
    },
    messages.invitation: {Invitation},
}
NAMES = {messages.to_client: "to client", messages.to_server: "to server", messages.invitation: "invitation"}


def form_of(message: Any) -> tuple[int, Agreement]:
    return message.version, Agreement.HYBRID if (message, messages.encode(message)) in HYBRID else Agreement.X25519


def decoded(decoder: StrictDecoder[Any], data: Any, limit: int, message: Any) -> Any:
    """Decode as in a round that has a message of this form."""
    return decoder.decode(data, limit, *form_of(message))


def name_of(value: Any) -> str:
    return type(value).__name__ if isinstance(value, bytes) else f"{type(value).__name__}-{value.version}"


def refused(
    decoder: StrictDecoder[Any],
    data: bytes,
    limit: int = BIG,
    version: int | None = 1,
    agreement: Agreement = Agreement.X25519,
) -> ErrorCode:
    with pytest.raises(PeerError) as caught:
        decoder.decode(data, limit, version, agreement)
    assert caught.value.__cause__ is None
    return caught.value.code


@pytest.mark.parametrize(("message", "data"), EVERY, ids=name_of)
def test_bytes(message: Any, data: bytes) -> None:
    assert messages.encode(message) == data
    assert wire.write(wire.read(data)) == data
    (decoder,) = [role for role, kinds in ROLES.items() if type(message) in kinds][:1]
    assert decoded(decoder, data, len(data), message) == message
    for other in (bytearray(data), memoryview(data)):
        assert decoded(decoder, other, len(data), message) == message


def test_there_is_no_other_message() -> None:
    for listed, numbers in ((MESSAGES, range(11)), (OF_VERSION_2, range(15))):
        assert [data[1] for _, data in listed] == list(numbers)
    assert [data[1] for _, data in HYBRID] == [2, 3, 4, 5]
    assert set().union(*ROLES.values()) == {type(message) for message, _ in EVERY}
    assert set(messages.PHASE_OF) | {Abort, Invitation} == {type(message) for message, _ in EVERY}


@pytest.mark.parametrize("decoder", ROLES, ids=NAMES.get)
@pytest.mark.parametrize(("message", "data"), EVERY, ids=name_of)
def test_each_role_takes_its_own(decoder: StrictDecoder[Any], message: Any, data: bytes) -> None:
    if type(message) in ROLES[decoder]:
        assert decoded(decoder, data, BIG, message) == message
    elif decoder is messages.invitation:
        assert refused(decoder, data, version=message.version) is ErrorCode.MALFORMED
    else:
        assert refused(decoder, data, BIG, *form_of(message)) is ErrorCode.MALFORMED


@pytest.mark.parametrize(("message", "data"), EVERY, ids=name_of)
def test_a_message_of_another_suites_form_is_malformed(message: Any, data: bytes) -> None:
    """Those that differ: what one round sends, no round of another kind of suite takes."""
    version, agreement = form_of(message)
    if version == 2 and data[1] in range(2, 6):
        decoder = next(role for role, kinds in ROLES.items() if type(message) in kinds)
        other = Agreement.X25519 if agreement is Agreement.HYBRID else Agreement.HYBRID
        assert refused(decoder, data, version=version, agreement=other) is ErrorCode.MALFORMED


@pytest.mark.parametrize(("message", "data"), EVERY, ids=name_of)
def test_damage(message: Any, data: bytes) -> None:
    """Every truncation, anything behind, every field of another type, one more or less: malformed."""
    decoder = next(role for role, kinds in ROLES.items() if type(message) in kinds)
    for size in range(len(data)):
        assert refused(decoder, data[:size], BIG, *form_of(message)) is ErrorCode.MALFORMED
    values = wire.read(data)
    damaged = [data + b"\x00", data + data, wire.write([*values, 0]), wire.write(values[:-1]), wire.write(values[0])]
    for place in range(len(values)):
        for wrong in (None, True, 1.0, "text", [], wire.Map(()), wire.Ext(1, b""), 7 if place > 1 else b""):
            damaged.append(wire.write([*values[:place], wrong, *values[place + 1 :]]))
    for data_ in damaged:
        if not any(
            wire.parse(data_, kinds) for kinds in (wire.TO_SERVER, wire.TO_SERVER_2, wire.TO_CLIENT, wire.TO_CLIENT_2)
        ):
            expected = (ErrorCode.MALFORMED, ErrorCode.WRONG_VERSION)
            assert refused(decoder, data_, BIG, *form_of(message)) in expected


@pytest.mark.parametrize(("message", "data"), EVERY, ids=name_of)
def test_any_encoding_of_the_same_values_is_taken(message: Any, data: bytes) -> None:
    decoder = next(role for role, kinds in ROLES.items() if type(message) in kinds)
    rng = random.Random(3)
    encodings = {wire.write(wire.read(data), rng) for _ in range(40)}
    assert len(encodings) > 10
    assert all(decoded(decoder, encoding, BIG, message) == message for encoding in encodings)


@pytest.mark.parametrize(("message", "data"), EVERY, ids=name_of)
def test_the_limit(message: Any, data: bytes) -> None:
    decoder = next(role for role, kinds in ROLES.items() if type(message) in kinds)
    assert decoded(decoder, data, len(data), message) == message
    assert refused(decoder, data, len(data) - 1, *form_of(message)) is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("met", [0, 1, 2, 3, 100, 127, 2**40, -1])
@pytest.mark.parametrize("version", transcript.VERSIONS)
def test_other_versions(met: int, version: int) -> None:
    """Said so, whether the other fields are what they are in this version or not."""
    if met == version:
        return
    for message, data in MESSAGES if version == 1 else OF_VERSION_2:
        decoder = next(role for role, kinds in ROLES.items() if type(message) in kinds)
        values = wire.read(data)
        values[1] = met
        assert refused(decoder, wire.write(values), version=version) is ErrorCode.WRONG_VERSION
        if 0 <= met <= 127:
            assert refused(decoder, wire.write([*values, "a field more"]), version=version) is ErrorCode.WRONG_VERSION


@pytest.mark.parametrize("met", [0, 1, 2, 3, 2**40])
def test_an_invitation_is_taken_in_every_version_that_is_spoken(met: int) -> None:
    data = wire.write([1, met, SESSION, b"cfg", bytes(32)])
    if met in transcript.VERSIONS:
        assert messages.invitation.decode(data, BIG, None) == Invitation(met, SESSION, b"cfg", bytes(32))
        return
    with pytest.raises(PeerError, match=rf"version {met}; this library speaks the versions 1 and 2"):
        messages.invitation.decode(data, BIG, None)


def test_a_message_of_another_version_is_named_with_the_one_that_is_spoken() -> None:
    with pytest.raises(PeerError, match=r"version 2 in a round of version 1; this library speaks the versions 1 and 2"):
        messages.to_server.decode(OF_VERSION_2[-1][1], BIG, 1)


def test_the_masked_vector_is_not_copied() -> None:
    data = messages.encode(MaskedInput(1, SESSION, memoryview(bytes(5000))))
    message = messages.to_server.decode(data, BIG, 1)
    assert isinstance(message, MaskedInput)
    assert isinstance(message.vector, memoryview)
    assert message.vector.obj is data


@pytest.mark.parametrize("code", [*AbortCode, 7, 99, -1, 2**63])
def test_abort_codes(code: int) -> None:
    expected = AbortCode(code) if code in list(AbortCode) else AbortCode.UNSPECIFIED
    assert messages.abort_code(Abort(1, SESSION, code)) is expected


def test_encoding_an_abort() -> None:
    assert messages.encode_abort(1, SESSION, AbortCode.EXCLUDED) == b"\x94\x00\x01" + HEAD + b"\x04"


# Records and bitmaps.


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_ids(ids: list[int]) -> None:
    data = messages.encode_ids(ids)
    assert data == b"".join(one.to_bytes(4, "little") for one in ids)
    assert messages.decode_ids(data) == tuple(ids)
    for extra in (1, 2, 3):
        with pytest.raises(PeerError) as caught:
            messages.decode_ids(data + bytes(extra))
        assert caught.value.code is ErrorCode.MALFORMED


bitmaps = st.integers(1, 300).flatmap(lambda clients: st.tuples(st.just(clients), st.sets(st.integers(0, clients - 1))))


@given(bitmaps)
def test_bitmaps(drawn: tuple[int, set[int]]) -> None:
    clients, members = drawn
    data = messages.encode_bitmap(members, clients)
    assert int.from_bytes(data, "little") == sum(1 << member for member in members)
    assert len(data) == -(-clients // 8)
    assert messages.decode_bitmap(data, clients) == tuple(sorted(members))


@given(bitmaps, st.data())
def test_bitmaps_that_are_none(drawn: tuple[int, set[int]], data: st.DataObject) -> None:
    clients, members = drawn
    bitmap = messages.encode_bitmap(members, clients)
    wrong = [bitmap + b"\x00", bitmap[:-1], b""]
    if spare := len(bitmap) * 8 - clients:
        bit = clients + data.draw(st.integers(0, spare - 1))
        wrong.append((int.from_bytes(bitmap, "little") | 1 << bit).to_bytes(len(bitmap), "little"))
    for bad in wrong:
        with pytest.raises(PeerError) as caught:
            messages.decode_bitmap(bad, clients)
        assert caught.value.code is ErrorCode.MALFORMED


@given(st.integers(1, 80), st.integers(0, 20), st.integers(-3, 3))
def test_records(size: int, count: int, change: int) -> None:
    whole = [bytes([number]) * size for number in range(count)]
    data = b"".join(whole)
    data = data + bytes(change) if change >= 0 else data[:change]
    if len(data) == size * count:
        assert records.cut_exactly(data, size, count, "a test's") == whole == records.cut(data, size)
        return
    with pytest.raises(PeerError, match="a test's") as caught:
        records.cut_exactly(data, size, count, "a test's")
    assert caught.value.code is ErrorCode.MALFORMED
