"""A fault schedule as plain data, and the oracle that says from it alone what a round must come to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from secagg.errors import ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.phases import Phase

PHASES: Final = tuple(Phase)
FATES: Final[tuple[str, ...]] = ("NONE", *PHASES)
"""The last message of a client's that the server gets; UNMASK is a client that stays to the end."""


class Nuisance(StrEnum):
    """What else can happen to one message on its way to the server."""

    DUPLICATE = "duplicate"
    """It arrives twice."""
    LATE = "late"
    """It arrives only after its phase was closed: as good as lost."""
    LATE_DUPLICATE = "late duplicate"
    """It arrives in time, and again after its phase was closed."""
    FLIPPED_HEADER = "flipped header byte"
    """A copy with one bit of its first 38 bytes changed (type, version, session) arrives before it."""
    TRUNCATED = "truncated"
    """A copy without its end arrives before it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One nuisance to one message.  ``at`` picks the bit that is flipped, or how many bytes are cut off."""

    client: int
    phase: str
    kind: Nuisance
    at: int = 0


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in a round.

    Attributes:
        fates: by client, the last of its messages that the server gets (FATES); whoever is not named stays.
        troubles: what happens to single messages besides.
        order: a seed that shuffles the clients in every phase; None leaves them in order.
    """

    fates: Mapping[int, str] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    order: int | None = None

    def check(self, config: RoundConfig) -> None:
        """Raises ParameterError for a client, fate or phase that the round does not have."""
        known = phases_of(config)
        for client, fate in self.fates.items():
            if not 0 <= client < config.clients or fate not in ("NONE", *known):
                raise ParameterError(
                    f"fate {fate!r} of client {client}: clients are below {config.clients}, fates {known}"
                )
        for trouble in self.troubles:
            if not 0 <= trouble.client < config.clients or trouble.phase not in known:
                raise ParameterError(f"{trouble}: clients are below {config.clients}, phases {known}")

    def delivers(self, client: int, phase: str) -> bool:
        """Whether the server gets the client's message of this phase in time."""
        late = any(
            trouble.client == client
            and trouble.kind is Nuisance.LATE
            and PHASES.index(trouble.phase) <= PHASES.index(phase)
            for trouble in self.troubles
        )
        return not late and FATES.index(self.fates.get(client, Phase.UNMASK)) >= FATES.index(phase)

    def of(self, client: int, phase: str) -> list[Trouble]:
        """The troubles that one message meets."""
        return [trouble for trouble in self.troubles if (trouble.client, trouble.phase) == (client, phase)]


def phases_of(config: RoundConfig) -> tuple[Phase, ...]:
    """The phases of a round."""
    return config.phases


def expected_sum(config: RoundConfig, faults: Faults, graph: NeighbourGraph | None) -> frozenset[int] | None:
    """Who must be in the sum; None when the round must abort.  Written from the protocol alone.

    ``graph`` is the server's or the outcome's.  It is None in a round that was aborted before ADVERTISE was closed,
    and such a round has no sum.
    """
    if graph is None:
        return None

    def got(phase: Phase) -> set[int]:
        return {client for client in range(config.clients) if faults.delivers(client, phase)}

    def neighbours_in(members: Collection[int], client: int) -> int:
        return len(set(graph.neighbours_of(client).tolist()) & set(members))

    if config.groups > 1:
        return _expected_groups(config, got, graph)
    least, threshold = config.min_survivors, config.threshold
    advertised = got(Phase.ADVERTISE)
    able = {client for client in advertised if neighbours_in(advertised, client) >= threshold}
    shared = able & got(Phase.SHARE)
    for phase in (Phase.SHARE, Phase.COMPLAIN) if config.complaints else (Phase.SHARE,):
        shared &= got(phase)
        while len(able) >= least and (
            pruned := {client for client in shared if neighbours_in(shared, client) < threshold}
        ):
            shared -= pruned
    survivors = shared & got(Phase.MASK)
    if min(len(able), len(shared), len(survivors)) < least:
        return None
    if config.threat_model.confirms and len(survivors & got(Phase.CONFIRM)) < config.quorum:
        return None
    reconstructed = {client for client in shared if client in survivors or neighbours_in(survivors, client)}
    answers = survivors & got(Phase.UNMASK)
    finishes = all(neighbours_in(answers, client) >= threshold for client in reconstructed)
    return frozenset(survivors) if finishes else None


def _expected_groups(
    config: RoundConfig, got: Callable[[Phase], set[int]], graph: NeighbourGraph
) -> frozenset[int] | None:
    """The same with groups: each is a complete graph, which goes on or is left out as a whole."""

    def going_on(members: set[int], needed: int) -> set[int]:
        left = [group for group in groups if len(group & members) >= needed]
        return members & frozenset().union(*left)

    groups = [frozenset(graph.members_of(number).tolist()) for number in range(config.groups)]
    survivors = set(range(config.clients))
    before = (Phase.ADVERTISE, Phase.SHARE, *((Phase.COMPLAIN,) if config.complaints else ()), Phase.MASK)
    for phase in before:
        survivors = going_on(survivors & got(phase), config.min_group)
        if len(survivors) < config.min_survivors:
            return None
    answers = survivors
    if config.threat_model.confirms:
        answers = going_on(survivors & got(Phase.CONFIRM), config.quorum)
    shared = got(Phase.COMPLAIN if config.complaints else Phase.SHARE)
    opened: set[int] = set()
    for group in groups:
        holders = group & answers & got(Phase.UNMASK)
        owners = group & shared
        if group & answers and all(len(holders - {owner}) >= config.threshold for owner in owners):
            opened |= group & survivors
    return frozenset(opened) if opened else None


def shuffled(members: list[int], faults: Faults, phase: str) -> list[int]:
    """The order in which the members' messages of a phase arrive."""
    if faults.order is None:
        return members
    generator = np.random.default_rng([faults.order, PHASES.index(phase)])
    return [members[position] for position in generator.permutation(len(members)).tolist()]
