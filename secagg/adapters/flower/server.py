"""The server's side: a strategy around any strategy of Flower's that averages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, final

import msgspec
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

from secagg.adapters.flower import records
from secagg.adapters.flower.codec import Codec, resolve_clips
from secagg.adapters.flower.records import Layout, log
from secagg.adapters.flower.round import Round
from secagg.config import RoundConfig, ThreatModel
from secagg.errors import InputError, ParameterError, PeerError
from secagg.identity import MemoryDirectory, load_directory
from secagg.server import Server
from secagg.server_state import Blame
from secagg.transitions import SERVER_COLLECTS, ServerState

_NEED_EACH_REPLY: Final = tuple(
    getattr(flower, name)
    for name in (
        "Bulyan",
        "DifferentialPrivacyClientSideAdaptiveClipping",
        "DifferentialPrivacyServerSideAdaptiveClipping",
        "DifferentialPrivacyServerSideFixedClipping",
        "FedMedian",
        "FedTrimmedAvg",
        "FedXgbBagging",
        "FedXgbCyclic",
        "Krum",
        "MultiKrum",
        "QFedAvg",
    )
    if hasattr(flower, name)
)
"""They look at every client's own reply, which nobody sees here."""

_DEFAULT_TIMEOUT_S: Final = 120.0
_TIMED_PHASES: Final = tuple(state.value for state in SERVER_COLLECTS if state is not ServerState.MASK)


@final
@dataclass(frozen=True, slots=True)
class RoundReport:
    """What became of a round.

    Attributes:
        server_round: Flower's number of it.
        nodes: by cohort index, the nodes that took part.
        included: the cohort indices whose updates are in the mean; empty without one.
        dropped: by phase, the cohort indices that were lost in it.
        blame: who broke which rule.
        total_weight: of the updates in the mean.
        error_bound: the most by which a value can differ from the exact mean, for arrays with the strategy's ``clip``.
        failure: why there is no new model; empty when there is one.
    """

    server_round: int
    nodes: Mapping[int, int]
    included: tuple[int, ...]
    dropped: Mapping[str, tuple[int, ...]]
    blame: tuple[Blame, ...]
    total_weight: int
    error_bound: float
    failure: str


@final
class SecAggStrategy(Strategy):
    """Runs the protocol below a strategy that averages: ``SecAggStrategy(FedAvg(), clip=0.1, max_weight=1000)``.

    The wrapped strategy chooses the nodes and makes their messages as ever.  In place of the nodes' replies it gets
    one: the mean of their arrays, with their total weight as the metric that it weighs by.  When a round fails (too few
    clients, or a cheating one) it gets none, so that the model stays as it is; the log says why.

    Strategies that look at single replies are refused: medians, Krum and its kin, q-FedAvg, XGBoost, differential
    privacy that clips at the server.  One of your own must make do with one reply that stands for all.

    Attributes:
        strategy: the wrapped strategy.
        reports: by Flower's round, what became of it.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        clip: float,
        max_weight: int | None,
        bits: int = 16,
        clips: Mapping[str, float] | None = None,
        difference: bool = True,
        threat_model: ThreatModel | str = ThreatModel.SEMI_HONEST,
        gamma: float = 0.2,
        delta: float = 0.2,
        directory: str | os.PathLike[str] | None = None,
        timeout: float | Mapping[str, float] | None = _DEFAULT_TIMEOUT_S,
        run_config: Mapping[str, object] | None = None,
        executor: Executor | None = None,
        **options: Any,
    ) -> None:
        """Wrap ``strategy``.

        Args:
            strategy: any that averages; it is not changed.
            clip: the largest change of a value that counts; larger ones are clipped, and the client's log counts them.
            max_weight: the largest weight of a client; a client with a larger one leaves the round.  None weighs all
                clients alike.
            bits: of an encoded value; see ``Encoder``.
            clips: other clips for some arrays, by name or pattern (``{"*.num_batches_tracked": 10_000}``); the first
                pattern that matches counts.  An array's error grows with its clip.
            difference: sum the change of the model; False sums the arrays themselves, which ``clip`` then bounds.
            threat_model: ``"semi_honest"`` or ``"active"``.
            gamma, delta: the largest shares of the invited clients that collude with the server, and that are lost.
            directory: ``active``: the file of the members' keys.  All members are in every round's cohort; whoever the
                wrapped strategy does not sample counts as lost.
            timeout: seconds to wait for a phase's answers, for all phases or by phase; None waits for ever.  MASK,
                where clients train, has the timeout of ``start``.
            run_config: ``context.run_config`` of the ServerApp.  The round's context then holds it, so that clients
                train only when theirs is the same.  ``active`` needs it.
            executor: where masks are expanded; see ``Server.compute``.
            options: further arguments of ``RoundConfig.for_cohort``: ``min_survivors``, ``neighbours``, ``suite``, ...

        Raises ParameterError for a strategy or arguments that cannot work.
        """
        super().__init__()
        _check_strategy(strategy)
        self.strategy = strategy
        self.reports: dict[int, RoundReport] = {}
        if threat_model == ThreatModel.ACTIVE and run_config is None:
            raise ParameterError(
                "active: give SecAggStrategy the ServerApp's run_config=context.run_config; clients train only when "
                "theirs is the same"
            )
        self._layout = Layout(
            float(clip), bits, max_weight, {}, difference, _weight_key(strategy), run_config is not None
        )
        self._run_config = None if run_config is None else dict(run_config)
        self._clips = dict(clips or {})
        self._options = {**options, "threat_model": threat_model, "gamma": gamma, "delta": delta}
        self._timeout, self._executor = _checked_timeout(timeout), executor
        self._directory: MemoryDirectory | None = None
        self._members: tuple[bytes, ...] = ()
        if directory is not None:
            self._directory, _, digest = load_directory(directory)
            self._members = tuple(self._directory.cohort(digest) or ())
            self._options["cohort"] = digest
        self._round: tuple[Round, Codec] | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Exchange keys with the nodes that the wrapped strategy chose; returns their messages.

        Raises ParameterError when their number or the model does not fit the options, InputError for a model that
        cannot be encoded.
        """
        self._round = None
        messages = list(self.strategy.configure_train(server_round, arrays, config, grid))
        if not messages:
            return []
        model = _model_of(messages)
        layout = msgspec.structs.replace(self._layout, clips=resolve_clips(model, self._clips))
        codec = Codec(model, layout, _told_by(messages, self._run_config))
        server = Server(self._config(codec, len(messages)), directory=self._directory)
        round_ = Round(server, grid, messages, self._timeout_of, self._members)
        log.info("secagg: round %d: %d nodes invited", server_round, len(messages))
        self._round = round_, codec
        return round_.training_messages(round_.exchange_keys(), codec.layout.to_bytes())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Unmask the sum, and hand the mean to the wrapped strategy."""
        if self._round is None:
            return self.strategy.aggregate_train(server_round, replies)
        (round_, codec), self._round = self._round, None
        mean, report = self._unmask(server_round, round_, codec, replies)
        self.reports[server_round] = report
        if mean is None:
            log.error("secagg: round %d gives no new model: %s", server_round, report.failure)
            return self.strategy.aggregate_train(server_round, [])
        log.info(
            "secagg: round %d: the mean of %d clients, total weight %d; lost by phase: %s",
            server_round,
            len(report.included),
            report.total_weight,
            {phase: len(lost) for phase, lost in report.dropped.items()} or "nobody",
        )
        content = RecordDict(
            {
                getattr(self.strategy, "arrayrecord_key", "arrays"): mean,
                "metrics": MetricRecord({codec.layout.weighted_by: report.total_weight}),
            }
        )
        addressed = Message(RecordDict(), dst_node_id=0, message_type=MessageType.TRAIN)
        return self.strategy.aggregate_train(server_round, [Message(content, reply_to=addressed)])

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The wrapped strategy's."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The wrapped strategy's."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the options, and the wrapped strategy's."""
        log.info("\t├──> Secure aggregation: %s", self._options["threat_model"])
        log.info("\t│\t├── gamma %(gamma)s | delta %(delta)s", self._options)
        layout = self._layout
        log.info("\t│\t└── clip %s | bits %s | max weight %s", layout.clip, layout.bits, layout.max_weight)
        self.strategy.summary()

    def _config(self, codec: Codec, invited: int) -> RoundConfig:
        try:
            return RoundConfig.for_cohort(
                len(self._members) or invited,
                codec.encoder.length,
                input_max=codec.encoder.input_max,
                context=codec.context,
                **self._options,
            )
        except ParameterError as wrong:
            raise ParameterError(
                f"{wrong} (the strategy chose {invited} nodes: its min_train_nodes keeps it from choosing too few)"
            ) from None

    def _timeout_of(self, phase: str) -> float | None:
        if isinstance(self._timeout, Mapping):
            return self._timeout.get(phase, _DEFAULT_TIMEOUT_S)
        return self._timeout

    def _unmask(
        self, server_round: int, round_: Round, codec: Codec, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, RoundReport]:
        server, weight, bound, failure = round_.server, 0, 0.0, ""
        mean: ArrayRecord | None = None
        included: tuple[int, ...] = ()
        if server.failure is None:
            round_.unmask(replies)
        if server.failure is not None:
            failure = f"{server.failure.reason} (in {server.failure.phase})"
        else:
            try:
                result = server.compute(self._executor)
                mean, weight = codec.decode(result)
                included, bound = result.included, codec.error_bound(len(result.included), weight)
            except (PeerError, InputError) as wrong:  # a client that dealt bad shares, or a sum that no clients have
                failure = str(wrong)
        report = RoundReport(
            server_round, dict(round_.node_of), included, server.dropped, server.blame, weight, bound, failure
        )
        return mean, report


def _checked_timeout(timeout: float | Mapping[str, float] | None) -> float | Mapping[str, float] | None:
    if isinstance(timeout, Mapping) and (unknown := sorted(timeout.keys() - _TIMED_PHASES)):
        raise ParameterError(
            f"timeout: {unknown[0]!r} is none of {', '.join(_TIMED_PHASES)}; MASK has the timeout of start()"
        )
    return timeout


def _check_strategy(strategy: Strategy) -> None:
    if not isinstance(strategy, Strategy):
        raise ParameterError(f"{strategy!r} is no flwr.serverapp.strategy.Strategy")
    inner: object = strategy
    while isinstance(inner, Strategy):
        if isinstance(inner, (SecAggStrategy, *_NEED_EACH_REPLY)):
            raise ParameterError(
                f"{type(inner).__name__} looks at every client's own reply; secure aggregation gives the mean alone: "
                "use a strategy that averages, such as FedAvg, FedAvgM, FedProx, FedAdagrad, FedAdam or FedYogi"
            )
        if getattr(inner, "accountant", None) is not None:
            raise ParameterError(
                f"{type(inner).__name__} with an accountant needs every client's own reply, to count them; leave the "
                "accountant out, and do the accounting for the clients in strategy.reports"
            )
        inner = getattr(inner, "strategy", None)
    if type(strategy).start is not Strategy.start:
        log.warning("secagg: %s.start is not called: the wrapper has the ordinary start", type(strategy).__name__)


def _weight_key(strategy: Strategy) -> str:
    inner: object = strategy
    while inner is not None:
        if key := getattr(inner, "weighted_by_key", None):
            return str(key)
        inner = getattr(inner, "strategy", None)
    return "num-examples"


def _told_by(messages: Sequence[Message], run_config: Mapping[str, object] | None) -> bytes:
    """The digest of what all nodes are told beside the model.  Raises ParameterError when it is not the same."""
    kinds = {(id(message.content), message.metadata.message_type): message for message in messages}
    digests = {
        records.digest_of(message.content, message.metadata.message_type, run_config) for message in kinds.values()
    }
    if len(digests) != 1:
        raise ParameterError(
            "the strategy tells nodes different things beside the model (configs, metrics, the message's type); "
            "clients train on what all are told"
        )
    return digests.pop()


def _model_of(messages: Sequence[Message]) -> ArrayRecord:
    """The one model that all nodes are sent.  Raises ParameterError."""
    nodes = [message.metadata.dst_node_id for message in messages]
    if len(set(nodes)) != len(nodes):
        raise ParameterError("the strategy sends a node two messages in one round; secure aggregation takes one each")
    models: list[ArrayRecord] = []
    for content in {id(message.content): message.content for message in messages}.values():
        if len(content.array_records) != 1:
            raise ParameterError(
                f"the strategy's messages have {len(content.array_records)} array records; there must be one, the model"
            )
        models.append(next(iter(content.array_records.values())))
    if any(other is not models[0] and other != models[0] for other in models[1:]):
        raise ParameterError("the strategy sends nodes different models; their updates cannot be summed")
    return models[0]
