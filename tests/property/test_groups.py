"""Rounds with any groups and any losses, against the protocol's own account, plain sums, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import Modulus, RoundConfig
from secagg.testing.adversary import Coalition, known_cohort
from secagg.testing.strategies import configs, scenarios
from tests.support.drawn_rounds import result_as_expected

EXAMPLES = settings().max_examples
SHORT = configs(
    min_clients=6, max_clients=12, versions=[2], lengths=[1, 3], moduli=[Modulus.ring(20), Modulus(32771)]
).filter(lambda config: config.groups > 1)
GROUPED = configs(min_clients=6, max_clients=14, versions=[2]).filter(lambda config: config.groups > 1)


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_rounds_with_groups(data: st.DataObject) -> None:
    """R-GROUP-4: each opened group's sum is the plain sum of its members, and the oracle says which are opened."""
    config = data.draw(GROUPED)
    scenario = data.draw(scenarios(st.just(config), max_lost=config.clients))
    outcome = scenario.run()
    result = result_as_expected(scenario, outcome)
    if result is None:
        return
    assert outcome.graph is not None
    for group in result.groups:
        members = set(outcome.graph.members_of(group.number).tolist())
        assert set(group.included) == members & {*result.included}
        assert group.sum.tolist() == scenario.plain_sum(group.included)
        assert len(group.included) >= config.min_group
    opened = {group.number for group in result.groups}
    assert opened.isdisjoint(result.failed_groups)
    assert opened | set(result.failed_groups) == set(range(config.groups))


@st.composite
def fates(draw: st.DrawFn, config: RoundConfig) -> Mapping[int, str]:
    phases = ("NONE", "ADVERTISE", "SHARE", "MASK", "CONFIRM")
    known = [phase for phase in phases if phase != "CONFIRM" or config.is_active]
    return draw(st.dictionaries(st.integers(0, config.clients - 1), st.sampled_from(known), max_size=config.clients))


@settings(max_examples=EXAMPLES // 2)
@given(st.data())
def test_never_less_than_a_groups_honest_members_opens(data: st.DataObject) -> None:
    """A curious server with up to A_g colluders, whoever is lost when, and with all that comes too late."""
    config = data.draw(SHORT)
    if config.is_active:
        config = config.replace(cohort=known_cohort(config.clients)[2])
    curious = data.draw(st.sets(st.integers(0, config.clients - 1), max_size=config.colluders_in_group))
    lost = data.draw(fates(config))
    outcome = Coalition(config, liars=dict.fromkeys(curious, ()), fates=lost, late=True).run()
    assert outcome.both_kinds == frozenset()
    sums = [] if outcome.result is None else [set(group.included) - curious for group in outcome.result.groups]
    for opening in outcome.openings:
        assert opening.is_true(outcome.inputs, config.modulus)
        assert {factor for _, factor in opening.factors} == {1}
        assert len(opening.clients) >= config.min_group - config.colluders_in_group
    assert all(any(opening.clients == honest for opening in outcome.openings) for honest in sums)
