"""Models of PyTorch tensors, which jobs with ``server_expected_format=PYTORCH`` send; a stand-in is PyTorch."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.fuel.utils import fobs

from secagg.adapters.nvflare.codec import MeanUpdate
from secagg.errors import InputError
from tests.support.nvflare_controller import controller
from tests.support.nvflare_sites import SITES, InProcessSite, assert_mean, board, model, ordinary


class Tensor:
    """As a PyTorch tensor on the CPU: NumPy reads it through DLPack, and cannot read bfloat16."""

    def __init__(self, values: Any, dtype: str = "") -> None:
        self.values = np.asarray(values)
        self.dtype = dtype or self.values.dtype.name

    def __dlpack__(self, **options: Any) -> Any:
        if self.dtype == "bfloat16":
            raise BufferError("Unsupported dtype in DLTensor")
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def is_floating_point(self) -> bool:
        return "float" in self.dtype

    def float(self) -> Tensor:
        return Tensor(self.values)

    def to(self, dtype: str) -> Tensor:
        return Tensor(self.values, dtype)


class OnGraphicsCard(Tensor):
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("not in the memory of the CPU")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)

    def is_floating_point(self) -> bool:
        return False


class TensorDecomposer(fobs.Decomposer):
    def supported_type(self) -> type:
        return Tensor

    def decompose(self, target: Tensor, manager: Any = None) -> Any:
        return [target.values, target.dtype]

    def recompose(self, data: Any, manager: Any = None) -> Tensor:
        return Tensor(*data)


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType("torch")
    module.Tensor, module.from_numpy = Tensor, Tensor

    def finfo(dtype: str) -> Any:
        assert dtype == "bfloat16", "PyTorch has no finfo of whole numbers"
        return np.finfo(np.float32)

    module.finfo = finfo
    monkeypatch.setitem(sys.modules, "torch", module)
    fobs.register(TensorDecomposer)


def trained(site: InProcessSite, given: FLModel) -> FLModel:
    """A script that is given tensors and answers with tensors."""
    assert all(isinstance(value, Tensor) for value in given.params.values())
    arrays = {name: value.values for name, value in given.params.items()}
    result = ordinary(site, FLModel(params=arrays))
    result.params = {name: Tensor(values, given.params[name].dtype) for name, values in result.params.items()}
    return result


def test_a_model_of_tensors_has_a_mean_of_tensors(tmp_path: Path) -> None:
    over, arrays = board(tmp_path, trained, count=3), model() | {"half": np.asarray([0.5, -2.0], np.float32)}
    made = controller(over)
    given = {name: Tensor(values, "bfloat16" if name == "half" else "") for name, values in arrays.items()}
    for number in range(2):
        data = FLModel(params=given, current_round=number, total_rounds=2)
        (mean,) = made.send_model_and_wait(data=data, timeout=5)
        assert all(isinstance(value, Tensor) for value in mean.params.values())
        found = {name: value.values for name, value in mean.params.items()}
        assert_mean(MeanUpdate(found, {}, mean.meta["NUM_STEPS_CURRENT_ROUND"], 3, 0), arrays, SITES[:3])
        given, arrays = mean.params, found
    types = {name: value.dtype for name, value in given.items()}
    assert types["half"] == "bfloat16"
    assert types["norm.batches"] == "float64", "the mean of a counter is not cut to a whole number"
    assert types["layer.weight"] == "float32"


def test_a_tensor_that_is_not_on_the_cpu_is_named(tmp_path: Path) -> None:
    made = controller(board(tmp_path, trained, count=3))
    data = FLModel(params={"w": OnGraphicsCard(np.zeros(2))}, current_round=0, total_rounds=1)
    with pytest.raises(InputError, match=r"'w'.*copy it to the CPU first"):
        made.send_model_and_wait(data=data, timeout=5)
