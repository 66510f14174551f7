"""How many groups a robust mean needs: the bound against exact probabilities, and against draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import ParameterError, RoundConfig
from secagg.pairwise.grouping import Grouping
from secagg.pairwise.parameters import Demand
from secagg.pairwise.phases import ThreatModel
from secagg.pairwise.poisoning import Poisoning, groups_for

ROUNDING = 1 + 1e-9


def demand_of(clients: int, colluders: int = 0, dropouts: int = 0) -> Demand:
    return Demand(
        clients=clients, colluders=colluders, dropouts=dropouts, threat_model=ThreatModel.SEMI_HONEST, sigma=40
    )


def poisoning(clients: int, groups: int, attackers: int, dropouts: int = 0, min_group: int = 3) -> Poisoning:
    """With a min_group that need not be allowed."""
    grouping = Grouping(demand_of(clients, dropouts=dropouts), groups)
    bounds = grouping.assess(2, quorum=0, min_group=min_group, min_survivors=min_group)
    return Poisoning(bounds, attackers)


def draws(clients: int, attackers: int, lost: int) -> Iterator[tuple[set[int], set[int]]]:
    """Every way to put attackers and lost clients, who are no attackers, into the places; all are as likely."""
    for bad in combinations(range(clients), attackers):
        rest = [place for place in range(clients) if place not in bad]
        for gone in combinations(rest, lost):
            yield set(bad), set(gone)


@st.composite
def small_rounds(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    clients = draw(st.integers(9, 11))
    groups = draw(st.integers(3, clients // 3))
    attackers, lost = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    return clients, groups, attackers, lost, draw(st.integers(1, clients // groups))


@settings(max_examples=40)
@given(small_rounds())
def test_the_bound_is_never_below_what_happens(round_: tuple[int, int, int, int, int]) -> None:
    """By all draws: also where groups with attackers are left out, and where no group is left at all."""
    clients, groups, attackers, lost, min_group = round_
    found = poisoning(clients, groups, attackers, lost, min_group)
    pieces = [set(range(g * clients // groups, (g + 1) * clients // groups)) for g in range(groups)]
    fails = holds = total = 0
    for bad, gone in draws(clients, attackers, lost):
        left = [piece for piece in pieces if len(piece - gone) >= min_group]
        fails += 2 * sum(bool(piece & bad) for piece in left) >= len(left)
        holds += sum(bool(piece & bad) for piece in pieces)
        total += 1
    assert Fraction(fails, total) <= Fraction(2**found.failure_log2 * ROUNDING)
    assert found.expected_hit == pytest.approx(holds / total, rel=1e-9)
    assert not (found.is_impossible and fails)


@settings(max_examples=40)
@given(small_rounds())
def test_the_moments_are_those_of_the_draw(round_: tuple[int, int, int, int, int]) -> None:
    clients, groups, attackers, lost, min_group = round_
    found = poisoning(clients, groups, attackers, lost, min_group)
    cases = list(draws(clients, attackers, lost))
    exact = []
    for size in {clients // groups, -(-clients // groups)}:
        piece = set(range(size))
        held = sum(bool(piece & bad) for bad, _ in cases)
        left_out = sum(not piece & bad and len(piece - gone) < min_group for bad, gone in cases)
        exact.append((held / len(cases), left_out / len(cases)))
    assert len(found._shares) == len(exact)
    assert sum(count for count, _, _ in found._shares) == groups
    for _, *shares in found._shares:
        assert any(tuple(shares) == pytest.approx(values, abs=1e-12) for values in exact)


def exact_failure(clients: int, groups: int, attackers: int) -> Fraction:
    """P[half of equal groups or more hold an attacker], nobody lost: placements counted by polynomials in integers."""
    size = clients // groups
    ways = {(0, 0): 1}
    for _ in range(groups):
        following: dict[tuple[int, int], int] = {}
        for (used, hit), number in ways.items():
            for more in range(min(size, attackers - used) + 1):
                key = used + more, hit + (more > 0)
                following[key] = following.get(key, 0) + number * comb(size, more)
        ways = following
    failing = sum(number for (used, hit), number in ways.items() if used == attackers and 2 * hit >= groups)
    return Fraction(failing, comb(clients, attackers))


@pytest.mark.parametrize(("clients", "groups", "attackers"), [(60, 12, 6), (100, 10, 5), (200, 40, 21), (300, 50, 30)])
def test_the_bound_is_near_what_happens_in_larger_rounds(clients: int, groups: int, attackers: int) -> None:
    found, exact = poisoning(clients, groups, attackers), exact_failure(clients, groups, attackers)
    assert exact <= Fraction(2**found.failure_log2)
    size = clients // groups
    hit = 1 - comb(clients - attackers, size) / comb(clients, size)
    divergence = -math.log(2) - 0.5 * math.log(hit * (1 - hit))
    assert found.failure_log2 == pytest.approx(-groups * divergence / math.log(2), rel=1e-6)
    assert 2**found.failure_log2 < 2000 * exact  # the draw without replacement spreads attackers; the bound forgets it


def test_the_bound_holds_over_draws_with_losses() -> None:
    """20,000 draws of a round in which a robust mean fails now and then, because groups are left out too."""
    clients, groups, attackers, lost, min_group = 160, 32, 14, 24, 4
    found = poisoning(clients, groups, attackers, lost, min_group)
    rng = np.random.default_rng(3)
    marks = np.zeros(clients, dtype=np.int64)
    marks[:attackers], marks[attackers : attackers + lost] = 2, 1
    drawn = rng.permuted(np.tile(marks, (20_000, 1)), axis=1).reshape(-1, groups, clients // groups)
    left = (drawn == 1).sum(axis=2) <= clients // groups - min_group
    hit = (drawn == 2).any(axis=2) & left
    share = np.mean(2 * hit.sum(axis=1) >= left.sum(axis=1))
    assert 0 < share < 2**found.failure_log2 < 1
    without_losses = poisoning(clients, groups, attackers, 0, min_group)
    assert without_losses.failure_log2 < found.failure_log2


@pytest.mark.parametrize(("clients", "colluders", "attackers"), [(60, 0, 4), (120, 2, 3), (200, 4, 5)])
def test_the_smallest_number_of_groups_is_found(clients: int, colluders: int, attackers: int) -> None:
    demand = demand_of(clients, colluders, clients // 20)
    groups = groups_for(demand, attackers)
    assert Poisoning(Grouping(demand, groups).choose().check(), attackers).failure_log2 < -20
    for fewer in range(3, groups):
        grouping = Grouping(demand, fewer)
        assert not grouping.fits or Poisoning(grouping.choose(), attackers).failure_log2 >= -20


def test_a_config_with_as_many_groups_as_attackers_ask_for() -> None:
    config = RoundConfig.for_cohort(1000, 10, gamma=0.02, delta=0.02, version=2, groups="auto", attackers=12)
    found = config.poisoning(12)
    assert config.groups == groups_for(config.demand, 12)
    assert found.failure_log2 < -20
    told = config.explain(attackers=12)
    assert f"12 attackers hold a place in {found.expected_hit:.2g} of the {config.groups} groups on average" in told
    assert "Robustness" not in config.explain()
    same = {"gamma": 0.02, "delta": 0.02, "version": 2, "groups": config.groups}
    assert RoundConfig.for_cohort(1000, 10, attackers=12, **same) == config
    assert "with probability at most 2^-" in RoundConfig.for_cohort(10_000, 1, **same | {"groups": 600}).explain(150)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"groups": "auto"}, "groups = 'auto': give attackers"),
        ({"attackers": 3}, "attackers = 3: one sum over everybody withstands none; ask for groups = 'auto'"),
        (
            {"groups": 4, "attackers": 3},
            "groups = 4: a robust mean of so many, with 3 attackers",
        ),
        ({"groups": "auto", "attackers": 0}, "attackers = 0"),
        ({"groups": "auto", "attackers": 101}, "attackers = 101"),
        ({"groups": "auto", "attackers": 3, "robust_bits": 0}, "robust_bits = 0"),
        (
            {"groups": "auto", "attackers": 3, "gamma": 0.6},
            "with 60 colluders cannot be drawn into so many",
        ),
        ({"groups": "auto", "attackers": 3, "version": 1}, "version 1 of the wire knows no groups"),
    ],
)
def test_what_no_groups_answer(options: dict[str, object], told: str) -> None:
    given = {"gamma": 0.02, "delta": 0.02, "version": 2, **options}
    with pytest.raises(ParameterError, match=told):
        RoundConfig.for_cohort(100, 10, **given)  # type: ignore[arg-type]


def test_a_refusal_names_what_is_possible() -> None:
    demand = demand_of(200, 4, 10)
    with pytest.raises(ParameterError) as refused:
        groups_for(demand, 60)
    most = int(re.findall(r"at most (\d+) attackers", str(refused.value))[0])
    assert groups_for(demand, most)
    with pytest.raises(ParameterError, match=f"ask for at most {most} attackers"):
        groups_for(demand, most + 1)
    with pytest.raises(ParameterError, match="lower robust_bits to at most") as refused:
        groups_for(demand, most + 1)
    bits = int(re.findall(r"lower robust_bits to at most (\d+)", str(refused.value))[0])
    assert groups_for(demand, most + 1, robust_bits=bits)
    with pytest.raises(ParameterError):
        groups_for(demand, most + 1, robust_bits=bits + 1)


def test_without_groups_there_is_no_robust_mean() -> None:
    with pytest.raises(ParameterError, match="one sum over everybody withstands none"):
        RoundConfig.for_cohort(20, 5).explain(attackers=1)
