"""From shares of a cohort to counts: A colluders and D dropouts, given as rates or left to the defaults.

The defaults count a fifth of the cohort as colluders and a tenth as dropouts, and at least one of each: in a small
cohort the tenth part is less than one client, and a round that tolerates no loss ends with the first late client.
Where the rules leave no room for both, the colluder counts and the loss does not.
"""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real
from typing import Final

from secagg.errors import ParameterError
from secagg.pairwise.graph_bounds import FEWEST_CLIENTS, LOWEST_THRESHOLD, check_int

DEFAULT_GAMMA: Final = Fraction(1, 5)
DEFAULT_DELTA: Final = Fraction(1, 10)
"""A fifth and a tenth are no measurements: they are what a host gets that states no rates, and ``explain`` says
them."""

LARGEST_LOSS: Final = Fraction(9, 10)
"""Of gamma + delta, or gamma + 2 delta: beyond it degrees grow without use."""
_LARGEST_COHORT: Final = 2**20
"""As ``parameters.MAX_CLIENTS``: a rate with a larger denominator tells no more clients apart."""


def exact_rate(name: str, rate: float | Fraction) -> Fraction:
    """R-CONFIG-15: the rational number that a rate stands for, so that floor(rate n) is the same for everybody.

    A float stands for the fraction that it is nearest to, if there is one whose denominator is at most 2^20, the
    largest cohort: 0.29 of 100 clients are 29 and 1 / 3 of 3 is 1, although both floats lie below the fraction.  Any
    other float stands for the shortest decimal that reads back as it.

    Raises:
        ParameterError: the rate is no number, or not in 0 <= rate < 1.
    """
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate < 1:
        raise ParameterError(f"{name} = {rate!r}: a rate must be a number with 0 <= {name} < 1")
    if isinstance(rate, Fraction):
        return rate
    rate = float(rate)  # NumPy's as well
    simple = Fraction(rate).limit_denominator(_LARGEST_COHORT)
    return simple if float(simple) == rate else Fraction(repr(float(rate)))


def count_of(clients: int, name: str, rate: float | Fraction) -> int:
    """floor(rate x clients), of the exact rate.  Raises ParameterError."""
    return math.floor(exact_rate(name, rate) * clients)


def quorum(clients: int, colluders: int) -> int:
    """Q = floor((n + A) / 2) + 1: two sets of Q clients have an honest one in common."""
    return (clients + colluders) // 2 + 1


def default_colluders(clients: int) -> int:
    """The colluders that a config counts when nobody says how many: max(1, floor(0.2 n)).

    The rules leave room for them in every cohort, in both threat models, if nobody says how many may be lost.
    ``Policy(gamma="default")`` asks for as many.

    Raises:
        ParameterError: ``clients`` is not an int of 3 or more.
    """
    check_int("clients", clients, FEWEST_CLIENTS)
    return max(1, count_of(clients, "gamma", DEFAULT_GAMMA))


def most_dropouts(
    clients: int,
    colluders: int,
    *,
    active: bool = False,
    threshold: int | None = None,
    min_survivors: int | None = None,
) -> int:
    """The most clients that may be lost beside so many colluders; below 0 when there are too many colluders.

    This is what the rules allow on the complete graph; a sparse graph may allow less.

    Args:
        clients: n.
        colluders: A.
        active: the threat model.
        threshold: t, where it is fixed: t neighbours must be left.
        min_survivors: where it is fixed: so many clients must be left.
    """
    least_threshold = (clients - 1 + colluders) // 2 + 1 if active else max(colluders + 1, LOWEST_THRESHOLD)
    spare = math.floor(LARGEST_LOSS * clients) - colluders
    limits = [
        clients - 1 - (least_threshold if threshold is None else threshold),
        clients - (colluders + 2),
        spare // 2 if active else spare,
    ]
    if active:
        limits.append(clients - quorum(clients, colluders))
    if min_survivors is not None:
        limits.append(clients - min_survivors)
    return min(limits)


def colluders_and_dropouts(
    clients: int,
    gamma: float | Fraction | None,
    delta: float | Fraction | None,
    *,
    active: bool = False,
    threshold: int | None = None,
    min_survivors: int | None = None,
) -> tuple[int, int]:
    """A and D: floor(gamma n) and floor(delta n) of the rates that are given, the defaults of those that are not.

    A default is max(1, floor(0.2 n)) colluders and max(1, floor(0.1 n)) dropouts.  Dropouts that are not given are as
    many as the rules leave room for (``most_dropouts``), if that is fewer.  The one colluder of a cohort of fewer than
    five is not counted if a ``delta`` that is given leaves no room for it.

    Raises:
        ParameterError: a rate is none, or gamma + delta (in `active`, gamma + 2 delta) exceeds 0.9.
    """
    check_int("clients", clients, FEWEST_CLIENTS)
    if gamma is not None and delta is not None:
        _check_sum_of_rates(exact_rate("gamma", gamma), exact_rate("delta", delta), active)
    dropouts = max(1, count_of(clients, "delta", DEFAULT_DELTA)) if delta is None else count_of(clients, "delta", delta)
    colluders = default_colluders(clients) if gamma is None else count_of(clients, "gamma", gamma)
    room = most_dropouts(clients, colluders, active=active, threshold=threshold, min_survivors=min_survivors)
    if delta is None:
        dropouts = min(dropouts, max(0, room))
    elif gamma is None and room < dropouts:
        colluders = count_of(clients, "gamma", DEFAULT_GAMMA)
    return colluders, dropouts


def _check_sum_of_rates(gamma: Fraction, delta: Fraction, active: bool) -> None:
    weight, formula = (2, "gamma + 2 delta") if active else (1, "gamma + delta")
    total = gamma + weight * delta
    if total > LARGEST_LOSS:
        largest_delta = float(max(Fraction(0), (LARGEST_LOSS - gamma) / weight))
        remedy = "gamma" if gamma > LARGEST_LOSS else f"delta to at most {largest_delta:.4g}, or gamma"
        raise ParameterError(
            f"{formula} = {float(total):.4g} with gamma = {float(gamma):g}, delta = {float(delta):g}: at most "
            f"{float(LARGEST_LOSS)} is allowed; lower {remedy}"
        )
