"""A clock that stands still until a test moves it, and the runner that gives every test of the service one.

The clock is the time of the event loop itself.  So one ``move`` moves all there is: the service's deadlines, a client's
patience, and the timers of asyncio, TLS and WebSocket, of which an injected clock would know nothing.

Why it does not jump to the next timer by itself when the loop has nothing to do: sockets are real here, and journals,
stores and machines work on threads.  Bytes that the kernel still carries, or a thread that is still at work, look just
like nothing to do, so that such a clock needs a guess of how long to wait before it jumps, and guesses wrong on a busy
machine.  Here a test says what must have happened (``eventually``), and then how much time passes (``move``): no real
duration decides how a test ends.

A pause between two attempts to connect ends at once: how often a client tries while a test sets things up says nothing.
``pauses`` has how long they would have been.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

_POLL_SECONDS = 0.002
_NAPS = ThreadPoolExecutor(1, thread_name_prefix="nap")
"""Not asyncio's own threads, all of which a test may keep busy."""
_HANG_SECONDS = 60.0
"""Real ones.  No test takes so long: then it waits for a time that nobody moves, or for something that never comes."""


class MovedClock:
    """Starts anywhere; the wall clock moves with the other one, unless a test sets it."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._wall_is_ahead = 1.7e9
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        """See ``Clock``."""
        return self._now

    def wall(self) -> float:
        """See ``Clock``."""
        return self._now + self._wall_is_ahead

    async def sleep(self, seconds: float) -> None:
        """See ``Clock``; it lets the others go on, and takes no time."""
        self.pauses.append(seconds)
        await nap()

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """See ``Clock``."""
        return asyncio.timeout(seconds)

    def move(self, seconds: float) -> None:
        """Let time pass.  Timers that are due run when the test waits next, each of them once."""
        self._now += seconds

    def set_wall(self, seconds: float) -> None:
        """Somebody sets the machine's clock ahead, or back with a negative number: no time passes."""
        self._wall_is_ahead += seconds


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop that lives in the time of a MovedClock."""

    def __init__(self, clock: MovedClock) -> None:
        super().__init__()
        self.clock = clock

    def time(self) -> float:
        """What every timer counts in."""
        return self.clock.monotonic()


def the_clock() -> MovedClock:
    """Of the event loop that runs."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovedLoop), "run the test with moved_clock.run"
    return loop.clock


def run(test: Callable[[], Awaitable[Any]], *, seconds: float = _HANG_SECONDS) -> None:
    """Run a test in a time that it moves itself; it fails when it takes so many real seconds."""
    with asyncio.Runner(loop_factory=lambda: MovedLoop(MovedClock())) as runner:
        runner.run(_limited(test, seconds))


async def _limited(test: Callable[[], Awaitable[Any]], seconds: float) -> None:
    loop, task, clock = asyncio.get_running_loop(), asyncio.current_task(), the_clock()
    assert task is not None
    over = threading.Event()
    hung = False

    def watch() -> None:
        nonlocal hung
        if over.wait(seconds):
            return
        hung = True
        loop.call_soon_threadsafe(task.cancel)
        while not over.wait(_POLL_SECONDS):  # what is cancelled may wait for the time, too
            loop.call_soon_threadsafe(clock.move, 1.0)

    watchdog = threading.Thread(target=watch, daemon=True)
    watchdog.start()
    try:
        await test()
    except asyncio.CancelledError:
        if not hung:
            raise
        pytest.fail(f"the test was not over after {seconds:g} real seconds: does it wait for a time that nobody moves?")
    finally:
        over.set()
        watchdog.join()


async def nap() -> None:
    """Give the other tasks, threads and sockets a moment; no time passes."""
    await asyncio.get_running_loop().run_in_executor(_NAPS, time.sleep, _POLL_SECONDS)


async def eventually(what: Callable[[], Any]) -> None:
    """Wait until it is true."""
    while not what():
        await nap()


async def passing(what: Callable[[], Any], *, step: float = 0.5, most: float = 3600.0) -> None:
    """Let time pass until it is true, ``step`` by ``step``; for what must come, however long it takes."""
    clock, end = the_clock(), the_clock().monotonic() + most
    while not what():
        assert clock.monotonic() < end, f"it has not come true in {most:g} seconds"
        clock.move(step)
        await nap()
