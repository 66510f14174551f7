"""Ten simulated hospitals: a pooled data frame split unevenly over sites, and a study run over them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from secagg.statistics import Analyst, Chunk, Reported, Site, Study, simulate_study
from secagg.statistics.columns import Category, Date

LOST: Final = ("hospital 2", "hospital 6")
"""Who vanishes together."""
_EPOCH: Final = pd.Timestamp("1970-01-01")


class Frame:
    """A data frame as a site's dataset, ``rows`` records at a time.

    A category holds the study's values as text, a date holds timestamps, anything else numbers; missing values are
    those of pandas.  A column that the study does not have, such as one for a method's ``where``, is handed on.
    """

    def __init__(self, study: Study, frame: pd.DataFrame, rows: int = 50) -> None:
        self._columns = {str(name): typed(study, str(name), frame[name]) for name in frame}
        self._size = len(frame)
        self._rows = rows

    def chunks(self) -> Iterator[Chunk]:
        for start in range(0, max(1, self._size), self._rows):
            part = {name: values[start : start + self._rows] for name, values in self._columns.items()}
            yield Chunk(part, min(self._rows, self._size - start))


def typed(study: Study, name: str, values: Any) -> npt.NDArray[Any]:
    """One column as a chunk has it."""
    column = study.columns.get(name)
    if isinstance(column, Category):
        return np.asarray(pd.Categorical(values, categories=list(column.values)).codes, np.int64)
    if isinstance(column, Date):
        return np.asarray((pd.to_datetime(values) - _EPOCH).dt.days, np.float64)
    return np.asarray(pd.to_numeric(values), np.float64)


def split(frame: pd.DataFrame, count: int = 10, seed: int = 1) -> dict[str, pd.DataFrame]:
    """The rows by hospital, in no order; the last hospital has many times those of the first one."""
    shuffled = frame.sample(frac=1.0, random_state=seed)
    shares = np.arange(1, count + 1) ** 1.5
    cuts = np.rint(np.cumsum(shares) / shares.sum() * len(frame)).astype(int)
    starts = [0, *cuts[:-1].tolist()]
    parts = zip(starts, cuts.tolist(), strict=True)
    return {f"hospital {number}": shuffled.iloc[start:stop] for number, (start, stop) in enumerate(parts)}


@dataclass(frozen=True)
class Found:
    """What the study found, and the records of the hospitals that were in its last round."""

    methods: dict[str, Reported]
    pooled: pd.DataFrame

    def values(self, method: str) -> Any:
        """One method's values, which must be there."""
        result = self.methods[method].result
        assert not result.withheld, result.withheld
        return result.values


def run(
    study: Study, hospitals: dict[str, pd.DataFrame] | pd.DataFrame, lost_in: int | None = None, rows: int = 50
) -> Found:
    """The study over these hospitals, of which those of ``LOST`` vanish in a round; a single frame is split first."""
    frames = split(hospitals) if isinstance(hospitals, pd.DataFrame) else hospitals
    sites = {name: Site(study, Frame(study, frame, rows)) for name, frame in frames.items()}
    lost = {} if lost_in is None else dict.fromkeys(LOST, lost_in)
    result = simulate_study(sites, lost=lost)
    pooled = pd.concat([frame for name, frame in frames.items() if name not in lost])
    return Found(dict(result.methods), pooled)


def add_up(study: Study, frames: dict[str, pd.DataFrame]) -> dict[str, Reported]:
    """The study over these hospitals, their vectors added in the open: the same sums as by the protocol, and fast."""
    analyst = Analyst(study)
    sites = {name: Site(study, Frame(study, frame)) for name, frame in frames.items()}
    for site in sites.values():
        site.check()
    while (question := analyst.question()) is not None:
        layout = analyst.layout(question)
        layout.check_sites(len(sites))
        total = np.zeros(layout.length, np.uint64)
        for site in sites.values():
            total += layout.encode(site.answer(question))
        analyst.release(question, layout.decode(total, len(sites)), list(sites))
    return dict(analyst.result().methods)


def as_json(methods: dict[str, Reported]) -> Any:
    """All results as JSON reads them back.  Raises ValueError for NaN and infinity, TypeError for what is no JSON."""
    return json.loads(json.dumps({name: asdict(found) for name, found in methods.items()}, allow_nan=False))
