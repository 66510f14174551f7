"""The stage that a round is in, as others than the round are told of it.

The protocol's server is called on a thread of the round's own.  Connections and the status page, which other threads
serve, look at this copy, and never at what that thread changes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self, final

from secagg.adapters.net.clock import Clock
from secagg.adapters.net.statements import Statements
from secagg.pairwise.server.machine import Server


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """What a close of a phase has begun.  A round replaces it as a whole, so that nobody sees half of a change.

    Attributes:
        name: the server's phase.
        expected: how many messages, or statements, it waits for in all.
        awaited: whose have not been taken yet.
        participants: who gets the message that it begins with.
        dropped: by phase, who was lost before it.
        opened, deadline: when it began and when it ends, in seconds of ``Clock.monotonic``.
    """

    name: str = ""
    expected: int = 0
    awaited: tuple[int, ...] = ()
    participants: frozenset[int] = frozenset()
    dropped: dict[str, tuple[int, ...]] = field(default_factory=dict)
    opened: float = 0.0
    deadline: float = 0.0

    @classmethod
    def of(cls, server: Server, statements: Statements | None) -> Self:
        """The stage that a server is in now; no thread may be calling the server meanwhile, nor in ``after_news``."""
        participants = frozenset(server.missing)
        begun = cls(
            name=server.phase.value,
            expected=len(participants if statements is None else statements.asked),
            participants=participants,
            dropped=dict(server.dropped),
        )
        return begun.after_news(server, statements)

    @property
    def arrived(self) -> int:
        """How many messages have been taken."""
        return self.expected - len(self.awaited)

    def after_news(self, server: Server, statements: Statements | None) -> Self:
        """The same stage when messages have been taken; a vector in a thread's hand is awaited no more."""
        if statements is not None:
            return replace(self, awaited=statements.awaited)
        in_hand = server.in_hand
        return replace(self, awaited=tuple(client for client in server.missing if client not in in_hand))

    def seconds_left(self, clock: Clock) -> float:
        """How many seconds it still has."""
        return max(0.0, self.deadline - clock.monotonic())

    def between(self, opened: float, deadline: float) -> Self:
        """The same stage, with its time."""
        return replace(self, opened=opened, deadline=deadline)
