"""A chained round that is aborted in UNMASK: members state that they did not answer, and those that did go on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from secagg import ErrorCode, PeerError
from secagg.adapters.net.frames import Refusal, RefusedError
from secagg.audit import audit
from secagg.certificate_files import read_certificates
from secagg.pairwise.certificate import Certificate
from tests.support.aborted_rounds import STATEMENT_SECONDS, ChainOverNetwork
from tests.support.hosting import Hosting
from tests.support.moved_clock import eventually, run


async def abort_in_unmask(running: Hosting, answering: int, name: str) -> None:
    """Wait for the answers, and let the others' time pass."""
    await running.until("UNMASK", answering, name)
    running.end_phase(name)
    await eventually(lambda: running.hosted(name).progress().phase == "ABORTED")


async def ends_without_a_sum(member: asyncio.Task[object]) -> None:
    with pytest.raises(RefusedError) as refused:
        await member
    assert refused.value.code is Refusal.ROUND_ABORTED


def test_the_cohort_goes_on_behind_an_aborted_round(tmp_path: Path, tls_folder: Path) -> None:
    """One of four answered; the three others say that they did not, and everybody joins the next round."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        cohort.asleep = {1, 2, 3}
        first = cohort.spec("first")
        assert first.config.threshold == 2
        async with cohort.hosting(first) as running:
            members = cohort.start(running, first)
            await abort_in_unmask(running, 1, "first")
            assert running.hosted("first").ending is None
            assert running.hosted("first").progress().expected == 3
            cohort.asleep = set()
            for member in members.values():
                await ends_without_a_sum(member)
        assert cohort.chains[0].is_unsettled(first.config.cohort)
        certificate = Certificate.from_bytes(cohort.files.last)
        assert certificate.members(certificate.silent) == (1, 2, 3)
        second = cohort.spec("second")
        async with cohort.hosting(second) as running:
            totals = await asyncio.gather(*cohort.start(running, second).values())
        assert [total.mean.count for total in totals] == [4] * 4
        history = audit(read_certificates([tmp_path / "certificates"]), directory=first.directory)
        assert [audited.outcome for audited in history.rounds] == ["too-few-clients", "sum"]

    run(test)


def test_too_few_statements_leave_those_that_answered_where_they_are(tmp_path: Path, tls_folder: Path) -> None:
    """Two members never come back: the wait ends by itself, and one statement is not enough for who answered."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        cohort.asleep = {1, 2, 3}
        first = cohort.spec("first")
        async with cohort.hosting(first) as running:
            members = cohort.start(running, first)
            await abort_in_unmask(running, 1, "first")
            members[2].cancel()
            members[3].cancel()
            cohort.asleep = set()
            await running.until("ABORTED", 1, "first")
            assert running.hosted("first").seconds_left == STATEMENT_SECONDS
            running.end_phase("first")
            for number in (0, 1):
                await ends_without_a_sum(members[number])
        certificate = Certificate.from_bytes(cohort.files.last)
        assert certificate.members(certificate.silent) == (1,)
        second = cohort.spec("second")
        async with cohort.hosting(second) as running:
            with pytest.raises(PeerError) as refused:
                await cohort.member(running, second, 0).run()
            assert refused.value.code is ErrorCode.CHAIN_UNSETTLED

    run(test)
