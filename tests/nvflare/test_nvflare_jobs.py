"""The two lines: what ``secure`` makes of a recipe, and what a controller does with rounds that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_event_type import AppEventType
from nvflare.app_common.np.recipes.fedavg import NumpyFedAvgRecipe
from nvflare.app_common.widgets.intime_model_selector import IntimeModelSelector
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.job_config.api import FedJob
from nvflare.recipe.spec import Recipe

from secagg.adapters.nvflare import RoundFailedError, SecAggFedAvg, SecuredController, Settings, secure
from secagg.errors import ParameterError
from tests.support import nvflare_site
from tests.support.nvflare_controller import Communicator, InProcessEngine, controller, saved
from tests.support.nvflare_sites import SITES, assert_mean, board, model, plain_mean, silent


def recipe(**options: Any) -> NumpyFedAvgRecipe:
    given = {"name": "job", "model": np.zeros((2, 3)), "min_clients": 3, "train_script": nvflare_site.__file__}
    return NumpyFedAvgRecipe(**(given | options))


# --- the recipe -------------------------------------------------------------------------------------------------------


def test_two_lines_change_the_controller_and_add_three_parts_to_the_client(tmp_path: Path) -> None:
    secure(recipe(num_rounds=7), clip=0.5, max_weight=None, metrics={"loss": 2.0}).export(str(tmp_path))
    server, client = (
        json.loads(next(tmp_path.rglob(f"config_fed_{side}.json")).read_text()) for side in ("server", "client")
    )
    (workflow,) = server["workflows"]
    assert workflow["path"] == "secagg.adapters.nvflare.controller.SecAggFedAvg"
    own = {"clip": 0.5, "max_weight": None, "metrics": {"loss": 2.0}}
    assert workflow["args"].items() >= {**own, "num_rounds": 7, "num_clients": 0}.items()
    executors = {executor["executor"]["path"]: executor["tasks"] for executor in client["executors"]}
    assert executors.pop("secagg.adapters.nvflare.client.SecAggExecutor") == ["secagg"]
    assert list(executors.values()) == [["*"]], "the job's own executor is untouched"
    for chain, name in (("task_data_filters", "SecAggDataFilter"), ("task_result_filters", "SecAggResultFilter")):
        (entry,) = client[chain]
        assert sorted(entry["tasks"]) == ["secagg", "train"]
        assert [one["path"] for one in entry["filters"]] == [f"secagg.adapters.nvflare.client.{name}"]
    assert not list(tmp_path.rglob("custom/secagg*")), "a job brings no copy of the library"


def test_what_the_config_says_makes_the_same_controller_again(tmp_path: Path) -> None:
    options = {"clip": 0.5, "max_weight": 9, "clips": {"*": 1.0}, "round_options": {"gamma": 0.0}, "failed_rounds": 2}
    secure(recipe(), **options).export(str(tmp_path))
    server = json.loads(next(tmp_path.rglob("config_fed_server.json")).read_text())
    made = SecAggFedAvg(**server["workflows"][0]["args"])
    assert {name: getattr(made, name) for name in options} == options
    assert made.secagg_settings == Settings(clip=0.5, max_weight=9, clips={"*": 1.0}, round_options={"gamma": 0.0})


def test_what_cannot_be_secured_is_named() -> None:
    class Median(ModelAggregator):
        def accept_model(self, given: FLModel) -> None: ...

        def aggregate_model(self) -> FLModel:
            return FLModel(params={})

        def reset_stats(self) -> None: ...

    for made, options, named in (
        (lambda: recipe(), {"clip": 1.0}, "max_weight is missing"),
        (lambda: recipe(), {"max_weight": 1}, "clip is missing"),
        (lambda: recipe(aggregator=Median()), {"clip": 1.0, "max_weight": 1}, "aggregator: it needs each site's own"),
        (lambda: recipe(aggregation_weights={"a": 2.0}), {"clip": 1.0, "max_weight": 1}, "aggregation_weights"),
        (lambda: Recipe(FedJob("job")), {"clip": 1.0, "max_weight": 1}, "its server runs no FedAvg"),
        (lambda: secure(recipe(), clip=1.0, max_weight=1), {"clip": 1.0, "max_weight": 1}, "its server runs no FedAvg"),
        (lambda: recipe(), {"clip": 1.0, "max_weight": 1, "failed_rounds": -1}, "failed_rounds = -1"),
        (lambda: recipe(), {"clip": 1.0, "max_weight": 1, "threat_model": "none"}, "threat model 'none'"),
    ):
        with pytest.raises(ParameterError, match=named):
            secure(made(), **options)  # type: ignore[no-untyped-call]


# --- the controller ---------------------------------------------------------------------------------------------------


def test_a_job_trains_from_mean_to_mean(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    made = controller(over, metrics={"loss": 5.0}, num_rounds=2)
    made.run()
    first = plain_mean(model(), SITES[:3])
    last = saved(made)[-1]
    for name, expected in plain_mean(first, SITES[:3]).items():
        tolerance = 0.3 if name == "norm.batches" else 2e-3
        assert np.abs(last.params[name] - expected).max(initial=0.0) < tolerance, name
    assert last.metrics["loss"] == pytest.approx((10 * 0.1 + 20 * 0.2 + 30 * 0.3) / 60, abs=1e-6)
    assert [report.included for report in made.reports.values()] == [tuple(SITES[:3])] * 2


def test_the_best_model_is_chosen_by_the_summed_metric(tmp_path: Path) -> None:
    """NVFlare's widget hears of one contribution, the mean's."""
    over = board(tmp_path, count=3)
    chooser = IntimeModelSelector(key_metric="loss", negate_key_metric=True)
    chooser.handle_event(EventType.START_RUN, FLContext())
    made = controller(over, chooser, metrics={"loss": 5.0}, num_rounds=2)
    made.run()
    assert chooser.best_raw_val_metric == pytest.approx((10 * 0.1 + 20 * 0.2 + 30 * 0.3) / 60, abs=1e-6)
    assert made.engine.events.count(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE) == 1
    assert made.engine.events.count(AppEventType.BEFORE_CONTRIBUTION_ACCEPT) == 2


def test_a_round_without_a_mean_ends_the_job(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    over.fates["site-1", "MASK"] = silent
    with pytest.raises(RoundFailedError, match=r"round 0 gives no mean: .*MASK.*failed_rounds=0"):
        controller(over).run()


def test_a_stated_number_of_rounds_may_give_no_mean(tmp_path: Path) -> None:
    over = board(tmp_path, count=3)
    over.fates["site-1", "SHARE"] = silent
    made = controller(over, failed_rounds=1, num_rounds=1)
    made.run()
    for name, values in model().items():
        np.testing.assert_array_equal(saved(made)[-1].params[name], values)
    with pytest.raises(RoundFailedError, match="failed_rounds=1"):
        controller(over, failed_rounds=1, num_rounds=3).run()


def test_a_site_that_is_known_to_be_gone_is_not_waited_for(tmp_path: Path) -> None:
    over = board(tmp_path, count=4)
    made = controller(over, num_rounds=1)
    made.communicator.gone = ("site-4",)
    made.run()
    assert made.reports[0].included == tuple(SITES[:3])
    assert {name for name, *_ in over.results} == set(SITES[:3])


def test_a_controller_of_ones_own_gets_one_result(tmp_path: Path) -> None:
    class Own(SecuredController, FedAvg):
        secagg_settings = Settings(clip=1.0, max_weight=100, timeout=5.0)

    over, given = board(tmp_path, count=3), model()
    made = Own(num_clients=0, persistor_id="")
    made.engine = InProcessEngine(over)
    made.fl_ctx = made.engine.new_context()
    made.communicator, made.abort_signal = Communicator(over), Signal()
    data = FLModel(params=given, current_round=0, total_rounds=1)
    (mean,) = made.send_model_and_wait(data=data, timeout=5)
    assert mean.meta["NUM_STEPS_CURRENT_ROUND"] == 60
    assert_mean(_as_update(mean), given, SITES[:3])


def _as_update(mean: FLModel) -> Any:
    from secagg.adapters.nvflare.codec import MeanUpdate

    return MeanUpdate(mean.params, {}, mean.meta["NUM_STEPS_CURRENT_ROUND"], 3, 0)


def test_widgets_find_a_name_of_ours_where_a_site_has_its_own(tmp_path: Path) -> None:
    heard: list[str] = []

    class Listener(FLComponent):
        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            if event_type == AppEventType.BEFORE_CONTRIBUTION_ACCEPT:
                heard.append(fl_ctx.get_peer_context().get_identity_name(default="?"))

    controller(board(tmp_path, count=3), Listener(), num_rounds=1).run()
    assert heard == ["secagg-mean"]
