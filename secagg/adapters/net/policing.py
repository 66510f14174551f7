"""What a connection may send, judged frame by frame as they are parsed, before any of it is queued.

A WebSocket frame without content takes six bytes to send and a thousand times as long to handle.  So one read from a
socket can hold tens of thousands of frames, and whoever looks at them only when they are taken from the queue is too
late: the frames of that read have cost their time, and those of everybody else wait.  Here the parser itself stops at
the first frame that no honest client sends, and the transport is dropped, not read on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode

from secagg.adapters.net.frames import Refusal

_CONTROL: Final = (16, 1.0)
"""Control frames at once, and a second.  Both sides send a ping every 20 seconds, and answer the other's."""
_MESSAGES: Final = (64, 4.0)
"""Messages at once, and a second.  A whole round takes seven, and an acknowledgement that was lost one more."""
_FREE_FRAGMENTS: Final = 32
_BYTES_PER_FRAGMENT: Final = 1024
"""Beyond the free ones, on average.  Clients send 64 KiB in each; a proxy may cut them into smaller ones."""
_LAST_BYTES: Final = 4096
"""What may still come on a connection that is being closed: a closing handshake."""


@final
class Rate:
    """So many at once, and so many a second: a bucket of tokens that fills up again."""

    def __init__(self, burst: int, per_second: float, now: float) -> None:
        self._burst, self._per_second = burst, per_second
        self._tokens, self._since = float(burst), now

    def take(self, now: float) -> bool:
        """Whether one more is allowed now."""
        self._tokens = min(self._burst, self._tokens + (now - self._since) * self._per_second)
        self._since = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@final
class FramePolice:
    """Judges the frames of one connection."""

    def __init__(self, clock: Callable[[], float]) -> None:
        now = clock()
        self._clock = clock
        self._control, self._messages = Rate(*_CONTROL, now), Rate(*_MESSAGES, now)
        self._fragments = self._bytes = 0
        self.broke: Refusal | None = None
        """The rule that was broken, if one was."""

    def check(self, frame: Frame) -> None:
        """Raises ProtocolError for a frame that no honest client sends."""
        match frame.opcode:
            case Opcode.PING | Opcode.PONG:
                if not self._control.take(self._clock()):
                    self._refuse(Refusal.TOO_MANY_MESSAGES, "too many control frames")
            case Opcode.CLOSE:
                return
            case Opcode.TEXT:
                self._refuse(Refusal.MALFORMED, "a text frame")
            case _:
                self._check_data(frame)

    def _check_data(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self._fragments = self._bytes = 0
            if not self._messages.take(self._clock()):
                self._refuse(Refusal.TOO_MANY_MESSAGES, "too many messages a second")
        if not frame.data and not frame.fin:
            self._refuse(Refusal.MALFORMED, "a fragment without content")
        self._fragments += 1
        self._bytes += len(frame.data)
        if self._fragments > _FREE_FRAGMENTS + self._bytes // _BYTES_PER_FRAGMENT:
            self._refuse(Refusal.MALFORMED, "a message in too many small fragments")

    def _refuse(self, code: Refusal, why: str) -> None:
        self.broke = code
        raise ProtocolError(why)


class PolicedConnection(ServerConnection):
    """A connection that ends at the first frame that breaks a rule, and takes little once it is being closed."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.police = police = FramePolice(
            self.loop.time
        )  # the library makes connections; a Clock's time is the loop's
        self._allowed: int | None = None
        take = self.protocol.recv_frame

        def checked(frame: Frame) -> None:
            police.check(frame)
            take(frame)

        # The parser calls this method for each frame, and turns a ProtocolError into the end of the connection; what
        # is put on the queue of received frames is parsed already.
        self.protocol.recv_frame = checked  # type: ignore[method-assign]

    def allow_no_more_than(self, count: int) -> None:
        """Drop the connection once more bytes than these have come: its peer is told why, and should hang up."""
        self._allowed = count

    def data_received(self, data: bytes) -> None:
        """Called by the transport with what was read."""
        super().data_received(data)
        if self.protocol.parser_exc is not None:
            self.transport.abort()  # whatever is still on its way was not worth reading
            return
        if self._allowed is None and self.protocol.close_expected():
            self._allowed = _LAST_BYTES
        elif self._allowed is not None:
            self._allowed -= len(data)
            if self._allowed < 0:
                self.transport.abort()
