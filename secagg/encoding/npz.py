"""Updates from files."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError

_UNREADABLE: Final = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load_npz(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a NumPy .npz archive by name, in the file's order.

    Nothing in the file is ever unpickled.  Raises InputError, which names the file and the array, for a file that is
    missing, no archive, damaged, empty, or that holds Python objects.
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
        with np.load(file, allow_pickle=False) as members:
            for name in members.files:
                array = members[name]
                if not isinstance(array, np.ndarray):  # a member that is no .npy comes back as its bytes
                    raise InputError(f"{file}: {name!r} is no array; write the file with numpy.savez")
                arrays[name] = array
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
