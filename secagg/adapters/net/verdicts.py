"""What is answered to a client's message without asking the protocol's server: repeats, and what is out of turn."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Final, final

from secagg.adapters.net.frames import ABORT, STATEMENT
from secagg.adapters.net.round_spec import PHASES
from secagg.adapters.net.seats import Seats
from secagg.adapters.net.standing import Standing
from secagg.errors import ErrorCode
from secagg.machines import ServerMachine
from secagg.pairwise.phases import Phase

UNDECIDED: Final = ""
"""The verdict on a message that the server of the protocol must see."""


@final
class Verdicts:
    """Knows which messages of a round were taken."""

    def __init__(self, standing: Standing, seats: Seats) -> None:
        self._standing, self._seats = standing, seats
        self._taken: dict[tuple[int, str], bytes] = {}

    def take(self, index: int, phase: str, data: bytes | bytearray) -> None:
        """The server has accepted this message.  Masked vectors are not hashed: the first one counts."""
        self._taken[index, phase] = b"" if phase == Phase.MASK else _digest(data)

    def on_message(self, server: ServerMachine, index: int, phase: str, data: bytes | bytearray) -> str:
        """The verdict on a message that can change nothing; UNDECIDED for all others."""
        if (index, phase) in self._taken:
            return self.on_repeat(index, phase, _digest(data))
        return self.in_advance(server, index, phase)

    def on_repeat(self, index: int, phase: str, digest: bytes) -> str:
        """The verdict on a message that was taken already, by the SHA-256 digest of the one that came again."""
        taken = self._taken.get((index, phase), digest)
        return "duplicate" if phase == Phase.MASK or taken == digest else ErrorCode.CONFLICT.value

    def in_advance(self, server: ServerMachine, index: int, message_phase: str) -> str:
        """The verdict by sender and phase alone; UNDECIDED when the message itself is needed for it."""
        phase = server.phase.value
        if message_phase == ABORT:
            if index in self._standing.departed:
                return "duplicate"
            # Whoever sits on an offered seat hangs up: its ABORT would end the seat for whoever sits there next.
            return UNDECIDED if index in self._seats.bound else "late"
        if (index, message_phase) in self._taken:
            return "duplicate"
        if message_phase == STATEMENT:  # nobody is asked for one: ``Statements`` gives the verdicts then
            return ErrorCode.WRONG_PHASE.value
        if message_phase != phase:
            late = phase not in PHASES or PHASES.index(message_phase) < PHASES.index(phase)
            return "late" if late else ErrorCode.WRONG_PHASE.value
        return UNDECIDED if index in server.missing else "late"


def after_the_end(index: int, phase: str, included: Collection[int]) -> str:
    """A client whose vector is in the sum, and that never heard so, must not take it for lost."""
    return "duplicate" if phase == Phase.MASK and index in included else "late"


def _digest(data: bytes | bytearray) -> bytes:
    return hashlib.sha256(data).digest()
