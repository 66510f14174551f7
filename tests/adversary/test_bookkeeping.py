"""The account itself: its algebra, and that it claims no more and no less than is so."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Modulus
from secagg.testing.adversary import Attack, Opening
from secagg.testing.adversary.algebra import Combination, bare, reduced
from tests.support.attack_stage import active

FACTORS = st.integers(-3, 3).filter(bool)
COMBINATIONS = st.dictionaries(st.integers(0, 4), FACTORS, max_size=4)
SYSTEMS = st.lists(COMBINATIONS, max_size=7)


def rank(rows: list[Combination[int]]) -> int:
    """By Gaussian elimination in fractions, column by column."""
    left, found = [{key: Fraction(factor) for key, factor in row.items()} for row in rows], 0
    for column in range(8):
        pivot = next((row for row in left if row.get(column)), None)
        if pivot is None:
            continue
        found += 1
        left.remove(pivot)
        for row in left:
            ratio = row.get(column, Fraction(0)) / pivot[column]
            for key, factor in pivot.items():
                row[key] = row.get(key, Fraction(0)) - ratio * factor
    return found


@given(SYSTEMS)
def test_what_is_bare_has_no_unknown_left_and_nothing_is_missed(system: list[Combination[int]]) -> None:
    free = bare((row, {number: 1}) for number, row in enumerate(system))
    for combination in free:
        assert combination
        for unknown in range(5):
            assert sum(factor * system[number].get(unknown, 0) for number, factor in combination.items()) == 0
    assert len(free) == len(system) - rank(system)
    assert rank(free) == len(free)


@given(SYSTEMS)
def test_rows_are_reduced_together_with_what_they_stand_for(system: list[Combination[int]]) -> None:
    rows = reduced((row, {number: 1}) for number, row in enumerate(system))
    assert len(rows) == rank(system) == rank([row for row, _ in rows])
    for row, origin in rows:
        total = {key: sum(factor * system[number].get(key, 0) for number, factor in origin.items()) for key in range(5)}
        assert {key: factor for key, factor in total.items() if factor} == row
    pivots = [next(iter(row)) for row, _ in rows]
    for place, (row, _) in enumerate(rows):
        assert [pivot for pivot in pivots if pivot in row] == [pivots[place]]


def test_an_opening_that_is_not_so_is_told_from_one_that_is() -> None:
    inputs = {(0, 0): [1, 2], (1, 0): [5, 7]}
    factors = (((0, 0), 1), ((1, 0), -1))
    modulus = Modulus.ring(4)
    assert Opening(factors, (12, 11)).is_true(inputs, modulus)
    assert not Opening(factors, (12, 10)).is_true(inputs, modulus)
    assert Opening(factors, (12, 11)).clients == {0, 1}


def test_a_wrong_claim_is_not_let_through() -> None:
    config = active(5, 1, 1)
    spoils = Attack(config, colluders=(4,)).run()
    spoils.inputs[0, 0][0] += 1
    with pytest.raises(AssertionError, match="contradict"):
        spoils.check_openings(config)


@pytest.mark.parametrize("shares", [3, 4])
def test_the_threshold_is_what_opens_a_secret(shares: int) -> None:
    """n = 7, t = 4: a colluder's share and those of two clients are too few, with a third's they are enough."""
    config = active(7, 1, 2)
    spoils = Attack(config, colluders=(6,)).run()
    ledger = spoils.ledger
    for view in ledger.views[shares - 1 :]:
        view.openings = []
    assert {len(held) for (number, kind), held in ledger.shares().items() if number == 5 and kind == 1} == {shares}
    assert ((5, 1) in ledger.secrets()) == (shares >= config.threshold)


def test_without_colluders_keys_the_ledger_holds_only_what_was_revealed() -> None:
    config = active(5, 0, 1)
    spoils = Attack(config).run()
    kinds = {kind for _, kind in spoils.ledger.shares()}
    assert kinds == {1}
    assert all(len(held) == 4 for held in spoils.ledger.shares().values())
