"""How the public calls of a machine are made: one at a time, and without a secret left in a traceback.

An exception keeps its traceback, a traceback its frames, and a frame the local variables that it had: keys, shares and
inputs, for as long as the exception lives, within reach of every debugger and of every logger that prints variables.
When a call fails, its frames have ended by the time the exception leaves it, and what they held is dropped here.
"""

from __future__ import annotations

import sys
import threading
import traceback
from types import TracebackType
from typing import final

from secagg.errors import StateError


@final
class ClearedOnError:
    """A context: of an exception that leaves it, all frames that have ended lose their local variables.

    Also those of its causes and of the exceptions that it came out of; but what the caller was handling before is the
    caller's and stays.  The frame that holds the ``with`` still runs: it must have no secret in a variable of its own.
    """

    __slots__ = ("_handled",)

    def __enter__(self) -> None:
        self._handled = sys.exception()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            _clear(error, self._handled)


def _clear(error: BaseException, handled: BaseException | None) -> None:
    waiting: list[BaseException | None] = [error]
    known = {id(handled)}
    while waiting:
        link = waiting.pop()
        if link is None or id(link) in known:
            continue
        known.add(id(link))
        traceback.clear_frames(link.__traceback__)
        waiting += [link.__cause__, link.__context__]
        if isinstance(link, BaseExceptionGroup):
            waiting += link.exceptions


@final
class OneCall:
    """Lets one call of a machine be under way at a time: ``with self._one_call("receive"):``.

    It never waits: whoever comes second gets a StateError, and the machine is as it was.  Clears what fails.
    """

    __slots__ = ("_busy", "_whose")

    def __init__(self, whose: str) -> None:
        """``whose`` names the machine in errors."""
        self._whose = whose
        self._busy = threading.Lock()

    def __call__(self, call: str) -> _Call:
        """The context of one call."""
        return _Call(self._busy, call, self._whose)


@final
class _Call:
    __slots__ = ("_busy", "_cleared", "_name", "_whose")

    def __init__(self, busy: threading.Lock, name: str, whose: str) -> None:
        self._busy, self._name, self._whose = busy, name, whose
        self._cleared = ClearedOnError()

    def __enter__(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise StateError(
                f"{self._name}: another call of this {self._whose} is under way; a {self._whose} takes one call at a "
                "time, from one thread at a time"
            )
        self._cleared.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._busy.release()
        self._cleared.__exit__(kind, error, trace)
