"""Models with arrays of whole numbers, BatchNorm's counters above all, train without any line about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from secagg.adapters.flower import SecAggStrategy, secagg_mod
from secagg.adapters.model_arrays import clip_of_whole_numbers
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, record_of
from tests.support.flower_setup import one_round

NODES = range(101, 111)


def with_batch_norm() -> Arrays:
    random = np.random.default_rng(3)
    return {
        "conv.weight": random.normal(size=(4, 3)).astype(np.float32),
        "norm.running_mean": np.zeros(4, np.float32),
        "norm.num_batches_tracked": np.array(0, np.int64),
        "mask": np.array([True, False, True, False]),
        "palette": np.array([0, 17, 255], np.uint8),
    }


def batches_of(node: int) -> int:
    return 30 + 7 * (node % 10)


def train(message: Message, context: Any) -> Message:
    """One epoch: the counter counts batches, and the rest moves a little."""
    node, arrays = context.node_id, arrays_of(message.content.array_records["arrays"])
    changed = {
        name: values + values.dtype.type(0.01 * (node % 5)) for name, values in arrays.items() if values.dtype == "f4"
    }
    counter = arrays["norm.num_batches_tracked"]
    changed["norm.num_batches_tracked"] = np.asarray(counter + batches_of(node)).astype(counter.dtype)
    changed["mask"] = np.arange(4) % 2 == node % 2
    changed["palette"] = np.array([node % 256, 0, 255], np.uint8)
    metrics = MetricRecord({"num-examples": weight_of(node)})
    return Message(RecordDict({"arrays": record_of(changed), "metrics": metrics}), reply_to=message)


def weight_of(node: int) -> int:
    return 32 * batches_of(node) // 10


def readme_strategy(**options: Any) -> SecAggStrategy:
    """The README's line."""
    return SecAggStrategy(FedAvg(min_train_nodes=10), clip=0.5, max_weight=1000, **options)


def test_the_readmes_lines_train_a_model_with_batch_norm(caplog: pytest.LogCaptureFixture) -> None:
    """Round after round the counters come out as FedAvg's: they are floats from the second round on."""
    strategy = readme_strategy()
    secure = strategy.start(MemoryGrid(App(secagg_mod, train=train).app, 10), record_of(with_batch_norm()), 3)
    plain = FedAvg(min_train_nodes=10).start(MemoryGrid(App(train=train).app, 10), record_of(with_batch_norm()), 3)
    assert [strategy.reports[number].contributors for number in (1, 2, 3)] == [10, 10, 10]
    assert [strategy.reports[number].clipped for number in (1, 2, 3)] == [0, 0, 0]
    summed = arrays_of(secure.arrays)
    for name, expected in arrays_of(plain.arrays).items():
        bounds = [strategy.reports[number].error_bounds.get(name) for number in (1, 2, 3)]
        bound = sum(strategy.reports[1].error_bound if each is None else each for each in bounds)
        assert np.abs(summed[name] - expected).max() <= bound + 1e-5, name
    assert strategy.reports[3].error_bounds["norm.num_batches_tracked"] < 0.1, "of some 60 batches"
    said = [record.getMessage() for record in caplog.records if "arrays of whole numbers" in record.getMessage()]
    assert len(said) == 1, "once, and not in every round"
    assert "no clip was given for 3 arrays of whole numbers ('norm.num_batches_tracked', 'mask', " in said[0]
    assert "give SecAggStrategy clips={'norm.num_batches_tracked': ...}" in said[0]


def test_a_clip_or_bits_of_ones_own_go_before(caplog: pytest.LogCaptureFixture) -> None:
    strategy = readme_strategy(clips={"*tracked": 100, "mask": 1, "palette": 300}, array_bits={"mask": 16})
    assert one_round(strategy, MemoryGrid(App(secagg_mod, train=train).app, 10), with_batch_norm()) is not None
    assert "arrays of whole numbers" not in caplog.text
    bounds = strategy.reports[1].error_bounds
    assert bounds["norm.num_batches_tracked"] < 1e-5
    assert bounds["mask"] == pytest.approx(2 * strategy.reports[1].error_bound, rel=1e-6), "with twice the clip"


def test_bits_for_an_array_of_floats() -> None:
    strategy = readme_strategy(array_bits={"conv.*": 24})
    assert one_round(strategy, MemoryGrid(App(secagg_mod, train=train).app, 10), with_batch_norm()) is not None
    assert strategy.reports[1].error_bounds["conv.weight"] < strategy.reports[1].error_bound / 200


@pytest.mark.parametrize(
    ("dtype", "clip", "difference", "expected"),
    [
        ("bool", 0.5, True, 1.0),
        ("uint8", 0.5, True, 255.0),
        ("int8", 0.5, False, 128.0),
        ("int32", 0.5, True, 2.0**24),
        ("uint64", 1e9, True, 1e9),
        ("int64", 1e9, False, 1e9),
    ],
)
def test_the_clip_of_whole_numbers(dtype: str, clip: float, difference: bool, expected: float) -> None:
    """Nothing that the type holds is cut off where that costs nothing, and nobody's own clip is narrowed."""
    assert clip_of_whole_numbers(dtype, clip, difference=difference) == expected


@pytest.mark.parametrize("name", ["a[0]", "*", "a?", "", "\x00", "a.b"])
def test_names_that_look_like_patterns_are_names(name: str) -> None:
    """The clip of an array of whole numbers is its own alone, and a clipped array of any name is no error."""
    start: Arrays = {name: np.zeros(2, np.int64), "a0": np.zeros(2), "ab": np.zeros(2)}

    def move(message: Message, context: Any) -> Message:
        arrays = arrays_of(message.content.array_records["arrays"])
        moved = {key: values + 3.0 for key, values in arrays.items()} | {name: np.array([3, 2**30])}
        metrics = MetricRecord({"num-examples": 5})
        return Message(RecordDict({"arrays": record_of(moved), "metrics": metrics}), reply_to=message)

    strategy = SecAggStrategy(FedAvg(min_train_nodes=3), clip=1.0, max_weight=5)
    mean = one_round(strategy, MemoryGrid(App(secagg_mod, train=move).app, 8), start)
    assert mean is not None
    assert np.allclose(mean[name], [3.0, 2.0**24], atol=0.1)
    assert np.allclose(mean["a0"], 1.0, atol=1e-3)
    assert strategy.reports[1].clipped == 8 * 5


def test_a_max_weight_that_loses_small_weights_is_refused() -> None:
    strategy = SecAggStrategy(FedAvg(min_train_nodes=10), clip=0.5, max_weight=10**6)
    with pytest.raises(ValueError, match=r"max_weight is 1000000, and a value of conv\.weight has 32767 steps"):
        one_round(strategy, MemoryGrid(App(secagg_mod, train=train).app, 10), with_batch_norm())


def test_a_client_is_told_of_arrays_that_the_rounding_loses(caplog: pytest.LogCaptureFixture) -> None:
    def move(message: Message, context: Any) -> Message:
        arrays = arrays_of(message.content.array_records["arrays"])
        moved = record_of({key: values + 1e-4 for key, values in arrays.items()})
        return Message(RecordDict({"arrays": moved, "metrics": MetricRecord({"num-examples": 5})}), reply_to=message)

    strategy = SecAggStrategy(FedAvg(min_train_nodes=3), clip=1.0, max_weight=100)
    start = {f"layer{number}": np.zeros(2) for number in range(6)}
    assert one_round(strategy, MemoryGrid(App(secagg_mod, train=move).app, 8), start) is not None
    assert caplog.text.count("layer0: its largest value is 0.0001, and rounding may add 0.00061") == 8
    assert caplog.text.count("the same holds for 2 more arrays") == 8
