"""Which module takes, closes, opens and answers for the phase that is open."""

from __future__ import annotations

from secagg.events import Misbehaved
from secagg.outcome import MakeMessage
from secagg.pairwise.messages import Advertise, Confirm, MaskedInput, Share, ToServer, Unmask
from secagg.pairwise.server import advertise, confirm, mask, share, unmask
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import (
    Advertised,
    Advertising,
    Closed,
    Collector,
    Confirmed,
    Confirming,
    Ids,
    Masked,
    Masking,
    Phase,
    Shared,
    Sharing,
    Unmasked,
    Unmasking,
)
from secagg.pairwise.transitions import ServerState


def take(phase: Phase, sender: int, message: ToServer) -> Misbehaved | None:
    """Take a message of the open phase, the sender's first.

    Returns what was wrong with a part of a message whose other parts count.  Raises PeerError when nothing of it does,
    and then nothing has changed.
    """
    match phase, message:
        case Advertising(), Advertise():
            advertise.take(phase, sender, message)
        case Sharing(), Share():
            share.take(phase, sender, message)
        case Masking(), MaskedInput():
            mask.take(phase, sender, message)
        case Confirming(), Confirm():
            confirm.take(phase, sender, message)
        case Unmasking(), Unmask():
            return unmask.take(phase, sender, message)
        case _:
            raise RuntimeError(f"a {type(message).__name__} is none of {phase}'s messages")
    return None


def close(phase: Collector, attendance: Attendance) -> tuple[Closed, Ids]:
    """The record that the phase is closed with, and who is asked for a message in the next one.

    Notes in the attendance who was lost.  Raises RoundOverError when the round cannot go on.
    """
    match phase:
        case Advertising():
            return advertise.close(phase, attendance)
        case Sharing():
            return share.close(phase, attendance)
        case Masking():
            return mask.close(phase, attendance)
        case Confirming():
            return confirm.close(phase, attendance)
        case Unmasking():
            return unmask.close(phase, attendance)


def begin(state: ServerState, closed: Closed) -> Phase:
    """Open the state that follows on a record."""
    match state, closed:
        case ServerState.SHARE, Advertised():
            return share.begin(closed)
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


def messages_of(phase: Collector) -> MakeMessage:
    """What is sent when the phase opens: the messages of the close before it.

    They hold on to the record of that close, and not to what the phase collects.
    """
    match phase:
        case Advertising(round=round_):
            message = advertise.invitation(round_)
            return lambda index: message
        case Sharing(advertised=advertised):
            return advertise.messages_of(advertised)
        case Masking(shared=shared):
            return share.messages_of(shared)
        case Confirming(masked=masked):
            return mask.messages_of(masked)
        case Unmasking(settled=Masked() as masked):
            return mask.messages_of(masked)
        case Unmasking(settled=Confirmed() as confirmed):
            return confirm.messages_of(confirmed)
        case _:
            raise RuntimeError(f"nothing is sent when {phase} opens")
