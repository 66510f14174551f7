"""One cell of ``rounds.py``: a round's parameters, what it will take, and running it.

    python benchmarks/cells.py 101 1000000 0.0 complete semi_honest --full 20 --repeat 3 --carrier lattice

prints the cell's figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from server_process import ServerProcessCost, run_round

from secagg import RoundConfig
from secagg.cli.rounds import warm_up_for
from secagg.pairwise.carrier import LEAST_VERSION, Carrier
from secagg.pairwise.phases import Phase, ThreatModel
from secagg.simulation import PHASES, Faults, Outcome, make_cohort
from secagg.simulation.carriers import envelope_seconds
from secagg.simulation.costs import UnitCosts, client_work, measure, server_work, work_of

INPUT_BITS: Final = 16
GAMMA: Final = 0.2

# For the prediction: what the parts of a round take that the floor does not count, measured on one machine.
_PAIR_S: Final = 25e-6  # a directed pair's derivations, seals, commitments and openings
_SHARE_S: Final = 0.8e-9  # one term of a polynomial at one point
_WEIGHT_S: Final = 16e-9  # one term of one Lagrange weight
_ELEMENT_S: Final = 6e-9  # an element of a vector made, masked, packed, sent and added up
_OVER_FLOOR: Final = 1.5
_START_S: Final = 2.5  # the server's process
_PAIR_BYTES: Final = 650  # server and prepared clients together


@dataclass(frozen=True, slots=True)
class Cell:
    """A round: ``dropout`` of the clients are lost in MASK, where that costs most; ``carrier`` is the config's."""

    clients: int
    dim: int
    dropout: float
    graph: str
    threat: str
    carrier: str = Carrier.MASKS.value

    @property
    def is_signed(self) -> bool:
        """Whether the round needs a cohort's identities."""
        return ThreatModel(self.threat).signs

    def config(self, cohort: bytes = b"") -> RoundConfig:
        """Planned for the dropouts that it has.  Raises ParameterError where no degree or no envelope will do."""
        carried = {} if self.carrier == Carrier.MASKS else {"version": LEAST_VERSION, "carrier": self.carrier}
        return RoundConfig.for_cohort(
            self.clients,
            self.dim,
            threat_model=self.threat,
            gamma=GAMMA,
            delta=self.dropout,
            neighbours="complete" if self.graph == "complete" else "auto",
            input_max=2**INPUT_BITS - 1,
            cohort=(cohort or bytes(32)) if self.is_signed else b"",
            **carried,
        )

    def faults(self) -> Faults:
        """Who is lost: the same clients every time."""
        lost = int(self.dropout * self.clients + 1e-9)
        drawn = np.random.default_rng(self.clients).permutation(self.clients)[:lost]
        return Faults(fates=dict.fromkeys(drawn.tolist(), Phase.SHARE))

    def __str__(self) -> str:
        round_ = f"n = {self.clients:,}, m = {self.dim:,}, {self.dropout:.0%} lost, {self.graph}, {self.threat}"
        return round_ if self.carrier == Carrier.MASKS else f"{round_}, {self.carrier}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a round took.

    CPU seconds of the median full client, and of the server, by phase and in all; the floors of both; bytes of the
    median client in the sum; the server's peak memory, with its phases, above what its process held before; by phase,
    the most memory that a client allocates.  The floors have no envelopes in them.
    """

    neighbours: int
    threshold: int
    ring_bits: int
    client_s: dict[str, float]
    client_total_s: float
    client_floor_s: float
    client_over_floor: float
    server_s: dict[str, float]
    server_total_s: float
    server_floor_s: float
    server_over_floor: float
    bytes_up: float
    bytes_down: float
    plain_bytes: int
    peak_bytes: int
    peak_by_phase: dict[str, int]
    peak_limit_bytes: int
    client_peak_bytes: dict[str, int]
    wall_s: float
    server_compile_s: float


def predict(cell: Cell, config: RoundConfig, full: int, costs: UnitCosts) -> tuple[float, float]:
    """Roughly the seconds that a run takes here, everything included, and the bytes of memory."""
    n, k, t, lost = cell.clients, config.neighbours, config.threshold, int(cell.dropout * cell.clients)
    survivors = n - lost
    orphaned = lost * k * survivors // (n - 1)
    server = server_work(config, survivors=survivors, orphaned_pairs=orphaned)
    full_clients = client_work(config).seconds(costs) * min(full, n)
    # Prepared clients make the masks toward lost ones too.
    floors = full_clients + 2 * server.seconds(costs)
    pairs = n * k * (_PAIR_S + costs.agreement_s / 2)
    shares = n * 10 * k * t * _SHARE_S + (survivors if config.is_complete else n) * t * t * _WEIGHT_S / 4
    vectors = survivors * cell.dim * _ELEMENT_S
    if config.envelope is not None:
        seal_s, add_s, open_s = envelope_seconds(config, config.envelope)
        vectors += survivors * (seal_s + add_s) + open_s
    ring_bytes = config.length * config.modulus.dtype.itemsize
    return _START_S + _OVER_FLOOR * floors + pairs + shares + vectors, 25 * ring_bytes + _PAIR_BYTES * n * k


def run(cell: Cell, full: int, *, interleaved: bool = False) -> Figures:
    """One round, checked against the plain sum; ``interleaved`` as in ``server_process``."""
    identities, directory, cohort = make_cohort(cell.clients) if cell.is_signed else ([], None, b"")
    config, inputs = cell.config(cohort), _Inputs(cell.dim)
    started = time.perf_counter()
    outcome, server, client_peak = run_round(
        inputs, config, cell.faults(), full, identities, directory, interleaved=interleaved
    )
    wall_s = time.perf_counter() - started
    if outcome.result is None or outcome.client_errors:
        raise SystemExit(f"{cell}: {outcome.failure} {outcome.client_errors}")
    if not np.array_equal(outcome.sum, inputs.total_of(outcome.included)):
        raise SystemExit(f"{cell}: the sum is wrong")
    return _figures(config, outcome, server, client_peak, wall_s)


def median_of(runs: Sequence[Figures]) -> Figures:
    """Each figure's median over several runs."""
    first = runs[0]
    values = {field.name: _median_each([getattr(run, field.name) for run in runs]) for field in fields(first)}
    return Figures(**values)


def _median_each(values: Sequence[Any]) -> Any:
    """The median of numbers; of mappings, by key."""
    if isinstance(values[0], Mapping):
        return {key: _median_each([value[key] for value in values]) for key in values[0]}
    return statistics.median(values)


def _figures(
    config: RoundConfig, outcome: Outcome, server: ServerProcessCost, client_peak: dict[str, int], wall_s: float
) -> Figures:
    costs = measure(config)
    client_floor, server_floor = (work.seconds(costs) for work in work_of(outcome, config))
    by_phase = outcome.costs
    included = set(outcome.included)
    full = [client for client in by_phase[Phase.MASK].client_cpu_s if client in included]

    def over_clients(name: str, clients: Collection[int]) -> float:
        totals = [sum(getattr(cost, name).get(client, 0) for cost in by_phase.values()) for client in clients]
        return float(statistics.median(totals))

    client_total = over_clients("client_cpu_s", full)
    server_total = sum(cost.server_cpu_s for cost in by_phase.values())
    return Figures(
        neighbours=config.neighbours,
        threshold=config.threshold,
        ring_bits=config.modulus.bits,
        client_s={phase: _median(by_phase[phase].client_cpu_s.values()) for phase in PHASES},
        client_total_s=client_total,
        client_floor_s=client_floor,
        client_over_floor=client_total / client_floor,
        server_s={phase: by_phase[phase].server_cpu_s for phase in PHASES},
        server_total_s=server_total,
        server_floor_s=server_floor,
        server_over_floor=server_total / server_floor,
        bytes_up=over_clients("bytes_up", included),
        bytes_down=over_clients("bytes_down", included),
        plain_bytes=config.length * INPUT_BITS // 8,
        peak_bytes=max(server.peak_bytes.values(), default=0),
        peak_by_phase=server.peak_bytes,
        peak_limit_bytes=peak_limit(config),
        client_peak_bytes=client_peak,
        wall_s=wall_s,
        server_compile_s=server.compile_s,
    )


def peak_limit(config: RoundConfig) -> int:
    """The memory that a server is meant to stay below: six ring vectors, and 400 bytes a directed pair."""
    return 6 * config.length * config.modulus.dtype.itemsize + 400 * config.clients * config.neighbours


def _median(values: Collection[float]) -> float:
    return statistics.median(values) if values else 0.0


class _Inputs:
    """Makes a client's vector when it is asked for, and keeps the total: O(m) memory."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._total = np.zeros(dim, dtype=np.uint64)
        self._asked: set[int] = set()

    def __call__(self, client: int) -> npt.NDArray[np.uint16]:
        vector = self._vector_of(client)
        np.add(self._total, vector, out=self._total)
        self._asked.add(client)
        return vector

    def total_of(self, included: Collection[int]) -> npt.NDArray[np.uint64]:
        """The plain sum of these clients' vectors, all of which were asked for."""
        if set(included) - self._asked:
            raise ValueError("a client in the sum was never asked for its vector")
        for client in self._asked - set(included):
            np.subtract(self._total, self._vector_of(client), out=self._total)
        self._asked &= set(included)
        return self._total

    def _vector_of(self, client: int) -> npt.NDArray[np.uint16]:
        return np.random.default_rng(client).integers(0, 1 << INPUT_BITS, self._dim, np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field, kind in (("clients", int), ("dim", int), ("dropout", float), ("graph", str), ("threat", str)):
        parser.add_argument(field, type=kind)
    parser.add_argument("--full", type=int, default=20, help="clients that run in full")
    parser.add_argument("--repeat", type=int, default=3, help="the figures are medians")
    parser.add_argument("--carrier", choices=[one.value for one in Carrier], default=Carrier.MASKS.value)
    options = vars(parser.parse_args())
    full, repeat = options.pop("full"), options.pop("repeat")
    cell = Cell(**options)
    config = cell.config()
    warm_up_for(config)
    print(json.dumps(asdict(median_of([run(cell, full) for _ in range(repeat)]))))


if __name__ == "__main__":
    main()
