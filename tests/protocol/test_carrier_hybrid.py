"""Envelopes in the hybrid suite: post-quantum from one end to the other."""

from __future__ import annotations

import pytest

from secagg.simulation import Faults, simulate
from tests.support.enveloped import config_of, known, sum_over, vectors


@pytest.mark.parametrize("model", ["semi_honest", "active"])
def test_envelopes_under_keys_of_the_hybrid_suite(model: str) -> None:
    config = config_of(model, suite="hybrid")
    faults = Faults(fates={1: "SHARE", 4: "ADVERTISE", 7: "MASK"}, order=3)
    result = simulate(vectors(config), config, faults=faults, seed=2, **known(config)).result
    assert result is not None
    assert result.included == (0, 2, 3, 5, 6, 7, 8)
    assert result.sum.tolist() == sum_over(config, result.included)
