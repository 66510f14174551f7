"""MASK on more workers than one: partial sums are opened, filled elsewhere, and merged (decision 0033).

An open partial sum has a name, and a client is admitted to one of them at most.  A name is merged once or dropped once,
and is unknown from then on.  So an input cannot count twice, whatever becomes of the workers and of what they send.
"""

from __future__ import annotations

from collections.abc import Iterable

from secagg.errors import ParameterError
from secagg.outcome import Merged
from secagg.pairwise.partial import MAX_PARTIALS, PartialSum
from secagg.pairwise.phases import Phase
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Ids, Masking


def open_partial(masking: Masking, name: str) -> PartialSum:
    """A partial sum of this name, of nobody so far.  Raises ParameterError when too many are open."""
    if len(masking.partials) >= MAX_PARTIALS:
        raise ParameterError(f"open_partial: {MAX_PARTIALS:,} partial sums are open; merge or drop some before")
    advertised = masking.advertised
    config = advertised.round.config
    numbers = advertised.group_numbers if config.groups > 1 else None
    masking.partials[name] = []
    return PartialSum(config, advertised.session, name, numbers)


def require_open(masking: Masking, name: str) -> None:
    """Raise ParameterError unless this is the name of an open partial sum."""
    if name not in masking.partials:
        raise ParameterError(
            f"no partial sum {name!r:.40} is open: it was merged or dropped, or it was opened after the snapshot that "
            "this server was restored from; what it holds is not in the sum"
        )


def admit(masking: Masking, attendance: Attendance, sender: int, name: str) -> None:
    """Leave a client's masked input to an open partial sum."""
    masking.partials[name].append(sender)
    attendance.in_hand[sender] = name


def merge(masking: Masking, attendance: Attendance, partial: PartialSum) -> Merged:
    """Count whom the partial sum holds, and close it and all that were merged into it.

    Raises ParameterError, and changes nothing, when it is of another round, when it is not open, or when it holds a
    client that was not admitted to it.
    """
    advertised = masking.advertised
    partial.require_round(advertised.round.config, advertised.session)
    for name, members in partial.parts.items():
        require_open(masking, name)
        for member in members:
            if attendance.in_hand.get(member) != name:
                raise ParameterError(
                    f"merge: client {member} is in the partial sum {name}, and was not admitted to it; admit each "
                    "client before its input is added"
                )
    masking.sums.merge(advertised.round.config, partial.sums, partial.groups)
    for member in partial.members:
        attendance.answer(Phase.MASK, member, b"")  # masked inputs are not hashed
    return Merged(partial.members, _close(masking, attendance, partial.parts))


def drop(masking: Masking, attendance: Attendance, name: str) -> Ids:
    """Close a partial sum that will not arrive; returns who was admitted to it, ascending: they are awaited again."""
    require_open(masking, name)
    return _close(masking, attendance, (name,))


def _close(masking: Masking, attendance: Attendance, names: Iterable[str]) -> Ids:
    awaited: set[int] = set()
    for name in names:
        awaited.update(member for member in masking.partials.pop(name) if attendance.in_hand.get(member) == name)
    for member in awaited:
        del attendance.in_hand[member]
    return tuple(sorted(awaited))
