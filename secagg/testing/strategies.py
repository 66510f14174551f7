"""Hypothesis strategies for whole rounds: configs, inputs, fault schedules.  Needs the extra ``testing``.

What is drawn is plain data, and shrinks towards a small round on the complete graph, zeros for inputs, and no faults.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from secagg.arithmetic.modulus import MERSENNE_61, Modulus
from secagg.errors import ParameterError
from secagg.identity import Identity, MemoryDirectory
from secagg.pairwise.client.attachment import Attachment
from secagg.pairwise.config import RoundConfig, Suite
from secagg.pairwise.grouping import Grouping
from secagg.pairwise.parameters import Demand
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.transcript import VERSION
from secagg.pairwise.values import FEWEST_CLIENTS
from secagg.simulation.cohort import SeededRandomness, make_cohort
from secagg.simulation.faults import Faults, Nuisance, Trouble, phases_of
from secagg.simulation.rounds import Outcome, simulate

MODULI: Final = (
    *(Modulus.ring(bits) for bits in (16, 1, 7, 8, 20, 32, 33, 64)),
    *(Modulus(prime) for prime in (32771, 2**31 - 1, MERSENNE_61)),
)
"""Every width of lane, widths that fill their lane and widths that do not, a prime that rejects often."""
LENGTHS: Final = (1, 2, 3, 7, 8, 9, 63, 65, 131)


class Shape(NamedTuple):
    """The numbers of a config that the protocol's rules tie together."""

    neighbours: int
    colluders: int
    dropouts: int
    threshold: int


@lru_cache(maxsize=256)
def shapes(clients: int, threat_model: ThreatModel) -> tuple[Shape, ...]:
    """Every shape that a round of so many clients may have, the complete graph's first."""
    degrees = (clients - 1, *range(2, clients - 1, 2))
    candidates = (
        Shape(degree, colluders, dropouts, threshold)
        for degree in degrees
        for dropouts in range(clients // 2 + 1)
        for colluders in range(clients // 3 + 1)
        for threshold in range(2, degree + 1)
    )
    return tuple(shape for shape in candidates if _is_sound(clients, threat_model, shape))


@lru_cache(maxsize=64)
def cohort(clients: int) -> tuple[list[Identity], MemoryDirectory, bytes]:
    """Identities, directory and digest as ``make_cohort`` makes them, the same every time: for tests alone."""
    return make_cohort(clients, SeededRandomness(clients, "cohort"))


def moduli() -> st.SearchStrategy[Modulus]:
    """One of MODULI."""
    return st.sampled_from(MODULI)


@st.composite
def configs(
    draw: st.DrawFn,
    *,
    min_clients: int = 3,
    max_clients: int = 12,
    threat_models: Sequence[ThreatModel] = tuple(ThreatModel),
    moduli: Sequence[Modulus] = MODULI,
    lengths: Sequence[int] = LENGTHS,
    versions: Sequence[int] = (VERSION,),
    suites: Sequence[Suite] = tuple(Suite),
) -> RoundConfig:
    """Sound configs on complete and sparse graphs; the identities of an ``active`` one are those of ``cohort``.

    Those of version 2 may ask for an attachment, which ``Scenario.attachment`` makes, be drawn into groups, or have a
    hybrid suite.
    Graphs of a dozen clients are sparse only where hardly any security is asked for, so sigma and eta are 1.
    """
    threat_model = draw(st.sampled_from(threat_models))
    clients = draw(st.integers(min_clients, max_clients))
    possible = shapes(clients, threat_model)
    degree = draw(st.sampled_from(sorted({shape.neighbours for shape in possible}, reverse=True)))
    shape = draw(st.sampled_from([shape for shape in possible if shape.neighbours == degree]))
    modulus = draw(st.sampled_from(moduli))
    largest_without_overflow = (modulus.value - 1) // clients
    input_max = modulus.value - 1
    if largest_without_overflow and draw(st.booleans()):
        input_max = draw(st.integers(1, largest_without_overflow))
    version = draw(st.sampled_from(versions))
    given: dict[str, Any] = {
        "suite": draw(st.sampled_from([suite for suite in suites if version > 1 or not suite.is_hybrid])),
        "length": draw(st.sampled_from(lengths)),
        "modulus": modulus,
        "input_max": input_max,
        "context": draw(st.binary(max_size=4)),
        "version": version,
    }
    if version > 1 and clients >= 2 * FEWEST_CLIENTS and draw(st.booleans()):
        return RoundConfig(**given, **draw(_grouped(clients, threat_model)))
    return _config(
        clients,
        threat_model,
        shape,
        extra_survivors=draw(st.integers(0, clients - shape.dropouts - _least_survivors(clients, threat_model, shape))),
        attachment_bytes=draw(st.sampled_from((0, 1, 32))) if version > 1 else 0,
        **given,
    )


@st.composite
def _grouped(draw: st.DrawFn, clients: int, threat_model: ThreatModel) -> dict[str, Any]:
    """What makes a config of groups, with hardly any security asked for."""
    groups, colluders = draw(st.sampled_from(_groupings(clients, threat_model)))
    grouping = _grouping(clients, colluders, threat_model, groups)
    smallest, largest = grouping.sizes
    threshold = draw(st.integers(grouping.least_threshold, smallest - 1))
    quorum = grouping.of_group.quorum
    min_group = draw(st.integers(grouping.of_group.fewest_survivors(threshold, quorum), smallest))
    weight = 2 if threat_model.adversarial_drops else 1
    dropouts = draw(st.integers(0, min(clients - min_group, (9 * clients // 10 - colluders) // weight)))
    return {
        "threat_model": threat_model,
        "clients": clients,
        "colluders": colluders,
        "dropouts": dropouts,
        "neighbours": largest - 1,
        "threshold": threshold,
        "quorum": quorum,
        "min_survivors": draw(st.integers(min_group, clients - dropouts)),
        "sigma": 1,
        "grinding_bits": 0,
        "eta": 1,
        "cohort": cohort(clients)[2] if threat_model.signs else b"",
        "groups": groups,
        "min_group": min_group,
    }


@lru_cache(maxsize=64)
def _groupings(clients: int, threat_model: ThreatModel) -> tuple[tuple[int, int], ...]:
    """How many groups, and how many colluders, so few clients allow."""
    return tuple(
        (groups, colluders)
        for groups in range(2, clients // FEWEST_CLIENTS + 1)
        for colluders in range(4)
        if _fits(_grouping(clients, colluders, threat_model, groups))
    )


def _fits(grouping: Grouping) -> bool:
    return grouping.least_threshold < grouping.sizes[0] and grouping.fits


def _grouping(clients: int, colluders: int, threat_model: ThreatModel, groups: int) -> Grouping:
    counts = {"clients": clients, "colluders": colluders, "dropouts": 0}
    return Grouping(Demand(**counts, threat_model=threat_model, sigma=1, grinding_bits=0, eta=1), groups)


@st.composite
def inputs(draw: st.DrawFn, config: RoundConfig) -> tuple[tuple[int, ...], ...]:
    """A vector for each client of the round: a few drawn numbers, repeated with multiples so that places differ."""
    numbers = st.lists(st.integers(0, config.input_max), min_size=1, max_size=3)
    patterns = [draw(numbers) for _ in range(config.clients)]
    return tuple(_tiled(pattern, config) for pattern in patterns)


@st.composite
def faults(draw: st.DrawFn, config: RoundConfig, *, max_lost: int | None = None, max_troubles: int = 6) -> Faults:
    """Schedules that lose at most ``max_lost`` clients: by default one more than the round is made to bear."""
    clients, phases = st.integers(0, config.clients - 1), phases_of(config)
    max_lost = min(config.clients, config.dropouts + 1) if max_lost is None else max_lost
    fates = st.dictionaries(clients, st.sampled_from((*reversed(phases[:-1]), "NONE")), max_size=max_lost)
    trouble = st.builds(
        Trouble,
        client=clients,
        phase=st.sampled_from(phases),
        kind=st.sampled_from(Nuisance),
        at=st.integers(0, 4096),
    )
    return Faults(
        fates=draw(fates),
        troubles=tuple(draw(st.lists(trouble, max_size=max_troubles))),
        order=draw(st.none() | st.integers(0, 2**16)),
    )


@dataclass(frozen=True)
class Scenario:
    """A whole round to be: what goes in, what goes wrong, and the seed of everybody's randomness."""

    config: RoundConfig
    inputs: tuple[tuple[int, ...], ...]
    faults: Faults
    seed: int = 0

    def vector(self, client: int) -> npt.NDArray[np.unsignedinteger[Any]]:
        """A client's input."""
        return np.array(self.inputs[client], dtype=self.config.modulus.dtype)

    def attachment(self, client: int) -> Attachment | None:
        """What its host attaches: a value for as many losses as half of those that may be, and one for any more."""
        if not self.config.attachment_bytes:
            return None
        half = (self.config.clients - self.config.min_survivors) // 2
        return [(losses, self._attached(client, losses)) for losses in (half, self.config.clients)]

    def attached(self, client: int, included: Sequence[int]) -> bytes:
        """Which of these values the client must reveal when these clients are in the sum."""
        lost = self.config.clients - len(included)
        half = (self.config.clients - self.config.min_survivors) // 2
        return self._attached(client, half if lost <= half else self.config.clients)

    def _attached(self, client: int, losses: int) -> bytes:
        return hashlib.shake_256(f"{self.seed} {client} {losses}".encode()).digest(self.config.attachment_bytes)

    def plain_sum(self, included: Sequence[int]) -> list[int]:
        """The sum of some clients' inputs, in Python integers."""
        columns = zip(*(self.inputs[client] for client in included), strict=True)
        return [sum(column) % self.config.modulus.value for column in columns]

    def run(self, executor: Executor | None = None) -> Outcome:
        """Run it with ``simulate``."""
        identities, directory, _ = cohort(self.config.clients)
        return simulate(
            self.vector,
            self.config,
            attachments=self.attachment,
            faults=self.faults,
            seed=self.seed,
            executor=executor,
            identities=identities,
            directory=directory if self.config.threat_model.signs else None,
        )


@st.composite
def scenarios(
    draw: st.DrawFn,
    configs: st.SearchStrategy[RoundConfig] = configs(),  # noqa: B008
    *,
    max_lost: int | None = None,
    max_troubles: int = 6,
) -> Scenario:
    """Whole rounds; the limits are those of ``faults``."""
    config = draw(configs)
    schedule = draw(faults(config, max_lost=max_lost, max_troubles=max_troubles))
    return Scenario(config, draw(inputs(config)), schedule, draw(st.integers(0, 2**32)))


def _tiled(pattern: Sequence[int], config: RoundConfig) -> tuple[int, ...]:
    """Zeros stay zeros, and the first elements are the pattern's own numbers."""
    size = len(pattern)
    return tuple(pattern[i % size] * (i // size + 1) % (config.input_max + 1) for i in range(config.length))


def _demand(clients: int, threat_model: ThreatModel, shape: Shape) -> Demand:
    return Demand(clients=clients, colluders=shape.colluders, dropouts=shape.dropouts, threat_model=threat_model)


def _least_survivors(clients: int, threat_model: ThreatModel, shape: Shape) -> int:
    return _demand(clients, threat_model, shape).fewest_survivors(shape.threshold)


def _is_sound(clients: int, threat_model: ThreatModel, shape: Shape) -> bool:
    try:
        _config(clients, threat_model, shape)
    except ParameterError:
        return False
    return True


def _config(
    clients: int,
    threat_model: ThreatModel,
    shape: Shape,
    *,
    extra_survivors: int = 0,
    suite: Suite = Suite.AES_128,
    length: int = 1,
    modulus: Modulus = MODULI[0],
    input_max: int = 1,
    context: bytes = b"",
    version: int = VERSION,
    attachment_bytes: int = 0,
) -> RoundConfig:
    return RoundConfig(
        threat_model=threat_model,
        suite=suite,
        clients=clients,
        length=length,
        modulus=modulus,
        input_max=input_max,
        colluders=shape.colluders,
        dropouts=shape.dropouts,
        neighbours=shape.neighbours,
        threshold=shape.threshold,
        quorum=_demand(clients, threat_model, shape).quorum,
        min_survivors=_least_survivors(clients, threat_model, shape) + extra_survivors,
        sigma=1,
        grinding_bits=0,
        eta=1,
        context=context,
        cohort=cohort(clients)[2] if threat_model.signs else b"",
        version=version,
        attachment_bytes=attachment_bytes,
    )
