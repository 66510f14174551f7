"""A controller of a job over sites in this process."""

from __future__ import annotations

from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext, FLContextManager
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel

from secagg.adapters.nvflare import SecAggFedAvg
from tests.support.nvflare_sites import Board, model


class InProcessEngine:
    """What a controller needs of NVFlare's engine: the sites, contexts, and somebody who hears of events."""

    def __init__(self, over: Board, *widgets: FLComponent) -> None:
        self.over, self.widgets, self.events = over, widgets, []
        self.manager = FLContextManager(self, "server", "job-1", {}, {})

    def get_clients(self) -> list[Client]:
        return [Client(name, f"token-{name}") for name in self.over.sites]

    def new_context(self) -> FLContext:
        return self.manager.new_context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        self.events.append(event_type)
        for widget in self.widgets:
            widget.handle_event(event_type, fl_ctx)


class Communicator:
    """The server's task board as a controller sees it."""

    def __init__(self, over: Board) -> None:
        self.over, self.gone = over, ()

    def send(self, task: Any, fl_ctx: FLContext, targets: list[str], *more: Any) -> None:
        self.over.send(task, fl_ctx, targets)

    def cancel_task(self, task: Any, *more: Any) -> None:
        self.over.cancel_task(task)

    def get_num_standing_tasks(self) -> int:
        return len(self.over.standing)

    def get_client_disconnect_time(self, name: str) -> float | None:
        return 1.0 if name in self.gone else None


def controller(over: Board, *widgets: FLComponent, **options: Any) -> SecAggFedAvg:
    given = {"clip": 1.0, "max_weight": 100, "num_clients": 0, "num_rounds": 2, "timeout": 5.0, "persistor_id": ""}
    made = SecAggFedAvg(model=model(), **(given | options))
    made.engine = InProcessEngine(over, *widgets)
    made.fl_ctx = made.engine.new_context()
    made.communicator, made.abort_signal = Communicator(over), Signal()
    made.save_model = lambda model: saved(made).append(model)
    return made


def saved(made: SecAggFedAvg) -> list[FLModel]:
    kept: list[FLModel] = made.__dict__.setdefault("saved", [])
    return kept
