"""What became of a round, for the server's operator: figures, and what to look at when there is no new model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

from secagg.adapters.flower.private import log_report
from secagg.adapters.flower.records import log
from secagg.errors import InputError
from secagg.outcome import Blame, Failure
from secagg.pairwise.phases import ServerState
from secagg.privacy.adaptive_clipping import ClipState
from secagg.robust.anomalies import RoundReport as GroupsReport
from secagg.wording import counted, was

if TYPE_CHECKING:
    from secagg.adapters.flower.ballot_box import BallotReport
    from secagg.privacy.report import PrivacyReport

_NO_MOD: Final = (
    "no node has answered with a message of this protocol: give the ClientApp mods=[secagg_mod], and see the nodes' "
    "own answers in the lines above"
)
_CAUSES: Final[Mapping[str, str]] = {
    ServerState.ADVERTISE: (
        "clients refuse a round whose config or layout is below their own policy or whose noise their privacy budget "
        "does not cover, and a model whose update may be in a sum already: their own logs say which value"
    ),
    ServerState.MASK: (
        "clients leave here when their app fails, when its reply has other arrays than the model or lacks a metric, "
        "and when their update is not finite because training has diverged: look for 'this client leaves the round' "
        "in their own logs"
    ),
    ServerState.UNMASK: (
        "clients that have answered UNMASK refuse this very model from now on, because they cannot know whether this "
        "failure is true: see 'When a round failed in UNMASK' in docs/flower.md"
    ),
}
_COARSE: Final = 0.01
"""Of the clip: an error bound above it is worth a line in the log."""
_NO_MEAN: Final = (
    "if too few contribute, the usual causes are: the apps report 0, a number below 0 or a fraction below 0.5 for "
    "{metric!r}, or clients without data take part; the clients' own logs have a line for each"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What became of a round.

    Attributes:
        server_round: Flower's number of it.
        nodes: by cohort index, the nodes that took part.
        included: the cohort indices whose updates are in the mean; empty without one.
        contributors: how many of them have a weight above 0; all of them where there are no weights.
        clipped: how many values were clipped, over all clients; a weight that was reduced to
            ``max_weight`` adds one.
        dropped: by phase, the cohort indices that were lost in it.
        blame: who broke which rule.
        total_weight: of the updates in the mean; in a private round, an estimate of it.
        error_bound: the most by which a value can differ from the exact mean of the clipped updates, for arrays with
            the strategy's ``clip`` and ``bits``; 0 when there are none.  Infinity in a private round, whose noise has
            no bound.
        error_bounds: the same for the arrays with a clip, bits or class weights of their own and for metrics, by name.
        metrics: of each metric that is summed, its mean or its sum.
        thin_classes: by metric of class weights, the classes to which fewer than ``min_survivors`` clients contribute:
            the rows of their arrays stay as they were.
        failure: why there is no new model, and where to look; empty when there is one.
        privacy: what a private round promised and what it reached; None without noise, and without a mean.
        noise: standard deviation of the noise in each value of the mean; 0.0 without.
        clip_state: where an adaptive clip stands after the round; None without one.
        groups: how each group's mean lies to the others, by cohort index; None in a round without groups.
        failed_groups: by number, why a group has no sum, or one that no clients have.
        ballot: what the nodes said of the new model, and whether it was kept; None without a ballot.
        left_out: the nodes that the wrapped strategy chose and that were not invited, since they had stood out; by
            node, ascending.
    """

    server_round: int
    nodes: Mapping[int, int]
    included: tuple[int, ...] = ()
    contributors: int = 0
    clipped: int = 0
    dropped: Mapping[str, tuple[int, ...]]
    blame: tuple[Blame, ...]
    total_weight: float = 0
    error_bound: float = 0.0
    error_bounds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    thin_classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    failure: str
    privacy: PrivacyReport | None = None
    noise: float = 0.0
    clip_state: ClipState | None = None
    groups: GroupsReport | None = None
    failed_groups: Mapping[int, str] = field(default_factory=dict)
    ballot: BallotReport | None = None
    left_out: tuple[int, ...] = ()


def why_failed(failure: Failure, *, heard: bool) -> str:
    """The reason of a failed round, with what usually causes it; ``heard``: whether any node spoke the protocol."""
    reason = f"{failure.reason} (in {failure.phase})"
    causes = _CAUSES.get(failure.phase) if heard else _NO_MOD
    return f"{reason}; {causes}" if causes else reason


def why_no_mean(reason: InputError, metric: str) -> str:
    """The reason of a sum that gives no mean; ``metric`` is what weighs."""
    return f"{reason}; {_NO_MEAN.format(metric=metric)}"


def log_mean(report: RoundReport, clip: float) -> None:
    """Say what a mean is of, and what was lost of it; ``clip``: the strategy's."""
    if report.privacy is not None:
        log_report(report.privacy)
    log.info(
        "secagg: round %d: the mean of %d clients, %d of them with a weight; total weight %g; lost by phase: %s",
        report.server_round,
        len(report.included),
        report.contributors,
        report.total_weight,
        {phase: len(lost) for phase, lost in report.dropped.items()} or "nobody",
    )
    for metric, classes in report.thin_classes.items():
        log.warning(
            "secagg: round %d: too few clients have a weight for the classes %s of %r: their rows stay as they were",
            report.server_round,
            ", ".join(map(str, classes)),
            metric,
        )
    if report.clipped:
        log.warning(
            "secagg: round %d: %s %s clipped over all clients (a weight above max_weight counts here like a value): "
            "raise the clip or max_weight to keep them",
            report.server_round,
            counted(report.clipped, "value"),
            was(report.clipped),
        )
    if report.privacy is None and report.error_bound > _COARSE * clip:
        log.warning(
            "secagg: round %d: a value of the mean may be off by %.2g, with a clip of %.2g: give the strategy more "
            "bits, or a max_weight closer to the clients' weights",
            report.server_round,
            report.error_bound,
            clip,
        )
