"""Strangers and members that try to keep the service from the others: they are cut off, and the others get a sum."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol

from secagg import Identity, Policy, ThreatModel
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import Ack, EndReceived, Refusal, Refused, Submission, encode
from secagg.adapters.net.policing import FramePolice, Rate
from secagg.adapters.net.service import Limits
from secagg.adapters.net.store import ClientStore
from tests.support.hosting import LAYOUT, Hosting, check_total, hosting, spec_of
from tests.support.moved_clock import eventually, nap, run
from tests.support.raw_connections import (
    RefusedLoginError,
    binary,
    logged_in,
    more,
    ping,
    read_to_the_end,
    stranger,
    write,
)

TRUSTING = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.0, min_survivors=3)
PATIENT = Limits(login_seconds=600.0, grace_seconds=600.0)
"""No abuse of these tests ends by itself."""


async def honest_round(host: Hosting, members: Iterable[int] = range(3)) -> None:
    """Members that keep to the rules get their sum."""
    members = list(members)
    for total in await asyncio.gather(*(host.member(number, policy=TRUSTING).run() for number in members)):
        check_total(total, members)


# Frames.

FLOODS: dict[str, tuple[Callable[[], list[Frame]], Refusal]] = {
    "fragments without content": (lambda: [binary(b"", fin=False), *[more(b"")] * 20_000], Refusal.MALFORMED),
    "fragments without content behind others": (lambda: [binary(b"x", fin=False), *[more(b"")] * 20_000],
                                                Refusal.MALFORMED),
    "fragments of one byte": (lambda: [binary(b"x", fin=False), *[more(b"x")] * 20_000], Refusal.MALFORMED),
    "pings": (lambda: [ping(b"x" * 100)] * 20_000, Refusal.TOO_MANY_MESSAGES),
    "pongs that nobody asked for": (lambda: [Frame(Opcode.PONG, b"", True)] * 20_000, Refusal.TOO_MANY_MESSAGES),
    "text": (lambda: [Frame(Opcode.TEXT, b"hello", True)] * 20_000, Refusal.MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("who", ["stranger", "member"])
def test_a_flood_of_frames_ends_at_the_first_that_breaks_a_rule(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, who: str
) -> None:
    handled = 0
    take = Protocol.recv_frame

    def counted(self: Protocol, frame: Frame) -> None:
        nonlocal handled
        handled += 1
        take(self, frame)

    async def test() -> None:
        frames, code = FLOODS[kind]
        async with hosting([spec_of(3)], tmp_path, tls_folder, limits=PATIENT) as host:
            if who == "stranger":
                async with stranger(host) as connection:
                    monkeypatch.setattr(Protocol, "recv_frame", counted)
                    write(connection, frames())
                    await connection.wait_closed()
            else:
                async with logged_in(host, Identity.generate()) as member:
                    monkeypatch.setattr(Protocol, "recv_frame", counted)
                    write(member.connection, frames())
                    await member.connection.wait_closed()
            monkeypatch.undo()
            await eventually(lambda: host.service.status()["connections"] == 0)
            assert handled < 200, "the frames of one read cost their time before they are looked at"
            assert host.service.status()["refused"] == {code: 1}
            await honest_round(host)

    run(test)


def test_a_flood_of_small_messages_of_a_member(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder, limits=PATIENT) as host:
            async with logged_in(host, Identity.generate()) as member:
                write(member.connection, [binary(encode(EndReceived()))] * 20_000)
                await member.connection.wait_closed()
            await eventually(lambda: host.service.status()["connections"] == 0)
            assert host.service.status()["refused"] == {Refusal.TOO_MANY_MESSAGES: 1}
            await honest_round(host)

    run(test)


def test_honest_frames_pass_the_police() -> None:
    """A gigabyte in fragments of 64 KiB or of 2 KiB, and a ping every twenty seconds for a day."""
    now = 0.0
    for size in (2**16, 2**11):
        police = FramePolice(lambda: now)
        police.check(binary(b"head", fin=False))
        for _ in range(20_000):
            police.check(more(bytes(size)))
        police.check(more(b"", fin=True))  # the end of a message may be empty
    for _ in range(4320):
        now += 20
        police.check(ping())
        police.check(Frame(Opcode.PONG, b"", True))
    assert police.broke is None


def test_a_rate_lets_through_what_it_says() -> None:
    rate = Rate(5, 2.0, 0.0)
    assert [rate.take(0.0) for _ in range(6)] == [True] * 5 + [False]
    assert [rate.take(1.0) for _ in range(3)] == [True, True, False]
    assert sum(rate.take(2.0 + n / 1000) for n in range(10_000)) in range(21, 24)


@pytest.mark.parametrize("first", ["no login", "a closing handshake"])
def test_a_stranger_that_was_refused_is_not_read_on(tmp_path: Path, tls_folder: Path, first: str) -> None:
    """It reads nothing, closes nothing, and sends until its connection breaks."""
    upgrade = (
        b"GET /default HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    sent = 0

    async def test() -> None:
        nonlocal sent
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            reader, writer = await asyncio.open_connection("localhost", host.port, ssl=host.tls)
            writer.write(upgrade)
            await reader.readuntil(b"\r\n\r\n")
            if first == "no login":
                writer.write(binary(b"no login").serialize(mask=True))
                await eventually(lambda: host.service.status()["refused"] == {Refusal.MALFORMED: 1})
            else:
                writer.write(Frame(Opcode.CLOSE, b"\x03\xe8", True).serialize(mask=True))
            flood = b"".join(binary(bytes(1000)).serialize(mask=True) for _ in range(1000))
            with suppress(OSError):
                while sent < 300_000_000:
                    writer.write(flood)
                    await writer.drain()
                    sent += len(flood)
            await honest_round(host)

    run(test)
    assert sent < 50_000_000  # what the system's buffers take


def test_a_member_that_was_refused_is_not_read_on_for_long(tmp_path: Path, tls_folder: Path) -> None:
    """It may end the message that it is in the middle of, and reads then why it was refused; this one goes on."""
    sent = 0

    async def test() -> None:
        nonlocal sent
        spec = spec_of(3, layout=type(LAYOUT).of({"v": (1_000_000,)}, clip=1.0))
        size = spec.config.max_message_bytes("MASK")
        async with (
            hosting([spec], tmp_path, tls_folder, limits=PATIENT) as host,
            logged_in(host, Identity.generate()) as bad,
        ):
            connection = bad.connection
            connection.protocol.receive_data = lambda data: None  # type: ignore[method-assign]
            write(connection, [binary(encode(Submission(1, "LUNCH", size)), fin=False)])
            message = [*[more(bytes(60_000))] * (size // 60_000), more(b"x", fin=True), binary(b"x", fin=False)]
            with suppress(OSError):
                while not connection.transport.is_closing() and sent < 300_000_000:
                    write(connection, message)
                    sent += size
                    await connection.drain()
                    await asyncio.sleep(0)

    run(test)
    assert sent < 30_000_000  # a message, and what the system's buffers take


def test_a_page_in_a_browser_cannot_connect(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            with pytest.raises(InvalidStatus, match="403"):
                await connect(f"{host.url}/default", ssl=host.tls, origin="https://example.org")  # type: ignore[arg-type]
            await honest_round(host)

    run(test)


# Messages.


def test_announced_messages_of_closed_phases_hold_no_memory(tmp_path: Path, tls_folder: Path) -> None:
    """Three members say that the largest message of a phase that is not open comes, and send 100 bytes of it."""

    async def test() -> None:
        spec = spec_of(6, delta=0.5, gamma=0.0)
        size = spec.config.max_message_bytes("MASK")
        async with (
            hosting([spec], tmp_path, tls_folder, limits=replace(PATIENT, held_bytes=1)) as host,
            AsyncExitStack() as stack,
        ):
            for _ in range(3):
                bad = await stack.enter_async_context(logged_in(host, Identity.generate()))
                write(bad.connection, [binary(encode(Submission(1, "MASK", size)), fin=False), more(b"x" * 50)])
            running = asyncio.create_task(honest_round(host))
            await host.until("ADVERTISE", arrived=3)
            host.end_phase()
            await running

    run(test)


def test_announced_messages_of_the_open_phase_keep_nobody_waiting(tmp_path: Path, tls_folder: Path) -> None:
    """Three members that are awaited say that their vector comes, and send 100 bytes of it."""

    class StoppedError(Exception):
        pass

    class StopsBeforeItsVector(ClientStore):  # type: ignore[misc]
        def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
            waiting = super().unsent(after)
            if any(phase == "MASK" for _, phase, _ in waiting):
                raise StoppedError
            return waiting

    async def test() -> None:
        layout = type(LAYOUT).of({"v": (100_000,)}, clip=1.0)
        identities = [Identity.generate() for _ in range(7)]
        spec = spec_of(7, delta=0.45, gamma=0.0, identities=identities, layout=layout)
        size = spec.config.max_message_bytes("MASK")
        async with hosting([spec], tmp_path, tls_folder, limits=replace(PATIENT, held_bytes=1)) as host:
            common = {"arrays": {"v": np.full(100_000, 0.25)}, "policy": TRUSTING}
            bad = [
                host.member(n, identity=identities[n], store=StopsBeforeItsVector(tmp_path / f"bad{n}"), **common)
                for n in range(3)
            ]
            held_back = [
                asyncio.create_task(hold_back(host, identities[n], bad[n], StoppedError, size)) for n in range(3)
            ]
            late = [
                host.member(n, identity=identities[n], store=WaitsFor(tmp_path / f"late{n}", held_back), **common)
                for n in range(3, 7)
            ]
            running = [asyncio.create_task(member.run()) for member in late]
            await host.until("MASK", arrived=4)
            host.end_phase()
            for total in await asyncio.gather(*running):
                assert total.mean.count == 4
                assert np.abs(total.mean.mean["v"] - 0.25).max() < 1e-3
            for task in held_back:
                await task
            await eventually(lambda: len(host.hosted().informed) >= 4)

    run(test)


class WaitsFor(ClientStore):  # type: ignore[misc]
    """Sends its vector after the others have announced theirs."""

    def __init__(self, path: Path, others: list[asyncio.Task[None]]) -> None:
        super().__init__(path)
        self.others = others

    def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
        waiting: list[tuple[int, str, bytes]] = super().unsent(after)
        if any(phase == "MASK" for _, phase, _ in waiting):
            for _ in range(1000):
                if all(getattr(task, "announced", False) for task in self.others):
                    break
                time.sleep(0.005)
        return waiting


async def hold_back(host: Hosting, identity: Identity, member: Any, stopped: type[Exception], size: int) -> None:
    """Take part up to the vector, and announce that without sending it."""
    with pytest.raises(stopped):
        await member.run()
    async with logged_in(host, identity) as channel:
        write(channel.connection, [binary(encode(Submission(3, "MASK", size - 40)), fin=False), more(b"x" * 100)])
        await nap()
        asyncio.current_task().announced = True  # type: ignore[union-attr]
        await read_to_the_end(channel)


@pytest.mark.parametrize(
    ("phase", "size", "verdict", "most"),
    [
        ("MASK", 30, "wrong-phase", 4),
        ("ADVERTISE", 30, "malformed", 4),
        ("LUNCH", 30, None, 4),
        ("SHARE", 2**30, None, 4),
        ("garbage", 30, None, 4),
        ("flood", 30, None, 4),
    ],
)
def test_every_message_that_is_not_accepted_counts(
    tmp_path: Path, tls_folder: Path, phase: str, size: int, verdict: str | None, most: int
) -> None:
    """Over all of a member's connections: then its login is refused too, until the next phase."""

    async def test() -> None:
        identities = [Identity.generate() for _ in range(3)]
        async with hosting([spec_of(3, identities=identities)], tmp_path, tls_folder) as host:
            for _ in range(most):
                async with logged_in(host, identities[0]) as bad:
                    if phase == "flood":
                        write(bad.connection, [ping()] * 1000)
                        await read_to_the_end(bad)
                        continue
                    head = b"\xc1" if phase == "garbage" else encode(Submission(1, phase, size))
                    write(bad.connection, [binary(head, fin=False), more(b"x" * 30, fin=True)])
                    (*_, answer) = await frames_until(bad, Ack | Refused)
                    assert verdict is None or answer.verdict == verdict
            with pytest.raises(RefusedLoginError, match="too-many-messages"):
                await logged_in(host, identities[0]).__aenter__()

    run(test)


def test_a_message_again_and_again_is_too_much_in_the_end(tmp_path: Path, tls_folder: Path) -> None:
    """A line that breaks makes a client send a message twice or thrice; nobody needs to send it a hundred times."""
    kept: list[bytes] = []

    class Keeps(ClientStore):  # type: ignore[misc]
        def push(self, phase: str, data: bytes | memoryview) -> None:
            kept.append(bytes(data))
            super().push(phase, data)

    async def test() -> None:
        identities = [Identity.generate() for _ in range(3)]
        async with hosting([spec_of(3, identities=identities)], tmp_path, tls_folder, limits=PATIENT) as host:
            store = Keeps(tmp_path / "kept.state")
            first = asyncio.create_task(host.member(0, identity=identities[0], store=store).run())
            await eventually(lambda: host.hosted().progress().arrived == 1 and not store.unsent(0))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            for _ in range(32):
                async with logged_in(host, identities[0]) as again:
                    await again.send(Submission(1, "ADVERTISE", len(kept[0])), kept[0])
                    assert (await frames_until(again, Ack))[-1].verdict == "duplicate"
            with pytest.raises(RefusedLoginError, match="too-many-messages"):
                await logged_in(host, identities[0]).__aenter__()

    run(test)


async def frames_until(channel: Channel[Any], kind: Any) -> list[Any]:
    """What comes, up to the first frame of a kind."""
    frames: list[Any] = []
    while not frames or not isinstance(frames[-1], kind):
        frames.append(await channel.receive())
        if size := getattr(frames[-1], "size", 0):
            await channel.payload(size)
    return frames
