"""Ballots over the network: members test a candidate before they join, vote, and hear the count alone."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secagg import Identity, LayoutPolicy, ParameterError, PeerError, Policy, ThreatModel
from secagg.adapters.net import voting
from secagg.adapters.net.ballot_count import tally_of
from secagg.adapters.net.ballot_layout import MOST_CANDIDATE_BYTES, BallotLayout
from secagg.adapters.net.certifying import Certifier
from secagg.adapters.net.ending import Ending, OpenedGroup
from secagg.adapters.net.frames import (
    Candidate,
    Counted,
    EndReceived,
    Refusal,
    Refused,
    RefusedError,
    WantsCandidate,
    decode_layout,
    encode_layout,
)
from secagg.adapters.net.keeping_apart import SumsApart
from secagg.adapters.net.membership import MaybeSummedError
from secagg.adapters.net.round_spec import RoundSpec
from secagg.adapters.net.store import ClientStore
from secagg.adapters.net.voting import Judging
from secagg.arithmetic import pack
from secagg.audit import audit
from secagg.certificate_files import CertificateFiles, read_certificates
from secagg.cli.serve_run import chained_spec
from secagg.differencing import DifferenceLedger
from secagg.pairwise.client.chaining import Chain
from secagg.robust import Ballot, Tally, Verdict, Vote
from tests.support.hosting import Hosting, hosting, spec_of
from tests.support.lying_service import Line, log_in, lying_server
from tests.support.moved_clock import run
from tests.support.raw_connections import logged_in

CANDIDATE = b"not a model, but bytes that every member judges" * 3000  # in several fragments
RULES = Ballot(objecting_share=0.3, fewest_voters=3)
LAYOUT = BallotLayout.of(CANDIDATE, RULES)
MEMBERS = 5
NOBODY = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0, min_survivors=3)


def ballot(members: int = MEMBERS, *, candidate: bytes = CANDIDATE, rules: Ballot = RULES, **config: Any) -> RoundSpec:
    return spec_of(members, layout=BallotLayout.of(candidate, rules), candidate=candidate, **config)


def says(vote: Vote) -> Judging:
    return Judging(lambda candidate, layout: vote)


def voters(host: Hosting, votes: Sequence[Vote], **options: Any) -> list[Any]:
    return [host.member(number, arrays=says(vote), **options).vote() for number, vote in enumerate(votes)]


@pytest.mark.parametrize(
    ("objections", "abstentions", "verdict"),
    [
        (0, 0, Verdict.ACCEPTED),
        (1, 0, Verdict.ACCEPTED),
        (2, 0, Verdict.DROPPED),  # 2 of 5 is more than 0.3
        (1, 2, Verdict.DROPPED),  # 1 of 3 is more than 0.3
        (0, 3, Verdict.UNDECIDED),
    ],
)
def test_the_service_counts_votes(
    tmp_path: Path, tls_folder: Path, objections: int, abstentions: int, verdict: Verdict
) -> None:
    async def test() -> None:
        votes = [Vote.OBJECT] * objections + [Vote.ABSTAIN] * abstentions
        votes += [Vote.ACCEPT] * (MEMBERS - len(votes))
        tally = Tally(objections=objections, voters=MEMBERS - abstentions, clients=MEMBERS)
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            assert host.service.status()["rounds"][0]["ballot"] == {
                "candidate": LAYOUT.candidate.hex(),
                "candidate_bytes": len(CANDIDATE),
            }
            for found in await asyncio.gather(*voters(host, votes)):
                assert (found.tally, found.verdict, found.layout) == (tally, verdict, LAYOUT)
            shown = host.service.status()["rounds"][0]["ballot"]
            assert (shown["verdict"], shown["objections"]) == (verdict.value, objections)
            assert (shown["voters"], shown["counted_clients"]) == (tally.voters, MEMBERS)
            await host.service.finished(10)

    run(test)


def test_each_member_tests_what_the_operator_gave_before_it_joins(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        seen: list[tuple[bytes, BallotLayout, int]] = []
        async with hosting([ballot()], tmp_path, tls_folder) as host:

            def judge(candidate: bytes, layout: BallotLayout) -> Vote:
                seen.append((candidate, layout, host.hosted().progress().arrived))
                return Vote.ACCEPT

            first = asyncio.create_task(host.member(0, arrays=Judging(judge)).vote())
            await host.until("ADVERTISE", 1)
            assert seen == [(CANDIDATE, LAYOUT, 0)]
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    run(test)


def failing(candidate: bytes, layout: BallotLayout) -> Vote:
    raise RuntimeError("the picture of patient 17 cannot be read")


@pytest.mark.parametrize("judge", [failing, lambda candidate, layout: "perhaps", lambda candidate, layout: None])
def test_a_judge_that_fails_is_an_abstention(
    tmp_path: Path, tls_folder: Path, judge: Callable[[bytes, BallotLayout], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What is sent is as long as everybody's, and nothing of the exception's text is logged."""

    async def test() -> None:
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            others = voters(host, [Vote.ACCEPT] * (MEMBERS - 1))
            failed = host.member(MEMBERS - 1, arrays=Judging(judge)).vote()
            found = (await asyncio.gather(*others, failed))[-1]
            assert found.tally == Tally(objections=0, voters=MEMBERS - 1, clients=MEMBERS)

    run(test)
    fields = [record.__dict__["fields"] for record in caplog.records if record.message == "judge-failed"]
    assert len(fields) == 1
    assert "patient" not in str(fields)


@pytest.mark.parametrize("active", [False, True])
def test_members_are_lost_on_the_way(tmp_path: Path, tls_folder: Path, active: bool) -> None:
    async def test() -> None:
        identities = [Identity.generate() for _ in range(8)]
        spec = ballot(8, active=active, identities=identities, delta=0.3, gamma=0)
        model = ThreatModel.ACTIVE if active else ThreatModel.SEMI_HONEST
        async with hosting([spec], tmp_path, tls_folder) as host:
            tasks = [
                asyncio.create_task(
                    host.member(
                        number,
                        arrays=says(Vote.OBJECT if number == 1 else Vote.ACCEPT),
                        policy=Policy(threat_model=model, gamma=0, min_survivors=3),
                        identity=identities[number],
                        directory=spec.directory if active else None,
                    ).vote()
                )
                for number in range(1, 8)
            ]
            await host.until("ADVERTISE", 7)
            host.end_phase()
            for found in await asyncio.gather(*tasks):
                assert (found.tally, found.verdict) == (Tally(objections=1, voters=7, clients=7), Verdict.ACCEPTED)

    run(test)


def test_groups_set_a_liars_group_aside(tmp_path: Path, tls_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        encode, calls = Ballot.encode, itertools.count()

        def vector(rules: Ballot, vote: Vote) -> Any:
            honest = encode(rules, vote)
            return honest + (1 if next(calls) == 0 else 0)  # two votes of one member

        monkeypatch.setattr(Ballot, "encode", vector)
        spec = ballot(8, groups=2, min_group=3, version=2, gamma=0, delta=0.1, min_survivors=None)
        policy = Policy(threat_model=ThreatModel.SEMI_HONEST, gamma=0, min_survivors=3, max_groups=2)
        async with hosting([spec], tmp_path, tls_folder) as host:
            found = await asyncio.gather(*voters(host, [Vote.ACCEPT] * 8, policy=policy))
            tally = Tally(objections=0, voters=4, clients=4)
            assert [one.tally for one in found] == [tally] * 8  # also those of the liar's group
            assert host.service.status()["rounds"][0]["ballot"]["impossible_sums"] == 1

    run(test)


@given(
    groups=st.lists(
        st.tuples(st.lists(st.sampled_from(Vote), min_size=3, max_size=6), st.booleans()), min_size=1, max_size=4
    )
)
def test_the_count_is_that_of_the_groups_whose_votes_can_be(groups: list[tuple[list[Vote], bool]]) -> None:
    """As Python counts them; a liar adds a vote too many to its group's sum."""
    clients = sum(len(votes) for votes, _ in groups)
    spec = ballot(max(clients, MEMBERS))
    layout, modulus = LAYOUT, spec.config.modulus
    opened, first = [], 0
    for number, (votes, has_liar) in enumerate(groups):
        total = sum(layout.ballot().encode(vote).astype(np.uint64) for vote in votes)
        if has_liar:
            total = total + layout.ballot().encode(Vote.OBJECT) * np.uint64(len(votes) + 1)
        packed = pack((total % np.uint64(modulus.value)).astype(modulus.dtype), modulus)
        opened.append(OpenedGroup(number, tuple(range(first, first + len(votes))), packed))
        first += len(votes)
    config = SimpleNamespace(groups=len(opened) + 1, modulus=modulus, length=spec.config.length)
    tally = tally_of(layout, config, Ending("", groups=tuple(opened)))  # type: ignore[arg-type]
    good = [vote for votes, has_liar in groups if not has_liar for vote in votes]
    assert tally == Tally(
        objections=good.count(Vote.OBJECT),
        voters=sum(vote is not Vote.ABSTAIN for vote in good),
        clients=len(good),
        impossible=tuple(number for number, (_, has_liar) in enumerate(groups) if has_liar),
    )


def test_ballots_are_certified_and_chained_as_other_rounds(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        identities = [Identity.generate() for _ in range(MEMBERS)]
        server, files = Identity.generate(), CertificateFiles(tmp_path / "certificates")
        chains = [Chain(server.public_key) for _ in range(MEMBERS)]
        policy = Policy(threat_model=ThreatModel.ACTIVE, gamma=0.2, min_survivors=3, require_chain=True)
        for name in ("one", "two"):
            spec = chained_spec(ballot(name=name, candidate=name.encode(), identities=identities, active=True), files)
            (tmp_path / name).mkdir()
            async with hosting([spec], tmp_path / name, tls_folder, certifier=Certifier(server, files)) as host:
                found = await asyncio.gather(
                    *(
                        host.member(
                            number,
                            name=name,
                            arrays=says(Vote.ACCEPT),
                            policy=policy,
                            identity=identities[number],
                            directory=spec.directory,
                            chain=chains[number],
                        ).vote()
                        for number in range(MEMBERS)
                    )
                )
                assert {one.verdict for one in found} == {Verdict.ACCEPTED}
        history = audit(
            read_certificates([tmp_path / "certificates"]), directory=spec.directory, server=server.public_key
        )
        assert [(audited.name, audited.outcome) for audited in history.rounds] == [("one", "sum"), ("two", "sum")]

    run(test)


def test_a_ledger_keeps_counts_over_changing_members_apart(tmp_path: Path, tls_folder: Path) -> None:
    """Votes may well be the same on candidates that hardly differ: a count without one member would tell its vote."""

    async def test() -> None:
        identities = [Identity.generate() for _ in range(6)]
        options = {"identities": identities, "delta": 0.2, "gamma": 0, "min_survivors": 4}
        specs = [ballot(6, name=name, candidate=name.encode(), **options) for name in ("one", "two")]
        apart = SumsApart(DifferenceLedger(tmp_path / "votes.ledger", "votes"), 2)
        async with hosting(specs, tmp_path, tls_folder, sums_apart=apart) as host:

            def voting(name: str, numbers: range) -> list[Any]:
                options = {"policy": NOBODY, "name": name, "arrays": says(Vote.OBJECT)}
                return [
                    asyncio.create_task(host.member(number, identity=identities[number], **options).vote())
                    for number in numbers
                ]

            await asyncio.gather(*voting("one", range(6)))
            without_one = voting("two", range(1, 6))
            await host.until("ADVERTISE", 5, "two")
            host.end_phase("two")
            for ended in await asyncio.gather(*without_one, return_exceptions=True):
                assert isinstance(ended, RefusedError)
                assert "must always be in and out together" in str(ended)

    run(test)


# Once, and the same vote after a restart.


def test_a_member_that_comes_back_votes_as_before_and_tests_nothing(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            first = asyncio.create_task(host.member(0, arrays=says(Vote.OBJECT)).vote())
            await host.until("ADVERTISE", 1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            others = [host.member(number, arrays=says(Vote.ACCEPT)).vote() for number in range(1, MEMBERS)]
            again = host.member(0, arrays=Judging(failing)).vote()
            found = await asyncio.gather(again, *others)
            assert {one.tally.objections for one in found} == {1}
            after = await host.member(0, arrays=Judging(failing)).vote()  # the count is handed out again
            assert after.tally == found[0].tally

    run(test)


def test_a_vote_is_in_one_sum_alone(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        rounds = [ballot(name="first"), ballot(name="second")]
        async with hosting(rounds, tmp_path, tls_folder) as host:
            await asyncio.gather(*voters(host, [Vote.ACCEPT] * MEMBERS, name="first"))
            with pytest.raises(MaybeSummedError, match="your vote on this candidate may be in a sum already"):
                await host.member(
                    0, arrays=says(Vote.ACCEPT), name="second", other_states=(tmp_path / "first0.state",)
                ).vote()

    run(test)


def test_a_server_that_was_restarted_counts_on_and_needs_the_same_candidate(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            port = host.port
            tasks = [asyncio.create_task(vote) for vote in voters(host, [Vote.OBJECT] * (MEMBERS - 1))]
            await host.until("ADVERTISE", MEMBERS - 1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with pytest.raises(ParameterError, match="another config, layout or directory"):
            async with hosting([ballot(candidate=b"another")], tmp_path, tls_folder):
                raise AssertionError("it listens")
        async with hosting([ballot()], tmp_path, tls_folder, port=port) as host:
            found = await asyncio.gather(*voters(host, [Vote.OBJECT] * MEMBERS))
            assert {one.verdict for one in found} == {Verdict.DROPPED}
        async with hosting([ballot()], tmp_path, tls_folder, port=port) as host:  # from what the journal keeps
            assert host.service.status()["rounds"][0]["ballot"]["objections"] == MEMBERS

    run(test)


# Who refuses whom.


def test_a_candidate_that_is_too_long_is_refused_before_it_is_sent(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            short = Judging(failing, max_candidate_bytes=len(CANDIDATE) - 1)
            with pytest.raises(RefusedError, match="max_candidate_bytes") as refused:
                await host.member(0, arrays=short).vote()
            assert refused.value.code is Refusal.TOO_LARGE
            assert host.hosted().progress().arrived == 0

    run(test)


def test_a_member_that_asks_for_noise_takes_no_part(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            with pytest.raises(PeerError, match="no noise"):
                await host.member(0, arrays=Judging(failing), layout_policy=LayoutPolicy(private=True)).vote()

    run(test)


def test_a_file_is_no_vote_and_a_vote_is_no_file(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        async with hosting([ballot(name="votes"), spec_of(3, name="files")], tmp_path, tls_folder) as host:
            with pytest.raises(RefusedError, match="sums votes on a candidate, and this client brings a file"):
                await host.member(0, name="votes").run()
            with pytest.raises(RefusedError, match="sums a file, and this client brings votes on a candidate"):
                await host.member(0, name="files", arrays=says(Vote.ACCEPT)).vote()

    run(test)


async def welcomed(line: Line) -> None:
    await log_in(line, LAYOUT, clients=MEMBERS)
    assert await line.receive() == WantsCandidate(wants=True)


@pytest.mark.parametrize("sent", [CANDIDATE[:-1] + b"!", CANDIDATE[:-1], CANDIDATE + b"!"])
def test_only_the_announced_candidate_is_judged(tmp_path: Path, tls_folder: Path, sent: bytes) -> None:
    async def behave(line: Line) -> None:
        await welcomed(line)
        await line.send(Candidate(len(sent)), sent)

    async def test() -> None:
        async with lying_server(tmp_path, tls_folder, behave) as member:
            with pytest.raises(RefusedError) as refused:
                await member(arrays=says(Vote.ACCEPT)).vote()
            assert refused.value.code in (Refusal.MALFORMED, Refusal.TOO_LARGE)
            store = ClientStore(tmp_path / "client.state")
            with store.step():
                assert store.vote_on(LAYOUT.digest()) is None

    run(test)


def test_another_ballot_under_the_same_name_does_not_replace_a_vote_that_is_needed(
    tmp_path: Path, tls_folder: Path
) -> None:
    """A server that shows a second candidate in the middle of a ballot is refused before the candidate is judged."""

    async def test() -> None:
        async with hosting([ballot()], tmp_path, tls_folder) as host:
            port = host.port
            first = asyncio.create_task(host.member(0, arrays=says(Vote.OBJECT)).vote())
            await host.until("ADVERTISE", 1)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        other = tmp_path / "other"
        other.mkdir()
        async with hosting([ballot(candidate=b"another")], other, tls_folder, port=port) as host:
            with pytest.raises(RefusedError, match="another layout") as refused:
                await host.member(0, arrays=Judging(failing), store=ClientStore(tmp_path / "default0.state")).vote()
            assert refused.value.code is Refusal.ANOTHER_ROUND
            assert kept(tmp_path) == Vote.OBJECT
            leaving = asyncio.create_task(
                host.member(
                    0, arrays=says(Vote.ACCEPT), store=ClientStore(tmp_path / "default0.state"), again=True
                ).vote()
            )
            await host.until("ADVERTISE", 1)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        assert kept(tmp_path) is None

    run(test)


def kept(folder: Path) -> str | None:
    """The first member's vote on the candidate."""
    store = ClientStore(folder / "default0.state")
    with store.step():
        return store.vote_on(LAYOUT.digest())


@pytest.mark.parametrize(("objections", "people", "clients"), [(3, 2, 5), (1, 5, 4), (1, 2, 6), (0, 0, 2**32)])
def test_counts_that_no_ballot_has_are_refused(objections: int, people: int, clients: int) -> None:
    config = ballot().config
    with pytest.raises(RefusedError, match="no ballot ends so"):
        voting.checked_count(LAYOUT, config, Counted(objections, people, clients), 0)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([EndReceived()], "a EndReceived frame behind the welcome to a ballot"),
        ([WantsCandidate(wants=False)] * 2, "a WantsCandidate frame after the login"),
    ],
)
def test_a_member_that_asks_otherwise_is_refused(
    tmp_path: Path, tls_folder: Path, frames: list[Any], says: str
) -> None:
    async def test() -> None:
        async with (
            hosting([ballot()], tmp_path, tls_folder) as host,
            logged_in(host, Identity.generate()) as channel,
        ):
            for frame in frames:
                await channel.send(frame)
            assert (await refusal(channel)) == (Refusal.MALFORMED.value, says)

    run(test)


async def refusal(channel: Any) -> tuple[str, str]:
    """The server's no, behind what it sends before."""
    while not isinstance(frame := await channel.receive(), Refused):
        if size := getattr(frame, "size", 0):
            await channel.payload(size)
    return frame.code, frame.message


def test_whoever_comes_too_late_gets_no_candidate(tmp_path: Path, tls_folder: Path) -> None:
    async def test() -> None:
        identities = [Identity.generate() for _ in range(MEMBERS)]
        spec = ballot(identities=identities, delta=0.2, gamma=0)
        async with hosting([spec], tmp_path, tls_folder) as host:
            tasks = [
                asyncio.create_task(
                    host.member(n, arrays=says(Vote.ACCEPT), identity=identities[n], policy=NOBODY).vote()
                )
                for n in range(1, MEMBERS)
            ]
            await host.until("ADVERTISE", MEMBERS - 1)
            host.end_phase()
            await asyncio.gather(*tasks)
            with pytest.raises(RefusedError, match="members get the candidate, and join, in ADVERTISE alone") as late:
                await host.member(0, arrays=Judging(failing), identity=identities[0]).vote()
            assert late.value.code is Refusal.ROUND_BEGUN

    run(test)


# What is agreed on.


def test_another_candidate_or_another_rule_is_another_context() -> None:
    others = [
        BallotLayout.of(CANDIDATE + b"!", RULES),
        BallotLayout.of(CANDIDATE, RULES, ".npz"),
        *(
            BallotLayout.of(CANDIDATE, Ballot(**{"objecting_share": 0.3, "fewest_voters": 3, **change}))
            for change in (
                {"tolerance": 0.4},
                {"fewest_samples": 4},
                {"earlier": 6},
                {"objecting_share": 0.4},
                {"fewest_voters": 4},
            )
        ),
    ]
    digests = {layout.digest() for layout in (LAYOUT, *others)}
    assert len(digests) == len(others) + 1
    assert decode_layout(encode_layout(LAYOUT)) == LAYOUT


def test_a_round_and_its_candidate_belong_together() -> None:
    with pytest.raises(ParameterError, match="not the one of the ballot's layout"):
        spec_of(MEMBERS, layout=LAYOUT, candidate=CANDIDATE + b"!")
    with pytest.raises(ParameterError, match="a candidate is for a ballot"):
        spec_of(MEMBERS, candidate=CANDIDATE)
    with pytest.raises(ParameterError, match="1 to 1,073,741,824"):
        BallotLayout.of(b"", RULES)
    assert MOST_CANDIDATE_BYTES == 2**30
    assert CANDIDATE[:20] not in repr(ballot()).encode()


@pytest.mark.parametrize("change", [{"tolerance": 0.0}, {"earlier": 0}, {"objecting_share": 1.0}, {"size": 2**31}])
def test_a_servers_layout_that_is_no_ballots_is_refused(change: dict[str, Any]) -> None:
    fields = {name: getattr(LAYOUT, name) for name in LAYOUT.__struct_fields__} | change
    encoded = msgspec.msgpack.encode(["ballot", *(fields[name] for name in LAYOUT.__struct_fields__)])
    with pytest.raises(RefusedError, match="does not decode"):
        decode_layout(encoded)


def test_a_vote_shows_in_no_repr() -> None:
    assert repr(voting.BallotInput(LAYOUT, Vote.OBJECT)) == repr(voting.BallotInput(LAYOUT, Vote.ACCEPT))
