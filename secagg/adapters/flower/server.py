"""The server's side: a strategy around any strategy of Flower's that averages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from types import EllipsisType
from typing import Any, Final, final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from secagg.adapters.flower.announcement import Announcement, UpdateTerms, context_of
from secagg.adapters.flower.array_values import sent_as_stored, with_floats
from secagg.adapters.flower.asked_terms import AskedTerms, Parts, weight_steps
from secagg.adapters.flower.ballot_box import BallotBox, WithoutVerdict, checked_without_verdict
from secagg.adapters.flower.batching import BatchedGrid, BatchedNodes, Batches
from secagg.adapters.flower.class_weights import ClassWeights
from secagg.adapters.flower.codec import Codec
from secagg.adapters.flower.grid_round import GridRound
from secagg.adapters.flower.grouped import HowMany, checked_robustness
from secagg.adapters.flower.leaving_out import LeftOutNodes, checked_leave_out
from secagg.adapters.flower.metric_sums import Metric, sorted_out
from secagg.adapters.flower.model_records import flat_model, record_sizes
from secagg.adapters.flower.private import PrivateTraining, checked_privacy
from secagg.adapters.flower.records import log
from secagg.adapters.flower.report import RoundReport, log_mean
from secagg.adapters.flower.unmasking import METRICS_RECORD, Unmasking, mean_reply
from secagg.adapters.flower.wrapped import check_strategy, main_record, model_of, told_by, weight_key
from secagg.credentials import load_directory
from secagg.encoding import Encoder
from secagg.errors import ParameterError
from secagg.identity import MemoryDirectory
from secagg.machines import ServerMachine
from secagg.pairwise.carrier import Carrier
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.pairwise.server import Server
from secagg.pairwise.transcript import EXTENDED_VERSION
from secagg.pairwise.values import as_suite, as_threat_model
from secagg.privacy.ask import Privacy
from secagg.privacy.budget_errors import BudgetExceededError, BudgetFileError
from secagg.privacy.cohort import private_cohort
from secagg.privacy.layout import PrivateLayout
from secagg.robust.ballots import Ballot
from secagg.robust.exclusions import LeaveOut
from secagg.robust.scores import Scores
from secagg.simulation.carriers import checked_carrier, with_carrier

_DEFAULT_TIMEOUT_S: Final = 120.0
"""For phases without training: they take seconds, and a node that is late costs a dropout."""
_TIMED_PHASES: Final = tuple(phase for phase in Phase if phase is not Phase.MASK)
_BITS: Final = 16
"""Of an encoded value, where the strategy does not say."""


@final
class SecAggStrategy(Strategy):
    """Runs the protocol below a strategy that averages: ``SecAggStrategy(FedAvg(), clip=0.1, max_weight=1000)``.

    The wrapped strategy chooses the nodes and makes their messages as ever.  In place of the nodes' replies it gets
    one: the mean of their arrays, with their total weight as the metric that it weighs by.  When a round fails (too few
    clients, or a cheating one) it gets none, so that the model stays as it is; the log says why.

    Strategies that look at single replies are refused: q-FedAvg, XGBoost, differential privacy that clips at the
    server.  Medians, Krum and its kin need ``groups``, and get a reply for each.  One of your own must make do with so
    many.

    Attributes:
        strategy: the wrapped strategy.
        reports: by Flower's round, what became of it.  Those of a private training have the state of an adaptive clip:
            to go on from a checkpoint, give its ``clip`` to the next ``Privacy``.
        scores: with ``groups``, how much the groups of each node stood out over the rounds, by node: a hint for a
            person, and never a proof.
        exclusions: with ``leave_out``, who is left out, by node; None otherwise.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        clip: float | None = None,
        max_weight: float | EllipsisType | None = ...,
        weight_scale: int = 1,
        bits: int | None = None,
        clips: Mapping[str, float] | None = None,
        array_bits: Mapping[str, int] | None = None,
        difference: bool = True,
        metrics: Mapping[str, Metric] | None = None,
        class_weights: Mapping[str, ClassWeights] | None = None,
        include: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        threat_model: ThreatModel | str = ThreatModel.SEMI_HONEST,
        gamma: float | None = None,
        delta: float | None = None,
        directory: str | os.PathLike[str] | None = None,
        timeout: float | Mapping[str, float] | None = _DEFAULT_TIMEOUT_S,
        run_config: Mapping[str, object] | None = None,
        executor: Executor | None = None,
        privacy: Privacy | None = None,
        batches: Batches | None = None,
        groups: HowMany | None = None,
        robust: str | None = None,
        norm_limit: float | None = None,
        leave_out: LeaveOut | None = None,
        ballot: Ballot | None = None,
        without_verdict: str = WithoutVerdict.ACCEPT,
        carrier: Carrier | str = Carrier.MASKS,
        **options: Any,
    ) -> None:
        """Wrap ``strategy``.

        Args:
            strategy: any that averages; it is not changed.
            clip: the largest change of a value that counts.  Larger ones are clipped; the client's log and the round's
                report count them.  Needed without ``privacy``, which has a clip of its own.
            max_weight: the largest weight of a client; a larger one is clamped to it.  The error grows with
                max_weight / mean weight, and one above 2^(bits-1) - 1 is refused.  None weighs all clients alike, which
                is the default with ``privacy``; without it there is none.
            weight_scale: how many steps a weight of 1 has: with 1000, a weight of 0.37 counts as 370 steps, and each
                weight is off by half a step at most; one above 0 counts as a step at least.  ``max_weight`` may be a
                fraction then.
            bits: of an encoded value, 16 when not given; see ``Encoder``.
            clips: other clips for some arrays, by name or pattern (``{"*.num_batches_tracked": 10_000}``); the first
                pattern that matches counts.  An array's error grows with its clip.  Arrays of whole numbers that no
                pattern matches get a wide clip: 2^24, or what their type holds when that is less.
            array_bits: other bits for some arrays, by name or pattern.  Arrays of whole numbers that no pattern matches
                get 32.
            difference: sum the change of the model; False sums the arrays themselves, which ``clip`` then bounds, and
                which clients refuse unless their layout policy has ``whole_model``.
            metrics: which metrics are summed beside the arrays, in the same vector, by name.  A number is the largest
                absolute value of a metric whose mean is weighted as the model's is (``{"loss": 10.0}``); ``Sum`` asks
                for a plain sum, and ``MeanBy`` for a mean with a weight of its own.  Names that begin with
                ``evaluate.`` are of the node's ``SecAggMod(evaluation=...)``, all others of the reply to training.
                Sums and means are in the MetricRecord of the one reply, and in the report.  A client whose reply
                lacks one leaves the round.
            class_weights: the arrays whose rows are classes, by name or pattern, with how each client weighs each class
                (``{"head.*": ClassWeights("class-counts", largest=500)}``).  A row to which fewer than
                ``min_survivors`` clients contribute stays as it was.
            include: patterns of the arrays that are summed (``["backbone.*"]``); None for all of them.  All other
                arrays stay at each node, and on the server as they are: what an app answers of them is dropped at the
                node.  A pattern that matches nothing is refused in the first round.
            exclude: patterns of arrays that are not summed although ``include`` has them, such as ``["*.bn*"]``.
            threat_model: ``"semi_honest"`` or ``"active"``.
            gamma, delta: the largest shares of the invited clients that collude with the server, and that are lost.  By
                default those of ``RoundConfig.for_cohort``: a fifth and a tenth, and one client at least.
            directory: ``active``: the file of the members' keys.  All members are in every round's cohort; whoever the
                wrapped strategy does not sample counts as lost.
            timeout: seconds to wait for a phase's answers, for all phases or by phase; None waits for ever.  MASK,
                where clients train, has the timeout of ``start``.
            run_config: ``context.run_config`` of the ServerApp.  The round's context then holds it, so that clients
                train only when theirs is the same.  ``active`` needs it.
            executor: where masks are expanded; see ``Server.compute``.
            privacy: the promise that each client gets; None for sums without noise.  Arrays of whole numbers are not
                summed then, and stay as the server has them; ``clips``, ``array_bits`` and ``metrics`` are refused.
                A round that would pass its budget is not begun, and its report says so.
            batches: invite whole batches of nodes that stay together, and open no sum that could be taken apart by
                earlier ones; give the wrapped strategy ``fraction_train=1.0``.  None: whomever the strategy chooses.
            groups: into how many groups the nodes are drawn, each with a sum of its own, anew in each round; "auto"
                finds a number for so many ``attackers``.  Nodes allow it by ``secagg-max-groups``.  None: one sum.
            robust: the rule of ``secagg.robust.RuleName`` that makes one mean of the groups' means, such as
                "trimmed-mean"; None: the wrapped strategy gets a reply for each group.
            norm_limit: of that rule; see ``secagg.robust.robust_mean``.
            leave_out: with groups: which nodes are no longer invited because they stand out over rounds; see
                ``secagg.robust.LeaveOut`` for what it costs honest ones.  Nodes are named by their number, as a string.
                A round keeps at least the wrapped strategy's ``min_train_nodes``.  None: nobody is left out.
            ballot: the nodes vote on each new model in one more round, and keep the previous one when too many object;
                they need ``SecAggMod(ballot=...)``.  They have ``timeout`` to test it.  None: no ballot.
            without_verdict: "accept" or "drop": what becomes of a model whose ballot fails or is undecided.
            carrier: what carries the updates: "masks", "lattice" for one lattice envelope per node, or "auto" for
                whichever takes less CPU time, as measured on this machine.  Nodes refuse envelopes unless they allow
                them, by ``secagg-carrier``.
            options: further arguments of ``RoundConfig.for_cohort``, with its defaults: ``min_survivors``,
                ``neighbours``, ``suite``, ...  With ``suite="hybrid"`` recorded rounds stay secret from quantum
                computers; nodes ask for it by ``secagg-suite``.  With ``complaints="auto"`` a node that deals bad
                shares is named and left out, where it would end the round otherwise.

        Raises ParameterError for a strategy or arguments that cannot work.
        """
        super().__init__()
        robustness = checked_robustness(groups, robust, norm_limit, privacy=privacy, batches=batches)
        each_group = robustness is not None and robustness.rule is None
        check_strategy(strategy, SecAggStrategy, grouped=each_group)
        self.strategy = strategy
        self.reports: dict[int, RoundReport] = {}
        self.scores = Scores()
        self._private: PrivateTraining | None = None
        if privacy is not None:
            given: dict[str, object] = {
                "clip": clip,
                "bits": bits,
                "clips": clips,
                "array_bits": array_bits,
                "metrics": metrics,
            }
            given |= {"class_weights": class_weights, "weight_scale": weight_scale if weight_scale != 1 else None}
            weight = None if isinstance(max_weight, EllipsisType) else max_weight
            self._private = PrivateTraining(checked_privacy(privacy, {**given, "max_weight": weight}))
            clip, max_weight = privacy.clip, weight
        if clip is None or isinstance(max_weight, EllipsisType):
            raise ParameterError(
                f"{'clip' if clip is None else 'max_weight'} is missing: give clip=... and max_weight=..., of which "
                "max_weight=None weighs all clients alike; or privacy=Privacy(...)"
            )
        model = as_threat_model(threat_model)
        leaving = checked_leave_out(leave_out, groups, model)
        self._left_out = None if leaving is None else LeftOutNodes(leaving)
        self.exclusions = None if self._left_out is None else self._left_out.exclusions
        if model.signs and run_config is None:
            raise ParameterError(
                "active: give SecAggStrategy the ServerApp's run_config=context.run_config; clients train only when "
                "theirs is the same"
            )
        by_weight, sums, means_by = sorted_out(metrics or {})
        if groups is not None and (sums or means_by or class_weights):
            raise ParameterError(
                "groups go with metrics weighted as the model is, and neither with Sum, MeanBy nor class_weights: "
                "leave one out"
            )
        self._asked_terms = AskedTerms(
            UpdateTerms(
                clip=float(clip),
                bits=_BITS if bits is None else bits,
                max_weight=weight_steps(max_weight, weight_scale),
                clips={},
                array_bits={},
                metrics=by_weight,
                difference=difference,
                weighted_by=weight_key(strategy),
                run_config=run_config is not None,
                weight_scale=weight_scale,
                sums=sums,
                means_by=means_by,
            ),
            clips=dict(clips or {}),
            array_bits=dict(array_bits or {}),
            parts=Parts.of(include, exclude),
            class_weights=dict(class_weights or {}),
        )
        self._run_config = None if run_config is None else dict(run_config)
        self._options = {**options, "threat_model": model, "gamma": gamma, "delta": delta}
        if groups is not None:
            self._options |= {"groups": groups, "version": EXTENDED_VERSION}
        if as_suite(options.get("suite", Suite.AES_128)).is_hybrid or options.get("complaints"):
            self._options["version"] = EXTENDED_VERSION
        self._carrier = checked_carrier(carrier)
        self._batched = None if batches is None else BatchedNodes(batches)
        self._timeout = _checked_timeout(timeout)
        self._unmasking = Unmasking(
            executor=executor,
            robustness=robustness,
            private=self._private,
            scores=self.scores,
            left_out=self._left_out,
        )
        self._directory: MemoryDirectory | None = None
        self._members: tuple[bytes, ...] = ()
        if directory is not None:
            self._directory, _, digest = load_directory(directory)
            self._members = tuple(self._directory.cohort(digest) or ())
            self._options["cohort"] = digest
        self._round: tuple[GridRound, Codec, str] | None = None
        """With the name of the record that the model goes out in."""
        without = checked_without_verdict(ballot, without_verdict, privacy)
        self._box: BallotBox | None = None
        if ballot is not None:
            self._box = BallotBox(ballot, without, self._ballot_round, self._timeout_of, self._run_config)
        self._asked: tuple[Grid, list[Message]] | None = None
        """With a ballot: whom to ask about the model that becomes of the round."""
        self._warned_of_evaluation = False

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Exchange keys with the nodes that the wrapped strategy chose; returns their messages.

        Raises ParameterError when their number or the model does not fit the options, InputError for a model that
        cannot be encoded.
        """
        self._round = None
        messages = self._messages(server_round, arrays, config, grid)
        if not messages:
            return []
        sent = model_of(messages)
        self._check_records(sent)
        model = flat_model(sent)
        terms = self._terms_of(model, len(messages))
        announced = Announcement.of(model, terms, told_by(messages, self._run_config), record_sizes(sent))
        codec = Codec(model, announced)
        self._check_precision(codec)
        server = Server(self._config(codec, len(messages)), directory=self._directory)
        if (refused := self._refused_by_budget(server, announced.terms)) is not None:
            self.reports[server_round] = RoundReport(
                server_round=server_round, nodes={}, dropped={}, blame=(), failure=refused
            )
            log.error("secagg: round %d is not begun, and nobody is invited: %s", server_round, refused)
            return []
        may = {} if self._batched is None else {"why_not": self._batched.why_not}
        round_ = GridRound(server, grid, messages, self._timeout_of, self._members, **may)
        log.info(
            "secagg: round %d: %d nodes invited; a sum needs %d of %d clients, and %d may collude with the server; "
            "the carrier is %s",
            server_round,
            len(messages),
            server.config.min_survivors,
            server.config.clients,
            server.config.colluders,
            server.config.carrier,
        )
        self._round, self._asked = (round_, codec, main_record(self.strategy, sent)), (grid, messages)
        return round_.training_messages(round_.exchange_keys(announced.to_bytes()))

    def _messages(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> list[Message]:
        """The wrapped strategy's, to whole batches of nodes where there are batches."""
        wide = with_floats(arrays)
        if self._batched is None:
            chosen = self.strategy.configure_train(server_round, wide, config, grid)
            chosen = sent_as_stored(chosen, wide, arrays)
            return chosen if self._left_out is None else self._left_out.narrow(chosen, self._fits)
        narrowed = BatchedGrid(grid, self._batched)
        messages = self.strategy.configure_train(server_round, wide, config, narrowed)
        messages = sent_as_stored(messages, wide, arrays)
        narrowed.check(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Unmask the sum, and hand the mean to the wrapped strategy."""
        if self._round is None:
            return self.strategy.aggregate_train(server_round, replies)
        (round_, codec, record), self._round = self._round, None
        updates, report = self._unmasking.open(server_round, round_, codec, replies)
        self.reports[server_round] = report
        if not updates:
            log.error("secagg: round %d gives no new model: %s", server_round, report.failure)
            return self.strategy.aggregate_train(server_round, [])
        log_mean(report, codec.terms.clip)
        means = [mean_reply(number, update, codec, record) for number, update in enumerate(updates)]
        arrays, metrics = self.strategy.aggregate_train(server_round, means)
        return None if arrays is None else self._judged(server_round, codec.stored(arrays, record)), metrics

    def _judged(self, server_round: int, candidate: ArrayRecord) -> ArrayRecord:
        """The candidate, or the previous model where the nodes' ballot drops the candidate."""
        asked, self._asked = self._asked, None
        if self._box is None or asked is None:
            return candidate
        outcome = self._box.judge(candidate, *asked)
        self.reports[server_round] = replace(self.reports[server_round], ballot=outcome)
        return candidate if outcome.kept else flat_model(model_of(asked[1]))

    def _ballot_round(self, encoder: Encoder, context: bytes, grid: Grid, asked: Sequence[Message]) -> GridRound:
        config = self._for_cohort(len(asked), encoder.length, input_max=encoder.input_max, context=context)
        server = Server(with_carrier(config, self._carrier), directory=self._directory)
        return GridRound(server, grid, asked, self._timeout_of, self._members)

    def _check_precision(self, codec: Codec) -> None:
        try:
            codec.check_precision()
        except ParameterError as coarse:
            if codec.terms.weight_scale == 1:
                raise
            raise ParameterError(
                f"{coarse} (it is counted in steps: max_weight {codec.terms.largest_weight:g} times weight_scale "
                f"{codec.terms.weight_scale})"
            ) from None

    def _check_records(self, sent: Mapping[str, ArrayRecord]) -> None:
        if self._box is not None and len(sent) > 1:
            raise ParameterError(
                f"the strategy sends the array records {', '.join(map(repr, sent))}, and a ballot is about one model: "
                "leave ballot out, or send one record"
            )
        if METRICS_RECORD in sent:
            raise ParameterError(f"an array record is called {METRICS_RECORD!r}, as that of the metrics is: rename it")

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """What the wrapped strategy makes of it."""
        messages = list(self.strategy.configure_evaluate(server_round, arrays, config, grid))
        if messages and self._private is not None and not self._warned_of_evaluation:
            self._warned_of_evaluation = True
            log.warning(
                "secagg: answers to evaluation leave nodes in clear, and no noise hides what they say; nodes that ask "
                "for private rounds refuse them: give the strategy fraction_evaluate=0.0"
            )
        elif messages and self._options["threat_model"].signs and not self._warned_of_evaluation:
            self._warned_of_evaluation = True
            log.warning(
                "secagg: in active, nodes refuse evaluation unless their own config has secagg-evaluate=true: give the "
                "strategy fraction_evaluate=0.0, and have metrics of training summed with SecAggStrategy(metrics=...)"
            )
        return messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """What the wrapped strategy makes of it."""
        return self.strategy.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log the options, and the wrapped strategy's."""
        log.info("\t├──> Secure aggregation: %s", self._options["threat_model"])
        shares = {
            name: "default" if self._options[name] is None else self._options[name] for name in ("gamma", "delta")
        }
        log.info("\t│\t├── gamma %(gamma)s | delta %(delta)s", shares)
        terms = self._asked_terms.terms
        parts = self._asked_terms.parts
        if parts.include is not None or parts.exclude:
            log.info("\t│\t├── include %s | exclude %s", list(parts.include or ["*"]), list(parts.exclude))
        log.info("\t│\t└── clip %s | bits %s | max weight %s", terms.clip, terms.bits, terms.largest_weight)
        self.strategy.summary()

    def _config(self, codec: Codec, invited: int) -> RoundConfig:
        """The round's config; the codec encodes and decodes for it from now on."""
        layout, context = codec.layout, context_of(codec.announced.to_bytes())
        if not isinstance(layout, PrivateLayout):
            plain = layout.encoder()
            config = self._for_cohort(invited, plain.length, input_max=plain.input_max, context=context)
            return with_carrier(config, self._carrier)
        cohort, encoder = self._private_cohort(invited), layout.encoder()
        config = cohort.replace(
            length=encoder.length,
            modulus=encoder.modulus_for(cohort.clients),
            input_max=encoder.input_max,
            context=context,
            version=max(cohort.version, encoder.wire_version),
            attachment_bytes=encoder.attachment_bytes,
        )
        config = with_carrier(config, self._carrier)
        codec.bind(config)
        return config

    def _private_cohort(self, invited: int) -> RoundConfig:
        """Who takes part, and how many may be lost; what is summed is not said yet."""
        cohort = self._for_cohort(invited, 1)
        return cohort if self._options.get("min_survivors") is not None else private_cohort(cohort)

    def _for_cohort(self, invited: int, length: int, **summed: Any) -> RoundConfig:
        options = self._options if self._left_out is None else self._left_out.options_for(self._options, invited)
        try:
            return RoundConfig.for_cohort(len(self._members) or invited, length, **summed, **options)
        except ParameterError as wrong:
            raise ParameterError(
                f"{wrong} (the strategy chose {invited} nodes: its min_train_nodes keeps it from choosing too few)"
            ) from None

    def _fits(self, invited: int) -> bool:
        """Whether the strategy and the options allow a round of so many nodes."""
        try:
            self._for_cohort(invited, 1)
        except ParameterError:
            return False
        return invited >= getattr(self.strategy, "min_train_nodes", 1)

    def _refused_by_budget(self, server: ServerMachine, terms: UpdateTerms) -> str | None:
        """Charge the budget for a private round; why not, where it does not allow the round."""
        if self._private is None or terms.privacy is None:
            return None
        try:
            self._private.charge(server.invitation(), terms.privacy)
        except (BudgetExceededError, BudgetFileError) as refused:
            return str(refused)
        return None

    def _timeout_of(self, phase: str) -> float | None:
        if isinstance(self._timeout, Mapping):
            return self._timeout.get(phase, _DEFAULT_TIMEOUT_S)
        return self._timeout

    def _terms_of(self, model: ArrayRecord, invited: int) -> UpdateTerms:
        """The terms for this round's model.  Raises ParameterError for a pattern that matches nothing."""
        if self._private is None:
            return self._asked_terms.terms_for(model)
        return self._private.terms_for(model, self._asked_terms.private_for(model), self._private_cohort(invited))


def _checked_timeout(timeout: float | Mapping[str, float] | None) -> float | Mapping[str, float] | None:
    if isinstance(timeout, Mapping) and (unknown := sorted(timeout.keys() - _TIMED_PHASES)):
        raise ParameterError(
            f"timeout: {unknown[0]!r} is none of {', '.join(_TIMED_PHASES)}; MASK has the timeout of start()"
        )
    return timeout
