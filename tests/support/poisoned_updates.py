"""Clients in groups that are drawn anew in each round, some of them attackers that always send the same."""

from __future__ import annotations

import numpy as np

CLIENTS, SIZE = 40, 3
BAD = frozenset(range(8))


def groups_of(draw, clients=CLIENTS, size=SIZE):
    """A fresh draw into groups; the last ones have a member more."""
    return [group.tolist() for group in np.array_split(draw.permutation(clients), clients // size)]


def updates_of(draw, length=50, clients=CLIENTS, bad=BAD, away=-5.0):
    """What clients send in every round: 1 on average and 2 apart, and the attackers ``away`` on average."""
    updates = draw.normal(1.0, 2.0, (clients, length))
    updates[sorted(bad)] += away - 1.0
    return updates
