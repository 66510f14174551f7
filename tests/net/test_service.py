"""Rounds over TLS inside one process: sums, refusals, reconnections, and clients that misbehave."""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from secagg import Identity, InputError, MemoryDirectory, ParameterError, PeerError, Policy, Server, ThreatModel
from secagg.adapters.net import journal
from secagg.adapters.net.certificates import client_context, make_demo_certificate, seen_certificate, server_context
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import (
    FRAMES_VERSION,
    MAX_WELCOME_BYTES,
    Ack,
    Challenge,
    Login,
    Message,
    Refusal,
    Refused,
    RefusedError,
    Submission,
    Sum,
    Welcome,
    decode_layout,
    decode_to_client,
    encode,
    encode_layout,
)
from secagg.adapters.net.journal import JournalError
from secagg.adapters.net.member import Member
from secagg.adapters.net.membership import MemberOptions, NotTrustedError
from secagg.adapters.net.service import Limits
from secagg.adapters.net.store import ClientStore
from secagg.encoding.layout import Layout
from secagg.pairwise.server import snapshot
from secagg.pairwise.transcript import signed_login
from tests.support.hosting import CLIP, LAYOUT, Hosting, arrays_of, check_total, hosting, spec_of
from tests.support.moved_clock import eventually, passing, run, the_clock

ACTIVE = Policy(threat_model=ThreatModel.ACTIVE, gamma=0.2, min_survivors=3)


def test_an_open_round(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(4)], tmp_path, tls_folder) as host:
            await asyncio.gather(*(host.member(number).run() for number in range(4)))
            await host.service.finished(5)
            assert sorted(host.totals) == [0, 1, 2, 3]
            for total in host.totals.values():
                check_total(total, range(4))

    run(test)


def test_two_rounds_at_a_time_one_of_them_active(tmp_path: Path, tls_folder: Path) -> None:
    identities = [Identity.generate() for _ in range(4)]
    keys = [identity.public_key for identity in identities]
    specs = [
        spec_of(4, name="signed", active=True, identities=identities),
        spec_of(4, name="plain", identities=identities),
    ]

    async def test() -> None:
        async with hosting(specs, tmp_path, tls_folder) as host:
            members = []
            for number, identity in enumerate(identities):
                signed = {"identity": identity, "directory": MemoryDirectory(keys), "policy": ACTIVE}
                members.append(host.member(number, name="signed", **signed))
                members.append(host.member(number, name="plain", identity=identity))
            totals = await asyncio.gather(*(member.run() for member in members))
            for total in totals:
                check_total(total, range(4))
            assert {total.seat for total in totals} == set(range(4))

    run(test)


def test_weights_and_the_mean(tmp_path: Path, tls_folder: Path) -> None:
    layout = Layout.of({"v": (6,)}, clip=3.0, bits=20, max_weight=50)
    inputs = [np.random.default_rng(number).uniform(-3, 3, 6).astype(np.float32) for number in range(3)]

    async def test() -> None:
        async with hosting([spec_of(3, layout=layout)], tmp_path, tls_folder) as host:
            members = [host.member(n, arrays={"v": inputs[n]}, weight=10 * (n + 1)) for n in range(3)]
            total, *_ = await asyncio.gather(*(member.run() for member in members))
            expected = np.average(inputs, axis=0, weights=[10, 20, 30])
            assert total.mean.weight == 60
            mean = total.mean_as_input()["v"]
            assert mean.dtype == np.float32
            assert np.abs(mean - expected).max() <= total.encoder.error_bound(3, 60) + 1e-6

    run(test)


def test_too_few_come_and_everybody_hears_why(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(4, min_survivors=4)], tmp_path, tls_folder) as host:
            running = asyncio.gather(*(host.member(n).run() for n in range(3)), return_exceptions=True)
            await host.until("ADVERTISE", arrived=3)
            host.end_phase()
            ends = await running
            for end in ends:
                assert isinstance(end, RefusedError)
                assert end.code is Refusal.ROUND_ABORTED
                assert "advertised their keys" in str(end)
            await host.service.finished(5)
            assert host.hosted().to_inform <= host.hosted().informed

    run(test)


def test_the_sum_waits_for_a_client_that_lost_its_line(tmp_path: Path, tls_folder: Path) -> None:
    """It stores its last message, is cut off before it is sent, and comes back when the round is over."""

    class KilledError(Exception):
        pass

    class CutOff(ClientStore):  # type: ignore[misc]
        def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
            waiting = super().unsent(after)
            if any(phase == "UNMASK" for _, phase, _ in waiting):
                raise KilledError
            return waiting

    async def test() -> None:
        async with hosting([spec_of(4, delta=0.25)], tmp_path, tls_folder) as host:
            others = [asyncio.create_task(host.member(number).run()) for number in range(3)]
            store = CutOff(tmp_path / "default3.state")
            with pytest.raises(KilledError):
                await host.member(3, store=store).run()
            store.close()
            await host.until("UNMASK", arrived=3)
            host.end_phase()
            await asyncio.gather(*others)
            assert list(host.hosted().ending.dropped) == ["UNMASK"]
            check_total(await host.member(3).run(), range(4))
            check_total(await host.member(3).run(), range(4))  # and again, as often as it likes

    run(test)


def test_a_restarted_service_goes_on(tmp_path: Path, tls_folder: Path) -> None:
    """Also one that has finished: it still gives out the sum."""
    spec = spec_of(3)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            port = host.port
            running = [asyncio.create_task(host.member(n).run()) for n in range(2)]
            await eventually(lambda: len(host.hosted().seats.bound) == 2)
            seats = host.hosted().seats.bound
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            assert host.hosted().progress().arrived == 2
            assert host.hosted().seats.bound == seats
            running.append(asyncio.create_task(host.member(2).run()))
            for total in await asyncio.gather(*running):
                check_total(total, range(3))
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            assert host.hosted().phase == "DONE"
            check_total(await host.member(1).run(), range(3))

    run(test)


@pytest.mark.parametrize("of", ["snapshot", "journal"])
def test_a_round_of_an_older_release_is_named(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """The server is upgraded in the middle of a round; back on the old release, the round goes on."""
    spec = spec_of(3, name="monday")

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            port = host.port
            first = asyncio.create_task(host.member(0, name="monday").run())
            await eventually(lambda: host.hosted("monday").progress().arrived == 1)
        with monkeypatch.context() as upgraded:
            upgraded.setattr(*((snapshot, "VERSION", 99) if of == "snapshot" else (journal, "_VERSION", 99)))
            says = r"round 'monday', which is in ADVERTISE, cannot go on .* another --journal"
            if of == "journal":
                says = "finish its rounds with the release that began them, or give another --journal"
            with pytest.raises(ParameterError, match=says):
                async with hosting([spec], tmp_path, tls_folder, port=port):
                    raise AssertionError("it listens")
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            others = [host.member(number, name="monday").run() for number in (1, 2)]
            for total in await asyncio.gather(first, *others):
                check_total(total, range(3))

    run(test)


# Refusals.


@pytest.mark.parametrize(
    ("case", "code", "says"),
    [
        ("stranger", Refusal.UNKNOWN_IDENTITY, "directory"),
        ("no such round", Refusal.ROUND_UNKNOWN, "no round 'other'"),
    ],
)
def test_the_server_refuses(tmp_path: Path, tls_folder: Path, case: str, code: Refusal, says: str) -> None:
    async def test() -> None:
        identities = [Identity.generate() for _ in range(3)]
        async with hosting([spec_of(3, identities=identities)], tmp_path, tls_folder) as host:
            name = "other" if case == "no such round" else "default"
            with pytest.raises(RefusedError, match=says) as refused:
                await host.member(0, name=name, identity=Identity.generate()).run()
            assert refused.value.code is code
            assert host.service.status()["refused"] == {code.value: 1}

    run(test)


def test_an_open_round_that_is_full(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            async with AsyncExitStack() as others:
                for _ in range(3):
                    await others.enter_async_context(logged_in(host, Identity.generate()))
                with pytest.raises(RefusedError, match="all 3 seats") as refused:
                    await host.member(9).run()
            assert refused.value.code is Refusal.ROUND_FULL

    run(test)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arrays": {"w": np.zeros((4, 3)), "c": np.zeros(5)}}, "lacks 'b'; it has 'c'"),
        ({"arrays": {"w": np.zeros((3, 4)), "b": np.zeros(5)}}, r"'w' has shape \(3, 4\), not \(4, 3\)"),
        ({"policy": Policy(gamma=0.7)}, "colluders"),
        ({"policy": Policy(min_survivors=4)}, "min_survivors = 3; this client's policy asks for at least 4"),
        ({"policy": ACTIVE}, "asks for active|threat_model"),
    ],
)
def test_a_client_refuses(tmp_path: Path, tls_folder: Path, changes: dict[str, Any], says: str) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            with pytest.raises((InputError, PeerError), match=says):
                await host.member(0, **changes).run()
            totals = await asyncio.gather(*(host.member(number).run() for number in range(3)))
            check_total(totals[0], range(3))  # nothing was lost by that

    run(test)


def test_a_nan_is_refused_and_can_be_mended(tmp_path: Path, tls_folder: Path) -> None:
    """The step is undone: the same client goes on with a better file."""

    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            others = [asyncio.create_task(host.member(number).run()) for number in range(2)]
            with pytest.raises(InputError, match="NaN"):
                await host.member(2, arrays={"w": np.full((4, 3), np.nan), "b": np.zeros(5)}).run()
            check_total(await host.member(2).run(), range(3))
            await asyncio.gather(*others)

    run(test)


def test_a_certificate_that_nobody_signed(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            with pytest.raises(NotTrustedError, match="--ca"):
                await host.member(0, tls=ssl.create_default_context()).run()

    run(test)


def test_somebody_in_the_middle_cannot_pass_a_login_on(tmp_path: Path, tls_folder: Path) -> None:
    """Even with a certificate that the client trusts: the login is bound to the one that the client saw."""

    async def test() -> None:
        other, _ = server_context(*make_demo_certificate(tmp_path / "middle"))
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                onward = await asyncio.open_connection("localhost", host.port, ssl=host.tls)
                await asyncio.gather(pump(reader, onward[1]), pump(onward[0], writer))

            host.tls.load_verify_locations(tmp_path / "middle" / "server.pem")
            middle = await asyncio.start_server(relay, "localhost", 0, ssl=other)
            async with middle:
                port = middle.sockets[0].getsockname()[1]
                with pytest.raises(RefusedError, match="stands in between") as refused:
                    await host.member(0, url=f"wss://localhost:{port}/default").run()
            assert refused.value.code is Refusal.BAD_LOGIN

    run(test)


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


# Broken lines.


def test_lines_that_break_all_the_time(tmp_path: Path, tls_folder: Path) -> None:
    """Every connection is cut after some bytes, more each time; everybody gets the sum in the end."""

    async def test() -> None:
        async with hosting([spec_of(4)], tmp_path, tls_folder) as host:
            budget = {"bytes": 2000}
            cuts = 0

            async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                nonlocal cuts
                onward_reader, onward_writer = await asyncio.open_connection("localhost", host.port)
                left = budget["bytes"] = int(budget["bytes"] * 1.15)

                async def limited(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                    nonlocal left
                    while left > 0 and (data := await source.read(500)):
                        left -= len(data)
                        sink.write(data)
                        await sink.drain()

                await asyncio.wait(
                    [
                        asyncio.create_task(limited(reader, onward_writer)),
                        asyncio.create_task(limited(onward_reader, writer)),
                    ],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                cuts += left <= 0
                for side in (writer, onward_writer):
                    side.transport.abort()

            async with await asyncio.start_server(relay, "localhost", 0) as proxy:
                url = f"wss://localhost:{proxy.sockets[0].getsockname()[1]}/default"
                for total in await asyncio.gather(*(host.member(n, url=url).run() for n in range(4))):
                    check_total(total, range(4))
            assert cuts >= 4

    run(test)


def test_the_newest_connection_of_a_client_wins(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        identity = Identity.generate()
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host, logged_in(host, identity) as older:
            async with logged_in(host, identity) as newer:
                refused = await last_frame(older)
                assert isinstance(refused, Refused)
                assert refused.code == Refusal.REPLACED
                assert isinstance(await newer.receive(), Message)
            assert host.service.status()["rounds"][0]["offered"] == 1

    run(test)


# Connections that are not clients.


@asynccontextmanager
async def logged_in(host: Hosting, identity: Identity) -> Any:
    """A connection that has logged in, and is in the test's hands."""
    async with connect(f"{host.url}/default", ssl=host.tls, compression=None, max_size=None) as connection:
        channel = Channel(connection, decode_to_client)
        challenge = await channel.receive()
        assert isinstance(challenge, Challenge)
        signed = signed_login(challenge.challenge, "default", seen_of(connection))
        await channel.send(Login(FRAMES_VERSION, identity.public_key, identity.sign(signed)))
        welcome = await channel.receive()
        assert isinstance(welcome, Welcome)
        assert decode_layout(await channel.payload(welcome.size)) == host.hosted().spec.layout
        yield channel


def seen_of(connection: ClientConnection) -> bytes:
    return seen_certificate(connection.transport.get_extra_info("ssl_object"))


async def last_frame(channel: Channel[Any]) -> Any:
    """The last frame before the server closes."""
    frame = None
    try:
        while True:
            frame = await channel.receive()
            if size := getattr(frame, "size", 0):
                await channel.payload(size)
    except ConnectionClosed:
        return frame


async def close_code(connection: ClientConnection) -> int:
    await connection.wait_closed()
    assert connection.close_code is not None
    return connection.close_code


async def login_of(connection: ClientConnection, *, version: int = FRAMES_VERSION, spoil: bool = False) -> Login:
    challenge = decode_to_client(bytes(await connection.recv(decode=False)))
    assert isinstance(challenge, Challenge)
    identity = Identity.generate()
    signature = identity.sign(signed_login(challenge.challenge, "default", seen_of(connection)))
    return Login(version, identity.public_key, bytes(64) if spoil else signature)


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ("garbage", Refusal.MALFORMED),
        ("unknown field", Refusal.MALFORMED),
        ("submission", Refusal.MALFORMED),
        ("version", Refusal.WRONG_VERSION),
        ("signature", Refusal.BAD_LOGIN),
        ("nothing", Refusal.TOO_SLOW),
    ],
)
def test_what_comes_instead_of_a_login(tmp_path: Path, tls_folder: Path, first: str, code: Refusal) -> None:
    async def test() -> None:
        async with (
            hosting([spec_of(3)], tmp_path, tls_folder) as host,
            connect(f"{host.url}/default", ssl=host.tls) as connection,
        ):
            login = await login_of(
                connection, version=9 if first == "version" else FRAMES_VERSION, spoil=first == "signature"
            )
            match first:
                case "garbage":
                    await connection.send(b"\xc1\xff\x00")
                case "unknown field":
                    await connection.send(b"\x95" + encode(login)[1:] + b"\x01")
                case "submission":
                    await connection.send([encode(Submission(1, "SHARE", 3)), b"abc"])
                case "nothing":
                    await eventually(lambda: host.service.status()["logging_in"] == 1)
                    host.clock.move(Limits().login_seconds)
                case _:
                    await connection.send(encode(login))
            refused = decode_to_client(bytes(await connection.recv(decode=False)))
            assert isinstance(refused, Refused)
            assert refused.code == code
            assert await close_code(connection) == 1008
            await eventually(lambda: host.service.status()["connections"] == 0)

    run(test)


def test_a_hundred_megabytes_are_refused_before_they_are_there(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        large = bytes(100_000_000)
        identity = Identity.generate()
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            async with connect(f"{host.url}/default", ssl=host.tls, compression=None) as stranger:
                await send_in_vain(stranger, large)
            for message in (large, [encode(Submission(1, "SHARE", 500)), large]):
                async with logged_in(host, identity) as member:
                    await send_in_vain(member.connection, message)
            async with logged_in(host, identity) as member:  # in fragments that are small enough, and too many
                many = [encode(Submission(1, "SHARE", 500)), *[bytes(60_000)] * 1000]
                await send_in_vain(member.connection, many)
            async with logged_in(host, identity) as member:
                await member.send(Submission(1, "SHARE", 100_000_000), bytes(10))
                refused = await last_frame(member)
                assert isinstance(refused, Refused)
                assert refused.code == Refusal.TOO_LARGE
            status = host.service.status()
            assert status["refused"][Refusal.TOO_LARGE] >= 4
            assert status["received_bytes"] < 1_000_000
            assert (await asyncio.gather(*(host.member(n, identity=identity).run() for n in [0]), all_but_one(host)))[0]

    run(test)


async def send_in_vain(connection: ClientConnection, message: Any) -> None:
    """The server hangs up: with the code for messages that are too large, unless that is lost in the flood."""
    with suppress(ConnectionClosed):
        await connection.send(message)
    assert await close_code(connection) in (1006, 1008, 1009)


async def all_but_one(host: Hosting) -> None:
    """The other two of an open round for three."""
    await asyncio.gather(*(host.member(number).run() for number in (1, 2)))


def test_others_do_not_notice_slow_and_senseless_connections(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        identities = [Identity.generate() for _ in range(5)]
        spec = spec_of(5, identities=identities, delta=0.2, seconds=600.0)
        async with hosting([spec], tmp_path, tls_folder) as host:
            silent = [await asyncio.open_connection("localhost", host.port) for _ in range(20)]
            slow = [await asyncio.open_connection("localhost", host.port, ssl=host.tls) for _ in range(20)]
            for _, writer in slow:
                writer.write(b"GET /default HTTP/1.1\r\nHost: ")
            noisy = await asyncio.open_connection("localhost", host.port)
            noisy[1].write(struct.pack("<Q", 0x5EC466) * 10_000)
            async with logged_in(host, identities[4]) as bad:
                running = [asyncio.create_task(host.member(n, identity=identities[n]).run()) for n in range(4)]
                await bad.connection.send([encode(Submission(1, "ADVERTISE", 50)), bytes(50)])
                while not isinstance(ack := await bad.receive(), Ack):
                    if size := getattr(ack, "size", 0):
                        await bad.payload(size)
                assert ack.verdict == "malformed"

                async def drip() -> Any:
                    yield encode(Submission(2, "ADVERTISE", 60))
                    while True:
                        yield b"x"
                        await asyncio.sleep(1.0)

                await host.until("ADVERTISE", arrived=4)
                dripping = asyncio.create_task(bad.connection.send(drip()))
                await passing(dripping.done, step=1.0, most=Limits().grace_seconds + 5)
                with pytest.raises(ConnectionClosed):
                    await dripping
            host.end_phase()
            for total in await asyncio.gather(*running):
                check_total(total, range(4))
            for reader, writer in (*silent, *slow, noisy):
                assert len(await reader.read()) < 2000  # until the server hangs up
                writer.close()
            status = host.service.status()
            assert status["refused"][Refusal.TOO_SLOW] >= 1
            assert status["rounds"][0]["refused"] == {"malformed": 1}

    run(test)


def test_too_many_messages_that_are_refused(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host, logged_in(host, Identity.generate()) as bad:
            for number in range(10):
                try:
                    await bad.send(Submission(number, "ADVERTISE", 9), b"senseless")
                except ConnectionClosed:
                    break
            refused = await last_frame(bad)
            assert isinstance(refused, Refused)
            assert refused.code == Refusal.TOO_MANY_MESSAGES
            assert host.hosted().refused == {"malformed": 4}

    run(test)


def test_a_limit_on_connections(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        limits = Limits(connections=6, logging_in=3)
        async with hosting([spec_of(3)], tmp_path, tls_folder, limits=limits) as host:
            waiting = [await connect(f"{host.url}/default", ssl=host.tls) for _ in range(3)]
            await eventually(lambda: host.service.status()["logging_in"] == 3)
            with pytest.raises(InvalidStatus, match="503"):
                await connect(f"{host.url}/default", ssl=host.tls)
            # The others try again, and get in when those that do nothing have done it for too long.
            running = asyncio.gather(*(host.member(number).run() for number in range(3)))
            await eventually(lambda: len(host.clock.pauses) > 5)
            assert host.service.logins == 0
            host.clock.move(1.5)
            for total in await running:
                check_total(total, range(3))
            assert host.service.status()["refused"][Refusal.TOO_SLOW] >= 1
            for connection in waiting:
                await connection.close()

    run(test)


def test_who_is_refused_and_does_not_hang_up_takes_nobodys_place(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        upgrade = (
            b"GET /default HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        malformed = b"\x82\x81\0\0\0\0A"
        async with hosting([spec_of(3)], tmp_path, tls_folder, limits=Limits(connections=6, logging_in=6)) as host:
            rude = []
            for number in range(1, 19):
                reader, writer = await asyncio.open_connection("localhost", host.port, ssl=host.tls)
                writer.write(upgrade)
                assert b"101" in await reader.readuntil(b"\r\n\r\n")
                writer.write(malformed)
                rude.append(writer)  # its closing handshake never comes
                await eventually(lambda: host.service.status()["refused"].get(Refusal.MALFORMED, 0) == number)  # noqa: B023
            assert host.service.status()["connections"] == 0
            for total in await asyncio.gather(*(host.member(number).run() for number in range(3))):
                check_total(total, range(3))
            for writer in rude:
                writer.close()

    run(test)


def test_a_lost_state_file_is_said_to_be_lost(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        identities = [Identity.generate() for _ in range(3)]
        async with hosting([spec_of(3, identities=identities)], tmp_path, tls_folder) as host:
            store = ClientStore(tmp_path / "lost.state")
            first = asyncio.create_task(host.member(0, identity=identities[0], store=store).run())
            await eventually(lambda: host.hosted().progress().arrived == 1 and not store.unsent(0))
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            store.close()
            with pytest.raises(RefusedError, match="refused this client's ADVERTISE message: conflict"):
                await host.member(0, identity=identities[0]).run()

    run(test)


# Servers that are none.


@pytest.mark.parametrize(
    ("frames", "error", "says"),
    [
        ([b"\xc1"], RefusedError, "does not decode"),
        ([encode(Challenge(7, bytes(32)))], RefusedError, "version 7"),
        ([encode(Ack(1, "accepted"))], RefusedError, "an? Ack frame instead of a challenge"),
        (["challenge", encode(Ack(1, "accepted"))], RefusedError, "Ack frame instead of a welcome"),
        (["challenge", encode(Refused("of-the-future", "no"))], RefusedError, "no"),
        (
            ["challenge", "welcome", encode(Challenge(1, bytes(32)))],
            RefusedError,
            "Challenge frame instead of what belongs to a round",
        ),
        (["challenge", "welcome", [encode(Message("SHARE", 3)), b"abc"]], RefusedError, "knows nothing of it"),
        (["challenge", "welcome", [encode(Message("ADVERTISE", 3)), b"abc"]], PeerError, "does not decode"),
        (["challenge", "welcome", [encode(Message("ADVERTISE", 3)), b"abcd"]], RefusedError, "more bytes than"),
        (["challenge", "welcome", [encode(Message("ADVERTISE", 3)), b"ab"]], RefusedError, "2 bytes behind"),
        (["challenge", "welcome", [encode(Sum(b"\x07", 3)), b"abc"]], RefusedError, "was not in it"),
        (["challenge", "welcome", "invitation", [encode(Sum(b"\x07", 3)), b"abc"]], RefusedError, "a sum of 3 bytes"),
        (["challenge", "other layout"], InputError, "has shape"),
        (["challenge", [encode(Welcome(0, 3, 3)), b"abc"]], RefusedError, "a layout that does not decode"),
        (["challenge", "welcome of 16 MB"], RefusedError, "does not decode"),
        (["challenge", bytes(10_000_000)], RefusedError, "more bytes at once"),
    ],
)
def test_a_server_that_is_none(
    tmp_path: Path, tls_folder: Path, frames: list[Any], error: type[Exception], says: str
) -> None:
    """The client says what was wrong, and ends."""
    context, _ = server_context(tls_folder / "server.pem", tls_folder / "server.key")
    spec = spec_of(3)
    invitation = Server(spec.config).invitation()

    def welcome(layout: Layout) -> list[bytes]:
        encoded = encode_layout(layout)
        return [encode(Welcome(0, 3, len(encoded))), encoded]

    known: dict[str, bytes | list[bytes]] = {
        "challenge": encode(Challenge(FRAMES_VERSION, bytes(32))),
        "welcome": welcome(LAYOUT),
        "other layout": welcome(Layout.of({"w": (4, 4)}, clip=CLIP, bits=18)),
        "welcome of 16 MB": encode(Welcome(0, 3, MAX_WELCOME_BYTES)).replace(
            b"\xce\x00\x80\x00\x00", b"\xce\x01\0\0\0"
        ),
        "invitation": [encode(Message("ADVERTISE", len(invitation))), invitation],
    }

    async def pretend(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(known[frame] if isinstance(frame, str) else frame)
        await connection.wait_closed()

    async def test() -> None:
        quiet = logging.getLogger("quiet")
        quiet.setLevel(logging.CRITICAL)
        async with serve(pretend, "localhost", 0, ssl=context, logger=quiet) as listener:
            url = f"wss://localhost:{next(iter(listener.sockets)).getsockname()[1]}/default"
            options = MemberOptions(url=url, tls=client_context(tls_folder / "server.pem"))
            store = ClientStore(tmp_path / "client.state")
            member = Member(
                options, store, arrays_of(0), on_total=lambda total: pytest.fail("a total"), clock=the_clock()
            )
            with pytest.raises(error, match=says):
                await member.run()

    run(test)


def test_a_journal_that_cannot_be_written_stops_the_service(tmp_path: Path, tls_folder: Path) -> None:
    """Nothing is acted on, nobody hangs, and with room on the disk the round goes on."""

    async def test() -> None:
        spec = spec_of(3, layout=Layout.of({"v": (30_000,)}, clip=1.0))
        inputs = [np.full(30_000, number / 10, np.float32) for number in range(3)]
        running: list[asyncio.Task[Any]] = []

        async def on_a_small_disk() -> None:
            async with hosting([spec], tmp_path, tls_folder) as host:
                ports.append(host.port)
                host.service.journal._database.execute("PRAGMA max_page_count = 30")
                for number in range(3):
                    running.append(asyncio.create_task(host.member(number, arrays={"v": inputs[number]}).run()))
                await host.service.finished(0)

        ports: list[int] = []
        with pytest.raises(JournalError, match="disk is full"):
            await on_a_small_disk()
        async with hosting([spec], tmp_path, tls_folder, port=ports[0]) as host:
            assert host.hosted().phase in ("SHARE", "MASK")
            for total in await asyncio.gather(*running):
                assert np.abs(total.mean.mean["v"] - 0.1).max() < 1e-3

    run(test)


# Back-pressure.


def test_small_budgets_only_slow_down(tmp_path: Path, tls_folder: Path) -> None:
    """Vectors of many fragments, and memory for one of them at a time."""
    layout = Layout.of({"v": (100_000,)}, clip=1.0, bits=16)
    inputs = [np.random.default_rng(number).uniform(-1, 1, 100_000).astype(np.float32) for number in range(4)]

    async def test() -> None:
        limits = Limits(held_bytes=1)
        async with hosting([spec_of(4, layout=layout)], tmp_path, tls_folder, limits=limits) as host:
            members = [host.member(n, arrays={"v": inputs[n]}) for n in range(4)]
            for total in await asyncio.gather(*(member.run() for member in members)):
                assert np.abs(total.mean.mean["v"] - np.mean(inputs, axis=0)).max() <= total.encoder.error_bound(4, 4)

    run(test)


def test_the_layout_is_the_same_whatever_the_order() -> None:
    assert Layout.of({"b": (5,), "w": (4, 3)}, clip=2.0, bits=18) == LAYOUT
    assert LAYOUT.encoder_for(arrays_of(0)).layout_digest() == LAYOUT.encoder().layout_digest()
