"""A round with groups: what a robust rule, or a strategy that compares replies, gets of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

from secagg.adapters.flower.codec import Codec, MeanUpdate
from secagg.adapters.flower.extra_arrays import array_of_metric
from secagg.encoding import Encoder
from secagg.errors import InputError, ParameterError
from secagg.outcome import Result
from secagg.privacy.ask import Privacy
from secagg.robust.anomalies import RoundReport, report_round
from secagg.robust.blocks import Floats
from secagg.robust.groups import GroupMeans, as_update, group_means
from secagg.robust.rules import RuleName, coordinate_median, robust_mean
from secagg.wording import counted

HowMany: TypeAlias = int | Literal["auto"]
"""Into how many groups the nodes are drawn: a number, or "auto"."""


@final
@dataclass(frozen=True, slots=True)
class Robustness:
    """How groups become one mean.

    Attributes:
        rule: of ``RuleName``; None: the wrapped strategy gets a reply for each group.
        norm_limit: see ``secagg.robust.robust_mean``.
    """

    rule: RuleName | None = None
    norm_limit: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Opened:
    """What the sums of a round say.

    Attributes:
        updates: what the wrapped strategy gets: one mean, or one for each group.
        parts: of each sum, how many clients are in it, and their total weight.
        included: whose updates are in the sums, ascending.
        contributors: how many of them have a weight above 0.
        clipped: how many values were clipped.
        weight: the total weight.
        metrics: the mean of each metric: weighted, or the median of the groups' where a robust rule is asked for.
        report: how each group lies to the others; None without groups.
        means: of the groups, in the report's order: shape (groups, elements of the model); None without groups.
        failed: by number, why a group has no mean.
    """

    updates: tuple[MeanUpdate, ...]
    parts: tuple[tuple[int, float], ...]
    included: tuple[int, ...]
    contributors: int
    clipped: int
    weight: float
    metrics: Mapping[str, float]
    report: RoundReport | None = None
    means: Floats | None = None
    failed: Mapping[int, str] = field(default_factory=dict)


def checked_robustness(
    groups: HowMany | None, robust: str | None, norm_limit: float | None, *, privacy: Privacy | None, batches: object
) -> Robustness | None:
    """How groups become one mean; None without groups.  Raises ParameterError for what does not go together."""
    if groups is None:
        if robust is not None or norm_limit is not None:
            raise ParameterError("robust and norm_limit are about groups: give groups=..., or leave them out")
        return None
    for name, given in (("privacy", privacy), ("batches", batches)):
        if given is not None:
            raise ParameterError(
                f"groups and {name}: a sum of its own for each group is not what {name}=... counts on; leave one out"
            )
    if robust is None:
        if norm_limit is not None:
            raise ParameterError("norm_limit belongs to a rule: give robust=..., or leave it out")
        return Robustness()
    if robust not in list(RuleName):
        raise ParameterError(f"robust = {robust!r}: must be one of {', '.join(RuleName)}")
    return Robustness(RuleName(robust), norm_limit)


def opened_sum(codec: Codec, result: Result) -> Opened:
    """Of a round without groups.  Raises InputError as ``Codec.decode`` does."""
    mean = codec.decode(result)
    return Opened(
        updates=(mean,),
        parts=((len(result.included), mean.weight),),
        included=result.included,
        contributors=mean.contributors,
        clipped=mean.clipped,
        weight=mean.weight,
        metrics=mean.metrics,
    )


def opened_groups(codec: Codec, result: Result, robustness: Robustness) -> Opened:
    """Of a round with groups, of which those are left out whose sum no clients have.

    Raises InputError when no group is left, or too few are for the rule.
    """
    encoder = codec.encoder
    if not isinstance(encoder, Encoder):
        raise TypeError("a round with groups and noise")
    found = group_means(encoder, result.groups, min_contributors=result.min_survivors)
    each = tuple(
        codec.update_of(as_update(encoder, mean), weight, contributors, clipped)
        for mean, weight, contributors, clipped in zip(
            found.means, found.weights.tolist(), found.contributors, found.clipped, strict=True
        )
    )
    steps, contributors, clipped = float(found.weights.sum()), sum(found.contributors), sum(found.clipped)
    of_model = ~_metric_columns(codec, encoder)
    if robustness.rule is None:
        updates, centre = each, None
        shares = found.weights / steps
        metrics = {
            name: float(sum(share * update.metrics[name] for share, update in zip(shares, each, strict=True)))
            for name in codec.terms.metrics
        }
    else:
        whole = coordinate_median(found.means, found.weights)
        whole[of_model] = centre = _robust(found.means[:, of_model], found.weights, robustness.rule, robustness)
        update = codec.update_of(as_update(encoder, whole), steps, contributors, clipped)
        updates, metrics = (update,), update.metrics
    means = found.means[:, of_model]
    report = report_round(means, found.members, numbers=found.numbers, centre=centre)
    return Opened(
        updates=updates,
        parts=tuple((len(members), one.weight) for members, one in zip(found.members, each, strict=True)),
        included=tuple(sorted(member for group in found.members for member in group)),
        contributors=contributors,
        clipped=clipped,
        weight=steps / codec.terms.weight_scale,
        metrics=metrics,
        report=report,
        means=means,
        failed=_why_failed(result, found),
    )


def _robust(means: Floats, weights: Floats, rule: RuleName, robustness: Robustness) -> Floats:
    try:
        return robust_mean(means, weights, rule, norm_limit=robustness.norm_limit)
    except ParameterError as few:  # it depends on how many groups are left, which no argument can be checked against
        raise InputError(f"{counted(len(means), 'group')} with a mean: {few}") from None


def _metric_columns(codec: Codec, encoder: Encoder) -> npt.NDArray[np.bool_]:
    """Which elements of a mean are metrics, shape (m,): how far groups lie apart is said of the model alone."""
    summed = set(codec.announced.summed)
    ones = {name: np.zeros(shape) for name, _, shape in codec.announced.arrays if name in summed}
    ones |= {array_of_metric(metric): np.ones(()) for metric in codec.terms.metrics}
    return np.concatenate([part.ravel() for part in encoder.template.flatten(ones)]).astype(np.bool_)


def _why_failed(result: Result, found: GroupMeans) -> dict[int, str]:
    failed = {number: failure.reason for number, failure in result.failed_groups.items()}
    return dict(sorted({**failed, **found.refused}.items()))
