"""The server dies at each of its transactions in turn, just before and just after: the round ends with the right sum.

The other crash tests kill processes; here every point between two writes to the journal is met.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secagg import Identity, MemoryDirectory, Policy, ThreatModel
from secagg.adapters.net.journal import Journal
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import run

CLIENTS = 3
RUNS = int(os.environ.get("SECAGG_CRASH_RUNS", "1"))


class DeadError(Exception):
    """The server is gone."""


class DyingJournal(Journal):  # type: ignore[misc]
    """Dies at one of its transactions; counts them."""

    def __init__(self, path: Path, at: int, *, after: bool) -> None:
        super().__init__(path)
        self.at, self.after, self.calls = at, after, 0

    async def _do(self, operation: Callable[[sqlite3.Connection], Any]) -> None:
        self.calls += 1
        if self.calls > self.at:
            raise DeadError
        if self.calls == self.at and not self.after:
            raise DeadError
        await super()._do(operation)
        if self.calls >= self.at:
            raise DeadError


@pytest.mark.parametrize(
    ("active", "after"),
    [(False, True), (True, False)]
    if RUNS == 1
    else [(active, after) for active in (False, True) for after in (False, True)],
)
def test_a_server_that_dies_at_any_of_its_transactions(
    tmp_path: Path, tls_folder: Path, active: bool, after: bool
) -> None:
    async def test() -> None:
        survived, at = False, 0
        while not survived:
            at += 1
            folder = tmp_path / str(at)
            folder.mkdir()
            survived = await one_death(folder, tls_folder, at, active=active, after=after)
        # Opening, a snapshot a phase, at least one batch of messages a phase, and the end.
        assert at > 2 * (6 if active else 5)

    run(test)


async def one_death(folder: Path, tls_folder: Path, at: int, *, active: bool, after: bool) -> bool:
    """A round whose server dies once, and comes back; True when it had not so many transactions."""
    identities = [Identity.generate() for _ in range(CLIENTS)]
    keys = [identity.public_key for identity in identities]
    spec = spec_of(CLIENTS, active=active, identities=identities)
    policy = Policy(threat_model=ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST, min_survivors=3)
    running: list[asyncio.Task[Any]] = []
    port = 0

    async def first_life() -> None:
        nonlocal port
        journal = {"open_journal": lambda path: DyingJournal(path, at, after=after)}
        async with hosting([spec], folder, tls_folder, **journal) as host:  # type: ignore[arg-type]
            port = host.port
            start_members(host)
            await host.service.finished(5)

    def start_members(host: Any) -> None:
        for number, identity in enumerate(identities):
            directory = MemoryDirectory(keys) if active else None
            member = host.member(number, identity=identity, directory=directory, policy=policy)
            running.append(asyncio.create_task(member.run()))

    try:
        await first_life()
    except DeadError:
        async with hosting([spec], folder, tls_folder, port=port) as host:
            if not running:  # it died while it opened the round
                start_members(host)
            for total in await asyncio.gather(*running):
                check_total(total, range(CLIENTS))
        return False
    for total in await asyncio.gather(*running):
        check_total(total, range(CLIENTS))
    return True
