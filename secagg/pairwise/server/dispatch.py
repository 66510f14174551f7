"""Which module takes, closes, opens and answers for the phase that is open."""

from __future__ import annotations

from secagg.events import Misbehaved
from secagg.outcome import MakeMessage
from secagg.pairwise.messages import Advertise, Answer, Complaint, Confirm, MaskedInput, Share, ToServer, Unmask
from secagg.pairwise.phases import ServerState
from secagg.pairwise.server import advertise, complain, confirm, mask, share, unmask
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import (
    Advertised,
    Advertising,
    Answering,
    Closed,
    Collector,
    Complained,
    Complaining,
    Confirmed,
    Confirming,
    Held,
    Ids,
    Masked,
    Masking,
    Shared,
    Sharing,
    Unmasked,
    Unmasking,
)


def take(held: Held, sender: int, message: ToServer) -> Misbehaved | None:
    """Take a message of the open phase, the sender's first.

    Returns what was wrong with a part of a message whose other parts count.  Raises PeerError when nothing of it does,
    and then nothing has changed.
    """
    match held, message:
        case Advertising(), Advertise():
            advertise.take(held, sender, message)
        case Sharing(), Share():
            share.take(held, sender, message)
        case Complaining(), Complaint():
            complain.take_complaint(held, sender, message)
        case Answering(), Answer():
            complain.take_answer(held, sender, message)
        case Masking(), MaskedInput():
            mask.take(held, sender, message)
        case Confirming(), Confirm():
            confirm.take(held, sender, message)
        case Unmasking(), Unmask():
            return unmask.take(held, sender, message)
        case _:
            raise RuntimeError(f"a {type(message).__name__} is none of {held}'s messages")
    return None


def close(collector: Collector, attendance: Attendance) -> tuple[Closed, Ids]:
    """The record that the phase is closed with, and who is asked for a message in the next one.

    Notes in the attendance who was lost.  Raises RoundOverError when the round cannot go on.
    """
    match collector:
        case Advertising():
            return advertise.close(collector, attendance)
        case Sharing():
            return share.close(collector, attendance)
        case Complaining():
            return complain.close_complaints(collector, attendance)
        case Answering():
            return complain.close_answers(collector, attendance)
        case Masking():
            return mask.close(collector, attendance)
        case Confirming():
            return confirm.close(collector, attendance)
        case Unmasking():
            return unmask.close(collector, attendance)


def begin(state: ServerState, closed: Closed) -> Held:
    """Open the state that follows on a record."""
    match state, closed:
        case ServerState.SHARE, Advertised():
            return share.begin(closed)
        case ServerState.COMPLAIN, Shared():
            return Complaining(closed)
        case ServerState.ANSWER, Complained():
            return Answering(closed)
        case ServerState.MASK, Shared():
            return mask.begin(closed)
        case ServerState.CONFIRM, Masked():
            return confirm.begin(closed)
        case ServerState.UNMASK, (Masked() | Confirmed()):
            return unmask.begin(closed)
        case ServerState.COMPUTE, Unmasked():
            return closed
        case _:
            raise RuntimeError(f"{state} does not follow on {closed}")


def asked_of(collector: Collector, members: Ids) -> Ids:
    """Which of the members are sent a message when the phase opens, and are awaited in it: all but in ANSWER."""
    if not isinstance(collector, Answering):
        return members
    return tuple(member for member in members if member in collector.complained.accused)


def messages_of(collector: Collector) -> MakeMessage:
    """What is sent when the phase opens: the messages of the close before it.

    They hold on to the record of that close, and not to what the phase collects.
    """
    match collector:
        case Advertising(round=round_):
            message = advertise.invitation(round_)
            return lambda index: message
        case Sharing(advertised=advertised):
            return advertise.messages_of(advertised)
        case Complaining(shared=shared):
            return share.messages_of(shared)
        case Answering(complained=complained):
            return complain.accusations_of(complained)
        case Masking(shared=shared) if shared.advertised.round.config.complaints:
            return complain.settled_of(shared)
        case Masking(shared=shared):
            return share.messages_of(shared)
        case Confirming(masked=masked):
            return mask.messages_of(masked)
        case Unmasking(settled=Masked() as masked):
            return mask.messages_of(masked)
        case Unmasking(settled=Confirmed() as confirmed):
            return confirm.messages_of(confirmed)
        case _:
            raise RuntimeError(f"nothing is sent when {collector} begins to collect")
