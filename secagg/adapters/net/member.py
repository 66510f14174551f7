"""A client in the service: connects until the round is over, and lets nothing leave that is not stored."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, final
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from secagg import messages, transcript
from secagg.adapters.net.certificates import seen_certificate
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import (
    ABORT,
    FRAGMENT_BYTES,
    FRAMES_VERSION,
    MAX_FRAME_BYTES,
    MAX_WELCOME_BYTES,
    RETRY,
    Ack,
    Challenge,
    Got,
    Login,
    Message,
    Progress,
    Refusal,
    Refused,
    RefusedError,
    Submission,
    Sum,
    ToClient,
    Welcome,
    decode_layout,
    decode_to_client,
)
from secagg.adapters.net.hosted import PHASES
from secagg.adapters.net.layout import Layout
from secagg.adapters.net.store import ClientStore, TakingPart
from secagg.arithmetic import PackedError, unpack
from secagg.client import Client
from secagg.config import Policy, RoundConfig, decode_config
from secagg.encoding import Encoder
from secagg.encoding.sums import Mean
from secagg.errors import AbortCode, InputError, ParameterError, PeerError, SecAggError
from secagg.events import Finished, InputNeeded, RoundAborted
from secagg.identity import Directory, Identity

_log = logging.getLogger("secagg.net.member")
_FIRST_DELAY: Final = 0.1
_LONGEST_DELAY: Final = 5.0
_SILENCE: Final = 60.0  # without a frame; the server sends one every ten seconds
_FAREWELL_SECONDS: Final = 1.0
_GOOD_VERDICTS: Final = frozenset({"accepted", "duplicate", "late"})
FINISHED: Final = "finished"

Arrays = Mapping[str, np.ndarray[Any, Any]]


class GaveUpError(SecAggError):
    """No word from the server for too long."""


class NotTrustedError(SecAggError):
    """The server's TLS certificate is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Total:
    """What a client gets.

    Attributes:
        mean: the weighted mean in float64, with the total weight and the number of clients in it.
        encoder: of this client's layout.
        vector: the sum as it came.
        included: their seats.
        seat: the client's own, which is among them.
        clipped: how many of the client's own values were cut off, by array.
    """

    mean: Mean
    encoder: Encoder
    vector: np.ndarray[Any, Any]
    included: tuple[int, ...]
    seat: int
    clipped: Mapping[str, int]

    def mean_as_input(self) -> dict[str, np.ndarray[Any, Any]]:
        """The mean in the dtypes of this client's own arrays."""
        return dict(self.encoder.decode_sum(self.vector, self.mean.count, "template").mean)


@dataclass(frozen=True, kw_only=True)
class MemberOptions:
    """How a client takes part.

    Attributes:
        url: ``wss://host:port/round``.
        tls: for ``wss``; see ``certificates.client_context``.
        weight: of its input.
        policy: the least that it accepts; the layout's digest is added as the context.
        identity: what it logs in with; None: one that its store makes.
        directory: ``active``: the client's own copy.
        give_up_seconds: without a word from the server.
    """

    url: str
    tls: ssl.SSLContext | None = None
    weight: int = 1
    policy: Policy = Policy()  # noqa: RUF009  (frozen)
    identity: Identity | None = None
    directory: Directory | None = None
    give_up_seconds: float = 600.0


def check_url(url: str, *, plaintext: bool) -> None:
    """Raises ParameterError for anything but ``wss://host[:port]/round``, or ``ws`` to this machine when allowed."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ParameterError(f"{url!r}: give wss://HOST:PORT/ROUND")
    if parts.scheme == "ws" and not (plaintext and is_loopback(parts.hostname)):
        raise ParameterError(
            f"{url!r}: without TLS anybody on the way can take part in your name; ws is for this machine alone, with "
            "--insecure-plaintext"
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@final
class Member:
    """One client and its store.  ``run`` ends with the sum, or raises why there is none for it."""

    def __init__(
        self,
        options: MemberOptions,
        store: ClientStore,
        arrays: Arrays,
        *,
        on_total: Callable[[Total], None],
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        """Nothing is connected before ``run``.

        Args:
            options: how it takes part.
            store: its file.
            arrays: its input, by name.
            on_total: stores the sum, durably; the server is told only afterwards.
            on_progress: called now and then.
        """
        self._options, self._store, self._arrays = options, store, arrays
        self._on_total, self._on_progress = on_total, on_progress
        self._login = options.identity or Identity(store.identity_seed())
        self._encoder: Encoder | None = None
        self._clipped: Mapping[str, int] = {}
        self._failure: PeerError | None = None
        self._ended: RefusedError | None = None
        self._heard, self._leave_by, self._steps = 0.0, 0.0, 0

    async def run(self) -> Total:
        """Take part until the round is over.

        Raises RefusedError (the server's no), PeerError (this client's no to what the server sent), InputError (the
        input is not of the round's layout), NotTrustedError, GaveUpError.
        """
        self._heard = time.monotonic()
        delay = _FIRST_DELAY
        while True:
            steps = self._steps
            try:
                return await self._connect()
            except RefusedError as refused:
                if refused.code in (Refusal.ROUND_ABORTED, Refusal.LEFT_OUT):
                    await asyncio.to_thread(self._store.finish, str(refused))
                if refused.code not in RETRY:
                    raise
                trouble = str(refused)
            except ssl.SSLCertVerificationError as wrong:
                raise NotTrustedError(
                    f"the server's certificate is not trusted ({wrong.verify_message}); give the certificate of the "
                    "authority that signed it with --ca"
                ) from None
            except InvalidStatus as status:
                trouble = self._http(status)
            except InvalidURI as wrong:
                raise ParameterError(str(wrong)) from None
            except (OSError, ConnectionClosed, InvalidHandshake, EOFError) as failure:
                trouble = str(failure) or type(failure).__name__
            if self._failure is not None:
                raise self._failure
            delay = _FIRST_DELAY if self._steps > steps else min(_LONGEST_DELAY, 2 * delay)
            if time.monotonic() - self._heard > self._options.give_up_seconds:
                raise GaveUpError(
                    f"no word from the server for {self._options.give_up_seconds:g} s ({trouble}); the state is kept: "
                    "run the same command to go on"
                )
            _log.info("reconnect", extra={"fields": {"trouble": trouble}})
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))

    def _http(self, status: InvalidStatus) -> str:
        code = status.response.status_code
        if code == 404:
            raise RefusedError(Refusal.ROUND_UNKNOWN, f"the server hosts no round {self._round!r}")
        return f"HTTP status {code}"

    @property
    def _round(self) -> str:
        return urlsplit(self._options.url).path.strip("/") or "default"

    # A connection.

    async def _connect(self) -> Total:
        options = self._options
        parts = urlsplit(options.url)
        tls = options.tls if parts.scheme == "wss" else None
        ending: dict[str, Any] = {} if tls is None else {"ssl_shutdown_timeout": _FAREWELL_SECONDS}
        async with connect(
            options.url,
            ssl=tls,
            proxy=None if is_loopback(parts.hostname or "") else True,
            compression=None,
            max_size=(MAX_FRAME_BYTES + MAX_WELCOME_BYTES, FRAGMENT_BYTES),
            open_timeout=min(20.0, options.give_up_seconds),
            close_timeout=2,
            ping_interval=20,
            ping_timeout=None,  # the server reads nothing while this client waits for room in its memory
            **ending,
        ) as connection:
            channel = Channel(connection, decode_to_client)
            welcome, layout = await self._log_in(channel)
            part = await asyncio.to_thread(self._prepare, layout)
            if part is not None:
                self._allow(channel, decode_config(part.config))
            sent = await self._send_waiting(channel, 0)
            while True:
                frame = await self._receive(channel)
                self._heard = time.monotonic()  # a challenge alone is no word from the server
                match frame:
                    case Message():
                        data = await self._payload(channel, frame.size)
                        config = await asyncio.to_thread(self._step, welcome.index, frame.phase, bytes(data))
                        if self._ended is not None:
                            raise self._ended
                        self._allow(channel, config)
                        sent = await self._send_waiting(channel, sent)
                    case Ack():
                        await self._take_ack(frame)
                    case Progress():
                        self._on_progress(frame)
                    case Sum():
                        return await self._take_sum(channel, frame)
                    case _:
                        raise _refusal_of(frame, "what belongs to a round")

    async def _receive(self, channel: Channel[ToClient]) -> ToClient:
        left = min(_SILENCE, self._options.give_up_seconds)
        if self._failure is not None:
            left = max(0.0, self._leave_by - time.monotonic())
        async with asyncio.timeout(left):
            return await channel.receive()

    async def _payload(self, channel: Channel[ToClient], size: int) -> bytearray:
        async with asyncio.timeout(self._options.give_up_seconds):
            return await channel.payload(size)

    async def _log_in(self, channel: Channel[ToClient]) -> tuple[Welcome, Layout]:
        challenge = await self._receive(channel)
        if not isinstance(challenge, Challenge):
            raise _refusal_of(challenge, "a challenge")
        if challenge.version != FRAMES_VERSION:
            raise RefusedError(
                Refusal.WRONG_VERSION, f"the server speaks frames of version {challenge.version}, not {FRAMES_VERSION}"
            )
        certificate = seen_certificate(channel.connection.transport.get_extra_info("ssl_object"))
        signed = transcript.signed_login(challenge.challenge, self._round, certificate)
        await channel.send(Login(FRAMES_VERSION, self._login.public_key, self._login.sign(signed)))
        welcome = await self._receive(channel)
        if not isinstance(welcome, Welcome):
            raise _refusal_of(welcome, "a welcome")
        return welcome, decode_layout(await self._payload(channel, welcome.size))

    async def _send_waiting(self, channel: Channel[ToClient], after: int) -> int:
        """Send what is stored and was not sent on this connection; returns the last number."""
        for number, phase, data in await asyncio.to_thread(self._store.unsent, after):
            async with asyncio.timeout(self._options.give_up_seconds):
                await channel.send(Submission(number, phase, len(data)), data)
            after = number
        return after

    async def _take_ack(self, ack: Ack) -> None:
        phase = await asyncio.to_thread(self._store.acknowledged, ack.number)
        if self._failure is not None and phase == ABORT:
            raise self._failure
        if ack.verdict not in _GOOD_VERDICTS:
            why = f"the server refused this client's {phase} message: {ack.verdict}"
            await asyncio.to_thread(self._store.finish, why)
            raise RefusedError(Refusal.MESSAGE_REFUSED, why)
        if ack.verdict == "late":
            _log.warning("late", extra={"fields": {"phase": phase}})

    async def _take_sum(self, channel: Channel[ToClient], frame: Sum) -> Total:
        packed = await self._payload(channel, frame.size)
        total = await asyncio.to_thread(self._decode, frame, packed)
        try:
            await asyncio.to_thread(self._on_total, total)
        except OSError as failure:  # not the network's
            raise ParameterError(f"the total cannot be stored: {failure}") from failure
        await asyncio.to_thread(self._store.finish, FINISHED)
        await channel.send(Got())
        return total

    @staticmethod
    def _allow(channel: Channel[ToClient], config: RoundConfig) -> None:
        """Let the server send what is allowed in this round, and no more."""
        channel.connection.protocol.max_message_size = max(MAX_FRAME_BYTES + MAX_WELCOME_BYTES, _largest(config))

    # Steps, on a thread.

    def _load(self) -> TakingPart | None:
        with self._store.step():
            return self._store.load()

    def _prepare(self, layout: Layout) -> TakingPart | None:
        """Fit the input to the round's layout, before anybody waits for it; returns where this client stands."""
        if self._encoder is None:
            encoder = layout.encoder_for(self._arrays)
            encoder.encode(self._arrays, weight=self._options.weight)  # refuses NaNs, and a weight that is too large
            self._encoder, self._clipped = encoder, encoder.clipped
        with self._store.step():
            part = self._store.load()
            if part is not None and part.over is not None and self._failure is None:
                self._store.drop_outgoing()  # of a round that this client has left
            return part

    def _step(self, seat: int, phase: str, data: bytes) -> RoundConfig:
        """Take one message of the server's; what it leads to is durable when this returns."""
        self._steps += 1
        with self._store.step():
            part = self._store.load()
            if phase == "ADVERTISE":
                part = self._take_invitation(part, seat, data)
            elif part is None or part.seat != seat:
                raise RefusedError(
                    Refusal.ROUND_BEGUN,
                    f"round {self._round!r} is in {phase}, and this client's state knows nothing of it: its file is "
                    "lost, or the client comes too late",
                )
            elif part.state is not None:
                part = self._go_on(part, part.state, phase, data)
            return decode_config(part.config)

    def _take_invitation(self, part: TakingPart | None, seat: int, data: bytes) -> TakingPart:
        store, digest = self._store, hashlib.sha256(data).digest()
        if part is not None and part.over is None:
            if part.invitation == digest and part.seat == seat:
                return part
            raise RefusedError(
                Refusal.ANOTHER_ROUND,
                "the server opens a new round while this client is in the middle of another: it has lost its journal; "
                f"to leave the old round for good, remove {store.path!s}",
            )
        store.drop_outgoing()
        encoder = self._require_encoder()
        policy = replace(self._options.policy, context=encoder.layout_digest())
        active = self._options.directory is not None
        # When this client refuses the config, the step is undone and the server not told: its member may think better.
        with Client.join(
            data,
            seat,
            policy=policy,
            identity=self._login if active else None,
            directory=self._options.directory,
            consume=store.consume,
        ) as client:
            if not store.consume(digest):
                raise RefusedError(Refusal.ANOTHER_ROUND, "this client was in this very round already, on another seat")
            encoder.check_capacity(client.config.clients, client.config.modulus)
            store.push("ADVERTISE", client.start())
            part = TakingPart(seat, digest, client.config.to_bytes(), client.suspend(), None)
        store.save(part)
        agreed = client.config
        fields: dict[str, Any] = {"seat": seat, "clients": agreed.clients, "threat_model": agreed.threat_model.value}
        fields |= {"colluders": agreed.colluders, "min_survivors": agreed.min_survivors, "clip": encoder.clip}
        _log.info("joins", extra={"fields": fields})
        return part

    def _go_on(self, part: TakingPart, state: bytes, phase: str, data: bytes) -> TakingPart:
        store, options = self._store, self._options
        active = options.directory is not None
        identity = self._login if active else None
        try:
            with Client.resume(state, store.consume, identity=identity, directory=options.directory) as client:
                step = client.receive(data)
                if isinstance(step.event, InputNeeded):
                    encoder = self._require_encoder()
                    step = client.submit(encoder.encode(self._arrays, weight=options.weight))
                    self._clipped = encoder.clipped
                for message in step.outgoing:
                    store.push(phase, message)
                match step.event:
                    case RoundAborted(code):
                        self._ended = _ended(code)
                        part = replace(part, state=None, over=str(self._ended))
                        store.drop_outgoing()
                    case Finished():
                        part = replace(part, state=None)
                    case _:
                        part = replace(part, state=client.suspend())
        except PeerError as refused:
            part = self._leave(part, refused)
        store.save(part)
        return part

    def _leave(self, part: TakingPart, refused: PeerError) -> TakingPart:
        """Forget the state, and tell the server; the error is raised once it knows, or is gone."""
        self._failure, self._leave_by = refused, time.monotonic() + _FAREWELL_SECONDS
        self._store.drop_outgoing()
        if refused.reply:
            self._store.push(ABORT, refused.reply)
        return replace(part, state=None, over=str(refused))

    def _decode(self, frame: Sum, packed: bytearray) -> Total:
        part, encoder = self._load(), self._require_encoder()
        if part is None or part.over not in (None, FINISHED):
            raise RefusedError(Refusal.LEFT_OUT, f"round {self._round!r} is over, and this client was not in it")
        config = decode_config(part.config)
        included = messages.decode_bitmap(frame.included, config.clients)
        if part.seat not in included or len(included) < config.min_survivors:
            raise RefusedError(
                Refusal.MALFORMED,
                f"the server's sum is over {len(included)} clients, this one {'' if part.seat in included else 'not '}"
                f"among them; at least {config.min_survivors} were agreed",
            )
        try:
            vector = unpack(packed, config.modulus, config.length)
        except PackedError as wrong:
            raise RefusedError(Refusal.MALFORMED, f"the server's sum is no vector of this round: {wrong}") from None
        try:
            mean = encoder.decode_sum(vector, len(included))
        except InputError as wrong:  # a member that cheated, or weights that are all zero
            raise RefusedError(Refusal.ROUND_ABORTED, f"the round's sum is of no use: {wrong}") from None
        return Total(mean, encoder, vector, included, part.seat, self._clipped)

    def _require_encoder(self) -> Encoder:
        if self._encoder is None:
            raise RuntimeError("no layout yet")
        return self._encoder


def _refusal_of(frame: ToClient, wanted: str) -> RefusedError:
    if isinstance(frame, Refused):
        known = frame.code in set(Refusal)
        return RefusedError(Refusal(frame.code) if known else Refusal.OTHER, frame.message)
    return RefusedError(Refusal.MALFORMED, f"the server sent a {type(frame).__name__} frame instead of {wanted}")


def _ended(code: AbortCode) -> RefusedError:
    if code is AbortCode.EXCLUDED:
        return RefusedError(Refusal.LEFT_OUT, "the round went on without this client, which was too late")
    return RefusedError(Refusal.ROUND_ABORTED, f"the server ended the round: {code.name}")


def _largest(config: RoundConfig) -> int:
    largest = max(config.max_message_bytes(phase) for phase in PHASES)
    return MAX_FRAME_BYTES + max(largest, config.modulus.packed_bytes(config.length))
