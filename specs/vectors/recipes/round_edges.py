"""Rounds at the edges: exactly as many as are needed, and one too few, at every close; sets of several bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from reference.rules import Config

ISOLATING = (2, 4, 5, 7)
"""The neighbours of client 0 in the round "isolated"."""
EVERYTHING = "SHARE-7 SHARES-6 MASK-1 MASK-3 MASK-9 UNMASK-1 UNMASK-8 STATE-1 STATE-2"


class Edge(NamedTuple):
    """A round; ``fates`` and ``leavers`` as the recorder takes them."""

    name: str
    config: Config
    requirements: str
    flags: str
    comment: str
    fates: Mapping[int, str]
    leavers: Mapping[int, str] = {}
    ends: str = "DONE"
    largest: bool = False
    """Whether every element of every input is input_max."""


def round_edges(small: Any, small_active: Any, ring: Any) -> list[Edge]:
    """``small``, ``small_active`` and ``ring`` make configs."""
    four = {"dropouts": 1, "min_survivors": 4, "length": 1}
    three = {"clients": 3, "neighbours": 2, "colluders": 0, "dropouts": 0, "min_survivors": 3, "length": 3}
    seven = {"clients": 7, "neighbours": 6, "threshold": 4, "quorum": 4, "dropouts": 2, "min_survivors": 5, "length": 1}
    wide = {"clients": 17, "neighbours": 4, "dropouts": 1, "quorum": 9, "min_survivors": 9, "ring_bits": 21}
    wide |= {"sigma": 1, "eta": 1, "grinding_bits": 0, "threshold": 3, "length": 1}
    closes = [
        ("advertise", "ADVERTISE-9", "NONE", "able"),
        ("share", "SHARE-9", "ADVERTISE", "in U2"),
        ("mask", "MASK-8", "SHARE", "survivors"),
    ]
    edges = []
    for name, requirement, fate, what in closes:
        comment = f"min_survivors - 1 are {what}, each with t neighbours: the round ends"
        requirements = f"{requirement} ABORT-2"
        edges.append(
            Edge(
                f"one-below-{name}", small(**four), requirements, "ABORTS", comment, {0: fate, 1: fate}, ends="ABORTED"
            )
        )
        comment = f"min_survivors exactly are {what}: the round goes on"
        edges.append(Edge(f"edge-{name}", small(**four), f"{EVERYTHING} {requirement}", "EDGE", comment, {3: fate}))
    return [
        *edges,
        Edge(
            "edge-unmask",
            small(length=1),
            f"{EVERYTHING} UNMASK-5",
            "EDGE",
            "three answer in UNMASK, and of each of these t shares come back",
            {0: "MASK", 1: "MASK"},
        ),
        Edge(
            "edge-confirm",
            small_active(length=1),
            f"{EVERYTHING} CONFIRM-3 CONFIRM-4 UNMASK-5 ABORT-2",
            "EDGE",
            "Q confirm exactly; the two who do not are told that they are out, and stay in the sum",
            {0: "MASK", 1: "MASK"},
        ),
        Edge(
            "confirm-leaves",
            small_active(**seven),
            f"{EVERYTHING} CONFIRM-4 ABORT-4",
            "LEAVES",
            "one confirms and leaves: its signature is among the Q of the lowest ids, and it is sent nothing",
            {6: "MASK"},
            {0: "CONFIRM"},
        ),
        Edge(
            "leaves-first",
            small(**four),
            f"{EVERYTHING} ADVERTISE-5 ABORT-4",
            "LEAVES",
            "one advertises and leaves: it is not in the roster",
            {},
            {2: "ADVERTISE"},
        ),
        Edge(
            "leaves-unmask",
            small(**four),
            f"{EVERYTHING} ABORT-4",
            "LEAVES",
            "one answers in UNMASK and leaves: its answer counts",
            {1: "MASK", 2: "MASK"},
            {4: "UNMASK"},
        ),
        Edge(
            "twice-pruned",
            ring(clients=9, ring_bits=20),
            f"{EVERYTHING} SHARE-9 ABORT-2",
            "PRUNED SPARSE",
            "pruning takes two passes: who is removed leaves a neighbour with too few",
            {0: "ADVERTISE", 1: "ADVERTISE", 4: "ADVERTISE"},
        ),
        Edge(
            "isolated",
            ring(clients=9, ring_bits=20),
            "MASK-8 UNMASK-5 ABORT-2",
            "ABORTS SPARSE",
            "one survivor has no neighbour at all among the survivors: nobody could open its seed",
            dict.fromkeys(ISOLATING, "SHARE"),
            ends="ABORTED",
        ),
        Edge(
            "three-bytes",
            small_active(**wide),
            f"{EVERYTHING} SURVIVORS-1 CONFIRM-1 CONFIRM-4 ROSTER-5 GRAPH-1",
            "DROPOUTS SPARSE BITMAP",
            "seventeen clients of four neighbours in `active`: sets of three bytes, a tree of six levels",
            {8: "NONE", 16: "SHARE"},
        ),
        Edge(
            "largest",
            small(**three, ring_bits=20, input_max=349525),
            f"{EVERYTHING} CONFIG-6",
            "EDGE",
            "every element is input_max, and they add up to M - 1",
            {},
            largest=True,
        ),
        Edge(
            "prime-3",
            small(**{**three, "length": 40}, ring_bits=0, prime=3, input_max=2, suite=2),
            f"{EVERYTHING} STREAM-2",
            "EDGE",
            "modulo 3: two bits an element, and any element",
            {},
        ),
        Edge(
            "two-neighbours",
            ring(**{**three, "clients": 4, "ring_bits": 20}),
            f"{EVERYTHING} GRAPH-1",
            "SPARSE EDGE",
            "four clients of two neighbours: as sparse as can be",
            {},
        ),
    ]
