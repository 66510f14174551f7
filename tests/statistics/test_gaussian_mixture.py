"""Gaussian mixtures against scikit-learn's EM from the same start."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from secagg.errors import ParameterError
from secagg.statistics import Study
from secagg.statistics.asks import Released
from secagg.statistics.results import Curves
from tests.support.hospitals import LOST, Found, add_up, as_json, run, split

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
RANGES = {"sepal_length": (4, 8), "sepal_width": (1.5, 5), "petal_length": (0.5, 7.5), "petal_width": (0, 3)}
LOW, HIGH = np.array(list(RANGES.values()), np.float64).T
MIDDLE, HALF = (LOW + HIGH) / 2, (HIGH - LOW) / 2
START = [[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.2, 1.3], [6.6, 3.0, 5.5, 2.0]]
DEVIATIONS = [0.5, 0.4, 0.6, 0.3]
TOML = (
    'name = "Iris"\n'
    + "".join(f'[columns.{name}]\ntype = "number"\nmin = {low}\nmax = {high}\n' for name, (low, high) in RANGES.items())
    + f"""
[methods.diagonal]
method = "gaussian_mixture"
of = {COLUMNS}
clusters = 3
start = {START}
deviations = {DEVIATIONS}
tolerance = 1e-12
max_rounds = 12
[methods.full]
method = "gaussian_mixture"
of = {COLUMNS}
clusters = 3
covariance = "full"
start = {START}
ridge = 1e-4
[methods.spread]
method = "gaussian_mixture"
of = ["petal_length", "petal_width"]
clusters = 2
"""
)
STUDY = Study.from_toml(TOML)
LOST_IN = 3


@pytest.fixture(scope="module")
def everybody() -> dict[str, pd.DataFrame]:
    frame = pd.DataFrame(load_iris().data, columns=COLUMNS)
    frame.loc[frame.index[::31], "petal_width"] = float("nan")
    return split(frame)


@pytest.fixture(scope="module")
def found(everybody: dict[str, pd.DataFrame]) -> Found:
    return run(STUDY, everybody, lost_in=LOST_IN)


def scaled(frame: pd.DataFrame, columns: list[str]) -> Any:
    at = [COLUMNS.index(name) for name in columns]
    return (frame.dropna()[columns].to_numpy() - MIDDLE[at]) / HALF[at]


def fit(values: Any, start: tuple[Any, Any, Any], rounds: int, ridge: float, tolerance: float = 1e-3) -> Any:
    """scikit-learn's EM from weights, means and covariances; by default it says when it did not converge."""
    weights, means, covariances = start
    full = covariances.ndim == 3
    model = GaussianMixture(
        len(weights),
        covariance_type="full" if full else "diag",
        weights_init=weights,
        means_init=means,
        precisions_init=np.linalg.inv(covariances) if full else 1 / covariances,
        reg_covar=ridge,
        max_iter=rounds,
        tol=tolerance,
    )
    return model.fit(values)


def fitted_with_loss(
    everybody: dict[str, pd.DataFrame], columns: list[str], start: tuple[Any, Any, Any], rounds: int, **terms: float
) -> Any:
    """Two rounds over all hospitals, and those after them over the ones that were not lost."""
    left = pd.concat([frame for name, frame in everybody.items() if name not in LOST])
    with pytest.warns(ConvergenceWarning):
        before = fit(scaled(pd.concat(everybody.values()), columns), start, LOST_IN - 1, **terms)
    start = (before.weights_, before.means_, before.covariances_)
    return fit(scaled(left, columns), start, rounds - LOST_IN + 1, **terms)


def check(values: Any, wanted: Any, columns: list[str], records: int) -> None:
    at = [COLUMNS.index(name) for name in columns]
    middle, half = MIDDLE[at], HALF[at]
    clusters = values["clusters"]
    assert [one["weight"] for one in clusters] == pytest.approx(wanted.weights_, rel=1e-9)
    assert [one["count"] for one in clusters] == pytest.approx(wanted.weights_ * records, rel=1e-9)
    means = np.array([list(one["mean"].values()) for one in clusters])
    assert means == pytest.approx(middle + half * wanted.means_, rel=1e-9)
    variances = wanted.covariances_
    if variances.ndim == 3:
        covariances = variances * np.outer(half, half)
        assert np.array([one["covariance"] for one in clusters]) == pytest.approx(covariances, rel=1e-8, abs=1e-10)
        variances = variances.diagonal(axis1=1, axis2=2)
    sds = np.array([list(one["sd"].values()) for one in clusters])
    assert sds == pytest.approx(half * np.sqrt(variances), rel=1e-9)
    likelihood = records * (wanted.lower_bound_ - np.log(half).sum())
    free = wanted._n_parameters()
    assert values["log_likelihood"] == pytest.approx(likelihood, rel=1e-9)
    assert values["aic"] == pytest.approx(2 * free - 2 * likelihood, rel=1e-9)
    assert values["bic"] == pytest.approx(free * math.log(records) - 2 * likelihood, rel=1e-9)


def equal_weights(means: Any, covariances: Any) -> tuple[Any, Any, Any]:
    return np.full(len(means), 1 / len(means)), np.array(means), np.array(covariances)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_diagonal_covariances_are_those_of_scikit_learn_although_sites_vanish(
    found: Found, everybody: dict[str, pd.DataFrame]
) -> None:
    start = equal_weights((np.array(START) - MIDDLE) / HALF, [(np.array(DEVIATIONS) / HALF) ** 2] * 3)
    wanted = fitted_with_loss(everybody, COLUMNS, start, 12, ridge=1e-6, tolerance=1e-12)
    assert found.methods["diagonal"].rounds == 12
    check(found.values("diagonal"), wanted, COLUMNS, len(found.pooled.dropna()))
    assert not found.values("diagonal")["converged"]
    assert "still grew in round 12" in found.methods["diagonal"].result.notes[0]


def test_full_covariances_are_those_of_scikit_learn_and_so_is_the_end(
    found: Found, everybody: dict[str, pd.DataFrame]
) -> None:
    start = equal_weights((np.array(START) - MIDDLE) / HALF, [np.eye(4) / 9] * 3)
    wanted = fitted_with_loss(everybody, COLUMNS, start, 20, ridge=1e-4)
    check(found.values("full"), wanted, COLUMNS, len(found.pooled.dropna()))
    assert found.values("full")["converged"]
    assert found.methods["full"].rounds == LOST_IN - 1 + wanted.n_iter_
    assert found.methods["full"].result.notes == ()


def test_a_spread_start_of_two_columns(found: Found, everybody: dict[str, pd.DataFrame]) -> None:
    columns = ["petal_length", "petal_width"]
    start = equal_weights([[-0.5, -0.5], [0.5, 0.5]], [[0.25, 0.25]] * 2)
    records = len(found.pooled[columns].dropna())
    check(found.values("spread"), fitted_with_loss(everybody, columns, start, 20, ridge=1e-6), columns, records)


def test_what_is_shown_of_clusters(found: Found) -> None:
    result = found.methods["full"].result
    first, *_ = result.values["clusters"]
    clusters, covariances, _ = result.tables
    assert clusters.rows[0][:3] == (1, first["weight"], first["mean"]["sepal_length"])
    assert covariances.rows[1] == (1, "sepal_width", *first["covariance"][1])
    assert len(result.figures) == len(COLUMNS)
    figure = result.figures[2]
    assert isinstance(figure, Curves)
    assert [curve.name for curve in figure.curves] == ["cluster 1", "cluster 2", "cluster 3", "all"]
    for curve, weight in zip(figure.curves, [*(one["weight"] for one in result.values["clusters"]), 1], strict=True):
        assert np.trapezoid(curve.y, curve.x) == pytest.approx(weight, abs=1e-2)


SMALL = """
name = "Small"
[columns.x]
type = "whole"
min = 0
max = 100
[columns.seen]
type = "date"
min = 2020-01-01
max = 2020-12-31
[columns.ill]
type = "flag"
[methods.g]
method = "gaussian_mixture"
of = ["x"]
clusters = 3
start = [[10], [50], [90]]
deviations = [3]
"""


def small(x: list[float], toml: str = SMALL) -> Any:
    return as_json(add_up(Study.from_toml(toml), split(pd.DataFrame({"x": x}), 3)))["g"]["result"]


def test_a_small_cluster_is_withheld_and_another_with_it() -> None:
    result = small([8, 9, 10, 11, 12] * 4 + [47, 48, 50, 52, 53] * 2 + [88, 92])
    clusters = result["values"]["clusters"]
    assert clusters[2] == {"weight": None, "count": None, "mean": {"x": None}, "sd": {"x": None}}
    assert [one["weight"] for one in clusters].count(None) == 2
    assert [result["values"][name] for name in ("log_likelihood", "aic", "bic")] == [None] * 3
    assert "few records" in result["notes"][0]
    assert [curve["name"] for curve in result["figures"][0]["curves"]] == ["cluster 1"]


def test_a_part_of_a_record_is_a_small_cluster() -> None:
    """A cluster between two others has some thousandths of the nearest records."""
    result = small([8, 9, 10, 11, 12] * 4 + [88, 90, 92] * 4, SMALL.replace("[3]", "[9]") + "max_rounds = 1\n")
    assert result["values"]["clusters"][1]["weight"] is None


def test_a_cluster_without_records_shows_no_mean() -> None:
    result = small([8, 9, 10, 11, 12] * 4 + [88, 90, 92] * 4)
    assert result["values"]["clusters"][1] == {"weight": 0.0, "count": 0.0, "mean": {"x": None}, "sd": {"x": None}}
    assert result["values"]["clusters"][2]["mean"]["x"] == pytest.approx(90, rel=1e-9)
    assert [curve["name"] for curve in result["figures"][0]["curves"]] == ["cluster 1", "cluster 3", "all"]


def test_a_column_that_does_not_vary_has_the_ridge_for_its_variance() -> None:
    values = small([10] * 20 + [90] * 20, SMALL.replace("clusters = 3", "clusters = 2").replace("[50], ", ""))["values"]
    assert [one["sd"]["x"] for one in values["clusters"]] == pytest.approx([50 * 1e-3] * 2, rel=1e-6)


def test_no_records_are_no_clusters() -> None:
    assert small([])["withheld"]


def test_sums_that_no_records_have_end_the_search() -> None:
    study = Study.from_toml(SMALL.replace('of = ["x"]', 'of = ["x", "seen"]\ncovariance = "full"').split("start")[0])
    method, terms = study.methods["g"], study.terms
    ask = method.next_ask(terms, [])
    assert ask is not None
    sums: dict[str, Any] = {
        "responsibilities": np.full(3, 10.0),
        "distances": np.zeros((3, 2)),
        "products": np.tile([1.0, 9.0, 1.0], (3, 1)),
        "log_likelihood": np.array(-30.0),
    }
    released = [Released(ask, sums, 30, 0, ("a", "b", "c"))]
    assert method.next_ask(terms, released) is None
    assert "belong to no records" in method.result(terms, released).withheld


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('["x"]', '["ill"]', "'ill' is a flag, which has no normal distribution"),
        ("deviations = [3]", "deviations = [3, 4]", "deviations must have 1 number,"),
        ("deviations = [3]", "deviations = [0]", "deviations has 0.0 for x: must be from 0.05"),
        ("deviations = [3]", "deviations = [101]", "to 100, the width of its range"),
        ("deviations = [3]", "ridge = 0", "ridge is 0.0: must be from 1e-08 to 1"),
        ("deviations = [3]", "tolerance = 0", "tolerance is 0.0: must be a finite number above 0"),
        ("[10], [50]", "[50], [50]", "has a centre twice"),
    ],
)
def test_a_study_that_does_not_suit_it_is_refused(old: str, new: str, said: str) -> None:
    toml = SMALL.replace(old, new)
    if "ill" in new:
        toml = toml.replace("start = [[10], [50], [90]]", "start = [[0], [0.5], [1]]")
    with pytest.raises(ParameterError, match=said):
        Study.from_toml(toml)
