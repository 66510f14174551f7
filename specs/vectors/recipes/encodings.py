"""Encodings at the edges of MessagePack: every marker that is taken, in every form, and those beside it."""

from __future__ import annotations

from collections.abc import Iterator

from reference import rules, wire
from reference.rules import Config
from reference.wire import Refused

from .common import Test, entry, labelled

SESSION = labelled("session of encodings", 32)
_HEAD = b"\x94\x00\x01\xc4\x20" + SESSION
"""An ABORT up to its code."""
_NUMBERS = (0, 6, 127, 128, 255, 256, 2**16 - 1, 2**16, 2**32 - 1, 2**32, 2**64 - 1)


def encodings() -> list[Test]:
    """Tests of the kind `messages`."""
    return [*_shortest(), *_longer(), *_refused(), *_versions()]


def _shortest() -> Iterator[Test]:
    for number in _NUMBERS:
        data = wire.encode("Abort", SESSION, number)
        shown = {"message": "Abort", "phase": "any", "session": SESSION.hex(), "fields": {"code": number}}
        yield entry("WIRE-2 ABORT-3", f"a code of {number}", "NUMBERS", **shown, encoded=data.hex())


def _longer() -> Iterator[Test]:
    """Longer forms of one message, which a receiver takes."""
    code = 5
    numbers = {
        f"an {'un' if unsigned else ''}signed number of {1 << size} bytes": bytes([marker + size])
        + code.to_bytes(1 << size, "big")
        for marker, unsigned in ((0xCC, True), (0xD0, False))
        for size in range(4)
    }
    forms = {comment: _HEAD + number for comment, number in numbers.items()}
    last = bytes([code])
    forms |= {
        "an array header of 3 bytes": b"\xdc\0\x04" + _HEAD[1:] + last,
        "an array header of 5 bytes": b"\xdd\0\0\0\x04" + _HEAD[1:] + last,
        "a header of 3 bytes for bytes": _HEAD[:3] + b"\xc5\0\x20" + SESSION + last,
        "a header of 5 bytes for bytes": _HEAD[:3] + b"\xc6\0\0\0\x20" + SESSION + last,
        "a type and a version of 9 bytes": b"\x94\xcf" + bytes(8) + b"\xd3" + bytes(7) + b"\x01" + _HEAD[3:] + last,
    }
    for comment, received in forms.items():
        shown = {"message": "Abort", "phase": "any", "session": SESSION.hex(), "fields": {"code": code}}
        yield entry("WIRE-2", comment, "LONGER", **shown, encoded=(_HEAD + last).hex(), received=received.hex())


def _refused() -> Iterator[Test]:
    """Well-formed MessagePack that is no message: other types in the place of a code, and of the session."""
    codes = {
        "an empty map": b"\x80",
        "a map": b"\x81\x01\x02",
        "an empty array": b"\x90",
        "an array": b"\x9f" + bytes(15),
        "an empty string": b"\xa0",
        "a string": b"\xbf" + b"a" * 31,
        "nil": b"\xc0",
        "a marker that is never used": b"\xc1",
        "false": b"\xc2",
        "bytes": b"\xc4\0",
        "an extension of 1 byte": b"\xc7\x01\x05\x06",
        "an extension of no bytes": b"\xc8\0\0\x05",
        "a float of 4 bytes": b"\xca\x3f\x80\0\0",
        "a float of 8 bytes": b"\xcb" + bytes(8),
        "a fixed extension of 1 byte": b"\xd4\x05\x06",
        "a fixed extension of 16 bytes": b"\xd8\x05" + bytes(16),
        "a string with a header of 2 bytes": b"\xd9\0",
        "a string with a header of 5 bytes": b"\xdb\0\0\0\0",
        "an array with a header of 3 bytes": b"\xdc\0\0",
        "an array with a header of 5 bytes": b"\xdd\0\0\0\0",
        "a map with a header of 3 bytes": b"\xde\0\0",
        "a map with a header of 5 bytes": b"\xdf\0\0\0\0",
    }
    sessions = {
        "a string": b"\xd9\x20" + b"a" * 32,
        "an extension": b"\xc7\x20\x05" + bytes(32),
        "32 numbers in an array": b"\xdc\0\x20" + bytes(32),
    }
    whole = {
        "nothing": b"",
        "a number": b"\x04",
        "an empty array": b"\x90",
        "a map in the place of the array": b"\x84" + _HEAD[1:] + b"\x05",
        "a string in the place of the array": b"\xa4" + _HEAD[1:] + b"\x05",
        "a map with a header of 3 bytes in its place": b"\xde\0\x04" + _HEAD[1:] + b"\x05",
        "a map with a header of 5 bytes in its place": b"\xdf\0\0\0\x04" + _HEAD[1:] + b"\x05",
        "the message twice": 2 * (_HEAD + b"\x05"),
        "15 elements": b"\x9f" + _HEAD[1:] + bytes(12),
        "a code whose bytes are missing": _HEAD + b"\xcd\0",
        "a session whose bytes are missing": _HEAD[:-1],
        "more elements announced than bytes": b"\xdd\xff\xff\xff\xff" + _HEAD[1:] + b"\x05",
        "an array header whose bytes are missing": b"\xdd\0\0",
    }
    wrong = {f"{comment} for the code": _HEAD + data for comment, data in codes.items()}
    wrong |= {f"{comment} for the session": _HEAD[:3] + data + b"\x05" for comment, data in sessions.items()}
    for comment, data in (wrong | whole).items():
        yield _as_refused("WIRE-3", comment, "MARKERS", data)


def _versions() -> Iterator[Test]:
    """Bytes that do not decode: whether they are of another version shows in the first three."""
    for comment, data in {
        "three bytes, of another version": b"\x93\x00\x02",
        "two bytes": b"\x93\x00",
        "an array of two, which no version has": b"\x92\x00\x02",
        "a string": b"\xa3\x00\x02",
        "an array of 15 of another version": b"\x9f\x00\x02",
        "the largest type, of another version": b"\x95\x7f\x02",
        "a type of two bytes, and then a 2": b"\x95\x80\x02",
        "the largest version": b"\x95\x00\x7f",
        "a version of several bytes": b"\x95\x00\x80",
        "a negative version": b"\x95\x00\xff",
        "version 1": b"\x95\x00\x01",
        "version 0": b"\x95\x00\x00",
        "an array header of three bytes, and another version": b"\xdc\x00\x02",
    }.items():
        yield _as_refused("WIRE-4", comment, "VERSION", data)
    for comment, received in {
        "another version, of two bytes, in a message that decodes": _HEAD[:2] + b"\xcc\x02" + _HEAD[3:] + b"\x05",
        "a negative version in a message that decodes": _HEAD[:2] + b"\xff" + _HEAD[3:] + b"\x05",
        "another version behind a long header": b"\xdc\0\x04\x00\x02" + _HEAD[3:] + b"\x05",
    }.items():
        yield _as_refused("WIRE-4", comment, "VERSION", received)


def _as_refused(requirements: str, comment: str, flag: str, data: bytes) -> Test:
    try:
        wire.decode(data, ["Abort"], len(data))
    except Refused as refused:
        return entry(requirements, comment, flag, error=refused.code, message="Abort", encoded=data.hex())
    raise ValueError(f"{comment}: it is taken")


FLAGS = {
    "NUMBERS": "numbers that are not written in the shortest form, or whose largest is not taken",
    "LONGER": "encodings that are longer than they must be, refused: receivers take them",
    "MARKERS": "well-formed MessagePack of types that no message has",
    "VERSION": "another version taken for damage, or damage for another version",
}


# Configs, which alone hold strings.


def config_encodings(config: Config) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Longer forms of a config, which are taken, and forms that are refused."""
    good = config.to_bytes()
    name = config.threat_model.encode()
    head, rest = good[:4], good[4 + 1 + len(name) :]
    size = len(name)
    longer = {
        "a string with a header of 2 bytes": head + b"\xd9" + bytes([size]) + name + rest,
        "a string with a header of 3 bytes": head + b"\xda\0" + bytes([size]) + name + rest,
        "a string with a header of 5 bytes": head + b"\xdb\0\0\0" + bytes([size]) + name + rest,
        "an array header of 5 bytes": b"\xdd\0\0" + good[1:],
        "a version of 9 bytes": good[:3] + b"\xcf" + bytes(7) + good[3:],
        "every header at its longest": longest(good),
    }
    wrong = {
        "a map's marker for a string": head + bytes([0x80 | size]) + name + rest,
        "an array's marker for a string": head + b"\xdc" + bytes(7) + bytes([size]) + name + rest,
        "bytes for a string": head + b"\xc4" + bytes([size]) + name + rest,
        "an empty string": head + b"\xa0" + rest,
        "a string that is no text": head + bytes([0xA0 | size]) + b"\xff" + name[1:] + rest,
        "a map's header for the array": b"\xde" + good[1:],
        "an array header that announces 20": b"\xdc\0\x14" + good[3:],
        "the config, and a byte": good + b"\0",
    }
    return longer, wrong


def longest(data: bytes) -> bytes:
    """The same array with every header and number in the longest form."""
    elements = wire.unpack(data)
    made = b"\xdd" + len(elements).to_bytes(4, "big")
    for value in elements:
        if isinstance(value, int):
            made += b"\xcf" + value.to_bytes(8, "big")
        else:
            raw = value.encode() if isinstance(value, str) else value
            made += (b"\xdb" if isinstance(value, str) else b"\xc6") + len(raw).to_bytes(4, "big") + raw
    return made


def negatives(config: Config) -> dict[str, bytes]:
    """A config with one number that is negative."""
    elements = wire.unpack(config.to_bytes())
    names = ["version", *rules.ELEMENTS]
    found = {}
    for name in ("colluders", "dropouts", "grinding_bits", "ring_bits", "prime", "quorum", "sigma", "clients"):
        place = names.index(name)
        before, after = wire.pack(elements[:place]), b"".join(map(wire.pack_one, elements[place + 1 :]))
        start = 1 if place < 16 else 3
        found[f"{name} of -1"] = b"\xdc\0\x13" + before[start:] + b"\xff" + after
    return found
