"""How many colluders and dropouts a config counts: of the rates that are given, and by default."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from secagg import ParameterError, PeerError, Policy, RoundConfig, ThreatModel
from secagg.pairwise.config import default_colluders
from secagg.pairwise.parameters import Demand
from secagg.pairwise.rates import exact_rate
from secagg.testing.strategies import cohort
from tests.support.staging import MODELS, active, semi_honest


def sound(clients: int, threat_model: ThreatModel, colluders: int, dropouts: int, **options: Any) -> bool:
    """Whether the protocol's rules, asked directly, allow these counts on the complete graph."""
    rates = {"gamma": colluders / clients, "delta": dropouts / clients}
    try:
        MODELS[threat_model](clients, **rates, **options)
    except ParameterError:
        return False
    return True


def by_default(clients: int, threat_model: ThreatModel, **options: Any) -> RoundConfig:
    trust = {"cohort": cohort(clients)[2]} if threat_model is ThreatModel.ACTIVE else {}
    return RoundConfig.for_cohort(clients, 5, threat_model=threat_model, **{**trust, **options})


def most(counts: Iterable[int]) -> int:
    return max(counts, default=-1)


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("clients", [*range(3, 24), 99, 100, 101])
def test_the_defaults_count_one_colluder_and_then_tolerate_one_loss(clients: int, threat_model: ThreatModel) -> None:
    config = by_default(clients, threat_model)
    assert config.colluders == default_colluders(clients) == max(1, clients // 5)
    wanted = max(1, clients // 10)
    assert config.dropouts == most(
        lost for lost in range(wanted + 1) if sound(clients, threat_model, config.colluders, lost)
    )
    Policy(gamma="default").check(config)


@pytest.mark.parametrize(
    ("clients", "threat_model", "counts"),
    [
        (3, ThreatModel.SEMI_HONEST, (1, 0)),
        (3, ThreatModel.ACTIVE, (1, 0)),
        (4, ThreatModel.SEMI_HONEST, (1, 1)),
        (4, ThreatModel.ACTIVE, (1, 0)),
        (5, ThreatModel.SEMI_HONEST, (1, 1)),
        (5, ThreatModel.ACTIVE, (1, 1)),
        (9, ThreatModel.ACTIVE, (1, 1)),
        (20, ThreatModel.SEMI_HONEST, (4, 2)),
        (1000, ThreatModel.ACTIVE, (200, 100)),
    ],
)
def test_the_defaults_in_numbers(clients: int, threat_model: ThreatModel, counts: tuple[int, int]) -> None:
    config = by_default(clients, threat_model)
    assert (config.colluders, config.dropouts) == counts


@pytest.mark.parametrize("threat_model", ThreatModel)
@pytest.mark.parametrize("clients", range(3, 11))
def test_losses_by_default_give_way_to_what_is_asked_for(clients: int, threat_model: ThreatModel) -> None:
    """To colluders, a threshold and a minimum of survivors, as far as there is room, and to none of them otherwise."""
    wanted = max(1, clients // 10)
    for colluders, threshold, survivors in itertools.product(
        (0, 1, 2, clients - 2), (None, 2, clients - 2, clients - 1), (None, clients - 1, clients)
    ):
        asked = {"threshold": threshold, "min_survivors": survivors}
        fits = most(lost for lost in range(wanted + 1) if sound(clients, threat_model, colluders, lost, **asked))
        options = {**asked, "gamma": colluders / clients, "neighbours": "complete"}
        if fits < 0:
            with pytest.raises(ParameterError):
                by_default(clients, threat_model, **options)
        else:
            config = by_default(clients, threat_model, **options)
            assert (config.colluders, config.dropouts) == (colluders, fits)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_the_room_for_losses_is_all_that_the_rules_leave(threat_model: ThreatModel) -> None:
    for clients, colluders in ((n, a) for n in range(3, 15) for a in range(min(6, n + 1))):
        room = Demand(clients=clients, colluders=colluders, dropouts=0, threat_model=threat_model).most_dropouts()
        allowed = most(lost for lost in range(clients) if sound(clients, threat_model, colluders, lost))
        assert max(room, -1) == allowed


def test_the_one_colluder_of_four_gives_way_to_losses_that_are_asked_for() -> None:
    assert by_default(4, ThreatModel.ACTIVE, delta=0.25).colluders == 0
    assert by_default(4, ThreatModel.SEMI_HONEST, delta=0.25).colluders == 1
    assert by_default(5, ThreatModel.ACTIVE, delta=0.2).colluders == 1


def test_a_fifth_of_the_cohort_does_not_give_way() -> None:
    """A cohort's security is not lowered in silence for the sake of losses."""
    with pytest.raises(ParameterError, match="20 of them colluding"):
        by_default(100, ThreatModel.ACTIVE, delta=0.4)


def test_rates_that_are_given_mean_what_they_say() -> None:
    config = by_default(9, ThreatModel.ACTIVE, gamma=0.1, delta=0.1)
    assert (config.colluders, config.dropouts) == (0, 0)
    config = by_default(9, ThreatModel.SEMI_HONEST, gamma=0.0)
    assert (config.colluders, config.dropouts) == (0, 1)


@pytest.mark.parametrize("make", [semi_honest, active])
@pytest.mark.parametrize("clients", [3, 4, 7])
def test_a_policy_by_default_refuses_a_server_that_counts_nobody(make: Any, clients: int) -> None:
    config = make(clients, gamma=0.0, delta=0.0)
    Policy().check(config)
    with pytest.raises(PeerError, match="colluders = 0; this client's policy asks for at least 1"):
        Policy(gamma="default").check(config)


@pytest.mark.parametrize("gamma", [-0.1, 1, 1.5, "most", True, None])
def test_a_policy_s_gamma_is_a_rate(gamma: Any) -> None:
    with pytest.raises(ParameterError, match="gamma"):
        Policy(gamma=gamma)


# -- The number that a rate stands for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "clients", "share"),
    [
        (0.29, 100, 29),  # the binary fraction lies below 0.29
        (0.57, 100, 57),
        (1 / 3, 3, 1),
        (1 / 7, 7, 1),
        (Fraction(1, 3), 2**20 - 1, (2**20 - 1) // 3),
        (0.289999999999999, 100, 28),  # a decimal just below, which no slack may round up
        (0.2899999999999, 10**6, 289999),
        (1 - 2**-53, 2**20, 2**20 - 1),
        (0, 10, 0),
        (np.float64(0.29), 100, 29),
    ],
)
def test_a_share_of_the_cohort_is_the_floor_of_the_exact_number(
    rate: float | Fraction, clients: int, share: int
) -> None:
    assert math.floor(exact_rate("gamma", rate) * clients) == share


def test_every_share_of_two_decimals_and_every_ratio_is_exact() -> None:
    for clients in (*range(3, 60), 1000):
        for part in range(clients):
            assert exact_rate("gamma", part / clients) * clients == part
        for hundredths in range(100):
            assert math.floor(exact_rate("gamma", hundredths / 100) * clients) == hundredths * clients // 100


@pytest.mark.parametrize("rate", [math.nan, 1.0, -0.1, True, "0.2", None, math.inf])
def test_a_share_that_is_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(ParameterError, match="gamma = "):
        exact_rate("gamma", rate)
