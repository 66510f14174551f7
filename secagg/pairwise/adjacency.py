"""The neighbour graph among the members that are present, as flat arrays: one entry a directed pair.

What a dealer sends for its neighbours is stored in its own entries, ascending; what is meant for a holder lies at the
entries that ``entries_for`` gives.  So shares are routed by array look-ups, and memory is a fixed number of bytes per
pair.
"""

from __future__ import annotations

from typing import Any, final

import numpy as np
import numpy.typing as npt

from secagg.pairwise.graph import NeighbourGraph


@final
class Adjacency:
    """The edges among present members."""

    __slots__ = ("_offsets", "_reverse", "ids")

    def __init__(self, graph: NeighbourGraph, present: npt.NDArray[np.bool_]) -> None:
        """``present`` has one flag a member of the cohort, shape (n,)."""
        rows = [graph.neighbours_of(member) if present[member] else _NOBODY for member in range(len(present))]
        rows = [row[present[row]] for row in rows]
        self._offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=self._offsets[1:])
        self.ids: npt.NDArray[np.uint32] = np.concatenate(rows).astype(np.uint32)
        # Sorted by neighbour, then (stably) by member: row i of the transposed graph, which is row i of this one.
        self._reverse: npt.NDArray[np.signedinteger[Any]] = np.argsort(self.ids, kind="stable").astype(
            np.int64 if len(self.ids) >= 2**31 else np.int32
        )

    def __len__(self) -> int:
        """How many directed pairs of neighbours there are."""
        return len(self.ids)

    def span(self, member: int) -> slice:
        """The member's own entries."""
        return slice(int(self._offsets[member]), int(self._offsets[member + 1]))

    def neighbours(self, member: int) -> npt.NDArray[np.uint32]:
        """Its present neighbours, ascending."""
        return self.ids[self.span(member)]

    def entries_for(self, member: int) -> npt.NDArray[np.signedinteger[Any]]:
        """For each of its neighbours, ascending, that neighbour's entry for this member."""
        return self._reverse[self.span(member)]

    def degrees_within(self, members: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """How many of each member's neighbours are in ``members``, shape (n,)."""
        inside = np.concatenate(([0], np.cumsum(members[self.ids], dtype=np.int64)))
        return inside[self._offsets[1:]] - inside[self._offsets[:-1]]


_NOBODY = np.empty(0, dtype=np.int64)
