"""Groups before there is a round: how they are drawn, what their bounds are, what is refused."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import ErrorCode, ParameterError, PeerError, Policy, RoundConfig, ThreatModel
from secagg.pairwise.graph import NeighbourGraph
from secagg.pairwise.grouping import Grouping
from secagg.pairwise.parameters import Demand
from secagg.testing.strategies import cohort, configs


def grouped(clients: int = 12, groups: int = 3, **options: object) -> RoundConfig:
    given = {"gamma": 0, "delta": 0, "version": 2, "input_max": 100, **options}
    return RoundConfig.for_cohort(clients, 5, groups=groups, **given)  # type: ignore[arg-type]


# The graph.


@given(st.integers(6, 60), st.data())
def test_groups_are_pieces_of_the_ring(clients: int, data: st.DataObject) -> None:
    """R-GROUP-2, against the ring of a sparse graph with the same key, and sets."""
    groups = data.draw(st.integers(2, clients // 3))
    key = data.draw(st.binary(min_size=32, max_size=32))
    ring = NeighbourGraph(clients, 2, key).ring.tolist()
    graph = NeighbourGraph(clients, -(-clients // groups) - 1, key, groups)
    assert graph.ring.tolist() == ring
    members = [ring[g * clients // groups : (g + 1) * clients // groups] for g in range(groups)]
    assert [graph.members_of(g).tolist() for g in range(groups)] == [sorted(piece) for piece in members]
    for number, piece in enumerate(members):
        for client in piece:
            assert graph.group_of(client) == number
            assert graph.neighbours_of(client).tolist() == sorted(set(piece) - {client})
    assert sorted({len(piece) for piece in members}) == sorted({clients // groups, -(-clients // groups)})
    present = np.array(data.draw(st.lists(st.booleans(), min_size=clients, max_size=clients)))
    within = [sum(present[graph.neighbours_of(client)]) for client in range(clients)]
    assert graph.count_within(present).tolist() == within
    assert not graph.complete


def test_a_graph_without_groups_is_one_group() -> None:
    graph = NeighbourGraph(10, 4, bytes(32))
    assert (graph.groups, graph.group_of(7)) == (1, 0)
    assert graph.members_of(0).tolist() == list(range(10))
    assert graph.group_numbers.tolist() == [0] * 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((10, 4, bytes(32), 2, "members", 2), "group = 2: must be a whole number from 0 to 1"),
        ((10, 4, bytes(32), 2, "group", 10), "client = 10: must be a whole number from 0 to 9"),
        ((10, 4, bytes(32), 4), "groups = 4: must be a whole number from 1 to 3"),
        ((10, 5, bytes(32), 2), "neighbours = 5: in groups of up to 5 clients everybody has up to 4 neighbours"),
        ((10, 4, bytes(31), 2), "a graph key of 31 bytes: it must have 32"),
    ],
)
def test_what_graph_of_groups_there_is_not(arguments: tuple[object, ...], told: str) -> None:
    def ask() -> None:
        graph = NeighbourGraph(*arguments[:4])  # type: ignore[arg-type]
        (graph.members_of if arguments[4] == "members" else graph.group_of)(arguments[5])  # type: ignore[arg-type]

    with pytest.raises(ParameterError, match=told):
        ask()


# The bounds.


def exact_tail(population: int, marked: int, draws: int, above: int) -> Fraction:
    """P[X > above] of the hypergeometric distribution, in exact integers."""
    ways = sum(
        math.comb(marked, x) * math.comb(population - marked, draws - x)
        for x in range(above + 1, min(marked, draws) + 1)
        if draws - x <= population - marked
    )
    return Fraction(ways, math.comb(population, draws))


@given(
    st.integers(6, 300),
    st.integers(0, 100),
    st.sampled_from((1, 5, 20, 40)),
    st.sampled_from(ThreatModel),
    st.data(),
)
def test_the_most_colluders_in_a_group_are_an_exact_quantile(
    clients: int, colluders: int, sigma: int, model: ThreatModel, data: st.DataObject
) -> None:
    """R-GROUP-3."""
    groups, colluders = data.draw(st.integers(2, clients // 3)), min(colluders, clients)
    demand = Demand(clients=clients, colluders=colluders, dropouts=0, threat_model=model, sigma=sigma, grinding_bits=7)
    grouping = Grouping(demand, groups)
    largest, most = -(-clients // groups), grouping.colluders
    limit = Fraction(1, groups << sigma + 1 + (7 if model is ThreatModel.ACTIVE else 0))
    assert exact_tail(clients, colluders, largest, most) < limit
    assert most == 0 or exact_tail(clients, colluders, largest, most - 1) >= limit
    assert most <= min(colluders, largest)


@given(configs(min_clients=6, versions=[2]))
def test_the_numbers_of_a_group_keep_its_promises(config: RoundConfig) -> None:
    """Written out: secrets stay shut, two quorums meet in an honest client, and two members are honest."""
    if config.groups == 1:
        return
    smallest, largest = config.clients // config.groups, -(-config.clients // config.groups)
    colluding = config.colluders_in_group
    if config.is_active:
        both_kinds = (largest - 1 - colluding) + 2 * colluding
        assert both_kinds < 2 * config.threshold
        assert 2 * config.quorum - largest > colluding
    else:
        assert colluding < config.threshold
    assert config.min_group - colluding >= 2
    assert config.threshold < config.min_group <= smallest
    assert config.quorum <= config.min_group
    assert config.bounds.most_colluding >= colluding  # type: ignore[union-attr]
    assert RoundConfig.from_bytes(config.to_bytes()) == config


def test_defaults_are_the_smallest_numbers_that_are_allowed() -> None:
    config = grouped(1000, 10, gamma=0.05, delta=0.1)
    assert (config.neighbours, config.quorum) == (99, 0)
    assert config.threshold == config.colluders_in_group + 1
    assert config.min_group == config.threshold + 1
    assert config.min_survivors == config.min_group
    assert config.colluders_in_group < config.colluders
    active = grouped(1000, 10, gamma=0.05, delta=0.1, threat_model="active", cohort=bytes(32))
    assert active.colluders_in_group > config.colluders_in_group
    assert active.threshold == (99 + active.colluders_in_group) // 2 + 1
    assert active.quorum == (100 + active.colluders_in_group) // 2 + 1
    for bounds in (config.bounds, active.bounds):
        assert bounds.reach()
        assert bounds.connectivity_log2 == -math.inf


def test_one_group_more_than_fits_is_refused_and_the_most_are_named() -> None:
    demand = Demand.of_rates(200, gamma=0.1, delta=0.1)
    most = Grouping(demand, 2).most_groups()
    assert Grouping(demand, most).fits
    assert not Grouping(demand, most + 1).fits
    with pytest.raises(ParameterError, match=f"take at most {most} groups"):
        grouped(200, most + 1, gamma=0.1, delta=0.1)


def test_a_config_says_what_groups_it_has_and_what_they_are_worth() -> None:
    told = grouped(103, 4, gamma=0.1, delta=0.1).explain()
    assert "draws the cohort into 4 groups of 25 or 26 clients" in told
    assert "Some group holds more of the 10 with probability" not in told, "ten colluders fit into one group"
    assert "A group's sum is opened over at least 12 clients, of which at least 2 are honest." in told
    told = grouped(1000, 10, gamma=0.05, delta=0.1).explain()
    assert "Some group holds more of the 50 with probability at most 2^-" in told
    told = grouped(60, 10, gamma=0, delta=0.3, min_group=5).explain()
    assert "groups are left out on average" in told


# What is refused.


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"version": 1}, "groups = 3: version 1 of the wire knows no groups"),
        ({"groups": 5}, "groups = 5: with 12 clients it must be from 2 to 4"),
        ({"clients": 5, "groups": 2}, "not possible with fewer than 6 clients"),
        ({"groups": 0}, "groups = 0: must be a whole number of at least 1"),
        ({"neighbours": 4}, "neighbours = 4: in groups of up to 4 clients everybody has up to 3 neighbours"),
        ({"neighbours": "complete"}, "neighbours = 'complete'"),
        ({"attachment_bytes": 8}, "no attachment goes with groups = 3"),
        ({"threshold": 4}, "threshold = 4: must be a whole number from 2 to 3"),
        ({"min_group": 2}, r"min_group = 2: must be at least 3 \(threshold \+ 1 = 3"),
        ({"min_group": 5}, "at most 4, the size of the smallest group"),
        ({"min_survivors": 2}, "min_survivors = 2: must be at least min_group = 3"),
        ({"min_survivors": 13}, "at most clients - dropouts = 12"),
        ({"gamma": 0.4}, "a group of 4 clients may hold 4 of the 4 colluders"),
    ],
)
def test_groups_are_refused_with_what_to_change(options: dict[str, object], told: str) -> None:
    """R-GROUP-1, R-GROUP-3."""
    with pytest.raises(ParameterError, match=told):
        grouped(**options)  # type: ignore[arg-type]


def test_a_min_group_without_groups_is_refused() -> None:
    with pytest.raises(ParameterError, match="min_group = 3: it belongs to a round with groups"):
        grouped(groups=1, min_group=3)


def test_a_quorum_that_does_not_meet_is_refused() -> None:
    config = grouped(threat_model="active", cohort=cohort(12)[2], min_group=4)
    with pytest.raises(ParameterError, match="quorum 2: in groups of 4 clients"):
        config.replace(quorum=2)


def test_a_policy_bounds_the_groups() -> None:
    """R-GROUP-9."""
    config = grouped(min_survivors=10)
    for policy, told in (
        (Policy(), "groups = 3; .* at most 1"),
        (Policy(max_groups=2), "groups = 3; .* at most 2"),
        (Policy(max_groups=3, min_survivors=4), "min_group = 3; .* at least 4"),
    ):
        with pytest.raises(PeerError, match=told) as refused:
            policy.check(config)
        assert refused.value.code is ErrorCode.CONFIG_BELOW_POLICY
    Policy(max_groups=3, min_survivors=3).check(config)
    Policy(max_groups=None).check(config)
    with pytest.raises(ParameterError, match="max_groups = 0"):
        Policy(max_groups=0)
