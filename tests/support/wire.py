"""An independent reader and writer of MessagePack, and of the messages: what tests hold the library to."""

from __future__ import annotations

import random
import struct
from typing import Any, Final, NamedTuple


class Ext(NamedTuple):
    """An extension value."""

    code: int
    data: bytes


class Map(NamedTuple):
    """A map, as pairs."""

    pairs: tuple[tuple[Any, Any], ...]


class NotMessagePack(Exception):  # noqa: N818
    """Bytes that are not one MessagePack value."""


_BIN: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
_EXT: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_FLOATS: Final = {0xCA: ">f", 0xCB: ">d"}
_INTS: Final = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}
_FIXEXT: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_STR: Final = {0xD9: 1, 0xDA: 2, 0xDB: 4}
_ARRAY: Final = {0xDC: 2, 0xDD: 4}
_MAP: Final = {0xDE: 2, 0xDF: 4}
_CONSTANTS: Final = {0xC0: None, 0xC2: False, 0xC3: True}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        taken = self.data[self.at : self.at + size]
        if len(taken) != size:
            raise NotMessagePack("too short")
        self.at += size
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def value(self) -> Any:
        head = self.take(1)[0]
        if head <= 0x7F or head >= 0xE0:
            return head if head <= 0x7F else head - 256
        if head <= 0x8F:
            return self.map(head & 15)
        if head <= 0x9F:
            return self.array(head & 15)
        if head <= 0xBF:
            return self.string(head & 31)
        return self.long(head)

    def long(self, head: int) -> Any:
        if head in _CONSTANTS:
            return _CONSTANTS[head]
        if head in _BIN:
            return self.take(self.number(_BIN[head]))
        if head in _EXT:
            return self.ext(self.number(_EXT[head]))
        if head in _FIXEXT:
            return self.ext(_FIXEXT[head])
        if head in _FLOATS or head in _INTS:
            form = (_FLOATS | _INTS)[head]
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if head in _STR:
            return self.string(self.number(_STR[head]))
        if head in _ARRAY:
            return self.array(self.number(_ARRAY[head]))
        if head in _MAP:
            return self.map(self.number(_MAP[head]))
        raise NotMessagePack("reserved")

    def ext(self, size: int) -> Ext:
        return Ext(self.number(1), self.take(size))

    def string(self, size: int) -> str:
        try:
            return self.take(size).decode()
        except UnicodeDecodeError:
            raise NotMessagePack("no UTF-8") from None

    def array(self, size: int) -> list[Any]:
        return [self.value() for _ in range(self.affordable(size))]

    def map(self, size: int) -> Map:
        return Map(tuple((self.value(), self.value()) for _ in range(self.affordable(2 * size) // 2)))

    def affordable(self, count: int) -> int:
        if count > len(self.data) - self.at:
            raise NotMessagePack("too short")
        return count


def read(data: bytes) -> Any:
    """The one value in ``data``; NotMessagePack."""
    reader = _Reader(bytes(data))
    try:
        value = reader.value()
    except RecursionError:
        raise NotMessagePack("nested too deeply") from None
    if reader.at != len(data):
        raise NotMessagePack("something follows")
    return value


def write(value: Any, rng: random.Random | None = None) -> bytes:
    """The shortest encoding, or with ``rng`` any of those that mean the same."""
    match value:
        case None | False | True:
            return {None: b"\xc0", False: b"\xc2", True: b"\xc3"}[value]
        case int():
            return _pick(_encodings_of_int(value), rng)
        case float():
            return b"\xcb" + struct.pack(">d", value)
        case bytes():
            return _pick(_lengths(_BIN, len(value)), rng) + value
        case str():
            short = [bytes([0xA0 | len(value.encode())])] if len(value.encode()) < 32 else []
            return _pick(short + _lengths(_STR, len(value.encode())), rng) + value.encode()
        case Ext():
            return _pick(_lengths(_EXT, len(value.data)), rng) + bytes([value.code]) + value.data
        case Map():
            short = [bytes([0x80 | len(value.pairs)])] if len(value.pairs) < 16 else []
            items = b"".join(write(part, rng) for pair in value.pairs for part in pair)
            return _pick(short + _lengths(_MAP, len(value.pairs)), rng) + items
        case list():
            short = [bytes([0x90 | len(value)])] if len(value) < 16 else []
            return _pick(short + _lengths(_ARRAY, len(value)), rng) + b"".join(write(part, rng) for part in value)
    raise TypeError(type(value).__name__)


def _pick(choices: list[bytes], rng: random.Random | None) -> bytes:
    return choices[0] if rng is None else rng.choice(choices)


def _lengths(forms: dict[int, int], length: int) -> list[bytes]:
    return [bytes([head]) + length.to_bytes(size, "big") for head, size in forms.items() if length < 256**size]


def _encodings_of_int(value: int) -> list[bytes]:
    short = [struct.pack(">b", value)] if -32 <= value <= 127 else []
    fitting = [(head, form) for head, form in _INTS.items() if _fits(value, form)]
    return short + [bytes([head]) + struct.pack(form, value) for head, form in fitting]


def _fits(value: int, form: str) -> bool:
    bits = 8 * struct.calcsize(form)
    low, high = (0, 2**bits) if form[1].isupper() else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return low <= value < high


# The messages: tag, then version, session and these fields.  A number is a length in bytes, None any length.

CODE: Final = "an integer"
TO_SERVER: Final[dict[int, tuple[str, tuple[Any, ...]]]] = {
    0: ("ABORT", (CODE,)),
    2: ("ADVERTISE", (32, 32, None)),
    4: ("SHARE", (32, None, None)),
    6: ("MASK", (None,)),
    8: ("CONFIRM", (64,)),
    10: ("UNMASK", (None,)),
}
TO_SERVER_2: Final = {
    **TO_SERVER,
    10: ("UNMASK", (None, None)),
    11: ("COMPLAIN", (None, None)),
    13: ("ANSWER", (None, None)),
}
"""In version 2, in which UNMASK has an attachment, and there are complaints."""
TO_CLIENT: Final[dict[int, tuple[str, tuple[Any, ...]]]] = {
    0: ("ABORT", (CODE,)),
    3: ("Roster", (32, 64, None, None, None, None, None)),
    5: ("Shares", (None, None, None)),
    7: ("Survivors", (None,)),
    9: ("Confirmations", (None, None)),
}
TO_CLIENT_2: Final = {**TO_CLIENT, 12: ("Accusations", (None, None)), 14: ("Settled", (None, None, None))}


class Parsed(NamedTuple):
    """A message that is well formed."""

    kind: str
    version: int
    session: bytes
    fields: tuple[Any, ...]


def parse(data: bytes, kinds: dict[int, tuple[str, tuple[Any, ...]]]) -> Parsed | None:
    """The message in ``data``, or None when it is no such message."""
    try:
        value = read(data)
    except NotMessagePack:
        return None
    if not isinstance(value, list) or len(value) < 3 or type(value[0]) is not int or value[0] not in kinds:
        return None
    kind, forms = kinds[value[0]]
    if len(value) != 3 + len(forms) or type(value[1]) is not int:
        return None
    if not all(_has_form(part, form) for part, form in zip(value[2:], (32, *forms), strict=True)):
        return None
    return Parsed(kind, value[1], value[2], tuple(value[3:]))


def _has_form(part: Any, form: Any) -> bool:
    if form is CODE:
        return type(part) is int
    return type(part) is bytes and form in (None, len(part))


def shows_other_version(data: bytes) -> bool:
    """Whether the first bytes alone say that a message is of another version of the protocol."""
    return len(data) >= 3 and 0x93 <= data[0] <= 0x9F and data[1] <= 0x7F and data[2] <= 0x7F and data[2] != 1
