"""Rounds of seven with complaints: how they are begun, and what is looked at when they are over."""

from __future__ import annotations

from collections.abc import Mapping

from secagg import ErrorCode, RoundConfig
from secagg.simulation.driver import RoundDriver
from secagg.testing.adversary import CoalitionOutcome, known_cohort


def with_shares(config: RoundConfig) -> tuple[RoundDriver, Mapping[int, bytes]]:
    """A round whose clients have dealt, and what each of them is about to get."""
    identities, directory, _ = known_cohort(7)
    driver = RoundDriver([[1, 2, 3]] * 7, config, seed=1, identities=identities, directory=directory)
    for _ in range(2):
        driver.collect()
        driver.close()
    return driver, dict(driver.server.outgoing())


def blamed(outcome: CoalitionOutcome) -> set[tuple[int, ErrorCode]]:
    """Whom the server named."""
    return {(entry.sender, entry.code) for entry in outcome.blame}


def check_sum(outcome: CoalitionOutcome, config: RoundConfig, included: set[int]) -> None:
    """The sum is over these members, it is right, and nothing else opens."""
    assert outcome.result is not None
    assert set(outcome.result.included) == included
    columns = zip(*(outcome.inputs[member, 0] for member in outcome.result.included), strict=True)
    assert outcome.result.sum.tolist() == [sum(column) % config.modulus.value for column in columns]
    assert outcome.both_kinds == frozenset()
