"""Covariances, correlations and principal components against pandas and scikit-learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from secagg.errors import ParameterError
from secagg.statistics import Study
from tests.support.hospitals import Found, add_up, as_json, run, split

NAMES = ["mean radius", "mean texture", "mean area", "mean smoothness", "mean symmetry"]
COLUMNS = [name.replace(" ", "_") for name in NAMES]
RANGES = {"mean_area": 5000, "mean_smoothness": 1, "mean_symmetry": 1}
LIST = "[" + ", ".join(f'"{name}"' for name in COLUMNS) + "]"
TOML = (
    'name = "Tumours"\n'
    + "".join(f'[columns.{name}]\ntype = "number"\nmin = 0\nmax = {RANGES.get(name, 100)}\n' for name in COLUMNS)
    + f'[columns.benign]\ntype = "flag"\n[methods.matrix]\nmethod = "covariance"\nof = {LIST[:-1]}, "benign"]\n'
    + f'[methods.components]\nmethod = "pca"\nof = {LIST}\n'
    + f'[methods.plain]\nmethod = "pca"\nof = {LIST}\nscaled = false\ncomponents = 3\n'
)
STUDY = Study.from_toml(TOML)


def records() -> pd.DataFrame:
    cancer = load_breast_cancer(as_frame=True)
    frame = cancer.data[NAMES].set_axis(COLUMNS, axis=1)
    return frame.assign(benign=cancer.target.astype(float))


@pytest.fixture(scope="module")
def found() -> Found:
    frame = records()
    frame.loc[frame.index[::19], "mean_texture"] = float("nan")
    return run(STUDY, frame, lost_in=2, rows=100)


def test_matrices_are_those_of_pandas(found: Found) -> None:
    pooled = found.pooled.dropna()
    values = found.values("matrix")
    assert np.array(values["mean"]) == pytest.approx(pooled.mean().to_numpy(), rel=1e-9)
    assert np.array(values["covariance"]) == pytest.approx(pooled.cov().to_numpy(), rel=1e-9)
    assert np.array(values["correlation"]) == pytest.approx(pooled.corr().to_numpy(), rel=1e-9)
    assert found.methods["matrix"].records == len(pooled)


def test_components_are_those_of_scikit_learn(found: Found) -> None:
    pooled = found.pooled[COLUMNS].dropna()
    for method, data in (("components", StandardScaler().fit_transform(pooled)), ("plain", pooled.to_numpy())):
        wanted = PCA(svd_solver="full").fit(data)
        values = found.values(method)
        count = len(values["components"])
        assert count == (5 if method == "components" else 3)
        assert values["explained_ratio"] == pytest.approx(wanted.explained_variance_ratio_[:count], rel=1e-9)
        assert np.array(values["components"]) == pytest.approx(wanted.components_[:count], rel=1e-9, abs=1e-9)
    variances = PCA(svd_solver="full").fit(pooled.to_numpy()).explained_variance_[:3]
    assert found.values("plain")["explained_variance"] == pytest.approx(variances, rel=1e-9)
    assert sum(found.values("components")["explained_variance"]) == pytest.approx(5)


def test_a_range_a_thousand_times_too_wide_costs_no_digits() -> None:
    study = Study.from_toml(TOML.replace("max = 1\n", "max = 1000\n"))
    frame = records()
    values = add_up(study, split(frame))["matrix"].result.values
    assert np.array(values["covariance"]) == pytest.approx(frame.cov().to_numpy(), rel=1e-9)


def test_a_column_that_does_not_vary_has_no_correlation() -> None:
    methods = as_json(add_up(STUDY, split(records().assign(mean_texture=17.3))))
    matrix = methods["matrix"]["result"]
    assert matrix["values"]["correlation"][1] == [None] * 6
    assert matrix["values"]["covariance"][1] == [0.0] * 6
    assert "mean_texture do not vary" in matrix["notes"][0]
    assert methods["components"]["result"]["values"]["columns"] == [name for name in COLUMNS if name != "mean_texture"]
    flat = as_json(add_up(STUDY, split(records().assign(**dict.fromkeys(COLUMNS, 0.1)))))
    assert flat["components"]["result"]["withheld"] == "no column varies"


def test_a_component_without_variance_is_left_out() -> None:
    frame = records()
    frame["mean_area"] = 2.0 * frame["mean_radius"]
    result = add_up(STUDY, split(frame))["components"].result
    assert len(result.values["components"]) == len(result.values["explained_variance"]) == 4
    assert result.notes == ("1 component without variance: left out, columns depend on others.",)


def test_a_component_without_variance_is_left_out_of_narrow_columns_as_well() -> None:
    """The standard deviations are some 1e-5 of the ranges, where rounding leaves more."""
    frame = records()
    base = frame["mean_radius"] - frame["mean_radius"].mean()
    frame["mean_radius"], frame["mean_texture"] = 90 + 1e-3 * base, 3 - 2e-3 * base
    result = add_up(STUDY, split(frame))["components"].result
    assert len(result.values["components"]) == 4


def test_a_flag_with_few_yes_is_withheld() -> None:
    frame = records()
    frame["benign"] = [1.0] * 3 + [0.0] * (len(frame) - 3)
    assert "benign" in add_up(STUDY, split(frame))["matrix"].result.withheld


PLAIN = Study.from_toml(TOML + "[release]\nmin_cell = 1\n")


@given(
    st.lists(st.tuples(*[st.floats(0, 1)] * 5, st.booleans()), max_size=25), st.integers(3, 6), st.integers(0, 2**16)
)
def test_any_table_and_any_split_give_the_pooled_covariances(
    rows: list[tuple[float, ...]], sites: int, seed: int
) -> None:
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "benign"]).astype(float)
    methods = add_up(PLAIN, split(frame, sites, seed))
    as_json(methods)
    if len(frame) < 2:
        assert methods["matrix"].result.withheld
        return
    found = np.array(methods["matrix"].result.values["covariance"])
    assert found == pytest.approx(frame.cov().to_numpy(), rel=1e-9, abs=1e-9)


def test_one_column_or_too_many_components_are_refused() -> None:
    with pytest.raises(ParameterError, match="give two or more columns"):
        Study.from_toml(TOML.replace(f"of = {LIST}\nscaled", 'of = ["benign"]\nscaled'))
    with pytest.raises(ParameterError, match="components is 6"):
        Study.from_toml(TOML.replace("components = 3", "components = 6"))
