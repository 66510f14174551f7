"""Transactions of the library's SQLite files."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from secagg.durable import transaction


def test_a_commit_that_fails_is_undone_and_the_next_transaction_works() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        database.execute("CREATE TABLE child (of INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
        with pytest.raises(sqlite3.IntegrityError), transaction(database):
            database.execute("INSERT INTO child VALUES (1)")  # checked when it is committed
        assert not database.in_transaction
        with transaction(database):
            database.execute("INSERT INTO parent VALUES (2)")
        assert database.execute("SELECT id FROM parent").fetchall() == [(2,)]
        assert database.execute("SELECT of FROM child").fetchall() == []


def interrupted(database: sqlite3.Connection) -> None:
    with transaction(database):
        database.execute("INSERT INTO kept VALUES (1)")
        raise KeyboardInterrupt


def test_a_block_that_raises_is_undone() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as database:
        database.execute("CREATE TABLE kept (id INTEGER)")
        with pytest.raises(KeyboardInterrupt):
            interrupted(database)
        assert database.execute("SELECT id FROM kept").fetchall() == []
