"""Frames over a WebSocket connection."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
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
from secagg.wording import counted

_F = TypeVar("_F")
CLOSE_POLICY: Final = 1008


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

    async def payload(self, size: int, charge: Callable[[int], Awaitable[None]] | None = None) -> bytearray:
        """The ``size`` bytes behind the frame that was just received.

        ``charge`` is awaited with the length of each part before it is kept.
        """
        taken = bytearray()
        async for part in self._parts(size):
            if charge is not None:
                await charge(len(part))
            taken += part
        return taken

    async def digest(self, size: int) -> bytes:
        """SHA-256 of the ``size`` bytes behind the frame that was just received; none of them is kept."""
        hashed = hashlib.sha256()
        async for part in self._parts(size):
            hashed.update(part)
        return hashed.digest()

    async def _parts(self, size: int) -> AsyncIterator[bytes]:
        if self._fragments is None:
            raise RuntimeError("no bytes follow this frame")
        fragments, self._fragments = self._fragments, None
        count = 0
        async for part in fragments:
            count += len(part)
            self.received_bytes += len(part)
            if count > size:
                raise RefusedError(Refusal.MALFORMED, f"more bytes than the {size} that the frame says")
            yield part if isinstance(part, bytes) else part.encode()
        if count != size:
            raise RefusedError(Refusal.MALFORMED, f"{counted(count, 'byte')} behind a frame that says {size:,}")

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
