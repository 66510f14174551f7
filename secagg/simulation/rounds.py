"""A whole round in memory: real clients, a real server, real bytes between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.errors import PeerError
from secagg.events import ServerEvent
from secagg.identity import Identity, MemoryDirectory
from secagg.machines import ServerMachine
from secagg.outcome import Failure, Result
from secagg.pairwise.config import Policy, RoundConfig
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.phases import Phase
from secagg.simulation.driver import Attachments, Inputs, RoundDriver
from secagg.simulation.faults import PHASES, Faults, Nuisance, shuffled

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a phase, how many clients are through, and how many there are."""

_HEADER_BYTES = 38  # array and type, version, session


@dataclass
class PhaseCost:
    """What a phase cost: thread CPU seconds and bytes, by client where it is the clients'."""

    client_cpu_s: dict[int, float] = field(default_factory=dict)
    server_cpu_s: float = 0.0
    bytes_up: dict[int, int] = field(default_factory=dict)
    bytes_down: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a simulated round came to.

    Attributes:
        result: the server's result, or None when the round was aborted.
        failure: why it was aborted.
        events: what the server said about each message, in order.
        client_errors: by client, the PeerError that made it leave.
        costs: by phase.
        dropped: by phase, whom the server lost in it.
    """

    result: Result | None
    failure: Failure | None
    events: tuple[ServerEvent, ...]
    client_errors: Mapping[int, PeerError]
    costs: Mapping[str, PhaseCost]
    dropped: Mapping[str, tuple[int, ...]]
    graph: NeighbourGraph | None

    @property
    def included(self) -> tuple[int, ...]:
        """Whose vectors are in the sum; empty without one."""
        return self.result.included if self.result is not None else ()

    @property
    def sum(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        """The sum.  Raises ValueError when the round was aborted."""
        if self.result is None:
            raise ValueError(f"the round was aborted: {self.failure.reason if self.failure else 'no reason given'}")
        return self.result.sum


def simulate(
    inputs: Inputs,
    config: RoundConfig,
    *,
    attachments: Attachments = None,
    faults: Faults | None = None,
    seed: int | None = None,
    executor: Executor | None = None,
    policy: Policy | None = None,
    identities: Sequence[Identity] = (),
    directory: MemoryDirectory | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Run a round.

    Args:
        inputs: the clients' vectors, shape (config.length,), or a function that makes a client's when it is asked for.
        config: the round's constants.
        attachments: what each client submits beside its vector, for a config with ``attachment_bytes``; a function is
            asked after ``inputs``.
        faults: what goes wrong; nothing when not given.
        seed: makes every draw reproducible, which a real round must never be; the system's randomness when not given.
        executor: for the server's unmasking.
        policy: what every client asks for; that of the config itself when not given.
        identities, directory: ``active``: of ``make_cohort``, whose digest is in the config.
        progress: called as clients get through the phases.

    Returns the outcome; a client's or server's own failure is in it.  Raises UsageError for inputs that do not fit.
    """
    return Simulation(
        inputs,
        config,
        attachments=attachments,
        faults=faults,
        seed=seed,
        executor=executor,
        policy=policy,
        identities=identities,
        directory=directory,
        progress=progress,
    ).run()


class Simulation(RoundDriver):
    """A round under a schedule of faults, measured; use ``simulate``."""

    def __init__(
        self,
        inputs: Inputs,
        config: RoundConfig,
        *,
        attachments: Attachments = None,
        faults: Faults | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
        server: ServerMachine | None = None,
        seed: int | None = None,
        policy: Policy | None = None,
        identities: Sequence[Identity] = (),
        directory: MemoryDirectory | None = None,
    ) -> None:
        super().__init__(
            inputs,
            config,
            attachments=attachments,
            server=server,
            seed=seed,
            policy=policy,
            identities=identities,
            directory=directory,
        )
        self.faults = faults or Faults()
        self.faults.check(config)
        self.executor = executor
        self.progress = progress or (lambda phase, through, total: None)
        self.costs: dict[str, PhaseCost] = {phase: PhaseCost() for phase in PHASES}

    def run(self) -> Outcome:
        """Play the whole round, and say what it came to."""
        self.play_phases()
        result = self.compute() if self.server.ready_to_compute else None
        self.tell_the_end()
        return Outcome(
            result=result,
            failure=self.server.failure,
            events=tuple(self.events),
            client_errors=self.errors,
            costs=self.costs,
            dropped=self.server.dropped,
            graph=self.server.graph,
        )

    def in_order(self, phase: str, recipients: Sequence[int]) -> Iterator[int]:
        """As the schedule shuffles them; progress is told of each that is through."""
        members = shuffled(list(recipients), self.faults, phase)
        for through, index in enumerate(members, 1):
            yield index
            self.progress(phase, through, len(members))

    def exchange(self, phase: str, index: int, message: bytes) -> None:
        """Exchange messages as far as the schedule lets the two."""
        cost, delivers = self.costs[phase], self.faults.delivers(index, phase)
        troubles = self.faults.of(index, phase)
        if not delivers and not any(trouble.kind is Nuisance.LATE for trouble in troubles):
            return
        cost.bytes_down[index] = len(message)
        for answer in self.answers_to(phase, index, message):
            cost.bytes_up[index] = len(answer)
            if not delivers:
                self.late.append((index, answer))
                continue
            for trouble in troubles:
                self.trouble_before(phase, index, answer, trouble.kind, trouble.at)
            self.hand_in(phase, index, answer)
            for trouble in troubles:
                if trouble.kind is Nuisance.DUPLICATE:
                    self.hand_in(phase, index, answer)
                elif trouble.kind is Nuisance.LATE_DUPLICATE:
                    self.late.append((index, answer))

    def leave(self, phase: str, index: int, abort: bytes) -> Sequence[bytes]:
        """The schedule says what becomes of a phase's messages; an ABORT is none, and arrives."""
        if abort:
            self.hand_in(phase, index, abort)
        return ()

    def trouble_before(self, phase: str, index: int, answer: bytes, kind: Nuisance, at: int) -> None:
        """Hand in the damaged copy that arrives before the answer itself, if the trouble is of that kind."""
        if kind is Nuisance.FLIPPED_HEADER:
            bit = at % (8 * min(_HEADER_BYTES, len(answer)))
            damaged = bytearray(answer)
            damaged[bit // 8] ^= 1 << bit % 8
            self.hand_in(phase, index, bytes(damaged))
        elif kind is Nuisance.TRUNCATED:
            self.hand_in(phase, index, answer[: len(answer) - 1 - at % len(answer)])

    def compute(self) -> Result | None:
        """Compute on the executor, and measure that."""
        started, threads = time.thread_time(), time.process_time()
        try:
            return self.server.compute(self.executor)
        except PeerError:
            return None
        finally:
            # An executor's threads do the work: the process' time holds theirs too.
            spent = time.process_time() - threads if self.executor else time.thread_time() - started
            self.costs[Phase.UNMASK].server_cpu_s += spent

    def tell_the_end(self) -> None:
        """Hand out what an aborted round has to say, and wipe whoever is left."""
        if self.server.failure is not None:
            for index, message in self.server.outgoing():
                if index in self.clients and not self.clients[index].done:
                    self.clients[index].receive(message)
        for client in self.clients.values():
            client.close()

    @contextmanager
    def on_server(self, phase: str) -> Iterator[None]:
        """Measure what happens meanwhile, in CPU time of this thread."""
        started = time.thread_time()
        try:
            yield
        finally:
            self.costs[phase].server_cpu_s += time.thread_time() - started

    @contextmanager
    def on_client(self, phase: str, index: int) -> Iterator[None]:
        """Measure what happens meanwhile, in CPU time of this thread."""
        started, spent = time.thread_time(), self.costs[phase].client_cpu_s
        try:
            yield
        finally:
            spent[index] = spent.get(index, 0.0) + time.thread_time() - started
