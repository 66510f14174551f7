"""Strangers that take connections and never say a word: how many files they hold, and what the service does then."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from secagg.adapters.net import doors
from secagg.adapters.net.frames import Refusal
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.service import Limits
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import eventually, run


def silent(door: socket.socket) -> socket.socket:
    """A socket that is to connect, and to say nothing."""
    made = socket.socket(door.family)
    made.setblocking(False)
    return made


async def is_dropped(stranger: socket.socket) -> bool:
    """Waits until the server hangs up."""
    try:
        return await asyncio.get_running_loop().sock_recv(stranger, 1) == b""
    except ConnectionError:
        return True


@contextmanager
def no_files() -> Iterator[None]:
    """Every file that the process may open is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    lowest = os.open(os.devnull, os.O_RDONLY)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 30, hard))
    try:
        os.close(lowest)
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_a_round_whose_port_is_taken_is_not_begun(tmp_path: Path, tls_folder: Path) -> None:
    """Its deadlines would run out while nobody can connect."""
    spec = spec_of(3)

    async def scenario() -> None:
        with socket.create_server(("localhost", 0)) as taken, pytest.raises(OSError, match="in use"):
            async with hosting([spec], tmp_path, tls_folder, port=taken.getsockname()[1]):
                pass
        with closing(Journal(tmp_path / "journal.sqlite")) as journal:
            assert journal.load(spec.name) is None

    run(scenario)


def test_connections_that_say_nothing_are_counted_from_the_start(tmp_path: Path, tls_folder: Path) -> None:
    """Before TLS, and before any request; those beyond twice the limit are dropped, and their places come back."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        with ExitStack() as strangers:
            async with hosting([spec_of(3)], tmp_path, tls_folder, limits=Limits(connections=4)) as host:
                silent_ones = [strangers.enter_context(silent(host.door)) for _ in range(20)]
                for stranger in silent_ones:
                    await loop.sock_connect(stranger, host.door.getsockname())
                dropped = [asyncio.create_task(is_dropped(stranger)) for stranger in silent_ones]
                await eventually(lambda: sum(task.done() for task in dropped) == 12)
                assert host.service.status()["refused"] == {Refusal.SERVER_BUSY: 12}
                for task in dropped:
                    task.cancel()
                await asyncio.gather(*dropped, return_exceptions=True)
                strangers.close()
                for total in await asyncio.gather(*(host.member(number).run() for number in range(3))):
                    check_total(total, range(3))

    run(test)


def test_without_a_file_to_spare_the_service_goes_on(tmp_path: Path, tls_folder: Path) -> None:
    """Others have opened every file of the process: who comes is dropped, and let in when there are files again."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            with silent(host.door) as first, silent(host.door) as second, no_files():
                for stranger in (first, second):
                    await loop.sock_connect(stranger, host.door.getsockname())
                    assert await is_dropped(stranger)
                assert host.service.status()["refused"] == {Refusal.SERVER_BUSY: 2}
            for total in await asyncio.gather(*(host.member(number).run() for number in range(3))):
                check_total(total, range(3))

    run(test)


def test_connections_leave_the_process_files_of_its_own() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, hard))
        assert doors.most_accepted(100) == 200
        assert doors.most_accepted(100_000) == 600 - 128
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


LATE_IMPORTS = """
import asyncio, sys
from pathlib import Path
from tests.support.hosting import LAYOUT, arrays_of, hosting, spec_of
from tests.support.moved_clock import run
from secagg import Identity
from secagg.adapters.net.certificates import make_demo_certificate
from secagg.pairwise.policy import Policy

folder, active = Path(sys.argv[1]), sys.argv[2] == "active"
make_demo_certificate(folder)
LAYOUT.encoder_for(arrays_of(0)).encode(arrays_of(0))  # the members' own kernels

def loaded():
    return {name for name in sys.modules if name.startswith(("numba.", "llvmlite", "secagg.arithmetic"))}

async def main():
    identities = [Identity.generate() for _ in range(3)]
    spec = spec_of(3, active=active, identities=identities)
    async with hosting([spec], folder, folder) as host:
        before = loaded()
        assert "numba.np.arrayobj" in before
        policy = Policy(threat_model=spec.config.threat_model, min_survivors=3)
        directory = spec.directory if active else None
        await asyncio.gather(
            *(host.member(n, identity=identities[n], policy=policy, directory=directory).run() for n in range(3))
        )
    return sorted(loaded() - before)

async def printed():
    print(await main())

run(printed)
"""


@pytest.mark.parametrize("threat", ["semi_honest", "active"])
def test_kernels_are_there_before_the_first_connection(tmp_path: Path, threat: str) -> None:
    """A service that imports them for its first message finds no file to read them from, when strangers hold all."""
    done = subprocess.run(
        [sys.executable, "-c", LATE_IMPORTS, str(tmp_path), threat],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[]\n", done.stderr
