"""Exact distributions of the noise, and exact divergences of them: plain sums, no bound of anybody's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from dp_accounting.rdp import compute_epsilon
from scipy.special import ive, logsumexp

FloatArray = npt.NDArray[np.float64]
ORDERS = tuple(range(2, 65))


@lru_cache(maxsize=64)
def skellam(variance: float, reach: int) -> FloatArray:
    """Probabilities of -reach to reach: exp(-v) I_k(v)."""
    return np.asarray(ive(np.abs(np.arange(-reach, reach + 1)), variance), np.float64)


@lru_cache(maxsize=64)
def sum_of_discrete_gaussians(shares: int, variance: float, reach: int) -> FloatArray:
    """Probabilities of -reach to reach of the sum of independent discrete Gaussians, by convolution."""
    width = int(math.sqrt(variance) * 38) + 2  # a single share further out has probability 0 in float64
    weights = np.exp(-(np.arange(-width, width + 1) ** 2) / (2 * variance))
    one = total = weights / weights.sum()
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    middle = len(total) // 2
    padded = np.zeros(2 * reach + 1)
    kept = min(reach, middle)
    padded[reach - kept : reach + kept + 1] = total[middle - kept : middle + kept + 1]
    return padded


def renyi(p: FloatArray, q: FloatArray, order: float) -> float:
    """D_order(P || Q) of two distributions over the same numbers, both above 0 wherever it matters."""
    both = (p > 0) & (q > 0)
    return float(logsumexp(order * np.log(p[both]) + (1 - order) * np.log(q[both])) / (order - 1))


def shifted_renyi(noise: FloatArray, shift: int, order: float) -> float:
    """D_order between noise around ``shift`` and noise around 0, the coordinate of a sum with and without an update."""
    shift = abs(shift)
    return renyi(noise[: len(noise) - shift], noise[shift:], order) if shift else 0.0


def worst_renyi(noise: FloatArray, dimension: int, squared_l2: int, l1: int, order: float) -> float:
    """The largest divergence over all whole vectors that one member may add; coordinates are independent."""
    return max(
        sum(shifted_renyi(noise, part, order) for part in vector) for vector in vectors(dimension, squared_l2, l1)
    )


def vectors(dimension: int, squared_l2: int, l1: int) -> Iterator[tuple[int, ...]]:
    """All whole vectors within both norms, up to signs and order, which change no divergence."""
    most = math.isqrt(squared_l2)
    for vector in itertools.combinations_with_replacement(range(most + 1), dimension):
        if sum(part * part for part in vector) <= squared_l2 and sum(vector) <= l1:
            yield vector


def epsilon(noise: FloatArray, dimension: int, squared_l2: int, l1: int, delta: float) -> float:
    """Epsilon of the exact divergences at whole orders, converted as dp-accounting does."""
    divergences = [worst_renyi(noise, dimension, squared_l2, l1, order) for order in ORDERS]
    return float(compute_epsilon(ORDERS, divergences, delta)[0])


def delta_at(noise: FloatArray, vector: tuple[int, ...], epsilon: float) -> float:
    """The smallest delta at which the sum with and without this vector is (epsilon, delta)-indistinguishable."""
    with_it = without = np.ones(1)
    for part in vector:
        middle, reach = len(noise) // 2, len(noise) // 2 - part
        near = noise[middle - reach : middle + reach + 1]
        moved = noise[middle - reach - part : middle + reach + 1 - part]
        with_it, without = np.outer(with_it, moved).ravel(), np.outer(without, near).ravel()
    return float(np.maximum(with_it - math.exp(epsilon) * without, 0).sum())
