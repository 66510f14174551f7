"""The ledger: no combination of sums is about fewer organisations than it says, and it forgets nothing."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.errors import ParameterError
from secagg.statistics import Analyst, DisclosureError, Entry, Ledger, LedgerFileError, Study

SETS = st.lists(st.sets(st.sampled_from("abcdefg"), min_size=3), min_size=1, max_size=4)


def entry(organisations: str | set[str], number: int = 1, session: str = "s") -> Entry:
    return Entry("study", session, number, "question", tuple(sorted(organisations)))


@given(SETS, st.integers(1, 4))
def test_no_combination_of_allowed_sums_is_about_fewer_than_t(sets: list[set[str]], least: int) -> None:
    """All whole weights from -2 to 2 are tried; what is refused would make a class that is too small."""
    ledger, allowed = Ledger(), []
    for number, organisations in enumerate(sets, 1):
        try:
            ledger.record(entry(organisations, number), least)
        except DisclosureError:
            patterns = Counter(
                tuple(name in one for one in [*allowed, organisations]) for name in set().union(*allowed, organisations)
            )
            assert min(patterns.values()) < least
        else:
            allowed.append(organisations)
    assert [set(one.organisations) for one in ledger.entries()] == allowed
    for weights in product(range(-2, 3), repeat=len(allowed)):
        combined = Counter[str]()
        for weight, organisations in zip(weights, allowed, strict=True):
            for name in organisations:
                combined[name] += weight
        about = [name for name, weight in combined.items() if weight]
        assert not about or len(about) >= least


def test_one_left_out_is_refused_and_two_are_not() -> None:
    ledger = Ledger()
    ledger.record(entry("abcdef"), 2)
    with pytest.raises(DisclosureError, match=r"tell of f alone: at least 2 must always be in and out together"):
        ledger.record(entry("abcde", 2), 2)
    ledger.record(entry("abcd", 2), 2)
    ledger.record(entry("abcdef", 3), 2)
    with pytest.raises(DisclosureError):
        ledger.record(entry("abc", 4), 2)
    ledger.record(entry("abc", 4), 1)


def test_what_is_recorded_outlives_the_process_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    first = Ledger(file, "patients")
    first.record(entry("abcdef"), 2)
    first.close()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = Ledger(file, "patients")
    assert again.entries() == (entry("abcdef"),)
    again.record(entry("abcdef"), 2)
    assert len(again.entries()) == 1
    with pytest.raises(DisclosureError, match="the ledger of 'patients'"):
        again.record(entry("abcde", session="another"), 2)
    assert len(again.entries()) == 1
    again.close()
    other = Ledger(file, "accounts")
    other.record(entry("abcde"), 2)
    other.close()


def test_two_processes_cannot_both_record_what_may_not_be_together(tmp_path: Path) -> None:
    one, other = (Ledger(tmp_path / "ledger.sqlite") for _ in range(2))
    one.record(entry("abcdef"), 2)
    with pytest.raises(DisclosureError):
        other.record(entry("abcde", 2), 2)
    one.close()
    other.close()


def test_other_files_are_left_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(ParameterError, match="not a ledger"):
        Ledger(text)
    foreign = tmp_path / "other.sqlite"
    with sqlite3.connect(foreign) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    with pytest.raises(ParameterError, match="another program's database"):
        Ledger(foreign)
    with pytest.raises(ParameterError, match="data_name is empty"):
        Ledger(data_name="")


def test_a_file_that_cannot_be_written_stops_the_sum(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    ledger = Ledger(file)
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE entries")
    database.close()
    with pytest.raises(LedgerFileError, match="cannot be used"):
        ledger.record(entry("abc"), 2)
    ledger.close()


STUDY = Study.from_toml(
    """
    name = "Ages"
    [columns.age]
    type = "whole"
    min = 0
    max = 120
    [methods.ages]
    method = "describe"
    of = ["age"]
    """
)


def test_the_analyst_keeps_nothing_of_a_sum_that_sites_refuse() -> None:
    analyst = Analyst(STUDY)
    question = analyst.question()
    assert question is not None
    layout = analyst.layout(question)
    sums = layout.decode(np.zeros(layout.length, np.uint64), 5)
    analyst.release(question, sums, "abcde")
    second = analyst.question()
    assert second is not None
    with pytest.raises(ParameterError, match="tell of e alone"):
        analyst.release(second, sums, "abcd")
    assert analyst.rounds == 1
    analyst.stop("because")
    assert analyst.question() is None
