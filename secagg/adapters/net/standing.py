"""How each client stands in a round: what of it was refused, how often it may still try, what it is told at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, final

import msgspec

from secagg.pairwise.phases import Phase

_MOST_BROKEN_RULES: Final = 4
"""Messages of one client in one phase that break a rule; then it is cut off until the next phase."""
_MOST_OTHERS: Final = 32
"""Others that are not accepted: repeated, late, or broken off.  A line that breaks causes some of them."""
_MOST_RECORDS: Final = 16
"""Refusals of one client that are kept for the status page: more of them say nothing new."""


class RefusalRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
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
        self._records: dict[tuple[int, str, str], RefusalRecord] = {}
        self._broken_rules: Counter[int] = Counter()
        self._others: Counter[int] = Counter()

    @property
    def records(self) -> tuple[RefusalRecord, ...]:
        """What was refused, each (client, phase, code) once."""
        return tuple(self._records.values())

    @property
    def departed(self) -> frozenset[int]:
        """Who left by itself."""
        return frozenset(record.seat for record in self.records if record.by_client)

    def restore(self, records: Iterable[RefusalRecord]) -> None:
        """Take up what the journal has."""
        for record in records:
            self.record(record)

    def record(self, new: RefusalRecord) -> bool:
        """Remember it; False when it is known, or when the client has broken so many rules that more say nothing."""
        key = (new.seat, new.phase, new.code)
        if key in self._records or sum(new.seat == seat for seat, _, _ in self._records) >= _MOST_RECORDS:
            return False
        self._records[key] = new
        return True

    def forget(self, seat: int) -> None:
        """Somebody else may have the seat now."""
        self._broken_rules.pop(seat, None)
        self._others.pop(seat, None)
        for key in [key for key in self._records if key[0] == seat]:
            del self._records[key]

    # Attempts, of the present phase.

    def new_phase(self) -> None:
        """Everybody may try again."""
        self._broken_rules.clear()
        self._others.clear()

    def count(self, seat: int, *, broke_a_rule: bool) -> bool:
        """Count a message that is not accepted; whether the client may go on."""
        (self._broken_rules if broke_a_rule else self._others)[seat] += 1
        return not self.is_cut_off(seat)

    def is_cut_off(self, seat: int) -> bool:
        """Whether a client has used up its attempts."""
        return self._broken_rules[seat] >= _MOST_BROKEN_RULES or self._others[seat] >= _MOST_OTHERS

    # Words.

    def why_lost(self, seat: int, dropped: Mapping[str, Sequence[int]]) -> str | None:
        """Why a client is not in the sum; None when it is, or may still be."""
        for phase in Phase:
            if phase.has_sum or seat not in dropped.get(phase, ()):
                continue
            own = [str(record) for record in self.records if record.seat == seat]
            return (
                ", ".join(own)
                if own
                else f"its {phase} message did not come in time, or too few of its neighbours' did"
            )
        return None

    def turned_away(self) -> dict[int, RefusalRecord]:
        """The last record of each client of which something was refused, or that left."""
        return {record.seat: record for record in self.records}


def listed(words: Sequence[str], most: int = 8) -> str:
    """The first words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
