"""Model files: named arrays in .npz and .safetensors.  Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from secagg.encoding import load_npz
from secagg.errors import InputError, ParameterError

NPZ: Final = ".npz"
SAFETENSORS: Final = ".safetensors"
_UNREADABLE: Final = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)

Arrays = dict[str, npt.NDArray[Any]]


def kind_of(path: Path) -> str:
    """The suffix.  Raises ParameterError for any other than these two."""
    if path.suffix not in (NPZ, SAFETENSORS):
        raise ParameterError(f"{path}: files end in {NPZ} or {SAFETENSORS}")
    return path.suffix


def read_arrays(path: Path) -> Arrays:
    """The arrays by name, names ascending.  Raises InputError or ParameterError, which name the file and the array."""
    if kind_of(path) == NPZ:
        arrays = load_npz(path)
        return {name: arrays[name] for name in sorted(arrays)}
    arrays = {}
    with _safetensors(path) as file:
        for name in sorted(file.keys()):
            try:
                arrays[name] = file.get_tensor(name)
            except (TypeError, AttributeError, KeyError):
                dtype = file.get_slice(name).get_dtype()
                raise InputError(f"{path}: {name!r} has dtype {dtype}, which NumPy has not; store it as F32") from None
    return arrays


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes alone: no array's values are read.  Raises InputError and ParameterError."""
    if kind_of(path) == NPZ:
        return _npz_shapes(path)
    with _safetensors(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in sorted(file.keys())}


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the file whole or not at all, durably; one that is there is replaced."""
    kind = kind_of(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        if kind == NPZ:
            with temporary.open("wb") as out:
                np.savez(out, **dict(arrays))  # type: ignore[arg-type]
        else:
            # Contiguous and at least 1-d is what the format's writer takes as it is; 0-d arrays keep their shape.
            save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, temporary)
        _sync(temporary)
        temporary.replace(path)
        if os.name == "posix":
            _sync(path.parent)  # so that the new name survives a power cut as well
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as array:
                    version = np.lib.format.read_magic(array)
                    read = np.lib.format.read_array_header_1_0
                    if version != (1, 0):
                        read = np.lib.format.read_array_header_2_0
                    shape, _, dtype = read(array)
                if dtype.hasobject:
                    raise ValueError("Python objects")
                shapes[member.removesuffix(".npy")] = tuple(int(extent) for extent in shape)
    except _UNREADABLE as wrong:
        raise InputError(f"{path}: not an .npz archive of arrays ({wrong})") from None
    if not shapes:
        raise InputError(f"{path}: holds no arrays; write some with numpy.savez(path, name=array, ...)")
    return dict(sorted(shapes.items()))


@contextlib.contextmanager
def _safetensors(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="np") as file:
            if not file.keys():
                raise InputError(f"{path}: holds no arrays")
            yield file
    except SafetensorError as wrong:
        raise InputError(f"{path}: not a safetensors file ({wrong})") from None
