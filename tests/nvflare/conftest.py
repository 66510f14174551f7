"""Files that need not outlive a power cut: a round in these tests writes some hundred transactions."""

from __future__ import annotations

import sqlite3

import pytest


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(database: sqlite3.Connection) -> None:
        database.execute("PRAGMA synchronous = OFF")

    for module in ("secagg.durable", "secagg.credentials"):
        monkeypatch.setattr(f"{module}.sync_every_commit", off)
