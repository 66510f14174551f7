"""With groups: which of them go on at the close of a phase, and which are left out (R-GROUP-4).

A group that is left out takes nothing with it: nobody outside of it holds shares of its members' secrets or has masks
in common with them.  Its members are told to leave, as everybody is whom a close goes on without.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from secagg.errors import AbortCode, PeerError
from secagg.outcome import Failure
from secagg.pairwise.phases import Phase
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Advertised, Ids


def going_on(attendance: Attendance, phase: Phase, able: Ids, advertised: Advertised) -> Ids:
    """Those of the able members whose groups go on; the other groups are noted as left out.

    Without groups these are all of them: whether they are enough, ``require_enough`` says.
    """
    config = advertised.round.config
    if config.groups == 1:
        return able
    needed = config.quorum if phase is Phase.CONFIRM else config.min_group
    counts = np.bincount(numbers_of(able, advertised), minlength=config.groups)
    for group in np.flatnonzero(counts < needed).tolist():
        size = len(advertised.graph.members_of(group))
        reason = f"{counts[group]} of the {size} members of group {group} could go on; {needed} are needed"
        leave_out(attendance, phase, group, reason)
    return members_of_others(able, attendance.failed_groups, advertised)


def leave_out(attendance: Attendance, phase: str, group: int, reason: str) -> None:
    """Note that a group has too few members that can go on, and no sum; what was noted first stays."""
    attendance.failed_groups.setdefault(group, Failure(phase, reason, AbortCode.TOO_FEW_CLIENTS))


def fail(attendance: Attendance, phase: str, group: int, refused: PeerError) -> None:
    """Note that a group has no sum because a member broke a rule, and which member, if that is known."""
    failure = Failure(phase, str(refused), AbortCode.PROTOCOL_VIOLATION, culprit=refused.culprit)
    attendance.failed_groups.setdefault(group, failure)


def members_of_others(members: Ids, failed: Collection[int], advertised: Advertised) -> Ids:
    """Those of the members, in order, whose groups did not fail."""
    if not failed:
        return members
    numbers = numbers_of(members, advertised)
    return tuple(np.asarray(members, dtype=np.int64)[~np.isin(numbers, list(failed))].tolist())


def by_group(members: Ids, advertised: Advertised) -> Mapping[int, Ids]:
    """The members of each group among these, by ascending number of the group; without groups all under 0."""
    if advertised.round.config.groups == 1:
        return {0: members}
    found: dict[int, list[int]] = {}
    for member, group in zip(members, numbers_of(members, advertised).tolist(), strict=True):
        found.setdefault(group, []).append(member)
    return {group: tuple(found[group]) for group in sorted(found)}


def numbers_of(members: Ids, advertised: Advertised) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The number of each member's group, shape (members,); zeros without groups."""
    numbers: np.ndarray[tuple[int], np.dtype[np.int64]] = advertised.group_numbers[list(members)]
    return numbers
