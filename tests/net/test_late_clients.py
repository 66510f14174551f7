"""Clients that come too late, to the wrong place, or to nobody: each hears once what is wrong and what to do."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from secagg import Identity
from secagg.adapters.net.closings import no_round_page, open_rounds_on
from secagg.adapters.net.frames import Refusal, RefusedError
from secagg.adapters.net.membership import GaveUpError
from secagg.adapters.net.troubles import trouble_of
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import eventually, run


def troubles(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    """What a client has said of its connections, on whatever level that is shown."""
    return [
        record.fields["trouble"]  # type: ignore[attr-defined]
        for record in caplog.records
        if record.getMessage() == "reconnect" and record.levelno >= level
    ]


# A server that is gone, or is not there yet.


def test_a_server_that_has_ended_is_one_line_however_often_a_client_tries(
    tmp_path: Path, tls_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "secagg.net.member")

    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            url = f"{host.url}/default"
        running = asyncio.create_task(host.member(0, url=url, give_up_seconds=600.0).run())
        await eventually(lambda: len(host.clock.pauses) > 20)
        assert not running.done()
        (said,) = troubles(caplog)
        assert said.startswith(f"nobody listens at localhost:{host.port} (connection refused)")
        assert "not started yet, or its rounds are over and it has ended" in said
        (record,) = (record for record in caplog.records if record.getMessage() == "reconnect")
        assert record.levelno == logging.WARNING, "shown also where a bar is drawn"
        assert record.fields["now"].startswith("this client tries again for 600 s")  # type: ignore[attr-defined]
        assert "Ctrl-C stops it" in record.fields["now"]  # type: ignore[attr-defined]
        host.clock.move(600.0)
        with pytest.raises(
            GaveUpError, match=r"no word from the server for 600 s \(nobody listens .*the state is kept"
        ):
            await running
        assert len(troubles(caplog)) == 1

    run(test)


def test_a_trouble_that_comes_back_after_progress_is_said_again(
    tmp_path: Path, tls_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "secagg.net.member")
    spec = spec_of(3)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            port, url = host.port, f"{host.url}/default"
        running = asyncio.create_task(host.member(0, url=url).run())
        for lives in (1, 2):
            await eventually(lambda: len(refused(caplog)) == lives)  # noqa: B023
            async with hosting([spec], tmp_path, tls_folder, port=port) as host:
                await host.until("ADVERTISE", arrived=1)
                if lives == 1:
                    continue
                others = [host.member(number).run() for number in (1, 2)]
                check_total((await asyncio.gather(running, *others))[0], range(3))

    run(test)


def refused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about a port on which nobody listens."""
    return [said for said in troubles(caplog) if "nobody listens" in said]


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 8443)"), "nobody listens at sum.example:8443"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 8443, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 8443)"
            ),
            "nobody listens at sum.example:8443 (connection refused)",
        ),
        (socket.gaierror(-2, "Name or service not known"), "the name in sum.example:8443 is not known (Name or"),
        (TimeoutError(), "sum.example:8443 does not answer in time: the server is busy, or a firewall"),
        (OSError(101, "Network is unreachable"), "no connection to sum.example:8443 ([Errno 101] Network is"),
        (EOFError(), "no connection to sum.example:8443 (EOFError)"),
        (InvalidHandshake("did not receive a valid response"), "(did not receive a valid response)"),
        (ssl.SSLError(1, "something else"), "no connection to sum.example:8443"),
        (InvalidStatus(Response(503, "", Headers(), b"")), "as many connections as it takes (HTTP status 503)"),
        (InvalidStatus(Response(502, "", Headers(), b"")), "cannot serve this client now (HTTP status 502)"),
        (InvalidStatus(Response(429, "", Headers(), b"")), "cannot serve this client now (HTTP status 429)"),
    ],
)
def test_what_is_said_of_a_failure_names_the_place_and_what_to_look_at(failure: Exception, says: str) -> None:
    assert says in asyncio.run(trouble_of(failure, "wss://SUM.example:8443/monday"))


# A round that has begun, or is over.


def test_who_comes_to_a_round_that_has_begun_hears_so_at_once(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(5, delta=0.2)], tmp_path, tls_folder) as host:
            running = [asyncio.create_task(host.member(number).run()) for number in range(4)]
            await host.until("ADVERTISE", arrived=4)
            host.end_phase()
            await eventually(lambda: host.hosted().phase != "ADVERTISE")
            with pytest.raises(RefusedError, match=r"has begun, and is in .* ask whoever runs the server") as late:
                await host.member(4).run()
            assert late.value.code is Refusal.ROUND_BEGUN
            for total in await asyncio.gather(*running):
                check_total(total, range(4))
            with pytest.raises(RefusedError, match=r"is over, with a sum of 4 clients; .*the next round") as late:
                await host.member(5).run()
            assert late.value.code is Refusal.ROUND_BEGUN

    run(test)


def test_a_member_that_comes_when_the_round_is_over_hears_that_it_is_not_in_the_sum(
    tmp_path: Path, tls_folder: Path
) -> None:
    identities = [Identity.generate() for _ in range(5)]
    spec = spec_of(5, delta=0.2, identities=identities)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            running = [asyncio.create_task(host.member(n, identity=identities[n]).run()) for n in range(4)]
            await host.until("ADVERTISE", arrived=4)
            host.end_phase()
            await asyncio.gather(*running)
            with pytest.raises(RefusedError, match=r"its ADVERTISE message did not come in time.*next round") as late:
                await host.member(4, identity=identities[4]).run()
            assert late.value.code is Refusal.LEFT_OUT

    run(test)


# A name that no round has.


@pytest.mark.parametrize(
    ("names", "of_a_directory", "says", "hides"),
    [
        (["monday", "tuesday"], [], "the rounds that anybody may join there are monday, tuesday", "nothing"),
        (["monday"], ["board"], "the rounds that anybody may join there are monday:", "board"),
        ([], ["board"], "its name is the last part of the URL, and whoever runs the server knows it", "board"),
    ],
)
def test_a_name_that_no_round_has(
    tmp_path: Path, tls_folder: Path, names: Sequence[str], of_a_directory: Sequence[str], says: str, hides: str
) -> None:
    """A stranger is told the rounds that are open to it, and nothing about those of a directory."""
    identities = [Identity.generate() for _ in range(3)]
    specs = [spec_of(3, name=name) for name in names]
    specs += [spec_of(3, name=name, identities=identities) for name in of_a_directory]

    async def test() -> None:
        async with hosting(specs, tmp_path, tls_folder) as host:
            with pytest.raises(RefusedError) as refused:
                await host.member(0, name="sunday").run()
            assert refused.value.code is Refusal.ROUND_UNKNOWN
            assert "the server hosts no round 'sunday'" in str(refused.value)
            assert says in str(refused.value)
            assert hides not in str(refused.value)

    run(test)


@given(st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True), max_size=70))
def test_the_names_on_the_page_come_back(names: list[str]) -> None:
    assert open_rounds_on(no_round_page(names).encode()) == names[:64]


@given(st.binary(max_size=300))
def test_whatever_a_page_says_only_names_come_out_of_it(content: bytes) -> None:
    """It goes to a person's terminal."""
    for name in open_rounds_on(b"; anybody may join: " + content):
        assert name.isascii()
        assert name.isprintable()
        assert len(name) <= 64
