"""A worker process of ``secagg serve --workers``: it ends TLS, and passes the bytes on to the main process.

``main(ORDERS)`` in a process of its own that was given the listening sockets.  It lives as long as its standard
input is open, so that none is left behind by a main process that was killed.  It knows no round and no identity: a
connection that it loses is one that the network lost.

On its standard output it says, a line each: ``ready``, and now and then ``dropped N`` for connections that had no room.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec

from secagg.adapters.net.certificates import server_context
from secagg.adapters.net.doors import Admission, Door
from secagg.errors import ParameterError

_PIECE: Final = 64 * 1024
"""Bytes that are read at once; a connection holds some pieces at most, since a slow reader stops its writer."""
_LAST_SECONDS: Final = 5.0
"""For what is still on its way when one side has hung up; the service gives a farewell as long."""
_REPORT_SECONDS: Final = 1.0
_ACCEPTED_AT_ONCE: Final = 4
"""A worker that wakes up takes no more connections than these, so that the others get theirs."""
_BACKLOG: Final = 1024
OTHER_CERTIFICATE: Final = 3
"""Exit code: the certificate's file has changed since the main process read it, and logins would not fit."""


class Orders(msgspec.Struct, frozen=True):
    """What a worker is told.

    Attributes:
        certificate, key: PEM files.
        fingerprint: SHA-256 of the certificate, in hexadecimal digits.
        listeners: file descriptors of the listening sockets.
        path: the main process's Unix socket.
        most: connections that may be open at once.
        handshake_seconds: for a TLS handshake.
    """

    certificate: str
    key: str
    fingerprint: str
    listeners: tuple[int, ...]
    path: str
    most: int
    handshake_seconds: float


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """Carry one connection to the main process and back, until either side hangs up."""
    peer = writer.get_extra_info("peername")
    try:
        inner_reader, inner_writer = await asyncio.open_unix_connection(path, limit=_PIECE)
    except OSError:  # the main process ends, or takes no more
        writer.transport.abort()
        return
    try:
        inner_writer.write(f"{peer[0]} {peer[1]}\n".encode())
        up = asyncio.create_task(_pump(reader, inner_writer))
        down = asyncio.create_task(_pump(inner_reader, writer))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if not down.done():  # the peer has hung up: the main process learns it, and may have last words for it
            with suppress(OSError):
                inner_writer.write_eof()
            await asyncio.wait({down}, timeout=_LAST_SECONDS)
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)
        await _close(writer)
    finally:
        inner_writer.close()
        writer.transport.abort()  # nothing is left of it, unless this was cancelled


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # TLS errors are among them
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(_LAST_SECONDS):
            await writer.wait_closed()
    except OSError:  # also when the time is over
        writer.transport.abort()


async def _serve(orders: Orders) -> None:
    tls, digest = server_context(Path(orders.certificate), Path(orders.key))
    if digest.hex() != orders.fingerprint:
        raise SystemExit(OTHER_CERTIFICATE)
    dropped = 0

    def count() -> None:
        nonlocal dropped
        dropped += 1

    relays: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relays.add(task := asyncio.create_task(relay(reader, writer, orders.path)))
        task.add_done_callback(relays.discard)

    admission = Admission(orders.most, count)
    async with AsyncExitStack() as stack:
        admission.keep_spare()
        stack.callback(admission.close)
        for number in orders.listeners:
            door = Door(socket.socket(fileno=number), admission)
            server = await asyncio.start_server(
                accept,
                sock=door,
                limit=_PIECE,
                backlog=_ACCEPTED_AT_ONCE,
                ssl=tls,
                ssl_handshake_timeout=orders.handshake_seconds,
                ssl_shutdown_timeout=_LAST_SECONDS,
            )
            stack.callback(server.close)
            door.listen(_BACKLOG)
        _say("ready")
        orphaned = asyncio.create_task(_standard_input_ends())
        while not orphaned.done():
            await asyncio.wait({orphaned}, timeout=_REPORT_SECONDS)
            if dropped:
                _say(f"dropped {dropped}")
                dropped = 0
    await _end(relays)


async def _end(relays: set[asyncio.Task[None]]) -> None:
    """The main process has hung up everywhere, or is dead: what is on its way to clients may still arrive."""
    if left := set(relays):
        await asyncio.wait(left, timeout=_LAST_SECONDS)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _standard_input_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with suppress(OSError):
        while await reader.read(1):
            pass


def _say(line: str) -> None:
    with suppress(OSError):  # the main process is gone; the standard input says so, too
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def main(orders: str) -> None:
    """Serve until the standard input ends."""
    try:
        asyncio.run(_serve(msgspec.json.decode(orders, type=Orders)))
    except (ParameterError, OSError) as failure:
        raise SystemExit(str(failure)) from None
