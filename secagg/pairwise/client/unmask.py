"""UNMASK: once enough others have confirmed the survivors, a client reveals one share per dealer, and is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secagg.events import ClientStep, Finished
from secagg.pairwise import messages, records
from secagg.pairwise.client import attachment, dealing, verification
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Confirmed, Ended, Masked
from secagg.pairwise.messages import Confirmations
from secagg.pairwise.phases import ClientState
from secagg.pairwise.rules import client as rules

if TYPE_CHECKING:
    from concurrent.futures import Executor


def take_confirmations(
    member: Member, record: Confirmed, message: Confirmations, executor: Executor | None
) -> tuple[Ended, ClientStep]:
    """Check that a quorum of survivors has signed the very set that this client signed."""
    config = member.config
    survivors = frozenset(messages.decode_bitmap(record.survivors, config.clients))
    signers = messages.decode_bitmap(message.signers, config.clients)
    rules.signers_enough(signers, survivors, config.quorum)
    if config.groups > 1:
        rules.signers_of_group(signers, _summed(member, record, survivors))
    signatures = records.cut_exactly(message.signatures, records.SIGNATURE_BYTES, len(signers), "the confirmations")
    signed = config.labels.signed_survivors(record.session, record.survivors)
    claims = [
        (member.cohort[signer], signed, signature, signer)
        for signer, signature in zip(signers, signatures, strict=True)
    ]
    verification.verify_each(rules.signatures_valid, claims, executor)
    if member.chain is not None:
        member.chain.answer(config, record.session, record.survivors, record.dealers)
    return reveal_shares(member, record, survivors)


def reveal_shares(member: Member, record: Masked | Confirmed, survivors: frozenset[int]) -> tuple[Ended, ClientStep]:
    """Reveal one share per dealer, and what the host attached for so many losses (R-UNMASK-2).

    Nothing is kept (R-UNMASK-3).
    """
    config = member.config
    revealed = dealing.reveal(record.pairs.reveal(), record.dealers, survivors)
    lost = config.clients - len(survivors)
    attached = attachment.revealed(record.attachment_losses, record.attachment, lost)
    answer = messages.unmask(config.version, record.session, revealed, attached)  # R-UNMASK-1
    finished = Finished(tuple(sorted(_summed(member, record, survivors))))
    return Ended(ClientState.DONE, record.session), ClientStep((messages.encode(answer),), finished)


def _summed(member: Member, record: Masked | Confirmed, survivors: frozenset[int]) -> frozenset[int]:
    """The survivors whose sum this client's shares open: with groups, those of its own (R-GROUP-10).

    Every survivor of its group dealt to it, or it would have refused the survivors (R-SURVIVORS-4).
    """
    return survivors if member.config.groups == 1 else survivors.intersection((member.index, *record.dealers))
