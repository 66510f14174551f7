"""One round in the service: journal first, then act, then answer.

All calls into ``secagg.Server`` run on one thread of the round's own, one after the other, so that the event loop only
moves bytes.  What others ask meanwhile is answered from a copy, the ``Stage``: the event loop makes it when the thread
is idle.  Between a close and the moment that its snapshot is durable nobody is sent anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, final

import msgspec

from secagg.adapters.net import reasons
from secagg.adapters.net.ballot_count import counted_frame, tally_of
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.certifying import Certifier
from secagg.adapters.net.charging import RoundCharge
from secagg.adapters.net.clock import SYSTEM_CLOCK, Clock
from secagg.adapters.net.concluding import conclusion
from secagg.adapters.net.ending import Ending, Outbound
from secagg.adapters.net.frames import (
    Aborted,
    Message,
    Progress,
    Refusal,
    RefusedError,
    Sum,
    encode_layout,
)
from secagg.adapters.net.group_anomalies import report_of, shown_groups
from secagg.adapters.net.inbox import Inbox, answer, reject, stops
from secagg.adapters.net.journal import Journal, StoredRound
from secagg.adapters.net.keeping_apart import SumsApart
from secagg.adapters.net.reception import Reception
from secagg.adapters.net.round_spec import PHASES, RoundSpec
from secagg.adapters.net.round_thread import RoundThread
from secagg.adapters.net.score_keeping import ScoreFileError, ScoreKeeper
from secagg.adapters.net.seats import Seats
from secagg.adapters.net.stage import Stage
from secagg.adapters.net.standing import Standing
from secagg.adapters.net.statements import Statements, asked_for_statements
from secagg.adapters.net.verdicts import after_the_end
from secagg.errors import ParameterError, PeerError
from secagg.outcome import Result
from secagg.pairwise.messages import MAX_CERTIFICATES_BYTES, encode_bitmap
from secagg.pairwise.phases import Phase, ServerState
from secagg.pairwise.server import Server

if TYPE_CHECKING:
    from secagg.privacy.budget import Budget

_log = logging.getLogger("secagg.net.round")

_AFTER_MASK: Final = frozenset({Phase.CONFIRM, Phase.UNMASK})
RECONNECT_SECONDS: Final = 15.0
"""After a restart a phase stays open at least so long: its clients must find the way back."""


@final
class HostedRound:
    """Runs one round from its first client to its end, over any number of restarts."""

    def __init__(
        self,
        spec: RoundSpec,
        journal: Journal,
        clock: Clock = SYSTEM_CLOCK,
        privacy_budget: Budget | None = None,
        certifier: Certifier | None = None,
        sums_apart: SumsApart | None = None,
        scores: ScoreKeeper | None = None,
    ) -> None:
        self.spec = spec
        self._unmasking_threads = os.cpu_count() or 1
        self._certifier, self._sums_apart, self._scores = certifier, sums_apart, scores
        for keeper in (sums_apart, scores):
            if keeper is not None:
                keeper.check_round(spec)
        self.charge = None if privacy_budget is None else RoundCharge(privacy_budget, spec.layout, spec.name)
        """What the round costs the server's privacy budget, if it has one."""
        self.name, self.config = spec.name, spec.config
        self.layout_bytes = encode_layout(spec.layout)
        self.seats = Seats(spec.config.clients, spec.keys)
        self.standing = Standing()
        self.ending: Ending | None = None
        self.informed: set[int] = set()
        """Who said that it knows the end, or hung up after it was told that it is out of the round."""
        self.epoch = 0
        """Counts what there is to send: it grows at each close, and at the end."""
        self.phase_seconds: dict[str, float] = {}
        self.group_anomalies: list[dict[str, Any]] = []
        self.is_settled = False
        """Whether nothing more is to be done for a round that is over, but to hand out its end."""
        self._journal, self._clock = journal, clock
        self._thread = RoundThread(spec.name)
        self._reception = Reception(spec, journal, self._thread, self.seats, self.standing)
        self._inbox = Inbox(clock)
        self._changed, self._new_epoch = asyncio.Event(), asyncio.Event()
        self._durable = True
        self._begins_stage = asyncio.Lock()
        self._stage = Stage()
        self._server: Server | None = None
        self._statements: Statements | None = None
        self._seen: set[int] = set()

    # What the service asks.

    @property
    def phase(self) -> str:
        """The server's phase, or DONE or ABORTED."""
        server, ending = self._server, self.ending  # in this order: other threads ask, and the server goes last
        if ending is not None:
            return (ServerState.ABORTED if ending.failure else ServerState.DONE).value
        return "OPENING" if server is None else server.phase.value

    @property
    def refused(self) -> dict[str, int]:
        """How many messages broke a rule, by the rule's code."""
        return self._reception.refused

    @property
    def to_inform(self) -> frozenset[int]:
        """Who is to hear how the round ended: whoever is in the sum or has been here, but for those that left."""
        if self.ending is None:
            return frozenset()
        return frozenset(self._seen | set(self.ending.included)) - self.standing.departed

    @property
    def awaited(self) -> tuple[int, ...]:
        """Whom the present phase waits for."""
        return self._stage.awaited if self.ending is None else ()

    @property
    def dropped(self) -> dict[str, tuple[int, ...]]:
        """By phase, who was lost in it so far."""
        return self._stage.dropped if self.ending is None else self.ending.dropped

    @property
    def seconds_left(self) -> float:
        """How many seconds the present phase still has."""
        return self._stage.seconds_left(self._clock)

    def progress(self) -> Progress:
        """Where the round stands."""
        # While a phase is being closed the server is in the next one, of which nobody is told before it is durable.
        stage = self._stage
        if self._server is None or self.ending is not None:
            return Progress(self.phase, 0, 0, 0.0)
        return Progress(stage.name, stage.arrived, stage.expected, round(stage.seconds_left(self._clock), 1))

    @asynccontextmanager
    async def seat(self, key: bytes) -> AsyncIterator[int]:
        """The seat of an identity, for as long as it is connected; in an open round it is offered a free one.

        Raises RefusedError.
        """
        seat, offered = self.seats.of(key), False
        if seat is None:
            seat, offered = self._offer(key), True  # before the journal has it: nobody else may get it meanwhile
        with self._used(seat):
            if offered:
                await self._journal.offer_seat(self.name, seat, key)
            if self.standing.is_cut_off(seat):
                raise RefusedError(Refusal.TOO_MANY_MESSAGES, "too many messages of this client had to be refused")
            yield seat

    def _offer(self, key: bytes) -> int:
        if not self.seats.is_open:
            raise reasons.unknown_identity(self.name, key)
        if self.ending is not None and self.ending.failure:
            raise reasons.ended_without_sum(self.name, self.ending.failure)
        if self.phase != Phase.ADVERTISE:
            included = () if self.ending is None else self.ending.included
            raise reasons.no_seat_any_more(self.name, self.phase, len(included))
        seat = self.seats.offer(key)
        if seat is None:
            raise reasons.all_seats_taken(self.spec)
        return seat

    @contextmanager
    def _used(self, seat: int) -> Iterator[None]:
        """A client is connected, or a message of it is under way."""
        try:
            with self.seats.used(seat):
                yield
        finally:
            if self.seats.is_open and seat not in self.seats.taken:
                self.standing.forget(seat)
                self._seen.discard(seat)

    def client_connected(self, seat: int) -> None:
        """The client on a seat is here: it will be told how the round ended."""
        self._seen.add(seat)
        self.informed.discard(seat)

    def refuse_attempt(self, seat: int, *, broke_a_rule: bool) -> bool:
        """Count a message that is not accepted, whatever the reason; whether the client may go on."""
        return self.standing.count(seat, broke_a_rule=broke_a_rule)

    async def submit(self, index: int, phase: str, data: bytes | bytearray) -> str:
        """Hand in a client's message; returns when it is durable and acted on.  Waits while the queue is full."""
        return await self._inbox.submit(index, phase, data)

    def verdict_in_advance(self, index: int, phase: str) -> str:
        """The verdict on a message whose bytes have not come yet; UNDECIDED when they are needed for it."""
        server = self._server
        if server is None or self.ending is not None:
            return self._verdict_after_the_end(index, phase)
        if self._statements is not None:
            return self._statements.in_advance(index, phase)
        return self._reception.verdicts.in_advance(server, index, phase)

    def verdict_on_repeat(self, index: int, phase: str, digest: bytes) -> str:
        """The verdict on a message that was taken already, by the digest of the one that came again."""
        return self._reception.verdicts.on_repeat(index, phase, digest)

    async def outbound(self, index: int) -> Outbound | None:
        """What the server has for a client now, made for it alone.  Raises RefusedError when it is out of the round."""
        async with self._begins_stage:
            if self.ending is not None:
                return self._farewell(index, self.ending)
            if not self._durable or self._inbox.is_closed:
                raise stops()
            server = self._require_server()
            phase, statements = server.phase.value, self._statements
            if phase not in PHASES and statements is None:  # between the last close and the end
                return None
            if (why := self.standing.why_lost(index, self._stage.dropped)) is not None:
                raise reasons.left_out(self.name, why, is_over=False)
            if statements is not None:
                is_asked = index in statements.awaited
                return Outbound(Aborted(self._why_no_sum(server)), b"") if is_asked else None
            if index not in self._stage.participants:  # its vector is in the sum, which it waits for
                return None
            data = await self._thread.run(lambda: server.outgoing().to(index))
        return None if data is None else Outbound(Message(phase, len(data)), data)

    def candidate(self) -> bytes:
        """The candidate of a ballot, for a member that has not voted on it.

        Raises RefusedError for a round that is no ballot, and when the member cannot join any more.
        """
        if not isinstance(self.spec.layout, BallotLayout):
            raise RefusedError(Refusal.MALFORMED, f"round {self.name!r} is no ballot, and has no candidate")
        if self.ending is not None and self.ending.failure:
            raise reasons.ended_without_sum(self.name, self.ending.failure)
        if self.phase != Phase.ADVERTISE:
            raise reasons.too_late_to_vote(self.name, self.phase)
        return self.spec.candidate

    def client_knows_end(self, index: int) -> None:
        """A client knows how the round ended for it."""
        self.informed.add(index)
        self._notify()

    async def changed(self) -> None:
        """Returns when anything has changed."""
        await self._changed.wait()

    async def new_epoch(self, after: int, seconds: float) -> None:
        """Returns when there is something else to send than in epoch ``after``, or when the time is over."""
        if self.epoch == after:
            with suppress(TimeoutError):
                async with self._clock.timeout(seconds):
                    await self._new_epoch.wait()

    # Its life.

    async def start(self, threads: int | None = None) -> None:
        """Open the round, or take it up where the journal left it.

        So many threads take its vectors in and unmask its sum; None: one takes them in, and as many unmask as the
        machine has processors.
        """
        if threads is not None:
            self._reception.use_threads(threads)
            self._unmasking_threads = threads
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
            self.seats.restore(stored.seats)
            self.standing.restore(stored.refusals)
            # Nobody knows any more who of a directory's members was here.
            self._seen.update(range(self.config.clients) if self.spec.keys else stored.seats)
        if stored is not None and stored.ending is not None:
            self.ending = Ending.of(stored.ending, stored.packed)
            self._bind_all(stored)
            await self._settle(self.ending)
            self.epoch += 1
        elif stored is None or not stored.snapshot:
            self._server = Server(self.config, directory=self.spec.directory, certificates=self.spec.certificates)
            await self._begin_stage(self._server, await self._thread.run(self._server.snapshot))
        else:
            await self._restore(stored)
        if self.charge is not None and self._server is not None:
            self.charge.open(self._server.invitation())

    async def _restore(self, stored: StoredRound) -> None:
        directory, phase = self.spec.directory, stored.phase
        try:
            server = await self._thread.run(lambda: Server.restore(stored.snapshot, directory=directory))
        except ParameterError as wrong:
            # Its clients are told nothing, and the journal is left as it is: with the right release the round goes on.
            raise ParameterError(
                f"{self._journal.path}: round {self.name!r}, which is in {phase}, cannot go on ({wrong}). Finish the "
                "rounds of a journal before you upgrade secagg; or leave this one behind: another --journal begins all "
                "its rounds anew"
            ) from None
        self._server = server
        self._stage = self._enter_stage(server)
        if phase != Phase.ADVERTISE:
            self._bind_all(stored)
        replayed = 0
        for batch in self._journal.messages(self.name):
            if not server.done:
                await self._reception.act(server, [(sender, phase, data) for sender, data in batch])
            elif self._statements is not None:  # without a certifier there is nobody to sign them
                self._reception.take_statements(self._statements, dict(batch))
            self._stage = self._stage.after_news(server, self._statements)
            replayed += len(batch)
        if phase in _AFTER_MASK:
            await self._check_sums_apart(server)
        await self._resume_deadline(self._longest(server), stored.deadline)
        self.epoch += 1
        self._log("resumed", phase=phase, replayed=replayed)

    async def _resume_deadline(self, longest: float, stored: float) -> None:
        """A phase has the time that it had left, some seconds at least, and never more than it began with.

        The wall clock may have been set while the server was away: it can neither end the phase nor keep it open.
        """
        left = min(longest, stored - self._clock.wall())
        grace = min(RECONNECT_SECONDS, longest)
        now = self._clock.monotonic()
        self._stage = self._stage.between(now, now + max(left, grace))
        if left < grace:
            await self._journal.move_deadline(self.name, self._clock.wall() + grace)

    def _bind_all(self, stored: StoredRound) -> None:
        for seat in stored.seats:
            self.seats.bind(seat)

    async def run(self) -> None:
        """Carry the round to its end.  Whatever it raises is a bug, or the journal's disk."""
        try:
            while self.ending is None:
                server = self._require_server()
                if server.ready_to_compute:
                    await self._compute(server)
                elif server.done:
                    await self._wind_up(server)
                elif not server.missing or not self.seconds_left:
                    await self._close(server)
                else:
                    await self._take_batch(server)
            while True:  # who still sends something is told that it is over
                await self._take_batch(None)
        finally:
            self._inbox.close()
            self._reception.close()
            self._thread.close()

    # Steps.

    async def _take_batch(self, server: Server | None) -> None:
        """Journal what waits, act on it, answer."""
        batch = await self._inbox.batch(None if server is None else self.seconds_left)
        # An offered seat may be another client's by now.  A message of one that is gone was not acknowledged: it comes
        # again, when its client does.
        batch = [item for item in batch if not item.is_abandoned or item.index in self.seats.bound]
        with ExitStack() as seats:
            for item in batch:
                seats.enter_context(self._used(item.index))  # also when its connection ends meanwhile
            try:
                verdicts = (
                    [self._verdict_after_the_end(item.index, item.phase) for item in batch]
                    if server is None
                    else await self._reception.take(server, batch)
                    if self._statements is None
                    else await self._reception.judge_statements(server, self._statements, batch)
                )
            except BaseException:
                reject(batch)
                raise
            if server is not None:
                self._stage = self._stage.after_news(server, self._statements)
            answer(batch, verdicts)
        self._notify()

    def _verdict_after_the_end(self, index: int, phase: str) -> str:
        return after_the_end(index, phase, () if self.ending is None else self.ending.included)

    async def _close(self, server: Server) -> None:
        phase, closed = server.phase.value, self._stage
        async with self._begins_stage:
            self._durable = False  # should the journal fail, nobody gets what it does not have
            await self._reception.merge(server)
            await self._thread.run(server.close_phase)
            if phase == Phase.COMPLAIN:
                await self._reception.record_disputed(server)
            await self._begin_stage(server, await self._thread.run(server.snapshot))
            if phase == Phase.MASK:
                await self._check_sums_apart(server)
            self._durable = True
        self._log(
            "phase-closed",
            phase=phase,
            arrived=closed.arrived,
            missing=[self.spec.name_of(seat) for seat in closed.awaited],
            next=server.phase.value,
        )

    async def _check_sums_apart(self, server: Server) -> None:
        """Abort the round, before anybody hears of its survivors, when earlier sums and this one tell too much."""
        guard = self._sums_apart
        if guard is None or server.done:
            return
        if why := await self._thread.run(lambda: guard.why_not(self.spec, server)):
            await self._thread.run(lambda: server.abort(why))
            self._stage = self._stage.after_news(server, self._statements)

    async def _begin_stage(self, server: Server, snapshot: bytes) -> None:
        """Make a stage durable; only then may its messages leave."""
        now, seconds = self._clock.monotonic(), self._longest(server)
        await self._journal.store_stage(self.name, server.phase.value, self._clock.wall() + seconds, snapshot)
        if self._stage.opened:
            self.phase_seconds[self._stage.name] = now - self._stage.opened
        self._stage = self._enter_stage(server).between(now, now + seconds)
        self._next_epoch()

    def _enter_stage(self, server: Server) -> Stage:
        self.standing.new_phase()
        if asked := self._asked(server):
            self._statements = Statements(asked)
        return Stage.of(server, self._statements)

    def _asked(self, server: Server) -> frozenset[int]:
        """Who is to state that it did not answer; nobody where no certificate would have the statements."""
        return frozenset() if self._certifier is None else asked_for_statements(server, self.standing.departed)

    def _longest(self, server: Server) -> float:
        """How many seconds the present phase may last, or the wait for statements."""
        seconds = self.spec.deadlines.get(server.phase.value, 0.0)
        return self.spec.statement_seconds if self._asked(server) else seconds

    async def _wind_up(self, server: Server) -> None:
        """The round was aborted: it ends, behind the statements of those that did not answer, if they are asked."""
        statements = self._statements
        if statements is None and self._asked(server):  # aborted by its host, or while the sum was computed
            await self._begin_stage(server, await self._thread.run(server.snapshot))
        elif statements is not None and statements.awaited and self.seconds_left:
            await self._take_batch(server)
        else:
            await self._end(server, None)

    async def _compute(self, server: Server) -> None:
        try:
            with ThreadPoolExecutor(self._unmasking_threads, thread_name_prefix="secagg-unmask") as threads:
                result = await self._thread.run(lambda: server.compute(threads))
        except PeerError:
            return  # somebody dealt bad shares: the round is aborted, and the failure names it
        await self._end(server, result)

    async def _end(self, server: Server, result: Result | None) -> None:
        certificate = await self._certified(server, result)
        if result is not None:
            ending = await self._thread.run(lambda: conclusion(self.spec, result, certificate))
        else:
            ending = Ending(self._why_no_sum(server), dropped=dict(server.dropped))
        await self._journal.end_round(self.name, ending.head(), ending.packed)
        if result is None and self.charge is not None:
            await self._thread.run(self.charge.give_back)
        if result is not None:
            self.phase_seconds[ServerState.COMPUTE.value] = self._clock.monotonic() - self._stage.opened
        async with self._begins_stage:
            self.ending, self._server, self._statements = ending, None, None
            self._next_epoch()
        self._log("round-over", included=len(ending.included), failure=ending.failure)
        await self._settle(ending)  # the clients have been told: nobody waits for what is for a person to look at

    async def _settle(self, ending: Ending) -> None:
        """Which groups stand out, and the scores of clients over rounds, where the host asks for them."""
        report, keeper = await self._thread.run(lambda: report_of(self.spec, ending)), self._scores
        if report is not None:
            self.group_anomalies = shown_groups(report)
        if report is not None and keeper is not None:
            try:
                await self._thread.run(lambda: keeper.add(self.spec, bytes.fromhex(ending.transcript), report))
            except ScoreFileError as failure:  # the sum is there, and a restart counts this round
                self._log("scores", logging.WARNING, trouble=str(failure))
        self.is_settled = True
        self._notify()

    async def _certified(self, server: Server, result: Result | None) -> bytes:
        """The certificate for the clients; no bytes for one that none of them takes, or where none is made.

        It is in its file before anybody hears of the end: there is no ending without it, whatever breaks down.
        """
        certifier, statements = self._certifier, self._statements
        if certifier is None:
            return b""
        taken = {} if statements is None else statements.taken
        if statements is not None:
            self._log("statements", stated=self._names(sorted(taken)), silent=self._names(statements.awaited))
        data = await self._thread.run(lambda: certifier.certify(server, self.spec, result, self._clock, taken))
        if len(data) <= MAX_CERTIFICATES_BYTES:
            return data
        self._log("certificate-not-handed-out", logging.WARNING, bytes=len(data), most=MAX_CERTIFICATES_BYTES)
        return b""

    def _names(self, seats: Collection[int]) -> list[str]:
        return [self.spec.name_of(seat) for seat in seats]

    def _why_no_sum(self, server: Server) -> str:
        return reasons.why_no_sum(server.failure, self.spec, self.standing)

    def _farewell(self, index: int, ending: Ending) -> Outbound:
        if ending.failure:
            raise reasons.ended_without_sum(self.name, ending.failure)
        if index not in ending.included:
            why = self.standing.why_lost(index, ending.dropped) or "it was lost"
            raise reasons.left_out(self.name, why, is_over=True)
        if isinstance(self.spec.layout, BallotLayout):
            return Outbound(counted_frame(tally_of(self.spec.layout, self.config, ending)), b"")
        included = encode_bitmap(ending.included, self.config.clients)
        frame = Sum(included, len(ending.packed), ending.answered)
        return Outbound(frame, ending.packed, ending.certificate)

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

    def _log(self, event: str, level: int = logging.INFO, **fields: object) -> None:
        _log.log(level, event, extra={"fields": {"round": self.name, **fields}})
