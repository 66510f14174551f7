"""CONFIRM (``active``): survivors sign the set of survivors; each signer gets a quorum of signatures over it."""

from __future__ import annotations

from secagg.outcome import MakeMessage
from secagg.pairwise import messages
from secagg.pairwise.messages import Confirm, Confirmations
from secagg.pairwise.phases import Phase
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_quorum
from secagg.pairwise.server.records import Confirmed, Confirming, Ids, Masked


def begin(masked: Masked) -> Confirming:
    """Open the phase, in which nobody has signed yet."""
    return Confirming(masked)


def take(confirming: Confirming, sender: int, message: Confirm) -> None:
    """A signature over the very survivors that this server shows."""
    advertised = confirming.advertised
    labels = advertised.round.config.labels
    signed = labels.signed_survivors(advertised.session, confirming.masked.bitmap)
    rules.confirmation_signed(advertised.round.identity_key(sender), signed, message.signature, sender)
    confirming.signatures[sender] = message.signature


def close(confirming: Confirming, attendance: Attendance) -> tuple[Confirmed, Ids]:
    """Who did not sign is not asked to unmask: it could not check the others' signatures."""
    masked, config = confirming.masked, confirming.advertised.round.config
    signers = tuple(sorted(confirming.signatures))
    members = groups.going_on(attendance, Phase.CONFIRM, signers, confirming.advertised)
    confirmed = Confirmed(masked, {member: confirming.signatures[member] for member in members})
    attendance.lose(Phase.CONFIRM, set(masked.members).difference(members))
    require_quorum(attendance, Phase.CONFIRM, members, config)  # R-CONFIRM-3
    return confirmed, members


def messages_of(confirmed: Confirmed) -> MakeMessage:
    """R-CONFIRM-4: Q confirmations, the same for everybody; more would prove no more.

    With groups, everybody gets those of its own (R-GROUP-7).
    """
    advertised = confirmed.masked.advertised
    config, numbers = advertised.round.config, advertised.group_numbers

    def confirmations_by(members: Ids) -> bytes:
        signers = members[: config.quorum]
        signatures = b"".join(confirmed.signatures[signer] for signer in signers)
        bitmap = messages.encode_bitmap(signers, config.clients)
        return messages.encode(Confirmations(config.version, advertised.session, bitmap, signatures))

    made = {
        group: confirmations_by(members) for group, members in groups.by_group(confirmed.members, advertised).items()
    }
    return lambda index: made[int(numbers[index])]
