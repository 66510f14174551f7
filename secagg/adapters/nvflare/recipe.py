"""A FedAvg recipe with its training rounds secured."""

from __future__ import annotations

from typing import Any, Final

from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.fuel.utils.class_utils import get_component_init_parameters
from nvflare.recipe.spec import Recipe

from secagg.adapters.nvflare.client import SecAggDataFilter, SecAggExecutor, SecAggResultFilter
from secagg.adapters.nvflare.controller import SecAggFedAvg
from secagg.adapters.nvflare.payload import TASK
from secagg.errors import ParameterError

_SERVER: Final = "server"
_PACKAGE: Final = "secagg"


def secure(recipe: Recipe, *, num_clients: int = 0, **options: Any) -> Recipe:
    """The same recipe, whose sites' updates are summed by the protocol; call it last, before ``execute`` or ``export``.

        recipe = secure(FedAvgRecipe(...), clip=0.1, max_weight=1000)

    Args:
        recipe: one whose server runs NVFlare's FedAvg; it is changed.
        num_clients: how many sites are invited to a round, drawn at random; 0 invites all that are connected.  The
            recipe's ``min_clients`` stays what the job needs to go on: give fewer than there are sites, or one that is
            gone ends the job.
        options: those of ``SecAggFedAvg``; ``clip`` and ``max_weight`` are needed.

    Raises ParameterError for another recipe, or options that cannot work.
    """
    job = recipe._job
    apps = getattr(job, "_deploy_map", {})
    server = getattr(apps.get(_SERVER), "app_config", None)
    found = [workflow for workflow in getattr(server, "workflows", ()) if type(workflow.controller) is FedAvg]
    if len(found) != 1:
        raise ParameterError(
            f"{type(recipe).__name__}: its server runs no FedAvg, or several; derive its controller from "
            "SecuredController first (class SecAggFedOpt(SecuredController, FedOpt)), and add SecAggExecutor and the "
            "two filters to its client app"
        )
    found[0].controller = _secured(found[0].controller, num_clients, options)
    # Every site has secagg installed; a copy of single modules in the job would hide it.
    job.set_app_packages([*job.job.app_packages, _PACKAGE])
    recipe._add_to_client_apps(SecAggExecutor(), tasks=[TASK])
    tasks = [found[0].controller.task_name, TASK]
    recipe.add_client_input_filter(SecAggDataFilter(), tasks=tasks)
    recipe.add_client_output_filter(SecAggResultFilter(), tasks=tasks)
    return recipe


def _secured(plain: FedAvg, num_clients: int, options: dict[str, Any]) -> SecAggFedAvg:
    """A controller with the plain one's arguments."""
    given: dict[str, Any] = {}
    for name in get_component_init_parameters(plain).keys() - {"args", "kwargs"}:
        for attribute in (name, f"_{name}"):
            if attribute in plain.__dict__:
                given[name] = plain.__dict__[attribute]
    given["num_clients"] = num_clients
    missing = [name for name in ("clip", "max_weight") if name not in options]
    if missing:
        raise ParameterError(
            f"{missing[0]} is missing: give clip=... and max_weight=...; max_weight=None weighs all sites alike"
        )
    return SecAggFedAvg(**given, **options)
