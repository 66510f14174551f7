"""The server: an ordinary ServerApp; secure aggregation is in the line that wraps the strategy.

As this is an example, it also checks each round: it trains the clients' models itself, and compares their plain mean
with the new model.  A real server has no client's data.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict, UserConfig
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from digits_app import task
from secagg.adapters.flower import RoundReport, SecAggStrategy

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train for some rounds."""
    nodes = int(context.run_config["min-nodes"])
    identities = str(context.run_config["identities"])
    groups = int(context.run_config["groups"])
    robust = {"groups": groups, "robust": str(context.run_config["robust"])} if groups else {}
    strategy = SecAggStrategy(
        # Replies to evaluation would leave the clients in clear; the metrics of training are summed securely instead.
        FedAvg(min_train_nodes=nodes, min_available_nodes=nodes, fraction_evaluate=0.0),
        clip=2.0,
        max_weight=None if groups else 1000,  # a poisoned update would claim the largest weight
        metrics={"train-accuracy": 1.0},
        gamma=0.0 if groups else 0.2,
        delta=0.0 if groups else 0.35,
        threat_model=str(context.run_config["threat-model"]),
        directory=Path(identities, "cohort.json") if identities else None,
        run_config=context.run_config,
        **robust,
    )
    check = Check(strategy, grid, context.run_config)
    strategy.start(
        grid,
        task.to_record(task.new_model()),
        num_rounds=int(context.run_config["num-server-rounds"]),
        evaluate_fn=check,
    )
    if report := str(context.run_config["report"]):
        Path(report).write_text(json.dumps(check.rounds), encoding="utf-8")


class Check:
    """Compares each round's model with the plain mean of the models of the clients that are in it."""

    def __init__(self, strategy: SecAggStrategy, grid: Grid, run_config: UserConfig) -> None:
        self.strategy, self.grid = strategy, grid
        self.learning_rate, self.attackers = float(run_config["learning-rate"]), int(run_config["attackers"])
        self.weighted = not int(run_config["groups"])
        self.before: task.Model = {}
        self.partitions: dict[int, int] = {}
        self.rounds: list[dict[str, object]] = []

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord:
        """Flower's ``evaluate_fn``."""
        model = task.from_record(arrays)
        score = task.accuracy(model, *task.held_out())
        if server_round == 0:
            self.before, self.partitions = model, self.ask_partitions()
            return MetricRecord({"accuracy": score})
        report = self.strategy.reports[server_round]
        partitions = [self.partitions[report.nodes[index]] for index in report.included]
        difference = max(np.abs(model[name] - mean).max() for name, mean in self.plain_mean(partitions).items())
        self.before = model
        self.rounds.append(
            {
                "partitions": sorted(partitions),
                "dropped": {phase: len(lost) for phase, lost in report.dropped.items()},
                "difference": float(difference),
                "bound": report.error_bound,
                "accuracy": score,
                "train_accuracy": report.metrics.get("train-accuracy"),
                "standing_out": self.standing_out(report),
                "failure": report.failure,
            }
        )
        return MetricRecord({"accuracy": score, "difference": float(difference), "bound": report.error_bound})

    def plain_mean(self, partitions: list[int]) -> task.Model:
        """What FedAvg makes of these clients, in float64; the model as it was when there are none."""
        if not partitions:
            return self.before
        data = [task.partition(number, len(self.partitions)) for number in partitions]
        models = [task.train(self.before, images, labels, self.learning_rate) for images, labels in data]
        for at, number in enumerate(partitions):
            if number < self.attackers:
                models[at] = task.poisoned(self.before, models[at])
        weights = [len(labels) if self.weighted else 1 for _, labels in data]
        return {
            name: np.average([model[name].astype(np.float64) for model in models], axis=0, weights=weights)
            for name in self.before
        }

    def standing_out(self, report: RoundReport) -> list[list[int]]:
        """The partitions of each group that stands out, the farthest first; none in a run without groups."""
        found = report.groups.standing_out if report.groups else ()
        return [sorted(self.partitions[report.nodes[index]] for index in group.members) for group in found]

    def ask_partitions(self) -> dict[int, int]:
        """Each node's partition."""
        questions = [
            Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in self.grid.get_node_ids()
        ]
        return {
            reply.metadata.src_node_id: int(reply.content.metric_records["metrics"]["partition"])
            for reply in self.grid.send_and_receive(questions)
        }
