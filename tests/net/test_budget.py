"""The bytes that messages hold in memory: taken as they arrive, so that nobody waits for what was only announced."""

from __future__ import annotations

import asyncio

import pytest

from secagg.adapters.net.budget import ByteBudget
from tests.support.moved_clock import nap, passing, run, the_clock


def test_what_is_only_announced_keeps_nobody_waiting() -> None:
    """Three messages of 100 bytes each that say they are the whole budget: the others pass."""

    async def test() -> None:
        budget = ByteBudget(1000, small=10)
        with budget.message(1000) as first, budget.message(1000) as second, budget.message(1000) as third:
            for idle in (first, second, third):
                await idle.charge(100)
            for _ in range(5):
                with budget.message(600) as honest:
                    await honest.charge(600)
            assert budget.free == 700
        assert budget.free == 1000

    run(test)


def test_messages_that_fill_the_budget_halfway_all_arrive() -> None:
    """The one that lacks least goes beyond it, alone: never are more bytes held than the budget and one message."""

    async def test() -> None:
        budget, least = ByteBudget(1000, small=10), 1000

        async def send(size: int) -> None:
            nonlocal least
            with budget.message(size) as held:
                for _ in range(size // 50):
                    await held.charge(50)
                    least = min(least, budget.free)
                    await asyncio.sleep(0)

        await asyncio.gather(*(send(500 + 50 * number) for number in range(10)))
        assert budget.free == 1000
        assert least >= -950

    run(test)


def test_small_messages_pass_by() -> None:
    async def test() -> None:
        budget = ByteBudget(100, small=10)
        with budget.message(200) as large, budget.message(90) as waiting:
            await large.charge(100)
            turn = asyncio.create_task(waiting.charge(50))
            await asyncio.sleep(0)
            with budget.message(10) as small:
                await small.charge(10)
            turn.cancel()
            await asyncio.gather(turn, return_exceptions=True)
        assert budget.free == 100

    run(test)


def test_who_goes_beyond_the_budget_must_keep_coming() -> None:
    """It came first, and stands still: it is cut off, and its bytes are the others' to take."""

    async def test() -> None:
        clock = the_clock()
        budget = ByteBudget(100, small=1, stall_seconds=5.0, clock=clock)

        async def stall() -> None:
            async with clock.timeout(600) as patience:
                with budget.message(130, patience) as held:
                    await held.charge(80)
                    await held.charge(30)  # beyond the budget: nobody else could
                    await asyncio.Event().wait()

        async def honest() -> None:
            with budget.message(90) as held:
                await held.charge(40)
                await held.charge(50)

        stalling = asyncio.create_task(stall())
        await asyncio.sleep(0)
        waiting = asyncio.create_task(honest())
        await nap()
        clock.move(4.9)
        await nap()
        assert not stalling.done()
        assert not waiting.done()
        clock.move(0.2)
        await waiting
        with pytest.raises(TimeoutError):
            await stalling
        assert budget.free == 100

    run(test)


@pytest.mark.parametrize(("phase_left", "passes"), [(600.0, True), (10.0, False)])
def test_waiting_for_others_costs_no_patience_but_the_phase_ends_all_the_same(phase_left: float, passes: bool) -> None:
    """It has ten seconds, waits for eight of them, and needs eight more itself."""

    async def test() -> None:
        clock = the_clock()
        budget = ByteBudget(100, small=1, stall_seconds=600.0, clock=clock)
        comes = asyncio.Event()

        async def send() -> None:
            async with clock.timeout(10) as patience:
                with budget.message(90, patience, clock.monotonic() + phase_left) as held:
                    await held.charge(50)
                    await comes.wait()
                    await held.charge(40)

        with budget.message(110) as ahead:
            await ahead.charge(100)
            await ahead.charge(1)
            sending = asyncio.create_task(send())
            await nap()
            clock.move(8.0)
            await nap()
        await nap()
        clock.move(8.0)
        await nap()
        assert sending.done() is not passes
        comes.set()
        if passes:
            await sending
        else:
            with pytest.raises(TimeoutError):
                await sending
        assert budget.free == 100

    run(test)


def test_a_byte_now_and_then_is_standing_still_too() -> None:
    """It has sent nearly all of its message, so that it goes first, and holds the others up with what is left."""

    async def test() -> None:
        clock = the_clock()
        budget = ByteBudget(100_000, small=1, stall_seconds=5.0, bytes_per_second=10_000, clock=clock)

        async def dribble() -> None:
            async with clock.timeout(600) as patience:
                with budget.message(51_000, patience) as held:
                    await held.charge(50_000)
                    for _ in range(1000):
                        await held.charge(1)
                        await asyncio.sleep(0.5)  # in the time that the test moves

        async def honest() -> None:
            with budget.message(40_000) as held:
                for _ in range(4):
                    await held.charge(10_000)

        dribbling = [asyncio.create_task(dribble()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting = asyncio.create_task(honest())
        await passing(waiting.done, step=0.5, most=10.0)
        await waiting
        for task in dribbling:
            task.cancel()
        ends = await asyncio.gather(*dribbling, return_exceptions=True)
        assert any(isinstance(end, TimeoutError) for end in ends)
        assert budget.free == 100_000

    run(test)


def test_who_goes_beyond_the_budget_at_the_slowest_pace_arrives() -> None:
    async def test() -> None:
        clock = the_clock()
        budget = ByteBudget(1000, small=1, stall_seconds=5.0, bytes_per_second=40, clock=clock)
        async with clock.timeout(600) as patience:
            with budget.message(1400, patience) as held:
                await held.charge(1000)
                for _ in range(8):
                    await held.charge(50)
                    clock.move(50 / 40)
                    await nap()
        assert budget.free == 1000

    run(test)
