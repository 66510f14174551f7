"""The listening sockets: they count connections from the moment that they are accepted, before a byte is read.

A connection that never begins its TLS handshake holds an open file for some seconds, and the limits of the service see
none before its WebSocket handshake.  Without a limit here strangers could take every file that the process may open,
and the journal, the total's file or a module that is still to be imported would find none.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, final
from weakref import WeakSet

from websockets.asyncio.server import Server as Listener

_log = logging.getLogger("secagg.net.service")
_NO_MORE_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE})
_ACCEPTED_PER_CONNECTION: Final = 2
"""Those that shake hands, or are told why they are refused, beside those that are counted."""
_OWN_FILES: Final = 128
"""What a process opens beside its connections: journal, monitor, totals, modules, libraries."""


@final
@dataclass(frozen=True, slots=True)
class Listening:
    """What a service listens on.

    Attributes:
        sockets: one for each address of the host.
    """

    sockets: tuple[socket.socket, ...]


@final
class Admission:
    """Lets so many connections in, over all listening sockets."""

    def __init__(self, most: int, on_drop: Callable[[], None]) -> None:
        """``on_drop`` is called for each connection that is dropped."""
        self._most, self._on_drop = most, on_drop
        self._inside: WeakSet[socket.socket] = WeakSet()
        self._spare: int | None = None

    def admit(self, connection: socket.socket) -> bool:
        """Whether a connection may stay; it counts until it is closed."""
        if len(self._inside) >= self._most:
            self._inside = WeakSet(one for one in self._inside if one.fileno() >= 0)
        if len(self._inside) >= self._most:
            self._on_drop()
            return False
        self._inside.add(connection)
        return True

    def keep_spare(self) -> None:
        """Hold a file open, to have one for ``drop_one`` when there are no more."""
        if self._spare is None:
            with suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)

    def drop_one(self, accept: Callable[[], tuple[socket.socket, Any]]) -> bool:
        """Accept and drop a connection with the spare file; False when that is gone, too."""
        if self._spare is None:
            return False
        self.close()
        try:
            accept()[0].close()
            self._on_drop()
        finally:
            self.keep_spare()
        return True

    def close(self) -> None:
        """Give the spare file back."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None


@final
class Door(socket.socket):
    """A listening socket whose ``accept`` asks an Admission.  What is dropped looks as if the peer had hung up."""

    def __init__(self, bound: socket.socket, admission: Admission) -> None:
        super().__init__(fileno=bound.detach())
        self._admission = admission

    def accept(self) -> tuple[socket.socket, Any]:
        """Called by the event loop, which takes ConnectionAbortedError for a peer that is gone, and goes on."""
        try:
            connection, address = super().accept()
        except OSError as failure:
            # Left to the event loop, they would wait in the kernel's queue, and nobody else would be let in.
            if failure.errno in _NO_MORE_FILES and self._admission.drop_one(super().accept):
                raise ConnectionAbortedError(errno.ECONNABORTED, "no more files can be opened") from None
            raise
        if not self._admission.admit(connection):
            connection.close()
            raise ConnectionAbortedError(errno.ECONNABORTED, "too many connections")
        return connection, address


@asynccontextmanager
async def bound_at(host: str, port: int) -> AsyncIterator[Sequence[socket.socket]]:
    """Sockets at a host's addresses, for the length of the block; nobody can connect to them yet.

    Raises OSError when they cannot be had.

    Args:
        host: a name or an address; empty: every address.
        port: 0 for any that is free.
    """
    made = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port, start_serving=False)
    try:
        sockets = tuple(one.dup() for one in made.sockets)
    finally:
        made.close()
    with ExitStack() as stack:
        for one in sockets:
            stack.callback(one.close)
        yield sockets


@asynccontextmanager
async def listening(
    bound: Sequence[socket.socket],
    admission: Admission,
    serve_at: Callable[[Door], AbstractAsyncContextManager[Listener]],
) -> AsyncIterator[Listening]:
    """Serve at bound sockets for the length of the block.

    Args:
        bound: where.
        admission: whom to let in.
        serve_at: what handles the connections of a listening socket.
    """
    async with AsyncExitStack() as stack:
        doors = tuple(Door(one.dup(), admission) for one in bound)
        admission.keep_spare()
        stack.callback(admission.close)
        for door in doors:
            stack.callback(door.close)
        listeners = [await stack.enter_async_context(serve_at(door)) for door in doors]
        try:
            yield Listening(doors)
        finally:
            for listener in listeners:
                listener.close()  # all at the same time; the stack waits for each


def most_accepted(connections: int) -> int:
    """How many may be open, whatever they have sent so far, where so many are to be served."""
    wanted, allowed = _ACCEPTED_PER_CONNECTION * connections, _files_allowed()
    if allowed is None or wanted <= allowed:
        return wanted
    _log.warning("few-open-files", extra={"fields": {"connections": allowed, "wanted": wanted}})
    return allowed


def _files_allowed() -> int | None:
    """How many files this process may have open for connections; None where the system does not say."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft: int = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if soft == resource.RLIM_INFINITY else max(1, soft - _OWN_FILES)
