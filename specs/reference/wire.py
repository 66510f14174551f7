"""Bytes of messages: MessagePack as far as it is used, the shape of every message, records, bitmaps, size limits."""

import struct
from collections.abc import Iterable, Sequence
from typing import Any

VERSIONS = (1, 2)
PUBLIC_KEY = {1: 32, 2: 32, 3: 32 + 1184}  # by suite
CIPHERTEXT = {1: 0, 2: 0, 3: 1088}  # of ML-KEM-768
OPENING = 72  # a share, which is five elements of 8 bytes, and its salt of 32
SEALED, COMMITMENTS = 2 * OPENING + 16, 64  # of one neighbour: two openings and the AEAD's tag; two hashes
PAIR_SECRET = 1088 + 48 + 32  # ciphertext, sealed pair secret, commitment
PAIR = 2 * OPENING
OPENED = {1: PAIR, 2: PAIR, 3: PAIR + 32}  # by suite: an opened pair; in suite 3 with a pair secret or zeros
# The code is the place in this list.
ABORTS = "unspecified", "config-refused", "protocol-violation", "too-few-clients", "excluded", "internal", "cancelled"


class Refused(Exception):  # noqa: N818
    """A peer broke a rule: the error code of the specification, who is to blame, and the ABORT to send."""

    def __init__(self, code: str, culprits: tuple[int, ...] = (), reply: bytes = b"") -> None:
        super().__init__(code)
        self.code, self.culprits, self.reply = code, culprits, reply


def require(holds: bool, code: str, *culprits: int) -> None:
    """Refuse unless a rule holds."""
    if not holds:
        raise Refused(code, culprits)


# MessagePack: every message, and the config, is one flat array of integers, strings and byte strings; of version 2 a
# config ends with another array, and so may an Invitation.  A certificate has arrays of arrays, floats and nil as well.


def _header(length: int, small: int, room: int, markers: dict[int, int]) -> bytes:
    """The shortest header: the length in the marker itself where there is room, else behind a marker."""
    if length < room:
        return bytes([small | length])
    size = next(size for size in markers if length < 1 << 8 * size)
    return bytes([markers[size]]) + length.to_bytes(size, "big")


def pack_one(value: int | str | bytes | float | list[Any] | None) -> bytes:
    """One element, in its shortest form: what a sender must send."""
    if value is None:
        return b"\xc0"
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, int):
        return _header(value, 0, 0x80, {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF})
    if isinstance(value, list):
        return pack(value)
    if isinstance(value, str):
        text = value.encode()
        return _header(len(text), 0xA0, 32, {1: 0xD9, 2: 0xDA, 4: 0xDB}) + text
    return _header(len(value), 0, 0, {1: 0xC4, 2: 0xC5, 4: 0xC6}) + value


def pack(values: Sequence[int | str | bytes | float | list[Any] | None]) -> bytes:
    return _header(len(values), 0x90, 16, {2: 0xDC, 4: 0xDD}) + b"".join(map(pack_one, values))


def unpack(data: bytes, depth: int = 1) -> list[Any]:
    """R-WIRE-3: the elements of an array that fills ``data``; every encoding of them is taken, the shortest or not.

    ``depth``: 2 where an element may be an array of elements, 3 in a certificate.
    """
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        require(at <= len(data), "malformed")
        return data[at - size : at]

    def number(size: int, signed: bool = False) -> int:
        return int.from_bytes(take(size), "big", signed=signed)

    def element(level: int) -> int | str | bytes | float | list[Any] | None:
        marker = number(1)
        if marker < 0x80 or marker >= 0xE0:
            return marker if marker < 0x80 else marker - 0x100
        if 0xCC <= marker <= 0xD3:
            return number(1 << (marker & 3), signed=marker >= 0xD0)
        if 0xC4 <= marker <= 0xC6:
            return take(number(1 << marker - 0xC4))
        if level < depth and (0x90 <= marker <= 0x9F or marker in (0xDC, 0xDD)):
            return array(marker, level + 1)
        if depth == 3 and marker in (0xC0, 0xCB):
            return None if marker == 0xC0 else float(struct.unpack(">d", take(8))[0])
        require(0xA0 <= marker < 0xC0 or 0xD9 <= marker <= 0xDB, "malformed")
        return take(marker & 0x1F if marker < 0xC0 else number(1 << marker - 0xD9)).decode("utf-8", "replace")

    def array(head: int, level: int) -> list[Any]:
        require(0x90 <= head <= 0x9F or head in (0xDC, 0xDD), "malformed")
        count = head & 0xF if head <= 0x9F else number(2 if head == 0xDC else 4)
        require(count <= len(data), "malformed")
        return [element(level) for _ in range(count)]

    elements = array(number(1), 1)
    require(at == len(data), "malformed")
    return elements


# Messages: [type, version, session, fields ...].  A field is bytes, bytes of one length, or an integer.

MESSAGES = {
    "Abort": (0, "code:int"),
    "Invitation": (1, "config nonce:32"),
    "Advertise": (2, "channel_key:32 masking_key:32 signature"),
    "Roster": (3, "digest:32 own:64 present keys absent signatures proof"),
    "Share": (4, "seed_commitment:32 sealed commitments"),
    "Shares": (5, "dealers sealed commitments"),
    "MaskedInput": (6, "vector"),
    "Survivors": (7, "survivors"),
    "Confirm": (8, "signature:64"),
    "Confirmations": (9, "signers signatures"),
    "Unmask": (10, "openings"),
}
SINCE_2 = {
    "Complaint": (11, "dealers signatures"),
    "Accusations": (12, "holders signatures"),
    "Answer": (13, "pairs signatures"),
    "Settled": (14, "dealers pairs signatures"),
}
EVERY = MESSAGES | SINCE_2
IN_SUITE_3 = {
    "Advertise": "channel_key:1216 masking_key:1216 signature",
    "Roster": "digest:32 own:2432 present keys absent signatures proof",
    "Share": "seed_commitment:32 sealed commitments pair_secrets",
    "Shares": "dealers sealed commitments pair_secrets",
}
TO_CLIENT = ("Roster", "Shares", "Survivors", "Confirmations")
TO_SERVER = ("Advertise", "Share", "MaskedInput", "Confirm", "Unmask")


def to_client(version: int) -> tuple[str, ...]:
    """What a client is sent in a version."""
    return TO_CLIENT if version == 1 else (*TO_CLIENT, "Accusations", "Settled")


def to_server(version: int) -> tuple[str, ...]:
    """What a server is sent in a version."""
    return TO_SERVER if version == 1 else (*TO_SERVER, "Complaint", "Answer")


def fields_of(name: str, version: int, suite: int = 1) -> list[str]:
    """The fields of a message in a version and a suite."""
    if suite == 3 and name in IN_SUITE_3:
        return IN_SUITE_3[name].split()
    since_2 = ["attachment"] if name == "Unmask" and version >= 2 else []
    return [*EVERY[name][1].split(), *since_2]


def encode(name: str, session: bytes, *fields: int | str | bytes | list[Any], version: int = 1) -> bytes:
    return pack([EVERY[name][0], version, session, *fields])


def abort(session: bytes, code: str, version: int = 1) -> bytes:
    return encode("Abort", session, ABORTS.index(code), version=version)


def decode(
    data: bytes, names: Iterable[str], limit: int, versions: tuple[int, ...] = (1,), suite: int = 1
) -> tuple[str, bytes, list[Any]]:
    """Name, session and fields of the message in ``data``, if it is one of those named, and of one of the versions."""
    require(len(data) <= limit, "too-large")  # R-WIRE-5
    try:
        elements = unpack(data, depth=2)
        name = next((name for name in names if elements[:1] == [EVERY[name][0]]), "")
        shape = ["type:int", "version:int", "session:32", *fields_of(name, versions[0], suite)] if name else []
        if name == "Invitation" and elements[1:2] == [2] and len(elements) > len(shape):
            shape.append("certificates:list")  # R-CHAIN-7
        require(0 < len(shape) == len(elements), "malformed")  # R-WIRE-1, R-WIRE-3
        for value, field in zip(elements, shape, strict=True):
            kind = field.partition(":")[2]
            require(isinstance(value, {"int": int, "list": list}.get(kind, bytes)), "malformed")
            require(kind != "list" or all(isinstance(part, bytes) for part in value), "malformed")
            require(not kind.isdigit() or len(value) == int(kind), "malformed")
    except Refused:
        # R-WIRE-4: another version may have other fields: say so, where the version can be read.
        readable = len(data) >= 3 and 0x93 <= data[0] <= 0x9F and data[1] < 0x80 and data[2] < 0x80
        require(not readable or data[2] in versions, "wrong-version")
        raise
    require(elements[1] in versions, "wrong-version")  # R-WIRE-4
    return name, elements[2], elements[3:]


def records(data: bytes, size: int, count: int) -> list[bytes]:
    """R-WIRE-7: ``count`` records of ``size`` bytes."""
    require(len(data) == size * count, "malformed")
    return [data[size * i : size * (i + 1)] for i in range(count)]


def ids(members: Iterable[int]) -> bytes:
    return b"".join(member.to_bytes(4, "little") for member in members)


def read_ids(data: bytes) -> list[int]:
    return [int.from_bytes(record, "little") for record in records(data, 4, (len(data) + 3) // 4)]


def bitmap(members: Iterable[int], clients: int) -> bytes:
    """A set of cohort indices: bit i % 8, from the lowest, of byte i // 8 for member i."""
    return sum(1 << member for member in members).to_bytes((clients + 7) // 8, "little")


def read_bitmap(data: bytes, clients: int) -> list[int]:
    """R-WIRE-7: undo ``bitmap``; spare bits must be zero."""
    bits = int.from_bytes(data, "little")
    require(len(data) == (clients + 7) // 8 and not bits >> clients, "malformed")
    return [member for member in range(clients) if bits >> member & 1]
