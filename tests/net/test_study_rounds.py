"""Studies over sockets: rounds that a service adds while it listens, and sites that refuse what does not follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import (
    ErrorCode,
    Identity,
    MemoryDirectory,
    Modulus,
    ParameterError,
    PeerError,
    Policy,
    RoundConfig,
    ThreatModel,
)
from secagg.adapters.net.frames import Refusal, RefusedError, decode_layout, encode_layout
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.membership import GaveUpError, MemberOptions
from secagg.adapters.net.round_spec import PHASES, RoundSpec
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.study_member import StudyMember
from secagg.adapters.net.study_session import StudyRounds, StudySession
from secagg.arithmetic import unpack
from secagg.errors import DisclosureError
from secagg.statistics import Analyst, Ledger, Question, Site, Study, StudyLayout, StudyResult
from secagg.statistics.analyst import layout_of
from secagg.statistics.layout import INPUT_MAX, RING
from tests.support.cheating_site import cheat
from tests.support.hospitals import Frame, add_up, split
from tests.support.hosting import Hosting, hosting, spec_of
from tests.support.moved_clock import eventually, nap, passing, run

TEXT = """
name = "Ages"
[columns.age]
type = "number"
min = 0
max = 120
[methods.ages]
method = "describe"
of = ["age"]
"""
STUDY = Study.from_toml(TEXT)
FRAMES = split(pd.DataFrame({"age": np.random.default_rng(7).integers(18, 99, 300)}), 6)


def site_of(number: int, study: Study = STUDY) -> Site:
    site = Site(study, Frame(study, list(FRAMES.values())[number]))
    site.check()
    return site


def rounds_of(clients: int = 3, identities: Sequence[Identity] | None = None, *, active: bool = False) -> StudyRounds:
    config: dict[str, Any] = {"threat_model": "active" if active else "semi_honest"}
    config |= {"delta": 0.34} if clients == 6 else {"delta": 0.0 if clients == 3 else 0.25, "min_survivors": 3}
    directory = MemoryDirectory()
    keys = None if identities is None else tuple(identity.public_key for identity in identities)
    if keys is not None:
        config["cohort"] = directory.add(keys) if active else b""
    deadlines = dict.fromkeys(PHASES, 20.0)
    return StudyRounds(
        name="study", clients=clients, deadlines=deadlines, keys=keys, directory=directory, config=config
    )


def member_of(host: Hosting, number: int, *, site: Site | None = None, **options: Any) -> StudyMember:
    given = {"policy": Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3), **options}
    return StudyMember(
        site or site_of(number),
        MemberOptions(url=f"{host.url}/study", tls=host.tls, give_up_seconds=60.0, **given),
        host.folder / f"site{number}",
        clock=host.clock,
    )


def layout_in(spec: RoundSpec) -> StudyLayout:
    assert isinstance(spec.layout, StudyLayout)
    return spec.layout


def study_spec(name: str, layout: StudyLayout) -> RoundSpec:
    """A round of three as a server that does not follow the study makes it."""
    config = RoundConfig.for_cohort(
        3, layout.length, modulus=RING, input_max=INPUT_MAX, context=layout.digest(), delta=0.0, min_survivors=3
    )
    return RoundSpec(name=name, config=config, layout=layout, deadlines=dict.fromkeys(PHASES, 20.0))


def expected(numbers: Sequence[int]) -> Any:
    frames = list(FRAMES.items())
    return add_up(STUDY, dict(frames[number] for number in numbers))["ages"].result.values


@pytest.mark.parametrize("active", [False, True])
def test_three_sites_and_the_analyst_find_what_the_pooled_records_say(
    tmp_path: Path, tls_folder: Path, active: bool
) -> None:
    identities = [Identity.generate() for _ in range(3)] if active else None
    rounds = rounds_of(3, identities, active=active)
    opened: list[str] = []

    async def test() -> None:
        session = StudySession(STUDY, rounds, on_round=lambda spec: opened.append(spec.name))
        async with hosting([session.first], tmp_path, tls_folder) as host:
            policy = Policy(
                threat_model=ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3
            )
            members = [
                member_of(
                    host,
                    number,
                    policy=policy,
                    identity=None if identities is None else identities[number],
                    directory=rounds.directory if active else None,
                )
                for number in range(3)
            ]
            results = await asyncio.gather(session.run(host.service), *(member.run() for member in members))
            await host.service.finished(60.0)
            for result in results:
                assert result.methods["ages"].result.values == expected(range(3))
                assert len(result.rounds) == len(opened) > 1

    run(test)
    assert opened == [f"study.{number}" for number in range(1, len(opened) + 1)]


@pytest.mark.parametrize("difference", [1, 2])
def test_a_site_that_vanishes_between_two_rounds_is_missing_from_the_second_or_ends_the_study(
    tmp_path: Path, tls_folder: Path, difference: int
) -> None:
    """Where sums may not differ in a single site, analyst and sites end the study with what they have."""
    study = Study.from_toml(f"{TEXT}[release]\nmin_difference = {difference}\n")

    async def test() -> None:
        session = StudySession(study, rounds_of(4))
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))
            members = [member_of(host, number, site=site_of(number, study)) for number in range(4)]
            tasks = [asyncio.create_task(member.run()) for member in members]
            await eventually(lambda: "study.2" in host.service.rounds or host.hosted("study.1").phase == "UNMASK")
            tasks[3].cancel()
            await passing(asked.done)
            await passing(lambda: all(task.done() for task in tasks))
            result = asked.result()
            assert len(result.rounds[0].sites) == 4
            assert len(result.rounds[-1].sites) == (3 if difference == 1 else 4)
            assert session.is_whole == (difference == 1)
            assert bool(result.methods["ages"].result.withheld) == (difference == 2)
            for task in tasks[:3]:
                assert task.result().methods["ages"].result.values == result.methods["ages"].result.values

    run(test)


@pytest.mark.parametrize("last", [1, 9])
def test_a_site_that_sends_what_no_site_makes_costs_a_round_and_at_last_the_study(
    tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    honest = expected(range(3))
    cheat(monkeypatch, last)

    async def test() -> None:
        session = StudySession(STUDY, rounds_of())
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))
            tasks = [asyncio.create_task(member_of(host, number).run()) for number in range(3)]
            await eventually(lambda: all(task.done() for task in (asked, *tasks)))
            assert session.is_whole == (last == 1)
            if last == 1:
                assert asked.result().failed_rounds == 1
                for task in (asked, *tasks):
                    assert task.result().methods["ages"].result.values == honest
            else:
                assert (asked.result().failed_rounds, asked.result().rounds) == (3, ())
                assert "a site sent what no site makes" in asked.result().methods["ages"].result.withheld
                for task in tasks:
                    assert "a site sent what no site makes" in str(task.exception())

    run(test)


STEPS_TEXT = TEXT.replace('method = "describe"\nof = ["age"]', 'method = "quantiles"\nof = "age"\nbins = 5\nrounds = 3')
STEPS = Study.from_toml(STEPS_TEXT)


async def goes_on_without(host: Hosting, name: str, lost: set[int], until: Callable[[], bool]) -> None:
    """Let time pass to the deadlines of a round only where it waits for nobody else."""
    while not until():
        if name in host.service.rounds and (awaited := set(host.hosted(name).awaited)) and awaited <= lost:
            host.end_phase(name)
        await nap()


def test_sites_that_are_lost_in_one_round_are_in_the_next_one(tmp_path: Path, tls_folder: Path) -> None:
    """Two of six vanish together and come back by the directory; what was released in between stays."""
    identities = [Identity.generate() for _ in range(6)]

    async def test() -> None:
        session = StudySession(STEPS, rounds_of(6, identities))
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))

            def started(number: int) -> asyncio.Task[StudyResult]:
                member = member_of(host, number, site=site_of(number, STEPS), identity=identities[number])
                return asyncio.create_task(member.run())

            tasks = [started(number) for number in range(6)]
            await eventually(lambda: "study.2" in host.service.rounds)
            for task in tasks[4:]:
                task.cancel()
            await asyncio.gather(*tasks[4:], return_exceptions=True)
            await goes_on_without(host, "study.2", {4, 5}, lambda: "study.3" in host.service.rounds)
            tasks[4:] = [started(number) for number in (4, 5)]
            results = await asyncio.gather(asked, *tasks)
            assert [len(one.sites) for one in results[0].rounds] == [6, 4, 6]
            for result in results:
                assert result.methods["ages"].result.values == results[0].methods["ages"].result.values
                assert result.rounds[1].sites != result.rounds[2].sites

    run(test)


def test_sites_that_the_last_round_goes_on_without_are_told_when_the_study_is_over(
    tmp_path: Path, tls_folder: Path
) -> None:
    identities = [Identity.generate() for _ in range(6)]

    async def test() -> None:
        session = StudySession(STUDY, rounds_of(6, identities))
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))
            tasks = [asyncio.create_task(member_of(host, n, identity=identities[n]).run()) for n in range(6)]
            await eventually(lambda: "study.2" in host.service.rounds)
            for task in tasks[4:]:
                task.cancel()
            await asyncio.gather(*tasks[4:], return_exceptions=True)
            await goes_on_without(host, "study.2", {4, 5}, asked.done)
            await asyncio.gather(asked, *tasks[:4])
            host.service.end_series("study.", 1)  # so that one is sure to ask, whenever these two were lost
            finished = asyncio.create_task(host.service.finished(60.0))
            for _ in range(20):
                await nap()
            assert not finished.done()
            back = [asyncio.create_task(member_of(host, n, identity=identities[n]).run()) for n in (4, 5)]
            await eventually(lambda: finished.done() and all(task.done() for task in back))
            for task in back:
                assert isinstance(refused := task.exception(), RefusedError)
                assert refused.code is Refusal.SERIES_OVER
                assert "its last round was one without this organisation" in str(refused)

    run(test)


def test_without_a_directory_whoever_is_in_the_first_round_keeps_its_seat(tmp_path: Path, tls_folder: Path) -> None:
    """Else somebody else could sit on the seat of a site that is lost, and sums over other sites would look alike."""
    study = Study.from_toml(STEPS_TEXT + "[release]\nmin_difference = 1\n")

    async def test() -> None:
        session = StudySession(study, rounds_of(4))
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))

            def started(number: int) -> asyncio.Task[StudyResult]:
                return asyncio.create_task(member_of(host, number, site=site_of(number, study)).run())

            tasks = [started(number) for number in range(4)]
            await eventually(lambda: "study.2" in host.service.rounds)
            tasks[3].cancel()
            await asyncio.gather(tasks[3], return_exceptions=True)
            with pytest.raises(RefusedError, match="does not hold this identity key"):
                await started(5)
            lost = set(range(4)) - {seat_of(host, number) for number in range(3)}
            await goes_on_without(host, "study.2", lost, lambda: "study.3" in host.service.rounds)
            tasks[3] = started(3)
            results = await asyncio.gather(asked, *tasks)
            assert keys_in(host, "study.3") == keys_in(host, "study.1")
            assert len(results[0].rounds[1].sites) == 3
            assert results[0].rounds[2].sites == results[0].rounds[0].sites
            assert results[4].methods["ages"].result.values == results[0].methods["ages"].result.values

    run(test)


def seat_of(host: Hosting, number: int) -> int:
    """The seat of a site without an identity of its own."""
    with closing(ClientStore(host.folder / f"site{number}" / "identity.state")) as store:
        return keys_in(host, "study.1")[Identity(store.identity_seed()).public_key]


def keys_in(host: Hosting, name: str) -> dict[bytes, int]:
    """Who sits where in a round."""
    return {key: seat for seat, key in host.hosted(name).seats.bound_keys.items()}


@pytest.mark.parametrize("is_open", [False, True])
def test_a_server_that_is_started_again_goes_on_with_its_session(
    tmp_path: Path, tls_folder: Path, is_open: bool
) -> None:
    async def test() -> None:
        identities = [None if is_open else Identity.generate() for _ in range(3)]
        known = [identity for identity in identities if identity is not None]
        rounds = rounds_of(3, known or None)

        def members_at(host: Hosting) -> list[StudyMember]:
            return [member_of(host, number, identity=identities[number]) for number in range(3)]

        session = StudySession(STUDY, rounds)
        async with hosting([session.first], tmp_path, tls_folder) as host:
            asked = asyncio.create_task(session.run(host.service))
            tasks = [asyncio.create_task(member.run()) for member in members_at(host)]
            await eventually(lambda: "study.2" in host.service.rounds)
            for task in (asked, *tasks):
                task.cancel()
            await asyncio.gather(asked, *tasks, return_exceptions=True)
            port = host.port
        with closing(Journal(tmp_path / "journal.sqlite")) as journal:
            again = StudySession(STUDY, rounds, journal=journal)
            other = Study.from_toml(TEXT.replace("Ages", "Other ages"))
            with pytest.raises(ParameterError, match="of another study"):
                StudySession(other, rounds, journal=journal)
        async with hosting([again.first], tmp_path, tls_folder, port=port) as host:
            results = await asyncio.gather(again.run(host.service), *(member.run() for member in members_at(host)))
            for result in results:
                assert result.methods["ages"].result.values == expected(range(3))
                assert len(result.rounds) == 2
            before = host.clock.monotonic()
            await host.service.finished(60.0)
            assert host.clock.monotonic() == before, "nobody is left who would come for an earlier round"

    run(test)


def test_a_ledger_withholds_what_opens_a_sum_over_all_but_one(tmp_path: Path, tls_folder: Path) -> None:
    """Another session without one of four: each ledger has the set of the first session."""
    identities = [Identity.generate() for _ in range(4)]
    names = ("ada", "bea", "cem", "dot")

    def members(host: Hosting, ledgers: Sequence[Ledger], seats: Sequence[int]) -> list[StudyMember]:
        found = []
        for number in seats:
            found.append(
                StudyMember(
                    site_of(number),
                    MemberOptions(
                        url=f"{host.url}/study",
                        tls=host.tls,
                        identity=identities[number],
                        policy=Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0.2, min_survivors=3),
                        give_up_seconds=60.0,
                    ),
                    host.folder / f"site{number}",
                    names=[names[seat] for seat in seats],
                    ledger=ledgers[number],
                    clock=host.clock,
                )
            )
        return found

    async def test() -> None:
        ledgers = [Ledger() for _ in range(4)]
        for folder, seats in (("first", range(4)), ("second", range(3))):
            place = tmp_path / folder
            place.mkdir()
            session = StudySession(STUDY, rounds_of(len(seats), [identities[seat] for seat in seats]))
            async with hosting([session.first], place, tls_folder) as host:
                asked = asyncio.create_task(session.run(host.service))
                tasks = [asyncio.create_task(member.run()) for member in members(host, ledgers, seats)]
                await passing(lambda: all(task.done() for task in [asked, *tasks]))  # noqa: B023  (within the turn)
            if folder == "first":
                assert len(asked.result().rounds) == 2
            else:
                assert asked.result().rounds == ()
                assert all(isinstance(task.exception(), DisclosureError) for task in tasks)
        assert {len(ledger.entries()) for ledger in ledgers} == {2}

    run(test)


async def refused_by_all(host: Hosting, members: Sequence[StudyMember], name: str) -> list[Exception]:
    """What members say who begin now; nothing but their logins has reached the round."""
    return await nothing_left(host, [asyncio.create_task(member.run()) for member in members], name)


async def nothing_left(host: Hosting, tasks: Sequence[asyncio.Task[StudyResult]], name: str) -> list[Exception]:
    """What each member says, and that the round got nothing of it."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    hosted = host.hosted(name)
    assert hosted.phase == "ADVERTISE"
    assert hosted.progress().arrived == 0
    return [one for one in found if isinstance(one, Exception)]


def test_another_study_is_refused_before_anything_leaves(tmp_path: Path, tls_folder: Path) -> None:
    other = Study.from_toml(TEXT.replace("max = 120", "max = 100"))

    async def test() -> None:
        session = StudySession(other, rounds_of())
        async with hosting([session.first], tmp_path, tls_folder) as host:
            members = [member_of(host, number) for number in range(3)]
            found = await refused_by_all(host, members, "study.1")
            assert len(found) == 3
            for refused in found:
                assert isinstance(refused, PeerError)
                assert refused.code is ErrorCode.CONFIG_BELOW_POLICY
                assert "of another study" in str(refused)

    run(test)


def test_a_history_with_other_sums_than_a_site_got_is_refused_before_anything_leaves(
    tmp_path: Path, tls_folder: Path
) -> None:
    """Such a server could steer what is asked next; all that it asks does follow from the history that it tells."""

    async def test() -> None:
        session = StudySession(STUDY, rounds_of())
        asked = Question.from_bytes(layout_in(session.first).question)
        liar = Analyst(STUDY, session=asked.session)
        async with hosting([session.first], tmp_path, tls_folder) as host:
            tasks = [asyncio.create_task(member_of(host, number).run()) for number in range(3)]
            hosted = host.hosted("study.1")
            await eventually(lambda: hosted.ending is not None)
            config, layout = hosted.config, layout_in(session.first)
            sums = layout.decode(unpack(hosted.ending.packed, config.modulus, config.length), 3)
            counted = next(name for name in sums if name.endswith("/records"))
            sums[counted] = sums[counted] - 1
            liar.release(asked, sums, [f"seat {seat}" for seat in range(3)])
            question = liar.question()
            assert question is not None
            lie = liar.layout(question)
            await host.service.host(study_spec("study.2", lie))
            found = await nothing_left(host, tasks, "study.2")
            assert len(found) == 3
            assert all("its history has other sums" in str(refused) for refused in found)

    run(test)


def test_a_question_that_the_sums_do_not_lead_to_is_refused_before_anything_leaves(
    tmp_path: Path, tls_folder: Path
) -> None:
    async def test() -> None:
        question = Analyst(STUDY).question()
        assert question is not None
        skipped = msgspec.structs.replace(question, asks={})
        lie = layout_of(STUDY, question.asks, skipped.to_bytes())
        async with hosting([study_spec("study.1", lie)], tmp_path, tls_folder) as host:
            found = await refused_by_all(host, [member_of(host, number) for number in range(3)], "study.1")
            assert len(found) == 3
            assert all("it asks for nothing" in str(refused) for refused in found)

    run(test)


def test_a_site_stops_waiting_for_a_round_that_does_not_come(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of()], tmp_path, tls_folder) as host:
            task = asyncio.create_task(member_of(host, 0).run())
            await passing(task.done)
            with pytest.raises(GaveUpError, match=r"round study\.1 has not begun for 60 s"):
                task.result()

    run(test)


def test_a_round_that_is_added_changes_nothing_that_another_thread_reads(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([spec_of()], tmp_path, tls_folder) as host:
            reading = iter(host.service.rounds.values())
            await host.service.host(spec_of(name="second"))
            assert [hosted.name for hosted in reading] == ["default"]
            assert [found["name"] for found in host.service.status()["rounds"]] == ["default", "second"]

    run(test)


def test_hints_are_about_studies(tmp_path: Path, tls_folder: Path) -> None:
    """A round that lacks an organisation, and a server that has lost its journal in the middle of one."""

    async def test() -> None:
        session = StudySession(STUDY, rounds_of())
        async with hosting([session.first], tmp_path, tls_folder) as host:
            port, asked = host.port, asyncio.create_task(session.run(host.service))
            tasks = [asyncio.create_task(member_of(host, number).run()) for number in range(2)]
            await passing(asked.done)
            await asyncio.gather(*tasks, return_exceptions=True)
            why = asked.result().methods["ages"].result.withheld
            assert "secagg stats serve --deadline ADVERTISE=SECONDS gives organisations more time" in why
            assert "min-survivors" not in why
        again = tmp_path / "again"
        again.mkdir()
        async with hosting([StudySession(STUDY, rounds_of()).first], again, tls_folder, port=port) as host:
            task = asyncio.create_task(member_of(host, 2).run())
            await host.until("ADVERTISE", 1, "study.1")
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        (again / "journal.sqlite").unlink()
        async with hosting([StudySession(STUDY, rounds_of()).first], again, tls_folder, port=port) as host:
            with pytest.raises(RefusedError, match=r"another layout than .* remove .*study\.1\.state, which"):
                await member_of(host, 2).run()

    run(test)


def test_files_and_studies_do_not_meet(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        session = StudySession(STUDY, rounds_of())
        async with hosting([session.first, spec_of(name="study")], tmp_path, tls_folder) as host:
            with pytest.raises(RefusedError, match=r"sums a study's answers, and this client brings a file"):
                await host.member(0, name="study.1").run()
            with pytest.raises(ParameterError, match="the service hosts a round of this name"):
                await host.service.host(session.first)

    run(test)


def test_a_round_that_does_not_sum_what_its_layout_says_cannot_be_hosted() -> None:
    first = StudySession(STUDY, rounds_of()).first
    for change in ({"modulus": Modulus.ring(32), "input_max": 2**20}, {"input_max": 7}):
        config = RoundConfig.for_cohort(
            3,
            first.config.length,
            **{"modulus": RING, "input_max": 2**64 - 1, "context": layout_in(first).digest(), "delta": 0.0, **change},
        )
        with pytest.raises(ParameterError, match="a round of this study's has 2\\^64"):
            RoundSpec(name="study.1", config=config, layout=first.layout)


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.tuples(st.integers(1, 2**40), st.booleans()), min_size=1),
    st.binary(max_size=20),
)
def test_layouts_of_studies_come_back_from_their_bytes(names: dict[str, tuple[int, bool]], question: bytes) -> None:
    arrays = tuple((name, (2,)) for name in sorted(names))
    largest = tuple((name, names[name][0]) for name in sorted(names) if names[name][1])
    layout = StudyLayout(arrays, largest, question)
    assert decode_layout(encode_layout(layout)) == layout
