"""Metrics of training and evaluation, summed beside the model in the same vector: the server has sums alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict

from secagg import LayoutPolicy, Policy
from secagg.adapters.flower import MeanBy, SecAggMod, SecAggStrategy, Sum, secagg_mod
from secagg.errors import ParameterError
from secagg.privacy import Privacy
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, model, record_of, trained, weight_of
from tests.support.flower_setup import averaging, one_round

NODES = [101 + number for number in range(8)]
LOST = 104
FLOATS = {name: values for name, values in model().items() if name.startswith("layer")}
METRICS: dict[str, Any] = {
    "loss": 300.0,  # weighted as the model is
    "correct": Sum(1_000, decimals=0),
    "summed-loss": Sum(50_000.0),
    "cost": Sum(1_000, decimals=2),
    "evaluate.num-examples": Sum(200, decimals=0),
    "evaluate.loss": MeanBy("evaluate.num-examples", largest=5.0, at_most=200),
    "evaluate.accuracy": MeanBy("evaluate.num-examples", largest=1.0, at_most=200),
}


def training_metrics(node: int) -> dict[str, float]:
    loss, examples = 0.25 + node / 100, weight_of(node)
    return {
        "num-examples": examples,
        "loss": loss,
        "correct": examples * 2 // 3,
        "summed-loss": loss * examples,
        "cost": -1.25 * (node - 100),
    }


def evaluation_metrics(node: int, arrays: Arrays) -> dict[str, float]:
    """Of the arrays that are evaluated: another model has another loss."""
    return {
        "num-examples": node % 13 + 1,
        "loss": float(np.tanh(arrays["layer.weight"].mean()) + node / 200),
        "accuracy": (node % 7) / 7,
    }


def fit(message: Message, context: Any) -> Message:
    node = context.node_id
    update = record_of(trained(arrays_of(message.content.array_records["arrays"]), node))
    return Message(
        RecordDict({"arrays": update, "metrics": MetricRecord(training_metrics(node))}),
        reply_to=message,  # type: ignore[arg-type]
    )


def evaluate(message: Message, context: Any) -> Message:
    arrays = arrays_of(message.content.array_records["arrays"])
    assert message.metadata.message_type == "evaluate"
    metrics = MetricRecord(evaluation_metrics(context.node_id, arrays))  # type: ignore[arg-type]
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


EVALUATING = SecAggMod(evaluation=evaluate)


def strategy_of(**options: Any) -> SecAggStrategy:
    return SecAggStrategy(averaging(fraction_evaluate=0.0), **({"clip": 1.0, "max_weight": 500, "bits": 24} | options))


def grid_of(mod: Any = EVALUATING, train: Any = fit) -> MemoryGrid:
    return MemoryGrid(App(mod, train=train).app, len(NODES))


def expected(nodes: list[int]) -> dict[str, float]:
    """With NumPy alone."""
    done = [training_metrics(node) for node in nodes]
    tested = [evaluation_metrics(node, FLOATS) for node in nodes]
    tests = [each["num-examples"] for each in tested]
    found = {name: float(sum(each[name] for each in done)) for name in ("correct", "summed-loss", "cost")}
    found["loss"] = float(np.average([each["loss"] for each in done], weights=[weight_of(node) for node in nodes]))
    found["evaluate.num-examples"] = sum(tests)
    for name in ("loss", "accuracy"):
        found[f"evaluate.{name}"] = float(np.average([each[name] for each in tested], weights=tests))
    return found


def test_sums_and_means_are_those_of_numpy() -> None:
    """With a client lost: of training and evaluation alike, in one vector, of the model that came."""
    strategy, grid = strategy_of(metrics=METRICS), grid_of()
    grid.mute = {("MASK", LOST)}
    result = strategy.start(grid, record_of(FLOATS), num_rounds=1)
    report = strategy.reports[1]
    wanted = expected([node for node in NODES if node != LOST])
    assert sorted(report.metrics) == sorted(wanted)
    for name, value in wanted.items():
        assert abs(report.metrics[name] - value) <= report.error_bounds[name] + 1e-9 * abs(value), name
        assert report.error_bounds[name] < 1e-3
    for name in ("correct", "evaluate.num-examples"):
        assert report.metrics[name] == wanted[name], "whole numbers are summed without any error"
        assert report.error_bounds[name] == 0
    assert report.metrics["cost"] == wanted["cost"]
    assert result.train_metrics_clientapp[1]["correct"] == wanted["correct"], "the wrapped strategy has them too"
    assert {name for _, reply in grid.replies for name in reply.content} == {"secagg.round"}
    assert [phase for phase, _ in grid.sent].count("MASK") == len(NODES), "and no message more than without metrics"


def test_a_weight_of_0_leaves_a_mean_out() -> None:
    def untested(message: Message, context: Any) -> Message:
        return Message(
            RecordDict({"metrics": MetricRecord({"num-examples": 0, "loss": 3.0, "accuracy": 1.0})}), reply_to=message
        )

    strategy = strategy_of(metrics=METRICS)
    assert one_round(strategy, grid_of(SecAggMod(evaluation=untested)), FLOATS) is not None
    assert "evaluate.loss" not in strategy.reports[1].metrics
    assert strategy.reports[1].metrics["evaluate.num-examples"] == 0


def test_a_node_without_an_evaluation_refuses_before_it_joins(caplog: pytest.LogCaptureFixture) -> None:
    grid = grid_of(secagg_mod)
    assert one_round(strategy_of(metrics=METRICS), grid, FLOATS) is None
    assert "give it SecAggMod(evaluation=...)" in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}


def test_an_evaluation_runs_only_where_its_metrics_are_summed() -> None:
    called: list[int] = []

    def noted(message: Message, context: Any) -> Message:
        called.append(context.node_id)
        return evaluate(message, context)

    assert one_round(strategy_of(metrics={"loss": 300.0}), grid_of(SecAggMod(evaluation=noted)), FLOATS) is not None
    assert called == []


def test_an_evaluation_that_fails_makes_its_client_leave(caplog: pytest.LogCaptureFixture) -> None:
    """As an app that fails in training does, without a word to the server."""

    def fails(message: Message, context: Any) -> Message:
        if context.node_id == LOST:
            raise ValueError("the patient's name")
        return evaluate(message, context)

    strategy, grid = strategy_of(metrics=METRICS), grid_of(SecAggMod(evaluation=fails))
    assert one_round(strategy, grid, FLOATS) is not None
    assert [strategy.reports[1].nodes[index] for index in strategy.reports[1].dropped["MASK"]] == [LOST]
    assert all("patient" not in str(reply) for _, reply in grid.replies)


def test_a_metric_beyond_its_bound_is_clipped_and_told(caplog: pytest.LogCaptureFixture) -> None:
    strategy = strategy_of(metrics={"correct": Sum(10, decimals=0), "summed-loss": Sum(1.0)})
    assert one_round(strategy, grid_of(), FLOATS) is not None
    assert strategy.reports[1].metrics == {"correct": 80, "summed-loss": pytest.approx(8.0, abs=1e-6)}
    assert "metric correct: 1 value was clipped to 10.0" in caplog.text
    assert strategy.reports[1].clipped == 16


@pytest.mark.parametrize("loss", [1e308, -1e308, 5])
def test_a_finite_metric_of_any_size_keeps_its_client_in_the_round(loss: float) -> None:
    """Neither a product nor a weight in steps may overflow: who leaves would tell of its data."""

    def huge(message: Message, context: Any) -> Message:
        reply = fit(message, context)
        if context.node_id == LOST:
            metrics = {**training_metrics(LOST), "num-examples": abs(loss), "loss": loss, "correct": loss}
            reply.content["metrics"] = MetricRecord(metrics)  # type: ignore[arg-type]
        return reply

    asked = {"loss": MeanBy("num-examples", largest=5.0, at_most=500), "correct": Sum(10, decimals=0)}
    strategy = strategy_of(metrics=asked, weight_scale=1000, max_weight=500.0, bits=30)
    assert one_round(strategy, grid_of(train=huge), FLOATS) is not None
    assert strategy.reports[1].dropped == {}
    assert -5.01 < strategy.reports[1].metrics["loss"] < 5.01
    assert strategy.reports[1].metrics["correct"] == 70 + (10 if loss == 1e308 else -10 if loss < 0 else 5)


def test_who_weighs_metrics_is_for_the_nodes_policy(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that is 0 for all clients but one would give that one's."""
    by = {"loss": MeanBy("is-rare", largest=5.0, at_most=1)}
    grid = grid_of()
    assert one_round(strategy_of(metrics=by), grid, FLOATS) is None
    assert "weights updates by 'is-rare'; this client's policy allows num-examples" in caplog.text
    assert {phase for phase, _ in grid.sent} == {"ADVERTISE"}
    allowed = SecAggMod(layout_policy=LayoutPolicy(max_max_weight=500.0))
    assert one_round(strategy_of(metrics={"loss": MeanBy("num-examples", 5.0, 501)}), grid_of(allowed), FLOATS) is None
    assert "has max_weight 501; this client's policy allows 1 to 500.0" in caplog.text


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"metrics": {"num-examples": Sum(10)}}, "'num-examples' is the weight"),
        ({"metrics": {"a": MeanBy("n", 1.0, 5), "b": MeanBy("n", 1.0, 6)}}, "give both the same"),
        ({"metrics": {"a": Sum(1)}, "groups": 2}, "groups go with metrics weighted as the model is"),
        ({"metrics": {"a": Sum(1)}, "clip": None, "max_weight": None, "bits": None}, "with privacy"),
    ],
)
def test_metrics_that_cannot_be_summed_are_refused(options: dict[str, Any], says: str) -> None:
    if "clip" in options:
        options |= {"privacy": Privacy(epsilon=6.0, delta=1e-6, clip=0.5)}
    mod = SecAggMod(policy=Policy(max_groups=2))
    with pytest.raises(ParameterError, match=says):
        one_round(strategy_of(**options), grid_of(mod), FLOATS)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Sum(0.0), "largest is 0.0"),
        (lambda: Sum(1.5, decimals=2), "must be a whole number"),
        (lambda: Sum(2**60, decimals=0), "low is"),
        (lambda: MeanBy("n", 1.0, 0), "at_most is 0"),
        (lambda: MeanBy("n", -1.0, 3), "largest is -3.0"),
    ],
)
def test_bounds_that_no_metric_has_are_refused(make: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        make()
