"""Every message of one small round, and the same messages byte by byte for the specification."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from reference import rules, wire
from reference.rules import Config
from reference.wire import Refused

from .common import File, Test, entry, file
from .configs import active_config, base_config
from .encodings import FLAGS as ENCODINGS
from .encodings import encodings
from .rounds import LOOSE, Recorder, sparse_active

PHASES = {
    "Abort": "any",
    "Invitation": "before ADVERTISE",
    "Advertise": "ADVERTISE",
    "Roster": "ADVERTISE",
    "Share": "SHARE",
    "Shares": "SHARE",
    "Complaint": "COMPLAIN",
    "Accusations": "COMPLAIN",
    "Answer": "ANSWER",
    "Settled": "ANSWER",
    "MaskedInput": "MASK",
    "Survivors": "MASK",
    "Confirm": "CONFIRM",
    "Confirmations": "CONFIRM",
    "Unmask": "UNMASK",
}
REQUIREMENTS = {
    "Abort": "ABORT-1",
    "Invitation": "CONFIG-1",
    "Advertise": "ADVERTISE-2",
    "Roster": "ADVERTISE-7",
    "Share": "SHARE-7",
    "Shares": "SHARE-10",
    "MaskedInput": "MASK-4",
    "Survivors": "SURVIVORS-1",
    "Confirm": "CONFIRM-1",
    "Confirmations": "CONFIRM-4",
    "Unmask": "UNMASK-1",
}


@cache
def example() -> Recorder:
    """Six clients of four neighbours each, in `active`; client 4 is absent."""
    recorder = Recorder("example", sparse_active(), LOOSE)
    recorder.run({4: "NONE"})
    return recorder


def example_messages() -> dict[str, bytes]:
    """One message of each type; those of a client, or to a client, are client 2's."""
    found: dict[str, bytes] = {}
    recorder = example()
    for name in recorder.messages:
        if name[-1].isalpha() or name.endswith("-2"):
            data = bytes.fromhex(recorder.messages[name])
            kind = next(kind for kind, (number, _) in wire.MESSAGES.items() if number == wire.unpack(data)[0])
            found[kind] = data
    found["Abort"] = wire.abort(recorder.server.round_id, "too-few-clients")
    return {kind: found[kind] for kind in wire.MESSAGES}


def messages() -> File:
    """Messages, limits, records."""
    tests: list[Test] = []
    for kind, data in example_messages().items():
        _, _, session, *values = wire.unpack(data)
        fields = [field.partition(":")[0] for field in wire.MESSAGES[kind][1].split()]
        shown = {name: _shown(value) for name, value in zip(fields, values, strict=True)}
        common = {"message": kind, "phase": PHASES[kind], "session": session.hex(), "fields": shown}
        tests.append(entry(f"WIRE-1 WIRE-2 {REQUIREMENTS[kind]}", "", **common, encoded=data.hex()))
    for size in (0, 1, 255, 256, 65535, 65536):
        data = wire.encode("MaskedInput", bytes(32), bytes(size))
        about = "a vector of zeros; only the head of the message is given"
        shown = {"vector": f"{size} zeros"}
        common = {"message": "MaskedInput", "phase": "MASK", "session": bytes(32).hex(), "fields": shown}
        head = data[: len(data) - size]
        tests.append(entry("WIRE-2", about, "HEADERS", **common, zeros=size, encoded=head.hex()))
    wide = {"colluders": 0, "dropouts": 0, "neighbours": 2, "threshold": 2, "min_survivors": 3, "ring_bits": 30}
    sized = [base_config(clients=clients, **wide) for clients in (1024, 1025, 31, 32)]
    for config in (base_config(), active_config(), base_config(length=10**6, ring_bits=33), example().config):
        tests.append(_limits(config))
    for members, clients in (([], 3), ([0], 8), ([0, 1, 8], 9), ([2, 15, 16], 17), (list(range(20)), 20)):
        shown = {"members": members, "clients": clients, "bitmap": wire.bitmap(members, clients).hex()}
        tests.append(entry("WIRE-7 SURVIVORS-1", "a bitmap", **shown, ids=wire.ids(members).hex()))
    for kind in wire.MESSAGES:
        tests += _malformed(kind)
    tests += [*encodings(), *map(_limits, sized)]
    flags = {
        **ENCODINGS,
        "HEADERS": "lengths that are not written in the shortest form",
        "SHAPE": "messages with another number of fields, another type of one, or another length of a fixed one",
    }
    return file("messages", "Every message, whole and malformed; size limits; bitmaps and lists of ids.", flags, tests)


def _limits(config: Config) -> Test:
    limits = {kind: config.max_bytes(kind) for kind in (*wire.TO_SERVER, *wire.TO_CLIENT)}
    return entry("WIRE-5", "size limits", config=config.to_bytes().hex(), limits=limits)


def _malformed(kind: str) -> Iterator[Test]:
    """A message of each shape but its own.  Fields of any length are empty: what is in them is not looked at here."""
    number, fields = wire.MESSAGES[kind]
    names, kinds = zip(*(field.split(":") if ":" in field else (field, "") for field in fields.split()), strict=True)
    good: list[int | str | bytes] = [number, 1, bytes(32)]
    good += [3 if kind == "int" else bytes(int(kind or 0)) for kind in kinds]
    wrong = {"a field too few": good[:-1], "a field too many": [*good, b""], "no fields": good[:3]}
    wrong["a number for the session"] = [*good[:2], 0, *good[3:]]
    wrong["a session of 31 bytes"] = [*good[:2], bytes(31), *good[3:]]
    wrong["bytes for the version"] = [number, b"\1", *good[2:]]
    for place, (name, shape) in enumerate(zip(names, kinds, strict=True), 3):
        others: dict[str, int | str | bytes] = {f"{name}: bytes": b"\3"} if shape == "int" else {f"{name}: a number": 0}
        others[f"{name}: a string"] = "a" * int(shape if shape.isdigit() else 0)
        if shape.isdigit():
            others |= {f"{name}: {size} bytes": bytes(size) for size in (int(shape) - 1, int(shape) + 1)}
        wrong |= {comment: [*good[:place], other, *good[place + 1 :]] for comment, other in others.items()}
    yield from (
        entry("WIRE-1 WIRE-3", comment, "SHAPE", error=_refusal(kind, data), message=kind, encoded=data.hex())
        for comment, data in ((comment, wire.pack(elements)) for comment, elements in wrong.items())
    )


def _refusal(kind: str, data: bytes) -> str:
    """What the reference says of a malformed message."""
    try:
        wire.decode(data, [kind], len(data))
    except Refused as refused:
        return refused.code
    raise ValueError(f"{kind}: {data.hex()} is taken")


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


# The annotated bytes of the specification.


def annotated(kind: str) -> str:
    """A message's bytes on lines of at most 32, each with what it is."""
    data = example_messages()[kind]
    return _lines(_parts(kind, data))


def _lines(parts: Iterable[tuple[bytes, str]]) -> str:
    return "\n".join(
        f"{part[start : start + 32].hex():<64}  {'' if start else about}".rstrip()
        for part, about in parts
        for start in range(0, len(part), 32)
    )


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"


def _parts(kind: str, data: bytes) -> Iterator[tuple[bytes, str]]:
    number, version, session, *values = wire.unpack(data)
    yield data[:1], f"array of {3 + len(values)} elements"
    yield wire.pack_one(number), f"type {number}: {kind}"
    yield wire.pack_one(version), f"version {version}"
    round_id = kind in ("Abort", "Invitation", "Advertise", "Roster")
    yield from _field("session", session, [(32, "the round id" if round_id else "the session id")])
    names = [field.partition(":")[0] for field in wire.MESSAGES[kind][1].split()]
    records = _records(kind, dict(zip(names, values, strict=True)))
    for name, value in zip(names, values, strict=True):
        if isinstance(value, int):
            yield wire.pack_one(value), f"{name}: {value}, {wire.ABORTS[value]}"
        else:
            yield from _field(name, value, records.get(name) or [(len(value), "")])


def _field(name: str, value: bytes, records: list[tuple[int, str]]) -> Iterator[tuple[bytes, str]]:
    header = wire.pack_one(value)[: len(wire.pack_one(value)) - len(value)]
    yield header, f"{name}: {_bytes(len(value))}"
    at = 0
    for size, about in records:
        if size:
            yield value[at : at + size], f"  {about}".rstrip()
        at += size
    if at != len(value):
        raise ValueError(f"{name}: {at} of {len(value)} bytes are accounted for")


def _records(kind: str, fields: dict[str, Any]) -> dict[str, list[tuple[int, str]]]:
    keys = [(32, "channel key"), (32, "masking key")]
    if kind == "Invitation":
        return {"config": [(len(fields["config"]), "see the config's bytes")], "nonce": [(32, "")]}
    if kind == "Roster":
        present, absent = wire.read_ids(fields["present"]), wire.read_ids(fields["absent"])
        return {
            "own": keys,
            "present": [(4, f"client {i}") for i in present],
            "keys": [(size, f"client {i}: {about}") for i in present for size, about in keys],
            "absent": [(4, f"client {i}") for i in absent],
            "signatures": [(64, f"client {i}") for i in present],
            "proof": [(32, f"hash {i}") for i in range(len(fields["proof"]) // 32)],
        }
    if kind in ("Share", "Shares"):
        near = wire.read_ids(example_roster()["present"])
        word = "for" if kind == "Share" else "from"
        return {
            "dealers": [(4, f"client {i}") for i in near],
            "sealed": [(wire.SEALED, f"{word} client {i}: both shares and their salts, sealed") for i in near],
            "commitments": [
                (32, f"{word} client {i}: commitment to the {share} share") for i in near for share in ("key", "seed")
            ],
        }
    if kind == "Unmask":
        near = wire.read_ids(example_roster()["present"])
        return {
            "openings": [
                (size, f"of client {i}: {what}") for i in near for size, what in ((40, "seed share"), (32, "salt"))
            ]
        }
    if kind == "Confirmations":
        signers = wire.read_bitmap(fields["signers"], example().config.clients)
        return {"signatures": [(64, f"client {i}") for i in signers]}
    return {}


def example_roster() -> dict[str, Any]:
    """The fields of client 2's roster in the example."""
    values = wire.unpack(example_messages()["Roster"])[3:]
    names = [field.partition(":")[0] for field in wire.MESSAGES["Roster"][1].split()]
    return dict(zip(names, values, strict=True))


def annotated_config() -> str:
    """The config of the example, element by element."""
    data = example().config.to_bytes()
    elements = wire.unpack(data)
    names = ["version", *rules.ELEMENTS]
    parts = [(data[:3], f"array of {len(elements)} elements")]
    for name, value in zip(names, elements, strict=True):
        if isinstance(value, bytes):
            parts += _field(name, value, [(len(value), "")])
        else:
            parts.append((wire.pack_one(value), f"{name}: {value}"))
    return _lines(parts)


def annotated_examples() -> dict[str, str]:
    """By the name that the specification's markers give."""
    return {"Config": annotated_config(), **{kind: annotated(kind) for kind in wire.MESSAGES}}
