"""COMPUTE: from the keys of masks, which ``opening`` makes of the shares that came back, to the sum and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from secagg import arithmetic
from secagg.outcome import GroupSum, Result, Security
from secagg.pairwise import carrier, messages
from secagg.pairwise.config import RoundConfig
from secagg.pairwise.phases import Phase
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.records import Ids, Lanes, Unmasked
from secagg.primitives import masking

if TYPE_CHECKING:
    from concurrent.futures import Executor


def owners_by_group(unmasked: Unmasked) -> Mapping[int, Ids]:
    """For each group that is opened, whose secrets that takes; without groups one entry."""
    masked, advertised = unmasked.masked, unmasked.advertised
    return groups.by_group(groups.members_of_others(masked.owners, unmasked.failed_groups, advertised), advertised)


def without_masks(
    total: Lanes,
    add: list[bytes],
    subtract: list[bytes],
    config: RoundConfig,
    executor: Executor | None,
    workers: int | None,
) -> Lanes:
    """The sum without its masks, in a new array: an executor that breaks down leaves the masked sum as it was.

    With envelopes this is the sum of their shifted secrets, and ``unsealed`` opens the envelopes with it.
    """
    result = total.copy()
    masking.remove_masks(config.suite, result, add, subtract, config.masked_modulus, executor, workers)
    return result


def unsealed(unmasked: Unmasked, group: int, keys: Lanes) -> Lanes:
    """The sum of a group's vectors, from what ``without_masks`` made: that very array where there are no envelopes.

    Raises PeerError(BAD_ENVELOPE).
    """
    masked, advertised = unmasked.masked, unmasked.advertised
    config = advertised.round.config
    if config.envelope is None:
        return keys
    secrets = carrier.sum_of_secrets(config.envelope, keys, len(groups.by_group(masked.members, advertised)[group]))
    public = carrier.public_polynomials(config, config.envelope, advertised.session)
    total = rules.envelopes_opened(config.envelope, public, masked.envelopes_of(group), secrets)
    return carrier.in_ring(total, config)


def sum_of(sums: Sequence[GroupSum], config: RoundConfig) -> Lanes:
    """The sum over all groups that were opened; of one group it is that group's own array.  All are read-only then."""
    total = sums[0].sum
    if len(sums) > 1:
        total = total.copy()
        for other in sums[1:]:
            arithmetic.add(total, other.sum, config.modulus)
        arithmetic.reduce(total, config.modulus)
    for group in sums:
        group.sum.flags.writeable = False
    total.flags.writeable = False
    return total


def group_sum(unmasked: Unmasked, number: int, total: Lanes) -> GroupSum:
    """What the host is given of one group, with the sum that ``without_masks`` made."""
    return GroupSum(number, groups.by_group(unmasked.masked.members, unmasked.advertised)[number], total)


def result_of(unmasked: Unmasked, attendance: Attendance, sums: Sequence[GroupSum]) -> Result:
    """What the host is given, with the sums of the groups that were opened; there is at least one."""
    session, config = unmasked.advertised.session, unmasked.advertised.round.config
    included = tuple(sorted(member for group in sums for member in group.included))
    bounds = config.bounds
    return Result(
        sum=sum_of(sums, config),
        modulus=config.modulus,
        included=included,
        min_survivors=config.smallest_sum,
        dropped={phase: tuple(members) for phase, members in attendance.dropped.items()},
        blame=tuple(attendance.blame),
        security=Security(
            threat=config.threat_model.value,
            colluders=config.colluders,
            honest_members=min(len(group.included) for group in sums) - config.colluders_in_group,
            sigma=config.sigma,
            privacy_log2=bounds.privacy_log2,
            connectivity_log2=bounds.connectivity_log2,
            correctness_log2=bounds.correctness_log2,
        ),
        session=session,
        attachments=dict(sorted(unmasked.attachments.items())) if config.attachment_bytes else {},
        transcript_digest=config.labels.transcript_digest(session, _transcript(unmasked, attendance, included)),
        groups=tuple(sums),
        failed_groups=dict(sorted(attendance.failed_groups.items())),
    )


def _transcript(unmasked: Unmasked, attendance: Attendance, included: Ids) -> list[bytes]:
    """What the server accepted and decided, without the masked vectors; with groups also whose sums were opened."""
    masked, config = unmasked.masked, unmasked.advertised.round.config
    clients = config.clients
    parts = [
        part
        for phase in Phase
        if phase is not Phase.MASK
        for sender, digest in sorted(attendance.answered(phase).items())
        for part in (phase.encode(), sender.to_bytes(4, "little"), digest)
    ]
    opened = [messages.encode_bitmap(included, clients)] if config.groups > 1 else []
    return [*parts, messages.encode_bitmap(masked.dealers, clients), masked.bitmap, *opened]
