"""COMPLAIN and ANSWER: a holder says whose shares do not open, and a dealer opens what it dealt to such a holder.

In rounds with complaints alone.  An honest dealer's shares open for an honest holder, and the holder signs over the
bytes that came.  So a dealer that looks for a signature over the bytes that it sent opens no honest holder's shares,
whatever the server alters on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from secagg.errors import PeerError
from secagg.events import ClientStep
from secagg.pairwise import messages, records
from secagg.pairwise.client import dealing
from secagg.pairwise.client.member import Member
from secagg.pairwise.client.records import Answered, Checked, HasInput, Ids, Shared
from secagg.pairwise.hybrid import KeyPair, PairSecrets, complaint_digest
from secagg.pairwise.messages import Accusations, Answer, Complaint, Settled
from secagg.pairwise.records import (
    COMMITMENTS_BYTES,
    PAIR_BYTES,
    PAIR_SECRET_BYTES,
    SIGNATURE_BYTES,
    SealedSecret,
)
from secagg.pairwise.rules import client as rules
from secagg.pairwise.transcript import DIGEST_BYTES
from secagg.primitives.secret import Secret

_RECEIVED_BYTES = COMMITMENTS_BYTES + DIGEST_BYTES

Taken: TypeAlias = tuple[bytes, dict[int, bytes]]
"""The pairs of some dealers, joined, and by dealer the secrets that they sealed for this client."""


def take_or_complain(
    take: Callable[[slice], Taken], dealers: Sequence[int], sealers: Collection[int], most: int
) -> tuple[bytes, dict[int, bytes], Ids]:
    """R-COMPLAIN-4: what came, and the dealers of whom something does not open or match; zeros stand in its place.

    ``take`` checks what came of some of the dealers.  Raises PeerError, as without complaints, when more than ``most``
    of them are bad.
    """
    try:
        return *take(slice(None)), ()
    except PeerError:
        pass  # one after the other, then
    pairs, secrets, bad = [], dict[int, bytes](), []
    for place, dealer in enumerate(dealers):
        try:
            pair, secret = take(slice(place, place + 1))
        except PeerError:
            bad.append(dealer)
            if len(bad) > most:
                raise
            pair, secret = bytes(PAIR_BYTES), {dealer: bytes(PAIR_SECRET_BYTES)} if dealer in sealers else {}
        pairs.append(pair)
        secrets |= secret
    return b"".join(pairs), secrets, tuple(bad)


class Came(NamedTuple):
    """What came of one dealer, as it was sent."""

    sealed: bytes
    commitments: bytes
    pair_secret: bytes
    """In a hybrid suite, of a sealer; empty otherwise."""


def complain(
    member: Member, record: Shared, has_input: HasInput, came: Mapping[int, Came]
) -> tuple[Checked, ClientStep]:
    """R-COMPLAIN-4: tell the server whose shares are bad, each with a signature over what came: ``came``, by dealer."""
    config, labels = member.config, member.config.labels
    bad = tuple(came)
    digests = [complaint_digest(config, *parts) for parts in came.values()]
    signatures = [
        _signed(member, labels.signed_complaint(record.session, member.index, dealer, digest))
        for dealer, digest in zip(bad, digests, strict=True)
    ]
    sealers = tuple(dealer for dealer in bad if dealer in record.sealers)
    checked = Checked(
        session=record.session,
        neighbours=record.neighbours,
        dealers=has_input.dealers,
        seed=has_input.seed,
        mask_keys=has_input.mask_keys,
        pairs=has_input.pairs,
        complained=bad,
        received=b"".join(parts.commitments + digest for parts, digest in zip(came.values(), digests, strict=True)),
        present=record.present,
        dealt=record.dealt,
        sent=record.sent,
        sealers=sealers,
        secret_commitments=b"".join(SealedSecret.from_bytes(came[dealer].pair_secret).commitment for dealer in sealers),
        masking_key=record.masking_key if sealers else b"",
        masking_keys=tuple(record.masking_keys[record.present.index(dealer)] for dealer in sealers),
        masking_private=record.masking_private if sealers else Secret(b""),
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
    dealt = records.cut(record.dealt.reveal(), records.opened_bytes(config.suite))
    pairs = [dealt[position] for position in positions]
    answers = [
        _signed(member, labels.signed_answer(session, member.index, holder, sent[position], pair))
        for holder, position, pair in zip(holders, positions, pairs, strict=True)
    ]
    # All that it knew, but for what it could still be asked to open.
    answered = Answered(**{name: getattr(record, name) for name in Answered.__struct_fields__})
    answer = Answer(config.version, session, b"".join(pairs), b"".join(answers))
    return answered, ClientStep((messages.encode(answer),))


def take_settled(member: Member, record: Answered, message: Settled) -> tuple[HasInput, ClientStep]:
    """R-COMPLAIN-11, R-COMPLAIN-12: from here on the dealers are those that the server names, and no others."""
    config = member.config
    dealers = messages.decode_ids(message.dealers)
    rules.settled_dealers(dealers, record.dealers)
    rules.dealers_enough(dealers, config.threshold)
    disputed = [dealer for dealer in dealers if dealer in record.complained]
    size = records.opened_bytes(config.suite)
    opened = records.cut_exactly(message.pairs, size, len(disputed), "the opened pairs")
    signs = config.threat_model.signs
    signatures = records.cut_exactly(
        message.signatures, SIGNATURE_BYTES, len(disputed) if signs else 0, "the answers' signatures"
    )
    received = dict(zip(record.complained, records.cut(record.received, _RECEIVED_BYTES), strict=True))
    mask_keys = dict(zip(record.dealers, records.cut(record.mask_keys.reveal(), config.suite.key_bytes), strict=True))
    pairs = dict(zip(record.dealers, records.cut(record.pairs.reveal(), PAIR_BYTES), strict=True))
    for position, (dealer, whole) in enumerate(zip(disputed, opened, strict=True)):
        committed, digest = received[dealer][:COMMITMENTS_BYTES], received[dealer][COMMITMENTS_BYTES:]
        pairs[dealer], secret = whole[:PAIR_BYTES], whole[PAIR_BYTES:]
        if signs:
            signed = config.labels.signed_answer(record.session, dealer, member.index, digest, whole)
            rules.answer_signed(member.cohort[dealer], signed, signatures[position], dealer)
        dealing.check_pairs(config, record.session, member.index, [dealer], pairs[dealer], [committed])
        if dealer in record.sealers:
            mask_keys[dealer] = _mask_key(member, record, dealer, secret)
    has_input = HasInput(
        session=record.session,
        neighbours=record.neighbours,
        dealers=dealers,
        seed=record.seed,
        mask_keys=Secret(b"".join(mask_keys[dealer] for dealer in dealers)),
        pairs=Secret(b"".join(pairs[dealer] for dealer in dealers)),
    )
    return has_input, ClientStep(event=member.input_needed())


def _mask_key(member: Member, record: Answered, sealer: int, secret: bytes) -> bytes:
    """R-HYBRID-12, R-HYBRID-13: of the mask with a sealer that this client complained about, from the opened secret."""
    config, place = member.config, record.sealers.index(sealer)
    pair = KeyPair(config, member.round.round_id, member.index, record.masking_private.reveal(), "masking")
    secrets = PairSecrets(config, record.session, member.index, pair, record.masking_key)
    committed = records.cut(record.secret_commitments, DIGEST_BYTES)[place]
    rules.secret_committed(committed, secrets.commitment(sealer, member.index, secret), sealer)
    return secrets.mask_key(sealer, record.masking_keys[place], secret)


def _signed(member: Member, signed: bytes) -> bytes:
    return member.identity.sign(signed) if member.config.threat_model.signs and member.identity is not None else b""
