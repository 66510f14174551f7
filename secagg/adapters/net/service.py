"""The server's side of the network: connections, logins, limits, and the rounds behind them."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import socket
import ssl
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from secagg.adapters.net.addresses import is_round_name
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.budget import ByteBudget
from secagg.adapters.net.certifying import Certifier
from secagg.adapters.net.channel import CLOSE_POLICY, Channel
from secagg.adapters.net.charging import charge_all
from secagg.adapters.net.clock import SYSTEM_CLOCK, Clock
from secagg.adapters.net.closings import no_round_page, refused_by_parser
from secagg.adapters.net.doors import Admission, Door, Listening, bound_at, listening, most_accepted
from secagg.adapters.net.frames import (
    ABORT,
    FRAGMENT_BYTES,
    MAX_FRAME_BYTES,
    STATEMENT,
    Ack,
    Candidate,
    Certified,
    EndReceived,
    NoStatement,
    Refusal,
    Refused,
    RefusedError,
    Submission,
    ToServer,
    WantsCandidate,
    Welcome,
    decode_to_server,
)
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.keeping_apart import SumsApart
from secagg.adapters.net.logins import Logins
from secagg.adapters.net.policing import PolicedConnection
from secagg.adapters.net.relayed import RelayedConnection
from secagg.adapters.net.round_spec import PHASES, RoundSpec
from secagg.adapters.net.score_keeping import ScoreKeeper
from secagg.adapters.net.status import status_of
from secagg.adapters.net.tls_workers import TlsWorkers, WorkerFiles, listening_through
from secagg.adapters.net.verdicts import UNDECIDED
from secagg.errors import ParameterError
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import SIGNATURE_BYTES
from secagg.simulation.carriers import load_envelope_kernels
from secagg.simulation.small import load_kernels
from secagg.wording import counted

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

_log = logging.getLogger("secagg.net.service")
_HEARTBEAT_SECONDS: Final = 10.0
"""Between signs of life to clients that wait; they give up after 60 seconds without any (``member._SILENCE``)."""
_FAREWELL_SECONDS: Final = 5.0
"""For the closing handshake of one connection; a client that does not answer holds up the end no longer."""
_LAST_BYTES_OF_STRANGERS: Final = 4096
"""What is read of a refused stranger while its connection closes: a closing handshake takes some hundred bytes."""
_STRANGERS_SHOWN: Final = 20
"""Keys on the status page that no directory lists; the oldest go first."""
_BREAK_NO_RULE: Final = frozenset({"duplicate", "late"})
_BREAKS_A_RULE: Final = frozenset({Refusal.MALFORMED, Refusal.TOO_LARGE})
_OUT_OF_THE_ROUND: Final = frozenset({Refusal.ROUND_ABORTED, Refusal.LEFT_OUT})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What connections may take.

    The defaults bear 1,000 clients and the abuse of ``benchmarks/service_load.py``: honest clients log in within a
    second meanwhile.

    Attributes:
        connections: the most at the same time; None: 64 more than twice the seats of all rounds.  Twice as many are
            accepted, while they shake hands or are told why not; what comes beyond that, or beyond the files that the
            process may open, is dropped at once.
        logging_in: of them, those that have not logged in; None: the seats of all rounds, and 64.
        login_seconds: for the TLS and WebSocket handshakes, and again for the login.
        bytes_per_second: the slowest that a message may come, beyond ``grace_seconds``.
        grace_seconds: for any message.
        held_bytes: messages in memory at the same time; others are not read from their sockets meanwhile.
    """

    connections: int | None = None
    logging_in: int | None = None
    login_seconds: float = 10.0
    bytes_per_second: float = 16 * 1024
    grace_seconds: float = 20.0
    held_bytes: int = 256 * 2**20


@final
class _Session:
    """A connection that is logged in."""

    def __init__(self, hosted: HostedRound, index: int, channel: Channel[ToServer]) -> None:
        self.hosted, self.index, self.channel = hosted, index, channel
        self.task = asyncio.current_task()
        self.replaced = False


@final
class Service:
    """Hosts rounds behind one listening socket.

    ``async with service.listen(host, port, tls): await service.finished(60)``.
    """

    def __init__(
        self,
        specs: Iterable[RoundSpec],
        journal: Journal,
        *,
        certificate: bytes = b"",
        limits: Limits | None = None,
        clock: Clock = SYSTEM_CLOCK,
        privacy_budget: Budget | None = None,
        certifier: Certifier | None = None,
        sums_apart: SumsApart | None = None,
        scores: ScoreKeeper | None = None,
    ) -> None:
        """Make it inside a running event loop.

        Args:
            specs: the rounds; their names are the last parts of their URLs.
            journal: where they are kept; rounds that are in it go on.
            certificate: SHA-256 of the TLS certificate; empty without TLS.
            limits: what connections may take.
            clock: what deadlines and limits are counted by.
            privacy_budget: charged for every round before anybody can log in; all rounds must be private then.
            certifier: signs a certificate of every round that ends.
            sums_apart: asked before the survivors of any round are told: a round is aborted whose sum could be taken
                apart by earlier ones; all rounds must have a directory then.
            scores: keeps the scores of clients over rounds; all rounds must have groups, plain means and a directory
                then.
        """
        self._clock = clock
        self._privacy_budget, self._certifier, self._sums_apart = privacy_budget, certifier, sums_apart
        self._scores = scores
        self._running: asyncio.TaskGroup | None = None
        self._workers: TlsWorkers | None = None
        self._threads: int | None = None
        self.rounds = {spec.name: self._hosted(spec, journal) for spec in specs}
        """By name.  A round that is added makes a new mapping: other threads read this one meanwhile."""
        for name in self.rounds:
            _check_name(name)
        seats = sum(hosted.config.clients for hosted in self.rounds.values())
        self.limits = limits or Limits()
        self._most = self.limits.connections or 2 * seats + 64
        self._logins = Logins(
            most=self.limits.logging_in or seats + 64,
            seconds=self.limits.login_seconds,
            certificate=certificate,
            clock=clock,
        )
        largest = max((_largest(hosted) for hosted in self.rounds.values()), default=0)
        self._budget = ByteBudget(
            max(self.limits.held_bytes, largest), bytes_per_second=self.limits.bytes_per_second, clock=clock
        )
        self.journal = journal
        self._sessions: dict[tuple[str, int], _Session] = {}
        self._connections = self._farewells = 0
        self._strangers: deque[dict[str, str]] = deque(maxlen=_STRANGERS_SHOWN)
        self._over: list[str] = []
        self._left_out = 0
        self._told_over = asyncio.Event()
        self.refused: Counter[str] = Counter()
        self.received_bytes = 0
        self.logins = 0
        self._started = clock.monotonic()

    # What a host does.

    @asynccontextmanager
    async def listen(
        self, host: str, port: int, tls: ssl.SSLContext | None = None, *, workers: WorkerFiles | None = None
    ) -> AsyncIterator[Listening]:
        """Open or resume the rounds, and serve them for the length of the block.

        With ``workers``, other processes end TLS, and ``tls`` is not used; as many threads take vectors in and unmask.

        Raises what made a round stop: a bug, or a journal that cannot be written; nothing is acted on after that.
        Raises BudgetExceededError and BudgetFileError before anybody can connect.
        """
        # First: a round whose port cannot be had is not begun, and none of its deadlines runs.
        async with bound_at(host, port) as bound:
            await self._start(None if workers is None else workers.processes)
            async with _ungrouped(), asyncio.TaskGroup() as tasks:
                self._running = tasks
                self._tasks = [tasks.create_task(hosted.run()) for hosted in self.rounds.values()]
                try:
                    async with self._listening(bound, tls, workers) as listener:
                        yield listener
                finally:
                    self._running = None
                    for task in self._tasks:
                        task.cancel()

    async def _start(self, threads: int | None) -> None:
        """Open or resume the rounds, and charge for them."""
        self._threads = threads
        for hosted in self.rounds.values():
            # Afterwards, what strangers do to the process could keep them from being read.
            await _load_kernels(hosted)
        for hosted in self.rounds.values():
            await hosted.start(threads)
        # In the journal first, so that a restart knows the round that was charged.
        charges = [hosted.charge for hosted in self.rounds.values() if hosted.charge is not None]
        await asyncio.to_thread(charge_all, charges)

    async def host(self, spec: RoundSpec) -> HostedRound:
        """Open or resume one more round while the service listens; what connections may take stays as it is.

        Raises ParameterError for a name that is no round's, or is another's, BudgetExceededError and BudgetFileError as
        ``listen`` does, and RuntimeError when the service does not listen.
        """
        _check_name(spec.name)
        if spec.name in self.rounds:
            raise ParameterError(f"round {spec.name}: the service hosts a round of this name; give another one")
        if self._running is None:
            raise RuntimeError("the service does not listen: give it the rounds when it is made")
        hosted = self._hosted(spec, self.journal)
        await _load_kernels(hosted)
        await hosted.start(self._threads)
        if hosted.charge is not None:
            await asyncio.to_thread(charge_all, [hosted.charge])
        self._tasks.append(self._running.create_task(hosted.run()))
        self.rounds = {**self.rounds, spec.name: hosted}
        return hosted

    def end_series(self, prefix: str, left_out: int) -> None:
        """No further round will have a name that begins so: who asks for one is told, and need not ask again.

        ``left_out`` is how many clients are sure to ask, since the last round went on without them: ``finished`` waits
        for so many, too.
        """
        self._over.append(prefix)
        self._left_out += left_out

    def _hosted(self, spec: RoundSpec, journal: Journal) -> HostedRound:
        return HostedRound(
            spec, journal, self._clock, self._privacy_budget, self._certifier, self._sums_apart, self._scores
        )

    def _listening(
        self, bound: Sequence[socket.socket], tls: ssl.SSLContext | None, workers: WorkerFiles | None
    ) -> AbstractAsyncContextManager[Listening]:
        most = most_accepted(self._most)
        admission = Admission(most, self._drop)
        if workers is None:
            return listening(bound, admission, lambda door: self._serve_at(door, tls))
        self._workers = TlsWorkers(workers, self._drop)
        return listening_through(
            self._workers,
            bound,
            most,
            self.limits.login_seconds,
            lambda inner: self._serve_at(Door(inner, admission), None, RelayedConnection),
        )

    def _serve_at(
        self, door: Door, tls: ssl.SSLContext | None, connection: type[PolicedConnection] = PolicedConnection
    ) -> AbstractAsyncContextManager[Listener]:
        handshake: dict[str, Any] = {}
        if tls is not None:
            handshake["ssl_handshake_timeout"] = self.limits.login_seconds
            handshake["ssl_shutdown_timeout"] = _FAREWELL_SECONDS
        return serve(
            self._handle,
            sock=door,
            ssl=tls,
            create_connection=connection,
            origins=[None],  # a browser sends one: whatever page it shows has no business here
            process_request=self._admit,
            compression=None,  # masked vectors do not shrink
            server_header=None,
            open_timeout=self.limits.login_seconds,
            close_timeout=5,
            ping_interval=20,
            ping_timeout=None,  # while a client waits for room its socket is not read, nor its pongs
            max_size=(MAX_FRAME_BYTES, FRAGMENT_BYTES),
            max_queue=2,
            backlog=1024,
            logger=_quiet(),
            **handshake,
        )

    def _drop(self, count: int = 1) -> None:
        self.refused[Refusal.SERVER_BUSY.value] += count

    async def finished(self, linger: float) -> None:
        """Returns when every round is over and its clients know it, or ``linger`` seconds after the last one ended.

        So it does when those that the last round of a series went on without know that the series is over.
        """
        for hosted in list(self.rounds.values()):
            while not hosted.is_settled:
                await hosted.changed()
        with contextlib.suppress(TimeoutError):
            async with self._clock.timeout(linger):
                for hosted in self.rounds.values():
                    while not hosted.to_inform <= hosted.informed:
                        await hosted.changed()
                if self._left_out > 0:
                    await self._told_over.wait()

    def status(self) -> dict[str, Any]:
        """What the status page and the metrics show; nothing secret."""
        sessions = [name for name, _ in list(self._sessions)]  # the monitor's thread asks
        return {
            "uptime_seconds": round(self._clock.monotonic() - self._started, 1),
            "connections": self._connections,
            "logging_in": len(self._logins),
            "logged_in": len(sessions),
            "logins": self.logins,
            "received_bytes": self.received_bytes,
            "journal_commits": self.journal.commits,
            "refused": dict(self.refused),
            "strangers": list(self._strangers),
            "workers": None if self._workers is None else self._workers.status(),
            "scores": None if self._scores is None else self._scores.shown(),
            "rounds": [
                {**status_of(hosted), "connected": sessions.count(hosted.name)} for hosted in self.rounds.values()
            ],
        }

    # A connection.

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self._connections >= self._most or not self._logins.has_room():
            self.refused[Refusal.SERVER_BUSY.value] += 1
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "too many connections; try again\n")
        if (name := _round_name(request.path)) not in self.rounds:
            if name.startswith(tuple(self._over)):
                return self._gone(connection)
            self.refused[Refusal.ROUND_UNKNOWN.value] += 1
            return connection.respond(http.HTTPStatus.NOT_FOUND, no_round_page(self._open_rounds()))
        return None

    def _gone(self, connection: ServerConnection) -> Response:
        self.refused[Refusal.SERIES_OVER.value] += 1
        self._left_out -= 1
        if self._left_out <= 0:
            self._told_over.set()
        return connection.respond(http.HTTPStatus.GONE, "the series of rounds is over\n")

    def _open_rounds(self) -> list[str]:
        """Rounds that anybody may join: strangers may know these, and not which rounds a directory has."""
        return [name for name, hosted in self.rounds.items() if hosted.seats.is_open]

    async def _handle(self, connection: ServerConnection) -> None:
        channel = Channel(connection, decode_to_server)
        hosted = self.rounds[_round_name(connection.request.path if connection.request else "")]
        self._connections += 1
        key = b""
        try:
            try:
                key = await self._logins.identity(hosted.name, channel)
                async with hosted.seat(key) as index:
                    await self._serve_newest(_Session(hosted, index, channel))
            finally:
                self._connections -= 1  # before the farewell: who is refused takes nobody's place
        except RefusedError as refused:
            if refused.code is Refusal.UNKNOWN_IDENTITY:
                self._note_stranger(hosted, channel, key)
            await self._refuse(hosted, channel, refused, _LAST_BYTES_OF_STRANGERS)
        except ConnectionClosed as closed:
            if (refusal := refused_by_parser(connection, closed)) is not None:
                self._count(hosted, refusal)
        finally:
            self.received_bytes += channel.received_bytes

    async def _serve_newest(self, session: _Session) -> None:
        """Serve a client until its connection ends, or it connects once more from elsewhere."""
        hosted, index, channel = session.hosted, session.index, session.channel
        self.logins += 1
        _log.info("login", extra={"fields": {"round": hosted.name, "client": hosted.spec.name_of(index)}})
        key = (hosted.name, index)
        if (older := self._sessions.get(key)) is not None and older.task is not None:
            older.replaced = True
            older.task.cancel()
        self._sessions[key] = session
        hosted.client_connected(index)
        try:
            await self._serve(session)
        except ConnectionClosed as closed:
            if refused_by_parser(channel.connection, closed) is not None:
                hosted.refuse_attempt(index, broke_a_rule=True)
            raise
        except RefusedError as refused:
            if refused.code in _BREAKS_A_RULE:
                hosted.refuse_attempt(index, broke_a_rule=True)
            # It may be in the middle of a message, and reads when that is sent.
            await self._refuse(hosted, channel, refused, _largest(hosted), client=index)
            if refused.code in _OUT_OF_THE_ROUND and channel.connection.close_code == CLOSE_POLICY:
                hosted.client_knows_end(index)  # it has closed in turn, behind what it read
        except asyncio.CancelledError:
            if not session.replaced:
                raise
            if task := asyncio.current_task():
                task.uncancel()
            raise RefusedError(Refusal.REPLACED, "this client logged in again from elsewhere") from None
        finally:
            if self._sessions.get(key) is session:
                del self._sessions[key]

    async def _serve(self, session: _Session) -> None:
        hosted, channel = session.hosted, session.channel
        channel.connection.protocol.max_message_size = _largest(hosted)
        layout = hosted.layout_bytes
        await channel.send(Welcome(session.index, hosted.config.clients, len(layout)), layout)
        if isinstance(hosted.spec.layout, BallotLayout):
            await self._show_candidate(session)
        reader = asyncio.create_task(self._read(session))
        writer = asyncio.create_task(self._write(session))
        try:
            done, _ = await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _show_candidate(self, session: _Session) -> None:
        """Send a ballot's candidate to a member that wants it, before anything of the round: it votes first."""
        answer = await session.channel.receive()
        if not isinstance(answer, WantsCandidate):
            raise RefusedError(Refusal.MALFORMED, f"a {type(answer).__name__} frame behind the welcome to a ballot")
        if answer.wants:
            candidate = session.hosted.candidate()
            await session.channel.send(Candidate(len(candidate)), candidate)

    async def _read(self, session: _Session) -> None:
        hosted, channel = session.hosted, session.channel
        while True:
            match await channel.receive():
                case Submission() as submission:
                    verdict = await self._take(session, submission)
                    await channel.send(Ack(submission.number, verdict))
                    self._count_verdict(session, verdict)
                case NoStatement():
                    self._count_verdict(session, await hosted.submit(session.index, STATEMENT, b""))
                case EndReceived():
                    hosted.client_knows_end(session.index)
                case other:
                    raise RefusedError(Refusal.MALFORMED, f"a {type(other).__name__} frame after the login")

    def _count_verdict(self, session: _Session, verdict: str) -> None:
        if verdict != "accepted":
            self._count_attempt(session, broke_a_rule=verdict not in _BREAK_NO_RULE)

    def _count_attempt(self, session: _Session, *, broke_a_rule: bool) -> None:
        if not session.hosted.refuse_attempt(session.index, broke_a_rule=broke_a_rule):
            raise RefusedError(Refusal.TOO_MANY_MESSAGES, "too many messages of this client had to be refused")

    async def _take(self, session: _Session, submission: Submission) -> str:
        """The verdict on a message whose frame has come, and whose bytes follow."""
        hosted, size, phase = session.hosted, submission.size, submission.phase
        if phase not in (*PHASES, ABORT, STATEMENT) or size == 0:
            raise RefusedError(Refusal.MALFORMED, "a submission of no phase, or of no bytes")
        allowed = _largest_of(hosted, phase)
        if size > allowed:
            raise RefusedError(
                Refusal.TOO_LARGE, f"a {phase} message of {counted(size, 'byte')}; at most {allowed:,} are allowed"
            )
        seconds = self.limits.grace_seconds + size / self.limits.bytes_per_second  # when its phase lasts so long
        try:
            verdict = hosted.verdict_in_advance(session.index, phase)
            if verdict != UNDECIDED:  # nothing of it is needed: it is read past, and takes no room
                async with self._clock.timeout(seconds):
                    digest = await session.channel.digest(size)
                return hosted.verdict_on_repeat(session.index, phase, digest) if verdict == "duplicate" else verdict
            left = float("inf") if phase == ABORT else hosted.seconds_left
            latest, patience = self._clock.monotonic() + left, self._clock.timeout(min(seconds, left))
            with self._budget.message(size, patience, latest) as held:
                async with patience:
                    data = await session.channel.payload(size, held.charge)
                return await hosted.submit(session.index, phase, data)
        except TimeoutError:
            self._count_attempt(session, broke_a_rule=False)
            raise RefusedError(Refusal.TOO_SLOW, f"{counted(size, 'byte')} of {phase} took too long to come") from None
        except ConnectionClosed:
            hosted.refuse_attempt(session.index, broke_a_rule=False)
            raise

    async def _write(self, session: _Session) -> None:
        """Send what the round has for this client, each time that there is something new, and now and then a sign."""
        hosted, channel, index = session.hosted, session.channel, session.index
        interval = max(1.0, hosted.config.clients / 100)
        sent, shown, shown_at = -1, ("", 0), 0.0
        while True:
            if (epoch := hosted.epoch) != sent and (outbound := await hosted.outbound(index)) is not None:
                if outbound.certificate:
                    await channel.send(Certified(len(outbound.certificate)), outbound.certificate)
                await channel.send(outbound.frame, outbound.payload)
            sent = epoch
            progress, now = hosted.progress(), self._clock.monotonic()
            if (progress.phase, progress.arrived) != shown or now - shown_at > _HEARTBEAT_SECONDS:
                await channel.send(progress)
                shown, shown_at = (progress.phase, progress.arrived), now
            await hosted.new_epoch(sent, interval)

    async def _refuse(
        self,
        hosted: HostedRound,
        channel: Channel[ToServer],
        refused: RefusedError,
        last_bytes: int,
        *,
        client: int | None = None,
    ) -> None:
        """Say why, and close; the closing handshake tells that the client has read it.

        The connection is dropped when more than ``last_bytes`` come meanwhile.
        """
        self._count(hosted, refused.code, client)
        connection = channel.connection
        if self._farewells >= self._most:
            connection.transport.abort()
            return
        if isinstance(connection, PolicedConnection):
            connection.allow_no_more_than(last_bytes)
        self._farewells += 1
        try:
            with contextlib.suppress(ConnectionClosed, TimeoutError):
                async with self._clock.timeout(_FAREWELL_SECONDS):
                    discarding = asyncio.create_task(channel.discard())
                    try:
                        await channel.send(Refused(refused.code.value, str(refused)))
                        await connection.close(CLOSE_POLICY, refused.code.value)
                    finally:
                        discarding.cancel()
        finally:
            self._farewells -= 1

    def _count(self, hosted: HostedRound, refusal: Refusal, client: int | None = None) -> None:
        self.refused[refusal.value] += 1
        who = {} if client is None else {"client": hosted.spec.name_of(client)}
        _log.info("refused", extra={"fields": {"round": hosted.name, **who, "code": refusal.value}})

    def _note_stranger(self, hosted: HostedRound, channel: Channel[ToServer], key: bytes) -> None:
        """Show whose key it was: most often it is a member's, whom the directory lists with another."""
        address = channel.connection.remote_address
        stranger = {"round": hosted.name, "key": key.hex(), "address": str(address[0]) if address else ""}
        self._strangers.append(stranger)
        _log.warning("unknown-identity", extra={"fields": stranger})


@asynccontextmanager
async def _ungrouped() -> AsyncIterator[None]:
    """One exception of a task group comes out as itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None


def _check_name(name: str) -> None:
    if not is_round_name(name):
        raise ParameterError(f"round name {name!r}: letters, digits, '.', '_' and '-', at most 64")


async def _load_kernels(hosted: HostedRound) -> None:
    config = hosted.config
    await asyncio.to_thread(load_kernels, config.masked_modulus, config.suite, config.threat_model)
    await asyncio.to_thread(load_envelope_kernels, config)


def _largest_of(hosted: HostedRound, phase: str) -> int:
    """The most bytes of a client's submission of one kind."""
    if phase == STATEMENT:
        return SIGNATURE_BYTES
    return hosted.config.max_message_bytes(Phase.ADVERTISE if phase == ABORT else phase)


def _largest(hosted: HostedRound) -> int:
    """The most bytes of a client's message, with its frame."""
    return MAX_FRAME_BYTES + max(hosted.config.max_message_bytes(phase) for phase in PHASES)


def _round_name(path: str) -> str:
    return path.partition("?")[0].strip("/") or "default"


def _quiet() -> logging.Logger:
    """The library's own log of broken handshakes, which anybody on the network can cause, stays below warnings."""
    logger = logging.getLogger("secagg.net.websockets")
    logger.setLevel(logging.CRITICAL)
    return logger
