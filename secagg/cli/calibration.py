"""Expected CPU times of a round, from small ones run here and scaled by what they would have more of.

Three rounds of a few clients on the complete graph: short vectors; short vectors and some clients lost in MASK; long
vectors.  They give what a neighbour, a mask that did not cancel, and an element cost, phase by phase.  What an element
of a mask costs is measured alone: in a round of some clients it is lost in all else.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from secagg.pairwise.carrier import Carrier
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.primitives import masking
from secagg.simulation import Outcome
from secagg.simulation.carriers import envelope_seconds
from secagg.simulation.costs import UnitCosts, client_work, measure, server_work
from secagg.simulation.small import small_round

_CLIENTS: Final = 33
_LOST: Final = 6
_SHORT: Final = 64
_LONG: Final = 1 << 17
_REPEATS: Final = 2
_MASKS: Final = 32
_MASKED: Final = 1 << 19
_MASKINGS: Final = 5
"""Small rounds of so many clients, with and without losses, on a short and on a longer vector, and masks of so many
elements: enough that a phase takes milliseconds, and few enough that all of it takes some seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """CPU seconds of a round in which all that may be lost are lost in MASK; the client stays to the end."""

    client_s: dict[str, float]
    server_s: dict[str, float]
    client_floor_s: float
    server_floor_s: float
    costs: UnitCosts


@dataclass(frozen=True, slots=True)
class _Measured:
    """CPU seconds by phase: the median client's, and the server's."""

    config: RoundConfig
    client: dict[str, float]
    server: dict[str, float]


def expect(config: RoundConfig) -> Expected:
    """Calibrate and scale; takes a few seconds.

    A round with envelopes takes what a round takes whose vectors are the envelopes' secrets, and the envelopes besides.
    Its floors are that round's.
    """
    if config.envelope is None:
        return _expect_masks(config)
    ring, bound = config.masked_modulus, 2 * config.envelope.secret_bound
    found = _expect_masks(
        config.replace(carrier=Carrier.MASKS, length=config.masked_length, modulus=ring, input_max=bound)
    )
    seal_s, add_s, open_s = envelope_seconds(config, config.envelope)
    found.client_s[Phase.MASK] += seal_s
    found.server_s[Phase.MASK] += (config.clients - config.dropouts) * add_s
    found.server_s[Phase.UNMASK] += config.groups * open_s
    return found


def _expect_masks(config: RoundConfig) -> Expected:
    costs = measure(config)
    length = min(max(config.length, _SHORT + 1), _LONG)
    short, lossy, long = (
        _run(config, length=size, lost=lost) for size, lost in ((_SHORT, 0), (_SHORT, _LOST), (length, 0))
    )
    mask_s = _mask_s(config)
    survivors = config.clients - config.dropouts
    orphaned = round(config.dropouts * config.neighbours * survivors / (config.clients - 1))
    return Expected(
        client_s=_client(config, costs, short, long, mask_s),
        server_s=_server(config, short, lossy, long, survivors, orphaned, mask_s),
        client_floor_s=client_work(config).seconds(costs),
        server_floor_s=server_work(config, survivors=survivors, orphaned_pairs=orphaned).seconds(costs),
        costs=costs,
    )


def _mask_s(config: RoundConfig) -> float:
    """Seconds an element of a mask, where many masks are added up."""
    keys = [os.urandom(config.suite.key_bytes) for _ in range(_MASKS)]
    vector = np.zeros(min(config.length, _MASKED), config.modulus.dtype)
    taken = []
    for _ in range(_MASKINGS):
        started = time.thread_time()
        masking.apply_masks(config.suite, vector, keys, (), config.modulus)
        taken.append(time.thread_time() - started)
    return median(taken) / (_MASKS * len(vector))


def _client(
    config: RoundConfig, costs: UnitCosts, short: _Measured, long: _Measured, mask_s: float
) -> dict[str, float]:
    """All but ADVERTISE grows with the neighbours, MASK with the elements of the masks, UNMASK with the quorum.

    Nobody complains, so that nobody has anything to do in ANSWER.
    """
    small = short.config
    more = config.neighbours / small.neighbours
    quorum_s = small.quorum * costs.verify_s
    per_element = _rise(Phase.MASK, short.client, long.client, long.config) - (small.neighbours + 1) * mask_s
    return {
        Phase.ADVERTISE: short.client[Phase.ADVERTISE],
        Phase.SHARE: short.client[Phase.SHARE] * more,
        Phase.COMPLAIN: short.client[Phase.COMPLAIN] * more,
        Phase.ANSWER: 0.0,
        Phase.MASK: short.client[Phase.MASK] * more
        + (max(0.0, per_element) + (config.neighbours + 1) * mask_s) * config.length,
        Phase.CONFIRM: short.client[Phase.CONFIRM],
        Phase.UNMASK: max(0.0, short.client[Phase.UNMASK] - quorum_s) * more + config.quorum * costs.verify_s,
    }


def _server(
    config: RoundConfig,
    short: _Measured,
    lossy: _Measured,
    long: _Measured,
    survivors: int,
    orphaned: int,
    mask_s: float,
) -> dict[str, float]:
    """ADVERTISE and CONFIRM grow with the clients, the rest with the pairs, and with vectors and masks to add up."""
    small = short.config
    clients = config.clients / small.clients
    pairs = clients * config.neighbours / small.neighbours
    per_vector = _rise(Phase.MASK, short.server, long.server, long.config) / small.clients
    orphaned_there = _LOST * (small.clients - _LOST)
    per_orphan = max(0.0, lossy.server[Phase.UNMASK] - short.server[Phase.UNMASK]) / orphaned_there
    return {
        Phase.ADVERTISE: short.server[Phase.ADVERTISE] * clients,
        Phase.SHARE: short.server[Phase.SHARE] * pairs,
        Phase.COMPLAIN: short.server[Phase.COMPLAIN] * pairs,
        Phase.ANSWER: short.server[Phase.ANSWER] * pairs,
        Phase.MASK: short.server[Phase.MASK] * pairs + per_vector * config.length * survivors,
        Phase.CONFIRM: short.server[Phase.CONFIRM] * clients,
        Phase.UNMASK: short.server[Phase.UNMASK] * pairs
        + per_orphan * orphaned
        + mask_s * config.length * (survivors + orphaned),
    }


def _rise(phase: str, short: dict[str, float], long: dict[str, float], config: RoundConfig) -> float:
    """How many seconds one more element takes."""
    return max(0.0, long[phase] - short[phase]) / (config.length - _SHORT)


def _run(config: RoundConfig, *, length: int, lost: int) -> _Measured:
    rounds = [
        small_round(
            config.modulus,
            config.suite,
            config.threat_model,
            clients=_CLIENTS,
            length=length,
            lost=lost,
            complaints=config.complaints > 0,
        )
        for _ in range(_REPEATS)
    ]
    return _Measured(
        rounds[0][1],
        {phase: min(_median_client(outcome, phase) for outcome, _ in rounds) for phase in Phase},
        {phase: min(outcome.costs[phase].server_cpu_s for outcome, _ in rounds) for phase in Phase},
    )


def _median_client(outcome: Outcome, phase: str) -> float:
    spent = outcome.costs[phase].client_cpu_s.values()
    return median(spent) if spent else 0.0
