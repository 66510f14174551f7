"""What a connection that is refused or closed says, when no frame says it: whether to connect again, or to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from secagg.adapters.net.addresses import is_round_name
from secagg.adapters.net.channel import CLOSE_POLICY
from secagg.adapters.net.frames import Refusal, RefusedError
from secagg.adapters.net.policing import PolicedConnection

_TOO_LARGE: Final = 1009
_MALFORMED: Final = frozenset({1002, 1003, 1007, 1010})
_REFUSED_BY_LIBRARY: Final = {
    1002: Refusal.MALFORMED,
    1003: Refusal.MALFORMED,
    1007: Refusal.MALFORMED,
    1009: Refusal.TOO_LARGE,
}
"""Close codes that the WebSocket library sends for what it refuses itself."""
_NO_ROUND: Final = "there is no round of this name"
_OPEN_ROUNDS: Final = "anybody may join: "
_MOST_NAMES: Final = 64
"""Names on the page, and read from one: a person looks for a name among them."""


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


def refused_by_parser(connection: Connection, closed: ConnectionClosed) -> Refusal | None:
    """The rule by which the connection was dropped in the middle of its frames; None when the client closed it."""
    if isinstance(connection, PolicedConnection) and connection.police.broke is not None:
        return connection.police.broke
    sent = None if closed.rcvd_then_sent else closed.sent
    return None if sent is None else _REFUSED_BY_LIBRARY.get(sent.code)


def no_round_page(open_rounds: Sequence[str]) -> str:
    """The body of the answer to a request for a round that is not hosted."""
    names = f"; {_OPEN_ROUNDS}{' '.join(open_rounds[:_MOST_NAMES])}" if open_rounds else ""
    return f"{_NO_ROUND}{names}\n"


def open_rounds_on(page: bytes) -> list[str]:
    """The names on such a page.  Whoever wrote it, what comes out are names of rounds, and not too many."""
    _, found, names = page.decode("ascii", "replace").partition(_OPEN_ROUNDS)
    return [name for name in names.split() if is_round_name(name)][:_MOST_NAMES] if found else []
