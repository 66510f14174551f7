"""k-means against scikit-learn's Lloyd with the same start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris

from secagg.errors import ParameterError
from secagg.statistics import Study
from tests.support.hospitals import Found, add_up, as_json, run, split

COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
RANGES = {"sepal_length": (4, 8), "sepal_width": (1.5, 5), "petal_length": (0.5, 7.5), "petal_width": (0, 3)}
START = [[5.0, 3.0, 1.5, 0.2], [5.2, 3.0, 3.5, 1.0], [5.5, 3.0, 4.0, 1.2]]
TOML = (
    'name = "Iris"\n'
    + "".join(f'[columns.{name}]\ntype = "number"\nmin = {low}\nmax = {high}\n' for name, (low, high) in RANGES.items())
    + f"""
[methods.plain]
method = "kmeans"
of = {COLUMNS}
clusters = 3
start = {START}
scaled = false
[methods.spread]
method = "kmeans"
of = {COLUMNS}
clusters = 4
"""
)
STUDY = Study.from_toml(TOML)
LOW, HIGH = np.array(list(RANGES.values()), np.float64).T


def records() -> pd.DataFrame:
    return pd.DataFrame(load_iris().data, columns=COLUMNS)


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::31], "petal_width"] = float("nan")
    return run(STUDY, frame, lost_in=2)


def fit(values: Any, start: Any) -> KMeans:
    return KMeans(len(start), init=np.array(start), n_init=1, algorithm="lloyd", tol=0, max_iter=100).fit(values)


def check(values: Any, wanted: KMeans, centres: Any) -> None:
    met = [list(one["centre"].values()) for one in values["clusters"]]
    assert np.array(met) == pytest.approx(centres, rel=1e-9)
    assert [one["count"] for one in values["clusters"]] == np.bincount(wanted.labels_).tolist()
    assert values["inertia"] == pytest.approx(wanted.inertia_, rel=1e-9)


def test_the_clusters_are_those_of_scikit_learn_although_sites_vanish(found: Found) -> None:
    wanted = fit(found.pooled.dropna().to_numpy(), START)
    check(found.values("plain"), wanted, wanted.cluster_centers_)
    assert found.methods["plain"].rounds > 3
    assert found.methods["plain"].result.notes == ()


def test_scaled_distances_from_a_spread_start_are_those_of_scaled_columns(found: Found) -> None:
    scaled = (found.pooled.dropna().to_numpy() - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    wanted = fit(scaled, np.repeat([[-0.75], [-0.25], [0.25], [0.75]], 4, axis=1))
    check(found.values("spread"), wanted, wanted.cluster_centers_ * (HIGH - LOW) / 2 + (LOW + HIGH) / 2)


SMALL = """
name = "Small"
[columns.x]
type = "whole"
min = 0
max = 100
[methods.k]
method = "kmeans"
of = ["x"]
clusters = 3
start = [[10], [20], [90]]
scaled = false
"""


def small(x: list[int], toml: str = SMALL) -> Any:
    return as_json(add_up(Study.from_toml(toml), split(pd.DataFrame({"x": x}), 3)))["k"]["result"]


def test_a_record_as_near_to_two_centres_belongs_to_the_first() -> None:
    values = small([15] * 8 + [21] * 7 + [90] * 6, SMALL + "max_rounds = 1\n")["values"]
    assert [one["count"] for one in values["clusters"]] == [8, 7, 6]


def test_a_small_cluster_is_withheld_and_another_with_it() -> None:
    result = small([10] * 8 + [20] * 7 + [90] * 2)
    clusters = result["values"]["clusters"]
    assert clusters[2] == {"count": None, "centre": {"x": None}}
    assert [one["count"] for one in clusters].count(None) == 2
    assert result["values"]["inertia"] is None
    assert "few records" in result["notes"][0]


def test_a_centre_without_records_stays_and_shows_no_mean() -> None:
    clusters = small([10] * 8 + [90] * 7)["values"]["clusters"]
    assert clusters[1] == {"count": 0, "centre": {"x": None}}
    assert clusters[2] == {"count": 7, "centre": {"x": 90.0}}


def test_a_cluster_in_which_few_lack_a_flag_is_withheld_and_another_with_it() -> None:
    """The mean of a flag times the count of the cluster is how many have it."""
    frame = pd.DataFrame(
        {"x": [10] * 20 + [50] * 20 + [90] * 20, "ill": [1, 0] * 10 + [1] * 18 + [0] * 2 + [1, 0] * 10}
    )
    toml = SMALL.replace('["x"]', '["x", "ill"]').replace("[[10], [20], [90]]", "[[10, 1], [50, 1], [90, 1]]")
    study = Study.from_toml(toml + '[columns.ill]\ntype = "flag"\n')
    clusters = as_json(add_up(study, split(frame, 3)))["k"]["result"]["values"]["clusters"]
    assert clusters[1] == {"count": None, "centre": {"x": None, "ill": None}}
    assert sorted(one["centre"]["ill"] for one in clusters if one["count"]) == [0.5]


def test_centres_that_still_move_are_told() -> None:
    result = small([10] * 8 + [30] * 7 + [95] * 6, SMALL + "max_rounds = 1\n")
    assert result["notes"] == ["The centres still moved in round 1; raise max_rounds, or start nearer."]
    assert [one["centre"]["x"] for one in result["values"]["clusters"]] == [10.0, 30.0, 95.0]


def test_no_records_are_no_clusters() -> None:
    assert small([])["withheld"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('of = ["x"]', "of = []", "of names no columns"),
        ("clusters = 3", "clusters = 1", "clusters is 1: must be 2 or more"),
        ("clusters = 3", "clusters = 4", "start must have 4 centres of 1 numbers"),
        ("[90]]", "[190]]", "outside of the columns' ranges"),
        ("[[10], [20]", "[[20], [20]", "has a centre twice"),
        ("scaled = false", "max_rounds = 0", "max_rounds is 0: must be 1 or more"),
    ],
)
def test_a_study_that_does_not_suit_it_is_refused(old: str, new: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        Study.from_toml(SMALL.replace(old, new))
