"""Rounds with complaints (version 2): whose shares are bad is known, and settled, before anybody masks."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import chain

from secagg import Client, ErrorCode, ParameterError, PeerError, Policy, RoundConfig
from secagg.audit import audit
from secagg.pairwise import messages, records
from secagg.pairwise.certificate import Certificate
from secagg.pairwise.messages import Accusations, Settled, Shares
from secagg.pairwise.phases import Phase
from secagg.simulation import Faults, expected_sum, simulate
from secagg.simulation.driver import RoundDriver
from secagg.simulation.traffic import traffic
from secagg.testing.adversary import (
    AnswersWrongly,
    ClientLie,
    Coalition,
    CoalitionOutcome,
    ComplainsFalsely,
    FlipsSealed,
    Leaves,
    known_cohort,
)
from tests.support.attack_stage import active, semi_honest
from tests.support.bad_dealing import dealing_badly
from tests.support.certified import CertifiedCohort
from tests.support.complaint_rounds import blamed, check_sum, with_shares

ACTIVE = active(7, 1, 2, version=2, complaints="auto")
PLAIN = semi_honest(7, 1, 2, version=2, complaints="auto")
"""t = 4 and t = 3; one lie is counted on, in both."""
BOTH = pytest.mark.parametrize("config", [ACTIVE, PLAIN], ids=["active", "semi_honest"])
EVERY = pytest.mark.parametrize(
    "config",
    [ACTIVE, PLAIN, ACTIVE.replace(suite="hybrid"), PLAIN.replace(suite="hybrid")],
    ids=["active", "semi_honest", "active, hybrid", "semi_honest, hybrid"],
)
Liars = Mapping[int, tuple[ClientLie, ...]]


def played(config: RoundConfig, liars: Liars, **options: object) -> CoalitionOutcome:
    return Coalition(config, liars=liars, **options).run()  # type: ignore[arg-type]


@EVERY
def test_a_round_in_which_nobody_complains_is_as_any_other(config: RoundConfig) -> None:
    outcome = played(config, {})
    check_sum(outcome, config, set(range(7)))
    assert outcome.blame == ()


@EVERY
def test_a_dealer_that_flips_a_bit_in_each_pair_is_named_and_the_round_goes_on(config: RoundConfig) -> None:
    liar = {6: (FlipsSealed(),)}
    outcome = played(config, liar)
    check_sum(outcome, config, set(range(6)))
    assert blamed(outcome) == {(6, ErrorCode.DISPUTED)}
    assert outcome.client_errors == {}


@EVERY
def test_without_complaints_the_same_dealer_kills_the_round(config: RoundConfig) -> None:
    outcome = played(config.replace(complaints=0), {6: (FlipsSealed(),)})
    assert outcome.result is None
    assert outcome.blame == ()
    assert {error.culprit for error in outcome.client_errors.values()} == {(6,)}


@EVERY
def test_a_holder_that_complains_falsely_costs_nothing(config: RoundConfig) -> None:
    outcome = played(config, {6: (ComplainsFalsely((2,)),)})
    check_sum(outcome, config, set(range(7)))
    assert outcome.blame == ()


@EVERY
def test_a_holder_that_complains_about_many_is_named(config: RoundConfig) -> None:
    outcome = played(config, {6: (ComplainsFalsely((1, 2, 3)),)})
    check_sum(outcome, config, set(range(6)))
    assert blamed(outcome) == {(6, ErrorCode.COMPLAINT_DEALERS)}


@EVERY
def test_one_bad_pair_that_is_opened_counts(config: RoundConfig) -> None:
    """The holder has its pair from the answer, and all its other dealers': everybody is in the sum."""
    outcome = played(config, {6: (FlipsSealed((3,)),)})
    check_sum(outcome, config, set(range(7)))
    assert outcome.client_errors == {}


@EVERY
def test_an_opened_pair_is_as_good_as_one_that_was_sealed(config: RoundConfig) -> None:
    """The dealer is lost in MASK, and the holder's share of its key comes from the opened pair."""
    outcome = played(config, {6: (FlipsSealed((3,)), Leaves("MASK"))}, fates={5: "MASK"})
    assert outcome.result is not None
    assert 6 not in outcome.result.included
    assert outcome.blame == ()


@EVERY
def test_a_dealer_that_gives_a_wrong_answer_is_named_and_left_out(config: RoundConfig) -> None:
    outcome = played(config, {6: (FlipsSealed((3,)), AnswersWrongly())})
    check_sum(outcome, config, set(range(6)))
    assert blamed(outcome) == {(6, ErrorCode.BAD_ANSWER)}


@EVERY
def test_a_dealer_that_gives_no_answer_is_lost_in_that_phase(config: RoundConfig) -> None:
    outcome = played(config, {6: (FlipsSealed((3,)), Leaves("ANSWER"))})
    check_sum(outcome, config, set(range(6)))
    assert outcome.result is not None
    assert outcome.result.dropped == {"ANSWER": (6,)}


# -- A server that alters ----------------------------------------------------------------------------------------------


def alter(shares: Shares, dealer: int) -> Shares:
    """One bit of what this dealer sealed."""
    boxes = records.cut(shares.sealed, records.SEALED_BYTES)
    place = messages.decode_ids(shares.dealers).index(dealer)
    boxes[place] = bytes((boxes[place][0] ^ 1,)) + boxes[place][1:]
    return msgspec.structs.replace(shares, sealed=b"".join(boxes))


def test_a_server_that_alters_a_pair_gets_no_signature_that_its_dealer_takes() -> None:
    """Client 3 gets altered bytes of dealer 1, complains, and the server shows the dealer that signature."""
    driver, outgoing = with_shares(ACTIVE)
    shares = messages.to_client.decode(outgoing[3], 10**6, 2)
    assert isinstance(shares, Shares)
    (sent,) = driver.clients[3].receive(messages.encode(alter(shares, 1))).outgoing
    complaint = messages.to_server.decode(sent, 10**6, 2)
    assert messages.decode_ids(complaint.dealers) == (1,)  # type: ignore[union-attr]
    driver.clients[1].receive(outgoing[1])
    accusation = Accusations(2, complaint.session, messages.encode_ids([3]), complaint.signatures)  # type: ignore[union-attr]
    with pytest.raises(PeerError) as refused:
        driver.clients[1].receive(messages.encode(accusation))
    assert refused.value.code is ErrorCode.ACCUSATION_SIGNATURE
    assert refused.value.culprit == ()


def test_an_honest_server_refuses_a_complaint_about_bytes_that_it_did_not_send() -> None:
    """On the way to the client a bit turns: the server cannot know that, and the client is out of the round."""

    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        return messages.encode(alter(message, 1)) if index == 3 and isinstance(message, Shares) else data

    outcome = played(ACTIVE, {}, wire=wire)
    check_sum(outcome, ACTIVE, {0, 1, 2, 4, 5, 6})
    assert blamed(outcome) == {(3, ErrorCode.BAD_SIGNATURE)}


def test_a_holder_of_more_bad_pairs_than_it_may_complain_about_leaves_as_before() -> None:
    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        if index != 3 or not isinstance(message, Shares):
            return data
        return messages.encode(alter(alter(message, 1), 2))

    outcome = played(ACTIVE, {}, wire=wire)
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == {
        3: (ErrorCode.SHARES_UNSEALABLE, (2,))
    }
    check_sum(outcome, ACTIVE, {0, 1, 2, 4, 5, 6})


REWRITTEN = {
    "a dealer that did not deal": (
        ErrorCode.SETTLED_DEALERS,
        lambda m: msgspec.structs.replace(m, dealers=m.dealers[:-4] + b"\x09\0\0\0"),
    ),
    "dealers that do not ascend": (
        ErrorCode.SETTLED_DEALERS,
        lambda m: msgspec.structs.replace(m, dealers=m.dealers[4:] + m.dealers[:4]),
    ),
    "too few dealers": (ErrorCode.SHARES_TOO_FEW, lambda m: msgspec.structs.replace(m, dealers=m.dealers[:8])),
    "a pair that nobody asked for": (ErrorCode.MALFORMED, lambda m: msgspec.structs.replace(m, pairs=bytes(144))),
    "a signature that nobody asked for": (
        ErrorCode.MALFORMED,
        lambda m: msgspec.structs.replace(m, signatures=bytes(64)),
    ),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_what_is_settled_is_checked(name: str) -> None:
    code, change = REWRITTEN[name]

    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        return messages.encode(change(message)) if index == 3 and isinstance(message, Settled) else data

    outcome = played(ACTIVE, {}, wire=wire)
    assert {index: error.code for index, error in outcome.client_errors.items()} == {3: code}


@pytest.mark.parametrize(
    ("field", "code"), [("pairs", ErrorCode.ANSWER_SIGNATURE), ("signatures", ErrorCode.ANSWER_SIGNATURE)]
)
def test_an_opened_pair_counts_only_as_its_dealer_signed_it(field: str, code: ErrorCode) -> None:
    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        if index != 3 or not isinstance(message, Settled):
            return data
        value = getattr(message, field)
        return messages.encode(msgspec.structs.replace(message, **{field: bytes((value[0] ^ 1,)) + value[1:]}))

    outcome = played(ACTIVE, {6: (FlipsSealed((3,)),)}, wire=wire)
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == {3: (code, (6,))}


def test_in_semi_honest_an_opened_pair_is_compared_with_its_commitments() -> None:
    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        if index != 3 or not isinstance(message, Settled):
            return data
        return messages.encode(msgspec.structs.replace(message, pairs=b"\1" + message.pairs[1:]))

    outcome = played(PLAIN, {6: (FlipsSealed((3,)),)}, wire=wire)
    assert {error.code for error in outcome.client_errors.values()} == {ErrorCode.SHARES_COMMITMENT}


ACCUSED = {"nobody": [], "more than the bound": [1, 3], "itself": [2], "a stranger": [9]}


@pytest.mark.parametrize("name", ACCUSED)
def test_a_dealer_opens_nothing_for_others_than_a_few_neighbours(name: str) -> None:
    def wire(phase: str, index: int, data: bytes) -> bytes:
        message = messages.to_client.decode(data, len(data), 2)
        if index != 2 or not isinstance(message, Accusations):
            return data
        return messages.encode(msgspec.structs.replace(message, holders=messages.encode_ids(ACCUSED[name])))

    outcome = played(ACTIVE, {6: (ComplainsFalsely((2,)),)}, wire=wire)
    assert {index: error.code for index, error in outcome.client_errors.items()} == {2: ErrorCode.ACCUSATION_HOLDERS}


@EVERY
def test_envelopes_go_on_without_a_dealer_of_bad_shares(config: RoundConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short secrets of the envelopes are masked after it is settled whose shares count."""
    identities, directory, _ = known_cohort(7)
    vectors = [[index, 1, 2] for index in range(7)]
    for holders, included in ((6, range(6)), (1, range(7))):
        with monkeypatch.context() as patch:
            dealing_badly(patch, 6, holders)
            outcome = simulate(
                vectors, config.replace(carrier="lattice"), seed=1, identities=identities, directory=directory
            )
        assert set(outcome.included) == set(included)
        assert outcome.sum.tolist() == [sum(included), len(included), 2 * len(included)]


# -- Losses, groups, storage -------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.integers(0, 6), st.sampled_from(["NONE", "ADVERTISE", "SHARE", "COMPLAIN", "MASK"]), max_size=3),
    st.booleans(),
)
def test_losses_are_as_the_oracle_says(fates: dict[int, str], signed: bool) -> None:
    config, (identities, directory, _) = ACTIVE if signed else PLAIN, known_cohort(7)
    vectors = [[index, 1, 2] for index in range(7)]
    outcome = simulate(vectors, config, faults=Faults(fates), seed=1, identities=identities, directory=directory)
    expected = expected_sum(config, Faults(fates), outcome.graph)
    assert outcome.client_errors == {}
    assert (outcome.result is None) == (expected is None)
    if outcome.result is not None:
        assert frozenset(outcome.included) == expected
        assert outcome.sum.tolist() == [sum(outcome.included), len(outcome.included), 2 * len(outcome.included)]


def test_groups_complain_each_on_its_own() -> None:
    config = semi_honest(12, 1, 3, "auto", version=2, groups=2, complaints="auto", sigma=1)
    outcome = played(config, {6: (FlipsSealed(),)})
    assert outcome.result is not None
    assert 6 not in outcome.result.included
    assert blamed(outcome) == {(6, ErrorCode.DISPUTED)}


@pytest.mark.parametrize(
    ("holders", "lost", "fates"),
    [
        (1, {}, {}),
        (7, {"COMPLAIN": {6}}, {}),
        (1, {"ANSWER": {6}}, {6: "COMPLAIN"}),
        (7, None, {0: "SHARE", 1: "SHARE", 2: "SHARE"}),
        (1, None, {0: "COMPLAIN", 1: "COMPLAIN", 2: "COMPLAIN", 6: "COMPLAIN"}),
    ],
)
def test_a_certificate_has_the_phases_of_complaints(
    holders: int, lost: dict[str, set[int]] | None, fates: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a round with its sum, and of one that was aborted; the reference reads it as the library does."""
    made = CertifiedCohort(7)
    dealing_badly(monkeypatch, 6, holders)
    data = made.certify(made.play(fates, version=2, complaints="auto"))
    audit([data], directory=made.vouching)
    read, certificate = chain.read(data), Certificate.from_bytes(data)
    assert (certificate.ended is None) == (lost is not None)
    if lost is not None:
        assert {phase: {*read.members(members)} for phase, members in read.lost} == lost
    assert [fault[2] for fault in read.faults] == ["disputed"] * (holders == 7)


# -- Config and policy -------------------------------------------------------------------------------------------------


def test_the_bound_is_between_the_colluders_and_the_threshold() -> None:
    for complaints in (0, 1, 2, 3):
        ACTIVE.replace(complaints=complaints)
    for complaints in (-1, 4):
        with pytest.raises(ParameterError):
            ACTIVE.replace(complaints=complaints)
    two = active(9, 2, 1, version=2)
    with pytest.raises(ParameterError, match="from 2"):
        two.replace(complaints=1)
    with pytest.raises(ParameterError, match="version"):
        active(7, 1, 2).replace(complaints=1)
    assert ACTIVE.replace(suite="hybrid").complaints == 1
    assert "complains about up to 3 clients whose shares are bad" in ACTIVE.replace(complaints=3).explain()
    assert "complain" not in ACTIVE.replace(complaints=0).explain()


def test_a_policy_bounds_the_pairs_that_a_client_opens() -> None:
    Policy(max_complaints=1, min_sigma=1, min_grinding_bits=0).check(ACTIVE)
    with pytest.raises(PeerError, match="complaints"):
        Policy(max_complaints=0, min_sigma=1, min_grinding_bits=0).check(ACTIVE)


def test_a_client_is_suspended_in_every_state() -> None:
    identities, directory, _ = known_cohort(7)
    driver = RoundDriver([[1, 2, 3]] * 7, ACTIVE, seed=1, identities=identities, directory=directory)
    while not driver.server.ready_to_compute:
        driver.collect()
        for index, client in driver.clients.items():
            if not client.done:
                state = client.suspend()  # type: ignore[attr-defined]
                driver.clients[index] = Client.resume(
                    state, lambda token: True, identity=identities[index], directory=directory
                )
        driver.close()
        driver.server = type(driver.server).restore(driver.server.snapshot(), directory=directory)  # type: ignore[attr-defined]
    result = driver.compute()
    assert result is not None
    assert len(result.included) == 7


@BOTH
def test_the_traffic_of_a_round_in_which_nobody_complains(config: RoundConfig) -> None:
    identities, directory, _ = known_cohort(7)
    driver = RoundDriver([[1, 2, 3]] * 7, config, seed=1, identities=identities, directory=directory)
    expected = traffic(config)
    sizes: dict[str, set[int]] = {}
    while not driver.server.ready_to_compute:
        driver.collect()
        sizes[driver.server.phase.value] = {len(message) for _, message in driver.server.outgoing()}
        driver.close()
    assert set(sizes) == {phase for phase, (up, _) in expected.items() if up}
    assert {phase: sizes[phase] for phase in ("COMPLAIN", "MASK")} == {
        phase: {expected[phase][1]} for phase in (Phase.COMPLAIN, Phase.MASK)
    }
