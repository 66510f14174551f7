"""Where the service and its clients read the time and wait.

Everything in this package that waits does so through a ``Clock``, so that a test can hand in one that it moves itself.
Waiting is asyncio's: a timeout ends in the time of the event loop that runs it.  The timers of the WebSocket and TLS
libraries count in that same time, so that a clock for tests is an event loop whose time the tests move, and there is
no second time in which a handshake or a closing could still wait.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, Protocol, final


class Clock(Protocol):
    """The time, and ways to wait for it."""

    def monotonic(self) -> float:
        """Seconds that never go back, in the event loop's time: what ``asyncio.Timeout.when`` counts in.

        It may be asked from any thread.
        """
        ...

    def wall(self) -> float:
        """Seconds since 1970, for what must keep its meaning when the process starts again.  They may jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts."""
        ...

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """A limit for the block that it is entered with, ``seconds`` from now; None: there is no limit."""
        ...


@final
class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        """See ``Clock``.  asyncio's event loops count in the same time."""
        return time.monotonic()

    def wall(self) -> float:
        """See ``Clock``."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """See ``Clock``."""
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """See ``Clock``."""
        return asyncio.timeout(seconds)


SYSTEM_CLOCK: Final = SystemClock()
