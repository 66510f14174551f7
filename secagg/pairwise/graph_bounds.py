"""How likely a degree and a threshold of the neighbour graph fail, from the counts of colluders and dropouts.

The events and their bounds are those of Bell et al. (CCS 2020, "Secure Single-Server Aggregation with
(Poly)Logarithmic Overhead"), each a union over clients or pairs of them:

- privacy: too many of a client's neighbours collude, so that the colluders' shares open what must stay shut;
- connectivity: the ring falls apart once colluders and dropouts are taken out, so that the sum of one part is opened;
- correctness: too few of a client's neighbours are left to reconstruct its secret, so that the round aborts.

The numbers of colluding and of lost neighbours are hypergeometric; their tails are summed in log space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError

FEWEST_CLIENTS: Final = 3
"""Of two, each could take its own vector away from the sum."""
LOWEST_THRESHOLD: Final = 2  # with one share enough, every share would be the secret itself

FloatArray = npt.NDArray[np.float64]


# -- Tails -------------------------------------------------------------------------------------------------------------


def _log2_tails(population: int, marked: int, draws: int) -> tuple[int, FloatArray]:
    """The smallest value x0 of X ~ Hypergeometric(population, marked, draws), and log2 P[X >= x0 + i] for all i."""
    lowest = max(0, draws + marked - population)
    x = np.arange(lowest, min(draws, marked), dtype=np.float64)
    rises = np.log2(marked - x) + np.log2(draws - x)
    falls = np.log2(x + 1) + np.log2(population - marked - draws + x + 1)
    masses = np.concatenate(([0.0], np.cumsum(rises - falls)))
    tails: FloatArray = np.logaddexp2.accumulate(masses[::-1])[::-1]
    return lowest, tails - tails[0]


def _log2_at_least(population: int, marked: int, draws: int, value: int) -> float:
    """log2 P[X >= value] for X ~ Hypergeometric(population, marked, draws)."""
    lowest, tails = _log2_tails(population, marked, draws)
    if value <= lowest:
        return 0.0
    return float(tails[value - lowest]) if value - lowest < len(tails) else -math.inf


def _quantile(population: int, marked: int, draws: int, log2_bound: float) -> int:
    """The smallest x with log2 P[X > x] < log2_bound, for X ~ Hypergeometric(population, marked, draws)."""
    lowest, tails = _log2_tails(population, marked, draws)
    return lowest - 1 + int(np.count_nonzero(tails >= log2_bound))


def _log2_disconnected(clients: int, removed: int, neighbours: int) -> float:
    """log2 of the bound on a ring's being cut when ``removed`` random clients go: two disjoint runs of k/2 must."""
    if neighbours > removed:
        return -math.inf
    gone = np.arange(neighbours, dtype=np.float64)
    run_pairs = clients * (clients - neighbours - 1) / 2
    return math.log2(run_pairs) + float(np.sum(np.log2(removed - gone) - np.log2(clients - gone)))


def _privacy_draw(clients: int, active: bool) -> tuple[int, float]:
    """From how many a victim's neighbours are drawn, and log2 of the number of victims.

    One victim has n - 1 others.  In `active` it is a pair, the two ends of a cut arc, so that no choice of whom to
    drop, made after seeing the graph, disconnects the honest survivors.
    """
    if active:
        return clients - 2, math.log2(clients * (clients - 1) / 2)
    return clients - 1, math.log2(clients)


# -- Bounds of one (n, k, t) -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounds:
    """log2 of an upper bound on the probability of each failure; -inf for what cannot happen, 0.0 for no bound.

    Attributes:
        privacy_log2: somebody's secrets open to the colluders.
        connectivity_log2: the mask graph falls apart, and the sum of a part opens.
        correctness_log2: somebody's secret cannot be reconstructed, and the round aborts.
    """

    privacy_log2: float
    connectivity_log2: float
    correctness_log2: float

    def reach(self, sigma: float, eta: float) -> bool:
        """Whether privacy fails with less than 2^-sigma, half of it for either event, and the round with 2^-eta."""
        return max(self.privacy_log2, self.connectivity_log2) < -(sigma + 1) and self.correctness_log2 < -eta


def assess(
    clients: int, colluders: int, dropouts: int, neighbours: int, threshold: int, *, active: bool = False
) -> Bounds:
    """The bounds that any degree and threshold reach, good or bad.

    Args:
        clients: n, everyone invited.
        colluders: A, how many of them may work with the server.
        dropouts: D, how many may be lost from the start to the end.
        neighbours: k, even, or n - 1 for the complete graph.
        threshold: t, the shares that reconstruct a secret.
        active: the threat model; the server then asks each honest neighbour for either kind of share.

    Raises:
        ParameterError: there is no such graph, or a count is out of range.
    """
    check_counts(clients, colluders, dropouts)
    check_degree(clients, neighbours, complete=neighbours == clients - 1)
    check_int("threshold", threshold, 1, clients)
    # In `active` a client opens with 2t shares of both kinds: an honest neighbour gives one, a colluding one two.
    fatal = 2 * threshold - neighbours if active else threshold
    if neighbours == clients - 1:
        opened = colluders >= fatal
        stuck = neighbours - dropouts < threshold
        return Bounds(0.0 if opened else -math.inf, -math.inf, 0.0 if stuck else -math.inf)
    drawn_from, victims = _privacy_draw(clients, active)
    privacy = victims + _log2_at_least(drawn_from, min(colluders, drawn_from), neighbours, fatal)
    connectivity = _log2_disconnected(clients, min(colluders + dropouts, clients), neighbours)
    lost = min(dropouts, clients - 1)
    correctness = math.log2(clients) + _log2_at_least(clients - 1, lost, neighbours, neighbours - threshold + 1)
    return Bounds(min(privacy, 0.0), min(connectivity, 0.0), min(correctness, 0.0))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a degree and a threshold must stand up to.

    ``published_populations`` follows another implementation, so that its rows can be compared: neighbours are drawn
    from all n clients, by single victims in either threat model, and a threshold below 2 is raised only afterwards.
    """

    clients: int
    colluders: int
    dropouts: int
    active: bool
    sigma: float
    eta: float
    published_populations: bool = False

    def connects(self, neighbours: int) -> bool:
        """Whether the connectivity bound is reached; it falls as the degree grows."""
        removed = min(self.colluders + self.dropouts, self.clients)
        return _log2_disconnected(self.clients, removed, neighbours) < -(self.sigma + 1)

    def thresholds(self, neighbours: int) -> tuple[int, int]:
        """The smallest threshold that privacy allows, the largest that correctness allows: empty if out of order."""
        if neighbours == self.clients - 1:
            most_colluding, fewest_left = self.colluders, neighbours - self.dropouts
        else:
            drawn_from, victims = _privacy_draw(self.clients, self.active)
            others = self.clients - 1
            if self.published_populations:
                drawn_from, victims, others = self.clients, math.log2(self.clients), self.clients
            colluders, dropouts = min(self.colluders, drawn_from), min(self.dropouts, others)
            most_colluding = _quantile(drawn_from, colluders, neighbours, -(self.sigma + 1) - victims)
            fewest_left = neighbours - _quantile(others, dropouts, neighbours, -self.eta - math.log2(self.clients))
        least = (neighbours + most_colluding) // 2 + 1 if self.active else most_colluding + 1
        return least if self.published_populations else max(least, LOWEST_THRESHOLD), fewest_left


# -- Checks of the counts ----------------------------------------------------------------------------------------------


def check_int(name: str, value: int, lowest: int, highest: int | None = None) -> None:
    """Raises ParameterError unless ``value`` is an int from ``lowest`` to ``highest``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParameterError(f"{name} = {value!r}: it must be a whole number (int), not {type(value).__name__}")
    if value < lowest or (highest is not None and value > highest):
        allowed = f"at least {lowest}" if highest is None else f"in {lowest} .. {highest}"
        raise ParameterError(f"{name} = {value}: it must be {allowed}")


def check_counts(clients: int, colluders: int, dropouts: int) -> None:
    """Raises ParameterError unless n >= 3 and A and D lie in 0 .. n."""
    check_int("clients", clients, FEWEST_CLIENTS)
    check_int("colluders", colluders, 0, clients)
    check_int("dropouts", dropouts, 0, clients)


def check_degree(clients: int, neighbours: int, *, complete: bool) -> None:
    """Raises ParameterError unless k is even and below n - 1, or n - 1 where the complete graph is meant."""
    check_int("neighbours", neighbours, 1)
    if complete and neighbours != clients - 1:
        raise ParameterError(f"neighbours = {neighbours}: the complete graph of {clients} clients has {clients - 1}")
    if not complete and neighbours >= clients - 1:
        raise ParameterError(
            f"neighbours = {neighbours}: in a sparse graph of {clients} clients it is below {clients - 1}; "
            "lower it, or ask for the complete graph"
        )
    if not complete and neighbours % 2:
        raise ParameterError(f"neighbours = {neighbours}: it must be even, half on each side; take {neighbours + 1}")
