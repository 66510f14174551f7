"""What features are standardised by, against scikit-learn's StandardScaler."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

from secagg.statistics import Study
from tests.support.hospitals import add_up, as_json, run, split

COLUMNS = ("alcohol", "magnesium", "hue")
STUDY = Study.from_toml(
    'name = "Wine"\n'
    + "".join(f'[columns.{name}]\ntype = "number"\nmin = 0\nmax = 200\n' for name in COLUMNS)
    + '[methods.scaler]\nmethod = "standardise"\nof = ["alcohol", "magnesium", "hue"]\n'
)


def records() -> pd.DataFrame:
    frame: pd.DataFrame = load_wine(as_frame=True).data[list(COLUMNS)].copy()
    frame.loc[frame.index[::9], "hue"] = float("nan")
    return frame


def test_the_scaler_is_that_of_scikit_learn() -> None:
    found = run(STUDY, records(), lost_in=2)
    wanted = StandardScaler().fit(found.pooled[list(COLUMNS)])
    values = found.values("scaler")
    assert values["columns"] == list(COLUMNS)
    assert values["mean"] == pytest.approx(wanted.mean_, rel=1e-12)
    assert values["scale"] == pytest.approx(wanted.scale_, rel=1e-9)


def test_a_constant_column_has_the_scale_one_and_an_empty_one_none() -> None:
    frame = records()
    frame["alcohol"] = 12.5
    frame["hue"] = float("nan")
    methods = add_up(STUDY, split(frame, 5))
    values = as_json(methods)["scaler"]["result"]["values"]
    assert values["mean"][0] == 12.5
    assert values["scale"][0] == 1.0
    assert (values["mean"][2], values["scale"][2]) == (None, None)
    assert methods["scaler"].result.notes == ("The columns hue have too few values to be shown.",)
