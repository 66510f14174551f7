"""The rounds that attacks are tried on, and what the tests need of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from secagg import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.testing.adversary import Attack, known_cohort

LENGTH = 3


@lru_cache(maxsize=64)
def active(clients: int, colluders: int, dropouts: int, neighbours: Any = "complete", **options: Any) -> RoundConfig:
    return _config(clients, colluders, dropouts, neighbours, threat_model="active", **options)


@lru_cache(maxsize=64)
def semi_honest(
    clients: int, colluders: int, dropouts: int, neighbours: Any = "complete", **options: Any
) -> RoundConfig:
    return _config(clients, colluders, dropouts, neighbours, threat_model="semi_honest", **options)


def _config(
    clients: int, colluders: int, dropouts: int, neighbours: Any, threat_model: str, **options: Any
) -> RoundConfig:
    return RoundConfig.for_cohort(
        clients,
        LENGTH,
        **{
            "threat_model": threat_model,
            "gamma": colluders / clients,
            "delta": dropouts / clients,
            "neighbours": neighbours,
            "input_max": 1000,
            "cohort": known_cohort(clients)[2] if threat_model == "active" else b"",
            **options,
        },
    )


def ring_of(attack: Attack) -> list[int]:
    """The members in ring order, as this attack will meet them."""
    world = attack.scout()
    config = world.config
    key = config.labels.graph_key(world.digest, world.session)
    return NeighbourGraph(config.clients, config.neighbours, key, config.groups)._ring.tolist()


def around(ring: list[int], member: int, *steps: int) -> tuple[int, ...]:
    """Who stands so many steps from a member on the ring."""
    place = ring.index(member)
    return tuple(sorted(ring[(place + step) % len(ring)] for step in steps))
