"""The roster's Merkle tree, and one proof for many leaves at once.

The tree has exactly n leaves; a node without a sibling moves up unhashed (R-ADVERTISE-6).  Which leaves a proof is for
is known to both sides (the client's neighbours and itself, drawn from the digest), so a proof is a bare list of the
hashes that cannot be computed from those leaves, level by level from the leaves up, by ascending position.  It never
holds more than a path for each leaf would, nor more than all the other leaves: on the complete graph it is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from secagg.pairwise.transcript import DIGEST_BYTES

Node: TypeAlias = Callable[[bytes, bytes], bytes]
"""The hash of an inner node, from both its children: ``Labels.node`` of the round's version."""


class MerkleTree:
    """All levels of the tree over ``leaves`` (32 bytes each), leaves first."""

    __slots__ = ("_levels",)

    def __init__(self, leaves: Sequence[bytes], node: Node) -> None:
        level = list(leaves)
        self._levels = [level]
        while len(level) > 1:
            paired = [node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            level = paired + level[len(level) & ~1 :]
            self._levels.append(level)

    @property
    def levels(self) -> list[list[bytes]]:
        """A copy of all levels, the leaves first, the root alone in the last."""
        return [list(level) for level in self._levels]

    @property
    def root(self) -> bytes:
        """The root, 32 bytes."""
        return self._levels[-1][0]

    def prove(self, indices: Sequence[int]) -> bytes:
        """R-ADVERTISE-7: the hashes, 32 bytes each, that ``root_from`` needs beside the leaves at ``indices``."""
        proof: list[bytes] = []
        known = sorted(set(indices))
        for level in self._levels[:-1]:
            if len(known) == len(level):  # so are all nodes above
                break
            present = set(known)
            proof += [
                level[position ^ 1] for position in known if position ^ 1 not in present and position ^ 1 < len(level)
            ]
            known = sorted({position >> 1 for position in known})
        return b"".join(proof)


def root_from(leaves: Mapping[int, bytes], count: int, proof: bytes, node: Node) -> bytes | None:
    """The root of a tree of ``count`` leaves, from some of them and a proof; None when the proof has a wrong length.

    R-ROSTER-5: nothing of the proof may be left over, not even a part of a hash.

    ``leaves`` maps a leaf's index, below ``count``, to its hash, so a leaf counts at its own index and nowhere else.
    """
    hashes = iter([proof[start : start + DIGEST_BYTES] for start in range(0, len(proof), DIGEST_BYTES)])
    level, size = dict(sorted(leaves.items())), count
    while size > 1:
        above: dict[int, bytes] = {}
        for position, value in level.items():
            if position >> 1 in above:
                continue
            sibling = position ^ 1
            if sibling >= size:
                above[position >> 1] = value
                continue
            other = level.get(sibling) or next(hashes, b"")
            if len(other) != DIGEST_BYTES:
                return None
            above[position >> 1] = node(value, other) if position < sibling else node(other, value)
        level, size = above, (size + 1) >> 1
    return level.get(0) if next(hashes, None) is None else None
