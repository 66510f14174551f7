"""Rounds with lattice envelopes, with any config and any losses, against plain sums and the protocol's own account."""

from __future__ import annotations

from hypothesis import given, settings

from secagg import RoundConfig
from secagg.simulation import expected_sum
from secagg.testing.strategies import Scenario, configs, scenarios


def has_room(config: RoundConfig) -> bool:
    """Whether the largest sum has 64 bits at most."""
    return (-(-config.clients // config.groups) * config.input_max).bit_length() <= 64


ENVELOPED = configs(versions=[2]).filter(has_room).map(lambda config: config.replace(carrier="lattice"))


@settings(max_examples=settings().max_examples // 5)
@given(scenarios(ENVELOPED))
def test_rounds_with_envelopes(scenario: Scenario) -> None:
    outcome, config = scenario.run(), scenario.config
    assert outcome.client_errors == {}
    assert outcome.graph is not None
    expected = expected_sum(config, scenario.faults, outcome.graph)
    if expected is None:
        assert outcome.result is None
        return
    result = outcome.result
    assert result is not None
    assert frozenset(result.included) == expected
    assert result.sum.tolist() == scenario.plain_sum(result.included)
    assert result.sum.dtype == config.modulus.dtype
    for group in result.groups:
        assert group.sum.tolist() == scenario.plain_sum(group.included)
