"""Exact probabilities of the noise, from formulas that the samplers do not use."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def skellam(variance: int, values: Integers) -> Floats:
    """exp(-v) I_k(v): the scaled Bessel function."""
    return np.asarray(special.ive(np.abs(values).astype(np.float64), float(variance)))


def discrete_gaussian(variance: int, values: Integers) -> Floats:
    reach = 20 + 12 * math.isqrt(variance)
    total = float(np.exp(-(np.arange(-reach, reach + 1, dtype=np.float64) ** 2) / (2 * variance)).sum())
    return np.asarray(np.exp(-(values.astype(np.float64) ** 2) / (2 * variance)) / total)


PROBABILITIES = {"skellam": skellam, "discrete-gaussian": discrete_gaussian}


def of_sum(probabilities: Sequence[Floats]) -> Floats:
    """Of a sum of independent values, each with these probabilities of -r .. r."""
    total = np.ones(1)
    for one in probabilities:
        total = np.convolve(total, one)
    return total


def p_value(sample: Integers, values: Integers, probabilities: Floats) -> float:
    """Chi-squared against probabilities of consecutive values; neighbours are put together to 25 expected or more."""
    low, high = int(values[0]), int(values[-1])
    counts = np.bincount(np.clip(sample, low, high) - low, minlength=len(values)).astype(np.float64)
    expected = probabilities * len(sample)
    # What lies beyond the values is of the last one on its side, in the sample and in the expectation.
    beyond = (len(sample) - float(expected.sum())) / 2
    expected[0] += beyond
    expected[-1] += beyond
    met, hoped = _grouped(counts, expected)
    return float(stats.chisquare(met, hoped * met.sum() / hoped.sum()).pvalue)


def _grouped(counts: Floats, expected: Floats, least: float = 25.0) -> tuple[Floats, Floats]:
    groups = np.floor(np.cumsum(expected) / least).astype(np.int64)
    groups[groups == groups[-1]] = max(groups[-1] - 1, 0)
    edges = np.flatnonzero(np.diff(groups, prepend=-1))
    return np.add.reduceat(counts, edges), np.add.reduceat(expected, edges)
