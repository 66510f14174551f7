"""The example study over files that its script writes: every method of it has a result, with three hospitals lost."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from secagg.statistics import Site, Study, open_data, simulate_study
from secagg.statistics.report import write_report

EXAMPLE = Path(__file__).parents[2] / "examples" / "statistics"
HOSPITALS = 10
LOST = {"hospital 3": 1, "hospital 7": 2, "hospital 8": 2}


def test_every_method_of_the_example_has_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)
    study = Study.load(EXAMPLE / "study.toml")
    sites, frames = {}, {}
    for number in range(1, HOSPITALS + 1):
        file = tmp_path / f"{number}.csv"
        import_module("make_data").write_hospital(file, number)
        sites[f"hospital {number}"] = Site(study, open_data(file, study))
        frames[f"hospital {number}"] = pd.read_csv(file)
    result = simulate_study(sites, lost=LOST)
    assert {name: one.result.withheld for name, one in result.methods.items() if one.result.withheld} == {}
    last = result.methods["basics"]
    pooled = pd.concat(frames[name] for name in last.sites)
    assert set(last.sites) == frames.keys() - LOST.keys()
    for column in ("age", "bmi", "pressure", "visits"):
        assert last.result.values[column]["count"] == pooled[column].count()
        assert last.result.values[column]["mean"] == pytest.approx(pooled[column].mean(), rel=1e-12)
    curves = result.methods["survival_by_treatment"]
    pooled = pd.concat(frames[name] for name in curves.sites)
    for name, found in curves.result.values["groups"].items():
        own = pooled[pooled["treatment"] == name]
        exact = KaplanMeierFitter().fit(own["days"], own["died"]).survival_function_at_times(found["curve"]["time"])
        assert found["curve"]["survival"] == pytest.approx(exact.to_numpy(), rel=1e-12)
    write_report(result, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert all(method.in_words(study.terms)[:20] in page for method in study.methods.values())
