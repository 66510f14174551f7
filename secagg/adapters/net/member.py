"""A client in the service: connects until the round is over, and lets nothing leave that is not stored.

On a connection one task reads what the server says and takes the steps that it leads to, and another sends what is
stored: so a refusal is read while a large message is on its way.  When the line is lost, what came before is read to
its end first; the last frame, or the reason of the closing, decides whether there is a next connection.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeAlias, final
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from secagg.adapters.net.addresses import canonical, is_loopback, round_of
from secagg.adapters.net.announced_sizes import largest_message
from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.certificates import seen_certificate
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.clock import SYSTEM_CLOCK, Clock
from secagg.adapters.net.closings import final_refusal
from secagg.adapters.net.frames import (
    ABORT,
    FRAGMENT_BYTES,
    FRAMES_VERSION,
    MAX_WELCOME_BYTES,
    RETRY,
    Aborted,
    Ack,
    AnnouncedLayout,
    Candidate,
    Certified,
    Challenge,
    Counted,
    EndReceived,
    Login,
    Message,
    NoStatement,
    Progress,
    Refusal,
    Refused,
    RefusedError,
    Submission,
    Sum,
    ToClient,
    WantsCandidate,
    Welcome,
    decode_layout,
    decode_to_client,
)
from secagg.adapters.net.membership import GaveUpError, MemberOptions, Total
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.patience import Patience
from secagg.adapters.net.round_spec import PHASES
from secagg.adapters.net.steps import FINISHED, Steps
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.study_answer import Answering, StudyTotal
from secagg.adapters.net.troubles import trouble_of
from secagg.adapters.net.voting import BallotTotal, Judging
from secagg.errors import ParameterError
from secagg.identity import Identity
from secagg.pairwise import transcript
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.messages import MAX_CERTIFICATES_BYTES
from secagg.privacy.terms import PrivacyTerms
from secagg.wording import counted

_log = logging.getLogger("secagg.net.member")
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
"""Seconds between attempts to connect: doubled from the first to the longest, so that a thousand clients of a server
that restarts are back within some seconds and do not come all at once.  Any values near these serve."""
_SILENCE: Final = 60.0  # without a frame; the server sends one every ten seconds
_FAREWELL_SECONDS: Final = 1.0
"""For the closing handshake of TLS: nothing depends on it by then."""
_GOOD_VERDICTS: Final = frozenset({"accepted", "duplicate", "late"})

Arrays = Mapping[str, np.ndarray[Any, Any]]
AnyTotal: TypeAlias = Total | StudyTotal | BallotTotal


@final
class Member:
    """One client and its store.  ``run`` ends with the sum, or raises why there is none for it."""

    def __init__(
        self,
        options: MemberOptions,
        store: ClientStore,
        arrays: Arrays | OwnInput | Answering | Judging,
        *,
        on_total: Callable[[Any], None],
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_terms: Callable[[PrivacyTerms], None] = lambda terms: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Nothing is connected before ``run``.

        Args:
            options: how it takes part.
            store: its file.
            arrays: its input by name; or an ``OwnInput``, which has its weight with it; or, for a round of a study,
                what answers the question that the server announces; or, for a ballot, how it votes.
            on_total: stores the ``Total``, the ``StudyTotal`` of a study, or the ``BallotTotal`` of a ballot, durably;
                the server is told only afterwards.
            on_progress: called now and then.
            on_terms: told what a private round promises, once its config was checked and before anything of this
                client's leaves.
            clock: what its patience is counted by.

        Raises InputError for arrays that cannot be summed, or a weight below 0.
        """
        self._options, self._store, self._clock = options, store, clock
        self._on_total, self._on_progress = on_total, on_progress
        own = OwnInput(arrays, options.weight) if isinstance(arrays, Mapping) else arrays
        self._login = options.identity or Identity(store.identity_seed())
        self._steps = Steps(options, store, own, self._login, on_terms)
        self._patience = Patience(options.give_up_seconds, clock.monotonic)
        self._leave_by = 0.0
        self._troubles_told: set[str] = set()

    async def run(self) -> Total:
        """Take part with a file until the round is over.

        Raises RefusedError (the server's no), PeerError (this client's no to what the server sent), InputError (the
        input is not of the round's layout), AnotherInputError (it is not the one that this client joined with),
        MaybeSummedError, DisclosureError (``may_reveal`` withheld the last answer), NotTrustedError, GaveUpError,
        ContradictionError (the server signed two certificates of the round), and ParameterError for a store of another
        round or identity.
        """
        total = await self._take_part_to_the_end()
        if not isinstance(total, Total):
            raise TypeError("this member brings no file: call answer() for a study, and vote() for a ballot")
        return total

    async def answer(self) -> StudyTotal:
        """Take part in a round of a study until the round is over.  Raises what ``run`` does."""
        total = await self._take_part_to_the_end()
        if not isinstance(total, StudyTotal):
            raise TypeError("this member answers no study: call run() with a file, and vote() for a ballot")
        return total

    async def vote(self) -> BallotTotal:
        """Take part in a ballot until it is over: test the candidate, join, vote.

        Whether the candidate can be tested changes nothing of what is sent: a judge that fails is an abstention.
        Raises what ``run`` does.
        """
        total = await self._take_part_to_the_end()
        if not isinstance(total, BallotTotal):
            raise TypeError("this member has no judge: call run() with a file, and answer() for a study")
        return total

    async def _take_part_to_the_end(self) -> AnyTotal:
        await asyncio.to_thread(self._store.bind, canonical(self._options.url), self._login.public_key)
        await asyncio.to_thread(self._steps.check_input)
        self._patience = Patience(self._options.give_up_seconds, self._clock.monotonic)
        delay = _FIRST_DELAY
        last_trouble: str | None = None
        while True:
            taken = self._steps.taken
            try:
                return await self._connect()
            except RefusedError as refused:
                if refused.code in (Refusal.ROUND_ABORTED, Refusal.LEFT_OUT):
                    await asyncio.to_thread(self._store.finish, str(refused))
                if refused.code not in RETRY:
                    raise
                trouble = str(refused)
            except InvalidURI as wrong:
                raise ParameterError(str(wrong)) from None
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError) as failure:
                trouble = await trouble_of(failure, self._options.url)
            if self._steps.failure is not None:
                raise self._steps.failure
            delay = min(_LONGEST_DELAY, 2 * delay)
            if self._steps.taken > taken:
                delay = _FIRST_DELAY
                self._troubles_told.clear()
            if not self._patience.seconds_left():
                # The last attempt was cut short, so that the one before it says more about what is wrong.
                raise self._gave_up(trouble if last_trouble is None else last_trouble)
            self._tell(trouble)
            last_trouble = trouble
            await self._clock.sleep(min(self._patience.seconds_left(), delay * random.uniform(0.5, 1.0)))

    def _tell(self, trouble: str) -> None:
        """Say a trouble once, however often it comes back: it is no news until the round has made progress."""
        if trouble in self._troubles_told:
            return
        self._troubles_told.add(trouble)
        seconds = round(self._patience.seconds_left())
        goes_on = f"this client tries again for {seconds} s without another word; Ctrl-C stops it, and keeps the state"
        _log.warning("reconnect", extra={"fields": {"trouble": trouble, "now": goes_on}})

    def _gave_up(self, trouble: str) -> GaveUpError:
        what = "no progress of the round" if self._patience.heard else "no word from the server"
        return GaveUpError(
            f"{what} for {self._options.give_up_seconds:g} s ({trouble}); the state is kept: run the same command to "
            "go on"
        )

    @property
    def _round(self) -> str:
        return round_of(self._options.url)

    # A connection.

    async def _connect(self) -> AnyTotal:
        options = self._options
        parts = urlsplit(options.url)
        tls = options.tls if parts.scheme == "wss" else None
        ending: dict[str, Any] = {} if tls is None else {"ssl_shutdown_timeout": _FAREWELL_SECONDS}
        async with connect(
            options.url,
            ssl=tls,
            proxy=None if is_loopback(parts.hostname or "") else True,
            compression=None,
            max_size=(FRAGMENT_BYTES, FRAGMENT_BYTES),  # until the login; see _allow
            # Twice what a server gives to the handshakes (``service.Limits``), so that its refusal arrives.
            open_timeout=min(20.0, self._patience.seconds_left()),
            close_timeout=2,
            ping_interval=20,
            ping_timeout=None,  # the server reads nothing while this client waits for room in its memory
            **ending,
        ) as connection:
            channel = Channel(connection, decode_to_client)
            try:
                return await self._take_part(channel)
            except ConnectionClosed as closed:
                if (refused := final_refusal(closed)) is not None:
                    raise refused from None
                raise

    async def _take_part(self, channel: Channel[ToClient]) -> AnyTotal:
        welcome, layout = await self._log_in(channel)
        if isinstance(layout, BallotLayout):
            await self._judge_candidate(channel, layout)
        config = await asyncio.to_thread(self._steps.prepare, layout, _certificate_of(channel), welcome.clients)
        _allow(channel, config)
        news = asyncio.Event()
        news.set()
        reader = asyncio.create_task(self._read(channel, welcome, config, news))
        writer = asyncio.create_task(self._write(channel, news))
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                writer.result()  # raises: it ends for nothing else
            return reader.result()
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _judge_candidate(self, channel: Channel[ToClient], layout: BallotLayout) -> None:
        """Have this member's vote on the candidate in its state, before anything of the round is taken."""
        wants = await asyncio.to_thread(self._steps.wants_candidate, layout)
        channel.connection.protocol.max_message_size = FRAGMENT_BYTES + layout.size
        with suppress(ConnectionClosed):  # what it said before is read next
            await channel.send(WantsCandidate(wants))
        if not wants:
            return
        frame = await self._receive(channel)
        if not isinstance(frame, Candidate) or frame.size != layout.size:
            raise _refusal_of(frame, f"a candidate of {counted(layout.size, 'byte')}")
        candidate = bytes(await self._payload(channel, frame.size))
        await asyncio.to_thread(self._steps.judge, layout, candidate)
        self._patience.moved()  # however long that took

    async def _read(
        self, channel: Channel[ToClient], welcome: Welcome, config: RoundConfig | None, news: asyncio.Event
    ) -> AnyTotal:
        """Take what the server sends, up to the sum."""
        held: tuple[Sum | Counted, bytearray] | None = None
        certificate = b""
        while True:
            match await self._receive(channel):
                case Message() as frame:
                    self._steps.check_size(frame, config)
                    data, taken = await self._payload(channel, frame.size), self._steps.taken
                    config = await asyncio.to_thread(self._steps.take, welcome.index, frame.phase, bytes(data))
                    self._after_step(taken)
                    _allow(channel, config)
                    news.set()
                case Ack() as frame:
                    await self._take_ack(frame)
                    if held is not None and not await asyncio.to_thread(self._steps.awaits_mask):
                        return await self._take_sum(channel, *held, certificate)
                case Progress() as frame:
                    self._patience.show(frame, 0 if config is None else config.clients)
                    self._on_progress(frame)
                case Certified() as frame:
                    certificate = bytes(await self._payload(channel, frame.size))
                case Sum() | Counted() as frame:
                    self._steps.check_size(frame, config)
                    held = frame, await self._payload(channel, frame.size) if isinstance(frame, Sum) else bytearray()
                    if not await asyncio.to_thread(self._steps.awaits_mask):
                        return await self._take_sum(channel, *held, certificate)
                case Aborted() as frame:
                    await self._state_silence(channel, frame, news)
                case frame:
                    raise _refusal_of(frame, "what belongs to a round")

    async def _write(self, channel: Channel[ToClient], news: asyncio.Event) -> None:
        """Send what is stored, in order, as often as there is news.  When the line is lost, the reader knows why."""
        sent = 0
        with suppress(ConnectionClosed):
            while True:
                await news.wait()
                news.clear()
                for number, phase, data in await asyncio.to_thread(self._store.unsent, sent):
                    async with self._clock.timeout(self._options.give_up_seconds):
                        await channel.send(Submission(number, phase, len(data)), data)
                    sent = number
        await asyncio.Event().wait()

    def _after_step(self, taken: int) -> None:
        if self._steps.ended is not None:
            raise self._steps.ended
        if self._steps.failure is not None and not self._leave_by:
            self._leave_by = self._clock.monotonic() + _FAREWELL_SECONDS
        if self._steps.taken > taken:
            self._patience.moved()

    async def _receive(self, channel: Channel[ToClient]) -> ToClient:
        patient = min(_SILENCE, self._patience.seconds_left())
        if self._steps.failure is not None:
            patient = max(0.0, self._leave_by - self._clock.monotonic())
        async with self._clock.timeout(patient):
            return await channel.receive()

    async def _payload(self, channel: Channel[ToClient], size: int) -> bytearray:
        async with self._clock.timeout(self._options.give_up_seconds):
            return await channel.payload(size)

    async def _log_in(self, channel: Channel[ToClient]) -> tuple[Welcome, AnnouncedLayout]:
        challenge = await self._receive(channel)
        if not isinstance(challenge, Challenge):
            raise _refusal_of(challenge, "a challenge")
        if challenge.version != FRAMES_VERSION:
            raise RefusedError(
                Refusal.WRONG_VERSION, f"the server speaks frames of version {challenge.version}, not {FRAMES_VERSION}"
            )
        signed = transcript.signed_login(challenge.challenge, self._round, _certificate_of(channel))
        channel.connection.protocol.max_message_size = FRAGMENT_BYTES + MAX_WELCOME_BYTES
        with suppress(ConnectionClosed):  # what it said before is read next
            await channel.send(Login(FRAMES_VERSION, self._login.public_key, self._login.sign(signed)))
        welcome = await self._receive(channel)
        if not isinstance(welcome, Welcome):
            raise _refusal_of(welcome, "a welcome")
        return welcome, decode_layout(await self._payload(channel, welcome.size))

    async def _take_ack(self, ack: Ack) -> None:
        phase = await asyncio.to_thread(self._steps.acknowledge, ack.number, ack.verdict)
        if self._steps.failure is not None and phase == ABORT:
            raise self._steps.failure
        if ack.verdict not in _GOOD_VERDICTS:
            why = f"the server refused this client's {phase} message: {ack.verdict}"
            await asyncio.to_thread(self._store.finish, why)
            raise RefusedError(Refusal.MESSAGE_REFUSED, why)
        if phase is not None:
            self._patience.moved()
        if ack.verdict == "late":
            _log.warning("late", extra={"fields": {"phase": phase}})

    async def _state_silence(self, channel: Channel[ToClient], frame: Aborted, news: asyncio.Event) -> None:
        """Send the statement that this client did not answer, or say that there is none."""
        taken = self._steps.taken
        stated = await asyncio.to_thread(self._steps.state_silence)
        _log.info("round-aborted", extra={"fields": {"why": frame.message, "states_that_it_did_not_answer": stated}})
        if stated:
            self._after_step(taken)
            news.set()
        else:
            await channel.send(NoStatement())

    async def _take_sum(
        self, channel: Channel[ToClient], frame: Sum | Counted, packed: bytearray, certificate: bytes
    ) -> AnyTotal:
        total = await asyncio.to_thread(self._steps.decode, frame, packed, certificate)
        try:
            await asyncio.to_thread(self._on_total, total)
        except OSError as failure:  # not the network's
            raise ParameterError(f"the total cannot be stored: {failure}") from failure
        await asyncio.to_thread(self._store.finish, FINISHED)
        with suppress(ConnectionClosed):  # the total is here all the same
            await channel.send(EndReceived())
        return total


def _certificate_of(channel: Channel[ToClient]) -> bytes:
    return seen_certificate(channel.connection.transport.get_extra_info("ssl_object"))


def _allow(channel: Channel[ToClient], config: RoundConfig | None) -> None:
    """Let the server send what is allowed in this round, and no more; before there is one, an invitation."""
    largest = max(largest_message(config, phase) for phase in PHASES)
    if config is not None:
        largest = max(largest, config.modulus.packed_bytes(config.length), MAX_CERTIFICATES_BYTES)
    channel.connection.protocol.max_message_size = FRAGMENT_BYTES + largest


def _refusal_of(frame: ToClient, wanted: str) -> RefusedError:
    if isinstance(frame, Refused):
        known = frame.code in set(Refusal)
        return RefusedError(Refusal(frame.code) if known else Refusal.OTHER, frame.message)
    return RefusedError(Refusal.MALFORMED, f"the server sent a {type(frame).__name__} frame instead of {wanted}")
