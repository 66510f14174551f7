"""The one thread on which a round calls its server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

_T = TypeVar("_T")


@final
class RoundThread:
    """Runs calls one after the other, so that the event loop only moves bytes."""

    def __init__(self, name: str) -> None:
        """``name`` is the round's."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=f"secagg-{name}")

    async def run(self, call: Callable[[], _T]) -> _T:
        """What ``call`` returns, behind all calls that came before it."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        """End the thread behind the call that it is in; what waits behind that is cancelled."""
        self._pool.shutdown(wait=False, cancel_futures=True)
