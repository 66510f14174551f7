"""``--dropout``: how many clients are lost in which phase, and which ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from secagg.errors import ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.simulation import Faults
from secagg.simulation.faults import phases_of

Rates = Mapping[str, Fraction]
_NAMED: Final = tuple(phase for phase in Phase if phase is not Phase.ANSWER)
"""In ANSWER a round waits only for clients that deal shares that do not open, and none of a simulated round does."""


def parse_rates(text: str) -> Rates:
    """Rates by phase in capitals, from ``0.1`` (lost in MASK) or ``share=.02,mask=.05``.  Raises ParameterError."""
    rates: dict[str, Fraction] = {}
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        phase = name.strip().upper() if equals else Phase.MASK
        if phase not in _NAMED or (not equals and "," in text):
            raise ParameterError(
                f"--dropout {text!r}: {part.strip()!r} is not a phase and a rate; write one rate, as 0.1, or rates by "
                f"phase, as share=.02,mask=.05, with the phases {', '.join(_NAMED).lower()}"
            )
        if phase in rates:
            raise ParameterError(f"--dropout {text!r}: {phase.lower()} is there twice; give each phase one rate")
        rates[phase] = _rate(text, number)
    if sum(rates.values()) >= 1:
        raise ParameterError(f"--dropout {text!r}: the rates add up to {float(sum(rates.values())):g}; stay below 1")
    return rates


def _rate(text: str, number: str) -> Fraction:
    try:
        rate = Fraction(number.strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(-1)
    if not 0 <= rate < 1:
        raise ParameterError(f"--dropout {text!r}: {number.strip()!r} is no rate; a rate is a number from 0 to below 1")
    return rate


def total_rate(rates: Rates, delta: float | None, option: str = "--delta") -> float:
    """delta: the one that ``option`` gave, or the total of the rates.  Raises ParameterError for a total above it."""
    total = float(sum(rates.values()))
    if delta is None:
        return total
    if total > delta + 1e-12:
        raise ParameterError(
            f"--dropout adds up to {total:g}, more than the {option} {delta:g} that the round is planned for; raise "
            f"{option} or lower --dropout"
        )
    return delta


def all_lost(config: RoundConfig, draw: np.random.Generator) -> Faults:
    """As many as may be lost are: the first in MASK, the others anywhere."""
    phases = phases_of(config)
    fates = dict(zip(phases, ("NONE", *phases), strict=False))
    lost = draw.permutation(config.clients)[: config.dropouts].tolist()
    where = [Phase.MASK, *draw.choice(phases, config.dropouts).tolist()]
    return Faults({client: fates[phase] for client, phase in zip(lost, where, strict=False)})


def schedule(rates: Rates, clients: int, phases: Sequence[str], generator: np.random.Generator) -> Faults:
    """Who is lost when: exactly floor(rate x clients) in each phase, drawn by the generator."""
    if strangers := [phase for phase in rates if phase not in phases]:
        raise ParameterError(
            f"--dropout {strangers[0].lower()}=...: there is no such phase here, only {', '.join(phases).lower()}"
        )
    drawn = iter(generator.permutation(clients).tolist())
    last_messages = dict(zip(phases, ("NONE", *phases), strict=False))
    return Faults(
        {
            next(drawn): last_messages[phase]
            for phase in phases
            for _ in range(math.floor(rates.get(phase, Fraction(0)) * clients))
        }
    )
