"""A server in a test's hands: it says what the test says, over real sockets, to a real client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from secagg.adapters.net.ballot_layout import BallotLayout
from secagg.adapters.net.certificates import client_context, server_context
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import (
    FRAMES_VERSION,
    Challenge,
    Message,
    Submission,
    Welcome,
    decode_to_server,
    encode,
    encode_layout,
)
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.store import ClientStore
from secagg.privacy.layout import AnyLayout
from tests.support.hosting import LAYOUT, arrays_of
from tests.support.moved_clock import the_clock

Line = Channel[Any]


@asynccontextmanager
async def lying_server(
    folder: Path, tls: Path, behave: Callable[[Line], Awaitable[None]], *, port: int = 0
) -> AsyncIterator[Callable[..., Member]]:
    """A server that does ``behave`` on each connection; gives what makes a client of it, with its store in a file."""
    context, _ = server_context(tls / "server.pem", tls / "server.key")
    quiet = logging.getLogger("quiet")
    quiet.setLevel(logging.CRITICAL)

    async def handle(connection: ServerConnection) -> None:
        await behave(Channel(connection, decode_to_server))
        await connection.wait_closed()

    async with serve(
        handle, "localhost", port, ssl=context, logger=quiet, close_timeout=0.1, max_size=None
    ) as listener:
        url = f"wss://localhost:{next(iter(listener.sockets)).getsockname()[1]}/default"

        def member(store: ClientStore | None = None, *, arrays: Any = None, **options: Any) -> Member:
            given = {"url": url, "tls": client_context(tls / "server.pem"), "give_up_seconds": 30.0, **options}
            store = store or ClientStore(folder / "client.state")
            return Member(
                MemberOptions(**given),
                store,
                arrays_of(0) if arrays is None else arrays,
                on_total=lambda total: None,
                clock=the_clock(),
            )

        yield member


async def log_in(line: Line, layout: AnyLayout | BallotLayout = LAYOUT, *, seat: int = 0, clients: int = 3) -> None:
    """Take the client's login, whatever it is, and welcome it."""
    await line.send(Challenge(FRAMES_VERSION, bytes(32)))
    await line.receive()
    encoded = encode_layout(layout)
    await line.send(Welcome(seat, clients, len(encoded)), encoded)


async def say(line: Line, phase: str, data: bytes) -> None:
    """Send a message of the protocol."""
    await line.send(Message(phase, len(data)), data)


async def hear(line: Line) -> tuple[Submission, bytes]:
    """The client's next submission."""
    submission = await line.receive()
    assert isinstance(submission, Submission)
    return submission, bytes(await line.payload(submission.size))


async def a_second_later(line: Line) -> None:
    """Wait, in the time that the test moves, as long as the client is there."""
    with suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await line.connection.wait_closed()


async def announce(line: Line, frame: Any) -> None:
    """Send the head of a frame, and nothing of the bytes that it says follow."""

    async def fragments() -> AsyncIterator[bytes]:
        yield encode(frame)
        await line.connection.wait_closed()

    await line.connection.send(fragments())
