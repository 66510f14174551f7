"""The durable ledger: what is recorded outlives the process, and one refused set leaves no trace."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg.differencing import Classes, DifferenceLedger, DifferenceLedgerError
from secagg.errors import DisclosureError, ParameterError

SETS = st.lists(st.sets(st.sampled_from("abcdefg"), min_size=1), min_size=1, max_size=5)


@given(SETS, st.integers(1, 3))
def test_the_file_and_the_memory_say_the_same(sets: list[set[str]], least: int) -> None:
    ledger, classes = DifferenceLedger(), Classes()
    for one in sets:
        if classes.why_not([one], least):
            with pytest.raises(DisclosureError, match="could be combined"):
                ledger.record([one], least)
        else:
            ledger.record([one], least)
            classes.add([one])
        assert ledger.classes().members() == classes.members()
    ledger.close()


def test_what_is_recorded_outlives_the_process_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    first = DifferenceLedger(file, "models")
    first.record(["abc", "def"], 3)
    first.close()
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = DifferenceLedger(file, "models")
    assert again.classes().members() == (("a", "b", "c"), ("d", "e", "f"))
    assert again.rounds() == 2
    again.record(["abc"], 3)
    assert again.rounds() == 2
    with pytest.raises(DisclosureError, match=r"the ledger of 'models'.*tell of c alone"):
        again.record(["ab"], 2)
    assert again.rounds() == 2
    again.record(["abcdef"], 3)
    assert again.rounds() == 3
    again.close()
    other = DifferenceLedger(file, "accounts")
    other.record(["ab"], 2)
    other.close()


def test_two_processes_cannot_both_record_what_may_not_be_together(tmp_path: Path) -> None:
    one, other = (DifferenceLedger(tmp_path / "ledger.sqlite") for _ in range(2))
    one.record(["abcdef"], 2)
    with pytest.raises(DisclosureError):
        other.record(["abcde"], 2)
    one.close()
    other.close()


def test_other_files_are_left_as_they_are(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at " * 20)
    with pytest.raises(ParameterError, match="not a difference ledger"):
        DifferenceLedger(text)
    with pytest.raises(ParameterError, match="data_name is empty"):
        DifferenceLedger(data_name="")


def test_a_file_that_cannot_be_written_stops_the_sum(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite"
    ledger = DifferenceLedger(file)
    with sqlite3.connect(file) as database:
        database.execute("DROP TABLE sums")
    database.close()
    with pytest.raises(DifferenceLedgerError, match="cannot be used"):
        ledger.record(["ab"], 2)
    ledger.close()
