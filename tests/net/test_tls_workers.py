"""``secagg serve --workers``: other processes end TLS, and a round bears the loss of any of them."""

from __future__ import annotations

import asyncio
import errno
import sys
import time
from pathlib import Path

import psutil
import pytest

from secagg import ParameterError
from secagg.adapters.net.relayed import RelayedConnection
from secagg.adapters.net.tls_workers import TlsWorkers, WorkerFiles
from tests.support.rounds_of_processes import Stage, Start

LIMIT_SECONDS = 30.0


def relays_of(server_pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(server_pid).children() if "tls_relay" in " ".join(child.cmdline())]


def await_relays(server_pid: int, number: int, without: set[int]) -> list[psutil.Process]:
    """So many workers, none of them one of those."""
    limit = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < limit:
        found = [relay for relay in relays_of(server_pid) if relay.pid not in without]
        if len(found) == number:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {number} workers of {server_pid} in {LIMIT_SECONDS} seconds")


def test_workers_and_the_server_are_killed_in_a_round_and_nothing_is_lost(
    start: Start, tmp_path: Path, tls_folder: Path
) -> None:
    stage = Stage(
        start,
        tmp_path,
        tls_folder,
        members=4,
        rounds=("one",),
        threat="semi_honest",
        delta=0.0,
        deadline=40,
        workers=2,
        give_up_after=40,
    )
    server = stage.serve()
    for member in range(3):
        stage.join("one", member)
    # A worker first, then the server while another one serves; the last member has not come yet.
    assert server.await_log("listening")
    first = await_relays(server.pid, 2, set())
    first[0].kill()
    assert server.await_log("worker-ended")
    await_relays(server.pid, 2, {first[0].pid})
    orphans = relays_of(server.pid)
    assert server.kill()
    gone, alive = psutil.wait_procs(orphans, LIMIT_SECONDS)  # their standard input has ended
    assert not alive
    assert len(gone) == 2
    again = stage.serve()
    stage.join("one", 3)
    stage.check_the_end(complete=True)
    assert not relays_of_ended(again.pid)


def relays_of_ended(server_pid: int) -> list[int]:
    """Workers that outlived their server, which are children of another process then."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "ppid"])
        if "tls_relay" in " ".join(process.info["cmdline"] or ()) and process.info["ppid"] in (1, server_pid)
    ]


def test_a_worker_whose_certificate_file_has_changed_does_not_serve(
    tls_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A login is bound to the certificate that the main process knows."""
    files = WorkerFiles(
        processes=1, certificate=tls_folder / "server.pem", key=tls_folder / "server.key", fingerprint=bytes(32)
    )
    workers = TlsWorkers(files, lambda count: None)

    async def until_one_has_ended() -> None:
        running = workers.running([], str(tmp_path / "none"), 10, 5.0)
        entering = asyncio.create_task(running.__aenter__())
        async with asyncio.timeout(LIMIT_SECONDS):
            while workers.restarts == 0:
                await asyncio.sleep(0.02)
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)

    asyncio.run(until_one_has_ended())
    assert workers.status() == {"processes": 1, "ready": 0, "restarts": workers.restarts}
    assert {record.fields["exit_code"] for record in caplog.records if record.message == "worker-ended"} == {3}  # type: ignore[attr-defined]


def test_a_worker_that_cannot_be_started_is_tried_again_and_told_of(
    tls_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that has no process to spare once lost that worker for good, without a word."""
    files = WorkerFiles(
        processes=1, certificate=tls_folder / "server.pem", key=tls_folder / "server.key", fingerprint=bytes(32)
    )
    workers, tries = TlsWorkers(files, lambda count: None), asyncio.Event()

    async def no_process(*arguments: object, **options: object) -> None:
        if any(record.message == "worker-not-started" for record in caplog.records):
            tries.set()
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    async def until_it_is_tried_again() -> None:
        running = workers.running([], str(tmp_path / "none"), 10, 5.0)
        entering = asyncio.create_task(running.__aenter__())
        async with asyncio.timeout(LIMIT_SECONDS):
            await tries.wait()
        entering.cancel()
        await asyncio.gather(entering, return_exceptions=True)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", no_process)
    asyncio.run(until_it_is_tried_again())
    assert "Resource temporarily unavailable" in {record.fields["why"] for record in caplog.records}  # type: ignore[attr-defined]


class Transport(asyncio.Transport):
    """Notes whether it was dropped."""

    aborted = False

    def abort(self) -> None:
        self.aborted = True


def connection() -> tuple[RelayedConnection, list[bytes], Transport]:
    """One without a service behind it, and what its parser is given."""
    made = RelayedConnection.__new__(RelayedConnection)
    made._first_line, made._peer = b"", None
    transport, given = Transport(), []
    made.transport = transport
    return made, given, transport


@pytest.mark.parametrize("cut", range(1, 24))
def test_the_first_line_of_a_worker_is_the_peer_s_address(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, given, _ = connection()
    monkeypatch.setattr(
        "secagg.adapters.net.policing.PolicedConnection.data_received", lambda _, data: given.append(data)
    )
    sent = b"2001:db8::7 50123\nGET / HTTP/1.1\r\n"
    made.data_received(sent[:cut])
    made.data_received(sent[cut:])
    assert made.remote_address == ("2001:db8::7", 50123)
    assert b"".join(given) == b"GET / HTTP/1.1\r\n"


def test_a_connection_without_that_line_is_dropped() -> None:
    made, given, transport = connection()
    made.data_received(b"x" * 129)
    assert transport.aborted
    assert made.remote_address is None
    assert not given


def test_workers_need_a_certificate_and_a_system_with_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ParameterError, match="0 workers: give 1 or more"):
        WorkerFiles(processes=0, certificate=Path("a"), key=Path("b"), fingerprint=b"")
    monkeypatch.delattr(asyncio, "open_unix_connection")
    with pytest.raises(ParameterError, match=f"2 workers: this system \\({sys.platform}\\) has no Unix sockets"):
        WorkerFiles(processes=2, certificate=Path("a"), key=Path("b"), fingerprint=b"")
