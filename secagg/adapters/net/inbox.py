"""Clients' messages on their way to a round: a queue that is emptied in batches, and the verdicts that come back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from secagg.adapters.net.clock import Clock
from secagg.adapters.net.frames import Refusal, RefusedError

_BATCH: Final = 256
_QUEUE: Final = 256
"""Messages that are journalled with one sync of the disk at most, and messages that wait for it: a thousand clients
that answer at once take some syncs, and not a thousand.  Any numbers near these serve."""


@final
@dataclass(frozen=True, slots=True)
class Submitted:
    """A message, and where its verdict goes."""

    index: int
    phase: str
    data: bytes | bytearray
    verdict: asyncio.Future[str]

    @property
    def is_abandoned(self) -> bool:
        """Whether its connection is gone: nobody waits for the verdict."""
        return self.verdict.cancelled()


@final
class Inbox:
    """Messages on their way to the round, in order.  Make it inside a running event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: asyncio.Queue[Submitted] = asyncio.Queue(_QUEUE)
        self.is_closed = False

    async def submit(self, index: int, phase: str, data: bytes | bytearray) -> str:
        """Hand in a message; returns its verdict.  Waits while the queue is full.  Raises RefusedError when closed."""
        if self.is_closed:
            raise stops()
        item = Submitted(index, phase, data, asyncio.get_running_loop().create_future())
        await self._queue.put(item)
        if self.is_closed:  # while this waited for room
            reject([item])
        return await item.verdict

    async def batch(self, seconds: float | None) -> list[Submitted]:
        """What waits, as soon as there is something; empty after so many seconds."""
        try:
            async with self._clock.timeout(seconds):
                batch = [await self._queue.get()]
        except TimeoutError:
            return []
        while len(batch) < _BATCH and not self._queue.empty():
            batch.append(self._queue.get_nowait())
        return batch

    def close(self) -> None:
        """Nothing is taken any more; who waits is told to try again."""
        self.is_closed = True
        while not self._queue.empty():
            reject([self._queue.get_nowait()])


def answer(batch: Sequence[Submitted], verdicts: Sequence[str]) -> None:
    """Give everybody that still waits the verdict."""
    for item, verdict in zip(batch, verdicts, strict=True):
        if not item.verdict.done():
            item.verdict.set_result(verdict)


def reject(batch: Sequence[Submitted]) -> None:
    """Nobody may wait for a verdict that does not come."""
    for item in batch:
        if not item.verdict.done():
            item.verdict.set_exception(stops())
            item.verdict.exception()  # it is no news if the client is gone


def stops() -> RefusedError:
    """What a client is told when the server goes, and will come back."""
    return RefusedError(Refusal.SERVER_STOPS, "the server stops; try again")
