"""A whole round in memory: real clients, a real server, real bytes between them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from secagg.client import Client
from secagg.config import Policy, RoundConfig
from secagg.errors import InputError, PeerError
from secagg.events import InputNeeded, ServerEvent
from secagg.graph import NeighbourGraph
from secagg.identity import Identity, MemoryDirectory, UsedTokens
from secagg.server import Server
from secagg.server_state import Failure, Result
from secagg.simulation.faults import PHASES, Faults, Nuisance, phases_of, shuffled

Inputs: TypeAlias = Callable[[int], npt.ArrayLike] | Sequence[npt.ArrayLike] | Mapping[int, npt.ArrayLike]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a phase, how many clients are through, and how many there are."""

_HEADER_BYTES = 38  # array and type, version, session


class SeededRandomness:
    """Reproducible bytes for tests and replays; never for a real round."""

    def __init__(self, seed: int, label: str) -> None:
        """Different labels give independent streams."""
        self._key = hashlib.sha256(f"secagg testing {seed} {label}".encode()).digest()
        self._calls = 0

    def __call__(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        self._calls += 1
        return hashlib.shake_256(self._key + self._calls.to_bytes(8, "little")).digest(length)


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


def make_cohort(
    clients: int, randomness: Callable[[int], bytes] = os.urandom
) -> tuple[list[Identity], MemoryDirectory, bytes]:
    """Identities for a cohort, a directory that vouches for it, and its digest for the config."""
    identities = [Identity.generate(randomness) for _ in range(clients)]
    directory = MemoryDirectory()
    return identities, directory, directory.add([identity.public_key for identity in identities])


def simulate(
    inputs: Inputs,
    config: RoundConfig,
    *,
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
        faults: what goes wrong; nothing when not given.
        seed: makes every draw reproducible, which a real round must never be; the system's randomness when not given.
        executor: for the server's unmasking.
        policy: what every client asks for; that of the config itself when not given.
        identities, directory: ``active``: of ``make_cohort``, whose digest is in the config.
        progress: called as clients get through the phases.

    Returns the outcome; a client's or server's own failure is in it.  Raises UsageError for inputs that do not fit.
    """
    faults = faults or Faults()
    faults.check(config)
    return _Simulation(inputs, config, faults, seed, executor, policy, identities, directory, progress).run()


class _Simulation:
    def __init__(
        self,
        inputs: Inputs,
        config: RoundConfig,
        faults: Faults,
        seed: int | None,
        executor: Executor | None,
        policy: Policy | None,
        identities: Sequence[Identity],
        directory: MemoryDirectory | None,
        progress: Progress | None,
    ) -> None:
        self.inputs, self.config, self.faults, self.seed, self.executor = inputs, config, faults, seed, executor
        self.policy = policy or Policy(min_sigma=config.sigma, min_grinding_bits=config.grinding_bits)
        self.identities, self.directory = identities, directory
        self.progress = progress or (lambda phase, through, total: None)
        self.server = Server(config, directory=directory, randomness=self.randomness("server"))
        self.clients: dict[int, Client] = {}
        self.costs = {phase: PhaseCost() for phase in PHASES}
        self.events: list[ServerEvent] = []
        self.errors: dict[int, PeerError] = {}
        self.late: list[tuple[int, bytes]] = []

    def randomness(self, label: str) -> Callable[[int], bytes]:
        return os.urandom if self.seed is None else SeededRandomness(self.seed, label)

    def run(self) -> Outcome:
        for phase in phases_of(self.config):
            with self.on_server(phase):
                outgoing = self.server.outgoing()
            members = shuffled(list(outgoing.recipients), self.faults, phase)
            for through, index in enumerate(members, 1):
                with self.on_server(phase):
                    message = outgoing.to(index)
                self.run_client(phase, index, message or b"")
                self.progress(phase, through, len(members))
            with self.on_server(phase):
                self.server.close_phase()
            late, self.late = self.late, []
            for index, message in late:
                self.deliver(phase, index, message)
            if self.server.done:
                break
        result = self.compute() if self.server.ready_to_compute else None
        self.tell_the_end()
        return self.outcome(result)

    def run_client(self, phase: str, index: int, message: bytes) -> None:
        """Let a client take the server's message, and the server take its answer, as far as the schedule lets them."""
        cost, delivers = self.costs[phase], self.faults.delivers(index, phase)
        if not delivers and not any(trouble.kind is Nuisance.LATE for trouble in self.faults.of(index, phase)):
            return
        cost.bytes_down[index] = len(message)
        answer = self.answer(phase, index, message)
        if answer is None:
            return
        cost.bytes_up[index] = len(answer)
        if not delivers:
            self.late.append((index, answer))
            return
        for trouble in self.faults.of(index, phase):
            self.trouble_before(phase, index, answer, trouble.kind, trouble.at)
        self.deliver(phase, index, answer)
        for trouble in self.faults.of(index, phase):
            if trouble.kind is Nuisance.DUPLICATE:
                self.deliver(phase, index, answer)
            elif trouble.kind is Nuisance.LATE_DUPLICATE:
                self.late.append((index, answer))

    def answer(self, phase: str, index: int, message: bytes) -> bytes | None:
        try:
            if phase == "ADVERTISE":
                with self.on_client(phase, index):
                    client = self.clients[index] = self.join(index, message)
                    return client.start()
            if index not in self.clients:  # told that it is out, without ever having been in
                return None
            client = self.clients[index]
            with self.on_client(phase, index):
                step = client.receive(message)
            if isinstance(step.event, InputNeeded):
                vector = self.input_of(index)
                with self.on_client(phase, index):
                    step = client.submit(vector)
            return step.outgoing[0] if step.outgoing else None
        except PeerError as refused:
            self.errors[index] = refused
            if refused.reply:
                self.deliver(phase, index, refused.reply)
            return None

    def join(self, index: int, invitation: bytes) -> Client:
        active = self.config.is_active
        return Client.join(
            invitation,
            index,
            approve=self.config.digest,
            policy=self.policy,
            identity=self.identities[index] if active else None,
            directory=self.directory if active else None,
            consume=UsedTokens(),
            randomness=self.randomness(f"client {index}"),
        )

    def input_of(self, index: int) -> npt.ArrayLike:
        if callable(self.inputs):
            return self.inputs(index)
        try:
            return self.inputs[index]
        except (IndexError, KeyError):
            raise InputError(f"no input for client {index}; there are {len(self.inputs)}") from None

    def trouble_before(self, phase: str, index: int, answer: bytes, kind: Nuisance, at: int) -> None:
        if kind is Nuisance.FLIPPED_HEADER:
            bit = at % (8 * min(_HEADER_BYTES, len(answer)))
            damaged = bytearray(answer)
            damaged[bit // 8] ^= 1 << bit % 8
            self.deliver(phase, index, bytes(damaged))
        elif kind is Nuisance.TRUNCATED:
            self.deliver(phase, index, answer[: len(answer) - 1 - at % len(answer)])

    def deliver(self, phase: str, index: int, message: bytes) -> None:
        with self.on_server(phase):
            step = self.server.receive(index, message)
        if step.event is not None:
            self.events.append(step.event)  # type: ignore[arg-type]

    def compute(self) -> Result | None:
        started, threads = time.thread_time(), time.process_time()
        try:
            return self.server.compute(self.executor)
        except PeerError:
            return None
        finally:
            # An executor's threads do the work: the process' time holds theirs too.
            spent = time.process_time() - threads if self.executor else time.thread_time() - started
            self.costs["UNMASK"].server_cpu_s += spent

    def tell_the_end(self) -> None:
        """Hand out what an aborted round has to say, and wipe whoever is left."""
        if self.server.failure is not None:
            for index, message in self.server.outgoing():
                if index in self.clients and not self.clients[index].done:
                    self.clients[index].receive(message)
        for client in self.clients.values():
            client.close()

    def outcome(self, result: Result | None) -> Outcome:
        return Outcome(
            result=result,
            failure=self.server.failure,
            events=tuple(self.events),
            client_errors=self.errors,
            costs=self.costs,
            dropped=self.server.dropped,
            graph=self.server.graph,
        )

    @contextmanager
    def on_server(self, phase: str) -> Iterator[None]:
        started = time.thread_time()
        try:
            yield
        finally:
            self.costs[phase].server_cpu_s += time.thread_time() - started

    @contextmanager
    def on_client(self, phase: str, index: int) -> Iterator[None]:
        started, spent = time.thread_time(), self.costs[phase].client_cpu_s
        try:
            yield
        finally:
            spent[index] = spent.get(index, 0.0) + time.thread_time() - started
