"""The neighbour graph: who shares masks and secret shares with whom.

A random ring of Bell et al. (CCS 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", section 3):
the clients stand on a circle in an order that nobody chose, and each has the k/2 nearest on either side as neighbours.
The complete graph of Bonawitz et al. (CCS 2017) is the case k = n - 1.  How many neighbours it takes is in
``parameters``.

In a grouped round the same circle is cut into pieces.  Each piece is a group: its members are all neighbours of each
other, and nobody has a neighbour in another group.
"""

from __future__ import annotations

from typing import final

import numpy as np
import numpy.typing as npt

from secagg.errors import ParameterError
from secagg.pairwise.grouping import check_group_degree
from secagg.pairwise.parameters import check_degree
from secagg.pairwise.values import FEWEST_CLIENTS, whole
from secagg.primitives.streams import permute_blocks
from secagg.wording import counted

IntArray = npt.NDArray[np.int64]


@final
class NeighbourGraph:
    """The graph that a key draws: clients 0 .. n - 1 on a ring, sorted by AES-256 of their index (R-GRAPH-1).

    It is drawn over the whole cohort, whoever advertises (R-GRAPH-3).

    Keeps the ring order and its inverse, two int64 arrays of n, and two more for groups; nothing of n x k.

    Args:
        clients: n >= 3.
        neighbours: k, even and below n - 1, or n - 1 for the complete graph; with groups, ceil(n / G) - 1.
        key: 32 bytes.  It decides the order; on the complete graph there is none, and it is not looked at
            (R-GRAPH-2).
        groups: G, into how many groups the ring is cut (R-GROUP-2); 1 for a graph of the whole cohort.

    Raises:
        ParameterError: there is no such graph, or the key has another length.
    """

    __slots__ = ("_clients", "_group", "_groups", "_members", "_neighbours", "_position", "_ring", "_starts", "_window")

    def __init__(self, clients: int, neighbours: int, key: bytes, groups: int = 1) -> None:
        whole("clients", clients, FEWEST_CLIENTS)
        whole("groups", groups, 1, max(1, clients // FEWEST_CLIENTS))
        self._clients = clients
        self._neighbours = neighbours
        self._groups = groups
        if groups == 1:
            check_degree(clients, neighbours, complete=True)
        else:
            check_group_degree(clients, neighbours, groups)
        if self.complete:
            return
        if len(key) != 32:
            raise ParameterError(f"a graph key of {counted(len(key), 'byte')}: it must have 32")
        self._ring = _ring_order(clients, key)
        self._position = np.empty(clients, dtype=np.int64)
        self._position[self._ring] = np.arange(clients)
        if groups > 1:
            self._cut()
            return
        reach = np.arange(1, neighbours // 2 + 1)
        self._window = np.concatenate((-reach, reach))

    def _cut(self) -> None:
        """R-GROUP-2: the members of each group in ascending order, one group behind the other, and each one's group."""
        self._starts = np.arange(self._groups + 1, dtype=np.int64) * self._clients // self._groups
        pieces = np.repeat(np.arange(self._groups, dtype=np.int64), np.diff(self._starts))
        self._group = np.empty(self._clients, dtype=np.int64)
        self._group[self._ring] = pieces
        self._members = np.argsort(self._group, kind="stable")

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
    def groups(self) -> int:
        """G, into how many groups the cohort is drawn; 1 where nobody is kept apart."""
        return self._groups

    @property
    def group_numbers(self) -> IntArray:
        """The number of every client's group: int64, shape (n,), a copy; all zeros without groups."""
        return np.zeros(self._clients, dtype=np.int64) if self._groups == 1 else self._group.copy()

    def group_of(self, client: int) -> int:
        """The number of a client's group, 0 .. G - 1.  Raises ParameterError for an unknown client."""
        whole("client", client, 0, self._clients - 1)
        return 0 if self._groups == 1 else int(self._group[client])

    def members_of(self, group: int) -> IntArray:
        """The members of a group, ascending: int64, shape (size,).  Raises ParameterError for an unknown group."""
        whole("group", group, 0, self._groups - 1)
        if self._groups == 1:
            return np.arange(self._clients)
        members: IntArray = self._members[self._starts[group] : self._starts[group + 1]].copy()
        return members

    @property
    def ring(self) -> IntArray:
        """The clients in the order of the ring: int64, shape (n,), a copy; shape (0,) on the complete graph."""
        return np.empty(0, dtype=np.int64) if self.complete else self._ring.copy()

    def neighbours_of(self, client: int) -> IntArray:
        """The neighbours of a client, ascending: int64, shape (k,), or (k - 1,) in a smaller group.

        Raises ParameterError for an unknown client.
        """
        whole("client", client, 0, self._clients - 1)
        if self._groups > 1:
            members = self.members_of(int(self._group[client]))
            others: IntArray = members[members != client]
            return others
        if self.complete:
            return np.delete(np.arange(self._clients), client)
        found: IntArray = self._ring.take(self._position[client] + self._window, mode="wrap")
        found.sort()
        return found

    def seals_for(self, client: int, others: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """R-HYBRID-6: for which of these others, ids of shape (r,), the client is the sealer: bool, shape (r,).

        Of two places at odd distance the first one's client seals, at even distance the second's, so that everybody is
        the sealer for half of its neighbours, or for one more.
        """
        ids = np.asarray(others, dtype=np.int64)
        ahead = ids - client if self.complete else self._position[ids] - self._position[client]
        sealing: npt.NDArray[np.bool_] = (ahead > 0) == (ahead % 2 == 1)
        return sealing

    def count_within(self, members: npt.NDArray[np.bool_]) -> IntArray:
        """How many neighbours each client has among ``members``: bool, shape (n,), to int64, shape (n,).

        O(n), for all clients at once, members or not.
        """
        if members.shape != (self._clients,) or members.dtype != np.bool_:
            raise ParameterError(f"members of shape {members.shape}, {members.dtype}: must be ({self._clients},), bool")
        if self.complete:
            return int(members.sum()) - members.astype(np.int64)
        if self._groups > 1:
            present = np.bincount(self._group[members], minlength=self._groups)
            around: IntArray = present[self._group] - members
            return around
        half = self._neighbours // 2
        on_ring = members[self._ring].astype(np.int64)
        wrapped = np.concatenate((on_ring[-half:], on_ring, on_ring[:half]))
        sums = np.concatenate(([0], np.cumsum(wrapped)))
        within = sums[2 * half + 1 :] - sums[: self._clients] - on_ring
        counts: IntArray = within[self._position]
        return counts

    def __repr__(self) -> str:
        groups = f", groups={self._groups}" if self._groups > 1 else ""
        return f"NeighbourGraph(clients={self._clients}, neighbours={self._neighbours}{groups})"


def _ring_order(clients: int, key: bytes) -> IntArray:
    """The indices 0 .. n - 1 sorted by AES-256 of each as a 128-bit big-endian block, as 128-bit big-endian numbers."""
    blocks = np.zeros((clients, 2), dtype=">u8")
    blocks[:, 1] = np.arange(clients)
    images = np.frombuffer(permute_blocks(key, blocks.tobytes()), dtype=">u8").reshape(clients, 2).astype(np.uint64)
    order: IntArray = np.lexsort((images[:, 1], images[:, 0]))
    return order
