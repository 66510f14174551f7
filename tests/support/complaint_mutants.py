"""Rounds with complaints in which one rule is taken out: what the lies that it stops then do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import pytest

from secagg import Client, ClientState, ErrorCode, PeerError
from secagg.pairwise import messages, records
from secagg.pairwise.messages import Accusations, Complaint, Settled, Shares
from secagg.testing.adversary import (
    AnswersWrongly,
    ClientLie,
    Coalition,
    CoalitionOutcome,
    ComplainsFalsely,
    FalseSignature,
    FlipsSealed,
    MaliciousClient,
    WrongLength,
)
from tests.support.attack_stage import active, semi_honest
from tests.support.complaint_rounds import blamed, with_shares
from tests.support.mutants import Patch, without

ACTIVE: Final = active(7, 1, 2, version=2, complaints="auto")
PLAIN: Final = semi_honest(7, 1, 2, version=2, complaints="auto")
"""t = 4 and t = 5; one lie is counted on, in both."""
LIAR: Final = 6

CLIENT_STORIES: Final[dict[str, Callable[[Patch], None]]] = {}
SERVER_STORIES: Final[dict[str, Callable[[Patch], None]]] = {}


def story(name: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def told(tell: Callable[[Patch], None]) -> Callable[[Patch], None]:
        (CLIENT_STORIES if name.startswith("client.") else SERVER_STORIES)[name] = tell
        return tell

    return told


def lied(*lies: ClientLie) -> Coalition:
    """A round with one liar."""
    return Coalition(ACTIVE, liars={LIAR: lies})


def codes(outcome: CoalitionOutcome) -> dict[int, ErrorCode]:
    """What honest clients refused."""
    return {index: error.code for index, error in outcome.client_errors.items()}


def accusing(holders: Sequence[int], signatures: int) -> Callable[[str, int, bytes], bytes]:
    """The server shows client 2 complaints of its own making."""

    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        if index != 2 or not isinstance(message, Accusations):
            return data
        made = {"holders": messages.encode_ids(list(holders)), "signatures": bytes(signatures)}
        return messages.encode(msgspec.structs.replace(message, **made))

    return wire


# -- Clients -----------------------------------------------------------------------------------------------------------


@story("client.accusers_few")
def a_dealer_opens_all_that_it_dealt(patch: Patch) -> None:
    """As many pairs as the threshold: both secrets of client 2 are known."""
    holders = [0, 1, 3, 4, 5][: PLAIN.threshold]
    coalition = Coalition(PLAIN, liars={LIAR: (ComplainsFalsely((2,)),)}, wire=accusing(holders, 0))
    outcome = coalition.run()
    assert codes(outcome) == {2: ErrorCode.ACCUSATION_HOLDERS}
    assert outcome.both_kinds == frozenset()
    without("client.accusers_few")(patch)
    assert coalition.run().both_kinds == {2}


@story("client.accusation_signed")
def a_dealer_opens_pairs_of_honest_holders(patch: Patch) -> None:
    """No more than the bound, and with the colluder's own pair they are enough: both secrets of client 2 are known."""
    config = ACTIVE.replace(complaints=ACTIVE.threshold - 1)
    holders = [0, 1, 3][: config.complaints]
    coalition = Coalition(config, liars={LIAR: (ComplainsFalsely((2,)),)}, wire=accusing(holders, 64 * len(holders)))
    outcome = coalition.run()
    assert codes(outcome) == {2: ErrorCode.ACCUSATION_SIGNATURE}
    assert outcome.both_kinds == frozenset()
    without("client.accusation_signed")(patch)
    assert coalition.run().both_kinds == {2}


def replaced_shares() -> tuple[Client, bytes]:
    """Client 3 with a pair of dealer 1's that does not open and commitments of the server's; and what settles these."""
    driver, outgoing = with_shares(ACTIVE)
    client: Any = driver.clients[3]
    shares = messages.to_client.decode(outgoing[3], 10**6, 2)
    assert isinstance(shares, Shares)
    dealers, session = messages.decode_ids(shares.dealers), shares.session
    place, pair = dealers.index(1), bytes(records.PAIR_BYTES)
    boxes = records.cut(shares.sealed, records.SEALED_BYTES)
    both = records.cut(shares.commitments, records.COMMITMENTS_BYTES)
    boxes[place] = bytes(records.SEALED_BYTES)
    both[place] = b"".join(
        ACTIVE.labels.share_commitment(session, 1, 3, kind, bytes(records.SALT_BYTES), bytes(records.SHARE_BYTES))
        for kind in records.KINDS
    )
    altered = msgspec.structs.replace(shares, sealed=b"".join(boxes), commitments=b"".join(both))
    client.receive(messages.encode(altered))
    return client, messages.encode(Settled(2, session, shares.dealers, pair, bytes(64)))


@story("client.answer_signed")
def shares_of_the_servers_making(patch: Patch) -> None:
    """The server alters a pair and its commitments, and settles a pair that it made itself."""
    client, settled = replaced_shares()
    with pytest.raises(PeerError) as refused:
        client.receive(settled)
    assert (refused.value.code, refused.value.culprit) == (ErrorCode.ANSWER_SIGNATURE, (1,))
    without("client.answer_signed")(patch)
    client, settled = replaced_shares()
    client.receive(settled)
    assert client.state is ClientState.INPUT


@story("client.settled_dealers")
def a_dealer_that_did_not_deal(patch: Patch) -> None:
    """The client falls over, and says nothing about the server."""

    def settled() -> tuple[Client, bytes]:
        driver, outgoing = with_shares(ACTIVE)
        client: Any = driver.clients[3]
        client.receive(outgoing[3])
        return client, messages.encode(Settled(2, client._record.session, messages.encode_ids([0, 1, 2, 3]), b"", b""))

    client, data = settled()
    with pytest.raises(PeerError) as refused:
        client.receive(data)
    assert refused.value.code is ErrorCode.SETTLED_DEALERS
    without("client.settled_dealers")(patch)
    client, data = settled()
    with pytest.raises(KeyError):
        client.receive(data)


# -- Servers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ComplainsAboutNobody(ClientLie):
    """It complains about a client that the cohort does not have."""

    def wire(self, client: MaliciousClient, phase: str, data: bytes) -> Sequence[bytes]:
        if phase != "COMPLAIN":
            return (data,)
        return (messages.encode(Complaint(2, client.session, messages.encode_ids([99]), bytes(64))),)


@story("server.complaint_sized")
def a_complaint_about_nobody_ends_the_round(patch: Patch) -> None:
    coalition = lied(ComplainsAboutNobody())
    assert blamed(coalition.run()) == {(LIAR, ErrorCode.COMPLAINT_DEALERS)}
    without("server.complaint_sized")(patch)
    with pytest.raises(IndexError):
        coalition.run()


@story("server.complaint_signed")
def an_honest_dealer_leaves(patch: Patch) -> None:
    """A complaint without a signature: the dealer takes the server for a liar."""
    coalition = lied(ComplainsFalsely((2,)), FalseSignature("COMPLAIN"))
    outcome = coalition.run()
    assert blamed(outcome) == {(LIAR, ErrorCode.BAD_SIGNATURE)}
    assert codes(outcome) == {}
    without("server.complaint_signed")(patch)
    assert codes(coalition.run()) == {2: ErrorCode.ACCUSATION_SIGNATURE}


@story("server.answer_sized")
def an_answer_too_long_ends_the_round(patch: Patch) -> None:
    coalition = lied(FlipsSealed((3,)), WrongLength("ANSWER", 1))
    assert blamed(coalition.run()) == {(LIAR, ErrorCode.WRONG_LENGTH)}
    without("server.answer_sized")(patch)
    with pytest.raises(ValueError, match="zip"):
        coalition.run()


@story("server.answer_committed")
def a_wrong_answer_makes_its_holder_leave(patch: Patch) -> None:
    coalition = lied(FlipsSealed((3,)), AnswersWrongly())
    outcome = coalition.run()
    assert blamed(outcome) == {(LIAR, ErrorCode.BAD_ANSWER)}
    assert codes(outcome) == {}
    without("server.answer_committed")(patch)
    assert codes(coalition.run()) == {3: ErrorCode.SHARES_COMMITMENT}


@story("server.answer_signed")
def an_unsigned_answer_makes_its_holder_leave(patch: Patch) -> None:
    coalition = lied(FlipsSealed((3,)), FalseSignature("ANSWER"))
    outcome = coalition.run()
    assert blamed(outcome) == {(LIAR, ErrorCode.BAD_SIGNATURE)}
    assert codes(outcome) == {}
    without("server.answer_signed")(patch)
    assert codes(coalition.run()) == {3: ErrorCode.ANSWER_SIGNATURE}


@story("server.conflicts_few")
def a_dealer_that_all_accuse_goes_on_unblamed(patch: Patch) -> None:
    coalition = replace(lied(FlipsSealed()))
    assert blamed(coalition.run()) == {(LIAR, ErrorCode.DISPUTED)}
    without("server.conflicts_few")(patch)
    outcome = coalition.run()
    assert blamed(outcome) == set()
    assert outcome.result is not None
    assert LIAR in outcome.result.included
