"""How long a client waits: it counts from the last progress of the round, whatever the server says meanwhile."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, final

from secagg.adapters.net.frames import Progress
from secagg.pairwise.phases import ServerState

_ORDER: Final[dict[str, int]] = {state: place for place, state in enumerate(ServerState)}
_LONGEST_PHASE: Final = 24 * 3600.0
_LONGEST_COMPUTE: Final = 3600.0
"""Seconds that a client waits for a phase, and for the server's computing, whatever the server announces.  A day is
longer than any deadline that an operator has reason to set, and an hour is far above what computing takes in the
largest rounds of ``docs/measured-rounds.md``."""


@final
class Patience:
    """Ends ``seconds`` after the last progress.

    Progress is a step of this client's, a message of its that the server has taken, a phase that begins, or somebody
    who arrives in it.  A server may keep a phase open until its deadline without anybody arriving: a client waits until
    the deadline that is named when the phase begins, a day at most, and ``seconds`` more.  A day and ``seconds`` is all
    that a phase may last, whoever is said to arrive: a server that sends signs of life for ever holds nobody.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        """``clock`` says the time in seconds, which never goes back."""
        self.seconds, self._clock = seconds, clock
        self._until = clock() + seconds
        self._furthest = (-1, 0)
        self._phase_ends = 0.0
        self.heard = False

    def moved(self) -> None:
        """The round has made progress."""
        self.heard = True
        self._until = max(self._until, self._clock() + self.seconds)

    def show(self, progress: Progress, clients: int) -> None:
        """The server says where the round stands.

        Args:
            progress: what it says.
            clients: of the config that this client has joined with; 0 before: who arrives in a round that a client is
                not in is no progress for it.
        """
        self.heard = True
        phase, now = _ORDER.get(progress.phase, -1), self._clock()
        reached = (phase, min(progress.arrived, progress.expected, clients))
        if reached <= self._furthest:
            return
        begins = phase > self._furthest[0]
        self._furthest = reached
        if begins:
            self._phase_ends = now + _LONGEST_PHASE + self.seconds
        announced = _LONGEST_COMPUTE if progress.phase == ServerState.COMPUTE else progress.seconds_left
        patient = min(max(0.0, announced), _LONGEST_PHASE) if begins and math.isfinite(announced) else 0.0
        self._until = max(self._until, min(now + patient + self.seconds, self._phase_ends))

    def seconds_left(self) -> float:
        """The seconds that are left; 0 when it is over."""
        return max(0.0, self._until - self._clock())
