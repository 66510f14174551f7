"""Metrics that are summed beside the model: what a strategy asks for, what a node gives, and what the sums say.

Three kinds.  A plain number is a mean by the model's own weight.  A ``Sum`` is over all clients alike.  A ``MeanBy`` is
weighted by a metric of its own, such as the number of examples for tests: the vector has the product of both and the
weight, each as a plain sum, and the mean is their ratio.

A metric whose name begins with ``evaluate.`` is of the node's evaluation, all others are of its training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.adapters.flower.extra_arrays import ExtraArray, Opened, Values, array_of_metric
from secagg.adapters.own_numbers import weight_in_steps
from secagg.encoding.exact import Exact
from secagg.encoding.limits import LARGEST_CLIP, LARGEST_WEIGHT, SMALLEST_CLIP, integer, real
from secagg.errors import ParameterError

EVALUATED: Final = "evaluate."
"""Before the names of metrics of the evaluation."""


@final
class Sum(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric whose plain sum over the clients is wanted, whatever their weights.

    Attributes:
        largest: the largest absolute value of one client's metric; larger ones are clipped to it.
        decimals: digits behind the point that are summed without any error, 0 for whole numbers; ``largest`` is a whole
            number then.  None: each client's value is off by ``largest`` * 2^-31 at most.

    Raises ParameterError for what cannot be summed.
    """

    largest: float
    decimals: int | None = None

    def __post_init__(self) -> None:
        real("largest", self.largest, SMALLEST_CLIP, LARGEST_CLIP)
        if self.decimals is not None:
            self.exact()

    def exact(self) -> Exact:
        """The range of a sum without error.  Raises ParameterError for one that is none."""
        if self.largest != int(self.largest):
            raise ParameterError(f"largest is {self.largest!r}, with decimals: must be a whole number")
        return Exact(-int(self.largest), int(self.largest), self.decimals or 0)


@final
class MeanBy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A metric whose mean is weighted by another metric of the same client, such as a loss by a number of examples.

    Attributes:
        by: the metric that weighs: a whole number from 0 up.
        largest: the largest absolute value of the metric.
        at_most: the largest weight; a larger one is reduced to it.

    Raises ParameterError for what cannot be summed.
    """

    by: str
    largest: float
    at_most: int

    def __post_init__(self) -> None:
        integer("at_most", self.at_most, 1, LARGEST_WEIGHT)
        real("largest", self.largest * self.at_most, SMALLEST_CLIP, LARGEST_CLIP)


Metric: TypeAlias = float | Sum | MeanBy


def sorted_out(metrics: Mapping[str, Metric]) -> tuple[dict[str, float], dict[str, Sum], dict[str, MeanBy]]:
    """The kinds apart.  Raises ParameterError for two bounds of one weight."""
    sums = {name: metric for name, metric in metrics.items() if isinstance(metric, Sum)}
    means_by = {name: metric for name, metric in metrics.items() if isinstance(metric, MeanBy)}
    ordinary = {name: metric for name, metric in metrics.items() if not isinstance(metric, Sum | MeanBy)}
    check_weights(means_by)
    return {name: float(largest) for name, largest in ordinary.items()}, sums, means_by


def check_weights(means_by: Mapping[str, MeanBy]) -> None:
    """Raises ParameterError for two bounds of one weight."""
    bounds: dict[str, int] = {}
    for name, metric in means_by.items():
        if bounds.setdefault(metric.by, metric.at_most) != metric.at_most:
            raise ParameterError(
                f"metrics: {name!r} has at_most={metric.at_most} of {metric.by!r}, and another metric has "
                f"{bounds[metric.by]}: give both the same"
            )


def is_evaluated(names: Iterator[str]) -> bool:
    """Whether any of these metrics is of the node's evaluation."""
    return any(name.startswith(EVALUATED) for name in names)


def array_of_weight(by: str) -> str:
    """The name under which a metric that weighs others is summed."""
    return f"weight of metrics {by}"


def metric_arrays(sums: Mapping[str, Sum], means_by: Mapping[str, MeanBy]) -> list[ExtraArray]:
    """What the vector has of these metrics, sorted by name."""
    arrays = [
        ExtraArray(array_of_metric(name), clip=one.largest)
        if one.decimals is None
        else ExtraArray(array_of_metric(name), exact=one.exact())
        for name, one in sorted(sums.items())
    ]
    arrays += [
        ExtraArray(array_of_metric(name), clip=one.largest * one.at_most) for name, one in sorted(means_by.items())
    ]
    weights = {one.by: one.at_most for one in means_by.values()}
    return arrays + [
        ExtraArray(array_of_weight(by), exact=Exact(0, at_most)) for by, at_most in sorted(weights.items())
    ]


def metric_values(
    sums: Mapping[str, Sum], means_by: Mapping[str, MeanBy], number: Callable[[str], int | float]
) -> Values:
    """One client's values of ``metric_arrays``; ``number`` looks up a metric."""
    values = {array_of_metric(name): np.asarray(number(name)) for name in sums}
    for name, one in means_by.items():
        by = number(one.by)
        weight = min(weight_in_steps(by), one.at_most)
        values[array_of_weight(one.by)] = np.asarray(weight)
        product = float(number(name)) * weight  # a finite metric must not become an infinity that makes a client leave
        values[array_of_metric(name)] = np.asarray(max(-LARGEST_CLIP, min(product, LARGEST_CLIP)))
    return values


def metric_results(
    sums: Mapping[str, Sum], means_by: Mapping[str, MeanBy], opened: Opened
) -> tuple[dict[str, float], dict[str, float]]:
    """The sums and means, by metric, and the most by which each can be off.

    A mean whose weights are all 0 is left out.
    """
    results: dict[str, float] = {}
    bounds: dict[str, float] = {}
    for name, one in sums.items():
        array = array_of_metric(name)
        results[name] = _number(opened, array, one.decimals)
        bounds[name] = 0.0 if one.decimals is not None else opened.count * opened.bound_of(array)
    for name, by in means_by.items():
        weight = _number(opened, array_of_weight(by.by), 0)
        if weight > 0:
            array = array_of_metric(name)
            results[name] = _number(opened, array, None) / weight
            bounds[name] = opened.count * opened.bound_of(array) / weight
    return results, bounds


def _number(opened: Opened, array: str, decimals: int | None) -> int | float:
    """The plain sum of a metric over the clients."""
    if decimals is None:
        return float(opened.means[array]) * opened.count
    total: npt.NDArray[Any] = opened.totals[array]
    return int(total[()]) if decimals == 0 else float(int(total[()]) / 10**decimals)
