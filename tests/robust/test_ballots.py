"""Ballots: what a client says, what its vector shows, and what becomes of the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import InputError, ParameterError, RoundConfig
from secagg.robust import Ballot, ClassErrors, Tally, Verdict, Vote
from secagg.simulation import simulate


def errors(wrong: list[int], samples: list[int]) -> ClassErrors:
    return ClassErrors(np.array(wrong), np.array(samples))


def test_errors_by_class() -> None:
    found = ClassErrors.of([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 1, 2], 4)
    assert found.wrong.tolist() == [1, 0, 2, 0]
    assert found.samples.tolist() == [2, 1, 3, 0]
    assert repr(found) == "<ClassErrors>"
    assert ClassErrors.of([], [], 3).samples.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([1, 0, 2], Vote.ACCEPT),
        ([4, 0, 2], Vote.ACCEPT),  # 3 of 10 more than the median of 1
        ([5, 0, 2], Vote.OBJECT),
        ([0, 1, 2], Vote.ACCEPT),  # one sample of 3 is chance, though its share is above the tolerance
        ([0, 2, 2], Vote.OBJECT),
        ([1, 0, 0], Vote.ACCEPT),  # better than before
    ],
)
def test_a_class_that_is_worse_by_more_than_the_tolerance(wrong: list[int], said: Vote) -> None:
    samples = [10, 3, 2]
    earlier = [errors([9, 3, 2], samples)] + [errors([at, 0, 0], samples) for at in (0, 0, 1, 2, 9)]
    assert Ballot(tolerance=0.3, earlier=5).vote(errors(wrong, samples), earlier) is said


def test_a_class_with_few_samples_has_no_say() -> None:
    ballot = Ballot(fewest_samples=3)
    assert ballot.vote(errors([0, 2], [10, 2]), [errors([0, 0], [10, 2])]) is Vote.ACCEPT
    assert ballot.vote(errors([2, 2], [2, 2]), [errors([0, 0], [2, 2])]) is Vote.ABSTAIN
    assert ballot.vote(errors([9, 2], [10, 2]), []) is Vote.ABSTAIN


def test_errors_on_other_data_are_refused() -> None:
    with pytest.raises(InputError, match="other data"):
        Ballot().vote(errors([0], [10]), [errors([0], [11])])


VOTES = st.lists(st.sampled_from(Vote), min_size=1, max_size=12)


@given(groups=st.lists(VOTES, min_size=1, max_size=5))
def test_a_tally_is_the_count_of_the_votes(groups: list[list[Vote]]) -> None:
    ballot = Ballot()
    sums = [(sum(ballot.encode(vote).astype(np.uint64) for vote in votes), len(votes)) for votes in groups]
    cast = [vote for votes in groups for vote in votes]
    assert ballot.tally(sums) == Tally(
        objections=cast.count(Vote.OBJECT), voters=len(cast) - cast.count(Vote.ABSTAIN), clients=len(cast)
    )


def test_every_vote_has_a_vector_of_the_same_shape() -> None:
    ballot = Ballot()
    lengths = {ballot.encode(vote).shape for vote in Vote}
    assert lengths == {(ballot.encoder().length,)}


@given(lie=st.lists(st.integers(0, 254), min_size=5, max_size=5))
def test_a_liar_casts_at_most_its_groups_votes(lie: list[int]) -> None:
    ballot = Ballot()
    length = ballot.encoder().length
    honest = [(sum(ballot.encode(Vote.ACCEPT).astype(np.uint64) for _ in range(4)), 4) for _ in range(3)]
    poisoned = sum(ballot.encode(Vote.ACCEPT).astype(np.uint64) for _ in range(3)) + np.resize(lie, length).astype(
        np.uint64
    )
    tally = ballot.tally([*honest, (poisoned, 4)])
    assert 12 <= tally.voters <= tally.clients <= 16
    assert tally.objections <= 4
    assert tally.impossible in ((), (3,))
    assert (tally.clients == 12) == (tally.impossible == (3,))


def test_a_vote_through_a_round() -> None:
    """The server's sum has the count; the shapes are those that the config is made from."""
    ballot = Ballot(fewest_voters=3)
    votes = [Vote.OBJECT, Vote.ACCEPT, Vote.ABSTAIN, Vote.OBJECT, Vote.ACCEPT]
    encoder = ballot.encoder()
    config = RoundConfig.for_cohort(
        5, encoder.length, gamma=0.2, delta=0.0, input_max=encoder.input_max, modulus=encoder.modulus_for(5)
    )
    outcome = simulate(lambda client: ballot.encode(votes[client]), config)
    tally = ballot.tally([(outcome.result.sum, len(outcome.result.included))])
    assert tally == Tally(objections=2, voters=4, clients=5)
    assert ballot.verdict(tally) is Verdict.DROPPED


def test_in_a_round_with_groups_a_liar_has_the_votes_of_its_group_at_most() -> None:
    """It sends the largest vector that the protocol takes; alone in a sum it could outvote everybody."""
    ballot = Ballot()
    encoder = ballot.encoder()
    config = RoundConfig.for_cohort(
        12, encoder.length, gamma=0.0, delta=0.0, input_max=encoder.input_max, version=2, groups=4
    )
    lie = np.full(encoder.length, encoder.input_max, encoder.dtype)
    result = simulate(lambda client: lie if client == 5 else ballot.encode(Vote.ACCEPT), config).result
    tally = ballot.tally([(group.sum, len(group.included)) for group in result.groups])
    (spoilt,) = [at for at, group in enumerate(result.groups) if 5 in group.included]
    assert tally == Tally(objections=0, voters=9, clients=9, impossible=(spoilt,))
    assert ballot.verdict(tally) is Verdict.ACCEPTED
    assert ballot.verdict(ballot.tally([(result.sum, 12)])) is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("objections", "voters", "verdict"),
    [
        (3, 10, Verdict.ACCEPTED),  # 0.3 of them, and no more
        (4, 10, Verdict.DROPPED),
        (0, 10, Verdict.ACCEPTED),
        (5, 5, Verdict.UNDECIDED),
        (0, 0, Verdict.UNDECIDED),
    ],
)
def test_the_verdict(objections: int, voters: int, verdict: Verdict) -> None:
    ballot = Ballot(objecting_share=0.3, fewest_voters=6)
    assert ballot.verdict(Tally(objections=objections, voters=voters, clients=12)) is verdict


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tolerance": 0}, "tolerance is 0"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"objecting_share": 1}, "objecting_share is 1"),
        ({"objecting_share": float("nan")}, "objecting_share is nan"),
        ({"fewest_samples": 1}, "fewest_samples is 1: it must be a whole number from 2 up"),
        ({"earlier": 0}, "earlier is 0"),
        ({"fewest_voters": 1.5}, "fewest_voters is 1.5"),
    ],
)
def test_rules_out_of_range(options: dict[str, float], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Ballot(**options)


@pytest.mark.parametrize(
    ("labels", "predicted", "said"),
    [
        ([0, 1], [0], r"labels have shape \(2,\) and predictions \(1,\)"),
        ([0, 3], [0, 1], "the labels must be whole numbers from 0 to 2"),
        ([0, 1], [0, -1], "the predictions must be"),
        ([0.5], [0], "the labels must be"),
    ],
)
def test_bad_labels_are_named(labels: list[float], predicted: list[float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ClassErrors.of(labels, predicted, 3)
