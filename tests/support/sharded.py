"""MASK of a round taken by several partial sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from secagg import Accepted, Admitted, Misbehaved, PartialSum, Server
from secagg.events import ServerEvent


def offer(server: Server, partial: PartialSum, sender: int, message: bytes) -> ServerEvent:
    """What a host does with a message that came to a worker; the event says what became of it."""
    header = partial.header(sender, message)
    if isinstance(header, Misbehaved):
        server.refuse(header)
        return header
    event = server.admit(sender, header, partial.name).event
    if not isinstance(event, Admitted):
        return event
    added = partial.add(sender, message)
    if isinstance(added, Misbehaved):
        server.refuse(added, partial.name)
    return added


def take(server: Server, split: Sequence[Mapping[int, bytes]]) -> list[PartialSum]:
    """A partial sum for each of these parts, not merged yet."""
    partials = []
    for messages in split:
        partial = server.open_partial()
        for sender, message in messages.items():
            assert offer(server, partial, sender, message) == Accepted(sender, "MASK")
        partials.append(partial)
    return partials


def shared_out(messages: Mapping[int, bytes], place_of: Callable[[int], int], places: int) -> list[dict[int, bytes]]:
    """The messages by place."""
    return [
        {sender: message for sender, message in messages.items() if place_of(sender) == place}
        for place in range(places)
    ]
