"""The tutorial's files and its study, as its page has them, give the pooled survival curves."""

from __future__ import annotations

from pathlib import Path

import generate_outputs
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter

from secagg.statistics import Site, Study, open_data, simulate_study

PAGE = Path(__file__).parents[2] / "docs" / "statistics-tutorial.md"
HOSPITALS = ("ada", "ben", "cyd")


def test_the_study_of_the_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = generate_outputs.blocks(PAGE.read_text(encoding="utf-8"))
    texts = {block.language: block.text for block in blocks}
    exec(compile(texts["python"], "make_files.py", "exec"), {})
    study = Study.from_toml(texts["toml"])
    result = simulate_study({name: Site(study, open_data(f"{name}.csv", study)) for name in HOSPITALS})
    pooled = pd.concat(pd.read_csv(f"{name}.csv") for name in HOSPITALS)
    (figure,) = result.methods["survival"].result.figures
    for curve in figure.curves:  # type: ignore[union-attr]
        own = pooled[pooled["group"] == curve.name]
        fitted = KaplanMeierFitter().fit(own["days"], own["died"]).survival_function_at_times(curve.x)
        assert curve.y == pytest.approx(fitted.to_numpy(), abs=1e-12)
