"""A bound on the bytes of messages that are in memory at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

from secagg.adapters.net.clock import SYSTEM_CLOCK, Clock

_STALL_SECONDS: Final = 5.0
_BYTES_PER_SECOND: Final = 16 * 1024.0
"""A message that holds room must grow by so much a second once it has stalled for ``_STALL_SECONDS``: 16 KiB is an old
modem line's, far below any network on which a vector of megabytes would arrive before its phase ends."""


@final
class Held:
    """What one message holds of the budget; ``charge`` it for bytes as they come."""

    def __init__(self, budget: ByteBudget, size: int, patience: asyncio.Timeout | None, latest: float) -> None:
        self._budget, self._size, self._patience, self._end = budget, size, patience, latest
        self._latest = None if patience is None else patience.when()
        self._due = float("inf")
        self.charged = 0

    @property
    def missing(self) -> int:
        """The bytes that are still to come."""
        return self._size - self.charged

    @property
    def waits_for_nobody(self) -> bool:
        """Whether the message is small enough to pass by others: all such ones together are few bytes."""
        return self._size <= self._budget.small

    async def charge(self, count: int) -> None:
        """Take ``count`` bytes of the budget, or wait until they are free.

        Time spent waiting is not the sender's, and is added to its patience.
        """
        await self._budget.take(self, count)
        if self.missing <= 0:
            self._patience = None  # it is here: its sender can be asked for nothing more

    def waited(self, seconds: float) -> None:
        """Give back to the sender what it waited for others; never beyond the end of its phase."""
        if self._patience is not None and self._latest is not None and not self._patience.expired():
            self._latest = min(self._end, self._latest + seconds)
            self._patience.reschedule(self._latest)

    def hurry(self, seconds: float | None, earned: float = 0.0) -> None:
        """Others wait for this message: it may stand still for so long; None: they do not any more.

        What comes earns it more time, never more than ``seconds`` from now: a byte now and then is standing still, too.
        """
        if self._patience is None or self._latest is None or self._patience.expired():
            return
        if seconds is None:
            self._due = float("inf")
        else:
            self._due = min(self._budget.clock.monotonic() + seconds, self._due + earned)
        self._patience.reschedule(min(self._latest, self._due))


@final
class ByteBudget:
    """So many bytes may be held at the same time; they are taken as they arrive, not as they are announced.

    So a message that was announced and does not come keeps nobody waiting.  When the budget is full of messages that
    are halfway here, the waiting one that lacks the fewest bytes goes beyond the budget, alone, and has to keep coming
    while it does: it is done soonest, and then makes room.  Small messages never wait.
    """

    def __init__(
        self,
        capacity: int,
        *,
        small: int = 2**16,
        stall_seconds: float = _STALL_SECONDS,
        bytes_per_second: float = _BYTES_PER_SECOND,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Make it inside a running event loop.

        Args:
            capacity: bytes; the message that goes beyond it adds at most its own.
            small: messages up to this size do not wait.
            stall_seconds: how long a message that others wait for may stand still.
            bytes_per_second: what comes more slowly than that stands still.
            clock: the event loop's time.
        """
        self.clock = clock
        self.free = self.capacity = capacity
        self.small, self._stall, self._pace = small, stall_seconds, bytes_per_second
        self._waiting: dict[Held, tuple[int, asyncio.Future[None]]] = {}
        self._ahead: Held | None = None

    @contextmanager
    def message(
        self, size: int, patience: asyncio.Timeout | None = None, latest: float = float("inf")
    ) -> Iterator[Held]:
        """A message of ``size`` bytes; what it was charged is free again after the block.

        Args:
            size: bytes that it says it has.
            patience: an entered timeout with a limit, within which the message must be here.
            latest: to when, in the clock's monotonic time, that limit may move for what the message waits for others.
        """
        held = Held(self, size, patience, latest)
        try:
            yield held
        finally:
            if self._ahead is held:
                self._ahead = None
            self.free += held.charged
            self._wake()

    async def take(self, held: Held, count: int) -> None:
        """Do what ``Held.charge`` says."""
        if held is self._ahead:
            held.hurry(self._stall, count / self._pace)
        elif not held.waits_for_nobody and (self._waiting or count > self.free):
            await self._turn(held, count)
            return
        self._charge(held, count)

    async def _turn(self, held: Held, count: int) -> None:
        began, turn = self.clock.monotonic(), asyncio.get_running_loop().create_future()
        self._waiting[held] = count, turn
        self._wake()
        try:
            await turn  # whoever wakes it has charged it
        finally:
            self._waiting.pop(held, None)
        if held is not self._ahead:
            held.waited(self.clock.monotonic() - began)

    def _wake(self) -> None:
        while self._waiting:
            held = min(self._waiting, key=lambda one: one.missing)
            count, turn = self._waiting[held]
            if count > self.free:
                if self._ahead is not None:
                    return
                self._ahead = held
                held.hurry(self._stall)
            del self._waiting[held]
            if not turn.done():
                self._charge(held, count)
                turn.set_result(None)
        if self._ahead is not None and self.free >= 0:
            self._ahead.hurry(None)
            self._ahead = None

    def _charge(self, held: Held, count: int) -> None:
        held.charged += count
        self.free -= count
