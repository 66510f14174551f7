"""The neighbour graph: who shares masks and secret shares with whom, and how many neighbours and shares that takes.

A random ring of Bell et al. (CCS 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", section 3):
the clients stand on a circle in an order that nobody chose, and each has the k/2 nearest on either side as neighbours.
The complete graph of Bonawitz et al. (CCS 2017) is the case k = n - 1.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.pairwise import explanation
from secagg.pairwise.graph_bounds import (
    FEWEST_CLIENTS,
    LOWEST_THRESHOLD,
    Bounds,
    Demand,
    assess,
    check_counts,
    check_degree,
    check_int,
)
from secagg.pairwise.graph_rates import LARGEST_LOSS, colluders_and_dropouts, exact_rate, quorum
from secagg.primitives.streams import permute_blocks

__all__ = [
    "ACTIVE_SIGMA",
    "DEFAULT_ETA",
    "SEMI_HONEST_SIGMA",
    "Bounds",
    "GraphParameters",
    "NeighbourGraph",
    "assess",
    "check_parameters",
    "choose_parameters",
    "colluders_and_dropouts",
    "exact_rate",
    "find_parameters",
    "quorum",
    "sparse_degree_exists",
]

IntArray = npt.NDArray[np.int64]

SEMI_HONEST_SIGMA: Final = 40.0
"""A graph is bad with a chance below 2^-40 per round: the statistical security that is usual in the literature."""
ACTIVE_SIGMA: Final = 104.0
"""40 bits, and 64 more for a server that tries many graphs before it shows one."""
DEFAULT_ETA: Final = 30.0
"""One round in a thousand million fails for its graph: far below what fails for other reasons."""


# -- The finder --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphParameters(Bounds):
    """A degree and a threshold, what they were chosen for, and the bounds they reach.

    Attributes:
        clients: n.
        colluders: A = floor(gamma n).
        dropouts: D = floor(delta n).
        neighbours: k.
        threshold: t.
        active: the threat model.
        sigma: bits of privacy asked for.
        eta: bits of correctness asked for.
        no_sparse_degree: the complete graph was taken because no even degree below n - 1 reaches sigma and eta.
    """

    clients: int
    colluders: int
    dropouts: int
    neighbours: int
    threshold: int
    active: bool
    sigma: float
    eta: float
    no_sparse_degree: bool

    @property
    def complete(self) -> bool:
        """Whether everyone is everyone's neighbour."""
        return self.neighbours == self.clients - 1

    def explain(self) -> tuple[str, ...]:
        """Sentences for a person: the degree and the threshold, the bounds they reach and what those rest on."""
        return explanation.of_graph(self, self.dropouts)


def find_parameters(
    clients: int,
    gamma: float | Fraction,
    delta: float | Fraction,
    *,
    active: bool = False,
    sigma: float | None = None,
    eta: float = DEFAULT_ETA,
    complete: bool = False,
) -> GraphParameters:
    """The smallest degree, and the smallest threshold for it, that reach sigma and eta; see ``choose_parameters``.

    Args:
        clients: n >= 3.
        gamma: the largest share of clients that collude with the server.
        delta: the largest share of clients that are lost, from the first message to the last.
        active: the threat model.
        sigma: privacy holds but for 2^-sigma; 40, or 104 when active.
        eta: the round completes but for 2^-eta.
        complete: take the complete graph without looking for a smaller degree.

    Raises:
        ParameterError: the rates leave no degree and threshold; the message names the rate to lower.
    """
    sigma = _security(active, sigma, eta)
    colluders, dropouts = colluders_and_dropouts(clients, gamma, delta, active=active)
    neighbours, threshold = choose_parameters(
        clients, colluders, dropouts, "complete" if complete else "auto", active=active, sigma=sigma, eta=eta
    )
    bounds = assess(clients, colluders, dropouts, neighbours, threshold, active=active)
    return GraphParameters(
        clients=clients,
        colluders=colluders,
        dropouts=dropouts,
        neighbours=neighbours,
        threshold=threshold,
        active=active,
        sigma=sigma,
        eta=eta,
        no_sparse_degree=not complete and neighbours == clients - 1,
        privacy_log2=bounds.privacy_log2,
        connectivity_log2=bounds.connectivity_log2,
        correctness_log2=bounds.correctness_log2,
    )


def choose_parameters(
    clients: int,
    colluders: int,
    dropouts: int,
    neighbours: int | Literal["auto", "complete"] = "auto",
    threshold: int | None = None,
    *,
    active: bool = False,
    sigma: float | None = None,
    eta: float = DEFAULT_ETA,
) -> tuple[int, int]:
    """Degree and threshold, from the bounds where they are not given.

    A threshold that is not given is the smallest that privacy allows, since each share more is one more survivor
    needed; but on the complete graph in `semi_honest` it is the middle of (A, n - 1 - D], rounded up: every threshold
    there is certain to hold, and the middle one still holds when a few more collude, or are lost, than was supposed.
    What is given is taken as it is: ``check_parameters`` says whether it will do.

    Args:
        clients: n.
        colluders: A.
        dropouts: D.
        neighbours: an even degree; ``"auto"`` for the smallest that reaches the bounds, or the complete graph where no
            even degree below n - 1 does, which ``explain`` says; ``"complete"``.
        threshold: t, or None to have it chosen.

    The others are those of ``find_parameters``.

    Raises:
        ParameterError: nothing fits; the message names what to lower.
    """
    check_counts(clients, colluders, dropouts)
    if threshold is not None:
        check_int("threshold", threshold, LOWEST_THRESHOLD, clients - 1)
    demand = Demand(clients, colluders, dropouts, active, _security(active, sigma, eta), eta)
    if neighbours == "auto":
        found = _search(demand, threshold)
        if found is not None:
            return found
    elif neighbours != "complete":
        check_degree(clients, neighbours, complete=False)
        return neighbours, _threshold_interval(demand, neighbours)[0] if threshold is None else threshold
    return clients - 1, _complete_threshold(demand) if threshold is None else threshold


def _search(demand: Demand, threshold: int | None = None) -> tuple[int, int] | None:
    """The first even degree below n - 1 that has a threshold, with its smallest one, or that allows the one given.

    Degrees that cannot fit are skipped.  One draw more raises either quantile by 0 or 1, so from k to k + 2 the largest
    threshold rises by at most 2, and the smallest by at least 0, in `active` by at least 1: a gap of g thresholds takes
    g further neighbours to close, in `active` 2g.
    """
    degrees = range(2, demand.clients - 1, 2)
    neighbours = 2 + 2 * bisect_left(degrees, True, key=demand.connects)
    while neighbours < demand.clients - 1:
        least, most = demand.thresholds(neighbours)
        if threshold is not None and least > threshold:
            return None
        wanted = least if threshold is None else threshold
        if most >= wanted:
            return neighbours, max(wanted, LOWEST_THRESHOLD)
        gap = wanted - most
        neighbours += 2 * gap if demand.active and threshold is None else gap + gap % 2
    return None


def sparse_degree_exists(
    clients: int, colluders: int, dropouts: int, *, active: bool = False, sigma: float | None = None, eta: float
) -> bool:
    """Whether an even degree below n - 1 reaches sigma and eta; arguments as for ``choose_parameters``."""
    return _search(Demand(clients, colluders, dropouts, active, _security(active, sigma, eta), eta)) is not None


def _threshold_interval(demand: Demand, neighbours: int) -> tuple[int, int]:
    least, most = demand.thresholds(neighbours)
    if least > most:
        raise ParameterError(
            f"neighbours = {neighbours}: privacy needs a threshold of at least {least}, completing the round one of at "
            f"most {most}; raise the degree, or lower the dropouts or the colluders"
        )
    return least, most


def _complete_threshold(demand: Demand) -> int:
    """The threshold taken on the complete graph; see ``choose_parameters`` for the reasons."""
    clients = demand.clients
    least, most = demand.thresholds(clients - 1)
    if least <= most:
        return least if demand.active else (least + most + 1) // 2
    spare = clients - 1 - least
    remedy = (
        f"lower delta so that at most {spare} are lost, or invite more clients"
        if spare >= 0
        else f"lower gamma: {demand.colluders} are too many for this threat model, even if nobody is lost"
    )
    raise ParameterError(
        f"{clients} clients, {demand.colluders} of them colluding and {demand.dropouts} lost: even the complete graph "
        f"would need a threshold of at least {least} for privacy and at most {most} to complete; {remedy}"
    )


# -- Checks ------------------------------------------------------------------------------------------------------------


def check_parameters(
    clients: int,
    colluders: int,
    dropouts: int,
    neighbours: int,
    threshold: int,
    *,
    active: bool = False,
    complete: bool = False,
    sigma: float | None = None,
    eta: float = DEFAULT_ETA,
) -> Bounds:
    """The bounds that a degree and threshold reach, when they are those asked for.

    Args:
        complete: the complete graph is meant: k = n - 1 is refused without it, and needed with it.
        sigma: privacy must hold but for 2^-sigma; 40, or 104 when active.
        eta: the round must complete but for 2^-eta.

    The others are those of ``assess``.

    Raises:
        ParameterError: a rule is broken; the message names the parameter, its value, what is allowed, what to change.
    """
    sigma = _security(active, sigma, eta)
    check_counts(clients, colluders, dropouts)
    check_degree(clients, neighbours, complete=complete)
    check_int("threshold", threshold, LOWEST_THRESHOLD, neighbours)
    _check_losses(clients, colluders, dropouts, active)
    bounds = assess(clients, colluders, dropouts, neighbours, threshold, active=active)
    demand = Demand(clients, colluders, dropouts, active, sigma, eta)
    if not bounds.connectivity_log2 < -(sigma + 1):
        raise ParameterError(
            f"neighbours = {neighbours}: the chance that the graph falls apart is bounded by "
            f"2^{bounds.connectivity_log2:.1f}, and it must be below 2^-{sigma + 1:g}; raise the degree, or lower the "
            "dropouts or the colluders"
        )
    least, most = _threshold_interval(demand, neighbours)
    if not least <= threshold <= most:
        remedy = "raise it: colluders could open secrets" if threshold < least else "lower it: rounds would abort"
        raise ParameterError(
            f"threshold = {threshold}: with {neighbours} neighbours it must lie in {least} .. {most}; {remedy}"
        )
    return bounds


def _check_losses(clients: int, colluders: int, dropouts: int, active: bool) -> None:
    weight, formula = (2, "colluders + 2 dropouts") if active else (1, "colluders + dropouts")
    total = colluders + weight * dropouts
    if total > LARGEST_LOSS * clients:
        raise ParameterError(
            f"{formula} = {total} with colluders = {colluders}, dropouts = {dropouts}: at most {float(LARGEST_LOSS)} "
            f"of {clients} clients is allowed; lower either"
        )
    if active and quorum(clients, colluders) > clients - dropouts:
        raise ParameterError(
            f"dropouts = {dropouts}: {quorum(clients, colluders)} of {clients} clients must confirm the survivors, and "
            f"only {clients - dropouts} may be left; lower the dropouts or the colluders"
        )


def _security(active: bool, sigma: float | None, eta: float) -> float:
    """Sigma with its default; raises ParameterError for a sigma or eta that is no number of bits."""
    if sigma is None:
        sigma = ACTIVE_SIGMA if active else SEMI_HONEST_SIGMA
    for name, bits in (("sigma", sigma), ("eta", eta)):
        if isinstance(bits, bool) or not isinstance(bits, int | float) or not 0 <= bits < math.inf:
            raise ParameterError(f"{name} = {bits!r}: it must be a finite number of bits, 0 or more")
    return float(sigma)


# -- The graph itself --------------------------------------------------------------------------------------------------


@final
class NeighbourGraph:
    """The graph that a key draws: clients 0 .. n - 1 on a ring, sorted by AES-256 of their index (R-GRAPH-1).

    It is drawn over the whole cohort, whoever advertises (R-GRAPH-3).

    Keeps the ring order and its inverse, two int64 arrays of n; nothing of n x k.

    Args:
        clients: n >= 3.
        neighbours: k, even and below n - 1, or n - 1 for the complete graph.
        key: 32 bytes.  It decides the order; on the complete graph there is none, and it is not looked at
            (R-GRAPH-2).

    Raises:
        ParameterError: there is no such graph, or the key has another length.
    """

    __slots__ = ("_clients", "_neighbours", "_position", "_ring", "_window")

    def __init__(self, clients: int, neighbours: int, key: bytes) -> None:
        check_int("clients", clients, FEWEST_CLIENTS)
        check_degree(clients, neighbours, complete=neighbours == clients - 1)
        self._clients = clients
        self._neighbours = neighbours
        if self.complete:
            return
        if len(key) != 32:
            raise ParameterError(f"a graph key of {len(key)} bytes: it must have 32")
        self._ring = _ring_order(clients, key)
        self._position = np.empty(clients, dtype=np.int64)
        self._position[self._ring] = np.arange(clients)
        reach = np.arange(1, neighbours // 2 + 1)
        self._window = np.concatenate((-reach, reach))

    @property
    def clients(self) -> int:
        """n."""
        return self._clients

    @property
    def neighbours(self) -> int:
        """k, the same for every client."""
        return self._neighbours

    @property
    def complete(self) -> bool:
        """Whether everyone is everyone's neighbour."""
        return self._neighbours == self._clients - 1

    @property
    def ring(self) -> IntArray:
        """The clients in the order of the ring: int64, shape (n,), a copy; shape (0,) on the complete graph."""
        return np.empty(0, dtype=np.int64) if self.complete else self._ring.copy()

    def neighbours_of(self, client: int) -> IntArray:
        """The k neighbours of a client, ascending: int64, shape (k,).  Raises ParameterError for an unknown client."""
        check_int("client", client, 0, self._clients - 1)
        if self.complete:
            return np.delete(np.arange(self._clients), client)
        found: IntArray = self._ring.take(self._position[client] + self._window, mode="wrap")
        found.sort()
        return found

    def count_within(self, members: npt.NDArray[np.bool_]) -> IntArray:
        """How many neighbours each client has among ``members``: bool, shape (n,), to int64, shape (n,).

        O(n), for all clients at once, members or not.
        """
        if members.shape != (self._clients,) or members.dtype != np.bool_:
            raise ParameterError(f"members of shape {members.shape}, {members.dtype}: must be ({self._clients},), bool")
        if self.complete:
            return int(members.sum()) - members.astype(np.int64)
        half = self._neighbours // 2
        on_ring = members[self._ring].astype(np.int64)
        around = np.concatenate((on_ring[-half:], on_ring, on_ring[:half]))
        sums = np.concatenate(([0], np.cumsum(around)))
        within = sums[2 * half + 1 :] - sums[: self._clients] - on_ring
        counts: IntArray = within[self._position]
        return counts

    def __repr__(self) -> str:
        return f"NeighbourGraph(clients={self._clients}, neighbours={self._neighbours})"


def _ring_order(clients: int, key: bytes) -> IntArray:
    """The indices 0 .. n - 1 sorted by AES-256 of each as a 128-bit big-endian block, as 128-bit big-endian numbers."""
    blocks = np.zeros((clients, 2), dtype=">u8")
    blocks[:, 1] = np.arange(clients)
    images = np.frombuffer(permute_blocks(key, blocks.tobytes()), dtype=">u8").reshape(clients, 2).astype(np.uint64)
    order: IntArray = np.lexsort((images[:, 1], images[:, 0]))
    return order
