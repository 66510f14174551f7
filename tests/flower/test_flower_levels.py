"""Private trainings whose noise is in levels: what the lost nodes do not ask for is taken off the mean."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import LayoutPolicy, ParameterError, Policy
from secagg.adapters.flower import SecAggMod, SecAggStrategy
from secagg.adapters.flower.codec import Codec
from secagg.pairwise.config import RoundConfig
from secagg.privacy import AdaptiveClip, Privacy
from tests.support.flower_grid import MemoryGrid
from tests.support.flower_private import (
    LOOSE,
    STRICT,
    announce,
    check_mean,
    model,
    private,
    refuses,
    terms_said,
    trained,
    with_terms,
)
from tests.support.flower_setup import ODD, one_round, others, with_node_config

VALUES = 2**15
"""So many that a variance is measured to 0.8%."""
IN_LEVELS = replace(STRICT, levels=2)


def check(strategy: SecAggStrategy, grid: MemoryGrid, measured: float, *, lost: int, answered: int) -> None:
    """The noise is that of the level, as it is stated and as it is measured, and what was promised is kept."""
    report, terms, count = strategy.reports[1], terms_said(grid), 8 - lost
    assert report.privacy is not None
    assert (report.privacy.contributors, report.privacy.promised_honest, terms.levels) == (count, 5, 2)
    left = [-(-5 * terms.variance // honest) for honest in (7, 6, 5)][lost]
    variance = answered * left + (count - answered) * terms.variance
    step = 1 / float(terms.mechanism.scale)
    assert report.noise * count == pytest.approx(math.sqrt(variance) * step)
    assert measured * count**2 == pytest.approx(variance * step**2, rel=0.045)
    assert report.privacy.is_kept
    assert report.privacy.reached_sigma**2 == pytest.approx(report.privacy.promised_sigma**2, rel=1e-4)
    assert 0.999 * report.privacy.promised_epsilon < report.privacy.reached_epsilon <= report.privacy.promised_epsilon


@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_what_the_lost_nodes_do_not_ask_for_is_taken_off(threat_model: str, lost: int, tmp_path: Path) -> None:
    strategy, grid = private(IN_LEVELS, directory=tmp_path if threat_model == "active" else None)
    grid.deaf = {("MASK", ODD + number) for number in range(lost)}
    mean = one_round(strategy, grid, {"large": np.zeros(VALUES)})
    assert mean is not None
    check(strategy, grid, float(np.mean(mean["large"] ** 2)), lost=lost, answered=8 - lost)


def test_a_node_that_is_silent_in_the_end_leaves_its_surplus_in_the_mean() -> None:
    strategy, grid = private(IN_LEVELS)
    grid.mute = {("UNMASK", ODD)}
    mean = one_round(strategy, grid, {"large": np.zeros(VALUES)})
    assert mean is not None
    check(strategy, grid, float(np.mean(mean["large"] ** 2)), lost=0, answered=7)


def test_the_mean_is_that_of_the_shortened_updates() -> None:
    strategy, grid = private(replace(LOOSE, levels=64))
    check_mean(strategy, one_round(strategy, grid, model()), grid.nodes)


def test_a_clip_that_adapts_goes_with_levels() -> None:
    asked = Privacy(epsilon=2000.0, delta=1e-6, clip=0.05, bits=24, rounds=9, adaptive=AdaptiveClip(), levels=2)
    strategy, grid = private(asked)
    for server_round in (1, 2, 3):
        assert trained(strategy, grid, server_round) == grid.nodes
        report = strategy.reports[server_round].privacy
        assert report is not None
        assert report.reached_sigma == pytest.approx(report.promised_sigma, rel=1e-4)
    clips = [state.clip for number in (1, 2, 3) if (state := strategy.reports[number].clip_state) is not None]
    assert 0.05 < clips[0] < clips[1] < clips[2]


def test_logs_say_what_levels_rest_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="flwr.secagg")
    strategy, grid = private(IN_LEVELS)
    one_round(strategy, grid, model())
    said = "the noise is in 2 levels: what the losses do not ask for is taken off again, which in semi_honest trusts"
    assert said in caplog.text


# What a node asks for.


def test_a_node_may_refuse_levels_by_its_own_config(caplog: pytest.LogCaptureFixture) -> None:
    strategy, grid = private(IN_LEVELS)
    with_node_config(grid, ODD, max_levels=1)
    assert trained(strategy, grid, 1) == others(grid)
    assert "has levels 2; this client's policy allows 0 to 1" in caplog.text


@pytest.mark.parametrize(
    ("privacy", "mod", "says"),
    [
        (IN_LEVELS, SecAggMod(layout_policy=LayoutPolicy(max_levels=0)), "has levels 2; this client's policy allows 0"),
        (STRICT, SecAggMod(policy=Policy(min_version=2)), "version = 1"),
    ],
    ids=["no levels", "a later version"],
)
def test_nodes_refuse_what_is_beyond_their_policy(
    privacy: Privacy, mod: SecAggMod, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = private(privacy, mod=mod)
    refuses(strategy, grid, says, caplog)


@pytest.mark.parametrize(
    ("privacy", "levels", "says"),
    [(IN_LEVELS, 0, "attachment_bytes = 32"), (STRICT, 2, "attachment_bytes = 0, and this encoder needs 32")],
)
def test_levels_that_are_announced_and_not_played_are_refused(
    privacy: Privacy, levels: int, says: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = private(privacy)
    announce(monkeypatch, with_terms(levels=levels))
    refuses(strategy, grid, says, caplog)


@pytest.mark.parametrize("changes", [{"version": 1, "attachment_bytes": 0}, {"attachment_bytes": 31}])
def test_a_config_that_carries_no_keys_is_refused_by_every_node(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = private(IN_LEVELS)
    ordinary = strategy._config

    def lie(codec: Codec, invited: int) -> RoundConfig:
        return ordinary(codec, invited).replace(**changes)

    strategy._config = lie  # type: ignore[method-assign]
    refuses(strategy, grid, "and this encoder needs 32", caplog)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"levels": 65}, "levels is 65: must be a whole number from 0 to 64"),
        ({"levels": True}, "levels is True: must be a whole number"),
        (
            {"levels": 1, "noise": "discrete-gaussian"},
            "levels is 1 and noise 'discrete-gaussian': only 'skellam' noise",
        ),
    ],
)
def test_levels_that_cannot_be_are_refused_when_they_are_asked_for(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        replace(STRICT, **changes)
