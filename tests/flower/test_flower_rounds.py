"""Rounds over Flower's Message API give the plain mean, whoever drops out, and nothing when too many do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from secagg._install import how_to_install
from secagg.adapters.flower.records import STATE_RECORD
from tests.support.flower_grid import CLIPS, Fates, arrays_of, context_of, model, plain_mean, record_of
from tests.support.flower_setup import PHASES, assert_mean, make, one_round

EARLY = ("ADVERTISE", "SHARE", "MASK")


@pytest.mark.parametrize("how", ["deaf", "mute"])
@pytest.mark.parametrize(("threat_model", "phase"), [(model, phase) for model in PHASES for phase in PHASES[model]])
def test_a_client_lost_in_any_phase(threat_model: str, phase: str, how: str, tmp_path: Path) -> None:
    strategy, grid = make(threat_model, tmp_path)
    setattr(grid, how, {(phase, 103)})
    mean = one_round(strategy, grid, model())
    assert_mean(strategy, mean, model(), [node for node in grid.nodes if phase not in EARLY or node != 103])
    assert [len(lost) for lost in strategy.reports[1].dropped.values()] == [1]


def test_losses_in_several_phases_and_rounds(tmp_path: Path) -> None:
    strategy, grid = make("semi_honest", tmp_path, nodes=12)
    grid.deaf, grid.mute = {("ADVERTISE", 101), ("MASK", 104)}, {("SHARE", 102)}
    arrays = record_of(model())
    result = strategy.start(grid, arrays, num_rounds=3)
    survivors = [node for node in grid.nodes if node not in (101, 102, 104)]
    expected = model()
    for _ in range(3):
        mean = plain_mean(expected, survivors)
        # Flower's average of whole numbers is a float64 from the first round on; so is ours.
        expected = {
            name: mean[name].astype(values.dtype if values.dtype.kind == "f" else float)
            for name, values in expected.items()
        }
    for name, values in arrays_of(result.arrays).items():
        clip = CLIPS["*.batches"] if name.endswith("batches") else 1.0
        slack = 3 * (clip * strategy.reports[1].error_bound + np.finfo(values.dtype).eps * 8)
        assert values.dtype == expected[name].dtype
        assert np.abs(values - expected[name]).max(initial=0.0) <= slack
    assert result.evaluate_metrics_clientapp[3]["records"] == pytest.approx(2)  # arrays and config, and nothing of ours


@pytest.mark.parametrize(
    ("fates", "phase"),
    [
        ({("ADVERTISE", node) for node in range(101, 106)}, "ADVERTISE"),
        ({("SHARE", node) for node in range(101, 106)}, "SHARE"),
        ({("MASK", node) for node in range(101, 106)}, "MASK"),
        ({("UNMASK", node) for node in range(101, 106)}, "UNMASK"),
    ],
)
@pytest.mark.parametrize("threat_model", ["semi_honest", "active"])
def test_too_few_give_no_model(
    threat_model: str, fates: Fates, phase: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    strategy, grid = make(threat_model, tmp_path)
    grid.mute = fates
    assert one_round(strategy, grid, model()) is None
    report = strategy.reports[1]
    assert phase in report.failure
    assert report.included == ()
    said = [record.levelname for record in caplog.records if "round 1 gives no new model" in record.getMessage()]
    assert said == ["ERROR"]
    lost = {node for _, node in fates}
    for node in set(grid.nodes) - lost:  # they were told, and have wiped their states
        assert "state" not in context_of(grid.contexts[node]).state.config_records[STATE_RECORD]
    # The next round is as if nothing had been; but who has answered UNMASK for a model does not sum it again.
    grid.mute = set()
    following = model(seed=int(phase == "UNMASK"))
    assert_mean(strategy, one_round(strategy, grid, following), following, grid.nodes)


def test_without_flower_the_adapter_says_what_to_install() -> None:
    program = "import sys; sys.modules['flwr'] = None; import secagg.adapters.flower"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert how_to_install("flower") in done.stderr


def test_the_summary_names_the_options_and_the_wrapped_strategy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make("semi_honest", tmp_path)[0].summary()
    assert "semi_honest" in caplog.text
    assert "gamma 0.2 | delta 0.25" in caplog.text
    assert "Weighted by: 'num-examples'" in caplog.text


@pytest.mark.parametrize("nodes", [3, 4, 5])
def test_small_cohorts_count_a_colluder_and_bear_a_loss(
    nodes: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By default, as ``RoundConfig.for_cohort`` and ``secagg serve`` do; three leave no room for a loss."""
    strategy, grid = make("semi_honest", tmp_path, nodes=nodes, gamma=None, delta=None)
    lost = nodes > 3
    grid.mute = {("MASK", 101)} if lost else set()
    assert_mean(strategy, one_round(strategy, grid, model()), model(), grid.nodes[1:] if lost else grid.nodes)
    assert f"a sum needs {nodes - lost} of {nodes} clients, and 1 may collude" in caplog.text
    strategy.summary()
    assert "gamma default | delta default" in caplog.text


def test_a_failed_round_leaves_the_model_and_the_next_one_goes_on(tmp_path: Path) -> None:
    strategy, grid = make("semi_honest", tmp_path)
    grid.mute = {("MASK", node) for node in grid.nodes}
    result = strategy.start(grid, record_of(model()), num_rounds=1)
    assert not result.arrays
    assert not result.train_metrics_clientapp.get(1)
