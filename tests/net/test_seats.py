"""Open seats: bound by an accepted ADVERTISE, given back without one, so that nobody costs the others their round."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secagg import Identity, InputError, PeerError, Policy
from secagg.adapters.net.frames import ABORT, Ack, Message, RefusedError, Submission
from secagg.adapters.net.seats import Seats
from secagg.adapters.net.store import ClientStore
from secagg.errors import AbortCode
from secagg.pairwise import messages
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import eventually, run
from tests.support.raw_connections import logged_in, read_to_the_end


def test_who_only_looks_in_burns_no_seat(tmp_path: Path, tls_folder: Path) -> None:
    """Wrong files, refused configs, and clients that vanish, more than there are seats; then the others come."""

    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            for _ in range(5):
                async with logged_in(host, Identity.generate()):
                    pass
            for number, changes in enumerate(
                [
                    {"arrays": {"w": np.zeros((4, 4)), "b": np.zeros(5)}},
                    {"arrays": {"w": np.full((4, 3), np.nan), "b": np.zeros(5)}},
                    {"policy": Policy(min_survivors=4)},
                    {"policy": Policy(gamma=0.9)},
                ]
            ):
                wrong: dict[str, Any] = changes
                with pytest.raises((InputError, PeerError)):
                    await host.member(100 + number, **wrong).run()
            await eventually(lambda: not host.hosted().seats.taken)
            for total in await asyncio.gather(*(host.member(number).run() for number in range(3))):
                check_total(total, range(3))
            await host.service.finished(5)
            assert host.hosted().to_inform == {0, 1, 2}, "nobody waits for those that are gone"

    run(test)


@pytest.mark.parametrize("lie", ["an ABORT", "ADVERTISE messages that are none"])
def test_a_client_that_lies_on_an_offered_seat_ends_nothing(tmp_path: Path, tls_folder: Path, lie: str) -> None:
    """What it sends would count for the seat, which is another client's next: an ABORT would end it for good."""

    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder) as host:
            for _ in range(4):
                async with logged_in(host, Identity.generate()) as bad:
                    invitation = await bad.receive()
                    assert isinstance(invitation, Message)
                    await bad.payload(invitation.size)
                    round_id = host.hosted()._server._round.round_id
                    if lie == "an ABORT":
                        data = messages.encode_abort(1, round_id, AbortCode.CONFIG_REFUSED)
                        await bad.send(Submission(1, ABORT, len(data)), data)
                        while not isinstance(await bad.receive(), Ack):
                            pass
                    else:
                        for number in range(5):
                            await bad.send(Submission(number, "ADVERTISE", 5), b"wrong")
                        await read_to_the_end(bad)
            for total in await asyncio.gather(*(host.member(number).run() for number in range(3))):
                check_total(total, range(3))
            assert host.hosted().standing.records == ()

    run(test)


def test_a_seat_is_bound_by_an_accepted_advertise(tmp_path: Path, tls_folder: Path) -> None:
    """Also over a restart of the server, and when its client is gone: nobody else gets it."""
    spec = spec_of(3, seconds=60.0)

    async def test() -> None:
        async with hosting([spec], tmp_path, tls_folder) as host:
            first = asyncio.create_task(host.member(0).run())
            await eventually(lambda: len(host.hosted().seats.bound) == 1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await eventually(lambda: host.service.status()["logged_in"] == 0)
            assert len(host.hosted().seats.bound) == 1
            port = host.port
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            assert len(host.hosted().seats.bound) == 1
            async with AsyncExitStack() as stack:
                for _ in range(2):
                    await stack.enter_async_context(logged_in(host, Identity.generate()))
                with pytest.raises(RefusedError, match="all 3 seats"):
                    await host.member(9).run()
            await eventually(lambda: len(host.hosted().seats.taken) == 1)
            for total in await asyncio.gather(*(host.member(number).run() for number in range(3))):
                check_total(total, range(3))

    run(test)


def test_a_client_whose_line_broke_gets_its_seat_again(tmp_path: Path, tls_folder: Path) -> None:
    """Its stored message is for that seat: it has to be the same one, also when the server was restarted meanwhile."""
    spec = spec_of(4, seconds=60.0)

    class BrokenError(Exception):
        pass

    class BreaksOnce(ClientStore):  # type: ignore[misc]
        broken = False

        def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
            waiting: list[tuple[int, str, bytes]] = super().unsent(after)
            if waiting and not self.broken:
                self.broken = True
                raise BrokenError
            return waiting

    async def test() -> None:
        store = BreaksOnce(tmp_path / "broken.state")
        async with hosting([spec], tmp_path, tls_folder) as host:
            async with logged_in(host, Identity.generate()):  # it has seat 0, so that the other one has seat 1
                with pytest.raises(BrokenError):
                    await host.member(1, store=store).run()
            async with logged_in(host, Identity.generate()):
                pass
            port = host.port
        async with hosting([spec], tmp_path, tls_folder, port=port) as host:
            totals = await asyncio.gather(
                host.member(1, store=store).run(), *(host.member(number).run() for number in (0, 2, 3))
            )
            assert totals[0].seat == 1
            check_total(totals[0], range(4))

    run(test)


def test_free_seats_are_offered_before_those_that_somebody_may_come_back_to() -> None:
    seats = Seats(3, None)
    keys = [bytes([number]) for number in range(5)]
    assert seats.offer(keys[0]) == 0
    with seats.used(0):
        with seats.used(0):
            pass
        assert seats.of(keys[0]) == 0, "its other connection is still there"
    assert seats.of(keys[0]) is None
    assert [seats.offer(key) for key in keys[1:4]] == [1, 2, 0]
    assert seats.offer(keys[4]) is None
    seats.bind(1)
    for seat in range(3):
        with seats.used(seat):
            pass
    assert seats.taken == seats.bound == {1}
    assert seats.offer(keys[2]) == 2
    assert seats.offer(keys[3]) == 0


def test_a_directory_s_seats_are_never_given_back() -> None:
    keys = [b"a", b"b"]
    seats = Seats(2, keys)
    with seats.used(1):
        pass
    assert seats.of(b"b") == 1
    assert seats.taken == seats.bound == {0, 1}
