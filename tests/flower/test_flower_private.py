"""Private trainings: the mean with its noise, what nodes ask for, budgets on both sides, a clip that adapts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp.strategy import FedAvg

from secagg import Client, LayoutPolicy, Modulus, ParameterError, RoundConfig
from secagg.adapters.flower import SecAggMod, SecAggStrategy, secagg_mod
from secagg.adapters.flower.announcement import Announcement, UpdateTerms
from secagg.adapters.flower.codec import Codec
from secagg.privacy import AdaptiveClip, Privacy
from secagg.privacy.budget import Budget
from secagg.privacy.calibration import InfeasibleError
from tests.support.flower_grid import App, Arrays, MemoryGrid, arrays_of, record_of
from tests.support.flower_private import (
    FLOATS,
    LOOSE,
    NODES,
    STRICT,
    announce,
    check_mean,
    clipped,
    model,
    private,
    refuses,
    terms_said,
    train,
    trained,
    varied,
    with_terms,
)
from tests.support.flower_setup import ODD, PHASES, averaging, one_round, others, with_node_config

ASKING = {"max_epsilon": 6.0, "max_delta": 1e-6}


def spent(path: Path) -> int:
    budget = Budget(path)
    rounds = budget.spent().rounds
    budget.close()
    return rounds


# What works.


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_a_private_round_gives_the_mean_of_the_shortened_updates(threat_model: str, tmp_path: Path) -> None:
    strategy, grid = private(directory=tmp_path if threat_model == "active" else None)
    mean = one_round(strategy, grid, model())
    check_mean(strategy, mean, grid.nodes)
    assert list(dict.fromkeys(phase for phase, _ in grid.replies)) == PHASES[threat_model]
    report = strategy.reports[1]
    assert report.privacy is not None
    assert report.privacy.is_kept
    assert report.privacy.reached_epsilon < report.privacy.promised_epsilon <= 3000.0
    assert (report.privacy.contributors, report.privacy.colluders) == (8, 1)
    assert report.total_weight == report.contributors == 8, "all clients weigh alike"
    assert report.error_bound == math.inf
    assert 0 < report.noise < 0.01
    assert report.clip_state is None


def test_a_strict_promise_has_the_noise_that_it_says() -> None:
    strategy, grid = private(STRICT)
    mean = one_round(strategy, grid, model())
    assert mean is not None
    report = strategy.reports[1]
    assert report.privacy is not None
    assert report.privacy.promised_epsilon == pytest.approx(6.0, abs=0.02)
    off = np.concatenate(
        [
            (mean[name] - model()[name] - np.mean([clipped(node)[name] for node in grid.nodes], axis=0)).reshape(-1)
            for name in FLOATS
        ]
    )
    assert 0.5 < np.std(off) / report.noise < 1.7, "43 values of one standard deviation"


def test_those_that_are_lost_take_their_noise_with_them() -> None:
    strategy, grid = private(STRICT)
    grid.deaf = {("MASK", ODD), ("MASK", ODD + 1)}
    one_round(strategy, grid, model())
    report = strategy.reports[1]
    assert report.privacy is not None
    assert report.privacy.contributors == 6
    assert report.privacy.promised_honest == 5, "8 invited, 2 of them lost, 1 of the others a colluder"
    assert report.privacy.reached_epsilon == pytest.approx(report.privacy.promised_epsilon)


def test_weights_are_bounded_and_have_noise() -> None:
    strategy, grid = private(LOOSE, max_weight=20)
    mean = one_round(strategy, grid, model())
    report = strategy.reports[1]
    assert mean is not None
    weights = [10 + node % 7 for node in grid.nodes]
    assert report.total_weight == pytest.approx(sum(weights), rel=0.2)
    kept = math.sqrt(15 / 16)  # what the weight's coordinate leaves of the clip
    for name in FLOATS:
        each = [clipped(node, 0.5 * kept)[name] for node in grid.nodes]
        expected = model()[name] + np.average(each, axis=0, weights=weights)
        assert np.abs(mean[name] - expected).max() < 6 * report.noise + 0.02


def test_a_clip_that_adapts_goes_where_half_of_the_norms_are() -> None:
    """The norms are 0.1 to 1.5, so that the clip rises from 0.05 up to where about half of them are below it."""
    adaptive = AdaptiveClip(learning_rate=0.5)
    strategy, grid = private(Privacy(epsilon=2000.0, delta=1e-6, clip=0.05, bits=24, rounds=60, adaptive=adaptive))
    said = []
    for server_round in range(1, 16):
        assert trained(strategy, grid, server_round) == grid.nodes
        said.append(terms_said(grid))
        state = strategy.reports[server_round].clip_state
        assert state is not None
        assert state.rounds == server_round
    clips = [terms.update_clip for terms in said]
    assert clips[0] == 0.05 < clips[1]
    assert clips[1:] == [strategy.reports[number].clip_state.clip for number in range(1, 15)]  # type: ignore[union-attr]
    assert 0.4 < clips[-1] < 1.3
    assert len({terms.sum for terms in said}) == 1, "a budget is charged the same, wherever the clip has gone"


def test_arrays_of_whole_numbers_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = private()
    for server_round in (1, 2):
        trained(strategy, grid, server_round)
    said = [line for line in caplog.messages if "arrays of whole numbers are not summed in a private round" in line]
    assert len(said) == 1
    assert "'norm.batches', 'used'" in said[0]


def test_logs_say_what_is_promised_and_reached(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flwr.secagg")
    strategy, grid = private(STRICT)
    one_round(strategy, grid, model())
    for said in (
        "over 2 rounds, at the client level, with 5 honest clients or more in each sum; noise of",
        "this round is private: the noise in the sum is",  # each node, before it joins
        "at delta 1e-06 over 2 rounds, with 5 honest clients or more in each sum",
        "Reached: epsilon",
        "the update is longer than the clip 0.5 (L2 norm)",
    ):
        assert said in caplog.text


def test_a_plain_announcement_has_the_bytes_that_it_always_had() -> None:
    """A node of an older release reads it; one with terms of privacy it refuses, for it knows no such field."""
    terms = UpdateTerms(1.0, 16, None, {}, {}, {}, True, "num-examples", False)
    data = msgspec.msgpack.decode(Announcement.of(record_of(model()), terms, bytes(32)).to_bytes())
    assert "privacy" not in data["layout"]


def test_a_strategy_s_own_start_works_with_privacy() -> None:
    inner = FedAvg(min_train_nodes=NODES, min_available_nodes=NODES, fraction_evaluate=0.0)
    strategy = SecAggStrategy(inner, privacy=LOOSE)
    grid = MemoryGrid(App(secagg_mod, train=train).app, NODES)
    result = strategy.start(grid, initial_arrays=record_of(model()), num_rounds=2)
    assert [strategy.reports[number].failure for number in (1, 2)] == ["", ""]
    assert result.arrays is not None
    assert terms_said(grid).length == 43, "a counter that FedAvg makes a float of is not summed in the next round"
    assert result.arrays["norm.batches"].numpy().dtype == np.int64
    assert result.arrays["norm.batches"].numpy() == 1000


# What a server may not ask for.


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clip": 1.0}, r"clip is 1\.0, with privacy: the clip of a private round is the norm of a whole update"),
        ({"bits": 16}, "bits is 16, with privacy: the bits of a private round are those of its modulus"),
        ({"clips": {"layer.*": 1.0}}, "clips is .*, with privacy: a private round has one clip for all arrays"),
        ({"array_bits": {"layer.*": 12}}, "array_bits is .*, with privacy: a private round has one number of bits"),
        ({"metrics": {"loss": 10.0}}, "metrics is .*, with privacy: what is summed beside the update would take"),
        ({"privacy": 3.0}, r"privacy is 3\.0: give secagg\.privacy\.Privacy"),
        (
            {"privacy": Privacy(epsilon=1.0, delta=1e-6, clip=1.0, adaptive=AdaptiveClip()), "max_weight": 5},
            "max_weight is 5, and the clip is adaptive",
        ),
    ],
)
def test_options_that_a_private_round_has_no_use_for_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        SecAggStrategy(averaging(), **{"privacy": LOOSE} | options)


@pytest.mark.parametrize("options", [{}, {"clip": 1.0}, {"max_weight": 3}])
def test_without_privacy_clip_and_weight_are_still_asked_for(options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=r"is missing: give clip=\.\.\. and max_weight=\.\.\., of"):
        SecAggStrategy(averaging(), **options)


def test_a_model_without_floats_cannot_be_summed_privately() -> None:
    strategy, grid = private()
    with pytest.raises(ValueError, match="the model has no array of floats"):
        one_round(strategy, grid, {"counts": np.arange(4)})


def test_a_promise_that_no_noise_keeps_says_what_would_do() -> None:
    strategy, grid = private(Privacy(epsilon=0.1, delta=1e-6, clip=1.0, rounds=10_000, bits=8))
    with pytest.raises(InfeasibleError, match=r"use [0-9]+ bits or more"):
        one_round(strategy, grid, model())
    assert grid.sent == []


def test_a_cohort_without_colluders_is_refused() -> None:
    strategy, grid = private(gamma=0.0)
    with pytest.raises(ParameterError, match="colluders is 0: a private round must count on 1 or more"):
        one_round(strategy, grid, model())
    assert grid.sent == []


@pytest.mark.parametrize("change", [lambda a: a.pop("layer.bias"), lambda a: a.update(more=np.zeros(3))])
def test_a_reply_with_other_arrays_than_the_model_leaves_its_client_out(change: Callable[[Arrays], Any]) -> None:
    def wrong(message: Message, context: Any) -> Message:
        reply = train(message, context)
        if context.node_id == ODD:
            arrays = arrays_of(reply.content.array_records["arrays"])
            change(arrays)
            reply.content["arrays"] = record_of(arrays)
        return reply

    strategy, _ = private()
    grid = MemoryGrid(App(secagg_mod, train=wrong).app, NODES)
    check_mean(strategy, one_round(strategy, grid, model()), others(grid))


# What a node asks for.


POLICIES: dict[str, dict[str, Any]] = {
    "over all of its rounds; this client's policy allows 3": {"max_epsilon": 3.0, "max_delta": 1e-6},
    "at delta 1e-09 over all of its rounds; this client's policy allows 6": {"max_epsilon": 6.0, "max_delta": 1e-9},
    "this client's policy allows 50 or more": {"min_noise_multiplier": 50.0},
    "has clip 0.5; this client's policy allows 1e-100 to 0.1": {"max_clip": 0.1},
}


@pytest.mark.parametrize("says", POLICIES)
@pytest.mark.parametrize("where", ["node config", "mod"])
def test_a_node_bounds_what_a_round_may_cost(says: str, where: str, caplog: pytest.LogCaptureFixture) -> None:
    policy = POLICIES[says]
    mod = SecAggMod(layout_policy=LayoutPolicy(**policy)) if where == "mod" else secagg_mod
    strategy, grid = private(STRICT, mod=mod)
    if where == "node config":
        for node in grid.nodes:
            with_node_config(grid, node, **policy)
    refuses(strategy, grid, says, caplog)


@pytest.mark.parametrize("asked", [{"private": True}, ASKING, {"min_noise_multiplier": 0.1}])
def test_a_node_that_asks_for_noise_takes_no_round_without(
    asked: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    strategy = SecAggStrategy(averaging(), clip=1.0, max_weight=None)
    grid = MemoryGrid(App(SecAggMod(layout_policy=LayoutPolicy(**asked)), train=train).app, NODES)
    refuses(strategy, grid, "has no noise; this client's policy allows private rounds alone", caplog)


def test_nodes_that_ask_for_what_is_promised_take_part(tmp_path: Path) -> None:
    strategy, grid = private(STRICT)
    for node in grid.nodes:
        path = str(tmp_path / f"{node}.budget")
        with_node_config(grid, node, private=True, min_noise_multiplier=0.5, budget=path, **ASKING)
    assert one_round(strategy, grid, model()) is not None
    for node in grid.nodes:
        budget = Budget(tmp_path / f"{node}.budget")
        assert (budget.spent().limit, budget.spent().delta, budget.spent().rounds) == (6.0, 1e-6, 1)
        assert budget.rounds_left(terms_said(grid).sum) == 1
        budget.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"max_epsilon": "3", "max_delta": 1e-6}, "node config secagg-max-epsilon is '3': give a number"),
        ({"max_epsilon": 3.0}, "a layout policy with max_epsilon 3.0 and max_delta None"),
        ({"private": 1}, "node config secagg-private is 1: give true or false"),
        ({"budget": 7}, "node config secagg-budget is 7: give the path of a file"),
    ],
)
def test_a_node_config_that_cannot_be_used_lets_nothing_leave(changes: dict[str, Any], says: str) -> None:
    strategy, grid = private(STRICT)
    with_node_config(grid, ODD, **changes)
    one_round(strategy, grid, model())
    (reply,) = [reply for _, reply in grid.replies if reply.metadata.src_node_id == ODD]
    assert says in reply.error.reason


@pytest.mark.parametrize("asked", [{"private": True}, ASKING, {"min_noise_multiplier": 1.0}, {"budget": "b"}, {}])
@pytest.mark.parametrize("kind", [MessageType.EVALUATE, MessageType.QUERY])
def test_a_node_that_asks_for_private_rounds_answers_nothing_in_clear(asked: dict[str, Any], kind: str) -> None:
    grid = MemoryGrid(App(secagg_mod).app, 2)
    with_node_config(grid, 101, **asked)
    message = Message(RecordDict(), dst_node_id=101, message_type=kind)
    assert grid.run(message).has_error() == bool(asked)
    with_node_config(grid, 101, evaluate=True)
    assert not grid.run(message).has_error(), "unless its owner says so"


def test_a_strategy_warns_of_evaluation(caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = private()
    for server_round in (1, 2):
        strategy.configure_evaluate(server_round, record_of(model()), ConfigRecord(), grid)
    assert caplog.text.count("answers to evaluation leave nodes in clear, and no noise hides what they say") == 1


# Servers that lie.


@pytest.mark.parametrize("asks", [False, True], ids=["any node", "a node that asks for an epsilon"])
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"honest": 6}, "sized for 6 honest clients, and a sum of this round may have as few as 5: max(min_survivors"),
        ({"honest": 2**30}, "sized for 1073741824 honest clients, and a sum of this round may have as few as 5"),
        ({"bits": 19}, "modulus 2^18: a private round counts modulo 2^19 and nothing else"),
        ({"length": 44}, "the mechanism is for 44 coordinates, and this layout has 43"),
        ({"rounding_failure": 0.999}, "has rounding_failure 0.999; clients allow 0 to"),
    ],
)
def test_terms_that_the_round_does_not_keep_are_refused_by_every_node(
    changes: dict[str, Any], says: str, asks: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = LayoutPolicy(max_epsilon=100.0, max_delta=1e-6) if asks else LayoutPolicy()
    strategy, grid = private(STRICT, mod=SecAggMod(layout_policy=policy))
    announce(monkeypatch, with_terms(**changes))
    refuses(strategy, grid, says, caplog)


@pytest.mark.parametrize("changes", [{"variance": 1000}, {"rounds": 50}, {"sampling_rate": 0.01, "rounds": 200}])
def test_less_noise_than_a_node_asks_for_is_refused_by_its_own_count(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = private(STRICT, mod=SecAggMod(layout_policy=LayoutPolicy(max_epsilon=6.0, max_delta=1e-6)))
    announce(monkeypatch, with_terms(**changes))
    refuses(strategy, grid, "costs an epsilon of", caplog)


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        (lambda terms: msgspec.structs.replace(terms, metrics={"loss": 1.0}), "one number of bits, and no metrics"),
        (lambda terms: msgspec.structs.replace(terms, clips={"layer.bias": 1.0}), "one clip for all arrays"),
        (lambda terms: msgspec.structs.replace(terms, clip=0.1), "clip and bits are 0.1 and 18, and those of the"),
    ],
)
def test_a_private_announcement_says_nothing_else_than_its_terms(
    lie: Callable[[UpdateTerms], UpdateTerms],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    strategy, grid = private(STRICT)
    announce(monkeypatch, lie)
    refuses(strategy, grid, says, caplog)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"modulus": Modulus.ring(19), "input_max": 2**19 - 1},
            "modulus 2^19: a private round counts modulo 2^18 and nothing else",
        ),
        (
            {"modulus": Modulus.ring(24), "input_max": 2**18 - 1},
            "modulus 2^24: a private round counts modulo 2^18 and nothing else",
        ),
        ({"min_survivors": 5}, "sized for 5 honest clients, and a sum of this round may have as few as 4"),
        ({"context": bytes(32)}, "the announced model and layout are not those of this round's context"),
    ],
)
def test_a_config_that_breaks_the_promise_is_refused_by_every_node(
    changes: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = private(STRICT)
    ordinary = strategy._config

    def lie(codec: Codec, invited: int) -> RoundConfig:
        return ordinary(codec, invited).replace(**changes)

    strategy._config = lie  # type: ignore[method-assign]
    refuses(strategy, grid, says, caplog)


# Budgets.


def test_a_server_that_asks_again_beyond_a_node_s_budget_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = private(STRICT)
    with_node_config(grid, ODD, budget=str(tmp_path / "odd.budget"), **ASKING)
    for server_round in (1, 2):
        assert trained(strategy, grid, server_round) == grid.nodes
    assert trained(strategy, grid, 3) == others(grid)
    assert "with this round epsilon would be" in caplog.text
    (reply,) = [answer for phase, answer in grid.replies if phase == "ADVERTISE" and answer.has_error()]
    assert "this client's privacy budget does not allow this round" in reply.error.reason
    assert "epsilon" not in reply.error.reason, "the budget's numbers stay with the node"


def test_a_node_that_dies_between_charge_and_start_has_paid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its context is as before, so that it would answer the same invitation again: it does not, and pays once."""
    strategy, grid = private(STRICT)
    path = tmp_path / "odd.budget"
    with_node_config(grid, ODD, budget=str(path), **ASKING)
    start, before = Client.start, dict(grid.contexts)
    died: list[int] = []
    invitations: list[Message] = []

    def dies(client: Client) -> bytes:
        if path.exists() and not died:
            died.append(spent(path))
            raise MemoryError("killed")
        return start(client)

    def keep(phase: str, message: Message) -> Message:
        if phase == "ADVERTISE" and message.metadata.dst_node_id == ODD:
            invitations.append(message)
        return message

    monkeypatch.setattr(Client, "start", dies)
    grid.tamper_in = keep
    assert trained(strategy, grid, 1) == others(grid)
    assert died == [1], "charged before anything was made that can leave"
    grid.contexts[ODD] = before[ODD]
    answer = grid.run(invitations[0])
    assert "this client's privacy budget does not allow this round" in answer.error.reason
    assert spent(path) == 1


def test_the_server_charges_before_it_invites_and_stops_in_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "server.budget"
    strategy, grid = private(Privacy(epsilon=6.0, delta=1e-6, clip=0.5, rounds=2, bits=18, budget=path))
    seen: list[int] = []

    def look(phase: str, message: Message) -> Message:
        if phase == "ADVERTISE":
            seen.append(spent(path))
        return message

    grid.tamper_in = look
    for server_round in (1, 2):
        assert trained(strategy, grid, server_round) == grid.nodes
    assert seen == [1] * NODES + [2] * NODES
    sent = len(grid.sent)
    assert list(strategy.configure_train(3, record_of(varied(3)), ConfigRecord(), grid)) == []
    assert strategy.aggregate_train(3, []) == (None, None)
    assert len(grid.sent) == sent, "nobody is invited"
    assert "with this round epsilon would be" in strategy.reports[3].failure
    assert "round 3 is not begun, and nobody is invited" in caplog.text
    assert spent(path) == 2


def test_a_round_without_a_mean_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "server.budget"
    strategy, grid = private(Privacy(epsilon=6.0, delta=1e-6, clip=0.5, rounds=2, bits=18, budget=path))
    grid.mute = {("MASK", node) for node in grid.nodes}
    assert one_round(strategy, grid, model()) is None
    assert spent(path) == 0


def test_a_budget_of_another_promise_is_refused_when_the_strategy_is_made(tmp_path: Path) -> None:
    Budget(tmp_path / "b", epsilon=3.0, delta=1e-6).close()
    with pytest.raises(ParameterError, match="this budget has epsilon"):
        private(Privacy(epsilon=6.0, delta=1e-6, clip=0.5, budget=tmp_path / "b"))
