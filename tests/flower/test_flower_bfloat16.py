"""Models of bfloat16: summed in float32, and sent as they came."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from secagg.adapters.flower import SecAggStrategy, secagg_mod
from secagg.adapters.flower.array_values import as_bfloat16, numbers
from secagg.errors import InputError
from secagg.privacy import Privacy
from tests.support.flower_grid import App, Arrays, MemoryGrid, record_of
from tests.support.flower_setup import averaging

NODES = [101 + number for number in range(8)]
HALF = ml_dtypes.bfloat16
EPS = 2.0**-8


def model() -> Arrays:
    random = np.random.default_rng(2)
    return {
        "layer": random.normal(size=(5, 4)).astype(HALF),
        "scale": np.array(1.5, HALF),
        "bias": random.normal(size=3).astype(np.float32),
    }


def change_of(node: int, name: str) -> Any:
    return np.random.default_rng([node, len(name)]).uniform(-0.5, 0.5, model()[name].shape)


def values_of(record: ArrayRecord) -> Arrays:
    """With ml_dtypes, as a user reads such arrays."""
    return {
        name: array.numpy().view(HALF) if array.dtype == "bfloat16" else array.numpy() for name, array in record.items()
    }


def as_torch_users_do(values: Any) -> Array:
    """``Array(tensor.view(torch.int16).numpy())``, with the type that it has: torch hands NumPy no bfloat16."""
    stored = Array(np.asarray(values).astype(HALF).view(np.int16))
    return Array("bfloat16", stored.shape, stored.stype, stored.data)


ANSWERS = {
    "bfloat16": lambda values: Array(np.asarray(values).astype(HALF)),
    "bytes without a type": lambda values: Array(np.asarray(values).astype(HALF).view("V2")),
    "torch": as_torch_users_do,
    "float32": lambda values: Array(np.asarray(values, np.float32)),
}


def app_of(answer: Any) -> Any:
    def fit(message: Message, context: Any) -> Message:
        sent = message.content.array_records["arrays"]
        assert {name: array.dtype for name, array in sent.items()} == {
            "layer": "bfloat16", "scale": "bfloat16", "bias": "float32",
        }  # fmt: skip
        update = {
            name: values.astype(float) + change_of(context.node_id, name) for name, values in values_of(sent).items()
        }
        arrays = {name: Array(values) if name == "bias" else answer(values) for name, values in update.items()}
        content = RecordDict({"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 5})})
        return Message(content, reply_to=message)

    return fit


def plain(name: str) -> Any:
    return model()[name].astype(float) + np.mean([change_of(node, name) for node in NODES], axis=0)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("wrapped", ["FedAvg", "FedAdam"])
def test_the_mean_of_bfloat16_models(answer: str, wrapped: str) -> None:
    """Whatever form the apps answer in, and with a strategy that counts with the model itself."""
    nodes = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}
    make = {"FedAvg": lambda: flower.FedAvg(**nodes), "FedAdam": lambda: flower.FedAdam(eta=0.1, tau=0.1, **nodes)}
    strategy = SecAggStrategy(make[wrapped](), clip=2.0, max_weight=5, bits=24)
    grid = MemoryGrid(App(secagg_mod, train=app_of(ANSWERS[answer])).app, len(NODES))
    start = record_of(model())
    result = strategy.start(grid, start, num_rounds=2 if answer == "bfloat16" else 1)
    assert [result.arrays[name].dtype for name in ("layer", "scale")] == ["bfloat16"] * 2
    assert strategy.reports[1].failure == ""
    if wrapped == "FedAvg" and answer != "bfloat16":
        for name, values in values_of(result.arrays).items():
            cast = EPS * 3 * (name != "bias") + 1e-6
            assert np.abs(values.astype(float) - plain(name)).max() <= cast, name
    sent = [message for phase, message in grid.sent if phase == "MASK"]
    assert sent[0].content.array_records["arrays"]["layer"] == start["layer"], "as it was stored, to the byte"


def test_a_float32_answer_loses_nothing_before_the_mean() -> None:
    """Changes that bfloat16 would round away at each node add up, and the mean is rounded once."""

    def tiny(message: Message, context: Any) -> Message:
        values = values_of(message.content.array_records["arrays"])["layer"].astype(np.float32)
        content = RecordDict({"arrays": record_of({"layer": values + np.float32(2.0**-9 * (context.node_id % 4))})})
        content["metrics"] = MetricRecord({"num-examples": 5})
        return Message(content, reply_to=message)

    strategy = SecAggStrategy(averaging(), clip=0.125, max_weight=None, bits=24)
    ones = {"layer": np.ones(3, HALF)}
    messages = strategy.configure_train(
        1, record_of(ones), ConfigRecord(), grid := MemoryGrid(App(secagg_mod, train=tiny).app, len(NODES))
    )
    mean, _ = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert mean is not None
    exact = 1 + 2.0**-9 * np.mean([node % 4 for node in NODES])
    assert values_of(mean)["layer"].tolist() == [float(np.float32(exact).astype(HALF))] * 3


def test_bfloat16_with_noise() -> None:
    loose = Privacy(epsilon=3000.0, delta=1e-6, clip=50.0, bits=22)
    strategy = SecAggStrategy(averaging(fraction_evaluate=0.0), privacy=loose, gamma=0.2, delta=0.25)
    grid = MemoryGrid(App(secagg_mod, train=app_of(ANSWERS["bfloat16"])).app, len(NODES))
    result = strategy.start(grid, record_of(model()), num_rounds=1)
    noise = strategy.reports[1].noise
    for name, values in values_of(result.arrays).items():
        assert np.abs(values.astype(float) - plain(name)).max() < 6 * noise + 3 * EPS, name


def test_what_calls_itself_bfloat16_and_is_not_is_refused() -> None:
    eight = Array(np.zeros(3, ml_dtypes.float8_e4m3fn))
    assert numbers("a", Array("bfloat16", (3,), "numpy.ndarray", Array(np.ones(3)).data)).dtype == np.float64
    assert numbers("a", eight).dtype.kind == "V", "the codec refuses it by name"
    with pytest.raises(InputError, match="a does not read as a NumPy array"):
        numbers("a", Array("bfloat16", (3,), "torch.Tensor", b"abc"))


def test_our_arrays_are_those_of_ml_dtypes() -> None:
    values = np.array([[1.5, -2.25], [3e38, 1e-40]], np.float32)
    ours, theirs = as_bfloat16(values), Array(values.astype(HALF))
    assert (ours.dtype, ours.shape, ours.stype) == (theirs.dtype, theirs.shape, theirs.stype)
    assert np.array_equal(ours.numpy().view(HALF), theirs.numpy().view(HALF))
