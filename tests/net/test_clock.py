"""The clock that the service counts by: the event loop's, whatever somebody does to the machine's."""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from secagg.adapters import net
from secagg.adapters.net.clock import SYSTEM_CLOCK
from secagg.adapters.net.hosted import RECONNECT_SECONDS
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import nap, run

READS_THE_TIME = {"time.time", "time.monotonic", "time.sleep", "time.perf_counter"}
WAITS = {"asyncio.sleep", "asyncio.timeout", "asyncio.timeout_at", "asyncio.wait_for"}


def test_no_other_module_reads_the_time_or_waits_for_it() -> None:
    """A test could not move what it reads by itself."""
    used: dict[str, set[str]] = {}
    for path in sorted(Path(net.__file__).parent.glob("*.py")):
        names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if found := names & (READS_THE_TIME | WAITS):
            used[path.name] = found
    assert used == {
        "clock.py": {"time.time", "time.monotonic", "asyncio.sleep", "asyncio.timeout"},
        # Of other processes, which no test's clock moves.
        "tls_relay.py": {"asyncio.timeout"},
        "tls_workers.py": {"asyncio.sleep", "asyncio.timeout"},
    }


def test_the_system_s_clock_counts_in_the_event_loop_s_time() -> None:
    """Otherwise a limit that is moved to a time of the clock would end at another one."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        assert before <= SYSTEM_CLOCK.monotonic() <= loop.time()
        async with SYSTEM_CLOCK.timeout(600) as patience:
            assert before + 600 <= (patience.when() or 0) <= SYSTEM_CLOCK.monotonic() + 600
        async with SYSTEM_CLOCK.timeout(None) as patience:
            assert patience.when() is None
        await SYSTEM_CLOCK.sleep(0)

    asyncio.run(test())


@pytest.mark.parametrize("seconds", [-1e6, 1e6])
def test_setting_the_machine_s_clock_neither_ends_a_phase_nor_keeps_it_open(
    tmp_path: Path, tls_folder: Path, seconds: float
) -> None:
    """Not in a service that runs, and not in one that is started again."""
    spec = spec_of(4, delta=0.25, seconds=60.0)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            port, clock = host.port, host.clock
            running = [asyncio.create_task(host.member(number).run()) for number in range(3)]
            await host.until("ADVERTISE", arrived=3)
            clock.move(10.0)
            clock.set_wall(seconds)
            await nap()
            assert host.hosted().phase == "ADVERTISE"
            assert host.hosted().seconds_left == pytest.approx(50.0)
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            left = host.hosted().seconds_left
            assert left == pytest.approx(RECONNECT_SECONDS if seconds > 0 else 60.0)
            clock.move(left - 1.0)
            await nap()
            assert host.hosted().phase == "ADVERTISE"
            host.end_phase()
            for total in await asyncio.gather(*running):
                check_total(total, range(3))

    run(test)


def test_a_restarted_service_leaves_a_phase_the_time_that_it_had(tmp_path: Path, tls_folder: Path) -> None:
    spec = spec_of(4, seconds=60.0)

    async def test() -> None:
        for moved, left in ((10.0, 60.0), (25.0, 50.0), (0.0, 25.0), (24.0, 25.0), (0.0, RECONNECT_SECONDS)):
            async with hosting([spec], tmp_path, tls_folder) as host:
                assert host.hosted().seconds_left == pytest.approx(left)
                host.clock.move(moved)

    run(test)


def test_a_test_that_waits_for_a_time_that_nobody_moves_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="a time that nobody moves"):
        run(lambda: asyncio.sleep(3600), seconds=0.1)
