"""A last answer that a member withholds, because of whom the sum would be of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from secagg import Identity, ThreatModel
from secagg.errors import DisclosureError
from tests.support.hosting import check_total, hosting, spec_of
from tests.support.moved_clock import eventually, run


def refuses(asked: list[tuple[int, ...]]) -> Callable[[tuple[int, ...]], None]:
    def may_reveal(survivors: tuple[int, ...]) -> None:
        asked.append(survivors)
        raise DisclosureError("member 3 was in an earlier sum")

    return may_reveal


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_last_answer_that_is_withheld(threat_model: ThreatModel, tmp_path: Path, tls_folder: Path) -> None:
    """R-JOIN-6: nothing leaves but an ABORT, and there is no sum when all withhold; what was not given stays free."""
    identities = [Identity.generate() for _ in range(3)]
    active = threat_model is ThreatModel.ACTIVE
    asked: list[tuple[int, ...]] = []

    async def test() -> None:
        async with hosting([spec_of(3, identities=identities, active=active)], tmp_path, tls_folder) as host:
            sent: list[str] = []
            hosted = host.hosted()
            directory = {"directory": hosted.spec.directory} if active else {}
            members = [host.member(n, identity=identities[n], may_reveal=refuses(asked), **directory) for n in range(3)]
            for member in members:
                push = member._store.push
                member._store.push = lambda phase, data, push=push: (sent.append(phase), push(phase, data))[1]
            ends = await asyncio.gather(*(member.run() for member in members), return_exceptions=True)
            assert all(isinstance(end, DisclosureError) for end in ends), ends
            assert asked == [(0, 1, 2)] * 3
            assert "UNMASK" not in sent
            assert sent.count("ABORT") == 3
            await eventually(lambda: hosted.ending is not None)
            assert hosted.ending.failure
            assert [member._store.load().over for member in members] == ["member 3 was in an earlier sum"] * 3

    run(test)
    assert asked


def test_one_member_alone_does_not_stop_the_others(tmp_path: Path, tls_folder: Path) -> None:
    """Its threshold of shares comes together without it; it is in the sum, and gets none."""
    asked: list[tuple[int, ...]] = []

    async def test() -> None:
        async with hosting([spec_of(5, delta=0.2)], tmp_path, tls_folder) as host:
            first = asyncio.create_task(host.member(0, may_reveal=refuses(asked)).run())
            others = [host.member(n).run() for n in range(1, 5)]
            end, *totals = await asyncio.gather(first, *others, return_exceptions=True)
            assert isinstance(end, DisclosureError)
            for total in totals:
                check_total(total, range(5))

    run(test)
