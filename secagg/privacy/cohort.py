"""How many clients of a round are honest, and the ranges of what a round promises.  Imports no accountant."""

from __future__ import annotations

import math
from typing import Final, Protocol, Self, TypeVar

from secagg.encoding.limits import integer, real
from secagg.encoding.sums import CohortShape
from secagg.errors import ParameterError

SMALLEST_DELTA: Final = 1e-100
MOST_ROUNDS: Final = 2**32
MOST_HONEST: Final = 2**32
SMALLEST_RATE: Final = 2.0**-40
"""Of the sampling of clients."""


class Cohort(CohortShape, Protocol):
    """A cohort, and how many clients it has."""

    @property
    def clients(self) -> int:
        """How many are invited."""
        ...


def honest_contributors(config: CohortShape) -> int:
    """The fewest honest clients whose noise is in a sum of this round: max(min_survivors, Q) - A.

    No client lets a sum over fewer survivors open, and in ``active`` none lets one open that fewer than Q confirmed.
    Up to A of those work with the server and know their own noise.

    Raises ParameterError for a round with groups: the sum of each group is opened, with the noise of its few members.
    """
    groups = getattr(config, "groups", 1)  # a cohort need not be a config of the protocol, which alone has groups
    if groups > 1:
        raise ParameterError(
            f"groups = {groups}: noise is sized for the one sum of a cohort, and each group's sum would have less; "
            "leave groups 1, or do without noise"
        )
    return max(config.min_survivors, config.quorum) - config.colluders


class WholeCohort(CohortShape, Protocol):
    """What ``private_cohort`` needs of a round's config."""

    @property
    def clients(self) -> int:
        """How many are invited."""
        ...

    @property
    def dropouts(self) -> int:
        """How many may be lost, as was planned."""
        ...

    def replace(self, **changes: object) -> Self:
        """A copy with other values."""
        ...


_Config = TypeVar("_Config", bound=WholeCohort)


def private_cohort(config: _Config) -> _Config:
    """The config with a sum that only those may be missing from who are planned to drop out.

    Each client more that a sum could be opened without would be one less to add noise.
    """
    fewest = config.clients - config.dropouts
    return config if config.min_survivors >= fewest else config.replace(min_survivors=fewest)


def check_delta(delta: float) -> float:
    """``delta`` as a float above 0 and below 1.  Raises ParameterError."""
    return real("delta", delta, SMALLEST_DELTA, math.nextafter(1.0, 0.0))


def check_rounds(rounds: int) -> int:
    """``rounds`` as an int from 1.  Raises ParameterError."""
    return integer("rounds", rounds, 1, MOST_ROUNDS)
