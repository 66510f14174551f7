"""A Flower grid in memory that runs real ClientApps: every message and context is bytes between two steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import context_from_proto, context_to_proto, message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Context as ProtoContext
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from secagg.adapters.flower import phase_of

Arrays = dict[str, npt.NDArray[Any]]
Fates = set[tuple[str, int]]

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0


def wire(message: Message) -> tuple[Message, int]:
    """The message as it arrives at the other end, and its bytes."""
    data = message_to_proto(message).SerializeToString()
    return message_from_proto(ProtoMessage.FromString(data)), len(data)


class MemoryGrid(Grid):
    """Nodes 101, 102, ... in one process.

    ``deaf`` names the messages, by (phase, node), that never arrive; ``mute`` those whose answers never come back.
    ``tamper_in`` and ``tamper_out`` may change what a client gets and what it answers.
    """

    def __init__(self, app: ClientApp, nodes: int, run_config: dict[str, Any] | None = None) -> None:
        self.app = app
        self.nodes = [101 + number for number in range(nodes)]
        self.contexts = {
            node: context_bytes(
                Context(
                    1, node, {"partition-id": number, "num-partitions": nodes}, RecordDict(), dict(run_config or {})
                )
            )
            for number, node in enumerate(self.nodes)
        }
        self.deaf: Fates = set()
        self.mute: Fates = set()
        self.tamper_in: Callable[[str, Message], Message] = lambda phase, message: message
        self.tamper_out: Callable[[str, Message], Message] = lambda phase, message: message
        self.replies: list[tuple[str, Message]] = []
        self.sent: list[tuple[str, Message]] = []
        self.timeouts: list[tuple[str, float | None]] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """The answers that come, last node first."""
        arrived = []
        for message in reversed(list(messages)):
            phase = phase_of(message) or message.metadata.message_type
            if (phase, timeout) not in self.timeouts:
                self.timeouts.append((phase, timeout))
            self.sent.append((phase, message))
            reply = self.deliver(phase, message)
            if reply is not None:
                arrived.append(reply)
        return arrived

    def deliver(self, phase: str, message: Message) -> Message | None:
        """Run the app of the message's node; None when the message or the answer is lost."""
        node = message.metadata.dst_node_id
        if (phase, node) in self.deaf:
            return None
        message, _ = wire(self.tamper_in(phase, message))
        reply, _ = wire(self.run(message))
        self.replies.append((phase, reply))
        return None if (phase, node) in self.mute else self.tamper_out(phase, reply)

    def run(self, message: Message) -> Message:
        """As a SuperNode does: an exception becomes an error, and the context is kept either way."""
        node = message.metadata.dst_node_id
        context = context_of(self.contexts[node])
        try:
            reply = self.app(message, context)
        except Exception as raised:  # the app's bugs are the grid's business
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(raised)), reply_to=message)
        self.contexts[node] = context_bytes(context)
        return reply

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def _not_here(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("strategies send and receive, and nothing else")

    set_run = create_message = push_messages = pull_messages = _not_here
    run_info = property(_not_here)


MemoryGrid.__abstractmethods__ = frozenset()  # ``run`` is the method above; nobody asks for the run here


def context_bytes(context: Context) -> bytes:
    return context_to_proto(context).SerializeToString()


def context_of(data: bytes) -> Context:
    return context_from_proto(ProtoContext.FromString(data))


# An app whose updates a test can work out again.


def model(seed: int = 0) -> Arrays:
    """Every kind of array that a model holds."""
    random = np.random.default_rng(seed)
    return {
        "layer.weight": random.normal(size=(7, 5)).astype(np.float32),
        "layer.bias": random.normal(size=5),
        "norm.scale": random.normal(size=3).astype(np.float16),
        "norm.batches": np.array(1000 + seed, dtype=np.int64),
        "norm.flat": np.zeros((2, 0), dtype=np.float32),
    }


CLIPS = {"*.batches": 500.0}


def trained(arrays: Arrays, node: int) -> Arrays:
    """What node makes of a model; the same every time."""
    random = np.random.default_rng(node)
    changed: Arrays = {}
    for name, values in arrays.items():
        if name.endswith("batches"):
            changed[name] = np.asarray(values + (node % 17) * 20, dtype=values.dtype)
        else:
            changed[name] = (values + random.uniform(-0.9, 0.9, values.shape)).astype(values.dtype)
    return changed


def weight_of(node: int) -> int:
    return 10 + 37 * (node % 11)


def record_of(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in arrays.items()})


def arrays_of(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


class App:
    """A ClientApp with the given mods, which remembers for whom it trained."""

    def __init__(self, *mods: Any, train: Callable[[Message, Context], Message] | None = None) -> None:
        self.app = ClientApp(mods=list(mods))
        self.trained: list[int] = []
        self._train = train or self.ordinary
        self.app.train()(self.train)
        self.app.evaluate()(self.evaluate)
        self.app.query()(self.evaluate)

    def train(self, message: Message, context: Context) -> Message:
        self.trained.append(context.node_id)
        return self._train(message, context)

    def ordinary(self, message: Message, context: Context) -> Message:
        node = context.node_id
        update = record_of(trained(arrays_of(message.content.array_records["arrays"]), node))
        metrics = MetricRecord({"num-examples": weight_of(node), "loss": 0.25 + node})
        return Message(RecordDict({"arrays": update, "metrics": metrics}), reply_to=message)

    def evaluate(self, message: Message, context: Context) -> Message:
        names = sorted(message.content)
        metrics = MetricRecord({"num-examples": weight_of(context.node_id), "one": 1, "records": len(names)})
        return Message(RecordDict({"metrics": metrics, "seen": ConfigRecord({"names": names})}), reply_to=message)


def plain_mean(arrays: Arrays, nodes: Iterable[int]) -> Arrays:
    """The weighted mean of what these nodes train, in float64."""
    nodes = list(nodes)
    weights = [weight_of(node) for node in nodes]
    updates = [trained(arrays, node) for node in nodes]
    return {
        name: np.average([update[name].astype(np.float64) for update in updates], axis=0, weights=weights)
        for name in arrays
    }
