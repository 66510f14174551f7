"""What a client's host attaches to its vector, to be revealed in UNMASK: one of several values, by how many were lost.

A host may want to reveal more to the server the more clients are missing from the sum, or less: noise that is exact
however many were lost is made so (Jiang et al., "Dordis", EuroSys 2024).  It gives all the values together with the
vector, when nobody knows yet who will be missing.  The client keeps them as a secret, picks one when it reveals its
shares, and wipes the others (R-ATTACH-3): the number of survivors decides which, and no message can ask for another.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from secagg.errors import InputError, ParameterError
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.values import whole
from secagg.primitives.secret import Secret
from secagg.wording import counted

Attachment: TypeAlias = bytes | Sequence[tuple[int, bytes]]
"""One value for every number of losses, or pairs (the most losses that it is for, value) of ascending losses."""


class Attached(NamedTuple):
    """What a client holds of its host's attachment."""

    losses: tuple[int, ...]
    """The most losses that each value is for, ascending."""
    values: Secret
    """The values, joined."""


def taken(attachment: Attachment | None, config: RoundConfig) -> Attached:
    """R-ATTACH-1: the attachment as the client holds it.

    Raises InputError, which shows none of the values, unless they are what the config asks for.
    """
    size = config.attachment_bytes
    if not size:
        if attachment is not None:
            raise InputError("this round takes no attachment: its config has attachment_bytes = 0")
        return Attached((), Secret(b""))
    if attachment is None:
        raise InputError(
            f"this round asks for an attachment of {counted(size, 'byte')}: give submit(vector, attachment=...)"
        )
    if isinstance(attachment, bytes | bytearray | memoryview):
        attachment = [(config.clients, bytes(attachment))]
    levels = _pairs(attachment)
    losses = tuple(most for most, _ in levels)
    needed = config.clients - config.min_survivors
    if not losses or losses[-1] < needed or any(later <= earlier for earlier, later in itertools.pairwise(losses)):
        raise InputError(
            f"an attachment for losses up to {', '.join(map(str, losses)) or 'none'}: the numbers must ascend, and the "
            f"last be at least {needed}, the most clients that may be missing from a sum of this round"
        )
    for most, value in levels:
        if len(value) != size:
            raise InputError(
                f"the attachment for losses up to {most} has {counted(len(value), 'byte')}; this round's have {size:,}"
            )
    return Attached(losses, Secret(b"".join(value for _, value in levels)))


def revealed(losses: Sequence[int], values: Secret, lost: int) -> bytes:
    """R-ATTACH-2: the first of ``taken``'s values that is for at least as many losses as there are.

    Empty in a round without attachments.
    """
    if not losses:
        return b""
    size, place = len(values) // len(losses), bisect_left(losses, lost)
    return values.reveal()[place * size : (place + 1) * size]


def _pairs(attachment: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The pairs of an attachment.  Raises InputError when it is made of something else."""
    wrong = InputError("an attachment is bytes, or a sequence of pairs (the most losses that it is for, bytes)")
    if not isinstance(attachment, Sequence) or isinstance(attachment, str):
        raise wrong
    found: list[tuple[int, bytes]] = []
    for pair in attachment:
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise wrong
        most, value = pair
        if not isinstance(value, bytes | bytearray | memoryview):
            raise wrong
        try:
            found.append((whole("losses", most, 0), bytes(value)))
        except ParameterError:
            raise wrong from None
    return found
