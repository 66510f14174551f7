"""For every method: any table, any split of it over sites, and any chunks give what the pooled table gives."""

from __future__ import annotations

from typing import Any, Final, get_args

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg.statistics import Analyst, Site, Study, open_data
from secagg.statistics.methods import AnyMethod
from tests.support.hospitals import as_json

COLUMNS: Final[dict[str, Any]] = {
    "x": {"type": "number", "min": -4, "max": 4, "outside": "clip"},
    "y": {"type": "number", "min": -10, "max": 10, "outside": "clip"},
    "z": {"type": "number", "min": 0, "max": 1, "decimals": 2},
    "visits": {"type": "whole", "min": 0, "max": 9},
    "seen": {"type": "date", "min": "2020-01-01", "max": "2020-12-31"},
    "ill": {"type": "flag"},
    "old": {"type": "flag"},
    "sex": {"type": "category", "values": ["f", "m"]},
    "ward": {"type": "category", "values": ["a", "b", "c"]},
}
NUMBERS: Final = ("x", "y", "z", "visits", "seen")
FLAGS: Final = ("ill", "old")
LISTS: Final = ("sex", "ward")


def some(names: tuple[str, ...], least: int = 1, most: int = 3) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=least, max_size=most, unique=True)


def method(tag: str, **entries: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"method": st.just(tag), **entries})


def clustered(tag: str, **entries: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    rounds = st.integers(1, 6)
    return method(tag, of=some(NUMBERS), clusters=st.integers(2, 3), max_rounds=rounds, **entries)


GROUPS: Final = st.sampled_from([*LISTS, *FLAGS])
EXPLAINING: Final = some(("x", "z", "visits", "seen", "old", *LISTS))
BINS: Final = st.integers(2, 12)
METHODS: Final[dict[str, st.SearchStrategy[dict[str, Any]]]] = {
    "all": method("all", of=some(FLAGS)),
    "any": method("any", of=some(FLAGS)),
    "compare": method("compare", of=st.sampled_from(NUMBERS), by=GROUPS),
    "covariance": method("covariance", of=some((*NUMBERS, *FLAGS), 2)),
    "cox": method(
        "cox", time=st.just("y"), event=st.just("ill"), predictors=EXPLAINING, bins=BINS, max_rounds=st.just(12)
    ),
    "crosstab": method("crosstab", of=some((*LISTS, *FLAGS), 2)),
    "describe": method("describe", of=some((*NUMBERS, *FLAGS)), by=st.just("") | GROUPS),
    "distinct": method("distinct", of=some((*LISTS, *FLAGS))),
    "gaussian_mixture": clustered("gaussian_mixture", covariance=st.sampled_from(["diagonal", "full"])),
    "glm": method("glm", outcome=st.just("ill"), predictors=EXPLAINING, max_rounds=st.just(12))
    | method(
        "glm", outcome=st.just("visits"), predictors=some(("x", "seen", "old", *LISTS)), family=st.just("poisson")
    ),
    "histogram": method("histogram", of=st.sampled_from(NUMBERS), by=st.just("") | GROUPS, bins=BINS),
    "kaplan_meier": method(
        "kaplan_meier",
        time=st.sampled_from(["z", "visits"]),
        event=st.just("ill"),
        by=st.just("") | st.sampled_from(LISTS),
        bins=BINS,
    ),
    "kmeans": clustered("kmeans", scaled=st.booleans()),
    "linear": method("linear", y=st.just("y"), x=EXPLAINING)
    | method("linear", y=st.just("y"), x=some(("x", "z", "old", *LISTS)), intercept=st.just(False)),
    "pca": method("pca", of=some(NUMBERS, 2), scaled=st.booleans()),
    "quantiles": method("quantiles", of=st.sampled_from(NUMBERS), by=st.just("") | GROUPS, bins=BINS),
    "range": method("range", of=some(NUMBERS), bins=BINS),
    "ridge": method("ridge", y=st.just("y"), x=EXPLAINING, alpha=st.just(0.5), standardised=st.booleans()),
    "roc": method("roc", outcome=st.just("ill"), score=st.just("z"), bins=BINS),
    "standardise": method("standardise", of=some((*NUMBERS, *FLAGS))),
}
TOLERANCES: Final = {"cox": 1e-6, "glm": 1e-8}
"""Of numbers that are no counts, in relation to them; 1e-9 for the other methods."""
ABSOLUTE: Final = {"gaussian_mixture": 1e-7}
"""Of numbers that are 0 but for rounding, 1e-9 for the other methods: columns are of the size of 1 to 10, and dates of
20,000.  Akaike's criterion is the difference of numbers of some hundreds."""
KINDS: Final = ("spread", "spread", "few", "one", "ends")
"""How a column's values are drawn: all over its range, two of them, one alone, or those at the ends."""


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Up to 60 records; columns have missing values, or none, or no others."""
    size = draw(st.integers(0, 60))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    missing = draw(st.sampled_from([0.0, 0.0, 0.1, 1.0]))
    frame = {}
    for name, column in COLUMNS.items():
        share = drawn(generator, size, draw(st.sampled_from(KINDS)))
        values = typed(column, share)
        values[generator.random(size) < missing * draw(st.booleans())] = None
        frame[name] = values
    return pd.DataFrame(frame, dtype=object)


def drawn(generator: np.random.Generator, size: int, kind: str) -> Any:
    """Where values lie in their column's range, from 0 to 1, shape (size,)."""
    share = generator.random(size)
    match kind:
        case "few":
            return np.where(share < generator.random(), *generator.random(2))
        case "one":
            return np.full(size, generator.random())
        case "ends":
            return np.rint(share)
    return share


def typed(column: dict[str, Any], share: Any) -> Any:
    """The values of a column at these places of its range, as a file has them."""
    match column["type"]:
        case "flag":
            found = np.where(share < 0.5, "no", "yes")
        case "category":
            found = np.array(column["values"])[
                (share * len(column["values"])).astype(int).clip(max=len(column["values"]) - 1)
            ]
        case "date":
            found = (np.datetime64(column["min"]) + np.rint(share * 364).astype(int)).astype(str)
        case _:
            found = column["min"] + share * (column["max"] - column["min"])
            found = np.rint(found * 100) / 100 if column["type"] == "number" and "decimals" in column else found
            found = np.rint(found).astype(int) if column["type"] == "whole" else found
    return found.astype(object)


def study_of(method: dict[str, Any], where: str, min_cell: int) -> Study:
    release = {"min_cell": min_cell, "min_organisations": 2}
    document = {"name": "Any", "columns": COLUMNS, "methods": {"m": {**method, "where": where}}, "release": release}
    return msgspec.convert(document, Study)


def found_by(study: Study, parts: list[pd.DataFrame], rows: int) -> Any:
    """The results over these sites, their vectors added in the open, as JSON has them."""
    sites = [Site(study, open_data(part, study, rows=rows)) for part in parts]
    for site in sites:
        site.check()
    analyst = Analyst(study)
    while (question := analyst.question()) is not None:
        layout = analyst.layout(question)
        total = np.zeros(layout.length, np.uint64)
        for site in sites:
            total += layout.encode(site.answer(question))
        analyst.release(question, layout.decode(total, len(sites)), ["a", "b"])
    return as_json(dict(analyst.result().methods))


def differences(one: Any, other: Any, tag: str, at: str = "") -> list[str]:
    """Where two results of a method differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [text for key in one for text in differences(one[key], other[key], tag, f"{at}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [text for number, (left, right) in pairs for text in differences(left, right, tag, f"{at}[{number}]")]
    numbers = isinstance(one, float) and isinstance(other, float)
    alike = (
        one == pytest.approx(other, rel=TOLERANCES.get(tag, 1e-9), abs=ABSOLUTE.get(tag, 1e-9))
        if numbers
        else one == other
    )
    return [] if alike else [f"{at}: {one!r} is not {other!r}"]


def test_every_method_is_drawn() -> None:
    assert METHODS.keys() == {one.__struct_config__.tag for one in get_args(AnyMethod)}


@pytest.mark.parametrize("tag", METHODS)
def test_any_split_of_any_table_gives_what_the_pooled_table_gives(tag: str) -> None:
    @settings(max_examples=max(1, settings().max_examples // 5))
    @given(
        METHODS[tag],
        st.sampled_from(["", "old", "x > 0"]),
        st.sampled_from([1, 5]),
        tables(),
        st.integers(1, 4),
        st.integers(0, 2**32),
        st.integers(5, 80),
    )
    def check(
        method: dict[str, Any], where: str, min_cell: int, table: pd.DataFrame, count: int, seed: int, rows: int
    ) -> None:
        study = study_of(method, where, min_cell)
        owner = np.random.default_rng(seed).integers(0, count, len(table))
        split = [table[owner == site] for site in range(count)]
        split += [table.iloc[:0]] * (2 - count)
        pooled = found_by(study, [table, table.iloc[:0]], 1000)
        assert differences(found_by(study, split, rows), pooled, tag) == []

    check()
