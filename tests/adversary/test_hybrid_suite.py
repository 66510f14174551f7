"""What a hybrid suite promises against whoever recorded a round, and what its clients and server say to lies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from secagg import ErrorCode, Suite
from secagg.pairwise.hybrid import KeyPair
from secagg.primitives import agreement
from secagg.testing.adversary import (
    Attack,
    BreakSecret,
    BrokenSecret,
    ClientLie,
    Coalition,
    ForgeSecret,
    Lie,
    Lose,
    OtherSecret,
    ReplaceKeys,
    SwapSealed,
    WeakKeys,
    WrongLength,
)
from secagg.testing.adversary.server import MaliciousServer
from tests.support.attack_stage import active, semi_honest

SEVEN = active(7, 1, 2, suite=Suite.HYBRID, version=2)
PLAIN = semi_honest(7, 1, 2, suite=Suite.HYBRID, version=2)
"""On a complete graph client i is the sealer for the higher ids at odd distance and for the lower ones at even."""


@pytest.fixture
def solved(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A world in which the outcome of every X25519 agreement is known: all of them are zeros."""
    with monkeypatch.context() as patch:
        patch.setattr(agreement.AgreementKey, "agree", lambda key, peer: bytes(32))
        yield


def solver(suite: Suite, *lies: Lie) -> MaliciousServer:
    """A server that solves X25519 when the round is over; nobody colludes, and client 6 is lost."""
    config = active(7, 1, 2, suite=suite, version=2)
    server = Attack(config, (Lose((6,), "SHARE"), *lies)).server()
    server.ledger.solver = KeyPair(config, bytes(32), 0, bytes(32), "masking")
    server.run()
    return server


@pytest.mark.usefixtures("solved")
def test_who_solves_x25519_later_opens_every_vector_of_suite_2_and_none_of_suite_3() -> None:
    opened = {
        suite: sorted(sorted(opening.clients) for opening in solver(suite).ledger.openings())
        for suite in (Suite.AES_256, Suite.HYBRID)
    }
    assert opened == {Suite.AES_256: [[0], [1], [2], [3], [4], [5]], Suite.HYBRID: [[0, 1, 2, 3, 4, 5]]}


@pytest.mark.usefixtures("solved")
def test_a_forged_pair_secret_takes_x25519_to_be_solved_before_the_round_ends() -> None:
    """In that world the agreement that a forger lacks is known to it, and clients mask with what it chose.

    Even then each client is the sealer for half of its neighbours, and the secrets of these pairs are its own.
    """
    server = solver(Suite.HYBRID, ForgeSecret())
    assert server.refusals == []
    taken = {view.index: set(view.shown_secrets) for view in server.ledger.views if view.masked}
    assert taken == {0: {2, 4, 6}, 1: {0, 3, 5}, 2: {1, 4, 6}, 3: {0, 2, 5}, 4: {1, 3, 6}, 5: {0, 2, 4}}
    chosen = [record.commitment for view in server.ledger.views for record in view.shown_secrets.values()]
    assert set(chosen) <= set(server.ledger.chosen)
    assert server.ledger.openings() == ()


def test_a_forged_pair_secret_does_not_open() -> None:
    spoils = Attack(SEVEN, (ForgeSecret(to=(0,)),), colluders=(6,)).run()
    assert {(index, error.code) for index, error in spoils.refusals} == {(0, ErrorCode.SECRET_UNSEALABLE)}
    assert spoils.broken == []


@pytest.mark.parametrize("part", ["ciphertext", "sealed"])
def test_one_bit_of_a_pair_secret_is_turned_on_its_way(part: str) -> None:
    spoils = Attack(SEVEN, (BreakSecret(1, part, to=(2,)),)).run()
    assert [(index, error.code, error.culprit) for index, error in spoils.refusals] == [
        (2, ErrorCode.SECRET_UNSEALABLE, (1,))
    ]
    assert spoils.broken == []


def test_another_commitment_is_shown() -> None:
    spoils = Attack(SEVEN, (BreakSecret(1, "commitment", to=(2,)),)).run()
    assert [(index, error.code, error.culprit) for index, error in spoils.refusals] == [
        (2, ErrorCode.SECRET_COMMITMENT, (1,))
    ]


def test_what_was_sealed_for_another_does_not_open() -> None:
    """Client 1 is the sealer for 2 and for 4: shares and pair secret of the one are shown to the other."""
    spoils = Attack(SEVEN, (SwapSealed(1, 4, to=(2,)),)).run()
    assert [(index, error.code, error.culprit) for index, error in spoils.refusals] == [
        (2, ErrorCode.SHARES_UNSEALABLE, (1,))
    ]


@pytest.mark.parametrize("by", ["low order", "another's", "its own", "another's ML-KEM", "no ML-KEM"])
@pytest.mark.parametrize("config", [PLAIN, SEVEN], ids=lambda config: str(config.threat_model))
def test_a_roster_with_keys_that_are_unusable_or_there_twice(config: object, by: str) -> None:
    spoils = Attack(config, (ReplaceKeys(by, to=(0,)),)).run()  # type: ignore[arg-type]
    assert [(index, error.code) for index, error in spoils.refusals] == [(0, ErrorCode.ROSTER_KEYS)]
    assert spoils.broken == []


def among_liars(
    *lies: ClientLie, lost: tuple[int, ...] = ()
) -> tuple[dict[int, ErrorCode], set[tuple[int, ErrorCode]]]:
    """Client 6 lies: what the honest clients refuse, naming it, and whom the server names.  Whatever opens is true."""
    outcome = Coalition(SEVEN, liars={6: lies}, fates=dict.fromkeys(lost, "SHARE")).run()
    assert all(error.culprit == (6,) for error in outcome.client_errors.values())
    assert all(opening.is_true(outcome.inputs, SEVEN.modulus) for opening in outcome.openings)
    assert outcome.both_kinds == frozenset()
    return {index: error.code for index, error in outcome.client_errors.items()}, {
        (entry.sender, entry.code) for entry in outcome.blame
    }


def test_keys_whose_ml_kem_half_is_none_do_not_get_into_the_roster() -> None:
    assert among_liars(WeakKeys(encapsulation=True)) == ({}, {(6, ErrorCode.KEY_UNUSABLE)})
    assert among_liars(WeakKeys()) == ({}, {(6, ErrorCode.KEY_UNUSABLE)})


@pytest.mark.parametrize("by", [-1168, -1, 1, 1168])
def test_pair_secrets_of_another_length(by: int) -> None:
    """The server takes the right ones afterwards, from a client that sends them."""
    refused, named = among_liars(WrongLength("SHARE", by))
    assert (refused, named) == ({}, {(6, ErrorCode.WRONG_LENGTH)})


@pytest.mark.parametrize(
    ("part", "code"),
    [
        ("ciphertext", ErrorCode.SECRET_UNSEALABLE),
        ("sealed", ErrorCode.SECRET_UNSEALABLE),
        ("commitment", ErrorCode.SECRET_COMMITMENT),
    ],
)
def test_a_sealer_of_noise_is_named_by_its_holder_and_then_by_the_server(part: str, code: ErrorCode) -> None:
    """The holder leaves, so that it is lost; the server cannot take its mask off the sealer's vector either."""
    assert among_liars(BrokenSecret((2,), part)) == ({2: code}, {(6, ErrorCode.BAD_DEALER)})


def test_bad_secrets_among_clients_that_stay_cost_nothing() -> None:
    """A secret that is committed to, whatever root it does not follow from: nobody needs to recover it."""
    assert among_liars(OtherSecret((0, 2, 4))) == ({}, set())
    assert among_liars(OtherSecret((0, 2, 4)), lost=(4,)) == ({}, set()), "the record opens, and matches"


def test_a_sealer_whose_secrets_do_not_follow_from_its_root_is_named_when_it_is_lost() -> None:
    assert among_liars(OtherSecret((4,)), lost=(6,)) == ({}, {(6, ErrorCode.BAD_DEALER)})
