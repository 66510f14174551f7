"""What regressions report of their coefficients: estimates, errors, tests, intervals, and a figure of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from secagg.statistics.chunk import Floats
from secagg.statistics.design import INTERCEPT
from secagg.statistics.distributions import margin, two_sided
from secagg.statistics.results import Forest

Coefficient: TypeAlias = dict[str, Any]
"""Numbers by name; None where one is not defined."""


def tested(estimate: float, error: float, statistic: str, freedom: float, confidence: float) -> Coefficient:
    """An estimate with its test and interval by Student's t, or by the normal law where ``freedom`` is infinite.

    ``statistic`` is what the ratio of the two is called.
    """
    half = margin(error, freedom, confidence) or 0.0
    ratio = estimate / error if error > 0 else None
    return {
        "estimate": estimate,
        "error": error,
        statistic: ratio,
        "p": None if ratio is None else two_sided(ratio, freedom),
        "low": estimate - half,
        "high": estimate + half,
    }


def by_name(
    names: Sequence[str],
    kept: Collection[int],
    estimates: Floats,
    covariance: Floats,
    heads: Sequence[str],
    coefficient: Callable[[float, float], Coefficient],
) -> dict[str, Coefficient]:
    """Each coefficient, of its estimate and its error; None in all of ``heads`` for those that are not ``kept``."""
    errors = np.sqrt(covariance.diagonal().clip(0.0))
    return {
        name: coefficient(float(estimates[at]), float(errors[at])) if at in kept else dict.fromkeys(heads)
        for at, name in enumerate(names)
    }


def left_out(names: Sequence[str], kept: Collection[int]) -> list[str]:
    """A note on the columns that are not kept; empty where all are."""
    others = [name for at, name in enumerate(names) if at not in kept]
    return [f"{', '.join(others)}: left out, a combination of the columns before."] if others else []


def forest(
    title: str,
    label: str,
    coefficients: Mapping[str, Mapping[str, Any]],
    heads: tuple[str, str, str],
    reference: float,
    confidence: float,
) -> tuple[Forest, ...]:
    """A figure of all coefficients but the intercept; none where there is nothing to draw.

    ``heads`` name the estimate and the ends of its interval.
    """
    drawn = {
        name: one
        for name, one in coefficients.items()
        if name != INTERCEPT and all(one[head] is not None for head in heads)
    }
    if not drawn:
        return ()
    estimates, low, high = (tuple(one[head] for one in drawn.values()) for head in heads)
    return (Forest(title, label, tuple(drawn), estimates, low, high, reference, confidence),)
