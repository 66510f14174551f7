"""MASK on several threads: each adds clients' vectors to a partial sum of its own (decision 36).

Threads serve, since a vector is added without the GIL; to carry it to another process would take longer than to add it.
What they are given is in the journal already.  After a restart the journal's messages are taken once more, into new
partial sums: snapshots are made when a phase is closed, and then none is open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, final

from secagg.events import Admitted, AlreadyMasked, InHand, Misbehaved, ServerEvent
from secagg.pairwise.partial import PartialSum
from secagg.pairwise.phases import ServerState
from secagg.pairwise.server import Server

Taken: TypeAlias = tuple[int, bytes | bytearray]
"""A sender's index, and its message."""


@final
class SharedIntake:
    """Takes a round's messages in, its masked vectors on several threads.  One thread at a time calls it."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="secagg-intake")
        self._partials: list[PartialSum] = []

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def receive(self, server: Server, news: Sequence[Taken]) -> list[ServerEvent]:
        """What ``Server.receive`` says to each of these, in their order."""
        if self._threads == 1 or server.phase is not ServerState.MASK:
            return [server.receive(sender, data).event for sender, data in news]
        events: dict[int, ServerEvent] = {}
        left: Sequence[int] = range(len(news))
        while left := self._take(server, news, left, events):
            pass
        if server.missing <= server.in_hand.keys():  # nobody else is awaited: the phase may be closed
            self.merge(server)
        return [events[position] for position in range(len(news))]

    def merge(self, server: Server) -> None:
        """Count what the threads have added; called before MASK is closed."""
        partials, self._partials = self._partials, []
        for partial in partials:
            server.merge(partial)

    def _take(
        self, server: Server, news: Sequence[Taken], positions: Sequence[int], events: dict[int, ServerEvent]
    ) -> Sequence[int]:
        """One message of each sender; returns the positions of those that must wait for the sender's first one."""
        if not self._partials:
            self._partials = [server.open_partial() for _ in range(self._threads)]
        given: list[list[int]] = [[] for _ in self._partials]
        first: set[int] = set()
        waiting = []
        for position in positions:
            sender, data = news[position]
            place = position % self._threads
            event = _admitted(server, self._partials[place], sender, data)
            if isinstance(event, Admitted):
                given[place].append(position)
                first.add(sender)
            elif isinstance(event, InHand):
                if sender in first:
                    waiting.append(position)  # the first one may yet be refused, and this one taken
                else:
                    events[position] = AlreadyMasked(sender)
            else:
                events[position] = event
        for partial, places, added in zip(
            self._partials, given, self._pool.map(_adding(news), self._partials, given), strict=True
        ):
            for position, event in zip(places, added, strict=True):
                if isinstance(event, Misbehaved):
                    server.refuse(event, partial.name)
                events[position] = event
        return waiting


def _admitted(server: Server, partial: PartialSum, sender: int, data: bytes | bytearray) -> ServerEvent:
    header = partial.header(sender, data)
    if isinstance(header, Misbehaved):
        server.refuse(header)
        return header
    return server.admit(sender, header, partial.name).event


def _adding(news: Sequence[Taken]) -> Callable[[PartialSum, list[int]], list[ServerEvent]]:
    """What a thread does: it adds the messages at some positions to its partial sum, one after the other."""

    def adds(partial: PartialSum, positions: list[int]) -> list[ServerEvent]:
        return [partial.add(*news[position]) for position in positions]

    return adds
