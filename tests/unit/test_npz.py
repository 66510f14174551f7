"""Archives: any name goes in and comes back, and a damaged one ends in one error."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from secagg import InputError
from secagg.encoding.npz import load_npz, save_npz


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, array)
    return out.getvalue()


def test_names_that_are_arguments_of_numpys_writer(tmp_path: Path) -> None:
    arrays = {
        "file": np.arange(3),
        "allow_pickle": np.array(0.5, np.float32),
        "kwds": np.zeros((0, 4)),
        "layer/weight": np.ones((2, 3), order="F"),
        "Gewicht ü": np.array([1, 2], np.longdouble),
    }
    save_npz(tmp_path / "x.npz", arrays)
    for loaded in (load_npz(tmp_path / "x.npz"), dict(np.load(tmp_path / "x.npz"))):
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    save_npz(tmp_path / "x.npz", {"a": np.arange(3)})
    with pytest.raises(InputError, match="b holds Python objects"):
        save_npz(tmp_path / "x.npz", {"a": np.zeros(9), "b": np.array([None])})
    np.testing.assert_array_equal(load_npz(tmp_path / "x.npz")["a"], np.arange(3))
    assert [file.name for file in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("w.npy", npy(np.zeros(2)))
        archive.writestr("w.npy", npy(np.ones(2)))
    with pytest.raises(InputError, match=r"x\.npz: holds the array 'w' twice"):
        load_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", [(10**15,), (2**40, 2**40), (-1,), (4,), (2,), (10**30,)])
def test_a_header_that_announces_what_is_not_there(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = npy(np.zeros(3))
    start, stop = content.index(b"(3,)"), content.index(b"\n")
    header = content[:start] + repr(shape).encode() + b", }"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("w.npy", header.ljust(stop)[: max(stop, len(header))] + content[stop:])
    with pytest.raises(InputError, match="array 'w'"):
        load_npz(tmp_path / "x.npz")
