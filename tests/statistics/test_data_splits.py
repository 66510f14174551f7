"""Any table, any split over sites, any chunk size: the same sums as pandas pools; and what is refused sends nothing."""

from __future__ import annotations

import io
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import InputError, StateError
from secagg.statistics import Analyst, Site, Study, open_data, sources

STUDY = Study.from_toml(
    """
    name = "Any table"
    filters = ["kept or missing(kept)"]
    [columns.money]
    type = "number"
    min = -1000
    max = 1000
    decimals = 2
    outside = "clip"
    [columns.big]
    type = "whole"
    min = -9007199254740991
    max = 9007199254740991
    outside = "missing"
    [columns.kept]
    type = "flag"
    other = "missing"
    [columns.seen]
    type = "date"
    min = 1950-01-01
    max = 2050-12-31
    outside = "missing"
    [columns.sex]
    type = "category"
    values = ["f", "m"]
    other = "refuse"
    [columns.later]
    type = "date"
    min = 1950-01-01
    max = 2050-12-31
    outside = "missing"
    expression = "seen + 10"
    [methods.numbers]
    method = "describe"
    of = ["money", "big"]
    where = "sex == 'f'"
    [methods.dates]
    method = "describe"
    of = ["later"]
    [methods.sexes]
    method = "crosstab"
    of = ["sex", "kept"]
    [release]
    min_cell = 1
    """
)
VALUES: dict[str, Any] = {
    "money": st.integers(-150_000, 150_000).map(lambda cents: f"{cents / 100:.2f}") | st.sampled_from(["", "NA"]),
    "big": st.integers(-(2**54), 2**54).map(str) | st.sampled_from(["", "x", "1.5"]),
    "kept": st.sampled_from(["yes", "no", "1", "", "perhaps"]),
    "seen": st.dates().map(str) | st.sampled_from(["", "2001-02-30"]),
    "sex": st.sampled_from(["f", "m", ""]),
}
FAULTS = st.lists(st.tuples(st.integers(0, 14), st.sampled_from(["x", "F", "2"])), max_size=4)
RECORDS = st.lists(st.fixed_dictionaries(VALUES), max_size=15)


def site_of(records: list[dict[str, str]], rows: int, folder: Path | None = None) -> Site:
    frame = pd.DataFrame(records, columns=list(VALUES), dtype=object)
    if folder is None:
        return Site(STUDY, open_data(frame, STUDY, rows=rows, memory=0))
    file = folder / "site.csv"
    file.write_text(frame.to_csv(index=False))
    return Site(STUDY, open_data(file, STUDY, rows=rows, memory=0))


def pooled(records: list[dict[str, str]]) -> dict[str, Any]:
    """The counts and exact sums, by pandas and Python's integers."""
    frame = pd.read_csv(io.StringIO(pd.DataFrame(records, columns=list(VALUES)).to_csv(index=False)), dtype=str)
    frame = frame[~frame["kept"].eq("no")]
    women = frame[frame["sex"].eq("f")]
    cents = [round(Fraction(text) * 100) for text in women["money"].dropna()]
    whole = [int(text) for text in women["big"].dropna() if text.lstrip("-").isdigit()]
    whole = [value for value in whole if abs(value) < 2**53]
    days = pd.to_datetime(frame["seen"], format="%Y-%m-%d", errors="coerce")
    seen = days[days.between("1950-01-01", "2050-12-21")]
    later = (seen - pd.Timestamp("1970-01-01")).dt.days + 10
    both = frame[frame["kept"].isin(["yes", "1"])]
    return {
        "money": (len(cents), sum(min(max(cent, -100_000), 100_000) for cent in cents)),
        "big": (len(whole), sum(whole)),
        "later": (len(later), int(later.sum())),
        "yes": [int(both["sex"].eq(value).sum()) for value in ("f", "m")],
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, min_size=2, max_size=4), st.integers(1, 7))
def test_any_split_and_any_chunks_give_the_pooled_sums(sites: list[list[dict[str, str]]], rows: int) -> None:
    analyst = Analyst(STUDY)
    question = analyst.question()
    assert question is not None
    layout = analyst.layout(question)
    total = np.zeros(layout.length, np.uint64)
    for records in sites:
        site = site_of(records, rows)
        site.check()
        total += layout.encode(site.answer(question))
    analyst.release(question, layout.decode(total, len(sites)), ["a", "b", "c"])
    expected = pooled([record for records in sites for record in records])
    numbers, dates, sexes = (analyst._released[name][0].sums for name in ("numbers", "dates", "sexes"))
    for name in ("money", "big"):
        assert (numbers[f"count_{name}"].sum(), numbers[f"sum_{name}"].sum()) == expected[name]
    assert (dates["count_later"].sum(), dates["sum_later"].sum()) == expected["later"]
    assert sexes["counts"][:, 1].tolist() == expected["yes"]


@settings(max_examples=40, deadline=None)
@given(
    RECORDS, st.lists(st.tuples(st.integers(0, 14), st.sampled_from(["x", "F", "2"])), max_size=4), st.integers(1, 7)
)
def test_what_is_refused_leaves_nothing_sent(
    records: list[dict[str, str]], faults: list[tuple[int, str]], rows: int
) -> None:
    """Whatever is wrong and wherever: the site says how much, and answers no question before its data fit."""
    placed = {place: value for place, value in faults if place < len(records)}
    for place, value in placed.items():
        records[place] = {**records[place], "sex": value}
    site, question = site_of(records, rows), Analyst(STUDY).question()
    assert question is not None
    with pytest.raises(StateError, match="has not checked its data"):
        site.answer(question)
    if not placed:
        site.check()
        assert site.answer(question)
        return
    message = f"columns.sex: {len(placed)} values that the study does not list, the first in record {min(placed) + 1}"
    with pytest.raises(InputError, match=f"^{message}$"):
        site.check()
    with pytest.raises(StateError, match="has not checked its data"):
        site.answer(question)


def test_a_file_and_a_frame_are_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    records = [
        {
            "money": f"{rng.uniform(-999, 999):.2f}",
            "big": str(n),
            "kept": "yes",
            "seen": "2001-01-01",
            "sex": "fm"[n % 2],
        }
        for n in range(100)
    ]
    question = Analyst(STUDY).question()
    assert question is not None
    answers = []
    for rows, folder in ((7, None), (13, tmp_path)):
        site = site_of(records, rows, folder)
        site.check()
        answers.append(site.answer(question))
    for name, values in answers[0].items():
        np.testing.assert_array_equal(values, answers[1][name])


def most_memory(file: Path, count: int) -> tuple[int, int]:
    """The largest numbers of bytes that NumPy and Arrow hold while so many records are read."""
    money = np.random.default_rng(1).integers(0, 1000, count)
    frame = pd.DataFrame({"money": money, "big": 5, "other": 7, "kept": "yes", "seen": "2001-01-01", "sex": "f"})
    frame.to_csv(file, index=False) if file.suffix == ".csv" else frame.to_parquet(file, row_group_size=50_000)
    del frame
    data = open_data(file, STUDY, rows=10_000, memory=1_000_000)
    before, most, total = pa.total_allocated_bytes(), 0, 0.0
    tracemalloc.start()
    for chunk in data.chunks():
        total += float(chunk.numbers("money").sum())
        most = max(most, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == money.sum()
    return peak, most


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow reads some 32 blocks ahead, which are small here, so that both files have more of them."""
    monkeypatch.setattr(sources, "_BLOCK", 2**16)
    few, many = (most_memory(tmp_path / f"{count}.{form}", count) for count in (200_000, 600_000))
    for one, other in zip(few, many, strict=True):
        assert other < 1.5 * one + 1_000_000  # the larger file has three times as many records
