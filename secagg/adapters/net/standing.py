"""How each client stands in a round: what of it was refused, how often it may still try, what it is told at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

import msgspec

from secagg.pairwise.phases import Phase

_BROKEN: Final = 4
"""Messages of one client in one phase that break a rule; then it is cut off until the next phase."""
_IN_VAIN: Final = 32
"""Others that are not accepted: repeated, late, or broken off.  A line that breaks causes some of them."""
_MOST_ENTRIES: Final = 16
"""Refusals of one client that are kept for the status page: more of them say nothing new."""


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Something that was refused, in a phase.

    Attributes:
        seat: whose message it was, or who left.
        phase: when.
        code: the rule that was broken; with ``by_client`` the client's own ABORT code.
        by_client: the client refused, and left the round.
    """

    seat: int
    phase: str
    code: str
    by_client: bool = False

    def __str__(self) -> str:
        return f"left in {self.phase} ({self.code})" if self.by_client else f"{self.phase} refused ({self.code})"


@final
class Standing:
    """What is known of the clients of a round besides what the server of the protocol knows."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, str, str], Entry] = {}
        self._broken: Counter[int] = Counter()
        self._in_vain: Counter[int] = Counter()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What was refused, each (client, phase, code) once."""
        return tuple(self._entries.values())

    @property
    def departed(self) -> frozenset[int]:
        """Who left by itself."""
        return frozenset(entry.seat for entry in self.entries if entry.by_client)

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take up what the journal has."""
        for entry in entries:
            self.record(entry)

    def record(self, entry: Entry) -> bool:
        """Remember it; False when it is known, or when the client has broken so many rules that more say nothing."""
        key = (entry.seat, entry.phase, entry.code)
        if key in self._entries or sum(entry.seat == seat for seat, _, _ in self._entries) >= _MOST_ENTRIES:
            return False
        self._entries[key] = entry
        return True

    def forget(self, seat: int) -> None:
        """Somebody else may have the seat now."""
        self._broken.pop(seat, None)
        self._in_vain.pop(seat, None)
        for key in [key for key in self._entries if key[0] == seat]:
            del self._entries[key]

    # Attempts, of the present phase.

    def new_phase(self) -> None:
        """Everybody may try again."""
        self._broken.clear()
        self._in_vain.clear()

    def count(self, seat: int, *, broke_a_rule: bool) -> bool:
        """Count a message that is not accepted; whether the client may go on."""
        (self._broken if broke_a_rule else self._in_vain)[seat] += 1
        return not self.is_cut_off(seat)

    def is_cut_off(self, seat: int) -> bool:
        """Whether a client has used up its attempts."""
        return self._broken[seat] >= _BROKEN or self._in_vain[seat] >= _IN_VAIN

    # Words.

    def why_lost(self, seat: int, dropped: Mapping[str, Sequence[int]]) -> str | None:
        """Why a client is not in the sum; None when it is, or may still be."""
        for phase in Phase:
            if phase.has_sum or seat not in dropped.get(phase, ()):
                continue
            own = [str(entry) for entry in self.entries if entry.seat == seat]
            return (
                ", ".join(own)
                if own
                else f"its {phase} message did not come in time, or too few of its neighbours' did"
            )
        return None

    def who(self, missing: Iterable[int], name_of: Callable[[int], str]) -> str:
        """Who was waited for in vain, and who was turned away, by name; empty when nobody was."""
        turned_away = {entry.seat: f"{name_of(entry.seat)}: {entry}" for entry in self.entries}
        silent = [name_of(seat) for seat in missing if seat not in turned_away]
        parts = []
        if silent:
            parts.append(f"waited in vain for {listed(silent)}")
        if turned_away:
            parts.append(listed(list(turned_away.values())))
        return "; ".join(parts)


def listed(words: Sequence[str], most: int = 8) -> str:
    """The first words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
