"""Whatever refuses, at whichever site and in whichever order: nothing is answered, and nothing is released."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import InputError, ParameterError, PeerError, StateError
from secagg.statistics import (
    Analyst,
    Chunk,
    DisclosureError,
    Entry,
    Ledger,
    Question,
    Site,
    SitePolicy,
    Study,
    open_data,
    simulate_study,
)

TOML: Final = """
name = "NAME"
max_records = 20
[columns.x]
type = "whole"
min = 0
max = 9
[methods.basics]
method = "describe"
of = ["x"]
"""
STUDY: Final = Study.from_toml(TOML)
POLICY: Final = SitePolicy(columns=("x",), methods=("describe",))
FRAMES: Final = {
    "fits": [1, 2, 3, 4, 5, 6],
    "does not fit": [1, 2, 30, 4, 5, 6],
    "cannot be read": [1, 2, "three", 4, 5, 6],
    "too few": [1, 2, 3, 4],
    "too many": [5] * 21,
}
REFUSALS: Final[dict[str, type[Exception]]] = {
    "does not fit": InputError,
    "cannot be read": InputError,
    "too few": DisclosureError,
    "too many": InputError,
}


@dataclass
class Changing:
    """A dataset that somebody mends, or spoils; it counts how often it is read."""

    state: str
    reads: int = field(default=0)

    def chunks(self) -> Iterator[Chunk]:
        self.reads += 1
        frame = pd.DataFrame({"x": FRAMES[self.state]}, dtype=object)
        yield from open_data(frame, STUDY, memory=0).chunks()


def first() -> Question:
    question = Analyst(STUDY, session="s").question()
    assert question is not None
    return question


def second() -> Question:
    """After a round over three sites of the records that fit."""
    analyst, site = Analyst(STUDY, session="s"), Site(STUDY, Changing("fits"))
    site.check()
    layout = analyst.layout(first())
    total = np.sum([layout.encode(site.answer(first()))] * 3, axis=0, dtype=np.uint64)
    analyst.release(first(), layout.decode(total, 3), ["a", "b", "c"])
    question = analyst.question()
    assert question is not None
    return question


def moved(question: Question) -> Question:
    """The same, with another public centre than the sums lead to."""
    ask = question.asks["basics"]
    parameters = {name: [value + 1e-3 for value in values] for name, values in ask.parameters.items()}
    return msgspec.structs.replace(
        question, asks={**question.asks, "basics": msgspec.structs.replace(ask, parameters=parameters)}
    )


GOOD: Final = {"first": first(), "second": second()}
BAD: Final = {
    "of another study": msgspec.structs.replace(
        GOOD["first"], study=Study.from_toml(TOML.replace("NAME", "B")).digest.hex()
    ),
    "ahead of the history": msgspec.structs.replace(GOOD["second"], history=()),
    "about another centre": moved(GOOD["second"]),
    "for nothing": msgspec.structs.replace(GOOD["first"], asks={}),
}
STEPS: Final = ["check", *FRAMES, *GOOD, *BAD]


@given(st.lists(st.sampled_from(STEPS), max_size=12))
def test_a_site_answers_what_follows_from_the_study_once_its_data_fit_and_nothing_else(steps: list[str]) -> None:
    """Data change between steps; what counts is the last check."""
    data = Changing("does not fit")
    site, fits = Site(STUDY, data, policy=POLICY), False
    for step in steps:
        reads = data.reads
        if step in FRAMES:
            data.state = step
        elif step == "check":
            fits = data.state == "fits"
            refuses(site.check, REFUSALS.get(data.state))
        else:
            asked = {**GOOD, **BAD}[step]
            error = PeerError if step in BAD else None if fits else StateError
            refuses(partial(site.answer, asked), error)
            assert data.reads == reads + (error is None)


def refuses(call: Callable[[], Any], error: type[Exception] | None) -> None:
    if error is None:
        assert call()
        return
    with pytest.raises(error):
        call()


FAULTS: Final = ["fits", "fits", *REFUSALS, "its ledger"]


@settings(max_examples=max(1, settings().max_examples // 2))
@given(st.lists(st.sampled_from(FAULTS), min_size=2, max_size=6), st.sampled_from(["", "policy"]))
def test_one_site_that_refuses_keeps_all_from_answering(faults: list[str], policy: str) -> None:
    """A ledger refuses where the sum is known, and before it is released; anything else before a site is asked."""
    names = [f"hospital {number}" for number in range(len(faults))]
    data = {
        name: Changing("fits" if fault == "its ledger" else fault) for name, fault in zip(names, faults, strict=True)
    }
    sites = {name: Site(STUDY, data[name], policy=POLICY if policy else None) for name in names}
    ledgers = {name: Ledger() for name, fault in zip(names, faults, strict=True) if fault == "its ledger"}
    for name, ledger in ledgers.items():
        others = tuple(one for one in names if one != name)
        ledger.record(Entry("0" * 64, "earlier", 1, "q", (*others, "another hospital")), 1)
    refusing = {REFUSALS[fault] for fault in faults if fault in REFUSALS and (policy or fault != "too few")}
    if refusing or len(names) < 3:
        with pytest.raises((*refusing, ParameterError)):
            simulate_study(sites, ledgers=ledgers)
        assert all(one.reads <= 1 for one in data.values())
        return
    result = simulate_study(sites, ledgers=ledgers)
    assert bool(result.rounds) == (not ledgers)
    assert bool(result.methods["basics"].result.values) == (not ledgers)


def test_a_policy_that_refuses_the_study_reads_nothing() -> None:
    data = Changing("fits")
    with pytest.raises(DisclosureError):
        Site(STUDY, data, policy=SitePolicy(columns=("y",), methods=("*",)))
    assert data.reads == 0
