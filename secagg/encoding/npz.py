"""Updates from .npz files, and sums into them."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError

_MEMBER: Final = ".npy"
_UNREADABLE: Final = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, OverflowError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a NumPy .npz archive by name, in the file's order.

    Nothing in the file is ever unpickled, and no array takes more memory than the file says it has bytes.  Raises
    InputError, which names the file and the array, for a file that is missing, no archive, damaged, empty, or that
    holds Python objects or two arrays of one name.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    try:
        archive = zipfile.is_zipfile(file)
    except OSError as failure:
        raise InputError(f"{file}: cannot be read ({failure.strerror or failure})") from failure
    if not archive:
        raise InputError(f"{file}: not an .npz archive; write one with numpy.savez(path, name=array, ...)")
    arrays: dict[str, npt.NDArray[Any]] = {}
    name = ""
    try:
        with zipfile.ZipFile(file) as members:
            _check_names(file, members)
            for member in members.infolist():
                name = _name_of(member)
                if not member.filename.endswith(_MEMBER):
                    raise InputError(f"{file}: {name!r} is no array; write the file with numpy.savez")
                with members.open(member) as content:
                    _check_size(file, name, content, member.file_size)
                with members.open(member) as content:
                    arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    except _UNREADABLE as failure:
        if isinstance(failure, InputError):
            raise
        what = f"array {name!r}" if name else "the archive"
        raise InputError(
            f"{file}: {what} cannot be read: it is damaged, or holds Python objects, which are never unpickled"
        ) from failure
    if not arrays:
        raise InputError(f"{file}: holds no arrays; write some with numpy.savez(path, name=array, ...)")
    return arrays


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an archive that ``load_npz`` and ``numpy.load`` read; a file that is there is replaced when it is whole.

    Any name will do, those of ``numpy.savez``'s own arguments (``file``, ``allow_pickle``) among them.  Raises OSError,
    and InputError for an array of Python objects.
    """
    file = Path(path)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as members:
            for name, array in arrays.items():
                if array.dtype.hasobject:
                    raise InputError(f"{name} holds Python objects: only numbers are written to {file}")
                with members.open(f"{name}{_MEMBER}", "w", force_zip64=True) as content:
                    np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _name_of(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(_MEMBER)


def _check_names(file: Path, members: zipfile.ZipFile) -> None:
    """Of two members of one name, a reader would take the one and another reader the other."""
    counted = Counter(_name_of(member) for member in members.infolist())
    if twice := [name for name, count in counted.items() if count > 1]:
        raise InputError(f"{file}: holds the array {twice[0]!r} twice; write each name once")


def _check_size(file: Path, name: str, content: IO[bytes], size: int) -> None:
    """A header of a few bytes must not make NumPy ask for a terabyte: what it announces has to be in the file."""
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(content)
    if dtype.hasobject:
        raise ValueError("Python objects")
    if any(extent < 0 for extent in shape) or math.prod(shape) * dtype.itemsize != size - content.tell():
        raise InputError(
            f"{file}: array {name!r} has {size - content.tell()} bytes of values, and its header says shape {shape} of "
            f"{dtype}: the file is damaged"
        )
