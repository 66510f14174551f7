"""SCAFFOLD (Karimireddy et al. 2020) as an app with a strategy of its own, and the same in a loop of plain NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from tests.support.flower_grid import Arrays, arrays_of, record_of

RATE = 0.1
STEPS = 3


def start() -> Arrays:
    random = np.random.default_rng(5)
    return {"weight": random.normal(size=(4, 3)), "bias": random.normal(size=3)}


def zeros() -> Arrays:
    return {name: np.zeros(values.shape) for name, values in start().items()}


def goal(node: int) -> Arrays:
    """Where this node's loss, half the squared distance, is least."""
    random = np.random.default_rng(node)
    return {name: values + random.normal(size=values.shape) for name, values in start().items()}


def local_steps(node: int, model: Arrays, control: Arrays, own: Arrays) -> tuple[Arrays, Arrays]:
    """The model and the control variate of a node after its steps: option II of the paper's algorithm 1."""
    trained = dict(model)
    for _ in range(STEPS):
        trained = {
            name: values - RATE * (values - goal(node)[name] - own[name] + control[name])
            for name, values in trained.items()
        }
    new = {name: own[name] - control[name] + (model[name] - trained[name]) / (STEPS * RATE) for name in model}
    return trained, new


def plain(nodes: list[int], invited: int, rounds: int) -> tuple[Arrays, Arrays]:
    """The model and the server's control variate after rounds of these nodes, of so many that there are."""
    model, control, own = start(), zeros(), {node: zeros() for node in nodes}
    for _ in range(rounds):
        done = {node: local_steps(node, model, control, own[node]) for node in nodes}
        change = {
            name: np.mean([new[name] - own[node][name] for node, (_, new) in done.items()], axis=0) for name in model
        }
        model = {name: np.mean([trained[name] for trained, _ in done.values()], axis=0) for name in model}
        control = {name: control[name] + len(nodes) / invited * change[name] for name in model}
        own = {node: new for node, (_, new) in done.items()}
    return model, control


class Scaffold(Strategy):
    """Sends the model and the control variate, each in a record of its own, and takes both back."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.control = record_of(zeros())
        self.replies: list[list[Message]] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        content = RecordDict({"arrays": arrays, "control": self.control})
        return [Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """One reply is the mean over those that are in it; none when the round has failed."""
        self.replies.append(list(replies))
        if not self.replies[-1]:
            return None, None
        content = self.replies[-1][0].content
        mean, before = arrays_of(content.array_records["control"]), arrays_of(self.control)
        share = float(content.metric_records["metrics"]["num-examples"]) / self.nodes  # type: ignore[arg-type]
        self.control = record_of({name: before[name] + share * (mean[name] - before[name]) for name in before})
        return content.array_records["arrays"], None

    def configure_evaluate(self, *_: Any) -> Iterable[Message]:
        return []

    def aggregate_evaluate(self, *_: Any) -> MetricRecord | None:
        return None

    def summary(self) -> None:
        """Nothing to say."""


def train(message: Message, context: Any) -> Message:
    """What the control variate has changed by goes back on top of the one that came."""
    records = message.content.array_records
    model, control = arrays_of(records["arrays"]), arrays_of(records["control"])
    kept = context.state.array_records.get("own")
    own = zeros() if kept is None else arrays_of(kept)
    trained, new = local_steps(context.node_id, model, control, own)
    context.state.array_records["own"] = record_of(new)
    change = {name: control[name] + new[name] - own[name] for name in own}
    content = RecordDict(
        {"arrays": record_of(trained), "control": record_of(change), "metrics": MetricRecord({"num-examples": 7})}
    )
    return Message(content, reply_to=message)
