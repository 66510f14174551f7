"""The server's side of a job: what a controller does in place of sending a model and averaging what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

from nvflare.apis.controller_spec import ClientTask
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

from secagg.adapters.hosted_round import HostedRound
from secagg.adapters.model_arrays import WHOLE_BITS, clip_of_whole_numbers
from secagg.adapters.nvflare.announcement import (
    Announcement,
    Arrays,
    UpdateTerms,
    array_of_metric,
    arrays_of,
    context_of,
    digest_of_told,
    dxo_of,
)
from secagg.adapters.nvflare.codec import Codec, MeanUpdate
from secagg.adapters.nvflare.payload import TASK, ToSite, in_shareable, log
from secagg.adapters.nvflare.site import WEIGHT
from secagg.adapters.nvflare.tasks import Exchange
from secagg.credentials import load_directory
from secagg.encoding.settings import resolved
from secagg.errors import InputError, ParameterError, PeerError
from secagg.identity import MemoryDirectory
from secagg.outcome import Blame
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.pairwise.server import Server
from secagg.pairwise.transcript import EXTENDED_VERSION
from secagg.pairwise.values import as_suite, as_threat_model

_GOODBYE_S: Final = 10.0
"""For telling sites that the round is over; no answer of theirs is needed."""
_ROUND_OPTIONS: Final = frozenset(
    {
        "gamma",
        "delta",
        "neighbours",
        "threshold",
        "min_survivors",
        "suite",
        "sigma",
        "grinding_bits",
        "eta",
        "complaints",
    }
)
"""The arguments of ``RoundConfig.for_cohort`` that a job may give: what else there is, this host has no place for."""
BeforeSent: TypeAlias = Callable[[ClientTask, FLContext], None] | None


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How rounds are run; ``SecAggFedAvg`` documents each."""

    clip: float
    max_weight: int | None
    bits: int = 16
    clips: Mapping[str, float] = field(default_factory=dict)
    array_bits: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    difference: bool = True
    threat_model: ThreatModel | str = ThreatModel.SEMI_HONEST
    directory: str | None = None
    timeout: float | None = 120.0
    train_timeout: float | None = None
    round_options: Mapping[str, Any] = field(default_factory=dict)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What became of a round.

    Attributes:
        number: NVFlare's number of it.
        sites: by cohort index, the sites that took part.
        included: those whose updates are in the mean, ascending; empty without a mean.
        contributors: how many of them have a weight above 0; all of them where there are no weights.
        clipped: how many values were clipped, over all sites; a weight that was reduced to ``max_weight`` adds one.
        dropped: by phase, the sites that were lost in it.
        blame: who broke which rule, by cohort index.
        total_weight: of the updates in the mean.
        metrics: the weighted mean of each metric that is summed.
        failure: why there is no mean; empty when there is one.
    """

    number: int
    sites: Mapping[int, str]
    included: tuple[str, ...] = ()
    contributors: int = 0
    clipped: int = 0
    dropped: Mapping[str, tuple[str, ...]]
    blame: tuple[Blame, ...]
    total_weight: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""


@final
class SecureRounds:
    """Runs rounds of the protocol over the sites of a job."""

    def __init__(self, settings: Settings, train_timeout: float | None = None) -> None:
        """``train_timeout`` is that of settings without one.

        Raises ParameterError and OSError for settings that cannot be used in any round.
        """
        self._settings = settings
        self._train_timeout = train_timeout if settings.train_timeout is None else settings.train_timeout
        _check(settings)
        self._options: dict[str, Any] = {
            **settings.round_options,
            "threat_model": as_threat_model(settings.threat_model),
        }
        if as_suite(self._options.get("suite", Suite.AES_128)).is_hybrid or self._options.get("complaints"):
            self._options["version"] = EXTENDED_VERSION
        self._directory: MemoryDirectory | None = None
        self._members: tuple[bytes, ...] = ()
        self._names: tuple[str, ...] = ()
        if settings.directory is not None:
            self._directory, self._names, digest = load_directory(settings.directory)
            self._members = tuple(self._directory.cohort(digest) or ())
            self._options["cohort"] = digest
        self._whole: dict[str, str] = {}
        """The types of the arrays that held whole numbers when they were first met: their means are floats."""

    def run(
        self,
        number: int,
        task_name: str,
        task_for: Callable[[], Shareable],
        sites: Sequence[str],
        exchange: Exchange,
        *,
        before_sent: BeforeSent = None,
        executor: Executor | None = None,
    ) -> tuple[MeanUpdate | None, RoundReport]:
        """One round: the mean of what the sites trained, or none, and what became of the round.

        Args:
            number: NVFlare's number of the round.
            task_name: of the training task.
            task_for: makes that task's data, a new one at each call.
            sites: whom to invite.
            exchange: how tasks are sent.
            before_sent: NVFlare's callback for a training task.
            executor: where masks are expanded; see ``Server.compute``.

        Raises ParameterError or InputError for a model or settings that do not fit, JobAbortedError.
        """
        task = task_for()
        model = arrays_of(dxo_of(task).data)
        announced = Announcement.of(model, self._terms_for(model), digest_of_told(task, task_name))
        codec = Codec(model, announced)
        codec.encoder.check_precision()
        server = Server(self._config(codec, len(sites)), directory=self._directory)
        round_ = HostedRound[str](server, log, "site", self._members)
        config = server.config
        log.info(
            "secagg: round %d: %d sites invited; a sum needs %d of %d, and %d may collude with the server",
            number,
            len(sites),
            config.min_survivors,
            config.clients,
            config.colluders,
        )
        self._hold(round_, sites, announced.to_bytes(), exchange, task_name, task_for, before_sent)
        return self._opened(number, round_, codec, executor)

    def _hold(
        self,
        round_: HostedRound[str],
        sites: Sequence[str],
        announcement: bytes,
        exchange: Exchange,
        task_name: str,
        task_for: Callable[[], Shareable],
        before_sent: BeforeSent,
    ) -> None:
        """All phases up to the last that succeeds."""
        server, settings = round_.server, self._settings

        def say_goodbye(last: Mapping[str, bytes]) -> None:
            farewell = {site: in_shareable(ToSite("ABORTED", data)) for site, data in last.items()}
            list(exchange(TASK, farewell, _GOODBYE_S))

        def ask(data: Mapping[str, Shareable], name: str, timeout: float | None, sent: BeforeSent) -> dict[str, bytes]:
            for site, reply in exchange(name, data, timeout, sent):
                if isinstance(reply, str):
                    round_.lost(site, reply)
                else:
                    round_.take(site, reply.message, reply.index)
            return round_.close(say_goodbye)

        first = {
            site: in_shareable(
                ToSite(server.phase.value, invitation=server.invitation(), announcement=announcement, index=index)
            )
            for site, index in round_.indices(sites).items()
        }
        pending = ask(first, TASK, settings.timeout, None)
        while pending:
            phase = server.phase.value
            trains = phase == Phase.MASK
            data = {
                site: in_shareable(ToSite(phase, message), task_for() if trains else None)
                for site, message in pending.items()
            }
            if trains:
                pending = ask(data, task_name, self._train_timeout, before_sent)
            else:
                pending = ask(data, TASK, settings.timeout, None)

    def _opened(
        self, number: int, round_: HostedRound[str], codec: Codec, executor: Executor | None
    ) -> tuple[MeanUpdate | None, RoundReport]:
        server, mean, failure = round_.server, None, ""
        included: tuple[int, ...] = ()
        if server.failure is not None:
            failure = f"{server.failure.reason} (in {server.failure.phase})"
        else:
            try:
                result = server.compute(executor)
                mean, included = codec.decode(result), result.included
            except (PeerError, InputError) as wrong:  # a site that dealt bad shares; a sum that no sites have
                failure = str(wrong)
        report = RoundReport(
            number=number,
            sites=dict(round_.name_of),
            dropped={
                phase: tuple(self._name(round_, index) for index in lost) for phase, lost in server.dropped.items()
            },
            blame=server.blame,
            failure=failure,
            **({} if mean is None else _figures(mean, [self._name(round_, index) for index in included])),
        )
        return mean, report

    def _name(self, round_: HostedRound[str], index: int) -> str:
        """Of a member, which may never have joined."""
        listed = self._names[index] if index < len(self._names) else f"client {index}"
        return round_.name_of.get(index, listed)

    def _config(self, codec: Codec, invited: int) -> RoundConfig:
        encoder = codec.layout.encoder()
        context = context_of(codec.announced.to_bytes())
        clients = len(self._members) or invited
        try:
            return RoundConfig.for_cohort(
                clients, encoder.length, input_max=encoder.input_max, context=context, **self._options
            )
        except ParameterError as wrong:
            raise ParameterError(f"{wrong} (for a cohort of {clients}, of which {invited} connected)") from None

    def _terms_for(self, model: Arrays) -> UpdateTerms:
        """The terms for this round's model, with the clips and bits of arrays of whole numbers that nobody chose."""
        settings, names = self._settings, list(model)
        self._whole |= {
            name: values.dtype.name
            for name, values in model.items()
            if values.dtype.kind in "biu" and name not in self._whole
        }
        whole = {
            name: clip_of_whole_numbers(kind, settings.clip, difference=settings.difference)
            for name, kind in self._whole.items()
            if name in model
        }
        metrics = {name: float(largest) for name, largest in settings.metrics.items()}
        clips = {name: float(clip) for name, clip in resolved("clips", names, settings.clips).items()}
        bits = resolved("array_bits", names, settings.array_bits)
        return UpdateTerms(
            clip=float(settings.clip),
            bits=settings.bits,
            max_weight=settings.max_weight,
            clips=whole | clips,
            array_bits=dict.fromkeys([*whole, *map(array_of_metric, metrics)], WHOLE_BITS) | bits,
            metrics=metrics,
            difference=settings.difference,
            weighted_by=WEIGHT,
        )


def _check(settings: Settings) -> None:
    """Raises ParameterError for what would fail, or wait for nothing, in every round."""
    if strangers := sorted(set(settings.round_options) - _ROUND_OPTIONS):
        raise ParameterError(
            f"round_options has {strangers[0]!r}: rounds over NVFlare take {', '.join(sorted(_ROUND_OPTIONS))}"
        )
    for name, seconds in (("timeout", settings.timeout), ("train_timeout", settings.train_timeout)):
        if seconds is not None and not seconds > 0:
            raise ParameterError(f"{name} = {seconds!r}: seconds above 0, or None to wait for ever")


def _figures(mean: MeanUpdate, included: list[str]) -> dict[str, Any]:
    return {
        "included": tuple(included),
        "contributors": mean.contributors,
        "clipped": mean.clipped,
        "total_weight": mean.weight,
        "metrics": mean.metrics,
    }
