"""Counts, means and variances against pandas, with sites lost between the rounds."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from secagg.statistics import Chunk, Site, Study, simulate_study

STUDY = Study.from_toml(
    """
    name = "Ages"
    [columns.age]
    type = "number"
    min = 0
    max = 120
    decimals = 1
    [columns.bmi]
    type = "number"
    min = 10
    max = 70
    [methods.basic]
    method = "describe"
    of = ["age", "bmi"]
    """
)


class Frame:
    """A data frame of floats as a dataset."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def chunks(self) -> Iterator[Chunk]:
        yield Chunk({name: self.frame[name].to_numpy(np.float64) for name in self.frame}, len(self.frame))


def hospitals(count: int) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(1)
    frames = {}
    for number in range(count):
        rows = 20 + 15 * number
        bmi = rng.uniform(10, 70, rows)
        bmi[::7] = np.nan
        frames[f"hospital {number}"] = pd.DataFrame({"age": rng.uniform(0, 120, rows).round(1), "bmi": bmi})
    return frames


def test_moments_are_the_pooled_ones_although_two_sites_vanish_in_between() -> None:
    frames = hospitals(6)
    sites = {name: Site(STUDY, Frame(frame)) for name, frame in frames.items()}
    found = simulate_study(sites, lost={"hospital 2": 2, "hospital 4": 2}).methods["basic"]
    assert found.sites == ("hospital 0", "hospital 1", "hospital 3", "hospital 5")
    pooled = pd.concat([frames[name] for name in found.sites])
    for column in ("age", "bmi"):
        values = found.result.values[column]
        assert values["count"] == pooled[column].count()
        assert values["sum"] == pytest.approx(pooled[column].sum(), rel=1e-12)
        assert values["mean"] == pytest.approx(pooled[column].mean(), rel=1e-12)
        assert values["variance"] == pytest.approx(pooled[column].var(), rel=1e-9)
        assert values["sd"] == pytest.approx(pooled[column].std(), rel=1e-9)
