"""Clients of servers that lie: about sizes, layouts, rounds, aborts and sums."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import ssl
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from secagg import Identity, InputError, LayoutPolicy, ParameterError, PeerError, RoundConfig, Server
from secagg.adapters.net import store as store_module
from secagg.adapters.net.addresses import canonical
from secagg.adapters.net.ending import Ending, Outbound
from secagg.adapters.net.frames import Ack, Message, Progress, Refusal, Refused, RefusedError, Sum
from secagg.adapters.net.hosted import HostedRound
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import AnotherInputError, GaveUpError, MaybeSummedError, MemberOptions
from secagg.adapters.net.own_input import OwnInput
from secagg.adapters.net.store import ClientStore, may_hold
from secagg.encoding.layout import Layout
from tests.support.hosting import CLIP, LAYOUT, arrays_of, check_total, hosting, spec_of
from tests.support.lying_service import Line, a_second_later, announce, hear, log_in, lying_server, say
from tests.support.moved_clock import eventually, passing, run, the_clock

CONFIG = spec_of(3).config
SUM_BYTES = CONFIG.modulus.packed_bytes(CONFIG.length)


async def wait_for_ever(line: Line) -> None:
    with suppress(ConnectionClosed):
        while True:
            if size := getattr(await line.receive(), "size", 0):
                await line.payload(size)


async def joined(line: Line, config: RoundConfig = CONFIG, layout: Layout = LAYOUT) -> None:
    """Welcome a client, invite it, and take its keys."""
    await log_in(line, layout)
    await say(line, "ADVERTISE", Server(config).invitation())
    submission, _ = await hear(line)
    assert submission.phase == "ADVERTISE"
    await line.send(Ack(submission.number, "accepted"))


# Sizes.


@pytest.mark.parametrize(
    ("before", "frame", "says"),
    [
        (log_in, Message("ADVERTISE", 2**35), "an? ADVERTISE message of 34,359,738,368 bytes"),
        (log_in, Message("SHARE", 2**35), "at most 1,052,672"),
        (log_in, Sum(b"\x07", 2**35), "this client was not in it"),
        (joined, Message("SHARE", 2**20), "at most"),
        (joined, Message("LUNCH", 10), "no phase"),
        (joined, Sum(b"\x07", 2**35), f"a sum of 34,359,738,368 bytes; this round's has {SUM_BYTES}"),
        (joined, Sum(b"\x07", SUM_BYTES - 1), f"this round's has {SUM_BYTES}"),
        (joined, Sum(b"\x07\x00", SUM_BYTES), "does not say who is in it"),
    ],
)
def test_what_is_announced_is_compared_before_a_byte_of_it_is_read(
    tmp_path: Path, tls_folder: Path, before: Callable[[Line], Awaitable[None]], frame: Any, says: str
) -> None:
    """The bytes themselves never come: a client that waited for them would hang."""

    async def behave(line: Line) -> None:
        await before(line)
        with suppress(ConnectionClosed):
            await announce(line, frame)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match=says):
                await member().run()

    run(test)


@pytest.mark.parametrize("state", ["before the login", "before the invitation", "in the round"])
def test_more_bytes_than_belong_to_a_state_end_the_client(tmp_path: Path, tls_folder: Path, state: str) -> None:
    """The library closes with 1009; a client that took that for a broken line would come again for ever."""
    connections = 0

    async def behave(line: Line) -> None:
        nonlocal connections
        connections += 1
        if state != "before the login":
            await (log_in(line) if state == "before the invitation" else joined(line))
        with suppress(ConnectionClosed):
            await line.connection.send([bytes([0xC1]), *[bytes(60_000)] * 100])

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            running = asyncio.ensure_future(member().run())
            # Nobody reads the rest of what the server sends, so that the connection ends by a timeout.
            await passing(running.done, step=0.01, most=20.0)
            with pytest.raises(RefusedError) as refused:
                await running
            assert refused.value.code in (Refusal.TOO_LARGE, Refusal.MALFORMED)
            assert connections == 1

    run(test)


@pytest.mark.parametrize("before", [log_in, joined])
def test_a_message_of_no_bytes(tmp_path: Path, tls_folder: Path, before: Callable[[Line], Awaitable[None]]) -> None:
    async def behave(line: Line) -> None:
        await before(line)
        await line.send(Message("SHARE", 0))
        await wait_for_ever(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="a SHARE message of no bytes") as refused:
                await member().run()
            assert refused.value.code is Refusal.MALFORMED

    run(test)


@pytest.mark.parametrize("shape", [(2**62, 2**62), (2**63,), (1,) * 70, (0, 2**62), (-4, -3)])
def test_a_layout_with_shapes_that_no_array_has(tmp_path: Path, tls_folder: Path, shape: tuple[int, ...]) -> None:
    layout = msgspec.structs.replace(LAYOUT, arrays=(("b", (5,)), ("w", shape)))

    async def behave(line: Line) -> None:
        await log_in(line, layout)
        await wait_for_ever(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="the server's layout cannot be used"):
                await member().run()

    run(test)


# Closings.


@pytest.mark.parametrize(
    ("code", "reason", "refusal"),
    [
        (1009, "", Refusal.TOO_LARGE),
        (1002, "", Refusal.MALFORMED),
        (1008, "round-aborted", Refusal.ROUND_ABORTED),
        (1008, "unknown-identity", Refusal.UNKNOWN_IDENTITY),
        (1008, "of-the-future", Refusal.OTHER),
    ],
)
def test_a_closing_that_refuses_for_good_is_no_reason_to_come_again(
    tmp_path: Path, tls_folder: Path, code: int, reason: str, refusal: Refusal
) -> None:
    connections = 0

    async def behave(line: Line) -> None:
        nonlocal connections
        connections += 1
        await log_in(line)
        await line.connection.close(code, reason)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError) as refused:
                await member().run()
            assert refused.value.code is refusal
            assert connections == 1

    run(test)


@pytest.mark.parametrize(("code", "reason"), [(1012, ""), (1001, ""), (1011, ""), (1008, "server-stops")])
def test_a_server_that_stops_is_looked_for_again(tmp_path: Path, tls_folder: Path, code: int, reason: str) -> None:
    connections = 0

    async def behave(line: Line) -> None:
        nonlocal connections
        connections += 1
        await log_in(line)
        await (line.connection.close(code, reason) if connections < 2 else line.send(Refused("round-aborted", "over")))

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="over"):
                await member().run()
            assert connections == 2

    run(test)


def test_a_refusal_is_read_while_a_large_message_is_on_its_way(tmp_path: Path, tls_folder: Path) -> None:
    """The server takes no more of it, says that the round is aborted, and is gone."""
    large = 50_000_000

    async def behave(line: Line) -> None:
        await log_in(line)
        for arrived in range(3):
            await line.send(Progress("MASK", arrived, 3, 1.0))
        with suppress(ConnectionClosed, TimeoutError):
            await line.send(Refused("round-aborted", "too few sent their vectors"))
            await line.connection.close(1008, "round-aborted")

    async def test() -> None:
        store = ClientStore(tmp_path / "client.state")
        with store.step():
            store.push("MASK", bytes(large))
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError) as refused:
                await member(store, give_up_seconds=600.0).run()
            assert refused.value.code is Refusal.ROUND_ABORTED

    run(test)


def test_a_port_without_tls_is_no_reason_to_come_again(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def test() -> None:
        async with await asyncio.start_server(answer, "localhost", 0) as plain:
            url = f"wss://localhost:{plain.sockets[0].getsockname()[1]}/default"
            options = MemberOptions(url=url, tls=ssl.create_default_context())
            member = Member(options, ClientStore(":memory:"), arrays_of(0), on_total=lambda total: None)
            with pytest.raises(ParameterError, match="speaks no TLS"):
                await member.run()

    run(test)


# How long.


async def gives_up(member: Member, connected: Callable[[], Any], *, says: str) -> None:
    """A client whose patience is 30 seconds ends by itself when they are over, whatever the server does."""
    running = asyncio.create_task(member.run())
    await eventually(connected)
    await passing(running.done, step=1.0, most=40.0)
    with pytest.raises(GaveUpError, match=says):
        await running


def test_silence_holds_nobody(tmp_path: Path, tls_folder: Path) -> None:
    lines: list[Line] = []

    async def behave(line: Line) -> None:
        lines.append(line)
        await wait_for_ever(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            await gives_up(member(give_up_seconds=30.0), lambda: lines, says="no word from the server for 30 s")

    run(test)


def test_signs_of_life_hold_nobody(tmp_path: Path, tls_folder: Path) -> None:
    signs = 0

    async def behave(line: Line) -> None:
        nonlocal signs
        await log_in(line)
        with suppress(ConnectionClosed):
            while True:
                await line.send(Progress("ADVERTISE", 1, 3, 0.0))
                signs += 1
                await a_second_later(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            await gives_up(member(give_up_seconds=30.0), lambda: signs, says="no progress of the round for 30 s")
        assert signs > 10

    run(test)


def test_a_client_that_leaves_waits_a_moment_for_the_server_to_hear_so(tmp_path: Path, tls_folder: Path) -> None:
    heard: list[str] = []

    async def behave(line: Line) -> None:
        await joined(line)
        await say(line, "SHARE", b"abc")
        heard.append((await hear(line))[0].phase)
        await wait_for_ever(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            running = asyncio.create_task(member().run())
            await eventually(lambda: heard == ["ABORT"])
            assert not running.done()
            the_clock().move(1.0)
            with pytest.raises(PeerError, match="does not decode"):
                await running

    run(test)


@pytest.mark.parametrize("clients", [3, 2**32])
def test_arrivals_in_a_round_without_an_invitation_hold_nobody(tmp_path: Path, tls_folder: Path, clients: int) -> None:
    signs = 0

    async def behave(line: Line) -> None:
        nonlocal signs
        await log_in(line, clients=clients)
        with suppress(ConnectionClosed):
            while True:
                await line.send(Progress("ADVERTISE", signs, 2**32, 0.0))
                signs += 1
                await a_second_later(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            await gives_up(member(give_up_seconds=30.0), lambda: signs, says="no progress of the round for 30 s")
        assert signs > 10

    run(test)


@pytest.mark.parametrize("again", [False, True])
def test_a_welcome_to_a_round_of_another_size(tmp_path: Path, tls_folder: Path, again: bool) -> None:
    """Before anything is sent; or, ``again``, when the client comes back to a round that it is in."""
    lies = iter([3, 4] if again else [4])
    sent: list[str] = []

    async def behave(line: Line) -> None:
        await log_in(line, clients=next(lies))
        await say(line, "ADVERTISE", Server(CONFIG).invitation())
        with suppress(ConnectionClosed):
            sent.append((await hear(line))[0].phase)
            await line.connection.close(1012)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="a round of 4 clients, and round 'default' has 3"):
                await member().run()
            assert sent == ["ADVERTISE"] * again

    run(test)


def test_connections_are_no_progress(tmp_path: Path, tls_folder: Path) -> None:
    """A server that lets a client log in, says where the round stands, and drops the line, again and again."""

    connections = 0

    async def behave(line: Line) -> None:
        nonlocal connections
        await log_in(line)
        await line.send(Progress("ADVERTISE", 1, 3, 0.0))
        await line.connection.close(1012)
        connections += 1

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            await gives_up(member(give_up_seconds=30.0), lambda: connections > 2, says="no progress of the round")
            pauses = the_clock().pauses
            assert max(pauses[:2]) <= 0.4, "the first pauses are short"
            assert max(pauses) <= 5.0

    run(test)


def test_pauses_between_attempts_grow(tmp_path: Path, tls_folder: Path) -> None:
    """With some chance in them, so that the clients of a server that was restarted do not all come at once."""

    async def behave(line: Line) -> None:
        await line.connection.close(1012)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            running = asyncio.create_task(member(give_up_seconds=600.0).run())
            pauses = the_clock().pauses
            await eventually(lambda: len(pauses) >= 9)
            the_clock().move(600.0)
            with pytest.raises(GaveUpError):
                await running
        longest = [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
        assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, longest, strict=False))
        assert len(set(pauses)) > 5

    run(test)


def test_the_same_message_again_is_no_progress(tmp_path: Path, tls_folder: Path) -> None:
    """A server that says what the client knows already, again and again, holds it no longer than one that is silent."""
    said: list[bytes] = []

    async def behave(line: Line) -> None:
        await log_in(line)
        invitation = Server(CONFIG).invitation()
        await say(line, "ADVERTISE", invitation)
        submission, _ = await hear(line)
        await line.send(Ack(submission.number, "accepted"))
        with suppress(ConnectionClosed):
            while True:
                await say(line, "ADVERTISE", invitation)
                said.append(invitation)
                await a_second_later(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            await gives_up(member(give_up_seconds=30.0), lambda: said, says="no progress of the round for 30 s")
        assert len(said) > 10

    run(test)


def test_a_client_waits_for_others_as_long_as_the_server_said(tmp_path: Path, tls_folder: Path) -> None:
    """However short its own patience is: the signs of life come seconds apart, and are not what it waits for."""

    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            shown: list[Progress] = []
            first = asyncio.create_task(host.member(0, give_up_seconds=1.0, on_progress=shown.append).run())
            await host.until("ADVERTISE", arrived=1)
            await eventually(lambda: shown)
            host.clock.move(host.hosted().seconds_left - 1.0)
            await eventually(lambda: shown[-1].arrived == 1)
            assert (host.service.logins, first.done()) == (1, False)
            others = [host.member(n).run() for n in (1, 2)]
            check_total((await asyncio.gather(first, *others))[0], range(3))

    run(test)


# What a server sets.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"input_max": LAYOUT.encoder().input_max - 1}, "input_max"),
        ({"length": LAYOUT.encoder().length + 1}, "elements"),
        ({"length": 2**32}, "elements"),
    ],
)
def test_a_config_that_would_ask_about_the_input_is_refused_before_anything_is_sent(
    tmp_path: Path, tls_folder: Path, changes: dict[str, int], says: str
) -> None:
    """Leaving in MASK would answer whether a value is above the config's input_max."""
    encoder = LAYOUT.encoder()
    given = {"length": encoder.length, "input_max": encoder.input_max, **changes}
    config = RoundConfig.for_cohort(3, delta=0.0, min_survivors=3, context=encoder.layout_digest(), **given)
    heard: list[Any] = []

    async def behave(line: Line) -> None:
        await log_in(line)
        await say(line, "ADVERTISE", Server(config).invitation())
        with suppress(ConnectionClosed):
            heard.append(await line.receive())

    async def test() -> None:
        store = ClientStore(tmp_path / "client.state")
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(PeerError, match=says):
                await member(store).run()
        assert heard == []
        assert store.waiting() == []

    run(test)


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (LayoutPolicy(min_clip=3.0), "clip 2.0"),
        (LayoutPolicy(max_clip=1.0), "clip 2.0"),
        (LayoutPolicy(min_bits=20), "bits 18"),
        (LayoutPolicy(min_max_weight=100), "max_weight 10"),
    ],
)
def test_a_layout_below_a_clients_policy(tmp_path: Path, tls_folder: Path, policy: LayoutPolicy, says: str) -> None:
    layout = replace_max_weight(LAYOUT, 10)

    async def behave(line: Line) -> None:
        await log_in(line, layout)
        await wait_for_ever(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(PeerError, match=says):
                await member(layout_policy=policy).run()

    run(test)


def replace_max_weight(layout: Layout, max_weight: int) -> Layout:
    return Layout.of(dict(layout.arrays), clip=layout.clip, bits=layout.bits, max_weight=max_weight)


def test_a_weight_is_clamped_and_does_not_show(tmp_path: Path, tls_folder: Path) -> None:
    """Servers that set the largest weight to one client's, to get the others' absence, get everybody."""
    layout = replace_max_weight(LAYOUT, 10)

    async def test() -> None:
        async with hosting([spec_of(3, layout=layout)], tmp_path, tls_folder) as host:
            totals = await asyncio.gather(
                *(host.member(n, weight=weight).run() for n, weight in enumerate((10, 20, 5)))
            )
            assert [total.weight_clamped for total in totals] == [False, True, False]
            assert totals[0].mean.weight == 25
            assert totals[0].mean.contributors == 3
            assert totals[0].mean.clipped >= 1

    run(test)


@pytest.mark.parametrize("weight", [1, 7])
def test_a_client_with_a_weight_leaves_a_round_without_whatever_it_is(
    tmp_path: Path, tls_folder: Path, weight: int
) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            with pytest.raises(ParameterError, match="the round has no weights"):
                await host.member(0, weight=weight).run()

    run(test)


def test_an_input_that_cannot_be_summed_never_connects(tmp_path: Path) -> None:
    for arrays in ({"v": np.array([1.0, np.nan])}, {"v": np.array([np.inf])}, {}, {"v": np.array(["text"])}):
        with pytest.raises(InputError):
            Member(MemberOptions(url="wss://localhost/x"), ClientStore(":memory:"), arrays, on_total=lambda total: None)


def test_a_layout_that_changes_in_the_middle_of_a_round(tmp_path: Path, tls_folder: Path) -> None:
    """A client that has advertised starts again: the server names a smaller clip, which would cut its values off."""
    other = Layout.of(dict(LAYOUT.arrays), clip=CLIP / 1000, bits=LAYOUT.bits)
    layouts = [LAYOUT, other]

    async def behave(line: Line) -> None:
        layout = layouts.pop(0)
        if layout is LAYOUT:
            await joined(line, layout=layout)
            await line.connection.close(1012)
            return
        await log_in(line, layout)
        await wait_for_ever(line)

    async def test() -> None:
        store = ClientStore(tmp_path / "client.state")
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="another layout than when this client joined") as refused:
                await member(store).run()
            assert refused.value.code is Refusal.ANOTHER_ROUND

    run(test)


def test_a_round_that_another_layout_has_replaced_is_left_for_good_with_again(tmp_path: Path, tls_folder: Path) -> None:
    """As the refusal says: the member knows that the server has begun anew."""
    other = Layout.of(dict(LAYOUT.arrays), clip=CLIP / 2, bits=LAYOUT.bits)
    layouts, has_joined = [LAYOUT, other], asyncio.Event()

    async def behave(line: Line) -> None:
        layout = layouts.pop(0)
        await joined(line, spec_of(3, layout=layout).config, layout)
        if layout is LAYOUT:
            await line.connection.close(1012)
            return
        has_joined.set()
        await wait_for_ever(line)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            running = asyncio.create_task(member(again=True).run())
            await eventually(has_joined.is_set)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run(test)


# Sums.


def test_a_sum_without_this_clients_input(tmp_path: Path, tls_folder: Path) -> None:
    """It has advertised, and was never asked for its vector: whatever the server calls a sum is none of its round."""

    async def behave(line: Line) -> None:
        await joined(line)
        await line.send(Sum(b"\x07", SUM_BYTES), bytes(SUM_BYTES))

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError, match="never took this client's input") as refused:
                await member().run()
            assert refused.value.code is Refusal.LEFT_OUT

    run(test)


@pytest.mark.parametrize(
    ("ending", "says"),
    [
        (Ending("", (1, 2), bytes(SUM_BYTES)), "not among them"),
        (Ending("", (0, 1), bytes(SUM_BYTES)), "at least 3"),
        (Ending("", (0, 1, 2), b"\xff" * SUM_BYTES), "no vector|of no use"),
    ],
)
def test_a_sum_that_is_none_of_this_round(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch, ending: Ending, says: str
) -> None:
    honest = HostedRound._farewell

    def lie(self: HostedRound, index: int, _: Ending) -> Outbound:
        frame = honest(self, index, replace_included(ending, index)).frame
        assert isinstance(frame, Sum)
        bitmap = bytes([sum(1 << member for member in ending.included)])
        return Outbound(Sum(bitmap, frame.size), ending.packed)

    async def test() -> None:
        monkeypatch.setattr(HostedRound, "_farewell", lie)
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            ends = await asyncio.gather(*(host.member(n).run() for n in range(3)), return_exceptions=True)
        assert any(isinstance(end, RefusedError) and re.search(says, str(end)) for end in ends), ends

    run(test)


def replace_included(ending: Ending, index: int) -> Ending:
    return Ending("", (*ending.included, index), ending.packed)


def test_an_acknowledgement_that_was_lost_is_given_again_at_the_end(tmp_path: Path, tls_folder: Path) -> None:
    """Its vector is in the sum, it never heard so, and the round is over when it comes back."""

    class LostLineError(Exception):
        pass

    class DeafStore(ClientStore):  # type: ignore[misc]
        def acknowledged(self, number: int, *, accepted: bool) -> str | None:
            if any(phase == "MASK" for _, phase, _ in self.unsent(number - 1)):
                raise LostLineError
            phase: str | None = super().acknowledged(number, accepted=accepted)
            return phase

    async def test() -> None:
        async with hosting([spec_of(4, delta=0.25)], tmp_path, tls_folder) as host:
            others = [asyncio.create_task(host.member(number).run()) for number in range(3)]
            deaf = DeafStore(tmp_path / "default3.state")
            with pytest.raises(LostLineError):
                await host.member(3, store=deaf).run()
            deaf.close()
            await host.until("UNMASK", arrived=3)
            host.end_phase()
            await asyncio.gather(*others)
            check_total(await host.member(3).run(), range(4))

    run(test)


# The same input twice.


def test_an_abort_that_is_a_lie_and_the_next_invitation(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server opens the sum, says that the round was aborted, and invites all but one again, to subtract."""
    honest = HostedRound._farewell

    def lie(self: HostedRound, index: int, ending: Ending) -> Outbound:
        assert ending.included == (0, 1, 2, 3)  # it has the sum
        raise RefusedError(Refusal.ROUND_ABORTED, "the round was aborted")

    async def test() -> None:
        monkeypatch.setattr(HostedRound, "_farewell", lie)
        identities = [Identity.generate() for _ in range(4)]
        async with hosting([spec_of(4, identities=identities)], tmp_path, tls_folder) as host:
            port = host.port
            ends = await asyncio.gather(
                *(host.member(n, identity=identities[n]).run() for n in range(4)), return_exceptions=True
            )
            assert all(isinstance(end, RefusedError) and end.code is Refusal.ROUND_ABORTED for end in ends)
        monkeypatch.setattr(HostedRound, "_farewell", honest)
        second = tmp_path / "second"
        second.mkdir()
        # Another clip, by a hair: nothing of the layout is in what a client remembers of its input.
        nearly = Layout.of(dict(LAYOUT.arrays), clip=CLIP * (1 + 2**-50), bits=LAYOUT.bits)
        specs = [spec_of(3, identities=identities[:3], layout=nearly)]
        async with hosting(specs, second, tls_folder, port=port) as host:
            stores = [ClientStore(tmp_path / f"default{n}.state") for n in range(3)]
            for n in range(3):
                with pytest.raises(MaybeSummedError, match="your file may be in a sum already"):
                    await host.member(n, identity=identities[n], store=stores[n]).run()
            # Another file, or somebody who knows what he does.
            again = [host.member(n, identity=identities[n], store=stores[n], again=True).run() for n in (0, 1)]
            new = host.member(2, identity=identities[2], store=stores[2], arrays=arrays_of(7)).run()
            assert [total.mean.count for total in await asyncio.gather(*again, new)] == [3, 3, 3]

    run(test)


def test_the_memory_of_an_input_is_shared_by_a_members_rounds(tmp_path: Path, tls_folder: Path) -> None:
    """Another round's name has another state: the file may be in a sum, or on its way into one, all the same."""
    specs = [spec_of(3), spec_of(3, name="other")]

    async def test() -> None:
        async with hosting(specs, tmp_path, tls_folder) as host:
            running = asyncio.create_task(host.member(0).run())
            await eventually(lambda: host.hosted().progress().arrived == 1)
            states = (tmp_path / "default0.state", tmp_path / "none.state")
            with pytest.raises(MaybeSummedError, match=r"default0\.state"):
                await host.member(0, name="other", other_states=states).run()
            await asyncio.gather(running, *(host.member(n).run() for n in (1, 2)))
            with pytest.raises(MaybeSummedError, match=r"default0\.state"):
                await host.member(0, name="other", other_states=states).run()

    run(test)


def test_a_state_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the round before has the file in a sum, and another process holds it."""
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.05)
    state = tmp_path / "before.state"
    before = ClientStore(state)
    with before.step():
        before.release(before.keyed(OwnInput(arrays_of(0)).values_digest))
    before.close()

    async def test() -> None:
        with closing(sqlite3.connect(state, isolation_level=None)) as holding:
            holding.execute("BEGIN EXCLUSIVE")
            async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
                with pytest.raises(ParameterError, match="nobody knows whether your file may be in a sum already"):
                    await host.member(0, other_states=(state,)).run()
                assert host.hosted().progress().arrived == 0

    run(test)


def test_other_files_say_nothing_about_an_input(tmp_path: Path) -> None:
    (tmp_path / "text.state").write_text("no database")
    sqlite3.connect(tmp_path / "other.state").execute("CREATE TABLE other (one)")
    (tmp_path / "folder.state").mkdir()
    for name in ("text", "other", "folder", "none"):
        assert not may_hold(tmp_path / f"{name}.state", bytes(32))


# Another input than the state remembers.


@pytest.mark.parametrize("changes", [{"arrays": arrays_of(9)}, {"weight": 4}])
def test_the_old_total_for_a_new_file(tmp_path: Path, tls_folder: Path, changes: dict[str, Any]) -> None:
    """The server is started again on the same journal, and hands out the sum of the round before."""
    spec = spec_of(3, layout=replace_max_weight(LAYOUT, 10))

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            port = host.port
            await asyncio.gather(*(host.member(n, weight=3).run() for n in range(3)))
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            with pytest.raises(AnotherInputError, match="its sum is over another file or weight"):
                await host.member(0, **{"weight": 3, **changes}).run()
            assert (await host.member(0, weight=3).run()).mean.count == 3

    run(test)


def test_a_file_that_changes_in_the_middle_of_a_round(tmp_path: Path, tls_folder: Path) -> None:
    """The client says so before it connects: it neither goes on with other data, nor leaves the round."""

    async def test() -> None:
        identities = [Identity.generate() for _ in range(3)]
        async with hosting([spec_of(3, identities=identities)], tmp_path, tls_folder) as host:
            store = ClientStore(tmp_path / "client.state")
            first = asyncio.create_task(host.member(0, identity=identities[0], store=store).run())
            await eventually(lambda: host.hosted().progress().arrived == 1 and not store.unsent(0))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            logins = host.service.logins
            with pytest.raises(AnotherInputError, match="has changed since this client joined round 'default'"):
                await host.member(0, identity=identities[0], store=store, arrays=arrays_of(9)).run()
            assert host.service.logins == logins
            members = [host.member(n, identity=identities[n], store=store if n == 0 else None) for n in range(3)]
            check_total((await asyncio.gather(*(member.run() for member in members)))[0], range(3))

    run(test)


def test_a_state_belongs_to_one_url_and_one_identity(tmp_path: Path) -> None:
    def member(url: str, identity: Identity) -> Member:
        return Member(MemberOptions(url=url, identity=identity), store, arrays_of(0), on_total=lambda total: None)

    store, identity = ClientStore(tmp_path / "client.state"), Identity.generate()
    store.bind("wss://one.example:443/monday", identity.public_key)
    store.bind(canonical("wss://ONE.example/monday/"), identity.public_key)  # another spelling
    for url, who, says in (
        ("wss://one.example/tuesday", identity, "belongs to wss://one.example:443/monday, not to .*/tuesday"),
        ("wss://two.example/monday", identity, "not to wss://two.example:443/monday"),
        ("wss://one.example/monday", Identity.generate(), "belongs to another identity"),
    ):
        with pytest.raises(ParameterError, match=says):
            asyncio.run(member(url, who).run())
