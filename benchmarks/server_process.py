"""A server in a process of its own, so that its memory and CPU time are nobody else's.

``RemoteServer`` has the methods of ``secagg.Server`` that a simulated round calls.  The clients stay in the caller's
process.  What they send waits in a file in memory until there is a batch of it; then the server's process reads message
by message into the one buffer that it keeps, as a host would from its sockets, and hands each to Server.  What it sends
is made in batches too.  So neither side works with caches and clocks that the other has just been using, as they would
not on machines of their own.  ``interleaved`` has the server take each message as soon as it is made: what many clients
on the server's own machine cost it.

CPU time is the thread's around each call into Server, so that it leaves out how messages travel.

Peak memory is the kernel's high-water mark (VmHWM in /proc/self/status, reset after the warm-up) minus what the process
held then: interpreter, libraries and compiled kernels are not counted, everything that the round brings is, the buffer
included.  It needs Linux; elsewhere it is None.

A client's memory is what one of the full clients allocates in a call at most, as tracemalloc counts it.  Counting takes
time, so that this client is in no figure of CPU time.
"""

from __future__ import annotations

import ctypes
import gc
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from secagg import MemoryDirectory, RoundConfig, Server
from secagg.cli.rounds import warm_up_for
from secagg.errors import PeerError
from secagg.events import ServerEvent
from secagg.outcome import Failure, Outgoing, Result
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.phases import Phase, ServerState
from secagg.simulation.driver import Inputs
from secagg.simulation.faults import Faults
from secagg.simulation.prepared import PreparedSimulation
from secagg.simulation.rounds import Outcome

BATCH_BYTES: Final = 1 << 28  # of clients' messages that wait for the server
BATCH_MESSAGES: Final = 64  # that the server makes, and then sends

_MEMORY: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class ServerProcessCost:
    """What was measured in the server's process.

    Attributes:
        imported_bytes: memory before the round, with libraries and compiled kernels.
        peak_bytes: the most above that, by phase; COMPUTE is the unmasking.  Empty where the system does not tell.
        compile_s: what compiling the kernels, or loading them from the cache, took before.
    """

    imported_bytes: int
    peak_bytes: dict[str, int]
    compile_s: float


def run_round(
    inputs: Inputs,
    config: RoundConfig,
    faults: Faults,
    full: int,
    identities: Sequence[Any],
    directory: Any,
    *,
    interleaved: bool = False,
) -> tuple[Outcome, ServerProcessCost, dict[str, int]]:
    """A round with prepared clients here and its server elsewhere; see ``secagg.simulation.prepared``.

    Last comes, by phase, the most memory that a client allocates.
    """
    keys = [identity.public_key for identity in identities]
    with (
        tempfile.NamedTemporaryFile(dir=_MEMORY if _MEMORY.is_dir() else None) as spool,
        RemoteServer(config, keys, spool, interleaved=interleaved) as server,
    ):
        simulation = _Simulation(
            inputs, config, full=full, faults=faults, server=server, identities=identities, directory=directory
        )
        simulation.events = server.events
        outcome = simulation.run()
        return outcome, server.cost(), simulation.client_peak_bytes


class _Simulation(PreparedSimulation):
    """Leaves messages for the server, reads its CPU time where it was spent, and counts the memory of one client.

    Attributes:
        client_peak_bytes: by phase, the most that the client allocates; empty where only one client runs in full.
    """

    server: RemoteServer  # type: ignore[assignment]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.client_peak_bytes: dict[str, int] = {}
        stay = self.full - self.faults.fates.keys()
        self._counted = min(stay) if len(stay) > 1 else None

    @contextmanager
    def on_client(self, phase: str, index: int) -> Iterator[None]:
        if index != self._counted:
            with super().on_client(phase, index):
                yield
            return
        tracemalloc.start()
        try:
            yield
            peak = tracemalloc.get_traced_memory()[1]
            self.client_peak_bytes[phase] = max(peak, self.client_peak_bytes.get(phase, 0))
        finally:
            tracemalloc.stop()

    def hand_in(self, phase: str, index: int, message: bytes) -> None:
        with self.on_server(phase):
            self.server.post(index, message)

    def on_server(self, phase: str) -> Any:
        return self.server.charging(self.costs[phase])

    def compute(self) -> Result | None:
        with suppress(PeerError), self.on_server(Phase.UNMASK):
            return self.server.compute()
        return None


class RemoteServer:
    """A ``Server`` in a process of its own; leaving the context ends the process.

    Args:
        spool: a file with a name, for what is sent to the server.
        interleaved: no batches, in neither direction.
    """

    def __init__(
        self, config: RoundConfig, identity_keys: Sequence[bytes], spool: Any, *, interleaved: bool = False
    ) -> None:
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        arguments = (there, config.to_bytes(), list(identity_keys), _largest_message(config))
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        there.close()
        self._largest = _largest_message(config)
        self._spool = spool
        self._batch_bytes = 1 if interleaved else BATCH_BYTES
        self.batch_messages = 1 if interleaved else BATCH_MESSAGES
        self._waiting: list[tuple[int, int]] = []  # sender and size of each message in the spool
        self._waiting_bytes = 0
        self.events: list[ServerEvent] = []
        self.cpu_s = 0.0
        self._call("warm_up", self._spool.name)

    def __enter__(self) -> RemoteServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()

    def _call(self, name: str, *arguments: object) -> Any:
        self._hand_over()
        self._pipe.send((name, arguments))
        return self._answer()

    def _answer(self) -> Any:
        answer, failed, spent = self._pipe.recv()
        self.cpu_s += spent
        if failed:
            raise answer
        return answer

    def charging(self, cost: Any) -> _Charge:
        """A context that adds what the server spends to a phase's cost."""
        return _Charge(self, cost)

    def cost(self) -> ServerProcessCost:
        """What was measured so far."""
        return ServerProcessCost(*self._call("cost"))

    # What a simulation calls.

    def outgoing(self) -> RemoteOutgoing:
        return RemoteOutgoing(self, self._call("outgoing"))

    def messages_to(self, indices: Sequence[int]) -> list[bytes]:
        """What the server sends to these clients."""
        self._call("messages_to", indices)
        return [self._pipe.recv_bytes() for _ in indices]

    def post(self, sender: int, data: bytes) -> None:
        """Leave a message for the server, which gets it before the next call; its event joins ``events``."""
        self._spool.write(data)
        self._waiting.append((sender, len(data)))
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= self._batch_bytes:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._waiting:
            self._spool.flush()
            waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self.events += self._call("receive", waiting)
            self._spool.seek(0)

    def close_phase(self) -> None:
        self._call("close_phase")

    def compute(self) -> Result:
        result: Result = self._call("compute")
        return result

    @property
    def phase(self) -> ServerState:
        phase: ServerState = self._call("get", "phase")
        return phase

    @property
    def done(self) -> bool:
        return bool(self._call("get", "done"))

    @property
    def ready_to_compute(self) -> bool:
        return bool(self._call("get", "ready_to_compute"))

    @property
    def failure(self) -> Failure | None:
        failure: Failure | None = self._call("get", "failure")
        return failure

    @property
    def dropped(self) -> dict[str, tuple[int, ...]]:
        return dict(self._call("get", "dropped"))

    @property
    def graph(self) -> NeighbourGraph | None:
        graph: NeighbourGraph | None = self._call("get", "graph")
        return graph


class RemoteOutgoing:
    """An ``Outgoing`` whose messages are made where the server is."""

    def __init__(self, server: RemoteServer, recipients: tuple[int, ...]) -> None:
        self._server = server
        self.recipients = recipients
        self._made: dict[int, bytes] = {}

    def to(self, index: int) -> bytes:
        if index not in self._made:
            first = self.recipients.index(index)
            batch = self.recipients[first : first + self._server.batch_messages]
            self._made = dict(zip(batch, self._server.messages_to(batch), strict=True))
        return self._made.pop(index)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return ((index, self.to(index)) for index in self.recipients)


class _Charge:
    def __init__(self, server: RemoteServer, cost: Any) -> None:
        self._server, self._cost = server, cost

    def __enter__(self) -> None:
        self._before = self._server.cpu_s

    def __exit__(self, *_: object) -> None:
        self._cost.server_cpu_s += self._server.cpu_s - self._before


def _largest_message(config: RoundConfig) -> int:
    return max(config.max_message_bytes(phase) for phase in Phase)


# In the server's process.


def _serve(pipe: Connection, config: bytes, identity_keys: Iterable[bytes], largest: int) -> None:
    directory = MemoryDirectory(tuple(identity_keys)) if identity_keys else None
    host = _Host(pipe, RoundConfig.from_bytes(config), directory, largest)
    with suppress(EOFError, BrokenPipeError):
        while True:
            host.handle(*pipe.recv())


class _Host:
    """Calls the server, and measures."""

    def __init__(self, pipe: Connection, config: RoundConfig, directory: MemoryDirectory | None, largest: int) -> None:
        self._pipe, self._largest, self._buffer = pipe, largest, bytearray()
        self._server = Server(config, directory=directory)
        self._outgoing: Outgoing = self._server.outgoing()
        self._imported, self._compile_s, self._spent = 0, 0.0, 0.0
        self._sent: list[bytes] = []
        self._spool = -1
        self._peaks: dict[str, int] = {}

    def handle(self, name: str, arguments: tuple[Any, ...]) -> None:
        spent = self._spent
        try:
            answer, failed = getattr(self, name)(*arguments), False
        except PeerError as refused:
            answer, failed = refused, True
        self._pipe.send((answer, failed, self._spent - spent))
        for message in self._sent:
            self._pipe.send_bytes(message)
        self._sent.clear()

    def _timed(self, work: Callable[..., Any], *arguments: object) -> Any:
        """A call into Server, or the making of a message: what a round's CPU time consists of."""
        started = time.thread_time()
        try:
            return work(*arguments)
        finally:
            self._spent += time.thread_time() - started

    def warm_up(self, spool: str) -> None:
        config = self._server.config
        self._spool = os.open(spool, os.O_RDONLY)
        self._compile_s = warm_up_for(config)
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self._imported = _memory("VmRSS")
        _reset_peak()

    def outgoing(self) -> tuple[int, ...]:
        self._outgoing = self._timed(self._server.outgoing)
        return self._outgoing.recipients

    def messages_to(self, indices: Sequence[int]) -> None:
        self._sent = [self._timed(self._outgoing.to, index) or b"" for index in indices]

    def receive(self, messages: Sequence[tuple[int, int]]) -> list[object]:
        os.lseek(self._spool, 0, os.SEEK_SET)
        return [self._timed(self._server.receive, sender, self._read(size)).event for sender, size in messages]

    def _read(self, size: int) -> memoryview:
        if size > self._largest:
            raise SystemExit(f"a message of {size} bytes, where the largest has {self._largest}")
        if not self._buffer:
            self._buffer = bytearray(self._largest)
        message, there = memoryview(self._buffer)[:size], 0
        while there < size:
            there += os.readv(self._spool, [message[there:]])
        return message

    def close_phase(self) -> None:
        self._note_peak(self._server.phase.value, self._server.close_phase)

    def compute(self) -> Result:
        result: Result = self._note_peak(ServerState.COMPUTE.value, self._server.compute)
        return result

    def get(self, name: str) -> object:
        return getattr(self._server, name)

    def cost(self) -> tuple[int, dict[str, int], float]:
        return self._imported, self._peaks, self._compile_s

    def _note_peak(self, phase: str, work: Callable[[], Any]) -> Any:
        result = self._timed(work)
        if peak := _memory("VmHWM"):
            self._peaks[phase] = max(0, peak - self._imported)
        _reset_peak()
        return result


def _memory(name: str) -> int:
    """A figure of /proc/self/status in bytes; 0 where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    return 0


def _reset_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
