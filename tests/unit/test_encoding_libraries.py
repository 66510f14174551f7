"""Arrays of other libraries, and sparse ones: in, and back out as what they were.  Stand-ins are PyTorch and JAX."""

from __future__ import annotations

import sys
from collections import OrderedDict
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from secagg import Encoder, InputError
from secagg.encoding import Template
from secagg.encoding.arrays import to_array


class Tensor:
    """As a PyTorch tensor: NumPy reads it through DLPack, unless it is of a type that NumPy has not."""

    layout = "torch.strided"

    def __init__(self, values: Any, dtype: str) -> None:
        self.values, self.dtype = np.asarray(values), dtype

    def __dlpack__(self, **options: Any) -> Any:
        if not self._known or "sparse" in self.layout:
            raise BufferError("Unsupported dtype in DLTensor, or a layout other than strided")
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __array__(self) -> np.ndarray:
        if not self._known or "sparse" in self.layout:
            raise TypeError(f"Got unsupported ScalarType {self.dtype}")
        return self.values

    def is_floating_point(self) -> bool:
        return "float" in self.dtype

    def float(self) -> Tensor:
        return Tensor(self.values.astype(np.float32), "float32")

    def to_dense(self) -> Tensor:
        return Tensor(self.values, self.dtype)

    def to(self, dtype: str) -> Tensor:
        return Tensor(self.values, dtype)

    @property
    def _known(self) -> bool:
        return hasattr(np, self.dtype.rstrip("_"))


class SparseTensor(Tensor):
    layout = "torch.sparse_coo"


class JaxArray(Tensor):
    pass


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module: Any = ModuleType("torch")
    module.Tensor = Tensor
    module.from_numpy = lambda array: Tensor(array, str(array.dtype))
    module.finfo = lambda dtype: SimpleNamespace(max={"float8_e4m3fn": 448.0, "bfloat16": 3.3895313892515355e38}[dtype])
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def round_trip(encoder: Encoder, update: Any) -> Any:
    total = np.sum([encoder.encode(update).astype(np.uint64) for _ in range(3)], axis=0, dtype=np.uint64)
    return encoder.decode_sum(total, 3, "template").mean


def test_tensors_come_back_as_what_load_state_dict_takes(torch: ModuleType) -> None:
    update = OrderedDict(
        weight=Tensor(np.array([[0.5, -0.25]], np.float32), "float32"),
        num_batches_tracked=Tensor(np.array(7), "int64"),
        half=Tensor(np.array([1.5], np.float16), "float16"),
        brain=Tensor(np.array([0.5], np.float32), "bfloat16"),
        eight=Tensor(np.array([448.0], np.float32), "float8_e4m3fn"),
        array=np.array([3.0]),
        number=4,
    )
    encoder = Encoder(update, 500.0, bits=24)
    mean = round_trip(encoder, update)
    assert list(mean) == list(update)
    for name, before in update.items():
        after = mean[name]
        assert type(after) is type(before), name
        if isinstance(before, Tensor):
            assert (after.dtype, after.values.shape) == (before.dtype, before.values.shape)
            np.testing.assert_allclose(after.values, before.values, atol=1e-3)
            assert np.abs(after.values).max() <= 448.0  # beyond it, an 8-bit float would be NaN
            after.values[...] = 0  # and it can be written to
    assert isinstance(encoder.decode_sum(encoder.encode(update), 1).mean["weight"], np.ndarray)


def test_jax_arrays_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("jax")
    module.Array = JaxArray
    module.numpy = SimpleNamespace(asarray=lambda array: JaxArray(array, str(array.dtype)))
    monkeypatch.setitem(sys.modules, "jax", module)
    update = {"w": JaxArray(np.array([0.5], np.float32), "float32")}
    mean = round_trip(Encoder(update, 1.0), update)
    assert type(mean["w"]) is JaxArray
    assert mean["w"].dtype == "float32"


def test_a_library_that_is_not_loaded_any_more_gives_numpys_arrays(torch: ModuleType) -> None:
    template = Template.of({"w": Tensor(np.zeros(2, np.float32), "float32")})
    del sys.modules["torch"]
    update = {"w": np.ones(2)}
    mean = round_trip(Encoder(template, 1.0), update)
    assert isinstance(mean["w"], np.ndarray)
    assert mean["w"].dtype == np.float32


def test_the_library_makes_no_other_layout(torch: ModuleType) -> None:
    tensors, arrays = {"w": Tensor(np.zeros(2, np.float32), "float32")}, {"w": np.zeros(2, np.float32)}
    assert Template.of(tensors) == Template.of(arrays)
    assert Encoder(tensors, 1.0).layout_digest() == Encoder(arrays, 1.0).layout_digest()


def test_floats_that_numpy_has_not_are_widened_by_their_library() -> None:
    read = to_array(Tensor(np.array([0.5, -448.0]), "float8_e4m3fn"), "x")
    assert (read.dtype, read.tolist()) == (np.float32, [0.5, -448.0])
    with pytest.raises(InputError, match=r"x is a .*Tensor that NumPy cannot read: convert it to an array of float32"):
        to_array(Tensor(np.array([1]), "qint8"), "x")


class OnlyToArray:
    """As SciPy's sparse arrays: no protocol at all."""

    def toarray(self) -> np.ndarray:
        return np.eye(2)


class RefusesToBeDense:
    """As PyData's: a protocol that refuses."""

    def __array__(self) -> np.ndarray:
        raise RuntimeError("Cannot convert a sparse array to dense automatically")

    def todense(self) -> np.ndarray:
        return np.eye(2)


@pytest.mark.parametrize(
    ("sparse", "method"),
    [
        (SparseTensor(np.eye(2, dtype=np.float32), "float32"), "to_dense"),
        (OnlyToArray(), "toarray"),
        (RefusesToBeDense(), "todense"),
    ],
)
def test_the_remedy_for_a_sparse_array_works(sparse: Any, method: str) -> None:
    with pytest.raises(InputError) as refused:
        Encoder({"layer": {"w": sparse}}, 1.0)
    assert str(refused.value).startswith("layer.w is a ")
    assert str(refused.value).endswith(
        f"which is sparse, and a sum has a value for every element: convert it with .{method}() first"
    )
    dense = {"layer": {"w": getattr(sparse, method)()}}
    assert Encoder(dense, 1.0).encode(dense).shape == (5,)


def test_a_sparse_array_of_scipy() -> None:
    for sparse in (scipy.sparse.eye_array(3), scipy.sparse.csr_matrix(np.eye(3))):
        with pytest.raises(InputError, match=r"convert it with \.toarray\(\) first"):
            to_array(sparse, "x")
