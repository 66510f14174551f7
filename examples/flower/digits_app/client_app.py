"""The clients: an ordinary ClientApp; secure aggregation is in the line that makes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from digits_app import task
from secagg import Policy
from secagg.adapters.flower import SecAggMod, phase_of


def drop_out(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Lose this client where the run's ``dropouts`` say so: its answer never reaches the server."""
    here = f"{phase_of(message)}:{context.node_config['partition-id']}"
    reply = call_next(message, context)
    if here in str(context.run_config["dropouts"]).split():
        raise ConnectionError("this client has dropped out")
    return reply


def file_of(name: str) -> Callable[[Context], Path | None]:
    """The path of a node's file below ``identities``, for a simulation; a real node has them in its node config."""

    def path(context: Context) -> Path | None:
        directory = str(context.run_config["identities"])
        return Path(directory, name.format(context.node_config["partition-id"])) if directory else None

    return path


secagg_mod = SecAggMod(
    identity=file_of("member-{}.json"),
    directory=file_of("cohort.json"),
    tokens=file_of("used-{}.sqlite"),
    policy=Policy(max_groups=None),  # for runs with groups; leave it out where no client should be one of few in a sum
    evaluate=True,  # for the server's check, which asks for partitions; leave it out where the server may lie
)
app = ClientApp(mods=[drop_out, secagg_mod])


def _data_of(context: Context) -> tuple[task.Floats, task.Labels]:
    return task.partition(int(context.node_config["partition-id"]), int(context.node_config["num-partitions"]))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on this client's part."""
    images, labels = _data_of(context)
    before = task.from_record(message.content["arrays"])
    model = task.train(before, images, labels, float(context.run_config["learning-rate"]))
    if int(context.node_config["partition-id"]) < int(context.run_config["attackers"]):
        model = task.poisoned(before, model)
    # Both metrics stay at the client; the server gets their sums over all clients, with that of the models.
    metrics = MetricRecord({"num-examples": len(labels), "train-accuracy": task.accuracy(model, images, labels)})
    return Message(RecordDict({"arrays": task.to_record(model), "metrics": metrics}), reply_to=message)


@app.query()
def which_partition(message: Message, context: Context) -> Message:
    """Which part this client has: for the server's check alone."""
    number = MetricRecord({"partition": int(context.node_config["partition-id"])})
    return Message(RecordDict({"metrics": number}), reply_to=message)
