"""Clients that keep to no rule: raw frames over a connection that is logged in, or is not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from secagg import Identity
from secagg.adapters.net.certificates import seen_certificate
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import FRAMES_VERSION, Challenge, Login, Refused, Welcome, decode_to_client
from secagg.pairwise.transcript import signed_login
from tests.support.hosting import Hosting


@asynccontextmanager
async def stranger(host: Hosting, name: str = "default") -> AsyncIterator[ClientConnection]:
    """A connection before its login."""
    async with connect(f"{host.url}/{name}", ssl=host.tls, compression=None, max_size=None) as connection:
        yield connection


@asynccontextmanager
async def logged_in(host: Hosting, identity: Identity, name: str = "default") -> AsyncIterator[Channel[Any]]:
    """A connection that has logged in, and is in the test's hands."""
    async with stranger(host, name) as connection:
        channel: Channel[Any] = Channel(connection, decode_to_client)
        challenge = await channel.receive()
        assert isinstance(challenge, Challenge)
        seen = seen_certificate(connection.transport.get_extra_info("ssl_object"))
        signature = identity.sign(signed_login(challenge.challenge, name, seen))
        await channel.send(Login(FRAMES_VERSION, identity.public_key, signature))
        welcome = await channel.receive()
        if isinstance(welcome, Refused):
            raise RefusedLoginError(welcome)
        assert isinstance(welcome, Welcome)
        await channel.payload(welcome.size)
        yield channel


class RefusedLoginError(Exception):
    """The server's no, in place of its welcome."""

    def __init__(self, frame: Refused) -> None:
        super().__init__(f"{frame.code}: {frame.message}")
        self.frame = frame


def write(connection: ClientConnection, frames: Iterable[Frame]) -> None:
    """Write frames as they are, in one piece, so that one read of the server's holds many of them."""
    connection.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))


def binary(data: bytes, *, fin: bool = True) -> Frame:
    """A message's first frame."""
    return Frame(Opcode.BINARY, data, fin)


def more(data: bytes, *, fin: bool = False) -> Frame:
    """A message's next frame."""
    return Frame(Opcode.CONT, data, fin)


def ping(data: bytes = b"") -> Frame:
    """A control frame that is to be answered."""
    return Frame(Opcode.PING, data, True)


async def read_to_the_end(channel: Channel[Any]) -> list[Any]:
    """All frames until the connection is closed."""
    frames: list[Any] = []
    with suppress(ConnectionClosed):
        while True:
            frames.append(await channel.receive())
            if size := getattr(frames[-1], "size", 0):
                await channel.payload(size)
    return frames
