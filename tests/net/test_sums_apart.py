"""A server's ledger: the survivors of a round are told to nobody when earlier sums, taken off, would lay one bare."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from secagg import Identity, ParameterError, Policy, ThreatModel
from secagg.adapters.net.frames import RefusedError
from secagg.adapters.net.keeping_apart import SumsApart
from secagg.cli.difference_options import asks
from secagg.differencing import DifferenceLedger, DifferenceLedgerError
from secagg.errors import DisclosureError
from tests.support.hosting import Hosting, hosting, spec_of
from tests.support.moved_clock import eventually, run

IDENTITIES = [Identity.generate() for _ in range(6)]
KEYS = [identity.public_key.hex() for identity in IDENTITIES]


def spec(name: str, active: bool) -> Any:
    rates = {"gamma": 1 / 6, "delta": 1 / 6, "min_survivors": 4}
    return spec_of(6, name=name, identities=IDENTITIES, active=active, **rates)


async def one_round(host: Hosting, name: str, there: Sequence[int], **options: Any) -> list[Any]:
    """The ends of the members that come; the others are lost in MASK, as far as the server can see: they never do."""
    hosted = host.hosted(name)
    directory = {"directory": hosted.spec.directory} if hosted.config.threat_model.signs else {}
    tasks = [
        asyncio.create_task(host.member(n, name=name, identity=IDENTITIES[n], again=True, **directory, **options).run())
        for n in there
    ]
    if len(there) < 6:
        await host.until("ADVERTISE", len(there), name)
        host.end_phase(name)
    return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("threat_model", ThreatModel)
def test_a_round_that_would_lay_one_bare_has_no_sum(
    threat_model: ThreatModel, tmp_path: Path, tls_folder: Path
) -> None:
    ledger = DifferenceLedger()
    specs = [spec(name, threat_model.signs) for name in ("first", "second", "third")]

    async def test() -> None:
        async with hosting(specs, tmp_path, tls_folder, sums_apart=SumsApart(ledger, 2)) as host:
            assert not any(isinstance(end, Exception) for end in await one_round(host, "first", range(6)))
            assert ledger.classes().members() == (tuple(sorted(KEYS)),)
            assert not any(isinstance(end, Exception) for end in await one_round(host, "second", range(6)))
            assert ledger.rounds() == 1, "the same set adds nothing"
            for end in await one_round(host, "third", range(5)):  # its deadline is the last that the clock passes
                assert isinstance(end, RefusedError)
                assert f"tell of {KEYS[5]} alone: at least 2 must always be in and out together" in str(end)
            hosted = host.hosted("third")
            await eventually(lambda: hosted.ending is not None)
            assert "the sum must not be opened" in hosted.ending.failure
            assert ledger.rounds() == 1, "nothing was recorded"

    run(test)


def test_colluders_are_counted_where_nobody_says_how_many_must_stay_together(tmp_path: Path, tls_folder: Path) -> None:
    """One of six colludes: three must be in and out together, and one that is left out is fewer."""
    ledger = DifferenceLedger()
    ledger.record([KEYS[:4]], 1)

    async def test() -> None:
        async with hosting([spec("next", False)], tmp_path, tls_folder, sums_apart=SumsApart(ledger)) as host:
            for end in await one_round(host, "next", range(6)):
                assert isinstance(end, RefusedError)
                assert "at least 3 must always be in and out together" in str(end)

    run(test)


@pytest.mark.parametrize("active", [False, True])
def test_a_server_that_is_started_again_asks_before_it_goes_on(active: bool, tmp_path: Path, tls_folder: Path) -> None:
    """It stopped when the survivors were in the journal, and not yet in the ledger."""
    ledger = DifferenceLedger()
    ledger.record([KEYS], 2)
    asked = asyncio.Event()

    def stop(survivors: tuple[int, ...]) -> None:
        asked.set()
        raise RuntimeError("the member stops here, and the server next")

    async def test() -> None:
        async with hosting([spec("round", active)], tmp_path, tls_folder) as host:
            ends = await one_round(host, "round", range(5), may_reveal=stop)
            assert all(isinstance(end, RuntimeError) for end in ends), ends
            assert host.hosted("round").phase == "UNMASK"
        async with hosting([spec("round", active)], tmp_path, tls_folder, sums_apart=SumsApart(ledger, 2)) as host:
            hosted = host.hosted("round")
            await eventually(lambda: hosted.ending is not None)
            assert f"tell of {KEYS[5]} alone" in hosted.ending.failure

    run(test)


def test_a_ledger_that_cannot_be_written_stops_the_server(tmp_path: Path, tls_folder: Path) -> None:
    """As the journal does: what is not recorded may not be opened."""

    class Full:
        def record(self, sums: object, min_difference: int) -> None:
            raise DifferenceLedgerError("no space left")

    async def test() -> None:
        full: Any = Full()
        async with hosting([spec("round", False)], tmp_path, tls_folder, sums_apart=SumsApart(full, 2)) as host:
            await one_round(host, "round", range(6), give_up_seconds=5.0)

    with pytest.raises(DifferenceLedgerError, match="no space left"):
        run(test)


def test_every_group_of_a_round_has_a_sum_of_its_own(tmp_path: Path, tls_folder: Path) -> None:
    ledger = DifferenceLedger()
    config = {"gamma": 0, "delta": 0, "min_survivors": None, "groups": 2, "version": 2}
    grouped = spec_of(6, name="grouped", identities=IDENTITIES, **config)
    policy = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.0, min_survivors=3, max_groups=2)

    async def test() -> None:
        async with hosting([grouped], tmp_path, tls_folder, sums_apart=SumsApart(ledger)) as host:
            ends = await one_round(host, "grouped", range(6), policy=policy)
            assert not any(isinstance(end, Exception) for end in ends), ends
            assert [len(members) for members in ledger.classes().members()] == [3, 3]
            assert ledger.rounds() == 2

    run(test)


def test_members_without_a_directory_are_not_known_again(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of(3)], tmp_path, tls_folder, sums_apart=SumsApart(DifferenceLedger(), 2)):
            raise AssertionError("the service listens")

    with pytest.raises(ParameterError, match="give the round a directory, or leave the ledger out"):
        run(test)


def test_a_members_own_ledger_withholds_its_last_answer(tmp_path: Path, tls_folder: Path) -> None:
    ledger = DifferenceLedger()
    may_reveal = asks(ledger, [f"m{seat}" for seat in range(6)], 2)

    async def test() -> None:
        async with hosting([spec("first", False), spec("second", False)], tmp_path, tls_folder) as host:
            assert not any(
                isinstance(end, Exception) for end in await one_round(host, "first", range(6), may_reveal=may_reveal)
            )
            for end in await one_round(host, "second", range(5), may_reveal=may_reveal):
                assert isinstance(end, DisclosureError)
                assert "tell of m5 alone" in str(end)
                assert "(--min-difference)" in str(end)

    run(test)
    with pytest.raises(DisclosureError, match="a member on seat 6, and the directory lists 6"):
        may_reveal((0, 1, 6))
