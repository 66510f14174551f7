"""Configs that the rules exclude: refused by every client, and for good reason, since each of them opens somebody."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from secagg import ErrorCode, ParameterError, Policy, RoundConfig, Suite, ThreatModel
from secagg.testing.adversary import Attack, Coalition, DropFromSurvivors, ForgeConfig, Isolate, ShowSurvivors, forged
from tests.support.attack_stage import active, around, ring_of, semi_honest
from tests.support.mutants import LENIENT, take_any_config

ACTIVE, CURIOUS = active(7, 1, 2), semi_honest(7, 1, 2)
"""ACTIVE: t = 4, Q = 5, a sum of 5 at least."""


def refusals(config: RoundConfig, **changes: object) -> set[ErrorCode]:
    """What clients that approved nothing, and ask for little, say to a forged config."""
    policy = Policy(threat_model=config.threat_model)
    spoils = Attack(config, (ForgeConfig(tuple(changes.items())),), approve=False, policy=policy).run()
    assert len(spoils.refusals) == config.clients
    assert spoils.openings == ()
    return spoils.codes


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 3},  # 2t = k + A - 1
        {"threshold": 6},  # more than can be left
        {"threshold": 1},
        {"threshold": 0},
        {"quorum": 4},  # 2Q = n + A
        {"quorum": 0},
        {"quorum": 6},  # more than can be left
        {"min_survivors": 4},
        {"min_survivors": 6},
        {"colluders": 2},
        {"colluders": 7},
        {"colluders": -1},
        {"dropouts": 3},
        {"neighbours": 5},
        {"neighbours": 4},
        {"neighbours": 7},
        {"clients": 2},
        {"clients": 6},
        {"input_max": 2**13 - 2},  # the sum could wrap round
        {"input_max": 0},
        {"input_max": 2**13},
        {"length": 0},
        {"cohort": b""},
        {"cohort": bytes(31)},
        {"context": bytes(1025)},
        {"sigma": 0},
        {"eta": 0},
        {"grinding_bits": -1},
    ],
    ids=lambda changes: "-".join(f"{name}={value}"[:20] for name, value in changes.items()),
)
def test_an_unsound_config_is_refused(changes: dict[str, Any]) -> None:
    assert refusals(ACTIVE, **changes) == {ErrorCode.CONFIG_UNSOUND}


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 1},  # as many as collude
        {"threshold": 5 + 1},
        {"min_survivors": 2},
        {"quorum": 4},
        {"cohort": bytes(32)},
        {"grinding_bits": 64},
        {"neighbours": 3},
    ],
    ids=lambda changes: "-".join(f"{name}={value}"[:20] for name, value in changes.items()),
)
def test_an_unsound_semi_honest_config_is_refused(changes: dict[str, Any]) -> None:
    assert refusals(CURIOUS, **changes) == {ErrorCode.CONFIG_UNSOUND}


@pytest.mark.parametrize(
    ("changes", "policy"),
    [
        ({"sigma": 39}, {}),
        ({"grinding_bits": 63}, {}),
        ({"threshold": 5, "min_survivors": 6, "dropouts": 1}, {"min_threshold": 6}),
        ({}, {"gamma": 0.3}),
        ({}, {"min_survivors": 6}),
        ({}, {"min_quorum": 6}),
        ({}, {"min_clients": 8}),
        ({}, {"max_clients": 6}),
        ({}, {"min_neighbours": 7}),
        ({"suite": Suite.AES_128}, {"suites": frozenset({Suite.AES_256})}),
        ({"input_max": 1}, {"min_input_bits": 10}),
        ({}, {"min_modulus_bits": 14}),
        ({"length": 1}, {"min_length": 2}),
        ({}, {"max_length": 2}),
        ({}, {"context": b"the model"}),
    ],
    ids=str,
)
def test_a_sound_config_below_the_policy_is_refused(changes: dict[str, Any], policy: dict[str, Any]) -> None:
    asked = Policy(threat_model=ThreatModel.ACTIVE, **policy)
    spoils = Attack(ACTIVE, (ForgeConfig(tuple(changes.items())),), approve=False, policy=asked).run()
    assert spoils.codes == {ErrorCode.CONFIG_BELOW_POLICY}
    assert spoils.openings == ()


def test_an_active_client_is_not_talked_down_to_semi_honest() -> None:
    for policy in (None, Policy(min_survivors=4), Policy(threat_model=ThreatModel.ACTIVE)):
        spoils = Attack(ACTIVE, sends=CURIOUS, approve=False, policy=policy).run()
        assert spoils.codes == {ErrorCode.CONFIG_BELOW_POLICY}


def sharing_rules(largest: int) -> Iterator[tuple[int, int, int]]:
    for clients in range(4, largest + 1):
        for colluders in range(clients // 3 + 1):
            for threshold in range(2, clients):
                yield clients, colluders, threshold


def test_exactly_the_thresholds_above_half_of_degree_and_colluders_are_sound() -> None:
    for clients, colluders, threshold in sharing_rules(9):
        sound = 2 * threshold > clients - 1 + colluders
        try:
            active(clients, colluders, 0, threshold=threshold, min_survivors=clients)
        except ParameterError:
            assert not sound or max(threshold + 1, colluders + 2) > clients
        else:
            assert sound


# -- What the excluded thresholds would do -----------------------------------------------------------------------------


def test_as_many_shares_as_colluders_open_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """semi_honest, n = 5, A = 2, t = 2 instead of 3: the colluders' own shares are enough, in an honest round."""
    sound = semi_honest(5, 2, 1, threshold=3)
    assert Coalition(sound, liars={3: (), 4: ()}).run().both_kinds == frozenset()
    take_any_config(monkeypatch)
    outcome = Coalition(forged(sound, threshold=2), liars={3: (), 4: ()}).run()
    assert outcome.both_kinds == {0, 1, 2}
    assert [opening.clients for opening in outcome.openings] == [{2}, {1}, {0}]


@pytest.mark.parametrize(("clients", "colluders", "threshold"), [(5, 0, 2), (5, 2, 3), (7, 0, 3), (7, 2, 4)])
def test_both_kinds_of_share_open_a_client_at_half_of_degree_and_colluders(
    clients: int, colluders: int, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The complete graph with 2t = n - 1 + A.  With CONFIRM away, half of the others answer for either kind."""
    assert 2 * threshold == clients - 1 + colluders
    sound = active(clients, colluders, 0, threshold=threshold + 1, min_survivors=clients)
    honest = clients - colluders
    half = tuple(range(1, honest - (honest - 1) // 2))
    attack = Attack(
        sound,
        (DropFromSurvivors((0,), to=half),),
        colluders=tuple(range(honest, clients)),
        sends=forged(sound, threshold=threshold, min_survivors=2, quorum=0),
        approve=False,
        policy=LENIENT,
    )
    assert attack.run().codes == {ErrorCode.CONFIG_UNSOUND}
    take_any_config(monkeypatch)
    spoils = attack.run()
    assert spoils.both_kinds == {0}
    assert spoils.smallest == 1


def test_with_the_next_threshold_the_same_shares_open_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = active(5, 2, 0, threshold=4, min_survivors=5)
    lies = (DropFromSurvivors((0,), to=(1,)),)
    sends = forged(sound, min_survivors=2, quorum=0)
    take_any_config(monkeypatch)
    spoils = Attack(sound, lies, colluders=(3, 4), sends=sends, approve=False, policy=LENIENT).run()
    assert spoils.both_kinds == frozenset()
    assert all(len(opening.clients) > 1 for opening in spoils.openings)


def test_on_a_sparse_graph_the_excluded_threshold_opens_a_client_in_spite_of_confirm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """n = 12, k = 4, A = 0, 2t = k: two neighbours confirm and two are dropped; everything else is as it should be."""
    sound = active(12, 0, 1, 4)
    assert sound.threshold == 3
    sends = forged(sound, threshold=2)
    plain = Attack(sound, sends=sends, approve=False, policy=LENIENT)
    assert plain.run().codes == {ErrorCode.CONFIG_UNSOUND}
    take_any_config(monkeypatch)
    dropped = around(ring_of(plain), 0, -1, 1)
    lies = (Isolate(0, dropped),)
    spoils = Attack(sound, lies, sends=sends, approve=False, policy=LENIENT).run()
    assert [sorted(opening.clients) for opening in spoils.openings if len(opening.clients) == 1] == [[0]]


def test_a_quorum_of_half_opens_a_sum_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """n = 8, A = 0, 2Q = n: either half signs a set without three of the other half, whose keys then come out."""
    sound = active(8, 0, 3)
    lies = (ShowSurvivors((0, 1, 2, 3, 7), to=(0, 1, 2, 3)), ShowSurvivors((3, 4, 5, 6, 7), to=(4, 5, 6, 7)))
    spoils = Attack(sound, lies).run()
    assert spoils.codes == {ErrorCode.CONFIRM_SIGNERS}
    assert spoils.openings == ()
    take_any_config(monkeypatch)
    spoils = Attack(sound, lies, sends=forged(sound, quorum=4), approve=False, policy=LENIENT).run()
    assert [opening.clients for opening in spoils.openings] == [{3, 7}]


def test_a_host_that_approves_nothing_and_asks_for_nothing_lets_the_server_say_how_many_collude() -> None:
    """Why a host gives the config's digest, or a policy with gamma: for a cohort without colluders this is sound."""
    agreed, counts_on_none = active(6, 2, 1), active(6, 0, 1)
    singled_out = (Isolate(victim=0, dropped=(1,)),)
    attack = Attack(agreed, singled_out, colluders=(4, 5), sends=counts_on_none, approve=False, policy=LENIENT)
    assert attack.run().smallest == 1
    for asks in (replace(attack, approve=True), replace(attack, policy=replace(LENIENT, gamma=1 / 3))):
        assert asks.run().openings == ()
