"""One round in the service: journal first, then act, then answer.

All calls into ``secagg.Server`` run on one thread of the round's own, one after the other, so that the event loop only
moves bytes.  Between a close and the moment that its snapshot is durable nobody is sent anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, final

import msgspec

from secagg.adapters.net.frames import ABORT, Message, Progress, Refusal, RefusedError, Sum, encode_layout
from secagg.adapters.net.journal import Journal, JournalError, StoredRound
from secagg.adapters.net.layout import Layout
from secagg.arithmetic import pack
from secagg.config import RoundConfig
from secagg.errors import AbortCode, ErrorCode, ParameterError, PeerError
from secagg.events import Accepted, AlreadyMasked, ClientAborted, Duplicate, Late, Misbehaved, ServerEvent
from secagg.identity import Directory
from secagg.messages import encode_bitmap
from secagg.server import Server
from secagg.server_state import Result
from secagg.transitions import SERVER_COLLECTS

_T = TypeVar("_T")
_log = logging.getLogger("secagg.net.round")

PHASES: Final = tuple(state.value for state in SERVER_COLLECTS)
DEFAULT_DEADLINES: Final[Mapping[str, float]] = {
    "ADVERTISE": 600.0,
    "SHARE": 120.0,
    "MASK": 600.0,
    "CONFIRM": 120.0,
    "UNMASK": 120.0,
}
RECONNECT_SECONDS: Final = 15.0
"""After a restart a phase stays open at least so long: its clients must find the way back."""
_BATCH: Final = 256
_QUEUE: Final = 256
_ATTEMPTS: Final = 4
"""Refused messages of one client in one phase that are journalled; then it is cut off."""


@dataclass(frozen=True, kw_only=True)
class RoundSpec:
    """A round that the service is to host.

    Attributes:
        name: the last part of the URL.
        config: its context is the layout's digest.
        layout: what the clients' files must look like.
        deadlines: seconds by phase.
        keys: the identity key of each seat; None: open, whoever comes first takes a free seat.
        directory: ``active``: holds the config's cohort.
    """

    name: str
    config: RoundConfig
    layout: Layout
    deadlines: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_DEADLINES))
    keys: tuple[bytes, ...] | None = None
    directory: Directory | None = None

    def __post_init__(self) -> None:
        encoder = self.layout.encoder()
        if self.config.context != encoder.layout_digest() or self.config.length != encoder.length:
            raise ParameterError(f"round {self.name}: the config's context and length must be those of its layout")
        encoder.check_capacity(self.config.clients, self.config.modulus)
        encode_layout(self.layout)
        if self.keys is not None and len(self.keys) != self.config.clients:
            raise ParameterError(f"round {self.name}: {len(self.keys)} keys for {self.config.clients} clients")
        if self.config.is_active and (self.keys is None or self.directory is None):
            raise ParameterError(f"round {self.name}: active needs the directory of its cohort")
        if missing := [phase for phase in PHASES if self.deadlines.get(phase, 0) <= 0]:
            raise ParameterError(f"round {self.name}: give {missing[0]} a deadline above 0 seconds")


class Ending(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How a round ended, as the journal keeps it.

    Attributes:
        failure: why there is no sum; empty when there is one.
        included: whose vectors are in the sum.
        packed: the sum.
        dropped: by phase.
        transcript: the digest of what the server accepted and decided, in hex.
    """

    failure: str
    included: tuple[int, ...] = ()
    packed: bytes = b""
    dropped: dict[str, tuple[int, ...]] = {}
    transcript: str = ""


@dataclass(frozen=True, slots=True)
class _Submitted:
    index: int
    phase: str
    data: bytes | bytearray
    verdict: asyncio.Future[str]


@dataclass(frozen=True, slots=True)
class Outbound:
    """A frame for one client, and the bytes behind it."""

    frame: Message | Sum
    payload: bytes


@final
class HostedRound:
    """Runs one round from its first client to its end, over any number of restarts."""

    def __init__(self, spec: RoundSpec, journal: Journal) -> None:
        self.spec = spec
        self.name, self.config = spec.name, spec.config
        self.layout_bytes = encode_layout(spec.layout)
        self.ending: Ending | None = None
        self.told: set[int] = set()
        """Who said that it knows the end."""
        self.epoch = 0
        """Counts what there is to send: it grows at each close, and at the end."""
        self.phase_seconds: dict[str, float] = {}
        self.refused: dict[str, int] = {}
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"secagg-{spec.name}")
        self._queue: asyncio.Queue[_Submitted] = asyncio.Queue(_QUEUE)
        self._changed, self._new_epoch = asyncio.Event(), asyncio.Event()
        self._stopped, self._durable = False, True
        self._stage = asyncio.Lock()
        self._server: Server | None = None
        self._seats: dict[bytes, int] = {}
        self._met: set[int] = set()
        self._left: set[int] = set()
        self._attempts: dict[tuple[int, str], int] = {}
        self._taken: dict[tuple[int, str], bytes] = {}
        self._stage_name, self._expected = "", 0
        self._deadline, self._opened = 0.0, 0.0
        if spec.keys is not None:
            self._seats = {key: index for index, key in enumerate(spec.keys)}

    # What the service asks.

    @property
    def phase(self) -> str:
        """The server's phase, or DONE or ABORTED."""
        if self.ending is not None:
            return "ABORTED" if self.ending.failure else "DONE"
        return "OPENING" if self._server is None else self._server.phase.value

    @property
    def seated(self) -> frozenset[int]:
        """The seats that an identity is bound to."""
        return frozenset(self._seats.values())

    @property
    def audience(self) -> frozenset[int]:
        """Who is to hear how the round ended: whoever is in the sum; without one, whoever has been here."""
        if self.ending is None:
            return frozenset()
        return frozenset(self._met - self._left if self.ending.failure else self.ending.included)

    def progress(self) -> Progress:
        """Where the round stands."""
        server = self._server
        if server is None or self.ending is not None:
            return Progress(self.phase, 0, 0, 0.0)
        arrived = max(0, self._expected - len(server.missing))
        return Progress(self.phase, arrived, self._expected, max(0.0, round(self._deadline - time.time(), 1)))

    async def seat_of(self, key: bytes) -> int:
        """The seat of an identity; in an open round a free one is taken.  Raises RefusedError."""
        if (known := self._seats.get(key)) is not None:
            self._met.add(known)
            return known
        if self.spec.keys is not None:
            raise RefusedError(
                Refusal.UNKNOWN_IDENTITY, f"the directory of round {self.name!r} does not hold this identity key"
            )
        if self.phase != "ADVERTISE":
            raise RefusedError(Refusal.ROUND_BEGUN, f"round {self.name!r} has begun, and this client has no seat in it")
        free = next((index for index in range(self.config.clients) if index not in self.seated), None)
        if free is None:
            raise RefusedError(Refusal.ROUND_FULL, f"all {self.config.clients} seats of round {self.name!r} are taken")
        self._seats[key] = free  # before the journal has it: nobody else may get it meanwhile
        try:
            await self._journal.take_seat(self.name, free, key)
        except JournalError:
            del self._seats[key]
            raise
        self._met.add(free)
        return free

    async def submit(self, index: int, phase: str, data: bytes | bytearray) -> str:
        """Hand in a client's message; returns when it is durable and acted on.  Waits while the queue is full."""
        if self._stopped:
            raise _stops()
        verdict: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        item = _Submitted(index, phase, data, verdict)
        await self._queue.put(item)
        if self._stopped:  # while this waited for room
            _reject([item])
        return await verdict

    async def outbound(self, index: int) -> Outbound | None:
        """What the server has for a client now, made for it alone.  Raises RefusedError when it is out of the round."""
        async with self._stage:
            if self.ending is not None:
                return self._farewell(index, self.ending)
            if not self._durable or self._stopped:
                raise _stops()
            server = self._require_server()
            phase = server.phase.value
            if phase not in PHASES:  # between the last close and the end
                return None
            data = await self._on_thread(lambda: server.outgoing().to(index))
        if data is None:
            raise RefusedError(Refusal.LEFT_OUT, f"round {self.name!r} went on without this client, which was too late")
        return Outbound(Message(phase, len(data)), data)

    def tell(self, index: int) -> None:
        """A client knows how the round ended."""
        if self.ending is not None:
            self.told.add(index)
            self._notify()

    async def changed(self) -> None:
        """Returns when anything has changed."""
        await self._changed.wait()

    async def new_epoch(self, after: int, seconds: float) -> None:
        """Returns when there is something else to send than in epoch ``after``, or when the time is over."""
        if self.epoch == after:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._new_epoch.wait()

    # Its life.

    async def start(self) -> None:
        """Open the round, or take it up where the journal left it."""
        stored = self._journal.load(self.name)
        config = self.config.to_bytes()
        seats = b"open" if self.spec.keys is None else hashlib.sha256(b"".join(self.spec.keys)).digest()
        layout = msgspec.msgpack.encode((self.spec.layout, seats))
        if stored is None:
            await self._journal.open_round(self.name, config, layout)
        elif (stored.config, stored.layout) != (config, layout):
            raise ParameterError(
                f"{self._journal.path}: holds round {self.name!r} with another config, layout or directory; give the "
                "options that it was begun with, or another --journal"
            )
        if stored is not None:
            self._seats.update({key: index for index, key in stored.seats.items()})
            self._met.update(self._seats.values())  # who of them was here is not known any more
        if stored is not None and stored.ending is not None:
            self.ending = msgspec.msgpack.decode(stored.ending, type=Ending)
            self.epoch += 1
        elif stored is None or not stored.snapshot:
            self._server = Server(self.config, directory=self.spec.directory)
            await self._begin_stage(self._server, await self._on_thread(self._server.snapshot))
        else:
            await self._restore(stored)

    async def _restore(self, stored: StoredRound) -> None:
        directory, phase = self.spec.directory, stored.phase
        self._server = server = await self._on_thread(lambda: Server.restore(stored.snapshot, directory=directory))
        self._stage_name, self._expected = phase, len(server.missing)
        replayed = 0
        for batch in self._journal.messages(self.name):
            await self._act(server, [(sender, phase, data) for sender, data in batch])
            replayed += len(batch)
        self._opened, self._deadline = time.monotonic(), stored.deadline
        grace = min(RECONNECT_SECONDS, self.spec.deadlines.get(phase, 0.0))
        if stored.deadline < time.time() + grace:
            self._deadline = time.time() + grace
            await self._journal.move_deadline(self.name, self._deadline)
        self.epoch += 1
        _log.info(
            "resumed",
            extra={"fields": {"round": self.name, "phase": phase, "replayed": replayed}},
        )

    async def run(self) -> None:
        """Carry the round to its end.  Whatever it raises is a bug, or the journal's disk."""
        try:
            while self.ending is None:
                server = self._require_server()
                if server.ready_to_compute:
                    await self._compute(server)
                elif server.done:
                    await self._end(server, None)
                elif not server.missing or time.time() >= self._deadline:
                    await self._close(server)
                else:
                    await self._take_batch(server)
            while True:  # who still sends something is told that it is over
                await self._take_batch(None)
        finally:
            self._stopped = True
            while not self._queue.empty():
                _reject([self._queue.get_nowait()])
            self._thread.shutdown(wait=False, cancel_futures=True)

    # Steps.

    async def _take_batch(self, server: Server | None) -> None:
        """Journal what waits, act on it, answer."""
        left = max(0.0, self._deadline - time.time()) if server is not None else None
        try:
            async with asyncio.timeout(left):
                batch = [await self._queue.get()]
        except TimeoutError:
            return
        while len(batch) < _BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        try:
            verdicts = (
                [self._after_the_end(item) for item in batch] if server is None else await self._judge(server, batch)
            )
        except BaseException:
            _reject(batch)
            raise
        for item, verdict in zip(batch, verdicts, strict=True):
            if not item.verdict.done():
                item.verdict.set_result(verdict)
        self._notify()

    def _after_the_end(self, item: _Submitted) -> str:
        """A client whose vector is in the sum, and that never heard so, must not take it for lost."""
        included = self.ending.included if self.ending is not None else ()
        return "duplicate" if item.phase == "MASK" and item.index in included else "late"

    async def _judge(self, server: Server, batch: list[_Submitted]) -> list[str]:
        """What becomes of each message.  The server sees none that is not in the journal."""
        verdicts = [self._without_the_server(server, item) for item in batch]
        news = [
            (item.index, item.phase, item.data) for item, verdict in zip(batch, verdicts, strict=True) if not verdict
        ]
        if news:
            await self._journal.append(self.name, [(index, data) for index, _, data in news])
        decided = iter(await self._act(server, news))
        return [verdict or next(decided) for verdict in verdicts]

    def _without_the_server(self, server: Server, item: _Submitted) -> str:
        """The verdict on a message that can change nothing; empty for all others."""
        phase = server.phase.value
        if item.phase == ABORT:
            if item.index in self._left:
                return "duplicate"
        elif (taken := self._taken.get((item.index, item.phase))) is not None:
            return "duplicate" if item.phase == "MASK" or taken == _digest(item.data) else ErrorCode.CONFLICT.value
        elif item.phase != phase:
            late = item.phase in PHASES and (phase not in PHASES or PHASES.index(item.phase) < PHASES.index(phase))
            return "late" if late else ErrorCode.WRONG_PHASE.value
        elif item.index not in server.missing:
            return "late"
        attempts = self._attempts[item.index, item.phase] = self._attempts.get((item.index, item.phase), 0) + 1
        return "" if attempts <= _ATTEMPTS else Refusal.TOO_MANY_MESSAGES.value

    async def _act(self, server: Server, news: Sequence[tuple[int, str, bytes | bytearray]]) -> list[str]:
        """Hand journalled messages to the server; returns its verdicts."""
        if not news:
            return []
        events = await self._on_thread(lambda: [server.receive(index, data).event for index, _, data in news])
        for (index, phase, data), event in zip(news, events, strict=True):
            if isinstance(event, Accepted) and event.phase == phase:
                # Masked vectors are not hashed: the first one counts.
                self._taken[index, phase] = b"" if phase == "MASK" else _digest(data)
        return [self._note(event) for event in events]  # type: ignore[arg-type]

    def _note(self, event: ServerEvent) -> str:
        match event:
            case Misbehaved():
                self.refused[event.code.value] = self.refused.get(event.code.value, 0) + 1
                fields = {"round": self.name, "client": event.sender, "phase": event.phase, "code": event.code.value}
                _log.warning("misbehaved", extra={"fields": fields})
                return event.code.value
            case ClientAborted():
                self._left.add(event.sender)
                fields = {"round": self.name, "client": event.sender, "phase": event.phase, "code": event.code.name}
                _log.warning("client-left", extra={"fields": fields})
                return "accepted"
            case Accepted():
                return "accepted"
            case Late():
                return "late"
            case Duplicate() | AlreadyMasked():
                return "duplicate"

    async def _close(self, server: Server) -> None:
        phase, arrived = server.phase.value, self.progress()
        async with self._stage:
            self._durable = False  # should the journal fail, nobody gets what it does not have
            await self._on_thread(server.close_phase)
            await self._begin_stage(server, await self._on_thread(server.snapshot))
            self._durable = True
        fields = {
            "round": self.name,
            "phase": phase,
            "arrived": arrived.arrived,
            "missing": arrived.expected - arrived.arrived,
            "next": server.phase.value,
        }
        _log.info("phase-closed", extra={"fields": fields})

    async def _begin_stage(self, server: Server, snapshot: bytes) -> None:
        """Make a stage durable; only then may its messages leave."""
        phase, now = server.phase.value, time.monotonic()
        deadline = time.time() + self.spec.deadlines.get(phase, 0.0)
        await self._journal.store_stage(self.name, phase, deadline, snapshot)
        if self._opened:
            self.phase_seconds[self._stage_name] = now - self._opened
        self._stage_name, self._expected = phase, len(server.missing)
        self._opened, self._deadline = now, deadline
        self._next_epoch()

    async def _compute(self, server: Server) -> None:
        try:
            with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="secagg-unmask") as threads:
                result = await self._on_thread(lambda: server.compute(threads))
        except PeerError:
            result = None  # somebody dealt bad shares: the failure names it
        await self._end(server, result)

    async def _end(self, server: Server, result: Result | None) -> None:
        if result is not None:
            packed = await self._on_thread(lambda: pack(result.sum, result.modulus))
            ending = Ending("", result.included, packed, dict(result.dropped), result.transcript_digest.hex())
        else:
            failure = server.failure
            reason = failure.reason if failure is not None else "the round was aborted"
            ending = Ending(reason or AbortCode.UNSPECIFIED.name, dropped=dict(server.dropped))
        await self._journal.end_round(self.name, msgspec.msgpack.encode(ending))
        if result is not None:
            self.phase_seconds["COMPUTE"] = time.monotonic() - self._opened
        async with self._stage:
            self.ending, self._server = ending, None
            self._next_epoch()
        fields = {"round": self.name, "included": len(ending.included), "failure": ending.failure}
        _log.info("round-over", extra={"fields": fields})

    def _farewell(self, index: int, ending: Ending) -> Outbound:
        if ending.failure:
            raise RefusedError(Refusal.ROUND_ABORTED, f"round {self.name!r} ended without a sum: {ending.failure}")
        if index not in ending.included:
            raise RefusedError(Refusal.LEFT_OUT, f"round {self.name!r} is over, and this client is not in its sum")
        frame = Sum(encode_bitmap(ending.included, self.config.clients), len(ending.packed))
        return Outbound(frame, ending.packed)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _next_epoch(self) -> None:
        self.epoch += 1
        self._new_epoch.set()
        self._new_epoch = asyncio.Event()
        self._notify()

    def _require_server(self) -> Server:
        if self._server is None:
            raise RuntimeError(f"round {self.name}: not started, or over")
        return self._server

    async def _on_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _stops() -> RefusedError:
    return RefusedError(Refusal.SERVER_STOPS, "the server stops; try again")


def _reject(batch: Sequence[_Submitted]) -> None:
    """Nobody may wait for a verdict that does not come."""
    for item in batch:
        if not item.verdict.done():
            item.verdict.set_exception(_stops())
            item.verdict.exception()  # it is no news if the client is gone


def _digest(data: bytes | bytearray) -> bytes:
    return hashlib.sha256(data).digest()


def snapshot_of(hosted: HostedRound) -> dict[str, Any]:
    """What the status page shows of a round."""
    progress = hosted.progress()
    ending = hosted.ending
    return {
        "name": hosted.name,
        "phase": hosted.phase,
        "threat_model": hosted.config.threat_model.value,
        "clients": hosted.config.clients,
        "seated": len(hosted.seated),
        "length": hosted.config.length,
        "arrived": progress.arrived,
        "expected": progress.expected,
        "seconds_left": progress.seconds_left,
        "phase_seconds": {phase: round(seconds, 3) for phase, seconds in list(hosted.phase_seconds.items())},
        "refused": dict(hosted.refused),
        "included": len(ending.included) if ending else 0,
        "failure": ending.failure if ending else "",
        "told": len(hosted.told),
    }
