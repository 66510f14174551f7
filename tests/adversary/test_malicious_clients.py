"""Malicious clients against an honest server: each is named for what it did, and nobody else is."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secagg import AlreadyMasked, ErrorCode, Misbehaved, Modulus, RoundConfig
from secagg.pairwise.transcript import KEY_SHARE, SEED_SHARE
from secagg.testing.adversary import (
    BadCommitment,
    BadShares,
    ClientLie,
    Coalition,
    CoalitionOutcome,
    DirtyPadding,
    FalseSignature,
    FirstElement,
    Garbage,
    InconsistentPolynomial,
    KeysOf,
    Leaves,
    LimbOutOfRange,
    OtherKind,
    SecondVector,
    ShareOutOfRange,
    Unopenable,
    WeakKeys,
    WrongLength,
    WrongSecret,
)
from secagg.testing.adversary.strategies import client_lies, wire_lies
from tests.support.attack_stage import active, semi_honest

MODELS = (semi_honest(7, 1, 2, threshold=4), active(7, 1, 2))
"""t = 4, two may be lost."""
LIAR = 6
EVERYBODY = frozenset(range(7))


def play(config: RoundConfig, *lies: ClientLie, fates: dict[int, str] | None = None) -> CoalitionOutcome:
    return Coalition(config, liars={LIAR: lies}, fates=fates or {}).run()


def faults(outcome: CoalitionOutcome) -> list[tuple[int, str, ErrorCode]]:
    return [(event.sender, event.phase, event.code) for event in outcome.events if isinstance(event, Misbehaved)]


def check_sum(outcome: CoalitionOutcome, config: RoundConfig, included: frozenset[int]) -> None:
    assert outcome.result is not None, outcome.failure
    assert set(outcome.result.included) == included
    columns = zip(*(outcome.inputs[index, 0] for index in sorted(included)), strict=True)
    assert outcome.result.sum.tolist() == [sum(column) % config.modulus.value for column in columns]


def check_blame(outcome: CoalitionOutcome, *entries: tuple[int, str, ErrorCode]) -> None:
    assert outcome.result is not None
    assert [(blame.sender, blame.phase, blame.code) for blame in outcome.result.blame] == list(entries)


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize(
    ("lies", "phase", "code"),
    [
        ((WeakKeys(), Leaves("SHARE")), "ADVERTISE", ErrorCode.KEY_UNUSABLE),
        ((WeakKeys(False, True), Leaves("SHARE")), "ADVERTISE", ErrorCode.KEY_UNUSABLE),
        ((WrongLength("ADVERTISE"),), "ADVERTISE", ErrorCode.MALFORMED),
        ((Garbage("ADVERTISE", b"\xc1", instead=True),), "ADVERTISE", ErrorCode.MALFORMED),
        ((WrongLength("SHARE"),), "SHARE", ErrorCode.WRONG_LENGTH),
        ((WrongLength("SHARE", -64),), "SHARE", ErrorCode.WRONG_LENGTH),
        ((WrongLength("MASK"),), "MASK", ErrorCode.WRONG_LENGTH),
        ((WrongLength("MASK", -1),), "MASK", ErrorCode.WRONG_LENGTH),
        ((DirtyPadding(),), "MASK", ErrorCode.PADDING),
        ((Garbage("MASK", b"\x93\x06\x01\xc4\x00", instead=True),), "MASK", ErrorCode.MALFORMED),
        ((WrongLength("UNMASK"),), "UNMASK", ErrorCode.WRONG_LENGTH),
        ((WrongLength("UNMASK", -72),), "UNMASK", ErrorCode.WRONG_LENGTH),
    ],
)
def test_a_refused_message_names_its_sender(
    config: RoundConfig, lies: tuple[ClientLie, ...], phase: str, code: ErrorCode
) -> None:
    outcome = play(config, *lies)
    assert faults(outcome) == [(LIAR, phase, code)]
    check_sum(outcome, config, EVERYBODY if phase == "UNMASK" else EVERYBODY - {LIAR})
    check_blame(outcome, (LIAR, phase, code))
    assert outcome.client_errors == {}


@pytest.mark.parametrize("phase", ["ADVERTISE", "CONFIRM"])
def test_a_false_signature_names_its_sender(phase: str) -> None:
    config = MODELS[1]
    outcome = play(config, FalseSignature(phase))
    assert faults(outcome) == [(LIAR, phase, ErrorCode.BAD_SIGNATURE)]
    check_sum(outcome, config, EVERYBODY if phase == "CONFIRM" else EVERYBODY - {LIAR})


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
def test_keys_of_another_member_name_who_came_second(config: RoundConfig) -> None:
    outcome = Coalition(config, liars={5: (), LIAR: ()}).run()
    keys = next(view.present[5] for view in outcome.ledger.views if 5 in view.present)
    outcome = Coalition(config, liars={5: (), LIAR: (KeysOf(keys),)}).run()
    assert faults(outcome) == [(LIAR, "ADVERTISE", ErrorCode.KEY_REPEATED)]
    check_sum(outcome, config, EVERYBODY - {LIAR})


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_an_element_out_of_range_names_its_sender(threat_model: str) -> None:
    make = semi_honest if threat_model == "semi_honest" else active
    config = make(7, 1, 2, threshold=4, modulus=Modulus(32771))
    outcome = play(config, FirstElement())
    assert faults(outcome) == [(LIAR, "MASK", ErrorCode.ELEMENT_RANGE)]
    check_sum(outcome, config, EVERYBODY - {LIAR})


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
def test_of_two_masked_vectors_the_first_wins(config: RoundConfig) -> None:
    outcome = play(config, SecondVector())
    assert [event for event in outcome.events if isinstance(event, AlreadyMasked)] == [AlreadyMasked(LIAR)]
    check_sum(outcome, config, EVERYBODY)
    assert faults(outcome) == []


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK", "UNMASK"])
def test_garbage_before_a_message_is_named_and_does_no_harm(config: RoundConfig, phase: str) -> None:
    outcome = play(config, Garbage(phase, b"\xff" * 7))
    assert faults(outcome) == [(LIAR, phase, ErrorCode.MALFORMED)]
    check_sum(outcome, config, EVERYBODY)


# -- Shares returned in UNMASK -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize("lie", [BadShares((0, 2)), BadShares((0, 2), out_of_range=True), OtherKind()])
@pytest.mark.parametrize("fates", [{}, {0: "SHARE"}], ids=["all-survive", "one-dropped"])
def test_bad_shares_name_who_returned_them_and_do_no_harm(
    config: RoundConfig, lie: ClientLie, fates: dict[int, str]
) -> None:
    outcome = play(config, lie, fates=fates)
    assert faults(outcome) == [(LIAR, "UNMASK", ErrorCode.BAD_SHARE)]
    check_blame(outcome, (LIAR, "UNMASK", ErrorCode.BAD_SHARE))
    check_sum(outcome, config, EVERYBODY - set(fates))
    (event,) = (event for event in outcome.events if isinstance(event, Misbehaved))
    assert set(event.dealers) == ({0, 2} if isinstance(lie, BadShares) else EVERYBODY - {LIAR})


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize("bad", range(4))
def test_as_many_bad_shares_as_there_are_beyond_the_threshold_do_no_harm(config: RoundConfig, bad: int) -> None:
    """Six shares of client 0's seed come back, four are needed."""
    liars = range(7 - bad, 7)
    outcome = Coalition(config, liars={index: (BadShares((0,)),) for index in liars}).run()
    assert faults(outcome) == [(index, "UNMASK", ErrorCode.BAD_SHARE) for index in liars]
    if bad <= 6 - config.threshold:
        check_sum(outcome, config, EVERYBODY)
        return
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.phase == "UNMASK"
    assert {blame.sender for blame in outcome.blame} == set(liars)


# -- What was dealt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (Unopenable((0, 1)), ErrorCode.SHARES_UNSEALABLE),
        (BadCommitment((0, 1)), ErrorCode.SHARES_COMMITMENT),
        (ShareOutOfRange((0, 1), KEY_SHARE), ErrorCode.SHARES_RANGE),
        (ShareOutOfRange((0, 1), SEED_SHARE), ErrorCode.SHARES_RANGE),
    ],
)
def test_who_is_dealt_bad_shares_names_the_dealer_and_leaves(
    config: RoundConfig, lie: ClientLie, code: ErrorCode
) -> None:
    outcome = play(config, lie)
    assert {index: (error.code, error.culprit) for index, error in outcome.client_errors.items()} == dict.fromkeys(
        (0, 1), (code, (LIAR,))
    )
    check_sum(outcome, config, EVERYBODY - {0, 1})


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize("lie", [InconsistentPolynomial, LimbOutOfRange, WrongSecret])
@pytest.mark.parametrize("kind", [KEY_SHARE, SEED_SHARE])
def test_a_secret_that_is_not_the_announced_one_ends_the_round_and_names_its_dealer(
    config: RoundConfig, lie: type[ClientLie], kind: int
) -> None:
    dropped = (Leaves("MASK"),) if kind == KEY_SHARE else ()
    outcome = play(config, lie(kind), *dropped)  # type: ignore[call-arg]
    assert outcome.result is None
    assert outcome.failure is not None
    assert outcome.failure.culprit == (LIAR,)
    assert [(blame.sender, blame.code) for blame in outcome.blame] == [(LIAR, ErrorCode.BAD_DEALER)]
    assert outcome.client_errors == {}


@pytest.mark.parametrize("config", MODELS, ids=lambda config: config.threat_model)
@pytest.mark.parametrize("lie", [InconsistentPolynomial, LimbOutOfRange, WrongSecret])
@pytest.mark.parametrize("kind", [KEY_SHARE, SEED_SHARE])
def test_a_secret_that_nobody_needs_does_no_harm(config: RoundConfig, lie: type[ClientLie], kind: int) -> None:
    dropped = (Leaves("MASK"),) if kind == SEED_SHARE else ()
    outcome = play(config, lie(kind), *dropped)  # type: ignore[call-arg]
    check_sum(outcome, config, EVERYBODY - {LIAR} if dropped else EVERYBODY)


# -- Anything ----------------------------------------------------------------------------------------------------------


@st.composite
def rounds(draw: st.DrawFn) -> Coalition:
    """Two clients that tell any lies, and others that are lost."""
    config = draw(st.sampled_from(MODELS))
    lie = st.one_of(client_lies(config), wire_lies(config))
    lies = draw(st.lists(st.lists(lie, max_size=3).map(tuple), min_size=1, max_size=2))
    fates = draw(st.dictionaries(st.integers(0, 4), st.sampled_from(("SHARE", "MASK", "NONE")), max_size=1))
    return Coalition(
        config, liars={6 - number: told for number, told in enumerate(lies)}, fates=fates, seed=draw(st.integers(0, 99))
    )


@settings(max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(rounds())
def test_whatever_clients_do_the_sum_is_right_or_missing_and_only_they_are_named(coalition: Coalition) -> None:
    outcome, liars = coalition.run(), set(coalition.liars)
    named = {blame.sender for blame in outcome.blame}
    named |= {index for error in outcome.client_errors.values() for index in error.culprit}
    named |= set(outcome.failure.culprit) if outcome.failure is not None else set()
    assert named <= liars
    assert outcome.both_kinds == frozenset()
    if outcome.result is not None and not any(
        isinstance(lie, FirstElement) for lies in coalition.liars.values() for lie in lies
    ):
        check_sum(outcome, coalition.config, frozenset(outcome.result.included))
