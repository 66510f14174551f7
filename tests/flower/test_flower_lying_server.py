"""Servers that set a round up so that what a client does tells of its data, or so that two sums give one client's away.

The lies are configurations, which an honest operator can also stumble into; what a lying server reads is the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from secagg import LayoutPolicy, RoundConfig
from secagg.adapters.flower import SecAggMod, SecAggStrategy, secagg_mod
from secagg.adapters.flower.announcement import Announcement
from secagg.adapters.flower.records import RECORD
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, model, record_of, trained, weight_of
from tests.support.flower_setup import ODD, assert_mean, make, one_round, others, secure, with_node_config

UPDATES = {node: trained(model(), node) for node in range(101, 109)}


def distance_to_one(mean: Arrays) -> float:
    """How far the model is from the nearest single client's: about 0 when the sum has given one away."""
    return min(float(np.abs(mean["layer.weight"] - update["layer.weight"]).max()) for update in UPDATES.values())


# Who takes part must not depend on data.


def test_max_weight_is_no_filter_on_weights() -> None:
    """A largest weight that all but one client exceed leaves all of them in the sum, clamped."""
    smallest = min(UPDATES, key=weight_of)
    limit = weight_of(smallest)
    assert sum(weight_of(node) <= limit for node in UPDATES) == 1
    strategy, grid = secure(max_weight=limit), MemoryGrid(App(secagg_mod).app, 8)
    mean = one_round(strategy, grid, model())
    assert mean is not None
    assert distance_to_one(mean) > 0.1
    expected = np.mean([update["layer.weight"] for update in UPDATES.values()], axis=0)
    assert np.abs(mean["layer.weight"] - expected).max() <= strategy.reports[1].error_bound + 1e-6
    assert strategy.reports[1].contributors == 8
    assert strategy.reports[1].clipped >= 7


def test_a_clip_of_integers_is_no_filter_on_counters() -> None:
    """A clip that the counters of all but one client exceed clips them, and leaves the clients in the sum."""
    steps = {node: int(update["norm.batches"]) - 1000 for node, update in UPDATES.items()}
    clip = sorted(steps.values())[0] + 1.0
    strategy, grid = secure(clips={"*.batches": clip}), MemoryGrid(App(secagg_mod).app, 8)
    mean = one_round(strategy, grid, model())
    assert mean is not None
    assert distance_to_one(mean) > 0.1
    assert strategy.reports[1].contributors == 8
    weights = [weight_of(node) for node in UPDATES]
    expected = 1000 + np.average([min(step, clip) for step in steps.values()], weights=weights)
    assert abs(mean["norm.batches"] - expected) <= strategy.reports[1].error_bounds["norm.batches"]


@pytest.mark.parametrize("least", [None, 0.5])
def test_a_clip_that_all_but_one_client_exceed_is_for_the_policy(least: float | None) -> None:
    """A value that is cut is -clip or clip, so that a sum of such values tells of the one that is not cut.

    Of 7 clients whose changes are above the clip nothing is left but signs, which the sum modulo twice the clip is rid
    of.  Clamping keeps the number of clients in the sum, not what is known of each: a node's own ``min_clip`` does.
    """
    size, clip = 1000, 0.004

    def change(node: int) -> Arrays:
        return {"w": np.random.default_rng(node).normal(0, 0.001 if node == ODD else 1.0, size)}

    def train(message: Message, context: Any) -> Message:
        metrics = MetricRecord({"num-examples": weight_of(context.node_id)})
        return Message(RecordDict({"a": record_of(change(context.node_id)), "m": metrics}), reply_to=message)

    mod = secagg_mod if least is None else SecAggMod(layout_policy=LayoutPolicy(min_clip=least))
    strategy, grid = secure(clip=clip, clips={}, max_weight=1), MemoryGrid(App(mod, train=train).app, 8)
    mean = one_round(strategy, grid, {"w": np.zeros(size)})
    if least is not None:
        assert mean is None
        assert {phase for phase, _ in grid.replies} == {"ADVERTISE"}
        return
    assert mean is not None
    assert strategy.reports[1].contributors == 8
    taken = (8 * mean["w"] + 8 * clip) % (2 * clip) - clip  # seven signs, each worth clip, are an odd number of them
    assert np.mean(np.abs(taken - change(ODD)["w"]) < 1e-5) > 0.9
    assert strategy.reports[1].clipped > 0.99 * 7 * size, "the count says that the clip was chosen well"


def by_metric(value: Callable[[int], float]) -> Callable[[Message, Any], Message]:
    """Training with a further metric, ``score``."""

    def train(message: Message, context: Any) -> Message:
        reply = App().ordinary(message, context)
        reply.content.metric_records["metrics"]["score"] = value(context.node_id)
        return reply

    return train


def strategy_by_score(**options: Any) -> SecAggStrategy:
    strategy = secure(**options)
    strategy._asked_terms.terms = msgspec.structs.replace(strategy._asked_terms.terms, weighted_by="score")
    return strategy


def test_the_weight_is_no_filter_by_another_metric(caplog: pytest.LogCaptureFixture) -> None:
    """A metric that is a weight for one client alone: clients say beforehand by what they may be weighed."""
    app = App(secagg_mod, train=by_metric(lambda node: 5 if node == ODD else -1))
    strategy, grid = strategy_by_score(), MemoryGrid(app.app, 8)
    assert one_round(strategy, grid, model()) is None
    assert app.trained == [], "refused before anybody trained"
    assert {phase for phase, _ in grid.replies} == {"ADVERTISE"}
    assert "weights updates by 'score'; this client's policy allows num-examples" in caplog.text


def test_a_mean_of_too_few_contributors_is_not_given_out() -> None:
    """Where nodes allow the metric, the contributors in the sum keep an honest server from the mean of one."""
    mod = SecAggMod(layout_policy=LayoutPolicy(weighted_by=frozenset({"score"})))
    app = App(mod, train=by_metric(lambda node: 5 if node == ODD else -1))
    strategy, grid = strategy_by_score(), MemoryGrid(app.app, 8)
    assert one_round(strategy, grid, model()) is None
    report = strategy.reports[1]
    assert report.dropped == {}, "a weight below 0 counts as 0, and its client stays"
    assert "1 of the 8 clients in the sum have a weight above 0" in report.failure


def test_a_model_that_makes_the_others_diverge_gives_no_sum() -> None:
    """Whose update is not finite leaves, and counts as lost: with zeros in its place the sum would be one client's."""

    def train(message: Message, context: Any) -> Message:
        reply = App().ordinary(message, context)
        if context.node_id != ODD:
            arrays = arrays_of(reply.content.array_records["arrays"])
            reply.content["arrays"] = record_of(arrays | {"layer.bias": np.full(5, np.nan)})
        return reply

    strategy, grid = secure(), MemoryGrid(App(secagg_mod, train=train).app, 8)
    assert one_round(strategy, grid, model()) is None
    assert "UNMASK" not in {phase for phase, _ in grid.replies}, "no share has left"
    assert len(strategy.reports[1].dropped["MASK"]) == 7
    assert "their update is not finite because training has diverged" in strategy.reports[1].failure


def test_a_model_that_is_not_finite_is_trained_by_nobody() -> None:
    """The honest wrapper refuses to start; a client refuses the model of a server that sends it all the same."""
    with pytest.raises(ValueError, match=r"layer\.bias holds a NaN or an infinity in the model"):
        one_round(secure(), MemoryGrid(App(secagg_mod).app, 8), model() | {"layer.bias": np.full(5, np.inf)})


# What a server sets is checked before anything leaves.


def config_with(**changes: Any) -> Callable[[SecAggStrategy], None]:
    """A server whose round's config is another than the layout asks for."""

    def lie(strategy: SecAggStrategy) -> None:
        ordinary = strategy._config
        strategy._config = lambda codec, invited: altered(ordinary(codec, invited), changes)  # type: ignore[method-assign]

    return lie


def altered(config: RoundConfig, changes: dict[str, Any]) -> RoundConfig:
    return config.replace(**{name: change(getattr(config, name)) for name, change in changes.items()})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"input_max": lambda most: most // 2}, "the round's input_max is 32767, and this encoder's elements reach"),
        ({"length": lambda length: length - 1}, "elements, this encoder's"),
        ({"length": lambda length: length + 1}, "elements, this encoder's"),
        ({"context": lambda context: bytes(32)}, "not those of this round's context"),
    ],
)
def test_a_config_that_does_not_fit_the_layout_is_refused_before_anybody_trains(
    changes: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a smaller input_max, say, who leaves in MASK would tell whose values are above it."""
    app = App(secagg_mod)
    strategy, grid = secure(), MemoryGrid(app.app, 8)
    config_with(**changes)(strategy)
    assert one_round(strategy, grid, model()) is None
    assert app.trained == []
    assert {phase for phase, _ in grid.replies} == {"ADVERTISE"}
    assert says in caplog.text


POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "max_weight 500; this client's policy allows 1000": ({"min_max_weight": 1000}, {}),
    "max_weight 500; this client's policy allows 1 to 400": ({"max_max_weight": 400}, {}),
    "clip 1.0; this client's policy allows 2.0": ({"min_clip": 2.0}, {}),
    "clip 500.0; this client's policy allows 1e-100 to 10.0": ({"max_clip": 10.0}, {}),
    "clip 0.001; this client's policy allows 0.5": ({"min_clip": 0.5}, {"clips": {"layer.bias": 0.001}}),
    "clip 0.002; this client's policy allows 0.5": ({"min_clip": 0.5}, {"metrics": {"loss": 0.002}}),
    "bits 16; this client's policy allows 20 to 32": ({"min_bits": 20}, {}),
    "bits 16; this client's policy allows 2 to 12": ({"max_bits": 12}, {}),
    "bits 32; this client's policy allows 2 to 24": ({"max_bits": 24}, {}),
    "bits 4; this client's policy allows 8 to 32": (
        {"min_bits": 8},
        {"array_bits": {"layer.bias": 4}, "max_weight": 7},
    ),
    "by 'num-examples'; this client's policy allows a, b": ({"weighted_by": "b, a"}, {}),
    "asks for the whole model": ({}, {"difference": False}),
}


@pytest.mark.parametrize("says", POLICIES)
@pytest.mark.parametrize("where", ["node config", "mod"])
def test_a_node_bounds_what_a_server_may_set(says: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    policy, options = POLICIES[says]
    in_code = {name: frozenset({"a", "b"}) if name == "weighted_by" else value for name, value in policy.items()}
    app = App(SecAggMod(layout_policy=LayoutPolicy(**in_code)) if where == "mod" else secagg_mod)
    strategy, grid = secure(**options), MemoryGrid(app.app, 8)
    if where == "node config":
        for node in grid.nodes:
            with_node_config(grid, node, **policy)
    assert one_round(strategy, grid, model()) is None
    assert app.trained == []
    assert {phase for phase, _ in grid.replies} == {"ADVERTISE"}
    assert says in caplog.text
    assert "below their own policy" in strategy.reports[1].failure


def test_the_nodes_config_goes_before_the_mods() -> None:
    app = App(SecAggMod(layout_policy=LayoutPolicy(min_max_weight=1000)))
    strategy, grid = secure(), MemoryGrid(app.app, 8)
    for node in others(grid):
        with_node_config(grid, node, min_max_weight=100)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))


ANNOUNCEMENTS: dict[str, Callable[[Announcement], bytes]] = {
    "nothing": lambda said: b"",
    "rubbish": lambda said: b"\xff\x00rubbish",
    "another model": lambda said: msgspec.structs.replace(said, model=bytes(32)).to_bytes(),
    "another clip": lambda said: changed_terms(said, clip=4.0),
    "another weight": lambda said: changed_terms(said, weighted_by="loss"),
    "numbers that no encoder takes": lambda said: changed_terms(said, clip=float("nan"), bits=10**6, max_weight=-1),
    "a clip for no array": lambda said: changed_terms(said, clips={"x": 1.0}),
    "shapes beyond NumPy's": lambda said: msgspec.structs.replace(
        said, arrays=(("a", "float32", (2**50, 2**50)), ("b", "float32", (0,) * 99))
    ).to_bytes(),
    "negative shapes": lambda said: msgspec.structs.replace(said, arrays=(("a", "float32", (-1,)),)).to_bytes(),
    "an array twice": lambda said: msgspec.structs.replace(said, arrays=said.arrays * 2).to_bytes(),
}


def changed_terms(said: Announcement, **changes: Any) -> bytes:
    return msgspec.structs.replace(said, terms=msgspec.structs.replace(said.terms, **changes)).to_bytes()


@pytest.mark.parametrize(
    ("what", "bound"),
    [(what, bound) for what in ANNOUNCEMENTS for bound in (False, True) if (what, bound) != ("another clip", True)],
)
def test_an_announcement_that_is_no_honest_one(what: str, bound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client is told something else than the others, or all are, and the round's context holds it."""
    app = App(secagg_mod)
    strategy, grid = secure(), MemoryGrid(app.app, 8)

    def tamper(phase: str, message: Message) -> Message:
        if phase == "ADVERTISE" and message.metadata.dst_node_id == ODD:
            record = message.content.config_records[RECORD]
            record["announcement"] = ANNOUNCEMENTS[what](Announcement.from_bytes(bytes(record["announcement"])))
        return message

    if not bound:
        grid.tamper_in = tamper
        assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
        assert ODD not in app.trained
        return
    honest = Announcement.to_bytes

    def lie(said: Announcement) -> bytes:
        monkeypatch.setattr(Announcement, "to_bytes", honest)
        lied = ANNOUNCEMENTS[what](said)
        monkeypatch.setattr(Announcement, "to_bytes", lie)
        return lied

    monkeypatch.setattr(Announcement, "to_bytes", lie)
    assert one_round(strategy, grid, model()) is None
    assert all(not reply.has_error() or "decode" in reply.error.reason for _, reply in grid.replies)
    assert app.trained == []


# Two sums must not give one client's update.


def fake_abort(grid: MemoryGrid) -> None:
    """The server has the answers to UNMASK, and says that it never got them."""
    grid.mute = {("UNMASK", node) for node in grid.nodes}


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_a_fake_abort_gives_no_second_sum(threat_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A server opens a sum in secret, tells of an abort, and invites again without one member, to subtract."""
    strategy, grid = make(threat_model, tmp_path)
    fake_abort(grid)
    assert one_round(strategy, grid, model()) is None
    assert "When a round failed in UNMASK" in strategy.reports[1].failure
    grid.mute, grid.replies = set(), []
    again, _ = make(threat_model, tmp_path) if threat_model == "semi_honest" else (strategy, None)
    grid.deaf = {(phase, ODD) for phase in ("ADVERTISE", "SHARE", "MASK", "CONFIRM", "UNMASK")}
    assert one_round(again, grid, model()) is None
    assert {phase for phase, _ in grid.replies} == {"ADVERTISE"}
    assert all("secagg-again=true" in reply.error.reason for _, reply in grid.replies)
    assert "has answered UNMASK for this very model before" in caplog.text


def test_another_layout_is_no_way_around() -> None:
    """A clip that is moved by a hair has the same training summed."""
    grid = MemoryGrid(App(secagg_mod).app, 8)
    fake_abort(grid)
    assert one_round(secure(), grid, model()) is None
    grid.mute = set()
    assert one_round(secure(clip=1.0000001), grid, model()) is None


def test_a_round_that_fails_before_unmask_may_be_tried_again(tmp_path: Path) -> None:
    strategy, grid = make("active", tmp_path)
    for phase in ("SHARE", "MASK", "CONFIRM"):
        grid.mute = {(phase, node) for node in grid.nodes[:6]}
        assert one_round(strategy, grid, model()) is None
    grid.mute = set()
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_training_goes_on_round_after_round(threat_model: str, tmp_path: Path) -> None:
    """The model changes, so that no round is taken for the one before."""
    strategy, grid = make(threat_model, tmp_path)
    strategy.start(grid, record_of(model()), num_rounds=4)
    assert [len(strategy.reports[number].included) for number in (1, 2, 3, 4)] == [8, 8, 8, 8]


def test_the_owner_of_a_node_may_let_a_model_be_summed_again() -> None:
    strategy, grid = secure(), MemoryGrid(App(secagg_mod).app, 8)
    for node in others(grid):
        with_node_config(grid, node, again=True)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))


def test_released_inputs_outlive_a_context(tmp_path: Path) -> None:
    """Another run, or a context that is put back, finds them in the file of used tokens."""
    mod = SecAggMod(tokens=lambda context: tmp_path / f"{context.node_id}.sqlite")
    grid = MemoryGrid(App(mod).app, 8)
    contexts = dict(grid.contexts)
    assert one_round(secure(), grid, model()) is not None
    grid.contexts = contexts
    assert one_round(secure(), grid, model()) is None
    grid.contexts = contexts
    assert one_round(secure(), grid, model(seed=1)) is not None


@pytest.mark.parametrize("late", ["MASK", "UNMASK"])
def test_of_two_rounds_at_once_one_alone_is_opened(late: str, tmp_path: Path) -> None:
    """Two runs of one model: nodes join both before they have answered UNMASK in either."""
    mod = SecAggMod(tokens=lambda context: tmp_path / f"{context.node_id}.sqlite")
    first, second = MemoryGrid(App(mod).app, 8), MemoryGrid(App(mod).app, 8)

    def run_the_second(phase: str, message: Message) -> Message:
        if phase == late and (late, 108) not in done:
            done.add((late, 108))
            assert one_round(secure(), second, model()) is not None
        return message

    done: set[tuple[str, int]] = set()
    first.tamper_in = run_the_second
    strategy = secure()
    assert one_round(strategy, first, model()) is None
    assert len(strategy.reports[1].dropped[late]) == 8


# Answers in clear.


@pytest.mark.parametrize("kind", ["evaluate", "query"])
def test_in_active_evaluation_is_no_oracle(kind: str, tmp_path: Path) -> None:
    """Losses at models of the server's choice give a client's data; any number of them may be asked for."""
    _, grid = make("active", tmp_path)
    content = RecordDict({"arrays": record_of(model()), "config": ConfigRecord({"a": 1})})
    reply = grid.deliver(kind, Message(content, dst_node_id=ODD, message_type=kind))
    assert reply is not None
    assert reply.has_error()
    assert "secagg-evaluate=true" in reply.error.reason


@pytest.mark.parametrize(
    ("in_mod", "in_node", "passes"),
    [(None, True, True), (True, None, True), (True, False, False), (False, True, True), (False, None, False)],
)
@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_evaluation_is_the_nodes_choice(
    threat_model: str, in_mod: bool | None, in_node: bool | None, passes: bool, tmp_path: Path
) -> None:
    _, grid = make("active", tmp_path)
    identity = (lambda context: tmp_path / f"{context.node_id}.json") if threat_model == "active" else None
    grid.app = App(SecAggMod(evaluate=in_mod, identity=identity)).app
    if in_node is not None:
        with_node_config(grid, ODD, evaluate=in_node)
    message = Message(RecordDict({"arrays": record_of(model())}), dst_node_id=ODD, message_type="evaluate")
    reply = grid.deliver("evaluate", message)
    assert reply is not None
    assert reply.has_error() is not passes


def test_the_server_is_told_that_active_nodes_refuse_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = make("active", tmp_path)
    result = strategy.start(grid, record_of(model()), num_rounds=2)
    assert not result.evaluate_metrics_clientapp.get(1)
    assert caplog.text.count("nodes refuse evaluation unless") == 1


# Metrics are summed beside the model.


def test_metrics_are_summed_with_the_model() -> None:
    """Their weighted means are what FedAvg makes of them in clear, and nobody's own are seen."""
    strategy, grid = secure(metrics={"loss": 200.0}, bits=24), MemoryGrid(App(secagg_mod).app, 8)
    messages = strategy.configure_train(1, record_of(model()), ConfigRecord(), grid)
    mean, metrics = strategy.aggregate_train(1, grid.send_and_receive(messages))
    assert mean is not None
    assert metrics is not None
    nodes = grid.nodes
    expected = np.average([0.25 + node for node in nodes], weights=[weight_of(node) for node in nodes])
    report = strategy.reports[1]
    assert metrics["loss"] == report.metrics["loss"]
    assert abs(report.metrics["loss"] - expected) <= report.error_bounds["loss"] < 0.001
    assert_mean(strategy, arrays_of(mean), model(), nodes)
    assert all(list(reply.content) == [RECORD] for _, reply in grid.replies)


def test_metrics_come_out_of_start() -> None:
    strategy, grid = (
        secure(metrics={"loss": 200.0, "correct": 1.0}, max_weight=None),
        MemoryGrid(App(secagg_mod, train=by_correct).app, 8),
    )
    result = strategy.start(grid, record_of(model()), num_rounds=2)
    assert abs(result.train_metrics_clientapp[2]["correct"] - 0.5) < 1e-3
    assert abs(result.train_metrics_clientapp[1]["loss"] - 104.75) < 0.1


def by_correct(message: Message, context: Any) -> Message:
    reply = App().ordinary(message, context)
    reply.content.metric_records["metrics"]["correct"] = context.node_id % 2
    return reply


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, 2.0], None])
def test_a_client_whose_metric_cannot_be_summed_leaves(value: Any) -> None:
    def train(message: Message, context: Any) -> Message:
        reply = App().ordinary(message, context)
        if context.node_id == ODD:
            fields = {"num-examples": 10, "loss": value}
            reply.content["metrics"] = MetricRecord({k: v for k, v in fields.items() if v is not None})
        return reply

    strategy, grid = secure(metrics={"loss": 200.0}), MemoryGrid(App(secagg_mod, train=train).app, 8)
    assert_mean(strategy, one_round(strategy, grid, model()), model(), others(grid))
    assert strategy.reports[1].dropped == {"MASK": (2,)}


def test_a_metric_beyond_its_clip_is_clipped() -> None:
    strategy, grid = secure(metrics={"loss": 104.25}), MemoryGrid(App(secagg_mod).app, 8)
    assert one_round(strategy, grid, model()) is not None
    assert strategy.reports[1].clipped == 4


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"num-examples": 1.0}, "'num-examples' is the weight"),
        ({"loss": 0.0}, r"the clip of metric loss is 0\.0"),
        ({"loss": float("nan")}, "the clip of metric loss is nan"),
    ],
)
def test_metrics_that_cannot_be_summed_are_refused(metrics: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        one_round(secure(metrics=metrics), MemoryGrid(App(secagg_mod).app, 8), model())
