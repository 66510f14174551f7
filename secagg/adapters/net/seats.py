"""Who sits where in a round.

With a directory each member has its seat.  In an open round a seat is offered to whoever logs in, and belongs to an
identity once the server has accepted its ADVERTISE.  When its connection ends before that, somebody else may have the
seat: a client that came with a wrong file, or did not like the round, must not cost the others their sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import final


@final
class Seats:
    """The seats of one round, by identity key."""

    def __init__(self, count: int, keys: Sequence[bytes] | None) -> None:
        """``keys``: the directory's, in order of the seats; None for an open round."""
        self._count = count
        self.is_open = keys is None
        self._holders: dict[bytes, int] = {} if keys is None else {key: seat for seat, key in enumerate(keys)}
        self._bound: set[int] = set(self._holders.values())
        self._given_back: dict[int, bytes] = {}
        """Seats that were offered, and to whom, the longest ago first: who comes back gets the same one if it can."""
        self._in_use: Counter[int] = Counter()

    def restore(self, offered: Mapping[int, bytes]) -> None:
        """Take up what the journal has of an open round: to whom which seat was offered last."""
        if self.is_open:
            self._given_back = dict(offered)

    @property
    def bound(self) -> frozenset[int]:
        """Seats that belong to somebody for good."""
        return frozenset(self._bound)

    @property
    def bound_keys(self) -> dict[int, bytes]:
        """By seat, whose it is for good."""
        return {seat: key for key, seat in self._holders.items() if seat in self._bound}

    @property
    def taken(self) -> frozenset[int]:
        """Seats that nobody else can have now."""
        return frozenset(self._holders.values())

    def of(self, key: bytes) -> int | None:
        """The seat that an identity has, or is offered; None."""
        return self._holders.get(key)

    def offer(self, key: bytes) -> int | None:
        """A free seat for an identity that has none; None when all are taken.

        It is offered until the block of ``used`` that follows ends.
        """
        taken = self.taken
        free = [seat for seat in range(self._count) if seat not in taken]
        if not free:
            return None
        before = [seat for seat in free if self._given_back.get(seat) == key]
        untouched = [seat for seat in free if seat not in self._given_back]
        oldest = [seat for seat in self._given_back if seat in free]
        seat = (before + untouched + oldest)[0]
        self._given_back.pop(seat, None)
        self._holders[key] = seat
        return seat

    def bind(self, seat: int) -> None:
        """The server has accepted the ADVERTISE of whoever is offered the seat, or was when the journal stopped."""
        key = self._given_back.pop(seat, None)
        if key is not None and seat not in self.taken:
            self._holders[key] = seat
        self._bound.add(seat)

    @contextmanager
    def used(self, seat: int) -> Iterator[None]:
        """A connection, or a message under way, uses the seat; with the last of them an offer ends."""
        self._in_use[seat] += 1
        try:
            yield
        finally:
            self._in_use[seat] -= 1
            if not self._in_use[seat]:
                del self._in_use[seat]
                self._give_back(seat)

    def _give_back(self, seat: int) -> None:
        if seat in self._bound:
            return
        for key in [key for key, held in self._holders.items() if held == seat]:
            del self._holders[key]
            self._given_back[seat] = key
