"""Tails of the hypergeometric distribution, in log space, and the bound on a ring's being cut.

How many of a client's neighbours collude, and how many are lost, is hypergeometric: the neighbours are so many draws
from all others, of whom so many are marked.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def _log2_tails(population: int, marked: int, draws: int) -> tuple[int, FloatArray]:
    """The smallest value x0 of X ~ Hypergeometric(population, marked, draws), and log2 P[X >= x0 + i] for all i."""
    lowest = max(0, draws + marked - population)
    x = np.arange(lowest, min(draws, marked), dtype=np.float64)
    rises = np.log2(marked - x) + np.log2(draws - x)
    falls = np.log2(x + 1) + np.log2(population - marked - draws + x + 1)
    masses = np.concatenate(([0.0], np.cumsum(rises - falls)))
    tails: FloatArray = np.logaddexp2.accumulate(masses[::-1])[::-1]
    return lowest, tails - tails[0]


def log2_at_least(population: int, marked: int, draws: int, value: int) -> float:
    """log2 P[X >= value] for X ~ Hypergeometric(population, marked, draws)."""
    lowest, tails = _log2_tails(population, marked, draws)
    if value <= lowest:
        return 0.0
    return float(tails[value - lowest]) if value - lowest < len(tails) else -math.inf


def quantile(population: int, marked: int, draws: int, log2_bound: float) -> int:
    """The smallest x with log2 P[X > x] < log2_bound, for X ~ Hypergeometric(population, marked, draws)."""
    lowest, tails = _log2_tails(population, marked, draws)
    return lowest - 1 + int(np.count_nonzero(tails >= log2_bound))


def log2_disconnected(clients: int, removed: int, neighbours: int) -> float:
    """log2 of the bound on a ring's being cut when ``removed`` random clients go: two disjoint runs of k/2 must."""
    if neighbours > removed:
        return -math.inf
    gone = np.arange(neighbours, dtype=np.float64)
    run_pairs = clients * (clients - neighbours - 1) / 2
    return math.log2(run_pairs) + float(np.sum(np.log2(removed - gone) - np.log2(clients - gone)))
