"""Whatever a malicious server and its colluders do, nothing opens but one sum of enough honest clients.

The ledger does not take the protocol's word for it: it computes what the adversary can compute.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from secagg import ErrorCode, RoundConfig
from secagg.testing.adversary import (
    Attack,
    DropFromSurvivors,
    Equivocate,
    Isolate,
    LeaveOut,
    Lie,
    Lose,
    Replay,
    SendAgain,
    Surround,
    SwapKeys,
    TwoLeaves,
)
from secagg.testing.adversary.strategies import attacks
from secagg.testing.adversary.world import Member, World
from tests.support.attack_stage import active, around, ring_of, semi_honest
from tests.support.mutants import PRIVACY

CONFIGS = (
    active(5, 1, 1),
    active(7, 1, 2),
    active(7, 0, 2),
    active(8, 1, 1, min_survivors=7),
    active(10, 1, 1, 4),
    active(14, 1, 2, 6),
    active(7, 1, 2).replace(version=2, attachment_bytes=16),
)
"""In all of them privacy does not hang on luck: however the graph falls, 2t > k + A."""
GENEROUS = settings(max_examples=3 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow])


@GENEROUS
@given(attacks(CONFIGS))
def test_no_lies_open_anything_but_one_sum(attack: Attack) -> None:
    assert attack.run().broken == []


@GENEROUS
@given(attacks(CONFIGS[-1:]))
def test_no_lies_reveal_what_is_attached_for_two_numbers_of_losses(attack: Attack) -> None:
    """Nor for a number of losses other than that of a set which a quorum confirmed."""
    spoils = attack.run()
    revealed = [(view.index, value) for view in spoils.ledger.views for value in view.attachments]
    lost = {int(value.split(b", ")[1].split()[0]) for _, value in revealed}
    assert len({index for index, _ in revealed}) == len(revealed), "a client revealed twice"
    assert all(value.startswith(b"%d, " % index) for index, value in revealed)
    assert len(lost) <= 1
    assert lost <= {attack.config.clients - len(survivors) for survivors in spoils.confirmed}


@pytest.mark.parametrize("rule", ["client.dealers_enough", "client.survivors_shared", "R-UNMASK-2"])
def test_the_search_finds_attacks_where_there_are_some(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (mutant,) = (mutant for mutant in PRIVACY if mutant.rule == rule)
    mutant.remove(monkeypatch)
    found = find(
        attacks(CONFIGS[1:3], max_lies=3),
        lambda attack: bool(attack.run().broken),
        settings=settings(max_examples=400, phases=[Phase.generate], derandomize=True, database=None),
    )
    assert found.run().broken


@pytest.mark.parametrize("config", CONFIGS)
def test_without_lies_the_sum_opens(config: RoundConfig) -> None:
    """Else the ledger would find nothing broken because it finds nothing."""
    spoils = Attack(config, colluders=tuple(range(config.clients - config.colluders, config.clients))).run()
    (opening,) = spoils.openings
    assert opening.clients == set(range(config.clients - config.colluders))
    assert spoils.refusals == ()


@pytest.mark.parametrize("dropped", range(7))
def test_dropping_clients_around_a_victim_after_seeing_the_graph_does_not_isolate_it(dropped: int) -> None:
    plain = Attack(active(14, 1, 2, 6), colluders=(13,))
    ring = ring_of(plain)
    for victim in around(ring, 13, -1, 1, -2, 3):
        near = around(ring, victim, *(-3, 3, -2, 2, -1, 1)[:dropped])
        lies = (Isolate(victim, tuple(sorted(set(near) - {13}))),)
        assert replace(plain, lies=lies).run().broken == []
        lost = (Lose(near, "MASK"), *lies)
        assert replace(plain, lies=lost).run().broken == []


def test_two_rosters_split_the_cohort_and_nobody_answers_for_less_than_a_quorum() -> None:
    halves = ((0, 1, 2), (3, 4, 5))
    spoils = Attack(active(7, 1, 2), (Equivocate(halves, halves[::-1]),), colluders=(6,)).run()
    assert spoils.codes == {ErrorCode.ROSTER_TOO_FEW}
    assert spoils.openings == ()


def test_two_rosters_that_differ_in_one_colluder_open_at_most_one_sum() -> None:
    groups = ((0, 1, 2, 3, 4), (5,))
    spoils = Attack(active(7, 1, 2), (Equivocate(groups, ((), (6,))),), colluders=(6,)).run()
    assert spoils.broken == []
    assert {index for index, _ in spoils.refusals} == {5}
    assert spoils.smallest == 5


def test_leaving_honest_clients_out_makes_the_sum_no_smaller_than_promised() -> None:
    config = active(7, 1, 2)
    spoils = Attack(config, (LeaveOut((0, 1)),), colluders=(6,)).run()
    assert spoils.smallest == config.min_survivors - config.colluders
    assert Attack(config, (LeaveOut((0, 1, 2)),), colluders=(6,)).run().openings == ()


def test_a_colluder_on_two_leaves_is_refused_by_everybody_near_the_second() -> None:
    plain = Attack(active(14, 1, 2, 6), (TwoLeaves(13, 0),), colluders=(13,))
    spoils, neighbours = plain.run(), set(plain.scout().neighbours[0])
    refused = {
        index for index, error in spoils.refusals if error.code in (ErrorCode.ROSTER_KEYS, ErrorCode.ROSTER_SIGNATURE)
    }
    assert refused == neighbours - {13}


def test_stolen_places_are_refused_by_all_their_neighbours() -> None:
    plain = Attack(active(14, 1, 2, 6), (SwapKeys((0,)),), colluders=(13,))
    refused = {index for index, error in plain.run().refusals if error.code is ErrorCode.ROSTER_SIGNATURE}
    assert refused == set(plain.scout().neighbours[0]) - {13}


def test_a_digest_of_no_tree_is_refused_by_everybody() -> None:
    spoils = Attack(active(14, 1, 2, 6), (Surround(),), colluders=(13,)).run()
    assert {index for index, error in spoils.refusals if error.code is ErrorCode.ROSTER_PATH} == set(range(13))


@pytest.mark.parametrize("phase", ["ADVERTISE", "SHARE", "MASK", "CONFIRM"])
def test_the_same_message_again_changes_nothing(phase: str) -> None:
    spoils = Attack(active(7, 1, 2), (SendAgain(phase),), colluders=(6,)).run()
    assert spoils.refusals == ()
    assert spoils.smallest == 6
    assert all(len(view.openings) == len(view.masked) == 1 for view in spoils.ledger.views)


@dataclass(frozen=True)
class Recorded(Lie):
    """Not a lie: what client 0 is sent is kept, by phase."""

    kept: dict[str, bytes] = field(default_factory=dict)

    def wire(self, world: World, member: Member, phase: str, data: bytes) -> bytes:
        if member.index == 0:
            self.kept[phase] = data
        return data


@pytest.mark.parametrize(
    ("make", "phase"),
    [
        *((active, phase) for phase in ("ADVERTISE", "SHARE", "MASK", "CONFIRM")),
        *((semi_honest, phase) for phase in ("ADVERTISE", "SHARE", "MASK")),
    ],
)
def test_messages_of_another_round_of_the_same_cohort_are_refused(make: Callable[..., RoundConfig], phase: str) -> None:
    recorded, config = Recorded(), make(7, 1, 2)
    Attack(config, (recorded,), colluders=(6,), seed=1).run()
    spoils = Attack(config, (Replay(phase, recorded.kept[phase], to=(0,)),), colluders=(6,)).run()
    assert [(index, error.code) for index, error in spoils.refusals if index == 0] == [(0, ErrorCode.WRONG_SESSION)]
    assert spoils.refusals[0][0] == 0
    assert spoils.broken == []


@pytest.mark.parametrize("phase", ["SHARE", "MASK", "CONFIRM"])
def test_an_earlier_message_in_place_of_the_next_is_a_duplicate_and_the_one_after_has_no_place(phase: str) -> None:
    recorded, config = Recorded(), active(7, 1, 2)
    Attack(config, (recorded,), colluders=(6,)).run()
    earlier = {"SHARE": "ADVERTISE", "MASK": "SHARE", "CONFIRM": "MASK"}[phase]
    spoils = Attack(config, (Replay(phase, recorded.kept[earlier], to=(0,)),), colluders=(6,)).run()
    assert [error.code for _, error in spoils.refusals] == ([ErrorCode.WRONG_PHASE] if phase != "CONFIRM" else [])
    assert spoils.broken == []


def test_a_hundred_clients_on_a_sparse_graph() -> None:
    """The smallest cohort for which sigma = 104 gives a sparse graph, with every colluder next to somebody."""
    config = active(100, 20, 5, "auto")
    assert config.neighbours == 32
    spoils = Attack(config, colluders=tuple(range(20))).run()
    assert spoils.broken == []
    assert spoils.smallest == 80


def test_a_server_that_lies_in_semi_honest_opens_a_client() -> None:
    """Why the threat models are two: there nobody confirms anything, and different survivors go unnoticed."""
    config = semi_honest(8, 1, 3, threshold=3)
    halves = ((0, 1, 2), (3, 4, 5, 6))

    lies = (DropFromSurvivors((0,), to=halves[1]),)
    spoils = Attack(config, lies, colluders=(7,)).run()
    assert spoils.both_kinds == {0}
    assert 1 in {len(opening.clients) for opening in spoils.openings}
