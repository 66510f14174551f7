"""CONFIRM: a client is told who survived; it signs that set, or, where nobody confirms, reveals its shares at once."""

from __future__ import annotations

from secagg.events import ClientStep
from secagg.pairwise import messages
from secagg.pairwise.client import unmask
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Confirmed, Ended, Masked
from secagg.pairwise.messages import Confirm, Survivors
from secagg.pairwise.rules import client as rules


def take_survivors(member: Member, record: Masked, message: Survivors) -> tuple[Confirmed | Ended, ClientStep]:
    """Check the survivors, and sign them where the threat model confirms."""
    config = member.config
    survivors = frozenset(messages.decode_bitmap(message.survivors, config.clients))
    rules.survivors_include_self(survivors, member.index)
    rules.survivors_enough(survivors, config)
    if config.groups > 1:
        rules.group_survivors_enough(survivors.intersection((member.index, *record.neighbours)), config)
    rules.survivors_shared(survivors, record.neighbours, record.dealers)
    rules.survivors_near(survivors, record.neighbours, config.threshold)
    if not config.threat_model.confirms:
        return unmask.reveal_shares(member, record, survivors)
    if member.identity is None:
        raise RuntimeError("a client that must confirm has no identity to sign with")
    # R-CONFIRM-1
    signature = member.identity.sign(config.labels.signed_survivors(record.session, message.survivors))
    confirmed = Confirmed(
        session=record.session,
        survivors=bytes(message.survivors),
        dealers=record.dealers,
        pairs=record.pairs,
        attachment_losses=record.attachment_losses,
        attachment=record.attachment,
    )
    return confirmed, ClientStep((messages.encode(Confirm(config.version, record.session, signature)),))
