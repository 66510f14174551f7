"""Classes of equal history: what is allowed can be combined to nothing about fewer than T, by linear algebra."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.differencing import Classes, least_difference
from secagg.errors import ParameterError

MEMBERS = "abcdefg"
SETS = st.lists(st.sets(st.sampled_from(MEMBERS), min_size=1), min_size=1, max_size=5)
ROUNDS = st.lists(
    st.lists(st.integers(-1, 2), min_size=len(MEMBERS), max_size=len(MEMBERS)).map(
        lambda groups: [{name for name, g in zip(MEMBERS, groups, strict=True) if g == group} for group in range(3)]
    ),
    max_size=4,
)
"""Rounds of up to three groups, which have no member in common, and members that are in none."""


def rank(rows: Sequence[Sequence[int]]) -> int:
    """Of a matrix over the rationals, by elimination."""
    left = [[Fraction(value) for value in row] for row in rows]
    found = 0
    for column in range(len(left[0]) if left else 0):
        pivot = next((row for row in range(found, len(left)) if left[row][column]), None)
        if pivot is None:
            continue
        left[found], left[pivot] = left[pivot], left[found]
        for row in range(found + 1, len(left)):
            factor = left[row][column] / left[found][column]
            left[row] = [value - factor * above for value, above in zip(left[row], left[found], strict=True)]
        found += 1
    return found


def fewest_in_a_combination(sets: Sequence[set[str]]) -> int:
    """The fewest members with a weight in any combination of the sums that has any; every rational weight counts.

    Some combination is without the members Z, and not without everybody, where the sets have a larger rank than what is
    left of them on Z.
    """
    rows = [[int(member in one) for member in MEMBERS] for one in sets]
    for size in range(1, len(MEMBERS) + 1):
        for about in combinations(range(len(MEMBERS)), size):
            others = [position for position in range(len(MEMBERS)) if position not in about]
            if rank(rows) > rank([[row[position] for position in others] for row in rows]):
                return size
    return len(MEMBERS) + 1


def smallest_by_patterns(sets: Sequence[set[str]]) -> int:
    patterns = Counter(tuple(member in one for one in sets) for member in set().union(*sets))
    return min(patterns.values(), default=0)


def test_the_elimination_finds_what_is_known() -> None:
    assert fewest_in_a_combination([set("abcdefg"), set("abcdef")]) == 1
    assert fewest_in_a_combination([set("ab"), set("bc")]) == 2
    assert fewest_in_a_combination([set("ab"), set("bc"), set("abc")]) == 1
    assert fewest_in_a_combination([set("ab"), set("bc"), set("ac")]) == 1
    assert fewest_in_a_combination([set("abc"), set("defg")]) == 3


@given(SETS, st.integers(1, 4))
def test_no_combination_of_allowed_sums_is_about_fewer_than_t(sets: list[set[str]], least: int) -> None:
    classes, allowed = Classes(), list[set[str]]()
    for one in sets:
        if classes.why_not([one], least):
            assert smallest_by_patterns([*allowed, one]) < least
        else:
            classes.add([one])
            allowed.append(one)
            assert smallest_by_patterns(allowed) >= least
    assert not allowed or fewest_in_a_combination(allowed) >= least


@given(ROUNDS, st.integers(1, 3))
def test_the_sums_of_a_rounds_groups_come_together(rounds: list[list[set[str]]], least: int) -> None:
    classes, allowed = Classes(), list[set[str]]()
    for groups in rounds:
        filled = [group for group in groups if group]
        refused = bool(classes.why_not(groups, least))
        together = smallest_by_patterns([*allowed, *filled])
        assert refused == (any(group not in allowed for group in filled) and together < least)
        if not refused:
            classes.add(groups)
            allowed += filled
    assert not allowed or fewest_in_a_combination(allowed) >= least


@given(SETS)
def test_classes_are_the_members_with_the_same_pattern(sets: list[set[str]]) -> None:
    """One after the other or all at once, and stored in between: the classes are the same, and so is the smallest."""
    grown = Classes()
    class_of: dict[str, int] = {}
    for position, one in enumerate(sets):
        with_it = grown.smallest_with([one])
        if one not in sets[:position]:
            assert len(with_it) == smallest_by_patterns(sets[: position + 1])
        class_of |= grown.add([one])
        assert with_it in grown.members()
    patterns: dict[tuple[bool, ...], list[str]] = {}
    for member in sorted(set().union(*sets)):
        patterns.setdefault(tuple(member in one for one in sets), []).append(member)
    assert set(grown.members()) == {tuple(members) for members in patterns.values()}
    assert Classes(class_of).members() == grown.members() == Classes.after(sets).members()
    together = Classes()
    together.add(sets)
    assert together.members() == grown.members()


def test_one_left_out_is_refused_and_two_are_not() -> None:
    classes = Classes.after(["abcdef"])
    assert "tell of f alone: at least 2 must always be in and out together" in classes.why_not(["abcde"], 2)
    assert not classes.why_not(["abcd"], 2)
    assert "1 member and" in classes.why_not(["g"], 2)
    assert not classes.why_not(["abcdef"], 7)  # summed before
    assert not classes.why_not([], 7)
    assert not classes.why_not([""], 7)


def test_who_was_in_no_sum_waits_in_any_number() -> None:
    classes = Classes.after(["abc"])
    assert classes.of("d") is None
    assert classes.why_not(["abcd"], 2)  # d alone would come in
    assert not classes.why_not(["abcde"], 2)


def test_a_set_that_splits_no_class_may_complete_a_combination() -> None:
    """No combination of two sums is about one member, but with a third over the very same members there is one."""
    classes = Classes.after(["ab", "bc"])
    assert fewest_in_a_combination([set("ab"), set("bc")]) == 2
    assert classes.smallest_with(["abc"]) == ("a",)
    assert classes.why_not(["abc"], 2)
    assert not classes.why_not(["ab"], 2)


def test_a_refusal_names_eight_at_most() -> None:
    members = {f"member {number:02}" for number in range(30)}
    refusal = Classes.after([members]).why_not([{name for name in members if name < "member 12"}], 15)
    assert "member 07 and 4 more alone" in refusal
    assert "member 08" not in refusal


def test_colluders_leave_two_honest_members() -> None:
    assert [least_difference(colluders) for colluders in (0, 1, 20)] == [2, 3, 22]
    with pytest.raises(ParameterError, match="min_difference is 0"):
        Classes().why_not(["ab"], 0)
