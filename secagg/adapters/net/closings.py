"""What the closing of a connection says, when no frame says it: whether to connect again, or to end."""

from __future__ import annotations

from typing import Final

from websockets.exceptions import ConnectionClosed

from secagg.adapters.net.channel import CLOSE_POLICY
from secagg.adapters.net.frames import Refusal, RefusedError

_TOO_LARGE: Final = 1009
_MALFORMED: Final = frozenset({1002, 1003, 1007, 1010})


def final_refusal(closed: ConnectionClosed) -> RefusedError | None:
    """The refusal that a closing stands for; None for a line that was lost, or a server that stops.

    The code may be one after which a client tries again.
    """
    received, sent = closed.rcvd, closed.sent
    if received is not None and closed.rcvd_then_sent is not False:
        return _refused_by_the_server(received.code, received.reason)
    if sent is not None and sent.code == _TOO_LARGE:
        return RefusedError(Refusal.TOO_LARGE, "the server sent more bytes at once than belong to this round")
    if sent is not None and sent.code in _MALFORMED:
        return RefusedError(Refusal.MALFORMED, "the server sent what is no WebSocket message")
    return None


def _refused_by_the_server(code: int, reason: str) -> RefusedError | None:
    if code == CLOSE_POLICY:
        known = reason in set(Refusal)
        return RefusedError(Refusal(reason) if known else Refusal.OTHER, "the server closed the connection for good")
    if code == _TOO_LARGE:
        return RefusedError(Refusal.TOO_LARGE, "the server takes no message as large as this client's")
    if code in _MALFORMED:
        return RefusedError(Refusal.MALFORMED, "the server does not understand what this client sent")
    return None
