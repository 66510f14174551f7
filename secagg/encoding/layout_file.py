"""A layout in a file: what organisations agree on before a round, in JSON that people can read."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from secagg.encoding.exact import Exact
from secagg.encoding.layout import Layout
from secagg.encoding.npz import replacing
from secagg.errors import InputError, ParameterError
from secagg.wording import counted

_FORMAT: Final = "secagg layout 1"
_MOST_BYTES: Final = 2**25
"""An array takes some 200 bytes as JSON, so 100,000 arrays fit, as many as ``frames.MAX_WELCOME_BYTES`` lets a server
send."""


class _Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    shape: tuple[int, ...]
    clip: float | None = None
    bits: int | None = None
    low: int | None = None
    high: int | None = None
    decimals: int | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secagg layout 1"]
    digest: str
    max_weight: int | None
    clip: float
    bits: int
    arrays: list[_Array]


def write_layout(path: Path, layout: Layout) -> None:
    """Write the file whole or not at all; one that is there is replaced.  Raises OSError."""
    clips, bits, exact = dict(layout.clips), dict(layout.array_bits), layout.exact_by_name()
    described = [
        _Array(
            name,
            shape,
            clip=clips.get(name),
            bits=bits.get(name),
            low=exact[name].low if name in exact else None,
            high=exact[name].high if name in exact else None,
            decimals=exact[name].decimals if name in exact else None,
        )
        for name, shape in layout.arrays
    ]
    content = _File(_FORMAT, layout.digest().hex(), layout.max_weight, layout.clip, layout.bits, described)
    with replacing(path) as out:
        out.write(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def read_bytes(path: Path) -> bytes:
    """What is in a layout file.  Raises InputError, which names the file, for one that is missing or too long."""
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= _MOST_BYTES else b""
    except OSError as failure:
        raise InputError(f"{path}: cannot be read ({failure.strerror or failure})") from None
    if size > _MOST_BYTES:
        raise InputError(f"{path}: {counted(size, 'byte')}, and a layout file has at most {_MOST_BYTES:,}")
    return data


def layout_in(path: Path, data: bytes) -> Layout:
    """The layout in the bytes of a file.  Raises InputError, which names the file."""
    try:
        found = msgspec.json.decode(data, type=_File)
        layout = _layout_of(found)
        digest = layout.digest()
    except (msgspec.DecodeError, UnicodeDecodeError, ParameterError, InputError) as wrong:
        raise not_a_layout(path, wrong) from None
    check_digest(path, digest, found.digest)
    return layout


def not_a_layout(path: Path, wrong: Exception) -> InputError:
    """The error for a file that is something else."""
    return InputError(f"{path}: not a layout file that secagg serve --write-layout wrote ({wrong})")


def check_digest(path: Path, digest: bytes, written: str) -> None:
    """Raises InputError when the file was changed by hand: its numbers and its digest belong together."""
    if digest.hex() != written:
        raise InputError(
            f"{path}: the layout has digest {digest.hex()}, and the file says {written}: it was changed after it was "
            "written; make it anew with secagg serve --write-layout"
        )


def _layout_of(found: _File) -> Layout:
    shapes = {array.name: array.shape for array in found.arrays}
    if len(shapes) != len(found.arrays):
        raise ParameterError("two arrays have the same name")
    exact = {}
    for array in found.arrays:
        if array.low is not None and array.high is not None and array.decimals is not None:
            exact[array.name] = Exact(array.low, array.high, array.decimals)
        elif (array.low, array.high, array.decimals) != (None, None, None):
            raise ParameterError(f"{array.name}: low, high and decimals belong together")
    return Layout.of(
        shapes,
        clip=found.clip,
        bits=found.bits,
        max_weight=found.max_weight,
        clips={array.name: array.clip for array in found.arrays if array.clip is not None},
        array_bits={array.name: array.bits for array in found.arrays if array.bits is not None},
        exact=exact,
    )
