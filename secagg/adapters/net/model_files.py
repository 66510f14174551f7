"""Model files: named arrays in .npz and .safetensors.  Nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import importlib
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from secagg.encoding import load_npz
from secagg.encoding.arrays import is_extension, to_array
from secagg.encoding.npz import npz_headers, replacing, save_npz
from secagg.errors import InputError, ParameterError

NPZ: Final = ".npz"
SAFETENSORS: Final = ".safetensors"
_METADATA: Final = "__metadata__"
_LENGTH: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 8
_DTYPES: Final = {
    "F64": "float64", "F32": "float32", "F16": "float16", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_EXTENSION_DTYPES: Final = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_CODES: Final = {name: code for code, name in (_DTYPES | _EXTENSION_DTYPES).items()}

Arrays = dict[str, npt.NDArray[Any]]


def kind_of(path: Path) -> str:
    """The suffix.  Raises ParameterError for any other than these two."""
    if path.suffix not in (NPZ, SAFETENSORS):
        raise ParameterError(f"{path}: files end in {NPZ} or {SAFETENSORS}")
    return path.suffix


def read_arrays(path: Path) -> Arrays:
    """The arrays by name, names ascending.  Raises InputError or ParameterError, which name the file and the array.

    bfloat16 and the 8-bit floats of a .safetensors file come as the types of ``ml_dtypes``, where that is installed.
    """
    if kind_of(path) == NPZ:
        arrays = load_npz(path)
        return {name: arrays[name] for name in sorted(arrays)}
    with _safetensors(path) as file:
        return {name: _tensor(path, file, name) for name in sorted(file.keys())}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of an array before its values.

    Attributes:
        shape: of the array.
        dtype: None for the floats of a .safetensors file that NumPy has not by itself.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any] | None


def read_headers(path: Path) -> dict[str, Header]:
    """Names, shapes and dtypes alone, names ascending: no array's values are read.

    Raises InputError and ParameterError, which name the file, as ``read_arrays`` does, and for an array whose elements
    cannot be summed.
    """
    if kind_of(path) == NPZ:
        headers = {name: Header(*header) for name, header in sorted(npz_headers(path).items())}
    else:
        with _safetensors(path) as file:
            headers = {name: _tensor_header(path, file.get_slice(name), name) for name in sorted(file.keys())}
    for name, header in headers.items():
        if header.dtype is not None:
            try:
                to_array(np.empty(0, header.dtype), name)
            except InputError as refused:
                raise InputError(f"{path}: {refused}") from None
    return headers


def check_writable(path: Path, dtypes: Mapping[str, np.dtype[Any]]) -> None:
    """Whether a file of this kind can hold arrays of these names and dtypes.  Raises InputError and ParameterError."""
    kind = kind_of(path)
    for name, dtype in dtypes.items():
        if not _utf8(name):
            raise InputError(f"{path}: the name {name!r} is no Unicode text that a file can hold; rename the array")
        if kind == SAFETENSORS and name == _METADATA:
            raise InputError(f"{path}: a {SAFETENSORS} file cannot hold an array named {name!r}; write {NPZ}")
        if kind == SAFETENSORS and dtype.name not in _CODES:
            raise InputError(f"{path}: {name!r} has dtype {dtype}, which {SAFETENSORS} has not; write {NPZ}")
        if kind == NPZ and "\0" in name:
            raise InputError(f"{path}: an {NPZ} file cannot hold an array named {name!r}; write {SAFETENSORS}")
        if kind == NPZ and is_extension(dtype):
            raise InputError(f"{path}: {name!r} has dtype {dtype}, which {NPZ} has not; write {SAFETENSORS}")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the file whole or not at all, durably; one that is there, or a symbolic link, is replaced.

    Raises what ``check_writable`` raises.
    """
    check_writable(path, {name: array.dtype for name, array in arrays.items()})
    if kind_of(path) == NPZ:
        save_npz(path, arrays)
        return
    with replacing(path) as out:
        _write_safetensors(out, arrays)


def _utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_safetensors(out: IO[bytes], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """A length, a header in JSON, the arrays' bytes; wide elements first, so that each array is aligned."""
    header: dict[str, Any] = {}
    done = 0
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    for name, array in ordered:
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [done, done + array.nbytes],
        }
        done += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    out.write(_LENGTH.pack(len(text)) + text)
    for _, array in ordered:
        swapped = not is_extension(array.dtype) and array.dtype.byteorder == ">"
        little = array.astype(array.dtype.newbyteorder("<")) if swapped else array
        out.write(np.ascontiguousarray(little).reshape(-1).view(np.uint8).data)


def _tensor_header(path: Path, tensor: Any, name: str) -> Header:
    code = _code_of(path, tensor, name)
    return Header(tuple(tensor.get_shape()), np.dtype(_DTYPES[code]) if code in _DTYPES else None)


def _code_of(path: Path, tensor: Any, name: str) -> str:
    code: str = tensor.get_dtype()
    if code not in _DTYPES and code not in _EXTENSION_DTYPES:
        raise InputError(f"{path}: {name!r} has dtype {code}, which cannot be summed; store it as F32")
    return code


def _tensor(path: Path, file: Any, name: str) -> npt.NDArray[Any]:
    code = _code_of(path, file.get_slice(name), name)
    if code in _EXTENSION_DTYPES:
        return _extension_tensor(path, name, code)
    tensor: npt.NDArray[Any] = file.get_tensor(name)
    return tensor


def _extension_tensor(path: Path, name: str, code: str) -> npt.NDArray[Any]:
    """A tensor of a type that NumPy alone has not, of a file whose header has been checked."""
    try:
        dtype = np.dtype(getattr(importlib.import_module("ml_dtypes"), _EXTENSION_DTYPES[code]))
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: {name!r} has dtype {code}, which NumPy has not by itself: pip install ml_dtypes, or store it as "
            "F32"
        ) from None
    with path.open("rb") as raw:
        (length,) = _LENGTH.unpack(raw.read(_LENGTH.size))
        entry = json.loads(raw.read(length))[name]
        start, end = entry["data_offsets"]
        raw.seek(_LENGTH.size + length + start)
        data = bytearray(raw.read(end - start))
    return np.frombuffer(data, dtype).reshape(entry["shape"])


@contextlib.contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="np") as file:
            if not file.keys():
                raise InputError(f"{path}: holds no arrays")
            yield file
    except (SafetensorError, MemoryError) as wrong:
        raise InputError(f"{path}: not a safetensors file that can be read ({wrong})") from None
