"""Updates from .npz files, and sums into them."""

from __future__ import annotations

import math
import os
import secrets
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError
from secagg.wording import counted

_MEMBER: Final = ".npy"
# A header is Python source to NumPy: one of thousands of signs ends in RecursionError (a RuntimeError) or MemoryError.
_UNREADABLE: Final = (
    OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, MemoryError, OverflowError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def load_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a NumPy .npz archive by name, in the file's order.

    Nothing in the file is ever unpickled, and no array takes more memory than the file says it has bytes.  Raises
    InputError, which names the file and the array, for a file that is missing, no archive, damaged, empty, or that
    holds Python objects or two arrays of one name.
    """
    file, arrays = Path(path), {}
    with _opened(file) as archive:
        for name, member in _members(file, archive):
            with _readable(file, f"array {name!r}"):
                _checked_header(file, name, archive, member)
                with archive.open(member) as content:
                    arrays[name] = np.lib.format.read_array(content, allow_pickle=False)
    return arrays


def npz_headers(path: str | os.PathLike[str]) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Shapes and dtypes by name, in the file's order: no values are read.  Raises InputError as load_npz."""
    file, headers = Path(path), {}
    with _opened(file) as archive:
        for name, member in _members(file, archive):
            with _readable(file, f"array {name!r}"):
                headers[name] = _checked_header(file, name, archive, member)
    return headers


def save_npz(path: str | os.PathLike[str], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an archive that ``load_npz`` and ``numpy.load`` read; a file that is there is replaced when it is whole.

    Any name will do, those of ``numpy.savez``'s own arguments (``file``, ``allow_pickle``) among them.  Raises OSError,
    and InputError for an array of Python objects.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise InputError(f"{name} holds Python objects: only numbers are written to {Path(path)}")
    with replacing(Path(path)) as out, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}{_MEMBER}", "w", force_zip64=True) as content:
                np.lib.format.write_array(content, np.asarray(array), allow_pickle=False)


@contextmanager
def replacing(file: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the place of ``file``, or of a symbolic link there, durably, when the block is done.

    Its first name is drawn at random and must be free (O_EXCL): a link that somebody else has put there is never
    written through.
    """
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}.new")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(file)
        if os.name == "posix":
            _sync(file.parent)  # so that the new name survives a power cut as well
    finally:
        temporary.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _opened(file: Path) -> Iterator[zipfile.ZipFile]:
    if not file.is_file():
        raise InputError(f"{file}: there is no such file")
    try:
        is_archive = zipfile.is_zipfile(file)
    except OSError as failure:
        raise InputError(f"{file}: cannot be read ({failure.strerror or failure})") from failure
    if not is_archive:
        raise InputError(f"{file}: not an .npz archive; write one with numpy.savez(path, name=array, ...)")
    with _readable(file, "the archive"):
        archive = zipfile.ZipFile(file)
    with archive:
        yield archive


@contextmanager
def _readable(file: Path, what: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except _UNREADABLE as failure:
        raise InputError(
            f"{file}: {what} cannot be read: it is damaged, or holds Python objects, which are never unpickled"
        ) from failure


def _members(file: Path, archive: zipfile.ZipFile) -> list[tuple[str, zipfile.ZipInfo]]:
    """The arrays' names and places.  Of two members of one name, one reader would take the one, another the other."""
    members = [(member.filename.removesuffix(_MEMBER), member) for member in archive.infolist()]
    if not members:
        raise InputError(f"{file}: holds no arrays; write some with numpy.savez(path, name=array, ...)")
    for name, member in members:
        if name == member.filename:
            raise InputError(f"{file}: {name!r} is no array; write the file with numpy.savez")
    counted = Counter(name for name, _ in members)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise InputError(f"{file}: holds the array {twice[0]!r} twice; write each name once")
    return members


def _checked_header(
    file: Path, name: str, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """A header of a few bytes must not make NumPy ask for a terabyte: what it announces has to be in the file."""
    with archive.open(member) as content:
        version = np.lib.format.read_magic(content)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(content)
        size = member.file_size - content.tell()
    if dtype.hasobject:
        raise ValueError("Python objects")
    if any(extent < 0 for extent in shape) or math.prod(shape) * dtype.itemsize != size:
        said = str(shape) if len(str(shape)) <= 100 else f"{str(shape)[:100]}..."
        raise InputError(
            f"{file}: array {name!r} has {counted(size, 'byte')} of values, and its header says "
            f"shape {said} of {dtype}: the file is damaged"
        )
    return tuple(int(extent) for extent in shape), dtype
