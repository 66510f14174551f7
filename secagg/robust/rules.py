"""Robust means over group means: what a few poisoned groups cannot move far.

The server of a grouped round sees one sum for each group, and any group may hold a client that lies.  Each rule takes
the G group means to one vector, and bounds what a minority of the groups can do to it:

- ``coordinate_median``, ``trimmed_mean``: Yin, Chen, Ramchandran and Bartlett, "Byzantine-Robust Distributed Learning:
  Towards Optimal Statistical Rates" (ICML 2018), Definitions 1 and 2.
- ``geometric_median``: Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning" (IEEE Transactions
  on Signal Processing, 2022): the smoothed Weiszfeld iteration.
- ``multi_krum``: Blanchard, El Mhamdi, Guerraoui and Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
  Gradient Descent" (NIPS 2017).
- ``mixed_geometric_median``: Allouah, Farhadkhani, Guerraoui, Gupta, Pinot and Stephan, "Fixing by Mixing: A Recipe for
  Optimal Byzantine ML under Heterogeneity" (AISTATS 2023): nearest-neighbour mixing, here before the geometric median.

Every rule is a function of the means, shape (G, m), and weights, shape (G,), to a vector, shape (m,); each coordinate
of the result lies between the smallest and the largest of the group means there.  ``robust_mean`` finds a rule by its
name, or takes any such function.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.errors import InputError, ParameterError
from secagg.robust.blocks import (
    Floats,
    checked_means,
    checked_weights,
    column_blocks,
    combined,
    gram_about,
    squared_distances,
)
from secagg.wording import counted

Rule: TypeAlias = Callable[[Floats, Floats], Floats]
"""Takes group means, shape (G, m), and weights, shape (G,), to one vector, shape (m,); all float64."""

_MOST_STEPS: Final = 1000
_CLOSE_ENOUGH: Final = 1e-12
"""The Weiszfeld iteration ends when a step changes no group's share by more than this."""
_EDGE: Final = 1e-9
"""Of the whole weight: what is nearer to half of it counts as half, for sums of weights are rounded."""
_SHORT_SHARE: Final = 0.2
_DUST: Final = 1e-12
"""Of the whole weight: what is left of a group after a cut that should have taken all of it."""


class RuleName(StrEnum):
    """The rules that ``robust_mean`` knows by name."""

    MEAN = "mean"
    MEDIAN = "median"
    TRIMMED_MEAN = "trimmed-mean"
    GEOMETRIC_MEDIAN = "geometric-median"
    MULTI_KRUM = "multi-krum"
    MIXED_GEOMETRIC_MEDIAN = "mixed-geometric-median"


def robust_mean(
    means: npt.ArrayLike,
    counts: npt.ArrayLike,
    rule: str | Rule = RuleName.TRIMMED_MEAN,
    *,
    bad: int | None = None,
    weight_cap: float = 1.0,
    norm_limit: float | None = None,
) -> Floats:
    """One vector from the means of groups, a minority of which may be poisoned; shape (m,), float64.

    A group that claims a large weight would count for many.  So no group's weight counts for more than ``weight_cap``
    times the middle one (the weights' median), except under the rule "mean", which is the plain weighted mean of all
    groups, and not robust.  Pass equal counts, and every group counts as one.

    It takes memory for one more vector, and time in O(G m log G), or O(G^2 m) for the rules on distances.  Where a norm
    limit leaves groups out, the means of the others are copied.

    Args:
        means: the groups' means, shape (G, m).
        counts: of each group, the clients in its sum, or their total weight; shape (G,), above 0.
        rule: a name of ``RuleName``, or a function such as ``functools.partial(trimmed_mean, bad=3)``, which is handed
            the means and the capped weights.
        bad: for "trimmed-mean", "multi-krum" and "mixed-geometric-median", how many groups may be poisoned.  By
            default the last two take the most that ``most_bad`` finds, and the trimmed mean half of that: it cuts about
            a quarter of the weight off each end, and is the median when it cuts all it can.  The other rules have no
            such parameter.
        weight_cap: at least 1.
        norm_limit: leave out, before the rule, the groups that ``within_norm`` finds too long at this factor.  ``bad``
            counts those that are left out, too.  Like the cap, it does not hold for "mean".

    Raises:
        InputError: for means of another shape, with values that are not finite or beyond 1e150, or for a rule's result
            of another shape.
        ParameterError: for counts that are not above 0, an unknown name, or more bad groups than the rule can bear.
    """
    rows = checked_means(means)
    weights = checked_weights(counts, len(rows))
    if norm_limit is not None and rule != RuleName.MEAN:
        short = within_norm(rows, norm_limit)
        left_out = int(np.count_nonzero(~short))
        if left_out:
            rows, weights = rows[short], weights[short]
            bad = None if bad is None else max(0, bad - left_out)
    capped = capped_weights(weights, weight_cap)
    if callable(rule):
        _no_bad(bad, "a rule that is handed in")
        return _checked_result(rule(rows, capped), rows.shape[1])
    match _named(rule):
        case RuleName.MEAN:
            _no_bad(bad, "the rule 'mean'")
            return combined(rows, weights / weights.sum())
        case RuleName.MEDIAN:
            _no_bad(bad, "the rule 'median'")
            return coordinate_median(rows, capped)
        case RuleName.TRIMMED_MEAN:
            return trimmed_mean(rows, capped, bad=most_bad(capped, rule) // 2 if bad is None else bad)
        case RuleName.GEOMETRIC_MEDIAN:
            _no_bad(bad, "the rule 'geometric-median'")
            return geometric_median(rows, capped)
        case RuleName.MULTI_KRUM:
            return multi_krum(rows, capped, bad=most_bad(capped, rule) if bad is None else bad)
        case RuleName.MIXED_GEOMETRIC_MEDIAN:
            return mixed_geometric_median(rows, capped, bad=most_bad(capped, rule) if bad is None else bad)


def capped_weights(weights: npt.ArrayLike, cap: float = 1.0) -> Floats:
    """The weights, none above ``cap`` times their median; shape (G,).

    Raises ParameterError for a cap below 1, or weights that are not finite and above 0.
    """
    if not cap >= 1:
        raise ParameterError(f"weight_cap is {cap!r}: it must be at least 1")
    found = checked_weights(weights, np.size(weights))
    most = cap * float(np.median(found))
    return np.minimum(found, most)


def within_norm(means: npt.ArrayLike, factor: float = 2.0) -> npt.NDArray[np.bool_]:
    """Which groups are not much longer than the shortest ones; shape (G,).

    Those whose mean has an L2 norm of at most ``factor`` times the norm that a fifth of the groups stay within.  An
    attacker that wants to outweigh the honest members of its group must send a long update, and its group is then found
    by its length, even where more than half of the groups are poisoned.  One that stays short passes, and is for the
    rule to bear.

    Raises InputError as ``robust_mean`` does, and ParameterError for a factor below 1.
    """
    rows = checked_means(means)
    if not factor >= 1:
        raise ParameterError(f"the norm limit is {factor!r}: it must be at least 1")
    norms = np.sqrt([float(row @ row) for row in rows])
    return norms <= factor * float(np.quantile(norms, _SHORT_SHARE, method="lower"))


def most_bad(weights: npt.ArrayLike, rule: str = RuleName.TRIMMED_MEAN) -> int:
    """How many groups a rule can bear when they lie as they please: the largest b that is safe for any b groups.

    For "median", "trimmed-mean" and "geometric-median": any b groups have less than half of the weight, so that b is
    (G - 1) // 2 for equal weights.  The coordinates of the first two then stay within the range of the other groups'
    means.  For "mixed-geometric-median", which mixes before it weighs, 2 b < G.  For "multi-krum", 2 b + 2 < G
    (Blanchard et al.).  For "mean", 0.

    Args:
        weights: as the rule gets them, after ``capped_weights``; shape (G,).
        rule: a name of ``RuleName``.

    Raises ParameterError for weights that are not above 0, or an unknown name.
    """
    found = checked_weights(weights, np.size(weights))
    match _named(rule):
        case RuleName.MEAN:
            return 0
        case RuleName.MULTI_KRUM:
            return max(0, (len(found) - 3) // 2)
        case RuleName.MIXED_GEOMETRIC_MEDIAN:
            return (len(found) - 1) // 2
        case _:
            heaviest = np.cumsum(np.sort(found)[::-1])
            return int(np.count_nonzero(2 * heaviest < heaviest[-1] * (1 - _EDGE)))


def coordinate_median(means: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """The weighted median of each coordinate: half of the weight lies at or below it, and half at or above; shape (m,).

    Where every value between two neighbouring means has that property, it is the middle of the two, as for
    ``numpy.median``.  Groups with less than half of the weight cannot move a coordinate out of the range of the others.

    Raises InputError and ParameterError as ``robust_mean`` does.
    """
    rows = checked_means(means)
    found = checked_weights(weights, len(rows))
    half = float(found.sum()) / 2
    return _by_rank(rows, found, half, half)


def trimmed_mean(means: npt.ArrayLike, weights: npt.ArrayLike, *, bad: int) -> Floats:
    """The weighted mean of each coordinate without its largest and smallest values; shape (m,).

    It cuts as much weight off each end as the ``bad`` heaviest groups have together; a group on the edge of the cut
    counts with the rest of its weight.  With equal weights those are the ``bad`` largest and smallest values.  However
    ``bad`` groups lie, every coordinate stays within the range of the others.

    Raises InputError and ParameterError as ``robust_mean`` does, and ParameterError where the cut would leave nothing.
    """
    rows = checked_means(means)
    found = checked_weights(weights, len(rows))
    most = most_bad(found, RuleName.TRIMMED_MEAN)
    _check_bad(bad, most, len(rows), RuleName.TRIMMED_MEAN)
    cut = float(np.sort(found)[::-1][:bad].sum())
    return _by_rank(rows, found, cut, float(found.sum()) - cut)


def geometric_median(means: npt.ArrayLike, weights: npt.ArrayLike, *, smoothing: float = 1e-6) -> Floats:
    """The point whose weighted sum of distances to the group means is the smallest, by smoothed Weiszfeld; shape (m,).

    Each step is the mean of the groups, weighted by weight / max(distance, smoothing * median distance), until the
    shares of the groups stand still.  The smoothing adds at most ``smoothing`` times the median distance to the mean
    distance that is minimised.  Groups with less than half of the weight can move it by a bounded multiple of the
    spread of the others; a single coordinate may leave their range.

    Raises InputError and ParameterError as ``robust_mean`` does, and ParameterError for a smoothing out of 0 .. 1.
    """
    rows = checked_means(means)
    found = checked_weights(weights, len(rows))
    _check_smoothing(smoothing)
    return combined(rows, _weiszfeld_shares(_centred_gram(rows), found / found.sum(), smoothing))


def multi_krum(means: npt.ArrayLike, weights: npt.ArrayLike, *, bad: int, keep: int | None = None) -> Floats:
    """The weighted mean of the groups with the lowest Krum scores; shape (m,).

    A group's score is the sum of its squared distances to the G - bad - 2 groups nearest to it.  Weights enter in the
    mean, and not in the scores.

    Args:
        means: shape (G, m).
        weights: shape (G,).
        bad: how many groups may be poisoned, with 2 bad + 2 < G.
        keep: how many groups are averaged, 1 to G - bad - 2; by default G - bad - 2.

    Raises InputError and ParameterError as ``robust_mean`` does, and ParameterError for ``keep`` out of range.
    """
    rows = checked_means(means)
    found = checked_weights(weights, len(rows))
    groups = len(rows)
    if groups < 3:
        raise ParameterError(f"there are {counted(groups, 'group')}: multi-krum needs at least 3")
    _check_bad(bad, most_bad(found, RuleName.MULTI_KRUM), groups, RuleName.MULTI_KRUM)
    nearest = groups - bad - 2
    kept = nearest if keep is None else keep
    if not 1 <= kept <= nearest:
        raise ParameterError(f"keep is {keep!r}: it must be 1 to {nearest}, the groups without bad ones and two more")
    distances = np.sort(squared_distances(_centred_gram(rows)), axis=1)  # each row begins with the group itself
    scores = distances[:, 1 : nearest + 1].sum(axis=1)
    shares = np.zeros(groups)
    chosen = np.argsort(scores, kind="stable")[:kept]
    shares[chosen] = found[chosen] / found[chosen].sum()
    return combined(rows, shares)


def mixed_geometric_median(
    means: npt.ArrayLike, weights: npt.ArrayLike, *, bad: int, smoothing: float = 1e-6
) -> Floats:
    """The geometric median of the means after each was mixed with its neighbours; shape (m,).

    Every group's mean is replaced by the weighted mean of the G - bad means nearest to it, itself among them.  That
    evens out what differs from one honest group to the next, in which "a little is enough" hides from the other rules.
    The mixed means then count equally.

    Raises InputError and ParameterError as ``robust_mean`` does, and ParameterError for a smoothing out of 0 .. 1.
    """
    rows = checked_means(means)
    found = checked_weights(weights, len(rows))
    groups = len(rows)
    _check_smoothing(smoothing)
    most = most_bad(found, RuleName.MIXED_GEOMETRIC_MEDIAN)
    _check_bad(bad, most, groups, RuleName.MIXED_GEOMETRIC_MEDIAN)
    gram = _centred_gram(rows)
    nearest = np.argsort(squared_distances(gram), axis=1, kind="stable")[:, : groups - bad]
    mixing = np.zeros((groups, groups))
    np.put_along_axis(mixing, nearest, found[nearest], axis=1)
    mixing /= mixing.sum(axis=1, keepdims=True)
    shares = _weiszfeld_shares(mixing @ gram @ mixing.T, np.full(groups, 1 / groups), smoothing)
    return combined(rows, shares @ mixing)


def _named(rule: str) -> RuleName:
    try:
        return RuleName(rule)
    except ValueError:
        known = ", ".join(repr(str(name)) for name in RuleName)
        raise ParameterError(f"the rule is {rule!r}: it must be one of {known}, or a function") from None


def _no_bad(bad: int | None, what: str) -> None:
    if bad is not None:
        raise ParameterError(f"bad is {bad!r}: {what} takes no number of bad groups")


def _check_smoothing(smoothing: float) -> None:
    if not 0 < smoothing < 1:
        raise ParameterError(f"smoothing is {smoothing!r}: it must be above 0 and below 1")


def _check_bad(bad: int, most: int, groups: int, rule: str) -> None:
    if not 0 <= bad <= most:
        raise ParameterError(
            f"bad is {bad!r}: with {counted(groups, 'group')} of these weights the rule {str(rule)!r} can bear 0 to "
            f"{most}; draw more groups, or allow for fewer bad ones"
        )


def _checked_result(found: Any, length: int) -> Floats:
    result = np.asarray(found, dtype=np.float64)
    if result.shape != (length,) or not np.isfinite(result).all():
        raise InputError(
            f"the rule that was handed in gave an array of shape {result.shape}: it must give {length} finite numbers"
        )
    return result


def _by_rank(rows: Floats, weights: Floats, low: float, high: float) -> Floats:
    """Of each coordinate, the weighted mean of what lies between two ranks of the cumulated weight; shape (m,).

    For ``low`` = ``high``, the middle of the values that have this rank.
    """
    if (weights == weights[0]).all():
        return _by_equal_rank(rows, _kept(weights, low, high))
    result = np.empty(rows.shape[1])
    for block in column_blocks(rows):
        values = np.ascontiguousarray(rows[:, block].T)
        order = values.argsort(axis=1)
        values = np.take_along_axis(values, order, axis=1)
        kept = _kept(weights[order], low, high)
        smallest = np.where(kept > 0, values, np.inf).min(axis=1)
        largest = np.where(kept > 0, values, -np.inf).max(axis=1)
        found = np.einsum("ij,ij->i", values, kept) / kept.sum(axis=1)
        result[block] = np.clip(found, smallest, largest)
    return result


def _by_equal_rank(rows: Floats, kept: Floats) -> Floats:
    """``_by_rank`` where every coordinate keeps the same ranks, so that only values are sorted; ``kept`` is by rank."""
    there = np.flatnonzero(kept)
    ranks = slice(int(there[0]), int(there[-1]) + 1)
    shares = kept[ranks] / kept.sum()
    result = np.empty(rows.shape[1])
    for block in column_blocks(rows):
        values = np.ascontiguousarray(rows[:, block].T)
        values.sort(axis=1)
        inner = values[:, ranks]
        result[block] = np.clip(inner @ shares, inner[:, 0], inner[:, -1])
    return result


def _kept(ordered: Floats, low: float, high: float) -> Floats:
    """How much of each weight lies between two ranks of the cumulated weight, along the last axis."""
    upper = np.cumsum(ordered, axis=-1)
    lower = upper - ordered
    close = _DUST * upper[..., -1:]  # sums of weights in another order differ by float64's rounding
    if low < high:
        kept = np.minimum(upper, high) - np.maximum(lower, low)
        return np.where(kept > close, kept, 0.0)
    return ((lower <= low + close) & (upper >= low - close)).astype(np.float64)


def _centred_gram(rows: Floats) -> Floats:
    """The Gram matrix about the row nearest to most others: the rows that matter are then exact to float64."""
    rough = squared_distances(gram_about(rows, rows[0]))
    return gram_about(rows, rows[int(np.median(rough, axis=1).argmin())])


def _weiszfeld_shares(gram: Floats, weights: Floats, smoothing: float) -> Floats:
    """The shares of the groups in their geometric median, from inner products alone; shape (G,).

    Every iterate is a convex combination of the groups with shares a, so that its squared distance to group g is
    K_gg - 2 (K a)_g + a' K a: a step costs O(G^2), and the long vectors are read twice in all.  The inner products are
    about a point near most groups (``_centred_gram``), so that their diagonal says which groups are near it.
    """
    norms = np.diagonal(gram)
    shares = np.zeros(len(weights))
    near = np.argsort(norms, kind="stable")[: len(weights) // 2 + 1]
    shares[near] = weights[near] / weights[near].sum()  # from the mean, groups far away would drown all others
    for _ in range(_MOST_STEPS):
        pulled = gram @ shares
        distances = np.sqrt(np.maximum(norms - 2 * pulled + shares @ pulled, 0.0))
        floor = smoothing * float(np.median(distances))
        if floor == 0:
            return shares  # most groups are at this very point
        following = weights / np.maximum(distances, floor)
        following /= following.sum()
        still = float(np.abs(following - shares).max()) <= _CLOSE_ENOUGH
        shares = following
        if still:
            break
    return shares
