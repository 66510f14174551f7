"""What every drawn round comes to: the sum that the protocol's own account expects, or none."""

from __future__ import annotations

from secagg import Result
from secagg.simulation import Outcome, expected_sum
from secagg.testing.strategies import Scenario


def result_as_expected(scenario: Scenario, outcome: Outcome) -> Result | None:
    """The round's result, looked at: nobody was accused, the right clients are in it, and it is their plain sum."""
    assert outcome.client_errors == {}
    assert outcome.graph is not None
    expected = expected_sum(scenario.config, scenario.faults, outcome.graph)
    result = outcome.result
    if expected is None:
        assert result is None
        return None
    assert result is not None
    assert frozenset(result.included) == expected
    assert result.sum.tolist() == scenario.plain_sum(result.included)
    return result
