"""Rounds with lattice envelopes, with any config and any losses, against plain sums and the protocol's own account."""

from __future__ import annotations

from hypothesis import given, settings

from secagg import RoundConfig
from secagg.testing.strategies import Scenario, configs, scenarios
from tests.support.drawn_rounds import result_as_expected


def has_room(config: RoundConfig) -> bool:
    """Whether the largest sum has 64 bits at most."""
    return (-(-config.clients // config.groups) * config.input_max).bit_length() <= 64


ENVELOPED = configs(versions=[2]).filter(has_room).map(lambda config: config.replace(carrier="lattice"))


@settings(max_examples=settings().max_examples // 5)
@given(scenarios(ENVELOPED))
def test_rounds_with_envelopes(scenario: Scenario) -> None:
    result = result_as_expected(scenario, scenario.run())
    if result is None:
        return
    assert result.sum.dtype == scenario.config.modulus.dtype
    for group in result.groups:
        assert group.sum.tolist() == scenario.plain_sum(group.included)
