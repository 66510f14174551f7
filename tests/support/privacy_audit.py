"""What somebody who sees sums can tell from them: a distinguisher, and a lower bound on epsilon from its successes.

A promise of (epsilon, delta) says that for every event P[with an update] <= exp(epsilon) P[without it] + delta.  One
event that happens often enough with the update and seldom enough without it proves a larger epsilon.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

FloatArray: TypeAlias = npt.NDArray[np.float64]
Encode: TypeAlias = Callable[[FloatArray], npt.NDArray[Any]]
"""An update to the vector that a client submits, noise and all."""
Decode: TypeAlias = Callable[[npt.NDArray[Any]], FloatArray]
"""A sum of vectors, not reduced by the modulus, to the sum of the updates with the noise in it."""


def observe(
    encode: Encode, decode: Decode, update: FloatArray, honest: int, runs: int
) -> tuple[FloatArray, FloatArray]:
    """How far sums point to ``update``, with it in them and with zeros in its place.

    All honest clients add their noise, and all but one have zeros.  The noise is alike in all directions, so that
    nothing else in a sum tells more about whether the update is in it.
    """
    direction, nothing = update / np.linalg.norm(update), np.zeros_like(update)

    def seen(first: FloatArray) -> float:
        vectors = [encode(first), *(encode(nothing) for _ in range(honest - 1))]
        return float(decode(np.sum(vectors, axis=0, dtype=np.uint64)) @ direction)

    return np.array([seen(update) for _ in range(runs)]), np.array([seen(nothing) for _ in range(runs)])


def shown_epsilon(with_it: FloatArray, without: FloatArray, delta: float, doubt: float = 1e-3) -> float:
    """An epsilon that is exceeded, except with probability ``doubt``: by what was observed with and without an update.

    The event is "above a threshold"; the first half of the observations chooses the threshold, the second half counts.
    Clopper and Pearson's bounds are exact for any number of observations.
    """
    (first_with, second_with), (first_without, second_without) = np.array_split(with_it, 2), np.array_split(without, 2)
    thresholds = np.quantile(np.concatenate([first_with, first_without]), np.linspace(0.02, 0.98, 97))
    best = max(thresholds, key=lambda at: _bound(first_with > at, first_without > at, delta, doubt))
    return _bound(second_with > best, second_without > best, delta, doubt)


def _bound(hits: npt.NDArray[np.bool_], false_alarms: npt.NDArray[np.bool_], delta: float, doubt: float) -> float:
    often = _at_least(int(hits.sum()), len(hits), doubt / 2)
    seldom = 1 - _at_least(int((~false_alarms).sum()), len(false_alarms), doubt / 2)
    return math.log((often - delta) / seldom) if often > delta else -math.inf


def _at_least(successes: int, trials: int, doubt: float) -> float:
    """The lower bound of Clopper and Pearson on a probability."""
    return float(beta.ppf(doubt, successes, trials - successes + 1)) if successes else 0.0
