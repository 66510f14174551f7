"""COMPLAIN and ANSWER: a holder says whose shares do not open, and a dealer opens what it dealt to such a holder.

In rounds with complaints alone.  An honest dealer's shares open for an honest holder, and the holder signs over the
bytes that came.  So a dealer that looks for a signature over the bytes that it sent opens no honest holder's shares,
whatever the server alters on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

from secagg.errors import PeerError
from secagg.events import ClientStep
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Answered, Checked, HasInput, Ids, Shared
from secagg.pairwise.messages import Accusations, Answer, Complaint, Settled
from secagg.pairwise.records import COMMITMENTS_BYTES, PAIR_BYTES, SIGNATURE_BYTES
from secagg.pairwise.rules import client as rules
from secagg.pairwise.transcript import DIGEST_BYTES
from secagg.primitives.secret import Secret

_RECEIVED_BYTES = COMMITMENTS_BYTES + DIGEST_BYTES


def unseal_or_complain(
    member: Member,
    session: bytes,
    dealers: Sequence[int],
    receive_keys: Sequence[bytes],
    sealed: Sequence[bytes],
    commitments: Sequence[bytes],
) -> tuple[bytes, Ids]:
    """R-COMPLAIN-4: the pairs, and the dealers whose pair does not open or match; zeros stand in the place of these.

    Raises PeerError, as without complaints, when there are more of them than a holder may complain about.
    """
    every = member.config, session, member.index
    try:
        return dealing.unseal_pairs(*every, dealers, receive_keys, sealed, commitments), ()
    except PeerError:
        pass  # one after the other, then
    pairs, bad = [], []
    for dealer, key, box, committed in zip(dealers, receive_keys, sealed, commitments, strict=True):
        try:
            pairs.append(dealing.unseal_pairs(*every, [dealer], [key], [box], [committed]))
        except PeerError:
            bad.append(dealer)
            if len(bad) > member.config.complaints:
                raise
            pairs.append(bytes(PAIR_BYTES))
    return b"".join(pairs), tuple(bad)


def complain(
    member: Member,
    record: Shared,
    has_input: HasInput,
    bad: Ids,
    sealed: Sequence[bytes],
    commitments: Sequence[bytes],
) -> tuple[Checked, ClientStep]:
    """R-COMPLAIN-4: tell the server whose shares are bad, each with a signature over what came."""
    config, labels = member.config, member.config.labels
    positions = [has_input.dealers.index(dealer) for dealer in bad]
    digests = [labels.complaint_digest(sealed[position], commitments[position]) for position in positions]
    signatures = [
        _signed(member, labels.signed_complaint(record.session, member.index, dealer, digest))
        for dealer, digest in zip(bad, digests, strict=True)
    ]
    checked = Checked(
        session=record.session,
        neighbours=record.neighbours,
        dealers=has_input.dealers,
        seed=has_input.seed,
        mask_keys=has_input.mask_keys,
        pairs=has_input.pairs,
        complained=bad,
        received=b"".join(commitments[position] + digest for position, digest in zip(positions, digests, strict=True)),
        present=record.present,
        dealt=record.dealt,
        sent=record.sent,
    )
    message = Complaint(config.version, record.session, messages.encode_ids(bad), b"".join(signatures))
    return checked, ClientStep((messages.encode(message),))


def take_accusations(member: Member, record: Checked, message: Accusations) -> tuple[Answered, ClientStep]:
    """R-COMPLAIN-8: open the pairs of the holders that complained about the very bytes that this client sent them."""
    config, labels, session = member.config, member.config.labels, record.session
    holders = messages.decode_ids(message.holders)
    rules.accusers_few(holders, record.present, config.complaints)
    positions = [record.present.index(holder) for holder in holders]
    sent = records.cut(record.sent, DIGEST_BYTES)
    signs = config.threat_model.signs
    signatures = records.cut_exactly(
        message.signatures, SIGNATURE_BYTES, len(holders) if signs else 0, "the complaints' signatures"
    )
    if signs:
        for holder, position, signature in zip(holders, positions, signatures, strict=True):
            signed = labels.signed_complaint(session, holder, member.index, sent[position])
            rules.accusation_signed(member.cohort[holder], signed, signature, holder)
    dealt = records.cut(record.dealt.reveal(), PAIR_BYTES)
    pairs = [dealt[position] for position in positions]
    answers = [
        _signed(member, labels.signed_answer(session, member.index, holder, sent[position], pair))
        for holder, position, pair in zip(holders, positions, pairs, strict=True)
    ]
    answered = Answered(
        session=session,
        neighbours=record.neighbours,
        dealers=record.dealers,
        seed=record.seed,
        mask_keys=record.mask_keys,
        pairs=record.pairs,
        complained=record.complained,
        received=record.received,
    )
    answer = Answer(config.version, session, b"".join(pairs), b"".join(answers))
    return answered, ClientStep((messages.encode(answer),))


def take_settled(member: Member, record: Answered, message: Settled) -> tuple[HasInput, ClientStep]:
    """R-COMPLAIN-11, R-COMPLAIN-12: from here on the dealers are those that the server names, and no others."""
    config = member.config
    dealers = messages.decode_ids(message.dealers)
    rules.settled_dealers(dealers, record.dealers)
    rules.dealers_enough(dealers, config.threshold)
    disputed = [dealer for dealer in dealers if dealer in record.complained]
    opened = records.cut_exactly(message.pairs, PAIR_BYTES, len(disputed), "the opened pairs")
    signs = config.threat_model.signs
    signatures = records.cut_exactly(
        message.signatures, SIGNATURE_BYTES, len(disputed) if signs else 0, "the answers' signatures"
    )
    received = dict(zip(record.complained, records.cut(record.received, _RECEIVED_BYTES), strict=True))
    for position, (dealer, pair) in enumerate(zip(disputed, opened, strict=True)):
        committed, digest = received[dealer][:COMMITMENTS_BYTES], received[dealer][COMMITMENTS_BYTES:]
        if signs:
            signed = config.labels.signed_answer(record.session, dealer, member.index, digest, pair)
            rules.answer_signed(member.cohort[dealer], signed, signatures[position], dealer)
        dealing.check_pairs(config, record.session, member.index, [dealer], pair, [committed])
    replaced = dict(zip(disputed, opened, strict=True))
    places = [record.dealers.index(dealer) for dealer in dealers]
    pairs = records.cut(record.pairs.reveal(), PAIR_BYTES)
    kept = [replaced.get(dealer, pairs[place]) for dealer, place in zip(dealers, places, strict=True)]
    mask_keys = records.cut(record.mask_keys.reveal(), config.suite.key_bytes)
    has_input = HasInput(
        session=record.session,
        neighbours=record.neighbours,
        dealers=dealers,
        seed=record.seed,
        mask_keys=Secret(b"".join(mask_keys[place] for place in places)),
        pairs=Secret(b"".join(kept)),
    )
    return has_input, ClientStep(event=member.input_needed())


def _signed(member: Member, signed: bytes) -> bytes:
    return member.identity.sign(signed) if member.config.threat_model.signs and member.identity is not None else b""
