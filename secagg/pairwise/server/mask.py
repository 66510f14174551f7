"""MASK: clients send their masked vectors, which are added up as they arrive; each survivor is told who survived."""

from __future__ import annotations

from secagg.outcome import MakeMessage
from secagg.pairwise import messages
from secagg.pairwise.messages import MaskedInput, Survivors
from secagg.pairwise.phases import Phase
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_enough, require_threshold_around
from secagg.pairwise.server.records import Ids, Masked, Masking, Shared
from secagg.pairwise.sums import MaskedSums


def begin(shared: Shared) -> Masking:
    """Open the phase."""
    return Masking(shared, MaskedSums.empty(shared.advertised.round.config))


def take(masking: Masking, sender: int, message: MaskedInput) -> None:
    """Add it up; a vector that is refused leaves the sum as it was."""
    advertised = masking.advertised
    masking.sums.add(advertised.round.config, sender, int(advertised.group_numbers[sender]), message.vector)


def close(masking: Masking, attendance: Attendance) -> tuple[Masked, Ids]:
    """S: whose vectors are in the sum, if UNMASK can reconstruct all the secrets that this asks for.

    With groups, those that are too few in their group are not in S, and its sum is not kept.
    """
    shared, config = masking.shared, masking.advertised.round.config
    arrived = tuple(sorted(masking.sums.members))  # R-MASK-9: those included that left since
    members = groups.going_on(attendance, Phase.MASK, arrived, masking.advertised)
    for failed in attendance.failed_groups:
        masking.sums.clear(failed)
    masked = Masked(
        shared.advertised,
        dealers=shared.members,
        commitments=shared.commitments,
        seed_commitments=shared.seed_commitments,
        members=members,
        total=masking.sums.total,
        pair_secrets=shared.pair_secrets,
        envelopes=masking.sums.envelopes,
        opened_secrets=shared.opened_secrets,
    )
    attendance.lose(Phase.MASK, set(shared.members).difference(masked.members))
    require_enough(attendance, Phase.MASK, masked.members, config)  # R-MASK-8
    stuck = [owner for owner in masked.owners if masked.surviving_neighbours[owner] < config.threshold]
    require_threshold_around(attendance, Phase.MASK, stuck, config)
    return masked, masked.members


def messages_of(masked: Masked) -> MakeMessage:
    """R-SURVIVORS-1: S, the same for everybody."""
    advertised = masked.advertised
    message = messages.encode(Survivors(advertised.round.config.version, advertised.session, masked.bitmap))
    return lambda index: message
