"""Chained rounds: who answered in a round is shown what became of it, or takes part in no other."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import numpy as np
import pytest

from secagg import (
    AbortCode,
    Client,
    ErrorCode,
    Identity,
    ParameterError,
    PeerError,
    Policy,
    RoundConfig,
    Server,
    StateError,
)
from secagg.pairwise import certificate as certificates
from secagg.pairwise import messages
from secagg.pairwise.certificate import Certificate
from secagg.pairwise.client.chaining import Chain, MemoryChains
from secagg.testing.adversary import ChainedCohort, FakeAbort, LeaveOutSums, OtherSurvivors


@pytest.fixture
def cohort() -> ChainedCohort:
    return ChainedCohort()


EVERYBODY = range(6)


def code_of(join: Any) -> ErrorCode:
    with pytest.raises(PeerError) as refused:
        join()
    assert isinstance(refused.value, PeerError)
    assert refused.value.reply, "the server is told that this client does not come"
    return refused.value.code


def test_rounds_follow_each_other_in_a_chain(cohort: ChainedCohort) -> None:
    for number in range(3):
        server, clients = cohort.open(), {}
        clients = cohort.join(server, EVERYBODY)
        assert {chain.head(cohort.digest) for chain in cohort.chains.values()} == {server.config.chain}
        cohort.play(server, clients)
        certificate = Certificate.from_bytes(cohort.certify(server))
        assert (certificate.number, certificate.previous) == (number, server.config.chain)
    assert all(chain.is_unsettled(cohort.digest) for chain in cohort.chains.values())


def vector_of(member: int) -> np.ndarray:
    return np.full(3, 10**member, dtype=np.uint32)


def test_a_fake_abort_opens_a_vector_without_the_chain_and_is_refused_with_it(cohort: ChainedCohort) -> None:
    """The server opens a sum, says that there was none, and asks again for the same vectors, but for the victim's."""
    victim, others = 3, [member for member in EVERYBODY if member != 3]
    first = cohort.open(min_survivors=4)
    cohort.play(first, cohort.join(first, EVERYBODY))
    opened = first.compute()

    again = cohort.open(min_survivors=4)
    cohort.play(again, cohort.join(again, others, chained=False))
    difference = opened.sum.astype(np.int64) - again.compute().sum.astype(np.int64)
    np.testing.assert_array_equal(difference, vector_of(victim))

    fake = FakeAbort().told(cohort.true_certificate(first), cohort.server)
    for brought in ((), (fake,)):
        lying = cohort.open(min_survivors=4, behind=brought)
        for member in others:
            assert code_of(lambda m=member, s=lying: cohort.join(s, [m])) is (  # type: ignore[misc]
                ErrorCode.CHAIN_UNSETTLED
            )


def test_the_true_certificate_settles_a_round(cohort: ChainedCohort) -> None:
    first = cohort.open()
    cohort.play(first, cohort.join(first, EVERYBODY))
    certificate = cohort.certify(first)
    silent = cohort.open(brought=())
    assert code_of(lambda: cohort.join(silent, [0])) is ErrorCode.CHAIN_BROKEN
    assert cohort.chains[0].is_unsettled(cohort.digest), "a refusal changes nothing"
    following = cohort.open(brought=(certificate,))
    cohort.join(following, EVERYBODY)
    assert not cohort.chains[0].is_unsettled(cohort.digest)


def test_a_member_that_missed_rounds_is_brought_all_of_them(cohort: ChainedCohort) -> None:
    most = [0, 1, 2, 3, 4]
    first = cohort.open()
    cohort.play(first, cohort.join(first, EVERYBODY))
    cohort.certify(first)
    for _ in range(2):
        server = cohort.open()
        cohort.play(server, cohort.join(server, most))
        cohort.certify(server)
    assert code_of(lambda: cohort.join(cohort.open(brought=cohort.certificates[1:]), [5])) is ErrorCode.CHAIN_BROKEN
    gap = (cohort.certificates[0], cohort.certificates[2])
    assert code_of(lambda: cohort.join(cohort.open(brought=gap), [5])) is ErrorCode.CHAIN_BROKEN
    cohort.join(cohort.open(), [5])


def test_a_certificate_with_other_survivors_settles_nothing(cohort: ChainedCohort) -> None:
    first = cohort.open()
    cohort.play(first, cohort.join(first, EVERYBODY))
    true = Certificate.from_bytes(first.certificate(cohort.server))
    lying = cohort.open(behind=(OtherSurvivors(lost=(5,)).told(true, cohort.server),))
    assert code_of(lambda: cohort.join(lying, [0])) is ErrorCode.CHAIN_UNSETTLED


# -- Aborts that the members certify -----------------------------------------------------------------------------------


def stopped_in_unmask(cohort: ChainedCohort, answering: Collection[int]) -> tuple[Server, dict[int, Client]]:
    """A round of which some members answered in UNMASK before it was aborted; the others are told so."""
    server = cohort.open()
    clients = cohort.join(server, EVERYBODY)
    cohort.play(server, clients, answering=answering)
    for member, farewell in server.abort():
        if member not in answering:
            clients[member].receive(farewell)
    return server, clients


def test_enough_neighbours_that_did_not_answer_settle_an_abort(cohort: ChainedCohort) -> None:
    server, clients = stopped_in_unmask(cohort, answering=[0])
    threshold = server.config.threshold
    statements = {member: clients[member].disclaim() for member in range(1, 1 + threshold)}
    few = dict(list(statements.items())[:-1])
    too_few = server.certificate(cohort.server, statements=few)
    assert code_of(lambda: cohort.join(cohort.open(behind=(too_few,)), [0])) is ErrorCode.CHAIN_UNSETTLED
    cohort.certify(server, statements=statements)
    cohort.join(cohort.open(), EVERYBODY)


def test_statements_of_others_than_neighbours_do_not_count() -> None:
    """On a ring, a member is told of the neighbours of its own."""
    cohort = ChainedCohort(9, neighbours=4)
    server = cohort.open()
    clients = cohort.join(server, range(9))
    cohort.play(server, clients, answering=[0])
    for member, farewell in server.abort():
        if member:
            clients[member].receive(farewell)
    assert server.graph is not None
    near = server.graph.neighbours_of(0).tolist()
    far = [member for member in range(1, 9) if member not in near]
    statements = {member: clients[member].disclaim() for member in [*far, *near[: server.config.threshold - 1]]}
    told = server.certificate(cohort.server, statements=statements)
    assert code_of(lambda: cohort.join(cohort.open(behind=(told,)), [0])) is ErrorCode.CHAIN_UNSETTLED


def test_a_group_that_is_said_to_be_lost_has_statements_of_its_own_members() -> None:
    """With groups, the server opens a group's sum, and leaves it out of the certificate."""
    cohort = ChainedCohort(8)
    server = cohort.open(groups=2, neighbours="auto", delta=0.0, min_survivors=4)
    clients = cohort.join(server, range(8), policy=Policy(gamma=0.0, max_groups=2))
    cohort.play(server, clients)
    true = Certificate.from_bytes(server.certificate(cohort.server))
    assert len(true.sums) == 2
    left, right = (true.members(opened.members) for opened in true.sums)
    lie = LeaveOutSums(groups=(1,)).told(true, cohort.server)
    for member in right:
        lying = cohort.open(behind=(lie,))
        assert code_of(lambda m=member, s=lying: cohort.join(s, [m])) is (  # type: ignore[misc]
            ErrorCode.CHAIN_UNSETTLED
        )
    cohort.join(cohort.open(behind=(lie,)), left)
    forged = msgspec.structs.replace(true, silent=messages.encode_bitmap(left, 8), statements=bytes(64 * len(left)))
    with pytest.raises(certificates.CertificateError, match="opened no sum of theirs"):
        Certificate.from_bytes(certificates.signed(forged, cohort.server).to_bytes())


def test_a_statement_is_its_member_s_own(cohort: ChainedCohort) -> None:
    server, clients = stopped_in_unmask(cohort, answering=[0])
    statements = {member: clients[member].disclaim() for member in range(1, 1 + server.config.threshold)}
    other = {**statements, 1: statements[2]}
    with pytest.raises(certificates.CertificateError, match="member 1"):
        server.certificate(cohort.server, statements=other)
    true = Certificate.from_bytes(server.certificate(cohort.server, statements=statements))
    swapped = certificates.signed(
        msgspec.structs.replace(true, statements=true.statements[64:] + true.statements[:64]), cohort.server
    )
    lying = cohort.open(behind=(swapped.to_bytes(),))
    assert code_of(lambda: cohort.join(lying, [0])) is ErrorCode.CHAIN_UNSETTLED


def test_who_answered_states_nothing_else(cohort: ChainedCohort) -> None:
    server, clients = stopped_in_unmask(cohort, answering=[0])
    with pytest.raises(StateError, match="DONE"):
        clients[0].disclaim()
    session = Certificate.from_bytes(server.certificate(cohort.server)).session
    with pytest.raises(StateError, match="has answered"):
        cohort.chains[0].disclaim(cohort.digest, session)


def test_who_stated_that_it_did_not_answer_never_does(cohort: ChainedCohort) -> None:
    """A copy of the client from before the abort, as a host has it that was rolled back."""
    server = cohort.open()
    clients = cohort.join(server, EVERYBODY)
    held: dict[int, bytes] = {}
    cohort.play(server, clients, answering=(), held=held)
    copy = cohort.copies[1]
    clients[1].abort(AbortCode.CANCELLED)
    clients[1].disclaim()
    with pytest.raises(PeerError) as refused:
        copy.receive(held[1])
    assert refused.value.code is ErrorCode.CHAIN_DISCLAIMED


def test_two_rounds_at_a_time_are_answered_once(cohort: ChainedCohort) -> None:
    one, two = cohort.open(), cohort.open()
    clients = [cohort.join(server, EVERYBODY) for server in (one, two)]
    cohort.play(one, clients[0])
    errors = cohort.play(two, clients[1])
    assert {error.code for error in errors.values()} == {ErrorCode.CHAIN_UNSETTLED}


def test_a_round_that_was_left_behind_is_not_answered(cohort: ChainedCohort) -> None:
    """It did not answer, believed in the abort, and joined the next round: no answer can follow."""
    server, held = cohort.open(), dict[int, bytes]()
    clients = cohort.join(server, EVERYBODY)
    cohort.play(server, clients, answering=[0], held=held)
    fake = cohort.aborted_without_a_sum(server)
    cohort.join(cohort.open(behind=(fake,)), [1])
    with pytest.raises(PeerError) as refused:
        clients[1].receive(held[1])
    assert refused.value.code is ErrorCode.CHAIN_UNSETTLED


# -- Certificates that are none ----------------------------------------------------------------------------------------


def test_certificates_of_others_are_refused(cohort: ChainedCohort) -> None:
    first = cohort.open()
    cohort.play(first, cohort.join(first, EVERYBODY))
    stranger = first.certificate(Identity.generate())
    other = ChainedCohort()
    elsewhere = other.open()
    other.play(elsewhere, other.join(elsewhere, EVERYBODY))
    for certificate in (stranger, elsewhere.certificate(cohort.server), b"none"):
        lying = cohort.open(chain=bytes([1]) * 32, brought=(certificate,))
        assert code_of(lambda s=lying: cohort.join(s, [0])) is ErrorCode.CHAIN_CERTIFICATE  # type: ignore[misc]


def test_a_client_with_a_chain_takes_no_round_outside_of_it(cohort: ChainedCohort) -> None:
    server = cohort.open()
    cohort.play(server, cohort.join(server, EVERYBODY))
    assert code_of(lambda: cohort.join(cohort.open(chain=b""), [0])) is ErrorCode.CHAIN_BROKEN
    policy = Policy(require_chain=True, gamma=0.0)
    assert code_of(lambda: cohort.join(cohort.open(chain=b""), [0], policy=policy, chained=False)) is (
        ErrorCode.CONFIG_BELOW_POLICY
    )


# -- Around it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"chain": b"short"}, "chain of 5 bytes"),
        ({"chain": bytes(32), "version": 1}, "chained rounds are active, and of version 2"),
        ({"chain": bytes(32), "threat_model": "semi_honest", "cohort": b""}, "chained rounds are active"),
    ],
)
def test_a_chain_that_no_config_can_have(cohort: ChainedCohort, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        cohort.config(**changes)


def test_a_chained_config_comes_back_from_its_bytes(cohort: ChainedCohort) -> None:
    config = cohort.config(chain=bytes(range(32)))
    assert RoundConfig.from_bytes(config.to_bytes()) == config
    assert config.to_bytes()[-36:-32] == b"\x92\x04\xc4\x20"


def test_certificates_belong_to_chained_rounds_and_have_a_limit(cohort: ChainedCohort) -> None:
    for chain, certificate in ((b"", b"c"), (bytes(32), bytes(messages.MAX_CERTIFICATES_BYTES))):
        with pytest.raises(ParameterError, match="certificates of"):
            Server(cohort.config(chain=chain), directory=cohort.directory, certificates=[certificate])


def test_an_invitation_of_version_1_brings_none(cohort: ChainedCohort) -> None:
    invitation = messages.encode_invitation(1, bytes(32), b"c", bytes(32), [b"certificate"])
    with pytest.raises(PeerError) as refused:
        messages.decode_invitation(invitation)
    assert refused.value.code is ErrorCode.MALFORMED


def test_a_restored_server_invites_with_the_same_bytes(cohort: ChainedCohort) -> None:
    server = cohort.open()
    cohort.play(server, cohort.join(server, EVERYBODY))
    cohort.certify(server)
    following = cohort.open()
    assert len(following.invitation()) > 4096 or cohort.certificates[0] in following.invitation()
    restored = Server.restore(following.snapshot(), directory=cohort.directory)
    assert restored.invitation() == following.invitation()


def test_another_process_of_the_same_client_is_noticed() -> None:
    chains = MemoryChains()
    assert chains.swap(b"cohort", b"", b"one")
    assert not chains.swap(b"cohort", b"", b"two")
    assert chains.load(b"cohort") == b"one"


def test_a_chain_needs_the_server_s_key() -> None:
    with pytest.raises(ParameterError, match="no canonical Ed25519"):
        Chain(bytes(31))


def test_a_damaged_store_is_refused() -> None:
    chains = MemoryChains()
    chains.swap(bytes(32), b"", b"\xc1")
    with pytest.raises(ParameterError, match="damaged"):
        Chain(Identity.generate().public_key, chains).head(bytes(32))
