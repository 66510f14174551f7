"""Layouts in files, with noise or without: what organisations agree on before a round, in JSON that people can read."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import msgspec

from secagg.encoding.layout_file import check_digest, layout_in, not_a_layout, read_bytes, write_layout
from secagg.encoding.npz import replacing
from secagg.errors import InputError, ParameterError
from secagg.privacy.layout import AnyLayout, PrivateLayout
from secagg.privacy.terms import PrivacyTerms

_FORMAT: Final = "secagg private layout 1"


class _Kind(msgspec.Struct, frozen=True):
    format: str = ""


class _Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: tuple[int, ...]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal["secagg private layout 1"]
    digest: str
    max_weight: int | None
    terms: PrivacyTerms
    arrays: list[_Array]


def write_any_layout(path: Path, layout: AnyLayout) -> None:
    """Write the file whole or not at all; one that is there is replaced.  Raises OSError."""
    if not isinstance(layout, PrivateLayout):
        write_layout(path, layout)
        return
    arrays = [_Array(name, shape) for name, shape in layout.arrays]
    content = _File(_FORMAT, layout.digest().hex(), layout.max_weight, layout.terms, arrays)
    with replacing(path) as out:
        out.write(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")


def read_any_layout(path: Path) -> AnyLayout:
    """Raises InputError, which names the file, for one that is missing or holds no layout."""
    data = read_bytes(path)
    try:
        is_private = msgspec.json.decode(data, type=_Kind).format == _FORMAT
    except RecursionError:  # what is skipped on the way to the format may be nested without end
        raise not_a_layout(path, ValueError("it is nested thousands of times")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise not_a_layout(path, wrong) from None
    return _private_layout_in(path, data) if is_private else layout_in(path, data)


def _private_layout_in(path: Path, data: bytes) -> PrivateLayout:
    try:
        found = msgspec.json.decode(data, type=_File)
        arrays = tuple((array.name, array.shape) for array in found.arrays)
        layout = PrivateLayout(arrays=arrays, max_weight=found.max_weight, terms=found.terms)
        layout.check_ascending()
        digest = layout.digest()
    except (msgspec.DecodeError, UnicodeDecodeError, ParameterError, InputError) as wrong:
        raise not_a_layout(path, wrong) from None
    check_digest(path, digest, found.digest)
    return layout
