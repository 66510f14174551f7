"""A site keeps what it has replayed of a session, and refuses what a site that begins afresh would refuse."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import PeerError
from secagg.statistics import Analyst, Question, Site, Study
from tests.support.hospitals import Frame, split

STUDY = Study.from_toml("""
name = "Steps"
[columns.age]
type = "whole"
min = 0
max = 100
[columns.pressure]
type = "number"
min = 50
max = 250
decimals = 1
[methods.age]
method = "quantiles"
of = "age"
bins = 5
rounds = 4
[methods.both]
method = "describe"
of = ["age", "pressure"]
[methods.clusters]
method = "kmeans"
of = ["age", "pressure"]
clusters = 2
max_rounds = 6
""")
RNG = np.random.default_rng(4)
HOSPITALS = split(pd.DataFrame({"age": RNG.integers(0, 100, 400), "pressure": RNG.uniform(60, 240, 400).round(1)}), 4)


def session_of(study: Study) -> list[Question]:
    """The questions of a session, with the sums of all hospitals."""
    sites = {name: Site(study, Frame(study, frame)) for name, frame in HOSPITALS.items()}
    for site in sites.values():
        site.check()
    analyst, asked = Analyst(study, session="session"), []
    while (question := analyst.question()) is not None:
        asked.append(question)
        layout = analyst.layout(question)
        total = np.zeros(layout.length, np.uint64)
        for site in sites.values():
            total += layout.encode(site.sums(question))
        analyst.release(question, layout.decode(total, len(sites)), list(sites))
    return asked


QUESTIONS = session_of(STUDY)


def a_site() -> Site:
    return Site(STUDY, Frame(STUDY, HOSPITALS["hospital 1"]))


def verdict(site: Site, question: Question) -> str:
    """Why the site refuses a question; empty when it does not."""
    try:
        site.check_question(question)
    except PeerError as refused:
        return str(refused)
    return ""


def forged(question: Question, change: dict[str, Any], at: int) -> Question:
    """The question with another round in its history: all of it is built anew."""
    copied = msgspec.json.decode(question.to_bytes(), type=Question)
    history = [msgspec.structs.replace(past, **change) if at == n else past for n, past in enumerate(copied.history)]
    return msgspec.structs.replace(copied, history=tuple(history))


def test_the_session_has_many_rounds() -> None:
    assert len(QUESTIONS) >= 6
    site = a_site()
    assert [verdict(site, question) for question in QUESTIONS] == [""] * len(QUESTIONS)


def test_each_round_is_replayed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that replays everything for every question takes time that grows with the square of the rounds."""
    taken: list[int] = []
    take = Analyst._take

    def counting(analyst: Analyst, *arguments: Any) -> None:
        taken.append(analyst.rounds)
        take(analyst, *arguments)

    monkeypatch.setattr(Analyst, "_take", counting)
    site = a_site()
    for question in QUESTIONS:
        site.check_question(question)
    assert taken == list(range(len(QUESTIONS) - 1))


def test_what_a_host_does_with_the_analyst_is_not_taken_for_verified() -> None:
    """A host may release what nobody asked; a server's history that says the same is refused all the same."""
    site = a_site()
    analyst = site.check_question(QUESTIONS[1])
    first = QUESTIONS[1].history[0]
    shapes = dict(analyst.layout(QUESTIONS[0]).arrays)
    sums = {name: np.array(values, np.int64).reshape(shapes[name]) for name, values in first.sums.items()}
    analyst.release(QUESTIONS[0], sums, list(HOSPITALS))
    lie = analyst.question()
    assert lie is not None
    assert lie.history == (first, first)
    assert "does not follow from the study" in verdict(site, lie)
    assert verdict(site, QUESTIONS[2]) == ""


@given(st.data())
def test_a_forged_history_is_refused_as_by_a_site_that_begins_afresh(data: st.DataObject) -> None:
    """The later question of a session with one cell, the sites or the asks of an earlier round changed."""
    site, last = a_site(), data.draw(st.integers(1, len(QUESTIONS) - 1))
    for question in QUESTIONS[:last]:
        assert verdict(site, question) == ""
    at = data.draw(st.integers(0, last - 1))
    past = QUESTIONS[last].history[at]
    kind = data.draw(st.sampled_from(["sums", "sites", "asks"]))
    if kind == "sums":
        name = data.draw(st.sampled_from(sorted(past.sums)))
        cell = data.draw(st.integers(0, len(past.sums[name]) - 1))
        values = list(past.sums[name])
        values[cell] += data.draw(st.sampled_from([-400, -1, 1, 400]))
        change: dict[str, Any] = {"sums": {**past.sums, name: values}}
    elif kind == "sites":
        change = {"sites": data.draw(st.sampled_from([past.sites[:3], past.sites[:2], ("a", "b", "c", "d")]))}
    else:
        change = {"asks": dict(list(past.asks.items())[:-1])}
    lie = forged(QUESTIONS[last], change, at)
    assert verdict(site, lie) == verdict(a_site(), lie)
    assert verdict(site, QUESTIONS[last]) == ""


def test_a_forged_sum_that_steers_the_next_question_is_refused() -> None:
    """The server moves records between the first bins, and asks on from there: a quantile would be of its choice."""
    site = a_site()
    for question in QUESTIONS[:3]:
        site.check_question(question)
    past = QUESTIONS[2].history[0]
    name = next(name for name in past.sums if name.startswith("age/") and len(past.sums[name]) == 5)
    lie = forged(QUESTIONS[2], {"sums": {**past.sums, name: [*past.sums[name][::-1][:1], 0, 0, 0, 0]}}, 0)
    assert "does not follow from the study" in verdict(site, lie)


def test_a_question_of_another_session_or_an_earlier_one_is_replayed_from_the_start() -> None:
    site = a_site()
    for question in reversed(QUESTIONS):
        assert verdict(site, question) == ""
        other = msgspec.structs.replace(question, session="another")
        assert verdict(site, other) == ""
        assert site.check_question(other).session == "another"
