"""Flower's SecAgg+: its client mod and its server workflow, over a grid in memory.

Their code does all the work; ours carries messages.  Each message is turned to bytes and back, as on a network, so that
both ends have copies of their own; that time is in the round's, in neither the client's nor the server's.  The model
that a server hands out is left empty, and of a client's training nothing is counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.server import LegacyContext, ServerConfig, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.serverapp.grid import Grid
from flwr.supercore.task_identity import TaskIdentity

from .measured import BITS, CLIP, MAX_WEIGHT, Cell, Figures, Memory, Meter

_RUN_ID: Final = 1
_NO_MODEL: Final = Parameters([], "numpy.ndarray")


def run(cell: Cell) -> Figures:
    """One round."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = _RUN_ID, 0, 0
    meter = Meter()
    grid = MemoryGrid(cell, meter)
    context = _server_context(cell, grid)
    workflow = SecAggPlusWorkflow(
        cell.neighbours + 1,  # a client holds a share of its own
        cell.threshold,
        max_weight=float(MAX_WEIGHT),
        clipping_range=CLIP,
        quantization_range=1 << BITS,
    )
    memory = Memory()
    started = time.process_time()
    workflow(grid, context)
    mean = parameters_to_ndarrays(
        compat.arrayrecord_to_parameters(context.state.array_records[MAIN_PARAMS_RECORD], keep_input=True)
    )
    round_s = time.process_time() - started
    peak = memory.peak()
    if not mean:
        raise SystemExit(f"{cell}: the peer's round did not complete")
    survivors = sorted(set(range(cell.clients)) - set(cell.lost))
    return Figures(
        round_cpu_s=round_s - meter.left_out_s,
        client_cpu_s=meter.median_of(meter.client_s, survivors),
        server_cpu_s=round_s - grid.spent_s,
        upload_bytes=meter.median_of(meter.sent, survivors),
        peak_bytes=peak,
        imported_bytes=memory.imported,
        max_error=float(np.abs(mean[0] - cell.expected_mean(survivors)).max()),
    )


def _server_context(cell: Cell, grid: MemoryGrid) -> LegacyContext:
    manager = SimpleClientManager()
    for client in range(cell.clients):
        manager.register(GridClientProxy(node_id=_node(client), grid=grid, run_id=_RUN_ID))
    bare = Context(run_id=_RUN_ID, node_id=0, node_config={}, state=RecordDict(), run_config={})
    strategy = _TakeEverybody(fraction_evaluate=0.0, initial_parameters=_NO_MODEL)
    context = LegacyContext(bare, ServerConfig(num_rounds=1), strategy, manager)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(_NO_MODEL, keep_input=True)
    return context


class _TakeEverybody(FedAvg):
    """FedAvg, without its warning that nobody aggregates metrics."""

    def __init__(self, **options: Any) -> None:
        super().__init__(fit_metrics_aggregation_fn=lambda metrics: {}, **options)


def _node(client: int) -> int:
    return client + 1


class MemoryGrid(Grid):
    """Carries messages to clients in this process, and their answers back."""

    def __init__(self, cell: Cell, meter: Meter) -> None:
        self._cell, self._meter = cell, meter
        self._contexts = {
            client: Context(run_id=_RUN_ID, node_id=_node(client), node_config={}, state=RecordDict(), run_config={})
            for client in range(cell.clients)
        }
        self.spent_s = 0.0
        """CPU seconds that passed in here: not the server's."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Every client's answer, except those that are lost before their masked vectors."""
        pending = list(messages)
        started = time.process_time()
        answers = [self._answer(message) for message in pending]
        self.spent_s += time.process_time() - started
        return [answer for answer in answers if answer is not None]

    def _answer(self, message: Message) -> Message | None:
        client = message.metadata.dst_node_id - 1
        stage = message.content.config_records[RECORD_KEY_CONFIGS][Key.STAGE]
        if stage == Stage.COLLECT_MASKED_VECTORS and client in self._cell.lost:
            return None
        arrived = Message(
            _copy(message.content)[0],
            dst_node_id=message.metadata.dst_node_id,
            message_type=message.metadata.message_type,
        )
        with self._meter.client(client):
            answer = secaggplus_mod(arrived, self._contexts[client], self._train(client))
        answer.content, size = _copy(answer.content)
        self._meter.sent[client] = self._meter.sent.get(client, 0) + size
        return answer

    def _train(self, client: int) -> Callable[[Message, Context], Message]:
        def train(message: Message, _: Context) -> Message:
            with self._meter.leave_out():
                parameters = ndarrays_to_parameters([self._cell.update_of(client)])
                result = FitRes(Status(Code.OK, ""), parameters, self._cell.weight_of(client), {})
                return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)

        return train

    def get_node_ids(self) -> list[int]:
        return [_node(client) for client in self._contexts]

    def _not_here(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the workflow was expected to send and receive, and nothing else")

    set_run = create_message = push_messages = pull_messages = _not_here
    run = property(_not_here)


def _copy(content: RecordDict) -> tuple[RecordDict, int]:
    """The content as it arrives at the other end, and its bytes."""
    data = recorddict_to_proto(content).SerializeToString()
    return recorddict_from_proto(ProtoRecordDict.FromString(data)), len(data)
