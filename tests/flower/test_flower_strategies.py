"""Strategies that average are wrapped unchanged; those that look at single replies are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import FedAvg, Strategy

from secagg import LayoutPolicy
from secagg.adapters.flower import SecAggMod, SecAggStrategy, secagg_mod
from secagg.errors import ParameterError
from tests.support.flower_grid import CLIPS, App, Arrays, MemoryGrid, arrays_of, model, record_of
from tests.support.flower_setup import averaging, one_round

ROUNDS = 3
LOST = 104
NODES = {"min_train_nodes": 3, "min_evaluate_nodes": 3, "min_available_nodes": 3}
AVERAGING: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: flower.FedAvg(**NODES),
    "FedAvg of equals": lambda: flower.FedAvg(weighted_by_key="one", **NODES),
    "FedAvgM": lambda: flower.FedAvgM(server_momentum=0.7, server_learning_rate=0.5, **NODES),
    "FedProx": lambda: flower.FedProx(proximal_mu=0.3, **NODES),
    "FedAdagrad": lambda: flower.FedAdagrad(eta=0.05, tau=0.1, **NODES),
    "FedAdam": lambda: flower.FedAdam(eta=0.05, tau=0.1, **NODES),
    "FedYogi": lambda: flower.FedYogi(eta=0.05, tau=0.1, **NODES),
}


def floats() -> Arrays:
    """A model that every strategy takes."""
    return {name: values for name, values in model().items() if name.startswith("layer")}


def train(message: Message, context: Any) -> Message:
    """Pulls the model towards a point of the node's own; weights differ, and ``one`` is the same for all."""
    node = context.node_id
    arrays = arrays_of(message.content.array_records["arrays"])
    pull = 0.3 + float(message.content.config_records["config"].get("proximal-mu", 0.0))
    goal = {name: np.full(values.shape, np.sin(node)) for name, values in arrays.items()}
    update = {name: (values + pull * (goal[name] - values)).astype(values.dtype) for name, values in arrays.items()}
    metrics = MetricRecord({"num-examples": 3 * (node - 100), "one": 1})
    return Message(RecordDict({"arrays": record_of(update), "metrics": metrics}), reply_to=message)


def trained_by(strategy: Strategy, *mods: Any) -> Arrays:
    app = ClientApp()
    app.train(mods=list(mods))(train)
    app.evaluate()(App().evaluate)
    grid = MemoryGrid(app, 8)
    grid.mute = {("MASK", LOST), ("train", LOST)}
    result = strategy.start(grid, record_of(floats()), num_rounds=ROUNDS)
    assert sorted(result.evaluate_metrics_clientapp) == [1, 2, 3]
    return arrays_of(result.arrays)


@pytest.mark.parametrize("name", AVERAGING)
def test_the_same_model_as_the_plain_strategy(name: str) -> None:
    mod = SecAggMod(layout_policy=LayoutPolicy(weighted_by=frozenset({"num-examples", "one"})))
    secure = trained_by(SecAggStrategy(AVERAGING[name](), clip=2.0, max_weight=100, bits=24), mod)
    plain = trained_by(AVERAGING[name]())
    start = floats()
    for array in plain:
        assert secure[array].dtype == plain[array].dtype
        assert np.abs(plain[array] - start[array]).max() > 0.02
        assert np.abs(secure[array] - plain[array]).max() < 1e-4


def test_weights_may_be_left_out() -> None:
    """Without a largest weight all clients count alike, whatever they report."""
    strategy = SecAggStrategy(flower.FedAvg(**NODES), clip=2.0, max_weight=None, bits=24)
    secure = trained_by(strategy, secagg_mod)
    plain = trained_by(flower.FedAvg(weighted_by_key="one", **NODES))
    assert all(np.abs(secure[name] - plain[name]).max() < 1e-4 for name in plain)
    assert strategy.reports[1].total_weight == 7


def test_the_arrays_themselves_may_be_summed() -> None:
    strategy = SecAggStrategy(flower.FedAvg(**NODES), clip=8.0, max_weight=100, bits=24, difference=False)
    mod = SecAggMod(layout_policy=LayoutPolicy(whole_model=True))
    secure, plain = trained_by(strategy, mod), trained_by(flower.FedAvg(**NODES))
    assert all(np.abs(secure[name] - plain[name]).max() < 1e-4 for name in plain)


def test_arrays_of_any_kind_come_out_as_they_do_in_flower() -> None:
    """Types and values, over rounds: Flower averages whole numbers and bools to float64."""
    start: Arrays = {
        "half": np.array([0.5, -1.5], np.float16),
        "swapped": np.linspace(-1, 1, 4).astype(">f4"),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(0.25, np.float32),
        "bytes": np.array([3, 200], np.uint8),
        "count": np.array(2**40, np.int64),
        "flags": np.array([True, False]),
        "nothing": np.zeros((0, 3)),
    }

    def fit(message: Message, context: Any) -> Message:
        arrays = arrays_of(message.content.array_records["arrays"])
        step = (context.node_id % 5) / 8
        changed = {
            name: values + values.dtype.type(1 if values.dtype.kind in "iub" else step)
            for name, values in arrays.items()
        }
        metrics = MetricRecord({"num-examples": context.node_id - 90})
        return Message(RecordDict({"arrays": record_of(changed), "metrics": metrics}), reply_to=message)

    def result_of(strategy: Strategy, *mods: Any) -> Arrays:
        grid = MemoryGrid(App(*mods, train=fit).app, 6)
        return arrays_of(strategy.start(grid, record_of(start), num_rounds=2).arrays)

    strategy = SecAggStrategy(
        flower.FedAvg(**NODES), clip=2.0, clips={"bytes": 2.0, "count": 2.0}, max_weight=20, bits=28
    )
    secure = result_of(strategy, secagg_mod)
    plain = result_of(flower.FedAvg(**NODES))
    for name, values in plain.items():
        assert secure[name].dtype == values.dtype, name
        assert secure[name].shape == values.shape, name
        assert np.allclose(secure[name], values, rtol=np.finfo(values.dtype).eps * 4, atol=1e-6), name


def test_differential_privacy_that_clips_at_the_clients() -> None:
    """Flower's clipping mod stands below ours, and sees the very message that its wrapper made."""
    private = flower.DifferentialPrivacyClientSideFixedClipping(flower.FedAvg(**NODES), 0.0, 0.5, 8)
    secure = trained_by(SecAggStrategy(private, clip=0.5, max_weight=100, bits=24), secagg_mod, fixedclipping_mod)
    again = flower.DifferentialPrivacyClientSideFixedClipping(flower.FedAvg(**NODES), 0.0, 0.5, 8)
    plain = trained_by(again, fixedclipping_mod)
    assert all(np.abs(secure[name] - plain[name]).max() < 1e-4 for name in plain)


REFUSED: dict[str, Callable[[], Strategy]] = {
    "FedMedian": flower.FedMedian,
    "FedTrimmedAvg": flower.FedTrimmedAvg,
    "Krum": flower.Krum,
    "MultiKrum": flower.MultiKrum,
    "Bulyan": flower.Bulyan,
    "QFedAvg": lambda: flower.QFedAvg(client_learning_rate=0.1),
    "FedXgbBagging": flower.FedXgbBagging,
    "FedXgbCyclic": flower.FedXgbCyclic,
    "server-side clipping": lambda: flower.DifferentialPrivacyServerSideFixedClipping(FedAvg(), 1.0, 1.0, 8),
    "around one of them": lambda: flower.DifferentialPrivacyClientSideFixedClipping(flower.FedMedian(), 1.0, 1.0, 8),
    "itself": lambda: SecAggStrategy(FedAvg(), clip=1.0, max_weight=1),
}


def test_active_needs_the_run_config() -> None:
    with pytest.raises(ParameterError, match="run_config"):
        SecAggStrategy(FedAvg(), clip=1.0, max_weight=1, threat_model="active")


def test_an_accountant_that_counts_replies_is_refused() -> None:
    private = flower.DifferentialPrivacyClientSideFixedClipping(FedAvg(), 1.0, 1.0, 8)
    private.accountant = object()  # type: ignore[assignment]
    with pytest.raises(ParameterError, match="accountant"):
        SecAggStrategy(private, clip=1.0, max_weight=1)


@pytest.mark.parametrize("name", REFUSED)
def test_strategies_that_need_each_reply_are_refused(name: str) -> None:
    with pytest.raises(ParameterError, match=r"every client's own reply|give SecAggStrategy groups"):
        SecAggStrategy(REFUSED[name](), clip=1.0, max_weight=1)


def test_what_is_no_strategy_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"no flwr\.serverapp\.strategy\.Strategy"):
        SecAggStrategy("FedAvg", clip=1.0, max_weight=1)  # type: ignore[arg-type]


def test_a_start_of_its_own_is_not_lost_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    class WithStart(FedAvg):
        def start(self, *args: Any, **kwargs: Any) -> Any:
            return super().start(*args, **kwargs)

    SecAggStrategy(WithStart(), clip=1.0, max_weight=1)
    assert "WithStart.start is not called" in caplog.text


class Fixed(FedAvg):
    """Sends what it was made with."""

    def __init__(self, make: Callable[[int], RecordDict]) -> None:
        super().__init__()
        self.make = make

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Any) -> list[Message]:
        return [Message(self.make(node), dst_node_id=node, message_type="train") for node in grid.get_node_ids()]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda node: RecordDict({"arrays": record_of(model(node))}), "different models"),
        (lambda node: RecordDict({"arrays": record_of(model()), "c": ConfigRecord({"a": node})}), "different things"),
        (lambda node: RecordDict({"config": ConfigRecord({"a": 1})}), "0 array records"),
    ],
)
def test_messages_that_cannot_be_aggregated_are_refused(make: Callable[[int], RecordDict], says: str) -> None:
    strategy = SecAggStrategy(Fixed(make), clip=1.0, max_weight=1)
    with pytest.raises(ParameterError, match=says):
        strategy.configure_train(1, record_of(model()), ConfigRecord(), MemoryGrid(App(secagg_mod).app, 8))


def test_equal_models_in_records_of_their_own_are_one_model() -> None:
    def make(node: int) -> RecordDict:
        return RecordDict({"arrays": record_of(model())})

    strategy = SecAggStrategy(Fixed(make), clip=1.0, clips=CLIPS, max_weight=500)
    assert one_round(strategy, MemoryGrid(App(secagg_mod).app, 8), model()) is not None


def test_nobody_sampled_means_no_round() -> None:
    strategy = SecAggStrategy(averaging(fraction_train=0.0), clip=1.0, max_weight=1)
    grid = MemoryGrid(App(secagg_mod).app, 8)
    assert one_round(strategy, grid, model()) is None
    assert not grid.sent


def test_too_few_nodes_are_refused_with_what_to_change() -> None:
    strategy = SecAggStrategy(FedAvg(), clip=1.0, clips=CLIPS, max_weight=1)
    with pytest.raises(ParameterError, match=r"clients = 2.*min_train_nodes"):
        one_round(strategy, MemoryGrid(App(secagg_mod).app, 2), model())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clips": {"*.nothing": 1.0}}, r"\*\.nothing.*matches no array"),
        ({"clips": {"*.batches": -1.0}}, "norm.batches"),
        ({"clip": -1.0}, "clip"),
        ({"bits": 99}, "bits"),
        ({"max_weight": 0}, "max_weight"),
        ({"threat_model": "active", "run_config": {}}, "cohort"),
        ({"gamma": 0.5, "delta": 0.5}, "gamma"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], says: str) -> None:
    """When the strategy is made, or in its first round, where the model and the nodes are known."""

    def wrapped_round() -> None:
        strategy = SecAggStrategy(averaging(), **({"clip": 1.0, "max_weight": 500} | options))
        one_round(strategy, MemoryGrid(App(secagg_mod).app, 8), model())

    with pytest.raises(ParameterError, match=says):
        wrapped_round()


def test_a_threat_model_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(ParameterError, match="threat model 'paranoid': must be one of semi_honest, active"):
        SecAggStrategy(averaging(), clip=1.0, max_weight=500, threat_model="paranoid")


@pytest.mark.parametrize("phase", ["MASK", "advertise", "COMPUTE"])
def test_timeouts_are_those_of_phases_that_the_wrapper_runs(phase: str) -> None:
    with pytest.raises(
        ParameterError, match=f"timeout: '{phase}' is none of ADVERTISE, SHARE, COMPLAIN, ANSWER, CONFIRM, UNMASK"
    ):
        SecAggStrategy(averaging(), clip=1.0, max_weight=1, timeout={phase: 1.0})


def test_messages_are_the_wrapped_strategys_own() -> None:
    """Nothing is added to a content that the strategy shares among its nodes, and types and timeouts are kept."""

    class Actions(FedAvg):
        made: list[Message]

        def configure_train(self, *args: Any) -> list[Message]:
            self.made = list(super().configure_train(*args))
            return self.made

    wrapped = Actions(**NODES)
    strategy = SecAggStrategy(
        wrapped, clip=1.0, clips=CLIPS, max_weight=500, timeout={"ADVERTISE": 3.0, "SHARE": 4.0, "UNMASK": 5.0}
    )
    grid = MemoryGrid(App(secagg_mod).app, 8)
    strategy.start(grid, record_of(model()), num_rounds=1, timeout=77.0)
    assert sorted(wrapped.made[0].content) == ["arrays", "config"]
    assert len({id(message.content) for _, message in grid.sent if message.metadata.message_type == "train"}) == 32
    assert grid.timeouts == [
        ("ADVERTISE", 3.0), ("SHARE", 4.0), ("MASK", 77.0), ("UNMASK", 5.0), ("evaluate", 77.0),
    ]  # fmt: skip
