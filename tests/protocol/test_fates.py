"""Every way in which the clients of a small round can vanish, against the protocol's account of what comes of it.

A fate is the last of a client's messages that the server gets.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from secagg import RoundConfig, ThreatModel
from secagg.simulation import Faults, Nuisance, Outcome, Trouble, expected_sum, simulate
from secagg.simulation.faults import phases_of
from secagg.testing.strategies import cohort
from tests.support.staging import active, semi_honest, sparse

Fates = Mapping[int, str]


def run(config: RoundConfig, fates: Fates, vectors: np.ndarray, seed: int = 1) -> Outcome:
    identities, directory, _ = cohort(config.clients)
    return simulate(vectors, config, faults=Faults(fates), seed=seed, identities=identities, directory=directory)


def all_fates(config: RoundConfig) -> Iterator[Fates]:
    fates = ("NONE", *phases_of(config))
    return (dict(enumerate(combination)) for combination in itertools.product(fates, repeat=config.clients))


def one_hot(config: RoundConfig) -> np.ndarray:
    return np.eye(config.clients, dtype=np.uint64)


def random_vectors(config: RoundConfig) -> np.ndarray:
    generator = np.random.default_rng(7)
    return generator.integers(0, config.input_max, (config.clients, config.length), np.uint64, endpoint=True)


def plain_sum(config: RoundConfig, vectors: np.ndarray, included: tuple[int, ...]) -> list[int]:
    return [sum(int(vectors[i, j]) for i in included) % config.modulus.value for j in range(config.length)]


def check_sum(config: RoundConfig, fates: Fates, vectors: np.ndarray, outcome: Outcome) -> bool:
    """The oracle, the sum, who was lost when; returns whether there is a sum."""
    assert outcome.client_errors == {}
    assert outcome.graph is not None
    expected = expected_sum(config, Faults(fates), outcome.graph)
    if expected is None:
        assert outcome.result is None
        assert outcome.failure is not None
        return False
    assert frozenset(outcome.included) == expected
    assert outcome.sum.tolist() == plain_sum(config, vectors, outcome.included)
    return True


def with_fate(fates: Fates, fate: str) -> tuple[int, ...]:
    return tuple(client for client, met in fates.items() if met == fate)


def check_names(config: RoundConfig, fates: Fates, outcome: Outcome) -> None:
    """On the complete graph: whom the server says that it lost in a phase are those whose last message came before."""
    order = ("NONE", *phases_of(config))
    if outcome.result is not None:
        lost = {later: with_fate(fates, fate) for fate, later in itertools.pairwise(order)}
        assert outcome.dropped == {phase: members for phase, members in lost.items() if members}
        return
    assert outcome.failure is not None
    before = order[order.index(outcome.failure.phase) - 1]
    assert outcome.failure.missing == with_fate(fates, before)


def test_all_fates_of_four_clients_with_one_hot_inputs() -> None:
    """Client i contributes the i-th unit vector, so the sum spells out who is in it."""
    config = semi_honest(4, 4)
    assert (config.threshold, config.min_survivors) == (2, 3)
    sums: Counter[tuple[int, ...]] = Counter()
    for fates in all_fates(config):
        outcome = run(config, fates, one_hot(config))
        if check_sum(config, fates, one_hot(config), outcome):
            assert np.flatnonzero(outcome.sum).tolist() == list(outcome.included)
            sums[tuple(outcome.sum.tolist())] += 1
        check_names(config, fates, outcome)
    # Counted by hand.  A secret opens with two answers of others, so three of the survivors, at least, answer: all
    # four survive and at most one is silent (5 fates), or one of the four is lost before (3 fates each).
    assert sums == {(1, 1, 1, 1): 5, (0, 1, 1, 1): 3, (1, 0, 1, 1): 3, (1, 1, 0, 1): 3, (1, 1, 1, 0): 3}


def test_all_fates_of_four_clients_against_an_active_server() -> None:
    config = active(4, 4)
    assert (config.threshold, config.quorum, config.min_survivors) == (2, 3, 3)
    sums: Counter[tuple[int, ...]] = Counter()
    for fates in all_fates(config):
        outcome = run(config, fates, one_hot(config))
        if check_sum(config, fates, one_hot(config), outcome):
            sums[tuple(outcome.sum.tolist())] += 1
        check_names(config, fates, outcome)
    # As above; the one that is silent after its vector may have confirmed the survivors, or not.
    assert sums == {(1, 1, 1, 1): 9, (0, 1, 1, 1): 3, (1, 0, 1, 1): 3, (1, 1, 0, 1): 3, (1, 1, 1, 0): 3}


@pytest.mark.parametrize(("min_survivors", "step"), [(3, 3), (4, 7)])
def test_fates_of_five_clients(min_survivors: int, step: int) -> None:
    """One in so many: survivors and answers in all proportions, two vectors' masks left over at a time."""
    config = semi_honest(5, 3, delta=(5 - min_survivors) / 5, threshold=2, min_survivors=min_survivors, modulus=2**20)
    assert config.dropouts == 5 - min_survivors
    vectors = random_vectors(config)
    sizes: Counter[int] = Counter()
    for fates in itertools.islice(all_fates(config), 0, None, step):
        outcome = run(config, fates, vectors)
        if check_sum(config, fates, vectors, outcome):
            sizes[len(outcome.included)] += 1
        check_names(config, fates, outcome)
    assert set(sizes) == set(range(min_survivors, 6))


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_fates_on_sparse_graphs(threat_model: ThreatModel) -> None:
    """Random fates, most of them to stay, each on a graph of its own: pruning, and owners that nobody needs to open."""
    config = sparse(8, threat_model, modulus=2**31 - 1)
    vectors = random_vectors(config)
    generator = np.random.default_rng(11)
    order = ("NONE", *phases_of(config))
    sizes: Counter[int] = Counter()
    for seed in range(300):
        lost = generator.choice(config.clients, size=generator.integers(0, config.dropouts + 2), replace=False)
        fates = {int(client): order[generator.integers(0, len(order) - 1)] for client in lost}
        outcome = run(config, fates, vectors, seed)
        sizes[len(outcome.included) if check_sum(config, fates, vectors, outcome) else 0] += 1
    assert len(sizes) >= 4
    assert sizes[0] < 200, "most rounds should have a sum"


def test_a_message_that_is_late_of_a_client_that_never_came_is_nobodys() -> None:
    """It is told that it is out in a phase in which its message would have been late."""
    config = RoundConfig.for_cohort(4, 1, gamma=0.0, delta=0.25, modulus=2**8)
    faults = Faults({0: "NONE"}, troubles=(Trouble(0, "SHARE", Nuisance.LATE),))
    assert simulate([[1]] * 4, config, faults=faults).included == (1, 2, 3)
