"""The end of a round: the sum is opened, and its means and its report are made of it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any, Final, final

from flwr.app import Message, MessageType, MetricRecord, RecordDict

from secagg.adapters.flower.codec import Codec, MeanUpdate
from secagg.adapters.flower.extra_arrays import array_of_metric
from secagg.adapters.flower.grid_round import GridRound
from secagg.adapters.flower.grouped import Opened, Robustness, opened_groups, opened_sum
from secagg.adapters.flower.leaving_out import LeftOutNodes
from secagg.adapters.flower.model_records import by_record
from secagg.adapters.flower.private import PrivateTraining, figures_of
from secagg.adapters.flower.report import RoundReport, why_failed, why_no_mean
from secagg.errors import InputError, PeerError
from secagg.machines import ServerMachine
from secagg.robust.scores import Scores

METRICS_RECORD: Final = "metrics"
"""The record of the metrics in the reply that the wrapped strategy gets."""


@final
class Unmasking:
    """Opens the sums of a strategy's rounds, and takes what they say into what it keeps from round to round."""

    def __init__(
        self,
        *,
        executor: Executor | None,
        robustness: Robustness | None,
        private: PrivateTraining | None,
        scores: Scores,
        left_out: LeftOutNodes | None,
    ) -> None:
        """``robustness``: None without groups."""
        self._executor, self._robustness, self._private = executor, robustness, private
        self._scores, self._left_out = scores, left_out

    def open(
        self, server_round: int, round_: GridRound, codec: Codec, replies: Iterable[Message]
    ) -> tuple[tuple[MeanUpdate, ...], RoundReport]:
        """Take the masked vectors, and run the round to its end.  No means: the report says why."""
        server = round_.server
        updates: tuple[MeanUpdate, ...] = ()
        figures: dict[str, Any] = {}
        failure = ""
        if server.failure is None:
            round_.unmask(replies)
        if server.failure is not None:
            failure = why_failed(server.failure, heard=round_.heard)
        else:
            try:
                result = server.compute(self._executor)
                if self._robustness is None:
                    opened = opened_sum(codec, result)
                else:
                    opened = opened_groups(codec, result, self._robustness)
                    self._score(opened, round_)
                figures = _figures(codec, opened)
                if self._private is not None:
                    figures |= self._learn(codec, opened.updates[0], server, result.included)
                updates = opened.updates
            except PeerError as wrong:  # a client that dealt bad shares
                failure = str(wrong)
            except InputError as wrong:  # too few that contribute, or a sum that no clients have
                failure = why_no_mean(wrong, codec.terms.weighted_by)
        if self._private is not None and server.failure is not None:
            self._private.give_back(server.invitation())
        report = RoundReport(
            server_round=server_round,
            nodes=dict(round_.node_of),
            dropped=server.dropped,
            blame=server.blame,
            failure=failure,
            left_out=() if self._left_out is None else self._left_out.absent,
            **figures,
        )
        return updates, report

    def _score(self, opened: Opened, round_: GridRound) -> None:
        """Take the groups' places into the scores of the nodes."""
        if opened.report is None:
            return
        names = [str(round_.node_of.get(index, "")) for index in range(round_.server.config.clients)]
        self._scores.add(opened.report, names)
        if self._left_out is not None:
            self._left_out.learn(opened, names)

    def _learn(
        self, codec: Codec, mean: MeanUpdate, server: ServerMachine, included: tuple[int, ...]
    ) -> dict[str, Any]:
        """Of a private round: what the report says, and the next clip."""
        terms = codec.terms.privacy
        if self._private is None or terms is None or mean.private is None:
            return {}
        self._private.learn(mean, terms)
        report = terms.report(server.config, len(included), mean.private.wrapped_share)
        return figures_of(report, mean.private, self._private.clip_state)


def _figures(codec: Codec, opened: Opened) -> dict[str, Any]:
    """What a report says about a mean."""

    def bound(array: str) -> float:
        return max(codec.error_bound(clients, weight, array) for clients, weight in opened.parts)

    terms = codec.terms
    settings = terms.clips | terms.array_bits
    by_class = {name for one in terms.class_weights.values() for name in one.arrays}
    weighted = [name for name in codec.announced.summed if name not in by_class]
    ordinary = [name for name in weighted if name not in settings]
    own = [name for name in weighted if name in settings]
    return {
        "included": opened.included,
        "contributors": opened.contributors,
        "clipped": opened.clipped,
        "total_weight": opened.weight,
        "error_bound": max(map(bound, ordinary), default=0.0),
        "error_bounds": {name: bound(name) for name in own}
        | {metric: bound(array_of_metric(metric)) for metric in terms.metrics}
        | (dict(opened.updates[0].bounds) if terms.sums or terms.means_by or by_class else {}),
        "thin_classes": opened.updates[0].thin_classes,
        "metrics": opened.metrics,
        "groups": opened.report,
        "failed_groups": opened.failed,
    }


def mean_reply(number: int, update: MeanUpdate, codec: Codec, record: str) -> Message:
    """A mean as the wrapped strategy takes it: as the reply of a node, with the records that nodes were sent."""
    metrics = MetricRecord({**update.metrics, codec.terms.weighted_by: update.weight})
    content = RecordDict({**by_record(update.arrays, codec.announced.records, record), METRICS_RECORD: metrics})
    addressed = Message(RecordDict(), dst_node_id=number, message_type=MessageType.TRAIN)
    return Message(content, reply_to=addressed)
