"""Regressions, hazards and ROC curves on data that ship with statsmodels, lifelines and scikit-learn.

Each is split over ten hospitals, of which two vanish on the way, and compared with a fit of the others' pooled records.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines.datasets import load_gbsg2, load_rossi
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score, roc_curve
from statsmodels.duration.hazard_regression import PHReg

from secagg.statistics import Study
from tests.support.hospitals import run

VOTES = Study.from_toml(
    """
    name = "American National Election Study of 1996"
    columns.vote = { type = "flag" }
    columns.party = { type = "number", min = 0, max = 6 }
    columns.age = { type = "whole", min = 18, max = 99 }
    columns.educ = { type = "category", values = ["1", "2", "3", "4", "5", "6", "7"] }
    [methods.vote]
    method = "glm"
    outcome = "vote"
    predictors = ["party", "age", "educ"]
    """
)
VISITS = Study.from_toml(
    """
    name = "RAND's health insurance experiment"
    columns.mdvis = { type = "whole", min = 0, max = 100 }
    columns.lncoins = { type = "number", min = 0, max = 5 }
    columns.idp = { type = "flag" }
    columns.physlm = { type = "number", min = 0, max = 1 }
    columns.disea = { type = "number", min = 0, max = 60 }
    [methods.visits]
    method = "glm"
    family = "poisson"
    outcome = "mdvis"
    predictors = ["lncoins", "idp", "physlm", "disea"]
    """
)
ARRESTS = Study.from_toml(
    """
    name = "Arrests within a year after prison"
    columns.week = { type = "whole", min = 0, max = 52 }
    columns.arrest = { type = "flag" }
    columns.fin = { type = "flag" }
    columns.age = { type = "whole", min = 15, max = 60 }
    columns.prio = { type = "whole", min = 0, max = 30 }
    [methods.arrests]
    method = "cox"
    time = "week"
    event = "arrest"
    predictors = ["fin", "age", "prio"]
    """
)
CANCER = Study.from_toml(
    """
    name = "Tumours"
    columns.malignant = { type = "flag" }
    columns.smoothness = { type = "number", min = 0, max = 0.2, decimals = 5 }
    [methods.smoothness]
    method = "roc"
    outcome = "malignant"
    score = "smoothness"
    bins = 20001
    [release]
    min_cell = 1
    """
)
RECURRENCE = Study.from_toml(
    """
    name = "German Breast Cancer Study Group"
    columns.time = { type = "whole", min = 0, max = 2659 }
    columns.event = { type = "flag" }
    columns.size = { type = "whole", min = 0, max = 150 }
    columns.grade = { type = "category", values = ["I", "II", "III"] }
    columns.hormones = { type = "flag" }
    [methods.recurrence]
    method = "cox"
    time = "time"
    event = "event"
    predictors = ["size", "grade", "hormones"]
    bins = 133
    """
)


def check(values: Any, wanted: Any, close: float) -> None:
    """Coefficients, their errors, tests and intervals against a fit of statsmodels with columns of the same names."""
    intervals = np.asarray(wanted.conf_int())
    coefficients = values["coefficients"]
    assert set(coefficients) == set(wanted.model.exog_names)
    for at, name in enumerate(wanted.model.exog_names):
        one = coefficients[name]
        theirs = tuple(np.asarray(part)[at] for part in (wanted.params, wanted.bse, wanted.tvalues))
        assert (one["estimate"], one["error"], one["z"]) == pytest.approx(theirs, rel=close), name
        assert one["p"] == pytest.approx(np.asarray(wanted.pvalues)[at], rel=100 * close, abs=1e-300), name
        assert (one["low"], one["high"]) == pytest.approx(tuple(intervals[at]), rel=10 * close), name


def with_indicators(frame: pd.DataFrame, category: str) -> pd.DataFrame:
    """A category as a column of 0 and 1 for each of its values but the first."""
    values = sorted(set(frame[category]))[1:]
    indicators = {f"{category}[{value}]": (frame[category] == value).astype(float) for value in values}
    return frame.drop(columns=category).assign(**indicators)


def test_votes_by_logistic_regression() -> None:
    votes = sm.datasets.anes96.load_pandas().data
    education = votes["educ"].astype(int).astype(str)
    frame = pd.DataFrame({"vote": votes["vote"], "party": votes["PID"], "age": votes["age"], "educ": education})
    found = run(VOTES, frame, lost_in=3, rows=100)
    x = with_indicators(found.pooled.drop(columns="vote"), "educ").assign(intercept=1.0)
    wanted = sm.GLM(found.pooled["vote"], x, sm.families.Binomial()).fit(tol=1e-15)
    check(found.values("vote"), wanted, 1e-8)
    assert found.values("vote")["deviance"] == pytest.approx(wanted.deviance, rel=1e-10)


def test_visits_to_doctors_by_poisson_regression() -> None:
    """Of 20,190 records."""
    frame = sm.datasets.randhie.load_pandas().data[["mdvis", "lncoins", "idp", "physlm", "disea"]].astype(float)
    found = run(VISITS, frame, lost_in=2, rows=5000)
    x = found.pooled.drop(columns="mdvis").assign(intercept=1.0)
    check(found.values("visits"), sm.GLM(found.pooled["mdvis"], x, sm.families.Poisson()).fit(tol=1e-15), 1e-8)


def test_arrests_by_cox_regression() -> None:
    """Times are whole weeks, so that nothing is binned."""
    frame = load_rossi()[["week", "arrest", "fin", "age", "prio"]].astype(float)
    found = run(ARRESTS, frame, lost_in=3, rows=100)
    x = found.pooled[["fin", "age", "prio"]]
    wanted = PHReg(found.pooled["week"], x, status=found.pooled["arrest"], ties="breslow").fit(disp=0)
    check(found.values("arrests"), wanted, 1e-6)


def test_recurrences_by_cox_regression() -> None:
    """In bins of 20 days."""
    women = load_gbsg2()
    frame = pd.DataFrame({"time": women["time"], "event": women["cens"], "size": women["tsize"]}).astype(float)
    frame = frame.assign(grade=women["tgrade"], hormones=(women["horTh"] == "yes").astype(float))
    found = run(RECURRENCE, frame, lost_in=2, rows=100)
    x = with_indicators(found.pooled[["size", "grade", "hormones"]], "grade")
    wanted = PHReg(found.pooled["time"] // 20, x, status=found.pooled["event"], ties="breslow").fit(disp=0)
    check(found.values("recurrence"), wanted, 1e-6)


def test_tumours_by_their_smoothness() -> None:
    """Each score that occurs has a bin of its own."""
    cancer = load_breast_cancer(as_frame=True)
    smoothness = cancer.data["mean smoothness"].round(5)
    found = run(CANCER, pd.DataFrame({"malignant": 1.0 - cancer.target, "smoothness": smoothness}), lost_in=1)
    values = found.values("smoothness")
    truth, score = found.pooled["malignant"], found.pooled["smoothness"]
    assert values["auc"] == pytest.approx(roc_auc_score(truth, score), rel=1e-12)
    alarms, hits, _ = roc_curve(truth, score, drop_intermediate=False)
    mine = {*zip(values["false_positive_rate"], values["true_positive_rate"], strict=True)}
    assert set(zip(alarms.tolist(), hits.tolist(), strict=True)) <= mine
