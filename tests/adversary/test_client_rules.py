"""A lying server trips every rule of every client, each with its own error code, in each threat model it belongs to.

A semi_honest round's server does not lie; the rules of its clients hold against faults, and are tried all the same.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from secagg import ErrorCode, PeerError, ThreatModel
from secagg.pairwise.rules.table import RULES, Role
from secagg.testing.adversary import (
    Attack,
    CertificateLie,
    ChainedCohort,
    DropFromSurvivors,
    FakeAbort,
    Lose,
    OtherKey,
    OtherNonce,
    OtherSurvivors,
    known_cohort,
)
from tests.support.attack_stage import around, ring_of
from tests.support.trips import ACTIVE, BOTH, CASES, COMPLETE, RING, SEMI_HONEST, Trip, attack_of, name_of


@pytest.mark.parametrize(("trip", "model"), CASES, ids=name_of)
def test_a_lie_is_refused_with_its_own_code(trip: Trip, model: ThreatModel) -> None:
    spoils = attack_of(trip, model).run()
    mine = [error for index, error in spoils.refusals if index == 0]
    assert [error.code for error in mine] == [trip.code]
    assert mine[0].phase == trip.phase
    assert mine[0].culprit == trip.culprit
    assert spoils.crashes == ()
    if model is ACTIVE:
        assert spoils.broken == []


@pytest.mark.parametrize("model", BOTH)
def test_survivors_that_leave_a_client_too_few_neighbours_are_refused(model: ThreatModel) -> None:
    attack = attack_of(Trip(ErrorCode.SURVIVORS_NEIGHBOURS, "MASK", config=RING), model)
    dropped = around(ring_of(attack), 0, 1, 2, 3)
    spoils = replace(attack, lies=(Lose(dropped, "MASK"), DropFromSurvivors(dropped))).run()
    mine = [error for index, error in spoils.refusals if index == 0]
    assert [(error.code, error.phase) for error in mine] == [(ErrorCode.SURVIVORS_NEIGHBOURS, "MASK")]
    assert spoils.broken == []


def test_a_host_at_the_wrong_index_of_its_cohort_does_not_join() -> None:
    """R-CONFIG-12: two members have each other's place in a cohort that the directory vouches for."""
    config = COMPLETE[ACTIVE]
    identities, directory, _ = known_cohort(config.clients)
    keys = [identity.public_key for identity in identities]
    keys[0], keys[1] = keys[1], keys[0]
    swapped = directory.add(keys)
    spoils = Attack(config, sends=config.replace(cohort=swapped), approve=False, directory=directory).run()
    assert {index for index, error in spoils.refusals if error.code is ErrorCode.COHORT_NOT_VOUCHED} == {0, 1}


def test_a_client_with_another_nonce_is_alone_and_learns_nothing_wrong() -> None:
    spoils = Attack(COMPLETE[ACTIVE], (OtherNonce((0,)),), colluders=(6,)).run()
    assert ErrorCode.ROSTER_TOO_FEW in {error.code for index, error in spoils.refusals if index == 0}
    assert spoils.smallest == 5


# -- Over several rounds -----------------------------------------------------------------------------------------------

CHAIN_TRIPS: list[tuple[ErrorCode, CertificateLie | None]] = [
    (ErrorCode.CHAIN_CERTIFICATE, OtherKey()),
    (ErrorCode.CHAIN_BROKEN, None),
    (ErrorCode.CHAIN_UNSETTLED, FakeAbort()),
    (ErrorCode.CHAIN_UNSETTLED, FakeAbort(stated_by=(0, 1, 2, 4, 5))),
    (ErrorCode.CHAIN_UNSETTLED, OtherSurvivors(lost=(5,))),
]
"""Of a round that the members answered in; None stands for a round that the certificates do not lead to."""


@pytest.mark.parametrize(("code", "lie"), CHAIN_TRIPS, ids=repr)
def test_a_lie_about_the_round_before_is_refused_with_its_own_code(code: ErrorCode, lie: CertificateLie | None) -> None:
    cohort = ChainedCohort()
    first = cohort.open()
    cohort.play(first, cohort.join(first, range(6)))
    true = cohort.true_certificate(first)
    lying = cohort.open(chain=bytes([1]) * 32) if lie is None else cohort.open(behind=[lie.told(true, cohort.server)])
    for member in range(5):
        with pytest.raises(PeerError) as refused:
            cohort.join(lying, [member])
        assert refused.value.code is code
        assert cohort.chains[member].is_unsettled(cohort.digest)


def test_a_round_that_a_client_disclaimed_is_refused_with_its_own_code() -> None:
    cohort, held = ChainedCohort(), dict[int, bytes]()
    server = cohort.open()
    clients = cohort.join(server, range(6))
    cohort.play(server, clients, answering=(), held=held)
    clients[0].abort()
    clients[0].disclaim()
    with pytest.raises(PeerError) as refused:
        cohort.copies[0].receive(held[0])
    assert refused.value.code is ErrorCode.CHAIN_DISCLAIMED


ACTIVE_ONLY = {
    ErrorCode.COHORT_NOT_VOUCHED,
    ErrorCode.ROSTER_NEIGHBOURS,
    ErrorCode.ROSTER_PATH,
    ErrorCode.ROSTER_SIGNATURE,
    ErrorCode.CONFIRM_SIGNERS,
    ErrorCode.CONFIRM_SIGNATURE,
    ErrorCode.CHAIN_CERTIFICATE,
    ErrorCode.CHAIN_BROKEN,
    ErrorCode.CHAIN_UNSETTLED,
    ErrorCode.CHAIN_DISCLAIMED,
}


def test_every_code_of_every_rule_is_tripped_in_every_threat_model_it_belongs_to() -> None:
    of_complaints = {ErrorCode.ACCUSATION_HOLDERS, ErrorCode.ACCUSATION_SIGNATURE, ErrorCode.ANSWER_SIGNATURE}
    of_complaints |= {ErrorCode.SETTLED_DEALERS}  # tests/support/complaint_mutants.py
    every = {code for rule in RULES if Role.CLIENT in rule.role for code in rule.codes} - of_complaints
    tripped = {model: {trip.code for trip, tried in CASES if tried is model} for model in BOTH}
    for codes in tripped.values():
        codes.add(ErrorCode.SURVIVORS_NEIGHBOURS)
    tripped[ACTIVE] |= {code for code, _ in CHAIN_TRIPS} | {ErrorCode.CHAIN_DISCLAIMED}
    assert tripped[ACTIVE] == every
    assert tripped[SEMI_HONEST] == every - ACTIVE_ONLY
