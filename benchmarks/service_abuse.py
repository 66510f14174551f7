"""What strangers and bad members may try against the network service, for ``service_load.py``.

By strangers: handshakes and requests that never end, garbage for TLS and for a login, 100 MB before the login, floods
of fragments without content, of fragments of a byte, and of pings.  By members: a message that comes a byte a second,
garbage for a frame and for a message, 100 MB in one frame and in fragments, the announcement of a message that does not
come, and the same floods.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode

from secagg import Identity
from secagg.adapters.net.certificates import client_context, seen_certificate
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import (
    FRAMES_VERSION,
    Challenge,
    EndReceived,
    Login,
    RefusedError,
    Submission,
    Welcome,
    decode_to_client,
    encode,
)
from secagg.pairwise.phases import Phase
from secagg.pairwise.transcript import signed_login

Attempt = Callable[[], Awaitable[None]]

HUNDRED_MB = 100_000_000
CERTIFICATES = "tls"
_FLOOD = 2000
"""Frames that are written at once; the next ones follow as soon as there is room for them."""


def seed_of(client: int) -> bytes:
    """A client's identity, the same in every process: this is no secret."""
    return client.to_bytes(32, "little")


class Abuser:
    """One that tries; ``repeat`` does it again and again."""

    def __init__(self, url: str, folder: Path, members: list[int]) -> None:
        """``members``: whose identities it has, by turns."""
        self.url, self.members = url, members
        self.port = int(url.split(":")[2].split("/")[0])
        self.tls = client_context(folder / CERTIFICATES / "server.pem")

    @staticmethod
    def names() -> list[str]:
        """All that it knows."""
        nobody = Abuser.__new__(Abuser)
        nobody.members = [0]
        return [*nobody.by_strangers(), *nobody.by_members()]

    def by_strangers(self) -> dict[str, Attempt]:
        """What needs no identity."""
        return {
            "slow TLS handshake": self.slow_handshake,
            "slow HTTP request": self.slow_request,
            "garbage for TLS": self.no_tls,
            "garbage for a login": self.no_login,
            "100 MB before the login": self.large_before_login,
            "empty fragments before the login": lambda: self.flood_before_login([_begins(b"")], _more(b"")),
            "pings before the login": lambda: self.flood_before_login([], Frame(Opcode.PING, b"x" * 100, True)),
        }

    def by_members(self) -> dict[str, Attempt]:
        """What a member may do."""
        attempts: list[tuple[str, Callable[[ClientConnection], Awaitable[None]]]] = [
            ("slow message", self.slow_message),
            ("garbage for a frame", self.no_frame),
            ("garbage for a message", self.no_message),
            ("100 MB in a frame", self.large_frame),
            ("100 MB in fragments", self.large_message),
            ("a message that is announced", self.announced_message),
            ("empty fragments", lambda connection: self.flood(connection, [_begins(b"x")], _more(b""))),
            ("fragments of a byte", lambda connection: self.flood(connection, [_begins(b"x")], _more(b"x"))),
            ("pings", lambda connection: self.flood(connection, [], Frame(Opcode.PING, b"x" * 100, True))),
            (
                "small messages",
                lambda connection: self.flood(connection, [], Frame(Opcode.BINARY, encode(EndReceived()), True)),
            ),
        ]
        return {
            name: lambda turn=turn, attempt=attempt: self.as_member(turn, attempt)
            for turn, (name, attempt) in enumerate(attempts)
        }

    async def repeat(self, name: str, attempt: Attempt, counts: Any, *, pause: float) -> None:
        """Try until the task is cancelled, whatever becomes of it."""
        while True:
            counts[name] = counts.get(name, 0) + 1
            with contextlib.suppress(OSError, WebSocketException, TimeoutError, ssl.SSLError, EOFError, RefusedError):
                await attempt()
            await asyncio.sleep(pause)

    # Connections.

    def connection(self) -> AbstractAsyncContextManager[ClientConnection]:
        """One that nobody has logged in on."""
        return connect(self.url, ssl=self.tls, compression=None, proxy=None, max_size=None, close_timeout=1)

    async def log_in(self, connection: ClientConnection, turn: int = 0) -> None:
        """Log in as one of the members, and take the layout."""
        channel: Channel[Any] = Channel(connection, decode_to_client)
        challenge = await channel.receive()
        if not isinstance(challenge, Challenge):
            raise EOFError
        identity = Identity(seed_of(self.members[turn % len(self.members)]))
        seen = seen_certificate(connection.transport.get_extra_info("ssl_object"))
        signature = identity.sign(signed_login(challenge.challenge, "default", seen))
        await channel.send(Login(FRAMES_VERSION, identity.public_key, signature))
        welcome = await channel.receive()
        if not isinstance(welcome, Welcome):
            raise EOFError
        await channel.payload(welcome.size)

    async def as_member(self, turn: int, attempt: Callable[[ClientConnection], Awaitable[None]]) -> None:
        """Log in, and try."""
        async with self.connection() as connection:
            await self.log_in(connection, turn)
            await attempt(connection)
            await connection.wait_closed()

    # Strangers.

    async def slow_request(self) -> None:
        reader, writer = await asyncio.open_connection("localhost", self.port, ssl=self.tls)
        for byte in b"GET /default HTTP/1.1\r\nHost: localhost\r\n" * 100:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)
            if reader.at_eof():
                return

    async def slow_handshake(self) -> None:
        reader, writer = await asyncio.open_connection("localhost", self.port)
        await reader.read()
        writer.close()

    async def no_tls(self) -> None:
        reader, writer = await asyncio.open_connection("localhost", self.port)
        writer.write(os.urandom(100_000))
        await reader.read()
        writer.close()

    async def no_login(self) -> None:
        async with self.connection() as connection:
            await connection.send(os.urandom(500))
            await connection.wait_closed()

    async def large_before_login(self) -> None:
        async with self.connection() as connection:
            await connection.send(bytes(HUNDRED_MB))
            await connection.wait_closed()

    async def flood_before_login(self, first: list[Frame], then: Frame) -> None:
        async with self.connection() as connection:
            await self.flood(connection, first, then)

    # Members.

    async def flood(self, connection: ClientConnection, first: list[Frame], then: Frame) -> None:
        """Write frames past the library, until the connection breaks."""
        many = b"".join(frame.serialize(mask=True) for frame in [then] * _FLOOD)
        connection.transport.write(b"".join(frame.serialize(mask=True) for frame in first))
        while not connection.transport.is_closing():
            connection.transport.write(many)
            await connection.drain()
            await asyncio.sleep(0)

    async def slow_message(self, connection: ClientConnection) -> None:
        async def drip() -> Any:
            yield encode(Submission(1, Phase.MASK, 30_000))
            while True:
                yield b"x"
                await asyncio.sleep(1)

        await connection.send(drip())

    async def no_frame(self, connection: ClientConnection) -> None:
        await connection.send(os.urandom(1000))

    async def no_message(self, connection: ClientConnection) -> None:
        noise = os.urandom(2000)
        for number in range(10):
            await connection.send([encode(Submission(number, Phase.MASK, len(noise))), noise])

    async def large_frame(self, connection: ClientConnection) -> None:
        await connection.send(bytes(HUNDRED_MB))

    async def large_message(self, connection: ClientConnection) -> None:
        part = bytes(60_000)
        await connection.send([encode(Submission(1, Phase.MASK, 30_000)), *[part] * (HUNDRED_MB // len(part))])

    async def announced_message(self, connection: ClientConnection) -> None:
        first = [_begins(encode(Submission(1, Phase.MASK, 200_000))), _more(b"x" * 50)]
        connection.transport.write(b"".join(frame.serialize(mask=True) for frame in first))


def _begins(data: bytes) -> Frame:
    return Frame(Opcode.BINARY, data, False)


def _more(data: bytes) -> Frame:
    return Frame(Opcode.CONT, data, False)
