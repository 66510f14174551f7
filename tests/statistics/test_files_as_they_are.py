"""Ten hospitals whose files are all written in another way: the study's results are those of the pooled records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines import KaplanMeierFitter

from secagg.statistics import Site, Study, StudyResult, open_data, simulate_study
from tests.support.hospitals import LOST, split

STUDY = Study.from_toml(
    """
    name = "Files as they are"
    filters = ['entered >= "2020-01-01"']
    [columns.entered]
    type = "date"
    min = 2000-01-01
    max = 2029-12-31
    format = "%d.%m.%Y"
    [columns.cost]
    type = "number"
    min = 0
    max = 20000
    decimals = 2
    outside = "missing"
    [columns.age]
    type = "whole"
    min = 0
    max = 110
    outside = "clip"
    [columns.town]
    type = "category"
    values = ["Zürich", "Genève", "elsewhere", "Łódź"]
    other = "elsewhere"
    [columns.sex]
    type = "category"
    values = ["female", "male"]
    codes = { 1 = "female", 2 = "male", F = "female", M = "male" }
    [columns.died]
    type = "flag"
    yes = ["1", "yes", "oui", "true"]
    no = ["0", "no", "non", "false"]
    [columns.days]
    type = "whole"
    min = 0
    max = 400
    [methods.costs]
    method = "describe"
    of = ["cost", "age", "entered"]
    by = "sex"
    [methods.towns]
    method = "crosstab"
    of = ["town", "sex"]
    [methods.entries]
    method = "histogram"
    of = "entered"
    edges = [18262, 18628, 18993]
    [methods.middle]
    method = "quantiles"
    of = "cost"
    at = [0.5]
    [methods.survival]
    method = "kaplan_meier"
    time = "days"
    event = "died"
    [methods.fit]
    method = "linear"
    y = "age"
    x = ["town", "died", "entered"]
    [release]
    min_cell = 1
    """
)
NAMES = {"sex": {"female": "F", "male": "M"}, "died": {1.0: "oui", 0.0: "non"}}


def records(size: int = 1500) -> pd.DataFrame:
    """As the study has them: values missing, ages and costs beyond their ranges, entries before the first."""
    rng = np.random.default_rng(11)
    entered = pd.Timestamp("2019-10-01") + pd.to_timedelta(rng.integers(0, 820, size), unit="D")
    frame = pd.DataFrame(
        {
            "entered": entered,
            "cost": np.exp(rng.normal(7, 2, size)).clip(0, 1e6).round(2),
            "age": rng.integers(18, 113, size).astype(float),
            "town": rng.choice(["Zürich", "Genève", "Basel", "elsewhere"], size),
            "sex": rng.choice(["female", "male"], size),
            "died": (rng.random(size) < 0.4).astype(float),
            "days": rng.integers(1, 401, size).astype(float),
        }
    )
    return frame.mask(rng.random(frame.shape) < np.array([0, 0.1, 0.05, 0.05, 0.05, 0, 0.02]))


def texts(frame: pd.DataFrame, missing: str = "", decimal: str = ".", thousands: str = "") -> pd.DataFrame:
    """As a file of text has them."""

    def number(value: float, digits: int) -> str:
        said = f"{value:,.{digits}f}"
        return said.replace(",", "~").replace(".", decimal).replace("~", thousands)

    written = pd.DataFrame(
        {
            "entered": frame["entered"].dt.strftime("%d.%m.%Y"),
            "cost": frame["cost"].map(lambda value: number(value, 2), na_action="ignore"),
            **{name: frame[name].map(lambda value: number(value, 0), na_action="ignore") for name in ("age", "days")},
            "town": frame["town"],
            "sex": frame["sex"].map(NAMES["sex"]),
            "died": frame["died"].map(NAMES["died"]),
        }
    )
    return written.astype(object).where(written.notna(), missing)


Opened = Any
Writer = Callable[[pd.DataFrame, Path], Opened]


def csv(missing: str = "", decimal: str = ".", thousands: str = "", **how: str) -> Writer:
    """Writes a CSV file in this form, and reads it as the site would."""

    def write(frame: pd.DataFrame, file: Path) -> Opened:
        form = {"sep": how.get("separator", ","), "quotechar": how.get("quote", '"')}
        text = texts(frame, missing, decimal, thousands).to_csv(
            index=False, lineterminator=how.pop("end", "\n"), **form
        )
        file.write_bytes(text.encode(how.get("encoding", "utf-8")))
        marks = {"missing": (missing,)} if missing else {}
        return open_data(file, STUDY, decimal=decimal, thousands=thousands, rows=40, **marks, **how)

    return write


def parquet(as_text: bool) -> Writer:
    """A Parquet file with types of its own, or with texts alone."""

    def write(frame: pd.DataFrame, file: Path) -> Opened:
        typed = frame.assign(
            entered=frame["entered"].dt.date,
            age=frame["age"].astype("Int16"),
            town=frame["town"].astype("category"),
            sex=frame["sex"].map({"female": 1, "male": 2}).astype("Int8"),
            died=frame["died"].astype("boolean"),
            unread="x",
        )
        if as_text:
            typed = texts(frame).replace("", None)
        typed.to_parquet(file.with_suffix(".parquet"), row_group_size=30)
        return open_data(file.with_suffix(".parquet"), STUDY, rows=40)

    return write


def as_frame(frame: pd.DataFrame, file: Path) -> Opened:
    return open_data(frame.assign(died=frame["died"].astype("boolean")), STUDY, rows=40)


WRITERS: dict[str, Writer] = {
    "hospital 1": csv(),
    "hospital 2": csv(separator=";", decimal=",", thousands=".", encoding="utf-8-sig"),
    "hospital 3": csv(separator="\t", encoding="utf-16"),
    "hospital 4": csv(separator=";", decimal=",", encoding="iso-8859-2", missing="-99"),
    "hospital 5": parquet(as_text=False),
    "hospital 6": csv(separator="|", quote="'", missing="."),
    "hospital 7": csv(end="\r\n", thousands=" ", encoding="cp1252"),
    "hospital 8": parquet(as_text=True),
    "hospital 9": as_frame,
    "hospital 0": csv(missing="unknown", thousands="'"),
}
Result = tuple[StudyResult, pd.DataFrame]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The result, with two hospitals lost in the second round, and all records as the study has them."""
    folder = tmp_path_factory.mktemp("files")
    frames = split(records())
    assert frames.keys() == WRITERS.keys()
    sites = {}
    for name, frame in frames.items():
        if name == "hospital 4":  # whose encoding has no letter for the one town, and the only one for another
            frames[name] = frame.assign(town=frame["town"].replace("Genève", "Łódź"))
        sites[name] = Site(STUDY, WRITERS[name](frames[name], folder / f"{name}.csv"))
    result = simulate_study(sites, lost=dict.fromkeys(LOST, 2))
    together = pd.concat(frames).reset_index(names=["hospital", "row"])
    return result, together[together["entered"] >= "2020-01-01"]


def of(found: Result, method: str) -> tuple[Any, pd.DataFrame]:
    """A method's values, and the records of the hospitals in it, by the study's rules."""
    result, together = found
    reported = result.methods[method]
    assert not reported.result.withheld, reported.result.withheld
    own = together[together["hospital"].isin(reported.sites)]
    known = own["town"].isna() | own["town"].isin(STUDY.columns["town"].values)  # type: ignore[union-attr]
    ruled = own.assign(
        cost=own["cost"].where(own["cost"] <= 20000),
        age=own["age"].clip(upper=110),
        town=own["town"].where(known, "elsewhere"),
        entered=(own["entered"] - pd.Timestamp("1970-01-01")).dt.days,
    )
    return reported.result.values, ruled


def test_numbers_are_described_by_group(found: Result) -> None:
    values, pooled = of(found, "costs")
    assert len(found[0].methods["costs"].sites) == 8
    for sex, own in pooled.groupby("sex"):
        for name in ("cost", "age", "entered"):
            one = values[name][sex]
            assert one["count"] == own[name].count()
            assert (one["sum"], one["mean"]) == pytest.approx((own[name].sum(), own[name].mean()), rel=1e-12)
            assert one["variance"] == pytest.approx(own[name].var(), rel=1e-9)


def test_towns_are_counted_although_some_hospitals_lack_one(found: Result) -> None:
    values, pooled = of(found, "towns")
    wanted = pd.crosstab(pooled["town"], pooled["sex"])
    assert set(pooled.loc[pooled["town"] == "Łódź", "hospital"]) == {"hospital 4"}
    counts = dict(zip(values["levels"]["town"], values["counts"], strict=True))
    assert counts == {town: row.tolist() for town, row in wanted.iterrows()}


def test_days_have_the_bins_of_years(found: Result) -> None:
    values, pooled = of(found, "entries")
    assert values["counts"] == np.histogram(pooled["entered"], [18262, 18628, 18993])[0].tolist()


def test_the_median_is_exact(found: Result) -> None:
    values, pooled = of(found, "middle")
    wanted = np.quantile(pooled["cost"].dropna(), 0.5, method="inverted_cdf")
    assert values["quantiles"]["0.5"]["value"] == wanted


def test_survival_is_that_of_lifelines(found: Result) -> None:
    values, pooled = of(found, "survival")
    own = pooled.dropna(subset=["days"])
    curve = values["curve"]
    exact = KaplanMeierFitter().fit(own["days"], own["died"]).survival_function_at_times(curve["time"])
    assert curve["survival"] == pytest.approx(exact.to_numpy(), rel=1e-12)


def test_a_regression_is_that_of_statsmodels(found: Result) -> None:
    values, pooled = of(found, "fit")
    own = pooled.dropna(subset=["age", "town"])
    x = own[["died", "entered"]].assign(**{town: own["town"] == town for town in ("Genève", "elsewhere")})
    if (own["town"] == "Łódź").any():
        x["Łódź"] = own["town"] == "Łódź"
    wanted = sm.OLS(own["age"], sm.add_constant(x.astype(float))).fit()
    for name in ("died", "entered"):
        one = values["coefficients"][name]
        assert (one["estimate"], one["error"]) == pytest.approx((wanted.params[name], wanted.bse[name]), rel=1e-8)
    assert values["r_squared"] == pytest.approx(wanted.rsquared, rel=1e-9)


def test_what_is_missing_and_what_does_not_fit_is_counted(found: Result) -> None:
    result, together = found
    assert result.columns is not None
    counts = result.columns.result.values
    for name in ("cost", "age", "town", "sex"):
        assert counts[name]["missing"] == together[name].isna().sum()
    assert counts["cost"]["outside"] == (together["cost"] > 20000).sum()
    assert counts["age"]["outside"] == (together["age"] > 110).sum()
    assert counts["town"]["outside"] == (together["town"] == "Basel").sum()
    assert min(counts[name]["outside"] for name in ("cost", "age", "town")) > 0
