"""What a site does by itself: its own config, its suspended round, and what it keeps from leaving in clear."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.executor import Executor
from nvflare.apis.filter import ContentBlockedException
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

from secagg.adapters.nvflare import SecAggDataFilter, SecAggResultFilter
from secagg.adapters.nvflare.payload import KEY, TASK, ToServer, ToSite, for_server, for_site, in_shareable
from secagg.adapters.nvflare.store import SiteFile
from secagg.errors import ParameterError
from tests.support.nvflare_sites import (
    ODD,
    SITES,
    Board,
    CrashedError,
    InProcessSite,
    assert_mean,
    board,
    members,
    message_of,
    model,
    ordinary,
    refused,
    run,
    sent,
)

OTHERS = [SITES[0], SITES[2], SITES[3]]
ONE_LOST = {"round_options": {"gamma": 0, "delta": 0.3}}


def lost(over: Board, **settings: Any) -> str:
    """The phase in which the odd one of four sites is lost, while the others have their mean."""
    given = model()
    mean, report = run(over, given, **(ONE_LOST | settings))
    assert_mean(mean, given, OTHERS)
    ((phase, sites),) = report.dropped.items()
    assert sites == (ODD,)
    return phase


# --- what is kept between tasks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("crash", ["data filter", "training"])
def test_a_process_that_dies_in_training_trains_again_and_is_in_the_sum(tmp_path: Path, crash: str) -> None:
    """NVFlare hands a task out once more to a client that comes back without a result."""
    over, given = board(tmp_path, count=4), model()

    def dies_and_comes_back(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        with pytest.raises(CrashedError):
            site.handle(task, pickle.loads(pickle.dumps(data)), crash=crash)
        return site.handle(task, data)

    over.fates[ODD, "MASK"] = dies_and_comes_back
    mean, report = run(over, given, **ONE_LOST)
    assert_mean(mean, given, SITES[:4])
    assert report.dropped == {}
    assert over.sites[ODD].trained == (2 if crash == "training" else 1)


@pytest.mark.parametrize("phase", ["SHARE", "MASK", "UNMASK"])
def test_a_task_that_comes_twice_is_answered_once(tmp_path: Path, phase: str) -> None:
    over, given = board(tmp_path, count=4), model()
    second: list[Shareable] = []

    def twice(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        again = pickle.loads(pickle.dumps(data))
        first = site.handle(task, data)
        second.append(site.handle(task, again))
        return first

    over.fates[ODD, phase] = twice
    mean, report = run(over, given, **ONE_LOST)
    assert_mean(mean, given, SITES[:4])
    assert report.dropped == {}
    (reply,) = second
    assert message_of(reply) == b""
    assert bool(refused(reply)) == (phase == "UNMASK"), "the state of a round that is over is gone"


def test_an_answer_that_got_lost_is_not_made_again(tmp_path: Path) -> None:
    """The process died behind its answer's making and before its sending: the site is lost, and nobody is blamed."""
    over, given = board(tmp_path, count=4), model()

    def lost_answer(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        again = pickle.loads(pickle.dumps(data))
        site.handle(task, data)
        return site.handle(task, again)

    over.fates[ODD, "MASK"] = lost_answer
    mean, report = run(over, given, **ONE_LOST)
    assert_mean(mean, given, OTHERS)
    assert (report.dropped, report.blame) == ({"MASK": (ODD,)}, ())


def test_a_state_that_was_restored_is_not_resumed_twice_with_an_identity(tmp_path: Path) -> None:
    """Whoever puts an old copy of the job's file back finds its tokens used, in the site's own file."""
    over = board(tmp_path, count=4)
    directory = members(tmp_path, over)
    replies: list[Shareable] = []

    def restored(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        file = Path(site.workspace.get_run_dir(site.job), "secagg-round.db")
        before, again = file.read_bytes(), pickle.loads(pickle.dumps(data))
        first = site.handle(task, data)
        file.write_bytes(before)
        replies.append(site.handle(task, again))
        return first

    over.fates[ODD, "UNMASK"] = restored
    run(over, model(), threat_model="active", directory=str(directory), round_options={"gamma": 0.2, "delta": 0.2})
    assert "answered from that state before" in refused(replies[0])


def test_the_file_is_its_owners_and_says_nothing_in_a_repr(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    run(over, model())
    for site in over.sites.values():
        file = Path(site.workspace.get_run_dir(site.job), "secagg-round.db")
        assert file.stat().st_mode & 0o077 == 0
        kept = SiteFile(file)
        assert kept.take() is None, "the round is over: nothing secret is left"
        kept.close()
    assert repr(ToSite("MASK", b"secret")) == "ToSite(phase='MASK')"
    assert "secret" not in repr(ToServer(b"secret"))


def test_another_file_in_its_place_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secagg-round.db"
    path.write_text("a text of somebody's")
    with pytest.raises(ParameterError, match="not a file of a site's round"):
        SiteFile(path)


# --- what leaves ------------------------------------------------------------------------------------------------------


def plain_task(name: str = "train") -> Shareable:
    return FLModelUtils.to_shareable(FLModel(params=model()))


def test_a_plain_training_task_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    site = InProcessSite(ODD, tmp_path, ordinary)
    assert site.handle("train", plain_task()).get_return_code() == ReturnCode.TASK_DATA_FILTER_ERROR
    assert site.trained == 0


def test_metrics_in_clear_pass_where_the_site_allows_it_and_arrays_never(tmp_path: Path) -> None:
    def evaluated(site: InProcessSite, given: FLModel) -> FLModel:
        return FLModel(metrics={"accuracy": 0.5})

    site = InProcessSite(ODD, tmp_path, evaluated)
    assert site.handle("validate", plain_task()).get_return_code() == ReturnCode.OK
    site.write_config(evaluate=False)
    assert site.handle("validate", plain_task()).get_return_code() == ReturnCode.TASK_DATA_FILTER_ERROR
    site.write_config(evaluate=True)
    site.train = ordinary
    assert site.handle("validate", plain_task()).get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR


def test_metrics_that_hold_arrays_do_not_pass(tmp_path: Path) -> None:
    site = InProcessSite(
        ODD, tmp_path, lambda site, given: FLModel(metrics={"accuracy": 0.5, "model": given.params["w"]})
    )
    task = FLModelUtils.to_shareable(FLModel(params={"w": np.zeros(3)}))
    assert site.handle("validate", task).get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR


def test_nothing_leaves_beside_an_error(tmp_path: Path) -> None:
    class Careless(Executor):
        def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
            reply = FLModelUtils.to_shareable(FLModel(params={"w": np.ones(3)}))
            reply.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
            return reply

    site = InProcessSite(ODD, tmp_path, ordinary)
    fl_ctx = site.context("validate")
    reply = Careless().execute("validate", plain_task(), fl_ctx, Signal())
    left = SecAggResultFilter().process(reply, fl_ctx)
    assert left.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert left.keys() == {"__headers__"}


def test_a_phase_that_the_jobs_own_executor_answers_is_stopped(tmp_path: Path) -> None:
    """A job without SecAggExecutor would hand the task to the training script, whose result is plain."""
    site = InProcessSite(ODD, tmp_path, ordinary)
    fl_ctx = site.context(TASK)
    with pytest.raises(ContentBlockedException, match="without a message of this protocol"):
        SecAggDataFilter().process(plain_task(), fl_ctx)
    message = in_shareable(ToSite("SHARE", b"message"), plain_task())
    assert SecAggDataFilter().process(message, fl_ctx).keys() == {"__headers__", KEY}, "no model goes with it"
    with pytest.raises(ContentBlockedException, match="another executor"):
        SecAggResultFilter().process(plain_task(), fl_ctx)
    with_arrays = in_shareable(ToServer(b"message"), plain_task())
    assert SecAggResultFilter().process(with_arrays, fl_ctx).keys() == {"__headers__", KEY}


def test_an_identity_keeps_metrics_in_clear_from_leaving(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    members(tmp_path, over)
    reply = over.sites[ODD].handle("validate", plain_task())
    assert reply.get_return_code() == ReturnCode.TASK_DATA_FILTER_ERROR


def test_the_sites_own_filters_and_the_jobs_can_both_be_there(tmp_path: Path) -> None:
    over, given = board(tmp_path, count=3), model()
    for name in over.sites:
        over.fates[name, "MASK"] = lambda site, task, data: site.handle(task, data, filters=2)
    mean, _ = run(over, given)
    assert_mean(mean, given, SITES[:3])
    assert {site.trained for site in over.sites.values()} == {1}


@pytest.mark.parametrize("kind", [DataKind.COLLECTION, DataKind.METRICS])
def test_a_model_that_is_not_the_announced_one_is_not_trained_from(tmp_path: Path, kind: str) -> None:
    over = board(tmp_path, count=4)

    def other_model(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        lie = FLModelUtils.to_shareable(FLModel(params=model(seed=1), current_round=0, total_rounds=3))
        if kind == DataKind.METRICS:
            lie = DXO(DataKind.METRICS, data={"a": 1}).to_shareable()
        lie[KEY] = data[KEY]
        return site.handle(task, lie)

    over.fates[ODD, "MASK"] = other_model
    assert lost(over) == "MASK"
    assert over.sites[ODD].trained == 0


def test_configs_beside_the_model_that_differ_are_noticed(tmp_path: Path) -> None:
    over = board(tmp_path, count=4)

    def other_rate(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        given = FLModelUtils.from_shareable(data)
        given.meta = {"configs": {"learning_rate": 1e9}}
        lie = FLModelUtils.to_shareable(given)
        lie[KEY] = data[KEY]
        return site.handle(task, lie)

    over.fates[ODD, "MASK"] = other_rate
    assert lost(over) == "MASK"
    assert over.sites[ODD].trained == 0


def test_a_server_that_asks_for_the_vector_without_training_gets_an_abort(tmp_path: Path) -> None:
    over = board(tmp_path, count=4)

    def no_training(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        return site.handle(TASK, Shareable({KEY: data[KEY]}))

    over.fates[ODD, "MASK"] = no_training
    assert lost(over) == "MASK"


@pytest.mark.parametrize(
    "result",
    [
        lambda site, given: ReturnCode.EXECUTION_EXCEPTION,
        lambda site, given: FLModel(params={"w": np.full(3, np.nan)}, meta={"NUM_STEPS_CURRENT_ROUND": 1}),
        lambda site, given: FLModel(params={"other": np.zeros(3)}, meta={"NUM_STEPS_CURRENT_ROUND": 1}),
        lambda site, given: FLModel(metrics={"loss": 1.0}),
    ],
    ids=["an error", "not a number", "another array", "no array"],
)
def test_a_result_that_cannot_be_summed_makes_the_site_leave(
    tmp_path: Path, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    over, given = board(tmp_path, count=4), {"w": np.zeros(3)}
    over.sites[ODD].train = result
    mean, report = run(over, given, **ONE_LOST)
    assert mean is not None
    assert report.dropped == {"MASK": (ODD,)}
    assert report.blame == ()
    assert f"MASK: site {ODD} left (CANCELLED)" in caplog.text, "the server learns that it left, and nothing else"


def test_a_weight_that_is_not_given_counts_as_one_and_what_is_too_large_is_clamped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    over, given = board(tmp_path, count=3), {"w": np.zeros(2)}
    steps: list[dict[str, Any]] = [{}, {"NUM_STEPS_CURRENT_ROUND": np.int64(4000)}, {"NUM_STEPS_CURRENT_ROUND": 9.0}]
    weights = dict(zip(over.sites, steps, strict=True))
    values = dict(zip(over.sites, (0.5, 7.0, -0.5), strict=True))
    for name, site in over.sites.items():
        site.train = lambda site, given, name=name: FLModel(
            params={"w": np.full(2, values[name])}, params_type=ParamsType.DIFF, meta=weights[name]
        )
    mean, report = run(over, given)
    assert mean is not None
    assert report.total_weight == 1 + 100 + 9
    assert np.abs(mean.arrays["w"] - (0.5 + 100 * 1.0 - 0.5 * 9) / 110).max() < 1e-3
    assert report.clipped == 3
    assert "has no meta 'NUM_STEPS_CURRENT_ROUND'" in caplog.text
    assert "the weight 4000 was reduced to 100" in caplog.text


# --- the site's own config --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        ({"max_clip": 0.5}, {}),
        ({"min_clip": 2}, {}),
        ({"min_bits": 20}, {}),
        ({"weighted_by": "other"}, {}),
        ({"local_arrays": "layer.*"}, {}),
        ({"gamma": 0.5}, {}),
        ({"min_survivors": 4}, {}),
        ({"private": True}, {}),
        ({"identity": "identity.json"}, {}),
        ({"max_clip": "much"}, {}),
        ({"max_clop": 1.0}, {}),
        ({"gamma": 2}, {}),
        ({"max_complaints": "none"}, {}),
        ({"max_complaints": -1}, {}),
        ({}, {"difference": False, "clip": 5000.0}),
    ],
    ids=str,
)
def test_what_the_site_does_not_allow_it_does_not_join(
    tmp_path: Path, config: dict[str, Any], settings: dict[str, Any]
) -> None:
    over = board(tmp_path, count=4)
    over.sites[ODD].write_config(**config)
    if settings:
        for name in OTHERS:
            over.sites[name].write_config(whole_model=True)
        mean, report = run(over, {"w": np.zeros(3)}, **(ONE_LOST | settings))
        assert mean is not None
        assert report.dropped == {"ADVERTISE": (ODD,)}
    else:
        assert lost(over) == "ADVERTISE"
    assert over.sites[ODD].trained == 0


@pytest.mark.parametrize("most", [0, 1])
def test_a_site_bounds_the_complaints_of_a_round(tmp_path: Path, most: int) -> None:
    """With one colluder among five, a client may complain about one other."""
    over, given = board(tmp_path), model()
    over.sites[ODD].write_config(max_complaints=most)
    mean, report = run(over, given, round_options={"gamma": 0.2, "delta": 0.2, "complaints": "auto"})
    refuses = most == 0
    assert_mean(mean, given, [site for site in SITES if site != ODD or not refuses])
    assert report.dropped == ({"ADVERTISE": (ODD,)} if refuses else {})
    assert over.sites[ODD].trained == (not refuses)


@pytest.mark.parametrize(
    ("allowed", "refuses"),
    [
        ("loss, accuracy", False),
        ("acc*, lo*", False),
        ("loss", True),
        ("accuracies, loss", True),
        ("", True),
        (["accuracy", "loss"], True),
    ],
)
def test_a_site_bounds_the_metrics_that_are_summed(
    tmp_path: Path, allowed: object, refuses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    over, given = board(tmp_path, count=4), model()
    for site in over.sites.values():
        site.train = with_accuracy
    over.sites[ODD].write_config(metrics=allowed)
    mean, report = run(over, given, metrics={"accuracy": 1.0, "loss": 5.0}, **ONE_LOST)
    assert_mean(mean, given, OTHERS if refuses else SITES[:4])
    assert report.dropped == ({"ADVERTISE": (ODD,)} if refuses else {})
    assert report.metrics["accuracy"] == pytest.approx(0.5, abs=1e-4)
    assert over.sites[ODD].trained == (not refuses)
    if allowed == "loss":
        assert "the job sums the metric 'accuracy'; metrics in local/secagg.json allows loss" in caplog.text


def test_a_bound_on_metrics_refuses_no_job_that_sums_none(tmp_path: Path) -> None:
    over, given = board(tmp_path, count=4), model()
    over.sites[ODD].write_config(metrics="")
    mean, _ = run(over, given, **ONE_LOST)
    assert_mean(mean, given, SITES[:4])


def with_accuracy(site: InProcessSite, given: FLModel) -> FLModel:
    trained = ordinary(site, given)
    trained.metrics = {**(trained.metrics or {}), "accuracy": 0.5}
    return trained


def test_several_sites_of_one_folder_find_their_own_files(tmp_path: Path) -> None:
    """In the simulator all sites have one config: ``{site}`` in a path is the site's name."""
    over, given = board(tmp_path), model()
    directory = members(tmp_path, over)
    for name, site in over.sites.items():
        local = Path(site.workspace.get_site_config_dir())
        (local / "identity.json").rename(local / f"{name}.json")
        site.write_config(identity="{site}.json", directory="directory.json")
    options = {"directory": str(directory), "round_options": {"gamma": 0.2, "delta": 0.2}}
    mean, _ = run(over, given, threat_model="active", **options)
    assert_mean(mean, given, SITES)


def test_a_model_whose_update_may_be_in_a_sum_is_not_summed_again(tmp_path: Path) -> None:
    """The server could say that the round failed, ask again without one site, and subtract."""
    over, given = board(tmp_path, count=4), model()
    assert run(over, given, **ONE_LOST)[0] is not None
    again, report = run(over, given, **ONE_LOST)
    assert again is None
    assert set(report.dropped["ADVERTISE"]) == set(SITES[:4])
    assert all("answered UNMASK for this very model before" in refused(reply) for *_, reply in over.results[-4:])
    for site in over.sites.values():
        site.write_config(again=True)
    assert_mean(run(over, given, **ONE_LOST)[0], given, SITES[:4])


def test_with_an_identity_released_models_are_remembered_over_jobs(tmp_path: Path) -> None:
    over, given = board(tmp_path), model()
    options = {"threat_model": "active", "directory": str(members(tmp_path, over))}
    assert run(over, given, **options)[0] is not None
    for site in over.sites.values():
        site.job = "job-2"
    assert run(over, given, **options)[0] is None


# --- messages that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [None, "text", b"", b"\xc1", b"\x93\x01\x02\x03", [1, 2]])
def test_what_does_not_decode_is_refused(tmp_path: Path, data: object) -> None:
    site = InProcessSite(ODD, tmp_path, ordinary)
    task = Shareable() if data is None else Shareable({KEY: data})
    reply = site.handle(TASK, task)
    assert reply.get_return_code() != ReturnCode.OK or refused(reply)
    assert for_server(Shareable({KEY: data})) is None
    if data is not None:
        with pytest.raises(ParameterError):
            for_site(Shareable({KEY: data}))


def test_a_message_without_a_round_is_refused(tmp_path: Path) -> None:
    site = InProcessSite(ODD, tmp_path, ordinary)
    site.write_config(evaluate=False)
    assert "not in" in refused(site.handle(TASK, in_shareable(ToSite("SHARE", b"message"))))
    assert site.handle("other", Shareable()).get_return_code() == ReturnCode.TASK_DATA_FILTER_ERROR


# --- what a server tells one site alone, and what leaves around the protocol ------------------------------------------


@pytest.mark.parametrize("header", ["_validate_type", "site_name", "job_id", "hint"])
def test_a_header_that_only_one_site_is_sent_never_reaches_its_script(tmp_path: Path, header: str) -> None:
    """A script that is told something else could make all updates but one small."""
    over, given = board(tmp_path, count=4), model()
    met: list[Shareable] = []
    filtered = SecAggDataFilter.process

    def with_hint(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        data.set_header(header, "train nothing")
        data["beside the model"] = "train nothing"
        fl_ctx = site.context(task)
        met.append(filtered(SecAggDataFilter(), sent(data), fl_ctx))
        return site.handle(task, data)

    over.fates[ODD, "MASK"] = with_hint
    mean, _ = run(over, given)
    assert_mean(mean, given, SITES[:4])
    ((task,),) = [met]
    assert task.get_header(header) is None
    assert task.keys() == {"__headers__", "DXO"}
    assert task.get_header("current_round") == 0


def test_a_model_that_is_sent_as_a_change_to_one_site_is_noticed(tmp_path: Path) -> None:
    over = board(tmp_path, count=4)

    def as_change(site: InProcessSite, task: str, data: Shareable) -> Shareable:
        data["DXO"]["kind"] = DataKind.WEIGHT_DIFF
        return site.handle(task, data)

    over.fates[ODD, "MASK"] = as_change
    assert lost(over) == "MASK"
    assert over.sites[ODD].trained == 0


def test_a_training_task_under_the_protocols_name_sends_no_plain_update(tmp_path: Path) -> None:
    """A job's config may give any task to its own executor: the filters of a site's own privacy.json must stop it."""
    site = InProcessSite(ODD, tmp_path, ordinary)
    fl_ctx = site.context(TASK)
    plain = FLModelUtils.to_shareable(FLModel(params={"w": np.ones(3)}, metrics={"loss": 1.0}))
    with pytest.raises(ContentBlockedException):
        SecAggResultFilter().process(plain, fl_ctx)
    beside = in_shareable(ToServer(b"message"), FLModelUtils.to_shareable(FLModel(params={"w": np.ones(3)})))
    assert SecAggResultFilter().process(beside, fl_ctx).keys() <= {KEY, "__headers__"}


@pytest.mark.parametrize("name", [TASK, "validate"])
def test_an_error_takes_nothing_with_it(tmp_path: Path, name: str) -> None:
    site = InProcessSite(ODD, tmp_path, ordinary)
    failed = FLModelUtils.to_shareable(FLModel(params={"w": np.ones(3)}))
    failed.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    left = SecAggResultFilter().process(failed, site.context(name))
    assert left.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert left.keys() == {"__headers__"}


def test_metrics_in_clear_are_numbers_and_no_arrays(tmp_path: Path) -> None:
    site = InProcessSite(ODD, tmp_path, lambda site, given: FLModel(metrics={"update": np.ones(3)}))
    assert site.handle("validate", plain_task()).get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR
    site.train = lambda site, given: FLModel(metrics={"accuracy": np.float32(0.5), "by class": {"a": 1, "b": 0.5}})
    assert site.handle("validate", plain_task()).get_return_code() == ReturnCode.OK


def test_a_whole_number_of_any_size_keeps_the_site_in_the_round(tmp_path: Path) -> None:
    over, given = board(tmp_path, count=3), {"w": np.zeros(2)}
    over.sites[ODD].train = lambda site, given: FLModel(
        params=given.params, metrics={"loss": -(10**400)}, meta={"NUM_STEPS_CURRENT_ROUND": 10**400}
    )
    for name in (SITES[0], SITES[2]):
        over.sites[name].train = lambda site, given: FLModel(
            params=given.params, metrics={"loss": 1.0}, meta={"NUM_STEPS_CURRENT_ROUND": 100}
        )
    mean, report = run(over, given, metrics={"loss": 2.0})
    assert mean is not None
    assert report.total_weight == 300
    assert abs(mean.metrics["loss"]) < 1e-6


def test_a_metric_beyond_64_bits_is_summed_up_to_its_clip(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    for site in over.sites.values():
        site.train = lambda site, given: FLModel(
            params=given.params, metrics={"energy": 10**25, "loss": 2e25}, meta={"NUM_STEPS_CURRENT_ROUND": 1}
        )
    mean, _ = run(over, {"w": np.zeros(2)}, metrics={"energy": 4e25, "loss": 4e25})
    assert mean is not None
    assert mean.metrics == pytest.approx({"energy": 1e25, "loss": 2e25}, rel=1e-3)


@pytest.mark.parametrize("steps", [0.2, 0.49, 1e-300])
def test_a_weight_above_zero_does_not_round_to_nothing(tmp_path: Path, steps: float) -> None:
    """A server that makes all weights but one round to 0 would have that one's update for the sum."""
    over, given = board(tmp_path, count=3), {"w": np.zeros(2)}
    for site in over.sites.values():
        site.train = lambda site, given: FLModel(params=given.params, meta={"NUM_STEPS_CURRENT_ROUND": steps})
    mean, report = run(over, given)
    assert mean is not None
    assert (report.contributors, report.total_weight) == (3, 3)
