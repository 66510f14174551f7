"""Weights that are fractions, and weights for each class, beside plain means and Python's fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict

from secagg import LayoutPolicy
from secagg.adapters.flower import ClassWeights, MeanBy, SecAggMod, SecAggStrategy
from secagg.errors import ParameterError
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, record_of
from tests.support.flower_setup import averaging, one_round, with_node_config

NODES = [101 + number for number in range(8)]
LOST = 106
CLASSES = 4
RARE = 3
"""The class that two nodes alone know."""


def model() -> Arrays:
    random = np.random.default_rng(1)
    return {
        "body": random.normal(size=6).astype(np.float32),
        "head.weight": random.normal(size=(CLASSES, 3)),
        "head.bias": random.normal(size=CLASSES),
    }


def change_of(node: int, name: str) -> Any:
    return np.random.default_rng([node, *name.encode()]).uniform(-0.9, 0.9, model()[name].shape)


def weight_of(node: int) -> float:
    return 0.37 if node == 101 else 0.05 * (node - 100) + 0.0123


def classes_of(node: int) -> list[float]:
    """Nodes know the classes differently well, and one class is known to two of them."""
    return [0.5 * (node % 3), 1.37, float(node % 2), 0.25 if node in (102, 105) else 0.0]


def fit(message: Message, context: Any) -> Message:
    node = context.node_id
    arrays = arrays_of(message.content.array_records["arrays"])
    update = {name: np.asarray(arrays[name] + change_of(node, name), arrays[name].dtype) for name in arrays}
    metrics = MetricRecord({"num-examples": weight_of(node), "class-counts": classes_of(node)})
    return Message(RecordDict({"arrays": record_of(update), "metrics": metrics}), reply_to=message)


BY_CLASS = SecAggMod(layout_policy=LayoutPolicy(weighted_by=frozenset({"num-examples", "class-counts"})))


def grid_of(mod: SecAggMod = BY_CLASS, train: Any = fit) -> MemoryGrid:
    return MemoryGrid(App(mod, train=train).app, len(NODES))


def strategy_of(**options: Any) -> SecAggStrategy:
    return SecAggStrategy(averaging(), **({"clip": 1.0, "max_weight": 1.0, "weight_scale": 1000, "bits": 28} | options))


def plain(name: str, nodes: list[int], weights: list[float]) -> Any:
    return model()[name] + np.average([change_of(node, name) for node in nodes], axis=0, weights=weights)


def test_a_weight_may_be_a_fraction() -> None:
    """The mean by the weights as they are lies within the stated bound, the total weight within half a step each."""
    strategy, grid = strategy_of(), grid_of()
    grid.mute = {("MASK", LOST)}
    mean = one_round(strategy, grid, model())
    assert mean is not None
    report, nodes = strategy.reports[1], [node for node in NODES if node != LOST]
    exact = [Fraction(weight_of(node)) for node in nodes]
    assert abs(Fraction(report.total_weight) - sum(exact)) <= len(nodes) * Fraction(1, 2000) + Fraction(1, 10**9)
    for name in model():
        off = np.abs(mean[name] - plain(name, nodes, [float(weight) for weight in exact])).max()
        assert off <= report.error_bound + 1e-6, name
        assert off > 1e-7, "the weights are rounded, or the bound says nothing"
    assert report.error_bound < 0.01
    assert report.contributors == 7


def test_a_finer_scale_has_a_smaller_bound() -> None:
    bounds = []
    for scale in (10, 1000, 10**6):
        strategy = strategy_of(weight_scale=scale)
        assert one_round(strategy, grid_of(), model()) is not None
        bounds.append(strategy.reports[1].error_bound)
    assert bounds[0] > 90 * bounds[1] > 900 * bounds[2]


def test_the_bound_is_met_by_the_worst_weights() -> None:
    """Weights that count as a step more or half a step less, and values at opposite clips."""

    def worst(message: Message, context: Any) -> Message:
        high = context.node_id % 2 == 0
        update = {name: values + (1.0 if high else -1.0) for name, values in model().items()}
        metrics = MetricRecord({"num-examples": 0.149 if high else 0.001})
        return Message(RecordDict({"arrays": record_of(update), "metrics": metrics}), reply_to=message)

    strategy = strategy_of(weight_scale=10)
    mean = one_round(strategy, grid_of(train=worst), model())
    assert mean is not None
    off = np.abs(mean["head.bias"] - model()["head.bias"] - 0.148 / 0.15).max()
    assert 0.4 * strategy.reports[1].error_bound < off <= strategy.reports[1].error_bound


def test_coarse_steps_leave_no_client_alone_in_the_sum() -> None:
    """A server chooses the steps: none of its choices makes a weight above 0, of a client or of a class, count 0."""

    def small_but_one(message: Message, context: Any) -> Message:
        reply = fit(message, context)
        own = 0.9 if context.node_id == LOST else 0.001
        reply.content["metrics"] = MetricRecord(
            {"num-examples": own, "class-counts": [own] * 4, "tests": own, "loss": 1.0}
        )
        return reply

    coarse = {"head.*": ClassWeights("class-counts", largest=1.0, scale=1)}
    strategy = strategy_of(weight_scale=1, class_weights=coarse, metrics={"loss": MeanBy("tests", 2.0, at_most=5)})
    policy = LayoutPolicy(weighted_by=frozenset({"num-examples", "class-counts", "tests"}))
    assert one_round(strategy, grid_of(SecAggMod(layout_policy=policy), train=small_but_one), model()) is not None
    report = strategy.reports[1]
    assert (report.contributors, report.total_weight) == (8, 8)
    assert report.thin_classes == {"class-counts": ()} or not report.thin_classes
    assert report.error_bounds["loss"] == pytest.approx(10.0 * 2**-31, rel=1e-3), "of 8 clients with 8 for their weight"


def test_a_larger_weight_counts_as_the_largest(caplog: pytest.LogCaptureFixture) -> None:
    strategy = strategy_of(max_weight=0.25, weight_scale=100)
    mod = SecAggMod(layout_policy=LayoutPolicy(min_max_weight=0.2))
    assert one_round(strategy, grid_of(mod), model()) is not None
    assert "the weight 0.37 was reduced to 0.25" in caplog.text
    assert strategy.reports[1].total_weight <= 8 * 0.25


def test_a_node_bounds_the_weights_as_its_app_reports_them(caplog: pytest.LogCaptureFixture) -> None:
    """In its config, as a fraction; the number of steps says nothing."""
    grid = grid_of()
    for node in grid.nodes:
        with_node_config(grid, node, max_max_weight=0.5, min_max_weight=0.1)
    assert one_round(strategy_of(), grid, model()) is None
    assert "has max_weight 1.0; this client's policy allows 0.1 to 0.5" in caplog.text
    assert one_round(strategy_of(max_weight=0.5), grid, model()) is not None


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_weight": 0.37, "weight_scale": 10}, r"max_weight is 0.37 with weight_scale 10: 3.7 steps"),
        ({"weight_scale": 0}, "weight_scale is 0"),
        ({"max_weight": 0.5, "weight_scale": 1}, "0.5 steps"),
        ({"max_weight": 100, "weight_scale": 1000, "bits": 16}, "max_weight 100 times weight_scale 1000"),
        ({"max_weight": float("inf")}, "max_weight is inf"),
    ],
)
def test_weights_that_cannot_be_counted_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        one_round(strategy_of(**options), grid_of(), model())


WEIGHTS = {"head.*": ClassWeights("class-counts", largest=2.0, scale=200)}


@pytest.mark.parametrize("max_weight", [1.0, None])
def test_rows_are_weighed_by_class(max_weight: float | None) -> None:
    """Each row has its own weighted mean; the body has the update's; what two nodes alone know stays as it was."""
    scale = 1000 if max_weight else 1
    strategy = strategy_of(class_weights=WEIGHTS, max_weight=max_weight, weight_scale=scale)
    grid = grid_of()
    grid.mute = {("MASK", LOST)}
    mean = one_round(strategy, grid, model())
    assert mean is not None
    nodes, report = [node for node in NODES if node != LOST], strategy.reports[1]
    for name in ("head.weight", "head.bias"):
        for row in (1,):  # the others have fewer than min_survivors contributors
            expected = plain(name, nodes, [classes_of(node)[row] for node in nodes])[row]
            assert np.abs(mean[name][row] - expected).max() <= report.error_bounds[name]
        assert np.array_equal(mean[name][RARE], model()[name][RARE])
        assert 0 < report.error_bounds[name] < 0.02
    assert report.thin_classes == {"class-counts": (0, 2, RARE)}
    weights = [weight_of(node) if max_weight else 1.0 for node in nodes]
    assert np.abs(mean["body"] - plain("body", nodes, weights)).max() <= report.error_bound + 1e-6


def test_a_row_is_given_out_when_enough_know_its_class(caplog: pytest.LogCaptureFixture) -> None:
    strategy = strategy_of(class_weights=WEIGHTS, gamma=0.0, delta=0.5, min_survivors=4)
    mean = one_round(strategy, grid_of(), model())
    assert mean is not None, strategy.reports[1].failure
    report = strategy.reports[1]
    assert report.thin_classes == {"class-counts": (RARE,)}
    assert "too few clients have a weight for the classes 3 of 'class-counts': their rows stay as they were" in (
        caplog.text
    )
    for row in range(RARE):
        expected = plain("head.weight", NODES, [classes_of(node)[row] for node in NODES])[row]
        assert np.abs(mean["head.weight"][row] - expected).max() <= report.error_bounds["head.weight"]


def test_the_arrays_themselves_by_class() -> None:
    """With ``difference=False`` a row that nobody is to have stays the model's, and does not become 0."""
    mod = SecAggMod(
        layout_policy=LayoutPolicy(whole_model=True, weighted_by=frozenset({"num-examples", "class-counts"}))
    )
    strategy = strategy_of(class_weights=WEIGHTS, difference=False, clip=9.0)
    mean = one_round(strategy, grid_of(mod), model())
    assert mean is not None
    assert np.array_equal(mean["head.weight"][RARE], model()["head.weight"][RARE])
    expected = plain("head.weight", NODES, [1.37] * 8)[1]
    assert np.abs(mean["head.weight"][1] - expected).max() <= strategy.reports[1].error_bounds["head.weight"]


def test_who_weighs_classes_is_for_the_nodes_policy(caplog: pytest.LogCaptureFixture) -> None:
    assert one_round(strategy_of(class_weights=WEIGHTS), grid := grid_of(SecAggMod()), model()) is None
    assert "weights updates by 'class-counts'; this client's policy allows num-examples" in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}


@pytest.mark.parametrize("given", [[1.0, 2.0], [1.0, 2.0, float("nan"), 0.0], 3.0])
def test_weights_that_are_none_make_the_client_leave(given: Any) -> None:
    def odd(message: Message, context: Any) -> Message:
        reply = fit(message, context)
        if context.node_id == LOST:
            reply.content["metrics"] = MetricRecord({"num-examples": 0.5, "class-counts": given})
        return reply

    strategy = strategy_of(class_weights=WEIGHTS)
    assert one_round(strategy, grid_of(train=odd), model()) is not None
    assert [strategy.reports[1].nodes[index] for index in strategy.reports[1].dropped["MASK"]] == [LOST]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"neck": ClassWeights("n", 1)}, "class_weights: 'neck' matches no array"),
        ({"*": ClassWeights("n", 1)}, "their first axes must be the same classes"),
        ({"head.weight": ClassWeights("n", 1), "head.bias": ClassWeights("n", 2)}, "two largest weights or scales"),
    ],
)
def test_class_weights_that_fit_no_array_are_refused(weights: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        one_round(strategy_of(class_weights=weights), grid_of(), model())
    with pytest.raises(ParameterError, match=r"0\.5 steps"):
        ClassWeights("n", largest=0.5)
