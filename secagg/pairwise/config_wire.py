"""A config's bytes: one MessagePack array, whose elements are fixed in version 1 and may be extended from version 2 on.

Version 1 has 19 elements.  Version 2 has the same 19 and one more, an array of extensions (R-EXTENSION-1): a number and
a value for each, the numbers ascending.  An extension whose value is its default is left out, so that a config has one
list of values, whoever writes it.  Nobody ignores an extension that it does not know: all members of a round do the
same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from secagg.errors import ParameterError
from secagg.pairwise.transcript import EXTENDED_VERSION, VERSION, VERSIONS, known_versions

Value = int | bytes


class Extension(NamedTuple):
    """The field of a config that an extension holds, and the value that is not written."""

    field: str
    default: Value


EXTENSIONS: Final[Mapping[int, Extension]] = {
    1: Extension("attachment_bytes", 0),
    2: Extension("groups", 1),
    3: Extension("min_group", 0),
    4: Extension("chain", b""),
    5: Extension("complaints", 0),
    6: Extension("carrier", 0),
}
"""By number.  A number that was given once never gets another meaning."""


class _Version(msgspec.Struct, array_like=True, frozen=True):
    """The first element of a config of any version."""

    version: int


class _Version1(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A config of version 1, in canonical order."""

    version: int
    threat_model: str
    suite: int
    clients: int
    length: int
    ring_bits: int
    prime: int
    input_max: int
    colluders: int
    dropouts: int
    neighbours: int
    threshold: int
    quorum: int
    min_survivors: int
    sigma: int
    grinding_bits: int
    eta: int
    context: bytes
    cohort: bytes


class _Version2(_Version1, array_like=True, forbid_unknown_fields=True, frozen=True):
    """A config of version 2."""

    extensions: list[int | bytes]


_FORMS: Final[Mapping[int, type[_Version1]]] = {VERSION: _Version1, EXTENDED_VERSION: _Version2}


def encode(values: Mapping[str, Any]) -> bytes:
    """The canonical bytes of a config's values, by the names above and those of the extensions."""
    form = _FORMS[values["version"]]
    given = {name: values[name] for name in _Version1.__struct_fields__}
    if form is _Version2:
        given["extensions"] = [
            part
            for number, extension in sorted(EXTENSIONS.items())
            if (value := values[extension.field]) != extension.default
            for part in (number, value)
        ]
    return msgspec.msgpack.encode(form(**given))


def shown_version(data: bytes) -> int | None:
    """The version of a config as far as its first bytes show it: an array's header, and one byte below 128."""
    head = data[0] if data else 0
    size = {0xDC: 3, 0xDD: 5}.get(head, 1 if 0x90 <= head <= 0x9F else len(data))
    return data[size] if size < len(data) and data[size] < 128 else None


def decode(data: bytes) -> dict[str, Any]:
    """The values in a config's bytes, those of the extensions included.

    Raises ParameterError when the bytes do not decode, or are of a version that this library does not speak.
    """
    try:
        version = msgspec.msgpack.decode(data, type=_Version).version
        if version not in VERSIONS:
            raise ParameterError(
                f"a config of protocol version {version}; this library speaks the versions {known_versions()}"
            )
        wire = msgspec.msgpack.decode(data, type=_FORMS[version])
    except RecursionError:
        raise ParameterError("the config does not decode: it is nested thousands of times") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as refused:
        raise ParameterError(f"the config does not decode: {refused}") from None
    values = msgspec.structs.asdict(wire)
    extensions = _extensions(values.pop("extensions", ()))
    return {**values, **extensions}


def _extensions(parts: Sequence[Value]) -> dict[str, Value]:
    """The values of a list of extensions, by field.  Raises ParameterError unless the list is canonical."""
    numbers, values = parts[0::2], parts[1::2]
    if len(numbers) != len(values):
        raise ParameterError("a config whose last extension has no value")
    found: dict[str, Value] = {}
    last = 0
    for number, value in zip(numbers, values, strict=True):
        if not isinstance(number, int) or number not in EXTENSIONS:
            met = number if isinstance(number, int) else "whose number is bytes"
            raise ParameterError(f"a config with extension {met}; this library knows {', '.join(map(str, EXTENSIONS))}")
        field, default = EXTENSIONS[number]
        if number <= last:
            raise ParameterError(f"a config with extension {number} after {last}: they ascend, each once")
        if not isinstance(value, type(default)):
            raise ParameterError(
                f"extension {number} of a config, {field}: it must be of type {type(default).__name__}"
            )
        if value == default:
            raise ParameterError(f"extension {number} of a config, {field} = {default!r}: the default is not written")
        found[field], last = value, number
    return found
