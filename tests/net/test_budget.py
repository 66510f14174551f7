"""The bytes that messages hold in memory: taken as they arrive, so that nobody waits for what was only announced."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from secagg.adapters.net.budget import ByteBudget


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


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
        budget = ByteBudget(100, small=1, stall_seconds=0.05)
        done: list[str] = []

        async def stall() -> None:
            async with asyncio.timeout(20) as patience:
                with budget.message(130, patience) as held:
                    await held.charge(80)
                    await held.charge(30)  # beyond the budget: nobody else could
                    await asyncio.Event().wait()

        async def honest() -> None:
            with budget.message(90) as held:
                await held.charge(40)
                await held.charge(50)
            done.append("honest")

        stalling = asyncio.create_task(stall())
        await asyncio.sleep(0)
        await asyncio.gather(honest())
        assert done == ["honest"]
        with pytest.raises(TimeoutError):
            await stalling
        assert budget.free == 100

    run(test)


def test_waiting_for_others_costs_no_patience_but_the_phase_ends_all_the_same() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        for latest, passes in ((loop.time() + 20, True), (loop.time() + 0.1, False)):
            budget = ByteBudget(100, small=1, stall_seconds=20)
            with budget.message(110) as ahead:
                await ahead.charge(100)
                await ahead.charge(1)

                async def wait(budget: ByteBudget = budget, latest: float = latest) -> None:
                    async with asyncio.timeout(0.1) as patience:
                        with budget.message(90, patience, latest) as held:
                            before = patience.when()
                            await held.charge(50)
                            assert before is not None
                            assert (patience.when() or 0) > before
                            await held.charge(40)

                waiting = asyncio.create_task(wait())
                if passes:
                    await asyncio.sleep(0.02)
                else:
                    with pytest.raises(TimeoutError):
                        await waiting
            if passes:
                await waiting

    run(test)


def test_a_byte_now_and_then_is_standing_still_too() -> None:
    """It has sent nearly all of its message, so that it goes first, and holds the others up with what is left."""

    async def test() -> None:
        budget = ByteBudget(100_000, small=1, stall_seconds=0.05, bytes_per_second=10_000)
        done: list[str] = []

        async def dribble() -> None:
            async with asyncio.timeout(20) as patience:
                with budget.message(51_000, patience) as held:
                    await held.charge(50_000)
                    for _ in range(1000):
                        await held.charge(1)
                        await asyncio.sleep(0.01)

        async def honest() -> None:
            with budget.message(40_000) as held:
                for _ in range(4):
                    await held.charge(10_000)
            done.append("honest")

        dribbling = [asyncio.create_task(dribble()) for _ in range(2)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await honest()
        for task in dribbling:
            task.cancel()
        ends = await asyncio.gather(*dribbling, return_exceptions=True)
        assert any(isinstance(end, TimeoutError) for end in ends)
        assert done == ["honest"]
        assert budget.free == 100_000

    run(test)


def test_who_goes_beyond_the_budget_at_the_slowest_pace_arrives() -> None:
    async def test() -> None:
        budget = ByteBudget(1000, small=1, stall_seconds=0.2, bytes_per_second=1000)
        async with asyncio.timeout(20) as patience:
            with budget.message(1400, patience) as held:
                await held.charge(1000)
                for _ in range(8):
                    await held.charge(50)
                    await asyncio.sleep(0.04)
        assert budget.free == 1000

    run(test)
