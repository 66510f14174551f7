"""A connection that a TLS worker passes on: its first line tells where the peer is."""

from __future__ import annotations

from typing import Any, Final, final

from secagg.adapters.net.policing import PolicedConnection

_LONGEST_LINE: Final = 128
"""An address and a port; the workers are this program's own."""


@final
class RelayedConnection(PolicedConnection):
    """A connection over the workers' Unix socket, whose directory is its owner's alone."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._first_line = b""
        self._peer: tuple[str, int] | None = None

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """The peer's address and port, as the worker saw them; None before its line has come."""
        return self._peer

    def data_received(self, data: bytes) -> None:
        """Called by the transport with what was read."""
        if self._peer is None:
            line, newline, data = (self._first_line + data).partition(b"\n")
            if not newline:
                self._first_line = line
                if len(line) > _LONGEST_LINE:
                    self.transport.abort()
                return
            address, _, port = line.decode("ascii", "replace").rpartition(" ")
            self._peer = address, int(port) if port.isdecimal() else 0
        if data:
            super().data_received(data)
