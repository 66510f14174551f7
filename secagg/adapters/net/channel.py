"""Frames over a WebSocket connection, and a bound on the bytes that connections hold at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final, Generic, TypeVar, final

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from secagg.adapters.net.frames import (
    FRAGMENT_BYTES,
    Frame,
    Refusal,
    RefusedError,
    encode,
)

_F = TypeVar("_F")
CLOSE_POLICY: Final = 1008
CLOSE_STOPS: Final = 1012


@final
class Channel(Generic[_F]):
    """Sends frames of one role and receives those of the other."""

    def __init__(self, connection: Connection, decode: Callable[[bytes], _F]) -> None:
        self.connection = connection
        self._decode = decode
        self._open: AsyncIterator[str | bytes] | None = None
        self._fragments: AsyncIterator[str | bytes] | None = None
        self.received_bytes = 0

    async def send(self, frame: Frame, payload: bytes | memoryview = b"") -> None:
        """Send a frame and the bytes behind it; waits while the peer does not read."""
        head = encode(frame)
        if not payload:
            await self.connection.send(head)
            return

        def fragments() -> Iterator[bytes | memoryview]:
            yield head
            view = memoryview(payload)
            for start in range(0, len(view), FRAGMENT_BYTES):
                yield view[start : start + FRAGMENT_BYTES]

        await self.connection.send(fragments())

    async def receive(self) -> _F:
        """The next frame.  When it has bytes behind it, take them with ``payload`` before anything else."""
        if self._fragments is not None:
            raise RuntimeError("the bytes behind the last frame were not taken")
        self._open = fragments = self.connection.recv_streaming(decode=False)
        head = await anext(fragments)
        if isinstance(head, str):  # cannot be with decode=False; for the type checker
            raise RefusedError(Refusal.MALFORMED, "a text frame")
        self.received_bytes += len(head)
        frame = self._decode(bytes(head))
        if getattr(frame, "size", 0):
            self._fragments = fragments
        else:
            await self._end(fragments)
        return frame

    async def payload(self, size: int) -> bytearray:
        """The ``size`` bytes behind the frame that was just received."""
        if self._fragments is None:
            raise RuntimeError("no bytes follow this frame")
        fragments, self._fragments = self._fragments, None
        taken = bytearray()
        async for part in fragments:
            taken += part if isinstance(part, bytes) else part.encode()
            self.received_bytes += len(part)
            if len(taken) > size:
                raise RefusedError(Refusal.MALFORMED, f"more bytes than the {size} that the frame says")
        if len(taken) != size:
            raise RefusedError(Refusal.MALFORMED, f"{len(taken)} bytes behind a frame that says {size}")
        return taken

    async def discard(self) -> None:
        """Throw away what still comes, until the connection is closed: a peer that is still sending reads nothing."""
        with suppress(ConnectionClosed):
            while True:
                if self._open is not None:
                    async for _ in self._open:
                        pass
                self._open = self.connection.recv_streaming(decode=False)

    @staticmethod
    async def _end(fragments: AsyncIterator[str | bytes]) -> None:
        async for part in fragments:
            if part:
                raise RefusedError(Refusal.MALFORMED, "bytes behind a frame that has none")


@final
class ByteBudget:
    """So many bytes may be held at the same time; whoever asks for more waits, first come, first served."""

    def __init__(self, capacity: int) -> None:
        self._free = self.capacity = capacity
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold ``size`` bytes for the length of the block; at most the capacity."""
        if self._waiting or size > self._free:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((size, turn))
            try:
                await turn
            except asyncio.CancelledError:
                self._give_back(size if turn.done() and not turn.cancelled() else 0)
                raise
        else:
            self._free -= size
        try:
            yield
        finally:
            self._give_back(size)

    def _give_back(self, size: int) -> None:
        self._free += size
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.cancelled():
                self._waiting.popleft()
            elif wanted <= self._free:
                self._waiting.popleft()
                self._free -= wanted
                turn.set_result(None)
            else:
                break
