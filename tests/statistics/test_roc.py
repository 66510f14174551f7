"""ROC curve, area, calibration and Brier score against scikit-learn on scores in bins."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.results import Curves
from tests.support.hospitals import add_up, as_json, run, split

TOML = """
name = "Risk"
[columns.died]
type = "flag"
[columns.risk]
type = "number"
min = 0
max = 1
[columns.points]
type = "whole"
min = 0
max = 30
[methods.risk]
method = "roc"
outcome = "died"
score = "risk"
bins = 20
[methods.points]
method = "roc"
outcome = "died"
score = "points"
[release]
min_cell = LEAST
"""


def study(least: int) -> Study:
    return Study.from_toml(TOML.replace("LEAST", str(least)))


def records(size: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    risk = rng.random(size)
    died = (rng.random(size) < risk).astype(float)
    return pd.DataFrame({"risk": risk, "died": died, "points": np.floor(30 * risk**2)})


@pytest.mark.parametrize("least", [1, 5])
def test_the_curve_is_that_of_scikit_learn_on_binned_scores(least: int) -> None:
    found = run(study(least), records(), lost_in=1)
    died, risk = found.pooled["died"], found.pooled["risk"]
    values = found.values("risk")
    edges = [*values["thresholds"][:0:-1], 1.0]
    rank = np.clip(np.searchsorted(edges, risk, side="right") - 1, 0, len(edges) - 2)
    middle = (np.array(edges)[:-1] + np.array(edges)[1:])[rank] / 2
    assert values["auc"] == pytest.approx(roc_auc_score(died, middle), rel=1e-12)
    assert values["brier"] == pytest.approx(brier_score_loss(died, middle), rel=1e-12)
    alarms, hits, _ = roc_curve(died, middle, drop_intermediate=False)
    assert values["false_positive_rate"] == pytest.approx(alarms)
    assert values["true_positive_rate"] == pytest.approx(hits)
    for row in values["calibration"]:
        inside = died[middle == row["score"]]
        assert (row["records"], row["events"], row["share"]) == (len(inside), inside.sum(), inside.mean())
        assert not 0 < row["events"] < least
        assert not 0 < row["records"] - row["events"] < least
    assert bool(found.methods["risk"].result.notes) == (len(edges) < 21)
    (figure,) = found.methods["risk"].result.figures
    assert isinstance(figure, Curves)
    assert figure.diagonal
    as_json(found.methods)


def test_whole_scores_are_exact() -> None:
    frame = records()
    values = add_up(study(1), split(frame))["points"].result.values
    assert values["auc"] == pytest.approx(roc_auc_score(frame["died"], frame["points"]), rel=1e-12)
    assert {row["score"] for row in values["calibration"]} == set(frame["points"])
    assert values["brier"] is None


@pytest.mark.parametrize("died", [[0.0] * 800, [1.0] * 800, [1.0] * 3 + [0.0] * 797])
def test_without_both_outcomes_there_is_no_curve(died: list[float]) -> None:
    methods = add_up(study(5), split(records().assign(died=died)))
    as_json(methods)
    assert "few records, or none" in methods["risk"].result.withheld


def test_an_outcome_that_is_no_flag_is_refused() -> None:
    with pytest.raises(ParameterError, match="must be a flag"):
        Study.from_toml(TOML.replace("LEAST", "5").replace('outcome = "died"', 'outcome = "risk"'))
