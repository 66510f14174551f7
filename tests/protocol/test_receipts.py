"""Receipts: members sign the total that they hold, and a server that showed two of them is found out."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import nacl.signing
import numpy as np
import pytest

from secagg import ErrorCode, Identity, ParameterError, PeerError, Policy, Server, StateError
from secagg.audit import audit, check_contradiction, prove_contradiction
from secagg.errors import CertificateError
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import Certificate
from secagg.pairwise.client.chaining import Chain
from secagg.pairwise.receipt import Receipt
from secagg.simulation import make_cohort
from secagg.testing.adversary import ChainedCohort

TOTAL = np.full(3, 111_111, dtype=np.uint32)
"""The sum of the vectors 10**0 to 10**5 of a round in which nobody is lost."""


@pytest.fixture
def cohort() -> ChainedCohort:
    return ChainedCohort()


def played(cohort: ChainedCohort) -> tuple[Server, bytes]:
    """A round to its sum, which everybody answered, and its certificate."""
    server = cohort.open()
    cohort.play(server, cohort.join(server, range(6)))
    return server, cohort.certify(server)


def received(cohort: ChainedCohort, member: int, certificate: bytes, total: Any = TOTAL, **given: Any) -> bytes:
    trust = {"identity": cohort.identities[member], "directory": cohort.directory, **given}
    return cohort.chains[member].receive(certificate, total, **trust).to_bytes()


def other_total(cohort: ChainedCohort, certificate: bytes) -> bytes:
    """A second certificate of the same round, of a total that is greater by one."""
    true = Certificate.from_bytes(certificate)
    packed = struct.pack("<3I", *(int(value) + 1 for value in TOTAL))
    digest = true.round_config.labels.sum_digest(true.session, packed)
    changed = msgspec.structs.replace(true, sums=(msgspec.structs.replace(true.sums[0], digest=digest),))
    return certificates.signed(changed, cohort.server).to_bytes()


def test_receipts_of_members_stand_beside_their_round(cohort: ChainedCohort) -> None:
    _, certificate = played(cohort)
    receipts = [received(cohort, member, certificate) for member in (4, 1)]
    assert received(cohort, 4, certificate) == receipts[0], "again, after a host broke down"
    history = audit([certificate], directory=cohort.directory, receipts=receipts)
    assert history.rounds[0].receipts == (1, 4)
    assert history.as_json()["rounds"][0]["receipts"] == [1, 4]
    assert audit([certificate], directory=cohort.directory).rounds[0].receipts == ()


def test_another_library_verifies_a_receipt(cohort: ChainedCohort) -> None:
    _, certificate = played(cohort)
    receipt = Receipt.from_bytes(received(cohort, 2, certificate))
    true = Certificate.from_bytes(certificate)
    fields = (b"secagg/v2 receipt", true.session, struct.pack("<I", 0), true.sums[0].digest)
    signed = b"".join(struct.pack("<I", len(part)) + part for part in fields)
    nacl.signing.VerifyKey(cohort.identities[2].public_key).verify(signed, receipt.signature)
    assert (receipt.session, receipt.number, receipt.member) == (true.session, 0, 2)
    assert repr(receipt) == f"<Receipt of member 2 for the total 0 of {true.session.hex()[:8]}>"


def test_two_totals_for_one_round_are_a_proof_against_the_server(cohort: ChainedCohort) -> None:
    """One member is handed another total, with a certificate of its own; its receipt leads to the proof."""
    _, told = played(cohort)
    lie = other_total(cohort, told)
    honest = received(cohort, 0, told)
    deceived = received(cohort, 5, lie, TOTAL + 1)
    with pytest.raises(
        CertificateError, match="receipt 1: member 5 signed that it was handed another total of group 0"
    ):
        audit([told], directory=cohort.directory, receipts=[honest, deceived])
    proof = prove_contradiction(told, lie)
    assert check_contradiction(proof).endswith("differ in sums")


def test_the_next_invitation_brings_the_certificate_that_came_with_the_total(cohort: ChainedCohort) -> None:
    _, told = played(cohort)
    lie = other_total(cohort, told)
    received(cohort, 5, lie, TOTAL + 1)
    with pytest.raises(PeerError, match="than the one that came with its total") as refused:
        cohort.join(cohort.open(), [5])
    assert refused.value.code is ErrorCode.CHAIN_UNSETTLED
    received(cohort, 0, told)
    cohort.join(cohort.open(), range(5))
    assert not cohort.chains[0].is_unsettled(cohort.digest)


def test_a_member_signs_for_one_total_of_a_round(cohort: ChainedCohort) -> None:
    _, told = played(cohort)
    received(cohort, 0, told)
    with pytest.raises(StateError, match="another certificate of this round"):
        received(cohort, 0, other_total(cohort, told), TOTAL + 1)


def test_what_a_member_signs_no_receipt_for(cohort: ChainedCohort) -> None:
    server, told = played(cohort)
    true = Certificate.from_bytes(told)
    unconfirmed = certificates.signed(
        msgspec.structs.replace(true, signatures=bytes(len(true.signatures))), cohort.server
    )
    ended = certificates.Ended("UNMASK", 3, b"", b"")
    aborted = certificates.signed(msgspec.structs.replace(true, ended=ended, sums=(), transcript=b""), cohort.server)
    for certificate, total, reason in (
        (told, TOTAL + 1, "not the one that the server certified"),
        (told[:-1] + bytes([told[-1] ^ 1]), TOTAL, "not the server's over this certificate"),
        (server.certificate(Identity.generate()), TOTAL, "this chain is of"),
        (unconfirmed.to_bytes(), TOTAL, "confirmation of member 0"),
        (aborted.to_bytes(), TOTAL, "not the one that the server certified"),
    ):
        with pytest.raises(CertificateError, match=reason):
            received(cohort, 0, certificate, total)
    strangers, directory, _ = make_cohort(6)
    for trust in ({"identity": strangers[0]}, {"directory": directory}):
        with pytest.raises(ParameterError, match="no cohort"):
            received(cohort, 0, told, **trust)
    assert cohort.chains[0].is_unsettled(cohort.digest)
    cohort.join(cohort.open(), range(6))


def test_a_receipt_is_for_a_round_that_this_member_answered_in(cohort: ChainedCohort) -> None:
    _, told = played(cohort)
    fresh = Chain(cohort.server.public_key)
    with pytest.raises(StateError, match="waits for no certificate"):
        fresh.receive(told, TOTAL, identity=cohort.identities[0], directory=cohort.directory)
    _, later = played(cohort)
    with pytest.raises(CertificateError, match="not of the round"):
        received(cohort, 0, told)
    assert received(cohort, 0, later)


def test_receipts_are_their_members_own(cohort: ChainedCohort) -> None:
    _, told = played(cohort)
    receipt = Receipt.from_bytes(received(cohort, 3, told))
    replace = msgspec.structs.replace
    for changed, reason in (
        (replace(receipt, member=2), "receipt of member 2 is not signed by it"),
        (replace(receipt, member=6), "member 6, in a cohort of 6"),
        (replace(receipt, session=bytes(32)), "no active round of this history"),
        (replace(receipt, digest=bytes(32)), "receipt of member 3 is not signed by it"),
        (replace(receipt, form=2), "form 2"),
    ):
        with pytest.raises(CertificateError, match=reason):
            audit([told], directory=cohort.directory, receipts=[changed.to_bytes()])


def test_any_bit_of_a_receipt_that_is_flipped_is_refused(cohort: ChainedCohort) -> None:
    _, told = played(cohort)
    data = received(cohort, 3, told)
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CertificateError, match="receipt 0: "):
            audit([told], directory=cohort.directory, receipts=[bytes(changed)])


def test_a_receipt_in_another_form_is_none(cohort: ChainedCohort) -> None:
    _, told = played(cohort)
    data = received(cohort, 3, told)
    with pytest.raises(CertificateError, match="canonical"):
        Receipt.from_bytes(b"\xdc\x00\x06" + data[1:])


def test_a_receipt_names_the_group_of_its_total() -> None:
    cohort = ChainedCohort(8)
    server = cohort.open(groups=2, neighbours="auto", delta=0.0, min_survivors=4)
    cohort.play(server, cohort.join(server, range(8), policy=Policy(gamma=0.0, max_groups=2)))
    told = cohort.certify(server)
    group = server.compute().groups[1]
    member = group.included[0]
    receipt = Receipt.from_bytes(received(cohort, member, told, group.sum, number=group.number))
    assert receipt.number == group.number == 1
    with pytest.raises(CertificateError, match="total of group 0"):
        received(cohort, member, told, group.sum)
    assert audit([told], directory=cohort.directory, receipts=[receipt.to_bytes()]).rounds[0].receipts == (member,)


def test_an_end_that_was_stored_without_receipts_is_read(cohort: ChainedCohort) -> None:
    """Ends of chains from before receipts have four elements for the answer."""
    _, told = played(cohort)
    chain = cohort.chains[0]
    stored = msgspec.msgpack.decode(chain._store.load(cohort.digest))
    stored[1] = stored[1][:4]
    chain._store.swap(cohort.digest, chain._store.load(cohort.digest), msgspec.msgpack.encode(stored))
    assert received(cohort, 0, told)
