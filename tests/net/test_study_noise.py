"""Studies with noise over sockets: what each round costs whom, and who is refused before anything leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from secagg import ParameterError, Policy, ThreatModel
from secagg.adapters.net.frames import RefusedError
from secagg.adapters.net.membership import MemberOptions
from secagg.adapters.net.round_spec import PHASES
from secagg.adapters.net.study_member import StudyMember
from secagg.adapters.net.study_session import StudyRounds, StudySession
from secagg.errors import DisclosureError
from secagg.privacy.budget import Budget, BudgetExceededError, Spent
from secagg.statistics import Site, Study
from tests.support.hospitals import Frame, split
from tests.support.hosting import Hosting, hosting
from tests.support.moved_clock import passing, run

TEXT = """
name = "Ages"
[columns.age]
type = "whole"
min = 0
max = 120
[methods.ages]
method = "quantiles"
of = "age"
bins = 11
rounds = 2
"""
NOISE = "[noise]\nepsilon = 1.0\ndelta = 1e-6\n"
STUDY = Study.from_toml(TEXT + NOISE)
FRAMES = list(split(pd.DataFrame({"age": np.random.default_rng(7).integers(18, 99, 900)}), 3).values())
CONFIG = {"threat_model": "semi_honest", "min_survivors": 3, "delta": 0.0}
ROUNDS = StudyRounds(name="study", clients=3, deadlines=dict.fromkeys(PHASES, 20.0), config=CONFIG)


def member_of(host: Hosting, number: int, budget: Budget | None = None, folder: Path | None = None) -> StudyMember:
    site = Site(STUDY, Frame(STUDY, FRAMES[number]))
    site.check()
    return StudyMember(
        site,
        MemberOptions(
            url=f"{host.url}/study",
            tls=host.tls,
            give_up_seconds=60.0,
            policy=Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3),
            privacy_budget=budget,
        ),
        (folder or host.folder) / f"site{number}",
        clock=host.clock,
    )


@contextmanager
def budgets(folder: Path, *epsilons: float) -> Iterator[list[Budget]]:
    with ExitStack() as opened:
        yield [
            opened.enter_context(closing(Budget(folder / f"{number}.budget", epsilon=epsilon, delta=1e-6)))
            for number, epsilon in enumerate(epsilons)
        ]


def spent_in(folder: Path) -> Spent:
    (path,) = folder.glob("*.budget")
    with closing(Budget(path)) as budget:
        return budget.spent()


def test_each_round_is_charged_to_whoever_has_a_budget_and_to_the_study(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        session = StudySession(STUDY, ROUNDS)
        with budgets(tmp_path, 2.0, 1.5) as (at_server, at_member):
            async with hosting([session.first], tmp_path, tls_folder, privacy_budget=at_server) as host:
                members = [member_of(host, 0, at_member), member_of(host, 1), member_of(host, 2)]
                result, *others = await asyncio.gather(session.run(host.service), *(member.run() for member in members))
            assert len(result.rounds) == 2
            for other in others:
                assert other.methods["ages"].result.values == result.methods["ages"].result.values
                assert other.privacy == result.privacy
            assert result.privacy is not None
            assert 0.9 < result.privacy.reached <= 1
            assert at_server.spent().rounds == at_member.spent().rounds == 2
            assert result.privacy.reached <= at_member.spent().epsilon <= 1
        for number in (1, 2):
            spent = spent_in(tmp_path / f"site{number}")
            assert (spent.rounds, spent.limit) == (2, 1.0)

    run(test)


def test_a_member_without_room_leaves_before_anything_of_it_is_sent(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        session = StudySession(STUDY, ROUNDS)
        with budgets(tmp_path, 0.2) as (budget,):
            async with hosting([session.first], tmp_path, tls_folder) as host:
                with pytest.raises(BudgetExceededError):
                    await member_of(host, 0, budget).run()
                assert host.hosted("study.1").progress().arrived == 0
            assert budget.spent().rounds == 0

    run(test)


def test_a_server_that_begins_anew_gets_no_more_answers_than_the_study_promises(
    tmp_path: Path, tls_folder: Path
) -> None:
    """Noise that is drawn again for the same records could be averaged away."""

    async def test() -> None:
        port = 0
        for attempt in ("first", "second"):
            place = tmp_path / attempt
            place.mkdir()
            session = StudySession(STUDY, ROUNDS)
            async with hosting([session.first], place, tls_folder, port=port) as host:
                port = host.port
                tasks = [asyncio.create_task(member_of(host, number, folder=tmp_path).run()) for number in range(3)]
                asked = asyncio.create_task(session.run(host.service))
                found = await asyncio.gather(*tasks, return_exceptions=True)
                asked.cancel()
                await asyncio.gather(asked, return_exceptions=True)
            if attempt == "second":
                assert [type(one) for one in found] == [BudgetExceededError] * 3
            else:
                assert not any(isinstance(one, BaseException) for one in found)

    run(test)


def test_a_study_whose_rounds_fail_is_over_for_a_member_when_no_further_one_has_noise(
    tmp_path: Path, tls_folder: Path
) -> None:
    async def test() -> None:
        session = StudySession(STUDY, ROUNDS)
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))
            # The third never comes.
            members = [asyncio.create_task(member_of(host, number).run()) for number in range(2)]
            await passing(lambda: asked.done() and all(member.done() for member in members))
            result = asked.result()
            assert result.failed_rounds == 2
            assert result.privacy is not None
            assert result.privacy.reached > 0.99
            for one in await asyncio.gather(*members, return_exceptions=True):
                assert isinstance(one, RefusedError)

    run(test)


def test_a_server_hosts_no_study_that_its_budget_refuses(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        with budgets(tmp_path, 0.2) as (budget,):
            with pytest.raises(BudgetExceededError):
                async with hosting([StudySession(STUDY, ROUNDS).first], tmp_path, tls_folder, privacy_budget=budget):
                    raise AssertionError("it listens")
            silent = StudySession(Study.from_toml(TEXT), ROUNDS)
            with pytest.raises(ParameterError, match="it has no noise, and the privacy budget"):
                async with hosting([silent.first], tmp_path, tls_folder, privacy_budget=budget):
                    raise AssertionError("it listens")

    run(test)


def test_a_budget_is_for_studies_with_noise(tmp_path: Path) -> None:
    silent = Study.from_toml(TEXT)
    site = Site(silent, Frame(silent, FRAMES[0]))
    with budgets(tmp_path, 1.0) as (budget,):
        options = MemberOptions(url="wss://localhost:1/study", privacy_budget=budget)
        with pytest.raises(DisclosureError, match="the study has no noise"):
            StudyMember(site, options, tmp_path)
