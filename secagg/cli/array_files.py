"""Files of arrays, as ``simulate`` takes and writes them: .npz always, .safetensors with the extra ``net``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from secagg.cli.extras import advice
from secagg.encoding import load_npz
from secagg.encoding.npz import save_npz
from secagg.errors import ParameterError

_NPZ: Final = ".npz"
_SAFETENSORS: Final = ".safetensors"


def read_arrays(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name.  Raises InputError or ParameterError, which name the file."""
    if file.suffix == _SAFETENSORS:
        arrays: dict[str, npt.NDArray[Any]] = _model_files(file).read_arrays(file)
        return arrays
    return load_npz(file)


def write_arrays(file: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write the file whole or not at all; one that is there is replaced.  Raises OSError, which names the file."""
    try:
        if file.suffix == _SAFETENSORS:
            _model_files(file).write_arrays(file, arrays)
        else:
            save_npz(file, arrays)
    except OSError as failure:  # a full disk says no name
        raise OSError(failure.errno, failure.strerror or str(failure), str(file)) from failure


def check_output(file: Path, inputs: Sequence[Path]) -> None:
    """Before any work: raises ParameterError for a file that cannot be written, or that is one of the inputs."""
    if file.suffix not in (_NPZ, _SAFETENSORS):
        raise ParameterError(f"--output {file}: the name must end in {_NPZ} or {_SAFETENSORS}")
    if file.suffix == _SAFETENSORS:
        _model_files(file)
    if not file.parent.is_dir():
        raise ParameterError(f"--output {file}: there is no directory {file.parent}; make it first")
    if not os.access(file.parent, os.W_OK):
        raise ParameterError(f"--output {file}: the directory {file.parent} cannot be written")
    if file.is_dir():
        raise ParameterError(f"--output {file}: this is a directory; name a file")
    for given in inputs:
        if given.exists() and file.exists() and given.samefile(file):
            raise ParameterError(f"--output {file}: this is an input file, which would be lost; name another file")


def check_names(file: Path, names: Iterable[str], inputs: Sequence[Path]) -> None:
    """Raises InputError for an array that the file's format has no name for.

    Names that an .npz file cannot have come from .safetensors files alone.
    """
    if _SAFETENSORS in {file.suffix, *(given.suffix for given in inputs)}:
        _model_files(file).check_writable(file, dict.fromkeys(names, np.dtype(np.float64)))


def _model_files(file: Path) -> ModuleType:
    try:
        from secagg.adapters.net import model_files
    except ModuleNotFoundError as missing:
        raise ParameterError(f"{file}: {advice(missing, 'net')}") from None
    return model_files
