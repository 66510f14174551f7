"""semi_honest: the server follows the protocol, and pools all it sees with its colluders.  Dropouts are random."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secagg.simulation import FATES
from secagg.testing.adversary import Coalition
from tests.support.attack_stage import active, semi_honest

CONFIGS = (
    semi_honest(4, 1, 1),
    semi_honest(5, 2, 1),
    semi_honest(7, 2, 2),
    semi_honest(9, 1, 3, 6, sigma=1, eta=1),
    semi_honest(12, 2, 2, 6, sigma=1, eta=1),
    active(7, 1, 2),
    active(14, 1, 2, 6),
)


@st.composite
def coalitions(draw: st.DrawFn) -> Coalition:
    """Honest rounds with curious clients, in which anybody else is lost at any time, and late messages still arrive."""
    config = draw(st.sampled_from(CONFIGS))
    members = st.integers(0, config.clients - 1)
    curious = draw(st.sets(members, max_size=config.colluders))
    fates = draw(st.dictionaries(members, st.sampled_from(FATES), max_size=config.dropouts + 1))
    return Coalition(
        config,
        liars=dict.fromkeys(curious, ()),
        fates={index: fate for index, fate in fates.items() if index not in curious},
        late=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


@settings(max_examples=2 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow])
@given(coalitions())
def test_a_curious_coalition_learns_the_sum_and_nothing_else(coalition: Coalition) -> None:
    outcome, config = coalition.run(), coalition.config
    assert outcome.both_kinds == frozenset()
    assert len(outcome.openings) <= 1
    for opening in outcome.openings:
        assert opening.is_true(outcome.inputs, config.modulus)
        assert {factor for _, factor in opening.factors} == {1}
        assert len(opening.clients) >= config.min_survivors - config.colluders
    if outcome.result is not None:
        (opening,) = outcome.openings
        assert opening.clients == set(outcome.result.included) - set(coalition.liars)


def test_late_masked_vectors_stay_shut_although_their_pairwise_masks_are_known() -> None:
    """The client is counted as lost, so its masking key comes out; its vector reached the server all the same."""
    config = semi_honest(7, 2, 2)
    outcome = Coalition(config, liars={5: (), 6: ()}, fates={0: "SHARE", 1: "SHARE"}, late=True).run()
    (opening,) = outcome.openings
    assert opening.clients == {2, 3, 4}
