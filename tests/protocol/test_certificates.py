"""A round's certificate: what stands in it, and that nothing in it can be changed unseen."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import nacl.signing
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Identity, Server, StateError
from secagg.audit import audit, check_contradiction, prove_contradiction
from secagg.errors import CertificateError
from secagg.pairwise import certificate as certificates
from secagg.pairwise.certificate import NO_CERTIFICATE, Certificate, Fault, Lost, Spent
from tests.support.certified import CertifiedCohort


@pytest.fixture(scope="module")
def cohort() -> CertifiedCohort:
    """Three rounds: a full one, one with losses, and one that fails."""
    made = CertifiedCohort()
    made.certify(made.play(), name="first", time=1_700_000_000, spent=Spent(0.5, 1e-6))
    made.certify(made.play({1: "ADVERTISE", 4: "MASK"}), name="second", time=1_700_000_100, spent=Spent(0.25, 1e-6))
    made.certify(made.play({2: "NONE", 3: "SHARE", 5: "SHARE"}), name="third", time=1_700_000_200)
    return made


def read(cohort: CertifiedCohort, place: int) -> Certificate:
    return Certificate.from_bytes(cohort.chain[place])


def hashed(label: bytes, *fields: bytes) -> bytes:
    """A labelled hash, written out from the specification."""
    return hashlib.sha256(b"".join(struct.pack("<I", len(part)) + part for part in (label, *fields))).digest()


def test_it_says_what_the_round_came_to(cohort: CertifiedCohort) -> None:
    first, second, third = (read(cohort, place) for place in range(3))
    everybody = tuple(range(6))
    assert first.members(first.survivors) == first.members(first.advertised) == everybody
    assert (first.lost, first.ended, first.spent) == ((), None, Spent(0.5, 1e-6))
    assert {entry.phase: second.members(entry.members) for entry in second.lost} == {"SHARE": (1,), "CONFIRM": (4,)}
    assert second.members(second.survivors) == (0, 2, 3, 4, 5)
    assert len(second.members(second.signers)) >= second.round_config.quorum
    assert third.ended is not None
    assert (third.ended.phase, third.sums, third.transcript) == ("MASK", (), b"")
    assert third.members(third.ended.missing) == (3, 5)


def test_the_sum_s_digest_is_the_labelled_hash_of_the_packed_sum(cohort: CertifiedCohort) -> None:
    """Worked out here from Python's integers."""
    certificate = read(cohort, 0)
    modulus = certificate.round_config.modulus
    total = sum(range(1, 7))
    bits = sum(total << (place * modulus.bits) for place in range(5))
    packed = bits.to_bytes((5 * modulus.bits + 7) // 8, "little")
    expected = hashed(b"secagg/v1 sum", certificate.session, hashlib.sha256(packed).digest())
    assert [opened.digest for opened in certificate.sums] == [expected]


def test_who_holds_a_total_can_compare_it(cohort: CertifiedCohort) -> None:
    server = cohort.play()
    certificate = Certificate.from_bytes(server.certificate(cohort.server))
    total = server.compute().sum
    certificate.check_sum(total)
    for other, number in ((total + 1, 0), (total, 1)):
        with pytest.raises(CertificateError, match="not the one that the server certified"):
            certificate.check_sum(other, number)


def test_another_library_verifies_the_signatures(cohort: CertifiedCohort) -> None:
    certificate = read(cohort, 0)
    unsigned = msgspec.msgpack.decode(cohort.chain[0])
    signature, unsigned[-1] = unsigned[-1], bytes(64)
    body = msgspec.msgpack.encode(unsigned)
    label = b"secagg/v1 certificate"
    signed = b"".join(struct.pack("<I", len(part)) + part for part in (label, body))
    nacl.signing.VerifyKey(cohort.server.public_key).verify(signed, signature)
    assert certificate.digest == hashed(b"secagg/v1 certificate chain", cohort.chain[0])


def test_a_restored_server_makes_the_same_certificate(cohort: CertifiedCohort) -> None:
    server = cohort.play({0: "MASK"})
    restored = Server.restore(server.snapshot(), directory=cohort.directory)
    with pytest.raises(StateError, match="call compute"):
        restored.certificate(cohort.server)
    restored.compute()
    assert restored.certificate(cohort.server) == server.certificate(cohort.server)


@pytest.mark.parametrize("threat", ["active", "semi_honest"])
def test_any_bit_that_is_flipped_is_refused(threat: str) -> None:
    made = CertifiedCohort(3, threat=threat)
    made.certify(made.play(delta=0.0), name="r", spent=Spent(1.0, 0.0))
    made.certify(made.play(delta=0.0), name="s")
    audit(made.chain, directory=made.vouching)
    for place, data in enumerate(made.chain):
        for bit in range(8 * len(data)):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            chain = [*made.chain[:place], bytes(changed), *made.chain[place + 1 :]]
            with pytest.raises(CertificateError, match=f"certificate {place} of the history: "):
                audit(chain, directory=made.vouching)


def test_a_history_is_read(cohort: CertifiedCohort) -> None:
    history = audit(cohort.chain, directory=cohort.directory, server=cohort.server.public_key)
    assert history.server == cohort.server.public_key
    assert [audited.outcome for audited in history.rounds] == ["sum", "sum", "too-few-clients"]
    assert (history.epsilon, history.delta) == (0.75, 2e-6)
    assert history.head == history.rounds[-1].digest == read(cohort, 2).digest
    shown = history.as_json()["rounds"][1]
    assert shown["lost"] == {"SHARE": [1], "CONFIRM": [4]}
    assert shown["policy"]["quorum"] == read(cohort, 1).round_config.quorum


def resigned(cohort: CertifiedCohort, place: int, by: Identity | None = None, **changes: Any) -> list[bytes]:
    """The chain with a certificate that its server signed with other contents, and those behind it left out."""
    changed = msgspec.structs.replace(read(cohort, place), **changes)
    return [*cohort.chain[:place], certificates.signed(changed, by or cohort.server).to_bytes()]


LIES: dict[str, tuple[int, Callable[[CertifiedCohort], dict[str, Any]], str]] = {
    "another form": (0, lambda cohort: {"form": 2}, "form 2"),
    "a number too high": (1, lambda cohort: {"number": 2}, "number 2, behind number 0"),
    "a first one with a predecessor": (0, lambda cohort: {"previous": bytes([1]) * 32}, "first certificate"),
    "another predecessor": (1, lambda cohort: {"previous": bytes([1]) * 32}, "names 0101"),
    "an earlier time": (1, lambda cohort: {"time": 1_600_000_000}, "before the one before it"),
    "another server": (1, lambda cohort: {"by": Identity.generate()}, "signed by the server"),
    "a survivor that did not deal": (1, lambda cohort: {"survivors": b"\x3f"}, "member 1 is among the survivors"),
    "a dealer outside of the roster": (0, lambda cohort: {"advertised": b"\x1f"}, "member 5 is among the dealers"),
    "a member that the cohort lacks": (0, lambda cohort: {"survivors": b"\xff"}, "a set of members"),
    "no confirmations": (0, lambda cohort: {"signers": b"", "signatures": b""}, "0 members confirmed"),
    "signatures of fewer": (0, lambda cohort: {"signatures": bytes(64)}, "64 bytes of signatures"),
    "signatures of nobody": (
        0,
        lambda cohort: {"signatures": bytes(len(read(cohort, 0).signatures))},
        "the confirmation of member 0 is not",
    ),
    "the sum of a part": (
        0,
        lambda cohort: {"sums": (msgspec.structs.replace(read(cohort, 0).sums[0], members=b"\x1f"),)},
        "the sum is not of the survivors",
    ),
    "two sums": (0, lambda cohort: {"sums": read(cohort, 0).sums * 2}, "has one sum"),
    "neither sum nor end": (0, lambda cohort: {"sums": ()}, "a sum, or it says how"),
    "losses that are no losses": (0, lambda cohort: {"lost": (Lost("SHARE", b"\x01"),)}, "not all but the survivors"),
    "a loss in no phase": (0, lambda cohort: {"lost": (Lost("LUNCH", b"\x01"),)}, "not all of these are phases"),
    "a loss twice": (
        1,
        lambda cohort: {"lost": (Lost("SHARE", b"\x02"), Lost("CONFIRM", b"\x12"))},
        "one that was lost before",
    ),
    "losses out of order": (
        1,
        lambda cohort: {"lost": (Lost("CONFIRM", b"\x10"), Lost("SHARE", b"\x02"))},
        "not in their order",
    ),
    "a fault of nobody": (0, lambda cohort: {"faults": (Fault(6, "MASK", "padding"),)}, "an unknown member"),
    "a fault against no rule": (0, lambda cohort: {"faults": (Fault(1, "MASK", "hunger"),)}, "an unknown member"),
    "a negative epsilon": (0, lambda cohort: {"spent": Spent(-0.5, 0.0)}, "no such privacy"),
    "an epsilon that is no number": (0, lambda cohort: {"spent": Spent(float("nan"), 0.0)}, "no such privacy"),
    "another cohort's config": (
        0,
        lambda cohort: {"config": cohort.config(cohort=bytes(32)).to_bytes()},
        "no directory is given",
    ),
    "an unsound config": (0, lambda cohort: {"config": b"\x90"}, "breaks the protocol's rules"),
    "no roster": (0, lambda cohort: {"roster": b""}, "a roster has a digest"),
    "no transcript": (0, lambda cohort: {"transcript": b""}, "transcript"),
    "an unknown end": (
        2,
        lambda cohort: {"ended": msgspec.structs.replace(read(cohort, 2).ended, code=99)},  # type: ignore[type-var]
        "neither is known",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_server_signs_must_agree_with_itself(cohort: CertifiedCohort, lie: str) -> None:
    place, changes, reason = LIES[lie]
    with pytest.raises(CertificateError, match=reason):
        audit(resigned(cohort, place, **changes(cohort)), directory=cohort.directory)


def test_members_are_checked_on_an_executor_too(cohort: CertifiedCohort) -> None:
    first = read(cohort, 0)
    lie = resigned(cohort, 0, signatures=bytes(len(first.signatures)))
    with ThreadPoolExecutor(2) as threads:
        assert len(audit(cohort.chain, directory=cohort.directory, executor=threads).rounds) == 3
        with pytest.raises(CertificateError, match="certificate 0 of the history: the confirmation of member 0"):
            audit(lie, directory=cohort.directory, executor=threads)


def test_an_executor_that_loses_jobs_lets_no_signature_through(cohort: CertifiedCohort) -> None:
    class Forgetful(ThreadPoolExecutor):
        def map(self, *given: Any, **named: Any) -> Any:
            return iter(())

    with Forgetful(1) as threads, pytest.raises(RuntimeError, match="0 certificates of 3"):
        audit(cohort.chain, directory=cohort.directory, executor=threads)


def test_a_certificate_that_is_left_out_or_moved_is_missed(cohort: CertifiedCohort) -> None:
    first, second, third = cohort.chain
    for chain, reason in (
        ([first, third], "number 2, behind number 0"),
        ([second, third], "certificates before it are missing"),
        ([first, second, second], "number 1, behind number 1"),
        ([], "no certificate"),
    ):
        with pytest.raises(CertificateError, match=reason):
            audit(chain, directory=cohort.directory)
    with pytest.raises(CertificateError, match="its end is missing"):
        audit([first, second], directory=cohort.directory, head=read(cohort, 2).digest)
    assert audit([second, third], directory=cohort.directory, partial=True).rounds[0].number == 1


def test_a_round_is_certified_once(cohort: CertifiedCohort) -> None:
    again = msgspec.structs.replace(read(cohort, 0), number=1, previous=read(cohort, 0).digest)
    chain = [cohort.chain[0], certificates.signed(again, cohort.server).to_bytes()]
    with pytest.raises(CertificateError, match="certified before"):
        audit(chain, directory=cohort.directory)


def test_a_longer_form_of_the_same_fields_is_no_certificate(cohort: CertifiedCohort) -> None:
    data = cohort.chain[0]
    assert data[:3] == b"\xdc\x00\x17"
    with pytest.raises(CertificateError, match="canonical"):
        Certificate.from_bytes(b"\xdd\x00\x00\x00\x17" + data[3:])


def test_a_certificate_before_the_end_is_a_host_s_mistake(cohort: CertifiedCohort) -> None:
    server = Server(cohort.config(), directory=cohort.directory)
    with pytest.raises(StateError, match="certificate: not possible in state ADVERTISE"):
        server.certificate(cohort.server)
    server.abort()
    aborted = Certificate.from_bytes(server.certificate(cohort.server))
    assert (aborted.roster, aborted.advertised, aborted.previous) == (b"", b"", NO_CERTIFICATE)
    assert aborted.session == b""


def test_a_chain_is_of_one_server(cohort: CertifiedCohort) -> None:
    with pytest.raises(CertificateError, match="begin a chain of its own"):
        cohort.play().certificate(Identity.generate(), previous=cohort.chain[-1])


@pytest.mark.parametrize("given", [{"name": "n" * 65}, {"time": -1}, {"spent": Spent(1.0, 2.0)}])
def test_what_a_host_says_is_checked_before_anybody_reads_it(cohort: CertifiedCohort, given: dict[str, Any]) -> None:
    with pytest.raises(CertificateError):
        cohort.play().certificate(cohort.server, **given)


def test_a_semi_honest_round_is_certified_by_its_server_alone() -> None:
    made = CertifiedCohort(threat="semi_honest")
    made.certify(made.play({2: "SHARE"}))
    (audited,) = audit(made.chain).rounds
    assert (audited.included, audited.signers) == ((0, 1, 3, 4, 5), ())


def test_a_repr_shows_no_signature(cohort: CertifiedCohort) -> None:
    assert repr(read(cohort, 0)) == (f"<Certificate 0 of 'first': 1 sums, server {cohort.server.public_key.hex()[:8]}>")


def test_the_sum_stays_as_it_was(cohort: CertifiedCohort) -> None:
    server = cohort.play()
    before = server.compute().sum.copy()
    server.certificate(cohort.server)
    np.testing.assert_array_equal(server.compute().sum, before)


# -- Two certificates that cannot both be true -------------------------------------------------------------------------


def test_two_totals_of_one_round_are_a_proof(cohort: CertifiedCohort) -> None:
    other = msgspec.structs.replace(read(cohort, 0).sums[0], digest=bytes(32))
    (lie,) = resigned(cohort, 0, sums=(other,))
    proof = prove_contradiction(cohort.chain[0], lie)
    assert proof == prove_contradiction(lie, cohort.chain[0])
    said = check_contradiction(proof)
    assert cohort.server.public_key.hex() in said
    assert said.endswith("two certificates of one round, which differ in sums")
    for bit in range(0, 8 * len(proof), 7):
        changed = bytearray(proof)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CertificateError):
            check_contradiction(bytes(changed))


def test_two_histories_behind_one_certificate_are_a_proof(cohort: CertifiedCohort) -> None:
    fork = cohort.play().certificate(cohort.server, previous=cohort.chain[0])
    assert "two certificates behind" in check_contradiction(prove_contradiction(cohort.chain[1], fork))


def test_what_an_honest_server_signs_is_no_contradiction(cohort: CertifiedCohort) -> None:
    server = cohort.play()
    twice = [server.certificate(cohort.server, name=name) for name in ("one", "another")]
    anew = cohort.play().certificate(cohort.server)
    strange = resigned(cohort, 0, by=Identity.generate())
    for one, other in (cohort.chain[:2], twice, (cohort.chain[0], anew), (cohort.chain[0], *strange)):
        with pytest.raises(CertificateError, match="contradict"):
            prove_contradiction(one, other)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bytes_of_any_kind_are_a_certificate_or_an_error(cohort: CertifiedCohort, data: st.DataObject) -> None:
    """Elements swapped, left out, or others in their place; and a proof of it."""
    fields = msgspec.msgpack.decode(data.draw(st.sampled_from(cohort.chain)))
    place = data.draw(st.integers(0, len(fields) - 1))
    other = (
        st.none()
        | st.integers(-(2**63), 2**64 - 1)
        | st.binary(max_size=70)
        | st.text(max_size=5)
        | st.lists(st.binary(max_size=3))
    )
    fields[place : place + data.draw(st.integers(0, 2))] = [data.draw(other)]
    changed = msgspec.msgpack.encode(fields)
    for check in (Certificate.from_bytes, check_contradiction):
        try:
            check(changed)
        except CertificateError:
            continue
        assert changed in cohort.chain
