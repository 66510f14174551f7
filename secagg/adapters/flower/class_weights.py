"""Weights for each class: rows of an array that are averaged by how much each client knows of each class.

Row c of such an array comes out as the mean of the clients' rows c by their weights of class c.  The vector has each
row times weight / largest weight, the weights themselves in whole steps, and how many clients have a weight above 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, final

import msgspec
import numpy as np
import numpy.typing as npt

from secagg.adapters.flower.extra_arrays import ExtraArray, Opened, Values
from secagg.adapters.flower.records import log
from secagg.adapters.own_numbers import weights_in_steps
from secagg.encoding.exact import Exact
from secagg.encoding.limits import LARGEST_WEIGHT, integer
from secagg.encoding.settings import resolved
from secagg.errors import InputError, ParameterError

LARGEST_SCALE: Final = 10**9
"""Steps of a weight of 1."""
_MOST_CLASSES: Final = 10**6


@final
@dataclass(frozen=True, slots=True)
class ClassWeights:
    """How the rows of an array are weighed.

    Attributes:
        metric: the metric of the app's reply that has one weight for each class: a list of numbers from 0 up.
        largest: the largest weight of a class at one client; larger ones are reduced to it.
        scale: how many steps a weight of 1 has.  A weight is rounded to the nearest step, and one above 0
            counts as a step at least.

    Raises ParameterError for what cannot be summed.
    """

    metric: str
    largest: float
    scale: int = 1

    def __post_init__(self) -> None:
        steps_of(self.largest, self.scale, "largest", "scale")


class ClassTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``ClassWeights`` as they are announced.

    Attributes:
        arrays: the arrays whose rows they weigh, ascending.
        classes: rows of each of them.
        steps: the largest weight, in steps.
        scale: steps of a weight of 1.
    """

    arrays: tuple[str, ...]
    classes: int
    steps: int
    scale: int

    @property
    def largest(self) -> float:
        """The largest weight."""
        return self.steps / self.scale


def steps_of(largest: float, scale: int, name: str, scale_name: str) -> int:
    """The largest weight in steps.  Raises ParameterError unless it is a whole number of them."""
    integer(scale_name, scale, 1, LARGEST_SCALE)
    steps = largest * scale
    if not isfinite(steps) or abs(steps - round(steps)) > 1e-9 * abs(steps):
        raise ParameterError(
            f"{name} is {largest!r} with {scale_name} {scale}: {steps:g} steps, and it must be a whole number of them"
        )
    return integer(f"{name} * {scale_name}", round(steps), 1, LARGEST_WEIGHT)


def class_terms(asked: Mapping[str, ClassWeights], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ClassTerms]:
    """The terms for arrays of these shapes, by metric.

    Raises ParameterError for a pattern that matches nothing, and for arrays whose first axes differ.
    """
    found: dict[str, list[str]] = {}
    weights: dict[str, ClassWeights] = {}
    for name, one in resolved("class_weights", list(shapes), asked).items():
        if weights.setdefault(one.metric, one) != one:
            raise ParameterError(f"class_weights: {one.metric!r} has two largest weights or scales: give it one")
        found.setdefault(one.metric, []).append(name)
    terms = {}
    for metric, names in found.items():
        rows = {shapes[name][0] if shapes[name] else 0 for name in names}
        if len(rows) != 1 or not min(rows):
            listed = ", ".join(f"{name} {shapes[name]}" for name in names)
            raise ParameterError(
                f"class_weights: the arrays of {metric!r} have the shapes {listed}; their first axes must be the same "
                "classes"
            )
        one = weights[metric]
        steps = steps_of(one.largest, one.scale, "largest", "scale")
        terms[metric] = ClassTerms(tuple(sorted(names)), rows.pop(), steps, one.scale)
    return terms


def check_class_terms(terms: Mapping[str, ClassTerms], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ParameterError for announced terms that do not fit the announced arrays."""
    weighed: set[str] = set()
    for metric, one in terms.items():
        integer(f"class_weights: classes of {metric!r}", one.classes, 1, _MOST_CLASSES)
        integer(f"class_weights: scale of {metric!r}", one.scale, 1, LARGEST_SCALE)
        integer(f"class_weights: steps of {metric!r}", one.steps, 1, LARGEST_WEIGHT)
        for name in one.arrays:
            if name in weighed or shapes.get(name, ())[:1] != (one.classes,):
                raise ParameterError(
                    f"class_weights: {name!r} is no summed array of {one.classes} rows, or there twice"
                )
            weighed.add(name)


def class_arrays(terms: Mapping[str, ClassTerms]) -> list[ExtraArray]:
    """What the vector has of the weights: for each metric the steps of each class, and who has any."""
    return [
        extra
        for metric, one in sorted(terms.items())
        for extra in (
            ExtraArray(array_of_steps(metric), (one.classes,), exact=Exact(0, one.steps)),
            ExtraArray(_array_of_contributors(metric), (one.classes,), exact=Exact(0, 1)),
        )
    ]


def array_of_steps(metric: str) -> str:
    """The name under which the weights of classes are summed."""
    return f"weights of classes {metric}"


def _array_of_contributors(metric: str) -> str:
    return f"clients with classes {metric}"


def class_values(metric: str, one: ClassTerms, given: object) -> Values:
    """One client's weights, in steps.  Raises InputError for what is no list of so many finite numbers."""
    weights = given if isinstance(given, Sequence) and not isinstance(given, str | bytes) else None
    if weights is None or len(weights) != one.classes:
        raise InputError(
            f"the app's reply has {given!r} for the metric {metric!r}; it must be a list of {one.classes} weights"
        )
    values = np.asarray(weights, np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"the app's reply has {given!r} for the metric {metric!r}; weights must be finite")
    if (values < 0).any() or (values > one.largest).any():
        log.warning(
            "secagg: the metric %r has weights of classes outside 0 to %r: they count as the nearer end",
            metric,
            one.largest,
        )
    steps = weights_in_steps(np.minimum(values, one.largest), one.scale)
    return {array_of_steps(metric): steps, _array_of_contributors(metric): (steps > 0).astype(np.float64)}


def weighed(change: npt.NDArray[Any], one: ClassTerms, steps: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The rows of one client's array, each times its weight over the largest weight."""
    factors = np.asarray(steps, np.float64) / one.steps
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(change * factors.reshape(-1, *(1,) * (change.ndim - 1)), np.float64)


@final
@dataclass(frozen=True, slots=True, eq=False)
class ClassMeans:
    """What a sum says of arrays with class weights.

    Attributes:
        means: the arrays; rows to which too few contribute are 0, as where nothing has changed.
        bounds: by array, the most by which a value can differ from the exact mean of unclipped values.
        thin: by metric, the classes to which fewer clients than ``Opened.least`` contribute.
    """

    means: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    bounds: dict[str, float] = field(default_factory=dict)
    thin: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kept: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def class_means(terms: Mapping[str, ClassTerms], opened: Opened, clip_of: Mapping[str, float]) -> ClassMeans:
    """The means of the arrays with class weights.

    A row is off by two roundings at most: that of the values, and that of the weights, by a step each at most.
    """
    found = ClassMeans()
    for metric, one in terms.items():
        steps = np.asarray(opened.totals[array_of_steps(metric)], np.float64)
        kept = np.asarray(opened.totals[_array_of_contributors(metric)]) >= max(opened.least, 1)
        if not kept.all():
            found.thin[metric] = tuple(np.flatnonzero(~kept).tolist())
        totals = np.where(kept, steps, np.inf)
        for name in one.arrays:
            rows = np.asarray(opened.means[name], np.float64)
            factors = opened.count * one.steps / totals
            found.means[name] = rows * factors.reshape(-1, *(1,) * (rows.ndim - 1))
            found.kept[name] = kept
            least = float(totals.min())
            by_weights = 2 * clip_of[name] * opened.count / least
            found.bounds[name] = opened.count * opened.bound_of(name) * one.steps / least + by_weights
    return found
