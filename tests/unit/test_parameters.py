"""Demands and bounds: degree and threshold against published rows and exact fractions, and what is said of them."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secagg import RoundConfig, ThreatModel
from secagg.errors import ParameterError
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.parameters import (
    DEFAULT_ETA,
    DEFAULT_GRINDING_BITS,
    DEFAULT_SIGMA,
    LOWEST_THRESHOLD,
    Bounds,
    Degree,
    Demand,
)
from secagg.testing.strategies import configs
from tests.support.rings import connected

MODELS = (ThreatModel.SEMI_HONEST, ThreatModel.ACTIVE)


def demand_of(
    clients: int,
    colluders: int,
    dropouts: int,
    *,
    active: bool = False,
    sigma: float = DEFAULT_SIGMA,
    eta: float = DEFAULT_ETA,
    **asked: Any,
) -> Demand:
    """A demand by counts; a sigma that is given has the bits for grinding in it."""
    counts = {"clients": clients, "colluders": colluders, "dropouts": dropouts, "threat_model": MODELS[active]}
    grinding_bits = DEFAULT_GRINDING_BITS if sigma == DEFAULT_SIGMA else 0
    return Demand(**counts, sigma=sigma, grinding_bits=grinding_bits, eta=eta, **asked)  # type: ignore[arg-type]


def find(
    clients: int, gamma: float, delta: float, *, active: bool = False, complete: bool = False, **asked: Any
) -> Bounds:
    neighbours = "complete" if complete else "auto"
    return Demand.of_rates(clients, gamma, delta, threat_model=MODELS[active], neighbours=neighbours, **asked).choose()


def counts(clients: int, gamma: float, delta: float) -> tuple[int, int]:
    demand = Demand.of_rates(clients, gamma, delta)
    return demand.colluders, demand.dropouts


def choose(
    clients: int,
    colluders: int,
    dropouts: int,
    neighbours: Degree = "auto",
    threshold: int | None = None,
    **asked: Any,
) -> tuple[int, int]:
    found = demand_of(clients, colluders, dropouts, neighbours=neighbours, threshold=threshold, **asked).choose()
    return found.neighbours, found.threshold


def assess(
    clients: int, colluders: int, dropouts: int, neighbours: int, threshold: int, *, active: bool = False
) -> Bounds:
    return demand_of(clients, colluders, dropouts, active=active).assess(neighbours, threshold)


def check(*numbers: int, active: bool = False) -> Bounds:
    return assess(*numbers, active=active).check()  # type: ignore[call-arg]


# -- Degrees and thresholds, against tables ----------------------------------------------------------------------------

RATES = ((0.2, 0.05), (0.2, 0.1), (0.2, 0.3), (1 / 3, 0.05), (1 / 3, 0.1), (1 / 3, 0.3))

SEMI_HONEST = """
100     26/20 32/21 50/21   34/29  42/32   64/34
500     52/36 66/41 132/60  74/56  100/69  210/112
1000    60/40 76/47 160/73  86/64  114/78  276/147
10000   68/46 90/55 206/94  104/77 144/98  410/218
100000  74/50 98/59 226/103 114/84 156/106 458/243
1000000 80/53 104/63 242/110 120/88 166/112 492/260
"""

ACTIVE = """
100    32/27   42/32   82/52     44/39   54/44
500    122/100 166/127 388/245   168/144 234/189
1000   152/124 222/170 722/462   226/192 336/270
10000  206/167 326/249 2726/1757 326/275 560/448
100000 224/181 362/276 3928/2531 362/305 636/508
"""


def _cells(table: str) -> Iterator[tuple[int, float, float, int, int]]:
    for line in table.strip().splitlines():
        clients, *cells = line.split()
        for (gamma, delta), cell in zip(RATES, cells, strict=False):
            degree, threshold = cell.split("/")
            yield int(clients), gamma, delta, int(degree), int(threshold)


@pytest.mark.parametrize(("clients", "gamma", "delta", "degree", "threshold"), [*_cells(SEMI_HONEST)])
def test_semi_honest_table(clients: int, gamma: float, delta: float, degree: int, threshold: int) -> None:
    found = find(clients, gamma, delta)
    assert (found.neighbours, found.threshold) == (degree, threshold)
    assert found.reach()
    assert found.demand.has_sparse_degree()


@pytest.mark.parametrize(("clients", "gamma", "delta", "degree", "threshold"), [*_cells(ACTIVE)])
def test_active_table(clients: int, gamma: float, delta: float, degree: int, threshold: int) -> None:
    found = find(clients, gamma, delta, active=True)
    assert (found.neighbours, found.threshold) == (degree, threshold)
    assert found.demand.privacy_bits == 104
    assert found.reach()
    assert 2 * threshold > degree


def test_active_refuses_the_last_column() -> None:
    with pytest.raises(ParameterError, match=r"gamma \+ 2 delta = 0\.9333"):
        find(1000, 1 / 3, 0.3, active=True)


def _published_rows() -> list[dict[str, str]]:
    """Rows published with another implementation; sigma 40, eta 20; degree 0 where there is none."""
    path = Path(__file__).parent.parent / "data" / "degree_threshold_sigma40_eta20.csv"
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Published(Demand):
    """As that implementation has it: neighbours are drawn from all n, by single victims in either threat model.

    A threshold below 2 is raised only when the degree is found.
    """

    _lowest_threshold = 0

    def _privacy_draw(self) -> tuple[int, float]:
        return self.clients, math.log2(self.clients)

    _correctness_draw = _privacy_draw


def test_all_published_rows_are_there() -> None:
    assert len(_published_rows()) == 52


@pytest.mark.parametrize("row", _published_rows(), ids=lambda row: ",".join(row.values()))
def test_published_rows(row: dict[str, str]) -> None:
    clients, active = int(row["clients"]), row["adversary"] == "semi-malicious"
    gamma, delta = float(row["adversarial_rate"]), float(row["dropout_rate"])
    expected = int(row["degree"]), int(row["threshold"])
    if expected == (0, 0):
        with pytest.raises(ParameterError):
            Published.of_rates(clients, gamma, delta, threat_model=MODELS[active])
        return
    bits = {"sigma": 40, "grinding_bits": 0, "eta": 20}
    found = Published.of_rates(clients, gamma, delta, threat_model=MODELS[active], **bits)._search()
    assert found is not None
    assert (found[0], max(found[1], LOWEST_THRESHOLD)) == expected


# -- Against exact fractions -------------------------------------------------------------------------------------------


def _masses(population: int, marked: int, draws: int) -> dict[int, Fraction]:
    total = math.comb(population, draws)
    return {
        x: Fraction(math.comb(marked, x) * math.comb(population - marked, draws - x), total)
        for x in range(draws + 1)
        if x <= marked and draws - x <= population - marked
    }


def _log2(probability: Fraction) -> float:
    if probability == 0:
        return -math.inf
    return math.log2(probability.numerator) - math.log2(probability.denominator)


def _above(masses: dict[int, Fraction], x: int) -> Fraction:
    return sum((mass for value, mass in masses.items() if value > x), Fraction(0))


def _exact_thresholds(n: int, a: int, d: int, k: int, active: bool, sigma: float, eta: float) -> tuple[int, int] | None:
    """The rule, word for word, in exact fractions: the thresholds that fit degree k, None when the ring may be cut."""
    if k <= a + d:
        cut = Fraction(n * (n - k - 1), 2) * Fraction(math.comb(n - k, a + d - k), math.comb(n, a + d))
        if not _log2(cut) < -(sigma + 1):
            return None
    others, victims = (n - 2, math.comb(n, 2)) if active else (n - 1, n)
    colluding = _masses(others, min(a, others), k)
    t1 = next(x for x in range(k + 1) if _log2(victims * _above(colluding, x)) < -(sigma + 1))
    left = _masses(n - 1, max(n - 1 - d, 0), k)
    t2 = max(t for t in range(k + 1) if _log2(n * (1 - _above(left, t - 1))) < -eta)
    t = next(t for t in range(2 * k) if 2 * t > k + t1) if active else t1 + 1
    return max(t, 2), t2


def _exact_choice(n: int, a: int, d: int, active: bool, sigma: float, eta: float) -> tuple[int, int] | None:
    for k in range(2, n - 1, 2):
        fitting = _exact_thresholds(n, a, d, k, active, sigma, eta)
        if fitting and fitting[1] >= fitting[0]:
            return k, fitting[0]
    allowed = [t for t in range(2, n - d) if (2 * t > n - 1 + a if active else t > a)]
    if not allowed:
        return None
    return n - 1, allowed[0] if active else allowed[len(allowed) // 2]


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("clients", [3, 4, 5, 6, 9, 14, 21, 30])
@pytest.mark.parametrize(("sigma", "eta"), [(1.3, 0.9), (6.1, 3.3), (12.9, 7.7)])
def test_finder_follows_the_rule_in_exact_fractions(clients: int, active: bool, sigma: float, eta: float) -> None:
    for colluders, dropouts in itertools.product(range(clients // 2 + 1), repeat=2):
        expected = _exact_choice(clients, colluders, dropouts, active, sigma, eta)
        if expected is None:
            with pytest.raises(ParameterError, match="even the complete graph"):
                choose(clients, colluders, dropouts, active=active, sigma=sigma, eta=eta)
            continue
        assert choose(clients, colluders, dropouts, active=active, sigma=sigma, eta=eta) == expected
        degree, threshold = expected
        asked = demand_of(clients, colluders, dropouts, active=active, sigma=sigma, eta=eta)
        assert asked.assess(degree, threshold).reach()


@settings(max_examples=150, deadline=None)
@given(
    clients=st.integers(100, 700),
    shares=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    active=st.booleans(),
    threshold=st.none() | st.integers(2, 99),
)
def test_skipping_degrees_misses_none(
    clients: int, shares: tuple[int, int], active: bool, threshold: int | None
) -> None:
    counts = [share * clients // 100 for share in shares]
    demand = demand_of(clients, *counts, threshold=threshold, active=active, sigma=25.5, eta=12.5)
    expected = None
    for degree in range(2, clients - 1, 2):
        if demand.connects(degree):
            least, most = demand.thresholds(degree)
            wanted = least if threshold is None else threshold
            if least <= wanted <= most:
                expected = (degree, wanted)
                break
    assert demand._search() == expected


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize(
    ("clients", "colluders", "dropouts", "degree"), [(9, 3, 2, 4), (20, 6, 7, 8), (60, 30, 20, 40)]
)
def test_bounds_are_the_exact_tails(clients: int, colluders: int, dropouts: int, degree: int, active: bool) -> None:
    others, victims = (clients - 2, math.comb(clients, 2)) if active else (clients - 1, clients)
    colluding, left = _masses(others, colluders, degree), _masses(clients - 1, clients - 1 - dropouts, degree)
    for threshold in range(1, degree + 1):
        bounds = assess(clients, colluders, dropouts, degree, threshold, active=active)
        fatal = 2 * threshold - degree if active else threshold
        privacy, correctness = victims * _above(colluding, fatal - 1), clients * (1 - _above(left, threshold - 1))
        assert bounds.privacy_log2 == pytest.approx(min(_log2(privacy), 0), abs=1e-9)
        assert bounds.correctness_log2 == pytest.approx(min(_log2(correctness), 0), abs=1e-9)


def _ring_neighbours(clients: int, degree: int, position: int) -> set[int]:
    return {(position + step) % clients for step in range(-degree // 2, degree // 2 + 1) if step}


@pytest.mark.parametrize(
    ("clients", "colluders", "dropouts", "degree"), [(10, 3, 2, 4), (11, 2, 2, 4), (12, 3, 3, 6), (9, 2, 1, 2)]
)
def test_bounds_hold_over_all_placements(clients: int, colluders: int, dropouts: int, degree: int) -> None:
    """A random ring order with fixed colluders is a fixed ring with random ones: count over all of those."""
    ring = [_ring_neighbours(clients, degree, position) for position in range(clients)]

    def share(marked: int, event: Callable[[set[int]], bool]) -> float:
        sets = [set(chosen) for chosen in itertools.combinations(range(clients), marked)]
        return sum(event(chosen) for chosen in sets) / len(sets)

    def cut(gone: set[int]) -> bool:
        return not connected(set(range(clients)) - gone, ring)

    for threshold in range(1, degree + 1):
        bounds = assess(clients, colluders, dropouts, degree, threshold)

        def opened(bad: set[int], threshold: int = threshold) -> bool:
            return any(len(ring[i] & bad) >= threshold for i in range(clients) if i not in bad)

        def stuck(lost: set[int], threshold: int = threshold) -> bool:
            return any(len(ring[i] - lost) < threshold for i in range(clients) if i not in lost)

        assert share(colluders, opened) <= 2**bounds.privacy_log2 + 1e-12
        assert share(dropouts, stuck) <= 2**bounds.correctness_log2 + 1e-12
        assert share(colluders + dropouts, cut) <= 2**bounds.connectivity_log2 + 1e-12


def test_connectivity_is_the_exact_formula() -> None:
    for clients, removed, degree in ((10, 5, 4), (50, 30, 10), (200, 120, 60)):
        formula = Fraction(clients * (clients - degree - 1), 2) * Fraction(
            math.comb(clients - degree, removed - degree), math.comb(clients, removed)
        )
        bounds = assess(clients, removed, 0, degree, degree)
        assert bounds.connectivity_log2 == pytest.approx(min(0, _log2(formula)), abs=1e-9)
    assert assess(50, 5, 4, 10, 5).connectivity_log2 == -math.inf


# -- The complete graph ------------------------------------------------------------------------------------------------


def test_complete_graph_is_certain_or_nothing() -> None:
    for clients, colluders, dropouts in itertools.product((5, 8), (0, 2, 3), (0, 1, 3)):
        for threshold in range(1, clients):
            plain = assess(clients, colluders, dropouts, clients - 1, threshold)
            assert plain.privacy_log2 == (-math.inf if threshold > colluders else 0)
            assert plain.correctness_log2 == (-math.inf if threshold <= clients - 1 - dropouts else 0)
            assert plain.connectivity_log2 == -math.inf
            active = assess(clients, colluders, dropouts, clients - 1, threshold, active=True)
            assert active.privacy_log2 == (-math.inf if 2 * threshold > clients - 1 + colluders else 0)


def test_falling_back_to_the_complete_graph_is_said() -> None:
    found = find(10, 0.2, 0.3, active=True)
    assert found.complete
    assert not found.demand.has_sparse_degree()
    assert found.threshold == 6  # the smallest with 2t > 9 + 2
    assert any("no smaller degree reaches" in line for line in found.explain())
    assert check(10, 2, 3, 9, 6, active=True) == assess(10, 2, 3, 9, 6, active=True)
    plain = find(20, 0.45, 0.45)
    assert (plain.neighbours, plain.threshold, plain.demand.has_sparse_degree()) == (19, 10, False)


def test_the_complete_graph_can_be_asked_for() -> None:
    found = find(1000, 0.2, 0.1, complete=True)
    assert found.neighbours == 999
    assert found.threshold == (201 + 899 + 1) // 2  # the middle of (A, n - 1 - D]
    assert (found.privacy_log2, found.connectivity_log2, found.correctness_log2) == (-math.inf,) * 3
    assert not any("no smaller degree" in line for line in found.explain())


def test_three_clients() -> None:
    assert choose(3, 0, 0) == (2, 2)
    with pytest.raises(ParameterError, match="lower delta so that at most 0 are lost"):
        choose(3, 0, 1)


# -- What may be given -------------------------------------------------------------------------------------------------


def test_a_given_degree_gets_its_smallest_threshold() -> None:
    degree, threshold = choose(1000, 200, 100, 100)
    assert degree == 100
    assert check(1000, 200, 100, 100, threshold)
    with pytest.raises(ParameterError, match=f"threshold = {threshold - 1}: .* raise it"):
        check(1000, 200, 100, 100, threshold - 1)


def test_a_given_threshold_gets_the_first_degree_that_allows_it() -> None:
    degree, threshold = choose(1000, 200, 100, threshold=60)
    assert threshold == 60
    assert check(1000, 200, 100, degree, 60)
    with pytest.raises(ParameterError):
        check(1000, 200, 100, degree - 2, 60)
    assert choose(1000, 200, 100, "complete", 667) == (999, 667)


def test_rates_count_whole_clients() -> None:
    assert counts(100, 0.29, 0.57) == (29, 57)
    assert counts(10, 0.19, 0.09) == (1, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find(2, 0.1, 0.1), r"clients = 2: must be a whole number of at least 3"),
        (lambda: find(True, 0.1, 0.1), r"clients = True: must be a whole number"),
        (lambda: find(100, -0.1, 0.1), r"gamma = -0.1: a rate must be a number"),
        (lambda: find(100, 0.1, 1.0), r"delta = 1.0: a rate must be a number"),
        (lambda: find(100, math.nan, 0.1), r"gamma = nan: a rate must be a number"),
        (lambda: find(100, 0.5, 0.45), r"gamma \+ delta = 0.95 .* lower delta to at most 0.4, or gamma"),
        (lambda: find(100, 0.95, 0.0), r"gamma \+ delta = 0.95 .* lower gamma"),
        (
            lambda: find(100, 0.3, 0.35, active=True),
            r"gamma \+ 2 delta = 1 .* lower delta to at most 0.3, or",
        ),
        (lambda: find(10, 0.9, 0.0, active=True), r"lower gamma: 9 are too many"),
        (lambda: find(100, 0.1, 0.1, sigma=-1), r"sigma = -1: it must be a finite number"),
        (lambda: find(100, 0.1, 0.1, eta=math.inf), r"eta = inf: it must be a finite number"),
        (
            lambda: choose(100, 20, 10, 99),
            r"neighbours = 99: .* below 99; lower it, or ask for the complete",
        ),
        (lambda: choose(100, 20, 10, 33), r"neighbours = 33: it must be even, .* take 34"),
        (lambda: choose(100, 20, 30, 6), r"neighbours = 6: privacy needs a threshold of at least 7, .* 0"),
        (lambda: choose(100, 20, 10, threshold=1), r"threshold = 1: must be a whole number from 2 to 99"),
        (lambda: check(100, 20, 10, 100, 60), r"neighbours = 100: .* ask for the complete graph"),
        (lambda: check(100, 20, 10, 31, 21), r"neighbours = 31: it must be even"),
        (lambda: check(100, 20, 10, 0, 21), r"neighbours = 0: must be a whole number of at least 1"),
        (lambda: check(100, 20, 10, 32, 33), r"threshold = 33: must be a whole number from 2 to 32"),
        (lambda: check(100, 20, 10, 32, 20), r"threshold = 20: .* must lie in 21 .. 22; raise it"),
        (lambda: check(100, 20, 10, 32, 23), r"threshold = 23: .* must lie in 21 .. 22; lower it"),
        (lambda: check(100, 20, 10, 30, 21), r"neighbours = 30: privacy needs .* raise the degree"),
        (lambda: check(1000, 300, 300, 20, 10), r"neighbours = 20: the chance that the graph falls apart"),
        (lambda: check(100, 101, 0, 32, 21), r"colluders = 101: must be a whole number from 0 to 100"),
        (lambda: check(100, 20, 75, 32, 21), r"colluders \+ dropouts = 95 .* at most 0.9 of 100"),
        (lambda: check(100, 20, 36, 82, 60, active=True), r"colluders \+ 2 dropouts = 92"),
        (lambda: check(100, 10, 10, 99, 10), r"threshold = 10: .* 11 .. 89; raise it"),
        (lambda: check(100, 10, 10, 99, 90), r"dropouts 10: 90 clients may remain, but a sum needs 91"),
        (lambda: check(100, 10, 10, 99, 54, active=True), r"threshold = 54: .* 55 .. 89"),
        (lambda: assess(100, 10, 10, 98, 0), r"threshold = 0: must be a whole number from 1 to 100"),
        (lambda: NeighbourGraph(100, 7, bytes(32)), r"neighbours = 7: it must be even"),
        (lambda: NeighbourGraph(100, 100, bytes(32)), r"neighbours = 100: .* below 99"),
        (lambda: NeighbourGraph(100, 8, bytes(16)), r"a graph key of 16 bytes: it must have 32"),
        (
            lambda: NeighbourGraph(100, 8, bytes(32)).neighbours_of(100),
            r"client = 100: must be a whole number from 0 to 99",
        ),
        (lambda: NeighbourGraph(100, 8, bytes(32)).neighbours_of(-1), r"client = -1"),
        (lambda: NeighbourGraph(100, 8, bytes(32)).count_within(np.ones(99, bool)), r"members of shape \(99,\)"),
    ],
)
def test_what_is_refused_is_named(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call()


# -- In words ----------------------------------------------------------------------------------------------------------


def described(clients: int, colluders: int, dropouts: int, neighbours: int, threshold: int) -> str:
    """What is said about a degree and a threshold, good or bad; as one text."""
    return "\n".join(assess(clients, colluders, dropouts, neighbours, threshold).explain())


def test_explanation_says_what_it_rests_on() -> None:
    lines = find(1000, 0.2, 0.3).explain()
    assert "These statements suppose that dropouts do not depend on the graph." in lines
    assert any("160 neighbours. 73 shares" in line for line in lines)
    assert sum("probability at most 2^-" in line for line in lines) == 3


def test_explanation_in_active_limits_the_supposition_to_correctness() -> None:
    lines = find(1000, 0.2, 0.1, active=True).explain()
    assert "Correctness supposes that dropouts do not depend on the graph." in lines
    assert not any(line.startswith("These statements suppose") for line in lines)


def test_explanation_of_the_complete_graph_supposes_nothing() -> None:
    text = described(100, 20, 10, 99, 60)
    assert "complete" in text
    assert "20 colluding clients never learn another client's secrets" in text
    assert "the graph never falls apart" in text
    assert "if 10 clients are lost, the round always completes" in text
    assert "suppose" not in text


@pytest.mark.parametrize(
    ("counts", "sentences"),
    [
        (
            (10, 1, 1),
            ("1 colluding client never learns another", "if 1 client is lost, the round always"),
        ),
        ((10, 0, 0), ("the server alone never learns a client's", "if no client is lost, the round always completes")),
    ],
)
def test_explanation_counts_in_english(counts: tuple[int, int, int], sentences: tuple[str, ...]) -> None:
    text = described(*counts, 9, 5)
    assert all(sentence in text for sentence in sentences)


def test_explanation_of_a_bad_threshold_admits_it() -> None:
    assert "Privacy: nothing bounds the probability that 20 coll" in described(100, 20, 10, 99, 20)
    assert "nothing bounds the probability that the round fails" in described(100, 20, 10, 99, 95)
    assert "nothing bounds the probability that the graph of 55 clients falls apart" in described(100, 45, 45, 6, 5)


# -- What a demand comes to --------------------------------------------------------------------------------------------


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    clients = draw(st.integers(3, 120))
    return Demand(
        clients=clients,
        colluders=draw(st.integers(0, clients // 2)),
        dropouts=draw(st.integers(0, clients // 2)),
        threat_model=draw(st.sampled_from(MODELS)),
        sigma=draw(st.sampled_from((1, 10, 40))),
        grinding_bits=draw(st.sampled_from((0, 5, 64))),
        eta=draw(st.sampled_from((1, 10, 30))),
        neighbours=draw(st.sampled_from(("auto", "complete"))),
    )


def chosen(demand: Demand) -> Bounds | None:
    try:
        return demand.choose()
    except ParameterError:
        return None


@given(demands())
def test_what_is_chosen_reaches_what_was_asked_for(demand: Demand) -> None:
    """And keeps the rules, where so many losses leave enough clients for a sum."""
    bounds, complete = chosen(demand), demand.clients - 1
    if bounds is None:
        least, most = demand.thresholds(complete)
        assert least > most
        return
    assert bounds.reach()
    assert bounds.complete or bounds.neighbours % 2 == 0
    assert bounds.complete or bounds.threshold == demand.thresholds(bounds.neighbours)[0]
    weight = 2 if demand.threat_model is ThreatModel.ACTIVE else 1
    few_losses = 10 * (demand.colluders + weight * demand.dropouts) <= 9 * demand.clients
    if few_losses and demand.fewest_survivors(bounds.threshold) <= demand.clients - demand.dropouts:
        assert bounds.check() is bounds
    else:
        with pytest.raises(ParameterError, match=r"dropouts|quorum"):
            bounds.check()


@given(demands())
def test_the_quorum_is_the_smallest_of_which_any_two_share_an_honest_client(demand: Demand) -> None:
    if demand.threat_model is ThreatModel.SEMI_HONEST:
        assert demand.quorum == 0
        return
    for quorum in range(demand.clients + 1):
        in_common = 2 * quorum - demand.clients  # of two sets as far apart as they can be
        if in_common > demand.colluders:
            assert demand.quorum == quorum
            return


@given(demands(), st.integers(2, 60))
def test_the_fewest_survivors_are_each_rule_s_own(demand: Demand, threshold: int) -> None:
    fewest = demand.fewest_survivors(threshold)
    allowed = [
        survivors
        for survivors in range(200)
        if survivors >= demand.quorum
        and survivors - 1 >= threshold  # neighbours of each survivor, if all others are
        and survivors - demand.colluders >= 2  # honest ones
    ]
    assert fewest == allowed[0]


@given(configs(versions=(1, 2)))
def test_a_config_has_the_bounds_of_its_demand(config: RoundConfig) -> None:
    """With groups there is one rule more about the fewest survivors, which ``test_groups`` tries."""
    assume(config.groups == 1)
    bounds = config.bounds
    for name in ("neighbours", "threshold", "quorum", "min_survivors"):
        assert getattr(bounds, name) == getattr(config, name)
    for name in ("clients", "colluders", "dropouts", "threat_model", "sigma", "grinding_bits", "eta"):
        assert getattr(config.demand, name) == getattr(config, name)
    assert bounds.check() is config.graph_parameters
    assert "\n".join(bounds.explain()) in config.explain()
    least = config.demand.fewest_survivors(config.threshold, config.quorum)
    assert config.replace(min_survivors=least).bounds.connectivity_log2 >= bounds.connectivity_log2
    for outside in (least - 1, config.clients - config.dropouts + 1):
        with pytest.raises(ParameterError, match=f"min_survivors = {outside}: must be at least {least}"):
            config.replace(min_survivors=outside)


@given(
    st.integers(3, 300),
    st.none() | st.floats(0, 0.5),
    st.none() | st.floats(0, 0.4),
    st.sampled_from(MODELS),
    st.sampled_from(("auto", "complete")),
)
def test_a_config_is_what_its_demand_comes_to(
    clients: int, gamma: float | None, delta: float | None, threat_model: ThreatModel, neighbours: Degree
) -> None:
    """With the same defaults: the rates', the bits', and the fewest survivors."""
    asked: dict[str, Any] = {"threat_model": threat_model, "neighbours": neighbours}
    cohort = bytes(32) if threat_model is ThreatModel.ACTIVE else b""
    try:
        bounds = Demand.of_rates(clients, gamma, delta, **asked).choose().check()
    except ParameterError as refused:
        with pytest.raises(ParameterError, match=re.escape(str(refused))):
            RoundConfig.for_cohort(clients, 5, gamma=gamma, delta=delta, cohort=cohort, **asked)
        return
    config = RoundConfig.for_cohort(clients, 5, gamma=gamma, delta=delta, cohort=cohort, **asked)
    numbers = ("neighbours", "threshold", "quorum", "min_survivors", "privacy_log2", "connectivity_log2")
    assert [getattr(config.bounds, name) for name in numbers] == [getattr(bounds, name) for name in numbers]
