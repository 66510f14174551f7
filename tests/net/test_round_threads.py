"""What others are told of a round while its thread works: a copy, of a stage that is known to be durable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from secagg import Client, Policy, Server, ThreatModel
from secagg.adapters.net.ending import Ending
from secagg.adapters.net.frames import Message
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.status import status_of
from secagg.pairwise.phases import ServerState
from tests.support.hosting import spec_of
from tests.support.moved_clock import eventually, run, the_clock

POLICY = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3)
CLIENTS = 4


class HeldJournal(Journal):  # type: ignore[misc]
    """Lets a stage become durable when the test says so."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.free = asyncio.Event()
        self.free.set()
        self.waits = False

    async def store_stage(self, name: str, phase: str, deadline: float, snapshot: bytes) -> None:
        self.waits = True
        await self.free.wait()
        await super().store_stage(name, phase, deadline, snapshot)
        self.waits = False


@asynccontextmanager
async def a_round(folder: Path) -> AsyncIterator[tuple[HostedRound, HeldJournal]]:
    journal = HeldJournal(folder / "journal.sqlite")
    hosted = HostedRound(spec_of(CLIENTS, delta=0.25), journal, the_clock())
    await hosted.start()
    running = asyncio.create_task(hosted.run())
    try:
        yield hosted, journal
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        journal.close()


async def advertisement(hosted: HostedRound, index: int) -> bytes:
    """A client's first message."""
    outbound = await hosted.outbound(index)
    assert outbound is not None
    assert isinstance(outbound.frame, Message)
    with Client.join(outbound.payload, index, policy=POLICY) as client:
        return client.start()


def test_what_others_are_told_is_no_live_view_of_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They ask from other threads than the round's, which may change it between any two looks."""

    def changing(server: Server) -> Any:
        raise AssertionError(f"{server} is read beside the thread that changes it")

    async def test() -> None:
        async with a_round(tmp_path) as (hosted, _):
            for index in (0, 2):
                assert await hosted.submit(index, "ADVERTISE", await advertisement(hosted, index)) == "accepted"
            with monkeypatch.context() as patched:
                patched.setattr(Server, "missing", property(changing))
                patched.setattr(Server, "in_hand", property(changing))
                told = status_of(hosted)
            assert (hosted.awaited, told["arrived"], told["expected"]) == ((1, 3), 2, CLIENTS)

    run(test)


def test_a_phase_that_is_being_closed_is_told_as_it_was(tmp_path: Path) -> None:
    """Whom the next phase awaits is told once that phase is durable, and is never counted in the old one's messages."""

    async def test() -> None:
        async with a_round(tmp_path) as (hosted, journal):
            first = [await advertisement(hosted, index) for index in range(3)]
            for index in range(3):
                assert await hosted.submit(index, "ADVERTISE", first[index]) == "accepted"
            journal.free.clear()
            the_clock().move(hosted.seconds_left + 0.001)
            await eventually(lambda: journal.waits)
            told = hosted.progress()
            assert (told.phase, told.arrived, told.expected, hosted.awaited) == ("ADVERTISE", 3, CLIENTS, (3,))
            journal.free.set()
            await eventually(lambda: hosted.progress().phase == "SHARE")
            told = hosted.progress()
            assert (told.arrived, told.expected, hosted.awaited) == (0, 3, (0, 1, 2))

    run(test)


class EndsMeanwhile:
    """A round that ends behind the first look at its server, as ``HostedRound._end`` does it."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self._present: Any = SimpleNamespace(phase=ServerState.COMPUTE)

    @property
    def _server(self) -> Any:
        server, self.ending, self._present = self._present, Ending("", (0, 1, 2)), None
        return server


def test_the_phase_is_told_while_the_round_ends() -> None:
    """The status page asks from a thread of its own."""
    assert HostedRound.phase.__get__(EndsMeanwhile()) == "DONE"
