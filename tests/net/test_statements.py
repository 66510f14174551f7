"""A chained round that is aborted in UNMASK: members state that they did not answer, and those that did go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secagg import ErrorCode, Identity, PeerError, Policy, Server, ThreatModel
from secagg.adapters.net.channel import Channel
from secagg.adapters.net.frames import (
    Aborted,
    Ack,
    Message,
    NoStatement,
    Refusal,
    Refused,
    RefusedError,
    Submission,
    Sum,
)
from secagg.adapters.net.journal import Journal
from secagg.adapters.net.own_statement import STATED
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.statements import asked_for_statements
from secagg.adapters.net.store import ClientStore, JoinedRound
from secagg.audit import audit
from secagg.certificate_files import read_certificates
from secagg.pairwise.certificate import Certificate
from secagg.testing.adversary.chained import ChainedCohort
from tests.support.aborted_rounds import STATEMENT_SECONDS, ChainOverNetwork
from tests.support.hosting import Hosting
from tests.support.moved_clock import eventually, run
from tests.support.raw_connections import RefusedLoginError, logged_in, read_to_the_end


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


def asked(running: Hosting, name: str = "first") -> int:
    """How many have said nothing yet."""
    progress = running.hosted(name).progress()
    return int(progress.expected - progress.arrived) if progress.phase == "ABORTED" else -1


async def aborted(cohort: ChainOverNetwork, running: Hosting, spec: RoundSpec) -> asyncio.Task[Any]:
    """A round that only member 0 answered; the others are gone.  Returns member 0, which waits."""
    cohort.asleep = {1, 2, 3}
    members = cohort.start(running, spec)
    await abort_in_unmask(running, 1, spec.name)
    for number in (1, 2, 3):
        members[number].cancel()
    cohort.asleep = set()
    return members[0]


def session_of(running: Hosting, name: str = "first") -> bytes:
    """The session of a round that was aborted."""
    advertised = running.hosted(name)._server._held.advertised
    return bytes(advertised.session)


async def submit(channel: Channel[Any], phase: str, data: bytes, number: int = 1) -> str:
    """The server's verdict on a submission."""
    await channel.send(Submission(number, phase, len(data)), data)
    while True:
        match frame := await channel.receive():
            case Ack():
                return str(frame.verdict)
            case Refused():
                return str(frame.code)
            case Message():
                await channel.payload(frame.size)


def test_statements_that_count_for_nothing(tmp_path: Path, tls_folder: Path) -> None:
    """Of another session, of another member, too short, and of somebody who answered; and a good one, twice."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            answered = await aborted(cohort, running, spec)
            signed = spec.config.labels.signed_silence(session_of(running))
            other_session = spec.config.labels.signed_silence(bytes(32))
            one, two = cohort.identities[1], cohort.identities[2]
            async with logged_in(running, one, "first") as channel:
                assert await submit(channel, "STATEMENT", one.sign(other_session)) == "bad-signature"
                assert await submit(channel, "STATEMENT", two.sign(signed)) == "bad-signature"
                assert await submit(channel, "STATEMENT", one.sign(signed)[:63]) == "wrong-length"
                assert await submit(channel, "UNMASK", bytes(64)) == "late"
                assert asked(running) == 3
                assert await submit(channel, "STATEMENT", one.sign(signed)) == "accepted"
                assert await submit(channel, "STATEMENT", one.sign(signed)) == "duplicate"
                assert await submit(channel, "STATEMENT", two.sign(signed)) == "conflict"
            async with logged_in(running, two, "first") as channel:
                assert await submit(channel, "STATEMENT", bytes(65)) == "too-large"
            async with logged_in(running, cohort.identities[0], "first") as channel:
                assert await submit(channel, "STATEMENT", cohort.identities[0].sign(signed)) == "late"
            with pytest.raises(RefusedLoginError, match="unknown-identity"):
                async with logged_in(running, Identity.generate(), "first"):
                    pass
            assert asked(running) == 2
            assert running.hosted("first").refused == {"bad-signature": 2, "wrong-length": 1}
            answered.cancel()
            running.end_phase("first")
            await eventually(lambda: running.hosted("first").ending is not None)
        certificate = Certificate.from_bytes(cohort.files.last)
        assert certificate.members(certificate.silent) == (1,)

    run(test)


def test_a_flood_of_bad_statements_cuts_its_sender_off(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            answered = await aborted(cohort, running, spec)
            async with logged_in(running, cohort.identities[1], "first") as channel:
                verdicts = [await submit(channel, "STATEMENT", bytes([n]) * 64, n) for n in range(4)]
                assert verdicts == ["bad-signature"] * 4
                assert [frame.code for frame in await read_to_the_end(channel) if isinstance(frame, Refused)] == [
                    "too-many-messages"
                ]
            with pytest.raises(RefusedLoginError, match="too-many-messages"):
                async with logged_in(running, cohort.identities[1], "first"):
                    pass
            answered.cancel()

    run(test)


def test_a_statement_that_nobody_asked_for(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running, logged_in(running, cohort.identities[1], "first") as channel:
            assert await submit(channel, "STATEMENT", bytes(64)) == "wrong-phase"
            for _ in range(3):
                await channel.send(NoStatement())
            refused = [frame for frame in await read_to_the_end(channel) if isinstance(frame, Refused)]
            assert [frame.code for frame in refused] == ["too-many-messages"]

    run(test)


def test_members_that_state_nothing_hold_nobody_up(tmp_path: Path, tls_folder: Path) -> None:
    """They keep no chain, or lost it: the wait ends when all have said so, and no time passes."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            answered = await aborted(cohort, running, spec)
            for number in (1, 2, 3):
                async with logged_in(running, cohort.identities[number], "first") as channel:
                    while not isinstance(await channel.receive(), Aborted):
                        await asyncio.sleep(0)
                    await channel.send(NoStatement())
                    await eventually(lambda number=number: asked(running) in (3 - number, -1))
            await ends_without_a_sum(answered)
        assert Certificate.from_bytes(cohort.files.last).silent == b""

    run(test)


def test_nobody_is_asked_where_it_helps_nobody(tmp_path: Path, tls_folder: Path) -> None:
    """Without a certificate nobody would see the statements; in a round without a chain nobody asks for them."""

    async def test() -> None:
        for number, changes in enumerate(({"certifier": None}, {})):
            cohort = ChainOverNetwork(tmp_path / str(number), tls_folder)
            (tmp_path / str(number)).mkdir()
            spec = cohort.spec("first")
            if not changes:
                spec = replace(spec, config=spec.config.replace(chain=b""))
            cohort.asleep = {1, 2, 3}
            async with cohort.hosting(spec, **changes) as running:
                policy = Policy(threat_model=ThreatModel.ACTIVE, gamma=0.2, min_survivors=3)
                chain = {} if changes else {"chain": None, "policy": policy}
                members = cohort.start(running, spec, **chain)
                await running.until("UNMASK", 1, "first")
                running.end_phase("first")
                await eventually(lambda running=running: running.hosted("first").ending is not None)
                assert running.hosted("first").seconds_left == 0
                for member in members.values():
                    await ends_without_a_sum(member)

    run(test)


def test_a_server_that_is_stopped_goes_on_with_the_statements_that_it_has(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            answered = await aborted(cohort, running, spec)
            first = asyncio.create_task(cohort.member(running, spec, 1).run())
            await eventually(lambda: asked(running) == 2)
            running.clock.move(STATEMENT_SECONDS - 20)
            port = running.port
        async with cohort.hosting(spec, port=port) as running:
            assert asked(running) == 2
            assert 15 <= running.hosted("first").seconds_left <= 20
            others = [asyncio.create_task(cohort.member(running, spec, number).run()) for number in (2, 3)]
            for member in (answered, first, *others):
                await ends_without_a_sum(member)
        certificate = Certificate.from_bytes(cohort.files.last)
        assert certificate.members(certificate.silent) == (1, 2, 3)
        assert len(read_certificates([tmp_path / "certificates"])) == 1

    run(test)


class DeadError(Exception):
    """The server is gone."""


class DyingJournal(Journal):  # type: ignore[misc]
    """Dies at a transaction of the wait for statements, before or after it."""

    def __init__(self, path: Path, at: str, *, after: bool) -> None:
        super().__init__(path)
        self.at, self.after, self.waits = at, after, False

    async def _at(self, name: str, do: Callable[[], Awaitable[None]]) -> None:
        dies = self.waits and name == self.at
        if dies and not self.after:
            raise DeadError
        await do()
        if dies:
            raise DeadError

    async def store_stage(self, name: str, phase: str, deadline: float, snapshot: bytes) -> None:
        self.waits |= phase == "ABORTED"
        await self._at("store_stage", lambda: super(DyingJournal, self).store_stage(name, phase, deadline, snapshot))

    async def append(self, name: str, accepted: Any) -> None:
        await self._at("append", lambda: super(DyingJournal, self).append(name, accepted))

    async def end_round(self, name: str, ending: bytes, packed: bytes = b"") -> None:
        await self._at("end_round", lambda: super(DyingJournal, self).end_round(name, ending, packed))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", ["store_stage", "append", "end_round"])
def test_a_server_that_dies_at_any_transaction_of_the_wait(
    tmp_path: Path, tls_folder: Path, at: str, after: bool
) -> None:
    """Whatever it had written, one certificate with all statements is there in the end."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        cohort.asleep = {1, 2, 3}
        spec = cohort.spec("first")
        members: dict[int, asyncio.Task[Any]] = {}
        port = 0

        async def first_life() -> None:
            nonlocal port
            async with cohort.hosting(spec, open_journal=lambda path: DyingJournal(path, at, after=after)) as running:
                port = running.port
                members.update(cohort.start(running, spec))
                await abort_in_unmask(running, 1, "first")
                cohort.asleep = set()
                await asyncio.Event().wait()

        with pytest.raises(DeadError):
            await first_life()
        cohort.asleep = set()
        async with cohort.hosting(spec, port=port):
            # Where the phase's end was not in the journal, the phase is given some time again, and the others answer.
            if at == "store_stage" and not after:
                await asyncio.gather(*members.values())
                return
            for member in members.values():
                await ends_without_a_sum(member)
        (data,) = read_certificates([tmp_path / "certificates"])
        certificate = Certificate.from_bytes(data)
        assert certificate.members(certificate.silent) == (1, 2, 3)

    run(test)


# A member's side.


@pytest.mark.parametrize("stored", [False, True])
def test_a_member_that_dies_while_it_states(tmp_path: Path, tls_folder: Path, stored: bool) -> None:
    """Its chain has it already; its state has it or not; nothing has left.  It states the same when it is back."""

    class KilledError(Exception):
        pass

    class DyingStore(ClientStore):  # type: ignore[misc]
        def save(self, part: JoinedRound) -> None:
            super().save(part)
            if part.over == STATED and not stored:
                raise KilledError

        def unsent(self, after: int) -> list[tuple[int, str, bytes]]:
            found = super().unsent(after)
            if any(phase == "STATEMENT" for _, phase, _ in found):
                raise KilledError
            return list(found)

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            answered = await aborted(cohort, running, spec)
            store = DyingStore(tmp_path / "first" / "first1.state")
            with pytest.raises(KilledError):
                await cohort.member(running, spec, 1, store=store).run()
            store.close()
            assert asked(running) == 3
            with pytest.raises(PeerError) as refused:
                cohort.chains[1].answer(spec.config, session_of(running), b"\x0f", (0, 2, 3))
            assert refused.value.code is ErrorCode.CHAIN_DISCLAIMED
            back = asyncio.create_task(cohort.member(running, spec, 1).run())
            await eventually(lambda: asked(running) == 2)
            answered.cancel()
            back.cancel()

    run(test)


def test_a_member_that_stated_takes_no_sum_of_the_round(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            answered = await aborted(cohort, running, spec)
            member = cohort.member(running, spec, 1)
            back = asyncio.create_task(member.run())
            await eventually(lambda: asked(running) == 2)
            sums = Sum(b"\x0f", spec.config.modulus.packed_bytes(spec.config.length))
            with pytest.raises(RefusedError) as refused:
                member._steps.decode(sums, bytearray(sums.size))
            assert refused.value.code is Refusal.LEFT_OUT
            answered.cancel()
            back.cancel()

    run(test)


def test_a_server_that_says_too_early_that_the_round_is_aborted(tmp_path: Path, tls_folder: Path) -> None:
    """There is no session yet that a statement could be of: the member stays in the round."""

    async def test() -> None:
        cohort = ChainOverNetwork(tmp_path, tls_folder)
        spec = cohort.spec("first")
        async with cohort.hosting(spec) as running:
            early = cohort.member(running, spec, 0)
            task = asyncio.create_task(early.run())
            await running.until("ADVERTISE", 1, "first")
            assert not early._steps.state_silence()
            others = cohort.start(running, spec, (1, 2, 3))
            totals = await asyncio.gather(task, *others.values())
            assert [total.mean.count for total in totals] == [4] * 4
            assert not early._steps.state_silence()  # it has answered

    run(test)


# Who is asked.


def in_unmask(answering: Collection[int]) -> Server:
    """A chained round of six members, in UNMASK, which these have answered."""
    cohort = ChainedCohort()
    server = cohort.open()
    cohort.play(server, cohort.join(server, range(6)), answering=answering)
    return server


def test_who_is_asked() -> None:
    """Those whose answers the server lacks, but for those that left; nobody, when they are fewer than t."""
    server = in_unmask([4])
    threshold = server.config.threshold
    assert asked_for_statements(server, ()) == frozenset()  # it is not over
    server.close_phase()
    assert asked_for_statements(server, ()) == {0, 1, 2, 3, 5}
    assert asked_for_statements(server, (0,)) == {1, 2, 3, 5}
    assert asked_for_statements(server, range(6 - threshold)) == frozenset()


def test_who_is_asked_when_the_host_ends_the_round() -> None:
    """The phase was not closed, so that the server cannot say who did not answer: those that did say so themselves."""
    server = in_unmask([4])
    server.abort()
    assert asked_for_statements(server, ()) == set(range(6))


def test_nobody_is_asked_before_anybody_can_have_answered() -> None:
    cohort = ChainedCohort()
    server = cohort.open()
    clients = cohort.join(server, range(6))
    for member, client in clients.items():
        server.receive(member, client.start())
    server.close_phase()
    server.abort()
    assert asked_for_statements(server, ()) == frozenset()
