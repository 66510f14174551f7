"""A server and the promises of its host: phases end in time, and nothing leaves before it is stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final, final

from secagg.errors import ParameterError, StateError
from secagg.events import Accepted, ClientAborted, ServerEvent
from secagg.machines import ServerMachine
from secagg.outcome import Outgoing

_NOTHING: Final = Outgoing((), lambda index: b"")


@final
class Coordinator:
    """Moves one server through its phases, for a host that carries messages in any way.

    The host calls ``open`` once, ``receive`` for each message, and ``advance`` after messages and when ``deadline`` has
    come.  It sends what ``open`` and ``advance`` return, or lets clients fetch it with ``message_for``.  When ``over``
    is True, ``server.failure`` or ``server.compute()`` says what the round came to.

    ``store`` and ``record`` make the round survive a restart (R-STATE-5).  ``store`` gets a snapshot before the first
    message that depends on it is handed out, and ``record`` gets each message that changed the server since.  Both must
    be durable when they return.  To go on, restore the server from the last snapshot, hand the recorded messages to
    ``Server.receive`` in their order, and make a new coordinator.  When one of them raises, the server in memory knows
    more than the files do, so that this coordinator refuses every further call.

    One thread at a time calls a coordinator, as with the server.
    """

    def __init__(
        self,
        server: ServerMachine,
        seconds: float | Mapping[str, float],
        *,
        store: Callable[[bytes], object] | None = None,
        record: Callable[[int, bytes], object] | None = None,
    ) -> None:
        """Take charge of a server; no other code may close its phases from now on.

        Args:
            server: a new server, or one that was restored.
            seconds: how long a phase stays open for clients that are missing; one number, or one for each phase of
                the config's threat model, with COMPLAIN and ANSWER where the config has complaints.
            store: writes a snapshot durably in the place of the last one, and begins a new record of messages.
            record: appends a client's index and message durably to the record.

        Raises ParameterError when ``seconds`` lacks a phase, or has a time that is no positive number.
        """
        opened = server.config.phases
        self._seconds = dict(seconds) if isinstance(seconds, Mapping) else dict.fromkeys(map(str, opened), seconds)
        for phase in opened:
            limit = self._seconds.get(phase)
            if limit is None:
                given = ", ".join(map(str, self._seconds)) or "nothing"
                raise ParameterError(f"seconds has no limit for {phase}, only for {given}; give each phase a limit")
            if not 0 < limit < math.inf:
                raise ParameterError(
                    f"seconds gives {phase} {limit!r} seconds; a phase stays open for a positive, finite time"
                )
        self.server = server
        self._store, self._record = store, record
        self._deadline = math.inf
        self._is_open = self._is_behind = False

    @property
    def deadline(self) -> float:
        """When ``advance`` must be called at the latest, on the host's clock; infinite when nothing is awaited."""
        return self._deadline

    @property
    def over(self) -> bool:
        """Whether there is nothing more to collect: the sum can be computed, or the round has ended."""
        return self.server.ready_to_compute or self.server.done

    @property
    def max_message_bytes(self) -> int:
        """The size of the largest message that the open phase accepts; 0 when no phase is open."""
        return 0 if self.over else self.server.config.max_message_bytes(self.server.phase)

    def open(self, now: float) -> Outgoing:
        """Store the server, and return what to send: the invitation or, after a restart, the last messages again.

        ``now`` is the time at which the phase began, in seconds on any clock that does not go back.  A host that
        remembers when the phase began before a restart gives that time; another one gives the clients a whole phase.
        Raises StateError when it was called before.
        """
        self._require_stored()
        if self._is_open:
            raise StateError("open: this coordinator is open already; call advance")
        self._keep()
        self._is_open = True
        self._set_deadline(now)
        return self.server.outgoing()

    def receive(self, sender: int, data: bytes | bytearray | memoryview) -> ServerEvent:
        """Take one message that the host's channel says is ``sender``'s; returns when it is recorded.

        The event is that of ``Server.receive``, which never raises for what a peer sent.  A message of which nothing
        counts is not recorded, though its sender is blamed: a flood of such messages must not fill a disk.
        """
        self._require_open()
        missing = self.server.missing
        was_missing = sender in missing
        event = self.server.receive(sender, data).event
        # Some shares of an UNMASK message may be bad: the event is Misbehaved then, and the good ones count.
        counts = was_missing and sender not in missing
        if self._record is not None and (counts or isinstance(event, Accepted | ClientAborted)):
            self._is_behind = True
            self._record(sender, bytes(data))
            self._is_behind = False
        return event

    def advance(self, now: float) -> Outgoing:
        """Close the phase when nobody is missing or its deadline has come; return what to send, or nothing.

        The snapshot is stored before this returns.  ``now`` is on the clock that ``open`` was given.
        """
        self._require_open()
        if self.over or (self.server.missing and now < self._deadline):
            return _NOTHING
        outgoing = self.server.close_phase()
        self._keep()
        self._set_deadline(now)
        return outgoing

    def message_for(self, index: int) -> bytes | None:
        """What the server has for one client now, or None: for hosts whose clients fetch their messages.

        It stays the same until the phase is closed, so ``server.phase`` tells a client whether it is new.
        """
        self._require_open()
        return self.server.outgoing().to(index)

    def _keep(self) -> None:
        self._is_behind = True
        if self._store is not None:
            self._store(self.server.snapshot())
        self._is_behind = False

    def _set_deadline(self, now: float) -> None:
        self._deadline = math.inf if self.over else now + self._seconds[self.server.phase]

    def _require_stored(self) -> None:
        if self._is_behind:
            raise StateError(
                "the coordinator's server could not be stored; restore one from the last snapshot and record"
            )

    def _require_open(self) -> None:
        self._require_stored()
        if not self._is_open:
            raise StateError("the coordinator is not open yet; call open first, and send what it returns")
