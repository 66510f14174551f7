"""A member's files: used tokens and released inputs, durable and private, in whichever file they are kept."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secagg import DurableTokens, ParameterError, UsedTokens
from secagg.durable import StoredSet, make_private
from secagg.pairwise.rules.client import Consume

TOKENS = [bytes([number]) * 32 for number in range(4)]


@contextmanager
def in_memory() -> Iterator[Callable[[], Consume]]:
    used = UsedTokens()
    yield lambda: used


@contextmanager
def in_a_file() -> Iterator[Callable[[], Consume]]:
    """Each call comes from a process that was started anew."""
    with TemporaryDirectory() as folder:

        def consume(token: bytes) -> bool:
            with closing(DurableTokens(Path(folder) / "used.sqlite")) as opened:
                return opened(token)

        yield lambda: consume


@contextmanager
def in_a_client_s_state() -> Iterator[Callable[[], Consume]]:
    store = pytest.importorskip("secagg.adapters.net.store")
    with TemporaryDirectory() as folder:

        def consume(token: bytes) -> bool:
            with closing(store.ClientStore(Path(folder) / "client.state")) as opened, opened.step():
                return bool(opened.consume(token))

        yield lambda: consume


@pytest.mark.parametrize("kept", [in_memory, in_a_file, in_a_client_s_state])
@settings(max_examples=settings().max_examples // 10)  # each one waits for the disk
@given(tokens=st.lists(st.sampled_from(TOKENS), max_size=6))
def test_a_token_is_new_once(kept: Callable[[], object], tokens: list[bytes]) -> None:
    seen: set[bytes] = set()
    with kept() as opened:  # type: ignore[attr-defined]
        for token in tokens:
            assert opened()(token) is (token not in seen)
            seen.add(token)


def test_what_one_process_marks_all_others_know(tmp_path: Path) -> None:
    first, second = DurableTokens(tmp_path / "used"), DurableTokens(tmp_path / "used")
    assert first(TOKENS[0])
    assert not second(TOKENS[0])
    assert [each.release(TOKENS[1]) for each in (second, first)] == [True, False]
    assert first.is_released(TOKENS[1])
    assert not first.is_released(TOKENS[0]), "a used token is no released input"
    assert first(TOKENS[1]), "a released input is no used token"
    first.close()
    assert not DurableTokens(tmp_path / "used")(TOKENS[1])


def test_of_many_threads_one_is_first(tmp_path: Path) -> None:
    tokens = DurableTokens(tmp_path / "used")
    with ThreadPoolExecutor(8) as threads:
        first = list(threads.map(tokens, TOKENS * 8))
    assert first.count(True) == len(TOKENS)


def test_tokens_outlive_a_power_cut_and_are_their_owner_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "used"
    path.touch(mode=0o644)
    tokens = DurableTokens(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert tokens._database.execute("PRAGMA synchronous").fetchone() == (3,), "EXTRA"
    assert tokens._database.execute("PRAGMA journal_mode").fetchone() == ("delete",), "EXTRA is FULL under WAL"


@pytest.mark.parametrize("column", [None, "input"])
def test_a_file_of_an_earlier_release_is_taken_over(tmp_path: Path, column: str | None) -> None:
    """The first ones had no table of released inputs."""
    path = tmp_path / "used"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE used (token BLOB PRIMARY KEY)")
        database.execute("INSERT INTO used VALUES (?)", (TOKENS[0],))
        if column is not None:
            database.execute(f"CREATE TABLE released ({column} BLOB PRIMARY KEY)")
            database.execute("INSERT INTO released VALUES (?)", (TOKENS[1],))
    tokens = DurableTokens(path)
    assert not tokens(TOKENS[0])
    assert tokens.is_released(TOKENS[1]) is (column is not None)


def test_the_form_of_the_file_stays(tmp_path: Path) -> None:
    """Releases before and after this one read and write it."""
    DurableTokens(tmp_path / "used").close()
    with closing(sqlite3.connect(tmp_path / "used")) as database:
        tables = database.execute("SELECT sql FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
    assert tables == [
        ("CREATE TABLE released (input BLOB PRIMARY KEY)",),
        ("CREATE TABLE used (token BLOB PRIMARY KEY)",),
    ]


def test_a_file_of_something_else_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no database " * 100)
    with pytest.raises(ParameterError, match=r"notes\.txt: not a file of used tokens .* name another file"):
        DurableTokens(path)
    assert path.read_text() == "no database " * 100


@pytest.mark.parametrize("column", ["token", "digest", "input"])
def test_a_set_is_one_whatever_its_column_is_called(column: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute(f"CREATE TABLE some ({column} BLOB PRIMARY KEY)")
        stored = StoredSet(database, "some")
        assert [stored.add(TOKENS[0]), stored.add(TOKENS[0])] == [True, False]
        assert TOKENS[0] in stored
        assert TOKENS[1] not in stored


def test_a_change_belongs_to_the_transaction_that_is_open() -> None:
    """A state file marks a token and stores what came of it together, or neither."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("CREATE TABLE used (token BLOB PRIMARY KEY)")
        used = StoredSet(database, "used")
        database.execute("BEGIN")
        assert used.add(TOKENS[0])
        database.execute("ROLLBACK")
        assert TOKENS[0] not in used
        assert used.add(TOKENS[0])


def test_what_a_link_leads_to_keeps_its_rights(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch(mode=0o644)
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ParameterError, match="link: is a symbolic link; name the journal itself"):
        make_private(tmp_path / "link", "journal")
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o644
