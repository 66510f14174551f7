"""Ways to damage a message: its bits, its length, its MessagePack, its fields."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.support import wire
from tests.support.wire import Ext, Map

Mutation = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

_HUGE_HEADERS = tuple(
    bytes([head]) + size
    for head, size in (
        (0xC6, b"\xff\xff\xff\xff"),
        (0xC6, b"\x7f\xff\xff\xff"),
        (0xC5, b"\xff\xff"),
        (0xC9, b"\xff\xff\xff\xff"),
        (0xDB, b"\xff\xff\xff\xff"),
        (0xDD, b"\xff\xff\xff\xff"),
        (0xDF, b"\xff\xff\xff\xff"),
        (0xDC, b"\xff\xff"),
    )
)
_WRONG = (
    None,
    True,
    False,
    -1,
    -(2**63),
    2**63,
    2**64 - 1,
    0.0,
    1.0,
    float("nan"),
    "",
    "text",
    "\x00" * 32,
    [],
    [[]],
    [0] * 40,
    Map(()),
    Map(((0, 1), ("a", b"b"))),
    Ext(0, b""),
    Ext(255, b"\x00" * 8),
    Ext(255, b"\xff" * 12),
    Ext(5, b"\x01" * 16),
    b"",
    b"\x00" * 31,
    b"\x00" * 33,
    b"\xff" * 32,
    b"\xff" * 64,
)


def flip_bits(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    damaged = bytearray(message)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def flip_in_head(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    bit = rng.randrange(8 * min(40, len(message)))
    damaged = bytearray(message)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def flip_in_tail(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    damaged = bytearray(message)
    damaged[-1 - rng.randrange(min(8, len(message)))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def truncate(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    return message[: rng.randrange(len(message))]


def extend(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    return message + rng.choice((b"\x00", b"\xc0", rng.randbytes(rng.randrange(1, 40)), rng.choice(pool)))


def enlarge(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    return message + rng.randbytes(rng.choice((1 << 10, 1 << 12)))


def splice(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    other = rng.choice(pool)
    cut = rng.randrange(len(message))
    return message[:cut] + other[rng.choice((cut, rng.randrange(len(other)))) :]


def overwrite(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(message))
    size = rng.randrange(1, 64)
    fill = rng.choice((b"\x00" * size, b"\xff" * size, rng.randbytes(size)))
    return message[:start] + fill[: len(message) - start] + message[start + size :]


def remove_bytes(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    start = rng.randrange(len(message))
    return message[:start] + message[start + rng.randrange(1, 48) :]


def noise(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    return rng.randbytes(rng.randrange(100))


def another(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    return rng.choice(pool)


def loosen(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    """The same values, in encodings that are not the shortest."""
    return wire.write(wire.read(message), rng)


def nest(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    """Arrays, or maps, within one another, far deeper than anything is."""
    depth = rng.choice((2, 50, 900, 1500))
    kind = rng.choice((b"\x91", b"\x81\xc0", b"\xdd\x00\x00\x00\x01", b"\x96"))
    field = rng.randrange(len(wire.read(message)))
    return _with_raw_field(message, field, kind * depth + rng.choice((b"\xc0", b"")))


def huge_length(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    field = rng.randrange(len(wire.read(message)))
    return _with_raw_field(message, field, rng.choice(_HUGE_HEADERS) + rng.randbytes(rng.randrange(40)))


def huge_message(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    return rng.choice(_HUGE_HEADERS) + message[1:]


def _with_raw_field(message: bytes, field: int, raw: bytes) -> bytes:
    values = wire.read(message)
    parts = [raw if position == field else wire.write(value) for position, value in enumerate(values)]
    return bytes([0x90 | len(values)]) + b"".join(parts)


FieldsMutation = Callable[[random.Random, list[Any], list[Any]], None]


def wrong_type(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    fields[rng.randrange(len(fields))] = rng.choice(_WRONG)


def drop_field(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    del fields[rng.randrange(len(fields))]


def add_field(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    fields.insert(rng.randrange(len(fields) + 1), rng.choice((*_WRONG, *fields)))


def swap_fields(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    one, two = rng.randrange(len(fields)), rng.randrange(len(fields))
    fields[one], fields[two] = fields[two], fields[one]


def borrow_field(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    position = rng.randrange(min(len(fields), len(other)))
    fields[position] = other[position]


def borrow_fields(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    """The head of this message with the body of another, or the other way round."""
    position = rng.randrange(min(len(fields), len(other)))
    fields[position:] = other[position:]


def change_body(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    """A field of bytes keeps its length, and gets other contents."""
    places = [place for place, value in enumerate(fields) if isinstance(value, bytes) and value and place > 2]
    if places:
        place = rng.choice(places)
        size = len(fields[place])
        changed = bytearray(fields[place])
        changed[rng.randrange(size)] ^= rng.randrange(1, 256)
        fields[place] = rng.choice((bytes(changed), bytes(changed), bytes(size), b"\xff" * size, rng.randbytes(size)))


def resize_body(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    places = [place for place, value in enumerate(fields) if isinstance(value, bytes)]
    place, change = rng.choice(places), rng.choice((-72, -64, -32, -8, -1, 1, 8, 32, 64, 72))
    value = fields[place]
    fields[place] = value + rng.randbytes(change) if change > 0 else value[:change]


def change_number(rng: random.Random, fields: list[Any], other: list[Any]) -> None:
    """Another tag, version or code."""
    places = [place for place, value in enumerate(fields) if type(value) is int]
    fields[rng.choice(places)] = rng.choice((*range(14), 127, 128, -1, 2**31, 2**64 - 1))


def _on_fields(mutate: FieldsMutation) -> Mutation:
    def mutation(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
        fields = wire.read(message)
        mutate(rng, fields, wire.read(rng.choice(pool)))
        return wire.write(fields)

    mutation.__name__ = mutate.__name__
    return mutation


def replace_somewhere(rng: random.Random, data: bytes) -> bytes:
    """One value, at any depth, gives way to one of another type or size."""
    return wire.write(_replaced(rng, wire.read(data)))


def _replaced(rng: random.Random, value: Any) -> Any:
    if isinstance(value, Map) and value.pairs and rng.random() < 0.95:
        pairs = list(value.pairs)
        place = rng.randrange(len(pairs))
        key, item = pairs[place]
        pairs[place] = (_replaced(rng, key), item) if rng.random() < 0.1 else (key, _replaced(rng, item))
        return Map(tuple(pairs))
    if isinstance(value, list) and value and rng.random() < 0.95:
        place = rng.randrange(len(value))
        return [*value[:place], _replaced(rng, value[place]), *value[place + 1 :]]
    return rng.choice((*_WRONG, 10, 2**20, "<u8", "|b1", [2**40], [-1, -1]))


_RAW: tuple[Mutation, ...] = (
    flip_bits,
    flip_in_head,
    flip_in_tail,
    truncate,
    extend,
    enlarge,
    splice,
    overwrite,
    remove_bytes,
    noise,
)
_STRUCTURED: tuple[Mutation, ...] = (
    another,
    loosen,
    nest,
    huge_length,
    huge_message,
    *map(
        _on_fields,
        (
            wrong_type,
            drop_field,
            add_field,
            swap_fields,
            borrow_field,
            borrow_fields,
            change_body,
            change_body,
            resize_body,
            change_number,
        ),
    ),
)
MUTATIONS = (*_STRUCTURED, *_RAW)


def mutate(rng: random.Random, message: bytes, pool: Sequence[bytes]) -> bytes:
    """A damaged copy; ``message`` and all in ``pool`` are well formed.  Once in a while it is damaged twice."""
    damaged = rng.choice(MUTATIONS)(rng, message, pool)
    return rng.choice(_RAW)(rng, damaged, pool) if damaged and rng.random() < 0.15 else damaged
