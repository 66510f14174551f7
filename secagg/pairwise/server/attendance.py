"""Who answered, who left, who was lost and who is to blame: what a server notes in every phase alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import final

import msgspec

from secagg.errors import AbortCode
from secagg.outcome import Blame, Failure
from secagg.pairwise.phases import Phase


@final
class Attendance(msgspec.Struct, array_like=True, forbid_unknown_fields=True, eq=False):
    """The members of the cohort in one round, from first to last."""

    awaited: dict[int, None]
    """Whose message of the phase is still awaited (an ordered set)."""
    recipients: list[int]
    """Who gets the message of the last close; nobody else is asked for an answer in the phase."""
    dismissed: list[int] = msgspec.field(default_factory=list)
    """Who gets an ABORT with it: whoever was lost in that phase and may still be listening."""
    departed: dict[int, int] = msgspec.field(default_factory=dict)
    """Who sent an ABORT, and its code."""
    digests: dict[Phase, dict[int, bytes]] = msgspec.field(default_factory=dict)
    """By phase and sender: the accepted messages' digests, empty ones for masked inputs."""
    dropped: dict[Phase, list[int]] = msgspec.field(default_factory=dict)
    blame: list[Blame] = msgspec.field(default_factory=list)
    failed_groups: dict[int, Failure] = msgspec.field(default_factory=dict)
    """Why a group was left out, by its number; empty without groups."""
    in_hand: dict[int, str] = msgspec.field(default_factory=dict)
    """In MASK: who was admitted to a partial sum that is not merged yet, and its name.  They are awaited all the same,
    until the sum arrives with their inputs."""

    @classmethod
    def of_cohort(cls, clients: int) -> Attendance:
        """Everybody is invited and awaited."""
        everybody = dict.fromkeys(range(clients))
        return cls(awaited=everybody, recipients=list(everybody))

    def answered(self, phase: Phase) -> Mapping[int, bytes]:
        """Whose message of the phase was accepted, with its digest."""
        return self.digests.get(phase, {})

    def answer(self, phase: Phase, sender: int, digest: bytes) -> None:
        """An awaited message was accepted, or one that was admitted while its sender had not left."""
        self.digests.setdefault(phase, {})[sender] = digest
        self.awaited.pop(sender, None)
        self.in_hand.pop(sender, None)

    def leave(self, sender: int, code: AbortCode) -> None:
        """A client goes, and is heard no more."""
        self.departed[sender] = int(code)
        self.awaited.pop(sender, None)

    def staying(self, members: Iterable[int]) -> list[int]:
        """Those members that have not left, in order."""
        return [member for member in members if member not in self.departed]

    def lose(self, phase: Phase, members: Collection[int]) -> None:
        """The close of a phase goes on without these members."""
        if members:
            self.dropped[phase] = sorted(members)

    def ask(self, participants: Collection[int]) -> None:
        """These members are asked next; who was asked before and is not among them is told to go."""
        self.dismissed = sorted(set(self.staying(self.recipients)).difference(participants))
        self.recipients = self.staying(participants)
        self.awaited = dict.fromkeys(self.recipients)
        self.in_hand = {}

    def await_only(self, asked: Collection[int]) -> None:
        """Of those that take part in the phase, these alone have something to send in it."""
        self.awaited = {member: None for member in self.awaited if member in asked}

    def ask_nobody(self) -> None:
        """The last phase that asks for messages is closed."""
        self.dismissed, self.recipients, self.awaited = [], [], {}

    def await_nobody(self) -> None:
        """The round is over; who was asked last may still be listening."""
        self.awaited, self.in_hand = {}, {}
