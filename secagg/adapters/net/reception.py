"""How a round takes its clients' messages: first what needs no server, then the journal, then the server.

A batch of messages is journalled with one sync of the disk, and the server sees none that is not in the journal: a
restart takes the very messages that the server acted on.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, final

from secagg.adapters.net.frames import STATEMENT
from secagg.adapters.net.inbox import Submitted
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.round_thread import RoundThread
from secagg.adapters.net.seats import Seats
from secagg.adapters.net.shared_intake import SharedIntake
from secagg.adapters.net.standing import RefusalRecord, Standing
from secagg.adapters.net.statements import Statements
from secagg.adapters.net.verdicts import UNDECIDED, Verdicts
from secagg.errors import ErrorCode
from secagg.events import (
    Accepted,
    Admitted,
    AlreadyMasked,
    ClientAborted,
    Duplicate,
    InHand,
    Late,
    Misbehaved,
    ServerEvent,
)
from secagg.pairwise.server.machine import Server

_log = logging.getLogger("secagg.net.round")
_ACCEPTED: Final = "accepted"

News: TypeAlias = tuple[int, str, bytes | bytearray]
"""A message's sender, its phase, and its bytes."""


@final
class Reception:
    """Takes one round's messages, and says what became of each.

    Attributes:
        verdicts: what is answered without asking the server.
        refused: how many messages broke a rule, by the rule's code.
    """

    def __init__(
        self, spec: RoundSpec, journal: Journal, thread: RoundThread, seats: Seats, standing: Standing
    ) -> None:
        """Nothing has come yet; one thread takes vectors in."""
        self._spec, self._journal, self._thread = spec, journal, thread
        self._seats, self._standing = seats, standing
        self._intake = SharedIntake(1)
        self._new_records: list[RefusalRecord] = []
        self.verdicts = Verdicts(standing, seats)
        self.refused: dict[str, int] = {}

    def use_threads(self, threads: int) -> None:
        """Have so many threads take vectors in; called before anything has come."""
        self._intake = SharedIntake(threads)

    def close(self) -> None:
        """End those threads."""
        self._intake.close()

    async def take(self, server: Server, batch: Sequence[Submitted]) -> list[str]:
        """What becomes of each message.  The server sees none that is not in the journal."""
        verdicts = [self.verdicts.on_message(server, item.index, item.phase, item.data) for item in batch]
        news = [
            (item.index, item.phase, item.data)
            for item, verdict in zip(batch, verdicts, strict=True)
            if verdict == UNDECIDED
        ]
        if news:
            await self._journal.append(self._spec.name, [(index, data) for index, _, data in news])
        decided = iter(await self.act(server, news))
        await self._store_records()
        return [verdict or next(decided) for verdict in verdicts]

    async def act(self, server: Server, news: Sequence[News]) -> list[str]:
        """Hand journalled messages to the server; returns its verdicts."""
        if not news:
            return []
        taken = [(index, data) for index, _, data in news]
        events = await self._thread.run(lambda: self._intake.receive(server, taken))
        for (index, phase, data), event in zip(news, events, strict=True):
            if isinstance(event, Accepted) and event.phase == phase:
                self.verdicts.take(index, phase, data)
                self._seats.bind(index)
        return [self._note(event) for event in events]

    async def merge(self, server: Server) -> None:
        """Have the server count what threads have added; called before a phase is closed."""
        await self._thread.run(lambda: self._intake.merge(server))

    async def record_disputed(self, server: Server) -> None:
        """Whom the server named when it counted the complaints: no message of theirs was refused (R-COMPLAIN-10)."""
        for entry in server.blame:
            if entry.code is ErrorCode.DISPUTED:
                self._note(Misbehaved(entry.sender, entry.phase, entry.code, entry.detail))
        await self._store_records()

    # Statements of members that they did not answer.

    async def judge_statements(self, server: Server, statements: Statements, batch: Sequence[Submitted]) -> list[str]:
        """What becomes of each statement.  None counts that is not in the journal."""
        verdicts, new = await self._thread.run(lambda: statements.judge(server, batch))
        if new:
            await self._journal.append(self._spec.name, list(new.items()))
        self.take_statements(statements, new)
        for item, verdict in zip(batch, verdicts, strict=True):
            if verdict == _ACCEPTED and not item.data:
                statements.take(item.index, b"")
            elif verdict in set(ErrorCode):
                self._refuse(RefusalRecord(item.index, STATEMENT, verdict))
        await self._store_records()
        return verdicts

    def take_statements(self, statements: Statements, new: Mapping[int, bytes | bytearray]) -> None:
        """Count those that the journal has."""
        for index, statement in new.items():
            statements.take(index, bytes(statement))
            self.verdicts.take(index, STATEMENT, statement)

    # What the server says.

    def _note(self, event: ServerEvent) -> str:
        match event:
            case Misbehaved():
                self._refuse(RefusalRecord(event.sender, event.phase, event.code.value))
                return event.code.value
            case ClientAborted():
                self._record("client-left", RefusalRecord(event.sender, event.phase, event.code.name, by_client=True))
                return _ACCEPTED
            case Accepted():
                return _ACCEPTED
            case Late():
                return "late"
            case Duplicate() | AlreadyMasked():
                return "duplicate"
            case Admitted() | InHand():
                raise RuntimeError(f"{event}: the intake settles these itself")

    def _refuse(self, new: RefusalRecord) -> None:
        self.refused[new.code] = self.refused.get(new.code, 0) + 1
        self._record("misbehaved", new)

    def _record(self, event: str, new: RefusalRecord) -> None:
        if self._standing.record(new):
            if new.seat in self._seats.bound:  # an offered seat may be another client's the next moment
                self._new_records.append(new)
            who = {"client": self._spec.name_of(new.seat), "phase": new.phase, "code": new.code}
            _log.warning(event, extra={"fields": {"round": self._spec.name, **who}})

    async def _store_records(self) -> None:
        if self._new_records:
            records, self._new_records = self._new_records, []
            await self._journal.record(self._spec.name, records)
