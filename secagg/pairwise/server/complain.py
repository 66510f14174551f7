"""COMPLAIN and ANSWER: holders say whose shares are bad, dealers open these, and it is settled who goes on.

In rounds with complaints alone (R-COMPLAIN-3).  Whoever is in conflict with more others than may lie is left out and
named; so is a dealer that gives no right answer left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from secagg.outcome import Blame, MakeMessage
from secagg.pairwise import messages, records
from secagg.pairwise.hybrid import complaint_digest
from secagg.pairwise.messages import Accusations, Answer, Complaint, Settled
from secagg.pairwise.phases import Phase
from secagg.pairwise.records import KINDS, PAIR_BYTES, SIGNATURE_BYTES, Commitments, SealedSecret, SharePair
from secagg.pairwise.rules import server as rules
from secagg.pairwise.server import groups, share
from secagg.pairwise.server.attendance import Attendance
from secagg.pairwise.server.failure_reasons import require_enough
from secagg.pairwise.server.records import Answering, Complained, Complaining, Ids, Shared
from secagg.primitives import secret_sharing


def take_complaint(complaining: Complaining, sender: int, message: Complaint) -> None:
    """R-COMPLAIN-5: a complaint counts when it is about what this server sent."""
    shared, round_ = complaining.shared, complaining.advertised.round
    dealers = messages.decode_ids(message.dealers)
    config = round_.config
    size = SIGNATURE_BYTES if config.threat_model.signs else 0
    neighbours = complaining.advertised.edges.neighbours(sender)
    sent = neighbours[shared.flags[neighbours]].tolist()
    rules.complaint_sized(dealers, sent, config.complaints, len(message.signatures), size)
    signatures = records.cut(message.signatures, size) if size else [b""] * len(dealers)
    for dealer, signature in zip(dealers, signatures, strict=True):
        if size:
            digest = _digest(shared, dealer, sender)
            signed = config.labels.signed_complaint(shared.advertised.session, sender, dealer, digest)
            rules.complaint_signed(round_.identity_key(sender), signed, signature, sender)
    complaining.complaints[sender] = dict(zip(dealers, signatures, strict=True))


def close_complaints(complaining: Complaining, attendance: Attendance) -> tuple[Complained, Ids]:
    """R-COMPLAIN-10: leave out whoever is in conflict with more than r others; the other dealers must answer."""
    shared, config = complaining.shared, complaining.advertised.round.config
    conflicts: dict[int, set[int]] = {}
    for holder, dealers in sorted(complaining.complaints.items()):
        for dealer in dealers:
            conflicts.setdefault(holder, set()).add(dealer)
            conflicts.setdefault(dealer, set()).add(holder)
    out = set()
    for member, others in sorted(conflicts.items()):
        if (fault := rules.conflicts_few(member, others, config.complaints)) is not None:
            out.add(member)
            attendance.blame.append(Blame(fault.sender, fault.phase, fault.code, fault.detail))
    answered = set(attendance.staying(complaining.complaints)) - out
    members = _going_on(Phase.COMPLAIN, shared, answered, attendance)
    accused: dict[int, dict[int, bytes]] = {}
    for holder in members:
        for dealer, signature in complaining.complaints[holder].items():
            if dealer in members:
                accused.setdefault(dealer, {})[holder] = signature
    return Complained(msgspec.structs.replace(shared, members=members), dict(sorted(accused.items()))), members


def accusations_of(complained: Complained) -> MakeMessage:
    """R-COMPLAIN-6: to each accused dealer, who complains about it."""
    advertised = complained.advertised
    version, session = advertised.round.config.version, advertised.session

    def accusations_for(index: int) -> bytes:
        holders = complained.accused[index]
        return messages.encode(
            Accusations(version, session, messages.encode_ids(list(holders)), b"".join(holders.values()))
        )

    return accusations_for


def take_answer(answering: Answering, sender: int, message: Answer) -> None:
    """R-COMPLAIN-9: an answer counts when every pair in it is what its dealer committed to."""
    complained, shared = answering.complained, answering.complained.shared
    round_, session = shared.advertised.round, shared.advertised.session
    labels, holders = round_.config.labels, list(complained.accused[sender])
    size = SIGNATURE_BYTES if round_.config.threat_model.signs else 0
    opening = records.opened_bytes(round_.config.suite)
    expected = opening * len(holders), size * len(holders)
    rules.answer_sized(len(message.pairs), len(message.signatures), expected)
    signatures = records.cut(message.signatures, size) if size else [b""] * len(holders)
    opened: dict[int, bytes] = {}
    for holder, pair, signature in zip(holders, records.cut(message.pairs, opening), signatures, strict=True):
        rules.answer_committed(_matches(shared, sender, holder, pair), holder)
        if size:
            signed = labels.signed_answer(session, sender, holder, _digest(shared, sender, holder), pair)
            rules.answer_signed(round_.identity_key(sender), signed, signature, sender)
        opened[holder] = pair + signature
    answering.answers[sender] = opened


def close_answers(answering: Answering, attendance: Attendance) -> tuple[Shared, Ids]:
    """R-COMPLAIN-10: leave out the dealers that gave no right answer; who is left is U2."""
    complained, shared = answering.complained, answering.complained.shared
    silent = set(complained.accused) - set(answering.answers)
    members = _going_on(Phase.ANSWER, shared, set(attendance.staying(shared.members)) - silent, attendance)
    opened: dict[int, dict[int, bytes]] = {}
    for dealer, pairs in sorted(answering.answers.items()):
        for holder, pair in pairs.items():
            if dealer in members:
                opened.setdefault(holder, {})[dealer] = pair
    return msgspec.structs.replace(shared, members=members, opened=opened), members


def settled_of(shared: Shared) -> MakeMessage:
    """R-COMPLAIN-11: to everybody in U2 the dealers that count, and the pairs that were opened for it."""
    edges, session, config = shared.advertised.edges, shared.advertised.session, shared.advertised.round.config
    version, opening = config.version, records.opened_bytes(config.suite)

    def settled_for(index: int) -> bytes:
        neighbours = edges.neighbours(index)
        opened = shared.opened.get(index, {}).values()
        return messages.encode(
            Settled(
                version,
                session,
                messages.encode_ids(neighbours[shared.flags[neighbours]]),
                b"".join(pair[:opening] for pair in opened),
                b"".join(pair[opening:] for pair in opened),
            )
        )

    return settled_for


def _going_on(phase: Phase, shared: Shared, able: Iterable[int], attendance: Attendance) -> Ids:
    """Those that can go on after a phase: with a threshold of neighbours among them, and in groups that go on."""
    advertised = shared.advertised
    members = groups.going_on(attendance, phase, share.pruned(able, advertised), advertised)
    attendance.lose(phase, set(shared.members).difference(members))
    require_enough(attendance, phase, members, advertised.round.config)
    return members


def _entry(shared: Shared, dealer: int, holder: int) -> int:
    """Where what a dealer sent a holder stands among the edges."""
    edges = shared.advertised.edges
    return int(edges.span(dealer).start + np.flatnonzero(edges.neighbours(dealer) == holder)[0])


def _digest(shared: Shared, dealer: int, holder: int) -> bytes:
    entry, config = _entry(shared, dealer, holder), shared.advertised.round.config
    sealed, commitments = shared.sealed[entry].tobytes(), shared.commitments[entry].tobytes()
    return complaint_digest(config, sealed, commitments, _sealed_secret(shared, entry))


def _sealed_secret(shared: Shared, entry: int) -> bytes:
    """The pair secret that the first client of an edge sealed for the second; empty where it sealed none."""
    advertised = shared.advertised
    if not advertised.round.config.suite.is_hybrid or not advertised.sealing[entry]:
        return b""
    sealed: bytes = shared.pair_secrets[advertised.sealing_rows[entry]].tobytes()
    return sealed


def _matches(shared: Shared, dealer: int, holder: int, data: bytes) -> bool:
    """Whether an opened pair is in the field, and is what its dealer committed to, the pair secret behind it too."""
    labels, session = shared.advertised.round.config.labels, shared.advertised.session
    entry, pair = _entry(shared, dealer, holder), SharePair.from_bytes(data[:PAIR_BYTES])
    digests = [
        labels.share_commitment(session, dealer, holder, kind, pair[kind].salt, pair[kind].share) for kind in KINDS
    ]
    bad = secret_sharing.bad_shares(pair.key.share + pair.seed.share)
    committed = shared.commitments[entry].tobytes()
    if np.any(bad) or Commitments(*digests).to_bytes() != committed:
        return False
    secret = data[PAIR_BYTES:]
    if sealed := _sealed_secret(shared, entry):
        commitment = labels.pair_secret_commitment(session, dealer, holder, secret)
        return commitment == SealedSecret.from_bytes(sealed).commitment
    return not any(secret)
